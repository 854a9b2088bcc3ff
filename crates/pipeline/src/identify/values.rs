//! A Call that has a value of a rule which nobody had before: its budget is made first.
//!
//! Off the way of all other Calls. Invariant: no Call goes on without a budget that a rule wants it
//! to have.

use std::sync::Arc;

use storage::Scope;
use types::call::Plan;
use types::{ErrorCode, Failure};

use super::directory::{VALUES_MAX, unused_since};
use super::{Identified, Scoped, Unseen, unauthenticated};
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
    if drop_full(shared, &mut identified) {
        return Ok(identified);
    }
    let full = identified.unseen.iter().find(|value| shared.directory.is_full(value));
    Err(match full {
        Some(value) => {
            let (rule, scope) = (&value.rule.id, &value.rule.scope);
            let message = format!(
                "the budget {rule} ({scope}) has made nearly {VALUES_MAX} budgets already, and \
                 makes no more for this user: delete those that are not needed, or the rule"
            );
            Failure::new(ErrorCode::BudgetExceeded, message)
        }
        None => {
            let message = "the rules of budgets are being changed";
            Failure::new(ErrorCode::Overloaded, message).retry_after(RETRY_AFTER)
        }
    })
}

/// Leaves out the targets for which a rule makes no budgets any more. Answers whether all that is
/// missing then is not needed, and somebody is left to ask.
fn drop_full(shared: &Shared, identified: &mut Identified) -> bool {
    let Identified { unseen, call, .. } = identified;
    let of_full = |value: &Unseen| {
        let Scope::Model(name) = &value.scope else { return None };
        shared.directory.is_full(value).then(|| name.clone())
    };
    let Some(full) = unseen.iter().map(of_full).collect::<Option<Vec<_>>>() else { return false };
    let mut targets = call.plan.targets.clone();
    targets.retain(|target| !full.iter().any(|name| *name == *target.name));
    let Some(call) = Arc::get_mut(call).filter(|_| !targets.is_empty()) else { return false };
    call.plan = Arc::new(Plan { targets, ..Plan::clone(&call.plan) });
    unseen.clear();
    true
}

/// Room for new values, where others are over. What can't be forgotten is tried again later.
async fn forget(shared: &Shared) {
    let now = shared.clock.now();
    let drained = shared.escrow.drain_over(now, unused_since(now)).await;
    let forgotten = match drained {
        Ok(()) => shared.directory.forget_values().await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = forgotten {
        tracing::warn!(%failure, "values of budgets could not be forgotten");
    }
}
