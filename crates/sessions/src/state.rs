//! The state of a turn, as a pure function of what was journaled: `apply(state, event) → actions`.
//!
//! A turn is the loop that makes one response: model step, tool steps, model step … until an answer. [`Turn::apply`]
//! takes one journaled [`Event`] and says what is to be done next; [`Turn::recover`] says what is to be done when the
//! process that did the last action is gone. Replaying a journal gives the same state and never repeats an action
//! of a finished step: an event that would is a [`Misfit`].
//!
//! Nothing here does I/O, asks the time or knows a budget, a client or a stream. Whether a client is there to go on
//! for is the loop's business ([`crate::turn`]).

use std::collections::VecDeque;

use pipeline::StepIntent;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::responses::Status;
use types::ids::{AttemptId, CallId, StepId};
use types::{ErrorCode, Money, Stop, Timestamp, Usage};

use crate::mcp::Effect;

/// Times that a read-only or idempotent tool call whose answer was lost is tried again.
pub const TOOL_RERUNS_MAX: u32 = 3;
/// Model steps of one turn: a loop that does not end by itself is ended.
pub const MODEL_STEPS_MAX: usize = 256;
/// Times that a model step whose attempt was lost is asked again before the response fails.
pub const MODEL_REASKS_MAX: u32 = 16;

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

/// A step as people see it.
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
    /// It did not answer, and is not asked again.
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

