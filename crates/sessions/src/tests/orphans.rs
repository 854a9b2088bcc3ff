//! Turns that nobody works on, or that nobody can work on any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use storage::{JournalQuery, JournalRow, SessionState, Store};
use types::ErrorCode;
use types::ids::ResponseId;

use super::crash::process;
use super::node::{
    Late, Node, Say, Setup, all, assert_numbered, events, look_again, names, open, patient,
    with_notes,
};
use super::store::{Fault, Faulty};
use crate::PostIdentity;

/// A node whose runner gave its turn up: the commit of the model's answer was refused.
async fn abandoned(folder: &std::path::Path, body: Value) -> (Node, String) {
    let store = Faulty::failing(open(folder), 1, Fault::Lost);
    let node = Node::start_with(folder, store.clone(), Setup::default()).await;
    node.script.say([Say::Text("lost")]);
    let turn = node.post(body).await;
    let id = turn.response_id().as_str().to_owned();
    node.is_given_up(&id).await;
    store.heal();
    (node, id)
}

fn background() -> Value {
    json!({ "input": "tell", "background": true })
}

#[tokio::test]
async fn cancelling_a_turn_that_nobody_works_on_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (node, id) = abandoned(folder.path(), background()).await;
    let key = node.key("ci").await;
    let unseen = node.sessions.get(&key, &id).await.unwrap_err();
    assert_eq!(unseen.code, ErrorCode::Unavailable);
    assert!(unseen.retry_after.is_some());
    let unseen = node.sessions.events(&key, &id, None).await.err().unwrap();
    assert_eq!(unseen.code, ErrorCode::Unavailable);

    let response = patient(node.sessions.cancel(&key, &id)).await.unwrap();
    assert_eq!((&response["id"], &response["status"]), (&json!(id), &json!("cancelled")));
    assert_eq!(node.get(&id).await, response);
    assert_eq!(patient(node.sessions.cancel(&key, &id)).await.unwrap(), response);
    let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
    assert_numbered(&sent, 0);
    assert_eq!(names(&sent).last(), Some(&"response.incomplete"));
    let session = node.sessions.list(all()).await.unwrap()[0].session.clone();
    assert_eq!(session.state, SessionState::Idle);
    // No step was begun for it, and the one that had begun is on the bill.
    assert_eq!((node.script.asked().len(), node.ledger().await.len()), (1, 1));
}

#[tokio::test]
async fn deleting_a_turn_that_nobody_works_on_ends_and_removes_it() {
    let folder = tempfile::tempdir().unwrap();
    let (node, id) = abandoned(folder.path(), background()).await;
    let key = node.key("ci").await;
    patient(node.sessions.delete(&key, &id)).await.unwrap();
    assert_eq!(node.sessions.get(&key, &id).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_retry_of_a_turn_that_nobody_works_on_lets_it_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let body = || json!({ "input": "tell", "model": "local/demo" });
    let (node, id) = abandoned(folder.path(), body()).await;
    node.script.say([Say::Text("found")]);
    let retry = || PostIdentity { retry_count: 1, ..PostIdentity::default() };
    let (left, right) =
        tokio::join!(node.try_post(body(), retry()), node.try_post(body(), retry()));
    for turn in [left.unwrap(), right.unwrap()] {
        assert_eq!(turn.response_id().as_str(), id);
        let response = patient(turn.wait()).await.unwrap();
        assert_eq!(response["output"][0]["content"][0]["text"], "found");
    }
    assert_eq!(node.script.asked().len(), 2);
}

#[tokio::test]
async fn a_node_that_stops_takes_nothing_over() {
    let folder = tempfile::tempdir().unwrap();
    let (node, id) = abandoned(folder.path(), background()).await;
    node.shutdown.cancel();
    let key = node.key("ci").await;
    let refused = patient(node.sessions.cancel(&key, &id)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    let refused = patient(node.sessions.delete(&key, &id)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
}

#[test]
fn a_journal_of_many_pages_is_told_whole() {
    let folder = tempfile::tempdir().unwrap();
    process(async {
        let node = Node::start(folder.path()).await;
        let call = Say::Tool("add_note", json!({ "text": "once" }));
        node.script.say([call, Say::Slow("Once ", "never")]);
        drop(node.post(with_notes(&json!({ "background": true, "stream": true }))).await);
        node.script.was_asked(2).await;
    });
    process(async {
        let store = Faulty::paged(open(folder.path()), 2);
        let node = Node::start_with(folder.path(), store, Setup::default()).await;
        node.script.auto.store(true, Ordering::SeqCst);
        node.sessions.recover().await.unwrap();
        let session = node.sessions.list(all()).await.unwrap()[0].session.clone();
        let id = session.newest.unwrap().as_str().to_owned();
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
        assert_numbered(&sent, 0);
        assert_eq!(names(&sent).last(), Some(&"response.completed"));
        assert_eq!(node.effects().len(), 1);
        assert_eq!(node.script.asked().len(), 1, "only the cut step is asked again");
        let shown = node.sessions.show(&key.account, session.id.as_str()).await.unwrap();
        assert_eq!(shown.turns[0].steps.len(), 3);
    });
}

/// Runs a turn until its model was asked, then ends the process. Answers its id.
fn cut(folder: &std::path::Path) -> String {
    process(async {
        let node = Node::start(folder).await;
        node.script.say([Say::Slow("Once ", "never")]);
        let turn = node.post(json!({ "input": "tell", "background": true, "stream": true })).await;
        node.has_event(turn.response_id().as_str(), "response.output_text.delta").await;
        turn.response_id().as_str().to_owned()
    })
}

/// Adds a row to the journal that nobody can read.
async fn spoil(store: &Arc<dyn Store>, id: &str) {
    let row = store.response(&ResponseId::parse(id).unwrap()).await.unwrap().unwrap();
    let session = store.session(&row.session).await.unwrap().unwrap();
    let query = JournalQuery { session: row.session, response: None, after: 0, limit: 1 };
    let like = store.journal(query).await.unwrap().remove(0);
    let (seq, body) = (session.next_seq, Some("nonsense".to_owned()));
    let bad = JournalRow { seq, epoch: session.epoch, body, ..like };
    let commit = storage::Commit { journal: vec![bad], ..storage::Commit::default() };
    store.commit(commit).await.unwrap();
}

#[test]
fn a_turn_whose_journal_cannot_be_read_is_closed_as_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (spoilt, whole) = (cut(folder.path()), cut(folder.path()));
    process(async {
        let node = Node::start(folder.path()).await;
        spoil(&node.store, &spoilt).await;
        node.script.say([Say::Text("A cat.")]);
        let recovered = node.sessions.recover().await.unwrap();
        assert_eq!((recovered.open, recovered.in_doubt), (1, 0));
        let response = node.get(&spoilt).await;
        assert_eq!((&response["id"], &response["status"]), (&json!(spoilt), &json!("failed")));
        assert_eq!(response["error"]["holdfast"]["code"], "internal");
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, &spoilt, None).await.unwrap()).await;
        assert_numbered(&sent, 0);
        assert_eq!(names(&sent).last(), Some(&"response.failed"));

        let row = node.store.response(&ResponseId::parse(&spoilt).unwrap()).await.unwrap().unwrap();
        let session = node.store.session(&row.session).await.unwrap().unwrap();
        assert_eq!(session.state, SessionState::Idle);
        // The attempt that ran is on the bill, the journal is kept and shown as far as it goes.
        let ledger = node.ledger().await;
        assert_eq!(
            ledger.iter().filter(|entry| entry.session == Some(row.session.clone())).count(),
            1
        );
        let shown = node.sessions.show(&key.account, row.session.as_str()).await.unwrap();
        assert_eq!(shown.turns[0].steps.len(), 1);
        let query = JournalQuery { session: row.session, response: None, after: 0, limit: 100 };
        let kinds: Vec<String> =
            node.store.journal(query).await.unwrap().into_iter().map(|row| row.kind).collect();
        assert_eq!(kinds.last().map(String::as_str), Some("turn_closed"));
        // The other turn is not held up by it.
        let sent = events(node.sessions.events(&key, &whole, None).await.unwrap()).await;
        assert_eq!(names(&sent).last(), Some(&"response.completed"));
    });
}

