//! Counters of answers that routes have judged: how many, by whom rejected, and what that saved.
//!
//! Labels are names of routes and validators. Invariant: the number of series is bounded, whatever
//! routes are made and removed while the server runs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use types::Money;

use super::{encoded, known};
use crate::execute::cascade::Validator;

/// Routes that are counted under their own names.
const ROUTES_MAX: usize = 64;
/// Who rejected an answer that nobody did.
const NONE: &str = "none";

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Cascades {
    answers: Family<Of, Counter>,
    money: Family<Of, Counter>,
    routes: Mutex<HashSet<Arc<str>>>,
}

/// An answer's route, and who rejected it; or what kind of money.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Of {
    route: Arc<str>,
    label: &'static str,
    value: &'static str,
}

impl EncodeLabelSet for Of {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoded(encoder, "route", &self.route)?;
        encoded(encoder, self.label, self.value)
    }
}

impl Cascades {
    pub(super) fn register(&self, registry: &mut Registry) {
        let text = "Answers of routes with a cascade, by the validator that rejected them";
        registry.register("holdfast_cascade_answers", text, self.answers.clone());
        let text = "What cascades saved and wasted, in billionths of a US dollar; saved below zero \
                    is overpaid";
        registry.register("holdfast_cascade_nanousd", text, self.money.clone());
    }

    /// Counts an answer: what it saved, and what was wasted on it.
    pub(crate) fn count(
        &self,
        route: &Arc<str>,
        rejected_by: Option<Validator>,
        [saved, wasted]: [Money; 2],
    ) {
        let route = known(&self.routes, route, ROUTES_MAX);
        let value = rejected_by.map_or(NONE, Validator::name);
        let answer = Of { route: Arc::clone(&route), label: "validator", value };
        self.answers.get_or_create(&answer).inc();
        let kind = if saved < Money::ZERO { "overpaid" } else { "saved" };
        for (value, amount) in [(kind, saved), ("wasted", wasted)] {
            let of = Of { route: Arc::clone(&route), label: "kind", value };
            self.money.get_or_create(&of).inc_by(amount.nanodollars().unsigned_abs());
        }
    }
}
