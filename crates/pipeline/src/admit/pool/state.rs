//! What a pool knows: its open slices, who waits, and what is on its way back.
//!
//! Plain data and the rules on it, behind [`super::Pool`]'s lock; nothing here answers anybody.
//! Invariants: for each slice `idle + held + written-or-queued = amount`; only live slices have
//! idle money; slices are sized by Calls that got their money, never by those that were refused.

use std::collections::VecDeque;

use storage::ledger::SlicePart;
use storage::{Budget, Slice, WindowKey, WindowKind, WindowTotals, Zone};
use tokio::sync::oneshot;
use types::ids::SliceId;
use types::{Failure, Money, Timestamp};

use super::{Hold, Job, LIVE_SLICES_MAX, Parts, Refusal, Returning};

/// A slice is at least this many bounds of the Call that asks for it.
const SLICE_BOUNDS: i64 = 8;
/// A slice is at least the limit divided by this: 1 %.
const SLICE_OF_LIMIT: i64 = 100;

#[derive(Debug)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) limit: Money,
    pub(super) kind: WindowKind,
    pub(super) zone: Zone,
    pub(super) window: Option<WindowKey>,
    /// When that ends; until then nobody looks at a calendar.
    pub(super) ends: Option<Timestamp>,
    /// Oldest first; the live ones are last.
    pub(super) slices: VecDeque<OpenSlice>,
    pub(super) next_number: u64,
    pub(super) to_return: Vec<Returning>,
    /// What the store had unclaimed when it was last asked: a hint for output caps, never for
    /// admission.
    pub(super) unclaimed: Option<Money>,
    /// What has gone back to the store since: a part of the hint alone, so that no claim rests on
    /// it.
    pub(super) back: Money,
    /// The last claim came short: claiming more in the background is pointless.
    pub(super) dry: bool,
    /// A worker is at work.
    pub(super) working: bool,
    /// The bound of whoever got money last: what a background claim is sized by.
    pub(super) last_bound: Money,
    /// The same of whoever kept it to the end.
    pub(super) spent_bound: Money,
    /// Somebody gave money back unspent since the claim that is on its way was sized: it may be
    /// larger than anybody needs.
    pub(super) let_go: bool,
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) arrivals: u64,
    /// Who waits until nothing is on its way back.
    pub(super) drains: Vec<oneshot::Sender<Result<(), Failure>>>,
    /// Somebody asked for everything idle to go back.
    pub(super) drain_all: bool,
    /// When somebody last asked for money.
    pub(super) asked_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct OpenSlice {
    pub(super) number: u64,
    pub(super) id: SliceId,
    pub(super) window: WindowKey,
    pub(super) amount: Money,
    pub(super) idle: Money,
    pub(super) held: Money,
    pub(super) live: bool,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) needed: Money,
    pub(super) arrival: u64,
    pub(super) answer: oneshot::Sender<Result<Hold, Refusal>>,
}

impl State {
    /// Takes a changed limit in: what is idle goes back, so that a lowered limit refuses at once.
    pub(super) fn adopt(&mut self, budget: &Budget) {
        if budget.version <= self.version {
            return;
        }
        (self.version, self.limit) = (budget.version, budget.limit);
        self.retire_all();
        (self.unclaimed, self.back, self.dry) = (None, Money::ZERO, false);
    }

    /// Enters the window of `now`, unless a later one was entered before.
    pub(super) fn roll(&mut self, now: Timestamp) {
        if self.window.is_none() || self.ends.is_some_and(|ends| now >= ends) {
            self.enter(self.kind.at(now, &self.zone));
        }
    }

    fn enter(&mut self, window: WindowKey) {
        if self.window.is_none_or(|current| window > current) {
            (self.window, self.ends) = (Some(window), self.kind.end(window, &self.zone));
            self.retire_all();
            (self.unclaimed, self.back, self.dry) = (None, Money::ZERO, false);
        }
    }

    pub(super) fn idle(&self) -> Money {
        self.slices.iter().map(|slice| slice.idle).sum()
    }

    fn live(&self) -> impl DoubleEndedIterator<Item = &OpenSlice> {
        self.slices.iter().filter(|slice| slice.live)
    }

    pub(super) fn learn(&mut self, totals: &WindowTotals) -> Money {
        self.enter(totals.window);
        if self.window == Some(totals.window) {
            self.unclaimed = Some(self.limit.minus_or_zero(totals.taken()));
            self.back = Money::ZERO;
        }
        self.idle() + self.returning(totals.window)
    }

    /// What is on its way back of what counts in a window.
    pub(super) fn returning(&self, window: WindowKey) -> Money {
        let counts = |part: &&Returning| self.kind.counts(part.window, window);
        self.to_return.iter().filter(counts).map(|part| part.amount).sum()
    }

