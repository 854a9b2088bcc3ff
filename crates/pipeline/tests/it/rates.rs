//! Limits on rate: what is admitted, what comes back, who waits and whose turn it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use pipeline::rates::{Each, Kind, RateQueue, RateScope, Technique};
use pipeline::{Answer, RateLimit, Refused, RouteInfo, StepTries};
use types::call::{Credential, Operation, RoutePolicy, StepRef};
use types::error::Billed;
use types::ids::{SessionId, StepId};
use types::outcome::Start;
use types::principal::DEFAULT_ACCOUNT;
use types::{CallKind, ErrorCode, Failure, Incoming, OutcomeEvent};

use super::attempts::{routed_by, whole};
use super::summaries::{history, policy};
use super::world::{
    MORNING, Node, as_step, database, dollars, finish, in_any_order, node, node_with, request,
    usage,
};

const MINUTE: Duration = Duration::from_mins(1);
/// What a request of the world's with this output cap is held at: 1,000 input tokens beside it.
const CAP: u64 = 100;
const BOUND: u64 = 1_100;

fn limit(name: &str, most: &[(Kind, u64)]) -> RateLimit {
    RateLimit {
        account: DEFAULT_ACCOUNT.to_owned(),
        name: name.to_owned(),
        scope: RateScope::default(),
        each: None,
        most: most.to_vec(),
        per: MINUTE,
        technique: Technique::Sliding,
        concurrency: None,
        queue: None,
    }
}

fn at_once(most: u32, queue: Option<(u32, u64)>) -> RateLimit {
    let queue = queue.map(|(calls, seconds)| RateQueue {
        calls,
        time: Duration::from_secs(seconds),
        weights: BTreeMap::new(),
    });
    RateLimit { concurrency: Some(most), queue, ..limit("slots", &[]) }
}

fn set(node: &Node, limits: &[RateLimit]) {
    node.directory.rates().set(limits.to_vec());
}

fn asked(key: &str) -> Incoming {
    request(key, "paid/m", Some(CAP))
}

fn of_session(name: &str) -> Incoming {
    let mut incoming = asked("ci");
    incoming.headers.session_name = Some(name.to_owned());
    incoming
}

async fn run(node: &Node, incoming: Incoming) -> Result<Answer, Box<Refused>> {
    Box::pin(node.pipeline.run(incoming)).await
}

async fn refused(node: &Node, incoming: Incoming) -> Failure {
    let failure = run(node, incoming).await.unwrap_err().failure;
    assert_eq!(failure.code, ErrorCode::RateLimited, "{failure:?}");
    failure
}

/// So much counts now of the limit of that name.
fn used(node: &Node, name: &str) -> Vec<u64> {
    let now = types::Clock::monotonic(&*node.clock);
    let all = node.directory.rates().status(DEFAULT_ACCOUNT, now);
    let status = all.into_iter().find(|status| status.limit.name == name).unwrap();
    status.used.iter().map(|used| used.used).collect()
}

/// Calls that run under the limit of that name, and those that wait.
fn running(node: &Node, name: &str) -> (Option<u32>, u32) {
    let now = types::Clock::monotonic(&*node.clock);
    let all = node.directory.rates().status(DEFAULT_ACCOUNT, now);
    let status = all.into_iter().find(|status| status.limit.name == name).unwrap();
    (status.running, status.waiting)
}

