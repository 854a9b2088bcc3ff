//! Holds a Call to the limits that it falls under: takes what it may use, and gives back the rest.
//!
//! All limits in scope are looked at under their locks together, and taken from all or from none.
//! A Call that may wait joins the queue of the first limit that lacks room, and looks at all of
//! them again when it is its turn there; what it has waited for elsewhere it keeps its place for.
//! Dropping the future leaves the queue. Only who is next waits for a time; everybody else is told.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use types::clock::Monotonic;
use types::error::Billed;
use types::{Call, Clock, Failure, Money};

use super::cell::{Cell, Cells, State};
use super::needs::Needs;
use super::queue::Place;
use super::refusal::{Lack, refused};
use super::set::InScope;
use super::subject::Subject;
use super::window::Room;
use super::{Asking, KINDS, Kind, Limit, QUEUE_CALLS_MAX, QUEUE_TIME_MAX, RateLimits};
use crate::admit::Offer;

/// Steps of turns that are under way wait for one limit at most, whether or not it has a queue: a
/// turn that has begun rather takes longer than it fails.
const STEPS_WAITING_MAX: u32 = 1_024;
/// They wait no longer than any other Call may: whoever is next holds up all the others.
const STEP_WAIT_MAX: Duration = QUEUE_TIME_MAX;
/// Calls that wait for one limit at most, all those together whom it counts apart.
const WAITING_MAX: u32 = QUEUE_CALLS_MAX;

/// How a Call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// By itself.
    New,
    /// By itself, and it is a step of a turn that has begun.
    Begun,
    /// Another Call waits for it: it has that one's place, and so waits for nobody's turn.
    Within,
}

impl Pace {
    /// Of a Call that runs by itself.
    pub(crate) const fn begun(is_begun: bool) -> Self {
        if is_begun { Self::Begun } else { Self::New }
    }

    /// Whether it runs in a place of its own.
    const fn runs(self) -> bool {
        matches!(self, Self::New | Self::Begun)
    }
}

/// What a Call holds of the limits that it falls under, until it has ended.
///
/// Shared by its attempts: each says what it used, and the last to be dropped gives back the rest.
/// One that no attempt was made of gives back all.
pub(crate) struct Ticket {
    holds: Vec<Hold>,
    needs: Needs,
    used: [AtomicU64; KINDS],
    began: AtomicBool,
    /// What was taken for further attempts: by hold, where each of its windows was taken from.
    more: Mutex<Vec<Vec<Vec<u64>>>>,
}

/// What is held of one limit.
#[derive(Debug)]
struct Hold {
    limit: Arc<Limit>,
    cell: Arc<Cell>,
    /// By window: its kind, and where it was taken from.
    taken: Vec<(Kind, u64)>,
    runs: bool,
}

/// Holds `call` to the limits in force; `None` = it falls under none.
///
/// # Errors
/// `rate_limited` if there is no room, and none in time; `too_large` if there never can be.
pub(crate) async fn admit(
    limits: &RateLimits,
    clock: &dyn Clock,
    call: &Call,
    pace: Pace,
) -> Result<Option<Arc<Ticket>>, Failure> {
    let Some(set) = limits.in_force() else { return Ok(None) };
    let Some(asking) = Asking::of(call) else { return Ok(None) };
    let now = clock.monotonic();
    let in_scope = set.in_scope(&asking, now).map_err(|limit| no_cell(&limit, clock))?;
    if in_scope.is_empty() {
        return Ok(None);
    }
    let needs = Needs::of(call, &in_scope)?;
    let short = match take(&in_scope, &needs, pace, &Places::default(), now) {
        Ok(holds) => return Ok(Some(Arc::new(Ticket::new(holds, needs)))),
        Err(short) => short,
    };
    drop(set);
    let waiter = Waiter { limits, clock, call, asking, pace, began: now };
    Box::pin(waiter.wait(in_scope, short)).await
}

fn no_cell(limit: &Limit, clock: &dyn Clock) -> Failure {
    refused(limit, Lack::Subjects, (&[], clock), false)
}

/// The first limit that lacks room, by its place among those in scope.
#[derive(Clone, Copy, Debug)]
struct Short {
    place: usize,
    lack: Lack,
}

