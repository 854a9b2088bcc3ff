//! How named objects get from the file into the store, so that of two edits the later wins, per
//! object.
//!
//! At start an object goes from the file into the store only if the file's text for it has changed
//! since it was last taken. An object that is gone from the file goes from the store, unless the
//! API has changed it since.

use std::collections::HashMap;

use anyhow::Context;
use pipeline::{Directory, NewBudget, NewKey};
use serde::Serialize;
use sha2::{Digest, Sha256};
use storage::budgets::Origin;
use storage::models::{DatedPrice, Taken};
use storage::{Budget, Model, Scope, Store, WindowKind};
use types::principal::{DEFAULT_ACCOUNT, Role};
use types::{Money, Price, Rate, Timestamp};

use crate::config::file::{PriceEntry, ProviderModel};
use crate::config::{BudgetEntry, Config, KeyEntry, ModelEntry};

/// What was taken, and what is to be remembered as taken.
struct Taking<'a> {
    directory: &'a Directory,
    before: HashMap<(String, String), String>,
    after: Vec<Taken>,
    now: Timestamp,
}

/// Brings the store up to date with the file.
pub(crate) async fn take(
    config: &Config,
    local_models: Vec<(Model, String)>,
    directory: &Directory,
    store: &dyn Store,
    now: Timestamp,
) -> anyhow::Result<()> {
    let taken = store.taken().await.context("reading what was taken from the file")?;
    let before = taken.into_iter().map(|taken| ((taken.kind, taken.name), taken.sha256)).collect();
    let mut run = Taking { directory, before, after: Vec::new(), now };
    for key in &config.keys {
        run.key(key).await?;
    }
    for budget in &config.budgets {
        run.budget(budget).await?;
    }
    for provider in &config.providers {
        for model in &provider.models {
            run.provider_model(&provider.name, model).await?;
        }
    }
    for (model, fingerprint) in local_models {
        run.changed_model(model, fingerprint).await?;
    }
    run.remove_what_is_gone().await?;
    store.put_taken(run.after).await.context("remembering what was taken from the file")
}

/// The name under which a budget is remembered: its scope and window.
pub(crate) fn budget_name(scope: &Scope, window: WindowKind) -> String {
    serde_json::json!({ "scope": scope, "window": window }).to_string()
}

/// The fingerprint of an object's text. Secrets are part of it, hence a hash.
pub(crate) fn fingerprint(object: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_vec(object)?;
    Ok(hex(&Sha256::digest(text)))
}

/// The fingerprint of a key's text.
pub(crate) fn key_fingerprint(key: &KeyEntry) -> anyhow::Result<String> {
    fingerprint(&(&key.name, key.secret.expose(), &key.user, key.output_cap_default))
}