#[test]
fn what_an_open_turn_continues_is_not_deleted_so_that_its_doubt_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, step) = process(async {
        let late = Late::start(folder.path()).await;
        let node = &late.node;
        node.script.say([Say::Text("first"), Say::Tool("add_note", json!({ "text": "once" }))]);
        let first = node.post(json!({ "input": "tell" })).await;
        patient(first.wait()).await.unwrap();
        let next = json!({ "background": true, "previous_response_id": first.response_id() });
        let second = node.post(with_notes(&next)).await;
        let doubt = late.doubt(&second).await;
        let (first, second) = (first.response_id().as_str(), second.response_id().as_str());
        let refused = node.sessions.delete(&*node.key("ci").await, first).await.unwrap_err();
        assert_eq!((refused.code, refused.status()), (ErrorCode::Conflict, 400));
        assert!(refused.message.contains(first) && refused.message.contains(second));
        assert!(refused.message.contains("cancel"), "{}", refused.message);
        (first.to_owned(), second.to_owned(), doubt.step.id)
    });
    process(async {
        let node = Node::start(folder.path()).await;
        let recovered = node.sessions.recover().await.unwrap();
        assert_eq!(recovered.open + recovered.in_doubt, 1);
        assert_eq!(node.in_doubt(&second).await.id, step);
        let key = node.key("ci").await;
        node.sessions.delete(&key, &first).await.unwrap_err();
        // Cancelled, it needs nothing any more.
        patient(node.sessions.cancel(&key, &second)).await.unwrap();
        node.sessions.delete(&key, &first).await.unwrap();
        // What is continued, and what of it is gone, are both named.
        let next = json!({ "input": "and?", "previous_response_id": second });
        let refused = node.try_post(next, PostIdentity::default()).await.unwrap_err().failure;
        assert_eq!(refused.code, ErrorCode::PreviousResponseNotFound);
        assert!(refused.message.contains(&first) && refused.message.contains(&second));
    });
}

#[tokio::test]
async fn a_slow_post_holds_up_no_other_key_that_chose_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    // The first commit is never answered: its POST waits, and so does every later commit.
    let store = Faulty::failing(open(folder.path()), 0, Fault::Unanswered);
    let node = Node::start_with(folder.path(), store.clone(), Setup::default()).await;
    let keyed =
        || PostIdentity { idempotency_key: Some("same".to_owned()), ..PostIdentity::default() };
    let first = node.post_as("ci", json!({ "input": "tell" }), keyed());
    let second = node.post_as("other", json!({ "input": "tell" }), keyed());
    let both_commit = async {
        while store.commits() < 2 {
            look_again().await;
        }
    };
    tokio::select! {
        _ = first => panic!("its commit is not answered"),
        _ = second => panic!("nor this one's"),
        () = patient(both_commit) => {}
    }
}
