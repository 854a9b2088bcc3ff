//! A cheap target first: its answer is judged before anybody sees it, and the next one is asked if
//! it is rejected.
//!
//! Only while another target is left; the last one's answer is given as it comes. Invariants: a
//! rejected answer ends its attempt like any other, settled at its cost, before the next is paid
//! for; the judge's money is reserved beside all that is held; a rejected answer is still given
//! where no better one can be had. How answers are judged is for [`crate::execute::cascade`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};
use types::call::Target;
use types::{Call, Money, OutcomeEvent, Usage};

use super::running::Running;
use super::{Attempts, State};
use crate::context::Edited;
use crate::execute::cascade::answer::{Said, bytes_of};
use crate::execute::cascade::judge::{self, Verdict};
use crate::execute::cascade::{Judged, NOTE, Validator, applies, validate};
use crate::record::Place;
use crate::record::answer::Bill;
use crate::record::meter::Meter;
use crate::route::Route;

/// Bytes of an answer that are held to be judged. A longer one is given as it comes, unjudged.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What came of judging the answers of a Call.
#[derive(Debug)]
pub(super) struct Cascade {
    /// Whom the dearest answer would have come from: the last of its targets.
    last: Arc<Target>,
    /// The newest answer that was rejected, while another may take its place.
    rejected: Option<Rejected>,
    /// Who rejected the newest.
    by: Option<Validator>,
    /// What the client is told of it.
    shown: Option<Shown>,
}

/// An answer that is only given if there is no better one.
#[derive(Debug)]
struct Rejected {
    events: VecDeque<OutcomeEvent>,
    target: Arc<Target>,
    edited: Option<Arc<Edited>>,
    bill: Bill,
}

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Accepted,
    Rejected,
}

/// An answer of which a model is asked how good it is.
pub(super) struct Judging {
    pub(super) running: Running,
    judged: Judged,
    pub(super) asked: Pin<Box<dyn Future<Output = Verdict> + Send>>,
}

impl Cascade {
    /// For a Call whose route asks something of its answers.
    pub(super) fn new(call: &Call, others: &[Route], first: &Route) -> Option<Box<Self>> {
        if !applies(call) {
            return None;
        }
        let last = Arc::clone(&others.last().unwrap_or(first).target);
        Some(Box::new(Self { last, rejected: None, by: None, shown: None }))
    }
}

impl Running {
    /// Whether its answer is judged when it is whole.
    pub(super) const fn is_judged(&self) -> bool {
        self.held_bytes.is_some() && !self.has_content
    }

    /// Counts an event that is held to be judged. Whether it is: an answer that is too long is not.
    pub(super) fn takes_to_judge(&mut self, event: &OutcomeEvent) -> bool {
        let Some(held) = &mut self.held_bytes else { return false };
        *held = held.saturating_add(bytes_of(event));
        let fits = *held <= HELD_BYTES_MAX && self.held.len() < super::HELD_EVENTS_MAX;
        if !fits {
            self.held_bytes = None;
            self.meter.notes.set(NOTE, json!({ "unjudged": ["size"] }));
        }
        fits
    }
}

impl Attempts {
    /// What is told of the answer, as `holdfast-cascade` says it; known when it begins.
    pub(crate) fn cascade_shown(&self) -> Option<String> {
        let cascade = self.cascade.as_deref()?;
        let by = cascade.by.map(|by| format!("; validator={}", by.name())).unwrap_or_default();
        match cascade.shown {
            Some(Shown::Rejected) => Some(format!("rejected{by}")),
            Some(Shown::Accepted) | None if cascade.by.is_some() => Some(format!("escalated{by}")),
            Some(Shown::Accepted) => Some("accepted".to_owned()),
            None => None,
        }
    }

    /// Whether answers are judged by their log probabilities.
    pub(super) fn wants_logprobs(&self) -> bool {
        let policy = self.call.plan.policy.cascade.as_deref();
        self.cascade.is_some() && policy.is_some_and(|all| all.min_logprob_micros.is_some())
    }

