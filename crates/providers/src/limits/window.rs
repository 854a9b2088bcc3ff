//! What is left of one limit, as far as it is known at any time.
//!
//! Providers count in two ways. Most fill a bucket evenly; their reset is when it will be full.
//! Others fill it at once at the end of a window; their reset is that end. Which of the two it is
//! shows itself: the end of a window stands still, while a bucket that is used is full later. Until
//! then nothing is taken to come back before the reset, which is never too much.

use std::collections::BTreeMap;
use std::time::Duration;

use types::clock::Monotonic;

use super::headers::{Kind, Reading, Reset};

/// Parts of a unit that are counted, so that what flows in slowly is not rounded away.
const PARTS: u64 = 1_000;
/// How far a reset seems to move at least because answers take their time.
const NOISE_MIN: Duration = Duration::from_millis(100);
/// What is used at least where it says how much flows in.
const USED_MIN: u64 = 4;
/// Calls at most that are remembered one by one without an answer that told of them: of more, the
/// newest stand for each other.
const LOST_MAX: usize = 1_024;
/// The shortest window: a reset that is nearer is rounded noise.
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// What is left of one limit.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) kind: &'static Kind,
    pub(crate) limit: Option<u64>,
    /// What is left at `at`, in parts.
    level: u64,
    at: Monotonic,
    /// When all of it is there again; `None` = the provider does not say, and nothing is waited
    /// for.
    full_at: Option<Monotonic>,
    /// How long it takes at most to fill.
    period: Duration,
    /// The reset that this window was first told of.
    anchor: Monotonic,
    /// Parts that come back in a second; 0 = none before the reset.
    per_second: u64,
    is_bucket: bool,
    /// What the newest answer said is left, or less if others said so since, in units.
    said: u64,
    /// The newest Call whose answer told of this window.
    heard: u64,
    /// Newer ones that ended without telling of it, by their number, in units: the provider may
    /// have counted them since.
    lost: BTreeMap<u64, u64>,
}

/// What was sent and may be missing in what an answer tells, in units.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unseen {
    /// Of Calls that were sent before the answer's own and are not answered yet. The provider may
    /// have taken them before it or after: on many connections, they pass each other.
    pub(crate) earlier: u64,
    /// Of Calls that were sent after it.
    pub(crate) later: u64,
}

impl Window {
    /// A window that the answer to Call `number` has told of.
    pub(crate) fn new(number: u64, reading: &Reading, now: Monotonic) -> Self {
        let mut window = Self {
            kind: reading.kind,
            limit: reading.limit,
            // Nothing was counted here yet: all that the answer says is left.
            level: u64::MAX,
            at: now,
            full_at: None,
            period: PERIOD_MIN,
            anchor: Monotonic::ZERO,
            per_second: 0,
            is_bucket: false,
            said: 0,
            heard: number,
            lost: BTreeMap::new(),
        };
        window.told(reading, Unseen::default(), now);
        window
    }

    /// Takes over what an answer told. Between the least and the most that it can mean, what was
    /// counted here is right: of twenty Calls sent at once, the last may be the first to arrive,
    /// and its answer then says that nineteen more have room.
    pub(crate) fn told(&mut self, reading: &Reading, unseen: Unseen, now: Monotonic) {
        self.limit = reading.limit.or(self.limit);
        self.advance(now);
        self.said = reading.remaining;
        let most = reading.remaining.saturating_sub(unseen.later);
        let least = most.saturating_sub(unseen.earlier).saturating_sub(self.lost());
        self.level = self.level.clamp(least.saturating_mul(PARTS), most.saturating_mul(PARTS));
        self.at = now;
        let Some(reset) = reading.reset else {
            self.full_at = None;
            return;
        };
        let full_at = now.saturating_add(reset.after);
        self.full_at = Some(full_at);
        self.period = self.period.max(reset.after);
        // Answers take their time, so that an end that stands still seems to move a little.
        let noise = reset.off.saturating_add((self.period / 8).max(NOISE_MIN));
        if now >= self.anchor {
            self.anchor = full_at;
        } else if full_at > self.anchor.saturating_add(noise) {
            self.is_bucket = true;
        }
        if self.is_bucket {
            self.learn(reading, reset);
        }
    }

    /// Learns how much flows in. Too little is believed at once, more by and by: an answer that
    /// was late says more than there is.
    fn learn(&mut self, reading: &Reading, reset: Reset) {
        let used = self.limit.map_or(0, |limit| limit.saturating_sub(reading.remaining));
        // Below, what is rounded away is a large part of it.
        if used < USED_MIN || reset.after < reset.off.saturating_mul(4) {
            return;
        }
        let micros = reset.after.as_micros().max(1);
        // What is left is rounded down, so that up to one less may have been used.
        let told = u128::from(used - 1) * u128::from(PARTS) * 1_000_000 / micros;
        let told = u64::try_from(told).unwrap_or(u64::MAX);
        self.per_second = match self.per_second {
            0 => told,
            known if told < known => told,
            known => known.saturating_add((told - known) / 64),
        };
    }

