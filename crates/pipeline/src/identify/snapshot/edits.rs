//! A change of a snapshot: the next one out of the one before.
//!
//! Each edit touches the entries that it is about; what follows from several of them is made once,
//! at the end. So a new key costs the same among ten others and among a hundred thousand; only a
//! change of a budget that is on a whole account touches all of its keys. Invariant: the snapshot
//! that comes out is the one that would come out of all rows at once. It must not know the store.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use storage::{Budget, Key, Model, Scope};
use types::ids::{BudgetId, KeyId};

use super::{Known, Names, Snapshot, Upstreams, key_name, principal};

/// A snapshot that is being changed.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    next: Snapshot,
    /// Keys whose budgets may be others.
    keys: BTreeSet<KeyId>,
    /// Users of whose keys the same is true: account and user.
    users: BTreeSet<(String, String)>,
    /// Accounts of whose keys the same is true.
    accounts: BTreeSet<String>,
    /// Accounts where a user or a budget on a session of a name has come or gone.
    session_names: BTreeSet<String>,
    /// Models or upstreams are others.
    names: bool,
}

impl Edits {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self { next: snapshot.clone(), ..Self::default() }
    }

    /// The snapshot as far as its rows and who is found by what; what follows from them is made at
    /// the end.
    pub(crate) const fn so_far(&self) -> &Snapshot {
        &self.next
    }

    /// Takes keys in, or their changes. On a secret that is another key's, the name of the one that
    /// would have it too is the error, and this is of no use any more.
    pub(crate) fn put_keys(&mut self, keys: Vec<Key>) -> Result<(), String> {
        let next = &mut self.next;
        for key in &keys {
            if let Some(before) = next.rows.keys.get(&key.id) {
                next.by_secret.remove(&before.secret_sha256);
                next.key_names.remove(&key_name(&before.account, &before.name));
            }
        }
        for key in keys {
            if next.by_secret.get(&key.secret_sha256).is_some() {
                return Err(key.name);
            }
            let known = Known { principal: principal(&key), budgets: next.scopes.of_key(&key) };
            let known = Arc::new(known);
            next.by_secret.insert(key.secret_sha256, Arc::clone(&known));
            next.by_key.insert(key.id.clone(), known);
            next.key_names.insert(key_name(&key.account, &key.name), key.id.clone());
            if next.scopes.has_session_names(&key.account) {
                self.session_names.insert(key.account.clone());
            }
            next.rows.keys.insert(key.id.clone(), Arc::new(key));
        }
        Ok(())
    }

    pub(crate) fn remove_key(&mut self, id: &KeyId) {
        let next = &mut self.next;
        let Some(key) = next.rows.keys.remove(id) else { return };
        next.by_secret.remove(&key.secret_sha256);
        next.by_key.remove(id);
        next.key_names.remove(&key_name(&key.account, &key.name));
    }

    pub(crate) fn put_budget(&mut self, budget: &Arc<Budget>) {
        let before = self.next.rows.budgets.insert(budget.id.clone(), Arc::clone(budget));
        if let Some(before) = &before {
            self.touch(before);
        }
        self.next.scopes.put(budget, before.as_ref());
        self.touch(budget);
        if matches!(budget.scope, Scope::Each(_)) && before.is_some() {
            self.follow(budget);
        }
    }

    /// What a rule has made is as the rule is.
    fn follow(&mut self, rule: &Budget) {
        for budget in self.made_by(&rule.id) {
            let Budget { limit, version, origin, window, .. } = *rule;
            let zone = rule.zone.clone();
            let budget = Budget { limit, version, origin, window, zone, ..Budget::clone(&budget) };
            self.put_budget(&Arc::new(budget));
        }
    }

    fn made_by(&self, rule: &BudgetId) -> Vec<Arc<Budget>> {
        let all = self.next.rows.budgets.values();
        all.filter(|budget| budget.rule.as_ref() == Some(rule)).cloned().collect()
    }

    pub(crate) fn remove_budget(&mut self, id: &BudgetId) {
        let Some(budget) = self.next.rows.budgets.remove(id) else { return };
        self.next.scopes.remove(&budget);
        self.touch(&budget);
        if matches!(budget.scope, Scope::Each(_)) {
            for made in self.made_by(id) {
                self.remove_budget(&made.id);
            }
        }
    }

    pub(crate) fn put_model(&mut self, model: Arc<Model>) {
        Arc::make_mut(&mut self.next.rows.models).insert(model.name.clone(), model);
        self.names = true;
    }

    pub(crate) fn remove_model(&mut self, name: &str) {
        Arc::make_mut(&mut self.next.rows.models).remove(name);
        self.names = true;
    }

    pub(crate) fn set_upstreams(&mut self, upstreams: Arc<Upstreams>) {
        self.next.upstreams = upstreams;
        self.names = true;
    }

    /// The snapshot with all of it.
    pub(crate) fn done(mut self) -> Snapshot {
        for account in std::mem::take(&mut self.session_names) {
            let keys = self.next.rows.keys.values().filter(|key| key.account == account);
            let users = keys.map(|key| key.user.clone()).collect();
            self.next.scopes.name_sessions(&account, &users);
        }
        for id in self.keys_to_make_anew() {
            let Some(key) = self.next.rows.keys.get(&id).cloned() else { continue };
            let Some(before) = self.next.by_key.get(&id) else { continue };
            let principal = Arc::clone(&before.principal);
            let known = Arc::new(Known { principal, budgets: self.next.scopes.of_key(&key) });
            self.next.by_secret.insert(key.secret_sha256, Arc::clone(&known));
            self.next.by_key.insert(id, known);
        }
        if self.names {
            self.next.names = Arc::new(Names::new(&self.next.rows, &self.next.upstreams));
        }
        self.next
    }

    /// A budget comes or goes: whom it concerns.
    fn touch(&mut self, budget: &Budget) {
        match &budget.scope {
            Scope::Account => drop(self.accounts.insert(budget.account.clone())),
            Scope::User(user) => {
                self.users.insert((budget.account.clone(), user.clone()));
            }
            Scope::Key(name) => {
                let key = self.next.key_named(&budget.account, name);
                self.keys.extend(key.map(|key| key.id.clone()));
            }
            Scope::Session(session) => {
                if types::ids::SessionId::parse(session).is_none() {
                    self.session_names.insert(budget.account.clone());
                }
            }
            Scope::Task(_)
            | Scope::Class(_)
            | Scope::Metadata { .. }
            | Scope::Route(_)
            | Scope::Gateway(_)
            | Scope::Model(_)
            | Scope::Provider(_)
            | Scope::Each(_) => {}
        }
    }

    fn keys_to_make_anew(&mut self) -> BTreeSet<KeyId> {
        let mut keys = std::mem::take(&mut self.keys);
        let users = self.users.iter().map(|(account, user)| (account.as_str(), user.as_str()));
        let (users, accounts): (HashSet<_>, _) = (users.collect(), &self.accounts);
        if users.is_empty() && accounts.is_empty() {
            return keys;
        }
        let concerned = self.next.rows.keys.values().filter(|key| {
            accounts.contains(&key.account)
                || (!users.is_empty() && users.contains(&(key.account.as_str(), key.user.as_str())))
        });
        keys.extend(concerned.map(|key| key.id.clone()));
        keys
    }
}

#[cfg(test)]
mod tests;
