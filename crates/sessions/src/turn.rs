//! The loop that makes one response: what `state` says, done.
//!
//! A [`Runner`] owns one open turn. It takes an [`Action`], does it, and gets the next ones from
//! the event that says what happened. What happened waits in a [`Batch`] and becomes durable
//! together with the intent of what follows, so that a step costs about one commit; nothing is
//! sent, called or asked before the commit that says so. The one thing before it is a summary of
//! its history, where a route wants one: a Call beside the turn, with money and rows of its own.
//!
//! It must not decide what follows a step ([`crate::state`] does) or what events look like (the
//! format's writer does).

mod batch;
mod growth;
mod model;
mod offer;
mod park;
mod told;
mod tool;

use std::collections::VecDeque;
use std::sync::Arc;

use formats::openai_responses::{CreateResponse, EventWriter};
use pipeline::{Bill, StepAdmission, StepTries};
use serde_json::{Value, json};
use storage::SessionState;
use storage::responses::{ItemRow, ResponseWrite};
use tokio::sync::{mpsc, oneshot, watch};
use types::call::{Credential, Door, RouteAsk, StepRef};
use types::clock::Monotonic;
use types::ids::{CallId, SessionId, StepId};
use types::{CallKind, CommonHeaders, ErrorCode, Failure, Incoming, Principal, TraceParent};

use crate::Parts;
use crate::journal::Cursor;
use crate::live::{About, Command, Ended, Live};
use crate::mcp::Kept;
use crate::state::{Action, Ending, ErrorRecord, Event, Misfit, Step, Turn};
use crate::stop::{self, Point};

pub(crate) use batch::{Batch, Opening, Refusal};
pub(crate) use growth::{ANSWER_BYTES_MAX, Growth, bytes_of as answer_bytes_of};
pub(crate) use offer::{Offer, is_allowed, listed, values};
pub(crate) use told::{Told, bytes_of, media_in};

/// What was asked, and for whom.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) principal: Arc<Principal>,
    pub(crate) request: CreateResponse,
    /// The session from which this one descends.
    pub(crate) root: SessionId,
    /// What the model is told: the chain's items, the new input, and what the turn adds.
    pub(crate) told: Told,
    /// The tools of our servers.
    pub(crate) offer: Offer,
    /// Whether it goes on without a client.
    pub(crate) background: bool,
    /// Whether events are sent as they come.
    pub(crate) streamed: bool,
    /// The trace of who asked; not kept across a restart.
    pub(crate) trace: Option<TraceParent>,
    /// When its client waits no longer; not kept across a restart.
    pub(crate) until: Option<Monotonic>,
}

/// Who works on an open turn.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) parts: Arc<Parts>,
    pub(crate) live: Arc<Live>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) clients: watch::Receiver<usize>,
    pub(crate) turn: Turn,
    pub(crate) writer: EventWriter,
    pub(crate) cursor: Cursor,
    pub(crate) ask: Ask,
    pub(crate) batch: Batch,
    pub(crate) bill: Bill,
    /// Whether a step of it has no known price: then nobody knows what all cost.
    is_unpriced: bool,
    pub(crate) growth: Growth,
    /// The response object that is shown before the end, but for its output.
    frame: Arc<Value>,
    /// The finished items as they are shown.
    shown: Vec<(u64, Arc<Value>)>,
    /// The step whose intent is durable and that is to be run now.
    admission: Option<StepAdmission>,
    /// The tries of the model step that runs or is to be asked again.
    tries: StepTries,
    /// What the session's row says.
    session_state: SessionState,
    /// Why it fails, with what only the client that waits is told.
    failure: Option<Failure>,
    /// Who waits for a decision to be durable.
    replies: Vec<(oneshot::Sender<Result<Step, Failure>>, StepId)>,
    /// Keeps the tool servers of its beginning, where it offers some.
    _servers: Option<Kept>,
}