/// The fingerprint of a local model's text: what the file says, and which bytes it names. A price
/// that was set at run time is no part of it, or each start would take the file's again.
pub(crate) fn local_fingerprint(entry: &ModelEntry, model: &Model) -> anyhow::Result<String> {
    fingerprint(&(&model.path, &model.sha256, &entry.price, entry.max_output_tokens))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Taking<'_> {
    /// Remembers the object; answers whether its text has changed since it was last taken.
    fn is_new(&mut self, kind: &str, name: &str, sha256: String) -> bool {
        let changed = self.before.get(&(kind.to_owned(), name.to_owned())) != Some(&sha256);
        self.after.push(Taken { kind: kind.to_owned(), name: name.to_owned(), sha256 });
        changed
    }

    async fn key(&mut self, key: &KeyEntry) -> anyhow::Result<()> {
        if !self.is_new("key", &key.name, key_fingerprint(key)?) {
            return Ok(());
        }
        let new = NewKey {
            account: DEFAULT_ACCOUNT.to_owned(),
            name: key.name.clone(),
            user: key.user.clone(),
            role: Role::Member,
            output_cap_default: key.output_cap_default,
            origin: Origin::File,
        };
        let put = self.directory.put_key_with_secret(new, &key.secret).await;
        put.map(drop).with_context(|| format!("taking the key {} from the file", key.name))
    }

    async fn budget(&mut self, budget: &BudgetEntry) -> anyhow::Result<()> {
        let name = budget_name(&budget.scope, budget.window);
        if !self.is_new("budget", &name, fingerprint(budget)?) {
            return Ok(());
        }
        let new = NewBudget {
            account: DEFAULT_ACCOUNT.to_owned(),
            scope: budget.scope.clone(),
            limit: budget.limit_usd,
            window: budget.window,
            origin: Origin::File,
        };
        let put = self.directory.put_budget(new).await;
        put.map(drop).with_context(|| format!("taking the budget {name} from the file"))
    }

    async fn provider_model(
        &mut self,
        provider: &str,
        entry: &ProviderModel,
    ) -> anyhow::Result<()> {
        let name = format!("{provider}/{}", entry.id);
        let known = self.directory.model(&name);
        let model = Model {
            name,
            provider: provider.to_owned(),
            upstream_model: entry.id.clone(),
            path: None,
            sha256: None,
            prices: dated(&entry.price, known.as_deref(), self.now),
            output_tokens_max: entry.max_output_tokens,
            context_tokens: entry.context_tokens,
            origin: Origin::File,
            version: 0,
            created_at: known.as_ref().map_or(self.now, |known| known.created_at),
        };
        self.changed_model(model, fingerprint(entry)?).await
    }

    async fn changed_model(&mut self, model: Model, sha256: String) -> anyhow::Result<()> {
        if !self.is_new("model", &model.name, sha256) {
            return Ok(());
        }
        let name = model.name.clone();
        let put = self.directory.put_model(model).await;
        put.map(drop).with_context(|| format!("taking the model {name} from the file"))
    }

    /// Removes what the file had and has no more, unless the API has changed it since.
    async fn remove_what_is_gone(&self) -> anyhow::Result<()> {
        let is_there = |kind: &str, name: &str| {
            self.after.iter().any(|taken| taken.kind == kind && taken.name == name)
        };
        let gone = |kind: &str, name: &str| {
            self.before.contains_key(&(kind.to_owned(), name.to_owned())) && !is_there(kind, name)
        };
        for key in self.directory.keys(DEFAULT_ACCOUNT) {
            if key.origin == Origin::File && gone("key", &key.name) {
                self.directory
                    .delete_key(DEFAULT_ACCOUNT, &key.id)
                    .await
                    .context("removing a key")?;
            }
        }
        for budget in self.directory.budgets(DEFAULT_ACCOUNT) {
            let Budget { id, scope, window, origin, .. } = budget.as_ref();
            if *origin == Origin::File && gone("budget", &budget_name(scope, *window)) {
                self.directory
                    .delete_budget(DEFAULT_ACCOUNT, id)
                    .await
                    .context("removing a budget")?;
            }
        }
        for (kind, name) in
            self.before.keys().filter(|(kind, name)| kind == "model" && gone(kind, name))
        {
            let from_file =
                self.directory.model(name).is_some_and(|model| model.origin == Origin::File);
            if from_file {
                self.directory
                    .delete_model(name)
                    .await
                    .with_context(|| format!("removing the {kind} {name}"))?;
            }
        }
        Ok(())
    }
}

/// The prices that hold from now on: the known ones, and the file's if it says something new.
pub(crate) fn dated(entry: &PriceEntry, known: Option<&Model>, now: Timestamp) -> Vec<DatedPrice> {
    let mut prices = known.map(|known| known.prices.clone()).unwrap_or_default();
    let Some(price) = price(entry, now) else { return prices };
    let same = |dated: &DatedPrice| {
        Price { version: price.version.clone(), ..dated.price.clone() } == price
    };
    if prices.last().is_some_and(same) {
        return prices;
    }
    prices.push(DatedPrice { since: if prices.is_empty() { Timestamp(0) } else { now }, price });
    prices
}

fn price(entry: &PriceEntry, now: Timestamp) -> Option<Price> {
    entry.is_priced().then(|| Price {
        version: format!("file@{}", now.seconds()),
        input: entry.input_usd_per_million.unwrap_or(Rate::FREE),
        output: entry.output_usd_per_million.unwrap_or(Rate::FREE),
        cached_input: entry.cached_input_usd_per_million,
        cache_write: entry.cache_write_usd_per_million,
        per_request: entry.usd_per_request.unwrap_or(Money::ZERO),
    })
}
