use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;
use types::conversation::{
    CacheLife, CacheMark, Conversation, MarkPlace, Message, Part, Role, ToolCall,
};
use types::estimate::tokens;

use super::edit::{allowance, asked, edited, kept_summary};
use super::replay::{CLEARED, Limits, replay};

/// A turn of a random conversation.
#[derive(Clone, Debug)]
enum Turn {
    User(usize),
    Media,
    System(usize),
    Says(usize),
    /// Calls of tools, each with the length of its result; the ids are used again by later ones.
    Calls(Vec<usize>, bool),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        2 => (1_usize..400).prop_map(Turn::User),
        1 => Just(Turn::Media),
        1 => (1_usize..60).prop_map(Turn::System),
        2 => (1_usize..400).prop_map(Turn::Says),
        5 => (prop::collection::vec(0_usize..3_000, 1..4), any::<bool>())
            .prop_map(|(results, joined)| Turn::Calls(results, joined)),
    ]
}

fn conversation(turns: &[Turn]) -> Conversation {
    let mut messages = Vec::new();
    for (number, turn) in turns.iter().enumerate() {
        let text = |length: usize| format!("{number}:{}", "x".repeat(length));
        match turn {
            Turn::User(length) => messages.push(Message::text(Role::User, text(*length))),
            Turn::System(length) => messages.push(Message::text(Role::System, text(*length))),
            Turn::Says(length) => messages.push(Message::text(Role::Assistant, text(*length))),
            Turn::Media => messages.push(Message { role: Role::User, parts: vec![image()] }),
            Turn::Calls(results, joined) => {
                let id = |at: usize| format!("call_{at}");
                let call = |at: usize| {
                    let name = if at == 0 { "memory" } else { "read" }.to_owned();
                    Part::ToolCall(ToolCall { id: id(at), name, arguments: "{}".to_owned() })
                };
                let parts = (0..results.len()).map(call).collect();
                messages.push(Message { role: Role::Assistant, parts });
                let result =
                    |(at, length): (usize, &usize)| Part::tool_result(id(at), text(*length), false);
                let results: Vec<Part> = results.iter().enumerate().map(result).collect();
                if *joined {
                    messages.push(Message { role: Role::Tool, parts: results });
                } else {
                    let one = |part| Message { role: Role::Tool, parts: vec![part] };
                    messages.extend(results.into_iter().map(one));
                }
            }
        }
    }
    Conversation { messages, ..Conversation::default() }
}

