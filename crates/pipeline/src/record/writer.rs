//! Writes the ledger in group commits.
//!
//! Nobody waits for a row: the writer sleeps [`GATHER`] after the first, so that hundreds share one
//! transaction. Whoever needs them written (a look at what is left of a budget, a clean stop) asks
//! for a flush. Invariants: rows are kept until the store has them; when it can't take them, the
//! writer goes on trying and the recorder says so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use storage::{Charge, Commit, LedgerRow, Store};
use tokio::sync::mpsc;
use types::Failure;
use types::clock::SharedClock;

use super::meter::Meter;
use super::{Control, Ended, Settlement, State, storage_failure};

/// How long the first row of a group waits for others.
const GATHER: Duration = Duration::from_millis(50);
/// Rows of one transaction at most: a few milliseconds of the store's writer, which sessions' steps
/// share.
const COMMIT_ROWS_MAX: usize = 512;
/// Rows that are kept in the writer's own memory at most while the store takes none; more wait in
/// the queue.
const KEPT_ROWS_MAX: usize = 8_192;
/// The wait before the first new try after the store took no rows; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The background task behind [`super::Recorder`].
#[derive(Debug)]
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    clock: SharedClock,
    ended: mpsc::Receiver<Ended>,
    control: mpsc::Receiver<Control>,
    state: Arc<State>,
    /// Not yet durable, oldest first.
    kept: VecDeque<Kept>,
    gather: Duration,
    retry_after: Duration,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: SharedClock,
        ended: mpsc::Receiver<Ended>,
        control: mpsc::Receiver<Control>,
        state: &Arc<State>,
    ) -> Self {
        let state = Arc::clone(state);
        Self {
            store,
            clock,
            ended,
            control,
            state,
            kept: VecDeque::new(),
            gather: GATHER,
            retry_after: RETRY_MIN,
        }
    }

    /// Runs until it is stopped. What it can't write by then is presumed spent at the next start.
    pub(crate) async fn run(mut self) {
        loop {
            let control = match self.kept.is_empty() {
                true => self.first().await,
                false => self.or_control(self.retry_after).await,
            };
            let Ok(control) = control else { return };
            let written = self.write().await;
            match control {
                Some(Control::Flush(answer)) => {
                    // Whoever asked may have gone.
                    let _gone = answer.send(written);
                }
                Some(Control::Hurry) => self.gather = Duration::ZERO,
                Some(Control::Stop) => return,
                None => {}
            }
        }
    }

    /// Waits for a first row and then for others to join it; cut short by a control message.
    async fn first(&mut self) -> Result<Option<Control>, Gone> {
        tokio::select! {
            biased;
            control = self.control.recv() => control.map(Some).ok_or(Gone),
            ended = self.ended.recv() => match ended {
                Some(ended) => {
                    self.take(ended);
                    self.or_control(self.gather).await
                }
                None => Err(Gone),
            },
        }
    }

    async fn or_control(&mut self, wait: Duration) -> Result<Option<Control>, Gone> {
        let timer = self.clock.sleep(wait);
        tokio::select! {
            biased;
            control = self.control.recv() => control.map(Some).ok_or(Gone),
            () = timer => Ok(None),
        }
    }

    /// Writes everything that had ended when it was called. What ends meanwhile waits for the next
    /// group: a busy server would otherwise commit a handful of rows at a time, without a pause.
    async fn write(&mut self) -> Result<(), Failure> {
        let mut left = self.kept.len() + self.ended.len();
        while left > 0 {
            while self.kept.len() < left.min(KEPT_ROWS_MAX) {
                let Ok(ended) = self.ended.try_recv() else { break };
                self.take(ended);
            }
            let count = self.kept.len().min(COMMIT_ROWS_MAX);
            if count == 0 {
                return Ok(());
            }
            let result = self.commit(count).await;
            self.state.failing.store(result.is_err(), Ordering::Release);
            if let Err(error) = result {
                self.retry_after = self.retry_after.saturating_mul(2).min(RETRY_MAX);
                return Err(storage_failure(&error));
            }
            self.retry_after = RETRY_MIN;
            left = left.saturating_sub(count);
        }
        Ok(())
    }

    /// Settles what an abandoned Call left open, and makes its row.
    fn take(&mut self, ended: Ended) {
        let Ended { meter, money } = ended;
        self.state.attempt_ended(&meter);
        let charges = match money {
            Settlement::Done(charges) => charges,
            Settlement::Open(holds) => {
                let verdict = meter.verdict();
                let settled = holds
                    .into_iter()
                    .map(|hold| hold.settle(verdict.settled, verdict.unreconciled));
                settled.flatten().collect()
            }
        };
        self.kept.push_back(Kept { meter, charges });
    }

    /// Commits the first `count` rows, and forgets them once they are durable.
    async fn commit(&mut self, count: usize) -> Result<(), storage::Error> {
        let ledger = self.kept.iter().take(count).map(Kept::row).collect();
        match self.store.commit(Commit { ledger, ..Commit::default() }).await {
            Ok(_) => {
                self.kept.drain(..count);
                Ok(())
            }
            Err(storage::Error::Unavailable(source)) => Err(storage::Error::Unavailable(source)),
            // One row that the store can't take must not hold the others up for ever.
            Err(_) => self.commit_each(count).await,
        }
    }

    async fn commit_each(&mut self, count: usize) -> Result<(), storage::Error> {
        for _ in 0..count {
            let Some(first) = self.kept.front() else { return Ok(()) };
            let commit = Commit { ledger: vec![first.row()], ..Commit::default() };
            match self.store.commit(commit).await {
                Ok(_) => {}
                Err(storage::Error::Unavailable(source)) => {
                    return Err(storage::Error::Unavailable(source));
                }
                Err(error) => {
                    let call = &first.meter.call.id;
                    // Its money stays claimed, and is presumed spent at the next start: no budget
                    // is passed.
                    tracing::error!(%call, ?error, "a ledger row was refused and is dropped");
                }
            }
            self.kept.pop_front();
        }
        Ok(())
    }
}

/// A Call whose row is not yet durable. The row is made for each try: that costs less than keeping
/// a copy.
#[derive(Debug)]
struct Kept {
    meter: Meter,
    charges: Vec<Charge>,
}

impl Kept {
    fn row(&self) -> LedgerRow {
        self.meter.row(self.charges.clone())
    }
}

/// Nobody is left who could send anything.
#[derive(Debug)]
struct Gone;

#[cfg(test)]
mod tests;
