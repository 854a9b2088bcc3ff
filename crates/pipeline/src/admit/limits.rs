//! What limits a Call, and what limits an attempt at each of its targets.
//!
//! A Call falls under budgets wherever it is sent, and under more where it is sent to: a model's, a
//! provider's. Amounts here are hints for caps that are ours, never for admission. It must not know
//! prices.

use std::sync::Arc;

use storage::Budget;
use types::call::Target;
use types::{Clock, Failure, Money};

use super::Escrow;
use crate::identify::{Identified, List, OfTargets};

/// The budgets in scope, with what they have left where somebody has to know.
#[derive(Debug)]
pub(super) struct Limits<'a> {
    budgets: &'a [Arc<Budget>],
    of_targets: Option<&'a OfTargets>,
    /// What the tightest of `budgets` has left.
    free: Option<Money>,
    /// What the tightest that a target alone falls under has left, by the target's name.
    free_of: Vec<(&'a str, Money)>,
}

impl<'a> Limits<'a> {
    /// Nobody has to know what is left.
    pub(super) fn of(identified: &'a Identified) -> Self {
        let Identified { budgets, of_targets, .. } = identified;
        Self { budgets, of_targets: of_targets.as_deref(), free: None, free_of: Vec::new() }
    }

    /// With what is left as far as memory knows, or the store where it does not.
    pub(super) async fn hinted(
        escrow: &Escrow,
        clock: &dyn Clock,
        identified: &'a Identified,
    ) -> Result<Self, Failure> {
        let mut limits = Self::of(identified);
        limits.free = escrow.tightest_free(limits.budgets, clock.now()).await?;
        for (target, list) in identified.of_targets.iter().flat_map(|of| of.iter()) {
            let free = escrow.tightest_free(list, clock.now()).await?;
            limits.free_of.extend(free.map(|free| (target, free)));
        }
        Ok(limits)
    }

    /// With what the store says is left.
    pub(super) async fn asked(
        escrow: &Escrow,
        clock: &dyn Clock,
        identified: &'a Identified,
    ) -> Result<Self, Failure> {
        let mut limits = Self::of(identified);
        limits.free = least(escrow, clock, limits.budgets).await?;
        for (target, list) in identified.of_targets.iter().flat_map(|of| of.iter()) {
            let free = least(escrow, clock, list).await?;
            limits.free_of.extend(free.map(|free| (target, free)));
        }
        Ok(limits)
    }

    /// What an attempt at this target falls under, beside what the Call does.
    pub(super) fn beside(&self, target: &Target) -> Option<&'a List> {
        self.of_targets?.get(target)
    }

    /// The first budget that an attempt at this target falls under.
    pub(super) fn first(&self, target: &Target) -> Option<&'a Budget> {
        let beside = || self.beside(target)?.first();
        self.budgets.first().or_else(beside).map(|budget| &**budget)
    }

    /// What the tightest of them has left, if somebody has looked.
    pub(super) fn free(&self, target: &Target) -> Option<Money> {
        let of_target = self.free_of.iter().find(|(name, _)| *name == &*target.name);
        let of_target = of_target.map(|(_, free)| *free);
        self.free.into_iter().chain(of_target).min()
    }
}

async fn least(
    escrow: &Escrow,
    clock: &dyn Clock,
    budgets: &[Arc<Budget>],
) -> Result<Option<Money>, Failure> {
    let mut least = None;
    for budget in budgets {
        let free = escrow.free(budget, clock.now()).await?;
        least = Some(least.map_or(free, |least: Money| least.min(free)));
    }
    Ok(least)
}
