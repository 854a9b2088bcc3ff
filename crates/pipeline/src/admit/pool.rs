//! The money of one budget that this node holds in memory: open slices, and who waits for more.
//!
//! A *slice* is claimed durably and then spent from memory. At most two are *live* and hold idle
//! money; what a settlement frees in an older one goes back with its ledger row. Invariants: a
//! reservation draws on slices of one window only; a window, once ended, never opens again; while
//! anybody waits, nobody overtakes (order of arrival), and a worker ([`super::claims`]) is at work;
//! who is refused, or goes, leaves no slice behind that was claimed for it.
//!
//! Everything here is memory under one lock held for nanoseconds: no await, no store, no clock of
//! its own.

mod hold;
mod state;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::{Budget, Slice, WindowKey, WindowTotals};
use tokio::sync::oneshot;
use types::ids::{BudgetId, SliceId};
use types::{Failure, Money, Timestamp};

pub(crate) use hold::Hold;
use state::{State, Waiter};

/// Slices that may hold idle money: the current one and the next.
const LIVE_SLICES_MAX: usize = 2;
/// Parts of one reservation: one for each live slice.
type Parts = [(u64, Money); LIVE_SLICES_MAX];

/// One budget's pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) id: BudgetId,
    /// The rule that made the budget, if one did.
    pub(crate) rule: Option<BudgetId>,
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

/// Answers that are sent once the lock is released: a hold that nobody takes gives itself back,
/// under the lock.
type Answers = Vec<(oneshot::Sender<Result<Hold, Refusal>>, Result<Hold, Refusal>)>;

/// What came of looking again.
#[derive(Debug)]
pub(crate) struct Looked {
    wanted: Option<Wanted>,
    refused: Answers,
}

/// A claim that is due for the first of those who wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// What it needs: with less it goes on waiting.
    pub(crate) needed: Money,
    /// What is asked for.
    pub(crate) size: Money,
}

impl Looked {
    /// Tells those who are refused. Answers the claim that is due, if one is.
    pub(crate) fn answer(self) -> Option<Wanted> {
        send(self.refused);
        self.wanted
    }
}

impl Pool {
    pub(crate) fn new(budget: &Budget) -> Self {
        let state = State {
            version: budget.version,
            limit: budget.limit,
            kind: budget.window,
            zone: budget.zone.clone(),
            window: None,
            ends: None,
            slices: VecDeque::new(),
            next_number: 1,
            to_return: Vec::new(),
            unclaimed: None,
            back: Money::ZERO,
            dry: false,
            working: false,
            last_bound: Money::ZERO,
            spent_bound: Money::ZERO,
            let_go: false,
            waiters: VecDeque::new(),
            arrivals: 0,
            drains: Vec::new(),
            drain_all: false,
            asked_at: Timestamp(i64::MIN),
        };
        Self { id: budget.id.clone(), rule: budget.rule.clone(), state: Mutex::new(state) }
    }

    /// Takes `amount`, or queues for it. The second answer says that a worker must be started.
    pub(crate) fn take(
        self: &Arc<Self>,
        budget: &Budget,
        amount: Money,
        now: Timestamp,
    ) -> (Taken, bool) {
        let mut state = self.lock();
        state.asked_at = state.asked_at.max(now);
        state.adopt(budget);
        state.roll(now);
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
        state.drain_all = true;
        (receiver, !std::mem::replace(&mut state.working, true))
    }

    /// Asks for what is on its way back to arrive there, and what is being claimed to be looked at;
    /// `None` = there is nothing. Else answers as [`Self::drain`] does.
    pub(crate) fn hand_in(&self) -> Option<(oneshot::Receiver<Result<(), Failure>>, bool)> {
        let mut state = self.lock();
        if state.to_return.is_empty() && !state.working {
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        state.drains.push(answer);
        Some((receiver, !std::mem::replace(&mut state.working, true)))
    }

    /// Whether its window is over, or nobody has asked for money since `since`.
    pub(crate) fn is_over(&self, now: Timestamp, since: Timestamp) -> bool {
        let state = self.lock();
        state.asked_at < since || state.ends.is_some_and(|ends| now >= ends)
    }

    /// Whether nothing of any window is left here.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        let is_idle = !state.working && state.to_return.is_empty() && state.waiters.is_empty();
        is_idle && state.slices.is_empty()
    }

