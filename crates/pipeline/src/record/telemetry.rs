//! Who is told of Calls and attempts that have ended: objectives, and an exporter if there is one.
//!
//! A [`Watch`] goes with a Call from its first attempt on and tells its end when it is dropped, so
//! that every Call is told of exactly once, abandoned ones too. Nobody is told anything while a
//! Call runs, and where nobody asks nothing is kept. Invariant: whoever is told neither waits nor
//! fails. It must not know what is done with it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use types::call::Target;
use types::clock::{Monotonic, SharedClock};
use types::ids::AttemptId;
use types::{Call, ErrorCode, OutcomeEvent, Stop, Usage};

use super::meter::Meter;
use crate::slo::Slos;

/// A Call that has ended.
#[derive(Clone, Debug)]
pub struct CallEnded {
    /// The Call.
    pub call: Arc<Call>,
    /// Who answered, or was asked last.
    pub target: Arc<Target>,
    /// From its arrival to the beginning of its first attempt, less what summaries of its history
    /// took.
    pub policy: Duration,
    /// From its arrival to the first content that its client could see.
    pub first_content: Option<Duration>,
    /// From its arrival to its end.
    pub took: Duration,
    /// Why it failed; [`ErrorCode::Cancelled`] if its client went.
    pub error: Option<ErrorCode>,
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub struct AttemptEnded {
    /// Its Call.
    pub call: Arc<Call>,
    /// Who was asked.
    pub target: Arc<Target>,
    /// Its id.
    pub attempt: AttemptId,
    /// From the Call's arrival to the attempt's beginning.
    pub began: Duration,
    /// From there to its first content.
    pub first_content: Option<Duration>,
    /// From there to its end.
    pub took: Duration,
    /// Why it failed.
    pub error: Option<ErrorCode>,
    /// Why the model stopped.
    pub stop: Option<Stop>,
    /// What its provider counted.
    pub usage: Option<Usage>,
    /// The model that answered, as its provider says.
    pub model_version: Option<String>,
}

/// Who exports what has happened. Is called on no Call's way but at its very end, and never waits.
pub trait Observer: Send + Sync + fmt::Debug {
    /// An attempt has ended.
    fn attempt_ended(&self, attempt: AttemptEnded);
    /// A Call has ended.
    fn call_ended(&self, call: &CallEnded);
}

/// Everybody who is told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Objectives; `None` if there are none.
    pub slos: Option<Arc<Slos>>,
    /// An exporter; `None` if nothing is exported.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Who is told now: it may be changed while Calls run. Cheap to clone; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether anybody is: what the plain Call's path reads, without a lock.
    asked: AtomicBool,
    told: RwLock<Told>,
    changed: watch::Sender<()>,
}

impl Telemetry {
    /// These are told.
    pub fn new(told: Told) -> Self {
        let telemetry = Self::default();
        telemetry.set(told);
        telemetry
    }

    /// Who is told from now on. A Call that runs is counted in the objectives that it began with,
    /// of which those that stay are the same, and exported by whoever exports at its end.
    pub fn set(&self, told: Told) {
        let next = told.slos.clone();
        let asked = told.slos.is_some() || told.observer.is_some();
        let before = {
            let mut now = self.0.told.write().unwrap_or_else(PoisonError::into_inner);
            self.0.asked.store(asked, Ordering::Relaxed);
            std::mem::replace(&mut *now, told)
        };
        if let Some(slos) = before.slos {
            slos.give_way(next.as_deref());
        }
        self.0.changed.send_replace(());
    }

    /// The objectives, if there are any.
    pub fn slos(&self) -> Option<Arc<Slos>> {
        self.told(|told| told.slos.clone())
    }

