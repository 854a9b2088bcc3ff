//! Service level objectives: which part of Calls or tasks has to be how fast, or free of faults.
//!
//! Each objective counts good and bad events in rings of time slots, so that its memory is bounded
//! and it knows how fast its error budget burns over two windows: it is burning while both burn
//! faster than its rate, as Google's SRE workbook has it for alerts. Whoever takes alerts is told
//! of each change. Counting happens when a Call has ended, never while it runs. Invariant: an event
//! is counted once in every objective that it falls under. It must not know HTTP, nor how Calls are
//! done.
//! <https://sre.google/workbook/alerting-on-slos/#6-multiwindow-multi-burn-rate-alerts>

pub(crate) mod evaluate;
pub(crate) mod keep;
mod kept;
mod objective;
mod ring;
mod tasks;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use storage::SloCounts;
use types::clock::SharedClock;
use types::{Call, ErrorCode, Timestamp};

use crate::record::telemetry::CallEnded;
pub use keep::KEEP_EVERY;
use objective::{Mark, Objective};
pub use ring::Counts;

/// Objectives at most: each is looked at for every Call that ends.
pub const OBJECTIVES_MAX: usize = 100;
/// Slots of the short window: how smoothly it moves.
const SHORT_SLOTS: u32 = 10;
/// Slots of the error budget's window.
const BUDGET_SLOTS: u32 = 720;
/// The long window in short ones at most: what bounds its slots.
pub const LONG_IN_SHORT_MAX: u32 = 300;
/// The shortest short window: its slots are not shorter than the evaluation's beat.
pub const SHORT_WINDOW_MIN: Duration = Duration::from_secs(1);
/// The longest window of an error budget.
pub const WINDOW_MAX: Duration = Duration::from_hours(366 * 24);
/// Everything, in the parts that objectives are written in.
pub const MILLION: u32 = 1_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// From a model Call's arrival to its first content; of an answer in one piece, to the whole.
    TimeToFirstToken,
    /// From a task's first Call's arrival to its last Call's end.
    TaskTime,
    /// From a Call's arrival to the beginning of its first attempt: who asks, may they, where to.
    PolicyTime,
    /// Whether a model Call ended without a fault of a provider or of ours.
    Errors,
}

impl Metric {
    /// Every one.
    pub const ALL: [Self; 4] =
        [Self::TimeToFirstToken, Self::TaskTime, Self::PolicyTime, Self::Errors];

    /// The name that is written and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeToFirstToken => "time_to_first_token",
            Self::TaskTime => "task_time",
            Self::PolicyTime => "policy_time",
            Self::Errors => "errors",
        }
    }

    /// The metric of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// An objective as it was set.
#[derive(Clone, Debug, PartialEq)]
pub struct SloSettings {
    /// Its name.
    pub name: String,
    /// Only Calls of this request class.
    pub class: Option<String>,
    /// Only Calls that ask for this model or route, or that it answered.
    pub model: Option<String>,
    /// Only Calls with the key of this name.
    pub key: Option<String>,
    /// What is measured.
    pub metric: Metric,
    /// Longer is bad. Of no meaning for [`Metric::Errors`].
    pub threshold: Duration,
    /// Bad events that are allowed in a million.
    pub allowed: u32,
    /// What the error budget is for.
    pub window: Duration,
    /// The window in which an alert ends soon.
    pub short_window: Duration,
    /// The window that keeps a short disturbance from being an alert.
    pub long_window: Duration,
    /// It burns when both windows burn faster: 1 uses the budget up in exactly its window.
    pub burn_rate: f64,
    /// Events in the long window below which nothing burns.
    pub min_count: u64,
    /// How long none of a task's Calls has run when it is over.
    pub task_idle: Duration,
}

/// What happened in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowStatus {
    /// How long it is.
    pub length: Duration,
    /// What was seen.
    pub counts: Counts,
    /// How much faster than allowed the budget burns.
    pub burn_rate: f64,
}

/// An objective now.
#[derive(Clone, Debug, PartialEq)]
pub struct SloStatus {
    /// What was set.
    pub settings: SloSettings,
    /// The short window.
    pub short: WindowStatus,
    /// The long window.
    pub long: WindowStatus,
    /// The error budget's window.
    pub budget: WindowStatus,
    /// Everything since the start.
    pub seen: Counts,
    /// The part of the error budget that is left: 1 is all of it, below 0 it is overdrawn.
    pub budget_left: f64,
    /// Whether it burns.
    pub is_burning: bool,
    /// Since when it does, or does not.
    pub since: Timestamp,
}

/// An objective has begun to burn, or has stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The objective at that time.
    pub slo: SloStatus,
    /// When.
    pub at: Timestamp,
}

/// Who is told of alerts. Never waits.
pub trait AlertSink: Send + Sync + fmt::Debug {
    /// An objective's state has changed.
    fn fire(&self, alert: Alert);
}

/// All objectives of one configuration.
#[derive(Debug)]
pub struct Slos {
    /// Shared with the next configuration's, where it says the same of one.
    objectives: Vec<Arc<Objective>>,
    clock: SharedClock,
    sink: Option<Arc<dyn AlertSink>>,
}

