//! The counters of one target at one door.
//!
//! Each attempt moves about seven. A family finds one by hashing its labels; so they are found once
//! and kept. What was never counted has no series, so that each is made when it is first needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{Ended, Kind, OK, Of};

/// Kinds of tokens, in the order of [`Series::tokens`].
const TOKENS: [&str; 5] = ["input", "cached", "cache_write", "output", "reasoning"];
/// Kinds of money, in the order of [`Series::cost`].
const COST: [&str; 2] = ["settled", "unreconciled"];

/// Families whose series are kept.
#[derive(Clone, Debug)]
pub(super) struct Families {
    pub(super) attempts: Family<Ended, Counter>,
    pub(super) duration: Family<Of, Histogram>,
    pub(super) first: Family<Of, Histogram>,
    pub(super) tokens: Family<Kind, Counter>,
    pub(super) cost: Family<Kind, Counter>,
}

/// What was found so far, by door and target: as many as there are labels, which are bounded.
#[derive(Debug, Default)]
pub(super) struct Found(Mutex<HashMap<Of, Arc<Series>>>);

/// The counters of one door and target.
#[derive(Debug, Default)]
pub(super) struct Series {
    went_well: OnceLock<Counter>,
    duration: OnceLock<Histogram>,
    first: OnceLock<Histogram>,
    tokens: [OnceLock<Counter>; TOKENS.len()],
    cost: [OnceLock<Counter>; COST.len()],
}

/// What an attempt adds.
pub(super) struct Added {
    pub(super) outcome: &'static str,
    pub(super) seconds: f64,
    pub(super) first_seconds: Option<f64>,
    /// Input, cached, written, output, reasoning.
    pub(super) tokens: [u64; TOKENS.len()],
    /// Settled, unreconciled; in nanodollars.
    pub(super) cost: [u64; COST.len()],
}

impl Found {
    /// The series of a door and target.
    pub(super) fn of(&self, of: &Of) -> Arc<Series> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match found.get(of) {
            Some(series) => Arc::clone(series),
            None => Arc::clone(found.entry(of.clone()).or_default()),
        }
    }
}

impl Series {
    /// Counts an attempt.
    pub(super) fn add(&self, families: &Families, of: &Of, added: &Added) {
        let ended = || Ended { of: of.clone(), outcome: added.outcome };
        let attempts = || families.attempts.get_or_create(&ended()).clone();
        match added.outcome {
            OK => self.went_well.get_or_init(attempts).inc(),
            _ => attempts().inc(),
        };
        let histogram = |family: &Family<Of, Histogram>| family.get_or_create(of).clone();
        self.duration.get_or_init(|| histogram(&families.duration)).observe(added.seconds);
        if let Some(seconds) = added.first_seconds {
            self.first.get_or_init(|| histogram(&families.first)).observe(seconds);
        }
        count(&self.tokens, &TOKENS, &added.tokens, &families.tokens, of);
        count(&self.cost, &COST, &added.cost, &families.cost, of);
    }
}

fn count(
    kept: &[OnceLock<Counter>],
    kinds: &[&'static str],
    counts: &[u64],
    family: &Family<Kind, Counter>,
    of: &Of,
) {
    for ((kept, kind), count) in kept.iter().zip(kinds).zip(counts) {
        if *count > 0 {
            let find = || family.get_or_create(&Kind { of: of.clone(), kind }).clone();
            kept.get_or_init(find).inc_by(*count);
        }
    }
}
