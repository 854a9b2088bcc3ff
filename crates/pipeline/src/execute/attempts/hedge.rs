//! A second attempt beside one that shows nothing for long: whoever shows content first wins.
//!
//! At most one for a Call, only at another target that is well, and only where the second can be
//! paid for at its bound beside the first. The other is ended at once and billed as what was given
//! up: nobody knows what it cost. Invariant: a Call whose provider does work of its own beside the
//! model is never sent twice at once. What follows when both fail is for [`super`].

use std::task::{Context, Poll, ready};
use std::time::Duration;

use types::clock::Sleep;
use types::error::Billed;
use types::{Failure, Money, OutcomeEvent};

use super::money::ToppedUp;
use super::running::Running;
use super::{Asked, Attempts, Planned, Shared, State};
use crate::admit::bound::unbounded;
use crate::admit::{Reserved, Short};
use crate::route::Route;
use crate::route::health::Verdict;

/// The note on the rows of both attempts: which of them it was.
const NOTE: &str = "hedge";

/// The second attempt.
pub(super) enum Hedge {
    /// There is none, and none will come.
    Off,
    /// It is made if nothing was shown by then.
    Due(Sleep),
    /// The budgets are asked for its money. Without it its target stays among those that are left,
    /// at its place.
    Paying { asked: Asked, next: Box<Planned>, place: usize },
    /// It runs.
    Running(Box<Running>),
}

impl Attempts {
    /// Sets the time of a second attempt, if the route has one: beside the first of a Call only.
    pub(super) fn set_hedge(&mut self) {
        let Some(after) = self.policy().hedge_after.filter(|_| self.made == 1) else { return };
        if self.may_be_sent_twice() {
            let after = after.max(self.percentile().unwrap_or_default());
            self.hedge = Hedge::Due(self.shared.clock.sleep(after));
        }
    }

    /// How long the first target's slower answers took lately, if the route goes by that.
    fn percentile(&self) -> Option<Duration> {
        let percent = self.policy().hedge_percentile?;
        let Shared { health, clock, .. } = &*self.shared;
        health.pace.percentile(&self.target.name, self.streams(), percent, clock.monotonic())
    }

    fn streams(&self) -> bool {
        self.call.model().is_some_and(|model| model.head.stream)
    }

    /// What a provider does beside the model, such as a search, is done twice if it is asked twice.
    fn may_be_sent_twice(&self) -> bool {
        self.call.model().is_some_and(|model| !model.only_counts() && unbounded(model).is_none())
    }

    /// Lets the second attempt go on. Answers what the client may see of it now.
    pub(super) fn poll_hedge(&mut self, ctx: &mut Context<'_>) -> Poll<Option<OutcomeEvent>> {
        loop {
            match &mut self.hedge {
                Hedge::Off => return Poll::Pending,
                Hedge::Due(timer) => {
                    ready!(timer.as_mut().poll(ctx));
                    self.hedge = self.plan_hedge().unwrap_or(Hedge::Off);
                }
                Hedge::Paying { asked, .. } => {
                    let answer = ready!(asked.as_mut().poll(ctx));
                    self.hedge_paid(answer);
                }
                Hedge::Running(rival) => {
                    let event = ready!(rival.poll_event(ctx));
                    match event {
                        OutcomeEvent::Start(_) => {
                            rival.meter.observe(&event);
                            rival.held.push_back(event);
                        }
                        OutcomeEvent::Failed(failure) => self.rival_failed(&failure),
                        OutcomeEvent::Frame { .. } | OutcomeEvent::Finish(_) => {
                            return Poll::Ready(self.rival_wins(event));
                        }
                    }
                }
            }
        }
    }

    /// Where the second attempt goes to, and what pays for it.
    fn plan_hedge(&mut self) -> Option<Hedge> {
        if self.made >= self.policy().attempts_max {
            return None;
        }
        let now = self.shared.clock.monotonic();
        let is_well = |route: &Route| {
            !self.turned_away.contains(&route.target)
                && matches!(self.shared.health.admits(&route.target.name, now), Verdict::Closed)
        };
        let chosen = self.left.iter().position(is_well)?;
        let rival = self.left.get(chosen)?;
        let (needed, beside) = (rival.terms.amount, rival.beside.clone());
        if !self.allows_beside(needed) || !self.rates_cover(true) {
            return None;
        }
        let limited = !self.budgets.is_empty() || beside.is_some();
        let costs = limited && needed != Money::ZERO;
        if costs {
            self.shared.recorder.check_writing().ok()?;
        }
        let place = self.shared.recorder.reserve_place().ok()?;
        let route = self.left.remove(chosen);
        let next = Planned { route, probe: None, reserved: Reserved::default(), place };
        if !costs {
            self.start_hedge(next);
            return Some(std::mem::replace(&mut self.hedge, Hedge::Off));
        }
        Some(Hedge::Paying {
            asked: self.ask_for(needed, true, beside),
            next: Box::new(next),
            place: chosen,
        })
    }