/// What a runner is made of.
#[derive(Debug)]
pub(crate) struct RunnerParts {
    pub(crate) parts: Arc<Parts>,
    pub(crate) live: Arc<Live>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) turn: Turn,
    pub(crate) writer: EventWriter,
    pub(crate) cursor: Cursor,
    pub(crate) ask: Ask,
    pub(crate) growth: Growth,
    pub(crate) session_state: SessionState,
}

/// This node stops working on the turn; it goes on at the next start, or another owner has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

impl Runner {
    /// Does nothing yet.
    pub(crate) fn new(parts: RunnerParts) -> Self {
        let clients = parts.live.clients();
        let mut frame = parts.writer.response();
        if let Some(fields) = frame.as_object_mut() {
            fields.insert("output".to_owned(), Value::Array(Vec::new()));
        }
        let has_tools = !parts.ask.offer.owners.is_empty();
        let servers = has_tools.then(|| parts.parts.tools.keep(&parts.live.about.session));
        Self {
            parts: parts.parts,
            live: parts.live,
            commands: parts.commands,
            clients,
            turn: parts.turn,
            writer: parts.writer,
            cursor: parts.cursor,
            ask: parts.ask,
            batch: Batch::default(),
            bill: Bill::default(),
            is_unpriced: false,
            growth: parts.growth,
            frame: Arc::new(frame),
            shown: Vec::new(),
            admission: None,
            tries: StepTries::default(),
            session_state: parts.session_state,
            failure: None,
            replies: Vec::new(),
            _servers: servers,
        }
    }

