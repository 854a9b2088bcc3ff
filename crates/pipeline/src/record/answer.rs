//! The answer to a plain Call, which settles itself.
//!
//! It yields the target's events unchanged. As the last one passes, the Call's money is settled and
//! its end handed to the recorder; an answer that is dropped before only sends a message, and the
//! recorder does the rest.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use types::clock::SharedClock;
use types::error::Billed;
use types::ids::AttemptId;
use types::{Call, ErrorCode, Failure, Money, OutcomeEvent, OutcomeStream};

use super::meter::Meter;
use super::{Ended, Place, Settlement};
use crate::admit::{Admission, Hold};
use crate::route::Route;

/// What a Call costs, for the answer's headers and its final comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Usage × price; `None` while it is unknown (not ended, no usage reported, or no price).
    pub cost: Option<Money>,
    /// Attempts so far.
    pub attempts: u32,
    /// Names of the request's fields that the target could not be told; known from `Start` on.
    pub dropped: Vec<String>,
    /// The output cap that was set for the client, in tokens; known from the beginning.
    pub output_cap: Option<u64>,
    /// The provider billed more than the bound.
    pub over_bound: bool,
}

/// The running answer of a plain Call. Dropping it early cancels the attempt, and the Call still
/// ends in `record`.
pub struct Answer {
    /// The Call.
    pub call: Arc<Call>,
    outcome: Option<OutcomeStream>,
    running: Option<Running>,
    bill: Bill,
}

/// What there is until the end.
struct Running {
    meter: Meter,
    holds: Vec<Hold>,
    place: Place,
    polled: bool,
}

impl Answer {
    /// The fifth stage: takes over what the others made, and sees the Call to its end.
    pub(crate) fn record(
        admission: Admission,
        route: Route,
        attempt: AttemptId,
        outcome: OutcomeStream,
        clock: SharedClock,
    ) -> Self {
        let Admission { call, terms, holds, place } = admission;
        let meter = Meter::new(call, route.target, attempt, terms, clock);
        let (call, bill) = (Arc::clone(&meter.call), meter.bill().clone());
        let running = Some(Running { meter, holds, place, polled: false });
        Self { call, outcome: Some(outcome), running, bill }
    }

    /// What it costs; final once `Finish` or `Failed` has been yielded.
    pub fn bill(&self) -> Bill {
        self.running.as_ref().map_or(&self.bill, |running| running.meter.bill()).clone()
    }

    fn observe(&mut self, event: &OutcomeEvent) {
        let Some(running) = &mut self.running else { return };
        let Some(verdict) = running.meter.observe(event) else { return };
        self.outcome = None;
        let Some(Running { meter, holds, place, .. }) = self.running.take() else { return };
        self.bill = meter.bill().clone();
        let settle = |hold: Hold| hold.settle(verdict.settled, verdict.unreconciled);
        let charges = holds.into_iter().filter_map(settle).collect();
        place.fill(Ended { meter, money: Settlement::Done(charges) });
    }
}

impl Stream for Answer {
    type Item = OutcomeEvent;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<OutcomeEvent>> {
        let this = &mut *self;
        let Some(outcome) = &mut this.outcome else { return Poll::Ready(None) };
        if let Some(running) = &mut this.running {
            running.polled = true;
        }
        let event = match outcome.as_mut().poll_next(ctx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(event) => event.unwrap_or_else(no_end),
        };
        this.observe(&event);
        Poll::Ready(Some(event))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(Running { mut meter, holds, place, polled }) = self.running.take() else {
            return;
        };
        // Work happens as the stream is polled: what never was polled never reached a target.
        let billed = if polled { Billed::Unknown } else { Billed::No };
        meter.abandon(ErrorCode::Cancelled, billed);
        place.fill(Ended { meter, money: Settlement::Open(holds) });
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.running.is_none();
        f.debug_struct("Answer").field("call", &self.call.id).field("ended", &ended).finish()
    }
}

/// For a stream that ended without saying how: a bug of its executor.
pub(crate) fn no_end() -> OutcomeEvent {
    let failure = Failure::new(ErrorCode::Internal, "the answer ended without saying how");
    OutcomeEvent::Failed(Box::new(failure.billed(Billed::Unknown)))
}