/// Takes from all, or from none.
fn take(
    in_scope: &[InScope],
    needs: &Needs,
    pace: Pace,
    places: &Places,
    now: Monotonic,
) -> Result<Vec<Hold>, Short> {
    let mut states = Vec::with_capacity(in_scope.len());
    let mut short: Option<Short> = None;
    let runs = pace.runs();
    for (place, (limit, cell)) in in_scope.iter().enumerate() {
        let state = cell.at(now, limit.settings.per);
        let lack = lack(limit, &state, needs, runs).or_else(|| {
            let is_turn = state.queue.as_ref().is_none_or(|queue| match places.of(cell) {
                Some(place) => queue.is_next(place),
                None => queue.is_empty(),
            });
            // Those who wait may wait for the very place that it runs in.
            (runs && !is_turn).then_some(Lack::Turn)
        });
        // What can never be admitted need not wait for anything.
        let is_worse = matches!(lack, Some(Lack::TooMuch { .. })) || short.is_none();
        short = lack.filter(|_| is_worse).map(|lack| Short { place, lack }).or(short);
        states.push(state);
    }
    if let Some(short) = short {
        return Err(short);
    }
    let both = in_scope.iter().zip(states);
    Ok(both.map(|((limit, cell), state)| hold(limit, cell, state, needs, runs)).collect())
}

/// What a limit lacks for a Call, if it does.
fn lack(limit: &Limit, state: &State, needs: &Needs, runs: bool) -> Option<Lack> {
    let per = limit.settings.per;
    let (mut lack, mut soonest): (Option<Lack>, Duration) = (None, Duration::ZERO);
    for ((kind, most), window) in limit.settings.most.iter().zip(&state.windows) {
        let needed = needs.amounts.get(*kind);
        if needed == 0 {
            continue;
        }
        match window.room(needed, *most, state.now, per) {
            Room::Now => {}
            Room::Never => return Some(Lack::TooMuch { kind: *kind, needed, most: *most }),
            Room::After { wait, earliest } => {
                // Requests don't come back: each is one, whatever it used.
                let earliest = if *kind == Kind::Requests { wait } else { earliest };
                soonest = soonest.max(earliest);
                if lack.is_none_or(|other| other.wait() < wait) {
                    let free = most.saturating_sub(window.used());
                    lack = Some(Lack::Amount { kind: *kind, needed, free, wait, earliest });
                }
            }
        }
    }
    if let Some(Lack::Amount { earliest, .. }) = &mut lack {
        *earliest = soonest;
    }
    let is_full = limit.settings.concurrency.is_some_and(|most| state.running >= most);
    lack.or_else(|| (runs && is_full).then_some(Lack::Running))
}

fn hold(
    limit: &Arc<Limit>,
    cell: &Arc<Cell>,
    mut state: MutexGuard<'_, State>,
    needs: &Needs,
    runs: bool,
) -> Hold {
    let (now, per) = (state.now, limit.settings.per);
    let counted = limit.settings.most.iter().zip(&mut state.windows);
    let taken = counted.map(|((kind, _), window)| {
        let needed = needs.amounts.get(*kind);
        (*kind, window.take(needed, now, per))
    });
    let taken = taken.collect();
    state.running += u32::from(runs);
    Hold { limit: Arc::clone(limit), cell: Arc::clone(cell), taken, runs }
}

/// The places in queues that a Call has, or has had its turn at.
#[derive(Debug, Default)]
struct Places {
    all: Vec<(Arc<Cell>, Place)>,
    now: Option<Waiting>,
}

impl Places {
    fn of(&self, cell: &Arc<Cell>) -> Option<Place> {
        let mut all = self.all.iter();
        all.find(|(of, _)| Arc::ptr_eq(of, cell)).map(|(_, place)| *place)
    }

    fn keep(&mut self, cell: &Arc<Cell>, place: Place) {
        match self.all.iter_mut().find(|(of, _)| Arc::ptr_eq(of, cell)) {
            Some((_, kept)) => *kept = place,
            None => self.all.push((Arc::clone(cell), place)),
        }
    }
}

/// A place in a queue: left when this is dropped.
#[derive(Debug)]
struct Waiting {
    cells: Arc<Cells>,
    cell: Arc<Cell>,
    place: Place,
    called: Arc<Notify>,
    is_served: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.cells.waiting.fetch_sub(1, Ordering::AcqRel);
        let mut state = self.cell.lock();
        if let Some(queue) = &mut state.queue {
            queue.remove(self.place, self.is_served);
            queue.call_next();
            if queue.is_empty() {
                state.queue = None;
            }
        }
    }
}

impl Waiting {
    fn is_next(&self) -> bool {
        let state = self.cell.lock();
        state.queue.as_ref().is_none_or(|queue| queue.is_next(self.place))
    }
}

/// Whether there is no room before it is too late, whatever Calls that run give back.
fn is_in_vain(lack: Lack, now: Monotonic, until: Monotonic) -> bool {
    matches!(lack, Lack::Amount { earliest, .. } if now.saturating_add(earliest) > until)
}

