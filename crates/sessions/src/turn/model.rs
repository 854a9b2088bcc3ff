//! A model step: asked, streamed, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use pipeline::{StepAdmission, StepIntent, StepRun, StepTries};
use serde_json::Value;
use storage::{Committed, Error};
use types::call::ModelCall;
use types::ids::{AttemptId, CallId, StepId};
use types::outcome::{Delta, Finish};
use types::{CallKind, ErrorCode, Failure, Incoming, OutcomeEvent, Stop};

use super::batch::{FLUSH_AFTER, Flight, UNSENT_BYTES_MAX};
use super::{Refusal, Runner, Stopped, lost_row, refuse_decision};
use crate::live::Command;
use crate::state::{Action, ErrorRecord, Event, Place, ToolRequest};

/// The provider whose crash is ours to mend: the local engine.
const ENGINE: &str = "local";
/// Longest wait before an engine that crashed is asked again.
const ENGINE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How asking a model ended.
enum End {
    Finish(Finish),
    Failed(Failure),
    Cut(Cut),
}

/// Why a running model was cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Somebody cancelled the response.
    Cancelled,
    /// Nobody waits for it any more.
    ClientGone,
    /// This node stops.
    Shutdown,
}

/// What happens next while a model answers.
enum Wake {
    Flushed(Result<Committed, Error>),
    Told(Option<Command>),
    Cut(Cut),
    Flush,
    Event(Option<OutcomeEvent>),
}

/// A model step that runs.
struct Running {
    step: StepId,
    call: CallId,
    attempt: AttemptId,
    is_local: bool,
    /// The output index of its first item.
    first_item: u64,
}

impl Runner {
    /// Journals the intent of a model step, together with all that waits.
    pub(super) async fn begin_model(
        &mut self,
        again: Option<(StepId, CallId)>,
    ) -> Result<Vec<Action>, Stopped> {
        loop {
            if let Some(instead) = self.gate().await? {
                return Ok(instead);
            }
            if let Err(failure) = self.growth.within_limits() {
                return Ok(self.fail(failure));
            }
            match self.try_begin_model(again.clone()).await {
                Ok(actions) => return Ok(actions),
                Err(Refusal::Refused(failure) | Refusal::Unavailable(failure)) => {
                    let failure = self.tries.refused(failure);
                    return Ok(self.fail(failure));
                }
                Err(Refusal::Called(called)) => {
                    if let Some(instead) = self.called(called)? {
                        return Ok(instead);
                    }
                }
                Err(Refusal::Stopped) => return Err(Stopped),
            }
        }
    }

