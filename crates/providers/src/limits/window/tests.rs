use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use types::clock::Timestamp;

use super::super::headers::Told;
use super::*;

const fn at(millis: u64) -> Monotonic {
    Duration::from_millis(millis)
}

/// What a header of requests says.
fn told(limit: u64, remaining: u64, reset: &str) -> Reading {
    let header =
        |name, value: &str| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    let headers: HeaderMap = [
        header("x-ratelimit-limit-requests", &limit.to_string()),
        header("x-ratelimit-remaining-requests", &remaining.to_string()),
        header("x-ratelimit-reset-requests", reset),
    ]
    .into_iter()
    .collect();
    Told::read(&headers, Timestamp(0)).readings.remove(0)
}

#[test]
fn a_window_gives_nothing_before_its_end() {
    let mut window = Window::new(1, &told(10, 2, "6s"), at(0));
    window.told(&told(10, 1, "5s"), Unseen::default(), at(1_000));
    window.spend(1);
    assert_eq!(window.left(at(4_000)), 0);
    assert_eq!(window.ready_at(1, at(4_000)), at(6_000));
    assert_eq!(window.left(at(6_000)), 10);
}

#[test]
fn a_bucket_gives_evenly_once_it_shows_itself() {
    // One comes back each second.
    let mut window = Window::new(1, &told(60, 59, "1.000s"), at(0));
    window.told(&told(60, 58, "1.900s"), Unseen::default(), at(100));
    window.told(&told(60, 20, "39.800s"), Unseen::default(), at(200));
    window.told(&told(60, 0, "60.000s"), Unseen::default(), at(300));
    assert_eq!(window.left(at(300)), 0);
    let ready = window.ready_at(1, at(300));
    assert!(ready > at(1_290) && ready < at(1_340), "{ready:?}");
    assert_eq!(window.left(at(3_401)), 3);
    assert_eq!(window.left(at(600_000)), 60, "and never more than fits");
}

#[test]
fn too_little_is_believed_at_once_and_too_much_is_not() {
    let mut window = Window::new(1, &told(60, 50, "10.000s"), at(0));
    window.told(&told(60, 20, "40.000s"), Unseen::default(), at(0));
    window.told(&told(60, 0, "60.000s"), Unseen::default(), at(0));
    assert_eq!(window.per_second, 975);
    window.told(&told(60, 0, "30.000s"), Unseen::default(), at(0));
    assert_eq!(window.per_second, 975 + (1_966 - 975) / 64);
    window.told(&told(60, 0, "120.000s"), Unseen::default(), at(0));
    assert_eq!(window.per_second, 491);
    window.was_refused();
    assert_eq!(window.per_second, 491 - 491 / 16);
    window.told(&told(60, 58, "30.000s"), Unseen::default(), at(0));
    assert_eq!(window.per_second, 491 - 491 / 16, "two of sixty say nothing");
}

#[test]
fn an_answer_that_is_late_makes_no_bucket() {
    let mut window = Window::new(1, &told(60, 50, "2.000s"), at(0));
    window.told(&told(60, 49, "1.900s"), Unseen::default(), at(300));
    assert!(!window.is_bucket);
}

#[test]
fn whole_seconds_are_not_mistaken_for_a_bucket() {
    let mut window = Window::new(1, &told(60, 10, "30s"), at(0));
    // The same end, rounded up.
    window.told(&told(60, 9, "30s"), Unseen::default(), at(900));
    window.told(&told(60, 0, "29s"), Unseen::default(), at(1_100));
    assert_eq!(window.left(at(20_000)), 0);
}

#[test]
fn what_was_sent_since_is_not_in_what_an_answer_tells() {
    let mut window = Window::new(1, &told(10, 9, "60s"), at(0));
    window.told(&told(10, 5, "59s"), Unseen { earlier: 0, later: 3 }, at(1_000));
    assert_eq!(window.left(at(1_000)), 2);
    window.spend(2);
    window.give_back(1);
    assert_eq!(window.left(at(1_000)), 1);
}

#[test]
fn several_windows_are_waited_for_where_one_is_too_small() {
    let mut window = Window::new(1, &told(10, 0, "60s"), at(0));
    assert_eq!(window.ready_at(10, at(0)), at(60_000));
    assert_eq!(window.ready_at(11, at(0)), at(120_000));
}

#[test]
fn without_a_reset_nothing_is_waited_for() {
    let mut window = Window::new(1, &told(10, 0, "soon"), at(0));
    assert_eq!(window.ready_at(1, at(0)), at(0));
}
