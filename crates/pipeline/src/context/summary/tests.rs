use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use types::{ErrorCode, Failure, Money};

use super::{BYTES_MAX, Key, Missing, Slot, Summaries, farthest};

fn key(number: u8, bytes_max: u64) -> Key {
    Key { sha256: [number; 32], bytes_max: u32::try_from(bytes_max).unwrap() }
}

#[test]
fn what_was_just_paid_for_stays_and_what_was_not_used_longest_goes() {
    let summaries = Summaries::default();
    let keys: Vec<Key> = (0..5).map(|number| key(number, BYTES_MAX / 4)).collect();
    for key in &keys[..4] {
        summaries.slots.insert(*key, Arc::new(Slot::default()));
    }
    // Used often, and long ago.
    for _ in 0..20 {
        assert!(keys[..4].iter().all(|key| summaries.slots.get(key).is_some()));
    }
    summaries.slots.run_pending_tasks();
    summaries.slots.insert(keys[4], Arc::new(Slot::default()));
    summaries.slots.run_pending_tasks();
    let kept: Vec<bool> = keys.iter().map(|key| summaries.slots.contains_key(key)).collect();
    assert_eq!(kept, [false, true, true, true, true]);
}

#[test]
fn the_farthest_that_fits_is_found_in_few_tries() {
    for (from, end, last_fitting) in [(0, 1, 0), (0, 1_000, 999), (0, 1_000, 700), (3, 500, 3)] {
        let tries = Cell::new(0);
        let fitting = |number| {
            tries.set(tries.get() + 1);
            (number <= last_fitting).then_some(number)
        };
        assert_eq!(farthest(from, end, fitting), Some(last_fitting));
        assert!(tries.get() <= 11, "{} tries from {from} to {end}", tries.get());
    }
    assert_eq!(farthest(2, 9, |_| None::<()>), None);
    assert_eq!(farthest(9, 9, Some), None);
}

#[test]
fn a_refusal_by_limits_of_who_asks_is_not_remembered_for_others() {
    let remembered = |failure: &Failure| {
        let slot = Slot::default();
        slot.fail(Duration::ZERO, &Missing::of(failure, Money::ZERO));
        slot.check_failed(Duration::ZERO).is_err()
    };
    let ours = |code| Failure::new(code, "told to");
    for code in [ErrorCode::RateLimited, ErrorCode::TooLarge, ErrorCode::BudgetExceeded] {
        assert!(!remembered(&ours(code)), "{code}");
    }
    assert!(remembered(&ours(ErrorCode::UpstreamFailed)));
    assert!(remembered(&Failure { withheld: true, ..ours(ErrorCode::RateLimited) }));
}
