//! A session's steps through the same stages: money is held and settled by rows of the session's own commits.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::{Deserialize, Serialize};
use storage::LedgerRow;
use storage::commit::StepReservation;
use types::ids::AttemptId;
use types::{Call, Failure, Incoming, OutcomeEvent, Timestamp};

use crate::record::answer::Bill;
use crate::run::{Pipeline, Refused};

/// An admitted step: put `reservation` into the commit that journals the intent, then [`Pipeline::run_step`].
#[derive(Debug)]
pub struct StepAdmission {
    /// The step's Call.
    pub call: Arc<Call>,
    /// This try of it.
    pub attempt: AttemptId,
    /// A row of the commit that journals the intent; `None` if no budget has to hold anything.
    pub reservation: Option<StepReservation>,
}

impl StepAdmission {
    /// All that is needed to bill the attempt if its outcome is lost; journaled with the intent.
    pub fn intent(&self) -> StepIntent {
        todo!()
    }
}

/// All that is needed to bill an attempt whose outcome a crash lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepIntent {
    row: LedgerRow,
}

/// A running step. Dropping it cancels the attempt at once and bills nothing: give it up by [`StepRun::into_row`].
#[derive(Debug)]
pub struct StepRun {}

impl Stream for StepRun {
    type Item = OutcomeEvent;
    fn poll_next(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<Option<OutcomeEvent>> {
        todo!()
    }
}

impl StepRun {
    /// What it costs; final once `Finish` or `Failed` has been yielded.
    pub fn bill(&self) -> Bill {
        todo!()
    }

    /// Ends the step, cancelling what still runs, and gives the ledger row for the commit that journals the outcome.
    pub fn into_row(self) -> LedgerRow {
        todo!()
    }
}

impl Pipeline {
    /// Identifies and admits a step: which budgets hold how much. Nothing is held until the commit.
    ///
    /// # Errors
    /// Why the step may not run.
    pub async fn admit_step(&self, _incoming: Incoming) -> Result<StepAdmission, Box<Refused>> {
        todo!()
    }

    /// After a commit was refused as over a limit: writes what has ended, and returns the idle part of every slice of the
    /// step's budgets, so that one retry of the commit is fair.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn make_room(&self, _admission: &StepAdmission) -> Result<(), Failure> {
        todo!()
    }

    /// What to answer when the commit was refused again.
    pub fn over_limit(&self, _admission: &StepAdmission, _error: &storage::Error) -> Failure {
        todo!()
    }

    /// Starts an admitted step whose intent is durable.
    pub fn run_step(&self, _admission: StepAdmission) -> StepRun {
        todo!()
    }

    /// The row for an attempt whose outcome a crash lost: unreconciled, at what was reserved for it.
    pub fn lost_row(&self, _intent: &StepIntent, _at: Timestamp) -> LedgerRow {
        todo!()
    }
}
