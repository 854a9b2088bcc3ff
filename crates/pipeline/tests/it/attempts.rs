//! Calls on routes: what is tried after what, and which attempt is paid from what.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use pipeline::{Answer, RouteInfo, StepTries};
use storage::{Budget, Commit, Scope, Store, WindowKind};
use types::call::{CallKind, RoutePolicy};
use types::error::Billed;
use types::outcome::{Delta, Start};
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Failure, Incoming, Money, OutcomeEvent};

use super::world::{
    Node, as_step, dear_price, dollars, finish, model, node_with, price, request, rows, totals,
    usage,
};

/// What an attempt at `paid/m` or `paid/n` costs at most, with a cap of 100 tokens.
pub(crate) const BOUND: &str = "0.003";
/// The same at `paid/dear`.
const DEAR: &str = "0.006";

fn route(targets: &[&str], policy: RoutePolicy) -> Vec<RouteInfo> {
    vec![RouteInfo {
        name: "r".to_owned(),
        aliases: vec!["alias".to_owned()],
        targets: targets.iter().map(ToString::to_string).collect(),
        choice: None,
        policy,
    }]
}

/// A node with a route over `targets`, as a route is unless it says otherwise.
async fn routed(folder: &tempfile::TempDir, targets: &[&str]) -> Node {
    routed_by(folder, targets, RoutePolicy::OF_ROUTE).await
}

pub(crate) async fn routed_by(
    folder: &tempfile::TempDir,
    targets: &[&str],
    policy: RoutePolicy,
) -> Node {
    let node = node_with(folder, route(targets, policy)).await;
    for (name, price) in [("n", price()), ("dear", dear_price())] {
        node.directory.put_model(model("paid", name, Some(price))).await.unwrap();
    }
    node
}

/// A Call on the route, of at most 1,000 tokens in and 100 out.
pub(crate) fn asked() -> Incoming {
    request("ci", "route/r", Some(100))
}

pub(crate) fn streamed() -> Incoming {
    let mut incoming = asked();
    if let CallKind::Model(model) = &mut incoming.kind {
        model.head.stream = true;
    }
    incoming
}

pub(crate) fn failed(code: ErrorCode, billed: Billed) -> OutcomeEvent {
    OutcomeEvent::Failed(Box::new(Failure::new(code, "told to").billed(billed)))
}

/// Refused at no cost: another target is asked at once, and never the same again.
fn refused() -> OutcomeEvent {
    failed(ErrorCode::UpstreamQuota, Billed::No)
}

/// Given up, at a cost that nobody knows: the same.
fn late() -> OutcomeEvent {
    failed(ErrorCode::UpstreamTimeout, Billed::Unknown)
}

pub(crate) fn start(name: &str) -> OutcomeEvent {
    let headers = vec![("x-target".to_owned(), name.to_owned())];
    OutcomeEvent::Start(Start { headers, ..Start::default() })
}

pub(crate) fn text() -> OutcomeEvent {
    let delta = Delta::Text { text: "hi".to_owned() };
    OutcomeEvent::Frame { raw: None, delta: Some(delta) }
}

/// A whole answer of a target: 100 tokens in and 10 out, $0.0002 at `paid/m` and `paid/n`.
pub(crate) fn whole(name: &str) -> [OutcomeEvent; 3] {
    [start(name), text(), finish(Some(usage(100, 10)))]
}

/// What a client sees of an answer, told briefly.
pub(crate) async fn read(answer: &mut Answer) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = answer.next().await {
        seen.push(match event {
            OutcomeEvent::Start(start) => format!("start {}", start.headers[0].1),
            OutcomeEvent::Frame { .. } => "text".to_owned(),
            OutcomeEvent::Finish(_) => "finish".to_owned(),
            OutcomeEvent::Failed(failure) => format!("{} {:?}", failure.code, failure.billed),
        });
    }
    seen
}

/// What is settled, unreconciled and reserved.
pub(crate) async fn amounts(node: &Node) -> [Money; 3] {
    let status = node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap().remove(0);
    [status.settled, status.unreconciled, status.reserved]
}

/// How each attempt of a Call ended, as the ledger has it.
pub(crate) async fn ends(
    node: &Node,
    answer: &Answer,
) -> Vec<(String, Option<ErrorCode>, Money, Money)> {
    node.pipeline.flush().await.unwrap();
    let rows = rows(node, &answer.call.id).await.into_iter();
    rows.map(|row| (row.target, row.error, row.cost, row.unreconciled)).collect()
}