    /// The running attempt's answer is whole: judges it.
    pub(super) fn judge(&mut self) -> Option<OutcomeEvent> {
        let State::Trying(running) = std::mem::replace(&mut self.state, State::Over) else {
            return None;
        };
        let running = *running;
        self.tell_well(&running);
        let call = Arc::clone(&self.call);
        let policy = call.plan.policy.cascade.as_deref()?;
        let streams = call.model().is_some_and(|model| model.head.stream);
        let format = call.model().map(|model| model.format);
        let said = Said::read(&running.held, format, streams);
        let request = || call.model().and_then(|model| model.neutral().ok());
        let mut judged = validate(policy, &request, said.as_ref());
        match (&policy.judge, said) {
            (Some(judge), Some(said)) if judged.rejected.is_none() => {
                let spent = self.charged.saturating_add(running.meter.verdict().charged());
                let left = call.budget.map(|budget| budget.minus_or_zero(spent));
                let shared = Arc::clone(&self.shared);
                let judge = judge.clone();
                let asked = Box::pin(judge::ask(shared, Arc::clone(&call), judge, said, left));
                self.state = State::Judging(Box::new(Judging { running, judged, asked }));
                None
            }
            (judge, _) => {
                if judge.is_some() && judged.rejected.is_none() {
                    judged.unjudged.push(Validator::Judge);
                }
                self.judged(running, &judged, None)
            }
        }
    }

    /// The judge has spoken.
    pub(super) fn told(&mut self, verdict: &Verdict) -> Option<OutcomeEvent> {
        let State::Judging(judging) = std::mem::replace(&mut self.state, State::Over) else {
            return None;
        };
        let Judging { running, mut judged, .. } = *judging;
        self.charged = self.charged.saturating_add(verdict.cost);
        let policy = self.call.plan.policy.cascade.as_deref().and_then(|all| all.judge.as_ref());
        let (threshold, escalates) =
            policy.map_or((0, false), |judge| (judge.threshold, judge.escalate_on_failure));
        match verdict.score {
            Ok(score) if score >= threshold => {}
            Ok(_) => judged.rejected = Some((Validator::Judge, None)),
            Err(_) if escalates => judged.rejected = Some((Validator::Judge, Some("failed"))),
            Err(_) => judged.unjudged.push(Validator::Judge),
        }
        self.judged(running, &judged, Some(verdict))
    }

    /// Gives the answer, or asks the next target.
    fn judged(
        &mut self,
        mut running: Running,
        judged: &Judged,
        judge: Option<&Verdict>,
    ) -> Option<OutcomeEvent> {
        let next = judged.rejected.and_then(|_| self.escalates());
        let (by, detail) = judged.rejected.unzip();
        let wasted = judge.map_or(Money::ZERO, |verdict| verdict.cost);
        let cascade = self.cascade.as_deref_mut()?;
        cascade.by = by.or(cascade.by);
        let Some(place) = next else {
            cascade.shown = Some(match by {
                Some(_) => Shown::Rejected,
                None => Shown::Accepted,
            });
            let told = Told { judged, judge, wasted };
            self.note_given(&mut running.meter, Some(&told));
            self.ready = std::mem::take(&mut running.held);
            self.end(running, false);
            return self.ready.pop_front();
        };
        let cost = running.meter.verdict().charged();
        let wasted = wasted.saturating_add(cost);
        let mut note = json!({ "validator": by.map(Validator::name), "wasted": wasted });
        if let Some(detail) = detail.flatten() {
            note["detail"] = detail.into();
        }
        describe(&mut note, judged, judge);
        running.meter.notes.set(NOTE, note);
        self.shared.recorder.count_cascade(&self.call.plan.name, by, [Money::ZERO, wasted]);
        let (call, target) = (&self.call.id, &*running.route.target.name);
        let validator = by.map(Validator::name);
        tracing::info!(%call, target, validator, "an answer was rejected; the next target is asked");
        let rejected = Rejected {
            events: std::mem::take(&mut running.held),
            target: Arc::clone(&running.route.target),
            edited: running.route.edited.clone(),
            bill: running.meter.bill().clone(),
        };
        if let Some(cascade) = &mut self.cascade {
            cascade.rejected = Some(rejected);
        }
        // What cost nothing hands its money on, as a failed attempt does.
        let reserved = self.end(running, cost == Money::ZERO);
        self.elsewhere(reserved, place)
    }

