//! The answer to a plain Call, which settles itself.
//!
//! It yields the events of the target that answers, unchanged. As the last one of an attempt
//! passes, its money is settled and its end handed to the recorder; an answer that is dropped
//! before only sends a message, and the recorder does the rest.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use types::call::Target;
use types::error::Billed;
use types::{Call, ErrorCode, Failure, Money, OutcomeEvent};

use crate::auto::{self, opinion::Tape};
use crate::context::ContextNote;
use crate::execute::attempts::Attempts;
use crate::record::telemetry::Watch;

/// What a Call costs, for the answer's headers and its final comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Usage × price; `None` while it is unknown (not ended, no usage reported, or no price).
    pub cost: Option<Money>,
    /// Attempts so far; the cost is theirs together.
    pub attempts: u32,
    /// Names of the request's fields that the target could not be told; known from `Start` on.
    pub dropped: Vec<String>,
    /// The output cap that was set for the client, in tokens; known with `dropped`.
    pub output_cap: Option<u64>,
    /// What was done with the history, as `holdfast-context` says it.
    pub context: Option<String>,
    /// What came of judging it, as `holdfast-cascade` says it.
    pub cascade: Option<String>,
    /// Which tier the Call is for and why, as `holdfast-tier` says it.
    pub tier: Option<String>,
    /// The provider billed more than the bound.
    pub over_bound: bool,
}

/// The running answer of a plain Call. Dropping it early cancels the attempt, and the Call still
/// ends in `record`.
pub struct Answer {
    /// The Call.
    pub call: Arc<Call>,
    /// Large, and handed from stage to stage: a pointer to it is not.
    attempts: Box<Attempts>,
    watch: Option<Box<Watch>>,
    /// Where it is read along, for a second opinion on its tier.
    tape: Option<Box<Tape>>,
}

impl Answer {
    /// The fifth stage: sees the Call's attempts to their end. Each settles itself. `waited`: how
    /// long the Call had to wait for other Calls before its first attempt.
    pub(crate) fn record(attempts: Box<Attempts>, waited: Duration) -> Self {
        let watch = attempts.watched().map(|watch| watch.apart_from(waited));
        let tape = attempts.tape();
        Self { call: Arc::clone(&attempts.call), attempts, watch, tape }
    }

    /// What it costs; final once `Finish` or `Failed` has been yielded.
    pub fn bill(&self) -> Bill {
        let context = self.context().map(ToString::to_string);
        let (cascade, tier) = (self.attempts.cascade_shown(), auto::shown(&self.call.notes));
        Bill { context, cascade, tier, ..self.attempts.bill() }
    }

    /// What was done with the history before the target was told; final as [`Self::target`] is.
    pub(crate) fn context(&self) -> Option<&ContextNote> {
        self.attempts.context()
    }

    /// What it was charged, once it has ended.
    pub(crate) fn charged(&self) -> Money {
        self.attempts.charged()
    }

    /// What it is charged at most if it is given up now.
    pub(crate) fn at_most(&self) -> Money {
        self.attempts.at_most()
    }

    /// Who answers: final once `Start` has been yielded. Until then, who is asked.
    pub fn target(&self) -> &Arc<Target> {
        self.attempts.target()
    }
}

impl Stream for Answer {
    type Item = OutcomeEvent;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<OutcomeEvent>> {
        let event = ready!(self.attempts.poll_event(ctx));
        let Self { attempts, watch, tape, .. } = &mut *self;
        if let (Some(watch), Some(event)) = (watch, &event) {
            watch.see(event, attempts.target(), || attempts.first_content());
        }
        if let (Some(_), Some(event)) = (&tape, &event) {
            Tape::see(tape, event, attempts.target());
        }
        Poll::Ready(event)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.attempts.are_over();
        f.debug_struct("Answer").field("call", &self.call.id).field("ended", &ended).finish()
    }
}

/// For a stream that ended without saying how: a bug of its executor.
pub(crate) fn no_end() -> OutcomeEvent {
    let failure = Failure::new(ErrorCode::Internal, "the answer ended without saying how");
    OutcomeEvent::Failed(Box::new(failure.billed(Billed::Unknown)))
}
