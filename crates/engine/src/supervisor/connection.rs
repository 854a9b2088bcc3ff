//! A connection to a child: requests go out one after another, what comes back is sorted by
//! request.
//!
//! Each request has a channel of its own that has room for everything its window lets the child
//! send, so sorting never waits for a slow reader. A child that sends more than that, or what is no
//! message, is broken: its connection is closed.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Error, is_stopping};
use crate::protocol::codec::{FRAME_BYTES_MAX, FrameError, read_async, write_async};
use crate::protocol::{
    Embed, EngineFailure, FailureCode, FromEngine, Generate, Hello, Piece, ReusedFrom, Stats,
    StopReason, ToEngine, TokenUsage, unpack,
};

/// Deltas of one request that may be on their way.
const WINDOW: u32 = 64;
/// Deltas after which the child is told that they were taken.
const ACK_EVERY: u32 = WINDOW / 4;
/// Messages of one request beside its deltas: started, done or failed, and one to spare.
const OTHER_MESSAGES: usize = 4;
/// Messages that may wait to be written; also bounds the requests that wait here.
const OUTGOING_MAX: usize = 1_024;

type Pending = Mutex<HashMap<u64, mpsc::Sender<FromEngine>>>;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    hello: Hello,
    guard_pid: u32,
    next_id: AtomicU64,
    pending: Pending,
    outgoing: mpsc::Sender<ToEngine>,
    /// Nothing comes or goes any more.
    closed: CancellationToken,
    /// Nothing more is asked.
    hung_up: CancellationToken,
}

impl Connection {
    /// Begins to read and write.
    pub(super) fn open(
        stream: UnixStream,
        hello: Hello,
        guard_pid: u32,
        tasks: &TaskTracker,
    ) -> Arc<Self> {
        let (outgoing, to_write) = mpsc::channel(OUTGOING_MAX);
        let connection = Arc::new(Self {
            hello,
            guard_pid,
            next_id: AtomicU64::new(1),
            pending: Mutex::default(),
            outgoing,
            closed: CancellationToken::new(),
            hung_up: CancellationToken::new(),
        });
        let (read_half, write_half) = stream.into_split();
        tasks.spawn(Arc::clone(&connection).read(read_half));
        tasks.spawn(Arc::clone(&connection).write(write_half, to_write));
        connection
    }

    /// What the child said first.
    pub(super) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Process id of the child's guard.
    pub(super) fn guard_pid(&self) -> u32 {
        self.guard_pid
    }

