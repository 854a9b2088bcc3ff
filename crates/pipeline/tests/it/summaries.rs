//! Summaries of histories: what pays for them, who waits for them, and what becomes of a Call whose
//! summary can't be had. `paid/m` is asked, `paid/n` summarises.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use futures_util::{FutureExt, StreamExt};
use pipeline::{Answer, Refused, StepTries};
use storage::{Commit, Scope, Store, WindowKind};
use types::call::{Allowed, CallKind, ModelCall, ModelHead, RouteAsk, RoutePolicy, StepRef};
use types::context::{CompactPolicy, ContextPolicy, Threshold};
use types::conversation::{Message, Role};
use types::error::Billed;
use types::ids::{CallId, SessionId, StepId};
use types::{Conversation, ErrorCode, Incoming, Money, OutcomeEvent};

use super::attempts::{failed, routed_by, start, text, whole};
use super::world::{NoFormat, Node, as_step, dollars, finish, request, rows, usage};

/// Bytes that the request is said to have: $0.016 of input at most, were all of it written to a
/// cache; with a cap of 100 tokens, $0.001.
const BODY_BYTES: u64 = 8_000 - 256;
/// What the Call itself costs at most.
const OWN: &str = "0.017";
/// Far longer than a client may be left without a byte.
const LONG: Duration = Duration::from_secs(60);

async fn compacting(folder: &tempfile::TempDir) -> Node {
    routed_by(folder, &["paid/m"], policy()).await
}

/// Summarises what is larger than 2,000 tokens.
pub(crate) fn policy() -> RoutePolicy {
    let compact = CompactPolicy {
        at: Threshold { tokens: Some(2_000), percent: None },
        model: "paid/n".to_owned(),
        keep_tokens: 0,
        summary_tokens: 64,
    };
    let context = ContextPolicy { clear: None, compact: Some(compact) };
    RoutePolicy { context: Some(Arc::new(context)), ..RoutePolicy::OF_ROUTE }
}

/// A history that is to be summarised: of each word another one.
pub(crate) fn history(word: &str) -> Incoming {
    let long = |role| Message::text(role, word.repeat(3_000 / word.len()));
    let messages =
        vec![long(Role::User), long(Role::Assistant), long(Role::User), long(Role::Assistant)];
    let mut conversation = Conversation { messages, ..Conversation::default() };
    conversation.messages.push(Message::text(Role::User, "go on"));
    let head = ModelHead {
        model: "route/r".to_owned(),
        output_cap: Some(100),
        choices: 1,
        body_bytes: BODY_BYTES,
        ..ModelHead::default()
    };
    let model = ModelCall::from_neutral(&NoFormat, head, Arc::new(conversation));
    Incoming { kind: CallKind::Model(model), ..request("ci", "route/r", None) }
}

/// What `holdfast-context` says of the summary.
fn summary_of(answer: &Answer) -> String {
    let context = answer.bill().context.expect("something was done with its history");
    context.split("summary=").nth(1).expect("a summary was due").to_owned()
}

fn answered(answer: Result<Answer, Box<Refused>>) -> Answer {
    answer.expect("the Call goes on")
}

fn only_summary(node: &Node) -> CallId {
    let mut calls = node.targets.calls_at("paid/n");
    assert_eq!(calls.len(), 1, "one summary is asked for");
    calls.remove(0)
}

#[tokio::test]
async fn those_who_want_the_same_summary_at_once_pay_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let node = compacting(&folder).await;
    node.targets.script("paid/n", []);
    let both = join(node.pipeline.run(history("ab")), node.pipeline.run(history("ab")));
    let mut both = Box::pin(both);
    assert!(both.as_mut().now_or_never().is_none());
    let summary = only_summary(&node);
    for event in [start("n"), text(), finish(Some(usage(1_000, 10)))] {
        node.tell(&summary, event);
    }
    let (first, second) = both.await;
    let (first, second) = (answered(first), answered(second));
    assert_eq!(summary_of(&first), summary.to_string());
    assert_eq!(summary_of(&second), "kept");
    drop((first, second));
    node.stop().await;
}

