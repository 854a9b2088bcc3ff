//! Keys, models, budgets, providers and routes: held in memory for every Call, written through to
//! the store by administration.
//!
//! Invariant: a change is durable before any Call sees it, and each Call sees one snapshot. Changes
//! are made one at a time, each to its end: who asked for it may leave once the store has it.
//! Reading takes no await and holds a lock only to copy a pointer. It must not know windows,
//! amounts or slices.

mod reload;
mod scopes;
mod values;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use storage::budgets::{Origin, TopUp, ToppedUp};
use storage::{Budget, Key, Model, Pending, Scope, Store, WindowKind, Zone};
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::TaskTracker;
use types::call::{Lacks, RoutePolicy};
use types::clock::SharedClock;
use types::ids::{BudgetId, KeyId};
use types::principal::{DEFAULT_ACCOUNT, Role};
use types::{ErrorCode, Execute, Failure, Format, Ids, Money, Principal, Secret};

use super::prices::PriceList;
use super::secret_hash;
use super::snapshot::{Edits, Known, Snapshot};
use crate::rates::RateLimits;
use crate::record::storage_failure;
use crate::route::choice::Choice;
use crate::route::health::Health;

pub use reload::{Change, Held};
pub use scopes::{AskedScope, FoundScope, check_scope_names};
use values::Waiting;
pub(crate) use values::{VALUES_MAX, unused_since};

/// Characters of a secret that are kept to recognise a key by: `hf_` and four more.
const HINT_CHARS: usize = 7;

/// What a directory is made of.
#[derive(Debug)]
pub struct DirectoryParts {
    /// Where all of it is kept.
    pub store: Arc<dyn Store>,
    /// Time: which of a model's dated prices holds.
    pub clock: SharedClock,
    /// Ids and secrets.
    pub ids: Arc<Ids>,
    /// Who does Calls at first.
    pub upstreams: Upstreams,
    /// Owns changes that are under way, so that shutting down waits for them.
    pub tracker: TaskTracker,
}

/// What Calls are sent to. A Call keeps the one that it began with: after a change it ends with who
/// did it before.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    /// The configured providers, `local` included.
    pub providers: Vec<ProviderInfo>,
    /// The routes.
    pub routes: Vec<RouteInfo>,
    /// Who does Calls, by the name of the provider: `local`, `mcp`, or a configured one.
    pub executors: Executors,
}

/// Who does Calls, by the name of the provider.
pub type Executors = HashMap<String, Arc<dyn Execute>>;

/// A configured route: a name that stands for several models, and what is done when one fails.
#[derive(Clone, Debug)]
pub struct RouteInfo {
    /// Its name: asked for as `route/NAME`.
    pub name: String,
    /// Plain names under which it is asked for too.
    pub aliases: Vec<String>,
    /// The models in order of preference, each as `provider/model`.
    pub targets: Vec<String>,
    /// Which of them a Call gets and in which order, where that is more than the list.
    pub choice: Option<Arc<Choice>>,
    /// What is done when one of them fails.
    pub policy: RoutePolicy,
}

/// A configured provider, as far as names need it.
#[derive(Clone, Debug, Default)]
pub struct ProviderInfo {
    /// Its name: what stands before the `/` of a model's name, and the executor's name.
    pub name: String,
    /// The wire format that it speaks; `None` = neutral (the engine).
    pub format: Option<&'static dyn Format>,
    /// Declared without a list of models: any `name/<model>` is taken, unpriced unless the
    /// catalogue has it.
    pub any_model: bool,
    /// Its models cost nothing until they are priced: the local engine.
    pub free_until_priced: bool,
    /// The kind of provider that it is, as [`Self::limits`] knows it.
    pub vendor: String,
    /// What is known of a vendor's model by its name, where the catalogue does not say it.
    pub limits: Option<fn(vendor: &str, model: &str) -> ModelLimits>,
    /// What its models cost where the operator does not say it.
    pub prices: Option<Arc<dyn PriceList>>,
    /// How long an answer is read on for its usage once its client has gone; `None` = not at all.
    pub drain: Option<Duration>,
}

