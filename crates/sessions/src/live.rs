//! An open turn as the rest of the process sees it: its events so far, who listens, and how to tell
//! it something.
//!
//! Only events that are durable get here. The newest are kept in memory, older ones are read from
//! the store, so a slow reader costs no memory and stops nobody. Readers each have their own place
//! and see every event once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use pipeline::Bill;
use serde_json::Value;
use storage::{ResponseEvent, Store};
use tokio::sync::{mpsc, oneshot, watch};
use types::clock::SharedClock;
use types::ids::{CallId, ResponseId, SessionId};
use types::{ErrorCode, Failure};

use crate::state::{Decision, Step};
use crate::{EventStream, StreamEvent};

/// Events of one turn that are kept in memory.
const TAIL_EVENTS_MAX: usize = 4_096;
/// Bytes of them, unless a single one is larger: what a reader falls behind by for a moment.
const TAIL_BYTES_MAX: usize = 1024 * 1024;
/// Events that are read from the store at once: a single one may have some hundred kilobytes.
pub(crate) const EVENTS_READ_MAX: usize = 128;
/// A stream that was silent for so long sends a `keepalive`.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);
/// Commands that may wait for a turn.
const COMMANDS_MAX: usize = 16;

/// What a turn can be told.
#[derive(Debug)]
pub(crate) enum Command {
    /// End.
    Cancel {
        /// Who says so.
        by: String,
    },
    /// A step in doubt is settled.
    Resolve {
        /// The step.
        step: String,
        /// How.
        decision: Decision,
        /// By whom.
        by: String,
        /// Answered once it is durable.
        reply: oneshot::Sender<Result<Step, Failure>>,
    },
}

/// How far a turn is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Events that are durable.
    pub(crate) events: u64,
    /// The step that waits for a decision.
    pub(crate) doubt: Option<Step>,
    /// The response object and the failure, if it failed, once the turn has ended.
    pub(crate) ended: Option<Arc<Ended>>,
    /// This node does not work on it any more.
    pub(crate) stopped: bool,
}

/// A turn's end.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// The response object.
    pub(crate) response: Value,
    /// Why it failed, if it did.
    pub(crate) failure: Option<Failure>,
}

/// Whose turn it is and what it was asked as.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) response: ResponseId,
    pub(crate) session: SessionId,
    /// The session from which that one descends.
    pub(crate) root: SessionId,
    pub(crate) call: CallId,
    pub(crate) account: String,
    pub(crate) user: String,
    pub(crate) background: bool,
}

/// An open turn.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) about: About,
    store: Arc<dyn Store>,
    clock: SharedClock,
    tail: Mutex<Tail>,
    progress: watch::Sender<Progress>,
    clients: watch::Sender<usize>,
    commands: mpsc::Sender<Command>,
    shown: Mutex<Shown>,
    /// Streams of it: nobody else has to wake for each event.
    streams: AtomicUsize,
}

/// What is shown of a turn that has not ended.
#[derive(Debug, Default)]
struct Shown {
    bill: Bill,
    /// The response object without its output.
    frame: Arc<Value>,
    items: Vec<(u64, Arc<Value>)>,
}

#[derive(Debug)]
struct Tail {
    /// Number of the first event in `events`.
    first: u64,
    events: VecDeque<StreamEvent>,
    bytes: usize,
}

impl Tail {
    fn add(&mut self, events: Vec<StreamEvent>) {
        self.bytes += events.iter().map(|event| event.body.len()).sum::<usize>();
        self.events.extend(events);
        // The newest stays however large it is: whoever reads along needs it at once.
        while self.events.len() > TAIL_EVENTS_MAX
            || (self.bytes > TAIL_BYTES_MAX && self.events.len() > 1)
        {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.body.len();
            self.first += 1;
        }
    }
}