    /// Works on the turn until it has ended or this node stops.
    pub(crate) async fn run(mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match Box::pin(self.act(action)).await {
                Ok(next) => actions.extend(next),
                Err(Stopped) => break,
            }
        }
    }

    async fn act(&mut self, action: Action) -> Result<Vec<Action>, Stopped> {
        match action {
            Action::BeginModel => self.begin_model(None).await,
            Action::BeginModelAgain { step, call } => self.begin_model(Some((step, call))).await,
            Action::RunModel => self.run_model().await,
            Action::BeginTool(request) => self.begin_tool(&request, None).await,
            Action::BeginToolAgain { step, call, request } => {
                self.begin_tool(&request, Some((step, call))).await
            }
            Action::RunTool => self.run_tool().await,
            Action::AwaitDecision(step) => self.await_decision(&step).await,
            Action::LoseModel { step, call, attempt, intent } => {
                self.lose_model(step, call, attempt, &intent)
            }
            Action::LoseTool { step, call, intent } => self.lose_tool(step, call, &intent),
            Action::Abandon(step) => {
                self.mark_item(&step, "abandoned");
                self.note(Event::Abandoned { step })
            }
            Action::Close(ending) => self.close(ending).await,
        }
    }

    /// Takes what happened into the state and the batch: it becomes durable with the next commit.
    pub(crate) fn note(&mut self, event: Event) -> Result<Vec<Action>, Stopped> {
        let actions = self.apply(&event)?;
        self.batch.events.push(event);
        Ok(actions)
    }

    pub(crate) fn apply(&mut self, event: &Event) -> Result<Vec<Action>, Stopped> {
        self.turn.apply(event).map_err(|misfit| self.misfit(&misfit))
    }

    fn misfit(&self, misfit: &Misfit) -> Stopped {
        let response = self.cursor.response.as_str();
        tracing::error!(response, %misfit, "a turn's state and its events do not fit");
        Stopped
    }

    /// Ends the turn because of this failure.
    fn fail(&mut self, failure: Failure) -> Vec<Action> {
        self.tries.let_go();
        let error = ErrorRecord { code: failure.code, message: failure.message.clone() };
        self.failure = Some(failure);
        vec![Action::Close(Ending::Failed { error })]
    }

    /// What a step asks the pipeline.
    fn incoming(&self, step: &StepId, call: Option<CallId>, kind: CallKind) -> Incoming {
        let root_call = self.turn.root_call();
        Incoming {
            credential: Credential::Known(Arc::clone(&self.ask.principal)),
            door: Door::Session,
            headers: CommonHeaders {
                session_name: None,
                task: Some(self.turn.task().to_owned()),
                class: self.turn.class().map(str::to_owned),
                budget: self.turn.budget(),
                metadata: self.turn.metadata().clone(),
                trace: self.ask.trace,
                attempts: None,
                tier: self.turn.tier(),
                gateway: self.turn.gateway().map(str::to_owned),
                asks: self.asks(&kind),
            },
            step: Some(StepRef {
                session: self.cursor.session.clone(),
                root: self.ask.root.clone(),
                step: step.clone(),
                begun: self.batch.opening.is_none(),
            }),
            parent: root_call.filter(|root| call.as_ref() != Some(*root)).cloned(),
            id: call,
            kind,
        }
    }

    /// What its client asks about the way of a step. A tool that runs is not cut by the client's
    /// time: its effect would be in doubt.
    fn asks(&self, kind: &CallKind) -> Option<Box<RouteAsk>> {
        let CallKind::Model(_) = kind else { return None };
        let until = self.ask.until.map(|until| until.saturating_sub(self.parts.clock.monotonic()));
        let asks = self.turn.asks().cloned();
        match until {
            Some(_) => Some(Box::new(RouteAsk { time: until, ..asks.unwrap_or_default() })),
            None => asks.map(Box::new),
        }
    }

    /// Counts what the step that goes on was charged before this run.
    pub(crate) fn charge_before(&mut self, row: &storage::LedgerRow) {
        let open = self.turn.steps().last().filter(|step| step.tool.is_none());
        let Some(open) = open else { return };
        let is_summary = row.step.is_none() && row.parent.as_ref() == Some(&open.call);
        if is_summary || row.step.as_ref() == Some(&open.id) {
            self.tries.charge(row);
        }
    }

    /// Takes the row of an attempt that has ended.
    fn settle(&mut self, row: storage::LedgerRow) {
        self.add_to_bill(&row);
        self.batch.ledger.push(row);
    }

    /// Adds what an attempt cost.
    pub(crate) fn add_to_bill(&mut self, row: &storage::LedgerRow) {
        if row.error.is_none() || row.cost != types::Money::default() {
            self.bill.cost = Some(self.bill.cost.unwrap_or_default().saturating_add(row.cost));
        }
        self.is_unpriced |= row.kind == "model" && row.price_version.is_none();
        if self.is_unpriced {
            // An unknown price is not zero.
            self.bill.cost = None;
        }
        self.bill.attempts += 1;
        self.bill.over_bound |= row.over_bound;
        if let Some(context) = pipeline::context::shown(&row.notes) {
            self.bill.context = Some(context);
        }
        if let Some(tier) = pipeline::auto::shown(&row.notes) {
            self.bill.tier = Some(tier);
        }
        self.bill.output_cap = self.bill.output_cap.or(row.output_cap);
        for name in &row.dropped {
            if !self.bill.dropped.contains(name) {
                self.bill.dropped.push(name.clone());
            }
        }
    }

    /// The finished item with this id, with its output index.
    fn finished_item(&self, item_id: &str) -> Option<(u64, Value)> {
        let is_it = |item: &Value| item.get("id").and_then(Value::as_str) == Some(item_id);
        self.writer.indexed_output().iter().find(|(_, item)| is_it(item)).cloned()
    }

    /// Says at its item how a tool step stands.
    fn mark_item(&mut self, step: &StepId, state: &str) {
        let Some(request) = self.turn.waiting().front() else { return };
        let mark = json!({ "state": state, "step": step });
        self.writer.set_item_extra(&request.item_id, "holdfast", mark);
    }

    /// Writes the end of the turn.
    async fn close(&mut self, ending: Ending) -> Result<Vec<Action>, Stopped> {
        if stop::wants(Point::BeforeTerminal) {
            self.commit_batch().await?;
            stop::at(Point::BeforeTerminal);
        }
        let (usage, now) = (self.turn.usage(), self.parts.clock.now());
        let events = match &ending {
            Ending::Completed => self.writer.completed(usage, now),
            Ending::Incomplete { reason } => self.writer.incomplete(reason, usage),
            Ending::Cancelled => self.writer.cancelled(usage),
            Ending::Failed { error } => {
                let told = self.failure.get_or_insert_with(|| failure_of(error)).clone();
                let call = self.turn.root_call().cloned();
                self.writer.failed(&told, call.as_ref(), usage)
            }
        };
        let response = events.last().and_then(|event| event.get("response")).cloned();
        let response = response.unwrap_or(Value::Null);
        self.batch.send(&events);
        let about = &self.live.about;
        self.batch
            .items
            .extend(self.writer.output().iter().filter_map(|item| item_row(about, item)));
        self.batch.close = Some(ResponseWrite::Close {
            id: self.cursor.response.clone(),
            status: ending.status(),
            response: response.to_string(),
            finished_at: now,
        });
        self.session_state = SessionState::Idle;
        let actions = self.note(Event::TurnClosed { ending: ending.clone() })?;
        let failure = self.failure.take().filter(|_| matches!(ending, Ending::Failed { .. }));
        self.batch.ended = Some(Ended { response, failure });
        self.commit_batch().await?;
        Ok(actions)
    }

    /// Shows the response object as it is before its end: with the items that wait for a tool.
    pub(crate) fn show(&mut self) {
        // An item that is finished does not change: only new ones are copied.
        let mut before = std::mem::take(&mut self.shown).into_iter().peekable();
        for (index, item) in self.writer.indexed_output() {
            while before.next_if(|(at, _)| at < index).is_some() {}
            let kept = before.next_if(|(at, _)| at == index);
            self.shown.push(kept.unwrap_or_else(|| (*index, Arc::new(item.clone()))));
        }
        let waiting = self.writer.waiting_items().into_iter();
        let waiting = waiting.map(|(index, item)| (index, Arc::new(item)));
        let mut items: Vec<(u64, Arc<Value>)> = self.shown.iter().cloned().chain(waiting).collect();
        items.sort_by_key(|(index, _)| *index);
        self.live.show(Arc::clone(&self.frame), items, self.bill.clone());
    }
}

