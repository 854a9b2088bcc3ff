//! Where each named object's present text comes from, and whether the file says otherwise.
//!
//! Values in, values out: the file as it is now is compared, object by object, with what the store
//! holds and with what runs. What only one of them has differs too: it was
//! made or removed at run time, or the file was changed since it was last taken. Nothing is changed
//! here, and secrets are compared by fingerprint only.

use serde_json::Value;
use server::ObjectView;
use storage::budgets::Origin;
use storage::{Budget, Key, Model, Route, Store};
use types::principal::DEFAULT_ACCOUNT;

use super::{admin_key, local, objects, routes};
use crate::config::file::McpServerEntry;
use crate::config::telemetry::SloEntry;
use crate::config::{Config, KeyEntry, ModelEntry, ProviderEntry, RateLimitEntry};

/// The named objects that the store holds, and what was last taken from the file.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    keys: Vec<Key>,
    budgets: Vec<Budget>,
    models: Vec<Model>,
    routes: Vec<Route>,
    /// The hash of each object's text, by kind and name.
    taken: objects::Fingerprints,
}

impl Stored {
    /// Reads them. The admin key comes from the environment or from its own file, never from the
    /// configuration.
    ///
    /// # Errors
    /// The store can't be read.
    pub(crate) async fn read(store: &dyn Store) -> Result<Self, storage::Error> {
        let mut keys = store.keys().await?;
        keys.retain(|key| key.account == DEFAULT_ACCOUNT && key.name != admin_key::NAME);
        keys.sort_by(|left, right| left.name.cmp(&right.name));
        let taken = objects::fingerprints(store.taken().await?);
        let routes = store.route_versions(1).await?.pop();
        let mut budgets = store.budgets(DEFAULT_ACCOUNT).await?;
        budgets.retain(|budget| budget.rule.is_none());
        Ok(Self {
            keys,
            budgets,
            models: store.models().await?,
            routes: routes.map(|newest| newest.routes).unwrap_or_default(),
            taken,
        })
    }

    /// Whether this is the text that was last taken from the file.
    fn took(&self, kind: &str, name: &str, fingerprint: anyhow::Result<String>) -> bool {
        let taken = self.taken.get(&(kind.to_owned(), name.to_owned()));
        fingerprint.is_ok_and(|fingerprint| taken == Some(&fingerprint))
    }
}

/// All objects: `file` is the file as it is now, `running` what was last taken of it.
///
/// Looks for the files of local models, so it may block.
pub(crate) fn of(file: &Config, running: &Config, stored: &Stored) -> Vec<ObjectView> {
    let mut all = Vec::new();
    let same = ProviderEntry::is_same_upstream;
    of_process("provider", &running.providers, &file.providers, same, &mut all);
    routes(file, stored, &mut all);
    let same = |left: &McpServerEntry, right: &McpServerEntry| left == right;
    of_process("mcp_server", &running.mcp_servers, &file.mcp_servers, same, &mut all);
    let same = |left: &RateLimitEntry, right: &RateLimitEntry| left == right;
    of_process("rate_limit", &running.rate_limits, &file.rate_limits, same, &mut all);
    let same = |left: &SloEntry, right: &SloEntry| left == right;
    of_process("slo", &running.slos, &file.slos, same, &mut all);
    keys(file, stored, &mut all);
    budgets(file, stored, &mut all);
    models(file, stored, &mut all);
    all
}

/// What has a name of its own in the file.
trait Named {
    fn name(&self) -> &str;
}

