//! A second opinion on decisions about tiers: what is asked for it, who pays, and what is counted.

use std::sync::Arc;
use std::time::Duration;

use pipeline::auto::{Opinions, RouteTally};
use pipeline::{Answer, StepIntent};
use storage::{Scope, WindowKind};
use types::auto::{AutoJudge, AutoPolicy, Tier};
use types::call::{CallKind, ModelCall, RoutePolicy, StepRef};
use types::cascade::JudgePolicy;
use types::conversation::{Message, Role};
use types::error::Billed;
use types::ids::{SessionId, StepId};
use types::outcome::Delta;
use types::{Conversation, ErrorCode, Incoming, Money, OutcomeEvent};

use super::attempts::{amounts, asked, failed, read, routed_by, start, streamed, whole};
use super::world::{NoFormat, Node, as_step, dollars, finish, model, price, rows, usage};

const EASY: &str = "What is the capital of France?";
const HARD: &str = "Design a lock-free multi-producer queue in Rust, prove that it is linearizable, \
                    and analyse the memory ordering of each atomic operation.";

fn policy(shadow: bool, day_max: Option<&str>) -> AutoPolicy {
    let judge = JudgePolicy {
        model: "paid/judge".to_owned(),
        threshold: 70,
        prompt: None,
        output_tokens: 16,
        timeout: Duration::from_secs(30),
        escalate_on_failure: false,
    };
    AutoPolicy {
        cheap: vec!["paid/m".to_owned()],
        strong: vec!["paid/dear".to_owned()],
        threshold: AutoPolicy::THRESHOLD,
        shadow,
        by_header: true,
        asked: None,
        judge: Some(AutoJudge {
            judge,
            share_millionths: AutoJudge::WHOLE,
            day_max: day_max.map(dollars),
        }),
    }
}

async fn judged(folder: &tempfile::TempDir, auto: AutoPolicy) -> Node {
    let policy = RoutePolicy { auto: Some(Arc::new(auto)), ..RoutePolicy::OF_ROUTE };
    let node = routed_by(folder, &["paid/m", "paid/dear"], policy).await;
    node.directory.put_model(model("paid", "judge", Some(price()))).await.unwrap();
    node
}

/// The same request, saying something.
fn saying(mut incoming: Incoming, text: &str) -> Incoming {
    if let CallKind::Model(model) = &incoming.kind {
        let messages = vec![Message::text(Role::User, text)];
        let conversation = Conversation { messages, ..Conversation::default() };
        let head = model.head.clone();
        let neutral = ModelCall::from_neutral(&NoFormat, head, Arc::new(conversation));
        incoming.kind = CallKind::Model(neutral);
    }
    incoming
}

fn says(text: &str) -> [OutcomeEvent; 3] {
    let delta = Delta::Text { text: text.to_owned() };
    let said = OutcomeEvent::Frame { raw: None, delta: Some(delta) };
    [start("judge"), said, finish(Some(usage(200, 10)))]
}

fn tally(node: &Node) -> RouteTally {
    node.pipeline.tiers().remove(0).1
}

/// A Call to its end, and what is asked because of it.
async fn answered(node: &Node, incoming: Incoming) -> Answer {
    let mut answer = node.pipeline.run(incoming).await.unwrap();
    read(&mut answer).await;
    node.quiet().await;
    answer
}

#[tokio::test]
async fn a_cheap_answer_is_graded_when_it_is_over_on_a_bill_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let node = judged(&folder, policy(false, None)).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    for (score, disagreed) in [("70", 0), ("69", 1)] {
        node.targets.script("paid/m", whole("m"));
        node.targets.script("paid/judge", says(&format!("{{\"score\": {score}}}")));
        let answer = answered(&node, saying(streamed(), EASY)).await;
        assert_eq!(node.targets.asked(), ["paid/m", "paid/judge"]);
        assert_eq!(tally(&node).opinions[0].disagreed, disagreed, "{score}");
        // Its own bill says nothing of it.
        assert_eq!((answer.bill().cost, answer.bill().attempts), (Some(dollars("0.0002")), 1));
        let judge = node.targets.calls_at("paid/judge").into_iter();
        node.pipeline.flush().await.unwrap();
        let mut of_this = Vec::new();
        for call in judge {
            of_this.extend(rows(&node, &call).await);
        }
        of_this.retain(|row| row.parent.as_ref() == Some(&answer.call.id));
        assert_eq!(of_this.len(), 1);
        let row = &of_this[0];
        assert_eq!((&*row.class, row.cost), ("auto-judge", dollars("0.0003")));
        assert_eq!(row.notes.get("auto_judge").unwrap(), "grade");
    }
    let tally = tally(&node);
    assert_eq!(tally.opinions, [Opinions { judged: 2, disagreed: 1 }, Opinions::default()]);
    assert_eq!(tally.judging, dollars("0.0006"));
    assert_eq!(amounts(&node).await, [dollars("0.001"), Money::ZERO, Money::ZERO]);
    let metrics = node.pipeline.metrics();
    for line in [
        r#"holdfast_auto_judged_total{route="route/r",tier="cheap"} 2"#,
        r#"holdfast_auto_disagreed_total{route="route/r",tier="cheap"} 1"#,
        r#"holdfast_auto_judging_nanousd_total{route="route/r",by="judge"} 600000"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    node.stop().await;
}

