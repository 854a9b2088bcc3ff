//! Counters and times of all attempts, for Prometheus.
//!
//! Each attempt is counted once, when it has ended; nothing here is on a Call's way. Names follow
//! OpenTelemetry's conventions for generative AI where those have a word, and begin with
//! `holdfast_` where they have none. Invariant: the number of series is bounded, whatever clients
//! ask for: names of models beyond [`TARGETS_MAX`] are counted as `other`.
//! <https://github.com/open-telemetry/semantic-conventions-genai>

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::meter::Meter;
use crate::auto::RouteTally;
use crate::slo::SloStatus;
use cascades::Cascades;
use rates::RateCounts;
use series::{Added, Families, Found};
use slos::SloGauges;
use tiers::TierCounts;

mod cascades;
mod rates;
mod series;
mod slos;
mod tiers;

/// Targets that are counted under their own names.
const TARGETS_MAX: usize = 256;
/// Request classes that are counted under their own names: clients may name any.
const CLASSES_MAX: usize = 32;
/// Where further ones are counted.
const OTHER: &str = "other";
/// How an attempt that did not fail ended.
const OK: &str = "ok";
/// Upper bounds of times in seconds: from a local step to a long answer, as the conventions have
/// it.
const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// What is counted. Cheap to share; counting takes no lock but a short one on a family's map.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    families: Families,
    found: Found,
    refused: Family<Turned, Counter>,
    slos: SloGauges,
    /// Answers that routes have judged.
    pub(super) cascades: Cascades,
    tiers: TierCounts,
    /// What limits on rate have refused.
    pub(super) rates: RateCounts,
    /// Conditions of routes that could not be evaluated.
    pub(super) failed_conditions: Counter,
    names: Mutex<HashSet<Arc<str>>>,
    classes: Mutex<HashSet<Arc<str>>>,
}

/// Whose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Of {
    door: &'static str,
    target: Arc<str>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ended {
    of: Of,
    outcome: &'static str,
}

/// A Call that got no attempt: why, and of which class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Turned {
    code: &'static str,
    class: Arc<str>,
}

/// What of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    of: Of,
    kind: &'static str,
}

impl EncodeLabelSet for Of {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoded(encoder, "holdfast_door", self.door)?;
        encoded(encoder, "holdfast_target", &self.target)
    }
}

impl EncodeLabelSet for Ended {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.of.encode(encoder)?;
        encoded(encoder, "outcome", self.outcome)
    }
}

impl EncodeLabelSet for Turned {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoded(encoder, "code", self.code)?;
        encoded(encoder, "class", &self.class)
    }
}

impl EncodeLabelSet for Kind {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.of.encode(encoder)?;
        encoded(encoder, "kind", self.kind)
    }
}

fn encoded(
    encoder: &mut LabelSetEncoder<'_>,
    name: &str,
    value: &str,
) -> Result<(), std::fmt::Error> {
    use prometheus_client::encoding::EncodeLabel;
    (name, &*escaped(value)).encode(encoder.encode_label())
}

/// A label's value: clients name models, and a quote or a line end would begin a series of their
/// own. The library writes values as they are.
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let attempts = Family::<Ended, Counter>::default();
        let duration = Family::<Of, Histogram>::new_with_constructor(seconds);
        let first = Family::<Of, Histogram>::new_with_constructor(seconds);
        let tokens = Family::<Kind, Counter>::default();
        let cost = Family::<Kind, Counter>::default();
        let text = "Attempts that ended, by how: ok, or the error's code";
        registry.register("holdfast_attempts", text, attempts.clone());
        let text = "From the beginning of an attempt to its end";
        let name = "gen_ai_client_operation_duration";
        registry.register_with_unit(name, text, Unit::Seconds, duration.clone());
        let text = "From the beginning of an attempt to its first content";
        let name = "gen_ai_client_operation_time_to_first_chunk";
        registry.register_with_unit(name, text, Unit::Seconds, first.clone());
        let text = "Tokens as providers counted them; cached and written are part of input, \
                    reasoning of output";
        registry.register("holdfast_tokens", text, tokens.clone());
        let text = "What attempts cost, in billionths of a US dollar";
        registry.register("holdfast_cost_nanousd", text, cost.clone());
        let refused = Family::<Turned, Counter>::default();
        let text = "Calls that were refused before their first attempt, by the error's code";
        registry.register("holdfast_refused", text, refused.clone());
        let slos = SloGauges::default();
        slos.register(&mut registry);
        let cascades = Cascades::default();
        cascades.register(&mut registry);
        let tiers = TierCounts::default();
        tiers.register(&mut registry);
        let rates = RateCounts::default();
        rates.register(&mut registry);
        let text = "Conditions of routes that could not be evaluated, and counted as a no";
        let failed_conditions = Counter::default();
        registry.register("holdfast_route_condition_failures", text, failed_conditions.clone());
        Self {
            registry,
            families: Families { attempts, duration, first, tokens, cost },
            found: Found::default(),
            refused,
            slos,
            cascades,
            tiers,
            rates,
            failed_conditions,
            names: Mutex::default(),
            classes: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Counts an attempt that has ended.
    pub(crate) fn count(&self, meter: &Meter) {
        let Some(facts) = meter.facts() else { return };
        let target = known(&self.names, &meter.target.name, TARGETS_MAX);
        let of = Of { door: meter.call.door.name(), target };
        let outcome = facts.error.map_or(OK, types::ErrorCode::name);
        let usage = facts.usage.unwrap_or_default();
        let verdict = meter.verdict();
        let added = Added {
            outcome,
            seconds: facts.took.as_secs_f64(),
            first_seconds: facts.first_content.as_ref().map(Duration::as_secs_f64),
            tokens: [
                usage.input_tokens,
                usage.cached_tokens,
                usage.cache_write_tokens,
                usage.output_tokens,
                usage.reasoning_tokens,
            ],
            cost: [
                verdict.settled.nanodollars().unsigned_abs(),
                verdict.unreconciled.nanodollars().unsigned_abs(),
            ],
        };
        self.found.of(&of).add(&self.families, &of, &added);
    }

    /// Counts a Call that was refused before its first attempt.
    pub(crate) fn refused(&self, class: &str, code: types::ErrorCode) {
        let class = known(&self.classes, &Arc::from(class), CLASSES_MAX);
        self.refused.get_or_create(&Turned { code: code.name(), class }).inc();
    }

    /// All of it in the OpenMetrics text format.
    pub(crate) fn text(&self, slos: &[SloStatus], tiers: &[(Arc<str>, RouteTally)]) -> String {
        self.slos.set(slos);
        self.tiers.set(tiers);
        let mut text = String::new();
        // Writing into a string can't fail.
        let _ok = encode(&mut text, &self.registry);
        text
    }
}

/// The name under which something is counted: the first `max` names have a series of their own.
fn known(names: &Mutex<HashSet<Arc<str>>>, name: &Arc<str>, max: usize) -> Arc<str> {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    if names.contains(name) {
        return Arc::clone(name);
    }
    if names.len() >= max {
        return Arc::from(OTHER);
    }
    names.insert(Arc::clone(name));
    Arc::clone(name)
}

/// What is counted of an attempt.
pub(crate) struct Facts {
    pub(crate) error: Option<types::ErrorCode>,
    pub(crate) usage: Option<types::Usage>,
    pub(crate) took: Duration,
    pub(crate) first_content: Option<Duration>,
}

#[cfg(test)]
mod tests;