async fn budget(node: &Node, limit: &str) -> std::sync::Arc<Budget> {
    node.budget(Scope::Account, dollars(limit), WindowKind::Total).await
}

#[tokio::test]
async fn what_cost_nothing_hands_its_money_on() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    // Worth one attempt, and not a nanodollar more.
    budget(&node, BOUND).await;
    node.targets.script("paid/m", [start("m"), refused()]);
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    assert_eq!(&*answer.target().name, "paid/n");
    let bill = answer.bill();
    assert_eq!((bill.cost, bill.attempts), (Some(dollars("0.0002")), 2));
    assert_eq!(
        ends(&node, &answer).await,
        [
            ("paid/m".to_owned(), Some(ErrorCode::UpstreamQuota), Money::ZERO, Money::ZERO),
            ("paid/n".to_owned(), None, dollars("0.0002"), Money::ZERO),
        ]
    );
    assert_eq!(amounts(&node).await, [dollars("0.0002"), Money::ZERO, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn what_may_have_been_billed_is_paid_for_beside_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    budget(&node, "0.006").await;
    node.targets.script("paid/m", [late()]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/n"]);
    node.quiet().await;
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), dollars(BOUND)]);
    whole("n").into_iter().for_each(|event| node.tell(&answer.call.id, event));
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    assert_eq!(answer.bill().cost, None, "nobody knows what the first one cost");
    assert_eq!(amounts(&node).await, [dollars("0.0002"), dollars(BOUND), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn without_money_for_another_the_first_failure_is_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    budget(&node, "0.0059").await;
    node.targets.script("paid/m", [late()]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["upstream_timeout Unknown"]);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    assert_eq!(answer.bill().attempts, 1);
    assert_eq!(ends(&node, &answer).await.len(), 1);
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_cheaper_target_is_asked_where_the_next_one_is_too_dear() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/dear", "local/demo"]).await;
    budget(&node, DEAR).await;
    node.targets.script("paid/m", [late()]);
    node.targets.script("local/demo", whole("demo"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start demo", "text", "finish"]);
    assert_eq!(node.targets.asked(), ["paid/m", "local/demo"]);
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn what_is_known_to_have_been_billed_is_settled_and_all_of_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/dear"]).await;
    budget(&node, "1.00").await;
    node.targets.script("paid/m", [failed(ErrorCode::StreamCut, usage(100, 10).into())]);
    node.targets.script("paid/dear", whole("dear"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    read(&mut answer).await;
    assert_eq!(answer.bill().cost, Some(dollars("0.0006")), "$0.0002 and twice as much");
    assert_eq!(amounts(&node).await, [dollars("0.0006"), Money::ZERO, Money::ZERO]);
    let ends = ends(&node, &answer).await;
    let costs: Vec<_> = ends.into_iter().map(|(_, _, cost, _)| cost).collect();
    assert_eq!(costs, [dollars("0.0002"), dollars("0.0004")]);
    node.stop().await;
}

#[tokio::test]
async fn the_dearest_target_is_reserved_and_each_attempt_is_bounded_by_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/dear"]).await;
    budget(&node, "1.00").await;
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut answer);
    node.quiet().await;
    assert_eq!(amounts(&node).await, [Money::ZERO, Money::ZERO, dollars(DEAR)]);
    node.tell(&answer.call.id, late());
    Node::begin(&mut answer);
    node.quiet().await;
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), dollars(DEAR)]);
    drop(answer);
    let unreconciled = dollars(BOUND) + dollars(DEAR);
    assert_eq!(amounts(&node).await, [Money::ZERO, unreconciled, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn money_that_was_handed_on_and_is_too_little_is_given_back_first() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/dear", "paid/m", "paid/dear2"]).await;
    let price = node.directory.model("paid/dear").unwrap().prices[0].price.clone();
    node.directory.put_model(model("paid", "dear2", Some(price))).await.unwrap();
    // The first stays on the bill, the second has its own bound, the third needs twice as much.
    budget(&node, "0.012").await;
    node.targets.script("paid/dear", [late()]);
    node.targets.script("paid/m", [refused()]);
    node.targets.script("paid/dear2", whole("dear2"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start dear2", "text", "finish"]);
    assert_eq!(amounts(&node).await, [dollars("0.0004"), dollars(DEAR), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_free_target_that_answers_keeps_no_dear_ones_money() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"]).await;
    budget(&node, BOUND).await;
    let mut first = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut first);
    node.quiet().await;
    assert_eq!(amounts(&node).await[2], dollars(BOUND), "while it may still be needed");
    [start("demo"), text()].into_iter().for_each(|event| node.tell(&first.call.id, event));
    assert!(matches!(first.next().await, Some(OutcomeEvent::Start(_))));
    node.quiet().await;
    assert_eq!(amounts(&node).await[2], Money::ZERO);
    // Its end in the middle costs nothing either, and leaves nothing.
    drop(first);
    assert_eq!(amounts(&node).await, [Money::ZERO; 3]);
    // A budget that is used up does not keep anybody from it.
    node.targets.script("local/demo", [start("demo"), refused()]);
    node.targets.script("paid/m", [late()]);
    let mut spent = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut spent).await, ["upstream_timeout Unknown"]);
    node.targets.script("local/demo", whole("demo"));
    let mut last = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut last).await, ["start demo", "text", "finish"]);
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn what_no_budget_can_hold_is_left_out_and_if_all_are_the_first_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/unpriced", "paid/dear", "paid/m"]).await;
    node.targets.script("paid/unpriced", [refused()]);
    node.targets.script("paid/dear", whole("dear"));
    read(&mut node.pipeline.run(asked()).await.unwrap()).await;
    assert_eq!(node.targets.asked(), ["paid/unpriced", "paid/dear"], "without a budget all are");

    let account = budget(&node, "0.004").await;
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m"], "one has no price, and one is too dear");
    node.targets.script("paid/m", whole("m"));
    drop(answer);
    node.pipeline.flush().await.unwrap();
    let refused = node.pipeline.run(asked()).await.unwrap_err().failure;
    assert_eq!(refused.code, ErrorCode::BudgetExceeded);
    assert!(refused.message.contains("$0.003:"), "the cheapest one's: {}", refused.message);
    assert_eq!(totals(&node, &account).await.reserved, Money::ZERO);

    for name in ["paid/m", "paid/dear"] {
        node.directory.delete_model(name).await.unwrap();
    }
    let refused = node.pipeline.run(asked()).await.unwrap_err().failure;
    assert_eq!(refused.code, ErrorCode::PriceUnknown);
    node.stop().await;
}

#[tokio::test]
async fn the_callers_own_limit_holds_for_all_attempts_together() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/dear", "paid/n"]).await;
    let allowing = |limit: &str| {
        let mut incoming = asked();
        incoming.headers.budget = Some(dollars(limit));
        incoming
    };
    node.targets.script("paid/m", [late()]);
    node.targets.script("paid/n", [late()]);
    let mut answer = node.pipeline.run(allowing("0.0065")).await.unwrap();
    assert_eq!(read(&mut answer).await, ["upstream_timeout Unknown"]);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/n"], "$0.003 and $0.006 are more");
    node.targets.script("paid/m", [late()]);
    let mut answer = node.pipeline.run(allowing("0.005")).await.unwrap();
    assert_eq!(read(&mut answer).await, ["upstream_timeout Unknown"]);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    node.stop().await;
}

