//! Answers whose client has gone, read on for their usage: what the provider bills is then known.
//!
//! Only at targets whose operator wants it. Invariants: each ends within its target's time and
//! [`BYTES_MAX`], with the server's stop at the latest, and then costs what is known of it; of
//! [`DRAINS_MAX`] at once, the next one is given up as if nobody wanted it.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::clock::SharedClock;
use types::error::Billed;
use types::{ErrorCode, OutcomeEvent};

use super::running::Running;

/// Answers that are read on at once: each is a connection to a provider.
const DRAINS_MAX: usize = 1_024;
/// Bytes that are read of one at most: far more than an answer in text has.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// The note on an attempt that was read on.
const NOTE: &str = "drained";

/// Who reads them.
#[derive(Debug)]
pub(crate) struct Drains {
    tracker: TaskTracker,
    clock: SharedClock,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Drains {
    pub(crate) fn new(tracker: TaskTracker, clock: SharedClock) -> Self {
        let places = Arc::new(Semaphore::new(DRAINS_MAX));
        Self { tracker, clock, places, stop: CancellationToken::new() }
    }

    /// Ends all of them, and takes none from now on.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Takes an attempt whose client has gone: it is read on, or given up at once.
    pub(super) fn take(&self, mut running: Running) {
        let wanted = running
            .route
            .target
            .drain
            .filter(|_| running.billed_so_far() != Billed::No && !self.stop.is_cancelled());
        let place = wanted.and_then(|_| Arc::clone(&self.places).try_acquire_owned().ok());
        let (Some(within), Some(place), Ok(runtime)) = (wanted, place, Handle::try_current())
        else {
            return running.abandon();
        };
        let (timer, stop) = (self.clock.sleep(within), self.stop.clone());
        let drain = async move {
            let billed = tokio::select! {
                biased;
                () = stop.cancelled() => Billed::Unknown,
                billed = read_on(&mut running) => billed,
                () = timer => Billed::Unknown,
            };
            running.meter.notes.set(NOTE, billed != Billed::Unknown);
            running.meter.abandon(ErrorCode::Cancelled, billed);
            running.leave();
            drop(place);
        };
        self.tracker.spawn_on(drain, &runtime);
    }
}

/// Reads an answer to its end. What it has cost.
async fn read_on(running: &mut Running) -> Billed {
    let mut bytes = 0;
    loop {
        match poll_fn(|ctx| running.poll_event(ctx)).await {
            OutcomeEvent::Finish(finish) => return Billed::from(finish.usage),
            OutcomeEvent::Failed(failure) => return failure.billed,
            OutcomeEvent::Start(_) => {}
            OutcomeEvent::Frame { raw, .. } => {
                bytes += raw.map_or(0, |raw| raw.len());
                if bytes > BYTES_MAX {
                    return Billed::Unknown;
                }
            }
        }
    }
}
