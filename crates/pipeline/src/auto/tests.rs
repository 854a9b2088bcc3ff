use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, proptest};
use types::auto::Tier;
use types::conversation::{Conversation, Effort, Message, Part, Role};

use super::features::{BUCKETS, Features};
use super::model::Model;
use super::*;
use labelled::{Row, read};

mod labelled;
mod trainer;

fn asked(text: &str) -> Conversation {
    Conversation { messages: vec![Message::text(Role::User, text)], ..Conversation::default() }
}

fn tier_of(row: &Row) -> Tier {
    judge(&row.conversation(), AutoPolicy::THRESHOLD).tier
}

/// What is right of the 100 of a kind, at least.
const EASY_FLOOR: usize = 90;
const HARD_FLOOR: usize = 90;

/// The held-out set: nobody has read it while the classifier was made.
#[test]
fn most_go_to_the_tier_that_they_are_for() {
    let rows = read(&[include_str!("../../../../models/auto/test.jsonl")]);
    for (label, tier, floor) in
        [("easy", Tier::Cheap, EASY_FLOOR), ("hard", Tier::Strong, HARD_FLOOR)]
    {
        let of_label: Vec<_> = rows.iter().filter(|row| row.label == label).collect();
        let right = of_label.iter().filter(|row| tier_of(row) == tier).count();
        assert_eq!(of_label.len(), 100);
        println!("{right} of 100 that are {label}");
        assert!(right >= floor, "{right} of 100 that are {label}");
    }
}

#[test]
fn the_shipped_weights_are_whole_and_every_measure_has_one() {
    let model = Model::trained();
    assert_eq!(model.words.iter().map(Vec::len).sum::<usize>(), BUCKETS);
    let known: Vec<_> = features::MEASURES.iter().map(|(name, _)| *name).collect();
    let mut weighed: Vec<_> = model.measures.keys().map(String::as_str).collect();
    weighed.sort_by_key(|name| known.iter().position(|known| known == name));
    assert_eq!(weighed, known);
}

#[test]
fn rules_come_before_the_classifier_and_say_their_name() {
    let mut effort = asked("hi");
    assert_eq!(judge(&effort, 50).tier, Tier::Cheap);
    effort.reasoning.effort = Some(Effort::High);
    let by_effort = judge(&effort, 50);
    assert_eq!(by_effort, Decision { tier: Tier::Strong, score: None, reasons: vec!["effort"] });
    let mut failed = asked("list the files");
    for text in ["Error: no such file", "Traceback (most recent call last):"] {
        let part = Part::tool_result("c", text, false);
        failed.messages.push(Message { role: Role::Tool, parts: vec![part] });
    }
    assert_eq!(judge(&failed, 50).reasons, ["failures"]);
    // A result that only speaks of errors is none.
    let mut found = asked("list the files");
    for text in ["src/error.rs", "no errors were found"] {
        let part = Part::tool_result("c", text, false);
        found.messages.push(Message { role: Role::Tool, parts: vec![part] });
    }
    assert_eq!(Features::of(&found).failures, 0);
}

#[test]
fn the_threshold_moves_the_line() {
    let middling = asked("Explain how a hash map works and when it is slow.");
    let score = judge(&middling, 50).score.unwrap();
    assert!((1..100).contains(&score), "{score}");
    assert_eq!(judge(&middling, score).tier, Tier::Strong);
    assert_eq!(judge(&middling, score + 1).tier, Tier::Cheap);
}

#[test]
fn a_decision_tells_groups_and_not_a_word_of_the_prompt() {
    let decision = judge(&asked("Prove xylophone theorem by induction, then refute it."), 50);
    assert!(!decision.reasons.is_empty() && decision.reasons.len() <= 3);
    for reason in &decision.reasons {
        assert!(!"prove xylophone theorem by induction then refute it".contains(reason));
    }
}

#[test]
fn what_is_quoted_at_length_is_not_what_is_asked() {
    let features = |text: &str| Features::of(&asked(text)).buckets;
    let plain = features("translate this:  please, thank you");
    let quoted =
        "translate this: \"we must prove the invariants of the protocol\" please, thank you";
    assert_eq!(features(quoted), plain);
    // A short one is a name, and what is only a quote is asked.
    assert_ne!(features("translate this: \"prove\" please, thank you"), plain);
    assert!(!features("\"we must prove the invariants of the protocol\"").is_empty());
}

#[test]
fn of_a_long_text_the_head_and_the_tail_are_read() {
    let long = format!("summarise {} shortly", "word ".repeat(100_000));
    let found = Features::of(&asked(&long));
    let all = Features::of(&asked("summarise word word word word shortly")).buckets;
    assert!(all.iter().all(|bucket| found.buckets.contains(bucket)));
    // A word that is cut where reading ends has some of its own.
    assert!(found.buckets.len() < all.len() + 10);
}

#[test]
fn times_are_told_by_the_step_that_they_are_within() {
    let mut took = Took::default();
    assert_eq!(took.micros_within(50), None);
    for micros in [1, 40, 40, 41] {
        took.count(Duration::from_micros(micros));
    }
    assert_eq!([25, 50, 99].map(|percent| took.micros_within(percent)), [1, 50, 50].map(Some));
    took.count(Duration::from_secs(1));
    assert_eq!((took.micros_within(80), took.micros_within(99)), (Some(50), None));
}

#[test]
fn a_turn_that_nobody_named_goes_by_its_session_and_a_task_by_its_name() {
    use tally::KeyOf::{Session, Task};
    let of = |task, parent, session| KeyOf::find(task, ("c2", parent), session);
    assert_eq!(of("t", None, Some("s")), Some(Task("t")));
    assert_eq!(of("t", Some("c1"), Some("s")), Some(Task("t")));
    // The first step of a turn, and a later one.
    assert_eq!(of("c2", None, Some("s")), Some(Session("s")));
    assert_eq!(of("c1", Some("c1"), Some("s")), Some(Session("s")));
    assert_eq!(of("c2", None, None), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_has_features_and_a_score(text in any::<String>(), threshold in 1_u8..=100) {
        let found = Features::of(&asked(&text));
        assert!(found.measures.iter().all(|value| value.is_finite()));
        assert!(found.buckets.windows(2).all(|pair| pair[0] < pair[1]));
        let decision = judge(&asked(&text), threshold);
        assert_eq!(decision.tier == Tier::Strong, decision.score.unwrap() >= threshold);
    }
}
