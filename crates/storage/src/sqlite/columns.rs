//! Values between Rust and columns: ids, money, counts and names, in both directions.
//!
//! Reading is strict: a column that does not hold what it must is a damaged database, told as such.

use rusqlite::types::Type;
use rusqlite::{ErrorCode, Row, RowIndex};
use serde::de::DeserializeOwned;
use types::{Money, Timestamp};

use crate::error::Error;

/// An id column; `parse` is the id type's own.
pub(super) fn id<T>(
    row: &Row<'_>,
    at: impl RowIndex,
    parse: fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    required(opt_id(row, at, parse)?)
}

/// An id column that may be NULL.
pub(super) fn opt_id<T>(
    row: &Row<'_>,
    at: impl RowIndex,
    parse: fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(at)?.as_str_or_null().map_err(damaged)?;
    text.map(|text| parse(text).ok_or_else(|| damaged(format!("not an id: {text}")))).transpose()
}

/// A column that must not be NULL.
pub(super) fn required<T>(value: Option<T>) -> rusqlite::Result<T> {
    value.ok_or_else(|| damaged("NULL where a value must be"))
}

/// A column of nanodollars.
pub(super) fn money(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<Money> {
    row.get(at).map(Money::from_nanodollars)
}

/// A column of microseconds since the epoch.
pub(super) fn timestamp(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<Timestamp> {
    row.get(at).map(Timestamp)
}

/// A count as a column's value. Counts above 2^63 don't occur; one would be kept as the largest.
pub(super) fn from_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count's column.
pub(super) fn count(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<u64> {
    required(opt_count(row, at)?)
}

/// A count's column that may be NULL.
pub(super) fn opt_count(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(at)?;
    value.map(|value| u64::try_from(value).map_err(damaged)).transpose()
}

/// A value as its serde text, for small lists and enums with content.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::internal)
}

/// A column that [`to_json`] made.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<T> {
    let text = row.get_ref(at)?.as_str().map_err(damaged)?;
    serde_json::from_str(text).map_err(damaged)
}

/// A list as JSON, or NULL if it is empty.
pub(super) fn list_to_json<T: serde::Serialize>(list: &[T]) -> Result<Option<String>, Error> {
    if list.is_empty() { Ok(None) } else { to_json(&list).map(Some) }
}

/// A column that [`list_to_json`] made.
pub(super) fn list_from_json<T: DeserializeOwned>(
    row: &Row<'_>,
    at: impl RowIndex,
) -> rusqlite::Result<Vec<T>> {
    let text = row.get_ref(at)?.as_str_or_null().map_err(damaged)?;
    text.map_or(Ok(Vec::new()), |text| serde_json::from_str(text).map_err(damaged))
}

/// An object as JSON, or the empty one where NULL is.
pub(super) fn object_from_json<T: DeserializeOwned + Default>(
    row: &Row<'_>,
    at: impl RowIndex,
) -> rusqlite::Result<T> {
    let text = row.get_ref(at)?.as_str_or_null().map_err(damaged)?;
    text.map_or_else(|| Ok(T::default()), |text| serde_json::from_str(text).map_err(damaged))
}

/// The name that serde gives to a unit variant.
pub(super) fn to_name<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    match serde_json::to_value(value).map_err(Error::internal)? {
        serde_json::Value::String(name) => Ok(name),
        other => Err(Error::internal(format!("not a name: {other}"))),
    }
}

/// A column that [`to_name`] made.
pub(super) fn name<T: DeserializeOwned>(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<T> {
    required(opt_name(row, at)?)
}

/// A column that [`to_name`] made, or NULL.
pub(super) fn opt_name<T: DeserializeOwned>(
    row: &Row<'_>,
    at: impl RowIndex,
) -> rusqlite::Result<Option<T>> {
    let name: Option<String> = row.get(at)?;
    let parse = |name| serde_json::from_value(serde_json::Value::String(name)).map_err(damaged);
    name.map(parse).transpose()
}

/// Says [`Error::Exists`] where an insert failed because its key is taken.
pub(super) fn unless_taken(
    inserted: rusqlite::Result<usize>,
    what: &'static str,
) -> Result<(), Error> {
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Err(Error::Exists { what })
        }
        Err(error) => Err(error.into()),
    }
}

/// The smallest text that an id made at or after `time` can have: what a UUIDv7 in base32 begins
/// with.
pub(super) fn oldest_id(prefix: &str, time: Timestamp) -> String {
    /// Bits of a UUIDv7 that are its time in milliseconds.
    const TIME_BITS: u32 = 48;
    const BITS_PER_CHAR: u32 = 5;
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let millis = u64::try_from(time.millis()).unwrap_or(0);
    let whole_chars = TIME_BITS / BITS_PER_CHAR;
    let digits = (1..=whole_chars).map(|place| {
        let digit = millis >> (TIME_BITS - place * BITS_PER_CHAR) & 31;
        char::from(ALPHABET[usize::try_from(digit).unwrap_or(0)])
    });
    prefix.chars().chain(digits).collect()
}

/// A column that does not hold what it must.
pub(super) fn damaged(
    reason: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, reason.into())
}

#[cfg(test)]
mod tests;
