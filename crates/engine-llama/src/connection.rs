//! The socket to the parent: one thread reads, one writes, one makes requests ready in between.
//!
//! Reading never waits for the model: a full queue is answered at once with `overloaded`. Writing
//! keeps the order in which the scheduler spoke. What the parent may have in flight bounds the
//! writer's queue (see the protocol's window), so it never holds much.

use std::io::{BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use engine::protocol::codec::{self, FrameError};
use engine::protocol::{EngineFailure, FailureCode, FromEngine, Generate, ToEngine};
use types::clock::{Monotonic, SharedClock};

use crate::job::{Place, Preparer};
use crate::kv_store::Owner;
use crate::scheduler::Event;

/// Messages that may wait for the writer.
const OUTBOX_MAX: usize = 4_096;
/// Stack of the thread that compiles clients' schemas: they nest.
const PREPARE_STACK_BYTES: usize = 32 * 1024 * 1024;

/// Where messages to the parent go.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(SyncSender<Option<FromEngine>>);

impl Outbox {
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
    let (sender, messages) = sync_channel(OUTBOX_MAX);
    let write = move || {
        if let Err(error) = write_all(stream, &messages) {
            tracing::warn!(%error, "writing to the parent");
        }
    };
    let thread = Builder::new().name("writer".to_owned()).spawn(write)?;
    Ok((Outbox(sender), thread))
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

/// A request on its way to be made ready, or what must not overtake it.
enum Unprepared {
    Generate(Box<Generate>, Monotonic, Place),
    Cancel(u64),
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
    /// Starts reading, and a thread that makes requests ready. At the parent's end the scheduler is
    /// told to stop.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub(crate) fn start(self, stream: UnixStream, preparer: Preparer) -> std::io::Result<()> {
        let (sender, unprepared) = sync_channel(self.waiting_max * 2 + 1);
        let (events, out) = (self.events.clone(), self.out.clone());
        let prepare = move || prepare_all(&preparer, &unprepared, &events, &out);
        let builder = Builder::new().name("prepare".to_owned()).stack_size(PREPARE_STACK_BYTES);
        builder.spawn(prepare)?;
        let read = move || {
            if let Err(error) = self.read_all(stream, &sender) {
                tracing::error!(%error, "reading from the parent");
            }
            // An error means that the scheduler has ended already.
            drop(self.events.send(Event::Stop));
        };
        Builder::new().name("reader".to_owned()).spawn(read)?;
        Ok(())
    }

    fn read_all(
        &self,
        stream: UnixStream,
        unprepared: &SyncSender<Unprepared>,
    ) -> Result<(), FrameError> {
        let mut reader = BufReader::new(stream);
        let waiting = Arc::new(AtomicUsize::new(0));
        while let Some(message) = codec::read::<ToEngine>(&mut reader)? {
            let sent = match message {
                ToEngine::Generate(request) => {
                    self.take(request, &waiting, unprepared);
                    Ok(())
                }
                ToEngine::Cancel { id } => {
                    // Twice: it may be running, or still be on its way there.
                    drop(unprepared.send(Unprepared::Cancel(id)));
                    self.events.send(Event::Cancel(id))
                }
                ToEngine::Ack { id, deltas } => self.events.send(Event::Ack(id, deltas)),
                ToEngine::Flush { id } => self.events.send(Event::Flush(id)),
                ToEngine::Drop { id, account, session } => {
                    self.events.send(Event::Drop(id, Owner { account, session }))
                }
                ToEngine::Stats { id } => self.events.send(Event::Stats(id)),
            };
            if sent.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn take(
        &self,
        request: Box<Generate>,
        waiting: &Arc<AtomicUsize>,
        unprepared: &SyncSender<Unprepared>,
    ) {
        let id = request.id;
        let taken = self.clock.monotonic();
        let place = Place::take(waiting, self.waiting_max);
        let ready = place.map(|place| Unprepared::Generate(request, taken, place));
        let sent = ready.is_some_and(|ready| unprepared.try_send(ready).is_ok());
        if !sent {
            let message = format!("{} requests wait for this model already", self.waiting_max);
            let failure = EngineFailure::new(FailureCode::Overloaded, message);
            self.out.send(FromEngine::Failed { id, failure });
        }
    }
}

fn prepare_all(
    preparer: &Preparer,
    unprepared: &Receiver<Unprepared>,
    events: &SyncSender<Event>,
    out: &Outbox,
) {
    while let Ok(next) = unprepared.recv() {
        let event = match next {
            Unprepared::Cancel(id) => Event::Cancel(id),
            Unprepared::Generate(request, taken, place) => {
                let id = request.id;
                match prepare_one(preparer, *request, taken, place) {
                    Ok(event) => event,
                    Err(failure) => {
                        out.send(FromEngine::Failed { id, failure });
                        continue;
                    }
                }
            }
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

fn prepare_one(
    preparer: &Preparer,
    request: Generate,
    taken: Monotonic,
    place: Place,
) -> Result<Event, EngineFailure> {
    // Templates and schemas come from outside; a bug that one of them finds must fail its own
    // request only.
    let prepared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        preparer.prepare(request, taken, place)
    }));
    match prepared {
        Ok(job) => job.map(|job| Event::Job(Box::new(job))),
        Err(_panic) => {
            Err(EngineFailure::new(FailureCode::Internal, "the request could not be prepared"))
        }
    }
}
