//! What is known of all providers' limits, for an operator to see.
//!
//! It holds no secret: a key is named by its place in the configuration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::keys::Keys;

/// Knows the keys of all providers that are in use.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    providers: Arc<Mutex<BTreeMap<Arc<str>, Known>>>,
}

/// The keys of one provider, those of the newest configuration last.
type Known = Vec<Weak<Keys>>;

/// What is known of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderLimits {
    /// Its name.
    pub provider: Arc<str>,
    /// Its keys in the order of the configuration; one even where it is told none.
    pub keys: Vec<KeyLimits>,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// Which one it is, from 1.
    pub key: usize,
    /// Whether its provider takes it, as far as is known.
    pub is_well: bool,
    /// How long it is left alone yet.
    pub refused_for: Duration,
    /// Calls that are under way with it, those that wait included.
    pub in_flight: u64,
    /// The models of which something is known, by name.
    pub models: Vec<ModelLimits>,
}

/// What is known of one model with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Its name at the provider.
    pub model: Arc<str>,
    /// Calls that are under way.
    pub in_flight: u64,
    /// Calls that wait.
    pub waiting: usize,
    /// How long the provider takes none yet.
    pub closed_for: Duration,
    /// How long the key is not used for this model yet, because it was refused for it.
    pub refused_for: Duration,
    /// How many may run at once, where that was found out by being refused.
    pub at_once: Option<u64>,
    /// What headers told.
    pub windows: Vec<WindowLimits>,
}

/// What headers told of one kind of limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Which kind.
    pub name: &'static str,
    /// How much may be used.
    pub limit: Option<u64>,
    /// What is left by our own count.
    pub left: u64,
    /// In how long all of it is there again, where the provider says it.
    pub full_in: Option<Duration>,
}

impl Limits {
    /// Shows the keys of a provider from now on, instead of those it had before.
    pub(crate) fn show(&self, provider: &Arc<str>, keys: &Arc<Keys>) {
        let mut providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of providers that are gone go with them, and of configurations that were refused.
        for known in providers.values_mut() {
            known.retain(|keys| keys.strong_count() > 0);
        }
        providers.retain(|_, known| !known.is_empty());
        providers.entry(Arc::clone(provider)).or_default().push(Arc::downgrade(keys));
    }

    /// What is known now, by provider.
    pub fn now(&self) -> Vec<ProviderLimits> {
        let providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = providers.iter().filter_map(|(provider, known)| {
            let keys = known.iter().rev().find_map(Weak::upgrade)?;
            Some(ProviderLimits { provider: Arc::clone(provider), keys: of(&keys) })
        });
        known.collect()
    }
}

fn of(keys: &Keys) -> Vec<KeyLimits> {
    let shown = keys.seen().into_iter().enumerate().map(|(index, seen)| KeyLimits {
        key: index + 1,
        is_well: seen.is_well,
        refused_for: seen.refused_for,
        in_flight: seen.in_flight,
        models: seen.models.into_iter().map(|(model, seen)| of_model(model, seen)).collect(),
    });
    shown.collect()
}

fn of_model(model: Arc<str>, seen: super::Seen) -> ModelLimits {
    let windows = seen.windows.into_iter().map(|(name, limit, left, full_in)| WindowLimits {
        name,
        limit,
        left,
        full_in,
    });
    ModelLimits {
        model,
        in_flight: seen.in_flight,
        waiting: seen.waiting,
        closed_for: seen.closed_for,
        refused_for: seen.refused_for,
        at_once: seen.at_once,
        windows: windows.collect(),
    }
}
