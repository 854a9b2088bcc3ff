//! The files: a full disk, copies taken at any moment, their mode.
#![expect(clippy::disallowed_methods, reason = "tests may wait for the disk")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::task::JoinSet;
use types::ids::{KeyId, ResponseId, SessionId};

use super::Folder;
use crate::budgets::{Budget, Budgets, WindowKind};
use crate::commit::Commit;
use crate::error::Error;
use crate::keys::Keys;
use crate::ledger::{CALLS_PAGE_MAX, CallFilter, Ledger};
use crate::models::Models;
use crate::responses::{Deletion, Post, Response, ResponseEvent, ResponseWrite, Responses, Status};
use crate::sqlite::SqliteStore;
use crate::store::Store;
use crate::suite::fixtures::{ACCOUNT, Make, NOON, TODAY, amounts, part, rows, spend};

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let folder = Folder::new();
    let store = folder.store();
    store.put_taken(Vec::new()).await.unwrap();
    for extension in ["db", "db-wal", "db-shm"] {
        let mode = folder.path().with_extension(extension).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{extension}");
    }
}

fn ended_response(make: &Make) -> Response {
    Response {
        id: ResponseId::new(&make.ids),
        session: SessionId::new(&make.ids),
        account: ACCOUNT.to_owned(),
        user: "ada".to_owned(),
        key: KeyId::new(&make.ids),
        previous: None,
        position: 0,
        status: Status::Completed,
        background: false,
        stream: false,
        post: Post::default(),
        request: None,
        input: None,
        response: None,
        created_at: NOON,
        finished_at: Some(NOON),
        delivered_at: None,
        deleted_at: None,
    }
}

/// What was deleted is not left in pages that nothing refers to.
#[tokio::test]
async fn a_deleted_body_is_overwritten() {
    let folder = Folder::new();
    let store = folder.store();
    let make = Make::new();
    let secret = "the harbor is closed; ".repeat(1_000);
    let row = Response {
        request: Some(secret.clone()),
        input: Some(secret.clone()),
        response: Some(secret.clone()),
        ..ended_response(&make)
    };
    let id = row.id.clone();
    let event = ResponseEvent { response: id.clone(), sequence: 0, body: secret };
    let commit = Commit {
        responses: vec![ResponseWrite::Open(Box::new(row))],
        response_events: vec![event],
        ..Commit::default()
    };
    store.commit(commit).await.unwrap();
    store.close().await.unwrap();
    let holds_secret = |extension: &str| {
        let bytes = fs::read(folder.path().with_extension(extension)).unwrap();
        bytes.windows(18).any(|window| window == b"harbor is closed; ")
    };
    assert!(holds_secret("db"), "it is stored as it is");
    let store = folder.store();
    assert_eq!(store.delete_response(&id, NOON).await.unwrap(), Deletion::Done);
    // Reading it before would end this process's locks on it.
    store.close().await.unwrap();
    assert!(!holds_secret("db"));
}

/// Stores a response with a text that can be looked for.
async fn stored_harbor(store: &SqliteStore) -> ResponseId {
    let row = Response { request: Some("harbor".repeat(999)), ..ended_response(&Make::new()) };
    let id = row.id.clone();
    let opened = vec![ResponseWrite::Open(Box::new(row))];
    store.commit(Commit { responses: opened, ..Commit::default() }).await.unwrap();
    id
}

fn log_holds_harbor(folder: &Folder) -> bool {
    let bytes = fs::read(folder.path().with_extension("db-wal")).unwrap();
    bytes.windows(12).any(|window| window == b"harborharbor")
}

/// Neither is it left in the log, which nobody overwrites while the server is idle.
#[tokio::test]
async fn a_deleted_body_leaves_the_log() {
    let folder = Folder::new();
    let store = folder.store();
    let id = stored_harbor(&store).await;
    assert!(log_holds_harbor(&folder), "it was written there");
    // What deletes nothing has no reason to empty it.
    let make = Make::new();
    let (_its, other) = (ended_response(&make), ResponseId::new(&make.ids));
    assert_eq!(store.delete_response(&other, NOON).await.unwrap(), Deletion::NotFound);
    assert!(log_holds_harbor(&folder));
    assert_eq!(store.delete_response(&id, NOON).await.unwrap(), Deletion::Done);
    assert!(!log_holds_harbor(&folder));
}

