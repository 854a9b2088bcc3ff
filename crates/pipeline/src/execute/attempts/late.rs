//! The end of a Call's time: whatever runs or waits ends with it.
//!
//! Invariants: what was sent is charged as what is cut, what was not sent costs nothing; an answer
//! that is whole, and only judged, is not thrown away. A Call that was given no time has no timer.

use std::task::Context;

use types::clock::Sleep;
use types::error::Billed;
use types::{Call, Clock, ErrorCode, OutcomeEvent};

use super::{Attempts, State};
use crate::execute::late;

/// What wakes a Call when its time is over, if it was given one.
pub(crate) fn timer(call: &Call, clock: &dyn Clock) -> Option<Sleep> {
    let deadline = call.time.and(call.deadline)?;
    Some(clock.sleep(deadline.saturating_sub(clock.monotonic())))
}

impl Attempts {
    /// Ends all once the Call's time is over. Answers what its client is told of that.
    pub(super) fn poll_late(&mut self, ctx: &mut Context<'_>) -> Option<OutcomeEvent> {
        let timer = self.late.as_mut()?;
        // Its judge has no more time than the Call.
        let goes_on = matches!(self.state, State::Over | State::Judging(_));
        if goes_on || timer.as_mut().poll(ctx).is_pending() {
            return None;
        }
        self.late = None;
        Some(self.expire())
    }

    fn expire(&mut self) -> OutcomeEvent {
        let rival = self.take_rival();
        let running = match std::mem::replace(&mut self.state, State::Over) {
            State::Trying(running) => Some(*running),
            // What waits holds nothing but money, which gives itself back.
            State::Waiting { .. } | State::ToppingUp { .. } | State::Judging(_) | State::Over => {
                None
            }
        };
        let mut has_content = false;
        for mut cut in running.into_iter().chain(rival) {
            let billed = cut.billed_so_far();
            if billed == Billed::No {
                cut.meter.note_unsent();
            }
            cut.meter.abandon(ErrorCode::DeadlineExceeded, billed.clone());
            self.perhaps_billed |= billed != Billed::No;
            has_content |= cut.has_content;
            self.end(cut, false);
        }
        let rejected = if has_content { None } else { self.give_rejected() };
        rejected.unwrap_or_else(|| {
            let failure = self.say_billed(late::failure(Billed::No));
            OutcomeEvent::Failed(Box::new(failure))
        })
    }
}
