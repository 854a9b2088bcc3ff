//! The tries of one step: who was asked, and whether and where it is asked again.
//!
//! The same decisions as for the attempts of a plain Call. Each try is a journaled intent with a
//! reservation of its own, so that this only remembers what a process needs to choose the next;
//! after a crash it begins anew. It must not know how a session journals.

use std::sync::Arc;
use std::time::Duration;

use storage::LedgerRow;
use types::call::{RoutePolicy, Target};
use types::clock::Monotonic;
use types::execute::Patience;
use types::ids::BudgetId;
use types::{Call, ErrorCode, Failure, Money};

use super::{StepAdmission, StepRun};
use crate::admit::Offer;
use crate::execute::decide::{Next, blames_the_request, decide};
use crate::rates::Ticket;
use crate::record::telemetry::Watch;
use crate::route::Route;

/// Times that a step which a budget refused goes on to what costs less, beside once for each of its
/// targets: caps that are ours are lowered too.
const CHEAPER_MAX: usize = 4;

/// The tries of one step so far.
#[derive(Debug, Default)]
pub struct StepTries {
    /// Who was asked, in order.
    asked: Vec<Arc<str>>,
    /// Of these, who turned the step away: asked once more, if nobody else takes it.
    turned_away: Vec<Arc<str>>,
    /// What the tries so far were charged, and what was paid for the step beside them. Counts
    /// against the caller's cap.
    charged: Money,
    /// Why budgets refused the tries that were to be made, and what they have left.
    short: Option<Box<Shortage>>,
    /// How often one did.
    refusals: usize,
    /// The same target is to be asked again.
    again: bool,
    /// Only a target with a larger context is of use.
    beyond: Option<u64>,
    /// What the first of them failed with.
    first: Option<Failure>,
    /// When all of them must have ended, if the step was given a time.
    deadline: Option<Monotonic>,
    /// Goes from try to try, so that all of them are told of as one Call.
    pub(super) watch: Option<Box<Watch>>,
    /// Likewise, so that all of them count as one.
    pub(super) rates: Option<Arc<Ticket>>,
}

/// What budgets that refused a try have left.
#[derive(Debug)]
struct Shortage {
    /// What the answer is if nobody is left.
    failure: Failure,
    /// Of those that the step falls under wherever it is sent: only targets that cost no more are
    /// of use.
    free: Option<Money>,
    /// Of those that some targets alone fall under: the same of these.
    of_targets: Vec<(BudgetId, Money)>,
}

impl Shortage {
    fn leaves(&self, offer: &Offer) -> bool {
        let needed = offer.terms.amount;
        let falls_under = |id: &BudgetId| {
            offer.beside.iter().flat_map(|list| list.iter()).any(|budget| budget.id == *id)
        };
        self.free.is_none_or(|free| needed <= free)
            && self.of_targets.iter().all(|(id, free)| needed <= *free || !falls_under(id))
    }
}

