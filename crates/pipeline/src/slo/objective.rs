//! One objective: what falls under it, what is good, and whether it burns.
//!
//! Invariants: its lock is held for a few additions only; [`Objective::is_burning`] takes none. A
//! slot begins at the same time in every process; while one runs, only the monotonic clock moves
//! its slots.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use storage::SloCounts;
use types::call::{CallKind, Operation};
use types::clock::Monotonic;
use types::{Call, Timestamp};

use super::kept::{self, Kept};
use super::ring::{Counts, Ring};
use super::tasks::{Name, Tasks};
use super::{
    BUDGET_SLOTS, LONG_IN_SHORT_MAX, MILLION, Metric, SHORT_SLOTS, SloSettings, SloStatus,
    WINDOW_MAX, WindowStatus, is_fault,
};
use crate::record::telemetry::CallEnded;

/// The objective.
#[derive(Debug)]
pub(super) struct Objective {
    pub(super) settings: SloSettings,
    is_burning: AtomicBool,
    counted: Mutex<Counted>,
    /// Held while its state changes and that is told, so that it is told in order. No Call takes
    /// it.
    pub(super) telling: Mutex<()>,
}

#[derive(Debug)]
struct Counted {
    /// For the short and the long window.
    fine: Slots,
    /// For the error budget's.
    coarse: Slots,
    seen: Counts,
    tasks: Tasks,
    since: Timestamp,
    /// It is no more: nothing is told of it from then on.
    ended: bool,
    /// Changes of what is kept, and how many of them are.
    changes: u64,
    kept: u64,
}

/// Says that what was to be kept of an objective is.
#[derive(Debug)]
pub(super) struct Mark<'a> {
    objective: &'a Objective,
    changes: u64,
}

impl Mark<'_> {
    pub(super) fn set(self) {
        let mut counted = self.objective.counted();
        counted.kept = counted.kept.max(self.changes);
    }
}

/// A ring and the length of its slots.
#[derive(Debug)]
struct Slots {
    ring: Ring,
    length: Duration,
    /// When it was made, by both clocks. The wall clock may jump afterwards.
    made: (Monotonic, Timestamp),
}

impl Slots {
    fn new(length: Duration, span: Duration, made: (Monotonic, Timestamp)) -> Self {
        let length = length.max(Duration::from_micros(1));
        let slots = usize::try_from(in_slots(span, length)).unwrap_or(usize::MAX);
        let most = SHORT_SLOTS.saturating_mul(LONG_IN_SHORT_MAX).max(BUDGET_SLOTS);
        let slots = slots.min(usize::try_from(most).unwrap_or(usize::MAX)).saturating_add(1);
        Self { ring: Ring::new(slots, numbered(micros(made.1), length)), length, made }
    }

    /// The slot of a moment.
    fn number(&self, at: Monotonic) -> u64 {
        let (now, wall) = self.made;
        let wall = micros(wall).saturating_add(at.as_micros()).saturating_sub(now.as_micros());
        numbered(wall, self.length)
    }

    fn add(&mut self, at: Monotonic, is_bad: bool) {
        self.ring.add(self.number(at), is_bad);
    }

    /// The counts of the newest `span`. The slot that has begun counts as a whole one beside them.
    fn sum(&mut self, now: Monotonic, span: Duration) -> Counts {
        let slots = in_slots(span, self.length).saturating_add(1);
        self.ring.sum(self.number(now), slots)
    }

    /// Goes on with what was kept at `at`: slots by their age then, good and bad.
    fn load(&mut self, kept: &[(u64, u64, u64)], at: Timestamp, now: Monotonic) {
        let now = self.number(now);
        // A clock that was set back makes nothing younger than it was.
        let passed = now.saturating_sub(numbered(micros(at), self.length));
        for (age, good, bad) in kept {
            let counts = Counts { good: *good, bad: *bad };
            self.ring.load(now, age.saturating_add(passed), counts);
        }
    }
}

/// Microseconds of the wall clock, from so long before the epoch that there are slots for what was
/// counted earlier.
fn micros(at: Timestamp) -> u128 {
    let before = i128::try_from((WINDOW_MAX * 2).as_micros()).unwrap_or(i128::MAX);
    u128::try_from(before.saturating_add(i128::from(at.0))).unwrap_or(0)
}

/// The slot of so many [`micros`]. They are of the wall clock, so that slots begin at the same time
/// in each process: restarts within one age nothing.
fn numbered(micros: u128, length: Duration) -> u64 {
    u64::try_from(micros / length.as_micros().max(1)).unwrap_or(u64::MAX)
}

