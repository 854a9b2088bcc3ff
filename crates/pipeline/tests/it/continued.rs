//! An answer that breaks off in its middle goes on where the next target can.

use std::sync::Arc;

use futures_util::StreamExt;
use pipeline::Answer;
use storage::{Scope, WindowKind};
use types::call::{CallKind, ModelCall, ModelHead, RoutePolicy};
use types::conversation::{Conversation, Message, OutputShape, Role};
use types::error::Billed;
use types::outcome::Delta;
use types::{ErrorCode, Incoming, Money, OutcomeEvent};

use super::attempts::{BOUND, amounts, asked, ends, failed, routed_by, start};
use super::world::{NoFormat, Node, dollars, finish, rows, usage};

async fn routed(folder: &tempfile::TempDir, targets: &[&str], continuing: &[&str]) -> Node {
    let node = routed_by(folder, targets, RoutePolicy::OF_ROUTE).await;
    *node.targets.continuing.lock().unwrap() = continuing.iter().map(ToString::to_string).collect();
    node
}

/// A streamed request in neutral form, of at most 1,000 tokens in and 100 out.
fn streamed(change: impl FnOnce(&mut Conversation)) -> Incoming {
    let mut incoming = asked();
    let CallKind::Model(model) = &incoming.kind else { panic!("a model is asked") };
    let head = ModelHead { stream: true, ..model.head.clone() };
    let mut conversation = Conversation {
        messages: vec![Message::text(Role::User, "say something")],
        output_cap: head.output_cap,
        ..Conversation::default()
    };
    change(&mut conversation);
    let model = ModelCall::from_neutral(&NoFormat, head, Arc::new(conversation));
    incoming.kind = CallKind::Model(model);
    incoming
}

fn text(piece: &str) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: None, delta: Some(Delta::Text { text: piece.to_owned() }) }
}

fn cut(billed: Billed) -> OutcomeEvent {
    failed(ErrorCode::StreamCut, billed)
}

fn end() -> OutcomeEvent {
    finish(Some(usage(100, 10)))
}

/// The starts that a client sees, the text, and how it ends.
async fn read(answer: &mut Answer) -> (usize, String, String) {
    let (mut starts, mut said, mut ends) = (0, String::new(), Vec::new());
    while let Some(event) = answer.next().await {
        match event {
            OutcomeEvent::Start(_) => starts += 1,
            OutcomeEvent::Frame { delta: Some(Delta::Text { text }), .. } => said.push_str(&text),
            OutcomeEvent::Frame { .. } => {}
            OutcomeEvent::Finish(_) => ends.push("finish".to_owned()),
            OutcomeEvent::Failed(failure) => ends.push(failure.code.to_string()),
        }
    }
    (starts, said, ends.join(" "))
}

fn whole(said: &str) -> (usize, String, String) {
    (1, said.to_owned(), "finish".to_owned())
}

#[tokio::test]
async fn the_next_target_goes_on_and_the_client_reads_one_text() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"], &["paid/m"]).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let broken = [start("demo"), text("one "), text("two "), cut(Billed::Unknown)];
    node.targets.script("local/demo", broken);
    node.targets.script("paid/m", [start("m"), text(" "), text("three"), end()]);
    let mut answer = node.pipeline.run(streamed(|_| {})).await.unwrap();
    assert_eq!(read(&mut answer).await, whole("one two three"));
    assert_eq!(node.targets.asked(), ["local/demo", "paid/m"]);
    let told = std::mem::take(&mut *node.targets.begun.lock().unwrap());
    assert_eq!(told, [None, Some("one two".to_owned())]);
    let caps: Vec<_> = node.targets.attempts.lock().unwrap().iter().map(|made| made.1).collect();
    assert_eq!(caps, [None, None], "the client's own cap, less what was said, is in the request");
    let ends = ends(&node, &answer).await;
    assert_eq!(ends[0].1, Some(ErrorCode::StreamCut));
    assert_eq!((ends[1].1, ends[1].2), (None, dollars("0.0002")));
    let rows = rows(&node, &answer.call.id).await;
    assert_eq!(rows[0].notes.get("continued"), None);
    assert_eq!(rows[1].notes.get("continued"), Some(&true.into()));
    assert_eq!(amounts(&node).await, [dollars("0.0002"), Money::ZERO, Money::ZERO]);
    assert_eq!(answer.bill().attempts, 2);
    node.stop().await;
}

