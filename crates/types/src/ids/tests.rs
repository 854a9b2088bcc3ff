use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::Timestamp;
use crate::clock::FakeClock;

/// More than a thread's pool holds at once.
const MANY: usize = 1_000;

fn ids() -> Arc<Ids> {
    Arc::new(Ids::new(Arc::new(FakeClock::new(Timestamp::from_millis(1_800_000_000_000)))))
}

#[test]
fn ids_of_one_moment_differ_on_every_thread() {
    let ids = ids();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let ids = Arc::clone(&ids);
            std::thread::spawn(move || (0..MANY).map(|_| ids.text("x_")).collect::<Vec<_>>())
        })
        .collect();
    let all: HashSet<String> = threads.into_iter().flat_map(|made| made.join().unwrap()).collect();
    assert_eq!(all.len(), 4 * MANY);
}

#[test]
fn more_bytes_than_a_pool_are_random_to_the_end() {
    let text = ids().hex("", 2 * POOL_BYTES);
    assert_eq!(text.len(), 4 * POOL_BYTES);
    // 64 zero characters in a row have a chance of one in 2^256.
    assert!(!text.contains(&"0".repeat(64)), "{text}");
}
