//! A session's steps through the same stages: money is held and settled by rows of the session's
//! own commits.
//!
//! A step pays a commit anyway, so it takes nothing from memory: [`StepAdmission::reservation`]
//! goes into the commit that journals its intent and is checked against the budgets there, and the
//! row of [`StepRun::into_row`] goes into the commit that journals its outcome. Invariant: each
//! reservation that was committed is settled by exactly one row; after a crash the journal's
//! [`StepIntent`] makes that row.

mod tries;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use serde::{Deserialize, Serialize};
use storage::commit::StepReservation;
use storage::ledger::Held;
use storage::{Budget, Charge, LedgerRow, WindowKey};
use types::call::{Door, Target};
use types::clock::Sleep;
use types::error::Billed;
use types::execute::Patience;
use types::ids::{AttemptId, BudgetId, CallId, KeyId, ReservationId, SessionId, StepId};
use types::{
    Call, ErrorCode, Failure, Incoming, Metadata, Money, Notes, OutcomeEvent, OutcomeStream, Sent,
    Timestamp,
};

use crate::admit::{Terms, admit_step, exceeded};
use crate::auto::{self, opinion::Tape};
use crate::context::{Fitted, Purse, fit};
use crate::execute::attempts::{self, Shared};
use crate::execute::{Wanted, cascade, execute, late};
use crate::identify::values::with_values;
use crate::identify::{Identified, List, identify};
use crate::rates::{self, Pace, Ticket};
use crate::record::answer::{Bill, no_end};
use crate::record::meter::{Meter, Verdict, kind_and_name, wall_micros};
use crate::record::storage_failure;
use crate::record::telemetry::Watch;
use crate::route::choose::{choose, has_to_choose};
use crate::route::health::{Health, Probe};
use crate::route::{Route, candidates, has_choice, unreachable, went_well};
use crate::run::{Pipeline, Refused, UNIDENTIFIED};
pub use tries::StepTries;

/// An admitted step: put `reservation` into the commit that journals the intent, then
/// [`Pipeline::run_step`].
#[derive(Debug)]
pub struct StepAdmission {
    /// The step's Call.
    pub call: Arc<Call>,
    /// This try of it.
    pub attempt: AttemptId,
    /// A row of the commit that journals the intent; `None` if no budget has to hold anything.
    pub reservation: Option<StepReservation>,
    route: Route,
    probe: Option<Probe>,
    budgets: Arc<[Arc<Budget>]>,
    /// Further targets that no try of the step has asked.
    left: Vec<Arc<Target>>,
    patience: Option<Patience>,
    /// Of the tries before this one.
    watch: Option<Box<Watch>>,
    /// How long it had to wait for summaries of its history.
    waited: Duration,
    /// What it holds of limits on rate.
    rates: Option<Arc<Ticket>>,
}

impl StepAdmission {
    /// Who is asked.
    pub fn target(&self) -> &Arc<Target> {
        &self.route.target
    }

    /// All that is needed to bill the attempt if its outcome is lost; journaled with the intent.
    pub fn intent(&self) -> StepIntent {
        let (kind, name) = kind_and_name(&self.call);
        let Call { principal, .. } = &*self.call;
        let mut notes = self.call.notes.clone();
        self.route.note(&mut notes);
        StepIntent {
            call: self.call.id.clone(),
            attempt: self.attempt.clone(),
            parent: self.call.parent.clone(),
            account: principal.account.as_ref().to_owned(),
            key: principal.key.clone(),
            user: principal.user.as_ref().to_owned(),
            session: self.call.session.clone(),
            step: self.call.step.clone(),
            task: self.call.task.as_ref().to_owned(),
            class: self.call.class.as_ref().to_owned(),
            door: self.call.door,
            kind: kind.to_owned(),
            name,
            target: self.route.target.name.as_ref().to_owned(),
            price_version: self.route.target.price.as_ref().map(|price| price.version.clone()),
            reserved: self.route.terms.amount,
            bound: Some(self.route.terms.bound).filter(|bound| *bound != self.route.terms.amount),
            output_cap: self.route.terms.output_cap,
            metadata: self.call.metadata.clone(),
            notes,
            started_at: self.call.started_at,
            reservation: self.reservation.as_ref().map(|held| held.id.clone()),
            budgets: self.reservation.as_ref().map(|held| held.budgets.clone()).unwrap_or_default(),
        }
    }
}