/// How much a model can read and say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// Its context window, in tokens.
    pub context_tokens: Option<u64>,
    /// The most tokens of one answer.
    pub output_tokens: Option<u64>,
    /// What it does not take.
    pub lacks: Lacks,
}

/// A key to make, or to change if the account has one of that name.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The tenant.
    pub account: String,
    /// Its name, unique within the account.
    pub name: String,
    /// Whose it is; `None` = the key's own id.
    pub user: Option<String>,
    /// What it may do.
    pub role: Role,
    /// The output cap for Calls that name none, in tokens.
    pub output_cap_default: Option<u64>,
    /// Who asks for it.
    pub origin: Origin,
}

/// A budget to make, or to change if the account has one of that scope and window.
#[derive(Clone, Debug)]
pub struct NewBudget {
    /// The tenant.
    pub account: String,
    /// What it limits.
    pub scope: Scope,
    /// The limit per window.
    pub limit: Money,
    /// Over which time.
    pub window: WindowKind,
    /// Where that time is told.
    pub zone: Zone,
    /// Who asks for it.
    pub origin: Origin,
}

/// Money that is put to what a budget in total allows.
#[derive(Clone, Debug)]
pub struct MoreMoney {
    /// How much.
    pub amount: Money,
    /// What tells it from others; `None` = it is one of its own.
    pub key: Option<String>,
    /// Who says so.
    pub operator: String,
}

/// What a directory works with.
#[derive(Debug)]
struct Seams {
    store: Arc<dyn Store>,
    clock: SharedClock,
    ids: Arc<Ids>,
    tracker: TaskTracker,
}

/// The one place where names are looked up. Reading takes no await; each change is durable before
/// it is seen.
#[derive(Debug)]
pub struct Directory {
    parts: Seams,
    shown: Arc<Shown>,
    /// Held by whoever changes something, from reading what is there until the snapshot is swapped.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Values that wait for a budget of their own.
    waiting: Waiting,
}

/// What Calls see.
#[derive(Debug)]
struct Shown {
    snapshot: RwLock<Arc<Snapshot>>,
    /// Of targets: what is known of a provider's is forgotten when it becomes another.
    health: Arc<Health>,
    rates: Arc<RateLimits>,
}

impl Directory {
    /// Reads everything from the store.
    ///
    /// # Errors
    /// `storage_unavailable`, `internal`.
    pub async fn load(parts: DirectoryParts) -> Result<Self, Failure> {
        let mut edits = Edits::default();
        let keys = parts.store.keys().await.map_err(|error| storage_failure(&error))?;
        let accounts = keys.iter().map(|key| key.account.clone());
        let accounts: BTreeSet<_> = accounts.chain([DEFAULT_ACCOUNT.to_owned()]).collect();
        // Before the keys, which are then made once.
        for account in accounts {
            let budgets = parts.store.budgets(&account).await;
            for budget in budgets.map_err(|error| storage_failure(&error))? {
                edits.put_budget(&Arc::new(budget));
            }
        }
        edits.put_keys(keys).map_err(|name| same_secret(&name))?;
        for model in parts.store.models().await.map_err(|error| storage_failure(&error))? {
            edits.put_model(Arc::new(model));
        }
        let DirectoryParts { store, clock, ids, upstreams, tracker } = parts;
        edits.set_upstreams(Arc::new(upstreams));
        let snapshot = edits.done();
        Ok(Self {
            parts: Seams { store, clock, ids, tracker },
            shown: Arc::new(Shown {
                snapshot: RwLock::new(Arc::new(snapshot)),
                health: Arc::default(),
                rates: Arc::default(),
            }),
            changing: Arc::default(),
            waiting: Waiting::default(),
        })
    }

