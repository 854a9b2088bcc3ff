//! What becomes of a Call whose caller, or whose route, gave it a time, once that is over.
//!
//! Everybody who waits for something knows the deadline and ends at it; what they say then is told
//! as what it is. Invariant: the caller's own time says nothing about a target.

use types::clock::Clock;
use types::error::Billed;
use types::{Call, ErrorCode, Failure, OutcomeEvent};

/// The failure of a Call whose time is over.
pub(crate) fn failure(billed: Billed) -> Failure {
    let text = "the time that this call was given is over: by the header holdfast-deadline, or by \
                its route's timeout";
    Failure::new(ErrorCode::DeadlineExceeded, text).billed(billed)
}

/// Why a Call that waited for room under our own limits was not admitted: not for want of room, if
/// it was its time that ended the wait.
pub(crate) fn waited(call: &Call, clock: &dyn Clock, why: Failure) -> Failure {
    let is_over = call.deadline.is_some_and(|deadline| clock.monotonic() >= deadline);
    match call.time.is_some() && is_over && why.code == ErrorCode::RateLimited {
        true => failure(Billed::No),
        false => why,
    }
}

/// An event of an attempt; a failure for want of time, at the deadline, is the deadline's.
pub(crate) fn seen(call: &Call, clock: &dyn Clock, event: OutcomeEvent) -> OutcomeEvent {
    match event {
        OutcomeEvent::Failed(told) if call.time.is_some() && is_late(call, clock, &told) => {
            OutcomeEvent::Failed(Box::new(failure(told.billed)))
        }
        event => event,
    }
}

fn is_late(call: &Call, clock: &dyn Clock, told: &Failure) -> bool {
    let for_time = told.code == ErrorCode::UpstreamTimeout && told.upstream.is_none();
    let is_over = || call.deadline.is_some_and(|deadline| clock.monotonic() >= deadline);
    (for_time || told.withheld) && is_over()
}
