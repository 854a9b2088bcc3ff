//! What shares a transaction, and what does not.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Folder;
use crate::budgets::Budgets;
use crate::commit::Commit;
use crate::error::Error;
use crate::models::Models;
use crate::sqlite::SqliteStore;
use crate::store::{Pending, Store};
use crate::suite::fixtures::{Make, TODAY, amounts, hold};

/// Holds the writer in a transaction of its own until the sender speaks, so that what is asked
/// meanwhile queues.
async fn hold_up(store: &SqliteStore) -> SyncSender<()> {
    let (entered, has_entered) = oneshot::channel();
    let (go, may_go): (SyncSender<()>, Receiver<()>) = sync_channel(1);
    let (message, _answer) = crate::sqlite::writer::job(move |_, _| {
        entered.send(()).unwrap();
        may_go.recv().unwrap();
        Ok(())
    });
    assert!(store.writes.send(message).await.is_ok());
    has_entered.await.unwrap();
    go
}

/// Starts `work` and comes back when it waits in the queue.
async fn queue<T: Send + 'static>(
    store: &SqliteStore,
    tasks: &mut JoinSet<Result<T, Error>>,
    work: Pending<T>,
) {
    let room = store.writes.capacity();
    tasks.spawn(work);
    while store.writes.capacity() == room {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_queued_shares_a_transaction_and_a_refused_one_fails_alone() {
    let folder = Folder::new();
    let store = folder.store();
    let make = Make::new();
    let budget = make.budget(10, crate::WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let before = store.commit(Commit::default()).await.unwrap().sequence;

    let go = hold_up(&store).await;
    let mut tasks = JoinSet::new();
    for amount in [4, 7, 6, 1] {
        let commit = hold(make.reservation(&[&budget], TODAY, amount));
        queue(&store, &mut tasks, store.commit(commit)).await;
    }
    go.send(()).unwrap();
    let mut sequences = Vec::new();
    let mut refused = 0;
    for answer in tasks.join_all().await {
        match answer {
            Ok(committed) => sequences.push(committed.sequence),
            Err(Error::OverLimit { .. }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    // The held one is a transaction, the four are the next.
    assert_eq!(sequences, [before + 2; 2]);
    assert_eq!(refused, 2);
    assert_eq!(amounts(&store, &budget).await, [0, 0, 0, 10, 0]);
}

#[tokio::test]
async fn a_write_that_fails_in_a_transaction_of_its_own_leaves_nothing() {
    let folder = Folder::new();
    let store = folder.store();
    let insert = "INSERT INTO taken VALUES ('a', 'b', 'c')";
    let refused: Result<(), Error> = store
        .write(move |conn| {
            conn.execute_batch(insert)?;
            Err(Error::NotFound { what: "reason" })
        })
        .await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    let broken: Result<(), Error> = store
        .write(move |conn| {
            conn.execute_batch(insert)?;
            panic!("a bug");
        })
        .await;
    assert!(matches!(broken, Err(Error::Internal(_))), "{broken:?}");
    assert_eq!(store.taken().await.unwrap(), []);
    store.write(move |conn| Ok(conn.execute_batch(insert)?)).await.unwrap();
    assert_eq!(store.taken().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_write_that_panics_fails_alone() {
    let folder = Folder::new();
    let store = folder.store();
    let go = hold_up(&store).await;
    let mut tasks = JoinSet::new();
    let insert = "INSERT INTO taken VALUES ('a', 'b', 'c')";
    let broken = store.write(move |conn| {
        conn.execute_batch(insert)?;
        panic!("a bug");
    });
    queue(&store, &mut tasks, broken).await;
    let fine = store.write(move |conn| Ok(conn.execute_batch(insert)?));
    queue(&store, &mut tasks, fine).await;
    go.send(()).unwrap();
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(store.taken().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_read_that_panics_fails_alone_and_none_can_write() {
    let folder = Folder::new();
    let store = folder.store();
    // More often than there are threads.
    for _ in 0..8 {
        let answer: Result<(), Error> = store.read(|_| panic!("a bug")).await;
        assert!(matches!(answer, Err(Error::Internal(_))));
    }
    let written = store.read(|conn| Ok(conn.execute_batch("DELETE FROM taken")?)).await;
    assert!(matches!(written, Err(Error::Unavailable(_))), "{written:?}");
    assert_eq!(store.taken().await.unwrap(), []);
}

#[tokio::test]
async fn closing_finishes_what_waits_and_refuses_what_comes_later() {
    let folder = Folder::new();
    let store = folder.store();
    let go = hold_up(&store).await;
    let mut tasks = JoinSet::new();
    for number in 0..3 {
        let insert = format!("INSERT INTO taken VALUES ('a', '{number}', 'c')");
        let write = store.write(move |conn| Ok(conn.execute_batch(&insert)?));
        queue(&store, &mut tasks, write).await;
    }
    let mut closing = JoinSet::new();
    queue(&store, &mut closing, store.close()).await;
    go.send(()).unwrap();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert!(closing.join_all().await.iter().all(Result::is_ok));
    let late = store.commit(Commit::default()).await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    assert!(store.close().await.is_err());
    // All of it is in the database itself: the log is empty or gone.
    let log = folder.path().with_extension("db-wal");
    assert_eq!(log.metadata().map_or(0, |log| log.len()), 0);
    assert_eq!(folder.store().taken().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_full_queue_makes_writers_wait_and_loses_none() {
    let folder = Folder::new();
    let store = folder.store();
    let go = hold_up(&store).await;
    let mut tasks = JoinSet::new();
    let count = store.writes.max_capacity() + 100;
    for number in 0..count {
        let insert = format!("INSERT INTO taken VALUES ('a', '{number}', 'c')");
        tasks.spawn(store.write(move |conn| Ok(conn.execute_batch(&insert)?)));
    }
    while store.writes.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(store.taken().await.unwrap().len(), count);
}
