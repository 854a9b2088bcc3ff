//! What is known of providers' limits, in the words of the API.

use std::time::Duration;

use providers::Limits;
use providers::limits::{KeyLimits, ModelLimits};
use server::{KeyLimitsView, LimitView, ModelLimitsView, ProviderLimitsView};

/// What is known now.
pub(super) fn view(limits: &Limits) -> Vec<ProviderLimitsView> {
    let known = limits.now();
    let providers = known.iter().map(|known| ProviderLimitsView {
        provider: known.provider.as_ref().to_owned(),
        keys: known.keys.iter().map(key).collect(),
    });
    providers.collect()
}

fn key(known: &KeyLimits) -> KeyLimitsView {
    let state = match (known.is_well, known.refused_for.is_zero()) {
        (true, _) => "well",
        (false, false) => "refused",
        (false, true) => "probing",
    };
    KeyLimitsView {
        key: known.key,
        state,
        refused_for_us: micros(known.refused_for),
        in_flight: known.in_flight,
        models: known.models.iter().map(model).collect(),
    }
}

fn model(known: &ModelLimits) -> ModelLimitsView {
    let limits = known.windows.iter().map(|window| LimitView {
        kind: window.name,
        limit: window.limit,
        left: window.left,
        full_in_us: window.full_in.map(micros),
    });
    ModelLimitsView {
        model: known.model.as_ref().to_owned(),
        in_flight: known.in_flight,
        waiting: known.waiting,
        closed_for_us: micros(known.closed_for),
        refused_for_us: micros(known.refused_for),
        at_once: known.at_once,
        limits: limits.collect(),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
