//! Who waits for room in a limit, and who is next.
//!
//! One of each flow (a session, else a task, else a key) after the other, so that a loop with many
//! Calls does not hold up one with few; a flow of a heavier class comes round more often. Must not
//! know what is waited for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::subject::Subject;

/// What a turn of the lightest weight takes of the order; each heavier one a part of it.
const TURN: u64 = 1 << 20;
/// The heaviest weight.
pub(super) const WEIGHT_MAX: u32 = 1_000;

/// Where a Call stands. The smallest is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    turn: u64,
    number: u64,
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Place, Waiter>,
    flows: HashMap<Subject, Flow>,
    /// The turn of whoever left last as the next one.
    turn: u64,
}

#[derive(Debug)]
struct Waiter {
    flow: Subject,
    called: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Flow {
    /// The turn of its last Call.
    last: u64,
    waiting: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, flow: &Subject, weight: u32, called: Arc<Notify>) -> Place {
        let turn = self.next_turn(flow, weight);
        self.stand(Place { turn, number: number() }, flow, called)
    }

    /// Goes before everybody who has a turn to wait for.
    pub(super) fn push_first(&mut self, flow: &Subject, called: Arc<Notify>) -> Place {
        self.stand(Place { turn: 0, number: number() }, flow, called)
    }

    /// Comes back to a place that it had already, and left to wait elsewhere; not to a later one
    /// than whoever comes only now. Turns begin anew when a queue was empty meanwhile.
    pub(super) fn rejoin(
        &mut self,
        place: Place,
        (flow, weight): (&Subject, u32),
        called: Arc<Notify>,
    ) -> Place {
        let turn = place.turn.min(self.next_turn(flow, weight));
        self.stand(Place { turn, ..place }, flow, called)
    }

    fn next_turn(&self, flow: &Subject, weight: u32) -> u64 {
        let last = self.flows.get(flow).map_or(0, |of_flow| of_flow.last);
        let takes = TURN / u64::from(weight.clamp(1, WEIGHT_MAX));
        self.turn.max(last).saturating_add(takes)
    }

    fn stand(&mut self, place: Place, flow: &Subject, called: Arc<Notify>) -> Place {
        let of_flow = self.flows.entry(flow.clone()).or_default();
        of_flow.last = of_flow.last.max(place.turn);
        of_flow.waiting += 1;
        self.waiting.insert(place, Waiter { flow: flow.clone(), called });
        place
    }

    /// Whether nobody is before `place`.
    pub(super) fn is_next(&self, place: Place) -> bool {
        self.waiting.keys().next().is_none_or(|first| *first >= place)
    }

    /// Takes out who waits no longer; `is_served` says that it got what it waited for.
    pub(super) fn remove(&mut self, place: Place, is_served: bool) {
        let Some(waiter) = self.waiting.remove(&place) else { return };
        if is_served {
            self.turn = self.turn.max(place.turn);
        }
        if let Some(flow) = self.flows.get_mut(&waiter.flow) {
            flow.waiting = flow.waiting.saturating_sub(1);
            if flow.waiting == 0 {
                self.flows.remove(&waiter.flow);
            }
        }
    }

    /// Tells who is next to look again.
    pub(super) fn call_next(&self) {
        if let Some(waiter) = self.waiting.values().next() {
            waiter.called.notify_one();
        }
    }

    /// Tells everybody to look again.
    pub(super) fn call_all(&self) {
        self.waiting.values().for_each(|waiter| waiter.called.notify_one());
    }
}

/// Never given twice, in whatever queue: who comes back to a place must not find another there.
fn number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
