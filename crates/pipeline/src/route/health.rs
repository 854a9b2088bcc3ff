//! Which targets are well: a circuit breaker for each.
//!
//! A breaker opens after failures in a row, or when its target names a time before which it wants
//! no requests. While it is open its target is asked last; then exactly one Call probes it.
//! Invariants: one breaker per target, so that a bad model cools no other; a target is never left
//! out, only put behind others; a probe that comes to nothing leaves the next one free.
//!
//! Only Calls that have somewhere else to go are watched: their targets are the configured ones,
//! and a Call without a choice pays nothing for this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use types::call::RoutePolicy;
use types::clock::Monotonic;
use types::{ErrorCode, Failure};

use super::Route;
use super::pace::Pace;
use super::pins::Pins;

/// Failures in a row that open a breaker.
const FAILURES_MAX: u32 = 3;
/// A cooldown grows to at most so many times the first.
const COOLDOWN_TIMES_MAX: u32 = 12;
/// The longest time that a target can ask to be left alone.
const COOL_MAX: Duration = Duration::from_secs(60 * 60);
/// Breakers at most; routes have a few targets each. Clients can name more: where there are more,
/// the closed one that failed longest ago goes.
const TARGETS_MAX: usize = 4_096;

/// The breakers of all targets that ever failed.
#[derive(Debug, Default)]
pub(crate) struct Health {
    targets: RwLock<HashMap<Arc<str>, Shared>>,
    /// How they did lately.
    pub(crate) pace: Pace,
    /// Who stays with which of them.
    pub(crate) pins: Pins,
}

type Shared = Arc<Mutex<Breaker>>;

/// Whether a target may be asked.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is well.
    Closed,
    /// It was not; this Call finds out whether it is again.
    Probe(Probe),
    /// It is not, or somebody else is finding out.
    Open,
}

/// The one Call that finds out whether a target is well again. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Probe(Shared);

impl Drop for Probe {
    fn drop(&mut self) {
        lock(&self.0).probing = false;
    }
}

impl Health {
    /// Takes out of `candidates` the one to be asked next: the first that is well or may be probed;
    /// if there is none, the first.
    pub(crate) fn next(
        &self,
        candidates: &mut Vec<Route>,
        now: Monotonic,
    ) -> Option<(Route, Option<Probe>)> {
        for index in 0..candidates.len() {
            let probe = match self.admits(&candidates[index].target.name, now) {
                Verdict::Closed => None,
                Verdict::Probe(probe) => Some(probe),
                Verdict::Open => continue,
            };
            return Some((candidates.remove(index), probe));
        }
        (!candidates.is_empty()).then(|| (candidates.remove(0), None))
    }

    /// Whether `target` may be asked now.
    pub(crate) fn admits(&self, target: &str, now: Monotonic) -> Verdict {
        let Some(shared) = self.find(target) else { return Verdict::Closed };
        let mut breaker = lock(&shared);
        match breaker.open_until {
            None => Verdict::Closed,
            Some(until) if now < until || breaker.probing => Verdict::Open,
            Some(_) => {
                breaker.probing = true;
                drop(breaker);
                Verdict::Probe(Probe(shared))
            }
        }
    }

    /// Whether `target` is still to be left alone at `then`.
    pub(crate) fn is_open(&self, target: &str, then: Monotonic) -> bool {
        self.find(target)
            .is_some_and(|shared| lock(&shared).open_until.is_some_and(|until| then < until))
    }

    /// A probe showed content: the target takes Calls again, and the next failure opens it anew.
    pub(crate) fn answers(probe: &Probe) {
        lock(&probe.0).open_until = None;
    }

    /// An attempt that began at `began` ended well.
    pub(crate) fn succeeded(&self, target: &str, began: Monotonic) {
        let Some(shared) = self.find(target) else { return };
        lock(&shared).succeeded(began);
    }