    /// Makes a key with a new secret, which is shown this once, and with a budget of its own (limit
    /// and window) if one is given: both are durable, or neither is.
    ///
    /// # Errors
    /// `conflict` if the account has a key of that name; `storage_unavailable`.
    pub async fn create_key(
        &self,
        new: NewKey,
        limit: Option<(Money, WindowKind)>,
    ) -> Result<(Key, Secret), Failure> {
        let changing = self.changing().await;
        if self.key_named(&new.account, &new.name).is_some() {
            let message = format!("the account has a key named `{}` already", new.name);
            return Err(Failure::new(ErrorCode::Conflict, message));
        }
        let secret = Secret::new(self.parts.ids.key_secret());
        let (account, scope) = (new.account.clone(), Scope::Key(new.name.clone()));
        let (key, origin) = (self.key(new, &secret), Origin::Api);
        let budget = limit.map(|(limit, window)| {
            let zone = Zone::UTC;
            Arc::new(self.budget(NewBudget { account, scope, limit, window, zone, origin }))
        });
        let store = &self.parts.store;
        let writing = match &budget {
            Some(budget) => store.put_key_with_budget(key.clone(), Budget::clone(budget)),
            None => store.put_key(key.clone()),
        };
        let after = self.with(|edits| {
            budget.iter().for_each(|budget| edits.put_budget(budget));
            edits.put_keys(vec![key.clone()])
        });
        let after = after.map_err(|name| same_secret(&name))?;
        self.commit(changing, writing, after).await?;
        Ok((key, secret))
    }

    /// Makes or changes (by name) a key whose secret the operator chose: the configuration file's,
    /// the admin key.
    ///
    /// # Errors
    /// `conflict` if another key has the secret; `storage_unavailable`.
    pub async fn put_key_with_secret(&self, new: NewKey, secret: &Secret) -> Result<Key, Failure> {
        let changing = self.changing().await;
        let key = self.key(new, secret);
        let after = self.with(|edits| edits.put_keys(vec![key.clone()]));
        let after = after.map_err(|name| same_secret(&name))?;
        let writing = self.parts.store.put_key(key.clone());
        self.commit(changing, writing, after).await?;
        Ok(key)
    }

    /// The row of a key; the caller holds `changing`.
    fn key(&self, new: NewKey, secret: &Secret) -> Key {
        let existing = self.key_named(&new.account, &new.name);
        let (id, created_at) = match existing {
            Some(key) => (key.id, key.created_at),
            None => (KeyId::new(&self.parts.ids), self.parts.clock.now()),
        };
        Key {
            user: new.user.unwrap_or_else(|| id.as_str().to_owned()),
            id,
            account: new.account,
            name: new.name,
            role: new.role,
            secret_sha256: secret_hash(secret.expose()),
            hint: secret.expose().chars().take(HINT_CHARS).collect(),
            output_cap_default: new.output_cap_default,
            origin: new.origin,
            created_at,
        }
    }

