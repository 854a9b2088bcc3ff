//! The first thing that a node does: takes over the turns that the last run left open. Later it
//! takes over those that its own runners gave up, when somebody asks for them.
//!
//! Each is told anew from its journal; what its stream had sent is read from its events, so that it
//! goes on with the next number, and items that a cut model call had begun are closed before it is
//! asked again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use formats::openai_responses::{
    CreateResponse, EventWriter, InputItem, NewId, ResponseSkeleton, called_name, ids_of,
    parse_create, read_item, signature_of,
};
use serde_json::Value;
use storage::journal::JOURNAL_PAGE_MAX;
use storage::{CallFilter, JournalQuery, JournalRow, Response, Session};
use types::ids::ResponseId;
use types::outcome::Delta;
use types::principal::Role;
use types::{ErrorCode, Failure, Principal, Timestamp};

use crate::history::{CONVERSATION_BYTES_MAX, Hold, chain_items, owner};
use crate::journal::{Cursor, items_of, replay};
use crate::live::{About, EVENTS_READ_MAX, Live};
use crate::state::{Event, Turn};
use crate::turn::{
    ANSWER_BYTES_MAX, Ask, Growth, Offer, Runner, RunnerParts, Told, answer_bytes_of, values,
};
use crate::{Inner, Recovered, Sessions, not_at_work, storage_failure};

/// Bodies of sessions that were not used for so long are removed.
const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Ledger rows that are read to know what a turn has cost: the store's own limit.
const LEDGER_ROWS_MAX: usize = 1_000;
/// How often that is looked for.
const SWEEP: Duration = Duration::from_secs(60 * 60);

impl Sessions {
    /// Takes over every open turn of the last run: goes on with background ones, parks foreground
    /// ones, shows what is in doubt. Also starts the sweep of expired sessions. Once, before the
    /// first request.
    ///
    /// # Errors
    /// `storage_unavailable`, `internal`.
    pub async fn recover(&self) -> Result<Recovered, Failure> {
        let inner = &self.inner;
        let open = inner.parts.store.open_responses().await;
        let mut recovered = Recovered::default();
        for row in open.map_err(|error| storage_failure(&error))? {
            let id = row.id.clone();
            match inner.take_over_or_close(row, None).await {
                Ok(Some(live)) => {
                    let in_doubt = live.progress().borrow().doubt.is_some();
                    recovered.open += usize::from(!in_doubt);
                    recovered.in_doubt += usize::from(in_doubt);
                }
                Ok(None) => {}
                // One turn that can't be read now must not keep the others, or the server, from
                // going on. Whoever asks for it makes this node try again.
                Err(failure) => {
                    tracing::error!(response = id.as_str(), %failure, "a turn was not taken over");
                }
            }
        }
        let sweeper = Arc::clone(inner);
        inner.parts.tracker.spawn(async move { sweeper.sweep().await });
        let forgetter = Arc::clone(inner);
        inner.parts.tracker.spawn(async move { forgetter.keep_forgetting().await });
        Ok(recovered)
    }
}

/// How a response stands on this node.
pub(crate) enum Found {
    /// Somebody works on it.
    Open(Arc<Live>),
    /// Its turn has ended.
    Ended(Box<Response>),
    /// There is none.
    Gone,
}

impl Inner {
    /// The response, worked on if its turn is open: one that nobody works on is taken over.
    /// `cancel` names who wants it to end: then it is taken over to be ended, and no further step
    /// begins.
    pub(crate) async fn at_work(
        self: &Arc<Self>,
        id: &ResponseId,
        cancel: Option<&str>,
    ) -> Result<Found, Failure> {
        if let Some(live) = self.live(id) {
            return Ok(Found::Open(live));
        }
        let lock = self.openings.of(id.as_str());
        let _one_at_a_time = lock.write().await;
        if let Some(live) = self.live(id) {
            return Ok(Found::Open(live));
        }
        let store = &self.parts.store;
        let row = store.response(id).await.map_err(|error| storage_failure(&error))?;
        let Some(row) = row else { return Ok(Found::Gone) };
        if row.status.is_final() {
            return Ok(Found::Ended(Box::new(row)));
        }
        if self.parts.shutdown.is_cancelled() {
            return Err(not_at_work());
        }
        tracing::warn!(response = id.as_str(), "taking over a turn that nobody works on");
        if let Some(live) = self.take_over_or_close(row, cancel).await? {
            return Ok(Found::Open(live));
        }
        let row = store.response(id).await.map_err(|error| storage_failure(&error))?;
        Ok(row.map_or(Found::Gone, |row| Found::Ended(Box::new(row))))
    }

