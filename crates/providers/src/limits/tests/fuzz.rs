//! Headers that no provider should send: whatever they say, reading them ends, nobody waits for
//! longer than a day, and what is left of a window stays within what was said.

use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use mutations::{changes, mutated};
use proptest::prelude::*;
use types::clock::Timestamp;

use crate::limits::Told;
use crate::limits::headers::WAIT_MAX;
use crate::limits::window::{Unseen, Window};

#[path = "../../../../../fuzz/src/mutations.rs"]
mod mutations;

/// Heads that are right.
const SEEDS: [&str; 7] = [
    "x-ratelimit-limit-requests: 60\nx-ratelimit-remaining-requests: 59\nx-ratelimit-reset-requests: 6m0s\nx-ratelimit-limit-tokens: 150000\nx-ratelimit-remaining-tokens: 149984\nx-ratelimit-reset-tokens: 1h2m3.5s",
    "anthropic-ratelimit-requests-limit: 50\nanthropic-ratelimit-requests-remaining: 49\nanthropic-ratelimit-requests-reset: 2026-11-21T22:42:58Z\nretry-after: 12",
    "anthropic-ratelimit-input-tokens-limit: 40000\nanthropic-ratelimit-input-tokens-remaining: 39000\nanthropic-ratelimit-input-tokens-reset: 2026-11-21T22:42:58.123456+02:00",
    "x-ratelimit-limit: 20\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 1795305600000\nretry-after-ms: 120.5",
    "ratelimit-limit: 100\nratelimit-remaining: 3\nratelimit-reset: 50\nretry-after: Sat, 21 Nov 2026 22:42:58 GMT",
    "x-ratelimit-limit-requests-day: 1000\nx-ratelimit-remaining-requests-day: 999\nx-ratelimit-reset-requests-day: 33011.382867",
    "x-tokenlimit-limit: 9\nx-tokenlimit-remaining: 18446744073709551615\nx-tokenlimit-reset: 120ms",
];
const WORDS: [&str; 22] = [
    "-",
    "+",
    ".",
    ":",
    "T",
    "Z",
    "0",
    "1e999",
    "nan",
    "inf",
    "1e-320",
    "18446744073709551616",
    "9223372036854775807",
    "-9999-99-99T99:99:99",
    "+00:00",
    "+23:59",
    "\u{b5}s",
    "d",
    "h",
    "ms",
    " ",
    "0000-00-00T00:00:00.\u{fc}Z",
];
/// The moment at which answers come: 21 November 2026.
const NOW: Timestamp = Timestamp(1_795_300_000_000_000);

/// The headers of a head, without those that are none.
fn headers(head: &[u8]) -> HeaderMap {
    let lines = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name).ok()?;
        Some((name, HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?))
    });
    lines.collect()
}

fn read(head: &[u8]) -> Told {
    Told::read(&headers(head), NOW)
}

#[test]
fn each_seed_is_right() {
    for seed in SEEDS {
        let told = read(seed.as_bytes());
        assert!(!told.readings.is_empty(), "{seed}");
        assert!(told.readings.iter().all(|reading| reading.reset.is_some()), "{told:?}");
    }
}

/// What is done to a window.
#[derive(Clone, Debug)]
enum Step {
    Told(usize, u64, u64),
    Late(usize),
    Recount(u64),
    Spend(u64),
    Refused,
}

fn units() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, any::<u64>()]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4usize, units(), units())
            .prop_map(|(which, before, after)| Step::Told(which, before, after)),
        (0..4usize).prop_map(Step::Late),
        units().prop_map(Step::Recount),
        units().prop_map(Step::Spend),
        Just(Step::Refused),
    ]
}

proptest! {
    // A failure is a seed to be written down above, not a file beside the test.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn heads(number in 0..SEEDS.len(), changes in changes()) {
        let told = read(&mutated(SEEDS[number].as_bytes(), &changes, &WORDS));
        prop_assert!(told.retry_after.is_none_or(|wait| wait <= WAIT_MAX), "{:?}", told);
        for reset in told.readings.iter().filter_map(|reading| reading.reset) {
            prop_assert!(reset.after <= WAIT_MAX, "{:?}", told);
        }
    }

    #[test]
    fn windows(
        number in 0..SEEDS.len(),
        mutations in prop::collection::vec(changes(), 4),
        steps in prop::collection::vec((step(), 0..100_000_000u64), 0..24),
    ) {
        let told: Vec<_> =
            mutations.iter().map(|changes| read(&mutated(SEEDS[number].as_bytes(), changes, &WORDS))).collect();
        let reading = |which: usize| told[which % told.len()].readings.first();
        let Some(first) = reading(0) else { return Ok(()) };
        let mut now = std::time::Duration::from_secs(1);
        let mut window = Window::new(1, first, now);
        for (step, micros) in steps {
            now += std::time::Duration::from_micros(micros);
            match step {
                Step::Told(which, earlier, later) => {
                    if let Some(reading) = reading(which) {
                        window.told(reading, Unseen { earlier, later }, now);
                        prop_assert!(window.left(now) <= reading.remaining.max(window.limit.unwrap_or(u64::MAX)));
                    }
                }
                Step::Late(which) => {
                    if let Some(reading) = reading(which) {
                        window.told_late(reading);
                    }
                }
                Step::Recount(unseen) => window.recount(unseen),
                Step::Spend(units) => {
                    window.spend(units);
                    window.give_back(units / 2);
                }
                Step::Refused => window.was_refused(),
            }
            let left = window.left(now);
            prop_assert!(window.ready_at(left, now) <= now.max(window.full_at().unwrap_or(now)));
            prop_assert!(window.ready_at(u64::MAX, now) >= now);
        }
    }
}
