//! What clients are told of limits: why a Call was refused, when to come back, and what is left.

use std::time::Duration;

use types::error::{Headroom, Left};
use types::{Clock, ErrorCode, Failure, Money};

use super::cell::State;
use super::set::InScope;
use super::{Kind, Limit, RateLimit};

/// When to come back where nobody knows when a Call ends.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// So much is needed, and so much is there. There is more after `wait`, and no room before
    /// `earliest`, whatever Calls that run give back.
    Amount { kind: Kind, needed: u64, free: u64, wait: Duration, earliest: Duration },
    /// More than the limit is needed.
    TooMuch { kind: Kind, needed: u64, most: u64 },
    /// As many Calls run as may.
    Running,
    /// Others were there before.
    Turn,
    /// Too many are counted apart.
    Subjects,
}

impl Lack {
    /// When there may be room.
    pub(super) const fn wait(self) -> Duration {
        match self {
            Self::Amount { wait, .. } => wait,
            Self::TooMuch { .. } | Self::Running | Self::Turn | Self::Subjects => RETRY_AFTER,
        }
    }

    /// Of what: its place in the counts of refusals.
    pub(super) const fn place(self) -> usize {
        match self {
            Self::Amount { kind, .. } | Self::TooMuch { kind, .. } => kind as usize,
            Self::Running | Self::Turn | Self::Subjects => super::KINDS,
        }
    }
}

/// The refusal of a Call that `limit` has no room for.
pub(super) fn refused(
    limit: &Limit,
    lack: Lack,
    (in_scope, clock): (&[InScope], &dyn Clock),
    waited: bool,
) -> Failure {
    limit.cells.refused[lack.place()].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let RateLimit { name, .. } = &limit.settings;
    let per = span(limit.settings.per);
    let wait = lack.wait();
    let again = format!("try again in {}", span(wait));
    let waiting = if waited { " and its turn did not come in time" } else { "" };
    let message = match lack {
        Lack::TooMuch { kind, needed, most } => {
            let (needed, most) = (amount(kind, needed), amount(kind, most));
            let message = format!(
                "the limit `{name}` allows {most} per {per}, and this call alone may need {needed}: \
                 send less, or set a lower output cap"
            );
            return Failure::new(ErrorCode::TooLarge, message);
        }
        Lack::Amount { kind: Kind::Requests, needed, free, .. } => {
            let most = amount(Kind::Requests, limit.most_of(Kind::Requests).unwrap_or(needed));
            format!(
                "the limit `{name}` allows {most} per {per}, of which {free} is left{waiting}: {again}"
            )
        }
        Lack::Amount { kind, needed, free, .. } => {
            let most = amount(kind, limit.most_of(kind).unwrap_or(free));
            let (needed, free) = (amount(kind, needed), amount(kind, free));
            format!(
                "the limit `{name}` allows {most} per {per}, of which {free} is left, and this call \
                 may need {needed}{waiting}: {again}"
            )
        }
        Lack::Running | Lack::Turn => {
            let most = limit.settings.concurrency;
            let most =
                most.map_or(String::new(), |most| format!(" allows {most} calls at once, and"));
            format!("the limit `{name}`{most} has no room{waiting}: {again}")
        }
        Lack::Subjects => {
            let whom = limit.settings.each.map_or("callers", super::Each::names);
            format!("the limit `{name}` counts too many {whom} at once: {again}")
        }
    };
    let headroom = headroom(in_scope, clock);
    let failure = Failure::new(ErrorCode::RateLimited, message).retry_after(wait);
    Failure { headroom: headroom.map(Box::new), ..failure }
}

/// `60 requests`, `$1.50`.
fn amount(kind: Kind, amount: u64) -> String {
    let plural = if amount == 1 { "" } else { "s" };
    match kind {
        Kind::Requests => format!("{amount} request{plural}"),
        Kind::Tokens => format!("{amount} token{plural}"),
        Kind::InputTokens => format!("{amount} input token{plural}"),
        Kind::OutputTokens => format!("{amount} output token{plural}"),
        Kind::Cost => {
            let cost = i64::try_from(amount).unwrap_or(i64::MAX);
            format!("${}", Money::from_nanodollars(cost))
        }
    }
}

/// `0.25s`, `90s`: agents read this out of the message.
fn span(time: Duration) -> String {
    let millis = time.as_millis().max(1);
    let (seconds, part) = (millis / 1_000, millis % 1_000);
    let part = format!("{part:03}");
    match part.trim_end_matches('0') {
        "" => format!("{seconds}s"),
        part => format!("{seconds}.{part}s"),
    }
}

/// What is left of the limits in scope, by kind of the tightest; `None` if none says anything that
/// a door has a header for.
pub(super) fn headroom(in_scope: &[InScope], clock: &dyn Clock) -> Option<Headroom> {
    let now = clock.monotonic();
    let mut headroom = Headroom::default();
    for (limit, cell) in in_scope {
        let state = cell.at(now, limit.settings.per);
        for (index, (kind, most)) in limit.settings.most.iter().enumerate() {
            let left = left(&state, index, *most, limit.settings.per);
            let place = match kind {
                Kind::Requests => &mut headroom.requests,
                Kind::Tokens => &mut headroom.tokens,
                Kind::InputTokens => &mut headroom.input_tokens,
                Kind::OutputTokens => &mut headroom.output_tokens,
                Kind::Cost => continue,
            };
            if place.is_none_or(|other| left.remaining < other.remaining) {
                *place = Some(left);
            }
        }
    }
    (headroom != Headroom::default()).then(|| Headroom { at: clock.now(), ..headroom })
}

fn left(state: &State, index: usize, most: u64, per: Duration) -> Left {
    let Some(window) = state.windows.get(index) else {
        return Left { limit: most, remaining: most, reset: Duration::ZERO };
    };
    Left {
        limit: most,
        remaining: most.saturating_sub(window.used()),
        reset: window.empty_in(state.now, per),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_amounts_are_said_in_words_that_agents_read() {
        let millis = [(1, "0.001s"), (250, "0.25s"), (1_000, "1s"), (90_500, "90.5s")];
        for (millis, text) in millis {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(amount(Kind::Requests, 1), "1 request");
        assert_eq!(amount(Kind::OutputTokens, 2), "2 output tokens");
        assert_eq!(amount(Kind::Cost, 1_500_000_000), "$1.50");
    }
}