#[tokio::test]
async fn content_that_was_shown_is_never_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    node.targets.script("paid/m", [start("m"), text(), late()]);
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start m", "text", "upstream_timeout Unknown"]);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    // A head alone is not shown.
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    node.tell(&answer.call.id, start("m"));
    Node::begin(&mut answer);
    node.tell(&answer.call.id, refused());
    Node::begin(&mut answer);
    whole("n").into_iter().for_each(|event| node.tell(&answer.call.id, event));
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    node.stop().await;
}

#[tokio::test]
async fn a_plain_models_name_is_tried_once_and_shown_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    node.targets.script("paid/m", [start("m"), refused()]);
    let mut answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start m", "upstream_quota No"]);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    node.stop().await;
}

#[tokio::test]
async fn the_same_target_is_asked_again_after_the_time_that_it_named() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    budget(&node, BOUND).await;
    let limited =
        Failure::new(ErrorCode::RateLimited, "told to").retry_after(Duration::from_secs(2));
    node.targets.script("paid/m", [OutcomeEvent::Failed(Box::new(limited))]);
    node.targets.script("paid/m", whole("m"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut answer);
    // Others leave it alone meanwhile.
    node.targets.script("paid/n", [refused()]);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    node.clock.advance(Duration::from_millis(1_999));
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), [""; 0], "not before");
    node.clock.advance(Duration::from_millis(501));
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    assert_eq!((node.targets.asked(), answer.bill().attempts), (vec!["paid/m".to_owned()], 2));
    node.stop().await;
}

