//! What a provider's headers say of its limits.
//!
//! Each vendor has names of its own for the same three numbers: how much may be used, what is left,
//! and when all of it is there again. Values in, values out; a header that can't be read says
//! nothing. Must not know what is done with it.
//!
//! OpenAI: <https://platform.openai.com/docs/guides/rate-limits>, Anthropic:
//! <https://docs.claude.com/en/api/rate-limits>, Cerebras:
//! <https://inference-docs.cerebras.ai/support/rate-limits>.

use std::time::Duration;

use ::http::header::{HeaderMap, RETRY_AFTER};
use types::clock::Timestamp;

/// The longest time that a provider can ask for: what is further away is looked at again then.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A plain number from here on is no length of time but a second since the epoch.
const EPOCH_SECONDS_MIN: f64 = 1e9;
/// From here on it is a millisecond since the epoch.
const EPOCH_MILLIS_MIN: f64 = 1e12;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Requests.
    Requests,
    /// Tokens: the prompt's, and as many of the answer as the request allows.
    Tokens,
    /// Tokens: the prompt's, and those that were answered.
    RealTokens,
    /// Tokens of prompts.
    Input,
    /// Tokens of answers.
    Output,
}

/// One kind of limit, and its headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Its name, as it is shown.
    pub(crate) name: &'static str,
    pub(crate) counted: Counted,
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
}

macro_rules! kind {
    ($name:literal, $counted:ident, $before:literal, $after:literal) => {
        Kind {
            name: $name,
            counted: Counted::$counted,
            limit: concat!($before, "limit", $after),
            remaining: concat!($before, "remaining", $after),
            reset: concat!($before, "reset", $after),
        }
    };
}

/// Every kind that is known.
static KINDS: &[Kind] = &[
    kind!("requests", Requests, "x-ratelimit-", "-requests"),
    kind!("tokens", Tokens, "x-ratelimit-", "-tokens"),
    kind!("project_requests", Requests, "x-ratelimit-", "-project-requests"),
    kind!("project_tokens", Tokens, "x-ratelimit-", "-project-tokens"),
    kind!("requests_minute", Requests, "x-ratelimit-", "-requests-minute"),
    kind!("tokens_minute", Tokens, "x-ratelimit-", "-tokens-minute"),
    kind!("requests_hour", Requests, "x-ratelimit-", "-requests-hour"),
    kind!("tokens_hour", Tokens, "x-ratelimit-", "-tokens-hour"),
    kind!("requests_day", Requests, "x-ratelimit-", "-requests-day"),
    kind!("tokens_day", Tokens, "x-ratelimit-", "-tokens-day"),
    kind!("all_requests", Requests, "x-ratelimit-", ""),
    kind!("all_tokens", Tokens, "x-tokenlimit-", ""),
    kind!("draft_requests", Requests, "ratelimit-", ""),
    kind!("anthropic_requests", Requests, "anthropic-ratelimit-requests-", ""),
    kind!("anthropic_tokens", RealTokens, "anthropic-ratelimit-tokens-", ""),
    kind!("anthropic_input_tokens", Input, "anthropic-ratelimit-input-tokens-", ""),
    kind!("anthropic_output_tokens", Output, "anthropic-ratelimit-output-tokens-", ""),
];

/// What one answer said of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) kind: &'static Kind,
    /// How much may be used.
    pub(crate) limit: Option<u64>,
    /// What is left.
    pub(crate) remaining: u64,
    /// In how long all of it is there again.
    pub(crate) reset: Option<Reset>,
}

/// When all of a limit is there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) after: Duration,
    /// How far off it may be: whole seconds are rounded.
    pub(crate) off: Duration,
}

/// What one answer said of all limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) readings: Vec<Reading>,
    /// How long the provider asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl Told {
    /// Reads an answer's headers, which came at `now`.
    pub(crate) fn read(headers: &HeaderMap, now: Timestamp) -> Self {
        let retry_after = retry_after(headers, now);
        if !headers.keys().any(|name| is_of_limits(name.as_str())) {
            return Self { readings: Vec::new(), retry_after };
        }
        let readings = KINDS.iter().filter_map(|kind| reading(kind, headers, now)).collect();
        Self { readings, retry_after }
    }
}

