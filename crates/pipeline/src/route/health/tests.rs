use types::error::UpstreamError;

use super::*;

const POLICY: RoutePolicy = RoutePolicy::OF_ROUTE;

fn at(seconds: u64) -> Monotonic {
    Duration::from_secs(1_000 + seconds)
}

fn name() -> Arc<str> {
    Arc::from("p/m")
}

fn down() -> Failure {
    Failure::new(ErrorCode::UpstreamFailed, "told to")
}

fn fail(health: &Health, failure: &Failure, seconds: u64) {
    health.failed(&name(), failure, &POLICY, (at(seconds), at(seconds)));
}

/// A target that was opened at second 0 for the policy's 5 seconds.
fn opened() -> Health {
    let health = Health::default();
    (0..FAILURES_MAX).for_each(|_| fail(&health, &down(), 0));
    health
}

fn is_closed(health: &Health, seconds: u64) -> bool {
    matches!(health.admits("p/m", at(seconds)), Verdict::Closed)
}

fn probe(health: &Health, seconds: u64) -> Option<Probe> {
    match health.admits("p/m", at(seconds)) {
        Verdict::Probe(probe) => Some(probe),
        Verdict::Closed | Verdict::Open => None,
    }
}

#[test]
fn three_failures_in_a_row_open_it_and_a_success_between_does_not() {
    let health = Health::default();
    fail(&health, &down(), 0);
    fail(&health, &down(), 0);
    health.succeeded("p/m", at(1));
    fail(&health, &down(), 1);
    fail(&health, &down(), 1);
    assert!(is_closed(&health, 1));
    fail(&health, &down(), 1);
    assert!(!is_closed(&health, 1) && health.is_open("p/m", at(5)));
    assert!(!health.is_open("p/m", at(6)));
    assert!(matches!(health.admits("p/other", at(1)), Verdict::Closed), "its own alone");
}

#[test]
fn exactly_one_probes_and_one_that_comes_to_nothing_frees_the_place() {
    let health = opened();
    assert!(probe(&health, 4).is_none(), "not yet");
    let first = probe(&health, 5).unwrap();
    assert!(probe(&health, 6).is_none() && !is_closed(&health, 6), "somebody does");
    drop(first);
    assert!(probe(&health, 6).is_some());
}

#[test]
fn a_failed_probe_doubles_the_time_up_to_twelve_times() {
    let health = opened();
    let (mut now, mut waits) = (5, Vec::new());
    for _ in 0..6 {
        let probe = probe(&health, now).unwrap();
        fail(&health, &down(), now);
        drop(probe);
        let open = (now..).take_while(|second| health.is_open("p/m", at(*second))).count() as u64;
        waits.push(open);
        now += open;
    }
    assert_eq!(waits, [10, 20, 40, 60, 60, 60]);
}

#[test]
fn a_probe_that_answers_lets_others_in_and_one_that_ends_well_forgets() {
    let health = opened();
    let first = probe(&health, 5).unwrap();
    Health::answers(&first);
    drop(first);
    assert!(is_closed(&health, 5));
    fail(&health, &down(), 6);
    assert!(health.is_open("p/m", at(15)) && !health.is_open("p/m", at(16)), "at once, for longer");
    let second = probe(&health, 16).unwrap();
    health.succeeded("p/m", at(16));
    drop(second);
    fail(&health, &down(), 17);
    assert!(is_closed(&health, 17), "it counts from the beginning");
}

#[test]
fn what_was_on_its_way_before_does_not_close_it() {
    let health = opened();
    health.succeeded("p/m", at(0).saturating_sub(Duration::from_secs(1)));
    assert!(health.is_open("p/m", at(0)));
}

#[test]
fn a_time_that_the_target_names_is_kept_and_a_later_shorter_one_does_not_shorten_it() {
    let health = Health::default();
    let limited = |seconds| {
        Failure::new(ErrorCode::RateLimited, "told to").retry_after(Duration::from_secs(seconds))
    };
    fail(&health, &limited(30), 0);
    assert!(health.is_open("p/m", at(29)) && !health.is_open("p/m", at(30)), "at the first");
    fail(&health, &limited(1), 1);
    fail(&health, &limited(1), 2);
    assert!(health.is_open("p/m", at(29)) && !health.is_open("p/m", at(30)));
    assert!(probe(&health, 30).is_some());
    fail(&health, &limited(u64::MAX), 40);
    assert!(!health.is_open("p/m", at(40) + COOL_MAX), "no target is forgotten for ever");
}

#[test]
fn what_says_nothing_of_the_target_is_not_counted_and_a_refusal_shows_that_it_is_up() {
    for &code in ErrorCode::ALL.iter().filter(|code| !counts(**code)) {
        let health = Health::default();
        (0..=FAILURES_MAX).for_each(|_| fail(&health, &Failure::new(code, "told to"), 0));
        assert!(is_closed(&health, 0), "{code}");
    }
    let health = opened();
    let upstream = UpstreamError {
        status: 400,
        body: bytes::Bytes::new(),
        content_type: String::new(),
        format: "none",
    };
    let refused = Failure {
        upstream: Some(Box::new(upstream)),
        ..Failure::new(ErrorCode::InvalidRequest, "told to")
    };
    fail(&health, &Failure::new(ErrorCode::InvalidRequest, "ours"), 6);
    assert!(probe(&health, 6).is_some());
    fail(&health, &refused, 6);
    assert!(is_closed(&health, 6));
}

#[test]
fn a_call_that_was_not_sent_says_nothing_of_its_target() {
    let health = Health::default();
    let limited = Failure::new(ErrorCode::RateLimited, "ours").retry_after(Duration::from_secs(9));
    let withheld = Failure { withheld: true, ..limited };
    (0..=FAILURES_MAX).for_each(|_| fail(&health, &withheld, 0));
    assert!(is_closed(&health, 0));
    assert_eq!(health.pace.failures("p/m", at(0)), 0);
}

#[test]
fn a_closed_one_makes_room_for_a_new_one_and_an_open_one_stays() {
    let health = opened();
    let name = |number: usize| Arc::from(format!("open/{number}"));
    let fail = |number: usize, times: u32, seconds: u64| {
        let now = at(seconds);
        (0..times).for_each(|_| health.failed(&name(number), &down(), &POLICY, (now, now)));
    };
    (1..TARGETS_MAX).for_each(|number| fail(number, 1, 1));
    fail(TARGETS_MAX, FAILURES_MAX, 2);
    assert!(health.is_open(&name(TARGETS_MAX), at(3)));
    assert!(health.is_open("p/m", at(3)));
    assert_eq!(health.targets.read().unwrap().len(), TARGETS_MAX);
}

#[test]
fn a_provider_that_is_another_now_is_not_judged_by_what_was() {
    let health = opened();
    let other: Arc<str> = Arc::from("p2/m");
    (0..FAILURES_MAX).for_each(|_| health.failed(&other, &down(), &POLICY, (at(0), at(0))));
    health.forget("p");
    assert!(is_closed(&health, 0));
    assert_eq!(health.pace.failures("p/m", at(0)), 0);
    assert!(health.is_open("p2/m", at(0)), "its name only begins so");
}
