//! The second stage: may they, and with which money.
//!
//! Its product is an [`Admission`], which owns what was reserved and a place in the recorder's
//! queue: whatever happens to it, the Call ends in `record`. Policy and rate limits join here.
//! Invariants: nothing is executed that some budget cannot pay at its bound; a price that nobody
//! knows is not zero. It must not know how targets are reached.

pub(crate) mod bound;
mod claims;
mod escrow;
mod pool;
mod refusal;

use std::sync::Arc;

use storage::Budget;
use types::call::Target;
use types::{Call, Clock, ErrorCode, Failure, Money, Price};

pub(crate) use bound::Terms;
pub(crate) use claims::Desk;
pub(crate) use escrow::{Escrow, Short};
pub(crate) use pool::{Hold, Refusal};
pub(crate) use refusal::exceeded;

use crate::identify::Identified;
use crate::record::Place;

/// How often a Call whose cap is ours is tried with a lower one, while others spend the same
/// budget.
const CAP_TRIES_MAX: u32 = 4;

/// A Call that may go on, with its money.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) call: Arc<Call>,
    pub(crate) terms: Terms,
    /// What is held of each budget in scope; empty if nothing has to be.
    pub(crate) holds: Vec<Hold>,
    /// Where its end will be written down.
    pub(crate) place: Place,
}

/// Admits a plain Call: its money is taken from slices in memory.
///
/// Waits only where a budget has to be asked for more. Dropping the future gives everything back.
pub(crate) async fn admit(
    escrow: &Escrow,
    clock: &dyn Clock,
    identified: Identified,
) -> Result<Admission, Failure> {
    let Identified { call, budgets } = identified;
    let place = escrow.desk.recorder.reserve_place()?;
    if bound::costs_nothing(&call) {
        return Ok(Admission { call, terms: Terms::NOTHING, holds: Vec::new(), place });
    }
    let target = dearest_target(&call)?;
    let Some(price) = known_price(&call, target, &budgets)? else {
        let terms = bound::unlimited(&call, target);
        return Ok(Admission { call, terms, holds: Vec::new(), place });
    };
    let hint = match bound::depends_on_free(&call, price) {
        true => escrow.tightest_free(&budgets, clock.now()).await?,
        false => None,
    };
    let mut terms = bound::terms(&call, target, price, hint);
    let mut tries_left = CAP_TRIES_MAX;
    loop {
        bound::check_call_budget(&call, &terms)?;
        if budgets.is_empty() || terms.amount == Money::ZERO {
            return Ok(Admission { call, terms, holds: Vec::new(), place });
        }
        escrow.desk.recorder.check_writing()?;
        let short = match escrow.reserve(&budgets, terms.amount, clock.now()).await {
            Ok(holds) => return Ok(Admission { call, terms, holds, place }),
            Err(short) => short,
        };
        // The cap that we chose rested on what memory knew of the budget. Now the store was asked:
        // if a lower cap follows from that, the Call gets it instead of a refusal.
        let lower = match (&short.refusal, terms.output_cap) {
            (Refusal::Exceeded { free }, Some(_)) => {
                bound::terms(&call, target, price, Some(*free))
            }
            _ => terms,
        };
        tries_left -= 1;
        if lower.amount >= terms.amount || tries_left == 0 {
            return Err(refused(&short, &terms, escrow, clock));
        }
        terms = lower;
    }
}

/// The same for a step of a session, whose money is a row of its own commit: nothing is taken here.
pub(crate) async fn admit_step(
    escrow: &Escrow,
    clock: &dyn Clock,
    identified: &Identified,
) -> Result<Terms, Failure> {
    let Identified { call, budgets } = identified;
    let target = dearest_target(call)?;
    let Some(price) = known_price(call, target, budgets)? else {
        return Ok(bound::unlimited(call, target));
    };
    let mut tightest = None;
    if bound::depends_on_free(call, price) {
        for budget in budgets.iter() {
            // Not the hint: other steps spend without this node's pools knowing.
            let free = escrow.free(budget, clock.now()).await?;
            tightest = Some(tightest.map_or(free, |least: Money| least.min(free)));
        }
    }
    let terms = bound::terms(call, target, price, tightest);
    bound::check_call_budget(call, &terms)?;
    Ok(terms)
}

/// The target that the bound is counted at. A plan has one until retries and fallbacks exist.
fn dearest_target(call: &Call) -> Result<&Arc<Target>, Failure> {
    let missing = || Failure::new(ErrorCode::ModelNotFound, "this model has no target configured");
    call.plan.targets.first().ok_or_else(missing)
}

/// The price to reserve at; `None` = nothing limits this Call's cost, so that nothing is reserved
/// and no cap is set.
fn known_price<'a>(
    call: &Call,
    target: &'a Target,
    budgets: &[Arc<Budget>],
) -> Result<Option<&'a Price>, Failure> {
    if budgets.is_empty() && call.budget.is_none() {
        return Ok(None);
    }
    let unknown = || {
        let budget = budgets.first().map(|budget| &**budget);
        refusal::price_unknown(&target.name, budget)
    };
    let price = target.price.as_deref().ok_or_else(unknown)?;
    if bound::writes_cache(call, target) && price.cache_write.is_none() && !bound::is_free(price) {
        let budget = budgets.first().map(|budget| &**budget);
        return Err(refusal::cache_price_unknown(&target.name, budget));
    }
    let surcharge = call.model().and_then(bound::unbounded);
    match surcharge.filter(|_| !bound::is_free(price)) {
        Some(field) => Err(refusal::surcharge(field, &target.name)),
        None => Ok(Some(price)),
    }
}

fn refused(short: &Short, terms: &Terms, escrow: &Escrow, clock: &dyn Clock) -> Failure {
    match &short.refusal {
        Refusal::Failed(failure) => failure.clone(),
        Refusal::Exceeded { free } => {
            let (budget, now) = (&short.budget, clock.now());
            let window = escrow.pool(budget).window(budget, now);
            exceeded(budget, window, *free, terms.amount, now)
        }
    }
}