/// A reader that needs the log then only delays that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_body_leaves_the_log_when_its_last_reader_ends() {
    let folder = Folder::new();
    let store = folder.store();
    let id = stored_harbor(&store).await;
    let (entered, has_entered) = tokio::sync::oneshot::channel();
    let (go, may_go) = std::sync::mpsc::sync_channel::<()>(1);
    let reading = tokio::spawn(store.read(move |conn| {
        conn.query_row("SELECT count(*) FROM responses", [], |_| Ok(()))?;
        entered.send(()).unwrap();
        may_go.recv().unwrap();
        Ok(())
    }));
    has_entered.await.unwrap();
    assert_eq!(store.delete_response(&id, NOON).await.unwrap(), Deletion::Done);
    assert!(log_holds_harbor(&folder), "the reader still needs it");
    go.send(()).unwrap();
    reading.await.unwrap().unwrap();
    while log_holds_harbor(&folder) {
        tokio::task::yield_now().await;
    }
}

/// Whoever copies the folder of a stopped server has all of it in one file.
#[tokio::test]
async fn closing_leaves_one_file() {
    let folder = Folder::new();
    let store = folder.store();
    let reading: Vec<_> = (0..20).map(|_| store.read(|_| Ok(()))).collect();
    let reading: JoinSet<_> = reading.into_iter().collect();
    store.close().await.unwrap();
    for extension in ["db-wal", "db-shm"] {
        assert!(!folder.path().with_extension(extension).exists(), "{extension}");
    }
    assert!(matches!(store.read(|_| Ok(())).await, Err(Error::Unavailable(_))));
    drop(reading);
}

#[tokio::test]
async fn a_file_that_is_no_database_or_a_newer_one_is_refused() {
    let folder = Folder::new();
    fs::write(folder.path(), "not a database, and longer than the header of one".repeat(40))
        .unwrap();
    let refused = SqliteStore::open(&folder.path()).unwrap_err();
    assert!(matches!(refused, Error::Internal(_)), "{refused:?}");

    let folder = Folder::new();
    folder.store().close().await.unwrap();
    rusqlite::Connection::open(folder.path())
        .unwrap()
        .pragma_update(None, "user_version", 999)
        .unwrap();
    let refused = SqliteStore::open(&folder.path()).unwrap_err();
    assert!(matches!(refused, Error::NewerVersion { found: 999, .. }), "{refused:?}");
    let missing = SqliteStore::open(&folder.path().join("no/such/folder.db")).unwrap_err();
    assert!(matches!(missing, Error::Unavailable(_)), "{missing:?}");
}

/// Somebody may look while a server writes, and changes nothing by it.
#[tokio::test]
async fn a_store_that_is_only_read_sees_what_another_writes() {
    let folder = Folder::new();
    let missing = SqliteStore::open_read_only(&folder.path()).unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing:?}");
    assert!(!folder.path().exists());

    let store = folder.store();
    let looks = SqliteStore::open_read_only(&folder.path()).unwrap();
    let budget = Make::new().budget(10, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    assert_eq!(looks.budgets(ACCOUNT).await.unwrap(), std::slice::from_ref(&budget));
    let refused = looks.put_budget(budget).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");

    rusqlite::Connection::open(folder.path())
        .unwrap()
        .pragma_update(None, "user_version", 1)
        .unwrap();
    let older = SqliteStore::open_read_only(&folder.path()).unwrap_err();
    assert!(matches!(older, Error::NotFound { .. }), "{older:?}");
}