#[tokio::test]
async fn no_more_requests_are_admitted_than_the_limit_allows() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[limit("few", &[(Kind::Requests, 2)])]);
    for _ in 0..2 {
        let answer = run(&node, asked("ci")).await.unwrap();
        node.finish(answer, Some(usage(1, 1))).await;
    }
    node.clock.advance(Duration::from_secs(40));
    // A wall clock that jumps changes nothing.
    node.clock.jump_to(MORNING);
    let failure = refused(&node, asked("other")).await;
    assert_eq!(failure.retry_after, Some(Duration::from_secs(20)));
    assert!(failure.message.ends_with("try again in 20s"), "{}", failure.message);
    let headroom = failure.headroom.unwrap().requests.unwrap();
    assert_eq!((headroom.limit, headroom.remaining), (2, 0));
    assert_eq!(headroom.reset, Duration::from_secs(20));
    node.clock.advance(Duration::from_secs(20));
    let answer = run(&node, asked("ci")).await.unwrap();
    let left = node.pipeline.headroom(&answer.call).unwrap().requests.unwrap();
    assert_eq!(left.remaining, 1);
    node.finish(answer, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn tokens_and_cost_are_held_at_the_bound_and_settled_at_what_was_used() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    // At the world's prices the bound is $0.003 with a prompt cache.
    let most = [
        (Kind::Requests, 100),
        (Kind::Tokens, 3_000),
        (Kind::InputTokens, 3_000),
        (Kind::OutputTokens, 1_000),
        (Kind::Cost, 1_000_000_000),
    ];
    set(&node, &[limit("all", &most)]);
    let first = run(&node, asked("ci")).await.unwrap();
    assert_eq!(used(&node, "all"), [1, BOUND, 1_000, CAP, 3_000_000]);
    let second = run(&node, asked("ci")).await.unwrap();
    let failure = refused(&node, asked("ci")).await;
    assert!(failure.message.contains("may need 1100 tokens"), "{}", failure.message);
    node.finish(first, Some(usage(100, 10))).await;
    assert_eq!(used(&node, "all"), [2, BOUND + 110, 1_100, CAP + 10, 3_200_000]);
    // Nobody knows what it used: it stays held.
    node.finish(second, None).await;
    assert_eq!(used(&node, "all"), [2, BOUND + 110, 1_100, CAP + 10, 3_200_000]);
    // A client that leaves before anything was sent used nothing.
    let third = run(&node, asked("ci")).await.unwrap();
    drop(third);
    assert_eq!(used(&node, "all")[1..], [BOUND + 110, 1_100, CAP + 10, 3_200_000]);
    // And one that leaves in the middle, all that was held.
    let mut fourth = run(&node, asked("ci")).await.unwrap();
    Node::begin(&mut fourth);
    drop(fourth);
    assert_eq!(used(&node, "all")[1], 2 * BOUND + 110);
    node.clock.advance(MINUTE);
    assert_eq!(used(&node, "all"), [0; 5]);
    node.stop().await;
}

#[tokio::test]
async fn what_can_never_be_admitted_is_told_to_send_less() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[limit("small", &[(Kind::Tokens, BOUND - 1)])]);
    let failure = run(&node, asked("ci")).await.unwrap_err().failure;
    assert_eq!(failure.code, ErrorCode::TooLarge);
    assert!(failure.message.contains("send less"), "{}", failure.message);
    node.stop().await;
}

#[tokio::test]
async fn a_call_without_a_cap_gets_one_that_a_limit_can_hold() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let cap = async |limits: &[RateLimit]| {
        set(&node, limits);
        let mut answer = run(&node, request("ci", "paid/m", None)).await.unwrap();
        Node::begin(&mut answer);
        let (_, _, cap) = node.targets.newest(&answer.call.id);
        node.finish(answer, Some(usage(1, 1))).await;
        cap
    };
    assert_eq!(cap(&[]).await, None);
    assert_eq!(cap(&[limit("many", &[(Kind::Requests, 5)])]).await, None);
    assert_eq!(cap(&[limit("large", &[(Kind::Tokens, 10_000_000)])]).await, Some(32_768));
    assert_eq!(cap(&[limit("middle", &[(Kind::OutputTokens, 40_000)])]).await, Some(10_000));
    assert_eq!(cap(&[limit("low", &[(Kind::Tokens, 6_000)])]).await, Some(4_096));
    // A quarter of $0.40 less the input, at $10 a million.
    let cost = cap(&[limit("cost", &[(Kind::Cost, 400_000_000)])]).await.unwrap();
    assert!((9_000..10_000).contains(&cost), "{cost}");
    node.stop().await;
}

