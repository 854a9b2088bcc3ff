//! Money for plain Calls, reserved from memory in every budget that a Call falls under.
//!
//! All or none, taken in order of budget id, so that two Calls can never hold what the other waits
//! for. A Call in no budget's scope comes by here without touching anything. It must not know what
//! the money is for.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use storage::Budget;
use types::ids::BudgetId;
use types::{ErrorCode, Failure, Money, Timestamp};

use super::claims::Desk;
use super::pool::{Hold, Pool, Refusal, Taken};

/// The pools of all budgets that were asked for since the start.
#[derive(Debug)]
pub(crate) struct Escrow {
    pub(crate) desk: Arc<Desk>,
    pools: RwLock<HashMap<BudgetId, Arc<Pool>>>,
}

/// A refusal with the budget that gave it.
#[derive(Debug)]
pub(crate) struct Short {
    pub(crate) budget: Arc<Budget>,
    pub(crate) refusal: Refusal,
}

impl Escrow {
    pub(crate) fn new(desk: Desk) -> Self {
        Self { desk: Arc::new(desk), pools: RwLock::default() }
    }

    /// Reserves `amount` in each of `budgets`, which are in order of id.
    ///
    /// Ready at once where slices have enough. Dropping the future gives back what was taken.
    pub(crate) async fn reserve(
        &self,
        budgets: &[Arc<Budget>],
        amount: Money,
        now: Timestamp,
    ) -> Result<Vec<Hold>, Short> {
        let mut holds = Vec::with_capacity(budgets.len());
        for budget in budgets {
            let pool = self.pool(budget);
            let (taken, start_worker) = pool.take(budget, amount, now);
            if start_worker {
                self.desk.start_worker(&pool);
            }
            let hold = match taken {
                Taken::Held(hold) => Ok(hold),
                Taken::Wait(answer) => answer.await.unwrap_or_else(|_| Err(stopped())),
            };
            match hold {
                Ok(hold) => holds.push(hold),
                Err(refusal) => {
                    let held = budgets.get(..holds.len()).unwrap_or_default();
                    drop(holds);
                    self.hand_in(held).await;
                    return Err(Short { budget: Arc::clone(budget), refusal });
                }
            }
        }
        Ok(holds)
    }

    /// What the tightest of `budgets` has left: from memory where it was looked up before, else
    /// from the store.
    pub(crate) async fn tightest_free(
        &self,
        budgets: &[Arc<Budget>],
        now: Timestamp,
    ) -> Result<Option<Money>, Failure> {
        let mut tightest = None;
        for budget in budgets {
            let free = match self.pool(budget).free_hint(budget, now) {
                Some(free) => free,
                None => self.free(budget, now).await?,
            };
            tightest = Some(tightest.map_or(free, |least: Money| least.min(free)));
        }
        Ok(tightest)
    }

    /// What a budget has left, from the store and this node's idle slices.
    pub(crate) async fn free(
        &self,
        budget: &Arc<Budget>,
        now: Timestamp,
    ) -> Result<Money, Failure> {
        let pool = self.pool(budget);
        let totals = self.desk.read_totals(&pool, pool.window(budget, now)).await?;
        let idle = pool.learn(&totals);
        Ok(budget.limit.minus_or_zero(totals.taken()).saturating_add(idle))
    }

    /// Returns everything idle in `budgets` to the store.
    pub(crate) async fn drain(&self, budgets: &[Arc<Budget>]) -> Result<(), Failure> {
        let pools: Vec<_> = budgets.iter().map(|budget| self.pool(budget)).collect();
        self.drain_pools(&pools).await
    }

    /// Returns what is idle in budgets whose windows have ended, or that nobody has used since
    /// `since`, and forgets those of which nothing is held.
    pub(crate) async fn drain_over(&self, now: Timestamp, since: Timestamp) -> Result<(), Failure> {
        let over: Vec<_> = {
            let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
            pools.values().filter(|pool| pool.is_over(now, since)).map(Arc::clone).collect()
        };
        self.drain_pools(&over).await?;
        drop(over);
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody else has it, and nobody can get it while this is locked.
        pools.retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_empty());
        Ok(())
    }

    /// Returns everything idle in all budgets to the store.
    pub(crate) async fn drain_all(&self) -> Result<(), Failure> {
        let pools: Vec<_> = {
            let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
            pools.values().map(Arc::clone).collect()
        };
        self.drain_pools(&pools).await
    }

    /// Waits until what a refused Call had of these budgets, and what was claimed for it, is back
    /// in the store. A failure is the worker's to log: it tries again with the next Call.
    async fn hand_in(&self, budgets: &[Arc<Budget>]) {
        for budget in budgets {
            let pool = self.pool(budget);
            let Some((answer, start_worker)) = pool.hand_in() else { continue };
            if start_worker {
                self.desk.start_worker(&pool);
            }
            // A worker that is gone has said why.
            let _returned = answer.await;
        }
    }

    async fn drain_pools(&self, pools: &[Arc<Pool>]) -> Result<(), Failure> {
        let mut drained = Vec::with_capacity(pools.len());
        for pool in pools {
            let (answer, start_worker) = pool.drain();
            if start_worker {
                self.desk.start_worker(pool);
            }
            drained.push(answer);
        }
        for answer in drained {
            let stopped = || Err(Failure::new(ErrorCode::Unavailable, STOPPED));
            answer.await.unwrap_or_else(|_| stopped())?;
        }
        Ok(())
    }

    pub(crate) fn pool(&self, budget: &Budget) -> Arc<Pool> {
        if let Some(pool) =
            self.pools.read().unwrap_or_else(PoisonError::into_inner).get(&budget.id)
        {
            return Arc::clone(pool);
        }
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.entry(budget.id.clone()).or_insert_with(|| Arc::new(Pool::new(budget)));
        Arc::clone(pool)
    }
}

const STOPPED: &str = "the server is stopping";

fn stopped() -> Refusal {
    Refusal::Failed(Failure::new(ErrorCode::Unavailable, STOPPED))
}
