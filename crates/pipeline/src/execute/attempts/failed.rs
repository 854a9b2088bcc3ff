//! What comes after an attempt that failed: the same target again, another one, or the Call's end.
//!
//! Invariants: what was charged is never handed on as money for the next one; the answer to a Call
//! for which nothing more can be tried is the failure that says most about it. What it costs is for
//! [`super::money`], and how an answer that was begun goes on for [`super::continued`].

use std::sync::Arc;

use types::call::Target;
use types::clock::Monotonic;
use types::error::Billed;
use types::{ErrorCode, Failure, Money, OutcomeEvent};

use super::running::Running;
use super::{Attempts, Planned, State};
use crate::admit::Reserved;
use crate::execute::decide::{Next, blames_the_request, decide};
use crate::record::Place;
use crate::route::health::Verdict;
use crate::route::{Route, has_choice};

impl Attempts {
    /// The running attempt failed. Answers the failure if it is the Call's.
    pub(super) fn failed(&mut self, failure: Failure) -> Option<OutcomeEvent> {
        let State::Trying(running) = std::mem::replace(&mut self.state, State::Over) else {
            return None;
        };
        let mut running = *running;
        running.meter.note(&failure);
        let verdict = running.meter.abandon(failure.code, failure.billed.clone());
        let (route, has_content) = (running.route.clone(), running.has_content);
        self.tell_failed(&running, &failure);
        let now = self.shared.clock.monotonic();
        self.perhaps_billed |= failure.billed != Billed::No;
        if let Some(rival) = self.take_rival() {
            self.end(running, false);
            self.keep_for_later(&route, &failure);
            self.first.get_or_insert_with(|| (Arc::clone(&route.target), failure));
            self.go_on_with(rival);
            return None;
        }
        let next = match has_content {
            true => self.plan_continued(&mut running, &failure, now),
            false => self.plan(&failure, now),
        };
        let route = if has_content { running.route.clone() } else { route };
        // What was charged pays for what was done; money is handed on whole or not at all.
        let reserved = self.end(running, next.is_some() && verdict.charged() == Money::ZERO);
        let Some((next, place)) = next else {
            let rejected = if has_content { None } else { self.give_rejected() };
            if rejected.is_some() {
                return rejected;
            }
            let failure = self.answered(failure, has_content);
            return Some(OutcomeEvent::Failed(Box::new(failure)));
        };
        // Its code alone: a provider's words may repeat the prompt.
        let (call, target, code) = (&self.call.id, &*route.target.name, failure.code);
        tracing::warn!(%call, target, %code, ?next, "an attempt failed; the call goes on");
        if next == Next::Elsewhere {
            self.keep_for_later(&route, &failure);
        }
        self.first.get_or_insert_with(|| (Arc::clone(&route.target), failure));
        match next {
            Next::Again { after } => {
                self.in_a_row += 1;
                let timer = self.shared.clock.sleep(after);
                let next = Planned { route, probe: None, reserved, place };
                self.state = State::Waiting { timer, next };
                None
            }
            Next::Elsewhere | Next::Stop => self.elsewhere(reserved, place),
        }
    }

    /// Keeps a target that turned the Call away for the end: nobody else may have room or be paid
    /// for, and then it is better to wait.
    pub(super) fn keep_for_later(&mut self, route: &Route, failure: &Failure) {
        if failure.turns_away() && !self.turned_away.contains(&route.target) {
            self.turned_away.push(Arc::clone(&route.target));
            self.left.push(route.clone());
        }
    }

    /// Tells what watches the targets. One of this machine that has no room is well.
    pub(super) fn tell_failed(&self, running: &Running, failure: &Failure) {
        if has_choice(&self.call) && !failure.turns_away() {
            let times = (running.meter.began, self.shared.clock.monotonic());
            let (target, policy) = (&running.route.target.name, &self.call.plan.policy);
            self.shared.health.failed(target, failure, policy, times);
        }
    }

    /// What comes after a failure before any content, with a place for its row; `None` = nothing.
    pub(super) fn plan(&mut self, failure: &Failure, now: Monotonic) -> Option<(Next, Place)> {
        let Self { call, shared, left, target, .. } = self;
        let policy = &call.plan.policy;
        let ends = |then: Monotonic| call.deadline.is_some_and(|deadline| then >= deadline);
        if self.made >= policy.attempts_max || ends(now) {
            return None;
        }
        if failure.code == ErrorCode::ContextLengthExceeded {
            // A window that nobody knows is no larger one.
            left.retain(|route| route.target.context_tokens > target.context_tokens);
        }
        let others = !left.is_empty();
        let tries = (self.in_a_row, policy.tries_at(target));
        let next = match decide(failure, tries, others, policy, shared.ids.fraction()) {
            Next::Stop => return None,
            Next::Elsewhere => Next::Elsewhere,
            Next::Again { after } => {
                let then = now.saturating_add(after);
                match others && shared.health.is_open(&target.name, then) {
                    true => Next::Elsewhere,
                    // Another one need not be waited for.
                    false if ends(then) && others => Next::Elsewhere,
                    false if ends(then) => return None,
                    false => Next::Again { after },
                }
            }
        };
        // Before this one's is given back: a clean stop waits for Calls that have one.
        Some((next, shared.recorder.reserve_place().ok()?))
    }

    pub(super) fn waited(&mut self) -> Option<OutcomeEvent> {
        let State::Waiting { mut next, .. } = std::mem::replace(&mut self.state, State::Over)
        else {
            return None;
        };
        let now = self.shared.clock.monotonic();
        let verdict = self.shared.health.admits(&next.route.target.name, now);
        if let Verdict::Probe(probe) = verdict {
            next.probe = Some(probe);
        }
        self.pay(next)
    }

    /// Goes on to the next target.
    pub(super) fn elsewhere(&mut self, reserved: Reserved, place: Place) -> Option<OutcomeEvent> {
        let now = self.shared.clock.monotonic();
        let Some((route, probe)) = self.shared.health.next(&mut self.left, now) else {
            return self.give_up();
        };
        self.in_a_row = 1;
        self.pay(Planned { route, probe, reserved, place })
    }

    /// Nothing more can be tried: the first failure is the answer.
    pub(super) fn give_up(&mut self) -> Option<OutcomeEvent> {
        self.state = State::Over;
        if let Some(event) = self.give_rejected() {
            return Some(event);
        }
        let (_, failure) = self.first.take()?;
        let failure = self.say_billed(failure);
        Some(OutcomeEvent::Failed(Box::new(failure)))
    }

    /// The failure to answer when the newest attempt was the last.
    ///
    /// What a fallback says of the request must not mask why it was asked at all.
    pub(super) fn answered(&mut self, last: Failure, has_content: bool) -> Failure {
        let masks = |(target, first): &mut (Arc<Target>, Failure)| {
            !has_content
                && !Arc::ptr_eq(target, &self.target)
                && blames_the_request(last.code)
                && !blames_the_request(first.code)
        };
        let failure = match self.first.take_if(masks) {
            Some((_, first)) => first,
            None => last,
        };
        self.say_billed(failure)
    }

    /// A client that asks again pays again for what may have been billed already.
    pub(super) fn say_billed(&self, failure: Failure) -> Failure {
        match failure.billed {
            Billed::No if self.perhaps_billed => failure.billed(Billed::Unknown),
            Billed::No | Billed::Unknown | Billed::Usage(_) => failure,
        }
    }
}