/// A Call that may wait.
struct Waiter<'a> {
    limits: &'a RateLimits,
    clock: &'a dyn Clock,
    call: &'a Call,
    asking: Asking<'a>,
    pace: Pace,
    began: Monotonic,
}

impl Waiter<'_> {
    /// Waits for room: in one queue at a time, and in each no longer than its limit allows.
    async fn wait(
        &self,
        mut in_scope: Vec<InScope>,
        mut short: Short,
    ) -> Result<Option<Arc<Ticket>>, Failure> {
        let mut places = Places::default();
        loop {
            let Some((limit, cell)) = in_scope.get(short.place).cloned() else { return Ok(None) };
            let now = self.clock.monotonic();
            let waited = places.now.is_some();
            let refuse = |lack: Lack| Err(refused(&limit, lack, (&in_scope, self.clock), waited));
            let Some(until) = self.until(&limit, short.lack) else { return refuse(short.lack) };
            if now >= until || is_in_vain(short.lack, now, until) {
                return refuse(short.lack);
            }
            let is_here = places.now.as_ref().is_some_and(|it| Arc::ptr_eq(&it.cell, &cell));
            if is_here {
                self.sleep(&places, short.lack, until).await;
            } else if !self.join(&limit, &cell, &mut places) {
                return refuse(short.lack);
            }
            // The limits may be others by now; what a Call needs of them too.
            let now = self.clock.monotonic();
            let Some(set) = self.limits.in_force() else { return Ok(None) };
            in_scope =
                set.in_scope(&self.asking, now).map_err(|limit| no_cell(&limit, self.clock))?;
            if in_scope.is_empty() {
                return Ok(None);
            }
            let needs = Needs::of(self.call, &in_scope)?;
            match take(&in_scope, &needs, self.pace, &places, now) {
                Ok(holds) => {
                    if let Some(waiting) = &mut places.now {
                        waiting.is_served = true;
                    }
                    return Ok(Some(Arc::new(Ticket::new(holds, needs))));
                }
                Err(next) => short = next,
            }
        }
    }

    /// Until when the Call may wait for this limit; `None` = not at all.
    fn until(&self, limit: &Limit, lack: Lack) -> Option<Monotonic> {
        if matches!(lack, Lack::TooMuch { .. } | Lack::Subjects) {
            return None;
        }
        let deadline = self.call.deadline.unwrap_or(Monotonic::MAX);
        let queue = limit.settings.queue.as_ref();
        let time = match self.pace {
            Pace::Begun => Some(STEP_WAIT_MAX),
            Pace::New | Pace::Within => queue.map(|queue| queue.time),
        };
        time.map(|time| self.began.saturating_add(time).min(deadline))
    }

    /// Queues for a limit; `false` = too many do.
    fn join(&self, limit: &Limit, cell: &Arc<Cell>, places: &mut Places) -> bool {
        // Left before another one is taken: who is next there need not wait for this one.
        places.now = None;
        let queue = limit.settings.queue.as_ref();
        let calls = queue.map_or(0, |queue| queue.calls);
        let most = match self.pace {
            Pace::Begun => calls.max(STEPS_WAITING_MAX),
            Pace::New | Pace::Within => calls,
        };
        let cells = &limit.cells;
        let weight = queue.and_then(|queue| queue.weights.get(self.asking.class));
        let weight = weight.copied().unwrap_or(1);
        let called = Arc::<Notify>::default();
        let flow = Subject::flow(&self.asking);
        let mut state = cell.lock();
        // Of each whom the limit counts apart: else one of them could fill it for all.
        let waiting = state.queue.as_ref().map_or(0, |queue| queue.len());
        let add = |all: u32| (all < WAITING_MAX).then_some(all + 1);
        if u32::try_from(waiting).is_ok_and(|waiting| waiting >= most)
            || cells.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_err()
        {
            return false;
        }
        let queue = state.queue.get_or_insert_default();
        let place = match places.of(cell) {
            Some(place) => queue.rejoin(place, (&flow, weight), Arc::clone(&called)),
            None if self.pace.runs() => queue.push(&flow, weight, Arc::clone(&called)),
            // What is behind it may wait for it to end.
            None => queue.push_first(&flow, Arc::clone(&called)),
        };
        drop(state);
        places.keep(cell, place);
        places.now = Some(Waiting {
            cells: Arc::clone(cells),
            cell: Arc::clone(cell),
            place,
            called,
            is_served: false,
        });
        true
    }

    /// Sleeps until it is told to look again, or there may be room, or it is too late.
    async fn sleep(&self, places: &Places, lack: Lack, until: Monotonic) {
        let Some(waiting) = &places.now else { return };
        let now = self.clock.monotonic();
        let room_at = match lack {
            // Everybody behind it is called when it has left: one timer wakes one.
            Lack::Amount { wait, .. } if waiting.is_next() => now.saturating_add(wait),
            Lack::Amount { .. }
            | Lack::TooMuch { .. }
            | Lack::Running
            | Lack::Turn
            | Lack::Subjects => until,
        };
        let timer = self.clock.sleep(room_at.min(until).saturating_sub(now));
        tokio::select! {
            () = waiting.called.notified() => {}
            () = timer => {}
        }
    }
}

