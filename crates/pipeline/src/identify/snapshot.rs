//! One consistent picture of keys, models and budgets, with the look-ups that each Call needs
//! prepared.
//!
//! A snapshot is never changed; a change of anything makes a new one, out of the old one and what
//! is touched ([`Edits`]), so that it costs the same whatever else there is. Invariant: the budgets
//! in scope are in order of id, because money of several budgets is taken in that order.

mod cow;
mod edits;
mod scopes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use storage::{Budget, Key, Model, Scope, WindowKind, Zone};
use types::call::{Plan, RoutePolicy, Target};
use types::ids::{BudgetId, KeyId};
use types::{Call, Price, Principal, Timestamp};

use super::directory::{ProviderInfo, RouteInfo, Upstreams};
use crate::route::choice::SharedChoice;
pub(crate) use cow::CowMap;
pub(crate) use edits::Edits;
use scopes::Scopes;
pub(crate) use scopes::{List, OfTargets, Unseen};

/// What a route's name is asked for behind: ours, and the one that Cloudflare's clients use.
const ROUTE_PREFIXES: [&str; 2] = ["route/", "dynamic/"];

/// What the store holds, as it was last read or written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) keys: CowMap<KeyId, Arc<Key>>,
    pub(crate) budgets: CowMap<BudgetId, Arc<Budget>>,
    pub(crate) models: Arc<BTreeMap<String, Arc<Model>>>,
}

/// A key's principal with the budgets that all of its Calls fall under, in order of id.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) principal: Arc<Principal>,
    budgets: List,
}

/// What a model's name stands for.
#[derive(Clone, Debug)]
struct Named {
    /// From when on, oldest first.
    plans: Vec<(Timestamp, Arc<Plan>)>,
    /// Which of its targets a Call gets, where that is more than the list.
    choice: Option<SharedChoice>,
}

/// Which names stand for what.
#[derive(Debug, Default)]
struct Names {
    plans: HashMap<String, Named>,
    /// Providers that take any model, by name.
    open: HashMap<String, ProviderInfo>,
}

/// The budgets that a Call falls under.
#[derive(Debug)]
pub(crate) struct Scoped {
    /// Whatever it is sent to, in order of id.
    pub(crate) budgets: List,
    /// Beside, where it is sent to; `None` = nothing more for any of its targets.
    pub(crate) of_targets: Option<Arc<OfTargets>>,
    /// What it is to have a budget for, and has none yet.
    pub(crate) unseen: Vec<Unseen>,
}

/// The picture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) rows: Rows,
    pub(crate) upstreams: Arc<Upstreams>,
    by_secret: CowMap<[u8; 32], Arc<Known>>,
    by_key: CowMap<KeyId, Arc<Known>>,
    /// Ids of keys by account and name.
    key_names: CowMap<String, KeyId>,
    scopes: Scopes,
    names: Arc<Names>,
}

impl Names {
    fn new(rows: &Rows, upstreams: &Upstreams) -> Self {
        let Upstreams { providers, routes, .. } = upstreams;
        let configured: HashMap<&str, &ProviderInfo> =
            providers.iter().map(|provider| (provider.name.as_str(), provider)).collect();
        let plans = rows.models.values().filter_map(|model| {
            let provider = configured.get(model.provider.as_str())?;
            Some((model.name.clone(), Named { plans: plans_of(model, provider), choice: None }))
        });
        let plans = plans.collect();
        let open = providers.iter().filter(|provider| provider.any_model);
        let open = open.map(|provider| (provider.name.clone(), provider.clone())).collect();
        let mut names = Self { plans, open };
        let of_routes: Vec<_> = routes.iter().map(|route| names.plans_of_route(route)).collect();
        for (route, plans) in routes.iter().zip(of_routes) {
            if plans.is_empty() {
                continue;
            }
            for name in names_of(route) {
                let (plans, choice) = (plans.clone(), route.choice.clone());
                names.plans.insert(name, Named { plans, choice });
            }
        }
        names
    }

    /// What a route stands for from when on, oldest first: one plan for each time at which the
    /// price of one of its targets changes. Empty if none of them exists.
    fn plans_of_route(&self, route: &RouteInfo) -> Vec<(Timestamp, Arc<Plan>)> {
        let dated = route.targets.iter().filter_map(|target| self.plans.get(target));
        let dated = dated.flat_map(|named| &named.plans);
        let mut changes: BTreeSet<Timestamp> = dated.map(|(since, _)| *since).collect();
        changes.insert(Timestamp(i64::MIN));
        let name: Arc<str> = Arc::from(format!("{}{}", ROUTE_PREFIXES[0], route.name));
        let plan_at = |since: Timestamp| {
            let plans = route.targets.iter().filter_map(|target| self.plan(target, since));
            let targets: Vec<_> = plans.flat_map(|plan| plan.targets.clone()).collect();
            let plan = Plan { name: Arc::clone(&name), targets, policy: route.policy.clone() };
            (!plan.targets.is_empty()).then(|| (since, Arc::new(plan)))
        };
        changes.into_iter().filter_map(plan_at).collect()
    }

    /// What a model's name stands for at `now`.
    fn plan(&self, name: &str, now: Timestamp) -> Option<Arc<Plan>> {
        self.named(name, now).map(|(plan, _)| plan)
    }

