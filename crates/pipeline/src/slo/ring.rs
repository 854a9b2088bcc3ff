//! Counts of good and bad events by time slot, for the newest so many slots.
//!
//! Invariant: memory is what [`Ring::new`] took, whatever is counted; an event older than the
//! oldest slot is not counted. Time is a number of slots, so that this knows no clock.

/// What was seen in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that met the objective.
    pub good: u64,
    /// Events that did not.
    pub bad: u64,
}

impl Counts {
    /// All of them.
    pub const fn all(self) -> u64 {
        self.good.saturating_add(self.bad)
    }

    pub(super) fn add(&mut self, is_bad: bool) {
        let count = if is_bad { &mut self.bad } else { &mut self.good };
        *count = count.saturating_add(1);
    }
}

/// The newest slots. A slot's place is its number modulo their count.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Box<[Counts]>,
    /// The newest slot's number.
    newest: u64,
}

impl Ring {
    /// A ring of that many slots, at least one, whose newest is `now`.
    pub(super) fn new(slots: usize, now: u64) -> Self {
        Self { slots: vec![Counts::default(); slots.max(1)].into(), newest: now }
    }

    /// Counts an event of slot `at`.
    pub(super) fn add(&mut self, at: u64, is_bad: bool) {
        self.advance(at);
        if self.newest.saturating_sub(at) < self.len() {
            self.slot(at).add(is_bad);
        }
    }

    /// The counts of the newest `span` slots at slot `now`, that one included.
    pub(super) fn sum(&mut self, now: u64, span: u64) -> Counts {
        self.advance(now);
        let span = span.min(self.len()).min(self.newest.saturating_add(1));
        let mut sum = Counts::default();
        for back in 0..span {
            let slot = *self.slot(self.newest - back);
            sum.good = sum.good.saturating_add(slot.good);
            sum.bad = sum.bad.saturating_add(slot.bad);
        }
        sum
    }

    /// Every slot at slot `now`, by its age in slots, the newest first.
    pub(super) fn by_age(&mut self, now: u64) -> impl Iterator<Item = (u64, Counts)> + '_ {
        self.advance(now);
        let known = self.len().min(self.newest.saturating_add(1));
        (0..known).map(|age| (age, *self.slot(self.newest - age)))
    }

    /// Adds to the slot of that age at slot `now`.
    pub(super) fn load(&mut self, now: u64, age: u64, counts: Counts) {
        self.advance(now);
        if age < self.len() && age <= self.newest {
            let at = self.newest - age;
            let slot = self.slot(at);
            slot.good = slot.good.saturating_add(counts.good);
            slot.bad = slot.bad.saturating_add(counts.bad);
        }
    }

    fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&mut self, at: u64) -> &mut Counts {
        let place = usize::try_from(at % self.len()).unwrap_or(0);
        &mut self.slots[place]
    }

    /// Empties what has become too old.
    fn advance(&mut self, now: u64) {
        let fresh = now.saturating_sub(self.newest).min(self.len());
        self.newest = self.newest.max(now);
        for back in 0..fresh {
            *self.slot(self.newest - back) = Counts::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_slots_fall_out_one_by_one() {
        let mut ring = Ring::new(4, 100);
        for at in 100..104 {
            ring.add(at, at == 101);
        }
        assert_eq!(ring.sum(103, 4), Counts { good: 3, bad: 1 });
        assert_eq!(ring.sum(103, 2), Counts { good: 2, bad: 0 });
        assert_eq!(ring.sum(104, 4), Counts { good: 2, bad: 1 }, "100 is gone");
        assert_eq!(ring.sum(105, 4), Counts { good: 2, bad: 0 }, "101 is gone");
        assert_eq!(ring.sum(1_000_000, 4), Counts::default());
    }

    #[test]
    fn what_is_too_old_is_not_counted_and_what_is_late_is() {
        let mut ring = Ring::new(4, 100);
        ring.add(96, true);
        ring.add(97, true);
        assert_eq!(ring.sum(100, 4), Counts { good: 0, bad: 1 });
    }

    #[test]
    fn a_span_is_no_longer_than_the_ring_or_than_time() {
        let mut ring = Ring::new(8, 2);
        ring.add(1, false);
        ring.add(2, false);
        assert_eq!(ring.sum(2, 100), Counts { good: 2, bad: 0 });
    }
}
