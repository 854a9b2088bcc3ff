//! The way to one model with one key: who may be sent now, and who waits.
//!
//! What the provider's headers say is left is spent as Calls are sent, and corrected by each
//! answer. What headers do not say is found out as TCP does: a 429 halves what may run at once (and
//! at one, spaces Calls out), each answer lets a little more. Nobody is woken by a task: whoever is
//! next in the queue holds the timer.
//!
//! Invariants: no Call passes one that waits before it; what is let in is counted until its answer
//! ends; a Call that is dropped while it waits leaves no trace. The lock is held for no longer than
//! it takes to count. Must not know HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use types::clock::{Monotonic, SharedClock, Sleep};

use super::headers::{Counted, Told, WAIT_MAX};
use super::pace::Pace;
use super::queue::{Queue, Ranked, Ticket};
use super::window::{Unseen, Window};
use super::{Cost, Outage};

/// However long a provider is said to take nothing, after so long one Call asks whether it does.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// Tokens that an answer is taken to have before one has come.
const OUTPUT_TOKENS_GUESS: u64 = 512;
/// More tokens than any answer has: a provider that reports more is not believed.
const OUTPUT_TOKENS_MAX: u64 = 1_000_000;
/// What a client is told to wait where nobody knows.
const UNKNOWN_WAIT: Duration = Duration::from_secs(1);
/// No Call has this number: who waits has none yet.
const NO_NUMBER: u64 = 0;

/// The way to one model with one key.
pub(crate) struct Gate {
    state: Mutex<State>,
    clock: SharedClock,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// What a waiting Call and who lets it in share.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    /// The number of the Call once it is let in.
    number: AtomicU64,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct State {
    windows: Vec<Window>,
    /// After a 429 that named a time.
    closed_until: Monotonic,
    /// When the provider said that it takes Calls again, however far away.
    told_until: Monotonic,
    /// When the newest answer came.
    told_at: Monotonic,
    pace: Pace,
    /// Let in, and not ended.
    in_flight: u64,
    /// Calls that were under way before there was a gate.
    unknown: u64,
    /// Of those in flight, whose answer has not begun.
    unheard: BTreeMap<u64, Cost>,
    /// The number of the next Call.
    next: u64,
    /// The newest Call whose answer was read.
    heard: u64,
    /// Tokens of an answer, on average.
    output_tokens: u64,
    queue: Queue,
    outage: Outage,
    used_at: Monotonic,
}

/// A Call that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrant {
    pub(crate) ranked: Ranked,
    pub(crate) cost: Cost,
    /// It waits no longer than until then.
    pub(crate) until: Monotonic,
}

/// It can't be let in in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    /// In how long it could be.
    pub(crate) retry_after: Duration,
}

/// What is known of a gate, to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) windows: Vec<(&'static str, Option<u64>, u64, Option<Duration>)>,
    pub(crate) in_flight: u64,
    pub(crate) waiting: usize,
    pub(crate) closed_for: Duration,
    pub(crate) at_once: Option<u64>,
    pub(crate) refused_for: Duration,
}

