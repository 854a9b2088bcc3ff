//! The last stage: what happened. Every admitted Call ends here, settled, in the ledger.
//!
//! [`Recorder`] is the handle: a place in its queue is reserved at admission, so that ending a Call
//! can neither fail nor wait. [`answer`] settles as the last event passes, [`writer`] writes rows
//! in group commits. Invariants: money that was spent is settled before the place is given back;
//! rows that can't be written are kept, and new Calls that cost a budget's money are refused
//! meanwhile. It must not know how a Call was done.

pub mod answer;
pub(crate) mod meter;
mod metrics;
pub mod telemetry;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use storage::{Charge, Store};
use tokio::sync::{mpsc, oneshot};
use types::clock::SharedClock;
use types::{ErrorCode, Failure, Money};

use crate::admit::Hold;
use crate::auto::Tiers;
use crate::execute::cascade::Validator;
use crate::rates::RateCount;
use meter::Meter;
use metrics::Metrics;
use telemetry::Telemetry;
pub(crate) use writer::Writer;

/// Calls that run or wait to be written, at most: 64 Ki. Each place costs a few hundred bytes once
/// used.
const PLACES_MAX: usize = 65_536;
/// Flushes that wait for the writer at most; more wait in line.
const CONTROLS_MAX: usize = 64;

/// When clients may try again after a fault that may pass.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The writer's front: cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    ended: mpsc::Sender<Ended>,
    control: mpsc::Sender<Control>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The store does not take writes.
    failing: AtomicBool,
    /// A clean stop has begun.
    closed: AtomicBool,
    metrics: Metrics,
    tiers: Tiers,
    telemetry: Telemetry,
}

impl State {
    /// Counts an attempt, and tells of it.
    fn attempt_ended(&self, meter: &Meter) {
        self.metrics.count(meter);
        if let Some(saved) = meter.saved {
            self.tiers.save(&meter.call.plan.name, saved);
        }
        self.telemetry.attempt_ended(meter);
    }
}

/// A place in the queue, for one Call's end.
#[derive(Debug)]
pub(crate) struct Place(mpsc::OwnedPermit<Ended>);

/// A Call that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) meter: Meter,
    pub(crate) money: Settlement,
}

/// Its money.
#[derive(Debug)]
pub(crate) enum Settlement {
    /// Settled already.
    Done(Vec<Charge>),
    /// Its client went before it had ended: the writer settles.
    Open(Vec<Hold>),
}

#[derive(Debug)]
enum Control {
    Flush(oneshot::Sender<Result<(), Failure>>),
    /// Wait for no company any more: a clean stop has begun.
    Hurry,
    Stop,
}

