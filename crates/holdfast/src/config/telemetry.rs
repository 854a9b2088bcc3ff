//! `[[slos]]`: objectives for classes of Calls, and who is told when one burns.
//!
//! What an objective may be is checked where the others' settings are
//! ([`validate`](super::validate)); this module must not know how objectives are counted.

use std::time::Duration;

use pipeline::SloSettings;
use pipeline::slo::{MILLION, Metric};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use types::Secret;

use super::file::some_duration;

/// A month.
const WINDOW: Duration = Duration::from_hours(30 * 24);
/// The pair of windows and the rate at which 2 % of a month's budget is gone in an hour.
/// <https://sre.google/workbook/alerting-on-slos/>
const SHORT_WINDOW: Duration = Duration::from_mins(5);
const LONG_WINDOW: Duration = Duration::from_hours(1);
const BURN_RATE: f64 = 14.4;
/// One bad Call of a few says little.
const MIN_COUNT: u64 = 10;
/// Agents and people think for as long between the Calls of one task.
const TASK_IDLE: Duration = Duration::from_mins(1);
/// Digits behind the point of a percentage that can be written.
const PERCENT_DIGITS: usize = 4;

/// An objective.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SloEntry {
    /// Its name.
    pub(crate) name: String,
    /// Only Calls of this request class.
    pub(crate) class: Option<String>,
    /// Only Calls that ask for this model or route, or that it answered.
    pub(crate) model: Option<String>,
    /// Only Calls with the key of this name.
    pub(crate) key: Option<String>,
    /// `time_to_first_token`, `task_time`, `policy_time` or `errors`.
    #[serde(deserialize_with = "metric")]
    pub(crate) metric: Metric,
    /// What takes longer is bad. Needed, but for `errors`.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) threshold: Option<Duration>,
    /// Which part has to be good, such as `"99.5%"`; kept as what may be bad, in millionths.
    #[serde(deserialize_with = "allowed")]
    pub(crate) objective: u32,
    /// What the error budget is for. Default 30 days.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) window: Option<Duration>,
    /// Default 5 minutes.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) short_window: Option<Duration>,
    /// Default 1 hour.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) long_window: Option<Duration>,
    /// It burns when both windows burn so much faster than allowed. Default 14.4.
    pub(crate) burn_rate: Option<f64>,
    /// Events in the long window below which nothing burns. Default 10.
    pub(crate) min_count: Option<u64>,
    /// How long none of a task's Calls has run when it is over. Default 60 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) task_idle: Option<Duration>,
    /// Where to post when it begins or stops to burn.
    pub(crate) webhook: Option<String>,
    /// What those posts are signed with, best as `${VARIABLE}`.
    pub(crate) webhook_secret: Option<Secret>,
}

impl SloEntry {
    /// The objective with its defaults.
    pub(crate) fn settings(&self) -> SloSettings {
        SloSettings {
            name: self.name.clone(),
            class: self.class.clone(),
            model: self.model.clone(),
            key: self.key.clone(),
            metric: self.metric,
            threshold: self.threshold.unwrap_or_default(),
            allowed: self.objective,
            window: self.window.unwrap_or(WINDOW),
            short_window: self.short_window.unwrap_or(SHORT_WINDOW),
            long_window: self.long_window.unwrap_or(LONG_WINDOW),
            burn_rate: self.burn_rate.unwrap_or(BURN_RATE),
            min_count: self.min_count.unwrap_or(MIN_COUNT),
            task_idle: self.task_idle.unwrap_or(TASK_IDLE),
        }
    }
}

fn metric<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metric, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = || Metric::ALL.map(Metric::name).join(", ");
    Metric::parse(&text)
        .ok_or_else(|| D::Error::custom(format!("\"{text}\" is not one of: {}", known())))
}

fn allowed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    read_allowed(&text)
        .ok_or_else(|| D::Error::custom("is no percentage between 0% and 100% such as \"99.5%\""))
}

/// What a percentage leaves, in millionths.
fn read_allowed(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > PERCENT_DIGITS {
        return None;
    }
    let parts: u32 = format!("{part:0<PERCENT_DIGITS$}").parse().ok()?;
    let good = whole.parse::<u32>().ok()?.checked_mul(MILLION / 100)?.checked_add(parts)?;
    (good > 0 && good < MILLION).then(|| MILLION - good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_read_exactly() {
        let read = [("99%", 10_000), ("99.9%", 1_000), ("99.9999%", 1), ("0.5%", 995_000)];
        for (text, allowed) in read {
            assert_eq!(read_allowed(text), Some(allowed), "{text}");
        }
        for text in ["99", "100%", "0%", "101%", "-1%", "99.99999%", "9 %", ".5%", "5.%", "%", "x%"]
        {
            assert_eq!(read_allowed(text), None, "{text}");
        }
    }
}