#[tokio::test]
async fn a_failing_target_is_asked_twice_then_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    for target in ["paid/m", "paid/m", "paid/n", "paid/n"] {
        node.targets.script(target, [failed(ErrorCode::UpstreamFailed, Billed::No)]);
    }
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    for _ in 0..2 {
        Node::begin(&mut answer);
        node.clock.advance(RoutePolicy::OF_ROUTE.backoff);
    }
    assert_eq!(read(&mut answer).await, ["upstream_failed No"]);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/m", "paid/n", "paid/n"]);
    assert_eq!(ends(&node, &answer).await.len(), 4, "as many rows as attempts");
    node.stop().await;
}

#[tokio::test]
async fn no_more_attempts_than_allowed_and_none_after_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let policy = RoutePolicy { attempts_max: 2, ..RoutePolicy::OF_ROUTE };
    let node = routed_by(&folder, &["paid/m", "paid/n", "local/demo"], policy).await;
    node.targets.script("paid/m", [refused()]);
    node.targets.script("paid/n", [refused()]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["upstream_quota No"]);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/n"]);
    let mut late = node.pipeline.run(asked()).await.unwrap();
    node.clock.advance(pipeline::identify::CALL_TIME_MAX);
    node.tell(&late.call.id, refused());
    assert_eq!(read(&mut late).await, ["upstream_quota No"]);
    assert_eq!(node.targets.asked().len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_slow_first_token_goes_elsewhere_as_long_as_there_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let first_token = Some(Duration::from_secs(20));
    let policy = RoutePolicy { first_token, ..RoutePolicy::OF_ROUTE };
    let node = routed_by(&folder, &["paid/m", "paid/n"], policy).await;
    budget(&node, "1.00").await;
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    node.tell(&answer.call.id, start("m"));
    Node::begin(&mut answer);
    node.clock.advance(Duration::from_secs(20));
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/n"]);
    // The last one may take its time.
    node.clock.advance(Duration::from_secs(200));
    Node::begin(&mut answer);
    whole("n").into_iter().for_each(|event| node.tell(&answer.call.id, event));
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    let ends = ends(&node, &answer).await;
    let late = ("paid/m".to_owned(), Some(ErrorCode::UpstreamTimeout), Money::ZERO, dollars(BOUND));
    assert_eq!(ends[0], late);
    // What has shown content, and what is answered whole, may take its time too.
    let mut begun = node.pipeline.run(streamed()).await.unwrap();
    [start("m"), text()].into_iter().for_each(|event| node.tell(&begun.call.id, event));
    assert!(begun.next().await.is_some() && begun.next().await.is_some());
    let mut json = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut json);
    node.clock.advance(Duration::from_secs(20));
    Node::begin(&mut begun);
    Node::begin(&mut json);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/m"]);
    drop((begun, json));
    node.stop().await;
}

