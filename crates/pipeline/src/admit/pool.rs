//! The money of one budget that this node holds in memory: open slices, and who waits for more.
//!
//! A *slice* is claimed durably and then spent from memory. At most two are *live* and hold idle
//! money; what a settlement frees in an older one goes back with its ledger row. Invariants: for
//! each slice `idle + held + written-or-queued = amount`; a reservation draws on slices of one
//! window only; a window, once ended, never opens again; while anybody waits, nobody overtakes
//! (order of arrival), and a worker ([`super::claims`]) is at work.
//!
//! Everything here is memory under one lock held for nanoseconds: no await, no store, no clock of
//! its own.

mod hold;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::ledger::SlicePart;
use storage::{Budget, Slice, WindowKey, WindowKind, WindowTotals};
use tokio::sync::oneshot;
use types::ids::{BudgetId, SliceId};
use types::{Failure, Money, Timestamp};

pub(crate) use hold::Hold;

/// A slice is at least this many bounds of the Call that asks for it.
const SLICE_BOUNDS: i64 = 8;
/// A slice is at least the limit divided by this: 1 %.
const SLICE_OF_LIMIT: i64 = 100;
/// Slices that may hold idle money: the current one and the next.
const LIVE_SLICES_MAX: usize = 2;
/// Parts of one reservation: one for each live slice.
type Parts = [(u64, Money); LIVE_SLICES_MAX];

/// One budget's pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) id: BudgetId,
    state: Mutex<State>,
}

/// What came of asking for money.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Here it is.
    Held(Hold),
    /// It will be sent, or the refusal will.
    Wait(oneshot::Receiver<Result<Hold, Refusal>>),
}

/// Why no money was given.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// There is not enough, even with every idle part returned.
    Exceeded { free: Money },
    /// The store did not answer, or the server stops.
    Failed(Failure),
}

/// Idle money of a slice that is no longer live, on its way back to the store.
#[derive(Clone, Debug)]
pub(crate) struct Returning {
    pub(crate) slice: SliceId,
    pub(crate) amount: Money,
    window: WindowKey,
}

/// What the worker is to do next.
#[derive(Debug)]
pub(crate) enum Job {
    /// Give these back to the store.
    Return(Vec<Returning>),
    /// Claim a slice.
    Claim { window: WindowKey, wanted: Money },
    /// Look whether there is enough once everything idle is back, for those that arrived up to
    /// `arrivals`.
    LookAgain { window: WindowKey, arrivals: u64 },
}

#[derive(Debug)]
struct State {
    version: u64,
    limit: Money,
    kind: WindowKind,
    window: Option<WindowKey>,
    /// Oldest first; the live ones are last.
    slices: VecDeque<OpenSlice>,
    next_number: u64,
    to_return: Vec<Returning>,
    /// What the store had unclaimed when it was last asked: a hint for output caps, never for
    /// admission.
    unclaimed: Option<Money>,
    /// The last claim came short: claiming more in the background is pointless.
    dry: bool,
    /// A worker is at work.
    working: bool,
    /// The bound of whoever asked last: what a background claim is sized by.
    last_bound: Money,
    waiters: VecDeque<Waiter>,
    arrivals: u64,
    drains: Vec<oneshot::Sender<Result<(), Failure>>>,
}

#[derive(Debug)]
struct OpenSlice {
    number: u64,
    id: SliceId,
    window: WindowKey,
    amount: Money,
    idle: Money,
    held: Money,
    live: bool,
}

#[derive(Debug)]
struct Waiter {
    needed: Money,
    arrival: u64,
    answer: oneshot::Sender<Result<Hold, Refusal>>,
}

/// Answers that are sent once the lock is released: a hold that nobody takes gives itself back,
/// under the lock.
type Answers = Vec<(oneshot::Sender<Result<Hold, Refusal>>, Result<Hold, Refusal>)>;

impl Pool {
    pub(crate) fn new(budget: &Budget) -> Self {
        let state = State {
            version: budget.version,
            limit: budget.limit,
            kind: budget.window,
            window: None,
            slices: VecDeque::new(),
            next_number: 1,
            to_return: Vec::new(),
            unclaimed: None,
            dry: false,
            working: false,
            last_bound: Money::ZERO,
            waiters: VecDeque::new(),
            arrivals: 0,
            drains: Vec::new(),
        };
        Self { id: budget.id.clone(), state: Mutex::new(state) }
    }