impl Gate {
    pub(crate) fn new(clock: SharedClock) -> Self {
        let now = clock.monotonic();
        let state = State {
            windows: Vec::new(),
            closed_until: Monotonic::ZERO,
            told_until: Monotonic::ZERO,
            told_at: now,
            pace: Pace::default(),
            in_flight: 0,
            unknown: 0,
            unheard: BTreeMap::new(),
            next: NO_NUMBER + 1,
            heard: NO_NUMBER,
            output_tokens: OUTPUT_TOKENS_GUESS,
            queue: Queue::default(),
            outage: Outage::default(),
            used_at: now,
        };
        Self { state: Mutex::new(state), clock }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the key is refused for this model.
    pub(crate) fn with_outage<T>(&self, look: impl FnOnce(&mut Outage) -> T) -> T {
        look(&mut self.lock().outage)
    }

    /// How long the Call would wait.
    pub(crate) fn wait(&self, entrant: &Entrant) -> Duration {
        let now = self.clock.monotonic();
        self.lock().expected(entrant, now).saturating_sub(now)
    }

    /// Lets the Call in, at once or in its turn.
    ///
    /// # Errors
    /// [`Late`], at once: it would have to wait for longer than it may, or too many wait.
    pub(crate) fn enter(self: &Arc<Self>, entrant: Entrant) -> Result<Entry, Late> {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        state.used_at = now;
        // Whoever is next may be late to notice that it is let in.
        state.pump(now, None);
        if state.queue.len() == 0 && state.opens_at(entrant.cost, now) <= now {
            let number = state.let_in(entrant.cost, now);
            let cost = entrant.cost;
            return Ok(Entry::Pass(Pass { gate: Arc::clone(self), number, cost }));
        }
        let expected = state.expected(&entrant, now);
        if expected > entrant.until || state.queue.is_full() {
            return Err(state.late(expected, now));
        }
        let cell = Arc::<Cell>::default();
        let ticket = state.queue.push(entrant.ranked, entrant.cost, Arc::clone(&cell));
        drop(state);
        let gate = Arc::clone(self);
        Ok(Entry::Wait(Waiting { gate, entrant, ticket, cell, timer: None, is_over: false }))
    }

    /// A Call that was sent before there was a gate, with so many others, whose answer has begun.
    pub(crate) fn adopt(self: &Arc<Self>, others: u64, cost: Cost) -> Pass {
        let mut state = self.lock();
        if state.heard == NO_NUMBER && state.windows.is_empty() {
            state.unknown = state.unknown.max(others);
        }
        state.in_flight += 1;
        Pass { gate: Arc::clone(self), number: NO_NUMBER, cost }
    }

    /// What is known, to be shown.
    pub(crate) fn seen(&self) -> Seen {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        let left = |until: Monotonic| until.saturating_sub(now);
        let windows = state.windows.iter_mut().map(|window| {
            let full_in = window.full_at().map(left);
            (window.kind.name, window.limit, window.left(now), full_in)
        });
        Seen {
            windows: windows.collect(),
            in_flight: state.in_flight,
            waiting: state.queue.len(),
            closed_for: left(state.closed_until.max(state.told_until)),
            at_once: state.pace.at_once(),
            refused_for: state.outage.left(now),
        }
    }

    /// When it was used last, where nobody uses it now.
    pub(crate) fn idle_since(&self) -> Option<Monotonic> {
        let state = self.lock();
        (state.in_flight == 0 && state.queue.len() == 0).then_some(state.used_at)
    }
}

impl State {
    /// What a Call takes of a window.
    fn units(&self, window: usize, cost: Cost) -> u64 {
        let average = |calls: u64| self.output_tokens.saturating_mul(calls);
        let allowed = cost.output.saturating_add(average(cost.uncapped));
        let real = average(cost.requests).min(allowed);
        let units = |counted| match counted {
            Counted::Requests => cost.requests,
            Counted::Tokens => cost.input.saturating_add(allowed),
            Counted::RealTokens => cost.input.saturating_add(real),
            Counted::Input => cost.input,
            Counted::Output => real,
        };
        self.windows.get(window).map_or(0, |window| units(window.kind.counted))
    }

    /// When a Call can be let in, if nothing else is; beyond [`WAIT_MAX`] when another has ended.
    fn opens_at(&mut self, cost: Cost, now: Monotonic) -> Monotonic {
        let mut opens = self.windows_open_at(cost, now, true);
        if opens > now {
            // What was said may be long out of date, and a limit may have been raised.
            let probe = self.told_at.max(self.used_at_sent()).saturating_add(PROBE_EVERY);
            opens = opens.min(probe.max(now));
        }
        opens.max(self.closed_until).max(self.pace.opens_at(self.in_flight, now))
    }

    /// When the newest Call whose answer has not begun was sent: it is asking already.
    fn used_at_sent(&self) -> Monotonic {
        if self.unheard.is_empty() { Monotonic::ZERO } else { self.used_at }
    }

    /// When the windows have room; for `alone`, a Call larger than a window needs all of it.
    fn windows_open_at(&mut self, cost: Cost, now: Monotonic, alone: bool) -> Monotonic {
        let mut opens = now;
        for index in 0..self.windows.len() {
            let units = self.units(index, cost);
            let Some(window) = self.windows.get_mut(index) else { continue };
            let units = match window.limit {
                Some(limit) if alone => units.min(limit),
                _ => units,
            };
            opens = opens.max(window.ready_at(units, now));
        }
        opens
    }

    /// When a Call can be let in that came now, after those before it.
    fn expected(&mut self, entrant: &Entrant, now: Monotonic) -> Monotonic {
        let place = self.queue.place(entrant.ranked);
        let before = self.queue.cost_before(place);
        if before.requests == 0 && self.queue.len() == 0 {
            let opens = self.opens_at(entrant.cost, now);
            // When another ends is not known, but it will be soon.
            return if opens > now.saturating_add(WAIT_MAX) { now } else { opens };
        }
        let all = before.plus(entrant.cost);
        self.windows_open_at(all, now, before.requests == 0).max(self.closed_until)
    }

