//! Sessions and their leases.

use std::time::Duration;

use types::ids::{NodeId, ResponseId, SessionId};

use super::Place;
use super::fixtures::{ACCOUNT, Make, NOON};
use super::responses::response;
use crate::commit::Commit;
use crate::error::Error;
use crate::responses::{Response, ResponseWrite};
use crate::sessions::{EXPIRE_MAX, Fence, Session, SessionFilter, SessionState, SessionWrite};
use crate::store::Store;

/// A session that `node` has just made.
pub(super) fn session(make: &Make, node: &NodeId) -> Session {
    let id = SessionId::new(&make.ids);
    Session {
        account: ACCOUNT.to_owned(),
        user: "ada".to_owned(),
        name: None,
        root: id.clone(),
        forked_from: None,
        epoch: 1,
        owner: Some(node.clone()),
        state: SessionState::Running,
        newest: None,
        next_seq: 1,
        created_at: NOON,
        last_used_at: NOON,
        id,
    }
}

/// Stores sessions.
pub(super) async fn opened(store: &dyn Store, sessions: &[&Session]) {
    let sessions = sessions.iter().map(|session| SessionWrite::Open((*session).clone()));
    let commit = Commit { sessions: sessions.collect(), ..Commit::default() };
    store.commit(commit).await.unwrap();
}

fn update(session: &Session, state: SessionState) -> SessionWrite {
    SessionWrite::Update {
        session: session.id.clone(),
        state,
        newest: None,
        last_used_at: NOON.plus(Duration::from_secs(1)),
    }
}

/// Sessions are made once, changed, and found by each filter, newest first.
pub async fn sessions_are_kept_changed_and_found(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let (make, node) = (Make::new(), NodeId::new(&Make::new().ids));
    let first = session(&make, &node);
    make.clock.advance(Duration::from_secs(1));
    let other = Session { user: "bob".to_owned(), ..session(&make, &node) };
    opened(&*store, &[&first, &other]).await;
    let again = SessionWrite::Open(first.clone());
    let refused = store.commit(Commit { sessions: vec![again], ..Commit::default() }).await;
    assert!(matches!(refused.unwrap_err(), Error::Exists { what: "session" }));

    let newest = ResponseId::new(&make.ids);
    let write = SessionWrite::Update {
        session: first.id.clone(),
        state: SessionState::InDoubt,
        newest: Some(newest.clone()),
        last_used_at: NOON.plus(Duration::from_secs(5)),
    };
    store.commit(Commit { sessions: vec![write], ..Commit::default() }).await.unwrap();
    let changed = store.session(&first.id).await.unwrap().unwrap();
    assert_eq!((changed.state, &changed.newest), (SessionState::InDoubt, &Some(newest)));
    assert_eq!(changed.last_used_at, NOON.plus(Duration::from_secs(5)));

    let found = |filter: SessionFilter| {
        let found = store.sessions(SessionFilter { limit: 10, ..filter });
        async move { found.await.unwrap().into_iter().map(|row| row.id).collect::<Vec<_>>() }
    };
    assert_eq!(found(SessionFilter::default()).await, [other.id.clone(), first.id.clone()]);
    let user = SessionFilter { user: Some("bob".to_owned()), ..SessionFilter::default() };
    assert_eq!(found(user).await, std::slice::from_ref(&other.id));
    let state = SessionFilter { state: Some(SessionState::InDoubt), ..SessionFilter::default() };
    assert_eq!(found(state).await, std::slice::from_ref(&first.id));
    let before = SessionFilter { before: Some(other.id), ..SessionFilter::default() };
    assert_eq!(found(before).await, [first.id]);
    let account = SessionFilter { account: Some("f".repeat(32)), ..SessionFilter::default() };
    assert!(found(account).await.is_empty());
}

/// Taking a lease again changes nothing; another node's taking it raises the epoch and fences the
/// former owner.
pub async fn a_lease_that_changes_hands_fences_its_former_owner(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let (old, new) = (NodeId::new(&make.ids), NodeId::new(&make.ids));
    let made = session(&make, &old);
    opened(&*store, &[&made]).await;
    let same = store.acquire(&made.id, &old).await.unwrap().unwrap();
    assert_eq!(same.epoch, 1);
    let fenced = |epoch: u64| Commit {
        fences: vec![Fence { session: made.id.clone(), epoch }],
        sessions: vec![update(&made, SessionState::Idle)],
        ..Commit::default()
    };
    store.commit(fenced(1)).await.unwrap();
    let taken = store.acquire(&made.id, &new).await.unwrap().unwrap();
    assert_eq!((taken.epoch, taken.owner), (2, Some(new)));
    let refused = store.commit(fenced(1)).await.unwrap_err();
    assert!(matches!(refused, Error::Fenced { session } if session == made.id));
    store.commit(fenced(2)).await.unwrap();
    assert!(store.acquire(&SessionId::new(&make.ids), &old).await.unwrap().is_none());
}