    /// Takes `amount`, or queues for it. The second answer says that a worker must be started.
    pub(crate) fn take(
        self: &Arc<Self>,
        budget: &Budget,
        amount: Money,
        now: Timestamp,
    ) -> (Taken, bool) {
        let mut state = self.lock();
        state.adopt(budget);
        state.roll(now);
        state.last_bound = amount;
        if state.waiters.is_empty() && state.idle() >= amount {
            let hold = self.hold(&mut state, amount);
            let has_work = state.wants_next() || !state.to_return.is_empty();
            let start = has_work && !std::mem::replace(&mut state.working, true);
            return (Taken::Held(hold), start);
        }
        let (answer, receiver) = oneshot::channel();
        state.arrivals += 1;
        let arrival = state.arrivals;
        state.waiters.push_back(Waiter { needed: amount, arrival, answer });
        let start = !std::mem::replace(&mut state.working, true);
        (Taken::Wait(receiver), start)
    }

    /// Asks for everything idle to be returned to the store. The second answer says that a worker
    /// must be started.
    pub(crate) fn drain(&self) -> (oneshot::Receiver<Result<(), Failure>>, bool) {
        let mut state = self.lock();
        let (answer, receiver) = oneshot::channel();
        state.drains.push(answer);
        (receiver, !std::mem::replace(&mut state.working, true))
    }

    /// What is left of the budget as far as this node knows; `None` = it has not looked in this
    /// window yet.
    pub(crate) fn free_hint(&self, budget: &Budget, now: Timestamp) -> Option<Money> {
        let mut state = self.lock();
        state.adopt(budget);
        state.roll(now);
        Some(state.unclaimed?.saturating_add(state.idle()))
    }

    /// The window in which `now` falls: never an earlier one than any before.
    pub(crate) fn window(&self, budget: &Budget, now: Timestamp) -> WindowKey {
        let mut state = self.lock();
        state.adopt(budget);
        state.roll(now);
        state.window.unwrap_or_default()
    }

    /// Takes in what the store says about a window. Answers what is idle in slices of that window.
    pub(crate) fn learn(&self, totals: &WindowTotals) -> Money {
        let mut state = self.lock();
        state.learn(totals)
    }

    /// What is idle in slices of `window`, or on its way back from there.
    pub(crate) fn idle_in(&self, window: WindowKey) -> Money {
        let state = self.lock();
        let returning = state.to_return.iter().filter(|part| part.window == window);
        let returning: Money = returning.map(|part| part.amount).sum();
        if state.window == Some(window) { state.idle() + returning } else { returning }
    }

    /// What the worker is to do; `None` = nothing, it is no longer at work.
    pub(crate) fn next_job(self: &Arc<Self>, now: Timestamp) -> Option<Job> {
        let mut state = self.lock();
        state.roll(now);
        if !state.drains.is_empty() {
            state.retire_all();
        }
        if !state.to_return.is_empty() {
            return Some(Job::Return(std::mem::take(&mut state.to_return)));
        }
        let drained = std::mem::take(&mut state.drains);
        let answers = self.serve(&mut state);
        let job = state.next_claim();
        state.working = job.is_some();
        drop(state);
        send(answers);
        for drain in drained {
            // Whoever asked may have gone.
            let _gone = drain.send(Ok(()));
        }
        job
    }

    /// Takes a claimed slice in, and gives to those who wait.
    pub(crate) fn install(self: &Arc<Self>, slice: Slice, wanted: Money) {
        let mut state = self.lock();
        state.install(slice, wanted);
        let answers = self.serve(&mut state);
        drop(state);
        send(answers);
    }

    /// After looking again: refuses those up to `arrivals` for whom there is not enough. For the
    /// first of the others everything idle is set free to be returned, and a claim of the answered
    /// size is due.
    pub(crate) fn refuse(&self, totals: &WindowTotals, arrivals: u64) -> Option<Money> {
        let mut state = self.lock();
        let idle = state.learn(totals);
        let free = state.unclaimed.unwrap_or_default().saturating_add(idle);
        let mut answers: Answers = Vec::new();
        let mut staying = VecDeque::new();
        for waiter in std::mem::take(&mut state.waiters) {
            if waiter.arrival <= arrivals && waiter.needed > free {
                answers.push((waiter.answer, Err(Refusal::Exceeded { free })));
            } else if !waiter.answer.is_closed() {
                staying.push_back(waiter);
            }
        }
        state.waiters = staying;
        let wanted = state.waiters.front().map(|waiter| waiter.needed);
        let wanted = wanted.map(|needed| state.slice_size(needed));
        if wanted.is_some() {
            state.retire_all();
        }
        drop(state);
        send(answers);
        wanted
    }

    /// Everything that is on its way back to the store.
    pub(crate) fn take_returns(&self) -> Vec<Returning> {
        std::mem::take(&mut self.lock().to_return)
    }

