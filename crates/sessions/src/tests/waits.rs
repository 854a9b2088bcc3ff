//! What is heard while a turn waits between two steps: for a summary of its history, or before it
//! asks a target again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use types::clock::FakeClock;
use types::{ErrorCode, Failure, Timestamp};

use super::node::{Node, Say, Setup, all, look_again, open, patient, with_notes};

/// A node in time that stands still.
struct Still {
    node: Node,
    clock: Arc<FakeClock>,
    _folder: tempfile::TempDir,
}

impl Still {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::new(Timestamp::from_millis(1_790_000_000_000)));
        let provider = Some("paid");
        let setup = Setup { clock: Some(Arc::clone(&clock) as _), provider, ..Setup::default() };
        let node = Node::start_with(folder.path(), open(folder.path()), setup).await;
        Self { node, clock, _folder: folder }
    }

    /// Lets moments pass until an entry of this kind is in the journal.
    async fn has_journaled(&self, kind: &str) {
        let journaled = self.node.has_journaled(kind);
        let mut journaled = std::pin::pin!(journaled);
        while futures_util::FutureExt::now_or_never(journaled.as_mut()).is_none() {
            // Far less than what the turn waits for.
            self.clock.advance(Duration::from_micros(100));
            look_again().await;
        }
    }

    /// Waits until a Call's row with this error is in the ledger.
    async fn has_billed(&self, error: ErrorCode) {
        patient(async {
            while !self.node.ledger().await.iter().any(|row| row.error == Some(error)) {
                // Rows are written together, after a moment.
                self.clock.advance(Duration::from_millis(10));
                look_again().await;
            }
        })
        .await;
    }
}

/// A history that is just below what `route/kept-small` takes, and a question.
fn long(more: &str) -> Value {
    json!([
        { "role": "user", "content": "x".repeat(2_400) },
        { "role": "assistant", "content": "y".repeat(2_400) },
        { "role": "user", "content": format!("Go on.{more}") },
    ])
}

/// The same, beyond it.
fn too_long() -> Value {
    long(&"z".repeat(3_000))
}

const SUMMARY: Say = Say::Slow("Summarised ", "never");

#[tokio::test]
async fn a_turn_is_cancelled_while_it_waits_to_ask_again() {
    let still = Still::start().await;
    let node = &still.node;
    let busy = Failure::new(ErrorCode::RateLimited, "told to");
    node.script.say([Say::Fail(busy.retry_after(Duration::from_secs(4)))]);
    let asks = json!({ "input": "hi", "model": "route/two", "background": true });
    let turn = node.post(asks).await;
    node.script.was_asked(1).await;
    // What is known by then does not wait either.
    patient(still.has_journaled("model_lost")).await;
    let (id, key) = (turn.response_id().as_str(), node.key("ci").await);
    let cancelled = patient(node.sessions.cancel(&key, id)).await.unwrap();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(node.script.asked().len(), 1);
}

#[tokio::test]
async fn a_turn_is_cancelled_while_its_history_is_summarised() {
    let still = Still::start().await;
    let node = &still.node;
    let note = json!({ "text": "n".repeat(1_500) });
    node.script.say([Say::Tool("add_note", note), SUMMARY]);
    let asks = json!({ "input": long(""), "model": "route/kept-small", "background": true });
    let turn = node.post(with_notes(&asks)).await;
    node.script.was_asked(2).await;
    assert!(node.script.asked()[1].texts[0].contains("You compact"), "a summary is asked for");
    // The tool's outcome does not wait for the summary.
    patient(still.has_journaled("tool_outcome")).await;
    let (id, key) = (turn.response_id().as_str(), node.key("ci").await);
    let cancelled = patient(node.sessions.cancel(&key, id)).await.unwrap();
    assert_eq!(cancelled["status"], "cancelled");
    still.has_billed(ErrorCode::Cancelled).await;
}

#[tokio::test]
async fn a_client_that_goes_before_its_turn_has_begun_takes_the_summary_with_it() {
    let still = Still::start().await;
    let node = &still.node;
    node.script.say([SUMMARY]);
    let asks = || json!({ "input": too_long(), "model": "route/kept-small" });
    tokio::select! {
        _ = node.post(asks()) => panic!("it waits for the summary"),
        () = node.script.was_asked(1) => {}
    }
    still.has_billed(ErrorCode::Cancelled).await;
    assert!(node.sessions.list(all()).await.unwrap().is_empty(), "nothing was begun");

    node.script.say([Say::Text("All of it, briefly."), Say::Text("Here I am.")]);
    let response = patient(node.post(asks()).await.wait()).await.unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "Here I am.");
    let told = node.script.asked().last().unwrap().texts.concat();
    assert!(told.contains("All of it, briefly."), "{told}");
}

#[tokio::test]
async fn a_node_that_stops_begins_no_turn_and_waits_for_no_summary() {
    let still = Still::start().await;
    let node = &still.node;
    node.script.say([SUMMARY]);
    let asks = json!({ "input": too_long(), "model": "route/kept-small" });
    let post = node.try_post(asks, crate::PostIdentity::default());
    let stop = async {
        node.script.was_asked(1).await;
        node.shutdown.cancel();
    };
    let (posted, ()) = patient(futures_util::future::join(post, stop)).await;
    assert_eq!(posted.unwrap_err().failure.code, ErrorCode::Unavailable);
    assert!(node.sessions.list(all()).await.unwrap().is_empty(), "nothing was begun");
}
