//! Calls that were given a time: what ends with it, what it costs, and what their client is told.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use storage::{Scope, WindowKind};
use types::call::{RouteAsk, RoutePolicy};
use types::cascade::{CascadePolicy, Pattern};
use types::error::Billed;
use types::{ErrorCode, Incoming, Money, OutcomeEvent};

use super::attempts::{
    BOUND, amounts, asked, ends, failed, read, routed_by, start, streamed, text, whole,
};
use super::world::{Node, as_step, dollars, request};

/// The time that these Calls are given.
const TIME: Duration = Duration::from_secs(2);
const LATE: &str = "deadline_exceeded";

fn in_time(mut incoming: Incoming) -> Incoming {
    let asks = RouteAsk { time: Some(TIME), ..RouteAsk::default() };
    incoming.headers.asks = Some(Box::new(asks));
    incoming
}

async fn node(folder: &tempfile::TempDir, policy: RoutePolicy) -> Node {
    let node = routed_by(folder, &["paid/m", "paid/n"], policy).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    node
}

#[tokio::test]
async fn what_runs_ends_with_the_calls_time_and_is_charged_as_what_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder, RoutePolicy::OF_ROUTE).await;
    let mut answer = node.pipeline.run(in_time(asked())).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(TIME);
    assert_eq!(read(&mut answer).await, [format!("{LATE} Unknown")]);
    let row = ("paid/m".to_owned(), Some(ErrorCode::DeadlineExceeded), Money::ZERO, dollars(BOUND));
    assert_eq!(ends(&node, &answer).await, [row], "no other target is asked");
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), Money::ZERO]);
    // The time was its caller's: it says nothing about the target, however often.
    for _ in 0..4 {
        let mut answer = node.pipeline.run(in_time(asked())).await.unwrap();
        Node::begin(&mut answer);
        node.clock.advance(TIME);
        read(&mut answer).await;
    }
    node.targets.script("paid/m", whole("m"));
    let mut answer = node.pipeline.run(in_time(asked())).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    node.stop().await;
}

#[tokio::test]
async fn a_stream_ends_in_the_error_and_what_was_not_sent_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder, RoutePolicy::OF_ROUTE).await;
    let mut answer = node.pipeline.run(in_time(streamed())).await.unwrap();
    [start("m"), text()].into_iter().for_each(|event| node.tell(&answer.call.id, event));
    assert!(answer.next().await.is_some() && answer.next().await.is_some());
    assert!(answer.next().now_or_never().is_none());
    node.clock.advance(TIME);
    assert_eq!(read(&mut answer).await, [format!("{LATE} Unknown")]);
    node.targets.withhold.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut waits = node.pipeline.run(in_time(streamed())).await.unwrap();
    Node::begin(&mut waits);
    node.clock.advance(TIME);
    assert_eq!(read(&mut waits).await, [format!("{LATE} No")]);
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_wait_before_a_retry_is_no_longer_than_the_time_that_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let backoff = Duration::from_secs(4);
    let policy = RoutePolicy { backoff, wait_max: backoff, ..RoutePolicy::OF_ROUTE };
    let node = routed_by(&folder, &["paid/m"], policy).await;
    let ask = || in_time(asked());
    node.targets.script("paid/m", [failed(ErrorCode::UpstreamFailed, Billed::No)]);
    let mut answer = node.pipeline.run(ask()).await.unwrap();
    // The wait has jitter: either it would be too long, and the failure is told at once, or the
    // time ends what follows it.
    Node::begin(&mut answer);
    node.clock.advance(TIME);
    let seen = read(&mut answer).await;
    let fits = [vec!["upstream_failed No".to_owned()], vec![format!("{LATE} No")]];
    assert!(fits.contains(&seen) || seen == [format!("{LATE} Unknown")], "{seen:?}");
    node.stop().await;
}

#[tokio::test]
async fn both_of_a_hedge_end_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let after = Duration::from_millis(800);
    let policy = RoutePolicy { hedge_after: Some(after), ..RoutePolicy::OF_ROUTE };
    let node = node(&folder, policy).await;
    let mut answer = node.pipeline.run(in_time(streamed())).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(after);
    Node::begin(&mut answer);
    node.quiet().await;
    Node::begin(&mut answer);
    node.clock.advance(TIME);
    assert_eq!(read(&mut answer).await, [format!("{LATE} Unknown")]);
    let codes: Vec<_> = ends(&node, &answer).await.into_iter().map(|row| row.1).collect();
    assert_eq!(codes, [Some(ErrorCode::DeadlineExceeded); 2]);
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars("0.006"), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_rejected_is_better_than_none() {
    let folder = tempfile::tempdir().unwrap();
    let cascade = CascadePolicy {
        must_not_match: vec![Pattern::new("hi").unwrap()],
        ..CascadePolicy::default()
    };
    let cascade = Some(std::sync::Arc::new(cascade));
    let node = node(&folder, RoutePolicy { cascade, ..RoutePolicy::OF_ROUTE }).await;
    node.targets.script("paid/m", whole("m"));
    let mut answer = node.pipeline.run(in_time(asked())).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(TIME);
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    assert!(answer.bill().cascade.unwrap().starts_with("rejected"));
    node.stop().await;
}