    /// Removes a key for good; `false` if the account has none of that id.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn delete_key(&self, account: &str, id: &KeyId) -> Result<bool, Failure> {
        let changing = self.changing().await;
        let snapshot = self.snapshot();
        if snapshot.rows.keys.get(id).is_none_or(|key| key.account != account) {
            return Ok(false);
        }
        let after = self.changed(|edits| edits.remove_key(id));
        self.commit(changing, self.parts.store.delete_key(id), after).await
    }

    /// The keys of an account, by name.
    pub fn keys(&self, account: &str) -> Vec<Key> {
        let snapshot = self.snapshot();
        let of_account = snapshot.rows.keys.values().filter(|key| key.account == account);
        let mut keys: Vec<Key> = of_account.map(|key| Key::clone(key)).collect();
        keys.sort_by(|left, right| left.name.cmp(&right.name));
        keys
    }

    /// Makes a budget, or changes the one of that account, scope and window.
    ///
    /// # Errors
    /// `invalid_request` for a session's name that several users may use; `storage_unavailable`.
    pub async fn put_budget(&self, new: NewBudget) -> Result<Arc<Budget>, Failure> {
        let changing = self.changing().await;
        scopes::check_session_name(&self.snapshot(), &new)?;
        let budget = Arc::new(self.budget(new));
        let writing = self.parts.store.put_budget(Budget::clone(&budget));
        let after = self.changed(|edits| edits.put_budget(&budget));
        self.commit(changing, writing, after).await?;
        Ok(budget)
    }

    /// The row of a budget, the next version of the one that there is of its account, scope and
    /// window; the caller holds `changing`.
    fn budget(&self, new: NewBudget) -> Budget {
        self.budget_after(&self.snapshot(), new)
    }

    /// The same, of those that `snapshot` has.
    fn budget_after(&self, snapshot: &Snapshot, new: NewBudget) -> Budget {
        let existing = snapshot.same_budget(&new.account, &new.scope, (new.window, &new.zone));
        let existing = existing.as_deref();
        Budget {
            id: existing.map_or_else(|| BudgetId::new(&self.parts.ids), |budget| budget.id.clone()),
            version: existing.map_or(1, |budget| budget.version + 1),
            created_at: existing.map_or_else(|| self.parts.clock.now(), |budget| budget.created_at),
            account: new.account,
            scope: new.scope,
            limit: new.limit,
            window: new.window,
            zone: new.zone,
            rule: None,
            origin: new.origin,
        }
    }

    /// Raises the limit of a budget in total, once for each key.
    ///
    /// # Errors
    /// `not_found`; `invalid_request` for a budget whose windows end and for an amount that is
    /// none; `conflict` if the key was used for another amount; `storage_unavailable`.
    pub async fn top_up(
        &self,
        account: &str,
        id: &BudgetId,
        asked: MoreMoney,
    ) -> Result<(), Failure> {
        let changing = self.changing().await;
        let missing = || Failure::new(ErrorCode::NotFound, format!("there is no budget {id}"));
        let before = self.budget_of(account, id).ok_or_else(missing)?;
        check_top_up(&before, &asked)?;
        let key = asked.key.unwrap_or_else(|| self.parts.ids.text("top_"));
        let at = self.parts.clock.now();
        let MoreMoney { amount, operator, .. } = asked;
        let top_up = TopUp { budget: id.clone(), key, amount, operator, at };
        let writing = self.parts.store.top_up(top_up);
        let edits = Edits::of(&self.snapshot());
        let after = move |done: &ToppedUp| {
            let ToppedUp { limit, version, is_new } = *done;
            let origin = if is_new { Origin::Api } else { before.origin };
            let budget = Budget { limit, version, origin, ..Budget::clone(&before) };
            let mut edits = edits;
            edits.put_budget(&Arc::new(budget));
            edits.done()
        };
        self.commit_then(changing, writing, after).await.map(drop)
    }

    /// Removes a budget; `false` if the account has none of that id.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn delete_budget(&self, account: &str, id: &BudgetId) -> Result<bool, Failure> {
        let changing = self.changing().await;
        if self.budget_of(account, id).is_none() {
            return Ok(false);
        }
        let after = self.changed(|edits| edits.remove_budget(id));
        self.commit(changing, self.parts.store.delete_budget(id), after).await
    }

    /// The budgets of an account, by id, without those that rules have made.
    pub fn budgets(&self, account: &str) -> Vec<Arc<Budget>> {
        let snapshot = self.snapshot();
        let all = snapshot.rows.budgets.values();
        let is_own = |budget: &&Arc<Budget>| budget.account == account && budget.rule.is_none();
        let mut all: Vec<_> = all.filter(is_own).cloned().collect();
        all.sort_by(|left, right| left.id.cmp(&right.id));
        all
    }

    /// The budgets that a rule of an account has made, by id.
    pub fn budgets_of_rule(&self, account: &str, rule: &BudgetId) -> Vec<Arc<Budget>> {
        let snapshot = self.snapshot();
        let all = snapshot.rows.budgets.values();
        let is_of =
            |budget: &&Arc<Budget>| budget.account == account && budget.rule.as_ref() == Some(rule);
        let mut all: Vec<_> = all.filter(is_of).cloned().collect();
        all.sort_by(|left, right| left.id.cmp(&right.id));
        all
    }

    /// One budget of an account.
    pub fn budget_of(&self, account: &str, id: &BudgetId) -> Option<Arc<Budget>> {
        let snapshot = self.snapshot();
        snapshot.rows.budgets.get(id).filter(|budget| budget.account == account).cloned()
    }

    /// Makes or changes a model, by name. `version` and `created_at` are set here.
    ///
    /// # Errors
    /// `invalid_request` if the provider is not configured or the name does not begin with it;
    /// `storage_unavailable`.
    pub async fn put_model(&self, model: Model) -> Result<Arc<Model>, Failure> {
        let changing = self.changing().await;
        check_model(&model, &self.snapshot().upstreams)?;
        let model = Arc::new(self.next_of(model));
        let writing = self.parts.store.put_model(Model::clone(&model));
        let after = self.changed(|edits| edits.put_model(Arc::clone(&model)));
        self.commit(changing, writing, after).await?;
        Ok(model)
    }

    /// The next version of the model of that name; the caller holds `changing`.
    fn next_of(&self, mut model: Model) -> Model {
        let existing = self.model(&model.name);
        model.version = existing.as_ref().map_or(1, |model| model.version + 1);
        model.created_at =
            existing.map_or_else(|| self.parts.clock.now(), |model| model.created_at);
        model.prices.sort_by_key(|dated| dated.since);
        model
    }

    /// Removes a model; `false` if there is none of that name.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn delete_model(&self, name: &str) -> Result<bool, Failure> {
        let changing = self.changing().await;
        let after = self.changed(|edits| edits.remove_model(name));
        self.commit(changing, self.parts.store.delete_model(name), after).await
    }

    /// The models that a principal may use, by name. Names that a provider takes without listing
    /// them are not here.
    pub fn models(&self, _principal: &Principal) -> Vec<Arc<Model>> {
        // Every key may use every model until policies exist; the parameter keeps doors from
        // listing without one.
        self.all_models()
    }

    /// The models of all providers that are there, by name: for whoever serves them.
    pub fn all_models(&self) -> Vec<Arc<Model>> {
        let snapshot = self.snapshot();
        let configured =
            |name: &str| snapshot.upstreams.providers.iter().any(|known| known.name == name);
        let models = snapshot.rows.models.values();
        models.filter(|model| configured(&model.provider)).cloned().collect()
    }

    /// The configured routes that stand for a model here.
    pub fn routes(&self) -> Vec<RouteInfo> {
        let snapshot = self.snapshot();
        let routes = snapshot.upstreams.routes.iter();
        routes.filter(|route| snapshot.has_route(route)).cloned().collect()
    }

    /// One model of the catalogue.
    pub fn model(&self, name: &str) -> Option<Arc<Model>> {
        self.snapshot().rows.models.get(name).cloned()
    }

    /// Who does Calls that begin now.
    pub fn upstreams(&self) -> Arc<Upstreams> {
        Arc::clone(&self.snapshot().upstreams)
    }

    /// The principal of a key, if the key still exists.
    pub fn principal(&self, key: &KeyId) -> Option<Arc<Principal>> {
        let known: Arc<Known> = self.snapshot().by_key(key)?;
        Some(Arc::clone(&known.principal))
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shown.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn key_named(&self, account: &str, name: &str) -> Option<Key> {
        self.snapshot().key_named(account, name).map(|key| Key::clone(key))
    }

    /// Which targets are well.
    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.shown.health
    }

    /// The limits on what callers may do in a length of time.
    pub fn rates(&self) -> &RateLimits {
        &self.shown.rates
    }

    async fn changing(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.changing).lock_owned().await
    }

    /// The snapshot with a change; the caller holds `changing`, so that no other change is lost.
    fn with(
        &self,
        change: impl FnOnce(&mut Edits) -> Result<(), String>,
    ) -> Result<Snapshot, String> {
        let mut edits = Edits::of(&self.snapshot());
        change(&mut edits)?;
        Ok(edits.done())
    }

    /// The same of a change that can't fail.
    fn changed(&self, change: impl FnOnce(&mut Edits)) -> Snapshot {
        let mut edits = Edits::of(&self.snapshot());
        change(&mut edits);
        edits.done()
    }

    /// Waits until a change is durable, then lets Calls see it. Dropping this stops neither: what
    /// the store has and Calls do not see would be a deleted key that still works.
    async fn commit<T: Send + 'static>(
        &self,
        changing: OwnedMutexGuard<()>,
        writing: Pending<T>,
        after: Snapshot,
    ) -> Result<T, Failure> {
        self.commit_then(changing, writing, move |_| after).await
    }

    /// The same where what Calls see depends on what the store says.
    async fn commit_then<T: Send + 'static>(
        &self,
        changing: OwnedMutexGuard<()>,
        writing: Pending<T>,
        after: impl FnOnce(&T) -> Snapshot + Send + 'static,
    ) -> Result<T, Failure> {
        let shown = Arc::clone(&self.shown);
        let committing = self.parts.tracker.spawn(async move {
            let _changing = changing;
            let written = writing.await.map_err(|error| match error {
                storage::Error::Exists { what: what @ "top-up" } => used_before(what),
                error => storage_failure(&error),
            })?;
            shown.show(after(&written));
            Ok(written)
        });
        let broken = |_| Failure::new(ErrorCode::Internal, "the change broke off");
        committing.await.map_err(broken)?
    }
}