/// An item of this turn, so that clients can refer to it by its id.
pub(crate) fn item_row(about: &About, item: &Value) -> Option<ItemRow> {
    let id = item.get("id").and_then(Value::as_str)?.to_owned();
    Some(ItemRow {
        item: id,
        response: about.response.clone(),
        account: about.account.clone(),
        user: about.user.clone(),
        body: item.to_string(),
    })
}

/// A journaled failure as clients are told it.
fn failure_of(error: &ErrorRecord) -> Failure {
    Failure::new(error.code, error.message.clone())
}

/// The row of an attempt whose outcome a crash lost: its answer ended before it was whole, and
/// nobody knows what it cost.
pub(crate) fn lost_row(parts: &Parts, intent: &pipeline::StepIntent) -> storage::LedgerRow {
    let row = parts.pipeline.lost_row(intent, parts.clock.now());
    storage::LedgerRow { error: Some(ErrorCode::StreamCut), ..row }
}

/// What somebody is told who wants to settle a step that is not in doubt.
fn not_in_doubt() -> Failure {
    Failure::new(ErrorCode::Conflict, "this step is not in doubt: there is nothing to decide")
}

/// Answers a decision that came when nothing was in doubt.
fn refuse_decision(reply: oneshot::Sender<Result<Step, Failure>>) {
    // Whoever asked may be gone.
    reply.send(Err(not_in_doubt())).unwrap_or(());
}
