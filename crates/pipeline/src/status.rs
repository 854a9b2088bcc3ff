//! What budgets hold, as shown to operators, and their reconciliation.
//!
//! The durable amounts know nothing of idle money: to the store a claimed slice is gone. What of it
//! is idle is asked of memory, so that `reserved` is what Calls in flight really hold. Invariant:
//! the amounts shown sum up to the limit.

use std::sync::Arc;

use serde::Serialize;
use storage::budgets::Reconcile;
use storage::{Budget, WindowKey, WindowTotals};
use types::ids::BudgetId;
use types::{ErrorCode, Failure, Money, Timestamp};

use crate::record::storage_failure;
use crate::run::Pipeline;

/// A budget with the amounts of one window.
/// `settled + unreconciled + presumed + reserved + free = limit`, unless a limit was lowered below
/// what is taken (`free` is then zero).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetStatus {
    /// The budget.
    pub budget: Arc<Budget>,
    /// The window: the second at which it began; 0 for a total.
    pub window: WindowKey,
    /// When the window ends; `None` for a total.
    pub ends_at: Option<Timestamp>,
    /// Cost by reported usage.
    pub settled: Money,
    /// Known attempts whose usage is unknown, at what was reserved for them.
    pub unreconciled: Money,
    /// Escrow that was open at a crash.
    pub presumed: Money,
    /// Held by Calls in flight, steps and plain ones.
    pub reserved: Money,
    /// The rest of the limit, idle parts of slices included.
    pub free: Money,
    /// `free` less the idle parts of slices.
    pub unclaimed: Money,
}

impl BudgetStatus {
    fn new(budget: Arc<Budget>, totals: &WindowTotals, idle: Money) -> Self {
        // A slice may have been claimed between the two looks: what is idle never exceeds what the
        // store saw.
        let idle = idle.min(totals.claimed);
        let unclaimed = budget.limit.minus_or_zero(totals.taken());
        Self {
            window: totals.window,
            ends_at: budget.window.end(totals.window),
            settled: totals.settled,
            unreconciled: totals.unreconciled,
            presumed: totals.presumed,
            reserved: totals.reserved + (totals.claimed - idle),
            free: budget.limit.minus_or_zero(totals.taken() - idle),
            unclaimed,
            budget,
        }
    }
}

impl Pipeline {
    /// All budgets of an account with their amounts, by id. Flushes the ledger first, so that ended
    /// Calls are in them.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn budget_status(&self, account: &str) -> Result<Vec<BudgetStatus>, Failure> {
        self.recorder.flush().await?;
        let mut statuses = Vec::new();
        for budget in self.parts.directory.budgets(account) {
            statuses.push(self.status_of(budget).await?);
        }
        Ok(statuses)
    }

    /// One budget of an account with the amounts of its present window.
    ///
    /// # Errors
    /// `not_found`, `storage_unavailable`.
    pub async fn one_budget_status(
        &self,
        account: &str,
        id: &BudgetId,
    ) -> Result<BudgetStatus, Failure> {
        self.recorder.flush().await?;
        self.status_of(self.budget(account, id)?).await
    }

    /// Takes what the provider really charged, and answers the budget's amounts of that window.
    ///
    /// # Errors
    /// `not_found` for a budget that the account does not have, `invalid_request` for amounts above
    /// what is to be reconciled, `storage_unavailable`.
    pub async fn reconcile(
        &self,
        account: &str,
        reconcile: Reconcile,
    ) -> Result<BudgetStatus, Failure> {
        let budget = self.budget(account, &reconcile.budget)?;
        self.recorder.flush().await?;
        let before = self.parts.store.window(&budget.id, Some(reconcile.window)).await;
        let before = before.map_err(|error| storage_failure(&error))?;
        check("presumed_charged", reconcile.presumed_charged, before.presumed)?;
        check("unreconciled_charged", reconcile.unreconciled_charged, before.unreconciled)?;
        let totals = self.parts.store.reconcile(reconcile).await;
        let totals = totals.map_err(|error| storage_failure(&error))?;
        Ok(self.shown(budget, &totals))
    }

    /// The window that a budget is in now.
    pub fn present_window(&self, budget: &Budget) -> WindowKey {
        self.escrow.pool(budget).window(budget, self.parts.clock.now())
    }

    async fn status_of(&self, budget: Arc<Budget>) -> Result<BudgetStatus, Failure> {
        let pool = self.escrow.pool(&budget);
        let window = self.present_window(&budget);
        let totals = self.escrow.desk.read_totals(&pool, window).await?;
        Ok(self.shown(budget, &totals))
    }

    fn shown(&self, budget: Arc<Budget>, totals: &WindowTotals) -> BudgetStatus {
        let idle = self.escrow.pool(&budget).idle_in(totals.window);
        BudgetStatus::new(budget, totals, idle)
    }

    fn budget(&self, account: &str, id: &BudgetId) -> Result<Arc<Budget>, Failure> {
        let budgets = self.parts.directory.budgets(account);
        let missing = || Failure::new(ErrorCode::NotFound, format!("there is no budget {id}"));
        budgets.into_iter().find(|budget| budget.id == *id).ok_or_else(missing)
    }
}

fn check(field: &str, charged: Option<Money>, open: Money) -> Result<(), Failure> {
    match charged {
        Some(charged) if charged > open => {
            let message = format!("{field} is ${charged}, and only ${open} is to be reconciled");
            Err(Failure::invalid(field, message))
        }
        _ => Ok(()),
    }
}