impl Live {
    /// A turn of which `events` are durable already.
    pub(crate) fn new(
        about: About,
        store: Arc<dyn Store>,
        clock: SharedClock,
        events: u64,
    ) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let live = Self {
            about,
            store,
            clock,
            tail: Mutex::new(Tail { first: events, events: VecDeque::new(), bytes: 0 }),
            progress: watch::Sender::new(Progress { events, ..Progress::default() }),
            clients: watch::Sender::new(0),
            commands,
            shown: Mutex::default(),
            streams: AtomicUsize::new(0),
        };
        (Arc::new(live), received)
    }

    /// Adds events that have become durable, and the turn's end if it came with them: whoever sees
    /// the terminal event finds the turn ended.
    pub(crate) fn publish(&self, events: Vec<StreamEvent>, ended: Option<Ended>) {
        let durable = {
            let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.add(events);
            tail.first + tail.events.len() as u64
        };
        self.progress.send_if_modified(|progress| {
            progress.events = durable;
            let has_ended = ended.is_some();
            if let Some(ended) = ended {
                progress.doubt = None;
                progress.ended = Some(Arc::new(ended));
            }
            // A stream counts itself before it looks how far the turn is, and this runs while
            // nobody can look: one that is not counted here sees these events when it looks.
            has_ended || self.streams.load(Ordering::SeqCst) > 0
        });
    }

    /// Says which step waits for a decision, or that none does.
    pub(crate) fn set_doubt(&self, doubt: Option<Step>) {
        self.progress.send_if_modified(|progress| {
            let changed = progress.doubt != doubt;
            progress.doubt = doubt;
            changed
        });
    }

    /// Says that this node does not work on it any more, unless it has ended.
    pub(crate) fn stop_unless_ended(&self) {
        self.progress.send_modify(|progress| progress.stopped = progress.ended.is_none());
    }

    /// Sets what is shown of a turn that has not ended.
    pub(crate) fn show(&self, frame: Arc<Value>, items: Vec<(u64, Arc<Value>)>, bill: Bill) {
        let shown = Shown { bill, frame, items };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// What it has cost so far.
    pub(crate) fn bill(&self) -> Bill {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).bill.clone()
    }

    /// The response object now.
    pub(crate) fn response(&self) -> Value {
        if let Some(ended) = &self.progress.borrow().ended {
            return ended.response.clone();
        }
        let (frame, items) = {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&shown.frame), shown.items.clone())
        };
        let mut response = (*frame).clone();
        if let Some(fields) = response.as_object_mut() {
            let output = items.iter().map(|(_, item)| (**item).clone()).collect();
            fields.insert("output".to_owned(), Value::Array(output));
        }
        response
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// How many clients hold on to it.
    pub(crate) fn clients(&self) -> watch::Receiver<usize> {
        self.clients.subscribe()
    }

    /// Tells it something.
    pub(crate) async fn tell(&self, command: Command) -> Result<(), Failure> {
        self.commands.send(command).await.map_err(|_| gone())
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Result<Arc<Ended>, Failure> {
        let mut progress = self.progress.subscribe();
        let done = progress.wait_for(|progress| progress.ended.is_some() || progress.stopped).await;
        done.ok().and_then(|progress| progress.ended.clone()).ok_or_else(gone)
    }

    /// Waits for its end, or for a step that needs a decision.
    pub(crate) async fn answer(&self) -> Result<Arc<Ended>, Failure> {
        let mut progress = self.progress.subscribe();
        let settled = progress.wait_for(|progress| {
            progress.ended.is_some() || progress.stopped || progress.doubt.is_some()
        });
        let Ok(progress) = settled.await.map(|progress| progress.clone()) else {
            return Err(gone());
        };
        match (progress.ended, progress.doubt) {
            (Some(ended), _) => Ok(ended),
            (None, Some(step)) => Err(in_doubt(&self.about.session, &self.about.response, &step)),
            (None, None) => Err(gone()),
        }
    }

    /// The events that are in memory from `from` on; `None` if that is not in memory any more.
    fn tail_from(&self, from: u64) -> Option<Vec<StreamEvent>> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.checked_sub(tail.first)?).ok()?;
        Some(tail.events.iter().skip(skip).cloned().collect())
    }
}

/// A client's hold on a turn, while it lives.
#[derive(Debug)]
pub(crate) struct Attachment(Arc<Live>);

impl Attachment {
    pub(crate) fn new(live: &Arc<Live>) -> Arc<Self> {
        live.clients.send_modify(|clients| *clients += 1);
        Arc::new(Self(Arc::clone(live)))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.clients.send_modify(|clients| *clients = clients.saturating_sub(1));
    }
}

/// A reader's place in a turn that may be open.
struct Reader {
    live: Arc<Live>,
    progress: watch::Receiver<Progress>,
    next: u64,
    buffer: VecDeque<StreamEvent>,
    done: bool,
    /// Held while the stream lives, if the stream is what the client waits for.
    _attachment: Option<Arc<Attachment>>,
}

