//! Limits that providers set on their keys, learned from what they answer.
//!
//! [`headers`] reads what an answer says, [`window`] keeps what is left, [`pace`] finds out what
//! headers don't say, [`queue`] ranks who waits, and [`gate`] puts them together for one model with
//! one key. A gate is made when a provider first says something: one that never does costs a look
//! into an empty map. Must not know who picks a key.

pub(crate) mod gate;
pub(crate) mod headers;
mod pace;
pub(crate) mod queue;
mod shown;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use types::clock::{Monotonic, SharedClock};

pub(crate) use gate::{Entrant, Entry, Gate, Late, Pass, Seen};
pub(crate) use headers::Told;
pub(crate) use queue::Ranked;
pub use shown::{KeyLimits, Limits, ModelLimits, ProviderLimits, WindowLimits};

/// Models whose limits are known per key at most. Where there are more, the one that was not used
/// for the longest goes.
const MODELS_MAX: usize = 512;
/// The first time for which a key that was refused is left alone.
const OUTAGE_MIN: Duration = Duration::from_secs(30);
/// The longest.
const OUTAGE_MAX: Duration = Duration::from_secs(60 * 60);

/// What Calls take of limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    /// Tokens of the prompts, estimated.
    pub(crate) input: u64,
    /// Tokens that the answers may have, of those that name a cap.
    pub(crate) output: u64,
    /// Calls that name none.
    pub(crate) uncapped: u64,
}

impl Cost {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            uncapped: self.uncapped.saturating_add(other.uncapped),
        }
    }
}

/// Whether a key was refused: it is then left alone, for longer each time, and afterwards one Call
/// finds out whether it is well again.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    until: Option<Monotonic>,
    length: Duration,
    probing: bool,
}

/// What an outage says to a Call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// There is none.
    Well,
    /// It is over, as far as time goes: one Call may find out.
    Due,
    /// It lasts, or somebody is finding out.
    Out,
}

impl Outage {
    pub(crate) fn health(&self, now: Monotonic) -> Health {
        match self.until {
            None => Health::Well,
            Some(until) if now < until || self.probing => Health::Out,
            Some(_) => Health::Due,
        }
    }

    /// How long it lasts yet.
    pub(crate) fn left(&self, now: Monotonic) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_sub(now))
    }

    pub(crate) const fn probe(&mut self) {
        self.probing = true;
    }

    pub(crate) const fn probed(&mut self) {
        self.probing = false;
    }

    /// The key was refused.
    pub(crate) fn begin(&mut self, now: Monotonic) {
        // Calls that were on their way together are refused together: that is one outage.
        if self.until.is_some_and(|until| now < until) {
            return;
        }
        self.length = self.length.saturating_mul(2).clamp(OUTAGE_MIN, OUTAGE_MAX);
        self.until = Some(now.saturating_add(self.length));
    }

    /// The key was taken.
    pub(crate) fn end(&mut self) {
        *self = Self { probing: self.probing, ..Self::default() };
    }
}

/// The gates of one key.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    models: RwLock<HashMap<Arc<str>, Arc<Gate>>>,
}

impl Gates {
    /// The gate of a model, if its provider ever said anything about it.
    pub(crate) fn find(&self, model: &str) -> Option<Arc<Gate>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        if models.is_empty() {
            return None;
        }
        models.get(model).map(Arc::clone)
    }

    /// The same, made if it is not there; `None` where there are too many, all in use.
    pub(crate) fn find_or_make(&self, model: &Arc<str>, clock: &SharedClock) -> Option<Arc<Gate>> {
        if let Some(gate) = self.find(model) {
            return Some(gate);
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if models.len() >= MODELS_MAX && !models.contains_key(model) {
            let idle = models.iter().filter_map(|(name, gate)| Some((gate.idle_since()?, name)));
            let oldest = idle.min().map(|(_, name)| Arc::clone(name))?;
            models.remove(&oldest);
        }
        let gate = models.entry(Arc::clone(model));
        Some(Arc::clone(gate.or_insert_with(|| Arc::new(Gate::new(Arc::clone(clock))))))
    }

    /// What is known of each model, by name.
    pub(crate) fn seen(&self) -> Vec<(Arc<str>, Seen)> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let mut seen: Vec<_> =
            models.iter().map(|(name, gate)| (Arc::clone(name), gate.seen())).collect();
        seen.sort_by(|one, other| one.0.cmp(&other.0));
        seen
    }
}

#[cfg(test)]
mod tests;