    /// The store could not be asked: whoever waits is told, and the worker stops.
    pub(crate) fn fail(&self, failure: &Failure, not_returned: Vec<Returning>) {
        let mut state = self.lock();
        state.to_return.extend(not_returned);
        state.working = false;
        let waiters = std::mem::take(&mut state.waiters);
        let drains = std::mem::take(&mut state.drains);
        drop(state);
        for waiter in waiters {
            let _gone = waiter.answer.send(Err(Refusal::Failed(failure.clone())));
        }
        for drain in drains {
            let _gone = drain.send(Err(failure.clone()));
        }
    }

    fn hold(self: &Arc<Self>, state: &mut State, amount: Money) -> Hold {
        let (window, parts) = (state.window.unwrap_or_default(), state.draw(amount));
        Hold::new(Arc::clone(self), window, parts)
    }

    /// Gives to those who wait, in order of arrival, as long as there is enough for the first.
    fn serve(self: &Arc<Self>, state: &mut State) -> Answers {
        let mut answers = Answers::new();
        while let Some(first) = state.waiters.front() {
            if !first.answer.is_closed() && first.needed > state.idle() {
                break;
            }
            let Some(first) = state.waiters.pop_front() else { break };
            if !first.answer.is_closed() {
                let hold = self.hold(state, first.needed);
                answers.push((first.answer, Ok(hold)));
            }
        }
        answers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(answers: Answers) {
    for (answer, result) in answers {
        // If nobody waits any more the hold comes back here and gives itself back.
        drop(answer.send(result));
    }
}

impl State {
    /// Takes a changed limit in: what is idle goes back, so that a lowered limit refuses at once.
    fn adopt(&mut self, budget: &Budget) {
        if budget.version <= self.version {
            return;
        }
        (self.version, self.limit, self.kind) = (budget.version, budget.limit, budget.window);
        self.retire_all();
        (self.unclaimed, self.dry) = (None, false);
    }

    /// Enters the window of `now`, unless a later one was entered before.
    fn roll(&mut self, now: Timestamp) {
        self.enter(self.kind.at(now));
    }

    fn enter(&mut self, window: WindowKey) {
        if self.window.is_none_or(|current| window > current) {
            self.window = Some(window);
            self.retire_all();
            (self.unclaimed, self.dry) = (None, false);
        }
    }

    fn idle(&self) -> Money {
        self.slices.iter().map(|slice| slice.idle).sum()
    }

    fn live(&self) -> impl DoubleEndedIterator<Item = &OpenSlice> {
        self.slices.iter().filter(|slice| slice.live)
    }

    fn learn(&mut self, totals: &WindowTotals) -> Money {
        self.enter(totals.window);
        if self.window == Some(totals.window) {
            self.unclaimed = Some(self.limit.minus_or_zero(totals.taken()));
        }
        let returning = self.to_return.iter().filter(|part| part.window == totals.window);
        let returning: Money = returning.map(|part| part.amount).sum();
        self.idle() + returning
    }

    /// Draws on the oldest live slice first. The caller has checked that there is enough.
    fn draw(&mut self, amount: Money) -> Parts {
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
    fn wants_next(&self) -> bool {
        let Some(newest) = self.live().next_back() else { return false };
        let half = newest.amount.divided_by(2);
        !self.dry && self.idle() < half
    }

    fn slice_size(&self, bound: Money) -> Money {
        self.limit.divided_by(SLICE_OF_LIMIT).max(bound.times(SLICE_BOUNDS))
    }

    fn next_claim(&self) -> Option<Job> {
        let window = self.window.unwrap_or_default();
        let Some(first) = self.waiters.front() else {
            let wanted = self.slice_size(self.last_bound);
            return self.wants_next().then_some(Job::Claim { window, wanted });
        };
        let oldest_is_used_up = self.live().next().is_none_or(|slice| slice.idle == Money::ZERO);
        let has_room = self.live().count() < LIVE_SLICES_MAX || oldest_is_used_up;
        if has_room && !self.dry {
            return Some(Job::Claim { window, wanted: self.slice_size(first.needed) });
        }
        Some(Job::LookAgain { window, arrivals: self.arrivals })
    }

    fn install(&mut self, slice: Slice, wanted: Money) {
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

    fn retire_all(&mut self) {
        for slice in self.slices.iter_mut().filter(|slice| slice.live) {
            retire(slice, &mut self.to_return);
        }
        self.slices.retain(OpenSlice::matters);
    }

    /// Ends a reservation: `charge` of it is spent, the rest is idle again, or returned where the
    /// slice is an older one.
    fn give_back(&mut self, parts: &Parts, charge: Money, spent: &mut Vec<SlicePart>) {
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

#[cfg(test)]
mod tests;
