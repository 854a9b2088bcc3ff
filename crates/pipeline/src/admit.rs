//! The second stage: may they, and with which money.
//!
//! Its product is an [`Admission`], which owns what was reserved and a place in the recorder's
//! queue: whatever happens to it, the Call ends in `record`. Policy and rate limits join here.
//! Invariants: nothing is executed that some budget cannot pay at its bound; what is reserved pays
//! for an attempt at any target that the Call may be sent to; a price that nobody knows is not
//! zero. It must not know how targets are reached.

pub(crate) mod bound;
mod claims;
mod escrow;
pub(crate) mod first;
mod limits;
mod pool;
mod refusal;

use std::sync::Arc;

use storage::{Budget, Charge};
use types::call::Target;
use types::{CacheWrites, Call, Clock, ErrorCode, Failure, Money, Price};

pub(crate) use bound::Terms;
pub(crate) use claims::Desk;
pub(crate) use escrow::{Escrow, Short};
pub(crate) use first::First;
use limits::Limits;
pub(crate) use pool::{Hold, Refusal};
pub(crate) use refusal::exceeded;

use crate::identify::{Identified, List};
use crate::record::Place;

/// How often a Call whose cap is ours is tried with a lower one, while others spend the same
/// budget.
const CAP_TRIES_MAX: usize = 4;

/// A target that a Call may be sent to, and what an attempt there can cost.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) target: Arc<Target>,
    pub(crate) terms: Terms,
    /// What an attempt there falls under, beside what the Call does.
    pub(crate) beside: Option<List>,
}

/// Money that is held for attempts: dropping it gives it back.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    /// One for each budget in scope; empty if nothing has to be held.
    pub(crate) holds: Vec<Hold>,
    /// How much each of them holds.
    pub(crate) amount: Money,
    /// One for each budget that the attempt falls under for its target's sake; it is no money for
    /// another target.
    pub(crate) of_target: Vec<Hold>,
}

impl Reserved {
    /// Spends a part in each budget, and frees the rest.
    pub(crate) fn settle(self, settled: Money, unreconciled: Money) -> Vec<Charge> {
        let holds = self.into_holds();
        let settle = |hold: Hold| hold.settle(settled, unreconciled);
        let mut charges: Vec<Charge> = holds.into_iter().filter_map(settle).collect();
        charges.sort_by(|left, right| left.budget.cmp(&right.budget));
        charges
    }

    /// All that it holds.
    pub(crate) fn into_holds(self) -> Vec<Hold> {
        let Self { mut holds, of_target, .. } = self;
        holds.extend(of_target);
        holds
    }
}

/// A Call that may go on, with its money.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) call: Arc<Call>,
    /// What it falls under, in order of id.
    pub(crate) budgets: Arc<[Arc<Budget>]>,
    /// The targets that it may be sent to, in order of preference.
    pub(crate) offers: Vec<Offer>,
    /// Enough for one attempt at the dearest of them.
    pub(crate) reserved: Reserved,
    /// What was charged already for Calls that this one spawned; counts against the caller's cap.
    pub(crate) spent: Money,
    /// Where the first attempt's end will be written down.
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
    let place = escrow.desk.recorder.reserve_place()?;
    let spent = Money::ZERO;
    let limits = match depends_on_free(&identified) {
        true => Limits::hinted(escrow, clock, &identified).await?,
        false => Limits::of(&identified),
    };
    let mut offers = offers(&identified.call, &limits)?;
    let (call, budgets) = (&identified.call, &identified.budgets);
    let admission = |offers, reserved, place| Admission {
        call: Arc::clone(call),
        budgets: Arc::clone(budgets),
        offers,
        reserved,
        spent,
        place,
    };
    let mut tries_left = CAP_TRIES_MAX + offers.len();
    loop {
        let amount = dearest(&offers);
        if budgets.is_empty() || amount == Money::ZERO {
            return Ok(admission(offers, Reserved::default(), place));
        }
        escrow.desk.recorder.check_writing()?;
        let short = match escrow.reserve(budgets, amount, clock.now()).await {
            Ok(holds) => {
                let reserved = Reserved { holds, amount, of_target: Vec::new() };
                return Ok(admission(offers, reserved, place));
            }
            Err(short) => short,
        };
        tries_left -= 1;
        let affordable = affordable(call, &offers, &short.refusal, &limits);
        if affordable.is_empty() || tries_left == 0 {
            return Err(refused(&short, amount, escrow, clock));
        }
        offers = affordable;
    }
}

/// The same for a step of a session, whose money is a row of its own commit: nothing is taken here.
pub(crate) async fn admit_step(
    escrow: &Escrow,
    clock: &dyn Clock,
    identified: &Identified,
) -> Result<Vec<Offer>, Failure> {
    let limits = match depends_on_free(identified) {
        // Not the hint: other steps spend without this node's pools knowing.
        true => Limits::asked(escrow, clock, identified).await?,
        false => Limits::of(identified),
    };
    offers(&identified.call, &limits)
}

/// What the dearest of these can cost.
fn dearest(offers: &[Offer]) -> Money {
    offers.iter().map(|offer| offer.terms.amount).max().unwrap_or_default()
}

