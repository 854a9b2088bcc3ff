//! Limits as they are shown: what is counted, who runs, who waits, who was refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use types::clock::Monotonic;

use super::{Kind, Limit, RateLimit, RateLimits};

/// A limit with what it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// As it is configured.
    pub limit: RateLimit,
    /// What counts now, by kind; empty where it counts some apart.
    pub used: Vec<RateUse>,
    /// Calls that run; where it counts some apart, nobody adds them up.
    pub running: Option<u32>,
    /// Calls that wait.
    pub waiting: u32,
    /// How many it counts apart now; those of whom nothing counts any more may be among them.
    pub counted_apart: Option<usize>,
    /// Calls that it refused since the start.
    pub refused: u64,
}

/// What counts of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateUse {
    /// Of what.
    pub kind: Kind,
    /// So much is used, or held for Calls that run.
    pub used: u64,
}

/// What is counted of a limit for metrics.
#[derive(Clone, Debug)]
pub struct RateCount {
    /// Its name.
    pub name: Arc<str>,
    /// Calls that wait.
    pub waiting: u32,
    /// Calls that it refused since the start, by what there was too little of.
    pub refused: Vec<(&'static str, u64)>,
}

/// What a refusal for want of a place is counted as.
const CONCURRENCY: &str = "concurrency";

impl RateLimits {
    /// The limits of an account, by name.
    pub fn status(&self, account: &str, now: Monotonic) -> Vec<RateLimitStatus> {
        let set = self.current();
        let mut all: Vec<_> = set.of_account(account).map(|limit| of(limit, now)).collect();
        all.sort_by(|left, right| left.limit.name.cmp(&right.limit.name));
        all
    }

    /// What is counted of all limits.
    pub(crate) fn counts(&self) -> Vec<RateCount> {
        let Some(set) = self.in_force() else { return Vec::new() };
        let mut all: Vec<_> = set.all().map(|limit| count(limit)).collect();
        all.sort_by(|left, right| left.name.cmp(&right.name));
        all
    }
}

fn of(limit: &Arc<Limit>, now: Monotonic) -> RateLimitStatus {
    let (settings, cells) = (&limit.settings, &limit.cells);
    let state = cells.one().map(|cell| cell.at(now, settings.per));
    let used = state.as_ref().map(|state| {
        let counted = settings.most.iter().zip(&state.windows);
        counted.map(|((kind, _), window)| RateUse { kind: *kind, used: window.used() }).collect()
    });
    RateLimitStatus {
        limit: settings.clone(),
        used: used.unwrap_or_default(),
        running: state.as_ref().map(|state| state.running),
        waiting: cells.waiting.load(Ordering::Relaxed),
        counted_apart: cells.one().is_none().then(|| cells.subjects()),
        refused: cells.refused.iter().map(|count| count.load(Ordering::Relaxed)).sum(),
    }
}

fn count(limit: &Limit) -> RateCount {
    let names = Kind::ALL.map(Kind::name).into_iter().chain([CONCURRENCY]);
    let counted = names.zip(&limit.cells.refused);
    let counted = counted.map(|(name, count)| (name, count.load(Ordering::Relaxed)));
    RateCount {
        name: Arc::from(limit.settings.name.as_str()),
        waiting: limit.cells.waiting.load(Ordering::Relaxed),
        refused: counted.filter(|(_, count)| *count > 0).collect(),
    }
}