#[tokio::test]
async fn a_model_without_a_price_is_not_free_under_a_limit_on_cost() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[limit("cost", &[(Kind::Cost, 1_000_000_000)])]);
    let failure = run(&node, request("ci", "paid/unpriced", Some(CAP))).await.unwrap_err().failure;
    assert_eq!(failure.code, ErrorCode::PriceUnknown);
    let free = run(&node, request("ci", "local/demo", Some(CAP))).await.unwrap();
    node.finish(free, Some(usage(1, 1))).await;
    assert_eq!(used(&node, "cost"), [0]);
    node.stop().await;
}

#[tokio::test]
async fn a_limit_counts_those_whom_its_scope_names_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let some = |text: &str| Some(text.to_owned());
    let scoped =
        |name: &str, scope: RateScope| RateLimit { scope, ..limit(name, &[(Kind::Requests, 1)]) };
    let limits = [
        scoped("key", RateScope { key: some("ci"), class: some("batch"), ..RateScope::default() }),
        scoped("user", RateScope { user: some("nobody"), ..RateScope::default() }),
        scoped("model", RateScope { model: some("local/demo"), ..RateScope::default() }),
        RateLimit { account: "other".to_owned(), ..limit("else", &[(Kind::Requests, 1)]) },
    ];
    set(&node, &limits);
    let of_class = |key: &str, class: &str| {
        let mut incoming = asked(key);
        incoming.headers.class = Some(class.to_owned());
        incoming
    };
    let batch = run(&node, of_class("ci", "batch")).await.unwrap();
    assert_eq!(refused(&node, of_class("ci", "batch")).await.headroom.unwrap().tokens, None);
    for _ in 0..3 {
        let others = [of_class("ci", "agent"), of_class("other", "batch"), asked("ci")];
        for other in others {
            let answer = run(&node, other).await.unwrap();
            node.finish(answer, Some(usage(1, 1))).await;
        }
    }
    node.finish(batch, Some(usage(1, 1))).await;
    let demo = || request("other", "local/demo", Some(CAP));
    let local = run(&node, demo()).await.unwrap();
    refused(&node, demo()).await;
    node.finish(local, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn each_is_counted_apart_and_nobody_escapes_by_saying_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[RateLimit { each: Some(Each::Session), ..limit("each", &[(Kind::Requests, 1)]) }]);
    for name in ["a", "b", "c"] {
        let answer = run(&node, of_session(name)).await.unwrap();
        node.finish(answer, Some(usage(1, 1))).await;
        refused(&node, of_session(name)).await;
    }
    // What is in no session counts as its key's.
    for key in ["ci", "other"] {
        let answer = run(&node, asked(key)).await.unwrap();
        node.finish(answer, Some(usage(1, 1))).await;
        refused(&node, asked(key)).await;
    }
    set(&node, &[RateLimit { each: Some(Each::Task), ..limit("task", &[(Kind::Requests, 1)]) }]);
    for _ in 0..2 {
        let mut incoming = asked("ci");
        incoming.headers.task = Some("t".to_owned());
        let answer = run(&node, incoming).await;
        if let Ok(answer) = answer {
            node.finish(answer, Some(usage(1, 1))).await;
        }
    }
    let answer = run(&node, asked("ci")).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    refused(&node, asked("ci")).await;
    node.stop().await;
}

#[tokio::test]
async fn all_limits_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[limit("wide", &[(Kind::Requests, 5)]), limit("narrow", &[(Kind::Requests, 1)])]);
    let answer = run(&node, asked("ci")).await.unwrap();
    for _ in 0..9 {
        assert!(refused(&node, asked("ci")).await.message.contains("`narrow`"));
    }
    assert_eq!(used(&node, "wide"), [1]);
    node.finish(answer, Some(usage(1, 1))).await;
    // What a budget refuses was never a request.
    set(&node, &[limit("wide", &[(Kind::Requests, 5)])]);
    node.budget(storage::Scope::Account, dollars("0.001"), storage::WindowKind::Total).await;
    let refused = run(&node, asked("ci")).await.unwrap_err().failure;
    assert_eq!((refused.code, used(&node, "wide")), (ErrorCode::BudgetExceeded, vec![1]));
    node.stop().await;
}