    /// As [`Self::begin_model`], for a turn that begins: what refuses it is told.
    pub(crate) async fn try_begin_model(
        &mut self,
        again: Option<(StepId, CallId)>,
    ) -> Result<Vec<Action>, Refusal> {
        let is_first = self.turn.steps().is_empty();
        if again.is_none() {
            self.tries = StepTries::default();
        }
        let (step, mut call) = match again {
            Some((step, call)) => (step, Some(call)),
            None if is_first => (StepId::new(&self.parts.ids), self.turn.root_call().cloned()),
            None => (StepId::new(&self.parts.ids), None),
        };
        loop {
            let asked = self.model_call().map_err(Refusal::Refused)?;
            let incoming = self.incoming(&step, call, CallKind::Model(asked));
            let admission = self.admit_model(incoming).await?;
            let intent = Event::ModelIntent {
                step: step.clone(),
                call: admission.call.id.clone(),
                attempt: admission.attempt.clone(),
                intent: Box::new(admission.intent()),
                begins_at: Place {
                    sequence: self.writer.next_sequence(),
                    output_index: self.writer.next_output_index(),
                    events_bytes: self.growth.events(),
                },
            };
            match self.commit_intent(&intent, &admission).await {
                Ok(()) => {
                    self.admission = Some(admission);
                    return Ok(self.apply(&intent)?);
                }
                // What a budget can't hold must not keep the step from a target that costs less.
                Err(Refusal::Refused(failure)) if failure.code == ErrorCode::BudgetExceeded => {
                    call = Some(admission.call.id.clone());
                    if !self.tries.go_cheaper(admission) {
                        return Err(Refusal::Refused(failure));
                    }
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Admits a model step. A summary of its history may be written first, which takes its time.
    async fn admit_model(&mut self, incoming: Incoming) -> Result<StepAdmission, Refusal> {
        let (pipeline, mut tries) =
            (Arc::clone(&self.parts.pipeline), std::mem::take(&mut self.tries));
        let admitted = self.attend(pipeline.admit_step_again(incoming, &mut tries)).await;
        self.tries = tries;
        match admitted? {
            Ok(Ok(admission)) => Ok(admission),
            Ok(Err(refused)) => Err(Refusal::Refused(refused.failure)),
            Err(called) => Err(Refusal::Called(called)),
        }
    }

    fn model_call(&mut self) -> Result<ModelCall, Failure> {
        let told = &mut self.ask.told;
        told.add(self.turn.output())?;
        if self.turn.steps().iter().any(|step| step.tool.is_some()) {
            told.free_choice()?;
        }
        Ok(told.model_call(&self.ask.request))
    }

    /// Asks the model whose intent is durable.
    pub(super) async fn run_model(&mut self) -> Result<Vec<Action>, Stopped> {
        let (Some(admission), Some((step, _))) = (self.admission.take(), self.turn.running_model())
        else {
            tracing::error!("a model step without an admission");
            return Err(Stopped);
        };
        let running = Running {
            step: step.clone(),
            call: admission.call.id.clone(),
            attempt: admission.attempt.clone(),
            is_local: *admission.target().provider == *ENGINE,
            first_item: self.writer.next_output_index(),
        };
        self.writer.begin_model_call();
        self.growth.begin_answer();
        let mut run = self.parts.pipeline.run_step(admission);
        let end = self.stream_model(&mut run).await;
        let next_try = match &end {
            Ok(End::Failed(failure)) => run.next_try(&mut self.tries, failure),
            Ok(End::Finish(_) | End::Cut(_)) | Err(Stopped) => None,
        };
        let row = run.into_row();
        self.tries.charge(&row);
        self.settle(row);
        match end? {
            End::Finish(finish) => self.model_finished(running, &finish),
            End::Failed(failure) => self.model_failed(running, failure, next_try).await,
            End::Cut(cut) => self.model_cut(running, cut).await,
        }
    }

    /// Takes the model's events as they come, until they end or are cut off.
    async fn stream_model(&mut self, run: &mut StepRun) -> Result<End, Stopped> {
        let mut flight: Option<Flight> = None;
        let end = loop {
            match self.wake(run, &mut flight).await {
                Wake::Flushed(answer) => {
                    let events = flight.take().map(|flight| flight.events).unwrap_or_default();
                    self.end_flush(events, answer).await?;
                }
                Wake::Flush => flight = Some(self.start_flush()),
                Wake::Told(Some(Command::Cancel { by })) => {
                    self.note(Event::CancelAsked { by })?;
                    break End::Cut(Cut::Cancelled);
                }
                Wake::Told(Some(Command::Resolve { reply, .. })) => refuse_decision(reply),
                Wake::Told(None) => return Err(Stopped),
                Wake::Cut(cut) => break End::Cut(cut),
                Wake::Event(Some(OutcomeEvent::Start(start))) => {
                    self.writer.dropped(&start.dropped)
                }
                Wake::Event(Some(OutcomeEvent::Frame { delta: None, .. })) => {}
                Wake::Event(Some(OutcomeEvent::Frame { delta: Some(delta), .. })) => {
                    match self.growth.add(&delta) {
                        Ok(()) => self.stream_delta(&delta),
                        Err(failure) => break End::Failed(failure),
                    }
                }
                Wake::Event(Some(OutcomeEvent::Finish(finish))) => break End::Finish(finish),
                Wake::Event(Some(OutcomeEvent::Failed(failure))) => break End::Failed(*failure),
                Wake::Event(None) => break End::Failed(no_end()),
            }
        };
        if let Some(Flight { answer, events }) = flight {
            let answer = answer.await;
            self.end_flush(events, answer).await?;
        }
        Ok(end)
    }

    async fn wake(&mut self, run: &mut StepRun, flight: &mut Option<Flight>) -> Wake {
        let now = self.parts.clock.monotonic();
        let is_full = self.batch.unsent_bytes >= UNSENT_BYTES_MAX;
        let can_flush =
            (self.ask.streamed || is_full) && flight.is_none() && !self.batch.unsent.is_empty();
        let due = self.batch.since.map(|since| (since + FLUSH_AFTER).saturating_sub(now));
        let due = due.unwrap_or(FLUSH_AFTER);
        if can_flush && (is_full || due.is_zero()) {
            return Wake::Flush;
        }
        let (boundary, needs_client) = (self.batch.boundary, self.needs_client());
        tokio::select! {
            // In this order: what is at hand of the answer is taken before any of it is written, so
            // that an answer that comes at once costs no commit of its own.
            biased;
            answer = landed(flight), if flight.is_some() => Wake::Flushed(answer),
            command = self.commands.recv() => Wake::Told(command),
            () = self.parts.shutdown.cancelled() => Wake::Cut(Cut::Shutdown),
            gone = self.clients.wait_for(|clients| *clients == 0), if needs_client => {
                drop(gone);
                Wake::Cut(Cut::ClientGone)
            }
            // A model that is faster than the disk waits for it.
            event = run.next(), if !is_full => Wake::Event(event),
            () = std::future::ready(()), if can_flush && boundary => Wake::Flush,
            () = self.parts.clock.sleep(due), if can_flush => Wake::Flush,
        }
    }

    /// Takes a piece of a running model's answer for the stream.
    fn stream_delta(&mut self, delta: &Delta) {
        let events = self.writer.delta(delta);
        let is_boundary = |event: &Value| {
            let name = event.get("type").and_then(Value::as_str);
            matches!(name, Some("response.output_item.added" | "response.output_item.done"))
        };
        self.batch.boundary |= events.iter().any(is_boundary);
        if self.batch.since.is_none() && !events.is_empty() {
            self.batch.since = Some(self.parts.clock.monotonic());
        }
        let before = self.batch.unsent_bytes;
        self.batch.send(&events);
        self.growth.sent((self.batch.unsent_bytes - before) as u64);
    }

    fn model_finished(
        &mut self,
        running: Running,
        finish: &Finish,
    ) -> Result<Vec<Action>, Stopped> {
        let mut events = self.writer.close_open_item();
        if self.writer.next_output_index() == running.first_item {
            // An answer without any item makes some agent frameworks ask for ever.
            events.extend(self.writer.open_message());
            events.extend(self.writer.close_open_item());
        }
        self.batch.send(&events);
        let is_whole = matches!(finish.stop, Stop::End | Stop::ToolCalls);
        let tools = if is_whole { self.tool_requests() } else { Vec::new() };
        let tools = self.within_limit(tools);
        let items = self.finished_from(running.first_item);
        self.note(Event::ModelOutcome {
            step: running.step,
            call: running.call,
            calls_functions: items.iter().any(|(_, item)| is_function_call(item)),
            tools,
            items,
            stop: finish.stop,
            usage: finish.usage,
        })
    }

    /// `next_try`: when the step is to be asked again, if its route says so.
    async fn model_failed(
        &mut self,
        running: Running,
        failure: Failure,
        next_try: Option<Duration>,
    ) -> Result<Vec<Action>, Stopped> {
        let tries = self.turn.step(&running.step).map_or(0, |step| step.attempts);
        let engine_gone = matches!(
            failure.code,
            ErrorCode::Unavailable | ErrorCode::StreamCut | ErrorCode::UpstreamUnreachable
        );
        let was_sent = self.finished_from(running.first_item);
        let was_sent = was_sent.iter().any(|(_, item)| is_function_call(item));
        let is_ours = running.is_local && engine_gone && tries <= 1;
        let (wait, why) = match next_try {
            _ if was_sent => (None, String::new()),
            Some(wait) => (Some(wait), format!("an attempt failed: {}", failure.code)),
            // Its supervisor starts it again at once; a longer wait is what it asks for.
            None => {
                let wait = failure.retry_after.unwrap_or_default().min(ENGINE_WAIT_MAX);
                (is_ours.then_some(wait), format!("the engine ended: {}", failure.message))
            }
        };
        let Some(wait) = wait else {
            let failure = self.tries.answered(failure);
            return self.model_is_failed(running, failure);
        };
        let actions = self.model_is_lost(running, why)?;
        if wait.is_zero() {
            return Ok(actions);
        }
        let waited = self.attend(self.parts.clock.sleep(wait)).await?;
        let instead = waited.map_or_else(|called| self.called(called), |()| Ok(None))?;
        Ok(instead.unwrap_or(actions))
    }

    async fn model_cut(&mut self, running: Running, cut: Cut) -> Result<Vec<Action>, Stopped> {
        let why = match cut {
            Cut::Cancelled => {
                return self.note(Event::ModelLost {
                    step: running.step,
                    call: running.call,
                    attempt: running.attempt,
                    why: "cancelled".to_owned(),
                });
            }
            Cut::ClientGone => "the client went",
            Cut::Shutdown => "this node stopped",
        };
        let was_sent = self.finished_from(running.first_item);
        let actions = if was_sent.iter().any(|(_, item)| is_function_call(item)) {
            let message = "the answer was cut off after a function call of it was sent";
            self.model_is_failed(running, Failure::new(ErrorCode::StreamCut, message))?
        } else {
            self.model_is_lost(running, why.to_owned())?
        };
        if cut == Cut::Shutdown {
            self.commit_batch().await?;
            return Err(Stopped);
        }
        Ok(actions)
    }

    fn model_is_failed(
        &mut self,
        running: Running,
        failure: Failure,
    ) -> Result<Vec<Action>, Stopped> {
        self.tries.let_go();
        let error = ErrorRecord { code: failure.code, message: failure.message.clone() };
        self.failure = Some(failure);
        self.note(Event::ModelFailed { step: running.step, call: running.call, error })
    }

    fn model_is_lost(&mut self, running: Running, why: String) -> Result<Vec<Action>, Stopped> {
        self.growth.lose_answer();
        let events = self.writer.interrupt_open_item();
        self.batch.send(&events);
        let Running { step, call, attempt, .. } = running;
        self.note(Event::ModelLost { step, call, attempt, why })
    }

    /// A try that ran when the process before this one ended: it stays on the bill, and its items
    /// are closed.
    pub(super) fn lose_model(
        &mut self,
        step: StepId,
        call: CallId,
        attempt: AttemptId,
        intent: &StepIntent,
    ) -> Result<Vec<Action>, Stopped> {
        let row = lost_row(&self.parts, intent);
        self.tries.charge(&row);
        self.settle(row);
        let first_item = self.turn.running_model().map_or(0, |(_, place)| place.output_index);
        let was_sent = self.finished_from(first_item);
        let running = Running { step, call, attempt, is_local: false, first_item };
        if was_sent.iter().any(|(_, item)| is_function_call(item)) {
            let message = "the answer was cut off after a function call of it was sent";
            return self.model_is_failed(running, Failure::new(ErrorCode::StreamCut, message));
        }
        if let Err(failure) = self.growth.within_limits() {
            // It would only say as much again.
            return self.model_is_failed(running, failure);
        }
        self.model_is_lost(running, "this node was restarted".to_owned())
    }

    /// Finished items from this output index on.
    fn finished_from(&self, first: u64) -> Vec<(u64, Value)> {
        let items = self.writer.indexed_output().iter();
        items.filter(|(index, _)| *index >= first).cloned().collect()
    }

    /// The calls of our servers' tools that wait.
    fn tool_requests(&self) -> Vec<ToolRequest> {
        let waiting = self.writer.waiting_items();
        let item_at = |index: u64| waiting.iter().find(|(at, _)| *at == index);
        let requests = self.writer.pending_mcp_calls().into_iter().map(|pending| ToolRequest {
            item: item_at(pending.output_index).map_or(Value::Null, |(_, item)| item.clone()),
            item_id: pending.item_id,
            output_index: pending.output_index,
            server: pending.server_label,
            tool: pending.name,
            arguments: pending.arguments,
        });
        requests.collect()
    }
}

async fn landed(flight: &mut Option<Flight>) -> Result<Committed, Error> {
    match flight {
        Some(flight) => (&mut flight.answer).await,
        None => std::future::pending().await,
    }
}

fn is_function_call(item: &Value) -> bool {
    let kind = item.get("type").and_then(Value::as_str);
    matches!(kind, Some("function_call" | "custom_tool_call"))
}

/// A target that ended its answer without saying so.
fn no_end() -> Failure {
    Failure::new(ErrorCode::StreamCut, "the answer ended before it was whole")
        .billed(types::error::Billed::Unknown)
}
