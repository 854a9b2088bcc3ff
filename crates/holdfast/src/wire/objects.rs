//! How named objects get from the file into the store, so that of two edits the later wins, per
//! object.
//!
//! An object goes from the file into the store only if the file's text for it has changed since it
//! was last taken. An object that is gone from the file goes from the store, unless the API has
//! changed it since. All of it is planned here, from what is there, and taken as one
//! ([`Directory::change`](pipeline::Directory::change)). Routes are in [`super::routes`].

use std::collections::HashMap;

use pipeline::{Change, Held, NewBudget, NewKey};
use serde::Serialize;
use server::ObjectChange;
use sha2::{Digest, Sha256};
use storage::budgets::Origin;
use storage::models::{DatedPrice, Taken};
use storage::{Model, Scope, WindowKind, Zone};
use types::principal::{DEFAULT_ACCOUNT, Role};
use types::{Price, Timestamp};

use super::local::ReadModel;
use crate::config::file::{PriceEntry, ProviderModel};
use crate::config::{BudgetEntry, Config, KeyEntry, ModelEntry};

/// The hash of each object's text as it was last taken from the file, by kind and name.
pub(crate) type Fingerprints = HashMap<(String, String), String>;

/// A plan in the making.
struct Taking<'a> {
    held: Held<'a>,
    before: &'a Fingerprints,
    now: Timestamp,
    change: Change,
    after: Vec<Taken>,
    changes: Vec<ObjectChange>,
}

/// What the file's keys, budgets and models change of what is `held`, and what they are by then
/// taken as; `routes` were taken already.
pub(super) fn plan(
    (config, local_models): (&Config, &[ReadModel]),
    before: &Fingerprints,
    routes: Vec<Taken>,
    held: Held<'_>,
    now: Timestamp,
) -> anyhow::Result<(Change, Vec<ObjectChange>)> {
    let (change, changes) = (Change::default(), Vec::new());
    let mut run = Taking { held, before, now, change, after: routes, changes };
    for key in &config.keys {
        run.key(key)?;
    }
    for budget in &config.budgets {
        run.budget(budget)?;
    }
    for provider in &config.providers {
        for model in &provider.models {
            run.provider_model(&provider.name, model)?;
        }
    }
    for model in local_models {
        run.local_model(model)?;
    }
    run.remove_what_is_gone();
    let Taking { mut change, after, changes, .. } = run;
    change.taken = Some(after);
    Ok((change, changes))
}

/// What was last taken from the file.
pub(super) fn fingerprints(taken: Vec<Taken>) -> Fingerprints {
    taken.into_iter().map(|taken| ((taken.kind, taken.name), taken.sha256)).collect()
}

/// The name under which a budget is remembered: its scope, its window and, if that is not UTC, its
/// time zone.
pub(crate) fn budget_name(scope: &Scope, window: WindowKind, zone: &Zone) -> String {
    match zone.is_utc() {
        true => serde_json::json!({ "scope": scope, "window": window }),
        false => serde_json::json!({ "scope": scope, "window": window, "time_zone": zone }),
    }
    .to_string()
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
        let last = self.before.get(&(kind.to_owned(), name.to_owned()));
        let is_same = last == Some(&sha256);
        if !is_same {
            self.tell(kind, name, if last.is_some() { "changed" } else { "added" });
        }
        self.after.push(Taken { kind: kind.to_owned(), name: name.to_owned(), sha256 });
        !is_same
    }

    fn tell(&mut self, kind: &str, name: &str, change: &str) {
        self.changes.push(object_change(kind, name, change));
    }

    fn key(&mut self, key: &KeyEntry) -> anyhow::Result<()> {
        if self.is_new("key", &key.name, key_fingerprint(key)?) {
            let new = NewKey {
                account: DEFAULT_ACCOUNT.to_owned(),
                name: key.name.clone(),
                user: key.user.clone(),
                role: Role::Member,
                output_cap_default: key.output_cap_default,
                origin: Origin::File,
            };
            self.change.keys.push((new, key.secret.clone()));
        }
        Ok(())
    }

    fn budget(&mut self, budget: &BudgetEntry) -> anyhow::Result<()> {
        let name = budget_name(&budget.scope, budget.window, &budget.time_zone);
        if self.is_new("budget", &name, fingerprint(budget)?) {
            self.change.budgets.push(NewBudget {
                account: DEFAULT_ACCOUNT.to_owned(),
                scope: budget.scope.clone(),
                limit: budget.limit_usd,
                window: budget.window,
                zone: budget.time_zone.clone(),
                origin: Origin::File,
            });
        }
        Ok(())
    }

    fn provider_model(&mut self, provider: &str, entry: &ProviderModel) -> anyhow::Result<()> {
        let name = format!("{provider}/{}", entry.id);
        if self.is_new("model", &name, fingerprint(entry)?) {
            let prices = dated(&entry.price, self.held.model(&name), self.now);
            self.change.models.push(Model {
                name,
                provider: provider.to_owned(),
                upstream_model: entry.id.clone(),
                path: None,
                sha256: None,
                prices,
                output_tokens_max: entry.max_output_tokens,
                context_tokens: entry.context_tokens,
                origin: Origin::File,
                version: 0,
                created_at: self.now,
            });
        }
        Ok(())
    }

    fn local_model(&mut self, model: &ReadModel) -> anyhow::Result<()> {
        let ReadModel { entry, row, .. } = model;
        if self.is_new("model", &row.name, local_fingerprint(entry, row)?) {
            let prices = dated(&entry.price, self.held.model(&row.name), self.now);
            let output_tokens_max = entry.max_output_tokens;
            self.change.models.push(Model { prices, output_tokens_max, ..row.clone() });
        }
        Ok(())
    }

    /// Removes what the file had and has no more, unless the API has changed it since.
    fn remove_what_is_gone(&mut self) {
        let (before, after) = (self.before, &self.after);
        let is_gone = |kind: &str, name: &str| {
            let is_it = |taken: &Taken| taken.kind == kind && taken.name == name;
            before.contains_key(&(kind.to_owned(), name.to_owned())) && !after.iter().any(is_it)
        };
        let mut gone = Vec::new();
        for key in self.held.keys(DEFAULT_ACCOUNT) {
            if key.origin == Origin::File && is_gone("key", &key.name) {
                self.change.deleted_keys.push(key.id.clone());
                gone.push(("key", key.name.clone()));
            }
        }
        for budget in self.held.budgets(DEFAULT_ACCOUNT) {
            let name = budget_name(&budget.scope, budget.window, &budget.zone);
            if budget.origin == Origin::File && is_gone("budget", &name) {
                self.change.deleted_budgets.push(budget.id.clone());
                gone.push(("budget", name));
            }
        }
        for (_, name) in before.keys().filter(|(kind, name)| kind == "model" && is_gone(kind, name))
        {
            if self.held.model(name).is_some_and(|model| model.origin == Origin::File) {
                self.change.deleted_models.push(name.clone());
                gone.push(("model", name.clone()));
            }
        }
        for (kind, name) in gone {
            self.tell(kind, &name, "removed");
        }
    }
}

/// One line of what a reload tells.
pub(super) fn object_change(kind: &str, name: &str, change: &str) -> ObjectChange {
    ObjectChange { kind: kind.to_owned(), name: name.to_owned(), change: change.to_owned() }
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
    entry.is_priced().then(|| entry.price(format!("file@{}", now.seconds())))
}