#[tokio::test]
async fn so_many_run_at_once_and_a_place_is_free_with_the_last_event() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[at_once(1, None)]);
    let mut answer = run(&node, asked("ci")).await.unwrap();
    let failure = refused(&node, asked("ci")).await;
    assert_eq!(failure.retry_after, Some(Duration::from_secs(1)));
    Node::begin(&mut answer);
    node.tell(&answer.call.id, finish(Some(usage(1, 1))));
    assert!(matches!(answer.next().await, Some(OutcomeEvent::Finish(_))));
    // Its reader has not gone on, and its place is another's all the same.
    let next = run(&node, asked("ci")).await.unwrap();
    drop(answer);
    drop(next);
    assert_eq!(running(&node, "slots"), (Some(0), 0));
    node.stop().await;
}

/// A Call that waits, or has its answer.
type Waiting<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Answer, Box<Refused>>> + 'a>>;

fn waits<'a>(node: &'a Node, incoming: Incoming) -> Waiting<'a> {
    let mut waiting: Waiting<'a> = Box::pin(node.pipeline.run(incoming));
    assert!(waiting.as_mut().now_or_never().is_none(), "it did not wait");
    waiting
}

#[tokio::test]
async fn a_loop_with_many_calls_does_not_hold_up_one_with_few() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[at_once(1, Some((100, 10)))]);
    let mut runs = run(&node, of_session("greedy")).await.unwrap();
    let mut waiting: Vec<(&str, Waiting<'_>)> = Vec::new();
    for _ in 0..20 {
        waiting.push(("greedy", waits(&node, of_session("greedy"))));
    }
    waiting.push(("modest", waits(&node, of_session("modest"))));
    waiting.push(("third", waits(&node, of_session("third"))));
    let mut order = Vec::new();
    while !waiting.is_empty() {
        node.finish(runs, Some(usage(1, 1))).await;
        let ready = waiting.iter_mut().enumerate().find_map(|(place, (_, call))| {
            call.as_mut().now_or_never().map(|answer| (place, answer.unwrap()))
        });
        let (place, answer) = ready.expect("a place is free, and nobody takes it");
        order.push(waiting.remove(place).0);
        runs = answer;
    }
    assert_eq!(order[..4], ["greedy", "modest", "third", "greedy"]);
    drop((runs, waiting));
    assert_eq!(running(&node, "slots"), (Some(0), 0));
    node.stop().await;
}

#[tokio::test]
async fn a_queue_is_bounded_in_length_and_time_and_left_by_who_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[at_once(1, Some((2, 10)))]);
    let answer = run(&node, asked("ci")).await.unwrap();
    let first = waits(&node, of_session("a"));
    let mut second = waits(&node, of_session("b"));
    assert_eq!(running(&node, "slots"), (Some(1), 2));
    refused(&node, of_session("c")).await;
    drop(first);
    let mut third = waits(&node, of_session("c"));
    node.clock.advance(Duration::from_secs(10));
    let late = second.as_mut().await.unwrap_err().failure;
    assert!(late.message.contains("its turn did not come in time"), "{}", late.message);
    assert!(third.as_mut().await.is_err());
    assert_eq!(running(&node, "slots"), (Some(1), 0));
    drop((answer, second, third));
    assert_eq!(running(&node, "slots").0, Some(0));
    node.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_window_is_served_when_it_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let queue = RateQueue { calls: 5, time: Duration::from_secs(30), weights: BTreeMap::new() };
    set(&node, &[RateLimit { queue: Some(queue), ..limit("few", &[(Kind::Requests, 1)]) }]);
    let answer = run(&node, asked("ci")).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    // It would wait in vain, and is told at once.
    assert_eq!(refused(&node, asked("ci")).await.retry_after, Some(MINUTE));
    node.clock.advance(Duration::from_secs(35));
    let mut waiting = waits(&node, asked("ci"));
    node.clock.advance(Duration::from_secs(24));
    assert!(waiting.as_mut().now_or_never().is_none());
    node.clock.advance(Duration::from_secs(1));
    let answer = waiting.await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn who_waits_for_tokens_is_served_when_some_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let queue = RateQueue { calls: 5, time: Duration::from_secs(30), weights: BTreeMap::new() };
    set(&node, &[RateLimit { queue: Some(queue), ..limit("few", &[(Kind::Tokens, 1_500)]) }]);
    let answer = run(&node, asked("ci")).await.unwrap();
    let waiting = waits(&node, asked("ci"));
    node.finish(answer, Some(usage(100, 10))).await;
    let answer = waiting.now_or_never().expect("there is room").unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn a_change_reaches_those_who_wait_and_keeps_what_was_counted() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[at_once(1, Some((5, 10)))]);
    let first = run(&node, asked("ci")).await.unwrap();
    let waiting = waits(&node, asked("ci"));
    set(&node, &[at_once(2, Some((5, 10)))]);
    let second = waiting.now_or_never().expect("there is room by now").unwrap();
    assert_eq!(running(&node, "slots"), (Some(2), 0), "what ran before the change runs");
    let waiting = waits(&node, asked("ci"));
    set(&node, &[]);
    let third = waiting.now_or_never().expect("there is no limit by now").unwrap();
    set(&node, &[limit("few", &[(Kind::Requests, 3)])]);
    for answer in [first, second, third] {
        node.finish(answer, Some(usage(1, 1))).await;
    }
    assert_eq!(used(&node, "few"), [0], "they were admitted before there was this limit");
    let answer = run(&node, asked("ci")).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    set(&node, &[limit("few", &[(Kind::Requests, 1)])]);
    refused(&node, asked("ci")).await;
    node.stop().await;
}

