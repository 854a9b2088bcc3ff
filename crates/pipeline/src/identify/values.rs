//! A Call that has a value of a rule which nobody had before: its budget is made first.
//!
//! Off the way of all other Calls. Invariant: no Call goes on without a budget that a rule wants it
//! to have.

use types::{ErrorCode, Failure};

use super::directory::VALUES_MAX;
use super::{Identified, Scoped, unauthenticated};
use crate::execute::attempts::Shared;
use crate::record::RETRY_AFTER;

/// Times that budgets are made for one Call, while somebody changes the rules.
const TRIES_MAX: usize = 3;

/// The Call with the budgets that its values have by now.
///
/// # Errors
/// `budget_exceeded` if a rule has made all that it may; those of making them.
pub(crate) async fn with_values(
    shared: &Shared,
    identified: Identified,
) -> Result<Identified, Failure> {
    let mut identified = identified;
    for _ in 0..TRIES_MAX {
        if identified.unseen.is_empty() {
            return Ok(identified);
        }
        if shared.directory.has_to_forget() {
            forget(shared).await;
        }
        shared.directory.make_values(&identified.unseen).await?;
        let snapshot = shared.directory.snapshot();
        let gone = || unauthenticated("the key was deleted");
        let known = snapshot.by_key(&identified.call.principal.key).ok_or_else(gone)?;
        let Scoped { budgets, of_targets, unseen } = snapshot.scoped(&known, &identified.call);
        identified = Identified { budgets, of_targets, unseen, ..identified };
    }
    let full = identified.unseen.iter().find(|value| shared.directory.is_full(&value.rule));
    Err(match full {
        Some(value) => {
            let (rule, scope) = (&value.rule.id, &value.rule.scope);
            let message = format!(
                "the budget {rule} ({scope}) has made {VALUES_MAX} budgets already, and makes no \
                 more: delete those that are not needed, or the rule"
            );
            Failure::new(ErrorCode::BudgetExceeded, message)
        }
        None => {
            let message = "the rules of budgets are being changed";
            Failure::new(ErrorCode::Overloaded, message).retry_after(RETRY_AFTER)
        }
    })
}

/// Room for new values, where others are over. What can't be forgotten is tried again later.
async fn forget(shared: &Shared) {
    let now = shared.clock.now();
    let forgotten = match shared.escrow.drain_ended(now).await {
        Ok(()) => shared.directory.forget_values().await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = forgotten {
        tracing::warn!(%failure, "values of budgets could not be forgotten");
    }
}
