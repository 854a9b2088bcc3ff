//! A tool step: called once, and what is known of it afterwards.

use std::time::Duration;

use formats::openai_responses::McpError;
use futures_util::StreamExt;
use pipeline::{StepIntent, StepRun};
use serde_json::Value;
use storage::SessionState;
use types::call::ToolInvocation;
use types::error::Billed;
use types::ids::{CallId, StepId};
use types::outcome::{Delta, OutcomeEvent};
use types::{CallKind, ErrorCode, Failure};

use super::{Refusal, Runner, Stopped, lost_row, refuse_decision};
use crate::live::Command;
use crate::mcp::{CANCEL_GRACE, refusal_code};
use crate::state::{Action, Decision, Event, TOOL_CALLS_MAX, ToolRequest};

/// Beyond the tool server's own time to react, before a cancelled call is given up.
const CANCEL_MARGIN: Duration = Duration::from_secs(1);
/// A running tool gets so long when this node stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// JSON-RPC's word for a call that can't be made as it is asked for: MCP's for an unknown tool too.
const INVALID_PARAMS: i32 = -32_602;
/// The first of the codes that JSON-RPC leaves to whoever answers.
const NOT_CALLED: i32 = -32_000;

/// How calling a tool ended.
enum End {
    /// The tool answered.
    Answer(Answer),
    /// It never ran.
    NotRun(Failure),
    /// Nobody knows.
    Lost(String),
    /// This node stops, and the tool still runs.
    Shutdown,
}

/// What a tool answered.
struct Answer {
    text: String,
    is_error: bool,
    /// The code, if its server refused the call in the protocol's words.
    refusal: Option<i32>,
}

impl Answer {
    const fn result(&self) -> Result<&str, McpError<'_>> {
        let text = self.text.as_str();
        match (self.is_error, self.refusal) {
            (false, _) => Ok(text),
            (true, None) => Err(McpError::Execution { text }),
            (true, Some(code)) => Err(McpError::Protocol { code, message: text }),
        }
    }
}

/// Why a call is not made.
struct Denied {
    code: i32,
    message: String,
}

impl Runner {
    /// Journals the intent of a tool step, together with all that waits.
    pub(super) async fn begin_tool(
        &mut self,
        request: &ToolRequest,
        again: Option<(StepId, CallId)>,
    ) -> Result<Vec<Action>, Stopped> {
        // A step that was begun runs to its outcome, whether somebody waits or not.
        if again.is_none()
            && let Some(instead) = self.gate().await?
        {
            return Ok(instead);
        }
        let is_new = again.is_none();
        if is_new && let Err(failure) = self.growth.within_limits() {
            return Ok(self.fail(failure));
        }
        let arguments = match self.checked(request) {
            Ok(arguments) => arguments,
            Err(denied) if is_new => return self.refuse_tool(request, &denied),
            Err(denied) => return self.retry_is_refused(again, &denied.message),
        };
        match self.try_begin_tool(request, again.clone(), arguments).await {
            Ok(actions) => Ok(actions),
            Err(Refusal::Refused(failure)) if is_new && is_about_tool(&failure) => {
                let denied = Denied { code: NOT_CALLED, message: failure.message };
                self.refuse_tool(request, &denied)
            }
            Err(Refusal::Refused(failure) | Refusal::Unavailable(failure)) if is_new => {
                Ok(self.fail(failure))
            }
            Err(Refusal::Refused(failure) | Refusal::Unavailable(failure)) => {
                self.retry_is_refused(again, &failure.message)
            }
            Err(Refusal::Called(_) | Refusal::Stopped) => Err(Stopped),
        }
    }

    /// A step whose outcome is not known can't be tried again: somebody must say what is true.
    fn retry_is_refused(
        &mut self,
        again: Option<(StepId, CallId)>,
        why: &str,
    ) -> Result<Vec<Action>, Stopped> {
        let (step, call) = again.ok_or(Stopped)?;
        self.tool_is_lost(step, call, format!("it could not be tried again: {why}"))
    }

    async fn try_begin_tool(
        &mut self,
        request: &ToolRequest,
        again: Option<(StepId, CallId)>,
        arguments: Value,
    ) -> Result<Vec<Action>, Refusal> {
        let (step, call) = match again {
            Some((step, call)) => (step, Some(call)),
            None => (StepId::new(&self.parts.ids), None),
        };
        let invocation = ToolInvocation {
            server: request.server.clone(),
            tool: request.tool.clone(),
            arguments,
            idempotency_key: step.as_str().to_owned(),
        };
        let incoming = self.incoming(&step, call, CallKind::Tool(invocation));
        let admitted = self.parts.pipeline.admit_step(incoming).await;
        let admission = admitted.map_err(|refused| Refusal::Refused(refused.failure))?;
        let session = &self.live.about.session;
        let server = self.parts.tools.server_of(&request.server, session);
        let intent = Event::ToolIntent {
            step,
            call: admission.call.id.clone(),
            attempt: admission.attempt.clone(),
            item_id: request.item_id.clone(),
            effect: server.map(|server| server.effect(&request.tool)).unwrap_or_default(),
            intent: Box::new(admission.intent()),
        };
        self.commit_intent(&intent, &admission).await?;
        self.admission = Some(admission);
        Ok(self.apply(&intent)?)
    }

