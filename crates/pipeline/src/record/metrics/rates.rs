//! What limits on rate have refused, and who waits for them, for Prometheus.
//!
//! The figures are counted where Calls are held to limits, by limit, and read from there when
//! somebody asks. Limits beyond [`NAMES_MAX`] are counted together.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{encoded, known};
use crate::rates::RateCount;

/// Limits that are counted under their own names.
const NAMES_MAX: usize = 256;

/// Counters of all limits.
#[derive(Debug, Default)]
pub(crate) struct RateCounts {
    refused: Family<OfLimit, Counter>,
    waiting: Family<OfLimit, Gauge>,
    names: Mutex<HashSet<Arc<str>>>,
}

/// What of which limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct OfLimit {
    limit: Arc<str>,
    what: Option<&'static str>,
}

impl EncodeLabelSet for OfLimit {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoded(encoder, "limit", &self.limit)?;
        self.what.map_or(Ok(()), |what| encoded(encoder, "what", what))
    }
}

impl RateCounts {
    pub(super) fn register(&self, registry: &mut Registry) {
        let text = "Calls that a limit on rate refused, by limit and what there was too little of";
        registry.register("holdfast_rate_refused", text, self.refused.clone());
        let text = "Calls that wait for room in a limit on rate";
        registry.register("holdfast_rate_waiting", text, self.waiting.clone());
    }

    pub(crate) fn set(&self, limits: &[RateCount]) {
        let (mut refused, mut waiting) = (BTreeMap::new(), BTreeMap::new());
        for count in limits {
            let limit = known(&self.names, &count.name, NAMES_MAX);
            for (what, number) in &count.refused {
                let of = OfLimit { limit: Arc::clone(&limit), what: Some(what) };
                *refused.entry(of).or_insert(0) += number;
            }
            *waiting.entry(OfLimit { limit, what: None }).or_insert(0) += i64::from(count.waiting);
        }
        // A counter never goes back, though a limit may begin anew under its name.
        for (of, number) in refused {
            self.refused.get_or_create(&of).inner().fetch_max(number, Ordering::Relaxed);
        }
        self.waiting.clear();
        for (of, number) in waiting {
            self.waiting.get_or_create(&of).set(number);
        }
    }
}
