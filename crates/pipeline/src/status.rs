//! What budgets hold, as shown to operators, and their reconciliation.
//!
//! The durable amounts know nothing of idle money: to the store a claimed slice is gone. What of it
//! is idle is asked of memory, so that `reserved` is what Calls in flight really hold. Invariant:
//! the amounts shown sum up to the limit.

use std::sync::Arc;

use serde::Serialize;
use storage::budgets::{Reconcile, SEEN_AMOUNT, Told};
use storage::{Budget, WindowKey, WindowTotals};
use types::ids::BudgetId;
use types::{ErrorCode, Failure, Money, Timestamp};

use crate::identify::directory::MoreMoney;
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

/// What an operator says that a provider really charged.
#[derive(Clone, Debug)]
pub struct Reconciliation {
    /// The budget.
    pub budget: BudgetId,
    /// The window; `None` = the one that the budget is in.
    pub window: Option<WindowKey>,
    /// Of what is presumed.
    pub presumed: Option<Charged>,
    /// Of what is unreconciled.
    pub unreconciled: Option<Charged>,
    /// Who says so.
    pub operator: String,
}

/// What was charged of an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// So much; the rest is freed.
    pub charged: Money,
    /// Of so much, as it was looked at; `None` = of all that is there.
    pub seen: Option<Money>,
}

impl BudgetStatus {
    fn new(budget: Arc<Budget>, totals: &WindowTotals, idle: Money) -> Self {
        // A slice may have been claimed between the two looks: what is idle never exceeds what the
        // store saw.
        let idle = idle.min(totals.claimed);
        let unclaimed = budget.limit.minus_or_zero(totals.taken());
        Self {
            window: totals.window,
            ends_at: budget.window_end(totals.window),
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
        self.shared.recorder.flush().await?;
        let mut statuses = Vec::new();
        for budget in self.parts.directory.budgets(account) {
            statuses.push(self.status_of(budget).await?);
        }
        Ok(statuses)
    }

    /// The budgets that a rule of an account has made, after the one of id `after`, `limit` at
    /// most, by id.
    ///
    /// # Errors
    /// `not_found` if there is no such rule, `storage_unavailable`.
    pub async fn rule_status(
        &self,
        account: &str,
        rule: &BudgetId,
        (after, limit): (Option<&BudgetId>, usize),
    ) -> Result<Vec<BudgetStatus>, Failure> {
        self.budget(account, rule)?;
        self.shared.recorder.flush().await?;
        let all = self.parts.directory.budgets_of_rule(account, rule).into_iter();
        let mut statuses = Vec::new();
        let is_later = |budget: &Arc<Budget>| after.is_none_or(|after| budget.id > *after);
        for budget in all.filter(is_later).take(limit) {
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
        self.shared.recorder.flush().await?;
        self.status_of(self.budget(account, id)?).await
    }

    /// Takes what the provider really charged, and answers the budget's amounts of that window.
    /// Exactly the amounts that were seen are moved: those that the caller names, else those that
    /// are there when it asks.
    ///
    /// # Errors
    /// `not_found` for a budget that the account does not have, `invalid_request` for amounts above
    /// what is to be reconciled, `conflict` if less is there by now than was seen,
    /// `storage_unavailable`.
    pub async fn reconcile(
        &self,
        account: &str,
        asked: Reconciliation,
    ) -> Result<BudgetStatus, Failure> {
        let budget = self.budget(account, &asked.budget)?;
        self.shared.recorder.flush().await?;
        let before = match asked.window {
            Some(window) => {
                let totals = self.parts.store.window(&budget.id, Some(window)).await;
                totals.map_err(|error| storage_failure(&error))?
            }
            // Not the clock's: a window that was opened before a clock went back is still open.
            None => self.present_totals(&budget).await?,
        };
        let told = Reconcile {
            budget: asked.budget,
            window: before.window,
            presumed: told("presumed", asked.presumed, before.presumed)?,
            unreconciled: told("unreconciled", asked.unreconciled, before.unreconciled)?,
            operator: asked.operator,
            at: self.parts.clock.now(),
        };
        let totals = self.parts.store.reconcile(told).await.map_err(|error| match error {
            storage::Error::NotFound { what: SEEN_AMOUNT } => changed(),
            error => storage_failure(&error),
        })?;
        Ok(self.shown(budget, &totals))
    }

    /// Raises the limit of a budget in total, and answers its amounts.
    ///
    /// # Errors
    /// `not_found` for a budget that the account does not have, `invalid_request` for one whose
    /// windows end and for an amount that is none, `conflict` if `key` was used for another amount;
    /// `storage_unavailable`.
    pub async fn top_up(
        &self,
        account: &str,
        id: &BudgetId,
        asked: MoreMoney,
    ) -> Result<BudgetStatus, Failure> {
        self.parts.directory.top_up(account, id, asked).await?;
        self.one_budget_status(account, id).await
    }

    /// The window that a budget is in now.
    pub fn present_window(&self, budget: &Budget) -> WindowKey {
        self.shared.escrow.pool(budget).window(budget, self.parts.clock.now())
    }

    async fn status_of(&self, budget: Arc<Budget>) -> Result<BudgetStatus, Failure> {
        let totals = self.present_totals(&budget).await?;
        Ok(self.shown(budget, &totals))
    }

    async fn present_totals(&self, budget: &Budget) -> Result<WindowTotals, Failure> {
        let pool = self.shared.escrow.pool(budget);
        self.shared.escrow.desk.read_totals(&pool, self.present_window(budget)).await
    }

    fn shown(&self, budget: Arc<Budget>, totals: &WindowTotals) -> BudgetStatus {
        let idle = self.shared.escrow.pool(&budget).idle_in(totals.window);
        BudgetStatus::new(budget, totals, idle)
    }

    fn budget(&self, account: &str, id: &BudgetId) -> Result<Arc<Budget>, Failure> {
        let missing = || Failure::new(ErrorCode::NotFound, format!("there is no budget {id}"));
        self.parts.directory.budget_of(account, id).ok_or_else(missing)
    }
}

/// What is moved of an amount of which `there` is left.
fn told(amount: &str, charged: Option<Charged>, there: Money) -> Result<Option<Told>, Failure> {
    let Some(Charged { charged, seen }) = charged else { return Ok(None) };
    if let Some(seen) = seen.filter(|seen| *seen > there) {
        tracing::info!(amount, %seen, %there, "less is to be reconciled than was seen");
        return Err(changed());
    }
    let seen = seen.unwrap_or(there);
    if charged > seen {
        let field = format!("{amount}_charged");
        let message = format!("{field} is ${charged}, and only ${seen} is to be reconciled");
        return Err(Failure::invalid(field, message));
    }
    Ok(Some(Told { seen, charged }))
}

fn changed() -> Failure {
    let message = "less is to be reconciled than was seen: look at the budget again";
    Failure::new(ErrorCode::Conflict, message)
}
