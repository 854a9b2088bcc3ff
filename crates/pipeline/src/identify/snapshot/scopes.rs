//! Budgets by what they are on: which of them a Call falls under, and which of them an attempt at
//! one of its targets.
//!
//! One index per account, of maps of which a changed copy costs little. A look-up is one of a hash
//! map for each kind of scope that some budget of the account is on, and nothing where there is
//! none. Invariants: every list is in order of id, because money of several budgets is taken in
//! that order; a budget is in the list of its own scope and in no other. It must not know amounts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use storage::{Budget, Dimension, Key, Scope};
use types::call::Target;
use types::ids::{BudgetId, SessionId};
use types::{Call, Price};

use super::super::named_session;
use super::cow::CowMap;
use crate::admit::bound;

/// Budgets in order of id.
pub(crate) type List = Arc<[Arc<Budget>]>;
/// Budgets of one kind of scope, by what they are on.
type By = CowMap<String, List>;

/// The budgets of all accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scopes {
    accounts: CowMap<String, Arc<OfAccount>>,
}

/// Those of one account.
#[derive(Clone, Debug, Default)]
struct OfAccount {
    whole: List,
    keys: By,
    users: By,
    /// By id.
    sessions: By,
    /// Budgets on sessions of a name; they are in `sessions` too, for each user's session of it.
    session_names: By,
    tasks: By,
    classes: By,
    /// By the entry's name, then by its value.
    metadata: CowMap<String, By>,
    routes: By,
    gateways: By,
    models: By,
    providers: By,
    /// Those that make a budget for each value of something.
    rules: List,
    /// How many each of them has made.
    made: BTreeMap<BudgetId, usize>,
    /// How many are on what a Call has beside its key, so that most Calls need not look.
    of_calls: usize,
    /// How many are on what a target is.
    of_targets: usize,
}

/// Which Calls fall under a budget.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All of a key.
    Key,
    /// Those that say so.
    Call,
    /// Those that say so, or are sent there.
    Target,
}

/// What attempts at a Call's targets fall under, beside what the Call does. Only targets that fall
/// under something are here.
#[derive(Debug)]
pub(crate) struct OfTargets(Vec<(Arc<str>, List)>);

impl OfTargets {
    /// Each target that falls under something, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &List)> {
        self.0.iter().map(|(name, list)| (&**name, list))
    }

    /// What an attempt at this target falls under beside.
    pub(crate) fn get(&self, target: &Target) -> Option<&List> {
        self.0.iter().find(|(name, _)| **name == *target.name).map(|(_, list)| list)
    }
}

impl Scopes {
    /// Takes a budget in; `before` is the one of its id that there was.
    pub(crate) fn put(&mut self, budget: &Arc<Budget>, before: Option<&Arc<Budget>>) {
        if let Some(before) = before {
            self.remove(before);
        }
        self.edit(&budget.account, |of| {
            of.count(budget, true);
            of.change(&budget.scope, |list| with(list, budget));
        });
    }

    /// Takes a budget out.
    pub(crate) fn remove(&mut self, budget: &Arc<Budget>) {
        self.edit(&budget.account, |of| {
            of.count(budget, false);
            of.change(&budget.scope, |list| without(list, &budget.id));
        });
    }

    fn edit(&mut self, account: &str, change: impl FnOnce(&mut OfAccount)) {
        // Taken out, so that the second edit of a snapshot finds it its own and copies nothing.
        let mut of = self.accounts.remove(account).unwrap_or_default();
        change(Arc::make_mut(&mut of));
        self.accounts.insert(account.to_owned(), of);
    }

    /// The budgets on exactly this.
    pub(crate) fn on(&self, account: &str, scope: &Scope) -> List {
        let of = self.accounts.get(account);
        of.and_then(|of| of.on(scope)).cloned().unwrap_or_default()
    }

    /// Whether the account has budgets on sessions that are named without their user.
    pub(crate) fn has_session_names(&self, account: &str) -> bool {
        self.accounts.get(account).is_some_and(|of| !of.session_names.is_empty())
    }

