//! What is remembered of decisions: which tasks are hard already, and how many went where.
//!
//! A task that was given to the strong tier stays there: a change of models in its middle loses
//! the provider's prompt cache. Invariants: nothing here grows beyond its limits; nothing is kept
//! across a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use types::auto::{AutoPolicy, Tier};
use types::{Call, Money};

use super::Decision;

/// Tasks that are remembered as hard, at most; the least used go first.
const TASKS_MAX: u64 = 10_000;
/// How long one is that nothing is asked for.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Routes that have a tally of their own, at most.
const ROUTES_MAX: usize = 256;
/// Under which name the others are counted.
const OTHER: &str = "other";

/// What decisions leave behind.
#[derive(Debug)]
pub(crate) struct Tiers {
    hard: Cache<String, ()>,
    tallies: Mutex<BTreeMap<Arc<str>, RouteTally>>,
}

/// What was decided for one route since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTally {
    /// Calls that were given to the cheap tier; in shadow mode, that would have been.
    pub cheap: u64,
    /// Calls for the strong tier.
    pub strong: u64,
    /// Of both, those that were decided in shadow mode.
    pub shadow: u64,
    /// Of the strong ones, those that were because their task was before.
    pub kept: u64,
    /// What answers of the cheap tier cost less than the strong one at the same usage.
    pub saved: Money,
    /// The same that shadow mode would have saved.
    pub would_save: Money,
}

/// What an attempt saved, or would have saved in shadow mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// So much.
    pub amount: Money,
    /// Whether it is only what would have been.
    pub shadow: bool,
}

impl Default for Tiers {
    fn default() -> Self {
        let hard = Cache::builder().max_capacity(TASKS_MAX).time_to_idle(IDLE);
        // The default lets what is new go first: the task that runs now.
        let hard = hard.eviction_policy(EvictionPolicy::lru()).build();
        Self { hard, tallies: Mutex::default() }
    }
}

impl Tiers {
    /// The decision for a Call, given what was decided for its task before. What a caller asks for
    /// by itself is for that Call alone.
    pub(super) fn stick(&self, call: &Call, decision: Decision, policy: &AutoPolicy) -> Decision {
        let Some(key) = key(call).filter(|_| policy.asked.is_none()) else { return decision };
        match decision.tier {
            Tier::Strong => {
                self.hard.insert(key, ());
                decision
            }
            Tier::Cheap if self.hard.get(&key).is_some() => {
                Decision { tier: Tier::Strong, reasons: vec!["task"], ..decision }
            }
            Tier::Cheap => decision,
        }
    }

    pub(super) fn count(&self, route: &Arc<str>, decision: &Decision, shadow: bool) {
        self.with(route, |tally| {
            match decision.tier {
                Tier::Cheap => tally.cheap += 1,
                Tier::Strong => tally.strong += 1,
            }
            tally.shadow += u64::from(shadow);
            tally.kept += u64::from(decision.reasons == ["task"]);
        });
    }

    /// Counts what an attempt saved.
    pub(crate) fn save(&self, route: &Arc<str>, saved: Saved) {
        self.with(route, |tally| {
            let sum = if saved.shadow { &mut tally.would_save } else { &mut tally.saved };
            *sum = sum.saturating_add(saved.amount);
        });
    }

    /// The tallies of all routes that have tiers and were asked.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, RouteTally)> {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.iter().map(|(route, tally)| (Arc::clone(route), *tally)).collect()
    }

    fn with(&self, route: &Arc<str>, change: impl FnOnce(&mut RouteTally)) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tallies.contains_key(route) || tallies.len() < ROUTES_MAX;
        let route = if known { Arc::clone(route) } else { Arc::from(OTHER) };
        change(tallies.entry(route).or_default());
    }
}

/// What Calls of one task have in common; `None` = nothing says that there are others.
fn key(call: &Call) -> Option<String> {
    let (account, task, route) = (&call.principal.account, &*call.task, &call.plan.name);
    if task != call.id.as_str() {
        return Some(format!("{account}\n{route}\ntask\n{task}"));
    }
    let session = call.session_root.as_ref()?;
    Some(format!("{account}\n{route}\nsession\n{session}"))
}
