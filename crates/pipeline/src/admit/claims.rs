//! The worker behind a pool: it claims slices, returns idle money, and looks again before anybody
//! is refused.
//!
//! One worker at most runs per budget, so that claims are served in order of arrival; it is started
//! by whoever finds something to do and ends when nothing is left. Invariants: money is returned
//! before more is claimed, so that a crash finds at most two slices' idle money open; nobody is
//! refused before every row that has ended is written and every idle part has been counted. It must
//! not know Calls.

use std::sync::Arc;

use storage::budgets::Claim;
use storage::{Store, WindowKey, WindowTotals};
use tokio_util::task::TaskTracker;
use types::clock::SharedClock;
use types::ids::{NodeId, SliceId};
use types::{ErrorCode, Failure, Ids, Money};

use super::pool::{Job, Pool, Returning};
use crate::record::{RETRY_AFTER, Recorder, storage_failure};

/// Looks in a row after which too little could be claimed, although there seemed to be enough.
const VAIN_LOOKS_MAX: u32 = 8;

/// What workers work with.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: SharedClock,
    pub(crate) ids: Arc<Ids>,
    pub(crate) node: NodeId,
    pub(crate) tracker: TaskTracker,
    pub(crate) recorder: Recorder,
}

impl Desk {
    /// Starts the pool's worker; the caller was told that none is at work.
    pub(crate) fn start_worker(self: &Arc<Self>, pool: &Arc<Pool>) {
        let (desk, pool) = (Arc::clone(self), Arc::clone(pool));
        self.tracker.spawn(async move { desk.work(&pool).await });
    }

    async fn work(&self, pool: &Arc<Pool>) {
        let mut at_work = AtWork { pool, ended: false };
        let mut vain_looks = 0;
        while let Some(job) = pool.next_job(self.clock.now()) {
            let done = match job {
                Job::Return(parts) => self.give_back(pool, parts).await,
                Job::Claim { window, wanted } => {
                    self.claim(pool, window, wanted).await.map(|_claimed| ())
                }
                Job::LookAgain { window, arrivals } => {
                    self.look(pool, window, arrivals, &mut vain_looks).await
                }
            };
            if let Err((failure, not_returned)) = done {
                tracing::warn!(budget = %pool.id, %failure, "a budget's slices could not be moved");
                pool.fail(&failure, not_returned);
                break;
            }
        }
        at_work.ended = true;
    }

    /// Asks the store what is left, where this node has not yet looked in the present window.
    pub(crate) async fn read_totals(
        &self,
        pool: &Pool,
        window: WindowKey,
    ) -> Result<WindowTotals, Failure> {
        let latest = self.store.window(&pool.id, None).await;
        let latest = latest.map_err(|error| storage_failure(&error))?;
        if latest.window >= window {
            return Ok(latest);
        }
        let totals = self.store.window(&pool.id, Some(window)).await;
        totals.map_err(|error| storage_failure(&error))
    }

    async fn give_back(&self, pool: &Pool, parts: Vec<Returning>) -> Result<(), NotDone> {
        if parts.is_empty() {
            return Ok(());
        }
        let amounts = parts.iter().map(|part| (part.slice.clone(), part.amount));
        match self.store.return_slices(amounts.collect()).await {
            Ok(()) => {
                pool.returned(&parts);
                Ok(())
            }
            Err(error) => Err((storage_failure(&error), parts)),
        }
    }

    async fn claim(
        &self,
        pool: &Arc<Pool>,
        window: WindowKey,
        wanted: Money,
    ) -> Result<Money, NotDone> {
        let id = SliceId::new(&self.ids);
        let (budget, rule) = (pool.id.clone(), pool.rule.clone());
        let claim = Claim { id, budget, rule, window, wanted, node: self.node.clone() };
        let slice = self.store.claim(claim).await.map_err(|error| not_done(&error))?;
        let (window, claimed) = (slice.window, slice.amount);
        pool.install(slice, wanted);
        let totals = self.read_totals(pool, window).await.map_err(|failure| (failure, vec![]))?;
        pool.learn(&totals);
        Ok(claimed)
    }

    async fn look(
        &self,
        pool: &Arc<Pool>,
        window: WindowKey,
        arrivals: u64,
        vain_looks: &mut u32,
    ) -> Result<(), NotDone> {
        self.recorder.flush().await.map_err(|failure| (failure, vec![]))?;
        let totals = self.read_totals(pool, window).await.map_err(|failure| (failure, vec![]))?;
        let looked = pool.refuse(&totals, arrivals);
        // Before anybody is told: who was refused leaves nothing open behind.
        let returned = self.give_back(pool, pool.take_returns()).await;
        let wanted = looked.answer();
        returned?;
        let Some(wanted) = wanted else { return Ok(()) };
        let claimed = self.claim(pool, totals.window.max(window), wanted.size).await?;
        // There was enough a moment ago. If it is gone, others took it, or the budget was deleted,
        // or its limit was lowered and no Call has come with the new one: not for ever.
        *vain_looks = if claimed < wanted.needed { *vain_looks + 1 } else { 0 };
        if *vain_looks >= VAIN_LOOKS_MAX {
            let failure = Failure::new(ErrorCode::Overloaded, "the budget is being changed");
            return Err((failure.retry_after(RETRY_AFTER), Vec::new()));
        }
        Ok(())
    }
}

/// A worker that ends in no other way than by itself: one that panics, or whose runtime stops, must
/// not leave its pool behind as if it were still at work, with waiters whom nobody serves.
struct AtWork<'a> {
    pool: &'a Pool,
    ended: bool,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        tracing::error!(budget = %self.pool.id, "a budget's worker broke off");
        let failure = Failure::new(ErrorCode::Unavailable, "the budget could not be asked");
        // What it was moving stays claimed, and is presumed spent at the next start: nobody knows
        // how far it came.
        self.pool.fail(&failure.retry_after(RETRY_AFTER), Vec::new());
    }
}

/// Why a job could not be done, and what it was to return.
type NotDone = (Failure, Vec<Returning>);

fn not_done(error: &storage::Error) -> NotDone {
    (storage_failure(error), Vec::new())
}

#[cfg(test)]
mod tests;
