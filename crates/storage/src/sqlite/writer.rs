//! The thread that writes: group commit.
//!
//! It takes all writes that wait (idle: the one that came; busy: what has queued meanwhile) into
//! one transaction, each under a savepoint of its own so that one that is refused fails alone,
//! commits with one fsync, and only then answers. It never waits on a timer. A write that has a
//! transaction to itself needs no savepoint, for which every page that it changes would be copied.
//!
//! Invariant: no write is answered with `Ok` before the transaction that holds it is on disk. If
//! the disk fails anywhere between BEGIN and COMMIT, everything in the transaction is undone and
//! answered with the failure, refused writes too, since what refused them may have been undone; the
//! next transaction starts afresh.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::connection::BUSY_TIMEOUT;
use crate::error::Error;

/// Writes that may wait for the thread; more wait outside.
const WRITES_WAITING_MAX: usize = 1_024;
/// Writes in one transaction at most: what it takes to answer the first of them stays bounded.
const BATCH_WRITES_MAX: usize = 256;
/// Length of the log, in pages of 4 KiB, from which it is moved into the database: 8 MiB.
const CHECKPOINT_PAGES: u32 = 2_048;
/// How long emptying the log after a deletion waits for readers; meanwhile nobody writes.
const ERASE_TIMEOUT: Duration = Duration::from_millis(20);
/// Pause between two tries, if nothing else is to be done; a write waits no longer than that.
const ERASE_PAUSE: Duration = Duration::from_millis(20);
/// Low bits of a transaction's number that count within one opening of the database.
const SEQUENCE_BITS: u32 = 40;

/// What the thread is asked.
pub(super) enum Message {
    /// Do this in the next transaction.
    Write(Box<dyn Job>),
    /// Finish what waits, and end.
    Close(oneshot::Sender<()>),
}

/// A write, with the place where its answer goes.
pub(super) trait Job: Send {
    /// Does it. An error undoes it alone, an [`Error::Unavailable`] the whole transaction.
    fn run(&mut self, conn: &Connection, sequence: u64) -> Result<(), Error>;
    /// Answers with what `run` gave, or with `failure`.
    fn answer(self: Box<Self>, failure: Option<Error>);
    /// Whether it deleted what must not be left in the log either.
    fn erases(&self) -> bool;
}

struct Write<T, F> {
    work: Option<F>,
    erases: fn(&T) -> bool,
    result: Result<Option<T>, Error>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnOnce(&Connection, u64) -> Result<T, Error> + Send,
{
    fn run(&mut self, conn: &Connection, sequence: u64) -> Result<(), Error> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let result = catch_unwind(AssertUnwindSafe(|| work(conn, sequence)));
        let result = result.unwrap_or_else(|_| Err(Error::internal("a write panicked")));
        let failure = result.as_ref().err().cloned();
        self.result = result.map(Some);
        failure.map_or(Ok(()), Err)
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let missing = || Error::internal("a write was answered before it ran");
        let result = self.result.and_then(|value| value.ok_or_else(missing));
        // Whoever asked may have gone; the write stands all the same.
        drop(self.reply.send(failure.map_or(result, Err)));
    }

    fn erases(&self) -> bool {
        self.result.as_ref().ok().and_then(Option::as_ref).is_some_and(self.erases)
    }
}

/// A write of `work` and where its answer will be.
pub(super) fn job<T, F>(work: F) -> (Message, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection, u64) -> Result<T, Error> + Send + 'static,
{
    erasing_job(work, |_| false)
}

/// As [`job`], of `work` that may delete what must not be left in the log either: `erases` says so
/// by what came of it, since emptying the log for nothing would hold up everybody's writes.
pub(super) fn erasing_job<T, F>(
    work: F,
    erases: fn(&T) -> bool,
) -> (Message, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection, u64) -> Result<T, Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Message::Write(Box::new(Write { work: Some(work), erases, result: Ok(None), reply })), answer)
}

/// Starts the thread; it ends when it is told to or all senders are gone.
pub(super) fn start(mut conn: Connection) -> Result<mpsc::Sender<Message>, Error> {
    let sequence = next_opening(&conn)? << SEQUENCE_BITS;
    let log_pages = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&log_pages);
    conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
        seen.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    let (sender, queue) = mpsc::channel(WRITES_WAITING_MAX);
    let writer = Writer { conn, sequence, log_pages, must_erase: false };
    thread::Builder::new()
        .name("store-write".to_owned())
        .spawn(move || writer.serve(queue))
        .map_err(Error::unavailable)?;
    Ok(sender)
}

/// Counts openings of the database, so that transactions' numbers grow over restarts without a
/// write for each.
fn next_opening(conn: &Connection) -> Result<u64, Error> {
    let sql = "UPDATE store SET openings = openings + 1 RETURNING openings";
    let openings: i64 = conn.query_row(sql, [], |row| row.get(0))?;
    u64::try_from(openings).map_err(Error::internal)
}