/// A full disk fails every write of its transaction, loses nothing that was answered, and can be
/// written again after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_undoes_the_transaction_and_the_store_goes_on() {
    let folder = Folder::new();
    let store = folder.store();
    let make = Make::new();
    let limit_pages = |more: u32| {
        store.write(move |conn| {
            let pages: u32 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
            Ok(conn.pragma_update(None, "max_page_count", pages + more)?)
        })
    };
    limit_pages(8).await.unwrap();
    let mut kept = Vec::new();
    let mut lost = Vec::new();
    while lost.is_empty() {
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let row = make.row(Vec::new());
            let (call, store) = (row.call.clone(), store.clone());
            tasks.spawn(async move { (call, store.commit(rows(vec![row])).await) });
        }
        for (call, answer) in tasks.join_all().await {
            match answer {
                Ok(_) => kept.push(call),
                Err(Error::Unavailable(_)) => lost.push(call),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    assert!(!kept.is_empty());
    // Reads go on, and so do writes that need no more room.
    for call in &kept {
        assert_eq!(store.call(call).await.unwrap().len(), 1);
    }
    for call in &lost {
        assert_eq!(store.call(call).await.unwrap(), []);
    }
    assert_eq!(store.keys().await.unwrap(), []);
    limit_pages(1_000).await.unwrap();
    let row = make.row(Vec::new());
    store.commit(rows(vec![row.clone()])).await.unwrap();
    drop(store);
    let store = folder.store();
    for call in kept.iter().chain([&row.call]) {
        assert_eq!(store.call(call).await.unwrap().len(), 1);
    }
    let filter = CallFilter { limit: CALLS_PAGE_MAX, ..CallFilter::default() };
    assert_eq!(store.calls(filter).await.unwrap().len(), kept.len() + 1);
}

/// Copies of the files while commits run, cut in the middle of what was being written, as a crash
/// would: whatever was answered before the copy is in it, the money adds up, and the next node goes
/// on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_taken_while_running_holds_what_was_answered() {
    let folder = Folder::new();
    let store = folder.store();
    let make = Make::new();
    let budget = make.budget(1_000_000, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let answered = Arc::new(AtomicI64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..SPENDERS {
        let spending = [(); SPENT_EACH].map(|()| {
            let claim = make.claim(&budget, TODAY, 100, &make.node());
            let charge = spend(&budget, TODAY, vec![part(&claim.id, 60, 10)], 60);
            (claim, make.row(vec![charge]))
        });
        let (store, answered) = (store.clone(), Arc::clone(&answered));
        tasks.spawn(async move {
            for (claim, row) in spending {
                store.claim(claim).await.unwrap();
                store.commit(rows(vec![row])).await.unwrap();
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let all = i64::try_from(SPENDERS * SPENT_EACH).unwrap();
    let mut copies = 0;
    while answered.load(Ordering::SeqCst) < all {
        let at_least = answered.load(Ordering::SeqCst);
        let copy = copy_as_a_crash_would(&folder.path());
        check_copy(&copy, &budget, at_least, &make).await;
        copies += 1;
    }
    assert!(copies > 0);
    tasks.join_all().await;
    assert_eq!(amounts(&store, &budget).await, [60 * all, 0, 0, 0, 30 * all]);
    // Two files can only be copied one after the other while the log has not begun to move into the
    // database.
    assert!(log_of(&folder.path()).metadata().unwrap().len() < 2_048 * 4_096);
}

/// Tasks that claim and spend, and how often each does.
const SPENDERS: usize = 8;
const SPENT_EACH: usize = 16;

fn log_of(database: &Path) -> PathBuf {
    database.with_extension("db-wal")
}

fn copy_as_a_crash_would(database: &Path) -> Folder {
    let copy = Folder::new();
    let log = log_of(database);
    let written = usize::try_from(log.metadata().unwrap().len()).unwrap();
    fs::copy(database, copy.path()).unwrap();
    let bytes = fs::read(log).unwrap();
    let cut = written + (bytes.len() - written) * 2 / 3;
    fs::write(log_of(&copy.path()), &bytes[..cut]).unwrap();
    copy
}

async fn check_copy(copy: &Folder, budget: &Budget, at_least: i64, make: &Make) {
    let store = copy.store();
    let filter = CallFilter { limit: CALLS_PAGE_MAX, ..CallFilter::default() };
    let spent = i64::try_from(store.calls(filter).await.unwrap().len()).unwrap();
    assert!(spent >= at_least, "{spent} of {at_least}");
    let [settled, unreconciled, presumed, reserved, claimed] = amounts(&store, budget).await;
    assert_eq!([settled, unreconciled, presumed, reserved], [60 * spent, 0, 0, 0]);
    // What is claimed is the rest of slices that were spent from, and whole ones of the others.
    let whole = claimed - 30 * spent;
    assert!(whole % 100 == 0 && (0..=i64::try_from(SPENDERS).unwrap()).contains(&(whole / 100)));
    let open = store.presume_open_slices(&make.node()).await.unwrap();
    assert_eq!(i64::try_from(open).unwrap(), spent + whole / 100);
    assert_eq!(amounts(&store, budget).await, [60 * spent, 0, claimed, 0, 0]);
}
