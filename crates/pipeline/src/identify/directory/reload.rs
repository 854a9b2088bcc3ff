//! A change of everything that the configuration names, as one.
//!
//! What is planned sees what is there while nobody else changes it; then all of it is durable in
//! one commit, and then Calls see all of it in one snapshot. Invariant: if anything of it can't be
//! taken, nothing is. It must not know where a configuration comes from.

use std::sync::Arc;

use storage::models::Taken;
use storage::{Budget, Key, Model, ObjectsChange, RouteVersion};
use types::ids::{BudgetId, KeyId};
use types::{Failure, Secret};

use super::{Directory, NewBudget, NewKey, Upstreams, check_model, same_secret, scopes};
use crate::identify::snapshot::{Edits, Rows};

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
    /// The keys of an account, by id.
    pub fn keys(&self, account: &str) -> impl Iterator<Item = &'a Key> + use<'a> {
        let all = self.rows.keys.values().map(Arc::as_ref);
        let mut all: Vec<&Key> = all.filter(|key| key.account == account).collect();
        all.sort_by(|left, right| left.id.cmp(&right.id));
        all.into_iter()
    }

    /// The budgets of an account, by id, without those that rules have made.
    pub fn budgets(&self, account: &str) -> impl Iterator<Item = &'a Budget> + use<'a> {
        let all = self.rows.budgets.values().map(Arc::as_ref);
        let is_own = |budget: &&Budget| budget.account == account && budget.rule.is_none();
        let mut all: Vec<&Budget> = all.filter(is_own).collect();
        all.sort_by(|left, right| left.id.cmp(&right.id));
        all.into_iter()
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
        let mut edits = Edits::of(&before);
        if let Some(upstreams) = change.upstreams {
            edits.set_upstreams(Arc::new(upstreams));
        }
        let (deleted_keys, deleted_budgets) = (change.deleted_keys, change.deleted_budgets);
        deleted_keys.iter().for_each(|id| edits.remove_key(id));
        deleted_budgets.iter().for_each(|id| edits.remove_budget(id));
        change.deleted_models.iter().for_each(|name| edits.remove_model(name));
        let new = change.keys.into_iter();
        let keys: Vec<Key> = new.map(|(new, secret)| self.key(new, &secret)).collect();
        edits.put_keys(keys.clone()).map_err(|name| same_secret(&name))?;
        let budgets = self.put_budgets(&mut edits, change.budgets)?;
        let models = self.put_models(&mut edits, change.models)?;
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
        let after = edits.done();
        self.commit(changing, self.parts.store.change_objects(stored), after).await
    }

    fn put_budgets(&self, edits: &mut Edits, new: Vec<NewBudget>) -> Result<Vec<Budget>, Failure> {
        let mut budgets = Vec::with_capacity(new.len());
        for new in new {
            scopes::check_session_name(edits.so_far(), &new)?;
            let budget = self.budget_after(edits.so_far(), new);
            edits.put_budget(&Arc::new(budget.clone()));
            budgets.push(budget);
        }
        Ok(budgets)
    }

    fn put_models(&self, edits: &mut Edits, new: Vec<Model>) -> Result<Vec<Model>, Failure> {
        let mut models = Vec::with_capacity(new.len());
        for model in new {
            check_model(&model, &edits.so_far().upstreams)?;
            let model = self.next_of(model);
            edits.put_model(Arc::new(model.clone()));
            models.push(model);
        }
        Ok(models)
    }
}

#[cfg(test)]
mod tests;
