//! Over which time a budget counts: calendar windows in a time zone, rolling ones, or for ever.
//!
//! A window is named by the second at which it began ([`WindowKey`]), so that later ones have
//! larger names and a window that has ended is told by its name alone. Time zones are those of the
//! data that is built in: the same on every machine. Invariants: `at` never answers a window that
//! begins after the moment asked for; `end` is always later than the window's beginning.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::OnceLock;

use jiff::civil::{Date, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Zoned};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::Timestamp;

/// Seconds in an hour.
const HOUR_SECONDS: i64 = 3_600;
/// Seconds in a day of UTC.
const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;
/// Cells of a rolling window.
pub const ROLLING_CELLS: u32 = 60;
/// The longest rolling window: 400 days, in seconds.
const ROLLING_SECONDS_MAX: u32 = 400 * 86_400;
/// What a rolling window is written in, and the seconds of each.
const UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Over which time a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// For ever.
    Total,
    /// An hour of the clock.
    Hour,
    /// A calendar day.
    Day,
    /// A calendar week; it begins on Monday.
    Week,
    /// A calendar month.
    Month,
    /// The time that has just passed.
    Rolling(Rolling),
}

/// The length of a rolling window: [`ROLLING_CELLS`] fixed cells of whole seconds. Amounts count in
/// the cell in which they were reserved, and leave with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rolling {
    cell_seconds: NonZeroU32,
}

/// A window: the second at which it began; 0 for a total. Of a rolling one: its newest cell.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WindowKey(pub i64);

/// A time zone, by its name in the IANA's database; UTC unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(Option<TimeZone>);

/// What can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongWindow {
    /// No kind of window.
    #[error(
        "must be \"total\", \"hour\", \"day\", \"week\", \"month\" or {{ rolling = \"24h\" }}, and is `{0}`"
    )]
    Kind(String),
    /// No length of a rolling window.
    #[error(
        "must be a number with s, m, h or d, such as \"24h\": a multiple of 60 seconds, and at most 400 days"
    )]
    Rolling,
    /// No time zone.
    #[error(
        "must be a time zone of the IANA's database, such as \"UTC\" or \"Europe/Berlin\", and is `{0}`"
    )]
    Zone(String),
}

impl Rolling {
    /// Reads a length such as `24h`.
    ///
    /// # Errors
    /// [`WrongWindow::Rolling`].
    pub fn parse(text: &str) -> Result<Self, WrongWindow> {
        let unit = text.chars().next_back().ok_or(WrongWindow::Rolling)?;
        let (_, seconds) =
            UNITS.iter().find(|(name, _)| *name == unit).ok_or(WrongWindow::Rolling)?;
        let number = text.get(..text.len() - unit.len_utf8()).unwrap_or_default();
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WrongWindow::Rolling);
        }
        let number: u32 = number.parse().map_err(|_| WrongWindow::Rolling)?;
        let all = number.checked_mul(*seconds).filter(|all| *all <= ROLLING_SECONDS_MAX);
        let all = all.filter(|all| all % ROLLING_CELLS == 0).ok_or(WrongWindow::Rolling)?;
        let cell_seconds = NonZeroU32::new(all / ROLLING_CELLS).ok_or(WrongWindow::Rolling)?;
        Ok(Self { cell_seconds })
    }

    const fn cell(self) -> i64 {
        self.cell_seconds.get() as i64
    }

    /// The newest of its cells that does not count any more when `newest` does.
    const fn before(self, newest: WindowKey) -> WindowKey {
        WindowKey(newest.0 - self.cell() * ROLLING_CELLS as i64)
    }
}

impl fmt::Display for Rolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.cell_seconds.get() * ROLLING_CELLS;
        let fits = |(_, unit): &&(char, u32)| seconds.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().find(fits).unwrap_or(&('s', 1));
        write!(f, "{}{name}", seconds / unit)
    }
}

impl WindowKind {
    /// The window in which `now` lies.
    pub fn at(self, now: Timestamp, zone: &Zone) -> WindowKey {
        let seconds = now.seconds();
        match (self, &zone.0) {
            (Self::Total, _) => WindowKey(0),
            (Self::Rolling(rolling), _) => floor(seconds, rolling.cell(), 0),
            (Self::Hour, None) => floor(seconds, HOUR_SECONDS, 0),
            (Self::Day, None) => floor(seconds, DAY_SECONDS, 0),
            (Self::Hour, Some(zone)) => match moment(seconds, zone) {
                Some(zoned) => floor(seconds, HOUR_SECONDS, i64::from(zoned.offset().seconds())),
                None => floor(seconds, HOUR_SECONDS, 0),
            },
            (Self::Day | Self::Week | Self::Month, zone) => {
                let zone = &zone.clone().unwrap_or(TimeZone::UTC);
                let began = moment(seconds, zone).and_then(|now| self.first_day(now.date()));
                let began = began.and_then(|day| start_of(day, zone));
                WindowKey(began.unwrap_or_else(|| floor(seconds, DAY_SECONDS, 0).0))
            }
        }
    }

