//! Models and users that want more than there is.

use std::sync::Arc;

use serde_json::json;
use storage::{Commit, ResponseEvent, Store};
use types::ErrorCode;
use types::ids::ResponseId;

use super::crash::process;
use super::node::{Node, Say, Setup, assert_numbered, events, names, open, patient};
use crate::PostIdentity;
use crate::turn::ANSWER_BYTES_MAX;

const PIECE: usize = 1024 * 1024;
/// Some more than one answer may have.
const PIECES: usize = 18;

#[tokio::test]
async fn an_answer_that_does_not_end_is_cut_off_and_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    for extra in
        [json!({ "background": true, "stream": true }), json!({}), json!({ "store": false })]
    {
        node.script.say([Say::Long(PIECES, PIECE)]);
        let mut body = extra;
        body["input"] = "tell".into();
        let turn = node.post(body).await;
        let failure = patient(turn.wait()).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::TooLarge);
        assert!(failure.forbids_retry());
        assert!(failure.message.contains("16 MiB"), "{}", failure.message);
        if turn.session_id().is_some() {
            let response = node.get(turn.response_id().as_str()).await;
            assert_eq!(response["status"], "failed");
            assert_eq!(response["error"]["holdfast"]["code"], "too_large");
            node.is_given_up(turn.response_id().as_str()).await;
        }
        drop(turn);
        assert_eq!(node.sessions.inner.held.bytes(), 0);
    }
    assert_eq!(node.script.asked().len(), 3);
    node.pipeline.flush().await.unwrap();
    let ledger = node.ledger().await;
    assert_eq!(ledger.len(), 3);
    assert!(ledger.iter().all(|row| row.error.is_some() && row.stop.is_none()), "{ledger:?}");
}

#[tokio::test]
async fn what_a_model_says_is_on_disk_before_there_is_much_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let first: &'static str = Box::leak("x".repeat(2 * PIECE).into_boxed_str());
    node.script.say([Say::Slow(first, "end")]);
    // Not even streamed: nobody waits for its events.
    let turn = node.post(json!({ "input": "tell" })).await;
    let id = turn.response_id().as_str();
    node.has_event(id, "response.output_text.delta").await;
    node.script.open_gate();
    assert_eq!(patient(turn.wait()).await.unwrap()["status"], "completed");
    let key = node.key("ci").await;
    let sent = events(node.sessions.events(&key, id, None).await.unwrap()).await;
    assert_numbered(&sent, 0);
}

/// Adds to the stream of an open response what an answer without end would have sent.
async fn said(store: &Arc<dyn Store>, id: &str) {
    let response = ResponseId::parse(id).unwrap();
    let from = store.response_events(&response, 0, 1_000).await.unwrap().len() as u64;
    let delta = "x".repeat(PIECE);
    let event = |sequence: u64| ResponseEvent {
        response: response.clone(),
        sequence,
        body: json!({ "type": "response.output_text.delta", "output_index": 0,
            "content_index": 0, "delta": delta, "sequence_number": sequence })
        .to_string(),
    };
    let response_events = (from..from + PIECES as u64).map(event).collect();
    store.commit(Commit { response_events, ..Commit::default() }).await.unwrap();
}

#[test]
fn an_answer_that_was_too_long_when_its_server_died_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let id = process(async {
        let node = Node::start(folder.path()).await;
        node.script.say([Say::Slow("Once ", "never")]);
        let turn = node.post(json!({ "input": "tell", "background": true, "stream": true })).await;
        node.has_event(turn.response_id().as_str(), "response.output_text.delta").await;
        turn.response_id().as_str().to_owned()
    });
    process(async {
        let store = open(folder.path());
        assert!((PIECES * PIECE) as u64 > ANSWER_BYTES_MAX);
        said(&store, &id).await;
        let node = Node::start_with(folder.path(), store, Setup::default()).await;
        node.sessions.recover().await.unwrap();
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
        assert_numbered(&sent, 0);
        assert_eq!(names(&sent).last(), Some(&"response.failed"));
        let response = node.get(&id).await;
        assert_eq!(response["error"]["holdfast"]["code"], "too_large");
        assert!(node.script.asked().is_empty());
        assert_eq!(node.ledger().await.len(), 1, "the attempt is on the bill");
    });
}

#[tokio::test]
async fn a_step_without_a_known_price_leaves_the_cost_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup { provider: Some("garage"), ..Setup::default() };
    let node = Node::start_with(folder.path(), open(folder.path()), setup).await;
    node.script.say([Say::Text("yes")]);
    let turn = node.post(json!({ "model": "garage/demo", "input": "hi" })).await;
    patient(turn.wait()).await.unwrap();
    assert_eq!((turn.bill().cost, turn.bill().attempts), (None, 1));

    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("yes")]);
    let turn = node.post(json!({ "input": "hi" })).await;
    patient(turn.wait()).await.unwrap();
    assert_eq!(turn.bill().cost, Some(types::Money::ZERO), "a local model costs nothing");
}

#[tokio::test]
async fn a_response_that_is_not_stored_notes_the_session_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("yes")]);
    let headers = types::CommonHeaders {
        session_name: Some("nightly".to_owned()),
        ..types::CommonHeaders::default()
    };
    let post = PostIdentity { headers, ..PostIdentity::default() };
    let turn = node.try_post(json!({ "input": "hi", "store": false }), post).await.unwrap();
    patient(turn.wait()).await.unwrap();
    patient(async {
        while node.sessions.list(super::node::all()).await.unwrap().is_empty() {
            super::node::look_again().await;
        }
    })
    .await;
    let listed = node.sessions.list(super::node::all()).await.unwrap();
    assert_eq!(listed[0].session.name.as_deref(), Some("nightly"));
    assert_eq!(Some(&listed[0].session.id), turn.session_id());
}