impl Shown {
    /// Calls that begin from now on see this.
    fn show(&self, after: Snapshot) {
        let after = Arc::new(after);
        let mut shown = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *shown, Arc::clone(&after));
        drop(shown);
        self.forget_changed(&before.upstreams.executors, &after.upstreams.executors);
    }

    /// Who did the Calls of a provider does them no more: nothing is known of who does now.
    fn forget_changed(&self, before: &Executors, after: &Executors) {
        let is_same = |name: &String| match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, _) | (_, None) => false,
        };
        let names = before.keys().chain(after.keys());
        names.filter(|name| !is_same(name)).for_each(|name| self.health.forget(name));
    }
}

/// Characters of an idempotency key at most.
const TOP_UP_KEY_CHARS_MAX: usize = 256;

fn check_top_up(budget: &Budget, asked: &MoreMoney) -> Result<(), Failure> {
    if budget.rule.is_some() || matches!(budget.scope, Scope::Each(_)) {
        let message = "a rule's budgets have the rule's limit: change that";
        return Err(Failure::invalid("id", message));
    }
    if budget.window != WindowKind::Total {
        let message = "only a budget in total can be topped up: one whose windows end begins anew";
        return Err(Failure::invalid("id", message));
    }
    if asked.amount <= Money::ZERO {
        return Err(Failure::invalid("amount_usd", "must be more than 0"));
    }
    if budget.limit.saturating_add(asked.amount) == Money::from_nanodollars(i64::MAX) {
        return Err(Failure::invalid("amount_usd", "is more than a budget can hold"));
    }
    let is_long = |key: &String| key.is_empty() || key.chars().count() > TOP_UP_KEY_CHARS_MAX;
    if asked.key.as_ref().is_some_and(is_long) {
        let message = format!("must have 1 to {TOP_UP_KEY_CHARS_MAX} characters");
        return Err(Failure::invalid("idempotency-key", message));
    }
    Ok(())
}

fn used_before(what: &str) -> Failure {
    let message = format!("this idempotency key was used for another {what} of this budget");
    Failure::new(ErrorCode::Conflict, message)
}

/// Two keys can't have one secret.
fn same_secret(key: &str) -> Failure {
    let message = format!("the secret of the key `{key}` is another key's");
    Failure::new(ErrorCode::Conflict, message)
}

/// Whether a model is one of a provider that is there, by its name too.
fn check_model(model: &Model, upstreams: &Upstreams) -> Result<(), Failure> {
    if !upstreams.providers.iter().any(|provider| provider.name == model.provider) {
        let message = format!("no provider `{}` is configured", model.provider);
        return Err(Failure::invalid("provider", message));
    }
    let below = model.name.strip_prefix(&model.provider).and_then(|rest| rest.strip_prefix('/'));
    if below.is_none_or(str::is_empty) {
        let message = format!("the name must be `{}/<model>`", model.provider);
        return Err(Failure::invalid("name", message));
    }
    Ok(())
}