    /// A request was refused that should have had room: less flows in than was learned.
    pub(crate) fn was_refused(&mut self) {
        self.per_second -= self.per_second / 16;
    }

    /// What is left for certain, in units.
    pub(crate) fn left(&mut self, now: Monotonic) -> u64 {
        self.advance(now);
        self.level / PARTS
    }

    /// When it is full again, if that is known.
    pub(crate) const fn full_at(&self) -> Option<Monotonic> {
        self.full_at
    }

    /// The newest Call whose answer told of it.
    pub(crate) const fn heard(&self) -> u64 {
        self.heard
    }

    /// The answer to Call `number`, the newest so far, tells of it: what is still lost was sent
    /// after that one, and may be in what it tells or not.
    pub(crate) fn hears(&mut self, number: u64) {
        self.heard = self.heard.max(number);
        self.lost = self.lost.split_off(&number);
    }

    /// Call `number` has ended, and told nothing of this window.
    pub(crate) fn lose(&mut self, number: u64, units: u64) {
        let newest = match self.lost.len() {
            LOST_MAX.. => self.lost.pop_last().map_or(0, |(_, units)| units),
            _ => 0,
        };
        self.lost.insert(number, units.saturating_add(newest));
    }

    /// How many Calls are remembered as lost.
    #[cfg(test)]
    pub(super) fn lost_calls(&self) -> usize {
        self.lost.len()
    }

    fn lost(&self) -> u64 {
        self.lost.values().fold(0, |sum, units| sum.saturating_add(*units))
    }

    /// The answer to a Call that was sent before the newest one heard of: where it says less, the
    /// provider took its Call after that one.
    pub(crate) fn told_late(&mut self, reading: &Reading) {
        self.said = self.said.min(reading.remaining);
    }

    /// What the newest answer said is there, but for what is not answered yet and what is lost:
    /// what was answered meanwhile is in it.
    pub(crate) fn recount(&mut self, open: u64) {
        let unseen = open.saturating_add(self.lost());
        let least = self.said.saturating_sub(unseen).saturating_mul(PARTS);
        self.level = self.level.max(least.min(self.most()));
    }

    /// Counts what is being sent.
    pub(crate) fn spend(&mut self, units: u64) {
        self.level = self.level.saturating_sub(units.saturating_mul(PARTS));
    }

    /// Takes back what was not sent after all.
    pub(crate) fn give_back(&mut self, units: u64) {
        self.level = self.level.saturating_add(units.saturating_mul(PARTS)).min(self.most());
    }

    /// When so many units are there, one after the other if they are more than fit at once.
    pub(crate) fn ready_at(&mut self, units: u64, now: Monotonic) -> Monotonic {
        self.advance(now);
        let Some(full_at) = self.full_at else { return now };
        let missing = units.saturating_mul(PARTS).saturating_sub(self.level);
        if missing == 0 {
            return now;
        }
        if self.per_second > 0 {
            let micros = u128::from(missing) * 1_000_000 / u128::from(self.per_second) + 1;
            let micros = u64::try_from(micros).unwrap_or(u64::MAX);
            return now.saturating_add(Duration::from_micros(micros));
        }
        let more = match self.limit {
            Some(limit) if limit > 0 => missing.saturating_sub(1) / limit.saturating_mul(PARTS),
            _ => 0,
        };
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        full_at.saturating_add(self.period.saturating_mul(more))
    }

    /// Lets come back what has come back by `now`.
    fn advance(&mut self, now: Monotonic) {
        let Some(full_at) = self.full_at else { return };
        if self.per_second > 0 {
            let micros = now.saturating_sub(self.at).as_micros();
            let more = u128::from(self.per_second).saturating_mul(micros) / 1_000_000;
            let more = u64::try_from(more).unwrap_or(u64::MAX);
            if more > 0 {
                self.level = self.level.saturating_add(more).min(self.most());
                self.at = now;
            }
        } else if now >= full_at {
            self.level = self.most();
            self.at = now;
            self.full_at = Some(now.saturating_add(self.period));
        }
    }

    /// All of it, in parts.
    fn most(&self) -> u64 {
        self.limit.map_or(u64::MAX, |limit| limit.saturating_mul(PARTS))
    }
}

#[cfg(test)]
mod tests;
