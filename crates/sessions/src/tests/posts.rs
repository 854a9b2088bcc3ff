//! POSTs that come again, and clients that go.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use types::clock::FakeClock;
use types::{ErrorCode, Timestamp};

use super::node::{Node, Say, Setup, events, names, open, patient};
use crate::PostIdentity;

fn retry() -> PostIdentity {
    PostIdentity { retry_count: 1, ..PostIdentity::default() }
}

fn keyed(key: &str) -> PostIdentity {
    PostIdentity { idempotency_key: Some(key.to_owned()), ..PostIdentity::default() }
}

fn body() -> Value {
    json!({ "input": "tell" })
}

async fn node_at(folder: &std::path::Path) -> (Node, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(1_790_000_000_000)));
    let setup = Setup { clock: Some(Arc::clone(&clock) as _), ..Setup::default() };
    (Node::start_with(folder, open(folder), setup).await, clock)
}

#[tokio::test]
async fn an_idempotency_key_names_one_turn_for_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let (node, clock) = node_at(folder.path()).await;
    node.script.say([Say::Text("one"), Say::Text("two")]);
    let first = node.try_post(body(), keyed("k")).await.unwrap();
    let answer = patient(first.wait()).await.unwrap();
    first.delivered();
    let again = node.try_post(body(), keyed("k")).await.unwrap();
    assert_eq!(patient(again.wait()).await.unwrap(), answer);
    assert_eq!(names(&events(again.subscribe()).await).last(), Some(&"response.completed"));
    let other = node.try_post(json!({ "input": "else" }), keyed("k")).await.unwrap_err();
    assert_eq!(other.failure.code, ErrorCode::InvalidRequest);
    clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    let later = node.try_post(body(), keyed("k")).await.unwrap();
    assert_ne!(later.response_id(), first.response_id());
}

#[tokio::test]
async fn a_retry_attaches_to_an_open_turn_and_a_first_post_never_does() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Slow("Once ", "upon"), Say::Text("another")]);
    let first = node.post(body()).await;
    node.script.was_asked(1).await;
    let again = node.try_post(body(), retry()).await.unwrap();
    assert_eq!(again.response_id(), first.response_id());
    let equal = node.post(body()).await;
    assert_ne!(equal.response_id(), first.response_id());
    node.script.open_gate();
    let answers = (patient(first.wait()).await.unwrap(), patient(again.wait()).await.unwrap());
    assert_eq!(answers.0, answers.1);
    patient(equal.wait()).await.unwrap();
}

#[tokio::test]
async fn a_retry_gets_what_was_not_delivered_for_ten_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let (node, clock) = node_at(folder.path()).await;
    node.script.say([Say::Text("one"), Say::Text("two"), Say::Text("three")]);
    let first = node.post(body()).await;
    let answer = patient(first.wait()).await.unwrap();
    let again = node.try_post(body(), retry()).await.unwrap();
    assert_eq!(patient(again.wait()).await.unwrap(), answer);
    clock.advance(Duration::from_secs(10 * 60 + 1));
    let second = node.try_post(body(), retry()).await.unwrap();
    assert_ne!(second.response_id(), first.response_id());
    patient(second.wait()).await.unwrap();
    let id = second.response_id();
    node.store.mark_delivered(id, types::Clock::now(&*clock)).await.unwrap();
    let third = node.try_post(body(), retry()).await.unwrap();
    assert_ne!(third.response_id(), id);
    patient(third.wait()).await.unwrap();
    assert_eq!(node.script.asked().len(), 3);
}

#[tokio::test]
async fn two_retries_at_once_start_one_turn() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("one")]);
    let (left, right) =
        tokio::join!(node.try_post(body(), retry()), node.try_post(body(), retry()));
    let (left, right) = (left.unwrap(), right.unwrap());
    assert_eq!(left.response_id(), right.response_id());
    patient(left.wait()).await.unwrap();
    assert_eq!(node.script.asked().len(), 1);
}

#[tokio::test]
async fn a_client_that_goes_while_its_turn_begins_leaves_one_that_its_retry_finds() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Slow("Once ", "upon"), Say::Text("A cat.")]);
    node.script.open_gate();
    tokio::select! {
        biased;
        _ = node.try_post(body(), PostIdentity::default()) => panic!("not at the first look"),
        () = std::future::ready(()) => {}
    }
    let turn = node.try_post(body(), retry()).await.unwrap();
    let response = patient(turn.wait()).await.unwrap();
    assert_eq!(response["status"], "completed");
    assert_eq!(node.sessions.list(super::node::all()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_that_goes_stops_the_model_and_its_retry_asks_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Slow("Once ", "never"), Say::Text("A cat.")]);
    let first = node.post(body()).await;
    node.script.was_asked(1).await;
    let id = first.response_id().clone();
    drop(first);
    node.has_journaled("model_lost").await;
    assert_eq!(node.script.asked().len(), 1);
    let again = node.try_post(body(), retry()).await.unwrap();
    assert_eq!(again.response_id(), &id);
    let response = patient(again.wait()).await.unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "A cat.");
    let asked = node.script.asked();
    assert_eq!(asked[0].call, asked[1].call);
}

#[tokio::test]
async fn a_foreground_turn_that_nobody_comes_back_for_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let (node, clock) = node_at(folder.path()).await;
    node.script.say([Say::Slow("Once ", "never")]);
    let first = node.post(body()).await;
    node.script.was_asked(1).await;
    let id = first.response_id().clone();
    let live = node.sessions.inner.live(&id).unwrap();
    drop(first);
    node.has_journaled("model_lost").await;
    // The turn may not have begun to wait yet: time goes on until it has.
    let ended = live.ended();
    let mut ended = std::pin::pin!(ended);
    let ended = patient(async {
        loop {
            tokio::select! {
                biased;
                ended = &mut ended => return ended.unwrap(),
                () = tokio::task::yield_now() => clock.advance(Duration::from_secs(60)),
            }
        }
    });
    assert_eq!(ended.await.response["status"], "cancelled");
}

#[tokio::test]
async fn a_clean_stop_lets_the_next_start_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Slow("Once ", "never")]);
    let turn = node.post(json!({ "input": "tell", "background": true })).await;
    node.script.was_asked(1).await;
    node.shutdown.cancel();
    let failure = patient(turn.wait()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unavailable);
    let next = Node::start(folder.path()).await;
    next.script.say([Say::Text("A cat.")]);
    next.sessions.recover().await.unwrap();
    let key = next.key("ci").await;
    let stream = next.sessions.events(&key, turn.response_id().as_str(), None).await.unwrap();
    assert_eq!(names(&events(stream).await).last(), Some(&"response.completed"));
    // What was known at the stop is known: the first attempt was settled, not lost.
    assert_eq!(next.ledger().await.len(), 2);
}
