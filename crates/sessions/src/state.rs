//! The state of a turn, as a pure function of what was journaled: `apply(state, event) → actions`.
//!
//! A turn is the loop that makes one response: model step, tool steps, model step … until an
//! answer. [`Turn::apply`] takes one journaled [`Event`] and says what is to be done next;
//! [`Turn::recover`] says what is to be done when the process that did the last action is gone.
//! Replaying a journal gives the same state and never repeats an action of a finished step: an
//! event that would is a [`Misfit`].
//!
//! Nothing here does I/O, asks the time or knows a budget, a client or a stream. Whether a client
//! is there to go on for is the loop's business ([`crate::turn`]).

mod action;
mod event;
mod model;
mod read;
mod step;
mod tool;

use std::collections::VecDeque;

use pipeline::StepIntent;
use serde_json::Value;
use types::auto::Tier;
use types::call::RouteAsk;
use types::ids::{AttemptId, CallId, StepId};
use types::{Metadata, Money, Usage};

use crate::mcp::Effect;

pub use action::{Action, Misfit};
pub use event::{Decision, Ending, ErrorRecord, Event, Place, ToolRequest};
pub use step::{Step, StepState};

/// Times that a read-only or idempotent tool call whose answer was lost is tried again.
pub const TOOL_RERUNS_MAX: u32 = 3;
/// Calls of our servers' tools that one answer of a model may leave to be done. Each costs two or
/// three rows of the journal.
pub const TOOL_CALLS_MAX: usize = 128;
/// Model steps of one turn: a loop that does not end by itself is ended.
pub const MODEL_STEPS_MAX: usize = 256;
/// Times that a model step whose attempt was lost is asked again before the response fails.
pub const MODEL_REASKS_MAX: u32 = 16;

/// What a turn is doing.
#[derive(Clone, Debug, PartialEq, Default)]
enum Phase {
    /// It has not begun.
    #[default]
    New,
    /// Nothing runs; the next step has no intent yet.
    Between,
    /// A model step was lost and is to be asked again.
    Reask { step: StepId, call: CallId },
    /// A model is asked.
    Model { step: StepId, call: CallId, attempt: AttemptId, intent: Box<StepIntent> },
    /// A tool step was lost and is to be tried again.
    Retry { step: StepId, call: CallId },
    /// A tool runs.
    Tool { step: StepId, call: CallId, effect: Effect, intent: Box<StepIntent> },
    /// A tool step waits for a decision.
    Doubt { step: StepId, call: CallId },
    /// Only the end is to be written.
    Ending(Ending),
    /// It has ended.
    Closed(Ending),
}

impl Phase {
    const fn name(&self) -> &'static str {
        match self {
            Self::New => "the beginning",
            Self::Between => "a finished step",
            Self::Reask { .. } => "a lost model step",
            Self::Model { .. } => "a running model step",
            Self::Retry { .. } => "a lost tool step",
            Self::Tool { .. } => "a running tool step",
            Self::Doubt { .. } => "a step in doubt",
            Self::Ending(_) => "the last step",
            Self::Closed(_) => "the end",
        }
    }
}

/// A turn as its journal tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    phase: Phase,
    root_call: Option<CallId>,
    task: String,
    class: Option<String>,
    budget: Option<Money>,
    metadata: Metadata,
    tier: Option<Tier>,
    gateway: Option<String>,
    asks: Option<Box<RouteAsk>>,
    /// What the newest try of a model was billed by, and why it was asked.
    newest_intent: Option<Box<StepIntent>>,
    max_tool_calls: Option<u64>,
    steps: Vec<Step>,
    output: Vec<(u64, Value)>,
    waiting: VecDeque<ToolRequest>,
    tool_calls: u64,
    usage: Option<Usage>,
    cancel_asked: bool,
    released: bool,
    begins_at: Place,
    /// What follows once no tool waits any more.
    after_tools: AfterTools,
}

/// What follows once no tool waits any more.
#[derive(Clone, Debug, Default, PartialEq)]
enum AfterTools {
    /// The model reads the results.
    #[default]
    AskModel,
    /// The turn ends so.
    End(Ending),
}