    /// The budgets have answered.
    fn hedge_paid(&mut self, answer: Result<ToppedUp, Short>) {
        match std::mem::replace(&mut self.hedge, Hedge::Off) {
            Hedge::Paying { mut next, place, .. } => match answer {
                Ok(topped_up) => {
                    topped_up.put(&mut next.reserved, next.route.terms.amount);
                    self.start_hedge(*next);
                }
                Err(_) => self.put_back(next.route, place),
            },
            hedge @ (Hedge::Off | Hedge::Due(_) | Hedge::Running(_)) => self.hedge = hedge,
        }
    }

    /// Its target was not asked: it still can be.
    fn put_back(&mut self, route: Route, place: usize) {
        self.left.insert(place.min(self.left.len()), route);
    }

    /// Whether the caller's own limit has room for `needed` beside what runs.
    fn allows_beside(&self, needed: Money) -> bool {
        let State::Trying(running) = &self.state else { return false };
        let both = running.meter.terms.amount.saturating_add(needed);
        self.call.budget.is_none_or(|allowed| self.charged.saturating_add(both) <= allowed)
    }

    fn start_hedge(&mut self, next: Planned) {
        let mut rival = self.run(next);
        rival.meter.notes.set(NOTE, "second");
        if let State::Trying(running) = &mut self.state {
            running.meter.notes.set(NOTE, "first");
        }
        let (call, target) = (&self.call.id, &*rival.route.target.name);
        tracing::info!(%call, target, "a second attempt begins beside the first");
        self.hedge = Hedge::Running(Box::new(rival));
    }

    fn rival_failed(&mut self, failure: &Failure) {
        let Some(mut rival) = self.take_rival() else { return };
        rival.meter.note(failure);
        rival.meter.abandon(failure.code, failure.billed.clone());
        self.keep_for_later(&rival.route, failure);
        self.tell_failed(&rival, failure);
        self.perhaps_billed |= failure.billed != Billed::No;
        self.end(rival, false);
    }

    /// The second one shows content first, with `event`.
    fn rival_wins(&mut self, event: OutcomeEvent) -> Option<OutcomeEvent> {
        let rival = self.take_rival()?;
        if let State::Trying(first) = std::mem::replace(&mut self.state, State::Over) {
            self.lose(*first);
        }
        self.go_on_with(rival);
        self.take(event)
    }

    /// The first one shows content: there will be no second.
    pub(super) fn end_hedge(&mut self) {
        if let Some(rival) = self.take_rival() {
            self.lose(rival);
        }
    }

    /// The second attempt, if it runs. If it does not, it is given up.
    pub(super) fn take_rival(&mut self) -> Option<Running> {
        match std::mem::replace(&mut self.hedge, Hedge::Off) {
            Hedge::Running(rival) => Some(*rival),
            Hedge::Paying { next, place, .. } => {
                self.put_back(next.route, place);
                None
            }
            Hedge::Off | Hedge::Due(_) => None,
        }
    }

    /// From here on this is the attempt.
    pub(super) fn go_on_with(&mut self, rival: Running) {
        self.in_a_row = 1;
        self.target = rival.route.target.clone();
        self.edited.clone_from(&rival.route.edited);
        self.state = State::Trying(Box::new(rival));
    }

    /// Ends the slower one. Its target may have begun, and what it has done may be on the bill.
    fn lose(&mut self, mut slower: Running) {
        if slower.polled && !slower.has_content {
            let Shared { health, clock, .. } = &*self.shared;
            let (target, now) = (&slower.route.target.name, clock.monotonic());
            let waited = now.saturating_sub(slower.meter.began);
            health.pace.given_up(target, self.streams(), waited, now);
        }
        slower.give_up();
        self.end(slower, false);
    }
}
