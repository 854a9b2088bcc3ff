//! `[routes.hedge]`: a second attempt beside one that shows nothing for long.
//!
//! What a hedge does and costs is the pipeline's; this is only what a route says of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::StringDeserializer;
use serde::de::{Deserializer, Error};

use super::file::{duration, some_duration};

/// The least time, unless the table says otherwise, where a percentile says when.
const AFTER_MIN: Duration = Duration::from_secs(1);
/// Percentiles: below, every other Call would be sent twice; above, too few times are kept.
const PERCENTILES: RangeInclusive<u8> = 50..=99;

/// When a second target is asked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct HedgeEntry {
    /// Time without content after which another target is asked beside the first; or `p95`: as
    /// long as 95 of a hundred of the first one's answers took lately.
    #[serde(deserialize_with = "after")]
    pub(crate) after: After,
    /// With a percentile: the least time, and the time while too few answers are known. Default
    /// 1 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) after_min: Option<Duration>,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// After so long.
    Time(Duration),
    /// After as long as so many of a hundred answers took.
    Percentile(u8),
}

impl HedgeEntry {
    /// The least time.
    pub(crate) fn least(&self) -> Duration {
        match self.after {
            After::Time(after) => after,
            After::Percentile(_) => self.after_min.unwrap_or(AFTER_MIN),
        }
    }

    /// The percentile, if it goes by one.
    pub(crate) const fn percentile(&self) -> Option<u8> {
        match self.after {
            After::Time(_) => None,
            After::Percentile(percent) => Some(percent),
        }
    }

    /// What is wrong with it, by field.
    pub(crate) fn problem(&self) -> Option<(&'static str, &'static str)> {
        match self.after {
            After::Time(after) if after.is_zero() => Some(("after", "must be longer than 0")),
            After::Time(_) if self.after_min.is_some() => {
                Some(("after_min", "is for a percentile: `after` says the time itself"))
            }
            After::Percentile(percent) if !PERCENTILES.contains(&percent) => {
                Some(("after", "must be p50 to p99"))
            }
            After::Percentile(_) if self.least().is_zero() => {
                Some(("after_min", "must be longer than 0"))
            }
            After::Time(_) | After::Percentile(_) => None,
        }
    }
}

fn after<'de, D: Deserializer<'de>>(deserializer: D) -> Result<After, D::Error> {
    let text = String::deserialize(deserializer)?;
    if let Some(percent) = text.strip_prefix('p') {
        let wrong = || D::Error::custom("is neither a duration nor a percentile such as \"p95\"");
        return percent.parse().map(After::Percentile).map_err(|_| wrong());
    }
    duration(StringDeserializer::<D::Error>::new(text)).map(After::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> HedgeEntry {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_time_or_a_percentile_with_a_least_time() {
        let time = read("after = \"800ms\"");
        assert_eq!((time.least(), time.percentile()), (Duration::from_millis(800), None));
        let percentile = read("after = \"p95\"");
        assert_eq!((percentile.least(), percentile.percentile()), (AFTER_MIN, Some(95)));
        let least = read("after = \"p90\"\nafter_min = \"200ms\"");
        assert_eq!((least.least(), least.percentile()), (Duration::from_millis(200), Some(90)));
        for fine in [time, percentile, least] {
            assert_eq!(fine.problem(), None);
        }
    }

    #[test]
    fn what_is_wrong_has_its_field() {
        let field = |text: &str| read(text).problem().map(|(field, _)| field);
        assert_eq!(field("after = \"0s\""), Some("after"));
        assert_eq!(field("after = \"p49\""), Some("after"));
        assert_eq!(field("after = \"p95\"\nafter_min = \"0s\""), Some("after_min"));
        assert_eq!(field("after = \"1s\"\nafter_min = \"1s\""), Some("after_min"));
        for wrong in ["after = \"p\"", "after = \"px\"", "after = \"soon\"", "after = 5"] {
            assert!(toml::from_str::<HedgeEntry>(wrong).is_err(), "{wrong}");
        }
    }
}