/// The strong tier answers; the cheap one is asked the same, and both are graded in random order.
async fn beside(auto: AutoPolicy, text: &str, decided: Tier) {
    const CALLS: u64 = 24;
    let folder = tempfile::tempdir().unwrap();
    let node = judged(&folder, auto).await;
    for _ in 0..CALLS {
        node.targets.script("paid/dear", whole("dear"));
        node.targets.script("paid/m", says("cheap words"));
        node.targets.script("paid/judge", says("{\"scores\": [20, 90]}"));
        let answer = answered(&node, saying(asked(), text)).await;
        assert_eq!(node.targets.asked(), ["paid/dear", "paid/m", "paid/judge"]);
        assert_eq!(&*answer.target().name, "paid/dear");
    }
    let found = *tally(&node).opinions_on(decided);
    assert_eq!(found.judged, CALLS);
    // Always the same would be the place and not the answer.
    assert!(found.disagreed > 4 && found.disagreed < CALLS - 4, "{found:?}");
    // Two that are as good speak for the cheap one, however poor they are.
    let before = found.disagreed;
    node.targets.script("paid/dear", whole("dear"));
    node.targets.script("paid/m", says("cheap words"));
    node.targets.script("paid/judge", says("{\"scores\": [20, 20]}"));
    answered(&node, saying(asked(), text)).await;
    let disagreed = tally(&node).opinions_on(decided).disagreed;
    assert_eq!(disagreed - before, u64::from(decided == Tier::Strong));
    node.stop().await;
}

#[tokio::test]
async fn in_shadow_mode_the_cheap_tier_is_asked_the_same_and_judged_blind() {
    beside(policy(true, None), EASY, Tier::Cheap).await;
}

#[tokio::test]
async fn of_a_hard_task_it_is_asked_whether_the_cheap_tier_would_have_done() {
    beside(policy(false, None), HARD, Tier::Strong).await;
}

#[tokio::test]
async fn what_no_budget_or_day_pays_for_is_not_asked_and_counted() {
    for (limit, day_max) in [("0.0031", None), ("1.00", Some("0.000000001"))] {
        let folder = tempfile::tempdir().unwrap();
        let node = judged(&folder, policy(false, day_max)).await;
        node.budget(Scope::Account, dollars(limit), WindowKind::Total).await;
        node.targets.script("paid/m", whole("m"));
        // What the first leaves is no attempt of this one's bound.
        let mut incoming = saying(asked(), EASY);
        if let CallKind::Model(model) = &mut incoming.kind {
            model.head.output_cap = Some(10);
        }
        if day_max.is_none() {
            node.directory.put_model(model("paid", "judge", Some(dear()))).await.unwrap();
        }
        answered(&node, incoming).await;
        assert_eq!(node.targets.asked(), ["paid/m"], "{limit}");
        let tally = tally(&node);
        assert_eq!((tally.unjudged_refused, tally.judging), (1, Money::ZERO), "{limit}");
        assert_eq!(tally.opinions, [Opinions::default(); 2]);
        assert_eq!(amounts(&node).await[2], Money::ZERO);
        node.stop().await;
    }
}

/// Nothing that a small budget pays for.
fn dear() -> types::Price {
    types::Price { per_request: dollars("1"), ..price() }
}

#[tokio::test]
async fn a_judge_that_fails_or_says_no_score_is_counted_and_paid() {
    let folder = tempfile::tempdir().unwrap();
    let node = judged(&folder, policy(false, Some("0.5"))).await;
    let outcomes = [
        vec![failed(ErrorCode::RateLimited, Billed::No)],
        says("well, well").to_vec(),
        says("{\"scores\": [1, 2]}").to_vec(),
    ];
    for outcome in outcomes {
        node.targets.script("paid/m", whole("m"));
        node.targets.script("paid/judge", outcome);
        answered(&node, saying(asked(), EASY)).await;
    }
    let tally = tally(&node);
    assert_eq!((tally.unjudged_failed, tally.judging), (3, dollars("0.0006")));
    assert_eq!(tally.opinions, [Opinions::default(); 2]);
    node.stop().await;
}