impl Live {
    /// Its events from number `from` on, stored and live, with keepalives.
    pub(crate) fn stream(
        self: &Arc<Self>,
        from: u64,
        attachment: Option<Arc<Attachment>>,
    ) -> EventStream {
        self.streams.fetch_add(1, Ordering::SeqCst);
        let reader = Reader {
            live: Arc::clone(self),
            progress: self.progress.subscribe(),
            next: from,
            buffer: VecDeque::new(),
            done: false,
            _attachment: attachment,
        };
        stream::unfold(reader, |mut reader| async move {
            let event = reader.event().await?;
            Some((event, reader))
        })
        .boxed()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.live.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Reader {
    async fn event(&mut self) -> Option<StreamEvent> {
        loop {
            if let Some(event) = self.buffer.pop_front() {
                self.next = event.sequence.map_or(self.next, |sequence| sequence + 1);
                self.done |= event.is_terminal();
                return Some(event);
            }
            if self.done {
                return None;
            }
            let progress = self.progress.borrow_and_update().clone();
            if self.next < progress.events {
                self.fill().await?;
                continue;
            }
            if progress.ended.is_some() || progress.stopped {
                return None;
            }
            let silent = self.live.clock.sleep(KEEPALIVE);
            tokio::select! {
                changed = self.progress.changed() => changed.ok()?,
                // Before `response.created` a keepalive would break clients.
                () = silent => if self.next > 0 { return Some(keepalive()) },
            }
        }
    }

    /// Takes the next events from memory, else from the store; `None` if neither has them.
    async fn fill(&mut self) -> Option<()> {
        if let Some(events) = self.live.tail_from(self.next) {
            self.buffer.extend(events);
            return Some(());
        }
        let response = &self.live.about.response;
        let page = self.live.store.response_events(response, self.next, EVENTS_READ_MAX).await;
        match page {
            Ok(page) if !page.is_empty() => self.buffer.extend(page.into_iter().map(from_row)),
            Ok(_) => return None,
            Err(error) => {
                tracing::warn!(response = response.as_str(), %error, "a stream's events were not read");
                return None;
            }
        }
        Some(())
    }
}

/// The events of a turn that has ended, from the store.
pub(crate) fn stored_stream(store: Arc<dyn Store>, response: ResponseId, from: u64) -> EventStream {
    let pages = stream::unfold(Some(from), move |from| {
        let (store, response) = (Arc::clone(&store), response.clone());
        async move {
            let from = from?;
            let page = match store.response_events(&response, from, EVENTS_READ_MAX).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(response = response.as_str(), %error, "a stream's events were not read");
                    return None;
                }
            };
            let next = page.last().map(|event| event.sequence + 1);
            let events: Vec<StreamEvent> = page.into_iter().map(from_row).collect();
            Some((stream::iter(events), next))
        }
    });
    pages.flatten().boxed()
}

/// An event of the format's writer, as it is stored and sent.
pub(crate) fn stream_event(event: &Value) -> StreamEvent {
    let name = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let sequence = event.get("sequence_number").and_then(Value::as_u64);
    StreamEvent { name, sequence, body: event.to_string().into() }
}

fn from_row(row: ResponseEvent) -> StreamEvent {
    // The writer puts the type first, so that it can be had without reading the whole event.
    let name = row.body.strip_prefix("{\"type\":\"").and_then(|rest| rest.split('"').next());
    StreamEvent {
        name: name.unwrap_or_default().to_owned(),
        sequence: Some(row.sequence),
        body: row.body.into(),
    }
}

pub(crate) fn keepalive() -> StreamEvent {
    stream_event(&formats::openai_responses::keepalive_event())
}

/// What a client is told whose turn this node has stopped working on.
fn gone() -> Failure {
    Failure::new(
        ErrorCode::Unavailable,
        "this node is stopping; the response goes on when it is back",
    )
    .retry_after(Duration::from_secs(1))
}

/// What a client is told about a step that waits for a decision.
pub(crate) fn in_doubt(session: &SessionId, response: &ResponseId, step: &Step) -> Failure {
    let tool = step.tool.as_deref().unwrap_or("?");
    let message = format!(
        "step {step} of response {response} in session {session} is in doubt: it called the tool \
         {tool:?} and nobody knows whether that had its effect. Settle it with POST /api/sessions/{session}/steps/{step}/resolve or \
         `holdfast sessions resolve`, or cancel the response",
        step = step.id
    );
    Failure {
        param: Some(step.id.as_str().into()),
        ..Failure::new(ErrorCode::SessionInDoubt, message)
    }
}