impl Turn {
    /// Takes an event that was (or is being) journaled, and says what is to be done next.
    ///
    /// # Errors
    /// The event can't follow the ones before; the state is then unchanged.
    pub fn apply(&mut self, event: &Event) -> Result<Vec<Action>, Misfit> {
        let misfit = Misfit { kind: event.kind(), phase: self.phase.name() };
        self.try_apply(event).ok_or(misfit)
    }

    fn try_apply(&mut self, event: &Event) -> Option<Vec<Action>> {
        match event {
            Event::TurnOpened {
                call,
                task,
                class,
                budget,
                metadata,
                tier,
                gateway,
                asks,
                max_tool_calls,
                items,
            } => {
                if self.phase != Phase::New {
                    return None;
                }
                self.root_call = Some(call.clone());
                task.clone_into(&mut self.task);
                (self.class, self.budget, self.tier) = (class.clone(), *budget, *tier);
                (self.metadata, self.gateway) = (metadata.clone(), gateway.clone());
                (self.asks, self.max_tool_calls) = (asks.clone(), *max_tool_calls);
                self.output.extend_from_slice(items);
                self.phase = Phase::Between;
                Some(self.next())
            }
            Event::ModelIntent { step, call, attempt, intent, begins_at } => {
                let actions = self.model_intent(step, call, attempt, intent)?;
                self.newest_intent = Some(intent.clone());
                self.begins_at = *begins_at;
                Some(actions)
            }
            Event::ModelLost { step, why, .. } => self.model_lost(step, why),
            Event::ModelOutcome { step, items, tools, calls_functions, stop, usage, .. } => {
                self.finish_step(step, StepState::Done, true)?;
                let end = model::after_model(*stop, *calls_functions, tools.is_empty());
                Some(self.model_outcome(items, tools, end, *usage))
            }
            Event::ModelFailed { step, error, .. } => {
                self.finish_step(step, StepState::Failed, true)?;
                self.note(step, &error.message);
                Some(self.end(Ending::Failed { error: error.clone() }))
            }
            Event::ToolIntent { step, call, effect, intent, item_id, .. } => {
                self.tool_intent(step, call, *effect, intent, item_id)
            }
            Event::ToolLost { step, why, at, .. } => self.tool_lost(step, why, *at),
            Event::ToolOutcome { step, item, .. } => {
                self.finish_step(step, StepState::Done, false)?;
                Some(self.tool_settled(item))
            }
            Event::ToolRefused { item_id, item } => {
                let fits = self.phase == Phase::Between && self.next_is(item_id);
                fits.then(|| self.tool_settled(item))
            }
            Event::Resolved { step, decision, by, item } => {
                self.resolved(step, decision, by, item.as_ref())
            }
            Event::CancelAsked { .. } => self.cancel(),
            Event::Abandoned { step } => {
                self.finish_step(step, StepState::Abandoned, false)?;
                Some(self.end(Ending::Cancelled))
            }
            Event::TurnClosed { ending } => {
                if matches!(self.phase, Phase::Closed(_) | Phase::New) || self.is_open_step() {
                    return None;
                }
                self.phase = Phase::Closed(ending.clone());
                Some(Vec::new())
            }
        }
    }

    /// What is to be done when the process that did the last actions is gone.
    pub fn recover(&self) -> Vec<Action> {
        match &self.phase {
            Phase::New | Phase::Closed(_) => Vec::new(),
            Phase::Between | Phase::Ending(_) | Phase::Reask { .. } | Phase::Retry { .. } => {
                self.next()
            }
            Phase::Model { step, call, attempt, intent } => vec![Action::LoseModel {
                step: step.clone(),
                call: call.clone(),
                attempt: attempt.clone(),
                intent: intent.clone(),
            }],
            Phase::Tool { step, .. } if self.cancel_asked => vec![Action::Abandon(step.clone())],
            Phase::Tool { step, call, intent, .. } => vec![Action::LoseTool {
                step: step.clone(),
                call: call.clone(),
                intent: intent.clone(),
            }],
            Phase::Doubt { step, .. } if self.cancel_asked => vec![Action::Abandon(step.clone())],
            Phase::Doubt { step, .. } => vec![Action::AwaitDecision(step.clone())],
        }
    }