impl Recorder {
    /// A recorder and the writer that has to be run for it.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: SharedClock,
        telemetry: Telemetry,
    ) -> (Self, Writer) {
        let (ended, ended_receiver) = mpsc::channel(PLACES_MAX);
        let (control, control_receiver) = mpsc::channel(CONTROLS_MAX);
        let state = Arc::new(State { telemetry, ..State::default() });
        let writer = Writer::new(store, clock, ended_receiver, control_receiver, &state);
        (Self { ended, control, state }, writer)
    }

    /// A place for a Call's end.
    pub(crate) fn reserve_place(&self) -> Result<Place, Failure> {
        if self.state.closed.load(Ordering::Acquire) {
            return Err(Failure::new(ErrorCode::Unavailable, "the server is stopping"));
        }
        let permit = self.ended.clone().try_reserve_owned();
        permit.map(Place).map_err(|_| self.check_writing().err().unwrap_or_else(overloaded))
    }

    /// Refuses while rows cannot be written: a budget's money is not spent on what may never be
    /// recorded.
    pub(crate) fn check_writing(&self) -> Result<(), Failure> {
        if self.state.failing.load(Ordering::Acquire) {
            return Err(unavailable());
        }
        Ok(())
    }

    /// Makes every row of a Call that has ended so far durable.
    pub(crate) async fn flush(&self) -> Result<(), Failure> {
        let (answer, receiver) = oneshot::channel();
        let sent = self.control.send(Control::Flush(answer)).await;
        sent.map_err(|_| unavailable())?;
        receiver.await.unwrap_or_else(|_| Err(unavailable()))
    }

    /// Counts an attempt whose row is written elsewhere: a session's step.
    pub(crate) fn count(&self, meter: &Meter) {
        self.state.attempt_ended(meter);
    }

    /// Counts a Call that was refused before its first attempt.
    pub(crate) fn refused(&self, class: &str, code: ErrorCode) {
        self.state.metrics.refused(class, code);
        if let Some(slos) = self.state.telemetry.slos() {
            slos.refused(class, code);
        }
    }

    /// Who is told of what ends.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.state.telemetry
    }

    /// Counts an answer that was judged, or given after one that was rejected.
    pub(crate) fn count_cascade(
        &self,
        route: &Arc<str>,
        rejected_by: Option<Validator>,
        amounts: [Money; 2],
    ) {
        self.state.metrics.cascades.count(route, rejected_by, amounts);
    }

    /// Counts conditions of routes that could not be evaluated.
    pub(crate) fn count_failed_conditions(&self, failed: u64) {
        self.state.metrics.failed_conditions.inc_by(failed);
    }

    /// What was counted, in the OpenMetrics text format.
    pub(crate) fn metrics(&self, rates: &[RateCount]) -> String {
        let slos = self.state.telemetry.slos();
        let slos = slos.map(|slos| slos.status()).unwrap_or_default();
        self.state.metrics.rates.set(rates);
        self.state.metrics.text(&slos, &self.state.tiers.all())
    }

    /// What is remembered of decisions about tiers.
    pub(crate) fn tiers(&self) -> &Tiers {
        &self.state.tiers
    }

    /// Takes no new Calls from now on, and writes those that end at once.
    pub(crate) async fn close(&self) {
        self.state.closed.store(true, Ordering::Release);
        // A writer that is gone has stopped.
        let _gone = self.control.send(Control::Hurry).await;
    }

    /// Ready when every Call has ended and was taken by the writer.
    pub(crate) async fn all_ended(&self) {
        // Every place at once can only be had when none is taken.
        drop(self.ended.reserve_many(PLACES_MAX).await);
    }

    /// Ends the writer after what it has.
    pub(crate) async fn stop(&self) {
        // A writer that is gone has stopped.
        let _gone = self.control.send(Control::Stop).await;
    }
}

impl Place {
    /// Hands a Call's end over. Never waits, never fails.
    pub(crate) fn fill(self, ended: Ended) {
        drop(self.0.send(ended));
    }
}

fn overloaded() -> Failure {
    Failure::new(ErrorCode::Overloaded, "too many calls are running").retry_after(RETRY_AFTER)
}

fn unavailable() -> Failure {
    Failure::new(ErrorCode::StorageUnavailable, "the server's storage takes no writes at present")
        .retry_after(RETRY_AFTER)
}

/// What a client is told of the store's error; the details are for the log.
pub(crate) fn storage_failure(error: &storage::Error) -> Failure {
    use storage::Error;
    match error {
        Error::Unavailable(source) => {
            tracing::warn!(%source, "the store cannot write");
            unavailable()
        }
        Error::Exists { .. } => Failure::new(ErrorCode::Conflict, error.to_string()),
        Error::NotFound { .. } => Failure::new(ErrorCode::NotFound, error.to_string()),
        Error::Fenced { .. }
        | Error::OverLimit { .. }
        | Error::NewerVersion { .. }
        | Error::Internal(_) => {
            tracing::error!(?error, "the store refused what it must not refuse");
            Failure::new(ErrorCode::Internal, "a bug of ours or damaged storage; the log says more")
        }
    }
}
