//! What was decided about tiers, for Prometheus.
//!
//! The figures are counted where decisions are made, by route, and read from there when somebody
//! asks; the number of routes is bounded there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use types::auto::Tier;

use super::encoded;
use crate::auto::RouteTally;

/// Counters of all routes that have tiers.
#[derive(Debug, Default)]
pub(super) struct TierCounts {
    decisions: Family<OfRoute, Counter>,
    saved: Family<OfRoute, Counter>,
    judged: Family<OfRoute, Counter>,
    disagreed: Family<OfRoute, Counter>,
    unjudged: Family<OfRoute, Counter>,
    judging: Family<OfRoute, Counter>,
}

/// What of which route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OfRoute {
    route: Arc<str>,
    name: &'static str,
    value: &'static str,
}

impl EncodeLabelSet for OfRoute {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoded(encoder, "route", &self.route)?;
        encoded(encoder, self.name, self.value)
    }
}

impl TierCounts {
    pub(super) fn register(&self, registry: &mut Registry) {
        let text = "Calls by the tier that was decided for them; in shadow mode, that would be";
        registry.register("holdfast_auto_decisions", text, self.decisions.clone());
        let text = "What the cheap tier saved, or would have in shadow mode, in billionths of a \
                    US dollar";
        registry.register("holdfast_auto_saved_nanousd", text, self.saved.clone());
        let text = "Decisions that a judge looked at, by the tier that was decided";
        registry.register("holdfast_auto_judged", text, self.judged.clone());
        let text = "Of these, those that it would have decided for the other tier";
        registry.register("holdfast_auto_disagreed", text, self.disagreed.clone());
        let text = "Decisions that were to be judged and were not, by why";
        registry.register("holdfast_auto_unjudged", text, self.unjudged.clone());
        let text = "What judging decisions cost, in billionths of a US dollar";
        registry.register("holdfast_auto_judging_nanousd", text, self.judging.clone());
    }

    pub(super) fn set(&self, tallies: &[(Arc<str>, RouteTally)]) {
        for (route, tally) in tallies {
            let of = |name, value| OfRoute { route: Arc::clone(route), name, value };
            let set = |family: &Family<OfRoute, Counter>, labels: OfRoute, count: u64| {
                family.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
            };
            set(&self.decisions, of("tier", Tier::Cheap.name()), tally.cheap);
            set(&self.decisions, of("tier", Tier::Strong.name()), tally.strong);
            let saved = tally.saved.nanodollars().unsigned_abs();
            set(&self.saved, of("mode", "active"), saved);
            let would_save = tally.would_save.nanodollars().unsigned_abs();
            set(&self.saved, of("mode", "shadow"), would_save);
            for (tier, opinions) in Tier::ALL.into_iter().zip(tally.opinions) {
                set(&self.judged, of("tier", tier.name()), opinions.judged);
                set(&self.disagreed, of("tier", tier.name()), opinions.disagreed);
            }
            set(&self.unjudged, of("reason", "failed"), tally.unjudged_failed);
            set(&self.unjudged, of("reason", "refused"), tally.unjudged_refused);
            set(&self.unjudged, of("reason", "passed_over"), tally.unjudged_passed_over);
            let judging = tally.judging.nanodollars().unsigned_abs();
            set(&self.judging, of("by", "judge"), judging);
        }
    }
}