    /// Has budgets on sessions of a name count those of `users`. A session is its user's: a name
    /// stands for the sessions of that name of all users that the account has, which is one
    /// ([`super::super::directory::Directory::put_budget`]) unless others came later; then they
    /// share it, so that no limit is lost.
    pub(crate) fn name_sessions(&mut self, account: &str, users: &BTreeSet<String>) {
        self.edit(account, |of| {
            let is_id = |(key, list): (&String, &List)| {
                let own = list.iter().filter(|budget| budget.scope == Scope::Session(key.clone()));
                let own: List = own.cloned().collect();
                (!own.is_empty()).then(|| (key.clone(), own))
            };
            let by_id: Vec<_> = of.sessions.iter().filter_map(is_id).collect();
            of.sessions = By::default();
            for (id, list) in by_id {
                of.sessions.insert(id, list);
            }
            let names: Vec<_> = of.session_names.iter().collect();
            let of_users = names.iter().flat_map(|it| users.iter().map(move |user| (it, user)));
            for ((name, list), user) in of_users {
                let id = named_session(account, user, name);
                change(&mut of.sessions, id.as_str(), |own| joined(own, list.to_vec()));
            }
        });
    }

    /// All that every Call with a key falls under.
    pub(crate) fn of_key(&self, key: &Key) -> List {
        let Some(of) = self.accounts.get(&key.account) else { return List::default() };
        let (of_key, of_user) = (of.keys.get(&key.name), of.users.get(&key.user));
        match (of_key, of_user) {
            (None, None) => Arc::clone(&of.whole),
            (of_key, of_user) => {
                let more = of_key.into_iter().chain(of_user);
                joined(&of.whole, more.flat_map(|list| list.iter()).cloned().collect())
            }
        }
    }

    /// All that a Call falls under, of which `own` is what every Call with its key does.
    pub(crate) fn of_call(&self, own: &List, call: &Call) -> List {
        let Some(of) = self.accounts.get(&*call.principal.account) else { return Arc::clone(own) };
        if of.of_calls == 0 && of.of_targets == 0 {
            return Arc::clone(own);
        }
        let mut found = Vec::new();
        let mut look = |by: &By, key: Option<&str>| {
            let list = key.filter(|_| !by.is_empty()).and_then(|key| by.get(key));
            found.extend(list.iter().flat_map(|list| list.iter()).cloned());
        };
        look(&of.sessions, call.session_root.as_ref().map(SessionId::as_str));
        look(&of.tasks, Some(&call.task));
        look(&of.classes, Some(&call.class));
        look(&of.gateways, call.gateway.as_deref());
        look(&of.routes, route_of(call));
        look(&of.models, call.model().map(|model| model.head.model.as_str()));
        if !of.metadata.is_empty() {
            for (name, value) in call.metadata.iter() {
                if let (Some(by), Some(value)) = (of.metadata.get(name), text_of(value)) {
                    look(by, Some(&value));
                }
            }
        }
        if found.is_empty() { Arc::clone(own) } else { joined(own, found) }
    }

    /// What attempts at the targets of a Call fall under beside `all`, which the Call does; `None`
    /// = nothing.
    pub(crate) fn of_targets(&self, all: &List, call: &Call) -> Option<Arc<OfTargets>> {
        let of = self.accounts.get(&*call.principal.account).filter(|of| of.of_targets > 0)?;
        let beside = |target: &Arc<Target>| {
            let (model, provider) = (of.models.get(&*target.name), &*target.provider);
            let lists = model.into_iter().chain(of.providers.get(provider));
            let new = |budget: &&Arc<Budget>| !all.iter().any(|held| held.id == budget.id);
            let found: Vec<_> = lists.flat_map(|list| list.iter()).filter(new).cloned().collect();
            let target = Arc::clone(&target.name);
            (!found.is_empty()).then(|| (target, joined(&List::default(), found)))
        };
        let found: Vec<_> = call.plan.targets.iter().filter_map(beside).collect();
        (!found.is_empty()).then(|| Arc::new(OfTargets(found)))
    }
}

