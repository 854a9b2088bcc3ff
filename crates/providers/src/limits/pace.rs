//! How much may run at once where the provider's headers do not say: found out as TCP does.
//!
//! A 429 halves what may run at once, counted once for all that was sent before it; each answer
//! lets a part of one more. Where even one at a time is too much, Calls are spaced out. What was
//! learned is forgotten after [`LEARNED_MAX`] without a 429. Values in, values out.

use std::time::Duration;

use types::clock::Monotonic;

/// Parts of a Call that are counted.
const PARTS: u64 = 1_024;
/// Where so many may run at once, nothing is held back any more.
const AT_ONCE_MAX: u64 = 512;
/// The first pause after a 429 that names none.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause after a 429 that names none.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The first distance between Calls where one at a time is too much.
const SPACING_MIN: Duration = Duration::from_millis(50);
/// The longest distance.
const SPACING_MAX: Duration = Duration::from_secs(30);
/// A shorter distance is none.
const SPACING_NONE: Duration = Duration::from_millis(10);
/// How long what was learned counts.
const LEARNED_MAX: Duration = Duration::from_secs(10 * 60);
/// When nobody knows.
const FAR: Monotonic = Monotonic::MAX;

/// What was found out.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Calls at once, in parts; `None` = as many as come.
    at_once: Option<u64>,
    /// Between two Calls.
    spacing: Duration,
    /// The next 429 that names no time closes for so long.
    pause: Duration,
    sent_at: Monotonic,
    limited_at: Monotonic,
    /// Calls from this number on were sent after the last 429 counted.
    since: u64,
}

impl Pace {
    /// Calls at once, if they are held back.
    pub(crate) fn at_once(&self) -> Option<u64> {
        self.at_once.map(|parts| (parts / PARTS).max(1))
    }

    /// When the next Call can be sent while so many run.
    pub(crate) fn opens_at(&mut self, in_flight: u64, now: Monotonic) -> Monotonic {
        if self.at_once.is_some() && now.saturating_sub(self.limited_at) > LEARNED_MAX {
            *self = Self { sent_at: self.sent_at, since: self.since, ..Self::default() };
        }
        if self.at_once().is_some_and(|at_once| in_flight >= at_once) {
            return FAR;
        }
        match self.spacing {
            Duration::ZERO => now,
            spacing => self.sent_at.saturating_add(spacing).max(now),
        }
    }

    pub(crate) const fn sent(&mut self, now: Monotonic) {
        self.sent_at = now;
    }

    /// Whether a Call was sent after the last 429 counted.
    pub(crate) const fn is_after_last(&self, number: u64) -> bool {
        number >= self.since
    }

    /// A 429: fewer at once. Answers how long to pause.
    pub(crate) fn limited(&mut self, in_flight: u64, next: u64, now: Monotonic) -> Duration {
        let before = self.at_once().unwrap_or(in_flight).min(in_flight.max(1));
        if before <= 1 {
            self.spacing = self.spacing.saturating_mul(2).clamp(SPACING_MIN, SPACING_MAX);
        }
        self.at_once = Some((before / 2).max(1) * PARTS);
        self.pause = self.pause.saturating_mul(2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.limited_at = now;
        self.since = next;
        self.pause
    }

    /// An answer: a part of one more at once.
    pub(crate) fn answered(&mut self, number: u64, now: Monotonic) {
        let Some(parts) = self.at_once else { return };
        if !self.is_after_last(number) || now < self.limited_at {
            return;
        }
        self.pause = Duration::ZERO;
        self.spacing = self.spacing / 8 * 7;
        if self.spacing < SPACING_NONE {
            self.spacing = Duration::ZERO;
        }
        if self.spacing.is_zero() {
            let parts = parts + PARTS * PARTS / parts.max(1);
            self.at_once = (parts < AT_ONCE_MAX * PARTS).then_some(parts);
        }
    }
}

#[cfg(test)]
mod tests;