    /// The same, with what its targets are chosen by.
    fn named(&self, name: &str, now: Timestamp) -> Option<(Arc<Plan>, Option<SharedChoice>)> {
        if let Some(Named { plans, choice }) = self.plans.get(name) {
            let current = plans.iter().rev().find(|(since, _)| *since <= now);
            let (_, plan) = current.or_else(|| plans.first())?;
            return Some((Arc::clone(plan), choice.clone()));
        }
        let (provider, model) = name.split_once('/')?;
        let provider = self.open.get(provider).filter(|_| !model.is_empty())?;
        let price = provider.price_at(model, &[], now).map(Arc::new);
        let target = target(name, model, provider, price);
        Some((one_target(target), None))
    }
}

impl Snapshot {
    /// Whether a route stands for any model.
    pub(crate) fn has_route(&self, route: &RouteInfo) -> bool {
        names_of(route).next().is_some_and(|name| self.names.plans.contains_key(&name))
    }

    pub(crate) fn by_secret(&self, sha256: &[u8; 32]) -> Option<Arc<Known>> {
        self.by_secret.get(sha256).cloned()
    }

    pub(crate) fn by_key(&self, key: &KeyId) -> Option<Arc<Known>> {
        self.by_key.get(key).cloned()
    }

    /// The key of an account that has this name.
    pub(crate) fn key_named(&self, account: &str, name: &str) -> Option<&Arc<Key>> {
        self.rows.keys.get(self.key_names.get(&key_name(account, name))?)
    }

    /// The budget that there is of an account, a scope and a window.
    pub(crate) fn same_budget(
        &self,
        account: &str,
        scope: &Scope,
        (window, zone): (WindowKind, &Zone),
    ) -> Option<Arc<Budget>> {
        let on = self.scopes.on(account, scope);
        let is_it = |budget: &&Arc<Budget>| {
            let is_same = budget.window == window && budget.zone == *zone;
            is_same && budget.scope == *scope && budget.rule.is_none()
        };
        on.iter().find(is_it).cloned()
    }

    /// How many budgets a rule has made.
    pub(crate) fn made(&self, rule: &Budget) -> usize {
        self.scopes.made(rule)
    }

    /// The rules of all accounts.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Arc<Budget>> {
        self.scopes.rules()
    }

    /// All budgets that a Call falls under.
    pub(crate) fn scoped(&self, known: &Known, call: &Call) -> Scoped {
        let budgets = self.scopes.of_call(&known.budgets, call);
        let of_targets = self.scopes.of_targets(&budgets, call);
        let unseen = self.scopes.unseen(call, &budgets, of_targets.as_deref());
        Scoped { budgets, of_targets, unseen }
    }

    /// What a model's name stands for at `now`.
    pub(crate) fn plan(&self, name: &str, now: Timestamp) -> Option<Arc<Plan>> {
        self.names.plan(name, now)
    }

    /// The same, with what its targets are chosen by.
    pub(crate) fn named(
        &self,
        name: &str,
        now: Timestamp,
    ) -> Option<(Arc<Plan>, Option<SharedChoice>)> {
        self.names.named(name, now)
    }
}

/// Under what a key is found by its name: an account has no `/`.
fn key_name(account: &str, name: &str) -> String {
    format!("{account}/{name}")
}

/// Every name that a route is asked for by, its own first.
fn names_of(route: &RouteInfo) -> impl Iterator<Item = String> {
    let own = ROUTE_PREFIXES.iter().map(|prefix| format!("{prefix}{}", route.name));
    own.chain(route.aliases.iter().cloned())
}

fn principal(key: &Key) -> Arc<Principal> {
    Arc::new(Principal {
        account: Arc::from(key.account.as_str()),
        key: key.id.clone(),
        key_name: Arc::from(key.name.as_str()),
        user: Arc::from(key.user.as_str()),
        role: key.role,
        output_cap_default: key.output_cap_default,
    })
}

/// One plan per price: a Call takes the one that holds when it comes in.
fn plans_of(model: &Model, provider: &ProviderInfo) -> Vec<(Timestamp, Arc<Plan>)> {
    let plan = |price: Option<Arc<Price>>| {
        let mut target = target(&model.name, &model.upstream_model, provider, price);
        target.output_tokens_max = model.output_tokens_max.or(target.output_tokens_max);
        target.context_tokens = model.context_tokens.or(target.context_tokens);
        one_target(target)
    };
    let prices = provider.prices(&model.upstream_model, &model.prices).into_iter();
    prices.map(|(since, price)| (since, plan(price.map(Arc::new)))).collect()
}

fn target(
    name: &str,
    upstream_model: &str,
    provider: &ProviderInfo,
    price: Option<Arc<Price>>,
) -> Target {
    let limits = provider.limits.map(|of| of(&provider.vendor, upstream_model)).unwrap_or_default();
    Target {
        provider: Arc::from(provider.name.as_str()),
        name: Arc::from(name),
        upstream_model: Arc::from(upstream_model),
        format: provider.format,
        price,
        output_tokens_max: limits.output_tokens,
        context_tokens: limits.context_tokens,
        lacks: limits.lacks,
        drain: provider.drain,
    }
}

fn one_target(target: Target) -> Arc<Plan> {
    Arc::new(Plan {
        name: Arc::clone(&target.name),
        targets: vec![Arc::new(target)],
        policy: RoutePolicy::default(),
    })
}

#[cfg(test)]
mod tests;