    /// An attempt that began at `began` failed.
    pub(crate) fn failed(
        &self,
        target: &Arc<str>,
        failure: &Failure,
        policy: &RoutePolicy,
        (began, now): (Monotonic, Monotonic),
    ) {
        if failure.withheld {
            // It was not asked: what waits in front of it is ours.
            return;
        }
        if !counts(failure.code) {
            // Who refuses a request is up.
            if failure.upstream.is_some() {
                self.succeeded(target, began);
            }
            return;
        }
        self.pace.failed(target, now);
        let Some(shared) = self.find_or_make(target, now) else { return };
        lock(&shared).failed(failure.retry_after, policy.cooldown, now);
    }

    fn find(&self, target: &str) -> Option<Shared> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.get(target).map(Arc::clone)
    }

    /// Forgets the targets of a provider that is another now: another key, or another address.
    pub(crate) fn forget(&self, provider: &str) {
        let is_its =
            |target: &str| target.strip_prefix(provider).is_some_and(|rest| rest.starts_with('/'));
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|target, _| !is_its(target));
        drop(targets);
        self.pace.forget(is_its);
    }

    /// `None` = all others are open.
    fn find_or_make(&self, target: &Arc<str>, now: Monotonic) -> Option<Shared> {
        if let Some(known) = self.find(target) {
            return Some(known);
        }
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        if targets.len() >= TARGETS_MAX && !targets.contains_key(target) {
            let closed = targets.iter().filter_map(|(name, shared)| {
                let breaker = lock(shared);
                let is_open = breaker.open_until.is_some_and(|until| now < until);
                (!is_open && !breaker.probing).then_some((breaker.failed_at, name))
            });
            let oldest = closed.min().map(|(_, name)| Arc::clone(name))?;
            targets.remove(&oldest);
        }
        Some(Arc::clone(targets.entry(Arc::clone(target)).or_default()))
    }
}

/// What is known of one target.
#[derive(Debug, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    failed_at: Monotonic,
    /// Asked last until then; afterwards one Call probes. `None` = closed.
    open_until: Option<Monotonic>,
    /// For how long it was last opened by failures.
    cooldown: Duration,
    probing: bool,
}

impl Breaker {
    fn succeeded(&mut self, began: Monotonic) {
        // What was on its way before it failed says nothing about after.
        if began >= self.failed_at {
            *self = Self { probing: self.probing, ..Self::default() };
        }
    }

    fn failed(&mut self, retry_after: Option<Duration>, cooldown: Duration, now: Monotonic) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
        let is_open = self.open_until.is_some_and(|until| now < until);
        let was_probed = self.open_until.is_some();
        if !is_open && (was_probed || self.failures >= FAILURES_MAX) {
            let most = cooldown.saturating_mul(COOLDOWN_TIMES_MAX);
            self.cooldown = self.cooldown.saturating_mul(2).clamp(cooldown, most);
            self.open_until = Some(now.saturating_add(self.cooldown));
        }
        if let Some(wait) = retry_after {
            // A later, shorter one does not shorten it.
            let until = now.saturating_add(wait.min(COOL_MAX));
            self.open_until = Some(self.open_until.map_or(until, |open| open.max(until)));
        }
    }
}

/// Whether a failure says something about its target, and not about the request or its client.
const fn counts(code: ErrorCode) -> bool {
    match code {
        ErrorCode::RateLimited
        | ErrorCode::Overloaded
        | ErrorCode::Unavailable
        | ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamFailed
        | ErrorCode::UpstreamCredentials
        | ErrorCode::UpstreamQuota
        | ErrorCode::UpstreamTimeout
        | ErrorCode::StreamCut => true,
        ErrorCode::InvalidRequest
        | ErrorCode::Unsupported
        | ErrorCode::TooLarge
        | ErrorCode::RequestTimeout
        | ErrorCode::Unauthenticated
        | ErrorCode::PermissionDenied
        | ErrorCode::NotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::ModelNotFound
        | ErrorCode::PreviousResponseNotFound
        | ErrorCode::Conflict
        | ErrorCode::SessionInDoubt
        | ErrorCode::PriceUnknown
        | ErrorCode::BudgetExceeded
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::ContentFiltered
        | ErrorCode::StorageUnavailable
        | ErrorCode::ToolFailed
        // Its caller's own time says nothing about the target.
        | ErrorCode::DeadlineExceeded
        | ErrorCode::Cancelled
        | ErrorCode::Internal => false,
    }
}

fn lock(shared: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
