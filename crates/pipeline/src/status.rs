//! What budgets hold, as shown to operators.
use std::sync::Arc;

use serde::Serialize;
use storage::budgets::Reconcile;
use storage::{Budget, WindowKey};
use types::{Failure, Money, Timestamp};

use crate::run::Pipeline;

/// A budget with the amounts of its present window. `settled + unreconciled + presumed + reserved + free = limit`,
/// unless a limit was lowered below what is taken (`free` is then zero).
#[derive(Clone, Debug, PartialEq, Serialize)]
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

impl Pipeline {
    /// All budgets of an account with their amounts, by id. Flushes the ledger first, so that ended Calls are in them.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn budget_status(&self, _account: &str) -> Result<Vec<BudgetStatus>, Failure> {
        todo!()
    }

    /// Takes what the provider really charged, and answers the budget's amounts of that window.
    ///
    /// # Errors
    /// `not_found` for a budget that the account does not have, `invalid_request` for amounts above what is to be
    /// reconciled, `storage_unavailable`.
    pub async fn reconcile(
        &self,
        _account: &str,
        _reconcile: Reconcile,
    ) -> Result<BudgetStatus, Failure> {
        todo!()
    }
}