impl Slos {
    /// The objectives, of which nothing has been counted yet.
    pub fn new(
        settings: Vec<SloSettings>,
        clock: SharedClock,
        sink: Option<Arc<dyn AlertSink>>,
    ) -> Self {
        Self::after(None, settings, clock, sink)
    }

    /// The objectives of the next configuration: one that is set as `before` goes on with what it
    /// has counted, any other begins anew.
    pub fn after(
        before: Option<&Self>,
        settings: Vec<SloSettings>,
        clock: SharedClock,
        sink: Option<Arc<dyn AlertSink>>,
    ) -> Self {
        let now = (clock.monotonic(), clock.now());
        let kept = |settings: &SloSettings| {
            let mut all = before.into_iter().flat_map(|before| &before.objectives);
            all.find(|objective| objective.settings == *settings).cloned()
        };
        let made = settings.into_iter().take(OBJECTIVES_MAX).map(|settings| {
            kept(&settings).unwrap_or_else(|| Arc::new(Objective::new(settings, now)))
        });
        Self { objectives: made.collect(), clock, sink }
    }

    /// Others are told from now on. Whoever was told that an objective burns which is no more, or
    /// which begins anew, is told that it does so no longer.
    pub(crate) fn give_way(&self, next: Option<&Self>) {
        let (now, at) = (self.clock.monotonic(), self.clock.now());
        let goes_on = |one: &Arc<Objective>| {
            next.is_some_and(|next| next.objectives.iter().any(|other| Arc::ptr_eq(one, other)))
        };
        for objective in self.objectives.iter().filter(|one| !goes_on(one)) {
            let _telling = objective.telling();
            if let (Some(slo), Some(sink)) = (objective.end(now, at), &self.sink) {
                sink.fire(Alert { slo, at });
            }
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.objectives.is_empty()
    }

    /// Whether an objective burns: as of the last evaluation, without a lock. `None` = there is
    /// none of that name.
    pub fn is_burning(&self, name: &str) -> Option<bool> {
        let found = self.objectives.iter().find(|one| one.settings.name == name);
        found.map(|one| one.is_burning())
    }

    /// The names of those that burn: as of the last evaluation, without a lock.
    pub(crate) fn burning(&self) -> impl Iterator<Item = &str> {
        let burning = self.objectives.iter().filter(|one| one.is_burning());
        burning.map(|one| one.settings.name.as_str())
    }

    /// Every objective now, in the order of the settings.
    pub fn status(&self) -> Vec<SloStatus> {
        let now = self.clock.monotonic();
        self.objectives.iter().map(|objective| objective.status(now)).collect()
    }

    /// A Call has begun its first attempt.
    pub(crate) fn begun(&self, call: &Call) {
        for objective in &self.objectives {
            objective.begun(call);
        }
    }

    /// A Call has ended.
    pub(crate) fn ended(&self, ended: &CallEnded) {
        for objective in &self.objectives {
            objective.ended(ended);
        }
    }

    /// A Call of a class was refused before its first attempt.
    pub(crate) fn refused(&self, class: &str, code: ErrorCode) {
        if !is_fault(code) {
            return;
        }
        let now = self.clock.monotonic();
        for objective in &self.objectives {
            objective.refused(class, now);
        }
    }

    /// Looks at each objective now, and tells of those that have changed.
    pub fn evaluate(&self) {
        let (now, at) = (self.clock.monotonic(), self.clock.now());
        for objective in &self.objectives {
            let _telling = objective.telling();
            let Some(slo) = objective.evaluate(now, at) else { continue };
            let (name, is_burning) = (&*slo.settings.name, slo.is_burning);
            let (short, long) = (slo.short.burn_rate, slo.long.burn_rate);
            if is_burning {
                tracing::warn!(slo = name, short, long, "an objective's error budget burns");
            } else {
                tracing::info!(slo = name, short, long, "an objective burns no more");
            }
            if let Some(sink) = &self.sink {
                sink.fire(Alert { slo, at });
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.objectives.iter().map(|one| one.settings.name.clone()).collect()
    }

    /// What has changed since it was last kept, and the marks that are to be set once it is.
    fn unkept(&self) -> (Vec<SloCounts>, Vec<Mark<'_>>) {
        let now = (self.clock.monotonic(), self.clock.now());
        self.objectives.iter().filter_map(|one| one.unkept(now)).unzip()
    }

    /// Goes on with what was kept of these objectives. Who was told that one burns may not have
    /// heard it before a crash, and is told again with the same id.
    fn load(&self, kept: &[SloCounts]) {
        let now = self.clock.monotonic();
        for objective in &self.objectives {
            let _telling = objective.telling();
            let mut found = kept.iter().filter(|row| row.name == objective.settings.name);
            let Some(slo) = found.next().and_then(|row| objective.load(row, now)) else { continue };
            if let Some(sink) = &self.sink {
                let at = slo.since;
                sink.fire(Alert { slo, at });
            }
        }
    }

    /// The shortest slot of an objective: evaluating more often than that shows nothing new.
    fn slot_min(&self) -> Option<Duration> {
        self.objectives.iter().map(|one| one.settings.short_window / SHORT_SLOTS).min()
    }
}

/// Whether a Call that ended so is a fault of a provider or of ours, and not of who asked.
pub(crate) fn is_fault(code: ErrorCode) -> bool {
    code.status() >= 500 || code == ErrorCode::RateLimited
}

#[cfg(test)]
mod tests;