    /// What follows from where the turn stands, nothing running.
    fn next(&self) -> Vec<Action> {
        match &self.phase {
            Phase::Ending(ending) => vec![Action::Close(ending.clone())],
            Phase::Reask { step, call } => {
                vec![Action::BeginModelAgain { step: step.clone(), call: call.clone() }]
            }
            Phase::Retry { step, call } => {
                let again = self.waiting.front().map(|request| Action::BeginToolAgain {
                    step: step.clone(),
                    call: call.clone(),
                    request: request.clone(),
                });
                again.into_iter().collect()
            }
            Phase::Between => match self.waiting.front() {
                Some(request) => vec![Action::BeginTool(request.clone())],
                None => vec![Action::BeginModel],
            },
            Phase::New
            | Phase::Model { .. }
            | Phase::Tool { .. }
            | Phase::Doubt { .. }
            | Phase::Closed(_) => Vec::new(),
        }
    }

    /// After a finished step: the next tool, the model, or the end.
    fn go_on(&mut self) -> Vec<Action> {
        if self.cancel_asked {
            return self.end(Ending::Cancelled);
        }
        self.phase = Phase::Between;
        if self.waiting.is_empty() {
            if let AfterTools::End(ending) = std::mem::take(&mut self.after_tools) {
                return self.end(ending);
            }
            if self.model_steps() >= MODEL_STEPS_MAX {
                return self.end(Ending::Incomplete { reason: "max_tool_calls".to_owned() });
            }
        }
        self.next()
    }

    fn cancel(&mut self) -> Option<Vec<Action>> {
        self.cancel_asked = true;
        match &self.phase {
            Phase::New | Phase::Closed(_) => None,
            // What runs is told by the loop, which journals what became of it.
            Phase::Model { .. } | Phase::Tool { .. } => Some(Vec::new()),
            Phase::Doubt { step, .. } => Some(vec![Action::Abandon(step.clone())]),
            Phase::Retry { step, .. } | Phase::Reask { step, .. } => {
                let step = step.clone();
                self.set_state(&step, StepState::Abandoned);
                Some(self.end(Ending::Cancelled))
            }
            Phase::Between | Phase::Ending(_) => Some(self.end(Ending::Cancelled)),
        }
    }

    fn end(&mut self, ending: Ending) -> Vec<Action> {
        self.phase = Phase::Ending(ending);
        self.next()
    }

    /// Marks the step that runs, or is in doubt, as finished; `None` if it is another one.
    fn finish_step(&mut self, step: &StepId, state: StepState, is_model: bool) -> Option<()> {
        let fits = match &self.phase {
            Phase::Model { step: running, .. } => is_model && running == step,
            Phase::Tool { step: running, .. } => !is_model && running == step,
            Phase::Doubt { step: running, .. } => state == StepState::Abandoned && running == step,
            _ => false,
        };
        fits.then(|| self.set_state(step, state))
    }

    fn begin_try(&mut self, step: &StepId) {
        if let Some(step) = self.step_mut(step) {
            step.attempts += 1;
            step.state = StepState::Running;
            step.in_doubt_since = None;
        }
    }

    fn note(&mut self, step: &StepId, why: &str) {
        if let Some(step) = self.step_mut(step) {
            step.why = Some(why.to_owned());
        }
    }

    fn set_state(&mut self, step: &StepId, state: StepState) {
        if let Some(step) = self.step_mut(step) {
            step.state = state;
        }
    }

    fn step_mut(&mut self, id: &StepId) -> Option<&mut Step> {
        self.steps.iter_mut().rev().find(|step| step.id == *id)
    }

    fn next_is(&self, item_id: &str) -> bool {
        self.waiting.front().is_some_and(|request| request.item_id == item_id)
    }

    fn is_open_step(&self) -> bool {
        matches!(self.phase, Phase::Model { .. } | Phase::Tool { .. } | Phase::Doubt { .. })
    }

    fn model_steps(&self) -> usize {
        self.steps.iter().filter(|step| step.tool.is_none()).count()
    }
}

#[cfg(test)]
mod tests;
