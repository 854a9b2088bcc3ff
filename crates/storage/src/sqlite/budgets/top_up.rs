//! Money that is put to what a budget in total allows.
//!
//! Invariant: one key raises the limit once.

use rusqlite::{Connection, OptionalExtension, Row, params};
use types::Money;

use crate::budgets::{TopUp, ToppedUp};
use crate::error::Error;
use crate::sqlite::columns;

/// Raises the limit, unless this key has done so before.
pub(super) fn top_up(conn: &Connection, asked: &TopUp) -> Result<ToppedUp, Error> {
    super::refuse_negative(asked.amount)?;
    let before = amount_of(conn, asked)?;
    if before.is_some_and(|before| before != asked.amount) {
        return Err(Error::Exists { what: "top-up" });
    }
    let is_new = before.is_none();
    if is_new {
        let sql =
            "INSERT INTO top_ups (budget, key, amount, operator, at) VALUES (?1, ?2, ?3, ?4, ?5)";
        conn.prepare_cached(sql)?.execute(params![
            asked.budget.as_str(),
            asked.key,
            asked.amount.nanodollars(),
            asked.operator,
            asked.at.0,
        ])?;
    }
    let added = if is_new { asked.amount } else { Money::ZERO };
    let sql = r#"UPDATE budgets SET "limit" = "limit" + ?2, version = version + ?3,
                 origin = CASE WHEN ?3 = 1 THEN 'api' ELSE origin END
                 WHERE id = ?1 RETURNING "limit", version"#;
    let from_row = |row: &Row<'_>| {
        Ok(ToppedUp { limit: columns::money(row, 0)?, version: columns::count(row, 1)?, is_new })
    };
    let arguments = params![asked.budget.as_str(), added.nanodollars(), i64::from(is_new)];
    let topped_up = conn.prepare_cached(sql)?.query_row(arguments, from_row).optional()?;
    topped_up.ok_or(Error::NotFound { what: "budget" })
}

fn amount_of(conn: &Connection, asked: &TopUp) -> Result<Option<Money>, Error> {
    let sql = "SELECT amount FROM top_ups WHERE budget = ?1 AND key = ?2";
    let from_row = |row: &Row<'_>| columns::money(row, 0);
    let arguments = params![asked.budget.as_str(), asked.key];
    Ok(conn.prepare_cached(sql)?.query_row(arguments, from_row).optional()?)
}