#[tokio::test]
async fn what_goes_on_is_paid_for_beside_what_was_cut() {
    for (limit, goes_on) in [("0.0066", true), ("0.0065", false)] {
        let folder = tempfile::tempdir().unwrap();
        let node = routed(&folder, &["paid/m", "paid/n"], &["paid/n"]).await;
        // What was said counts as input, so that two bounds of the whole are not enough.
        node.budget(Scope::Account, dollars(limit), WindowKind::Total).await;
        let said = text(&"x".repeat(100));
        node.targets.script("paid/m", [start("m"), said, cut(Billed::Unknown)]);
        node.targets.script("paid/n", [start("n"), text("y"), end()]);
        let mut answer = node.pipeline.run(streamed(|_| {})).await.unwrap();
        let (starts, said, end) = read(&mut answer).await;
        assert_eq!((starts, said.len()), (1, if goes_on { 101 } else { 100 }));
        assert_eq!(end, if goes_on { "finish" } else { "stream_cut" });
        let settled = if goes_on { dollars("0.0002") } else { Money::ZERO };
        assert_eq!(amounts(&node).await, [settled, dollars(BOUND), Money::ZERO]);
        node.stop().await;
    }
}

#[tokio::test]
async fn one_that_continues_may_break_off_too() {
    let folder = tempfile::tempdir().unwrap();
    let both = ["paid/m", "paid/n"];
    let node = routed(&folder, &both, &both).await;
    node.targets.script("paid/m", [start("m"), text("a"), cut(Billed::Unknown)]);
    node.targets.script("paid/n", [start("n"), text("b"), cut(Billed::Unknown)]);
    node.targets.script("paid/n", [start("n"), text("c"), end()]);
    let mut answer = node.pipeline.run(streamed(|_| {})).await.unwrap();
    Node::begin_until(&mut answer, 3).await;
    node.clock.advance(RoutePolicy::OF_ROUTE.wait_max);
    let (starts, said, end) = read(&mut answer).await;
    assert_eq!((starts, said.as_str(), end.as_str()), (0, "c", "finish"));
    let told = std::mem::take(&mut *node.targets.begun.lock().unwrap());
    assert_eq!(told, [None, Some("a".to_owned()), Some("ab".to_owned())]);
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_continued_ends_as_it_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"], &["paid/m"]).await;
    let called = Delta::ToolCallStart { index: 0, id: "c".to_owned(), name: "f".to_owned() };
    let called = OutcomeEvent::Frame { raw: None, delta: Some(called) };
    let shaped = |asked: &mut Conversation| asked.output_shape = OutputShape::JsonObject;
    let plain = |_: &mut Conversation| {};
    let cases = [(called, streamed(plain)), (text("more"), streamed(shaped))];
    for (second, asked) in cases {
        let broken = [start("demo"), text("so"), second, cut(Billed::No)];
        node.targets.script("local/demo", broken);
        let mut answer = node.pipeline.run(asked).await.unwrap();
        assert_eq!(read(&mut answer).await.2, "stream_cut");
        assert_eq!(node.targets.asked(), ["local/demo"]);
    }
    // Nor where nobody is left who can.
    node.targets.continuing.lock().unwrap().clear();
    node.targets.script("local/demo", [start("demo"), text("so"), cut(Billed::No)]);
    let mut answer = node.pipeline.run(streamed(plain)).await.unwrap();
    assert_eq!(read(&mut answer).await, (1, "so".to_owned(), "stream_cut".to_owned()));
    assert_eq!(node.targets.asked(), ["local/demo"]);
    node.stop().await;
}

#[tokio::test]
async fn a_rest_that_comes_as_thinking_is_no_rest() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"], &["paid/m"]).await;
    let thought = Delta::Reasoning { text: "three".to_owned() };
    let thought = OutcomeEvent::Frame { raw: None, delta: Some(thought) };
    node.targets.script("local/demo", [start("demo"), text("one two"), cut(Billed::No)]);
    node.targets.script("paid/m", [start("m"), thought, end()]);
    let mut answer = node.pipeline.run(streamed(|_| {})).await.unwrap();
    assert_eq!(read(&mut answer).await, (1, "one two".to_owned(), "stream_cut".to_owned()));
    assert_eq!(node.targets.asked(), ["local/demo", "paid/m"]);
    node.stop().await;
}

#[tokio::test]
async fn a_refused_beginning_does_not_hide_why_the_answer_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"], &["paid/m"]).await;
    node.targets.script("local/demo", [start("demo"), text("so"), cut(Billed::No)]);
    node.targets.script("paid/m", [failed(ErrorCode::InvalidRequest, Billed::No)]);
    let mut answer = node.pipeline.run(streamed(|_| {})).await.unwrap();
    assert_eq!(read(&mut answer).await, (1, "so".to_owned(), "stream_cut".to_owned()));
    node.stop().await;
}
