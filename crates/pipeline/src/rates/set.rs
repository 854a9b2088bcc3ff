//! The limits in force, found by whom they are for.
//!
//! A set is built whole and never changed. A limit stands under the rarest thing that its scope
//! names, so that a Call looks at its own few, however many there are of others.

use std::collections::HashMap;
use std::sync::Arc;

use types::clock::Monotonic;

use super::cell::Cell;
use super::subject::Subject;
use super::{Asking, Limit};

/// The limits of all accounts.
#[derive(Debug, Default)]
pub(super) struct Set {
    accounts: HashMap<String, Limits>,
}

/// Those of one account.
#[derive(Debug, Default)]
struct Limits {
    by_name: HashMap<String, Arc<Limit>>,
    by_key: HashMap<String, Vec<Arc<Limit>>>,
    by_user: HashMap<String, Vec<Arc<Limit>>>,
    by_model: HashMap<String, Vec<Arc<Limit>>>,
    by_class: HashMap<String, Vec<Arc<Limit>>>,
    of_all: Vec<Arc<Limit>>,
}

/// A limit that a Call falls under, and where it is counted.
pub(super) type InScope = (Arc<Limit>, Arc<Cell>);

impl Set {
    /// Of two limits with one name the later goes.
    pub(super) fn new(limits: Vec<Arc<Limit>>) -> Self {
        let mut set = Self::default();
        for limit in limits {
            let settings = &limit.settings;
            let of_account = set.accounts.entry(settings.account.clone()).or_default();
            if of_account.by_name.contains_key(&settings.name) {
                continue;
            }
            of_account.by_name.insert(settings.name.clone(), Arc::clone(&limit));
            let scope = &settings.scope;
            let place = match (&scope.key, &scope.user, &scope.model, &scope.class) {
                (Some(key), _, _, _) => of_account.by_key.entry(key.clone()).or_default(),
                (_, Some(user), _, _) => of_account.by_user.entry(user.clone()).or_default(),
                (_, _, Some(model), _) => of_account.by_model.entry(model.clone()).or_default(),
                (_, _, _, Some(class)) => of_account.by_class.entry(class.clone()).or_default(),
                (None, None, None, None) => &mut of_account.of_all,
            };
            place.push(limit);
        }
        set
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    pub(super) fn named(&self, account: &str, name: &str) -> Option<&Arc<Limit>> {
        self.accounts.get(account)?.by_name.get(name)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.accounts.values().flat_map(|limits| limits.by_name.values())
    }

    pub(super) fn of_account(&self, account: &str) -> impl Iterator<Item = &Arc<Limit>> {
        self.accounts.get(account).into_iter().flat_map(|limits| limits.by_name.values())
    }

    /// The limits that whoever asks falls under.
    pub(super) fn of(&self, asking: &Asking<'_>) -> Vec<&Arc<Limit>> {
        let Some(limits) = self.accounts.get(&*asking.principal.account) else { return Vec::new() };
        let plan = Some(asking.plan).filter(|plan| *plan != asking.model);
        let found = [
            limits.by_key.get(&*asking.principal.key_name),
            limits.by_user.get(&*asking.principal.user),
            limits.by_model.get(asking.model),
            plan.and_then(|plan| limits.by_model.get(plan)),
            limits.by_class.get(asking.class),
            Some(&limits.of_all),
        ];
        let found = found.into_iter().flatten().flatten();
        found.filter(|limit| holds_for(limit, asking)).collect()
    }

    /// The same with where each counts who asks, in the order in which cells are locked.
    ///
    /// # Errors
    /// The limit that can remember nobody more.
    pub(super) fn in_scope(
        &self,
        asking: &Asking<'_>,
        now: Monotonic,
    ) -> Result<Vec<InScope>, Arc<Limit>> {
        let mut in_scope = Vec::new();
        for limit in self.of(asking) {
            let cell = match limit.settings.each {
                Some(each) => limit.cells.cell(&Subject::of(each, asking), now),
                None => limit.cells.one().map(Arc::clone),
            };
            let cell = cell.ok_or_else(|| Arc::clone(limit))?;
            in_scope.push((Arc::clone(limit), cell));
        }
        in_scope.sort_by_key(|(limit, _)| limit.cells.id);
        Ok(in_scope)
    }

    /// The same to look at only: nobody is remembered for it.
    pub(super) fn seen(&self, asking: &Asking<'_>) -> Vec<InScope> {
        let cell = |limit: &Arc<Limit>| match limit.settings.each {
            Some(each) => Some(limit.cells.peek(&Subject::of(each, asking))),
            None => limit.cells.one().map(Arc::clone),
        };
        let all = self.of(asking).into_iter();
        all.filter_map(|limit| Some((Arc::clone(limit), cell(limit)?))).collect()
    }
}

/// Whether all holds that its scope says.
fn holds_for(limit: &Limit, asking: &Asking<'_>) -> bool {
    let scope = &limit.settings.scope;
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|it| it == found);
    is(&scope.key, &asking.principal.key_name)
        && is(&scope.user, &asking.principal.user)
        && is(&scope.class, asking.class)
        && (is(&scope.model, asking.model) || is(&scope.model, asking.plan))
}