    /// The arguments, if the call may be made.
    fn checked(&self, request: &ToolRequest) -> Result<Value, Denied> {
        let invalid = |message: String| Denied { code: INVALID_PARAMS, message };
        if !self.ask.offer.has(&request.server, &request.tool) {
            return Err(invalid(format!("there is no tool {:?} here", request.tool)));
        }
        if self.turn.is_out_of_tool_calls() {
            let message = "no more tool calls are allowed in this response".to_owned();
            return Err(Denied { code: NOT_CALLED, message });
        }
        let text = if request.arguments.trim().is_empty() { "{}" } else { &request.arguments };
        match serde_json::from_str(text) {
            Ok(Value::Object(arguments)) => Ok(Value::Object(arguments)),
            Ok(_) | Err(_) => Err(invalid("the arguments are not a JSON object".to_owned())),
        }
    }

    /// A call that is not made: the model reads why.
    fn refuse_tool(
        &mut self,
        request: &ToolRequest,
        denied: &Denied,
    ) -> Result<Vec<Action>, Stopped> {
        let error = McpError::Protocol { code: denied.code, message: &denied.message };
        let item = self.end_item(&request.item_id, Err(error))?;
        self.note(Event::ToolRefused { item_id: request.item_id.clone(), item })
    }

    /// Refuses the calls of one answer beyond [`TOOL_CALLS_MAX`], and gives the others: what one
    /// answer leaves to be done is bounded, whatever the model's provider sends.
    pub(super) fn within_limit(&mut self, mut requests: Vec<ToolRequest>) -> Vec<ToolRequest> {
        let beyond = requests.split_off(requests.len().min(TOOL_CALLS_MAX));
        let message = format!("not called: one answer may call {TOOL_CALLS_MAX} tools at most");
        let error = McpError::Protocol { code: NOT_CALLED, message: &message };
        for request in beyond {
            let events = self.writer.mcp_call_failed(&request.item_id, error);
            self.batch.send(&events);
        }
        requests
    }

    /// Finishes the item of a tool call.
    fn end_item(
        &mut self,
        item_id: &str,
        result: Result<&str, McpError<'_>>,
    ) -> Result<(u64, Value), Stopped> {
        let bytes = match result {
            Ok(text)
            | Err(McpError::Execution { text } | McpError::Protocol { message: text, .. }) => {
                text.len()
            }
        };
        self.growth.take(bytes as u64);
        let events = match result {
            Ok(output) => self.writer.mcp_call_done(item_id, output),
            Err(error) => self.writer.mcp_call_failed(item_id, error),
        };
        self.batch.send(&events);
        self.finished_item(item_id).ok_or_else(|| {
            tracing::error!(item_id, "a tool's result has no item");
            Stopped
        })
    }

    /// Calls the tool whose intent is durable.
    pub(super) async fn run_tool(&mut self) -> Result<Vec<Action>, Stopped> {
        let (Some(admission), Some(request)) =
            (self.admission.take(), self.turn.waiting().front().cloned())
        else {
            tracing::error!("a tool step without an admission");
            return Err(Stopped);
        };
        let Some(step) = admission.call.step.clone() else {
            tracing::error!("a tool call without a step");
            return Err(Stopped);
        };
        let call = admission.call.id.clone();
        let mut run = self.parts.pipeline.run_step(admission);
        let end = self.await_tool(&mut run, &step).await?;
        if matches!(end, End::Shutdown) {
            // Its outcome is not known: the next start sees an open step.
            return Err(Stopped);
        }
        self.settle(run.into_row());
        let is_retry = self.turn.step(&step).is_some_and(|step| step.attempts > 1);
        let result = match &end {
            End::Answer(answer) => answer.result(),
            // Only this try is known not to have run: one before it may have had its effect.
            End::NotRun(failure) if is_retry => {
                return self.tool_is_lost(step, call, failure.message.clone());
            }
            End::NotRun(failure) => {
                Err(McpError::Protocol { code: NOT_CALLED, message: &failure.message })
            }
            End::Lost(why) => return self.tool_is_lost(step, call, why.clone()),
            End::Shutdown => return Err(Stopped),
        };
        let item = self.end_item(&request.item_id, result)?;
        self.note(Event::ToolOutcome { step, call, item })
    }