    /// Takes over a turn, or ends it as failed if it can never be told anew; then there is `None`.
    async fn take_over_or_close(
        self: &Arc<Self>,
        row: Response,
        cancel: Option<&str>,
    ) -> Result<Option<Arc<Live>>, Failure> {
        match Box::pin(self.take_over(row.clone(), cancel)).await {
            Ok(live) => Ok(Some(live)),
            Err(failure) if failure.code == ErrorCode::StorageUnavailable => Err(failure),
            Err(failure) => {
                tracing::error!(
                    response = row.id.as_str(), %failure,
                    "a turn can't be taken over and is closed as failed"
                );
                self.close_broken(&row, &failure).await?;
                Ok(None)
            }
        }
    }

    async fn take_over(
        self: &Arc<Self>,
        row: Response,
        cancel: Option<&str>,
    ) -> Result<Arc<Live>, Failure> {
        let store = &self.parts.store;
        let session = store.acquire(&row.session, &self.parts.node).await;
        let session = session.map_err(|error| storage_failure(&error))?;
        let session = session.ok_or_else(|| damaged("its session is gone"))?;
        let rows = self.journal_of(&row).await?;
        let turn = replay(&rows).map_err(|error| damaged(&error.to_string()))?;
        drop(rows);
        let sent = self.sent(&row, &turn).await?;
        let body = row.request.as_deref().unwrap_or_default();
        let mut request = parse_create(body.as_bytes())?;
        request.input = Vec::new();
        let (prefix, hold) = self.prefix(&row).await?;
        let own: Vec<Value> = turn.output().iter().map(|(_, item)| item.clone()).collect();
        let offer = Offer::new(&request, &values(&prefix).chain(&own), &self.parts.tools)?;
        let writer = Box::pin(self.writer(&row, &request, &turn, &sent, &offer)).await?;
        let told = Told::new(&request, &prefix, &offer)?;
        drop(prefix);
        let growth = Growth::resumed(hold, turn.output(), sent.answer_bytes, sent.events_bytes);
        let asked = (request, told, offer, growth);
        let mut runner = self.recovered(row, session, turn, asked, writer, sent.next)?;
        if let Some(intent) = runner.turn.newest_intent() {
            self.parts.pipeline.keep_tier(intent, &runner.ask.root);
        }
        self.bill_so_far(&mut runner).await?;
        runner.live.set_doubt(runner.turn.doubt().cloned());
        if let Some(by) = cancel {
            // What follows from it is what `recover` says below.
            let noted = runner.note(Event::CancelAsked { by: by.to_owned() });
            noted.map_err(|_| damaged("its state takes no cancellation"))?;
        }
        let actions = runner.turn.recover();
        runner.show();
        let live = Arc::clone(&runner.live);
        self.add_live(&live);
        self.spawn(runner, actions);
        Ok(live)
    }

    fn recovered(
        &self,
        row: Response,
        session: Session,
        turn: Turn,
        (request, told, offer, growth): (CreateResponse, Told, Offer, Growth),
        writer: EventWriter,
        events: u64,
    ) -> Result<Runner, Failure> {
        let principal = self.parts.pipeline.principal(&row.key).unwrap_or_else(|| former(&row));
        let call = turn.root_call().cloned().ok_or_else(|| damaged("it has no first Call"))?;
        let about = About {
            response: row.id.clone(),
            session: session.id.clone(),
            root: session.root.clone(),
            call,
            account: row.account,
            user: row.user,
            background: row.background,
        };
        let (store, clock) = (Arc::clone(&self.parts.store), Arc::clone(&self.parts.clock));
        let (live, commands) = Live::new(about, store, clock, events);
        Ok(Runner::new(RunnerParts {
            parts: Arc::clone(&self.parts),
            live,
            commands,
            turn,
            writer,
            cursor: Cursor {
                session: session.id,
                response: row.id,
                epoch: session.epoch,
                next_seq: session.next_seq,
            },
            ask: Ask {
                principal,
                root: session.root,
                told,
                offer,
                background: row.background,
                streamed: row.stream || row.background,
                request,
                trace: None,
                until: None,
            },
            growth,
            session_state: session.state,
        }))
    }

    /// What the turn has cost before this run.
    async fn bill_so_far(&self, runner: &mut Runner) -> Result<(), Failure> {
        let filter = CallFilter {
            session: Some(runner.cursor.session.clone()),
            task: Some(runner.turn.task().to_owned()),
            limit: LEDGER_ROWS_MAX,
            ..CallFilter::default()
        };
        let rows = self.parts.store.calls(filter).await.map_err(|e| storage_failure(&e))?;
        let root = runner.turn.root_call().cloned();
        for row in rows {
            runner.charge_before(&row);
            // A summary is beside the turn: it has the root for its parent too, and is no step.
            let is_its = Some(&row.call) == root.as_ref() || row.parent == root;
            if is_its && row.step.is_some() {
                runner.add_to_bill(&row);
            }
        }
        Ok(())
    }

