//! A second attempt beside a slow first one: who wins, who pays, and who is never asked twice.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use pipeline::Answer;
use proptest::prelude::*;
use storage::{Scope, WindowKind};
use types::call::{CallKind, RoutePolicy};
use types::error::Billed;
use types::{ErrorCode, Failure, Money, OutcomeEvent};

use super::attempts::{
    BOUND, amounts, asked, ends, failed, read, routed_by, start, streamed, text, whole,
};
use super::world::{Node, dollars, has_ended, in_any_order, rows};

const AFTER: Duration = Duration::from_millis(800);

async fn hedged(folder: &tempfile::TempDir, targets: &[&str]) -> Node {
    let policy = RoutePolicy { hedge_after: Some(AFTER), ..RoutePolicy::OF_ROUTE };
    routed_by(folder, targets, policy).await
}

async fn budget(node: &Node, limit: &str) {
    node.budget(Scope::Account, dollars(limit), WindowKind::Total).await;
}

#[tokio::test]
async fn whoever_shows_content_first_wins_and_the_other_is_on_the_bill() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["paid/m", "paid/n"]).await;
    budget(&node, "1.00").await;
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    node.clock.advance(AFTER);
    node.targets.script("paid/n", [start("n")]);
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/n"]);
    node.quiet().await;
    assert_eq!(amounts(&node).await, [Money::ZERO, Money::ZERO, dollars("0.006")], "both are held");
    whole("n").into_iter().skip(1).for_each(|event| node.tell(&answer.call.id, event));
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    assert_eq!(&*answer.target().name, "paid/n");
    let expected = [
        ("paid/m".to_owned(), Some(ErrorCode::Cancelled), Money::ZERO, dollars(BOUND)),
        ("paid/n".to_owned(), None, dollars("0.0002"), Money::ZERO),
    ];
    assert_eq!(ends(&node, &answer).await, expected);
    assert_eq!(answer.bill().cost, None, "nobody knows what the first one cost");
    assert_eq!(amounts(&node).await, [dollars("0.0002"), dollars(BOUND), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn the_first_one_may_still_win() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["local/demo", "paid/n"]).await;
    budget(&node, "1.00").await;
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    Node::begin(&mut answer);
    for event in whole("demo") {
        assert!(node.targets.tell_nth(&answer.call.id, 0, event));
    }
    assert_eq!(read(&mut answer).await, ["start demo", "text", "finish"]);
    let ends = ends(&node, &answer).await;
    assert_eq!(ends[1].1, Some(ErrorCode::Cancelled));
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars(BOUND), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn there_is_no_second_without_its_money_or_for_a_quick_first() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["paid/m", "paid/n"]).await;
    // Worth one attempt and not two.
    budget(&node, "0.005").await;
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    for _ in 0..20 {
        assert!(answer.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(node.targets.asked(), ["paid/m"]);
    whole("m").into_iter().for_each(|event| node.tell(&answer.call.id, event));
    assert_eq!(read(&mut answer).await, ["start m", "text", "finish"]);
    assert_eq!(amounts(&node).await, [dollars("0.0002"), Money::ZERO, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn the_callers_own_limit_counts_both() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["paid/m", "paid/n"]).await;
    let mut own = streamed();
    own.headers.budget = Some(dollars("0.006"));
    let mut answer = node.pipeline.run(own).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/n"], "there is room for two");
    drop(answer);
    let mut own = streamed();
    own.headers.budget = Some(dollars("0.004"));
    let mut answer = node.pipeline.run(own).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    Node::begin(&mut answer);
    node.tell(&answer.call.id, start("m"));
    node.tell(&answer.call.id, text());
    read_one(&mut answer).await;
    node.clock.advance(AFTER);
    Node::begin_again(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    drop(answer);
    node.stop().await;
}

async fn read_one(answer: &mut Answer) {
    for _ in 0..2 {
        answer.next().await.unwrap();
    }
}

#[tokio::test]
async fn a_percentile_goes_by_what_the_first_target_did_lately() {
    let folder = tempfile::tempdir().unwrap();
    let policy = RoutePolicy {
        hedge_after: Some(AFTER),
        hedge_percentile: Some(95),
        ..RoutePolicy::OF_ROUTE
    };
    let node = routed_by(&folder, &["paid/m", "paid/n"], policy).await;
    let slow = AFTER * 2;
    for number in 0..20 {
        let mut answer = node.pipeline.run(streamed()).await.unwrap();
        Node::begin(&mut answer);
        if number >= 13 {
            // Just before the second one would be asked, as long as too few are known.
            node.clock.advance(AFTER - Duration::from_millis(1));
        }
        whole("m").into_iter().for_each(|event| node.tell(&answer.call.id, event));
        read(&mut answer).await;
    }
    assert_eq!(node.targets.asked().len(), 20, "nobody else was asked");
    // Those that lose count with the time that they were given.
    for _ in 0..3 {
        let mut answer = node.pipeline.run(streamed()).await.unwrap();
        Node::begin(&mut answer);
        node.targets.script("paid/n", whole("n"));
        node.clock.advance(slow);
        read(&mut answer).await;
    }
    assert_eq!(node.targets.asked().len(), 6);
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m"], "95 of a hundred took up to twice as long");
    node.targets.script("paid/n", whole("n"));
    node.clock.advance(slow - AFTER);
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    node.stop().await;
}

#[tokio::test]
async fn a_target_that_was_not_paid_for_beside_is_asked_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["paid/m", "paid/n"]).await;
    // Worth one attempt and a half.
    budget(&node, "0.0045").await;
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    for _ in 0..20 {
        assert!(answer.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(node.targets.asked(), ["paid/m"]);
    node.tell(&answer.call.id, failed(ErrorCode::UpstreamQuota, Billed::No));
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    node.stop().await;
}

#[tokio::test]
async fn a_target_whose_money_was_still_asked_for_is_asked_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["paid/m", "paid/n"]).await;
    budget(&node, "0.0045").await;
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    // The first one fails while the budgets are asked for the second.
    Node::begin(&mut answer);
    node.tell(&answer.call.id, failed(ErrorCode::UpstreamQuota, Billed::No));
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    node.stop().await;
}

#[tokio::test]
async fn who_has_no_room_is_gone_back_to_after_both_have_failed() {
    for away in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        let targets = [["local/demo", "paid/m"], ["paid/m", "local/demo"]][away];
        let node = hedged(&folder, &targets).await;
        let mut answer = node.pipeline.run(streamed()).await.unwrap();
        Node::begin(&mut answer);
        node.clock.advance(AFTER);
        Node::begin(&mut answer);
        let no_room = Failure::new(ErrorCode::Overloaded, "no room").retry_after(Duration::ZERO);
        let no_room = OutcomeEvent::Failed(Box::new(no_room));
        assert!(node.targets.tell_nth(&answer.call.id, away, no_room));
        Node::begin(&mut answer);
        node.targets.asked();
        node.targets.script("local/demo", whole("demo"));
        let other = failed(ErrorCode::UpstreamQuota, Billed::No);
        assert!(node.targets.tell_nth(&answer.call.id, 1 - away, other));
        assert_eq!(read(&mut answer).await, ["start demo", "text", "finish"]);
        assert_eq!(node.targets.asked(), ["local/demo"]);
        assert_eq!(node.targets.patience().last(), Some(&None), "without haste");
        node.stop().await;
    }
}

