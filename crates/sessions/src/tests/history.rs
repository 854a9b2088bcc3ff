//! What a turn may go on from, and how much of it.

use serde_json::{Value, json};
use types::ErrorCode;

use super::node::{Node, Say, Setup, open, patient};
use super::store::Faulty;
use crate::PostIdentity;

#[tokio::test]
async fn a_conversation_that_is_too_large_is_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let store = Faulty::short_of_room(open(folder.path()), 2_000);
    let node = Node::start_with(folder.path(), store, Setup::default()).await;
    node.script.say([Say::Text("one"), Say::Text("two")]);
    let first = node.post(json!({ "input": "first" })).await;
    patient(first.wait()).await.unwrap();
    let next = |previous: &str| json!({ "input": "more", "previous_response_id": previous });
    let second = node.post(next(first.response_id().as_str())).await;
    patient(second.wait()).await.unwrap();
    for store in [true, false] {
        let mut body = next(second.response_id().as_str());
        body["store"] = store.into();
        let refused = node.try_post(body, PostIdentity::default()).await.unwrap_err().failure;
        assert_eq!(refused.code, ErrorCode::ContextLengthExceeded);
        assert_eq!(refused.param.as_deref(), Some("previous_response_id"));
        assert!(refused.message.contains("64 MiB"), "{}", refused.message);
    }
    // Nobody learns that it is long whose it is not.
    let stranger =
        node.post_as("other", next(second.response_id().as_str()), PostIdentity::default());
    assert_eq!(stranger.await.unwrap_err().failure.code, ErrorCode::PreviousResponseNotFound);
    assert_eq!(node.script.asked().len(), 2);
    assert_eq!(node.ledger().await.len(), 2);
}

#[tokio::test]
async fn references_do_not_multiply_an_item_beyond_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("one"), Say::Text("two")]);
    let first = node.post(json!({ "input": "x".repeat(1024 * 1024) })).await;
    patient(first.wait()).await.unwrap();
    let (id, key) = (first.response_id().as_str(), node.key("ci").await);
    let items = node.sessions.input_items(&key, id, &crate::ItemPage::default()).await.unwrap();
    let references = |count: usize| -> Value {
        let reference = json!({ "type": "item_reference", "id": items["data"][0]["id"] });
        vec![reference; count].into()
    };
    let few = node.post(json!({ "input": references(2) })).await;
    patient(few.wait()).await.unwrap();
    for previous in [Value::Null, id.into()] {
        let body = json!({ "input": references(64), "previous_response_id": previous });
        let refused = node.try_post(body, PostIdentity::default()).await.unwrap_err().failure;
        assert_eq!(refused.code, ErrorCode::ContextLengthExceeded);
        assert!(refused.param.unwrap().starts_with("input[6"));
    }
    assert_eq!(node.script.asked().len(), 2);
}

#[tokio::test]
async fn an_open_turn_holds_room_until_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Slow("Once ", "upon"), Say::Text("plain")]);
    let held = || node.sessions.inner.held.bytes();
    let turn = node.post(json!({ "input": "tell" })).await;
    node.script.was_asked(1).await;
    assert!(held() > 10, "{}", held());
    node.script.open_gate();
    patient(turn.wait()).await.unwrap();
    node.is_given_up(turn.response_id().as_str()).await;
    let plain = node.post(json!({ "input": "tell", "store": false })).await;
    assert!(held() > 10, "{}", held());
    patient(plain.wait()).await.unwrap();
    drop(plain);
    assert_eq!(held(), 0);
}
