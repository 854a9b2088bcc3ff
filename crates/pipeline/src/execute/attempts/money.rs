//! What an attempt after the first is paid from.
//!
//! Invariant: what is sent is held at its bound beside all that earlier attempts, and those that
//! still run, may have cost. Which attempt comes next is for [`super`].

use std::sync::Arc;

use types::{Money, OutcomeEvent};

use super::{Asked, Attempts, Planned, State};
use crate::admit::{Hold, Reserved, Short};

impl Attempts {
    /// Starts an attempt if what is held pays for it; else asks for its money first.
    pub(super) fn pay(&mut self, mut next: Planned) -> Option<OutcomeEvent> {
        let needed = next.route.terms.amount;
        let allowed = self.call.budget;
        if allowed.is_some_and(|allowed| self.charged.saturating_add(needed) > allowed) {
            return self.too_dear(next);
        }
        if self.budgets.is_empty() || needed <= next.reserved.amount {
            self.start(next);
            return None;
        }
        // Given back first, so that the budgets are asked for no more than this attempt needs.
        next.reserved = Reserved::default();
        if self.shared.recorder.check_writing().is_err() {
            return self.give_up();
        }
        self.state = State::ToppingUp { asked: self.ask_for(needed), next };
        None
    }

    pub(super) fn topped_up(&mut self, answer: Result<Vec<Hold>, Short>) -> Option<OutcomeEvent> {
        let State::ToppingUp { mut next, .. } = std::mem::replace(&mut self.state, State::Over)
        else {
            return None;
        };
        match answer {
            Ok(holds) => {
                next.reserved = Reserved { holds, amount: next.route.terms.amount };
                self.start(next);
                None
            }
            Err(short) => {
                let (call, target) = (&self.call.id, &*next.route.target.name);
                let (budget, needed) = (&short.budget.id, next.route.terms.amount);
                tracing::info!(%call, target, %budget, %needed, "no money for another attempt");
                self.too_dear(next)
            }
        }
    }

    /// Goes on to a target that costs less, if there is one.
    fn too_dear(&mut self, refused: Planned) -> Option<OutcomeEvent> {
        let Planned { route, reserved, place, .. } = refused;
        self.left.retain(|other| other.terms.amount < route.terms.amount);
        self.elsewhere(reserved, place)
    }

    /// Asks the budgets for money.
    pub(super) fn ask_for(&self, needed: Money) -> Asked {
        let (shared, budgets) = (Arc::clone(&self.shared), Arc::clone(&self.budgets));
        Box::pin(async move {
            let now = shared.clock.now();
            shared.escrow.reserve(&budgets, needed, now).await
        })
    }
}