    /// All rows of the journal of a turn.
    pub(crate) async fn journal_of(&self, row: &Response) -> Result<Vec<JournalRow>, Failure> {
        let mut rows: Vec<JournalRow> = Vec::new();
        loop {
            let query = JournalQuery {
                session: row.session.clone(),
                response: Some(row.id.clone()),
                after: rows.last().map_or(0, |last| last.seq),
                limit: JOURNAL_PAGE_MAX,
            };
            let page = self.parts.store.journal(query).await.map_err(|e| storage_failure(&e))?;
            // A part of a journal would hide finished steps, which would then be run again. Only an
            // empty page says that there is no more: a store may give fewer rows than it is asked.
            if page.is_empty() {
                return Ok(rows);
            }
            rows.extend(page);
        }
    }

    /// What its stream has sent since its newest model step began.
    async fn sent(&self, row: &Response, turn: &Turn) -> Result<Sent, Failure> {
        let place = turn.newest_place();
        let mut sent = Sent {
            next: place.sequence,
            output_index: place.output_index,
            events_bytes: place.events_bytes,
            ..Sent::default()
        };
        let is_running = turn.running_model().is_some();
        self.each_event(row, place.sequence, |event, bytes| {
            sent.take(&event, bytes, is_running);
            true
        })
        .await?;
        Ok(sent)
    }

    /// Reads the events of its stream from `from` on, few at a time, until `take` has enough.
    async fn each_event(
        &self,
        row: &Response,
        from: u64,
        mut take: impl FnMut(Value, usize) -> bool + Send,
    ) -> Result<(), Failure> {
        let mut from = from;
        loop {
            let page = self.parts.store.response_events(&row.id, from, EVENTS_READ_MAX).await;
            let page = page.map_err(|error| storage_failure(&error))?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.sequence + 1;
            for event in page {
                let value = serde_json::from_str(&event.body)
                    .map_err(|_| damaged("an event of its stream can't be read"))?;
                if !take(value, event.body.len()) {
                    return Ok(());
                }
            }
        }
    }

    /// The items before the turn's own output.
    async fn prefix(&self, row: &Response) -> Result<(Vec<InputItem>, Hold), Failure> {
        let mut prefix = Vec::new();
        let mut bytes = row.request.as_ref().map_or(0, String::len) as u64;
        if let Some(previous) = &row.previous {
            let chain = self.parts.store.chain(previous, CONVERSATION_BYTES_MAX).await;
            let mut chain = chain.map_err(|e| storage_failure(&e))?;
            if !chain.fits || chain.links.iter().any(|link| link.is_deleted) {
                return Err(damaged("a response that it continues was deleted"));
            }
            prefix = chain_items(&mut chain.links)?;
            bytes = bytes.saturating_add(chain.bytes);
        }
        prefix.extend(read_items(items_of(row.input.as_deref().unwrap_or_default()))?);
        Ok((prefix, self.held.take_anyway(&owner(&row.account, &row.user), bytes)))
    }

    /// A writer that goes on where the stream was cut.
    async fn writer(
        &self,
        row: &Response,
        request: &CreateResponse,
        turn: &Turn,
        sent: &Sent,
        offer: &Offer,
    ) -> Result<EventWriter, Failure> {
        let fresh = || ids_of(Arc::clone(&self.parts.ids));
        let make = |ids: NewId, sequence: u64, output_index: u64| {
            let skeleton = ResponseSkeleton::new(row.id.as_str(), row.created_at, request);
            let writer = EventWriter::new(skeleton, ids, sequence, output_index);
            let waiting =
                turn.waiting().iter().map(|request| (request.output_index, request.item.clone()));
            let items = turn.output().iter().cloned().chain(waiting).collect();
            writer.with_mcp_tools(offer.owners.clone()).restore(items)
        };
        // An answer that was too long already is ended, not told anew.
        if let Some((_, place)) = turn.running_model()
            && sent.answer_bytes <= ANSWER_BYTES_MAX
        {
            let ids = recorded_ids(sent.ids.clone(), fresh());
            let mut writer = make(ids, place.sequence, place.output_index);
            writer.begin_model_call();
            let tell = |event: Value, _| {
                delta_of(&event).iter().for_each(|delta| drop(writer.delta(delta)));
                true
            };
            self.each_event(row, place.sequence, tell).await?;
            if writer.next_sequence() == sent.next {
                return Ok(writer);
            }
            tracing::error!(response = row.id.as_str(), "a cut answer's events can't be told anew");
        }
        Ok(make(fresh(), sent.next, sent.output_index))
    }