    /// When the window ends; `None` for a total. Of a rolling one: when its next cell begins.
    pub fn end(self, window: WindowKey, zone: &Zone) -> Option<Timestamp> {
        let end = match self {
            Self::Total => return None,
            Self::Hour => window.0 + HOUR_SECONDS,
            Self::Rolling(rolling) => window.0 + rolling.cell(),
            Self::Day | Self::Week | Self::Month => {
                let zone = &zone.0.clone().unwrap_or(TimeZone::UTC);
                let next = moment(window.0, zone).and_then(|began| self.next_day(began.date()));
                let next = next.and_then(|day| start_of(day, zone));
                next.filter(|next| *next > window.0).unwrap_or(window.0 + DAY_SECONDS)
            }
        };
        Some(Timestamp(end.saturating_mul(1_000_000)))
    }

    /// The newest window that counts no more together with `window`: all later ones up to it do.
    pub const fn before(self, window: WindowKey) -> WindowKey {
        match self {
            Self::Rolling(rolling) => rolling.before(window),
            Self::Total | Self::Hour | Self::Day | Self::Week | Self::Month => {
                WindowKey(window.0 - 1)
            }
        }
    }

    /// Whether amounts in `older` count in `window`.
    pub const fn counts(self, older: WindowKey, window: WindowKey) -> bool {
        older.0 <= window.0 && older.0 > self.before(window).0
    }

    /// Whether it is told in a time zone.
    ///
    /// # Errors
    /// What is to be done about it.
    pub fn check_zone(self, zone: &Zone) -> Result<(), &'static str> {
        match self {
            Self::Total | Self::Rolling(_) if !zone.is_utc() => {
                Err("must be left out: a total and a rolling window are the same everywhere")
            }
            Self::Total | Self::Rolling(_) => Ok(()),
            Self::Hour | Self::Day | Self::Week | Self::Month => Ok(()),
        }
    }

    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// [`WrongWindow`].
    pub fn parse(text: &str) -> Result<Self, WrongWindow> {
        Ok(match text {
            "total" => Self::Total,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            other => match other.strip_prefix("rolling ") {
                Some(length) => Self::Rolling(Rolling::parse(length)?),
                None => return Err(WrongWindow::Kind(other.to_owned())),
            },
        })
    }

    fn first_day(self, day: Date) -> Option<Date> {
        match self {
            Self::Week => {
                let since = day.weekday().since(Weekday::Monday);
                day.checked_sub(Span::new().days(since)).ok()
            }
            Self::Month => Some(day.first_of_month()),
            Self::Day | Self::Total | Self::Hour | Self::Rolling(_) => Some(day),
        }
    }

    fn next_day(self, first: Date) -> Option<Date> {
        let span = match self {
            Self::Week => Span::new().days(7),
            Self::Month => Span::new().months(1),
            Self::Day | Self::Total | Self::Hour | Self::Rolling(_) => Span::new().days(1),
        };
        first.checked_add(span).ok()
    }
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total => f.write_str("total"),
            Self::Hour => f.write_str("hour"),
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
            Self::Rolling(length) => write!(f, "rolling {length}"),
        }
    }
}

impl Serialize for WindowKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rolling(length) => Written::Rolling { rolling: length.to_string() },
            Self::Total | Self::Hour | Self::Day | Self::Week | Self::Month => {
                Written::Word(self.to_string())
            }
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WindowKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = |_| WrongWindow::Kind("something else".to_owned());
        let written =
            Written::deserialize(deserializer).map_err(wrong).map_err(D::Error::custom)?;
        match written {
            Written::Word(word) if word.starts_with("rolling") => Err(WrongWindow::Kind(word)),
            Written::Word(word) => Self::parse(&word),
            Written::Rolling { rolling } => Rolling::parse(&rolling).map(Self::Rolling),
        }
        .map_err(D::Error::custom)
    }
}

/// A kind of window as it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Written {
    Word(String),
    Rolling { rolling: String },
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(None);

    /// The zone of this name.
    ///
    /// # Errors
    /// [`WrongWindow::Zone`].
    pub fn parse(name: &str) -> Result<Self, WrongWindow> {
        static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
        if name.eq_ignore_ascii_case("UTC") {
            return Ok(Self::UTC);
        }
        let zones = ZONES.get_or_init(TimeZoneDatabase::bundled);
        let zone = zones.get(name).map_err(|_| WrongWindow::Zone(name.to_owned()))?;
        Ok(Self(Some(zone)))
    }

    /// Whether it is UTC.
    pub const fn is_utc(&self) -> bool {
        self.0.is_none()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.as_ref().and_then(TimeZone::iana_name).unwrap_or("UTC")
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(D::Error::custom)
    }
}

/// The last multiple of `step` seconds at or before `seconds`, on a clock that is `offset` ahead.
const fn floor(seconds: i64, step: i64, offset: i64) -> WindowKey {
    WindowKey((seconds + offset).div_euclid(step) * step - offset)
}

fn moment(seconds: i64, zone: &TimeZone) -> Option<Zoned> {
    let moment = jiff::Timestamp::from_second(seconds).ok()?;
    Some(moment.to_zoned(zone.clone()))
}

/// The first second of a day: midnight, or what comes after it where the clock skips it.
fn start_of(day: Date, zone: &TimeZone) -> Option<i64> {
    Some(day.to_zoned(zone.clone()).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests;