fn image() -> Part {
    Part::Media {
        kind: "image".to_owned(),
        url: Some("data:image/png;base64,AAAA".to_owned()),
        name: None,
        source: serde_json::Value::Null,
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let sizes = (500_u64..6_000, 0_usize..4, 0_u64..800, 1_000_u64..9_000, 0_u64..900);
    (sizes, any::<[bool; 3]>()).prop_map(|((clear, keep, least, compact, tail), on)| Limits {
        clear_at: on[0].then_some(clear),
        keep_results: keep,
        clear_at_least: least,
        exclude: on[2].then(|| "memory".to_owned()).into_iter().collect(),
        compact_at: on[1].then_some(compact),
        keep_tokens: tail,
        summary_tokens: allowance(64),
        crossings_max: None,
    })
}

/// What a strict provider checks: each call is answered before anything else is said, and each
/// result has its call.
fn is_whole(conversation: &Conversation) -> Result<(), String> {
    let mut open: HashSet<&str> = HashSet::new();
    for (at, message) in conversation.messages.iter().enumerate() {
        if message.role != Role::Tool && !open.is_empty() {
            return Err(format!("message {at} stands between a call and its result"));
        }
        for part in &message.parts {
            match part {
                Part::ToolCall(call) => {
                    open.insert(&call.id);
                }
                Part::ToolResult { call_id, .. } if !open.remove(call_id.as_str()) => {
                    return Err(format!("message {at} has a result without its call"));
                }
                _ => {}
            }
        }
    }
    if open.is_empty() { Ok(()) } else { Err("a call has no result".to_owned()) }
}

/// What is told, with a summary of the longest kind.
fn told(conversation: &Conversation, limits: &Limits) -> Conversation {
    let outcome = replay(conversation, limits);
    let summary = kept_summary(&"s".repeat(10_000), 64).unwrap();
    let crossing = outcome.crossings.last().copied();
    edited(conversation, &outcome, crossing.map(|crossing| (crossing, summary.as_str())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_call_keeps_its_result_and_what_must_stay_stays(
        turns in prop::collection::vec(turn(), 1..60),
        limits in limits(),
    ) {
        let whole = conversation(&turns);
        prop_assert_eq!(is_whole(&whole), Ok(()));
        let told = told(&whole, &limits);
        prop_assert_eq!(is_whole(&told), Ok(()));
        let systems = |said: &Conversation| {
            let all = said.messages.iter().filter(|message| message.role == Role::System);
            all.cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(systems(&whole), systems(&told));
        let last = whole.messages.iter().rev().find(|message| message.role == Role::User);
        if let Some(last) = last {
            let has_it = |message: &Message| last.parts.iter().all(|part| message.parts.contains(part));
            prop_assert!(told.messages.iter().any(has_it), "the user's last message is gone");
        }
        // A result that no answer has followed is told as it came.
        let unseen = whole.messages.iter().rev().take_while(|m| m.role != Role::Assistant);
        for message in unseen {
            let part = |part: &Part| told.messages.iter().any(|told| told.parts.contains(part));
            prop_assert!(message.parts.iter().all(part), "what is new was changed");
        }
        let outcome = replay(&whole, &limits);
        prop_assert_eq!(outcome.before, tokens(&whole));
        prop_assert!(tokens(&told) <= outcome.after, "the walk and the history differ");
        prop_assert!(tokens(&told) <= tokens(&whole));
    }

    #[test]
    fn a_longer_history_goes_on_where_a_shorter_one_stood(
        turns in prop::collection::vec(turn(), 2..60),
        limits in limits(),
        share in 0_usize..60,
    ) {
        let part = share % turns.len();
        let (short, long) = (conversation(&turns[..part]), conversation(&turns));
        let (before, after) = (replay(&short, &limits), replay(&long, &limits));
        prop_assert!(after.cleared.starts_with(&before.cleared));
        prop_assert!(after.crossings.starts_with(&before.crossings));
        if before.cleared.len() == after.cleared.len() && before.crossings == after.crossings {
            let (short, long) = (told(&short, &limits), told(&long, &limits));
            prop_assert!(long.messages.starts_with(&short.messages), "it is not append-only");
        }
    }
}

fn steps(count: usize) -> Conversation {
    let mut turns = vec![Turn::System(20), Turn::User(50)];
    turns.extend((0..count).map(|_| Turn::Calls(vec![0, 900], false)));
    conversation(&turns)
}

fn clearing() -> Limits {
    Limits { clear_at: Some(2_000), keep_results: 2, ..Limits::default() }
}

#[test]
fn old_results_are_cleared_from_the_threshold_on_and_the_newest_stay() {
    assert!(replay(&steps(5), &clearing()).cleared.is_empty());
    let whole = steps(8);
    let outcome = replay(&whole, &clearing());
    let told = edited(&whole, &outcome, None);
    assert_eq!(told.messages.len(), whole.messages.len());
    let texts = told.messages.iter().flat_map(|message| &message.parts);
    let cleared = texts.filter(|part| match part {
        Part::ToolResult { parts, .. } => types::conversation::joined_text(parts) == CLEARED,
        _ => false,
    });
    // Empty results would only become longer.
    assert_eq!(cleared.count(), outcome.cleared.len());
    assert_eq!(outcome.cleared.len(), 5);
    assert!(outcome.after < outcome.before);
}

#[test]
fn nothing_is_cleared_for_little_and_named_tools_keep_their_results() {
    let least = Limits { clear_at_least: 100_000, ..clearing() };
    assert!(replay(&steps(20), &least).cleared.is_empty());
    let named = Limits { exclude: vec!["read".to_owned()], ..clearing() };
    assert!(replay(&steps(20), &named).cleared.is_empty());
}

#[test]
fn a_history_that_grows_is_compacted_again_and_again() {
    let limits = Limits {
        compact_at: Some(3_000),
        keep_tokens: 800,
        summary_tokens: allowance(64),
        ..Limits::default()
    };
    let whole = steps(30);
    let outcome = replay(&whole, &limits);
    assert!(outcome.crossings.len() >= 2, "{:?}", outcome.crossings);
    assert!(outcome.crossings.windows(2).all(|pair| pair[0].cut < pair[1].cut));
    // The task stands before every cut, and is told as it is.
    assert!(outcome.crossings.iter().all(|crossing| crossing.kept == Some(1)));
    assert!(outcome.after <= 3_000);
    let one = Limits { crossings_max: Some(1), ..limits };
    let earlier = replay(&whole, &one);
    assert_eq!(earlier.crossings, outcome.crossings[..1]);
    assert!(earlier.after > outcome.after);
    let second = outcome.crossings[1];
    let asked = asked(&whole, (outcome.crossings[0].cut, second), &outcome, Some("so far"));
    let text = asked.messages[1].joined_text();
    assert!(text.contains("[summary of what came before]\nso far\n"), "{text}");
    assert!(text.contains("[call of read]"));
    assert!(!text.contains("\n1:"), "what the first summary stands for is told again");
}

/// Were anything summed up anew at each message, this would take minutes.
#[test]
fn a_walk_takes_no_longer_per_message_the_longer_the_history_is() {
    let results = (0..150_000).map(|_| Message { role: Role::Tool, parts: Vec::new() });
    let mut messages = vec![Message::text(Role::User, "go")];
    messages.extend(results.clone());
    messages.push(Message::text(Role::Assistant, "on"));
    messages.extend(results);
    let whole = Conversation { messages, ..Conversation::default() };
    let limits = Limits { compact_at: Some(1), keep_tokens: 1_000_000, ..Limits::default() };
    assert_eq!(replay(&whole, &limits).crossings, []);
}

#[test]
fn a_summary_is_no_longer_than_what_it_is_taken_for() {
    assert_eq!(kept_summary("  said \n", 64).as_deref(), Some("said"));
    assert_eq!(kept_summary(" \n", 64), None);
    let long = kept_summary(&"é".repeat(1_000), 64).unwrap();
    assert_eq!(long.len(), 384);
    let odd = kept_summary(&format!("a{}", "é".repeat(1_000)), 64).unwrap();
    assert_eq!(odd.len(), 383);
}

#[test]
fn a_note_is_shown_alike_from_the_call_and_from_the_ledger() {
    let summary = Some(super::SummaryNote::Missing(types::ErrorCode::BudgetExceeded));
    let note = super::ContextNote { cleared: 1, compacted: 2, before: 30, after: 4, summary };
    let mut notes = types::Notes::default();
    assert_eq!(super::shown(&notes), None);
    notes.set(super::NOTE, note.to_json());
    assert_eq!(super::shown(&notes).unwrap(), note.to_string());
    assert_eq!(
        note.to_string(),
        "cleared=1; compacted=2; before=30; after=4; summary=missing:budget_exceeded"
    );
}

/// Marks on every part, on a tool and on the end.
fn marked_everywhere(whole: Conversation) -> Conversation {
    let parts = whole.messages.iter().enumerate().flat_map(|(message, said)| {
        (0..said.parts.len()).map(move |part| MarkPlace::Part { message, part })
    });
    let places = std::iter::once(MarkPlace::Tool(0)).chain(parts).chain([MarkPlace::End]);
    let marks = places.map(|place| CacheMark { place, life: CacheLife::Hour }).collect();
    Conversation { marks, ..whole }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn marks_stay_on_what_is_left(
        turns in prop::collection::vec(turn(), 1..60),
        limits in limits(),
    ) {
        let whole = marked_everywhere(conversation(&turns));
        let told = told(&whole, &limits);
        let mut places: BTreeSet<MarkPlace> = told.marks.iter().map(|mark| mark.place).collect();
        prop_assert_eq!(places.len(), told.marks.len(), "each place once");
        prop_assert!(places.remove(&MarkPlace::Tool(0)) && places.remove(&MarkPlace::End));
        // Whatever came from the client still has its mark; the summary never had one.
        for (message, said) in told.messages.iter().enumerate() {
            for (part, is) in said.parts.iter().enumerate() {
                let summary = is.as_text().is_some_and(|text| text.starts_with("[What happened"));
                let place = MarkPlace::Part { message, part };
                prop_assert_eq!(places.remove(&place), !summary, "{:?}", place);
            }
        }
        prop_assert!(places.is_empty(), "{:?}", places);
    }
}