#[tokio::test]
async fn a_fallbacks_complaint_does_not_mask_why_it_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    let prefill = || failed(ErrorCode::InvalidRequest, Billed::No);
    node.targets.script("paid/m", [late()]);
    node.targets.script("paid/n", [prefill()]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["upstream_timeout Unknown"]);
    assert_eq!(answer.bill().attempts, 2);
    // The first target's own complaint is told.
    node.targets.script("paid/m", [prefill()]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["invalid_request No"]);
    // And what failed last, if it is no complaint: with what came before on the bill.
    node.targets.script("paid/m", [late()]);
    node.targets.script("paid/n", [failed(ErrorCode::UpstreamCredentials, Billed::No)]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["upstream_credentials Unknown"]);
    node.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_goes_to_a_larger_window_only() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/small", "paid/n", "paid/large"]).await;
    for (name, context) in [("m", 8_192), ("small", 8_192), ("large", 32_768)] {
        let mut sized = model("paid", name, Some(price()));
        sized.context_tokens = Some(context);
        node.directory.put_model(sized).await.unwrap();
    }
    let too_long = || failed(ErrorCode::ContextLengthExceeded, Billed::No);
    node.targets.script("paid/m", [too_long()]);
    node.targets.script("paid/large", [too_long()]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["context_length_exceeded No"]);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/large"]);
    node.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_dropped_leaves_nothing_held_in_any_state() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    let account = budget(&node, "0.005").await;
    let again = || failed(ErrorCode::UpstreamFailed, Billed::No);
    // Never asked; asked; between two attempts; and asked for the second time.
    let unsent = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(rows_after(&node, unsent).await, 1);
    node.targets.script("paid/m", [again()]);
    let mut waiting = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut waiting);
    assert_eq!(rows_after(&node, waiting).await, 1);
    node.targets.script("paid/m", [refused()]);
    let mut second = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut second);
    node.tell(&second.call.id, refused());
    assert_eq!(read(&mut second).await, ["upstream_quota No"]);
    assert_eq!(rows_after(&node, second).await, 2);
    assert_eq!(amounts(&node).await, [Money::ZERO; 3]);
    // While it asks for money: there is too little, which it has not been told yet.
    node.targets.script("paid/m", [late()]);
    let mut topping_up = node.pipeline.run(asked()).await.unwrap();
    assert!(topping_up.next().now_or_never().is_none());
    assert_eq!(rows_after(&node, topping_up).await, 1);
    node.quiet().await;
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), Money::ZERO]);
    node.pipeline.shutdown().await.unwrap();
    let totals = totals(&node, &account).await;
    assert_eq!((totals.reserved, totals.claimed), (Money::ZERO, Money::ZERO));
}

async fn rows_after(node: &Node, answer: Answer) -> usize {
    let call = answer.call.id.clone();
    drop(answer);
    node.pipeline.flush().await.unwrap();
    rows(node, &call).await.len()
}

#[tokio::test]
async fn a_clean_stop_waits_for_a_call_between_two_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m"]).await;
    budget(&node, "1.00").await;
    node.targets.script("paid/m", [failed(ErrorCode::UpstreamFailed, Billed::No)]);
    node.targets.script("paid/m", whole("m"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut answer);
    let mut stop = Box::pin(node.pipeline.shutdown());
    assert!(futures_util::poll!(&mut stop).is_pending());
    let clock = std::sync::Arc::clone(&node.clock);
    let reading = async {
        clock.advance(RoutePolicy::OF_ROUTE.backoff);
        read(&mut answer).await
    };
    let (stopped, seen) = tokio::join!(stop, reading);
    stopped.unwrap();
    assert_eq!(seen, ["start m", "text", "finish"]);
    assert_eq!(rows(&node, &answer.call.id).await.len(), 2);
}

#[tokio::test]
async fn a_target_that_keeps_failing_is_asked_last_until_one_call_finds_it_well() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    for _ in 0..3 {
        node.targets.script("paid/m", [refused()]);
        node.targets.script("paid/n", whole("n"));
        read(&mut node.pipeline.run(asked()).await.unwrap()).await;
    }
    node.targets.asked();
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    assert_eq!(node.targets.asked(), ["paid/n"], "it is left alone");
    // It is asked all the same where everything else fails.
    node.targets.script("paid/n", [refused()]);
    node.targets.script("paid/m", [refused()]);
    read(&mut node.pipeline.run(asked()).await.unwrap()).await;
    assert_eq!(node.targets.asked(), ["paid/n", "paid/m"]);
    // When its time is over, one finds out.
    node.clock.advance(RoutePolicy::OF_ROUTE.cooldown);
    let mut probe = node.pipeline.run(streamed()).await.unwrap();
    let other = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(node.targets.asked(), ["paid/m", "paid/n"]);
    [start("m"), text()].into_iter().for_each(|event| node.tell(&probe.call.id, event));
    assert!(probe.next().await.is_some());
    let home = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(node.targets.asked(), ["paid/m"], "it answers: traffic comes back");
    drop((probe, other, home));
    node.stop().await;
}