/// A turn as its journal tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    phase: Phase,
    root_call: Option<CallId>,
    task: String,
    class: Option<String>,
    budget: Option<Money>,
    max_tool_calls: Option<u64>,
    steps: Vec<Step>,
    output: Vec<(u64, Value)>,
    waiting: VecDeque<ToolRequest>,
    tool_calls: u64,
    usage: Option<Usage>,
    cancel_asked: bool,
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
            Event::TurnOpened { call, task, class, budget, max_tool_calls, items } => {
                if self.phase != Phase::New {
                    return None;
                }
                self.root_call = Some(call.clone());
                task.clone_into(&mut self.task);
                (self.class, self.budget) = (class.clone(), *budget);
                self.max_tool_calls = *max_tool_calls;
                self.output.extend_from_slice(items);
                self.phase = Phase::Between;
                Some(self.next())
            }
            Event::ModelIntent { step, call, attempt, intent, begins_at } => {
                let actions = self.model_intent(step, call, attempt, intent)?;
                self.begins_at = *begins_at;
                Some(actions)
            }
            Event::ModelLost { step, why, .. } => self.model_lost(step, why),
            Event::ModelOutcome { step, items, tools, calls_functions, stop, usage, .. } => {
                self.finish_step(step, StepState::Done, true)?;
                let end = after_model(*stop, *calls_functions, tools.is_empty());
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

    fn model_intent(
        &mut self,
        step: &StepId,
        call: &CallId,
        attempt: &AttemptId,
        intent: &StepIntent,
    ) -> Option<Vec<Action>> {
        match &self.phase {
            Phase::Between if self.waiting.is_empty() && self.step(step).is_none() => {
                self.steps.push(new_step(step, call, None, None));
            }
            Phase::Reask { step: lost, call: same } if lost == step && same == call => {}
            _ => return None,
        }
        self.begin_try(step);
        self.phase = Phase::Model {
            step: step.clone(),
            call: call.clone(),
            attempt: attempt.clone(),
            intent: Box::new(intent.clone()),
        };
        Some(vec![Action::RunModel])
    }

    fn model_lost(&mut self, step: &StepId, why: &str) -> Option<Vec<Action>> {
        let Phase::Model { step: running, call, .. } = &self.phase else { return None };
        if running != step {
            return None;
        }
        let call = call.clone();
        self.note(step, why);
        if self.step(step)?.attempts > MODEL_REASKS_MAX {
            self.set_state(step, StepState::Failed);
            let message = format!("the model was asked {MODEL_REASKS_MAX} times without an answer");
            let error = ErrorRecord { code: ErrorCode::UpstreamFailed, message };
            return Some(self.end(Ending::Failed { error }));
        }
        self.set_state(step, StepState::Lost);
        if self.cancel_asked {
            self.set_state(step, StepState::Abandoned);
            return Some(self.end(Ending::Cancelled));
        }
        self.phase = Phase::Reask { step: step.clone(), call };
        Some(self.next())
    }

    fn model_outcome(
        &mut self,
        items: &[(u64, Value)],
        tools: &[ToolRequest],
        end: AfterTools,
        usage: Option<Usage>,
    ) -> Vec<Action> {
        self.output.extend_from_slice(items);
        self.waiting.extend(tools.iter().cloned());
        if let Some(usage) = usage {
            self.usage = Some(sum(self.usage.unwrap_or_default(), usage));
        }
        self.after_tools = end;
        self.go_on()
    }

    fn tool_intent(
        &mut self,
        step: &StepId,
        call: &CallId,
        effect: Effect,
        intent: &StepIntent,
        item_id: &str,
    ) -> Option<Vec<Action>> {
        match &self.phase {
            Phase::Between if self.next_is(item_id) && self.step(step).is_none() => {
                let request = self.waiting.front()?;
                self.steps.push(new_step(step, call, Some(request), Some(effect)));
                self.tool_calls += 1;
            }
            Phase::Retry { step: lost, call: same } if lost == step && same == call => {}
            _ => return None,
        }
        self.begin_try(step);
        self.phase = Phase::Tool {
            step: step.clone(),
            call: call.clone(),
            effect,
            intent: Box::new(intent.clone()),
        };
        Some(vec![Action::RunTool])
    }

    fn tool_lost(&mut self, step: &StepId, why: &str, at: Timestamp) -> Option<Vec<Action>> {
        let Phase::Tool { step: running, call, effect, .. } = &self.phase else { return None };
        if running != step {
            return None;
        }
        let (call, effect) = (call.clone(), *effect);
        self.note(step, why);
        if self.cancel_asked {
            self.phase = Phase::Doubt { step: step.clone(), call };
            self.set_state(step, StepState::InDoubt);
            return Some(vec![Action::Abandon(step.clone())]);
        }
        if effect != Effect::Write && self.step(step)?.attempts <= TOOL_RERUNS_MAX {
            self.set_state(step, StepState::Lost);
            self.phase = Phase::Retry { step: step.clone(), call };
            return Some(self.next());
        }
        self.set_state(step, StepState::InDoubt);
        if let Some(step) = self.step_mut(step) {
            step.in_doubt_since = Some(at);
        }
        self.phase = Phase::Doubt { step: step.clone(), call };
        Some(vec![Action::AwaitDecision(step.clone())])
    }

    fn resolved(
        &mut self,
        step: &StepId,
        decision: &Decision,
        by: &str,
        item: Option<&(u64, Value)>,
    ) -> Option<Vec<Action>> {
        let Phase::Doubt { step: doubtful, call } = &self.phase else { return None };
        if doubtful != step {
            return None;
        }
        let call = call.clone();
        match (decision, item) {
            (Decision::Retry, _) => {
                self.note(step, &format!("tried again as {by} decided"));
                self.set_state(step, StepState::Lost);
                self.phase = Phase::Retry { step: step.clone(), call };
                Some(self.next())
            }
            (Decision::Done { .. } | Decision::Failed { .. }, Some(item)) => {
                self.note(step, &format!("settled as {by} decided"));
                self.set_state(step, StepState::Done);
                Some(self.tool_settled(item))
            }
            (Decision::Done { .. } | Decision::Failed { .. }, None) => None,
        }
    }

    fn tool_settled(&mut self, item: &(u64, Value)) -> Vec<Action> {
        self.waiting.pop_front();
        let behind = self.output.partition_point(|(index, _)| *index < item.0);
        self.output.insert(behind, item.clone());
        self.go_on()
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

/// What others read of a turn.
impl Turn {
    /// The Call of its first step.
    pub const fn root_call(&self) -> Option<&CallId> {
        self.root_call.as_ref()
    }

    /// What is paid and timed together with it.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The request class that its client asked for.
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// A cap on the cost of each of its Calls.
    pub const fn budget(&self) -> Option<Money> {
        self.budget
    }

    /// Its steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// One of its steps.
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.iter().rev().find(|step| step.id == *id)
    }

    /// The step that waits for a decision.
    pub fn doubt(&self) -> Option<&Step> {
        match &self.phase {
            Phase::Doubt { step, .. } => self.step(step),
            _ => None,
        }
    }

    /// The finished items with their output indexes, in order.
    pub fn output(&self) -> &[(u64, Value)] {
        &self.output
    }

    /// The tool calls that are not settled, in order; the first one is being worked on.
    pub const fn waiting(&self) -> &VecDeque<ToolRequest> {
        &self.waiting
    }

    /// What all its model steps used, as far as it is known.
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The model step that runs, and where its events and items begin.
    pub const fn running_model(&self) -> Option<(&StepId, Place)> {
        match &self.phase {
            Phase::Model { step, .. } => Some((step, self.begins_at)),
            _ => None,
        }
    }

    /// Whether the client's limit on tool calls is used up.
    pub fn is_out_of_tool_calls(&self) -> bool {
        self.max_tool_calls.is_some_and(|max| self.tool_calls >= max)
    }

    /// Whether somebody asked for its end.
    pub const fn is_cancel_asked(&self) -> bool {
        self.cancel_asked
    }

    /// How it ended, if it has.
    pub const fn ending(&self) -> Option<&Ending> {
        match &self.phase {
            Phase::Closed(ending) => Some(ending),
            _ => None,
        }
    }
}

fn new_step(
    id: &StepId,
    call: &CallId,
    request: Option<&ToolRequest>,
    effect: Option<Effect>,
) -> Step {
    Step {
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

fn after_model(stop: Stop, calls_functions: bool, no_tools: bool) -> AfterTools {
    match stop {
        Stop::Length => {
            AfterTools::End(Ending::Incomplete { reason: "max_output_tokens".to_owned() })
        }
        Stop::ContentFilter => {
            AfterTools::End(Ending::Incomplete { reason: "content_filter".to_owned() })
        }
        Stop::End | Stop::ToolCalls if calls_functions || no_tools => {
            AfterTools::End(Ending::Completed)
        }
        Stop::End | Stop::ToolCalls => AfterTools::AskModel,
    }
}

fn sum(left: Usage, right: Usage) -> Usage {
    Usage {
        input_tokens: left.input_tokens.saturating_add(right.input_tokens),
        cached_tokens: left.cached_tokens.saturating_add(right.cached_tokens),
        cache_write_tokens: left.cache_write_tokens.saturating_add(right.cache_write_tokens),
        output_tokens: left.output_tokens.saturating_add(right.output_tokens),
        reasoning_tokens: left.reasoning_tokens.saturating_add(right.reasoning_tokens),
    }
}

#[cfg(test)]
mod tests;