/// A step of a turn: of one that has begun, or its first.
fn step(node: &Node, begun: bool) -> Incoming {
    let session = SessionId::new(&node.ids);
    let step = StepRef { root: session.clone(), session, step: StepId::new(&node.ids), begun };
    as_step(asked("ci"), step)
}

#[tokio::test]
async fn a_turn_that_has_begun_waits_rather_than_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[limit("few", &[(Kind::Requests, 1)])]);
    let admission = node.pipeline.admit_step(step(&node, false)).await.unwrap();
    let first = node.pipeline.admit_step(step(&node, false)).await.unwrap_err();
    assert_eq!(first.failure.code, ErrorCode::RateLimited);
    let mut run = node.pipeline.run_step(admission);
    assert!(run.next().now_or_never().is_none());
    drop(run.into_row());
    let mut waiting = Box::pin(node.pipeline.admit_step(step(&node, true)));
    assert!(waiting.as_mut().now_or_never().is_none());
    // A plain Call does not go before it.
    refused(&node, asked("ci")).await;
    node.clock.advance(MINUTE);
    let admission = waiting.await.unwrap();
    drop(admission);
    assert_eq!(used(&node, "few"), [0], "an admission that was not used gives all back");
    node.stop().await;
}

#[tokio::test]
async fn the_tries_of_a_step_count_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[limit("few", &[(Kind::Requests, 1)])]);
    let (incoming, mut tries) = (step(&node, false), StepTries::default());
    let admission = node.pipeline.admit_step_again(incoming, &mut tries).await.unwrap();
    let call = admission.call.id.clone();
    let mut run = node.pipeline.run_step(admission);
    assert!(run.next().now_or_never().is_none());
    let failure = Failure::new(ErrorCode::UpstreamFailed, "told to");
    node.tell(&call, OutcomeEvent::Failed(Box::new(failure.clone())));
    while run.next().await.is_some() {}
    // A plain model's name has one attempt: nothing is held for another.
    assert_eq!(run.next_try(&mut tries, &failure), None);
    drop(run.into_row());
    assert_eq!(used(&node, "few"), [1]);
    node.stop().await;
}

