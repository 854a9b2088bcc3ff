//! What answers Calls on local models while the engine's program is not where it should be, so that
//! a client is told that and not to try again.

use std::path::PathBuf;
use std::sync::Arc;

use types::execute::Attempt;
use types::{ErrorCode, Execute, Failure, OutcomeEvent, OutcomeStream};

/// What a client and a health check are told; where the program should be is for the log.
pub(super) const MESSAGE: &str =
    "holdfast-engine is not beside holdfast, so no local model can answer; keep both in one folder";

/// Refuses Calls until the program is there.
#[derive(Debug)]
pub(super) struct EngineAbsent {
    /// Where it should be.
    pub(super) program: PathBuf,
    /// Who does the Calls then.
    pub(super) models: Arc<dyn Execute>,
}

impl Execute for EngineAbsent {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        if self.program.is_file() {
            return self.models.execute(attempt);
        }
        let failure = Box::new(Failure::new(ErrorCode::Unavailable, MESSAGE));
        Box::pin(futures_util::stream::iter([OutcomeEvent::Failed(failure)]))
    }
}
