//! What Prometheus is told of objectives: set when it asks, from what they have counted.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::encoded;
use crate::slo::SloStatus;

type Ratio = Gauge<f64, AtomicU64>;

/// An objective, and which of its figures. Both come from the configuration: they are bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Of {
    slo: String,
    /// The label's name, and its value.
    which: Option<(&'static str, &'static str)>,
}

impl EncodeLabelSet for Of {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoded(encoder, "slo", &self.slo)?;
        self.which.map_or(Ok(()), |(name, value)| encoded(encoder, name, value))
    }
}

/// The families.
#[derive(Debug, Default)]
pub(super) struct SloGauges {
    events: Family<Of, Counter>,
    burn_rate: Family<Of, Ratio>,
    budget_left: Family<Of, Ratio>,
    burning: Family<Of, Gauge>,
    /// Held while they are set: two who ask at once would count twice.
    setting: Mutex<()>,
}

impl SloGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        let text = "Events that met an objective (good), or did not (bad)";
        registry.register("holdfast_slo_events", text, self.events.clone());
        let text = "How much faster than allowed an objective's error budget burns";
        registry.register("holdfast_slo_burn_rate", text, self.burn_rate.clone());
        let text = "The part of an objective's error budget that is left; below 0 overdrawn";
        registry.register("holdfast_slo_budget_left", text, self.budget_left.clone());
        let text = "1 while an objective's error budget burns in both windows, else 0";
        registry.register("holdfast_slo_burning", text, self.burning.clone());
    }

    pub(super) fn set(&self, all: &[SloStatus]) {
        let _one = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        // An objective may be gone, or begun anew, since they were last set.
        self.events.clear();
        self.burn_rate.clear();
        self.budget_left.clear();
        self.burning.clear();
        for status in all {
            let of = |which| Of { slo: status.settings.name.clone(), which };
            for (result, count) in [("good", status.seen.good), ("bad", status.seen.bad)] {
                let counter = self.events.get_or_create(&of(Some(("result", result)))).clone();
                counter.inc_by(count);
            }
            let windows =
                [("short", &status.short), ("long", &status.long), ("budget", &status.budget)];
            for (name, window) in windows {
                self.burn_rate.get_or_create(&of(Some(("window", name)))).set(window.burn_rate);
            }
            self.budget_left.get_or_create(&of(None)).set(status.budget_left);
            self.burning.get_or_create(&of(None)).set(i64::from(status.is_burning));
        }
    }
}
