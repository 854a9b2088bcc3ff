//! Stored responses, their events and items.

use std::time::Duration;

use types::Timestamp;
use types::ids::{KeyId, NodeId, ResponseId};

use super::Place;
use super::fixtures::{ACCOUNT, Make, NOON, TODAY, amounts};
use super::sessions::{opened, session};
use crate::budgets::WindowKind;
use crate::commit::Commit;
use crate::error::Error;
use crate::journal::{JournalQuery, JournalRow};
use crate::responses::{
    CHAIN_MAX, Chain, Deletion, ItemRow, Link, Post, PostQuery, Response, ResponseEvent,
    ResponseWrite, Status,
};
use crate::sessions::Session;
use crate::store::Store;

/// An open response of a session.
pub(super) fn response(make: &Make, session: &Session) -> Response {
    Response {
        id: ResponseId::new(&make.ids),
        session: session.id.clone(),
        account: ACCOUNT.to_owned(),
        user: "ada".to_owned(),
        key: KeyId::new(&make.ids),
        previous: None,
        position: 0,
        status: Status::InProgress,
        background: true,
        stream: false,
        post: Post {
            idempotency_key: Some("k".to_owned()),
            path: "/v1/responses".to_owned(),
            body_sha256: "a".repeat(64),
        },
        request: Some("{}".to_owned()),
        input: Some("[]".to_owned()),
        response: None,
        created_at: NOON,
        finished_at: None,
        delivered_at: None,
        deleted_at: None,
    }
}

async fn put(store: &dyn Store, rows: &[&Response]) {
    let writes = rows.iter().map(|row| ResponseWrite::Open(Box::new((*row).clone())));
    let commit = Commit { responses: writes.collect(), ..Commit::default() };
    store.commit(commit).await.unwrap();
}

async fn close(store: &dyn Store, row: &Response, at: Timestamp) -> Result<(), Error> {
    let write = ResponseWrite::Close {
        id: row.id.clone(),
        status: Status::Completed,
        response: "{\"status\":\"completed\"}".to_owned(),
        finished_at: at,
    };
    let commit = Commit { responses: vec![write], ..Commit::default() };
    store.commit(commit).await.map(|_| ())
}

fn event(row: &Response, sequence: u64) -> ResponseEvent {
    ResponseEvent { response: row.id.clone(), sequence, body: format!("{{\"n\":{sequence}}}") }
}

/// A response is kept as it was made, ends once, and its chain is read oldest first.
pub async fn responses_are_kept_end_once_and_are_chained(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let first = response(&make, &made);
    let second = Response {
        previous: Some(first.id.clone()),
        position: 1,
        created_at: NOON.plus(Duration::from_secs(1)),
        ..response(&make, &made)
    };
    put(&*store, &[&first, &second]).await;
    assert_eq!(store.response(&first.id).await.unwrap().as_ref(), Some(&first));
    assert_eq!(store.responses_of(&made.id).await.unwrap().len(), 2);
    assert_eq!(store.open_responses().await.unwrap(), [first.clone(), second.clone()]);

    close(&*store, &first, NOON).await.unwrap();
    let ended = store.response(&first.id).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.finished_at), (Status::Completed, Some(NOON)));
    assert_eq!(store.open_responses().await.unwrap(), [second]);
    let twice = close(&*store, &first, NOON).await.unwrap_err();
    assert!(matches!(twice, Error::NotFound { .. }), "{twice:?}");
}

fn link(row: &Response) -> Link {
    Link {
        id: row.id.clone(),
        session: row.session.clone(),
        account: row.account.clone(),
        user: row.user.clone(),
        position: row.position,
        is_deleted: row.deleted_at.is_some(),
        input: row.input.clone(),
        response: row.response.clone(),
    }
}