impl Named for ProviderEntry {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for McpServerEntry {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for RateLimitEntry {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for SloEntry {
    fn name(&self) -> &str {
        &self.name
    }
}

/// Objects that are kept by the process alone.
fn of_process<T: Named>(
    kind: &str,
    running: &[T],
    file: &[T],
    same: impl Fn(&T, &T) -> bool,
    all: &mut Vec<ObjectView>,
) {
    for object in running {
        let is_same = file.iter().any(|other| same(object, other));
        all.push(view(kind, object.name(), Origin::File, !is_same));
    }
    let runs = |object: &&T| running.iter().any(|other| other.name() == object.name());
    let new = file.iter().filter(|object| !runs(object));
    all.extend(new.map(|object| view(kind, object.name(), Origin::File, true)));
}

fn routes(file: &Config, stored: &Stored, all: &mut Vec<ObjectView>) {
    let in_file = file.text.routes();
    for route in &stored.routes {
        let took =
            |text: &Value| stored.took(routes::KIND, &route.name, objects::fingerprint(text));
        let text = in_file.iter().find(|(name, _)| *name == route.name).map(|(_, text)| text);
        let is_same = route.origin == Origin::File && text.is_some_and(took);
        all.push(view(routes::KIND, &route.name, route.origin, !is_same));
    }
    let is_there = |name: &str| stored.routes.iter().any(|route| route.name == name);
    let missing = in_file.iter().filter(|(name, _)| !is_there(name));
    all.extend(missing.map(|(name, _)| view(routes::KIND, name, Origin::File, true)));
}

fn keys(file: &Config, stored: &Stored, all: &mut Vec<ObjectView>) {
    for key in &stored.keys {
        let took =
            |entry: &KeyEntry| stored.took("key", &key.name, objects::key_fingerprint(entry));
        let entry = file.keys.iter().find(|entry| entry.name == key.name);
        let is_same = key.origin == Origin::File && entry.is_some_and(took);
        all.push(view("key", &key.name, key.origin, !is_same));
    }
    let is_there = |entry: &&KeyEntry| stored.keys.iter().any(|key| key.name == entry.name);
    let missing = file.keys.iter().filter(|entry| !is_there(entry));
    all.extend(missing.map(|entry| view("key", &entry.name, Origin::File, true)));
}

fn budgets(file: &Config, stored: &Stored, all: &mut Vec<ObjectView>) {
    for budget in &stored.budgets {
        let is_same = file.budgets.iter().any(|entry| {
            entry.scope == budget.scope
                && entry.window == budget.window
                && entry.time_zone == budget.zone
                && entry.limit_usd == budget.limit
        });
        let name = objects::budget_name(&budget.scope, budget.window, &budget.zone);
        all.push(view("budget", &name, budget.origin, !is_same));
    }
    for entry in &file.budgets {
        let is_it = |budget: &Budget| {
            budget.scope == entry.scope
                && budget.window == entry.window
                && budget.zone == entry.time_zone
        };
        if !stored.budgets.iter().any(is_it) {
            let name = objects::budget_name(&entry.scope, entry.window, &entry.time_zone);
            all.push(view("budget", &name, Origin::File, true));
        }
    }
}

fn models(file: &Config, stored: &Stored, all: &mut Vec<ObjectView>) {
    for model in &stored.models {
        let is_same = model.origin == Origin::File && is_taken(model, file, stored);
        all.push(view("model", &model.name, model.origin, !is_same));
    }
    let local = file.models.iter().map(|entry| format!("{}/{}", local::PROVIDER, entry.name));
    let offered = file.providers.iter().flat_map(|provider| {
        provider.models.iter().map(|model| format!("{}/{}", provider.name, model.id))
    });
    for name in local.chain(offered) {
        if !stored.models.iter().any(|model| model.name == name) {
            all.push(view("model", &name, Origin::File, true));
        }
    }
}

/// Whether the file still says of a model what was last taken from it.
fn is_taken(model: &Model, file: &Config, stored: &Stored) -> bool {
    if model.provider == local::PROVIDER {
        let mut entries = file.models.iter();
        return match entries.find(|entry| entry.name == model.upstream_model) {
            Some(entry) => {
                names_its_file(entry, model)
                    && stored.took("model", &model.name, objects::local_fingerprint(entry, model))
            }
            // The built-in one is in no file.
            None => {
                let built_in = local::demo();
                built_in.name == model.upstream_model
                    && stored.took(
                        "model",
                        &model.name,
                        objects::local_fingerprint(&built_in, model),
                    )
            }
        };
    }
    let of_provider = file.providers.iter().filter(|provider| provider.name == model.provider);
    let mut entries = of_provider.flat_map(|provider| &provider.models);
    entries
        .find(|entry| entry.id == model.upstream_model)
        .is_some_and(|entry| stored.took("model", &model.name, objects::fingerprint(entry)))
}

#[expect(clippy::disallowed_methods, reason = "the caller knows that this blocks")]
fn names_its_file(entry: &ModelEntry, model: &Model) -> bool {
    let named = entry.path.as_ref().and_then(|path| std::fs::canonicalize(path).ok());
    named.is_some_and(|path| model.path.as_deref() == path.to_str())
}

fn view(kind: &str, name: &str, origin: Origin, differs_from_file: bool) -> ObjectView {
    let origin = match origin {
        Origin::File => "file",
        Origin::Api => "api",
    };
    ObjectView {
        kind: kind.to_owned(),
        name: name.to_owned(),
        origin: origin.to_owned(),
        differs_from_file,
    }
}

#[cfg(test)]
mod tests;
