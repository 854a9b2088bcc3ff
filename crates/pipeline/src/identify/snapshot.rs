//! One consistent picture of keys, models and budgets, with the look-ups that each Call needs
//! prepared.
//!
//! A snapshot is built whole and then never changed; a change of anything makes a new one.
//! Invariant: the budgets in scope are in order of id, because money of several budgets is taken in
//! that order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use storage::{Budget, Key, Model, Scope};
use types::call::{Plan, RoutePolicy, Target};
use types::ids::{BudgetId, KeyId, SessionId};
use types::{Price, Principal, Timestamp};

use super::directory::{ProviderInfo, RouteInfo, Upstreams};
use super::named_session;
use crate::route::choice::SharedChoice;

/// What a route's name is asked for behind: ours, and the one that Cloudflare's clients use.
const ROUTE_PREFIXES: [&str; 2] = ["route/", "dynamic/"];

/// What the store holds, as it was last read or written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) keys: BTreeMap<KeyId, Key>,
    pub(crate) budgets: BTreeMap<BudgetId, Arc<Budget>>,
    pub(crate) models: BTreeMap<String, Arc<Model>>,
}

/// A key's principal with the budgets that all of its Calls fall under, in order of id.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) principal: Arc<Principal>,
    budgets: Arc<[Arc<Budget>]>,
}

/// What a model's name stands for.
#[derive(Clone, Debug)]
struct Named {
    /// From when on, oldest first.
    plans: Vec<(Timestamp, Arc<Plan>)>,
    /// Which of its targets a Call gets, where that is more than the list.
    choice: Option<SharedChoice>,
}

/// The picture.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) rows: Rows,
    pub(crate) upstreams: Arc<Upstreams>,
    by_secret: HashMap<[u8; 32], Arc<Known>>,
    by_key: HashMap<KeyId, Arc<Known>>,
    /// Budgets on sessions, by account, then by the session's id.
    by_session: HashMap<String, HashMap<SessionId, Vec<Arc<Budget>>>>,
    plans: HashMap<String, Named>,
    /// Providers that take any model, by name.
    open: HashMap<String, ProviderInfo>,
}

impl Snapshot {
    pub(crate) fn new(rows: Rows, upstreams: &Arc<Upstreams>) -> Self {
        let Upstreams { providers, routes, .. } = &**upstreams;
        let mut by_secret = HashMap::with_capacity(rows.keys.len());
        let mut by_key = HashMap::with_capacity(rows.keys.len());
        for key in rows.keys.values() {
            let known = Arc::new(Known { principal: principal(key), budgets: of_key(&rows, key) });
            by_secret.insert(key.secret_sha256, Arc::clone(&known));
            by_key.insert(key.id.clone(), known);
        }
        let by_session = by_session(&rows);
        let configured: HashMap<&str, &ProviderInfo> =
            providers.iter().map(|provider| (provider.name.as_str(), provider)).collect();
        let plans = rows.models.values().filter_map(|model| {
            let provider = configured.get(model.provider.as_str())?;
            Some((model.name.clone(), Named { plans: plans_of(model, provider), choice: None }))
        });
        let plans = plans.collect();
        let open = providers.iter().filter(|provider| provider.any_model);
        let open = open.map(|provider| (provider.name.clone(), provider.clone())).collect();
        let upstreams = Arc::clone(upstreams);
        let mut snapshot = Self { rows, upstreams, by_secret, by_key, by_session, plans, open };
        let of_routes: Vec<_> = routes.iter().map(|route| snapshot.plans_of_route(route)).collect();
        for (route, plans) in routes.iter().zip(of_routes) {
            if plans.is_empty() {
                continue;
            }
            for name in names_of(route) {
                let (plans, choice) = (plans.clone(), route.choice.clone());
                snapshot.plans.insert(name, Named { plans, choice });
            }
        }
        snapshot
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

    /// Whether a route stands for any model.
    pub(crate) fn has_route(&self, route: &RouteInfo) -> bool {
        names_of(route).next().is_some_and(|name| self.plans.contains_key(&name))
    }

    pub(crate) fn by_secret(&self, sha256: &[u8; 32]) -> Option<Arc<Known>> {
        self.by_secret.get(sha256).cloned()
    }

    pub(crate) fn by_key(&self, key: &KeyId) -> Option<Arc<Known>> {
        self.by_key.get(key).cloned()
    }

    /// All budgets that a Call falls under, in order of id.
    pub(crate) fn budgets_in_scope(
        &self,
        known: &Known,
        root: Option<&SessionId>,
    ) -> Arc<[Arc<Budget>]> {
        let own = Arc::clone(&known.budgets);
        let Some(sessions) = self.by_session.get(&*known.principal.account) else { return own };
        let Some(of_session) = root.and_then(|root| sessions.get(root)) else { return own };
        let mut all = of_session.clone();
        all.extend(own.iter().cloned());
        all.sort_by(|left, right| left.id.cmp(&right.id));
        all.into()
    }

    /// What a model's name stands for at `now`.
    pub(crate) fn plan(&self, name: &str, now: Timestamp) -> Option<Arc<Plan>> {
        self.named(name, now).map(|(plan, _)| plan)
    }

    /// The same, with what its targets are chosen by.
    pub(crate) fn named(
        &self,
        name: &str,
        now: Timestamp,
    ) -> Option<(Arc<Plan>, Option<SharedChoice>)> {
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

fn of_key(rows: &Rows, key: &Key) -> Arc<[Arc<Budget>]> {
    let all = rows.budgets.values().filter(|budget| budget.account == key.account);
    let in_scope = all.filter(|budget| match &budget.scope {
        Scope::Account => true,
        Scope::Key(name) => *name == key.name,
        Scope::Session(_) => false,
    });
    in_scope.cloned().collect()
}

/// Budgets on sessions, by account and id. A session is its user's: a name stands for the sessions
/// of that name of all users that the account had when the budget was made with it, which is one
/// ([`super::directory::Directory::put_budget`]) unless others came later; then they share it, so
/// that no limit is lost.
fn by_session(rows: &Rows) -> HashMap<String, HashMap<SessionId, Vec<Arc<Budget>>>> {
    let mut all: HashMap<String, HashMap<SessionId, Vec<Arc<Budget>>>> = HashMap::new();
    for budget in rows.budgets.values() {
        let Scope::Session(session) = &budget.scope else { continue };
        let ids: BTreeSet<SessionId> = match SessionId::parse(session) {
            Some(id) => BTreeSet::from([id]),
            None => {
                let keys = rows.keys.values().filter(|key| key.account == budget.account);
                keys.map(|key| named_session(&key.account, &key.user, session)).collect()
            }
        };
        let of_account = all.entry(budget.account.clone()).or_default();
        for id in ids {
            of_account.entry(id).or_default().push(Arc::clone(budget));
        }
    }
    all
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