#[tokio::test]
async fn a_route_gives_a_time_too_and_the_shorter_one_holds() {
    let folder = tempfile::tempdir().unwrap();
    let policy = RoutePolicy { timeout: Some(TIME / 2), ..RoutePolicy::OF_ROUTE };
    let node = node(&folder, policy).await;
    for incoming in [asked(), in_time(asked())] {
        let mut answer = node.pipeline.run(incoming).await.unwrap();
        assert_eq!(answer.call.time, Some(TIME / 2));
        Node::begin(&mut answer);
        node.clock.advance(TIME / 2);
        assert_eq!(read(&mut answer).await, [format!("{LATE} Unknown")]);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_step_ends_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder, RoutePolicy::OF_ROUTE).await;
    let session = types::ids::SessionId::new(&node.ids);
    let step = types::ids::StepId::new(&node.ids);
    let step = types::call::StepRef { begun: false, root: session.clone(), session, step };
    let incoming = as_step(in_time(request("ci", "route/r", Some(100))), step);
    let admission = node.pipeline.admit_step(incoming).await.unwrap();
    let mut run = node.pipeline.run_step(admission);
    assert!(run.next().now_or_never().is_none());
    node.clock.advance(TIME);
    let Some(OutcomeEvent::Failed(failure)) = run.next().await else { panic!("it goes on") };
    assert_eq!((failure.code, failure.billed), (ErrorCode::DeadlineExceeded, Billed::Unknown));
    assert!(run.next().await.is_none());
    let mut tries = pipeline::StepTries::default();
    let failure = types::Failure::new(ErrorCode::DeadlineExceeded, "told to");
    assert_eq!(run.next_try(&mut tries, &failure), None);
    assert_eq!(run.into_row().error, Some(ErrorCode::DeadlineExceeded));
    node.stop().await;
}

/// A failure after which the target is to be asked again when the time is over.
fn comes_back_late() -> OutcomeEvent {
    let mut failure = types::Failure::new(ErrorCode::RateLimited, "told to").billed(Billed::No);
    failure.retry_after = Some(TIME);
    OutcomeEvent::Failed(Box::new(failure))
}

fn patient() -> RoutePolicy {
    RoutePolicy { wait_max: TIME * 2, ..RoutePolicy::OF_ROUTE }
}

#[tokio::test]
async fn another_target_is_asked_where_there_is_no_time_to_wait_for_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder, patient()).await;
    node.targets.script("paid/m", [comes_back_late()]);
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(in_time(asked())).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    node.stop().await;
}

#[tokio::test]
async fn the_tries_of_a_step_have_one_time_together_and_go_on_elsewhere_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let policy = RoutePolicy { timeout: Some(TIME), ..patient() };
    let node = node(&folder, policy).await;
    let session = types::ids::SessionId::new(&node.ids);
    let step = types::ids::StepId::new(&node.ids);
    let step = types::call::StepRef { root: session.clone(), session, step, begun: false };
    let incoming = || as_step(request("ci", "route/r", Some(100)), step.clone());
    let mut tries = pipeline::StepTries::default();
    let first = node.pipeline.admit_step_again(incoming(), &mut tries).await.unwrap();
    let deadline = first.call.deadline;
    node.targets.script("paid/m", [comes_back_late()]);
    let mut run = node.pipeline.run_step(first);
    node.clock.advance(TIME / 2);
    let Some(OutcomeEvent::Failed(failure)) = run.next().await else { panic!("it failed") };
    assert_eq!(run.next_try(&mut tries, &failure), Some(Duration::ZERO));
    drop(run.into_row());
    let second = node.pipeline.admit_step_again(incoming(), &mut tries).await.unwrap();
    assert_eq!(&*second.target().name, "paid/n");
    assert_eq!(second.call.deadline, deadline);
    drop(second);
    node.stop().await;
}
