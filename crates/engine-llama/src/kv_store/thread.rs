//! The thread that reads and writes state files, so that no decode waits for a disk.
//!
//! Requests are done in order: a load that follows a save of the same session sees it. Few saves
//! may wait, as each holds a whole state in memory; who finds no room tries again later.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::thread::JoinHandle;

use super::{Found, KvStore, Owner, State};

/// Requests that may wait. Each may hold a session's whole state.
const WAITING_MAX: usize = 4;

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Write a state.
    Save(Owner, State),
    /// Read a state for a sequence.
    Load {
        /// Which load this is, for the reply.
        ticket: u64,
        /// Whose.
        owner: Owner,
    },
    /// Delete a state.
    Drop {
        /// Id of the parent's request.
        id: u64,
        /// Whose.
        owner: Owner,
    },
    /// Reply when everything before is done.
    Flush {
        /// Id of the parent's request.
        id: u64,
    },
}

/// What a save came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It is on disk.
    Done,
    /// The disk did not take it.
    Failed,
}

/// What the thread has done.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A state was written or not, and so many bytes are on disk now.
    Saved(Saved, u64),
    /// A state was looked for.
    Loaded {
        /// The load's ticket.
        ticket: u64,
        /// What was found.
        found: Found,
    },
    /// A state was deleted.
    Dropped {
        /// Id of the parent's request.
        id: u64,
    },
    /// Everything before is done.
    Flushed {
        /// Id of the parent's request.
        id: u64,
    },
}

/// A handle of the thread. Dropping it waits until everything asked for is done.
#[derive(Debug)]
pub(crate) struct StoreThread {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Starts the thread; `reply` is called on it.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(
        store: KvStore,
        reply: impl Fn(Reply) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, received) = std::sync::mpsc::sync_channel(WAITING_MAX);
        let builder = std::thread::Builder::new().name("kv-store".to_owned());
        let thread = builder.spawn(move || run(store, &received, &reply))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Asks for something; gives it back if too much waits.
    ///
    /// # Errors
    /// There is no room now.
    pub(crate) fn try_send(&self, request: Request) -> Result<(), Request> {
        let Some(requests) = &self.requests else { return Err(request) };
        requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(request) | TrySendError::Disconnected(request) => request,
        })
    }

    /// Asks for something, waiting for room.
    pub(crate) fn send(&self, request: Request) {
        if let Some(requests) = &self.requests
            && requests.send(request).is_err()
        {
            tracing::error!("the state store's thread has ended");
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the state store's thread panicked");
        }
    }
}

fn run(mut store: KvStore, requests: &Receiver<Request>, reply: &impl Fn(Reply)) {
    while let Ok(request) = requests.recv() {
        reply(match request {
            Request::Save(owner, state) => {
                let saved = match store.save(&owner, &state) {
                    Ok(()) => Saved::Done,
                    Err(error) => {
                        tracing::warn!(%error, "a session's state can't be written");
                        Saved::Failed
                    }
                };
                Reply::Saved(saved, store.bytes())
            }
            Request::Load { ticket, owner } => Reply::Loaded { ticket, found: store.load(&owner) },
            Request::Drop { id, owner } => {
                store.drop_session(&owner);
                Reply::Dropped { id }
            }
            Request::Flush { id } => Reply::Flushed { id },
        });
    }
}
