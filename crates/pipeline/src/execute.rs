//! The fourth stage: do it. One attempt at one target; retries, hedges and fallbacks join here.
//!
//! The stream that it answers does the work as it is polled, and dropping it cancels. It must not
//! know who reaches a target, nor what the answer costs.

use std::sync::Arc;

use types::execute::Attempt;
use types::ids::AttemptId;
use types::{Call, OutcomeStream};

use crate::route::Route;

/// Starts an attempt of `call`. `decode` asks for deltas even where bytes could be passed through.
pub(crate) fn execute(
    call: &Arc<Call>,
    route: &Route,
    attempt: AttemptId,
    output_cap: Option<u64>,
    decode: bool,
) -> OutcomeStream {
    let (call, target) = (Arc::clone(call), Arc::clone(&route.target));
    let hold_preamble = false;
    route.executor.execute(Attempt { id: attempt, call, target, output_cap, decode, hold_preamble })
}
