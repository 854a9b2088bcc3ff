use std::sync::Arc;

use types::clock::FakeClock;
use types::ids::CallId;
use types::{Ids, Timestamp};

use super::oldest_id;

/// An id made at `millis`.
fn id(millis: i64) -> String {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(millis)));
    CallId::new(&Ids::seeded(clock, 7)).as_str().to_owned()
}

#[test]
fn no_id_of_its_time_or_later_is_smaller() {
    for millis in [0, 1, 1_795_000_000_000, 1_795_000_000_007, (1 << 48) - 1] {
        assert!(oldest_id(CallId::PREFIX, Timestamp::from_millis(millis)) <= id(millis));
    }
}

#[test]
fn ids_of_ten_milliseconds_before_are_smaller() {
    let millis = 1_795_000_000_003;
    assert!(id(millis - 10) < oldest_id(CallId::PREFIX, Timestamp::from_millis(millis)));
}