#[tokio::test]
async fn those_who_wait_for_a_summary_that_fails_do_not_ask_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = compacting(&folder).await;
    node.targets.script("paid/n", []);
    let both = join(node.pipeline.run(history("ab")), node.pipeline.run(history("ab")));
    let mut both = Box::pin(both);
    assert!(both.as_mut().now_or_never().is_none());
    let summary = only_summary(&node);
    node.tell(&summary, failed(ErrorCode::UpstreamFailed, Billed::No));
    let (first, second) = both.now_or_never().expect("nobody waits for another one");
    for answer in [answered(first), answered(second)] {
        assert_eq!(summary_of(&answer), "missing:upstream_failed");
    }
    only_summary(&node);
    // After a while it is asked for again.
    node.clock.advance(Duration::from_secs(31));
    node.targets.script("paid/n", whole("n"));
    let answer = answered(node.pipeline.run(history("ab")).await);
    assert!(summary_of(&answer).starts_with("hfc_"));
    drop(answer);
    node.stop().await;
}

#[tokio::test]
async fn one_callers_cap_does_not_keep_a_summary_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let node = compacting(&folder).await;
    let mut capped = history("ab");
    capped.headers.budget = Some(dollars("0.018"));
    let answer = answered(node.pipeline.run(capped).await);
    assert_eq!(summary_of(&answer), "missing:budget_exceeded");
    assert!(node.targets.calls_at("paid/n").is_empty());
    node.targets.script("paid/n", whole("n"));
    let other = answered(node.pipeline.run(history("ab")).await);
    assert!(summary_of(&other).starts_with("hfc_"));
    drop((answer, other));
    node.stop().await;
}

#[tokio::test]
async fn a_summary_ends_with_the_call_that_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = compacting(&folder).await;
    let budget = node.budget(Scope::Account, dollars("1.00"), WindowKind::Day).await;
    node.targets.script("paid/n", []);
    {
        let mut run = Box::pin(node.pipeline.run(history("ab")));
        while run.as_mut().now_or_never().is_none() && node.targets.calls_at("paid/n").is_empty() {
            tokio::task::yield_now().await;
        }
    }
    let summary = only_summary(&node);
    node.pipeline.flush().await.unwrap();
    let row = rows(&node, &summary).await.remove(0);
    assert_eq!(row.error, Some(ErrorCode::Cancelled));
    assert!(row.unreconciled > Money::ZERO && row.parent.is_some());
    let totals = super::world::totals(&node, &budget).await;
    assert_eq!(totals.unreconciled, row.unreconciled, "the Call itself gave all back");
    node.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_a_summary_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let node = compacting(&folder).await;
    node.targets.script("paid/n", []);
    let mut run = Box::pin(node.pipeline.run(history("ab")));
    assert!(run.as_mut().now_or_never().is_none());
    let summary = only_summary(&node);
    node.clock.advance(LONG);
    let answer = answered(run.await);
    assert_eq!(summary_of(&answer), "missing:upstream_timeout");
    node.pipeline.flush().await.unwrap();
    assert!(rows(&node, &summary).await[0].unreconciled > Money::ZERO);
    drop(answer);
    node.stop().await;
}

fn step(node: &Node) -> StepRef {
    let session = SessionId::new(&node.ids);
    StepRef { begun: false, root: session.clone(), session, step: StepId::new(&node.ids) }
}