#[tokio::test]
async fn a_sessions_step_is_asked_of_the_first_target_that_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/dear"]).await;
    budget(&node, "1.00").await;
    let step = || {
        let session = types::ids::SessionId::new(&node.ids);
        let step = types::ids::StepId::new(&node.ids);
        as_step(
            asked(),
            types::call::StepRef { begun: false, root: session.clone(), session, step },
        )
    };
    for _ in 0..3 {
        let admission = node.pipeline.admit_step(step()).await.unwrap();
        assert_eq!(&*admission.target().name, "paid/m");
        assert_eq!(admission.reservation.as_ref().unwrap().amount, dollars(BOUND));
        node.targets.script("paid/m", [refused()]);
        let mut run = node.pipeline.run_step(admission);
        assert!(matches!(run.next().await, Some(OutcomeEvent::Failed(_))), "one attempt");
    }
    let admission = node.pipeline.admit_step(step()).await.unwrap();
    assert_eq!(&*admission.target().name, "paid/dear");
    assert_eq!(admission.reservation.unwrap().amount, dollars(DEAR));
    node.stop().await;
}

#[tokio::test]
async fn a_step_that_failed_is_asked_of_the_next_target_with_its_own_money() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/dear", "local/demo"]).await;
    let account = budget(&node, "1.00").await;
    let session = types::ids::SessionId::new(&node.ids);
    let step = types::ids::StepId::new(&node.ids);
    let step = types::call::StepRef { begun: false, root: session.clone(), session, step };
    let id = types::ids::CallId::new(&node.ids);
    let mut tries = StepTries::default();
    let mut seen = Vec::new();
    for answer in [late(), refused(), failed(ErrorCode::InvalidRequest, Billed::No)] {
        let incoming = Incoming { id: Some(id.clone()), ..as_step(asked(), step.clone()) };
        let admission = node.pipeline.admit_step_again(incoming, &mut tries).await.unwrap();
        let target = admission.target().name.to_string();
        let reservations = admission.reservation.clone().into_iter().collect();
        node.store.commit(Commit { reservations, ..Commit::default() }).await.unwrap();
        node.targets.script(&target, [answer]);
        let mut run = node.pipeline.run_step(admission);
        let Some(OutcomeEvent::Failed(failure)) = run.next().await else { panic!("it failed") };
        seen.push((target, run.next_try(&mut tries, &failure).is_some()));
        let ledger = vec![run.into_row()];
        node.store.commit(Commit { ledger, ..Commit::default() }).await.unwrap();
        if let (_, false) = &seen[seen.len() - 1] {
            assert_eq!(tries.answered(*failure).code, ErrorCode::UpstreamTimeout, "not masked");
        }
    }
    let of = |name: &str, goes_on| (name.to_owned(), goes_on);
    assert_eq!(seen, [of("paid/m", true), of("paid/dear", true), of("local/demo", false)]);
    let patience = node.targets.patience();
    assert!(patience[0].is_some() && patience[2].is_none(), "{patience:?}");
    let rows = rows(&node, &id).await;
    assert_eq!(rows.len(), 3, "each try has its row");
    let after = totals(&node, &account).await;
    assert_eq!((after.settled, after.unreconciled), (Money::ZERO, dollars(BOUND)));
    assert_eq!(after.reserved, Money::ZERO);
    node.stop().await;
}

#[tokio::test]
async fn a_step_of_a_plain_name_is_asked_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m"]).await;
    let session = types::ids::SessionId::new(&node.ids);
    let step = types::ids::StepId::new(&node.ids);
    let step = types::call::StepRef { begun: false, root: session.clone(), session, step };
    for (name, again) in [("paid/m", false), ("route/r", true)] {
        let incoming = as_step(request("ci", name, Some(100)), step.clone());
        let admission = node.pipeline.admit_step(incoming).await.unwrap();
        node.targets.script("paid/m", [failed(ErrorCode::UpstreamFailed, Billed::No)]);
        let mut run = node.pipeline.run_step(admission);
        let Some(OutcomeEvent::Failed(failure)) = run.next().await else { panic!("it failed") };
        let next = run.next_try(&mut StepTries::default(), &failure);
        assert_eq!(next.is_some(), again, "{name}: {next:?}");
    }
    node.stop().await;
}

/// A target of this machine that has no room.
fn turned_away() -> OutcomeEvent {
    OutcomeEvent::Failed(Box::new(Failure::turned_away(ErrorCode::Overloaded, "told to")))
}

