//! What an attempt after the first is paid from.
//!
//! Invariant: what is sent is held at its bound beside all that earlier attempts, and those that
//! still run, may have cost. Which attempt comes next is for [`super`].

use std::sync::Arc;

use types::{Money, OutcomeEvent};

use super::{Asked, Attempts, Planned, State};
use crate::admit::{Hold, Reserved, Short, refused};
use crate::identify::List;

/// What the budgets gave.
pub(super) struct ToppedUp {
    /// In those that the Call falls under; `None` = they were not asked.
    own: Option<Vec<Hold>>,
    /// In those that the target alone does.
    of_target: Vec<Hold>,
}

impl ToppedUp {
    /// Puts it to what is held, `needed` of each.
    pub(super) fn put(self, reserved: &mut Reserved, needed: Money) {
        if let Some(holds) = self.own {
            *reserved = Reserved { holds, amount: needed, ..Reserved::default() };
        }
        reserved.of_target = self.of_target;
    }
}

impl Attempts {
    /// Starts an attempt if what is held pays for it; else asks for its money first.
    pub(super) fn pay(&mut self, mut next: Planned) -> Option<OutcomeEvent> {
        let needed = next.route.terms.amount;
        let allowed = self.call.budget;
        if allowed.is_some_and(|allowed| self.charged.saturating_add(needed) > allowed) {
            return self.too_dear(next);
        }
        if !self.rates_cover(false) {
            tracing::info!(call = %self.call.id, "limits on rate have no room for another attempt");
            return self.too_dear(next);
        }
        // No money for another target.
        next.reserved.of_target = Vec::new();
        let is_held = self.budgets.is_empty() || needed <= next.reserved.amount;
        let beside = next.route.beside.clone().filter(|_| needed != Money::ZERO);
        if is_held && beside.is_none() {
            self.start(next);
            return None;
        }
        if !is_held {
            // Given back first, so that the budgets are asked for no more than this attempt needs.
            next.reserved = Reserved::default();
        }
        if self.shared.recorder.check_writing().is_err() {
            return self.give_up();
        }
        self.state = State::ToppingUp { asked: self.ask_for(needed, !is_held, beside), next };
        None
    }

    pub(super) fn topped_up(&mut self, answer: Result<ToppedUp, Short>) -> Option<OutcomeEvent> {
        let State::ToppingUp { mut next, .. } = std::mem::replace(&mut self.state, State::Over)
        else {
            return None;
        };
        match answer {
            Ok(topped_up) => {
                topped_up.put(&mut next.reserved, next.route.terms.amount);
                self.start(next);
                None
            }
            Err(short) => {
                let (call, target) = (&self.call.id, &*next.route.target.name);
                let (budget, needed) = (&short.budget.id, next.route.terms.amount);
                tracing::info!(%call, target, %budget, %needed, "no money for another attempt");
                let of_target = next.route.beside.iter().flat_map(|list| list.iter());
                if !of_target.into_iter().any(|own| own.id == short.budget.id) {
                    return self.too_dear(next);
                }
                // Its own budget: others may have enough, whatever they cost.
                let Planned { route, reserved, place, .. } = next;
                let failure = refused(&short, needed, &self.shared.escrow, &*self.shared.clock);
                self.first.get_or_insert((route.target, failure));
                self.elsewhere(reserved, place)
            }
        }
    }

    /// Goes on to a target that costs less, if there is one.
    fn too_dear(&mut self, refused: Planned) -> Option<OutcomeEvent> {
        let Planned { route, reserved, place, .. } = refused;
        self.left.retain(|other| other.terms.amount < route.terms.amount);
        self.elsewhere(reserved, place)
    }

    /// Asks budgets for money: those that the Call falls under, if `own`, and those `beside`, that
    /// the target alone does.
    pub(super) fn ask_for(&self, needed: Money, own: bool, beside: Option<List>) -> Asked {
        let (shared, budgets) = (Arc::clone(&self.shared), Arc::clone(&self.budgets));
        Box::pin(async move {
            let own = match own {
                true => Some(shared.escrow.reserve(&budgets, needed, shared.clock.now()).await?),
                false => None,
            };
            let of_target = match beside {
                Some(beside) => shared.escrow.reserve(&beside, needed, shared.clock.now()).await?,
                None => Vec::new(),
            };
            Ok(ToppedUp { own, of_target })
        })
    }
}