    /// Whether requests can be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.is_cancelled() && !self.hung_up.is_cancelled()
    }

    /// Ends when nothing comes any more.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Everything in flight is lost.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Asks nothing more; what is in flight may still be answered.
    pub(super) fn hang_up(&self) {
        self.hung_up.cancel();
    }

    /// Asks nothing more, if nothing is in flight; answers whether that is so.
    pub(super) fn hang_up_if_idle(&self) -> bool {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.is_empty() {
            self.hung_up.cancel();
        }
        pending.is_empty()
    }

    /// Starts a generation, unless more than `queue_max` others wait for a place.
    pub(super) fn generate(
        self: &Arc<Self>,
        mut request: Generate,
        queue_max: Option<u32>,
    ) -> Result<Generation, Error> {
        let enlisted = self.enlist(WINDOW as usize + OTHER_MESSAGES, self.most(queue_max));
        let (id, events) = enlisted.ok_or_else(|| self.no_place())?;
        request.id = id;
        request.window = WINDOW;
        let asked = Asked { connection: Arc::clone(self), id, over: false };
        let sent = self.outgoing.try_send(ToEngine::Generate(Box::new(request)));
        sent.map_err(|_full_or_closed| self.no_room())?;
        Ok(Generation { asked, events, taken: 0 })
    }

    /// Asks for vectors, unless more than `queue_max` others wait for a place.
    pub(super) fn embed(
        self: &Arc<Self>,
        mut request: Embed,
        queue_max: Option<u32>,
    ) -> Result<Embedding, Error> {
        let texts = request.texts.len();
        let enlisted = self.enlist(texts + OTHER_MESSAGES, self.most(queue_max));
        let (id, events) = enlisted.ok_or_else(|| self.no_place())?;
        request.id = id;
        let asked = Asked { connection: Arc::clone(self), id, over: false };
        let sent = self.outgoing.try_send(ToEngine::Embed(Box::new(request)));
        sent.map_err(|_full_or_closed| self.no_room())?;
        let dimensions = self.hello.model.dimensions as usize;
        Ok(Embedding { asked, events, vectors: vec![None; texts], dimensions })
    }

    /// Requests that there may be with one more, if `queue_max` of them may wait.
    fn most(&self, queue_max: Option<u32>) -> Option<u64> {
        let places = u64::from(self.hello.model.sequences);
        queue_max.map(|queue_max| places.saturating_add(u64::from(queue_max)))
    }

    fn no_place(&self) -> Error {
        if self.is_open() { Error::Busy } else { Error::Lost }
    }

    fn no_room(&self) -> Error {
        if self.is_open() {
            Error::unavailable("too many requests wait to be sent")
        } else {
            Error::Lost
        }
    }

    /// Writes every held session to disk.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        self.ask(|id| ToEngine::Flush { id }).await.map(|_flushed| ())
    }

    /// Forgets a session.
    pub(super) async fn drop_session(&self, account: &str, session: &str) -> Result<(), Error> {
        let (account, session) = (account.to_owned(), session.to_owned());
        let dropped = self.ask(|id| ToEngine::Drop { id, account, session }).await;
        dropped.map(|_dropped| ())
    }

    /// The child's figures.
    pub(super) async fn stats(&self) -> Result<Stats, Error> {
        match self.ask(|id| ToEngine::Stats { id }).await? {
            FromEngine::Stats { stats, .. } => Ok(stats),
            _ => Err(Error::Lost),
        }
    }

    async fn ask(&self, message: impl FnOnce(u64) -> ToEngine) -> Result<FromEngine, Error> {
        let (id, mut answers) = self.enlist(1, None).ok_or_else(|| self.no_place())?;
        let sent = self.outgoing.send(message(id)).await;
        sent.map_err(|_closed| Error::Lost)?;
        let answer = tokio::select! {
            answer = answers.recv() => answer,
            () = self.closed.cancelled() => None,
        };
        self.strike(id);
        match answer {
            Some(FromEngine::Failed { failure, .. }) => Err(Error::Refused(failure)),
            Some(answer) => Ok(answer),
            None => Err(Error::Lost),
        }
    }

    /// Makes room for a request's answers, if there are fewer than `most` other requests and
    /// something can still be asked.
    fn enlist(&self, room: usize, most: Option<u64>) -> Option<(u64, mpsc::Receiver<FromEngine>)> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(room);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = most.is_some_and(|most| pending.len() as u64 >= most);
        if is_full || self.hung_up.is_cancelled() {
            return None;
        }
        pending.insert(id, sender);
        drop(pending);
        if self.closed.is_cancelled() {
            // Closed meanwhile: whoever closed it may have looked before this was there.
            self.strike(id);
        }
        Some((id, receiver))
    }

    fn strike(&self, id: u64) -> bool {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).is_some()
    }

    async fn read(self: Arc<Self>, half: OwnedReadHalf) {
        let mut reader = BufReader::new(half);
        loop {
            let message = tokio::select! {
                message = read_async(&mut reader) => message,
                () = self.closed.cancelled() => break,
            };
            match message {
                Ok(Some(message)) => {
                    if !self.sort(message) {
                        tracing::error!("an engine sent what nobody asked for; it is dropped");
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "an engine sent what is no message; it is dropped");
                    break;
                }
            }
        }
        self.close();
    }

    /// Gives a message to whom it is for; `false` if there was no room, which the protocol rules
    /// out.
    fn sort(&self, message: FromEngine) -> bool {
        let (id, last) = match &message {
            FromEngine::Hello(_) => return false,
            FromEngine::Started { id, .. }
            | FromEngine::Delta { id, .. }
            | FromEngine::Vector { id, .. } => (*id, false),
            FromEngine::Done { id, .. }
            | FromEngine::Embedded { id, .. }
            | FromEngine::Failed { id, .. }
            | FromEngine::Flushed { id }
            | FromEngine::Dropped { id }
            | FromEngine::Stats { id, .. } => (*id, true),
        };
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for it any more: it was cancelled.
        let Some(to) = pending.get(&id) else { return true };
        let taken = match to.try_send(message) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => false,
        };
        if last {
            pending.remove(&id);
        }
        taken
    }

    /// Answers a request that can't be sent.
    fn refuse(&self, id: u64, param: &str) {
        let message = format!("the request has more than {FRAME_BYTES_MAX} bytes");
        let failure = EngineFailure::new(FailureCode::InvalidRequest, message).param(param);
        // There is room for a first message.
        self.sort(FromEngine::Failed { id, failure });
    }

    async fn write(self: Arc<Self>, half: OwnedWriteHalf, mut to_write: mpsc::Receiver<ToEngine>) {
        let mut writer = BufWriter::new(half);
        let written = tokio::select! {
            written = write_all(&mut writer, &mut to_write, |id, param| self.refuse(id, param)) => written,
            () = self.closed.cancelled() => return,
            // Dropping the write half is what the child sees as the end.
            () = self.hung_up.cancelled() => Ok(()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "writing to an engine");
            self.close();
        }
    }
}

async fn write_all(
    writer: &mut BufWriter<OwnedWriteHalf>,
    to_write: &mut mpsc::Receiver<ToEngine>,
    refuse: impl Fn(u64, &str),
) -> Result<(), FrameError> {
    while let Some(message) = to_write.recv().await {
        match write_async(writer, &message).await {
            // It was refused before a byte of it was written.
            Err(error @ FrameError::Size { .. }) => {
                tracing::warn!(%error, "a request is too large");
                match &message {
                    ToEngine::Generate(request) => refuse(request.id, "messages"),
                    ToEngine::Embed(request) => refuse(request.id, "input"),
                    ToEngine::Cancel { .. }
                    | ToEngine::Ack { .. }
                    | ToEngine::Flush { .. }
                    | ToEngine::Drop { .. }
                    | ToEngine::Stats { .. } => {}
                }
            }
            written => written?,
        }
        if to_write.is_empty() {
            writer.flush().await?;
        }
    }
    Ok(())
}

