//! The third stage: where to. The targets of the plan that somebody can reach, in the plan's order.
//!
//! Before `admit`, [`choose`] has put a route's targets into the order that its [`choice`] asks
//! for. Which of them is asked next is decided when it is asked, by their [`health`]. It hands on
//! what each may cost and must not read it.

pub mod choice;
pub(crate) mod choose;
pub mod condition;
pub(crate) mod facts;
pub(crate) mod health;
pub(crate) mod pace;
mod pins;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::sync::Arc;

use types::call::Target;
use types::clock::Monotonic;
use types::{Call, ErrorCode, Execute, Failure, Notes};

use crate::admit::{Offer, Terms};
use crate::context::{Edited, NOTE};
use crate::identify::List;
use crate::record::meter::Meter;
use health::Health;

/// A target, who reaches it, and what an attempt there is allowed to cost.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) target: Arc<Target>,
    pub(crate) executor: Arc<dyn Execute>,
    pub(crate) terms: Terms,
    /// What an attempt there falls under, beside what the Call does.
    pub(crate) beside: Option<List>,
    /// The Call as this target is told it, if that is not as it came.
    pub(crate) edited: Option<Arc<Edited>>,
    /// The rest of an answer that broke off, if that is what is asked for.
    pub(crate) continued: Option<Continued>,
}

/// A Call for the rest of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Continued {
    pub(crate) call: Arc<Call>,
    /// What the whole answer was allowed to cost.
    pub(crate) of_whole: Terms,
    /// Tokens of what was said before, which this one's target is told: it counts them as input.
    pub(crate) said_tokens: u64,
}

/// The note of an attempt that goes on with an answer.
const NOTE_CONTINUED: &str = "continued";

impl Route {
    /// Adds what the ledger is to say of an attempt there.
    pub(crate) fn note(&self, notes: &mut Notes) {
        if let Some(edited) = &self.edited {
            notes.set(NOTE, edited.note.to_json());
        }
        if self.continued.as_ref().is_some_and(|continued| continued.said_tokens > 0) {
            notes.set(NOTE_CONTINUED, true);
        }
    }

    /// The Call as its target is told it.
    pub(crate) fn told<'a>(&'a self, call: &'a Arc<Call>) -> &'a Arc<Call> {
        let edited = self.edited.as_ref().map_or(call, |edited| &edited.call);
        self.continued.as_ref().map_or(edited, |continued| &continued.call)
    }
}

/// What of a Call's offers can be reached.
pub(crate) fn candidates(
    executors: &HashMap<String, Arc<dyn Execute>>,
    call: &Call,
    offers: Vec<Offer>,
) -> Result<Vec<Route>, Failure> {
    let mut routes = Vec::with_capacity(offers.len());
    for Offer { target, terms, beside } in offers {
        if let Some(executor) = executors.get(&*target.provider) {
            let executor = Arc::clone(executor);
            let route = Route { executor, target, terms, beside, edited: None, continued: None };
            routes.push(route);
        }
    }
    if routes.is_empty() {
        return Err(unreachable(call));
    }
    Ok(routes)
}

/// Nobody reaches any target of this Call.
pub(crate) fn unreachable(call: &Call) -> Failure {
    let message = format!("nothing that can serve `{}` is running here", call.plan.name);
    Failure::new(ErrorCode::Unavailable, message)
}

/// What a Call that has a choice tells of an attempt that ended well.
pub(crate) fn went_well(health: &Health, meter: &Meter, now: Monotonic) {
    let target = &meter.target.name;
    health.succeeded(target, meter.began);
    meter.call.pins.iter().for_each(|pin| health.pins.stays(*pin, target));
    if let Some(first_content) = meter.facts().and_then(|facts| facts.first_content) {
        let streamed = meter.call.model().is_some_and(|model| model.head.stream);
        health.pace.answered(target, streamed, first_content, now);
    }
}

/// Whether a Call has a choice, so that it matters which targets are well.
pub(crate) fn has_choice(call: &Call) -> bool {
    call.plan.policy.attempts_max > 1 || call.plan.targets.len() > 1 || !call.pins.is_empty()
}
