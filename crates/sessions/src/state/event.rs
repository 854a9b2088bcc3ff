//! What is journaled of a turn, and what its parts are.

use pipeline::StepIntent;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::responses::Status;
use types::auto::Tier;
use types::call::RouteAsk;
use types::ids::{AttemptId, CallId, StepId};
use types::{ErrorCode, Metadata, Money, Stop, Timestamp, Usage};

use crate::mcp::Effect;

/// What happened, as it is journaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The turn began.
    TurnOpened {
        /// The Call of its first step, which is the root of its others.
        call: CallId,
        /// What is paid and timed together with it.
        task: String,
        /// The request class.
        class: Option<String>,
        /// A cap on the cost of each Call that the client set.
        budget: Option<Money>,
        /// What the client said of it.
        #[serde(default, skip_serializing_if = "Metadata::is_empty")]
        metadata: Metadata,
        /// The tier of targets that the client asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<Tier>,
        /// The gateway that it came in by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway: Option<String>,
        /// What the client asked about the way of its Calls.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asks: Option<Box<RouteAsk>>,
        /// The most calls of tools that the client allows.
        max_tool_calls: Option<u64>,
        /// Items that were finished before the first step, with their output indexes.
        items: Vec<(u64, Value)>,
    },
    /// A model is about to be asked.
    ModelIntent {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// This try of it.
        attempt: AttemptId,
        /// What it costs if its outcome is lost.
        intent: Box<StepIntent>,
        /// Where its events and items begin.
        begins_at: Place,
    },
    /// The outcome of a try of a model is lost; it stays on the bill.
    ModelLost {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// The try.
        attempt: AttemptId,
        /// Why, for people.
        why: String,
    },
    /// A model answered.
    ModelOutcome {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// Items that it finished, with their output indexes.
        items: Vec<(u64, Value)>,
        /// Tools that it calls on our servers, in order.
        tools: Vec<ToolRequest>,
        /// Whether it calls functions of the client.
        calls_functions: bool,
        /// Why it stopped.
        stop: Stop,
        /// What the provider counted.
        usage: Option<Usage>,
    },
    /// A model did not answer, and is not asked again.
    ModelFailed {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// Why.
        error: ErrorRecord,
    },
    /// A tool is about to be called.
    ToolIntent {
        /// The step; it is the idempotency key of all its tries.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// This try of it.
        attempt: AttemptId,
        /// The item that it belongs to.
        item_id: String,
        /// What doing it twice would mean.
        effect: Effect,
        /// What it costs if its outcome is lost.
        intent: Box<StepIntent>,
    },
    /// The outcome of a try of a tool is lost.
    ToolLost {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// Why, for people.
        why: String,
        /// When.
        at: Timestamp,
    },
    /// A tool call is settled: by the tool's answer, or by knowing that it never ran.
    ToolOutcome {
        /// The step.
        step: StepId,
        /// Its Call.
        call: CallId,
        /// The finished item, with its output index.
        item: (u64, Value),
    },
    /// A tool call that is not made at all.
    ToolRefused {
        /// The item.
        item_id: String,
        /// The finished item, with its output index.
        item: (u64, Value),
    },
    /// A person decided what is true of a step in doubt.
    Resolved {
        /// The step.
        step: StepId,
        /// What they decided.
        decision: Decision,
        /// Who.
        by: String,
        /// The finished item, unless the step is to be tried again.
        item: Option<(u64, Value)>,
    },
    /// Somebody asked for the end of the turn.
    CancelAsked {
        /// Who.
        by: String,
    },
    /// A tool step was given up: whether it had its effect is not known.
    Abandoned {
        /// The step.
        step: StepId,
    },
    /// The turn ended.
    TurnClosed {
        /// How.
        ending: Ending,
    },
}

impl Event {
    /// Its name in the journal.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TurnOpened { .. } => "turn_opened",
            Self::ModelIntent { .. } => "model_intent",
            Self::ModelLost { .. } => "model_lost",
            Self::ModelOutcome { .. } => "model_outcome",
            Self::ModelFailed { .. } => "model_failed",
            Self::ToolIntent { .. } => "tool_intent",
            Self::ToolLost { .. } => "tool_lost",
            Self::ToolOutcome { .. } => "tool_outcome",
            Self::ToolRefused { .. } => "tool_refused",
            Self::Resolved { .. } => "resolved",
            Self::CancelAsked { .. } => "cancel_asked",
            Self::Abandoned { .. } => "abandoned",
            Self::TurnClosed { .. } => "turn_closed",
        }
    }

    /// The step that it is about.
    pub const fn step(&self) -> Option<&StepId> {
        match self {
            Self::ModelIntent { step, .. }
            | Self::ModelLost { step, .. }
            | Self::ModelOutcome { step, .. }
            | Self::ModelFailed { step, .. }
            | Self::ToolIntent { step, .. }
            | Self::ToolLost { step, .. }
            | Self::ToolOutcome { step, .. }
            | Self::Resolved { step, .. }
            | Self::Abandoned { step } => Some(step),
            Self::TurnOpened { .. }
            | Self::ToolRefused { .. }
            | Self::CancelAsked { .. }
            | Self::TurnClosed { .. } => None,
        }
    }
}

/// A place in a response's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The number of the next event.
    pub sequence: u64,
    /// The output index of the next item.
    pub output_index: u64,
    /// Bytes of the models' events before it.
    #[serde(default)]
    pub events_bytes: u64,
}

/// A tool that the model calls on one of our servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRequest {
    /// The item of the call.
    pub item_id: String,
    /// Its place in the response.
    pub output_index: u64,
    /// The item as it is while it waits.
    pub item: Value,
    /// The server.
    pub server: String,
    /// The tool.
    pub tool: String,
    /// The arguments as JSON text, as the model wrote them.
    pub arguments: String,
}

/// A failure as it is journaled: what clients are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The class.
    pub code: ErrorCode,
    /// What clients are told.
    pub message: String,
}

/// What a person decided about a step in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// It had its effect, and this is its answer.
    Done {
        /// What the model reads as the tool's answer.
        output: String,
    },
    /// It failed, and this is why.
    Failed {
        /// What the model reads.
        message: String,
    },
    /// It is to be tried again, with the same idempotency key.
    Retry,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Ending {
    /// With an answer, or with calls of the client's functions.
    Completed,
    /// A limit ended it.
    Incomplete {
        /// Which, in the API's words.
        reason: String,
    },
    /// It broke.
    Failed {
        /// Why.
        error: ErrorRecord,
    },
    /// Somebody ended it, or nobody came back for it.
    Cancelled,
}

impl Ending {
    /// The status of the response.
    pub const fn status(&self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Incomplete { .. } => Status::Incomplete,
            Self::Failed { .. } => Status::Failed,
            Self::Cancelled => Status::Cancelled,
        }
    }
}
