//! Money reserved in one budget, as a value that gives itself back.
//!
//! Invariant: each hold is ended exactly once, by [`Hold::settle`] or by its drop.

use std::sync::Arc;

use storage::WindowKey;
use storage::ledger::{Charge, Held, SlicePart};
use types::Money;

use super::{Parts, Pool, Returning, send};

/// Money reserved in one budget. Dropping it gives the money back; [`Hold::settle`] charges it
/// first.
#[derive(Debug)]
pub(crate) struct Hold {
    pool: Arc<Pool>,
    window: WindowKey,
    parts: Parts,
    settled: bool,
}

impl Hold {
    pub(super) fn new(pool: Arc<Pool>, window: WindowKey, parts: Parts) -> Self {
        Self { pool, window, parts, settled: false }
    }

    /// Spends `settled + unreconciled` of it and frees the rest. `None` if there is nothing that a
    /// row must say.
    pub(crate) fn settle(mut self, settled: Money, unreconciled: Money) -> Option<Charge> {
        self.settled = true;
        let charge = settled.saturating_add(unreconciled);
        let mut spent = Vec::new();
        let mut state = self.pool.lock();
        state.spent_bound = self.parts.iter().map(|(_, held)| *held).sum();
        state.give_back(&self.parts, charge, &mut spent);
        let answers = self.pool.serve(&mut state);
        drop(state);
        send(answers);
        if spent.is_empty() && charge == Money::ZERO {
            return None;
        }
        Some(Charge {
            budget: self.pool.id.clone(),
            window: self.window,
            held: Held::Slices(spent),
            settled,
            unreconciled,
        })
    }
}

impl Drop for Hold {
    /// Frees what was never spent: a Call that was refused by another budget, or whose client has
    /// gone. What was claimed for it goes back too, unless others need that much.
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut freed = Vec::new();
        let mut state = self.pool.lock();
        state.give_back(&self.parts, Money::ZERO, &mut freed);
        let window = self.window;
        let back = freed.into_iter().map(|SlicePart { slice, returned, .. }| Returning {
            slice,
            window,
            amount: returned,
        });
        state.to_return.extend(back);
        (state.last_bound, state.let_go) = (state.spent_bound, true);
        let answers = self.pool.serve(&mut state);
        state.retire_oversized();
        drop(state);
        send(answers);
    }
}
