//! Rules: a budget of its own for each value of something, made when the value is first seen.
//!
//! Values come from clients, so their length and their number are bounded. All that wait while one
//! change is made durable are made together by the next. Invariants: a budget is durable before any
//! Call is admitted under it; its id follows from rule and value, so that one that was forgotten
//! goes on where it was. It must not know Calls.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storage::budgets::ForgetValues;
use storage::{Budget, ObjectsChange, Scope, WindowKey, WindowKind};
use types::call::NAME_CHARS_MAX;
use types::ids::BudgetId;
use types::{ErrorCode, Failure, Timestamp};

use super::Directory;
use super::scopes::check_scope_names;
use crate::identify::snapshot::{Edits, Unseen};
use crate::identify::{CALL_TIME_MAX, derived_id};

/// Budgets that a rule makes at most; values that come then are refused.
pub(crate) const VALUES_MAX: usize = 100_000;
/// Of these, the last ones are for users that have brought fewer than so many: no single user can
/// have a rule refuse all others.
const VALUES_FOR_OTHERS: usize = VALUES_MAX / 10;
/// Values that wait at most.
const WAITING_MAX: usize = 10_000;
/// How long a value that nobody uses is kept after its window: longer than any Call takes.
const KEPT: Duration = Duration::from_secs(2 * CALL_TIME_MAX.as_secs());
/// How long after forgetting some it is tried again.
const FORGET_EVERY: Duration = Duration::from_mins(10);

/// Values that wait for a budget of their own.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    values: Mutex<Vec<Unseen>>,
    forgot_at: Mutex<Timestamp>,
    brought: Mutex<Brought>,
}

/// Which values a user has brought to a rule, since the start.
type Brought = HashMap<(BudgetId, Arc<str>), HashSet<BudgetId>>;

impl Directory {
    /// Makes budgets for these values. Those for which there is no room are left out.
    ///
    /// # Errors
    /// `invalid_request` for a value that is too long, `overloaded`, `storage_unavailable`.
    pub(crate) async fn make_values(&self, unseen: &[Unseen]) -> Result<(), Failure> {
        for value in unseen {
            check_scope_names(&value.scope).map_err(|failure| too_long(&value.scope, failure))?;
        }
        self.wait_with(unseen)?;
        let changing = self.changing().await;
        let batch = std::mem::take(&mut *self.values());
        let mut edits = Edits::of(&self.snapshot());
        let mut budgets = BTreeMap::new();
        for Unseen { rule, scope, by } in batch {
            let before = edits.so_far();
            let id = id_of(&rule.id, &scope);
            // The rule as it is now; it may be gone.
            let Some(rule) = before.rows.budgets.get(&rule.id).cloned() else { continue };
            let is_made = before.rows.budgets.get(&id).is_some();
            if is_made || !self.has_room(before.made(&rule), &rule.id, &by) {
                continue;
            }
            self.brought().entry((rule.id.clone(), by)).or_default().insert(id.clone());
            let budget = Budget {
                id: id.clone(),
                scope,
                created_at: self.parts.clock.now(),
                rule: Some(rule.id.clone()),
                ..Budget::clone(&rule)
            };
            edits.put_budget(&Arc::new(budget.clone()));
            budgets.insert(id, budget);
        }
        if budgets.is_empty() {
            return Ok(());
        }
        let budgets = budgets.into_values().collect();
        let stored = ObjectsChange { budgets, ..ObjectsChange::default() };
        self.commit(changing, self.parts.store.change_objects(stored), edits.done()).await
    }

    /// Whether a rule has made all that it may for the user who brings a value.
    pub(crate) fn is_full(&self, Unseen { rule, by, .. }: &Unseen) -> bool {
        !self.has_room(self.snapshot().made(rule), &rule.id, by)
    }

