//! Limits on what our callers may do in a length of time, and at once.
//!
//! A limit counts requests, tokens, cost, or Calls that run, of those of an account whom its scope
//! names, together or each by itself. [`admit`] holds a Call to all of them at once: it takes what
//! the Call can use at most, all or nothing, and waits where a limit has a queue; [`Ticket`] gives
//! back what was not used. Everything is in memory: a start begins with nothing counted.
//! Invariants: what was admitted within a sliding window never uses more than the limit, in
//! whatever order Calls come and end; where nothing is limited, a Call costs one look at a flag.
//! Limits of *providers* are not known here: those are in `providers`.
//!
//! A limit that changes keeps what it has counted, unless it counts something else by then.

mod admit;
mod cell;
mod needs;
mod queue;
mod refusal;
mod set;
mod status;
mod subject;
mod window;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use types::error::Headroom;
use types::ids::SessionId;
use types::{Call, Clock, Principal};

pub(crate) use admit::{Pace, Ticket, admit};
use cell::{Cells, Shape};
use set::Set;
pub use status::{RateCount, RateLimitStatus, RateUse};
pub use subject::Each;
pub use window::Technique;

/// Kinds of what is counted.
const KINDS: usize = 5;

/// Limits of all accounts together, at most.
pub const RATE_LIMITS_MAX: usize = 100_000;
/// The shortest length of time that a limit can be for: what is shorter, `concurrency` says.
pub const PER_MIN: Duration = Duration::from_millis(100);
/// The longest: what is longer is a budget's, which outlives a restart.
pub const PER_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);
/// The longest that a Call may wait.
pub const QUEUE_TIME_MAX: Duration = Duration::from_mins(10);
/// Calls that may wait in one limit's queue at most.
pub const QUEUE_CALLS_MAX: u32 = 100_000;
/// The heaviest that a class can weigh in a queue.
pub const WEIGHT_MAX: u32 = queue::WEIGHT_MAX;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Calls.
    Requests,
    /// Tokens of requests and answers together.
    Tokens,
    /// Tokens of requests.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
    /// Nanodollars.
    Cost,
}

impl Kind {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; KINDS] =
        [Self::Requests, Self::Tokens, Self::InputTokens, Self::OutputTokens, Self::Cost];
    /// Those of which nobody knows before its end what a Call uses.
    const OF_USAGE: [Self; KINDS - 1] =
        [Self::Tokens, Self::InputTokens, Self::OutputTokens, Self::Cost];

    /// Those that are tokens.
    const OF_TOKENS: [Self; 3] = [Self::Tokens, Self::InputTokens, Self::OutputTokens];

    /// As it is written in a limit's settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Cost => "cost_usd",
        }
    }
}

/// So much of each kind; cost in nanodollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amounts([u64; KINDS]);

impl Amounts {
    fn from_fn(of: impl Fn(Kind) -> u64) -> Self {
        Self(Kind::ALL.map(of))
    }

    const fn get(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    const fn set(&mut self, kind: Kind, amount: u64) {
        self.0[kind as usize] = amount;
    }
}

/// A limit as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The tenant.
    pub account: String,
    /// Its name, unique within the account.
    pub name: String,
    /// Whose Calls it counts.
    pub scope: RateScope,
    /// Whom of these it counts apart; `None` = all of them together.
    pub each: Option<Each>,
    /// The most of each kind within `per`; cost in nanodollars.
    pub most: Vec<(Kind, u64)>,
    /// The length of time.
    pub per: Duration,
    /// How that moves.
    pub technique: Technique,
    /// The most Calls that run at once.
    pub concurrency: Option<u32>,
    /// Who may wait for room; `None` = nobody.
    pub queue: Option<RateQueue>,
}

/// Whose Calls a limit counts: those for which all holds that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateScope {
    /// The key of this name.
    pub key: Option<String>,
    /// This user.
    pub user: Option<String>,
    /// This request class.
    pub class: Option<String>,
    /// The model or route that is asked for.
    pub model: Option<String>,
}

/// Who may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateQueue {
    /// Calls that wait at most; a further one is refused.
    pub calls: u32,
    /// How long each waits at most.
    pub time: Duration,
    /// How often a class comes round beside others; 1 unless it is here.
    pub weights: BTreeMap<String, u32>,
}

/// Who asks, as far as limits go by it.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Whose key it is.
    pub principal: &'a Principal,
    /// The request class.
    pub class: &'a str,
    /// The model as it was asked for.
    pub model: &'a str,
    /// What that stands for, if it is a route's other name.
    pub plan: &'a str,
    /// The session from which all its forks descend.
    pub session: Option<&'a SessionId>,
    /// The task, if its client named one.
    pub task: Option<&'a str>,
}

impl<'a> Asking<'a> {
    /// Of a Call; `None` = it asks no model, which is what limits are for.
    pub(crate) fn of(call: &'a Call) -> Option<Self> {
        Some(Self {
            principal: &call.principal,
            class: &call.class,
            model: &call.model()?.head.model,
            plan: &call.plan.name,
            session: call.session_root.as_ref(),
            task: subject::named_task(call),
        })
    }
}

/// A limit in force.
#[derive(Debug)]
struct Limit {
    settings: RateLimit,
    cells: Arc<Cells>,
}

impl Limit {
    /// The most of a kind, if it is limited.
    fn most_of(&self, kind: Kind) -> Option<u64> {
        self.settings.most.iter().find(|(of, _)| *of == kind).map(|(_, most)| *most)
    }
}

/// All limits in force, with what they have counted.
#[derive(Debug, Default)]
pub struct RateLimits {
    /// Whether there is one: all that a Call looks at where there is none.
    any: AtomicBool,
    set: RwLock<Arc<Set>>,
}

impl RateLimits {
    /// Has these limits from now on. One that had the name before, and counts the same of the same,
    /// goes on with what it has counted; Calls that wait look again.
    pub fn set(&self, limits: Vec<RateLimit>) {
        let before = self.current();
        let limits = limits.into_iter().take(RATE_LIMITS_MAX).map(|settings| {
            let shape = shape(&settings);
            let same = |old: &&Arc<Limit>| {
                let of = &old.settings;
                of.scope == settings.scope && of.each == settings.each && old.cells.shape == shape
            };
            let kept = before.named(&settings.account, &settings.name).filter(same);
            let cells = kept.map(|old| Arc::clone(&old.cells));
            let cells = cells.unwrap_or_else(|| Arc::new(Cells::new(shape)));
            Arc::new(Limit { settings, cells })
        });
        let after = Arc::new(Set::new(limits.collect()));
        let any = !after.is_empty();
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = after;
        self.any.store(any, Ordering::Release);
        before.all().for_each(|limit| limit.cells.call_all());
    }

    /// What is left for whoever asks; `None` = no limit of which a door would tell.
    pub(crate) fn headroom(&self, asking: &Asking<'_>, clock: &dyn Clock) -> Option<Headroom> {
        let in_scope = self.in_force()?.seen(asking);
        refusal::headroom(&in_scope, clock)
    }

    /// Whether there is one.
    pub(crate) fn are_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Those in force, if there are any.
    fn in_force(&self) -> Option<Arc<Set>> {
        self.are_any().then(|| self.current())
    }

    fn current(&self) -> Arc<Set> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn shape(settings: &RateLimit) -> Shape {
    Shape {
        kinds: settings.most.iter().map(|(kind, _)| *kind).collect(),
        technique: settings.technique,
        per: settings.per,
        is_each: settings.each.is_some(),
    }
}

#[cfg(test)]
mod tests;