/// What an attempt of a Call with a fallback did, of a limit that allows so many tokens: how many
/// attempts there were, and what is used in the end.
async fn with_fallback(tokens: u64, billed: Billed) -> (usize, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let targets = vec!["paid/m".to_owned(), "local/demo".to_owned()];
    let policy = RoutePolicy { attempts_max: 2, ..RoutePolicy::OF_ROUTE };
    let (name, aliases) = ("both".to_owned(), Vec::new());
    let route = RouteInfo { name, aliases, targets, choice: None, policy };
    let node = node_with(&folder, vec![route]).await;
    set(&node, &[limit("few", &[(Kind::Requests, 1), (Kind::Tokens, tokens)])]);
    let mut answer = run(&node, request("ci", "route/both", Some(CAP))).await.unwrap();
    let call = answer.call.id.clone();
    Node::begin(&mut answer);
    let failure = Failure::new(ErrorCode::StreamCut, "told to").billed(billed);
    node.tell(&call, OutcomeEvent::Failed(Box::new(failure)));
    if answer.next().now_or_never().is_none() {
        node.tell(&call, OutcomeEvent::Start(Start::default()));
        node.tell(&call, finish(Some(usage(7, 3))));
        while answer.next().await.is_some() {}
    }
    drop(answer);
    let found = (node.targets.made(&call).unwrap(), used(&node, "few"));
    node.stop().await;
    found
}

#[tokio::test]
async fn another_attempt_is_held_beside_what_the_first_may_have_used() {
    // What was not billed used nothing: what is held does for the second.
    assert_eq!(with_fallback(BOUND, Billed::No).await, (2, vec![1, 10]));
    assert_eq!(with_fallback(2 * BOUND - 1, Billed::Unknown).await, (1, vec![1, BOUND]));
    assert_eq!(with_fallback(2 * BOUND, Billed::Unknown).await, (2, vec![1, BOUND + 10]));
    let said = || Billed::from(usage(400, 100));
    assert_eq!(with_fallback(BOUND, said()).await, (1, vec![1, 500]));
    assert_eq!(with_fallback(2 * BOUND, said()).await, (2, vec![1, 510]));
}

#[tokio::test]
async fn counting_tokens_is_a_request_and_uses_none() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[limit("all", &[(Kind::Requests, 2), (Kind::Tokens, 50)])]);
    let counts = || {
        let mut incoming = request("ci", "paid/m", None);
        let CallKind::Model(model) = incoming.kind else { panic!() };
        incoming.kind = CallKind::Model(model.for_operation(Operation::CountTokens));
        incoming
    };
    let answer = run(&node, counts()).await.unwrap();
    node.finish(answer, None).await;
    // What is estimated here counts too.
    node.pipeline.count_request(counts()).await.unwrap();
    let refused = node.pipeline.count_request(counts()).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::RateLimited);
    assert_eq!(used(&node, "all"), [2, 0]);
    let unknown = Incoming { credential: Credential::Missing, ..counts() };
    assert!(node.pipeline.count_request(unknown).await.is_err());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_and_fifty_six_at_once_pass_no_limit() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(node(&folder).await);
    let most = [(Kind::Requests, 40), (Kind::Tokens, 20 * BOUND + 7)];
    let mut slots = at_once(300, None);
    slots.each = Some(Each::Key);
    set(&node, &[limit("both", &most), slots]);
    let ask = |number: usize| {
        let node = Arc::clone(&node);
        async move { run(&node, of_session(&format!("s{number}"))).await.ok() }
    };
    let mut tasks = tokio::task::JoinSet::new();
    (0..256).for_each(|number| drop(tasks.spawn(ask(number))));
    let answers: Vec<Answer> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(answers.len(), 20, "as many as there are tokens for");
    for answer in answers {
        node.finish(answer, Some(usage(10, 10))).await;
    }
    assert_eq!(used(&node, "both"), [20, 400]);
    Arc::into_inner(node).unwrap().stop().await;
}

/// Lets everybody go on who can.
async fn go_on<'a>(waiting: &mut Vec<Waiting<'a>>, running_now: &mut Vec<Answer>) {
    loop {
        let before = waiting.len();
        for mut call in std::mem::take(waiting) {
            match futures_util::poll!(call.as_mut()) {
                Poll::Pending => waiting.push(call),
                Poll::Ready(answer) => running_now.extend(answer.ok()),
            }
        }
        if waiting.len() == before {
            return;
        }
    }
}