/// A chain is read oldest first, with its bodies if they have at most as many bytes as are allowed,
/// and known to be longer if not: bytes are counted, not characters, and `request` is no part.
pub async fn a_chain_is_read_whole_or_known_to_be_too_long(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let row = |input: &str, previous: Option<&Response>| Response {
        request: Some("r".repeat(1_000)),
        input: Some(input.to_owned()),
        response: Some("{}".to_owned()),
        finished_at: Some(NOON),
        previous: previous.map(|previous| previous.id.clone()),
        position: previous.map_or(0, |previous| previous.position + 1),
        ..response(&make, &made)
    };
    let first = row("[\"ä\"]", None);
    let second = row("[]", Some(&first));
    put(&*store, &[&first, &second]).await;

    let whole = store.chain(&second.id, 12).await.unwrap();
    assert_eq!(whole, Chain { links: vec![link(&first), link(&second)], bytes: 12, fits: true });
    let long = store.chain(&second.id, 11).await.unwrap();
    assert!(!long.fits);
    assert!(long.links.iter().all(|link| link.input.is_none() && link.response.is_none()));
    assert_eq!(long.links.last().unwrap().user, second.user);
    assert!(store.chain(&ResponseId::new(&make.ids), 12).await.unwrap().links.is_empty());

    store.delete_response(&first.id, NOON).await.unwrap();
    let left = store.chain(&second.id, 12).await.unwrap();
    assert_eq!(left.links.iter().map(|link| link.is_deleted).collect::<Vec<_>>(), [true, false]);
    let orphan = Response { previous: Some(ResponseId::new(&make.ids)), ..row("[]", None) };
    put(&*store, &[&orphan]).await;
    assert!(store.chain(&orphan.id, 12).await.is_err(), "a part of the history is missing");
}

/// A chain of more members than are allowed is not read in part.
pub async fn a_chain_of_too_many_members_does_not_fit(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let mut rows: Vec<Response> = Vec::new();
    for position in 0..=CHAIN_MAX {
        let previous = rows.last().map(|row| row.id.clone());
        let position = u64::try_from(position).unwrap();
        rows.push(Response { previous, position, ..response(&make, &made) });
    }
    put(&*store, &rows.iter().collect::<Vec<_>>()).await;
    let longest = store.chain(&rows[CHAIN_MAX - 1].id, u64::MAX).await.unwrap();
    assert_eq!((longest.links.len(), longest.fits), (CHAIN_MAX, true));
    let longer = store.chain(&rows[CHAIN_MAX].id, u64::MAX).await.unwrap();
    assert!(!longer.fits);
}

/// A session is forgotten when a body of it goes, but not while a turn is open in it, and listed
/// until somebody says that nobody has a copy of what was forgotten.
pub async fn a_session_is_forgotten_when_a_body_goes(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let first = Response { finished_at: Some(NOON), ..response(&make, &made) };
    let (second, third) = (response(&make, &made), response(&make, &made));
    put(&*store, &[&first, &second]).await;
    let listed = || async { store.forgotten(0, 10).await.unwrap() };
    store.delete_response(&first.id, NOON).await.unwrap();
    assert!(listed().await.is_empty(), "a turn is open");
    close(&*store, &second, NOON).await.unwrap();
    let forgotten = listed().await;
    assert_eq!(forgotten.len(), 1);
    assert_eq!((&*forgotten[0].account, &forgotten[0].session), (ACCOUNT, &made.id));
    assert!(store.forgotten(forgotten[0].number, 10).await.unwrap().is_empty());

    // A turn that was beginning meanwhile ends: what was done before is not enough.
    put(&*store, &[&third]).await;
    close(&*store, &third, NOON).await.unwrap();
    store.forgotten_everywhere(forgotten[0].number).await.unwrap();
    let again = listed().await;
    assert!(again[0].number > forgotten[0].number);
    store.forgotten_everywhere(again[0].number).await.unwrap();
    assert!(listed().await.is_empty());
    store.delete_response(&third.id, NOON).await.unwrap();
    assert_eq!(listed().await.len(), 1);
}

/// So is a session that was forked from it: what is held for a fork was computed over the history
/// before it. What was there before the fork is not.
pub async fn forks_are_forgotten_with_what_they_were_forked_from(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let node = NodeId::new(&make.ids);
    let first = session(&make, &node);
    let fork = |of: &Session| Session {
        root: first.id.clone(),
        forked_from: Some(of.id.clone()),
        ..session(&make, &node)
    };
    let second = fork(&first);
    let third = fork(&second);
    opened(&*store, &[&first, &second, &third]).await;
    let rows: Vec<Response> = [&first, &second, &third]
        .map(|made| Response { finished_at: Some(NOON), ..response(&make, made) })
        .into();
    put(&*store, &rows.iter().collect::<Vec<_>>()).await;
    let forgotten = || async {
        let rows = store.forgotten(0, 10).await.unwrap();
        for row in &rows {
            store.forgotten_everywhere(row.number).await.unwrap();
        }
        let sessions = rows.into_iter().map(|row| row.session);
        sessions.collect::<std::collections::BTreeSet<_>>()
    };
    store.delete_response(&rows[1].id, NOON).await.unwrap();
    assert_eq!(forgotten().await, [second.id.clone(), third.id.clone()].into());

    // A turn of the last fork that was open meanwhile left its state behind.
    let open = response(&make, &third);
    put(&*store, &[&open]).await;
    store.delete_response(&rows[0].id, NOON).await.unwrap();
    assert_eq!(forgotten().await, [first.id.clone(), second.id.clone()].into());
    close(&*store, &open, NOON).await.unwrap();
    assert_eq!(forgotten().await, [third.id.clone()].into());
}

