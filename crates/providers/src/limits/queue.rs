//! Who waits for a limit, and who is next.
//!
//! The order is: the more urgent class; within it one of each flow (a session, else a user) after
//! the other, so that a loop with many Calls, or with near deadlines, does not hold up one with
//! few; within such a round the nearest deadline, then who came first. A flow's own turns go to its
//! nearest deadlines. Must not know what is waited for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use types::clock::Monotonic;

use super::Cost;
use super::gate::Cell;

/// Calls that wait for one model at one key at most; a further one fails at once.
pub(crate) const WAITING_MAX: usize = 1_024;

/// Names a Call that waits, wherever it stands by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u64);

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
    places: HashMap<Ticket, Place>,
    flows: HashMap<u64, Flow>,
    /// The round of whoever was served last.
    round: u64,
    number: u64,
}

#[derive(Debug, Default)]
struct Flow {
    /// The round of its last Call.
    last: u64,
    /// Those that wait; of one class, the nearer deadline has the earlier round.
    waiting: BTreeSet<Place>,
}

impl Flow {
    /// Its Calls of this class that have more time, in their order.
    fn later(&self, rank: u8, deadline: Monotonic) -> Vec<Place> {
        let first = |rank| Place { rank, round: 0, deadline: Monotonic::ZERO, number: 0 };
        let of_class = self.waiting.range(first(rank)..first(rank.saturating_add(1)));
        let mut later: Vec<Place> =
            of_class.rev().take_while(|place| place.deadline > deadline).copied().collect();
        later.reverse();
        later
    }
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
        let flow = self.flows.get(&flow);
        let later = flow.and_then(|flow| flow.later(rank, deadline).first().copied());
        let last = flow.map_or(0, |flow| flow.last);
        let round = later.map_or_else(|| self.round.max(last) + 1, |place| place.round);
        Place { rank, round, deadline, number: self.number }
    }

    /// What those cost who are before `place`.
    pub(crate) fn cost_before(&self, place: Place) -> Cost {
        self.waiting.range(..place).fold(Cost::default(), |sum, (_, waiter)| sum.plus(waiter.cost))
    }

    pub(crate) fn push(&mut self, ranked: Ranked, cost: Cost, cell: Arc<Cell>) -> Ticket {
        let Ranked { rank, flow: of, deadline } = ranked;
        let flow = self.flows.entry(of).or_default();
        let newest = self.round.max(flow.last) + 1;
        flow.last = newest;
        // Each of its Calls that has more time takes the next one's turn.
        let mut round = newest;
        for place in flow.later(rank, deadline).into_iter().rev() {
            flow.waiting.remove(&place);
            let moved = Place { round, ..place };
            round = place.round;
            flow.waiting.insert(moved);
            if let Some(waiter) = self.waiting.remove(&place) {
                self.waiting.insert(moved, waiter);
            }
            self.places.insert(Ticket(place.number), moved);
        }
        let place = Place { rank, round, deadline, number: self.number };
        self.number += 1;
        flow.waiting.insert(place);
        self.places.insert(Ticket(place.number), place);
        self.waiting.insert(place, Waiter { cost, cell, flow: of });
        Ticket(place.number)
    }

    /// Who is next.
    pub(crate) fn head(&self) -> Option<(Ticket, &Waiter)> {
        self.waiting.first_key_value().map(|(place, waiter)| (Ticket(place.number), waiter))
    }

    /// Takes out who is next, to be served.
    pub(crate) fn serve(&mut self) -> Option<Waiter> {
        let (place, waiter) = self.waiting.pop_first()?;
        self.round = self.round.max(place.round);
        self.leaves(waiter.flow, place);
        Some(waiter)
    }

    /// Takes out who waits no longer.
    pub(crate) fn remove(&mut self, ticket: Ticket) {
        let Some(place) = self.places.get(&ticket).copied() else { return };
        if let Some(waiter) = self.waiting.remove(&place) {
            self.leaves(waiter.flow, place);
        }
    }

    fn leaves(&mut self, flow: u64, place: Place) {
        self.places.remove(&Ticket(place.number));
        let Some(known) = self.flows.get_mut(&flow) else { return };
        known.waiting.remove(&place);
        if known.waiting.is_empty() {
            self.flows.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests;