/// What clients do with one limit, in any order: ask, end, leave, wait for time to pass.
#[test]
fn in_any_order_what_runs_and_counts_is_within_the_limits_and_nothing_is_left() {
    use proptest::prelude::*;
    let orders = prop::collection::vec((0..5_u8, 0..4_usize), 1..60);
    in_any_order(&orders, async |order: Vec<(u8, usize)>| {
        let folder = tempfile::tempdir().unwrap();
        let node = node(&folder).await;
        let queue = RateQueue { calls: 3, time: Duration::from_secs(20), weights: BTreeMap::new() };
        let slots = RateLimit { concurrency: Some(2), ..limit("slots", &[]) };
        let slots = RateLimit { queue: Some(queue.clone()), ..slots };
        let tokens = limit("tokens", &[(Kind::Tokens, 5 * BOUND)]);
        set(&node, &[slots, RateLimit { queue: Some(queue), ..tokens }]);
        let mut waiting: Vec<Waiting<'_>> = Vec::new();
        let mut running_now: Vec<Answer> = Vec::new();
        for (what, which) in order {
            match what {
                0 | 1 => waiting
                    .push(Box::pin(node.pipeline.run(of_session(["a", "a", "b", "c"][which])))),
                2 if !running_now.is_empty() => {
                    let answer = running_now.remove(which % running_now.len());
                    node.finish(answer, Some(usage(700, 30))).await;
                }
                3 if !waiting.is_empty() => drop(waiting.remove(which % waiting.len())),
                _ => node.clock.advance(Duration::from_secs(1 + 7 * which as u64)),
            }
            go_on(&mut waiting, &mut running_now).await;
            assert!(running_now.len() <= 2, "{} run", running_now.len());
            assert!(waiting.len() <= 6, "{} wait", waiting.len());
            assert!(used(&node, "tokens")[0] <= 5 * BOUND);
            assert_eq!(running(&node, "slots").0, u32::try_from(running_now.len()).ok());
        }
        drop((waiting, running_now));
        assert_eq!((running(&node, "slots"), running(&node, "tokens").1), ((Some(0), 0), 0));
        node.stop().await;
    });
}

#[tokio::test]
async fn a_node_begins_with_nothing_counted() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(&folder).await;
    set(&first, &[limit("few", &[(Kind::Requests, 1)])]);
    let answer = run(&first, asked("ci")).await.unwrap();
    first.finish(answer, Some(usage(1, 1))).await;
    let clock = Arc::clone(&first.clock);
    first.stop().await;
    let second = Node::start(&database(&folder), &clock, 2).await;
    set(&second, &[limit("few", &[(Kind::Requests, 1)])]);
    let answer = run(&second, asked("ci")).await.unwrap();
    second.finish(answer, Some(usage(1, 1))).await;
    second.stop().await;
}

#[tokio::test]
async fn what_a_call_waits_for_does_not_wait_for_those_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed_by(&folder, &["paid/m"], policy()).await;
    set(&node, &[at_once(1, Some((5, 10)))]);
    let first = run(&node, asked("ci")).await.unwrap();
    node.targets.script("paid/n", whole("a summary"));
    let mut summarised = waits(&node, history("word "));
    let behind = waits(&node, of_session("behind"));
    node.finish(first, Some(usage(1, 1))).await;
    let mut answer = None;
    for _ in 0..1_000 {
        answer = answer.or_else(|| summarised.as_mut().now_or_never());
        if answer.is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let answer = answer.expect("it waits for its own place").unwrap();
    assert_eq!(node.targets.calls_at("paid/n").len(), 1, "no summary was asked for");
    assert_eq!(running(&node, "slots"), (Some(1), 1));
    drop((answer, summarised, behind));
    node.stop().await;
}

#[tokio::test]
async fn who_would_wait_in_vain_for_tokens_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let queue = RateQueue { calls: 5, time: Duration::from_secs(30), weights: BTreeMap::new() };
    let hourly = RateLimit { per: 60 * MINUTE, ..limit("few", &[(Kind::Tokens, 2_000)]) };
    set(&node, &[RateLimit { queue: Some(queue), ..hourly }]);
    let answer = run(&node, asked("ci")).await.unwrap();
    let mut new = waits(&node, asked("ci"));
    let mut later = Box::pin(node.pipeline.admit_step(step(&node, true)));
    assert!(later.as_mut().now_or_never().is_none());
    // What comes back is not enough for another, and the rest is settled for an hour.
    node.finish(answer, Some(usage(1_000, 50))).await;
    let failure = new.as_mut().now_or_never().expect("it waits in vain").unwrap_err().failure;
    assert_eq!(failure.retry_after, Some(60 * MINUTE));
    let failure = later.as_mut().now_or_never().expect("it waits in vain").unwrap_err().failure;
    assert_eq!(failure.code, ErrorCode::RateLimited);
    assert_eq!(running(&node, "few").1, 0);
    drop((new, later));
    node.stop().await;
}