#[tokio::test]
async fn who_has_no_room_at_once_is_asked_first_again_by_the_next_call() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"]).await;
    for _ in 0..5 {
        node.targets.script("local/demo", [turned_away()]);
        node.targets.script("paid/m", whole("m"));
        let mut answer = node.pipeline.run(streamed()).await.unwrap();
        assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
        assert_eq!(node.targets.asked(), ["local/demo", "paid/m"], "it is not taken to be unwell");
    }
    node.targets.script("local/demo", whole("demo"));
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start demo", "text", "finish"]);
    let waits = RoutePolicy::OF_ROUTE.local_wait_max;
    let patience = node.targets.patience();
    assert_eq!(patience[0].map(|patience| patience.wait_max), Some(waits));
    assert_eq!(patience[1], None, "the last one may take its time");
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_nobody_else_takes_goes_home_and_waits_there() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"]).await;
    // Its budget is used up for the cloud but for one attempt.
    budget(&node, BOUND).await;
    node.targets.script("local/demo", [turned_away()]);
    node.targets.script("paid/m", [late()]);
    node.targets.script("local/demo", whole("demo"));
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start demo", "text", "finish"]);
    assert_eq!(node.targets.asked(), ["local/demo", "paid/m", "local/demo"]);
    assert_eq!(node.targets.patience()[2], None, "it waits as long as it has to");
    node.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_shown_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"]).await;
    let cut = failed(ErrorCode::StreamCut, Billed::No);
    node.targets.script("local/demo", [start("demo"), text(), text(), cut]);
    node.targets.script("paid/m", [start("m"), text(), text(), finish(Some(usage(100, 10)))]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start m", "text", "text", "finish"]);
    assert_eq!(answer.bill().attempts, 2);
    node.stop().await;
}

#[tokio::test]
async fn who_has_no_room_and_is_alone_is_asked_as_often_as_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo"]).await;
    (0..4).for_each(|_| node.targets.script("local/demo", [turned_away()]));
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(RoutePolicy::OF_ROUTE.wait_max);
    assert_eq!(read(&mut answer).await, ["overloaded No"]);
    let tries = RoutePolicy::OF_ROUTE.same_target_max as usize;
    assert_eq!(node.targets.asked().len(), tries);
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_leaves_before_it_was_sent_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    budget(&node, "1.00").await;
    node.targets.withhold.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    let id = answer.call.id.clone();
    drop(answer);
    assert_eq!(amounts(&node).await, [Money::ZERO; 3]);
    node.pipeline.flush().await.unwrap();
    let rows = rows(&node, &id).await;
    assert_eq!(rows[0].notes.get("sent"), Some(&false.into()));
    assert_eq!((rows[0].cost, rows[0].unreconciled), (Money::ZERO, Money::ZERO));
    node.stop().await;
}

#[tokio::test]
async fn what_was_not_sent_in_time_for_a_first_token_hands_its_money_on() {
    let folder = tempfile::tempdir().unwrap();
    let limit = Duration::from_secs(3);
    let policy = RoutePolicy { first_token: Some(limit), ..RoutePolicy::OF_ROUTE };
    let node = routed_by(&folder, &["paid/m", "paid/n"], policy).await;
    // Worth one attempt.
    budget(&node, BOUND).await;
    node.targets.withhold.store(true, std::sync::atomic::Ordering::Relaxed);
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(limit);
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    assert_eq!(amounts(&node).await, [dollars("0.0002"), Money::ZERO, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_step_that_is_given_up_before_it_was_sent_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m"]).await;
    let session = types::ids::SessionId::new(&node.ids);
    let step = types::ids::StepId::new(&node.ids);
    let step = types::call::StepRef { begun: false, root: session.clone(), session, step };
    for withhold in [true, false] {
        node.targets.withhold.store(withhold, std::sync::atomic::Ordering::Relaxed);
        let incoming = as_step(request("ci", "paid/m", Some(100)), step.clone());
        let admission = node.pipeline.admit_step(incoming).await.unwrap();
        let mut run = node.pipeline.run_step(admission);
        assert!(run.next().now_or_never().is_none());
        let row = run.into_row();
        assert_eq!(row.unreconciled == Money::ZERO, withhold);
        assert_eq!(row.notes.get("sent").is_some(), withhold);
    }
    node.stop().await;
}