    /// The exporter, if there is one. Not to be kept: one that was replaced ends once it is let go.
    fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.told(|told| told.observer.clone())
    }

    fn told<T>(&self, get: impl FnOnce(&Told) -> Option<T>) -> Option<T> {
        if !self.0.asked.load(Ordering::Relaxed) {
            return None;
        }
        get(&self.0.told.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hears of it when others are told.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Tells of an attempt.
    pub(super) fn attempt_ended(&self, meter: &Meter) {
        let Some(observer) = self.observer() else { return };
        if let Some(attempt) = meter.ended() {
            observer.attempt_ended(attempt);
        }
    }
}

/// Goes with a Call from its first attempt to its end.
pub(crate) struct Watch {
    telemetry: Telemetry,
    /// The objectives of its beginning: what they were told of began, they are told of as ended.
    slos: Option<Arc<Slos>>,
    clock: SharedClock,
    ended: CallEnded,
    /// What is still to be seen of it.
    is_over: bool,
}

impl Watch {
    /// For a Call whose first attempt began at `began`; `None` if nobody is to be told. Objectives
    /// are about what clients ask for: they are not told of a Call that another one spawned.
    pub(crate) fn new(
        telemetry: &Telemetry,
        clock: &SharedClock,
        call: &Arc<Call>,
        target: &Arc<Target>,
        began: Monotonic,
    ) -> Option<Box<Self>> {
        let slos = telemetry.slos().filter(|_| !is_spawned(call));
        if slos.is_none() && telemetry.observer().is_none() {
            return None;
        }
        if let Some(slos) = &slos {
            slos.begun(call);
        }
        let ended = CallEnded {
            call: Arc::clone(call),
            target: Arc::clone(target),
            policy: began.saturating_sub(call.started),
            first_content: None,
            took: Duration::ZERO,
            error: Some(ErrorCode::Cancelled),
        };
        let (telemetry, clock) = (telemetry.clone(), Arc::clone(clock));
        Some(Box::new(Self { telemetry, slos, clock, ended, is_over: false }))
    }

    /// So long the Call waited for other Calls before its first attempt: they are not policy.
    pub(crate) fn apart_from(mut self: Box<Self>, waited: Duration) -> Box<Self> {
        self.ended.policy = self.ended.policy.saturating_sub(waited);
        self
    }

    /// Sees an event on its way to the client. `first_content` is when its attempt first had some.
    pub(crate) fn see(
        &mut self,
        event: &OutcomeEvent,
        target: &Arc<Target>,
        first_content: impl FnOnce() -> Option<Monotonic>,
    ) {
        let error = match event {
            OutcomeEvent::Start(_) => return,
            OutcomeEvent::Frame { .. } => {
                if self.ended.first_content.is_none() {
                    let at = first_content().unwrap_or_else(|| self.clock.monotonic());
                    let since = at.saturating_sub(self.ended.call.started);
                    self.ended.first_content = Some(since);
                }
                return;
            }
            OutcomeEvent::Finish(_) => None,
            OutcomeEvent::Failed(failure) => Some(failure.code),
        };
        if !self.is_over {
            self.is_over = true;
            self.ended.error = error;
            self.ended.target = Arc::clone(target);
            self.ended.took = self.since_arrival();
        }
    }

    /// What it has seen was not the Call's end: another attempt is made.
    pub(crate) fn goes_on(mut self: Box<Self>) -> Box<Self> {
        self.is_over = false;
        self.ended.error = Some(ErrorCode::Cancelled);
        self
    }

    fn since_arrival(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.ended.call.started)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over {
            self.ended.took = self.since_arrival();
        }
        if let Some(slos) = &self.slos {
            slos.ended(&self.ended);
        }
        if let Some(observer) = self.telemetry.observer() {
            observer.call_ended(&self.ended);
        }
    }
}

/// Whether another Call asked it. A session's step has a parent too, and is what its client asked.
const fn is_spawned(call: &Call) -> bool {
    call.parent.is_some() && call.step.is_none()
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("call", &self.ended.call.id).finish_non_exhaustive()
    }
}
