//! The threads that read.
//!
//! A few threads share one bounded queue; each has a connection that cannot write. A read is one
//! snapshot: it sees all of every commit that was answered before it was asked for, and nothing of
//! one that is not on disk. They end before the writer does: SQLite removes its log when the last
//! connection goes, and only the writer's may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::connection;
use crate::error::Error;

/// Reading threads: reads are short, and one long listing must not hold up the others.
const READERS: usize = 3;
/// Reads that may wait; more wait outside.
const READS_WAITING_MAX: usize = 256;

type Read = Box<dyn FnOnce(&mut Connection) + Send>;

/// What the threads are asked.
pub(super) enum Message {
    /// Do this.
    Read(Read),
    /// Finish what waits, and end.
    Close,
}

/// The way to the threads.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    queue: mpsc::Sender<Message>,
    /// Each thread has a receiver of it while its connection is open.
    open: Arc<watch::Sender<()>>,
}

impl Readers {
    /// Hands over a read. False if they have ended.
    pub(super) async fn send(&self, read: Message) -> bool {
        self.queue.send(read).await.is_ok()
    }

    /// Comes back when what waited was read and no connection is open any more.
    pub(super) async fn close(&self) {
        // They may have ended.
        drop(self.queue.send(Message::Close).await);
        self.open.closed().await;
    }
}

/// A read of `work` and where its answer will be.
pub(super) fn read<T, F>(work: F) -> (Message, oneshot::Receiver<Result<T, Error>>)
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
    (Message::Read(Box::new(read)), answer)
}

fn in_snapshot<T, F>(conn: &mut Connection, work: F) -> Result<T, Error>
where
    F: FnOnce(&Connection) -> Result<T, Error>,
{
    let snapshot = conn.transaction_with_behavior(TransactionBehavior::Deferred)?;
    work(&snapshot)
}

/// Starts the threads; they end when they are told to or all senders are gone.
pub(super) fn start(path: &Path) -> Result<Readers, Error> {
    let (sender, receiver) = mpsc::channel(READS_WAITING_MAX);
    let queue = Arc::new(Mutex::new(receiver));
    let open = watch::Sender::new(());
    for number in 0..READERS {
        let conn = connection::open_reader(path)?;
        let (queue, is_open) = (Arc::clone(&queue), open.subscribe());
        thread::Builder::new()
            .name(format!("store-read-{number}"))
            .spawn(move || {
                serve(conn, &queue);
                drop(is_open);
            })
            .map_err(Error::unavailable)?;
    }
    Ok(Readers { queue: sender, open: Arc::new(open) })
}

/// Reads until it is told to end; the connection is closed when it comes back.
fn serve(mut conn: Connection, queue: &Mutex<mpsc::Receiver<Message>>) {
    while let Some(read) = next(queue) {
        read(&mut conn);
    }
}

/// The next read. The lock is held while waiting, by one thread, and let go before the work is
/// done; it is not let go between being told to end and ending the queue, or another thread would
/// wait in between, for ever.
fn next(queue: &Mutex<mpsc::Receiver<Message>>) -> Option<Read> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match queue.blocking_recv()? {
            Message::Read(read) => return Some(read),
            Message::Close => queue.close(),
        }
    }
}