fn is_of_limits(name: &str) -> bool {
    let name = name.strip_prefix("x-").unwrap_or(name);
    ["ratelimit-", "anthropic-ratelimit-", "tokenlimit-"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn reading(kind: &'static Kind, headers: &HeaderMap, now: Timestamp) -> Option<Reading> {
    let number = |name: &str| text(headers, name)?.parse::<u64>().ok();
    Some(Reading {
        kind,
        limit: number(kind.limit),
        remaining: number(kind.remaining)?,
        reset: text(headers, kind.reset).and_then(|text| reset(text, now)),
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// Reads `6m0s`, `12ms`, seconds, seconds or milliseconds since the epoch, or a date.
fn reset(text: &str, now: Timestamp) -> Option<Reset> {
    const SECOND: Duration = Duration::from_secs(1);
    let precise = text.contains('.') || text.ends_with("ms");
    let off = if precise { Duration::from_millis(20) } else { SECOND };
    if let Some(number) = number(text) {
        let seconds = match number {
            number if number >= EPOCH_MILLIS_MIN => number / 1_000.0 - epoch_seconds(now),
            number if number >= EPOCH_SECONDS_MIN => number - epoch_seconds(now),
            number => number,
        };
        return Some(Reset { after: bounded(seconds.max(0.0))?, off });
    }
    if let Some(after) = spelled(text) {
        return Some(Reset { after: after.min(WAIT_MAX), off });
    }
    let after = date(text)?.since(now).min(WAIT_MAX);
    Some(Reset { after, off })
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

#[expect(clippy::cast_precision_loss, reason = "a time of today to the microsecond fits")]
fn epoch_seconds(now: Timestamp) -> f64 {
    now.0 as f64 / 1e6
}

/// Reads a duration as Go writes it: `1h2m3.5s`, `6m0s`, `120ms`.
fn spelled(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let number = number.parse::<f64>().ok()?;
        let letters = behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(letters);
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        whole = whole.saturating_add(Duration::try_from_secs_f64(number * seconds).ok()?);
        rest = next;
    }
    (!text.is_empty()).then_some(whole)
}

/// Reads `2026-11-21T22:42:58Z`, with a fraction or another offset, or an HTTP date.
fn date(text: &str) -> Option<Timestamp> {
    if let Ok(date) = httpdate::parse_http_date(text) {
        let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        return Some(Timestamp(0).plus(since));
    }
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let between = |at: usize, byte: u8| text.as_bytes().get(at) == Some(&byte);
    if !(between(4, b'-') && between(7, b'-') && between(13, b':') && between(16, b':')) {
        return None;
    }
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    let days = days_since_epoch(year, month, day)?;
    let rest = text.get(19..)?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone);
    let micros = match fraction.strip_prefix('.') {
        Some(digits) => format!("{digits:0<6}").get(..6)?.parse::<i64>().ok()?,
        None => 0,
    };
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
    Some(Timestamp(seconds * 1_000_000 + micros))
}

/// `Z`, `+02:00` or `-05:30`, in seconds.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |text: &str, most: i64| {
        text.parse::<i64>().ok().filter(|number| (0..=most).contains(number))
    };
    let seconds = number(hours, 23)? * 3_600 + number(minutes, 59)? * 60;
    Some(if zone.starts_with('-') { -seconds } else { seconds })
}

/// Days of a date of our calendar since 1970-01-01, counted from a March so that a leap day ends
/// its year: <https://howardhinnant.github.io/date_algorithms.html>.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// How long the provider asks to wait: in milliseconds, in seconds, or until a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if let Some(millis) = text(headers, "retry-after-ms").and_then(number) {
        return bounded(millis / 1_000.0);
    }
    let value = text(headers, RETRY_AFTER.as_str())?;
    if let Some(seconds) = number(value) {
        return bounded(seconds);
    }
    Some(date(value)?.since(now).min(WAIT_MAX))
}

fn bounded(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())).ok()
}

#[cfg(test)]
mod tests;