impl Ticket {
    fn new(holds: Vec<Hold>, needs: Needs) -> Self {
        let (used, began, more) = (Default::default(), AtomicBool::new(false), Mutex::default());
        Self { holds, needs, used, began, more }
    }

    /// Makes the offers of its Call such that none can use more than is held.
    pub(crate) fn limit(&self, call: &Call, offers: &mut Vec<Offer>) -> Result<(), Failure> {
        self.needs.limit(call, offers)
    }

    /// Whether what is held is enough for one attempt more than those that have ended, and than one
    /// that still runs if it is `beside` that. Takes for it if there is room: never waits.
    pub(crate) fn cover(&self, beside: bool, now: Monotonic) -> bool {
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, wanted) = (1 + more.len() as u64, 1 + u64::from(beside));
        let is_held = Kind::OF_USAGE.into_iter().all(|kind| {
            let each = self.needs.amounts.get(kind);
            let needed = self.used(kind).saturating_add(each.saturating_mul(wanted));
            needed <= each.saturating_mul(held)
        });
        if is_held {
            return true;
        }
        let mut needs = self.needs;
        needs.amounts.set(Kind::Requests, 0);
        let mut states = Vec::with_capacity(self.holds.len());
        for hold in &self.holds {
            let state = hold.cell.at(now, hold.limit.settings.per);
            if lack(&hold.limit, &state, &needs, false).is_some() {
                return false;
            }
            states.push(state);
        }
        let taken = self.holds.iter().zip(states).map(|(of, state)| {
            let taken = hold(&of.limit, &of.cell, state, &needs, false).taken;
            taken.into_iter().map(|(_, number)| number).collect()
        });
        more.push(taken.collect());
        true
    }

    /// An attempt has ended: what it used, where anybody knows; else what was held for it.
    pub(crate) fn report(&self, billed: &Billed, charged: Money) {
        self.began.store(true, Ordering::Relaxed);
        let held = &self.needs.amounts;
        let (input, output, cost) = match billed {
            Billed::No => return,
            Billed::Usage(usage) => {
                let cost = u64::try_from(charged.nanodollars()).unwrap_or(0);
                (usage.input_tokens, usage.output_tokens, cost)
            }
            Billed::Unknown => {
                let held = |kind| held.get(kind);
                (held(Kind::InputTokens), held(Kind::OutputTokens), held(Kind::Cost))
            }
        };
        let add = |kind: Kind, amount: u64| {
            self.used[kind as usize].fetch_add(amount, Ordering::Relaxed);
        };
        add(Kind::InputTokens, input);
        add(Kind::OutputTokens, output);
        add(Kind::Tokens, input.saturating_add(output));
        add(Kind::Cost, cost);
    }

    fn used(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Requests => u64::from(self.began.load(Ordering::Relaxed)),
            Kind::Tokens | Kind::InputTokens | Kind::OutputTokens | Kind::Cost => {
                self.used[kind as usize].load(Ordering::Relaxed)
            }
        }
    }
}

impl Drop for Ticket {
    /// Short locks and sums, in memory: what ends never waits.
    fn drop(&mut self) {
        let more = std::mem::take(self.more.get_mut().unwrap_or_else(PoisonError::into_inner));
        for (place, hold) in self.holds.iter().enumerate() {
            let mut state = hold.cell.lock();
            for (index, window) in state.windows.iter_mut().enumerate() {
                let Some((kind, number)) = hold.taken.get(index) else { continue };
                let (each, mut used) = (self.needs.amounts.get(*kind), self.used(*kind));
                // Each further attempt's is used up first, so that the first has what is beyond.
                let of_more = more.iter().rev().filter_map(|of| of.get(place)?.get(index));
                for number in of_more.filter(|_| *kind != Kind::Requests) {
                    let part = used.min(each);
                    window.settle(*number, each, part);
                    used -= part;
                }
                window.settle(*number, each, used);
            }
            state.running = state.running.saturating_sub(u32::from(hold.runs));
            state.call_next();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("holds", &self.holds.len()).finish_non_exhaustive()
    }
}
