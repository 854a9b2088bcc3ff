//! Copies that others keep of what sessions hold.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::node::{Node, Say, look_again, patient};

/// Waits until nothing is listed any more.
async fn all_is_forgotten(node: &Node) {
    patient(async {
        while !node.store.forgotten(0, 10).await.unwrap().is_empty() {
            look_again().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_is_forgotten_when_a_response_is_deleted_and_no_turn_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.sessions.recover().await.unwrap();
    node.script.say([Say::Text("one"), Say::Text("two"), Say::Slow("thr", "ee")]);
    let first = node.post(json!({ "input": "first" })).await;
    patient(first.wait()).await.unwrap();
    let next = || json!({ "input": "next", "previous_response_id": first.response_id() });
    let second = node.post(next()).await;
    patient(second.wait()).await.unwrap();
    // A fork, which does not need what is deleted.
    let third = node.post(next()).await;
    node.script.was_asked(3).await;
    let key = node.key("ci").await;
    node.sessions.delete(&key, second.response_id().as_str()).await.unwrap();
    all_is_forgotten(&node).await;
    let named = |turn: &crate::Turn| format!("{} {}", key.account, turn.session_id().unwrap());
    assert_eq!(node.copies.forgotten(), [named(&first)], "a turn is open in the fork");
    node.script.open_gate();
    assert_eq!(patient(third.wait()).await.unwrap()["status"], "completed");
    patient(async {
        while node.copies.forgotten().len() < 2 {
            look_again().await;
        }
    })
    .await;
    assert_eq!(node.copies.forgotten(), [named(&first), named(&third)]);
}

#[tokio::test]
async fn what_could_not_be_forgotten_is_forgotten_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.sessions.recover().await.unwrap();
    node.copies.broken.store(true, Ordering::SeqCst);
    node.script.say([Say::Text("one")]);
    let turn = node.post(json!({ "input": "first" })).await;
    patient(turn.wait()).await.unwrap();
    node.sessions.delete(&*node.key("ci").await, turn.response_id().as_str()).await.unwrap();
    patient(node.copies.asked.notified()).await;
    node.shutdown.cancel();
    assert_eq!(node.store.forgotten(0, 10).await.unwrap().len(), 1);

    let next = Node::start(folder.path()).await;
    next.sessions.recover().await.unwrap();
    all_is_forgotten(&next).await;
    assert_eq!(next.copies.forgotten().len(), 1);
}
