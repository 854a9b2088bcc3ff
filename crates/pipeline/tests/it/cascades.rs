//! A cheap target first: whose answer is given, what is held until then, and what it costs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use pipeline::Answer;
use proptest::prelude::*;
use serde_json::{Value, json};
use storage::{Scope, WindowKind};
use types::call::{CallKind, ModelCall, RoutePolicy};
use types::cascade::{CascadePolicy, JudgePolicy, Pattern};
use types::conversation::{Message, Role};
use types::error::Billed;
use types::ids::CallId;
use types::outcome::Delta;
use types::{Conversation, ErrorCode, Incoming, Money, OutcomeEvent};

use super::attempts::{
    BOUND, amounts, asked, ends, failed, read, routed_by, start, streamed, text, whole,
};
use super::world::{
    NoFormat, Node, dollars, finish, has_ended, in_any_order, model, price, rows, usage,
};

/// Target, error, cost and what is unreconciled of an attempt.
type End = (String, Option<ErrorCode>, Money, Money);

/// How long the judge of these tests may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rejects what [`whole`] says, and nothing else.
fn no_hi() -> CascadePolicy {
    let must_not_match = vec![Pattern::new("hi").unwrap()];
    CascadePolicy { must_not_match, ..CascadePolicy::default() }
}

fn judged_by_a_model(escalate_on_failure: bool) -> CascadePolicy {
    let judge = JudgePolicy {
        model: "paid/judge".to_owned(),
        threshold: 70,
        prompt: None,
        output_tokens: 16,
        timeout: PATIENCE,
        escalate_on_failure,
    };
    CascadePolicy { judge: Some(judge), ..CascadePolicy::default() }
}

async fn cascading(folder: &tempfile::TempDir, targets: &[&str], cascade: CascadePolicy) -> Node {
    let policy = RoutePolicy { cascade: Some(Arc::new(cascade)), ..RoutePolicy::OF_ROUTE };
    let node = routed_by(folder, targets, policy).await;
    node.directory.put_model(model("paid", "judge", Some(price()))).await.unwrap();
    node
}

async fn budget(node: &Node, limit: &str) {
    node.budget(Scope::Account, dollars(limit), WindowKind::Total).await;
}

/// The same request, in neutral form: a judge reads it.
fn readable(mut incoming: Incoming) -> Incoming {
    if let CallKind::Model(model) = &incoming.kind {
        let messages = vec![Message::text(Role::User, "What is it?")];
        let conversation = Conversation { messages, ..Conversation::default() };
        let head = model.head.clone();
        let neutral = ModelCall::from_neutral(&NoFormat, head, Arc::new(conversation));
        incoming.kind = CallKind::Model(neutral);
    }
    incoming
}

/// Another whole answer than [`whole`], which says "ho".
fn other(name: &str) -> [OutcomeEvent; 3] {
    let delta = Delta::Text { text: "ho".to_owned() };
    let said = OutcomeEvent::Frame { raw: None, delta: Some(delta) };
    [start(name), said, finish(Some(usage(100, 10)))]
}

fn scored(score: &str) -> [OutcomeEvent; 3] {
    let delta = Delta::Text { text: format!("{{\"score\": {score}}}") };
    let said = OutcomeEvent::Frame { raw: None, delta: Some(delta) };
    [start("judge"), said, finish(Some(usage(200, 10)))]
}

/// How each attempt of a Call ended, by its target's name.
async fn ended(node: &Node, answer: &Answer) -> Vec<End> {
    let mut ends = ends(node, answer).await;
    ends.sort_by(|one, other| one.0.cmp(&other.0));
    ends
}

/// The notes of each attempt of a Call, by its target's name.
async fn notes(node: &Node, call: &CallId) -> Vec<Value> {
    node.pipeline.flush().await.unwrap();
    let mut rows = rows(node, call).await;
    rows.sort_by(|one, other| one.target.cmp(&other.target));
    rows.into_iter().map(|row| row.notes.get("cascade").cloned().unwrap_or_default()).collect()
}

fn shown(answer: &Answer) -> Option<String> {
    answer.bill().cascade
}