/// A session of which nothing was deleted is not forgotten when its turns end.
pub async fn a_session_that_is_whole_is_not_forgotten(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let node = NodeId::new(&make.ids);
    let (made, other) = (session(&make, &node), session(&make, &node));
    opened(&*store, &[&made, &other]).await;
    let (row, gone) = (response(&make, &made), response(&make, &other));
    put(&*store, &[&row, &gone]).await;
    close(&*store, &gone, NOON).await.unwrap();
    store.delete_response(&gone.id, NOON).await.unwrap();
    close(&*store, &row, NOON).await.unwrap();
    let forgotten = store.forgotten(0, 10).await.unwrap();
    assert_eq!(forgotten.into_iter().map(|row| row.session).collect::<Vec<_>>(), [other.id]);
}

/// Money that a turn still holds at its end is presumed spent: nobody is left to settle it.
pub async fn a_turn_that_has_ended_holds_no_money(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let (row, other) = (response(&make, &made), response(&make, &made));
    put(&*store, &[&row, &other]).await;
    for (seq, turn) in (1..).zip([&row, &other]) {
        let commit = Commit {
            reservations: vec![make.reservation(&[&budget], TODAY, 30)],
            journal: vec![super::journal::row(&make, &made, &turn.id, seq)],
            ..Commit::default()
        };
        store.commit(commit).await.unwrap();
    }
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 0, 60, 0]);
    close(&*store, &row, NOON).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 30, 30, 0]);
}

/// Events are read in pages; one that is there is never replaced.
pub async fn events_are_appended_and_never_replaced(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    let row = response(&make, &made);
    let events: Vec<ResponseEvent> = (0..5).map(|sequence| event(&row, sequence)).collect();
    let commit =
        |events: &[ResponseEvent]| Commit { response_events: events.to_vec(), ..Commit::default() };
    store.commit(commit(&events[..3])).await.unwrap();
    store.commit(commit(&events[3..])).await.unwrap();
    let refused = store.commit(commit(&events[4..])).await.unwrap_err();
    assert!(matches!(refused, Error::Exists { .. }), "{refused:?}");
    assert_eq!(store.response_events(&row.id, 0, 3).await.unwrap(), events[..3]);
    assert_eq!(store.response_events(&row.id, 3, 100).await.unwrap(), events[3..]);
    assert_eq!(store.response_events(&row.id, 1, 3).await.unwrap(), events[1..4], "two commits'");
    assert_eq!(store.response_events(&row.id, 5, 100).await.unwrap(), []);
}

/// An event's text is kept as it is, line breaks too, among others of its commit.
pub async fn events_with_line_breaks_are_kept(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    let row = response(&make, &made);
    let mut events: Vec<ResponseEvent> = (0..5).map(|sequence| event(&row, sequence)).collect();
    events[1].body = "{\n}".to_owned();
    events[2].body = "\n".to_owned();
    events[4].body = String::new();
    store.commit(Commit { response_events: events.clone(), ..Commit::default() }).await.unwrap();
    for from in 0..5 {
        let read = store.response_events(&row.id, from, 100).await.unwrap();
        assert_eq!(read, events[usize::try_from(from).unwrap()..]);
    }
}

/// A POST that comes again finds the newest turn that it may mean, and only that.
pub async fn an_equal_post_finds_its_turn(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let row = response(&make, &made);
    put(&*store, &[&row]).await;
    let by_key = |key: &str, since: Timestamp| PostQuery {
        key: row.key.clone(),
        idempotency_key: Some((key.to_owned(), since)),
        retried: None,
    };
    let by_body = |post: Post, since: Timestamp| PostQuery {
        key: row.key.clone(),
        idempotency_key: None,
        retried: Some((post, since)),
    };
    let later = NOON.plus(Duration::from_secs(1));
    let finds = |query: PostQuery| {
        let found = store.find_post(query);
        async move { found.await.unwrap().is_some() }
    };
    assert!(finds(by_key("k", NOON)).await);
    assert!(!finds(by_key("k", later)).await, "too old");
    assert!(!finds(by_key("other", NOON)).await);
    let other_key = PostQuery { key: KeyId::new(&make.ids), ..by_key("k", NOON) };
    assert!(!finds(other_key).await, "another key's");
    assert!(finds(by_body(row.post.clone(), later)).await, "open");
    let other_path = Post { path: "/v1/other".to_owned(), ..row.post.clone() };
    assert!(!finds(by_body(other_path, NOON)).await);

    close(&*store, &row, NOON).await.unwrap();
    assert!(finds(by_body(row.post.clone(), NOON)).await, "undelivered");
    assert!(!finds(by_body(row.post.clone(), later)).await, "ended too long ago");
    store.mark_delivered(&row.id, later).await.unwrap();
    assert!(!finds(by_body(row.post.clone(), NOON)).await, "delivered");
    assert!(finds(by_key("k", NOON)).await, "a key names its turn, delivered or not");
}