impl StepTries {
    /// Whether somebody was asked already.
    pub(super) const fn have_begun(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Gives back what the step holds of limits on rate: it is not asked again soon, or not at all.
    pub fn let_go(&mut self) {
        self.rates = None;
    }

    /// The time that the step was given is for all of its tries: it begins with the first.
    pub(super) fn keep_time(&mut self, call: &mut Call) {
        if call.time.is_none() {
            return;
        }
        let first = [self.deadline, call.deadline].into_iter().flatten().min();
        (self.deadline, call.deadline) = (first, first);
    }

    /// Counts what one try of the step was charged against the caller's cap.
    pub fn charge(&mut self, row: &LedgerRow) {
        self.spend(row.cost.saturating_add(row.unreconciled));
    }

    /// Counts what else was paid for it.
    pub(super) fn spend(&mut self, charged: Money) {
        self.charged = self.charged.saturating_add(charged);
    }

    /// What was charged so far.
    pub(super) const fn charged(&self) -> Money {
        self.charged
    }

    /// Leaves out what the caller's cap, or the budget that refused the last one, can't pay.
    pub(super) fn affordable(&self, call: &Call, offers: &mut Vec<Offer>) -> Result<(), Failure> {
        let refusals_max = CHEAPER_MAX.saturating_add(offers.len());
        if let Some(short) = self.short.as_deref() {
            offers.retain(|offer| short.leaves(offer));
            if offers.is_empty() || self.refusals > refusals_max {
                return Err(short.failure.clone());
            }
        }
        let Some(allowed) = call.budget else { return Ok(()) };
        let left = allowed.minus_or_zero(self.charged);
        offers.retain(|offer| offer.terms.amount <= left);
        if offers.is_empty() {
            let message = format!(
                "the header holdfast-budget allows ${allowed} for this call, of which ${} is \
                 charged already: raise it, or set a lower output cap",
                self.charged
            );
            return Err(Failure::new(ErrorCode::BudgetExceeded, message));
        }
        Ok(())
    }

    /// A budget refused the commit of a try, and has this left.
    pub(super) fn fall_short(&mut self, failure: Failure, free: Money) {
        let before = self.short.take();
        let least = before.as_ref().and_then(|before| before.free).map_or(free, |it| it.min(free));
        let of_targets = before.map(|before| before.of_targets).unwrap_or_default();
        self.short = Some(Box::new(Shortage { failure, free: Some(least), of_targets }));
        self.refusals += 1;
        self.again = false;
    }

    /// The same of a budget that only some targets fall under: the others are still of use.
    pub(super) fn fall_short_at(&mut self, failure: Failure, budget: &BudgetId, free: Money) {
        let shortage = || Box::new(Shortage { failure, free: None, of_targets: Vec::new() });
        let short = self.short.get_or_insert_with(shortage);
        short.of_targets.push((budget.clone(), free));
        self.refusals += 1;
        self.again = false;
    }

    /// Takes an admission back whose commit a budget refused. Whether another target, one that
    /// costs less, can be looked for by admitting the step again.
    pub fn go_cheaper(&mut self, refused: StepAdmission) -> bool {
        (self.watch, self.rates) = (refused.watch, refused.rates);
        self.short.is_some()
    }

    /// Those to choose the next one of, and the targets that nobody has asked.
    pub(super) fn divide(&self, candidates: Vec<Route>) -> (Vec<Route>, Vec<Arc<Target>>) {
        if self.short.is_some() && self.have_begun() {
            return self.divide_again(candidates);
        }
        let was_asked = |route: &Route| self.asked.contains(&route.target.name);
        let is_last = |route: &Route| self.asked.last() == Some(&route.target.name);
        let fits =
            |route: &Route| route.target.context_tokens > self.beyond || self.beyond.is_none();
        let fresh = candidates.iter().filter(|route| !was_asked(route) && fits(route));
        let left: Vec<_> = fresh.map(|route| Arc::clone(&route.target)).collect();
        let is_next = |route: &Route| match (self.again, left.is_empty()) {
            (true, _) => is_last(route),
            (false, false) => !was_asked(route) && fits(route),
            (false, true) => true,
        };
        let next: Vec<_> = candidates.iter().filter(|route| is_next(route)).cloned().collect();
        // One that is configured no more can't be asked again.
        let next = if next.is_empty() { candidates } else { next };
        (next, left)
    }

    /// The same after a budget refused one: whoever is left, else whoever turned the step away.
    fn divide_again(&self, mut candidates: Vec<Route>) -> (Vec<Route>, Vec<Arc<Target>>) {
        let was_asked = |route: &Route| self.asked.contains(&route.target.name);
        let fits =
            |route: &Route| route.target.context_tokens > self.beyond || self.beyond.is_none();
        candidates.retain(fits);
        let fresh = candidates.iter().filter(|route| !was_asked(route));
        let left: Vec<_> = fresh.map(|route| Arc::clone(&route.target)).collect();
        candidates.retain(|route| match left.is_empty() {
            true => self.turned_away.contains(&route.target.name),
            false => !was_asked(route),
        });
        (candidates, left)
    }

    /// How long the next try may wait for a place on this machine.
    pub(super) fn patience(&self, policy: &RoutePolicy, left: &[Arc<Target>]) -> Option<Patience> {
        let made = self.made().saturating_add(1);
        let goes_on = made < policy.attempts_max && !left.is_empty();
        let patience =
            Patience { wait_max: policy.local_wait_max, queue_max: policy.local_queue_max };
        goes_on.then_some(patience)
    }

    /// What to answer for a step that is not asked again: what a fallback says of the request must
    /// not mask why it was asked at all.
    pub fn answered(&mut self, last: Failure) -> Failure {
        match self.first.take() {
            Some(first) if blames_the_request(last.code) && !blames_the_request(first.code) => {
                first
            }
            Some(_) | None => last,
        }
    }

    /// What to answer for a step whose next try was refused.
    pub fn refused(&mut self, refusal: Failure) -> Failure {
        self.first.take().unwrap_or(refusal)
    }

    /// Why nobody is left to be asked, if it is for want of money.
    pub(super) fn nobody(&self) -> Option<Failure> {
        self.short.as_ref().map(|short| short.failure.clone())
    }

    fn made(&self) -> u32 {
        u32::try_from(self.asked.len()).unwrap_or(u32::MAX)
    }
}

impl StepRun {
    /// Whether the step is to be asked again after this failure, as its route says, and after how
    /// long.
    pub fn next_try(&mut self, tries: &mut StepTries, failure: &Failure) -> Option<Duration> {
        // Whoever asks again has other reasons too: an engine that ended is started anew.
        tries.watch = self.watch.take();
        let (call, target, clock) = (&self.meter.call, &self.meter.target, &self.shared.clock);
        let policy = &call.plan.policy;
        tries.asked.push(Arc::clone(&target.name));
        if failure.turns_away() && !tries.turned_away.contains(&target.name) {
            tries.turned_away.push(Arc::clone(&target.name));
        }
        let in_a_row = tries.asked.iter().rev().take_while(|name| **name == target.name).count();
        if tries.made() >= policy.attempts_max {
            return None;
        }
        if failure.code == ErrorCode::ContextLengthExceeded {
            // A window that nobody knows is no larger one.
            tries.beyond = tries.beyond.max(Some(target.context_tokens.unwrap_or_default()));
        }
        let larger =
            |other: &&Arc<Target>| tries.beyond.is_none() || other.context_tokens > tries.beyond;
        let others = self.left.iter().any(|other| larger(&other));
        let in_a_row = u32::try_from(in_a_row).unwrap_or(u32::MAX);
        let jitter = self.shared.ids.fraction();
        let in_a_row = (in_a_row, policy.tries_at(target));
        let mut wait = match decide(failure, in_a_row, others, policy, jitter) {
            Next::Stop => return None,
            Next::Elsewhere => None,
            Next::Again { after } => Some(after),
        };
        let now = clock.monotonic();
        let ends = |then: Monotonic| call.deadline.is_some_and(|deadline| then >= deadline);
        let then = now.saturating_add(wait.unwrap_or_default());
        // Another one need not be waited for.
        if others && (self.shared.health.is_open(&target.name, then) || ends(then)) {
            wait = None;
        }
        if ends(now.saturating_add(wait.unwrap_or_default())) {
            return None;
        }
        tries.rates = self.rates.take();
        tries.again = wait.is_some();
        tries.first.get_or_insert_with(|| failure.clone());
        let (call, target, code) = (&call.id, &*target.name, failure.code);
        tracing::warn!(%call, target, %code, ?wait, "a try of a step failed; the step goes on");
        Some(wait.unwrap_or_default())
    }
}