/// A name stands for one session of an account's user, made at its first use.
pub async fn a_name_stands_for_one_session(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let (make, node) = (Make::new(), NodeId::new(&Make::new().ids));
    let named = || Session { name: Some("nightly".to_owned()), ..session(&make, &node) };
    let first = store.name_session(named()).await.unwrap();
    let later = Session { last_used_at: NOON.plus(Duration::from_secs(9)), ..named() };
    let again = store.name_session(later.clone()).await.unwrap();
    assert_eq!((&again.id, again.last_used_at), (&first.id, later.last_used_at));
    let other = store.name_session(Session { user: "bob".to_owned(), ..named() }).await.unwrap();
    assert_ne!(other.id, first.id);
}

/// A family of sessions loses its bodies when none of it was used for long enough and none has an
/// open turn.
pub async fn unused_families_expire_as_a_whole(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let (make, node) = (Make::new(), NodeId::new(&Make::new().ids));
    let idle = || Session { state: SessionState::Idle, ..session(&make, &node) };
    let (gone, used, open) = (idle(), idle(), Session { state: SessionState::Running, ..idle() });
    let fork = Session {
        root: used.id.clone(),
        forked_from: Some(used.id.clone()),
        last_used_at: NOON.plus(Duration::from_secs(10)),
        ..idle()
    };
    opened(&*store, &[&gone, &used, &open, &fork]).await;
    let mut responses = Vec::new();
    for session in [&gone, &used, &open, &fork] {
        let mut row = response(&make, session);
        row.finished_at = Some(NOON);
        responses.push(row);
    }
    let writes = responses.iter().map(|row| ResponseWrite::Open(Box::new(row.clone())));
    let commit = Commit { responses: writes.collect(), ..Commit::default() };
    store.commit(commit).await.unwrap();
    let since = NOON.plus(Duration::from_secs(5));
    assert_eq!(store.expire_sessions(since, since).await.unwrap(), 1);
    for (row, deleted) in responses.iter().zip([true, false, false, false]) {
        let kept = store.response(&row.id).await.unwrap().unwrap();
        assert_eq!(kept.deleted_at.is_some(), deleted, "{}", row.id);
        assert_eq!(kept.request.is_none(), deleted);
    }
    assert_eq!(store.expire_sessions(since, since).await.unwrap(), 0);
}

/// A named session that was not used for long enough is forgotten, and again only after it was used
/// again.
pub async fn unused_names_are_forgotten_once_per_use(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let (make, node) = (Make::new(), NodeId::new(&Make::new().ids));
    let named = || Session { name: Some("nightly".to_owned()), ..session(&make, &node) };
    let made = store.name_session(named()).await.unwrap();
    let at = |seconds: u64| NOON.plus(Duration::from_secs(seconds));
    store.expire_sessions(NOON, at(1)).await.unwrap();
    assert!(store.forgotten(0, 10).await.unwrap().is_empty(), "it was used");
    for _ in 0..2 {
        store.expire_sessions(at(10), at(10)).await.unwrap();
    }
    let forgotten = store.forgotten(0, 10).await.unwrap();
    assert_eq!((forgotten.len(), &forgotten[0].session), (1, &made.id));
    store.forgotten_everywhere(forgotten[0].number).await.unwrap();
    store.expire_sessions(at(20), at(20)).await.unwrap();
    assert!(store.forgotten(0, 10).await.unwrap().is_empty(), "once is enough");
    store.name_session(Session { last_used_at: at(30), ..named() }).await.unwrap();
    store.expire_sessions(at(40), at(40)).await.unwrap();
    assert_eq!(store.forgotten(0, 10).await.unwrap().len(), 1);
}

/// However many have expired, one write removes a limited number of them; those that follow remove
/// the rest.
pub async fn many_expire_in_several_writes(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let (make, node) = (Make::new(), NodeId::new(&Make::new().ids));
    let made = Session { state: SessionState::Idle, ..session(&make, &node) };
    opened(&*store, &[&made]).await;
    let row = || Response { finished_at: Some(NOON), ..response(&make, &made) };
    let writes = (0..=EXPIRE_MAX).map(|_| ResponseWrite::Open(Box::new(row())));
    let commit = Commit { responses: writes.collect(), ..Commit::default() };
    store.commit(commit).await.unwrap();
    let since = NOON.plus(Duration::from_secs(5));
    let expired = || store.expire_sessions(since, since);
    assert_eq!(expired().await.unwrap(), EXPIRE_MAX as u64);
    assert_eq!(expired().await.unwrap(), 1);
    assert_eq!(expired().await.unwrap(), 0);
    assert_eq!(store.forgotten(0, 10).await.unwrap().len(), 1);
}
