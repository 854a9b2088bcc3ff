//! A step as people see it.

use serde::{Deserialize, Serialize};
use types::Timestamp;
use types::ids::{CallId, StepId};

use super::event::ToolRequest;
use crate::mcp::Effect;

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// Its Call.
    pub call: CallId,
    /// `model` or `tool`.
    pub kind: String,
    /// For a tool: its server.
    pub server: Option<String>,
    /// For a tool: its name.
    pub tool: Option<String>,
    /// For a tool: the arguments as JSON text.
    pub arguments: Option<String>,
    /// For a tool: what doing it twice would mean.
    pub effect: Option<Effect>,
    /// How it stands.
    pub state: StepState,
    /// Tries so far.
    pub attempts: u32,
    /// Why it is in doubt, failed or was given up.
    pub why: Option<String>,
    /// When it fell in doubt.
    pub in_doubt_since: Option<Timestamp>,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its intent is durable and its outcome is not.
    Running,
    /// A try of it was lost, and it is to be tried again.
    Lost,
    /// Its outcome is unknown and waits for a decision.
    InDoubt,
    /// Its outcome is known.
    Done,
    /// A model that did not answer and is not asked again, or a tool step in doubt that somebody
    /// decided had failed.
    Failed,
    /// It was given up: whether it had its effect is not known.
    Abandoned,
}

impl StepState {
    /// Whether nothing may run it any more.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Abandoned)
    }
}

impl Step {
    /// A step whose intent is about to be taken in.
    pub(super) fn new(
        id: &StepId,
        call: &CallId,
        request: Option<&ToolRequest>,
        effect: Option<Effect>,
    ) -> Self {
        Self {
            id: id.clone(),
            call: call.clone(),
            kind: if request.is_some() { "tool" } else { "model" }.to_owned(),
            server: request.map(|request| request.server.clone()),
            tool: request.map(|request| request.tool.clone()),
            arguments: request.map(|request| request.arguments.clone()),
            effect,
            state: StepState::Running,
            attempts: 0,
            why: None,
            in_doubt_since: None,
        }
    }
}
