use super::*;

const fn at(millis: u64) -> Monotonic {
    Duration::from_millis(millis)
}

#[test]
fn a_429_halves_and_answers_add_one_by_one() {
    let mut pace = Pace::default();
    assert_eq!(pace.opens_at(1_000, at(0)), at(0));
    pace.limited(16, 17, at(0));
    assert_eq!(pace.at_once(), Some(8));
    assert_eq!(pace.opens_at(8, at(1)), FAR);
    for number in 17..25 {
        pace.answered(number, at(2));
    }
    assert_eq!(pace.at_once(), Some(8), "eight answers let almost one more");
    pace.answered(25, at(2));
    assert_eq!(pace.at_once(), Some(9));
}

#[test]
fn what_was_sent_before_a_429_counts_once() {
    let mut pace = Pace::default();
    pace.limited(16, 17, at(0));
    assert!(!pace.is_after_last(16) && pace.is_after_last(17));
    pace.answered(3, at(1));
    assert_eq!(pace.at_once(), Some(8), "an answer to what was sent before lets no more");
}

#[test]
fn where_one_at_a_time_is_too_much_calls_are_spaced() {
    let mut pace = Pace::default();
    pace.limited(1, 2, at(0));
    pace.limited(1, 3, at(0));
    pace.sent(at(1_000));
    assert_eq!(pace.opens_at(0, at(1_000)), at(1_100));
    for number in 3..60 {
        pace.answered(number, at(1_000));
    }
    assert_eq!(pace.opens_at(0, at(1_000)), at(1_000));
}

#[test]
fn pauses_double_until_an_answer() {
    let mut pace = Pace::default();
    assert_eq!(pace.limited(4, 5, at(0)), Duration::from_millis(500));
    assert_eq!(pace.limited(4, 6, at(0)), Duration::from_secs(1));
    pace.answered(6, at(0));
    assert_eq!(pace.limited(4, 7, at(0)), Duration::from_millis(500));
}

#[test]
fn all_is_forgotten_in_the_end() {
    let mut pace = Pace::default();
    pace.limited(2, 3, at(0));
    assert_eq!(pace.opens_at(1, at(1_000)), FAR);
    let later = LEARNED_MAX + at(1);
    assert_eq!(pace.opens_at(1, later), later);
}
