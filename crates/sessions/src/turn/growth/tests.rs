use types::ErrorCode;
use types::outcome::Delta;

use super::*;
use crate::history::{Held, owner};

const RESULT: u64 = MIB;

fn growth(held: &Held, conversation: u64) -> Growth {
    Growth::new(held.take_anyway(&owner("a", "ada"), conversation))
}

fn refusal(growth: &Growth) -> (ErrorCode, String) {
    let failure = growth.within_limits().unwrap_err();
    (failure.code, failure.message)
}

#[test]
fn what_tools_answer_is_limited() {
    let (held, mut growth) = (Held::default(), growth(&Held::default(), 10));
    for _ in 0..TURN_BYTES_MAX / (RESULT + ITEM_BYTES) {
        growth.take(RESULT);
        growth.within_limits().unwrap();
    }
    growth.take(RESULT);
    let (code, message) = refusal(&growth);
    assert_eq!((code, message.contains("32 MiB")), (ErrorCode::TooLarge, true));
    drop(growth);
    assert_eq!(held.bytes(), 0);
}

#[test]
fn a_conversation_stays_as_long_as_one_may_be() {
    let mut growth = growth(&Held::default(), CONVERSATION_BYTES_MAX - ITEM_BYTES);
    growth.take(0);
    growth.within_limits().unwrap();
    growth.add(&Delta::Text { text: "x".to_owned() }).unwrap_err();
    let (code, message) = refusal(&growth);
    assert_eq!((code, message.contains("64 MiB")), (ErrorCode::TooLarge, true));
}

#[test]
fn events_are_limited_however_little_they_say() {
    let mut growth = growth(&Held::default(), 0);
    growth.sent(EVENTS_BYTES_MAX);
    growth.within_limits().unwrap();
    growth.sent(1);
    assert_eq!(refusal(&growth).0, ErrorCode::TooLarge);
}

#[test]
fn empty_items_have_a_size_too() {
    let mut growth = growth(&Held::default(), 0);
    let call = Delta::ToolCallStart { index: 0, id: String::new(), name: String::new() };
    let calls = ANSWER_BYTES_MAX / ITEM_BYTES;
    (0..calls).for_each(|_| growth.add(&call).unwrap());
    assert_eq!(growth.add(&call).unwrap_err().code, ErrorCode::TooLarge);
}

#[test]
fn room_is_taken_as_it_grows_and_given_back_with_a_lost_answer() {
    let held = Held::default();
    let mut growth = growth(&held, 10);
    growth.add(&Delta::Text { text: "four".to_owned() }).unwrap();
    assert_eq!(held.bytes(), 14);
    growth.lose_answer();
    assert_eq!(held.bytes(), 10);
    // Others have taken what there was: a piece more is refused, and what a tool answered counts.
    let _others = held.take_anyway(&owner("a", "bob"), u64::MAX / 2);
    let failure = growth.add(&Delta::Text { text: "x".to_owned() }).unwrap_err();
    assert_eq!((failure.code, failure.billed), (ErrorCode::Overloaded, Billed::Unknown));
    growth.take(1);
    assert_eq!(refusal(&growth).0, ErrorCode::Overloaded);
}

#[test]
fn a_turn_that_goes_on_has_grown_already() {
    let held = Held::default();
    let output = [(0, serde_json::json!({ "text": "0123456789" }))];
    let hold = held.take_anyway(&owner("a", "ada"), 10);
    let growth = Growth::resumed(hold, &output, 7, 5);
    assert_eq!((held.bytes(), growth.events()), (10 + 21 + 7, 5));
}