    fn has_room(&self, made: usize, rule: &BudgetId, by: &Arc<str>) -> bool {
        let brought =
            || self.brought().get(&(rule.clone(), Arc::clone(by))).map_or(0, HashSet::len);
        made < VALUES_MAX - VALUES_FOR_OTHERS
            || (made < VALUES_MAX && brought() < VALUES_FOR_OTHERS)
    }

    /// Whether it is time to forget values, since rules have many.
    pub(crate) fn has_to_forget(&self) -> bool {
        let snapshot = self.snapshot();
        let now = self.parts.clock.now();
        let mut last = self.waiting.forgot_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = now.since(*last) >= FORGET_EVERY;
        let many = |rule: &Arc<Budget>| snapshot.made(rule) >= VALUES_MAX / 100;
        let due = is_due && snapshot.rules().any(many);
        if due {
            *last = now;
        }
        due
    }

    /// Forgets values whose windows have ended, of which nothing is open.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub(crate) async fn forget_values(&self) -> Result<(), Failure> {
        let changing = self.changing().await;
        let snapshot = self.snapshot();
        let made_before = unused_since(self.parts.clock.now());
        let forget = snapshot.rules().map(|rule| {
            let since = match rule.window {
                // What is paid for ever is never over.
                WindowKind::Total => WindowKey(i64::MIN),
                window => WindowKey(window.before(rule.window_at(made_before)).0 + 1),
            };
            ForgetValues { rule: rule.id.clone(), made_before, since }
        });
        // One write, and to its end whoever asked for it: what the store has forgotten and Calls
        // still see would be a budget that nobody can claim of.
        let writing = self.parts.store.forget_values(forget.collect());
        let after = move |forgotten: &Vec<BudgetId>| {
            let mut edits = Edits::of(&snapshot);
            forgotten.iter().for_each(|id| edits.remove_budget(id));
            edits.done()
        };
        let forgotten = self.commit_then(changing, writing, after).await?;
        let forgotten: HashSet<BudgetId> = forgotten.into_iter().collect();
        self.brought().retain(|_, values| {
            values.retain(|id| !forgotten.contains(id));
            !values.is_empty()
        });
        Ok(())
    }

    fn wait_with(&self, unseen: &[Unseen]) -> Result<(), Failure> {
        let mut waiting = self.values();
        if waiting.len() >= WAITING_MAX {
            let message = "too many new values of budgets wait to be written";
            let failure = Failure::new(ErrorCode::Overloaded, message);
            return Err(failure.retry_after(crate::record::RETRY_AFTER));
        }
        waiting.extend_from_slice(unseen);
        Ok(())
    }

    fn brought(&self) -> std::sync::MutexGuard<'_, Brought> {
        self.waiting.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn values(&self) -> std::sync::MutexGuard<'_, Vec<Unseen>> {
        self.waiting.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has not been used since then is nobody's any more.
pub(crate) fn unused_since(now: Timestamp) -> Timestamp {
    let kept = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(kept))
}

/// The id of a rule's budget for a value.
fn id_of(rule: &BudgetId, scope: &Scope) -> BudgetId {
    let text = scope.to_string();
    derived_id(BudgetId::PREFIX, &[rule.as_str(), &text], BudgetId::parse)
}

/// A value that no budget can have, as its client is told.
fn too_long(scope: &Scope, failure: Failure) -> Failure {
    let (param, what) = match scope {
        Scope::Metadata { name, .. } => {
            ("holdfast-metadata", format!("the value of `{name}` in the metadata"))
        }
        Scope::Model(_) => ("model", "the model's name".to_owned()),
        Scope::Account
        | Scope::Key(_)
        | Scope::Session(_)
        | Scope::User(_)
        | Scope::Task(_)
        | Scope::Class(_)
        | Scope::Route(_)
        | Scope::Gateway(_)
        | Scope::Provider(_)
        | Scope::Each(_) => return failure,
    };
    let message =
        format!("{what} has a budget of its own, and must have 1 to {NAME_CHARS_MAX} characters");
    Failure::invalid(param, message)
}
