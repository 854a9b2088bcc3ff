//! What was counted within a length of time.
//!
//! Values in, values out, on the monotonic clock, so that a wall clock that jumps changes nothing.
//! An amount counts from the moment at which it was taken, and leaves whole when that moment is so
//! long ago as the window is. What is taken and not used comes back into the moment at which it was
//! taken, or nowhere if that has left. Invariant: whoever takes only what [`Window::room`] has room
//! for keeps the sum of any stretch of a sliding window's length within the limit, whenever the
//! stretch begins.

use std::collections::VecDeque;
use std::time::Duration;

use types::clock::Monotonic;

/// Moments of a sliding window that are told apart at most. What was taken within so small a part
/// of it leaves together, with the latest: never too early, and late by no more than that.
const GRAINS: u32 = 64;

/// How a window moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Technique {
    /// It ends now: never more than the limit in any stretch of its length.
    #[default]
    Sliding,
    /// It begins with the first Call after the last one's end: around that end, twice the limit can
    /// come within its length.
    Fixed,
}

impl Technique {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sliding => "sliding",
            Self::Fixed => "fixed",
        }
    }
}

/// When there is room for an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Now,
    /// Later.
    After {
        /// After so long, if nothing comes back before and nobody else takes it.
        wait: Duration,
        /// After so long, if all comes back at once that is held for Calls that run.
        earliest: Duration,
    },
    /// It is more than the limit.
    Never,
}

/// What one limit counts of one kind.
#[derive(Debug)]
pub(super) enum Window {
    Sliding(Sliding),
    Fixed(Fixed),
}

/// The moments of a sliding window, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sliding {
    moments: VecDeque<Moment>,
    used: u64,
    /// Of that, what is not settled yet.
    held: u64,
    /// The number of the first moment.
    first: u64,
}

#[derive(Debug)]
struct Moment {
    began: Monotonic,
    ended: Monotonic,
    amount: u64,
    held: u64,
}

impl Moment {
    const fn settled(&self) -> u64 {
        self.amount.saturating_sub(self.held)
    }
}

/// A window that stands still.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    began: Option<Monotonic>,
    used: u64,
    held: u64,
    number: u64,
}

impl Window {
    pub(super) fn new(technique: Technique) -> Self {
        match technique {
            Technique::Sliding => Self::Sliding(Sliding::default()),
            Technique::Fixed => Self::Fixed(Fixed::default()),
        }
    }

    /// Forgets what has left by `now`, which must not be before any earlier one.
    pub(super) fn pass(&mut self, now: Monotonic, per: Duration) {
        match self {
            Self::Sliding(sliding) => sliding.pass(now, per),
            Self::Fixed(fixed) => {
                if fixed.began.is_some_and(|began| began.saturating_add(per) <= now) {
                    *fixed = Fixed { number: fixed.number + 1, ..Fixed::default() };
                }
            }
        }
    }

    /// What counts now.
    pub(super) const fn used(&self) -> u64 {
        match self {
            Self::Sliding(sliding) => sliding.used,
            Self::Fixed(fixed) => fixed.used,
        }
    }

    /// Whether there is room for `amount` within `limit`.
    pub(super) fn room(&self, amount: u64, limit: u64, now: Monotonic, per: Duration) -> Room {
        if amount > limit {
            return Room::Never;
        }
        let too_much = self.used().saturating_sub(limit - amount);
        if too_much == 0 {
            return Room::Now;
        }
        let stays = too_much.saturating_sub(self.held());
        let (at, earliest) = match self {
            Self::Sliding(sliding) => (
                sliding.when_left(too_much, |moment| moment.amount),
                sliding.when_left(stays, Moment::settled),
            ),
            Self::Fixed(fixed) => (fixed.began, fixed.began),
        };
        let after =
            |at: Option<Monotonic>| at.unwrap_or(now).saturating_add(per).saturating_sub(now);
        let earliest = if stays == 0 { Duration::ZERO } else { after(earliest) };
        Room::After { wait: after(at), earliest }
    }

    /// Of what counts, what Calls that run may give back.
    const fn held(&self) -> u64 {
        match self {
            Self::Sliding(sliding) => sliding.held,
            Self::Fixed(fixed) => fixed.held,
        }
    }

    /// Takes `amount`. Answers where it was taken from, for [`Self::settle`].
    pub(super) fn take(&mut self, amount: u64, now: Monotonic, per: Duration) -> u64 {
        match self {
            Self::Sliding(sliding) => sliding.take(amount, now, per),
            Self::Fixed(fixed) => {
                fixed.began = fixed.began.or(Some(now));
                fixed.used = fixed.used.saturating_add(amount);
                fixed.held = fixed.held.saturating_add(amount);
                fixed.number
            }
        }
    }

    /// Says that of `taken` so much was used, be it less or more.
    pub(super) fn settle(&mut self, number: u64, taken: u64, used: u64) {
        match self {
            Self::Sliding(sliding) => sliding.settle(number, taken, used),
            Self::Fixed(fixed) => {
                if fixed.number == number {
                    fixed.used = fixed.used.saturating_sub(taken).saturating_add(used);
                    fixed.held = fixed.held.saturating_sub(taken);
                }
            }
        }
    }

    /// How long it takes until nothing counts any more.
    pub(super) fn empty_in(&self, now: Monotonic, per: Duration) -> Duration {
        let last = match self {
            Self::Sliding(sliding) => {
                let counts = sliding.moments.iter().rev().find(|moment| moment.amount > 0);
                counts.map(|moment| moment.ended)
            }
            Self::Fixed(fixed) => fixed.began.filter(|_| fixed.used > 0),
        };
        last.map_or(Duration::ZERO, |at| at.saturating_add(per).saturating_sub(now))
    }
}

impl Sliding {
    fn pass(&mut self, now: Monotonic, per: Duration) {
        while let Some(moment) = self.moments.front() {
            if moment.ended.saturating_add(per) > now {
                break;
            }
            self.used = self.used.saturating_sub(moment.amount);
            self.held = self.held.saturating_sub(moment.held);
            self.moments.pop_front();
            self.first += 1;
        }
    }

    /// The moment with which so much has left of what `counts`.
    fn when_left(&self, amount: u64, counts: impl Fn(&Moment) -> u64) -> Option<Monotonic> {
        let mut left = 0_u64;
        let moment = self.moments.iter().find(|moment| {
            left = left.saturating_add(counts(moment));
            left >= amount
        });
        moment.map(|moment| moment.ended)
    }

    fn take(&mut self, amount: u64, now: Monotonic, per: Duration) -> u64 {
        self.used = self.used.saturating_add(amount);
        self.held = self.held.saturating_add(amount);
        let grain = per / GRAINS;
        match self.moments.back_mut().filter(|last| now.saturating_sub(last.began) <= grain) {
            Some(last) => {
                last.ended = now;
                last.amount = last.amount.saturating_add(amount);
                last.held = last.held.saturating_add(amount);
            }
            None => {
                let moment = Moment { began: now, ended: now, amount, held: amount };
                self.moments.push_back(moment);
            }
        }
        self.first + (self.moments.len() as u64).saturating_sub(1)
    }

    fn settle(&mut self, number: u64, taken: u64, used: u64) {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(moment) = place.and_then(|place| self.moments.get_mut(place)) else { return };
        moment.amount = moment.amount.saturating_sub(taken).saturating_add(used);
        moment.held = moment.held.saturating_sub(taken);
        self.held = self.held.saturating_sub(taken);
        self.used = self.used.saturating_sub(taken).saturating_add(used);
    }
}

#[cfg(test)]
mod tests;
