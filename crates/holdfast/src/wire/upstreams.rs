//! Who does Calls: an executor for each provider of the file, and what the process has of its own.
//!
//! An upstream whose entry says the same as before keeps its executor, and with it its connections
//! and what it learned; Calls on one that is gone end on it. Nothing is connected to here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use pipeline::{ModelLimits, PriceList, ProviderInfo, RouteInfo, Upstreams};
use server::ObjectChange;
use sessions::ToolServers;
use types::Execute;
use types::call::Lacks;
use types::clock::SharedClock;

use super::local::{self, Local};
use crate::catalog::Prices;
use crate::config::{Config, ProviderEntry, RouteEntry};

/// An upstream that was made.
#[derive(Clone)]
struct Made {
    entry: ProviderEntry,
    /// The part of traces that is kept, where it is told of them.
    sampling: Option<f64>,
    executor: Arc<dyn Execute>,
}

/// The upstreams of one configuration.
#[derive(Clone, Default)]
pub(super) struct Providers(Vec<Made>);

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|made| &made.entry.name)).finish()
    }
}

/// Makes upstreams.
#[derive(Debug)]
pub(super) struct Maker {
    clock: SharedClock,
    /// One for all, also for those to come: a conversation may go on at another provider.
    vault: providers::Vault,
    /// What is known of their limits, for an operator to see.
    limits: providers::Limits,
    /// What needs no provider of the file: local models and tools.
    own: HashMap<String, Arc<dyn Execute>>,
}

impl Maker {
    pub(super) fn new(
        clock: SharedClock,
        limits: providers::Limits,
        local: &Local,
        tools: &Arc<ToolServers>,
    ) -> Self {
        let own = HashMap::from([
            (local::PROVIDER.to_owned(), local.executor()),
            (sessions::mcp::PROVIDER.to_owned(), Arc::clone(tools) as _),
        ]);
        Self { clock, vault: providers::Vault::default(), limits, own }
    }

    /// The providers of a configuration, and each vendor whose usual key is in the environment;
    /// what was the same `before` is kept.
    ///
    /// # Errors
    /// An entry that can't be used; a checked configuration has none.
    pub(super) fn providers(
        &self,
        settings: &Config,
        before: &Providers,
    ) -> anyhow::Result<Providers> {
        let mut all = Vec::new();
        let export = settings.telemetry.otlp(&|name| std::env::var(name).ok());
        let kept = export.ok().flatten().map(|export| export.sampling);
        for entry in settings.all_providers(&|name| std::env::var(name).ok()) {
            let sampling = kept.filter(|_| entry.propagate_trace);
            let is_same =
                |made: &&Made| made.entry.is_same_upstream(&entry) && made.sampling == sampling;
            let same = before.0.iter().find(is_same);
            let executor = match same {
                Some(made) => Arc::clone(&made.executor),
                None => {
                    let provider = entry.provider();
                    let provider =
                        provider.with_context(|| format!("the provider {}", entry.name))?;
                    let provider = match sampling {
                        Some(sampling) => provider.told_of_traces(sampling),
                        None => provider,
                    };
                    let (clock, vault) = (Arc::clone(&self.clock), self.vault.clone());
                    providers::executor(provider, clock, vault, &self.limits)
                }
            };
            all.push(Made { entry, sampling, executor });
        }
        Ok(Providers(all))
    }

    /// What Calls are sent to.
    pub(super) fn upstreams(&self, providers: &Providers, routes: Vec<RouteInfo>) -> Upstreams {
        let mut executors = self.own.clone();
        let made = providers.0.iter();
        executors.extend(made.map(|made| (made.entry.name.clone(), Arc::clone(&made.executor))));
        let mut known: Vec<ProviderInfo> =
            providers.0.iter().map(|made| provider(&made.entry)).collect();
        known.push(ProviderInfo {
            name: local::PROVIDER.to_owned(),
            free_until_priced: true,
            limits: Some(local_limits),
            ..ProviderInfo::default()
        });
        Upstreams { providers: known, routes, executors }
    }
}

impl Providers {
    /// What is otherwise than `before`, by name.
    pub(super) fn changes(&self, before: &Self) -> Vec<ObjectChange> {
        let change = |name: &str, change: &str| ObjectChange {
            kind: "provider".to_owned(),
            name: name.to_owned(),
            change: change.to_owned(),
        };
        let named = |all: &Self, name: &str| {
            all.0.iter().find(|made| made.entry.name == name).map(|made| made.entry.clone())
        };
        let of_now = self.0.iter().filter_map(|made| match named(before, &made.entry.name) {
            None => Some(change(&made.entry.name, "added")),
            Some(entry) if !entry.is_same_upstream(&made.entry) => {
                Some(change(&made.entry.name, "changed"))
            }
            Some(_) => None,
        });
        let gone = before.0.iter().filter(|made| named(self, &made.entry.name).is_none());
        of_now.chain(gone.map(|made| change(&made.entry.name, "removed"))).collect()
    }
}

fn provider(entry: &ProviderEntry) -> ProviderInfo {
    ProviderInfo {
        format: providers::vendor(&entry.vendor).map(providers::Vendor::format),
        any_model: entry.models.is_empty(),
        drain: entry.drain(),
        vendor: entry.vendor.clone(),
        name: entry.name.clone(),
        free_until_priced: false,
        limits: Some(limits),
        prices: prices(entry),
    }
}

/// What its models cost: at its vendor's own address only, as nobody knows what another asks.
fn prices(entry: &ProviderEntry) -> Option<Arc<dyn PriceList>> {
    let elsewhere = providers::vendor(&entry.vendor).is_some_and(|it| it.base_url.is_some())
        && entry.base_url.is_some();
    let region = entry.aws.as_ref().and_then(|aws| aws.region.as_deref());
    (!elsewhere).then(|| Arc::new(Prices::of(&entry.vendor, region)) as Arc<dyn PriceList>)
}

/// What a vendor's own models can read and say.
fn limits(vendor: &str, model: &str) -> ModelLimits {
    let (context_tokens, output_tokens) = providers::family::limits(vendor, model);
    let lacks = providers::family::lacks(vendor, model);
    ModelLimits { context_tokens, output_tokens, lacks }
}

/// What local models take: their engine reads words only.
fn local_limits(_vendor: &str, _model: &str) -> ModelLimits {
    ModelLimits { lacks: Lacks { media: true, ..Lacks::default() }, ..ModelLimits::default() }
}

/// A route as Calls are sent by it.
pub(super) fn route(entry: &RouteEntry) -> RouteInfo {
    RouteInfo {
        name: entry.name.clone(),
        aliases: entry.aliases.clone(),
        targets: entry.models(),
        choice: Some(entry.choice()).filter(|choice| !choice.is_plain()).map(Arc::new),
        policy: entry.policy(),
    }
}