    fn late(&self, expected: Monotonic, now: Monotonic) -> Late {
        let opens = expected.max(self.closed_until).max(self.told_until);
        match opens.saturating_sub(now) {
            // It waits for others to end, and nobody knows when that is.
            Duration::ZERO => Late { retry_after: UNKNOWN_WAIT },
            wait => Late { retry_after: wait.min(WAIT_MAX) },
        }
    }

    /// Counts a Call as sent. Answers its number.
    fn let_in(&mut self, cost: Cost, now: Monotonic) -> u64 {
        for index in 0..self.windows.len() {
            let units = self.units(index, cost);
            if let Some(window) = self.windows.get_mut(index) {
                window.spend(units);
            }
        }
        self.pace.sent(now);
        self.in_flight += 1;
        self.used_at = now;
        let number = self.next;
        self.next += 1;
        self.unheard.insert(number, cost);
        number
    }

    /// Undoes [`Self::let_in`]: it was not sent.
    fn turn_back(&mut self, number: u64, cost: Cost) {
        for index in 0..self.windows.len() {
            let units = self.units(index, cost);
            if let Some(window) = self.windows.get_mut(index) {
                window.give_back(units);
            }
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        self.unheard.remove(&number);
    }

    /// Lets in who can be. Answers when the next one can be, who is then at the queue's head, and
    /// wakes it to set its timer unless it is `awake`.
    fn pump(&mut self, now: Monotonic, awake: Option<Ticket>) -> Option<Monotonic> {
        loop {
            let (ticket, waiter) = self.queue.head()?;
            let (cost, cell) = (waiter.cost, Arc::clone(&waiter.cell));
            let opens = self.opens_at(cost, now);
            if opens > now {
                if awake != Some(ticket) {
                    cell.waker.wake();
                }
                return Some(opens);
            }
            self.queue.serve();
            let number = self.let_in(cost, now);
            cell.number.store(number, Ordering::Release);
            cell.waker.wake();
        }
    }

    /// Takes over what an answer to Call `number` says.
    fn told(&mut self, number: u64, told: &Told, now: Monotonic) {
        let own = self.unheard.remove(&number);
        self.told_at = now;
        self.heard = self.heard.max(number);
        let around = self.open_around(number);
        for reading in &told.readings {
            let known = self.windows.iter().position(|window| window.kind == reading.kind);
            let Some(index) = known else {
                self.windows.push(Window::new(number, reading, now));
                continue;
            };
            let (earlier, later) = (self.units(index, around.0), self.units(index, around.1));
            let Some(window) = self.windows.get_mut(index) else { continue };
            if number == NO_NUMBER {
                if reading.remaining < window.left(now) {
                    window.told(reading, Unseen { earlier, later }, now);
                }
            } else if number > window.heard() {
                window.hears(number);
                window.told(reading, Unseen { earlier, later }, now);
            } else {
                // Of a Call that was sent later, more is known already.
                window.told_late(reading);
            }
        }
        if let Some(cost) = own {
            self.settle(number, cost);
        }
    }

    /// What was sent before Call `number` and what after it, of all whose answers have not begun.
    fn open_around(&self, number: u64) -> (Cost, Cost) {
        let mut around = (Cost::default(), Cost::default());
        for (sent, cost) in &self.unheard {
            let side = if *sent < number { &mut around.0 } else { &mut around.1 };
            *side = side.plus(*cost);
        }
        around
    }

    /// Call `number` is open no longer. Where a newer one told of a window, less may be missing in
    /// what that one's answer told. Elsewhere it is lost: the provider may have counted it, and no
    /// answer has told so.
    fn settle(&mut self, number: u64, cost: Cost) {
        let (before, after) = self.open_around(self.heard);
        let open = before.plus(after);
        for index in 0..self.windows.len() {
            let (own, unseen) = (self.units(index, cost), self.units(index, open));
            let Some(window) = self.windows.get_mut(index) else { continue };
            if number > window.heard() {
                window.lose(number, own);
            } else {
                window.recount(unseen);
            }
        }
    }

    /// Whether a Call is more than a window ever holds: who refuses it says nothing about others.
    fn is_too_large(&self, cost: Cost) -> bool {
        let too_large = |(index, window): (usize, &Window)| {
            window.limit.is_some_and(|limit| self.units(index, cost) > limit)
        };
        self.windows.iter().enumerate().any(too_large)
    }

    fn limited(&mut self, (number, cost): (u64, Cost), told: &Told, now: Monotonic) {
        for window in &mut self.windows {
            let named = told.readings.iter().find(|reading| reading.kind == window.kind);
            if named.is_some_and(|reading| reading.remaining == 0) {
                window.was_refused();
            }
        }
        if let Some(wait) = told.retry_after {
            self.told_until = self.told_until.max(now.saturating_add(wait));
            let until = now.saturating_add(wait.min(PROBE_EVERY));
            self.closed_until = self.closed_until.max(until);
        }
        let is_explained = told.readings.iter().any(|reading| {
            // A limit that the headers name and that is used up says all there is to know.
            reading.reset.is_some() && reading.remaining == 0
        });
        if is_explained || self.is_too_large(cost) || !self.pace.is_after_last(number) {
            return;
        }
        let in_flight = self.in_flight.max(std::mem::take(&mut self.unknown));
        let wait = self.pace.limited(in_flight, self.next, now);
        if told.retry_after.is_none() {
            self.closed_until = self.closed_until.max(now.saturating_add(wait));
        }
    }
}

/// How a Call gets in.
#[derive(Debug)]
pub(crate) enum Entry {
    /// At once.
    Pass(Pass),
    /// In its turn.
    Wait(Waiting),
}

/// A Call in the queue. Dropping it leaves the queue.
pub(crate) struct Waiting {
    gate: Arc<Gate>,
    entrant: Entrant,
    ticket: Ticket,
    cell: Arc<Cell>,
    timer: Option<(Monotonic, Sleep)>,
    is_over: bool,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Future for Waiting {
    type Output = Result<Pass, Late>;

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.cell.waker.register(ctx.waker());
            let now = this.gate.clock.monotonic();
            let mut state = this.gate.lock();
            let next = state.pump(now, Some(this.ticket));
            let number = this.cell.number.load(Ordering::Acquire);
            if number != NO_NUMBER {
                this.is_over = true;
                drop(state);
                let gate = Arc::clone(&this.gate);
                return Poll::Ready(Ok(Pass { gate, number, cost: this.entrant.cost }));
            }
            if now >= this.entrant.until {
                this.is_over = true;
                let expected = state.expected(&this.entrant, now);
                let late = state.late(expected, now);
                state.queue.remove(this.ticket);
                state.pump(now, None);
                return Poll::Ready(Err(late));
            }
            let is_head = state.queue.head().is_some_and(|(ticket, _)| ticket == this.ticket);
            drop(state);
            let alarm = match next {
                Some(next) if is_head => next.min(this.entrant.until),
                _ => this.entrant.until,
            };
            if this.timer.as_ref().is_none_or(|(at, _)| *at != alarm) {
                let sleep = this.gate.clock.sleep(alarm.saturating_sub(now));
                this.timer = Some((alarm, sleep));
            }
            if let Some((_, sleep)) = &mut this.timer {
                ready!(sleep.as_mut().poll(ctx));
            }
            this.timer = None;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let now = self.gate.clock.monotonic();
        let mut state = self.gate.lock();
        match self.cell.number.load(Ordering::Acquire) {
            NO_NUMBER => state.queue.remove(self.ticket),
            number => state.turn_back(number, self.entrant.cost),
        }
        state.pump(now, None);
    }
}

/// A Call that was let in, until its answer has ended.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    number: u64,
    cost: Cost,
}

impl Pass {
    /// Its answer has begun well.
    pub(crate) fn answered(&self, told: &Told) {
        let now = self.gate.clock.monotonic();
        let mut state = self.gate.lock();
        state.told(self.number, told, now);
        state.told_until = state.told_until.min(now);
        state.pace.answered(self.number, now);
        state.pump(now, None);
    }

    /// The provider refused it because of its limits.
    pub(crate) fn limited(&self, told: &Told) {
        let now = self.gate.clock.monotonic();
        let mut state = self.gate.lock();
        state.told(self.number, told, now);
        state.limited((self.number, self.cost), told, now);
        state.pump(now, None);
    }

    /// Its answer is whole, and had so many tokens.
    pub(crate) fn used(&self, output_tokens: u64) {
        if output_tokens > OUTPUT_TOKENS_MAX {
            return;
        }
        let mut state = self.gate.lock();
        state.output_tokens = (state.output_tokens * 7 + output_tokens) / 8;
    }

    /// What is known of its gate.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let now = self.gate.clock.monotonic();
        let mut state = self.gate.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(cost) = state.unheard.remove(&self.number) {
            state.settle(self.number, cost);
        }
        state.pump(now, None);
    }
}

#[cfg(test)]
mod tests;
