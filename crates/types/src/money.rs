//! Money in integers: [`Money`] counts nanodollars, a [`Rate`] picodollars per unit. No float
//! touches either.
//!
//! A Call's cost is summed exactly (in 128 bits) and rounded up once, at the end. In files and in
//! the API money is a decimal string of dollars; [`Money::parse`] and `Display` are the two
//! directions.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanodollars in a dollar.
pub const NANODOLLARS_PER_DOLLAR: i64 = 1_000_000_000;
/// Picodollars in a nanodollar.
pub(crate) const PICODOLLARS_PER_NANODOLLAR: u128 = 1_000;
/// Decimal places of a dollar that [`Money`] holds.
const MONEY_PLACES: u32 = 9;
/// Decimal places of "dollars per million units" that a [`Rate`] holds: 10⁻⁶ dollars per million is
/// one picodollar each.
const RATE_PER_MILLION_PLACES: u32 = 6;

/// An amount in nanodollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);

    /// An amount of nanodollars.
    pub const fn from_nanodollars(nanodollars: i64) -> Self {
        Self(nanodollars)
    }

    /// The amount in nanodollars.
    pub const fn nanodollars(self) -> i64 {
        self.0
    }

    /// Reads a decimal string of dollars such as `"5.00"` or `"0.000123"`.
    ///
    /// # Errors
    /// Says what is wrong with the text: sign, more than nine decimals, not a number, too large.
    pub fn parse(text: &str) -> Result<Self, ParseMoneyError> {
        let nanodollars = parse_decimal(text, MONEY_PLACES)?;
        i64::try_from(nanodollars).map(Self).map_err(|_| ParseMoneyError::TooLarge)
    }

    /// `self - other`, or zero if that would be less.
    #[must_use]
    pub fn minus_or_zero(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// `self + other`, never above [`Money::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// `self × factor`, never above [`Money::MAX`].
    #[must_use]
    pub const fn times(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// `self ÷ divisor`, rounded down. `divisor` is at least 1.
    #[must_use]
    pub fn divided_by(self, divisor: i64) -> Self {
        Self(self.0 / divisor.max(1))
    }

    pub(crate) fn from_picodollars_rounded_up(picodollars: u128) -> Self {
        let nanodollars = picodollars.div_ceil(PICODOLLARS_PER_NANODOLLAR);
        Self(i64::try_from(nanodollars).unwrap_or(i64::MAX))
    }
}

// Amounts stop at the ends of the range instead of wrapping or panicking: what a hostile provider
// reports must not take a budget's whole account of money down with it.
impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// Decimals of a dollar that are kept.
const DECIMALS: u32 = 9;
/// Decimals that are shown at least.
const DECIMALS_MIN: u32 = 2;
/// Characters of the longest amount, `-9223372036.854775808`.
const CHARS_MAX: usize = 21;

impl fmt::Display for Money {
    /// Dollars with as many decimals as the amount has, at least two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digit by digit from the last one on: a ledger row has half a dozen amounts, and `write!`
        // takes several times as long for each.
        let mut text = [0; CHARS_MAX];
        let mut at = CHARS_MAX;
        let mut put = |byte: u8| {
            at -= 1;
            text[at] = byte;
        };
        let (mut rest, mut place, mut is_zero) = (self.0.unsigned_abs(), 0, true);
        while place <= DECIMALS || rest > 0 {
            if place == DECIMALS {
                put(b'.');
            }
            let digit = u8::try_from(rest % 10).unwrap_or_default();
            is_zero &= digit == 0;
            if !is_zero || place >= DECIMALS - DECIMALS_MIN {
                put(b'0' + digit);
            }
            rest /= 10;
            place += 1;
        }
        if self.0 < 0 {
            put(b'-');
        }
        f.write_str(std::str::from_utf8(&text[at..]).unwrap_or_default())
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a text is no amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseMoneyError {
    /// Empty, signed, or with characters that no decimal number has.
    #[error("is not a decimal number of dollars such as \"0.25\"")]
    NotANumber,
    /// More decimals than can be kept exactly.
    #[error("has more decimals than can be kept exactly (at most {0})")]
    TooPrecise(u32),
    /// Above nine billion dollars.
    #[error("is too large")]
    TooLarge,
}

/// `text × 10^places` exactly.
fn parse_decimal(text: &str, places: u32) -> Result<u64, ParseMoneyError> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || text.ends_with('.') {
        return Err(ParseMoneyError::NotANumber);
    }
    let decimals = decimals.trim_end_matches('0');
    let count = u32::try_from(decimals.len()).map_err(|_| ParseMoneyError::TooPrecise(places))?;
    if count > places {
        return Err(ParseMoneyError::TooPrecise(places));
    }
    let number: u64 =
        format!("{whole}{decimals}").parse().map_err(|_| ParseMoneyError::TooLarge)?;
    number.checked_mul(10u64.pow(places - count)).ok_or(ParseMoneyError::TooLarge)
}

/// A price of one unit, in picodollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// Nothing.
    pub const FREE: Self = Self(0);

    /// Picodollars per unit.
    pub const fn from_picodollars(picodollars: u64) -> Self {
        Self(picodollars)
    }

    /// Picodollars per unit.
    pub const fn picodollars(self) -> u64 {
        self.0
    }

    /// Reads "dollars per million units" such as `"0.40"`.
    ///
    /// # Errors
    /// Says what is wrong with the text; six decimals can be kept exactly.
    pub fn parse_per_million(text: &str) -> Result<Self, ParseMoneyError> {
        parse_decimal(text, RATE_PER_MILLION_PLACES).map(Self)
    }

    /// The price in dollars per million units, as [`Rate::parse_per_million`] reads it.
    pub fn per_million(self) -> String {
        let scale = 10u64.pow(RATE_PER_MILLION_PLACES);
        let decimals = format!("{:06}", self.0 % scale);
        let shown = decimals.trim_end_matches('0').len().max(2);
        format!("{}.{}", self.0 / scale, &decimals[..shown])
    }

    pub(crate) fn of(self, units: u64) -> u128 {
        u128::from(self.0) * u128::from(units)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.per_million())
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_per_million(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
