//! The socket to the parent: one thread reads, one writes; those of `prepare.rs` make requests
//! ready in between.
//!
//! Reading never waits for the model or for what is being made ready: a full queue is answered at
//! once with `overloaded`, and what is cancelled is taken out of it. Writing
//! keeps the order in which the scheduler spoke. What the parent may have in flight bounds the
//! writer's queue (see the protocol's window), so it never holds much.

use std::io::{BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use engine::protocol::codec::{self, FrameError};
use engine::protocol::{EngineFailure, FailureCode, FromEngine, ToEngine};
use types::clock::SharedClock;

use crate::job::Place;
use crate::kv_store::Owner;
use crate::prepare::{Asked, Preparing, Request, Work};
use crate::scheduler::Event;

/// Messages that may wait for the writer.
const OUTBOX_MAX: usize = 4_096;

/// Where messages to the parent go.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(SyncSender<Option<FromEngine>>);

impl Outbox {
    /// An outbox, and where its messages come out; `None` is the end.
    pub(crate) fn new() -> (Self, Receiver<Option<FromEngine>>) {
        let (sender, messages) = sync_channel(OUTBOX_MAX);
        (Self(sender), messages)
    }

    /// Sends a message, waiting for room. A parent that is gone takes nothing, and nothing is lost
    /// by that.
    pub(crate) fn send(&self, message: FromEngine) {
        if self.0.send(Some(message)).is_err() {
            tracing::debug!("the parent is gone");
        }
    }

    /// Ends the writer, once everything before is written.
    pub(crate) fn end(&self) {
        // An error means that it has ended already.
        drop(self.0.send(None));
    }
}

/// Starts the writer. The thread ends by [`Outbox::end`] or when the parent is gone.
///
/// # Errors
/// The system has no thread to give.
pub(crate) fn start_writer(stream: UnixStream) -> std::io::Result<(Outbox, JoinHandle<()>)> {
    let (out, messages) = Outbox::new();
    let write = move || {
        if let Err(error) = write_all(stream, &messages) {
            tracing::warn!(%error, "writing to the parent");
        }
    };
    let thread = Builder::new().name("writer".to_owned()).spawn(write)?;
    Ok((out, thread))
}

fn write_all(
    stream: UnixStream,
    messages: &Receiver<Option<FromEngine>>,
) -> Result<(), FrameError> {
    let mut writer = BufWriter::new(stream);
    while let Ok(Some(first)) = messages.recv() {
        codec::write(&mut writer, &first)?;
        // What has queued meanwhile goes out together.
        for next in messages.try_iter() {
            let Some(message) = next else { return Ok(writer.flush()?) };
            codec::write(&mut writer, &message)?;
        }
        writer.flush()?;
    }
    Ok(())
}

/// Reads the parent's messages.
pub(crate) struct Inbox {
    /// Where they go.
    pub(crate) events: SyncSender<Event>,
    /// Where answers go that need no model.
    pub(crate) out: Outbox,
    /// Where time comes from.
    pub(crate) clock: SharedClock,
    /// Requests that may wait for a sequence.
    pub(crate) waiting_max: usize,
}

impl Inbox {
    /// Starts reading, and the threads that make requests ready. At the parent's end the scheduler
    /// is told to stop.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub(crate) fn start(self, stream: UnixStream, work: Box<Work>) -> std::io::Result<()> {
        let (events, out) = (self.events.clone(), self.out.clone());
        let preparing = Preparing::start(work, events, out, Arc::clone(&self.clock))?;
        preparing.watch()?;
        let read = move || {
            if let Err(error) = self.read_all(stream, &preparing) {
                tracing::error!(%error, "reading from the parent");
            }
            // An error means that the scheduler has ended already.
            drop(self.events.send(Event::Stop));
        };
        Builder::new().name("reader".to_owned()).spawn(read)?;
        Ok(())
    }

    fn read_all(&self, stream: UnixStream, preparing: &Preparing) -> Result<(), FrameError> {
        let mut reader = BufReader::new(stream);
        let waiting = Arc::new(AtomicUsize::new(0));
        while let Some(message) = codec::read::<ToEngine>(&mut reader)? {
            let sent = match message {
                ToEngine::Generate(request) => {
                    self.take(request.id, Request::Generate(request), &waiting, preparing);
                    Ok(())
                }
                ToEngine::Embed(request) => {
                    self.take(request.id, Request::Embed(request), &waiting, preparing);
                    Ok(())
                }
                ToEngine::Cancel { id } if preparing.cancel(id) => Ok(()),
                ToEngine::Cancel { id } => self.events.send(Event::Cancel(id)),
                ToEngine::Ack { id, deltas } => self.events.send(Event::Ack(id, deltas)),
                ToEngine::Flush { id } => self.events.send(Event::Flush(id)),
                ToEngine::Drop { id, account, session } => {
                    let owner = Owner { account, session };
                    preparing.forget(&owner);
                    self.events.send(Event::Drop(id, owner))
                }
                ToEngine::Stats { id } => self.events.send(Event::Stats(id)),
            };
            if sent.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn take(&self, id: u64, request: Request, waiting: &Arc<AtomicUsize>, preparing: &Preparing) {
        let taken = self.clock.monotonic();
        if let Some(place) = Place::take(waiting, self.waiting_max) {
            return preparing.push(Asked { request, taken, place });
        }
        let message = format!("{} requests wait for this model already", self.waiting_max);
        let failure = EngineFailure::new(FailureCode::Overloaded, message);
        self.out.send(FromEngine::Failed { id, failure });
    }
}