/// The slots of a span, rounded up.
fn in_slots(span: Duration, length: Duration) -> u64 {
    u64::try_from(span.as_micros().div_ceil(length.as_micros().max(1))).unwrap_or(u64::MAX)
}

impl Objective {
    pub(super) fn new(settings: SloSettings, now: (Monotonic, Timestamp)) -> Self {
        let counted = Counted {
            fine: Slots::new(settings.short_window / SHORT_SLOTS, settings.long_window, now),
            coarse: Slots::new(settings.window / BUDGET_SLOTS, settings.window, now),
            seen: Counts::default(),
            tasks: Tasks::default(),
            since: now.1,
            ended: false,
            changes: 0,
            kept: 0,
        };
        let (is_burning, counted) = (AtomicBool::new(false), Mutex::new(counted));
        Self { settings, is_burning, counted, telling: Mutex::default() }
    }

    /// Until this is dropped, nobody else tells of what [`Self::evaluate`], [`Self::load`] and
    /// [`Self::end`] answer.
    pub(super) fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_burning(&self) -> bool {
        self.is_burning.load(Ordering::Relaxed)
    }

    pub(super) fn begun(&self, call: &Call) {
        let is_task = self.settings.metric == Metric::TaskTime && !is_alone(call);
        if is_task && self.is_of(call) {
            // A tool's Call belongs to the task of the model that asked for it.
            let opens = self.asks_for(call, None);
            self.counted().tasks.begun(name(call), call.started, opens);
        }
    }

    pub(super) fn ended(&self, ended: &CallEnded) {
        let call = &*ended.call;
        let threshold = self.settings.threshold;
        let joins = self.settings.metric == Metric::TaskTime && !is_alone(call);
        if !self.is_of(call) || !(joins || self.asks_for(call, Some(&ended.target.name))) {
            return;
        }
        let at = call.started.saturating_add(ended.took);
        let is_bad = match self.settings.metric {
            Metric::TaskTime if joins => {
                self.counted().tasks.ended(&name(call), at);
                None
            }
            Metric::TaskTime => Some(ended.took > threshold),
            Metric::PolicyTime => Some(ended.policy > threshold),
            // What ended early without content was not slow: its errors are for another metric.
            Metric::TimeToFirstToken if is_answered(call) => match ended.first_content {
                Some(first) => Some(first > threshold),
                None => {
                    let is_slow = ended.took > threshold;
                    (is_slow || ended.error.is_none()).then_some(is_slow)
                }
            },
            Metric::Errors if is_answered(call) => match ended.error {
                None => Some(false),
                Some(code) => is_fault(code).then_some(true),
            },
            Metric::TimeToFirstToken | Metric::Errors => None,
        };
        if let Some(is_bad) = is_bad {
            self.counted().add(at, is_bad);
        }
    }

    /// A fault of ours before an attempt. Which model and key it was for is not looked at.
    pub(super) fn refused(&self, class: &str, now: Monotonic) {
        let SloSettings { metric, class: mine, model, key, .. } = &self.settings;
        let covers = mine.as_deref().is_none_or(|mine| mine == class);
        if *metric == Metric::Errors && covers && model.is_none() && key.is_none() {
            self.counted().add(now, true);
        }
    }

    /// Whether a Call is of its class and key.
    fn is_of(&self, call: &Call) -> bool {
        let SloSettings { class, key, .. } = &self.settings;
        class.as_deref().is_none_or(|class| *class == *call.class)
            && key.as_deref().is_none_or(|key| *key == *call.principal.key_name)
    }

    /// Whether a Call asks for its model, or was answered by it.
    fn asks_for(&self, call: &Call, target: Option<&str>) -> bool {
        let Some(name) = self.settings.model.as_deref() else { return true };
        let head = call.model().map(|model| model.head.model.as_str());
        *call.plan.name == *name || head == Some(name) || target == Some(name)
    }

    /// Counts tasks that are over. Answers the status if it has begun or stopped to burn.
    pub(super) fn evaluate(&self, now: Monotonic, at: Timestamp) -> Option<SloStatus> {
        let mut counted = self.counted();
        if counted.ended {
            return None;
        }
        let Counted { tasks, fine, coarse, seen, changes, .. } = &mut *counted;
        tasks.sweep(now, self.settings.threshold, self.settings.task_idle, |is_bad| {
            fine.add(now, is_bad);
            coarse.add(now, is_bad);
            seen.add(is_bad);
            *changes += 1;
        });
        let mut status = self.status_of(&mut counted, now);
        let is_hot = |window: &WindowStatus| window.burn_rate >= self.settings.burn_rate;
        let enough = status.long.counts.all() >= self.settings.min_count;
        let burns = enough && is_hot(&status.short) && is_hot(&status.long);
        if burns == self.is_burning() {
            return None;
        }
        counted.since = at;
        counted.changes += 1;
        self.is_burning.store(burns, Ordering::Relaxed);
        (status.is_burning, status.since) = (burns, at);
        Some(status)
    }

