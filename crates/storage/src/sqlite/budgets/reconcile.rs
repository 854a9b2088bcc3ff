//! What a provider really charged, in place of what was presumed or is unreconciled.
//!
//! Invariant: exactly what an operator saw is moved, or nothing is.

use rusqlite::{Connection, params};
use types::Money;

use super::{Moves, TOTALS, refuse_negative, terms, totals, totals_from_row};
use crate::budgets::{Reconcile, SEEN_AMOUNT, Told, WindowKey, WindowKind, WindowTotals};
use crate::error::Error;

/// Takes it, and answers the window's amounts.
pub(super) fn reconcile(conn: &Connection, told: &Reconcile) -> Result<WindowTotals, Error> {
    let budget = told.budget.as_str();
    let kind = terms(conn, &told.budget)?.map(|(_, kind)| kind);
    let cells = cells(conn, budget, kind, told.window)?;
    if cells.is_empty() {
        return Err(Error::NotFound { what: "window" });
    }
    let mut moves = Moves::default();
    let presumed = cells.iter().map(|cell| (cell.window, cell.presumed));
    for (window, taken, charged) in spread(told.presumed, presumed)? {
        let amounts = moves.of(budget, window);
        amounts.presumed -= taken;
        amounts.settled += charged;
    }
    let unreconciled = cells.iter().map(|cell| (cell.window, cell.unreconciled));
    for (window, taken, charged) in spread(told.unreconciled, unreconciled)? {
        let amounts = moves.of(budget, window);
        amounts.unreconciled -= taken;
        amounts.settled += charged;
    }
    moves.write(conn)?;
    remember(conn, told)?;
    totals(conn, budget, kind, told.window)
}

/// The rows that count in a window, oldest first.
fn cells(
    conn: &Connection,
    budget: &str,
    kind: Option<WindowKind>,
    window: WindowKey,
) -> Result<Vec<WindowTotals>, Error> {
    let before = kind.map_or(WindowKey(window.0 - 1), |kind| kind.before(window));
    let sql = format!(r#"{TOTALS} AND "window" > ?2 AND "window" <= ?3 ORDER BY "window""#);
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params![budget, before.0, window.0], totals_from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How much is taken from each cell of what was seen, and charged there instead. What was charged
/// beyond what was seen is charged in the last one.
fn spread(
    told: Option<Told>,
    cells: impl Iterator<Item = (WindowKey, Money)>,
) -> Result<Vec<(WindowKey, Money, Money)>, Error> {
    let Some(Told { seen, charged }) = told else { return Ok(Vec::new()) };
    refuse_negative(seen)?;
    refuse_negative(charged)?;
    let (mut seen_left, mut charged_left) = (seen, charged);
    let mut spread = Vec::new();
    for (window, there) in cells {
        let taken = seen_left.min(there);
        let paid = charged_left.min(taken);
        seen_left -= taken;
        charged_left -= paid;
        spread.push((window, taken, paid));
    }
    if seen_left > Money::ZERO {
        return Err(Error::NotFound { what: SEEN_AMOUNT });
    }
    if let Some((_, _, paid)) = spread.last_mut() {
        *paid += charged_left;
    }
    Ok(spread)
}

/// Keeps who said what, beside what it replaced.
fn remember(conn: &Connection, told: &Reconcile) -> Result<(), Error> {
    let sql = r#"INSERT INTO reconciliations (budget, "window", at, operator, presumed_before, presumed_charged,
                 unreconciled_before, unreconciled_charged) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"#;
    let seen = |told: Option<Told>| told.map_or(0, |told| told.seen.nanodollars());
    let charged = |told: Option<Told>| told.map(|told| told.charged.nanodollars());
    conn.prepare_cached(sql)?.execute(params![
        told.budget.as_str(),
        told.window.0,
        told.at.0,
        told.operator,
        seen(told.presumed),
        charged(told.presumed),
        seen(told.unreconciled),
        charged(told.unreconciled),
    ])?;
    Ok(())
}