    /// A place for the row of another attempt, if there may be one.
    fn escalates(&self) -> Option<Place> {
        let now = self.shared.clock.monotonic();
        let is_late = self.call.deadline.is_some_and(|deadline| now >= deadline);
        if is_late || self.left.is_empty() || self.made >= self.policy().attempts_max {
            return None;
        }
        self.shared.recorder.reserve_place().ok()
    }

    /// No better answer can be had: the newest that was rejected is given.
    pub(super) fn give_rejected(&mut self) -> Option<OutcomeEvent> {
        let cascade = self.cascade.as_deref_mut()?;
        let Rejected { events, target, edited, bill } = cascade.rejected.take()?;
        cascade.shown = Some(Shown::Rejected);
        let Bill { cost, attempts, over_bound, .. } = self.bill;
        self.bill = Bill { cost, attempts, over_bound, ..bill };
        (self.target, self.edited) = (target, edited);
        self.state = State::Over;
        self.ready = events;
        self.ready.pop_front()
    }

    /// Notes what an answer saved that is given, and what judging it cost.
    pub(super) fn note_given(&self, meter: &mut Meter, told: Option<&Told<'_>>) {
        let Some(cascade) = self.cascade.as_deref() else { return };
        // Nothing was judged: nothing else was left to ask, or it was too long.
        if told.is_none() && cascade.by.is_none() {
            return;
        }
        let saved = saved(&cascade.last, meter);
        let wasted = told.map_or(Money::ZERO, |told| told.wasted);
        let mut note = json!({ "escalated": cascade.rejected.is_some() });
        if let Some(Told { judged, judge, .. }) = told {
            if let Some((by, detail)) = judged.rejected {
                note["validator"] = by.name().into();
                note["detail"] = detail.into();
            }
            describe(&mut note, judged, *judge);
        }
        note["saved"] = saved.map_or(Value::Null, |saved| saved.to_string().into());
        note["wasted"] = wasted.to_string().into();
        meter.notes.set(NOTE, note);
        let by = told.and_then(|told| told.judged.rejected).map(|(by, _)| by);
        let amounts = [saved.unwrap_or_default(), wasted];
        self.shared.recorder.count_cascade(&self.call.plan.name, by, amounts);
    }
}

/// What came of judging one answer.
pub(super) struct Told<'a> {
    judged: &'a Judged,
    judge: Option<&'a Verdict>,
    wasted: Money,
}

/// Adds who could not judge it, and what the judge said.
fn describe(note: &mut Value, judged: &Judged, judge: Option<&Verdict>) {
    if !judged.unjudged.is_empty() {
        let names: Vec<_> = judged.unjudged.iter().map(|validator| validator.name()).collect();
        note["unjudged"] = names.into();
    }
    let Some(Verdict { score, cost, call }) = judge else { return };
    note["judge"] = match score {
        Ok(score) => json!({ "score": score, "cost": cost, "call": call }),
        Err(code) => json!({ "failed": code.name(), "cost": cost, "call": call }),
    };
}

/// What the last target would have cost at this usage, less what this answer cost. Below zero if
/// it cost more.
fn saved(last: &Target, meter: &Meter) -> Option<Money> {
    let usage: Usage = meter.facts()?.usage?;
    let dear = last.price.as_deref()?.cost(&usage);
    let paid = meter.verdict().cost?;
    Some(Money::from_nanodollars(dear.nanodollars().saturating_sub(paid.nanodollars())))
}
