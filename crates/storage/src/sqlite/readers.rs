//! The threads that read.
//!
//! A few threads share one bounded queue; each has a connection that cannot write. A read is one
//! snapshot: it sees all of every commit that was answered before it was asked for, and nothing of
//! one that is not on disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::connection;
use crate::error::Error;

/// Reading threads: reads are short, and one long listing must not hold up the others.
const READERS: usize = 3;
/// Reads that may wait; more wait outside.
const READS_WAITING_MAX: usize = 256;

/// A read, with the place where its answer goes.
pub(super) type Read = Box<dyn FnOnce(&mut Connection) + Send>;

/// A read of `work` and where its answer will be.
pub(super) fn read<T, F>(work: F) -> (Read, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let read = move |conn: &mut Connection| {
        let result = catch_unwind(AssertUnwindSafe(|| in_snapshot(conn, work)));
        let result = result.unwrap_or_else(|_| Err(Error::internal("a read panicked")));
        // Whoever asked may have gone.
        drop(reply.send(result));
    };
    (Box::new(read), answer)
}

fn in_snapshot<T, F>(conn: &mut Connection, work: F) -> Result<T, Error>
where
    F: FnOnce(&Connection) -> Result<T, Error>,
{
    let snapshot = conn.transaction_with_behavior(TransactionBehavior::Deferred)?;
    work(&snapshot)
}

/// Starts the threads; they end when all senders are gone.
pub(super) fn start(path: &Path) -> Result<mpsc::Sender<Read>, Error> {
    let (sender, receiver) = mpsc::channel(READS_WAITING_MAX);
    let queue = Arc::new(Mutex::new(receiver));
    for number in 0..READERS {
        let conn = connection::open_reader(path)?;
        let queue = Arc::clone(&queue);
        thread::Builder::new()
            .name(format!("store-read-{number}"))
            .spawn(move || serve(conn, &queue))
            .map_err(Error::unavailable)?;
    }
    Ok(sender)
}

fn serve(mut conn: Connection, queue: &Mutex<mpsc::Receiver<Read>>) {
    // The lock is held while waiting, by one thread, and let go before the work is done.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
    while let Some(read) = next() {
        read(&mut conn);
    }
}