#[tokio::test]
async fn what_was_not_decided_by_the_classifier_or_failed_gets_no_opinion() {
    let folder = tempfile::tempdir().unwrap();
    let node = judged(&folder, policy(false, None)).await;
    // A caller's wish.
    let mut wished = saying(asked(), EASY);
    wished.headers.tier = Some(Tier::Strong);
    node.targets.script("paid/dear", whole("dear"));
    answered(&node, wished).await;
    // The cheap tier was meant, and failed.
    node.targets.script("paid/m", [failed(ErrorCode::UpstreamQuota, Billed::No)]);
    node.targets.script("paid/dear", whole("dear"));
    answered(&node, saying(asked(), EASY)).await;
    // Nobody got an answer.
    for target in ["paid/m", "paid/dear"] {
        node.targets.script(target, [failed(ErrorCode::UpstreamQuota, Billed::No)]);
    }
    answered(&node, saying(asked(), EASY)).await;
    // The second of a task that was hard.
    for (text, judges) in [(HARD, true), (EASY, false)] {
        let mut incoming = saying(asked(), text);
        incoming.headers.task = Some("t".to_owned());
        node.targets.asked();
        node.targets.script("paid/dear", whole("dear"));
        if judges {
            node.targets.script("paid/m", whole("m"));
            node.targets.script("paid/judge", says("{\"scores\": [90, 90]}"));
        }
        answered(&node, incoming).await;
        assert_eq!(node.targets.asked().contains(&"paid/judge".to_owned()), judges, "{text}");
    }
    let tally = tally(&node);
    assert_eq!(tally.opinions[0], Opinions::default());
    assert_eq!(tally.opinions[1].judged, 1);
    assert_eq!(tally.unjudged_failed + tally.unjudged_refused + tally.unjudged_passed_over, 0);
    node.stop().await;
}

#[tokio::test]
async fn what_can_not_be_asked_again_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let node = judged(&folder, policy(false, None)).await;
    let mut incoming = saying(asked(), EASY);
    if let CallKind::Model(model) = &mut incoming.kind {
        model.head.media = 1;
    }
    node.targets.script("paid/m", whole("m"));
    answered(&node, incoming).await;
    // Longer than what is held of an answer.
    node.targets.script("paid/m", says(&"a".repeat(300_000)));
    answered(&node, saying(asked(), EASY)).await;
    assert_eq!(node.targets.asked(), ["paid/m", "paid/m"]);
    assert_eq!(tally(&node).unjudged_passed_over, 2);
    node.stop().await;
}

/// A node on a folder with tiers and no judge.
async fn tiered(folder: &tempfile::TempDir) -> Node {
    judged(folder, AutoPolicy { judge: None, ..policy(false, None) }).await
}

/// A step of a turn that nobody named: its intent, after it was admitted.
async fn step(node: &Node, session: &StepRef, text: &str) -> StepIntent {
    let incoming = as_step(saying(asked(), text), session.clone());
    node.pipeline.admit_step(incoming).await.unwrap().intent()
}

#[tokio::test]
async fn a_turn_stays_with_the_strong_tier_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = tiered(&folder).await;
    let session = SessionId::new(&node.ids);
    let step_id = StepId::new(&node.ids);
    let at =
        StepRef { begun: false, session: session.clone(), root: session.clone(), step: step_id };
    let target = |intent: &StepIntent| serde_json::to_value(intent).unwrap()["target"].clone();
    let easy = step(&node, &at, EASY).await;
    assert_eq!(target(&easy), "paid/m");
    let hard = step(&node, &at, HARD).await;
    assert_eq!(target(&hard), "paid/dear");
    assert_eq!(target(&step(&node, &at, EASY).await), "paid/dear", "its session was hard");
    // What a new process remembers is what it is told.
    let other = tempfile::tempdir().unwrap();
    let next = tiered(&other).await;
    next.pipeline.keep_tier(&easy, &session);
    assert_eq!(target(&step(&next, &at, EASY).await), "paid/m");
    next.pipeline.keep_tier(&hard, &session);
    assert_eq!(target(&step(&next, &at, EASY).await), "paid/dear");
    let elsewhere = SessionId::new(&node.ids);
    let at = StepRef { begun: false, session: elsewhere.clone(), root: elsewhere, step: at.step };
    assert_eq!(target(&step(&next, &at, EASY).await), "paid/m", "another session");
}

#[tokio::test]
async fn a_client_waits_for_no_opinion_and_neither_does_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let node = judged(&folder, policy(false, None)).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    node.targets.script("paid/m", whole("m"));
    let mut answer = node.pipeline.run(saying(asked(), EASY)).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    // The judge was asked, and says nothing: with a clock that stands still, a stop that waited
    // for it would wait for ever.
    while node.targets.calls_at("paid/judge").is_empty() {
        tokio::task::yield_now().await;
    }
    let judge = node.targets.calls_at("paid/judge").remove(0);
    let store = Arc::clone(&node.store);
    node.pipeline.shutdown().await.unwrap();
    let store: &dyn storage::Store = &*store;
    let row = store.call(&judge).await.unwrap().remove(0);
    assert_eq!(row.error, Some(ErrorCode::Cancelled));
    assert!(row.unreconciled > Money::ZERO, "what it may have cost stays on the bill");
}
