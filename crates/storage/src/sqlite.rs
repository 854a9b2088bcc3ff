//! The embedded implementation: one SQLite database in WAL mode, `synchronous=FULL`.
//!
//! All writes go through one thread ([`writer`]), which takes whatever waits into one transaction,
//! each write under its own savepoint, and answers all of them after the one fsync. Reads run on a
//! small pool of threads with connections of their own ([`readers`]) and see what is committed.
//! Each table family has a file of plain functions over a connection (`ledger`, `budgets` …) and
//! the `impl` of its trait; [`apply`] calls those that make up a [`Commit`].
//!
//! Invariant: no other code opens the database for writing, and no statement of a write runs
//! outside the writer's transaction. This module must not ask the time: what is stored about it
//! comes with the rows.

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::commit::{Commit, Committed};
use crate::error::Error;
use crate::store::{Pending, Store};

mod apply;
mod budgets;
mod columns;
mod connection;
mod events;
mod journal;
mod keys;
mod ledger;
mod migrate;
mod models;
mod objects;
mod readers;
mod responses;
mod sessions;
mod slos;
mod writer;

/// Everything durable of one node, in one SQLite database.
///
/// Dropping it lets what was handed over end in the background; [`SqliteStore::close`] waits for
/// that.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writes: mpsc::Sender<writer::Message>,
    reads: readers::Readers,
}

impl SqliteStore {
    /// Opens the database at `path`, makes it if it isn't there, and brings its tables up to date.
    ///
    /// Blocks, so call it at start. The caller holds the data folder's lock: two processes on one
    /// database would each believe that they alone move its budgets.
    ///
    /// # Errors
    /// [`Error::NewerVersion`]; [`Error::Unavailable`] if it can't be opened or written;
    /// [`Error::Internal`] if it is no database of ours.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut conn = connection::open_writer(path)?;
        migrate::run(&mut conn)?;
        let reads = readers::start(path)?;
        let writes = writer::start(conn)?;
        Ok(Self { writes, reads })
    }

    /// Opens the database at `path` for reading alone, also while a server writes it: nothing is
    /// made or changed, and a write is answered with [`Error::Unavailable`].
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, or an older one, since its tables can't be brought up
    /// to date here; [`Error::NewerVersion`]; [`Error::Unavailable`] if it can't be read.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        let conn = connection::open_to_look(path)?;
        migrate::check(&conn)?;
        let reads = readers::start(path)?;
        let (writes, _) = mpsc::channel(1);
        Ok(Self { writes, reads })
    }

    /// Waits for all writes that were handed over, moves the log into the database and closes it.
    /// What comes afterwards is answered with [`Error::Unavailable`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it was closed before.
    pub fn close(&self) -> Pending<()> {
        let (writes, reads) = (self.writes.clone(), self.reads.clone());
        Box::pin(async move {
            // First, so that the log goes with the writer's connection.
            reads.close().await;
            let (reply, answer) = oneshot::channel();
            writes.send(writer::Message::Close(reply)).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())
        })
    }

    /// Runs `work` in the writer's next transaction, under a savepoint of its own: on an error
    /// nothing of it is done, and the others in that transaction are. The answer comes when it is
    /// on disk.
    ///
    /// It is handed over when the future is first polled. If the disk fails, `work` was undone
    /// whatever it answered.
    pub(crate) fn write<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        self.write_numbered(move |conn, _| work(conn))
    }

    /// As [`SqliteStore::write`], of `work` that may delete what must not be left in the log
    /// either; `erases` says by its answer whether it did.
    pub(crate) fn erase<T, F>(&self, work: F, erases: fn(&T) -> bool) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        self.hand_over(writer::erasing_job(move |conn, _| work(conn), erases))
    }

    /// As [`SqliteStore::write`], with the number of the transaction.
    fn write_numbered<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, u64) -> Result<T, Error> + Send + 'static,
    {
        self.hand_over(writer::job(work))
    }

    fn hand_over<T: Send + 'static>(
        &self,
        (message, answer): (writer::Message, oneshot::Receiver<Result<T, Error>>),
    ) -> Pending<T> {
        let writes = self.writes.clone();
        Box::pin(async move {
            writes.send(message).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        })
    }

    /// Runs `work` on a reading connection, in one snapshot of what is committed.
    pub(crate) fn read<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let reads = self.reads.clone();
        Box::pin(async move {
            let (read, answer) = readers::read(work);
            if !reads.send(read).await {
                return Err(closed());
            }
            answer.await.map_err(|_| closed())?
        })
    }
}

impl Store for SqliteStore {
    fn commit(&self, commit: Commit) -> Pending<Committed> {
        self.write_numbered(move |conn, sequence| {
            apply::apply(conn, &commit)?;
            Ok(Committed { sequence })
        })
    }
}

/// The answer of a store whose threads have ended.
fn closed() -> Error {
    Error::unavailable("the store is closed")
}

#[cfg(test)]
mod tests;