#[tokio::test]
async fn a_good_answer_is_held_until_it_is_judged_and_what_it_saved_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/dear"], no_hi()).await;
    budget(&node, "1.00").await;
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    let [start, said, end] = other("m");
    node.tell(&answer.call.id, start);
    node.tell(&answer.call.id, said);
    Node::begin_again(&mut answer);
    node.tell(&answer.call.id, end);
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    assert_eq!(shown(&answer).as_deref(), Some("accepted"));
    let expected = json!({ "escalated": false, "saved": "0.0002", "wasted": "0.00" });
    assert_eq!(notes(&node, &answer.call.id).await, [expected]);
    assert_eq!(amounts(&node).await, [dollars("0.0002"), Money::ZERO, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_rejected_answer_is_paid_and_never_seen_and_the_last_target_streams() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/dear"], no_hi()).await;
    budget(&node, "1.00").await;
    node.targets.script("paid/m", whole("m"));
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.quiet().await;
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/dear"]);
    node.tell(&answer.call.id, start("dear"));
    node.tell(&answer.call.id, text());
    assert!(matches!(answer.next().now_or_never(), Some(Some(OutcomeEvent::Start(_)))));
    assert!(matches!(answer.next().now_or_never(), Some(Some(OutcomeEvent::Frame { .. }))));
    assert_eq!(shown(&answer).as_deref(), Some("escalated; validator=must_not_match"));
    node.tell(&answer.call.id, finish(Some(usage(100, 10))));
    assert_eq!(read(&mut answer).await, ["finish"]);
    let expected = [
        ("paid/dear".to_owned(), None, dollars("0.0004"), Money::ZERO),
        ("paid/m".to_owned(), None, dollars("0.0002"), Money::ZERO),
    ];
    assert_eq!(ended(&node, &answer).await, expected);
    let expected = [
        json!({ "escalated": true, "saved": "0.00", "wasted": "0.00" }),
        json!({ "validator": "must_not_match", "wasted": "0.0002" }),
    ];
    assert_eq!(notes(&node, &answer.call.id).await, expected);
    let bill = answer.bill();
    assert_eq!((bill.cost, bill.attempts), (Some(dollars("0.0006")), 2));
    let metrics = node.pipeline.metrics();
    let counted = [
        r#"holdfast_cascade_answers_total{route="route/r",validator="must_not_match"} 1"#,
        r#"holdfast_cascade_answers_total{route="route/r",validator="none"} 1"#,
        r#"holdfast_cascade_nanousd_total{route="route/r",kind="wasted"} 200000"#,
    ];
    for line in counted {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    node.stop().await;
}

#[tokio::test]
async fn of_three_the_second_may_be_good_enough() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["local/demo", "paid/m", "paid/dear"], no_hi()).await;
    // Worth one attempt at the dearest: what was free hands its money on.
    budget(&node, "0.006").await;
    node.targets.script("local/demo", whole("demo"));
    node.targets.script("paid/m", other("m"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    assert_eq!(node.targets.asked(), ["local/demo", "paid/m"]);
    let expected = [
        json!({ "validator": "must_not_match", "wasted": "0.00" }),
        json!({ "escalated": true, "saved": "0.0002", "wasted": "0.00" }),
    ];
    assert_eq!(notes(&node, &answer.call.id).await, expected);
    assert_eq!(amounts(&node).await, [dollars("0.0002"), Money::ZERO, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn what_no_budget_pays_for_is_not_asked_and_the_rejected_answer_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/n"], no_hi()).await;
    // A nanodollar less than the second attempt needs beside what the first cost.
    budget(&node, "0.003199999").await;
    node.targets.script("paid/m", whole("m"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    assert_eq!(&*answer.target().name, "paid/m");
    assert_eq!(shown(&answer).as_deref(), Some("rejected; validator=must_not_match"));
    let bill = answer.bill();
    assert_eq!((bill.cost, bill.attempts), (Some(dollars("0.0002")), 1));
    assert_eq!(amounts(&node).await, [dollars("0.0002"), Money::ZERO, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn the_callers_own_limit_holds_too() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/n"], no_hi()).await;
    for (limit, expected) in [("0.0032", 2), ("0.003199999", 1)] {
        node.targets.script("paid/m", whole("m"));
        let mut incoming = asked();
        incoming.headers.budget = Some(dollars(limit));
        node.targets.script("paid/n", whole("n"));
        let mut answer = node.pipeline.run(incoming).await.unwrap();
        read(&mut answer).await;
        assert_eq!(answer.bill().attempts, expected, "{limit}");
    }
    node.stop().await;
}

#[tokio::test]
async fn if_the_next_target_fails_the_rejected_answer_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/n"], no_hi()).await;
    budget(&node, "1.00").await;
    node.targets.script("paid/m", whole("m"));
    node.targets.script("paid/n", [failed(ErrorCode::UpstreamTimeout, Billed::Unknown)]);
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    assert_eq!(&*answer.target().name, "paid/m");
    assert_eq!(shown(&answer).as_deref(), Some("rejected; validator=must_not_match"));
    let expected = [
        ("paid/m".to_owned(), None, dollars("0.0002"), Money::ZERO),
        ("paid/n".to_owned(), Some(ErrorCode::UpstreamTimeout), Money::ZERO, dollars(BOUND)),
    ];
    assert_eq!(ended(&node, &answer).await, expected);
    assert_eq!(amounts(&node).await, [dollars("0.0002"), dollars(BOUND), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn what_was_shown_is_not_followed_by_a_rejected_answer() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/n"], no_hi()).await;
    node.targets.script("paid/m", whole("m"));
    let cut = failed(ErrorCode::StreamCut, Billed::Unknown);
    node.targets.script("paid/n", [start("n"), text(), cut]);
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start n", "text", "stream_cut Unknown"]);
    assert_eq!(shown(&answer).as_deref(), Some("escalated; validator=must_not_match"));
    node.stop().await;
}

#[tokio::test]
async fn one_target_alone_is_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/n"], no_hi()).await;
    // The first is away, so that the second is all there is.
    node.targets.script("paid/m", [failed(ErrorCode::UpstreamQuota, Billed::No)]);
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    assert_eq!(shown(&answer), None);
    assert_eq!(notes(&node, &answer.call.id).await, [Value::Null, Value::Null]);
    node.stop().await;
}

#[tokio::test]
async fn a_judge_accepts_and_rejects_on_its_own_bill() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/dear"], judged_by_a_model(false)).await;
    budget(&node, "1.00").await;
    for (score, targets) in [("70", 1), ("69", 2)] {
        node.targets.script("paid/m", whole("m"));
        node.targets.script("paid/judge", scored(score));
        node.targets.script("paid/dear", whole("dear"));
        let mut answer = node.pipeline.run(readable(asked())).await.unwrap();
        read(&mut answer).await;
        assert_eq!(answer.bill().attempts, targets);
        let noted = notes(&node, &answer.call.id).await.pop().unwrap();
        let judge = CallId::parse(noted["judge"]["call"].as_str().unwrap()).unwrap();
        let row = rows(&node, &judge).await.remove(0);
        assert_eq!((row.parent, row.cost), (Some(answer.call.id.clone()), dollars("0.0003")));
        assert_eq!(noted["judge"]["score"].to_string(), score);
        let wasted = if targets == 1 { "0.0003" } else { "0.0005" };
        assert_eq!(noted["wasted"], wasted);
        // Free for the second one again.
        node.targets.asked();
    }
    assert_eq!(amounts(&node).await, [dollars("0.0014"), Money::ZERO, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_judge_that_fails_accepts_or_escalates_as_the_route_says() {
    for escalates in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let node = cascading(&folder, &["paid/m", "paid/n"], judged_by_a_model(escalates)).await;
        let outcomes: [Vec<OutcomeEvent>; 3] = [
            vec![failed(ErrorCode::RateLimited, Billed::No)],
            whole("judge").to_vec(),
            scored("101").to_vec(),
        ];
        for outcome in outcomes {
            node.targets.script("paid/m", whole("m"));
            node.targets.script("paid/judge", outcome);
            if escalates {
                node.targets.script("paid/n", whole("n"));
            }
            let mut answer = node.pipeline.run(readable(asked())).await.unwrap();
            let from = if escalates { "start n" } else { "start m" };
            assert_eq!(read(&mut answer).await, [from, "text", "finish"]);
            let shown = shown(&answer).unwrap();
            assert_eq!(shown, if escalates { "escalated; validator=judge" } else { "accepted" });
        }
        node.stop().await;
    }
}

/// A Call whose first answer is with its judge.
async fn at_the_judge(node: &Node) -> Answer {
    node.targets.script("paid/m", whole("m"));
    let mut answer = node.pipeline.run(readable(streamed())).await.unwrap();
    Node::begin(&mut answer);
    node.quiet().await;
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/judge"]);
    answer
}

#[tokio::test]
async fn a_judge_that_takes_too_long_is_given_up_at_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/n"], judged_by_a_model(false)).await;
    budget(&node, "1.00").await;
    let mut answer = at_the_judge(&node).await;
    node.clock.advance(PATIENCE);
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    let noted = notes(&node, &answer.call.id).await.remove(0);
    assert_eq!(noted["judge"]["failed"], "upstream_timeout");
    assert_eq!(noted["unjudged"], json!(["judge"]));
    let [settled, unreconciled, reserved] = amounts(&node).await;
    assert_eq!((settled, reserved), (dollars("0.0002"), Money::ZERO));
    assert_eq!(noted["wasted"], unreconciled.to_string(), "the judge may have been billed");
    assert!(unreconciled > Money::ZERO);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_while_a_judge_reads_leaves_a_settled_answer() {
    let folder = tempfile::tempdir().unwrap();
    let node = cascading(&folder, &["paid/m", "paid/n"], judged_by_a_model(false)).await;
    budget(&node, "1.00").await;
    let answer = at_the_judge(&node).await;
    let call = answer.call.id.clone();
    drop(answer);
    node.pipeline.flush().await.unwrap();
    let row = rows(&node, &call).await.remove(0);
    assert_eq!((row.cost, row.unreconciled, row.error), (dollars("0.0002"), Money::ZERO, None));
    let [settled, unreconciled, reserved] = amounts(&node).await;
    assert_eq!((settled, reserved), (dollars("0.0002"), Money::ZERO));
    assert!(unreconciled > Money::ZERO, "nobody knows what the judge did");
    node.stop().await;
}

/// What happens next to one of the Calls.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    /// Its newest attempt ends so.
    Good,
    Bad,
    Refused,
    Cut,
    /// The next judges answer so, from now on one each.
    Scores(bool),
    JudgeFails,
    Late,
    Leave,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Begin),
        3 => Just(Event::Good),
        4 => Just(Event::Bad),
        1 => Just(Event::Refused),
        2 => Just(Event::Cut),
        4 => any::<bool>().prop_map(Event::Scores),
        1 => Just(Event::JudgeFails),
        1 => Just(Event::Late),
        1 => Just(Event::Leave),
    ]
}

#[test]
fn no_budget_is_passed_by_cascades_and_their_judges() {
    let limits = prop_oneof![Just("0.004"), Just("0.0075"), Just("0.012"), Just("0.03")];
    let events = prop::collection::vec((0..4usize, event()), 1..60);
    in_any_order(&(limits, events), async |(limit, events)| interleaved(limit, &events).await);
}

async fn interleaved(limit: &str, events: &[(usize, Event)]) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let policy = CascadePolicy { judge: judged_by_a_model(true).judge, ..no_hi() };
    let node = cascading(&folder, &["paid/m", "local/demo", "paid/n", "paid/dear"], policy).await;
    budget(&node, limit).await;
    let mut answers: [Option<Answer>; 4] = [const { None }; 4];
    for (place, event) in events {
        let slot = &mut answers[*place];
        match event {
            Event::Begin if slot.is_none() => {
                *slot = node.pipeline.run(readable(asked())).await.ok();
            }
            Event::Begin => {}
            Event::Good => tell(&node, slot.as_ref(), &other("x")),
            Event::Bad => tell(&node, slot.as_ref(), &whole("x")),
            Event::Refused => {
                tell(&node, slot.as_ref(), &[failed(ErrorCode::UpstreamQuota, Billed::No)]);
            }
            Event::Cut => {
                tell(&node, slot.as_ref(), &[failed(ErrorCode::StreamCut, Billed::Unknown)]);
            }
            Event::Scores(well) => {
                node.targets.script("paid/judge", scored(if *well { "90" } else { "10" }));
            }
            Event::JudgeFails => {
                let failed = failed(ErrorCode::UpstreamTimeout, Billed::Unknown);
                node.targets.script("paid/judge", [failed]);
            }
            Event::Late => node.clock.advance(PATIENCE),
            Event::Leave => *slot = None,
        }
        for slot in &mut answers {
            if slot.as_mut().is_some_and(has_ended) {
                *slot = None;
            }
            tokio::task::yield_now().await;
        }
        let [settled, unreconciled, reserved] = amounts(&node).await;
        assert!(settled + unreconciled + reserved <= dollars(limit), "{event:?}");
    }
    drop(answers);
    // A budget's worker that was claiming for them gives the money back first.
    node.quiet().await;
    let [settled, unreconciled, reserved] = amounts(&node).await;
    assert_eq!(reserved, Money::ZERO);
    let mut really = Money::ZERO;
    for call in node.targets.calls() {
        for row in rows(&node, &call).await {
            really += row.cost + row.unreconciled;
        }
    }
    assert_eq!(settled + unreconciled, really, "every attempt and every judge is on the bill");
    assert!(really <= dollars(limit));
    node.stop().await;
}

/// Tells the newest attempt of a Call, if one was made.
fn tell(node: &Node, answer: Option<&Answer>, events: &[OutcomeEvent]) {
    let Some(call) = answer.map(|answer| &answer.call.id) else { return };
    let Some(newest) = node.targets.made(call).and_then(|made| made.checked_sub(1)) else { return };
    for event in events {
        node.targets.tell_nth(call, newest, event.clone());
    }
}
