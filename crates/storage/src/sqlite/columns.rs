//! Values between Rust and columns: ids, money, counts and names, in both directions.
//!
//! Reading is strict: a column that does not hold what it must is a damaged database, told as such.

use rusqlite::types::Type;
use rusqlite::{Row, RowIndex};
use serde::de::DeserializeOwned;
use types::{Money, Timestamp};

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
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, crate::Error> {
    serde_json::to_string(value).map_err(crate::Error::internal)
}

/// A column that [`to_json`] made.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<T> {
    let text = row.get_ref(at)?.as_str().map_err(damaged)?;
    serde_json::from_str(text).map_err(damaged)
}

/// The name that serde gives to a unit variant.
pub(super) fn to_name<T: serde::Serialize>(value: &T) -> Result<String, crate::Error> {
    match serde_json::to_value(value).map_err(crate::Error::internal)? {
        serde_json::Value::String(name) => Ok(name),
        other => Err(crate::Error::internal(format!("not a name: {other}"))),
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

/// A column that does not hold what it must.
pub(super) fn damaged(
    reason: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, reason.into())
}