    /// What it has counted, if that is not kept yet.
    pub(super) fn unkept(
        &self,
        (now, at): (Monotonic, Timestamp),
    ) -> Option<(SloCounts, Mark<'_>)> {
        let mut counted = self.counted();
        if counted.changes == counted.kept {
            return None;
        }
        let changes = counted.changes;
        let slots = |slots: &mut Slots| {
            let now = slots.number(now);
            kept::slots(slots.ring.by_age(now))
        };
        let kept = Kept {
            fine: slots(&mut counted.fine),
            coarse: slots(&mut counted.coarse),
            is_burning: self.is_burning(),
            since: counted.since.0,
        };
        drop(counted);
        let counts = SloCounts {
            name: self.settings.name.clone(),
            definition: kept::definition(&self.settings),
            at,
            counts: serde_json::to_string(&kept).ok()?,
        };
        Some((counts, Mark { objective: self, changes }))
    }

    /// Goes on with what was kept of it; nothing of another definition. Its status, if it burns.
    pub(super) fn load(&self, row: &SloCounts, now: Monotonic) -> Option<SloStatus> {
        if row.definition != kept::definition(&self.settings) {
            return None;
        }
        let kept: Kept = serde_json::from_str(&row.counts)
            .inspect_err(|error| tracing::warn!(slo = row.name, %error, "unreadable counts"))
            .ok()?;
        let mut counted = self.counted();
        if counted.ended {
            return None;
        }
        counted.fine.load(&kept.fine, row.at, now);
        counted.coarse.load(&kept.coarse, row.at, now);
        counted.since = kept.since();
        self.is_burning.store(kept.is_burning, Ordering::Relaxed);
        kept.is_burning.then(|| self.status_of(&mut counted, now))
    }

    /// It is no more, or begins anew: its status, if it burned.
    pub(super) fn end(&self, now: Monotonic, at: Timestamp) -> Option<SloStatus> {
        let mut counted = self.counted();
        counted.ended = true;
        if !self.is_burning.swap(false, Ordering::Relaxed) {
            return None;
        }
        counted.since = at;
        Some(self.status_of(&mut counted, now))
    }

    pub(super) fn status(&self, now: Monotonic) -> SloStatus {
        self.status_of(&mut self.counted(), now)
    }

    fn status_of(&self, counted: &mut Counted, now: Monotonic) -> SloStatus {
        let settings = self.settings.clone();
        let mut fine = |length| self.window(&mut counted.fine, now, length);
        let (short, long) = (fine(settings.short_window), fine(settings.long_window));
        let budget = self.window(&mut counted.coarse, now, settings.window);
        let (is_burning, since) = (self.is_burning(), counted.since);
        let budget_left = 1.0 - budget.burn_rate;
        let seen = counted.seen;
        SloStatus { settings, short, long, budget, seen, budget_left, is_burning, since }
    }

    fn window(&self, slots: &mut Slots, now: Monotonic, length: Duration) -> WindowStatus {
        let counts = slots.sum(now, length);
        WindowStatus { length, counts, burn_rate: burn_rate(counts, self.settings.allowed) }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn add(&mut self, at: Monotonic, is_bad: bool) {
        self.fine.add(at, is_bad);
        self.coarse.add(at, is_bad);
        self.seen.add(is_bad);
        self.changes += 1;
    }
}

/// How much faster than allowed bad events come.
#[expect(clippy::cast_precision_loss, reason = "a ratio that is shown: no count is near 2^53")]
fn burn_rate(counts: Counts, allowed: u32) -> f64 {
    if counts.all() == 0 {
        return 0.0;
    }
    let bad = counts.bad as f64 / counts.all() as f64;
    bad * f64::from(MILLION) / f64::from(allowed.max(1))
}

/// Whether a Call is a whole task: it named none, is no session's, and was spawned by none.
fn is_alone(call: &Call) -> bool {
    call.step.is_none() && call.parent.is_none() && *call.task == *call.id.as_str()
}

fn name(call: &Call) -> Name {
    (Arc::clone(&call.principal.account), Arc::clone(&call.task))
}

/// Whether a model is to answer it: counting tokens and tools have objectives of their own kinds.
fn is_answered(call: &Call) -> bool {
    match &call.kind {
        CallKind::Model(model) => model.operation != Operation::CountTokens,
        CallKind::Tool(_) => false,
    }
}
