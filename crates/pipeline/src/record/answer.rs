//! The answer to a plain Call, which settles itself.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use types::{Call, Money, OutcomeEvent};

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

/// The running answer of a plain Call. Dropping it early cancels the attempt, and the Call still ends in `record`.
#[derive(Debug)]
pub struct Answer {
    /// The Call.
    pub call: Arc<Call>,
}

impl Answer {
    /// What it costs; final once `Finish` or `Failed` has been yielded.
    pub fn bill(&self) -> Bill {
        todo!()
    }
}

impl Stream for Answer {
    type Item = OutcomeEvent;
    fn poll_next(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<Option<OutcomeEvent>> {
        todo!()
    }
}