/// A value of a rule's dimension that has no budget yet.
#[derive(Clone, Debug)]
pub(crate) struct Unseen {
    pub(crate) rule: Arc<Budget>,
    /// What its budget is on.
    pub(crate) scope: Scope,
    /// The user whose Call brings it.
    pub(crate) by: Arc<str>,
}

impl Scopes {
    /// How many budgets a rule has made.
    pub(crate) fn made(&self, rule: &Budget) -> usize {
        let of = self.accounts.get(&rule.account);
        of.and_then(|of| of.made.get(&rule.id)).copied().unwrap_or_default()
    }

    /// The rules of all accounts.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Arc<Budget>> {
        self.accounts.values().flat_map(|of| of.rules.iter())
    }

    /// The values of rules that a Call has and that have no budget yet, given what it falls under.
    pub(crate) fn unseen(
        &self,
        call: &Call,
        all: &List,
        of_targets: Option<&OfTargets>,
    ) -> Vec<Unseen> {
        let Some(of) = self.accounts.get(&*call.principal.account) else { return Vec::new() };
        if is_free(call) {
            return Vec::new();
        }
        let mut unseen = Vec::new();
        for rule in of.rules.iter() {
            let Scope::Each(dimension) = &rule.scope else { continue };
            let made = |list: &[Arc<Budget>], scope: &Scope| {
                let is_it = |budget: &Arc<Budget>| {
                    budget.rule.as_ref() == Some(&rule.id) && budget.scope == *scope
                };
                list.iter().any(is_it)
            };
            let targets = of_targets.iter().flat_map(|of| of.iter());
            let lists: Vec<&[Arc<Budget>]> =
                std::iter::once(&**all).chain(targets.map(|(_, list)| &**list)).collect();
            for scope in values(dimension, call) {
                if !lists.iter().any(|list| made(list, &scope)) {
                    let by = Arc::clone(&call.principal.user);
                    unseen.push(Unseen { rule: Arc::clone(rule), scope, by });
                }
            }
        }
        unseen
    }
}

/// Whether a Call costs nothing wherever it is sent: no budget has to hold anything for it.
fn is_free(call: &Call) -> bool {
    let mut prices = call.plan.targets.iter().map(|target| target.price.as_deref());
    let all_free = prices.all(|price| price.is_some_and(Price::is_free));
    bound::costs_nothing(call) || all_free
}

/// What a Call is, of a rule's dimension: one value, one for each model that it may be sent to, or
/// none.
fn values(dimension: &Dimension, call: &Call) -> Vec<Scope> {
    let principal = &call.principal;
    let value = match dimension {
        Dimension::User => Some(Scope::User(principal.user.as_ref().to_owned())),
        Dimension::Key => Some(Scope::Key(principal.key_name.as_ref().to_owned())),
        Dimension::Session => {
            call.session_root.as_ref().map(|root| Scope::Session(root.as_str().to_owned()))
        }
        Dimension::Task => Some(Scope::Task(call.task.as_ref().to_owned())),
        Dimension::Metadata(name) => {
            let value = call.metadata.get(name).and_then(text_of);
            value.map(|value| Scope::Metadata { name: name.clone(), value })
        }
        Dimension::Model if call.model().is_some() => {
            let names = call.plan.targets.iter().map(|target| target.name.as_ref().to_owned());
            return names.map(Scope::Model).collect();
        }
        Dimension::Model => None,
    };
    value.into_iter().collect()
}

impl OfAccount {
    fn count(&mut self, budget: &Budget, comes: bool) {
        if let Some(rule) = &budget.rule {
            let made = self.made.entry(rule.clone()).or_default();
            *made = if comes { *made + 1 } else { made.saturating_sub(1) };
        }
        let counted = match reach(&budget.scope) {
            Reach::Key => return,
            Reach::Call => &mut self.of_calls,
            Reach::Target => &mut self.of_targets,
        };
        *counted = if comes { *counted + 1 } else { counted.saturating_sub(1) };
    }