    /// Draws on the oldest live slice first. The caller has checked that there is enough.
    pub(super) fn draw(&mut self, amount: Money) -> Parts {
        let mut parts = [(0, Money::ZERO); LIVE_SLICES_MAX];
        let mut left = amount;
        let with_money = self.slices.iter_mut().filter(|slice| slice.idle > Money::ZERO);
        for (part, slice) in parts.iter_mut().zip(with_money) {
            let drawn = left.min(slice.idle);
            slice.idle -= drawn;
            slice.held += drawn;
            left -= drawn;
            *part = (slice.number, drawn);
            if left == Money::ZERO {
                break;
            }
        }
        parts
    }

    /// Whether the next slice is due: half of what is there is used, and claiming may help.
    pub(super) fn wants_next(&self) -> bool {
        let Some(newest) = self.live().next_back() else { return false };
        let half = newest.amount.divided_by(2);
        !self.dry && self.idle() < half
    }

    pub(super) fn slice_size(&self, bound: Money) -> Money {
        self.limit.divided_by(SLICE_OF_LIMIT).max(bound.times(SLICE_BOUNDS))
    }

    pub(super) fn next_claim(&self) -> Option<Job> {
        let window = self.window.unwrap_or_default();
        let Some(first) = self.waiters.front() else {
            let wanted = self.slice_size(self.last_bound);
            return self.wants_next().then_some(Job::Claim { window, wanted });
        };
        let oldest_is_used_up = self.live().next().is_none_or(|slice| slice.idle == Money::ZERO);
        let has_room = self.live().count() < LIVE_SLICES_MAX || oldest_is_used_up;
        // What is claimed for a Call that is refused all the same would only be open at a crash.
        let may_do = self
            .unclaimed
            .is_none_or(|unclaimed| first.needed <= unclaimed.saturating_add(self.idle()));
        if has_room && may_do && !self.dry {
            return Some(Job::Claim { window, wanted: self.slice_size(first.needed) });
        }
        Some(Job::LookAgain { window, arrivals: self.arrivals })
    }

    pub(super) fn install(&mut self, slice: Slice, wanted: Money) {
        self.enter(slice.window);
        self.dry = slice.amount < wanted;
        if slice.amount <= Money::ZERO {
            return;
        }
        if self.window != Some(slice.window) {
            // The window ended while the claim was on its way: nobody may draw on it any more.
            let Slice { id, window, amount, .. } = slice;
            self.to_return.push(Returning { slice: id, window, amount });
            return;
        }
        while self.live().count() >= LIVE_SLICES_MAX {
            self.retire_oldest();
        }
        let number = self.next_number;
        self.next_number += 1;
        self.slices.push_back(OpenSlice {
            number,
            id: slice.id,
            window: slice.window,
            amount: slice.amount,
            idle: slice.amount,
            held: Money::ZERO,
            live: true,
        });
    }

    fn retire_oldest(&mut self) {
        if let Some(oldest) = self.slices.iter_mut().find(|slice| slice.live) {
            retire(oldest, &mut self.to_return);
        }
        self.slices.retain(OpenSlice::matters);
    }

    pub(super) fn retire_all(&mut self) {
        for slice in self.slices.iter_mut().filter(|slice| slice.live) {
            retire(slice, &mut self.to_return);
        }
        self.slices.retain(OpenSlice::matters);
    }

    /// Slices that were claimed for Calls larger than any that got its money of late: their idle
    /// part goes back.
    pub(super) fn retire_oversized(&mut self) {
        let most = self.slice_size(self.last_bound);
        for slice in self.slices.iter_mut().filter(|slice| slice.live && slice.amount > most) {
            retire(slice, &mut self.to_return);
        }
        self.slices.retain(OpenSlice::matters);
    }

    /// Ends a reservation: `charge` of it is spent, the rest is idle again, or returned where the
    /// slice is an older one.
    pub(super) fn give_back(&mut self, parts: &Parts, charge: Money, spent: &mut Vec<SlicePart>) {
        let mut left = charge;
        for (number, held) in parts.iter().filter(|(_, held)| *held > Money::ZERO) {
            let charged = left.min(*held);
            left -= charged;
            let Some(slice) = self.slices.iter_mut().find(|slice| slice.number == *number) else {
                continue;
            };
            slice.held -= *held;
            let freed = *held - charged;
            let returned = if slice.live { Money::ZERO } else { freed };
            slice.idle += freed - returned;
            if charged > Money::ZERO || returned > Money::ZERO {
                spent.push(SlicePart { slice: slice.id.clone(), charged, returned });
            }
        }
        self.slices.retain(OpenSlice::matters);
    }
}

impl OpenSlice {
    /// Whether anything of it is left in memory; a spent one is closed by its rows.
    fn matters(&self) -> bool {
        self.idle > Money::ZERO || self.held > Money::ZERO
    }
}

fn retire(slice: &mut OpenSlice, to_return: &mut Vec<Returning>) {
    slice.live = false;
    let amount = std::mem::take(&mut slice.idle);
    if amount > Money::ZERO {
        to_return.push(Returning { slice: slice.id.clone(), window: slice.window, amount });
    }
}
