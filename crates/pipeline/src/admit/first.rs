//! Who is asked first, and what pays for the budgets that it alone falls under.
//!
//! A Call is admitted with the money of the budgets that it falls under wherever it is sent. Those
//! of a model or a provider are asked when it is known which one it is: before anything is sent, so
//! that what they refuse is a refusal of the Call if there is nobody else. Invariant: nobody is
//! chosen whose own budgets do not hold the bound. What a later attempt is paid from is for
//! [`crate::execute::attempts`].

use std::sync::Arc;

use types::{Call, Failure, Money};

use super::{CAP_TRIES_MAX, Hold, Refusal, Terms, bound, refused};
use crate::execute::attempts::Shared;
use crate::route::health::Probe;
use crate::route::{Route, unreachable};

/// Who is asked first.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) route: Route,
    pub(crate) probe: Option<Probe>,
    /// What is held in the budgets that it alone falls under.
    pub(crate) of_target: Vec<Hold>,
}

/// Chooses who of `candidates` is asked first; the others are left there. Waits only where one has
/// budgets of its own.
///
/// # Errors
/// The first refusal, if nobody's own budgets can hold it; `unavailable` if there is nobody.
pub(crate) async fn first(
    shared: &Shared,
    call: &Arc<Call>,
    candidates: &mut Vec<Route>,
) -> Result<First, Failure> {
    let mut first_refusal = None;
    while let Some((route, probe)) = shared.health.next(candidates, shared.clock.monotonic()) {
        if route.beside.is_none() || route.terms.amount == Money::ZERO {
            return Ok(First { route, probe, of_target: Vec::new() });
        }
        match Box::pin(paid(shared, call, route)).await {
            Ok((route, of_target)) => return Ok(First { route, probe, of_target }),
            Err(failure) => drop(first_refusal.get_or_insert(failure)),
        }
    }
    Err(first_refusal.unwrap_or_else(|| unreachable(call)))
}

/// Holds the bound of an attempt in the budgets that it alone falls under; with a lower output cap,
/// if it is ours and they can't hold the one that was chosen.
async fn paid(
    shared: &Shared,
    call: &Call,
    mut route: Route,
) -> Result<(Route, Vec<Hold>), Failure> {
    shared.escrow.desk.recorder.check_writing()?;
    let budgets = route.beside.clone().unwrap_or_default();
    let mut tries_left = CAP_TRIES_MAX;
    loop {
        let (needed, clock) = (route.terms.amount, &*shared.clock);
        let short = match shared.escrow.reserve(&budgets, needed, clock.now()).await {
            Ok(holds) => return Ok((route, holds)),
            Err(short) => short,
        };
        tries_left -= 1;
        match lower(call, &route, &short.refusal).filter(|_| tries_left > 0) {
            Some(terms) => route.terms = terms,
            None => return Err(refused(&short, needed, &shared.escrow, clock)),
        }
    }
}

/// Terms that a budget which refused can hold, where the cap is ours.
fn lower(call: &Call, route: &Route, refusal: &Refusal) -> Option<Terms> {
    let Refusal::Exceeded { free } = refusal else { return None };
    let chosen = route.terms.output_cap?;
    let price = route.target.price.as_deref()?;
    let terms = bound::terms(call, &route.target, price, Some(*free));
    // The cap before may be lower for other reasons than money, as limits on rate have.
    let terms = Terms { output_cap: terms.output_cap.map(|cap| cap.min(chosen)), ..terms };
    (terms.amount < route.terms.amount && terms.amount <= *free).then_some(terms)
}