    fn on(&self, scope: &Scope) -> Option<&List> {
        match scope {
            Scope::Account => Some(&self.whole),
            Scope::Each(_) => Some(&self.rules),
            Scope::Metadata { name, value } => self.metadata.get(name)?.get(value),
            Scope::Key(name) => self.keys.get(name),
            Scope::User(name) => self.users.get(name),
            Scope::Session(session) => match SessionId::parse(session) {
                Some(_) => self.sessions.get(session),
                None => self.session_names.get(session),
            },
            Scope::Task(name) => self.tasks.get(name),
            Scope::Class(name) => self.classes.get(name),
            Scope::Route(name) => self.routes.get(name),
            Scope::Gateway(name) => self.gateways.get(name),
            Scope::Model(name) => self.models.get(name),
            Scope::Provider(name) => self.providers.get(name),
        }
    }

    fn change(&mut self, scope: &Scope, edit: impl FnOnce(&List) -> List) {
        let (by, key) = match scope {
            Scope::Account => {
                self.whole = edit(&self.whole);
                return;
            }
            Scope::Each(_) => {
                self.rules = edit(&self.rules);
                return;
            }
            Scope::Metadata { name, value } => {
                let mut by = self.metadata.remove(name).unwrap_or_default();
                change(&mut by, value, edit);
                if !by.is_empty() {
                    self.metadata.insert(name.clone(), by);
                }
                return;
            }
            Scope::Session(session) => match SessionId::parse(session) {
                Some(_) => (&mut self.sessions, session),
                None => (&mut self.session_names, session),
            },
            Scope::Key(name) => (&mut self.keys, name),
            Scope::User(name) => (&mut self.users, name),
            Scope::Task(name) => (&mut self.tasks, name),
            Scope::Class(name) => (&mut self.classes, name),
            Scope::Route(name) => (&mut self.routes, name),
            Scope::Gateway(name) => (&mut self.gateways, name),
            Scope::Model(name) => (&mut self.models, name),
            Scope::Provider(name) => (&mut self.providers, name),
        };
        change(by, key, edit);
    }
}

fn reach(scope: &Scope) -> Reach {
    match scope {
        // A rule limits nothing; what it makes does.
        Scope::Account | Scope::Key(_) | Scope::User(_) | Scope::Each(_) => Reach::Key,
        Scope::Session(_)
        | Scope::Task(_)
        | Scope::Class(_)
        | Scope::Metadata { .. }
        | Scope::Route(_)
        | Scope::Gateway(_) => Reach::Call,
        Scope::Model(_) | Scope::Provider(_) => Reach::Target,
    }
}

fn change(by: &mut By, key: &str, edit: impl FnOnce(&List) -> List) {
    let none = List::default();
    let list = edit(by.get(key).unwrap_or(&none));
    match list.is_empty() {
        true => drop(by.remove(key)),
        false => drop(by.insert(key.to_owned(), list)),
    }
}

fn with(list: &List, budget: &Arc<Budget>) -> List {
    joined(&without(list, &budget.id), vec![Arc::clone(budget)])
}

fn without(list: &List, id: &BudgetId) -> List {
    list.iter().filter(|budget| budget.id != *id).cloned().collect()
}

fn joined(list: &List, mut more: Vec<Arc<Budget>>) -> List {
    more.extend(list.iter().cloned());
    more.sort_by(|left, right| left.id.cmp(&right.id));
    more.into()
}

/// The route that a Call asked for, by its own name.
fn route_of(call: &Call) -> Option<&str> {
    call.plan.name.strip_prefix(super::ROUTE_PREFIXES[0])
}

/// A value of metadata as a budget names it; nothing is no value.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.to_string())
        }
    }
}