/// A request in flight. Dropping it cancels it.
#[derive(Debug)]
struct Asked {
    connection: Arc<Connection>,
    id: u64,
    over: bool,
}

/// A generation in progress: a stream of events that ends with `Done` or an error. Dropping it
/// cancels it.
#[derive(Debug)]
pub struct Generation {
    asked: Asked,
    events: mpsc::Receiver<FromEngine>,
    /// Deltas taken and not acknowledged.
    taken: u32,
}

/// What happens in a generation.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It left the queue.
    Started {
        /// Tokens of the whole prompt.
        prompt_tokens: u64,
        /// Of these: held state.
        reused_tokens: u64,
        /// Where that came from.
        reused_from: ReusedFrom,
    },
    /// A piece of the answer.
    Piece(Piece),
    /// It is whole.
    Done {
        /// Why it stopped.
        stop: StopReason,
        /// What was counted.
        usage: TokenUsage,
    },
}

impl Stream for Generation {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.asked.over {
            return Poll::Ready(None);
        }
        let message = std::task::ready!(self.events.poll_recv(context));
        let event = match message {
            Some(FromEngine::Started { prompt_tokens, reused_tokens, reused_from, .. }) => {
                Ok(Event::Started { prompt_tokens, reused_tokens, reused_from })
            }
            Some(FromEngine::Delta { piece, .. }) => {
                self.acknowledge();
                Ok(Event::Piece(piece))
            }
            Some(FromEngine::Done { stop, usage, .. }) => {
                self.asked.over = true;
                Ok(Event::Done { stop, usage })
            }
            Some(FromEngine::Failed { failure, .. }) if !is_stopping(&failure) => {
                self.asked.over = true;
                Err(Error::Refused(failure))
            }
            Some(_) | None => {
                self.asked.over = true;
                Err(Error::Lost)
            }
        };
        Poll::Ready(Some(event))
    }
}

impl Generation {
    fn acknowledge(&mut self) {
        self.taken += 1;
        if self.taken >= ACK_EVERY {
            let ack = ToEngine::Ack { id: self.asked.id, deltas: self.taken };
            // Without room it is told with the next one.
            if self.asked.connection.outgoing.try_send(ack).is_ok() {
                self.taken = 0;
            }
        }
    }
}

/// Vectors in the making. Dropping it cancels that.
#[derive(Debug)]
pub struct Embedding {
    asked: Asked,
    events: mpsc::Receiver<FromEngine>,
    vectors: Vec<Option<Vec<f32>>>,
    /// Numbers of each vector.
    dimensions: usize,
}

/// The vectors of a request's texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// A vector for each text, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub prompt_tokens: u64,
}

impl Embedding {
    /// Waits until the first text is being computed. Dropping this future loses nothing.
    ///
    /// # Errors
    /// The engine refused the request, or ended.
    pub async fn started(&mut self) -> Result<(), Error> {
        match self.events.recv().await {
            Some(FromEngine::Started { .. }) => Ok(()),
            other => Err(self.fail(other)),
        }
    }

    /// Waits for all vectors.
    ///
    /// # Errors
    /// The engine refused the request, ended, or sent what are no vectors of its model.
    pub async fn whole(mut self) -> Result<Embedded, Error> {
        loop {
            match self.events.recv().await {
                Some(FromEngine::Started { .. }) => {}
                Some(FromEngine::Vector { index, numbers, .. }) => {
                    let place = self.vectors.get_mut(index as usize).ok_or(Error::Lost)?;
                    let vector = unpack(&numbers);
                    let vector = vector.filter(|vector| vector.len() == self.dimensions);
                    *place = Some(vector.ok_or(Error::Lost)?);
                }
                Some(FromEngine::Embedded { prompt_tokens, .. }) => {
                    self.asked.over = true;
                    let vectors: Option<Vec<_>> =
                        std::mem::take(&mut self.vectors).into_iter().collect();
                    let vectors = vectors.ok_or(Error::Lost)?;
                    return Ok(Embedded { vectors, prompt_tokens });
                }
                other => return Err(self.fail(other)),
            }
        }
    }

    fn fail(&mut self, message: Option<FromEngine>) -> Error {
        match message {
            Some(FromEngine::Failed { failure, .. }) => {
                self.asked.over = true;
                if is_stopping(&failure) { Error::Lost } else { Error::Refused(failure) }
            }
            Some(_) | None => Error::Lost,
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let in_flight = self.connection.strike(self.id);
        if in_flight && !self.over {
            let cancel = ToEngine::Cancel { id: self.id };
            if let Err(mpsc::error::TrySendError::Full(_)) =
                self.connection.outgoing.try_send(cancel)
            {
                // A generation that nobody reads stops by itself once its window is full, and
                // vectors are as many as there are texts.
                tracing::warn!("no room to cancel a request");
            }
        }
    }
}