#[tokio::test]
async fn a_limit_on_tokens_takes_nothing_of_which_nobody_knows_how_many_it_uses() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let searching = || {
        let mut incoming = asked("ci");
        if let CallKind::Model(model) = &mut incoming.kind {
            model.head.surcharge = Some("plugins");
        }
        incoming
    };
    for kind in [Kind::Tokens, Kind::InputTokens, Kind::OutputTokens] {
        set(&node, &[limit("tokens", &[(kind, 1_000_000)])]);
        let failure = run(&node, searching()).await.unwrap_err().failure;
        assert_eq!(failure.code, ErrorCode::Unsupported);
        assert_eq!(failure.param.as_deref(), Some("plugins"));
        assert!(failure.message.contains("the limit `tokens`"), "{}", failure.message);
    }
    set(&node, &[limit("requests", &[(Kind::Requests, 1)])]);
    let answer = run(&node, searching()).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn each_has_a_queue_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[RateLimit { each: Some(Each::Session), ..at_once(1, Some((1, 10))) }]);
    let runs = [run(&node, of_session("a")).await, run(&node, of_session("b")).await];
    let first = waits(&node, of_session("a"));
    let other = waits(&node, of_session("b"));
    refused(&node, of_session("a")).await;
    drop((runs, first, other));
    node.stop().await;
}

#[tokio::test]
async fn a_step_that_is_not_asked_again_soon_gives_its_place_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed_by(&folder, &["paid/m", "local/demo"], RoutePolicy::OF_ROUTE).await;
    set(&node, &[at_once(1, None)]);
    let session = SessionId::new(&node.ids);
    let id = StepId::new(&node.ids);
    let at = StepRef { root: session.clone(), session, step: id, begun: true };
    let incoming = as_step(request("ci", "route/r", Some(CAP)), at);
    let mut tries = StepTries::default();
    let admission = node.pipeline.admit_step_again(incoming, &mut tries).await.unwrap();
    let call = admission.call.id.clone();
    let mut run = node.pipeline.run_step(admission);
    assert!(run.next().now_or_never().is_none());
    let failure = Failure::new(ErrorCode::UpstreamFailed, "told to");
    node.tell(&call, OutcomeEvent::Failed(Box::new(failure.clone())));
    while run.next().await.is_some() {}
    assert!(run.next_try(&mut tries, &failure).is_some());
    drop(run.into_row());
    assert_eq!(running(&node, "slots").0, Some(1), "its next try has its place");
    tries.let_go();
    assert_eq!(running(&node, "slots").0, Some(0));
    node.stop().await;
}

#[tokio::test]
async fn a_calls_own_time_ends_its_wait_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    set(&node, &[at_once(1, Some((2, 60)))]);
    let time = Duration::from_secs(2);
    let hasty = || {
        let asks = types::call::RouteAsk { time: Some(time), ..Default::default() };
        let mut incoming = asked("ci");
        incoming.headers.asks = Some(Box::new(asks));
        incoming
    };
    let mut answer = run(&node, hasty()).await.unwrap();
    Node::begin(&mut answer);
    let mut waiting = waits(&node, hasty());
    node.clock.advance(time);
    let late = waiting.as_mut().await.unwrap_err().failure;
    assert_eq!((late.code, late.billed), (ErrorCode::DeadlineExceeded, Billed::No));
    assert!(matches!(answer.next().await, Some(OutcomeEvent::Failed(_))));
    assert_eq!(running(&node, "slots"), (Some(0), 0), "nobody waits for its reader");
    drop((waiting, answer));
    node.stop().await;
}
