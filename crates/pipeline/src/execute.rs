//! The fourth stage: do it. [`attempts`] tries targets until one answers.
//!
//! The stream of an attempt does the work as it is polled, and dropping it cancels. It must not
//! know who reaches a target.

pub(crate) mod attempts;
pub(crate) mod cascade;
pub(crate) mod decide;
pub(crate) mod late;

use std::sync::Arc;

use types::execute::{Attempt, Patience};
use types::ids::AttemptId;
use types::{Call, OutcomeStream, Sent};

use crate::route::Route;

/// How an attempt's answer is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// As deltas, even where bytes could be passed through.
    pub(crate) decode: bool,
    /// From where the conversation's last message breaks off.
    pub(crate) continues: bool,
    /// Beginning with content, so that nothing was shown if it fails before.
    pub(crate) hold_preamble: bool,
    /// With log probabilities, where the target can give them.
    pub(crate) logprobs: bool,
    /// Not waiting for a place longer than so, because another target would take the Call.
    pub(crate) patience: Option<Patience>,
}

/// Starts an attempt of `call`; `sent` says whether its target may have been asked.
pub(crate) fn execute(
    call: &Arc<Call>,
    route: &Route,
    attempt: AttemptId,
    wanted: Wanted,
    sent: &Sent,
) -> OutcomeStream {
    route.executor.execute(Attempt {
        id: attempt,
        call: Arc::clone(route.told(call)),
        target: Arc::clone(&route.target),
        output_cap: route.terms.output_cap,
        decode: wanted.decode,
        continues: wanted.continues,
        hold_preamble: wanted.hold_preamble,
        logprobs: wanted.logprobs,
        patience: wanted.patience,
        sent: sent.clone(),
    })
}