struct Writer {
    conn: Connection,
    sequence: u64,
    log_pages: Arc<AtomicU32>,
    /// The log holds what was deleted.
    must_erase: bool,
}

impl Writer {
    fn serve(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(BATCH_WRITES_MAX);
        let mut closers = Vec::new();
        while self.next(&mut queue, &mut messages) {
            let mut jobs = Vec::with_capacity(messages.len());
            for message in messages.drain(..) {
                match message {
                    Message::Write(job) => jobs.push(job),
                    Message::Close(reply) => {
                        queue.close();
                        closers.push(reply);
                    }
                }
            }
            self.take(jobs);
        }
        self.end();
        for closer in closers {
            // Whoever closes may have gone.
            let _ = closer.send(());
        }
    }

    /// Waits for messages. False if there will be none any more.
    fn next(&mut self, queue: &mut mpsc::Receiver<Message>, messages: &mut Vec<Message>) -> bool {
        // Else what was deleted would stay in the log of a server that is idle.
        while self.must_erase {
            match queue.try_recv() {
                Ok(message) => {
                    messages.push(message);
                    return true;
                }
                Err(TryRecvError::Disconnected) => return false,
                // Nothing comes any more, and what ends empties the log.
                Err(TryRecvError::Empty) if queue.is_closed() => return false,
                Err(TryRecvError::Empty) => {
                    thread::park_timeout(ERASE_PAUSE);
                    self.must_erase = !self.erase();
                }
            }
        }
        queue.blocking_recv_many(messages, BATCH_WRITES_MAX) > 0
    }

    fn take(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        self.sequence += 1;
        let failure = self.transact(&mut jobs).err();
        if let Some(error) = &failure {
            tracing::error!(%error, cause = ?error, writes = jobs.len(), "transaction undone");
            self.undo();
        }
        self.must_erase |= jobs.iter().any(|job| job.erases());
        if self.must_erase {
            self.must_erase = !self.erase();
        }
        for job in jobs {
            job.answer(failure.clone());
        }
        if self.log_pages.load(Ordering::Relaxed) >= CHECKPOINT_PAGES {
            self.checkpoint("PASSIVE");
        }
    }

    /// Empties the log. False while a reader needs it.
    fn erase(&self) -> bool {
        let emptied = || -> Result<bool, rusqlite::Error> {
            self.conn.busy_timeout(ERASE_TIMEOUT)?;
            let busy = self
                .conn
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
            self.conn.busy_timeout(BUSY_TIMEOUT)?;
            Ok(!busy?)
        };
        emptied().unwrap_or_else(|error| {
            tracing::warn!(%error, "what was deleted is still in the log");
            false
        })
    }

    fn transact(&self, jobs: &mut [Box<dyn Job>]) -> Result<(), Error> {
        self.undo();
        self.execute("BEGIN IMMEDIATE")?;
        match jobs {
            [job] => self.alone(job.as_mut()),
            jobs => {
                for job in jobs {
                    self.under_savepoint(job.as_mut())?;
                }
                self.execute("COMMIT")
            }
        }
    }

    /// Runs the only write of a transaction, and ends that. `Err` as [`Self::under_savepoint`] has
    /// it.
    fn alone(&self, job: &mut dyn Job) -> Result<(), Error> {
        match job.run(&self.conn, self.sequence) {
            Ok(()) => self.execute("COMMIT"),
            Err(failure @ Error::Unavailable(_)) => Err(failure),
            Err(_) => {
                self.undo();
                Ok(())
            }
        }
    }

    /// Runs one write. `Err` only if the whole transaction has to end.
    fn under_savepoint(&self, job: &mut dyn Job) -> Result<(), Error> {
        self.execute("SAVEPOINT one")?;
        match job.run(&self.conn, self.sequence) {
            Ok(()) => {}
            Err(failure @ Error::Unavailable(_)) => return Err(failure),
            Err(_) if self.conn.is_autocommit() => {
                return Err(Error::unavailable("the transaction was ended by the database"));
            }
            Err(_) => self.execute("ROLLBACK TO one")?,
        }
        self.execute("RELEASE one")
    }

    fn execute(&self, sql: &str) -> Result<(), Error> {
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Ends a transaction that failed, unless the database has done so.
    fn undo(&self) {
        if self.conn.is_autocommit() {
            return;
        }
        if let Err(error) = self.conn.execute_batch("ROLLBACK") {
            tracing::error!(%error, "transaction can't be undone yet");
        }
    }

    /// Moves the log into the database. It may fail or do a part only: the log stays whole, the
    /// next one goes on.
    fn checkpoint(&self, mode: &str) {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        if let Err(error) = self.conn.query_row(&sql, [], |_| Ok(())) {
            tracing::warn!(%error, "log not moved into the database");
        }
    }

    fn end(self) {
        self.checkpoint("TRUNCATE");
        if let Err((_, error)) = self.conn.close() {
            tracing::warn!(%error, "database not closed cleanly");
        }
    }
}
