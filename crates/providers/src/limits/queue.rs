//! Who waits for a limit, and who is next.
//!
//! The order is: the more urgent class; within it one of each flow (a session, else a user) after
//! the other, so that a loop with many Calls does not hold up one with few; within such a round the
//! nearest deadline, then who came first. Must not know what is waited for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use types::clock::Monotonic;

use super::Cost;
use super::gate::Cell;

/// Calls that wait for one model at one key at most; a further one fails at once.
pub(crate) const WAITING_MAX: usize = 1_024;

/// Where a Call stands. The smallest is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    rank: u8,
    round: u64,
    deadline: Monotonic,
    number: u64,
}

/// A Call that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) cost: Cost,
    pub(crate) cell: Arc<Cell>,
    flow: u64,
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<Place, Waiter>,
    flows: HashMap<u64, Flow>,
    /// The round of whoever was served last.
    round: u64,
    number: u64,
}

#[derive(Debug, Default)]
struct Flow {
    /// The round of its last Call.
    last: u64,
    waiting: usize,
}

/// How a Call is to be ranked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    /// 0 is the most urgent class.
    pub(crate) rank: u8,
    pub(crate) flow: u64,
    pub(crate) deadline: Monotonic,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// Where a Call would stand that came now.
    pub(crate) fn place(&self, ranked: Ranked) -> Place {
        let Ranked { rank, flow, deadline } = ranked;
        let last = self.flows.get(&flow).map_or(0, |flow| flow.last);
        Place { rank, round: self.round.max(last) + 1, deadline, number: self.number }
    }

    /// What those cost who are before `place`.
    pub(crate) fn cost_before(&self, place: Place) -> Cost {
        self.waiting.range(..place).fold(Cost::default(), |sum, (_, waiter)| sum.plus(waiter.cost))
    }

    pub(crate) fn push(&mut self, ranked: Ranked, cost: Cost, cell: Arc<Cell>) -> Place {
        let place = self.place(ranked);
        self.number += 1;
        let flow = self.flows.entry(ranked.flow).or_default();
        flow.last = place.round;
        flow.waiting += 1;
        self.waiting.insert(place, Waiter { cost, cell, flow: ranked.flow });
        place
    }

    /// Who is next.
    pub(crate) fn head(&self) -> Option<(Place, &Waiter)> {
        self.waiting.first_key_value().map(|(place, waiter)| (*place, waiter))
    }

    /// Takes out who is next, to be served.
    pub(crate) fn serve(&mut self) -> Option<Waiter> {
        let (place, waiter) = self.waiting.pop_first()?;
        self.round = self.round.max(place.round);
        self.leaves(waiter.flow);
        Some(waiter)
    }

    /// Takes out who waits no longer.
    pub(crate) fn remove(&mut self, place: Place) {
        if let Some(waiter) = self.waiting.remove(&place) {
            self.leaves(waiter.flow);
        }
    }

    fn leaves(&mut self, flow: u64) {
        let Some(known) = self.flows.get_mut(&flow) else { return };
        known.waiting -= 1;
        if known.waiting == 0 {
            self.flows.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests;
