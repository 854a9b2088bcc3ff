//! Where sessions, or whatever a route goes by, have their target: the one that answered last.
//!
//! A provider's prompt cache and the signatures of its thinking lie at one target, so that a
//! session stays there while that is well, however its route orders targets; where another one
//! answers, it stays with that. Kept in memory only: a start begins anew. Invariant: it holds so
//! many, and forgets the one that was not heard of for the longest.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Sessions that are known at most, about 100 bytes each.
const PINS_MAX: u64 = 65_536;
/// How long one is remembered that is not heard of: as long as providers keep prompts at most.
const PIN_LIFE: Duration = Duration::from_secs(60 * 60);

/// All of them, by what they have in common.
#[derive(Debug)]
pub(crate) struct Pins(Cache<u64, Arc<str>>);

impl Default for Pins {
    fn default() -> Self {
        let cache = Cache::builder().max_capacity(PINS_MAX).time_to_idle(PIN_LIFE);
        Self(cache.eviction_policy(EvictionPolicy::lru()).build())
    }
}

impl Pins {
    /// Where it is.
    pub(crate) fn find(&self, pin: u64) -> Option<Arc<str>> {
        self.0.get(&pin)
    }

    /// `target` answered it.
    pub(crate) fn stays(&self, pin: u64, target: &Arc<str>) {
        if self.0.get(&pin).is_none_or(|before| before != *target) {
            self.0.insert(pin, Arc::clone(target));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_newest_and_no_more() {
        let pins = Pins::default();
        let (a, b): (Arc<str>, Arc<str>) = (Arc::from("a/m"), Arc::from("b/m"));
        for pin in 0..PINS_MAX + 1_000 {
            pins.stays(pin, &a);
        }
        pins.stays(PINS_MAX, &b);
        pins.0.run_pending_tasks();
        assert!(pins.0.entry_count() <= PINS_MAX, "{}", pins.0.entry_count());
        assert_eq!(pins.find(PINS_MAX).as_deref(), Some("b/m"));
        assert_eq!(pins.find(PINS_MAX + 999).as_deref(), Some("a/m"));
        assert_eq!(pins.find(0), None);
    }
}