    async fn await_tool(&mut self, run: &mut StepRun, step: &StepId) -> Result<End, Stopped> {
        let mut answer: Option<End> = None;
        let mut limit: Option<(types::clock::Sleep, bool)> = None;
        loop {
            let stopping = matches!(limit, Some((_, true)));
            tokio::select! {
                biased;
                event = run.next() => match event {
                    Some(OutcomeEvent::Frame { delta: Some(Delta::ToolResult { text, is_error, raw }), .. }) => {
                        let refusal = refusal_code(&raw);
                        answer = Some(End::Answer(Answer { text, is_error, refusal }));
                    }
                    Some(OutcomeEvent::Start(_) | OutcomeEvent::Frame { .. }) => {}
                    Some(OutcomeEvent::Finish(_)) => return Ok(answer.unwrap_or_else(no_answer)),
                    Some(OutcomeEvent::Failed(failure)) => return Ok(failed(*failure)),
                    None => return Ok(no_answer()),
                },
                command = self.commands.recv() => match command.ok_or(Stopped)? {
                    Command::Cancel { by } => {
                        self.cancel_tool(by, step).await?;
                        let grace = CANCEL_GRACE + CANCEL_MARGIN;
                        limit = Some((self.parts.clock.sleep(grace), false));
                    }
                    Command::Resolve { reply, .. } => refuse_decision(reply),
                },
                () = passed(&mut limit) => {
                    let why = "it was cancelled and did not say what it did".to_owned();
                    return Ok(if stopping { End::Shutdown } else { End::Lost(why) });
                }
                () = self.parts.shutdown.cancelled(), if limit.is_none() => {
                    limit = Some((self.parts.clock.sleep(SHUTDOWN_GRACE), true));
                }
            }
        }
    }

    /// Journals that the end was asked for, then tells the tool's server.
    async fn cancel_tool(&mut self, by: String, step: &StepId) -> Result<(), Stopped> {
        if !self.turn.is_cancel_asked() {
            self.note(Event::CancelAsked { by })?;
            self.commit_batch().await?;
            self.parts.tools.cancel(step.as_str());
        }
        Ok(())
    }

    fn tool_is_lost(
        &mut self,
        step: StepId,
        call: CallId,
        why: String,
    ) -> Result<Vec<Action>, Stopped> {
        let at = self.parts.clock.now();
        self.note(Event::ToolLost { step, call, why, at })
    }

    /// A try that ran when the process before this one ended.
    pub(super) fn lose_tool(
        &mut self,
        step: StepId,
        call: CallId,
        intent: &StepIntent,
    ) -> Result<Vec<Action>, Stopped> {
        self.settle(lost_row(&self.parts, intent));
        self.tool_is_lost(step, call, "this node was restarted while the tool ran".to_owned())
    }

    /// Shows a step that is in doubt, and waits until somebody says what is true.
    pub(super) async fn await_decision(&mut self, step: &StepId) -> Result<Vec<Action>, Stopped> {
        self.mark_item(step, "in_doubt");
        self.session_state = SessionState::InDoubt;
        self.commit_batch().await?;
        self.live.set_doubt(self.turn.doubt().cloned());
        self.show();
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command.ok_or(Stopped)?,
                () = self.parts.shutdown.cancelled() => return Err(Stopped),
            };
            match command {
                Command::Cancel { by } => {
                    self.session_state = SessionState::Running;
                    return self.note(Event::CancelAsked { by });
                }
                Command::Resolve { step: named, decision, by, reply } if named == step.as_str() => {
                    self.replies.push((reply, step.clone()));
                    return self.resolve(step, decision, by);
                }
                Command::Resolve { reply, .. } => refuse_decision(reply),
            }
        }
    }

    fn resolve(
        &mut self,
        step: &StepId,
        decision: Decision,
        by: String,
    ) -> Result<Vec<Action>, Stopped> {
        let item_id = self.turn.waiting().front().map(|request| request.item_id.clone());
        let item_id = item_id.unwrap_or_default();
        let item = match &decision {
            Decision::Done { output } => Some(self.end_item(&item_id, Ok(output))?),
            Decision::Failed { message: text } => {
                Some(self.end_item(&item_id, Err(McpError::Execution { text }))?)
            }
            Decision::Retry => {
                self.writer.set_item_extra(&item_id, "holdfast", Value::Null);
                None
            }
        };
        self.session_state = SessionState::Running;
        self.note(Event::Resolved { step: step.clone(), decision, by, item })
    }
}

async fn passed(limit: &mut Option<(types::clock::Sleep, bool)>) {
    match limit {
        Some((sleep, _)) => sleep.await,
        None => std::future::pending().await,
    }
}

fn failed(failure: Failure) -> End {
    if failure.billed == Billed::No { End::NotRun(failure) } else { End::Lost(failure.message) }
}

fn no_answer() -> End {
    End::Lost("the tool's answer did not come".to_owned())
}

/// Whether a refusal is about this tool, so that the model can go on without it.
const fn is_about_tool(failure: &Failure) -> bool {
    matches!(
        failure.code,
        ErrorCode::PermissionDenied
            | ErrorCode::NotFound
            | ErrorCode::ToolFailed
            | ErrorCode::InvalidRequest
            | ErrorCode::ModelNotFound
            | ErrorCode::Unsupported
    )
}