/// Whether a cap that we choose depends on what budgets have left.
fn depends_on_free(identified: &Identified) -> bool {
    let Identified { call, budgets, of_targets, .. } = identified;
    let depends = |target: &Arc<Target>| {
        target.price.as_deref().is_some_and(|price| bound::depends_on_free(call, price))
    };
    let limited = !budgets.is_empty() || of_targets.is_some();
    limited && !bound::costs_nothing(call) && call.plan.targets.iter().any(depends)
}

/// The targets that a Call may be sent to. Those that some limit in scope can't hold are left out;
/// if none is left, the first one's refusal is the answer.
fn offers(call: &Call, limits: &Limits<'_>) -> Result<Vec<Offer>, Failure> {
    let targets = &call.plan.targets;
    let (mut offers, mut refused) = (Vec::with_capacity(targets.len()), None);
    for target in targets {
        let offered = terms(call, target, limits).and_then(|terms| {
            bound::check_call_budget(call, &terms)?;
            let beside = limits.beside(target).cloned();
            Ok(Offer { target: Arc::clone(target), terms, beside })
        });
        match offered {
            Ok(offer) => offers.push(offer),
            Err(failure) => refused = refused.or(Some(failure)),
        }
    }
    let missing = || Failure::new(ErrorCode::ModelNotFound, "this model has no target configured");
    if offers.is_empty() { Err(refused.unwrap_or_else(missing)) } else { Ok(offers) }
}

fn terms(call: &Call, target: &Target, limits: &Limits<'_>) -> Result<Terms, Failure> {
    if bound::costs_nothing(call) {
        return Ok(Terms::NOTHING);
    }
    let price = known_price(call, target, limits)?;
    Ok(match price {
        Some(price) => bound::terms(call, target, price, limits.free(target)),
        None => bound::unlimited(call, target),
    })
}

/// What of `offers` a Call that was refused can have all the same: those that cost less.
///
/// The caps that we chose rested on what memory knew of the budget. Now the store was asked: if
/// lower ones follow from that, the Call gets them instead of a refusal. And what is too dear for
/// the budget must not keep the Call from a target that is not.
fn affordable(call: &Call, offers: &[Offer], refusal: &Refusal, limits: &Limits<'_>) -> Vec<Offer> {
    let Refusal::Exceeded { free } = refusal else { return Vec::new() };
    let lowered = |offer: &Offer| {
        let terms = match (&offer.target.price, offer.terms.output_cap) {
            (Some(price), Some(_)) => {
                let free = limits.free(&offer.target).map_or(*free, |known| known.min(*free));
                bound::terms(call, &offer.target, price, Some(free))
            }
            (Some(_) | None, _) => offer.terms,
        };
        Offer { terms, ..offer.clone() }
    };
    let before = dearest(offers);
    let mut less: Vec<Offer> = offers.iter().map(lowered).collect();
    less.retain(|offer| offer.terms.amount < before);
    if less.iter().any(|offer| offer.terms.amount <= *free) {
        less.retain(|offer| offer.terms.amount <= *free);
    }
    less
}

/// The price to reserve at; `None` = nothing limits this Call's cost, so that nothing is reserved
/// and no cap is set.
fn known_price<'a>(
    call: &Call,
    target: &'a Target,
    limits: &Limits<'_>,
) -> Result<Option<&'a Price>, Failure> {
    let budget = limits.first(target);
    if budget.is_none() && call.budget.is_none() {
        return Ok(None);
    }
    let unknown = || refusal::price_unknown(&target.name, budget);
    let price = target.price.as_deref().ok_or_else(unknown)?;
    let missing = unpriced_writes(bound::cache_writes(call, target), price);
    if let Some(setting) = missing.filter(|_| !price.is_free()) {
        return Err(refusal::cache_price_unknown(&target.name, setting, budget));
    }
    let surcharge = call.model().and_then(|model| bound::unbounded_at(model, target, price));
    match surcharge.filter(|_| !price.is_free()) {
        Some(field) => Err(refusal::surcharge(field, &target.name)),
        None => Ok(Some(price)),
    }
}

/// The setting that would price what is written to a prompt cache, if it has no price.
fn unpriced_writes(writes: CacheWrites, price: &Price) -> Option<&'static str> {
    let hour = match writes {
        CacheWrites::Unread | CacheWrites::Unmarked => return None,
        CacheWrites::Minutes => false,
        CacheWrites::Hour => true,
    };
    if price.rates.cache_write.is_none() {
        return Some("cache_write_usd_per_million");
    }
    (hour && price.rates.cache_write_1h.is_none()).then_some("cache_write_1h_usd_per_million")
}

/// What a client is told that was short of `needed`.
pub(crate) fn refused(short: &Short, needed: Money, escrow: &Escrow, clock: &dyn Clock) -> Failure {
    match &short.refusal {
        Refusal::Failed(failure) => failure.clone(),
        Refusal::Exceeded { free } => {
            let (budget, now) = (&short.budget, clock.now());
            let window = escrow.pool(budget).window(budget, now);
            exceeded(budget, window, *free, needed, now)
        }
    }
}
