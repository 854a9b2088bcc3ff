//! What is measured of attempts, as histograms that grow from the start on.
//!
//! Invariant: the number of series is bounded by [`SERIES_MAX`], whatever clients ask for; an
//! attempt beyond them is counted as left out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline::AttemptEnded;
use types::{ErrorCode, Timestamp, Usage};

use super::proto::{Data, Histogram, KeyValue, Metric, Number, Point, Sum, text};
use super::words::{ERROR_TYPE, OPERATION, PROVIDER, REQUEST_MODEL, TOKEN_TYPE};
use super::words::{operation, unix_nanos};

/// Series of one histogram at most.
const SERIES_MAX: usize = 512;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;
/// Upper bounds of times in seconds, as the conventions have them.
const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Upper bounds of tokens, as the conventions have them.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// What is measured of one attempt.
#[derive(Debug)]
pub(super) struct Measured {
    operation: &'static str,
    provider: Arc<str>,
    model: Arc<str>,
    error: Option<ErrorCode>,
    took: Duration,
    first_content: Option<Duration>,
    usage: Option<Usage>,
}

impl Measured {
    pub(super) fn of(ended: &AttemptEnded) -> Self {
        Self {
            operation: operation(&ended.call),
            provider: Arc::clone(&ended.target.provider),
            model: Arc::clone(&ended.target.upstream_model),
            error: ended.error,
            took: ended.took,
            first_content: ended.first_content,
            usage: ended.usage,
        }
    }
}

/// Whose series: operation, provider, model, and what tells it from its sisters.
type Of = (&'static str, Arc<str>, Arc<str>, Option<&'static str>);

#[derive(Debug, Default)]
struct Grown {
    buckets: [u64; SECONDS.len() + 1],
    count: u64,
    sum: f64,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    unit: &'static str,
    /// The attribute that tells sisters apart.
    by: &'static str,
    bounds: [f64; SECONDS.len()],
    series: HashMap<Of, Grown>,
}

impl Family {
    fn new(
        name: &'static str,
        unit: &'static str,
        by: &'static str,
        bounds: [f64; SECONDS.len()],
    ) -> Self {
        Self { name, unit, by, bounds, series: HashMap::new() }
    }

    fn observe(&mut self, of: Of, value: f64) {
        if self.series.len() >= SERIES_MAX && !self.series.contains_key(&of) {
            return;
        }
        let grown = self.series.entry(of).or_default();
        let place = self.bounds.iter().position(|bound| value <= *bound);
        grown.buckets[place.unwrap_or(self.bounds.len())] += 1;
        grown.count += 1;
        grown.sum += value;
    }

    fn metric(&self, (start, now): (u64, u64)) -> Metric {
        let point = |((operation, provider, model, sister), grown): (&Of, &Grown)| Point {
            attributes: [
                Some(text(OPERATION, operation)),
                Some(text(PROVIDER, provider)),
                Some(text(REQUEST_MODEL, model)),
                sister.map(|sister| text(self.by, sister)),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<KeyValue>>(),
            start_unix_nanos: start,
            unix_nanos: now,
            count: grown.count,
            sum: Some(grown.sum),
            buckets: grown.buckets.to_vec(),
            bounds: self.bounds.to_vec(),
        };
        let points = self.series.iter().map(point).collect();
        Metric {
            name: self.name.to_owned(),
            unit: self.unit.to_owned(),
            data: Some(Data::Histogram(Histogram { points, temporality: CUMULATIVE })),
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Figures {
    start: u64,
    duration: Family,
    first: Family,
    tokens: Family,
}

impl Figures {
    pub(super) fn new(start: Timestamp) -> Self {
        Self {
            start: unix_nanos(start),
            duration: Family::new("gen_ai.client.operation.duration", "s", ERROR_TYPE, SECONDS),
            first: Family::new(
                "gen_ai.client.operation.time_to_first_chunk",
                "s",
                ERROR_TYPE,
                SECONDS,
            ),
            tokens: Family::new("gen_ai.client.token.usage", "{token}", TOKEN_TYPE, TOKENS),
        }
    }

    /// Takes an attempt in.
    pub(super) fn count(&mut self, ended: &Measured) {
        let of = |sister| {
            let (provider, model) = (Arc::clone(&ended.provider), Arc::clone(&ended.model));
            (ended.operation, provider, model, sister)
        };
        let took = |duration: Duration| duration.as_secs_f64();
        self.duration.observe(of(ended.error.map(ErrorCode::name)), took(ended.took));
        if let Some(first) = ended.first_content {
            self.first.observe(of(None), took(first));
        }
        let Some(usage) = ended.usage else { return };
        let counts = [("input", usage.input_tokens), ("output", usage.output_tokens)];
        for (kind, count) in counts {
            self.tokens.observe(of(Some(kind)), as_number(count));
        }
    }

    /// All of it, and how many Calls and attempts were not exported.
    pub(super) fn metrics(&self, now: Timestamp, dropped: u64) -> Vec<Metric> {
        let times = (self.start, unix_nanos(now));
        let families = [&self.duration, &self.first, &self.tokens];
        let grown = families.into_iter().filter(|family| !family.series.is_empty());
        let mut metrics: Vec<Metric> = grown.map(|family| family.metric(times)).collect();
        let point = Number {
            start_unix_nanos: times.0,
            unix_nanos: times.1,
            whole: Some(i64::try_from(dropped).unwrap_or(i64::MAX)),
        };
        let sum = Sum { points: vec![point], temporality: CUMULATIVE, is_monotonic: true };
        metrics.push(Metric {
            name: "holdfast.telemetry.dropped".to_owned(),
            unit: "{item}".to_owned(),
            data: Some(Data::Sum(sum)),
        });
        metrics
    }
}

#[expect(clippy::cast_precision_loss, reason = "no count of tokens is near 2^53")]
fn as_number(count: u64) -> f64 {
    count as f64
}