    /// Removes the bodies of expired sessions, from time to time.
    async fn sweep(&self) {
        loop {
            let now = self.parts.clock.now();
            let life = i64::try_from(SESSION_LIFE.as_micros()).unwrap_or(i64::MAX);
            let since = Timestamp(now.0.saturating_sub(life));
            match self.parts.store.expire_sessions(since, now).await {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(removed, "removed the bodies of expired responses");
                    self.forgetting.notify_one();
                    if !self.parts.shutdown.is_cancelled() {
                        // There may be more.
                        continue;
                    }
                }
                Err(error) => tracing::warn!(%error, "expired sessions were not removed"),
            }
            self.forgetting.notify_one();
            tokio::select! {
                () = self.parts.clock.sleep(SWEEP) => {}
                () = self.parts.shutdown.cancelled() => return,
            }
        }
    }
}

/// What a stream has sent since a model step began.
#[derive(Debug, Default)]
struct Sent {
    /// The number of the next event.
    next: u64,
    /// The output index of the next item.
    output_index: u64,
    /// Bytes of the events of all the turn's models.
    events_bytes: u64,
    /// Bytes of what the running answer said.
    answer_bytes: u64,
    /// The ids of the running answer's items, in their order.
    ids: VecDeque<String>,
}

impl Sent {
    fn take(&mut self, event: &Value, bytes: usize, is_running: bool) {
        self.next += 1;
        self.events_bytes = self.events_bytes.saturating_add(bytes as u64);
        if let Some(index) = event.get("output_index").and_then(Value::as_u64) {
            self.output_index = self.output_index.max(index.saturating_add(1));
        }
        // Of one that is too long nothing more is kept.
        if !is_running || self.answer_bytes > ANSWER_BYTES_MAX {
            return;
        }
        let said = delta_of(event).map_or(0, |delta| answer_bytes_of(&delta));
        self.answer_bytes = self.answer_bytes.saturating_add(said);
        if type_of(event) == "response.output_item.added"
            && let Some(id) = event.pointer("/item/id").and_then(Value::as_str)
        {
            self.ids.push_back(id.to_owned());
        }
    }
}

/// Ids that were given before, in their order, then new ones.
fn recorded_ids(mut ids: VecDeque<String>, mut fresh: NewId) -> NewId {
    Box::new(move |prefix| ids.pop_front().unwrap_or_else(|| fresh(prefix)))
}

/// The delta that made this event, if it was one and not a consequence.
fn delta_of(event: &Value) -> Option<Delta> {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let place = || event.get("output_index").and_then(Value::as_u64);
    let index = || place().and_then(|place| u32::try_from(place).ok());
    match type_of(event) {
        "response.output_text.delta" => Some(Delta::Text { text: text("delta") }),
        "response.refusal.delta" => Some(Delta::Refusal { text: text("delta") }),
        "response.reasoning_text.delta" => Some(Delta::Reasoning { text: text("delta") }),
        // A call's place among the calls is only a name for it here: its output index is as good.
        "response.function_call_arguments.delta"
        | "response.custom_tool_call_input.delta"
        | "response.mcp_call_arguments.delta" => {
            Some(Delta::ToolCallArguments { index: index()?, json: text("delta") })
        }
        "response.output_item.added" => {
            let item = event.get("item")?;
            let field = |name: &str| item.get(name).and_then(Value::as_str);
            let kind = field("type")?;
            matches!(kind, "function_call" | "custom_tool_call" | "mcp_call").then_some(())?;
            Some(Delta::ToolCallStart {
                index: index()?,
                id: field("call_id").or_else(|| field("id"))?.to_owned(),
                name: called_name(item),
            })
        }
        "response.output_item.done" => signature_of(event.get("item")?),
        _ => None,
    }
}

fn type_of(event: &Value) -> &str {
    event.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn read_items(items: Vec<Value>) -> Result<Vec<InputItem>, Failure> {
    items.into_iter().map(|item| read_item(item, "input")).collect()
}

/// Whoever asked with a key that was deleted since: the next step is refused for want of it, which
/// ends the turn.
fn former(row: &Response) -> Arc<Principal> {
    Arc::new(Principal {
        account: row.account.as_str().into(),
        key: row.key.clone(),
        key_name: row.key.as_str().into(),
        user: row.user.as_str().into(),
        role: Role::Member,
        output_cap_default: None,
    })
}

pub(crate) fn damaged(what: &str) -> Failure {
    Failure::new(ErrorCode::Internal, what)
}
