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
use types::ids::{CallId, SessionId};
use types::{Call, Money};

use super::opinion::{Missing, Places};
use super::{Decision, TASK};

/// Tasks that are remembered as hard, at most; the least used go first.
const TASKS_MAX: u64 = 10_000;
/// How long one is that nothing is asked for.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Routes that have a tally of their own, at most.
const ROUTES_MAX: usize = 256;
/// Steps of the time that a decision takes, in microseconds.
const STEPS_US: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];
/// Under which name the others are counted.
const OTHER: &str = "other";

/// What decisions leave behind.
#[derive(Debug)]
pub(crate) struct Tiers {
    hard: Cache<String, ()>,
    tallies: Mutex<BTreeMap<Arc<str>, RouteTally>>,
    pub(super) opinions: Places,
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
    /// What a judge found of decisions for the cheap tier, and for the strong one.
    pub opinions: [Opinions; 2],
    /// Decisions that were to be judged and were not, because a model failed.
    pub unjudged_failed: u64,
    /// The same, because a budget or the day's limit did not have the money.
    pub unjudged_refused: u64,
    /// The same, because it was too much at once, too large, or can't be asked again.
    pub unjudged_passed_over: u64,
    /// What judging cost, with the answers of the cheap tier that were asked for it.
    pub judging: Money,
    /// How long decisions took.
    pub took: Took,
}

/// How long decisions took, by steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took([u64; STEPS_US.len() + 1]);

impl Took {
    /// Counts a decision.
    pub(super) fn count(&mut self, took: Duration) {
        let place = STEPS_US.partition_point(|most| Duration::from_micros(*most) < took);
        self.0[place] += 1;
    }

    /// The step in microseconds that so many of a hundred decisions were within; `None` = there are
    /// none, or the longest step was not enough.
    pub fn micros_within(&self, percent: u64) -> Option<u64> {
        let all: u64 = self.0.iter().sum();
        let mut wanted = all.saturating_mul(percent).div_ceil(100).max(1);
        for (most, count) in STEPS_US.into_iter().zip(self.0) {
            if count >= wanted {
                return Some(most);
            }
            wanted -= count;
        }
        None
    }
}

/// What a judge found of the decisions for one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opinions {
    /// Decisions that were judged.
    pub judged: u64,
    /// Of these, those that the judge would have decided for the other tier.
    pub disagreed: u64,
}

impl RouteTally {
    /// What a judge found of the decisions for a tier.
    pub fn opinions_on(&mut self, tier: Tier) -> &mut Opinions {
        let [cheap, strong] = &mut self.opinions;
        match tier {
            Tier::Cheap => cheap,
            Tier::Strong => strong,
        }
    }
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
        Self { hard, tallies: Mutex::default(), opinions: Places::default() }
    }
}

impl Tiers {
    /// The decision for a Call, given what was decided for its task before. What a caller asks for
    /// by itself is for that Call alone.
    pub(super) fn stick(&self, call: &Call, decision: Decision, policy: &AutoPolicy) -> Decision {
        let Some(key) = Key::of(call).filter(|_| policy.asked.is_none()) else { return decision };
        let key = key.text();
        match decision.tier {
            Tier::Strong => {
                self.hard.insert(key, ());
                decision
            }
            Tier::Cheap if self.hard.get(&key).is_some() => {
                Decision { tier: Tier::Strong, reasons: vec![TASK], ..decision }
            }
            Tier::Cheap => decision,
        }
    }

    /// Remembers of a task that was found hard before a restart.
    pub(super) fn remember(&self, key: &Key<'_>) {
        self.hard.insert(key.text(), ());
    }

    pub(super) fn count(&self, route: &Arc<str>, decision: &Decision, shadow: bool) {
        self.with(route, |tally| {
            match decision.tier {
                Tier::Cheap => tally.cheap += 1,
                Tier::Strong => tally.strong += 1,
            }
            tally.shadow += u64::from(shadow);
            tally.kept += u64::from(decision.reasons == [TASK]);
        });
    }

    /// Counts what an attempt saved.
    pub(crate) fn save(&self, route: &Arc<str>, saved: Saved) {
        self.with(route, |tally| {
            let sum = if saved.shadow { &mut tally.would_save } else { &mut tally.saved };
            *sum = sum.saturating_add(saved.amount);
        });
    }

    /// Counts a decision that was to be judged and was not.
    pub(super) fn miss(&self, route: &Arc<str>, missing: Missing) {
        self.with(route, |tally| match missing {
            Missing::Failed => tally.unjudged_failed += 1,
            Missing::Refused => tally.unjudged_refused += 1,
            Missing::PassedOver => tally.unjudged_passed_over += 1,
        });
    }

    /// Judges nothing more.
    pub(crate) fn stop(&self) {
        self.opinions.stop();
    }

    /// The tallies of all routes that have tiers and were asked.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, RouteTally)> {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.iter().map(|(route, tally)| (Arc::clone(route), *tally)).collect()
    }

    pub(super) fn with(&self, route: &Arc<str>, change: impl FnOnce(&mut RouteTally)) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tallies.contains_key(route) || tallies.len() < ROUTES_MAX;
        let route = if known { Arc::clone(route) } else { Arc::from(OTHER) };
        change(tallies.entry(route).or_default());
    }
}

/// What Calls of one task have in common.
#[derive(Debug)]
pub(super) struct Key<'a> {
    pub(super) account: &'a str,
    pub(super) route: &'a str,
    pub(super) of: KeyOf<'a>,
}

/// What says that Calls belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyOf<'a> {
    Task(&'a str),
    Session(&'a str),
}

impl<'a> Key<'a> {
    /// `None` = nothing says that there are others.
    fn of(call: &'a Call) -> Option<Self> {
        let parent = call.parent.as_ref().map(CallId::as_str);
        let session = call.session_root.as_ref().map(SessionId::as_str);
        let of = KeyOf::find(&call.task, (call.id.as_str(), parent), session)?;
        Some(Self { account: &call.principal.account, route: &call.plan.name, of })
    }

    fn text(&self) -> String {
        let Self { account, route, of } = self;
        match of {
            KeyOf::Task(task) => format!("{account}\n{route}\ntask\n{task}"),
            KeyOf::Session(session) => format!("{account}\n{route}\nsession\n{session}"),
        }
    }
}

impl<'a> KeyOf<'a> {
    /// A task that its client named, else the session. One that nobody named is called after the
    /// first Call of a turn, of which the others are children.
    pub(super) fn find(
        task: &'a str,
        (call, parent): (&str, Option<&str>),
        session: Option<&'a str>,
    ) -> Option<Self> {
        let is_named = task != call && parent != Some(task);
        if is_named { Some(Self::Task(task)) } else { session.map(Self::Session) }
    }
}
