//! A change of everything that the configuration names, as one.
//!
//! What is planned sees what is there while nobody else changes it; then all of it is durable in
//! one commit, and then Calls see all of it in one snapshot. Invariant: if anything of it can't be
//! taken, nothing is. It must not know where a configuration comes from.

use std::sync::Arc;

use storage::models::Taken;
use storage::{Budget, Key, Model, ObjectsChange, RouteVersion};
use types::ids::{BudgetId, KeyId};
use types::{ErrorCode, Failure, Secret};

use super::{Directory, NewBudget, NewKey, Upstreams, check_model, scopes};
use crate::identify::snapshot::{Rows, Snapshot};

/// What is to come, to change and to go.
#[derive(Debug, Default)]
pub struct Change {
    /// Keys that go.
    pub deleted_keys: Vec<KeyId>,
    /// Keys that come or change, by name, with the secrets that their operator chose.
    pub keys: Vec<(NewKey, Secret)>,
    /// Budgets that go.
    pub deleted_budgets: Vec<BudgetId>,
    /// Budgets that come or change, by scope and window.
    pub budgets: Vec<NewBudget>,
    /// Models that go, by name.
    pub deleted_models: Vec<String>,
    /// Models that come or change, by name. Version and time are set here.
    pub models: Vec<Model>,
    /// The next version of the routes, as it is kept; what it means is in `upstreams`.
    pub routes: Option<RouteVersion>,
    /// What was taken from the configuration file; `None` = as before.
    pub taken: Option<Vec<Taken>>,
    /// Who does Calls from now on; `None` = as before.
    pub upstreams: Option<Upstreams>,
}

/// What is there, while nobody else changes it.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    rows: &'a Rows,
}

impl<'a> Held<'a> {
    /// The keys of an account.
    pub fn keys(&self, account: &str) -> impl Iterator<Item = &'a Key> {
        self.rows.keys.values().filter(move |key| key.account == account)
    }

    /// The budgets of an account.
    pub fn budgets(&self, account: &str) -> impl Iterator<Item = &'a Budget> {
        let all = self.rows.budgets.values().map(Arc::as_ref);
        all.filter(move |budget| budget.account == account)
    }

    /// One model of the catalogue.
    pub fn model(&self, name: &str) -> Option<&'a Model> {
        self.rows.models.get(name).map(Arc::as_ref)
    }
}

impl Directory {
    /// Takes what `plan` makes of what is there: all of it, or nothing.
    ///
    /// # Errors
    /// Those of `plan`, and of each object where it is put alone: `conflict` if two keys would have
    /// one secret, `invalid_request` for a session's name that several users may use and for a
    /// model of a provider that is not there; `storage_unavailable`.
    pub async fn change(
        &self,
        plan: impl FnOnce(Held<'_>) -> Result<Change, Failure>,
    ) -> Result<(), Failure> {
        let changing = self.changing().await;
        let before = self.snapshot();
        let change = plan(Held { rows: &before.rows })?;
        let upstreams = match change.upstreams {
            Some(upstreams) => Arc::new(upstreams),
            None => Arc::clone(&before.upstreams),
        };
        let mut rows = before.rows.clone();
        let (deleted_keys, deleted_budgets) = (change.deleted_keys, change.deleted_budgets);
        rows.keys.retain(|id, _| !deleted_keys.contains(id));
        rows.budgets.retain(|id, _| !deleted_budgets.contains(id));
        rows.models.retain(|name, _| !change.deleted_models.contains(name));
        let keys = self.put_keys(&mut rows, change.keys)?;
        let budgets = self.put_budgets(&mut rows, change.budgets)?;
        let models = self.put_models(&mut rows, change.models, &upstreams)?;
        let stored = ObjectsChange {
            deleted_keys,
            keys,
            deleted_budgets,
            budgets,
            deleted_models: change.deleted_models,
            models,
            routes: change.routes,
            taken: change.taken,
        };
        // Built before it is written: nothing may fail between the two.
        let after = Snapshot::new(rows, &upstreams);
        self.commit(changing, self.parts.store.change_objects(stored), after).await
    }

    fn put_keys(&self, rows: &mut Rows, new: Vec<(NewKey, Secret)>) -> Result<Vec<Key>, Failure> {
        let keys: Vec<Key> = new.into_iter().map(|(new, secret)| self.key(new, &secret)).collect();
        for key in &keys {
            rows.keys.insert(key.id.clone(), key.clone());
        }
        for key in &keys {
            let has_it =
                |other: &Key| other.id != key.id && other.secret_sha256 == key.secret_sha256;
            if rows.keys.values().any(has_it) {
                let message = format!("the secret of the key `{}` is another key's", key.name);
                return Err(Failure::new(ErrorCode::Conflict, message));
            }
        }
        Ok(keys)
    }

    fn put_budgets(&self, rows: &mut Rows, new: Vec<NewBudget>) -> Result<Vec<Budget>, Failure> {
        let mut budgets = Vec::with_capacity(new.len());
        for new in new {
            scopes::check_session_name(rows, &new)?;
            let budget = self.budget(new);
            rows.budgets.insert(budget.id.clone(), Arc::new(budget.clone()));
            budgets.push(budget);
        }
        Ok(budgets)
    }

    fn put_models(
        &self,
        rows: &mut Rows,
        new: Vec<Model>,
        upstreams: &Upstreams,
    ) -> Result<Vec<Model>, Failure> {
        let mut models = Vec::with_capacity(new.len());
        for model in new {
            check_model(&model, upstreams)?;
            let model = self.next_of(model);
            rows.models.insert(model.name.clone(), Arc::new(model.clone()));
            models.push(model);
        }
        Ok(models)
    }
}

#[cfg(test)]
mod tests;