/// All that is needed to bill an attempt whose outcome a crash lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepIntent {
    /// The Call.
    pub call: CallId,
    /// The attempt.
    pub attempt: AttemptId,
    parent: Option<CallId>,
    account: String,
    key: KeyId,
    user: String,
    session: Option<SessionId>,
    step: Option<StepId>,
    task: String,
    class: String,
    door: Door,
    kind: String,
    name: String,
    target: String,
    price_version: Option<String>,
    /// What is held for it.
    pub reserved: Money,
    /// What it can cost at most, where that is not what is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<Money>,
    output_cap: Option<u64>,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
    #[serde(default, skip_serializing_if = "Notes::is_empty")]
    notes: Notes,
    started_at: Timestamp,
    reservation: Option<ReservationId>,
    budgets: Vec<(BudgetId, WindowKey)>,
}

/// A running step. Dropping it cancels the attempt at once and bills nothing: give it up by
/// [`StepRun::into_row`].
pub struct StepRun {
    outcome: Option<OutcomeStream>,
    meter: Meter,
    shared: Arc<Shared>,
    probe: Option<Probe>,
    reservation: Option<StepReservation>,
    polled: bool,
    sent: Sent,
    watch: Option<Box<Watch>>,
    left: Vec<Arc<Target>>,
    /// Where its answer is read along, for a second opinion on its tier.
    tape: Option<Box<Tape>>,
    /// What it holds of limits on rate.
    rates: Option<Arc<Ticket>>,
    /// When its time is over, if it was given one.
    late: Option<Sleep>,
}

impl Stream for StepRun {
    type Item = OutcomeEvent;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<OutcomeEvent>> {
        let this = &mut *self;
        let Some(outcome) = &mut this.outcome else { return Poll::Ready(None) };
        let was_polled = std::mem::replace(&mut this.polled, true);
        let is_late = this.late.as_mut().is_some_and(|late| late.as_mut().poll(ctx).is_ready());
        let event = match is_late {
            true if was_polled && this.sent.may_be() => failed_late(Billed::Unknown),
            true => failed_late(Billed::No),
            false => match outcome.as_mut().poll_next(ctx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(event) => event.unwrap_or_else(no_end),
            },
        };
        let event = late::seen(&this.meter.call, this.meter.clock(), event);
        let is_last = this.meter.observe(&event).is_some();
        if let Some(watch) = &mut this.watch {
            watch.see(&event, &this.meter.target, || this.meter.first_content());
        }
        this.tell_health(&event);
        Tape::see(&mut this.tape, &event, &this.meter.target);
        if is_last {
            this.late = None;
            this.outcome = None;
            this.probe = None;
        }
        Poll::Ready(Some(event))
    }
}

impl StepRun {
    /// What it costs; final once `Finish` or `Failed` has been yielded.
    pub fn bill(&self) -> Bill {
        self.meter.bill().clone()
    }

    /// Other Calls go by what this one finds out about its target.
    fn tell_health(&mut self, event: &OutcomeEvent) {
        let Self { meter, shared, probe, .. } = self;
        if !has_choice(&meter.call) {
            return;
        }
        match event {
            OutcomeEvent::Start(_) => {}
            OutcomeEvent::Frame { .. } => {
                if let Some(probe) = &probe.take() {
                    Health::answers(probe);
                }
            }
            OutcomeEvent::Finish(_) => went_well(&shared.health, meter, shared.clock.monotonic()),
            OutcomeEvent::Failed(failure) => {
                if failure.turns_away() {
                    return;
                }
                let times = (meter.began, shared.clock.monotonic());
                let policy = &meter.call.plan.policy;
                shared.health.failed(&meter.target.name, failure, policy, times);
            }
        }
    }