    /// What is left of the budget as far as this node knows; `None` = it has not looked in this
    /// window yet.
    pub(crate) fn free_hint(&self, budget: &Budget, now: Timestamp) -> Option<Money> {
        let mut state = self.lock();
        state.adopt(budget);
        state.roll(now);
        Some(state.unclaimed?.saturating_add(state.back).saturating_add(state.idle()))
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
        let returning = state.returning(window);
        if state.window == Some(window) { state.idle() + returning } else { returning }
    }

    /// What the worker is to do; `None` = nothing, it is no longer at work.
    pub(crate) fn next_job(self: &Arc<Self>, now: Timestamp) -> Option<Job> {
        let mut state = self.lock();
        state.roll(now);
        // Those who have gone leave something to return.
        let answers = self.serve(&mut state);
        if std::mem::take(&mut state.drain_all) {
            state.retire_all();
        }
        if !state.to_return.is_empty() {
            let parts = std::mem::take(&mut state.to_return);
            drop(state);
            send(answers);
            return Some(Job::Return(parts));
        }
        let drained = std::mem::take(&mut state.drains);
        let job = state.next_claim();
        (state.working, state.let_go) = (job.is_some(), false);
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
        if std::mem::take(&mut state.let_go) {
            state.retire_oversized();
        }
        drop(state);
        send(answers);
    }

    /// After looking again: refuses those up to `arrivals` for whom there is not enough. What was
    /// claimed for them, or for the first of the others everything idle, is set free to be
    /// returned; for that one a claim is due.
    pub(crate) fn refuse(&self, totals: &WindowTotals, arrivals: u64) -> Looked {
        let mut state = self.lock();
        let idle = state.learn(totals);
        if state.window != Some(totals.window) {
            // The window ended during the look, which says nothing of the new one.
            return Looked { wanted: None, refused: Answers::new() };
        }
        let free = state.unclaimed.unwrap_or_default().saturating_add(idle);
        let mut refused: Answers = Vec::new();
        let mut staying = VecDeque::new();
        for waiter in std::mem::take(&mut state.waiters) {
            if waiter.arrival <= arrivals && waiter.needed > free {
                refused.push((waiter.answer, Err(Refusal::Exceeded { free })));
            } else if !waiter.answer.is_closed() {
                staying.push_back(waiter);
            }
        }
        state.waiters = staying;
        // Whoever came since and needs too much is looked for next: a claim can't help.
        let next = state.waiters.front().map(|waiter| waiter.needed);
        let next = next.filter(|needed| *needed <= free);
        let wanted = next.map(|needed| Wanted { needed, size: state.slice_size(needed) });
        if wanted.is_some() {
            state.retire_all();
        } else {
            state.retire_oversized();
        }
        Looked { wanted, refused }
    }

    /// These parts are back in the store: there is as much more to claim.
    pub(crate) fn returned(&self, parts: &[Returning]) {
        let mut state = self.lock();
        let Some(window) = state.window else { return };
        let kind = state.kind;
        let back = parts.iter().filter(|part| kind.counts(part.window, window));
        let back: Money = back.map(|part| part.amount).sum();
        state.back = state.back.saturating_add(back);
    }

    /// Everything that is on its way back to the store.
    pub(crate) fn take_returns(&self) -> Vec<Returning> {
        std::mem::take(&mut self.lock().to_return)
    }

    /// The store could not be asked: whoever waits is told, and the worker stops.
    pub(crate) fn fail(&self, failure: &Failure, not_returned: Vec<Returning>) {
        let mut state = self.lock();
        state.to_return.extend(not_returned);
        (state.working, state.drain_all) = (false, false);
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
        state.last_bound = amount;
        let (window, parts) = (state.window.unwrap_or_default(), state.draw(amount));
        Hold::new(Arc::clone(self), window, parts)
    }

    /// Gives to those who wait, in order of arrival, as long as there is enough for the first.
    fn serve(self: &Arc<Self>, state: &mut State) -> Answers {
        let (mut answers, mut gone) = (Answers::new(), false);
        while let Some(first) = state.waiters.front() {
            if !first.answer.is_closed() && first.needed > state.idle() {
                break;
            }
            let Some(first) = state.waiters.pop_front() else { break };
            if first.answer.is_closed() {
                gone = true;
                continue;
            }
            let hold = self.hold(state, first.needed);
            answers.push((first.answer, Ok(hold)));
        }
        if gone {
            state.retire_oversized();
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

#[cfg(test)]
mod tests;