/// What an open turn continues, itself or through others and across a fork, is not removed while it
/// is open; what it does not continue is. And no turn begins behind what was removed.
pub async fn what_an_open_turn_continues_is_not_deleted(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let node = NodeId::new(&make.ids);
    let made = session(&make, &node);
    let fork = Session {
        root: made.root.clone(),
        forked_from: Some(made.id.clone()),
        ..session(&make, &node)
    };
    opened(&*store, &[&made, &fork]).await;
    let ended = |of: &Session, previous: Option<&Response>| Response {
        finished_at: Some(NOON),
        previous: previous.map(|previous| previous.id.clone()),
        position: previous.map_or(0, |previous| previous.position + 1),
        ..response(&make, of)
    };
    let first = ended(&made, None);
    let second = ended(&made, Some(&first));
    let beside = ended(&made, Some(&first));
    let open = Response { finished_at: None, ..ended(&fork, Some(&second)) };
    put(&*store, &[&first, &second, &beside, &open]).await;
    let delete = |row: &Response| store.delete_response(&row.id, NOON);
    for row in [&first, &second, &open] {
        assert_eq!(delete(row).await.unwrap(), Deletion::InUse(open.id.clone()));
        assert_eq!(store.response(&row.id).await.unwrap().unwrap().deleted_at, None);
    }
    assert_eq!(delete(&beside).await.unwrap(), Deletion::Done);
    close(&*store, &open, NOON).await.unwrap();
    assert_eq!(delete(&first).await.unwrap(), Deletion::Done);

    for previous in [&open, &second, &first] {
        let late = Response { finished_at: None, ..ended(&fork, Some(previous)) };
        let responses = vec![ResponseWrite::Open(Box::new(late))];
        let refused = store.commit(Commit { responses, ..Commit::default() }).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
}

/// Deleting takes every body of a response that has ended, and leaves ids, hashes and times.
pub async fn deleting_takes_every_body_and_leaves_the_rest(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let row = response(&make, &made);
    put(&*store, &[&row]).await;
    let journal = JournalRow {
        session: made.id.clone(),
        seq: 1,
        epoch: 1,
        kind: "turn_opened".to_owned(),
        response: row.id.clone(),
        step: None,
        call: None,
        at: NOON,
        body: Some("private".to_owned()),
        body_sha256: "b".repeat(64),
    };
    let item = ItemRow {
        item: "msg_1".to_owned(),
        response: row.id.clone(),
        account: ACCOUNT.to_owned(),
        user: "ada".to_owned(),
        body: "{}".to_owned(),
    };
    let commit = Commit {
        journal: vec![journal.clone()],
        response_events: vec![event(&row, 0)],
        items: vec![item.clone()],
        ..Commit::default()
    };
    store.commit(commit).await.unwrap();
    assert_eq!(store.item(ACCOUNT, "ada", "msg_1").await.unwrap(), Some(item));
    assert_eq!(store.item(ACCOUNT, "bob", "msg_1").await.unwrap(), None);
    let open = store.delete_response(&row.id, NOON).await.unwrap();
    assert_eq!(open, Deletion::InUse(row.id.clone()), "its turn is open");
    close(&*store, &row, NOON).await.unwrap();
    assert_eq!(store.delete_response(&row.id, NOON).await.unwrap(), Deletion::Done);
    assert_eq!(store.delete_response(&row.id, NOON).await.unwrap(), Deletion::NotFound);

    let left = store.response(&row.id).await.unwrap().unwrap();
    assert_eq!((left.request, left.input, left.response), (None, None, None));
    assert_eq!((left.post, left.deleted_at), (row.post, Some(NOON)));
    assert!(store.response_events(&row.id, 0, 10).await.unwrap().is_empty());
    assert_eq!(store.item(ACCOUNT, "ada", "msg_1").await.unwrap(), None);
    let query = JournalQuery { session: made.id, response: None, after: 0, limit: 10 };
    let left = store.journal(query).await.unwrap();
    assert_eq!(left, [JournalRow { body: None, ..journal }]);
}