#[tokio::test]
async fn a_summary_does_not_take_the_money_of_the_step_that_wants_it() {
    for (limit, summarised) in [("0.018", false), ("0.080", true)] {
        let folder = tempfile::tempdir().unwrap();
        let node = compacting(&folder).await;
        node.budget(Scope::Account, dollars(limit), WindowKind::Day).await;
        node.targets.script("paid/n", whole("n"));
        let incoming = as_step(history("ab"), step(&node));
        let admission = node.pipeline.admit_step(incoming).await.unwrap();
        assert_eq!(!node.targets.calls_at("paid/n").is_empty(), summarised, "with ${limit}");
        let reservation = admission.reservation.clone().unwrap();
        assert_eq!(reservation.amount, dollars(OWN));
        let commit = || Commit { reservations: vec![reservation.clone()], ..Commit::default() };
        if node.store.commit(commit()).await.is_err() {
            node.pipeline.make_room(&admission).await.unwrap();
            node.store.commit(commit()).await.expect("the step has its place");
        }
        node.targets.script("paid/m", whole("m"));
        let mut run = node.pipeline.run_step(admission);
        while run.next().await.is_some() {}
        let ledger = vec![run.into_row()];
        node.store.commit(Commit { ledger, ..Commit::default() }).await.unwrap();
        node.stop().await;
    }
}

#[tokio::test]
async fn a_summary_counts_against_the_callers_cap_of_a_steps_next_try() {
    let folder = tempfile::tempdir().unwrap();
    let node = compacting(&folder).await;
    let step = step(&node);
    let asked = || {
        let mut incoming = as_step(history("ab"), step.clone());
        // Enough for two tries, and not for a summary beside them.
        incoming.headers.budget = Some(dollars("0.048"));
        incoming
    };
    let mut tries = StepTries::default();
    node.targets.script("paid/n", [start("n"), text(), finish(Some(usage(14_500, 10)))]);
    let first = node.pipeline.admit_step_again(asked(), &mut tries).await.unwrap();
    only_summary(&node);
    node.targets.script("paid/m", [failed(ErrorCode::UpstreamFailed, Billed::Unknown)]);
    let mut run = node.pipeline.run_step(first);
    let Some(OutcomeEvent::Failed(failure)) = run.next().await else { panic!("it failed") };
    assert!(run.next_try(&mut tries, &failure).is_some());
    tries.charge(&run.into_row());
    let refused = node.pipeline.admit_step_again(asked(), &mut tries).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    node.stop().await;
}

#[tokio::test]
async fn a_summary_that_its_callers_time_ended_is_asked_for_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let node = compacting(&folder).await;
    node.targets.script("paid/n", []);
    let mut hasty = history("ab");
    let time = Some(Duration::from_secs(2));
    hasty.headers.asks = Some(Box::new(RouteAsk { time, ..RouteAsk::default() }));
    let mut run = Box::pin(node.pipeline.run(hasty));
    assert!(run.as_mut().now_or_never().is_none());
    only_summary(&node);
    node.clock.advance(Duration::from_secs(2));
    drop(run.now_or_never().expect("it waits no longer than its Call may take"));
    node.targets.script("paid/n", whole("n"));
    let other = answered(node.pipeline.run(history("ab")).await);
    assert!(summary_of(&other).starts_with("hfc_"), "{}", summary_of(&other));
    drop(other);
    node.stop().await;
}

#[tokio::test]
async fn a_model_that_the_request_does_not_allow_is_not_told_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let node = compacting(&folder).await;
    let mut limited = history("ab");
    let allowed = Allowed { models: Some(vec!["paid/m".to_owned()]), providers: None };
    limited.headers.asks =
        Some(Box::new(RouteAsk { allowed: Some(allowed), ..RouteAsk::default() }));
    let answer = answered(node.pipeline.run(limited).await);
    assert_eq!(summary_of(&answer), "missing:permission_denied");
    assert!(node.targets.calls_at("paid/n").is_empty());
    node.targets.script("paid/n", whole("n"));
    let other = answered(node.pipeline.run(history("ab")).await);
    assert!(summary_of(&other).starts_with("hfc_"));
    drop((answer, other));
    node.stop().await;
}