#[tokio::test]
async fn what_a_provider_does_beside_the_model_is_not_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["paid/m", "paid/n"]).await;
    let mut searching = streamed();
    if let CallKind::Model(model) = &mut searching.kind {
        model.head.surcharge = Some("web_search_options");
    }
    let mut answer = node.pipeline.run(searching).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER * 2);
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    drop(answer);
    node.stop().await;
}

#[tokio::test]
async fn one_of_both_that_fails_leaves_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["paid/m", "paid/n", "paid/dear"]).await;
    budget(&node, "1.00").await;
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    Node::begin(&mut answer);
    let failed_first = failed(ErrorCode::UpstreamFailed, Billed::No);
    assert!(node.targets.tell_nth(&answer.call.id, 0, failed_first));
    Node::begin(&mut answer);
    assert_eq!(node.targets.asked(), ["paid/m", "paid/n"], "the second one goes on alone");
    // And when it fails too, the next is asked.
    node.targets.script("paid/dear", whole("dear"));
    node.tell(&answer.call.id, failed(ErrorCode::UpstreamQuota, Billed::No));
    assert_eq!(read(&mut answer).await, ["start dear", "text", "finish"]);
    assert_eq!(amounts(&node).await, [dollars("0.0004"), Money::ZERO, Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_ends_both() {
    let folder = tempfile::tempdir().unwrap();
    let node = hedged(&folder, &["paid/m", "paid/n"]).await;
    budget(&node, "1.00").await;
    let mut answer = node.pipeline.run(streamed()).await.unwrap();
    Node::begin(&mut answer);
    node.clock.advance(AFTER);
    Node::begin(&mut answer);
    node.quiet().await;
    drop(answer);
    assert_eq!(amounts(&node).await, [Money::ZERO, dollars("0.006"), Money::ZERO]);
    node.stop().await;
}

/// What happens next to one of the Calls.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    Advance,
    /// An attempt of the Call, the newest or the one before, ends so.
    Whole(bool),
    Refused(bool),
    Cut(bool),
    Shows(bool),
    Leave,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Begin),
        4 => Just(Event::Advance),
        3 => any::<bool>().prop_map(Event::Whole),
        1 => any::<bool>().prop_map(Event::Refused),
        2 => any::<bool>().prop_map(Event::Cut),
        2 => any::<bool>().prop_map(Event::Shows),
        1 => Just(Event::Leave),
    ]
}

