//! What follows from an event, and what can't.

use pipeline::StepIntent;
use types::ids::{AttemptId, CallId, StepId};

use super::event::{Ending, ToolRequest};

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Journal the intent of a new model step.
    BeginModel,
    /// Journal the intent of another try of this model step, under the same Call.
    BeginModelAgain {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
    },
    /// The intent is durable: ask.
    RunModel,
    /// Journal the intent of a new tool step for the first tool that waits.
    BeginTool(ToolRequest),
    /// Journal the intent of another try of this tool step, under the same Call.
    BeginToolAgain {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// What to call.
        request: ToolRequest,
    },
    /// The intent is durable: call.
    RunTool,
    /// Wait for a decision on this step.
    AwaitDecision(StepId),
    /// Journal that the outcome of the running model try is lost.
    LoseModel {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// The try.
        attempt: AttemptId,
        /// What it costs.
        intent: Box<StepIntent>,
    },
    /// Journal that the outcome of the running tool try is lost.
    LoseTool {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// What it costs.
        intent: Box<StepIntent>,
    },
    /// Journal that this step is given up.
    Abandon(StepId),
    /// Journal the end of the turn.
    Close(Ending),
}

/// An event that can't follow what was journaled before: a bug of ours or a damaged journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} does not follow {phase}")]
pub struct Misfit {
    /// The event.
    pub kind: &'static str,
    /// What the turn was doing.
    pub phase: &'static str,
}