    /// Ends the step, cancelling what still runs, and gives the ledger row for the commit that
    /// journals the outcome.
    pub fn into_row(mut self) -> LedgerRow {
        if !self.meter.has_ended() {
            let billed = match self.polled && self.sent.may_be() {
                true => Billed::Unknown,
                false => {
                    self.meter.note_unsent();
                    Billed::No
                }
            };
            self.meter.abandon(ErrorCode::Cancelled, billed);
        }
        self.shared.recorder.count(&self.meter);
        let Verdict { settled, unreconciled, .. } = self.meter.verdict();
        let held = self.reservation.map(|held| (held.id, held.budgets));
        let charges = charges(held, settled, unreconciled);
        self.meter.row(charges)
    }
}

impl fmt::Debug for StepRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepRun").field("call", &self.meter.call.id).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Identifies and admits a step: which budgets hold how much. Nothing is held until the commit.
    ///
    /// # Errors
    /// Why the step may not run.
    pub async fn admit_step(&self, incoming: Incoming) -> Result<StepAdmission, Box<Refused>> {
        self.admit_step_again(incoming, &mut StepTries::default()).await
    }

    /// The same after `tries` of this step.
    ///
    /// # Errors
    /// Why the step may not run.
    pub async fn admit_step_again(
        &self,
        incoming: Incoming,
        tries: &mut StepTries,
    ) -> Result<StepAdmission, Box<Refused>> {
        let id = incoming.id.clone().unwrap_or_else(|| CallId::new(&self.parts.ids));
        let admitted = self.prepare_step(id.clone(), incoming, tries).await;
        admitted.map_err(|failure| Box::new(Refused { call: id, failure }))
    }

    async fn prepare_step(
        &self,
        id: CallId,
        incoming: Incoming,
        tries: &mut StepTries,
    ) -> Result<StepAdmission, Failure> {
        let clock = &*self.parts.clock;
        let is_begun = incoming.step.as_ref().is_some_and(|step| step.begun);
        let pace = Pace::begun(is_begun || tries.have_begun());
        let identified = identify(&self.parts.directory, clock, id, incoming);
        let identified = identified.map_err(|failure| self.refused(UNIDENTIFIED, failure))?;
        let class = Arc::clone(&identified.call.class);
        let admitted = self.admitted_step(identified, pace, tries).await;
        admitted.map_err(|failure| match tries.have_begun() {
            // A step that somebody was asked for is told of by its tries.
            true => failure,
            false => self.refused(&class, failure),
        })
    }

    async fn admitted_step(
        &self,
        mut identified: Identified,
        pace: Pace,
        tries: &mut StepTries,
    ) -> Result<StepAdmission, Failure> {
        let clock = &*self.parts.clock;
        if let Some(call) = Arc::get_mut(&mut identified.call) {
            tries.keep_time(call);
        }
        let identified = match has_to_choose(&identified) {
            true => Box::pin(choose(&self.shared, identified)).await?,
            false => identified,
        };
        let covers = |ticket: &Arc<Ticket>| ticket.cover(false, clock.monotonic());
        let held = match tries.rates.take().filter(covers) {
            Some(ticket) => Some(ticket),
            None => {
                let limits = self.parts.directory.rates();
                let ticket = rates::admit(limits, clock, &identified.call, pace).await;
                ticket.map_err(|why| late::waited(&identified.call, clock, why))?
            }
        };
        // What a limit on rate refuses makes no budgets.
        let identified = match identified.unseen.is_empty() {
            true => identified,
            false => Box::pin(with_values(&self.shared, identified)).await?,
        };
        let mut offers = admit_step(&self.shared.escrow, clock, &identified).await?;
        if let Some(ticket) = &held {
            ticket.limit(&identified.call, &mut offers)?;
        }
        tries.affordable(&identified.call, &mut offers)?;
        let candidates = candidates(&identified.upstreams.executors, &identified.call, offers)?;
        let (mut asked_next, mut left) = tries.divide(candidates);
        let mut fitted = Fitted::default();
        if identified.call.plan.policy.context.is_some() {
            let purse = Purse { spent: tries.charged(), unheld: &identified.budgets };
            fitted = Box::pin(fit(self, &identified.call, &mut asked_next, purse)).await;
            tries.spend(fitted.charged);
        }
        let chosen = self.shared.health.next(&mut asked_next, clock.monotonic());
        let (route, probe) = chosen
            .ok_or_else(|| tries.nobody().unwrap_or_else(|| unreachable(&identified.call)))?;
        // One attempt at one target: what it can cost is what this target can cost.
        let budgets = with_own(&identified.budgets, &route);
        let reservation = self.reservation(&budgets, route.terms);
        let attempt = AttemptId::new(&self.parts.ids);
        let call = identified.call;
        left.retain(|other| other.name != route.target.name);
        let patience = tries.patience(&call.plan.policy, &left);
        let watch = tries.watch.take();
        Ok(StepAdmission {
            call,
            attempt,
            reservation,
            route,
            probe,
            budgets,
            left,
            patience,
            watch,
            waited: fitted.took,
            rates: held,
        })
    }

    fn reservation(&self, budgets: &[Arc<Budget>], terms: Terms) -> Option<StepReservation> {
        if budgets.is_empty() || terms.amount == Money::ZERO {
            return None;
        }
        let now = self.parts.clock.now();
        let windows = budgets.iter().map(|budget| {
            let window = self.shared.escrow.pool(budget).window(budget, now);
            (budget.id.clone(), window)
        });
        let id = ReservationId::new(&self.parts.ids);
        let made = budgets.iter().filter_map(|budget| Some((&budget.id, budget.rule.as_ref()?)));
        let rules = made.map(|(id, rule)| (id.clone(), rule.clone())).collect();
        Some(StepReservation { id, budgets: windows.collect(), rules, amount: terms.amount })
    }

    /// After a commit was refused as over a limit: writes what has ended, and returns the idle part
    /// of every slice of the step's budgets, so that one retry of the commit is fair.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn make_room(&self, admission: &StepAdmission) -> Result<(), Failure> {
        self.shared.recorder.flush().await?;
        self.shared.escrow.drain(&admission.budgets).await
    }

    /// What to answer when the commit was refused again, or for any other reason. If it was for
    /// want of money, `tries` know: [`StepTries::go_cheaper`].
    pub fn over_limit(
        &self,
        admission: &StepAdmission,
        error: &storage::Error,
        tries: &mut StepTries,
    ) -> Failure {
        let storage::Error::OverLimit { budget: id, free, needed } = error else {
            return storage_failure(error);
        };
        let Some(budget) = admission.budgets.iter().find(|budget| budget.id == *id) else {
            return storage_failure(error);
        };
        let now = self.parts.clock.now();
        let window = self.shared.escrow.pool(budget).window(budget, now);
        let failure = exceeded(budget, window, *free, *needed, now);
        let mut own = admission.route.beside.iter().flat_map(|list| list.iter());
        match own.any(|own| own.id == *id) {
            true => tries.fall_short_at(failure.clone(), id, *free),
            false => tries.fall_short(failure.clone(), *free),
        }
        failure
    }

    /// After a restart: the task of this step stays with the tier that it was given.
    pub fn keep_tier(&self, intent: &StepIntent, root: &SessionId) {
        let StepIntent { account, name, notes, task, call, parent, .. } = intent;
        let snapshot = self.parts.directory.snapshot();
        let Some(plan) = snapshot.plan(name, self.parts.clock.now()) else { return };
        let calls = (call.as_str(), parent.as_ref().map(CallId::as_str));
        let kept = auto::Kept { account, route: &plan.name, task, calls, session: root.as_str() };
        auto::keep(self.shared.recorder.tiers(), notes, &kept);
    }

    /// Starts an admitted step whose intent is durable.
    pub fn run_step(&self, admission: StepAdmission) -> StepRun {
        let StepAdmission {
            call,
            attempt,
            reservation,
            route,
            probe,
            left,
            patience,
            watch,
            waited,
            rates,
            ..
        } = admission;
        let wanted = Wanted { decode: true, patience, ..Wanted::default() };
        let sent = Sent::default();
        let outcome = execute(&call, &route, attempt.clone(), wanted, &sent);
        let shared = Arc::clone(&self.shared);
        let clock = Arc::clone(&self.parts.clock);
        let mut meter = Meter::new(call, Arc::clone(&route.target), attempt, route.terms, clock);
        meter.rates.clone_from(&rates);
        route.note(&mut meter.notes);
        if meter.call.plan.policy.cascade.is_some() {
            meter.notes.set(cascade::NOTE, cascade::OFF);
        }
        let Shared { recorder, clock, .. } = &*shared;
        let began = meter.began;
        let watch = match watch {
            Some(watch) => Some(watch.goes_on()),
            None => Watch::new(recorder.telemetry(), clock, &meter.call, &meter.target, began)
                .map(|watch| watch.apart_from(waited)),
        };
        let outcome = Some(outcome);
        let polled = false;
        let tape = Tape::begin(&shared, &meter.call);
        let late = attempts::late::timer(&meter.call, meter.clock());
        StepRun {
            outcome,
            meter,
            shared,
            probe,
            reservation,
            polled,
            sent,
            watch,
            left,
            tape,
            rates,
            late,
        }
    }

    /// The row for an attempt whose outcome a crash lost: unreconciled, at what was reserved for
    /// it, or at its bound where no budget had to hold anything.
    pub fn lost_row(&self, intent: &StepIntent, at: Timestamp) -> LedgerRow {
        let intent = intent.clone();
        let unreconciled = intent.bound.unwrap_or(intent.reserved);
        let held = intent.reservation.map(|id| (id, intent.budgets));
        let total_us = wall_micros(at, intent.started_at);
        LedgerRow {
            call: intent.call,
            attempt: intent.attempt,
            parent: intent.parent,
            account: intent.account,
            key: intent.key,
            user: intent.user,
            session: intent.session,
            step: intent.step,
            task: intent.task,
            class: intent.class,
            door: intent.door,
            kind: intent.kind,
            name: intent.name,
            target: intent.target,
            model_version: None,
            error: Some(ErrorCode::Internal),
            stop: None,
            usage: None,
            price_version: intent.price_version,
            cost: Money::ZERO,
            unreconciled,
            reserved: intent.reserved,
            over_bound: false,
            output_cap: intent.output_cap,
            dropped: Vec::new(),
            metadata: intent.metadata,
            notes: intent.notes,
            started_at: intent.started_at,
            first_content_us: None,
            total_us,
            target_us: total_us,
            reused_tokens: None,
            charges: charges(held, Money::ZERO, intent.reserved),
        }
    }
}

/// What a Call falls under, with what an attempt at one target does; in order of id.
fn with_own(budgets: &List, route: &Route) -> List {
    let Some(beside) = &route.beside else { return Arc::clone(budgets) };
    let mut all: Vec<_> = budgets.iter().chain(beside.iter()).cloned().collect();
    all.sort_by(|left, right| left.id.cmp(&right.id));
    all.into()
}

fn failed_late(billed: Billed) -> OutcomeEvent {
    OutcomeEvent::Failed(Box::new(late::failure(billed)))
}

/// The charges that settle a step's reservation.
fn charges(
    held: Option<(ReservationId, Vec<(BudgetId, WindowKey)>)>,
    settled: Money,
    unreconciled: Money,
) -> Vec<Charge> {
    let Some((reservation, budgets)) = held else { return Vec::new() };
    let charge = |(budget, window)| {
        let held = Held::Reservation(reservation.clone());
        Charge { budget, window, held, settled, unreconciled }
    };
    budgets.into_iter().map(charge).collect()
}