/// What an attempt of these Calls can really be billed at most, and what one that was whole is.
fn worst(row: &storage::LedgerRow) -> Money {
    match row.error {
        None => dollars(if row.target == "paid/dear" { "0.0004" } else { "0.0002" }),
        Some(_) => row.cost + row.unreconciled,
    }
}

#[test]
fn no_budget_is_passed_by_two_attempts_beside_each_other() {
    let limits = prop_oneof![Just("0.004"), Just("0.007"), Just("0.0095"), Just("0.02")];
    let events = prop::collection::vec((0..4usize, event()), 1..60);
    in_any_order(&(limits, events), async |(limit, events)| interleaved(limit, &events).await);
}

async fn interleaved(limit: &str, events: &[(usize, Event)]) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let node = hedged(&folder, &["paid/m", "paid/dear", "local/demo", "paid/n"]).await;
    budget(&node, limit).await;
    let (mut answers, mut calls) = ([const { None }; 4], Vec::new());
    for (place, event) in events {
        let slot: &mut Option<Answer> = &mut answers[*place];
        match event {
            Event::Begin if slot.is_none() => {
                *slot = node.pipeline.run(asked()).await.ok();
                calls.extend(slot.as_ref().map(|answer| answer.call.id.clone()));
            }
            Event::Advance => node.clock.advance(AFTER),
            Event::Leave => *slot = None,
            Event::Begin => {}
            Event::Whole(newest) => tell(&node, slot.as_ref(), *newest, &whole("x")),
            Event::Shows(newest) => tell(&node, slot.as_ref(), *newest, &whole("x")[..2]),
            Event::Refused(newest) => {
                let refused = failed(ErrorCode::UpstreamQuota, Billed::No);
                tell(&node, slot.as_ref(), *newest, &[refused]);
            }
            Event::Cut(newest) => {
                let cut = failed(ErrorCode::StreamCut, Billed::Unknown);
                tell(&node, slot.as_ref(), *newest, &[cut]);
            }
        }
        for slot in &mut answers {
            let ended = slot.as_mut().is_some_and(has_ended);
            if ended {
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
    for call in &calls {
        for row in rows(&node, call).await {
            assert!(row.target != "local/demo" || row.cost + row.unreconciled == Money::ZERO);
            if row.target != "local/demo" {
                really += worst(&row);
            }
        }
    }
    assert_eq!(settled + unreconciled, really, "every attempt is on the bill");
    assert!(really <= dollars(limit));
    node.stop().await;
}

/// Tells the newest attempt of a Call, or the one before it, if there is one that listens.
fn tell(node: &Node, answer: Option<&Answer>, newest: bool, events: &[OutcomeEvent]) {
    let Some(answer) = answer else { return };
    let Some(made) = node.targets.made(&answer.call.id) else { return };
    let Some(attempt) = made.checked_sub(if newest { 1 } else { 2 }) else { return };
    for event in events {
        node.targets.tell_nth(&answer.call.id, attempt, event.clone());
    }
}
