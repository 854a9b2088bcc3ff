//! Budgets: limits, windows' amounts, slices and reservations.
//!
//! Invariant, in every transaction: a window's `claimed` is the sum of what remains of its slices,
//! its `reserved` the sum of its reservations, and money is only ever moved between its amounts or
//! taken from what is unclaimed. What a provider billed is recorded whatever is held for it: a hold
//! that is missing is a bug of ours, which is logged, and must never make a bill disappear.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use types::Money;
use types::ids::{BudgetId, NodeId, ReservationId, ResponseId, SliceId};

use super::{SqliteStore, columns};
use crate::budgets::{
    Budget, Budgets, Claim, Reconcile, SEEN_AMOUNT, Slice, Told, WindowKey, WindowTotals,
};
use crate::commit::StepReservation;
use crate::error::Error;
use crate::store::Pending;

impl Budgets for SqliteStore {
    fn budgets(&self, account: &str) -> Pending<Vec<Budget>> {
        let account = account.to_owned();
        self.read(move |conn| list(conn, &account))
    }

    fn put_budget(&self, budget: Budget) -> Pending<()> {
        self.write(move |conn| put(conn, &budget))
    }

    fn delete_budget(&self, id: &BudgetId) -> Pending<bool> {
        let id = id.clone();
        self.write(move |conn| delete(conn, &id))
    }

    fn window(&self, id: &BudgetId, window: Option<WindowKey>) -> Pending<WindowTotals> {
        let id = id.clone();
        self.read(move |conn| match window {
            None => Ok(latest(conn, id.as_str())?.unwrap_or_default()),
            Some(window) => totals(conn, id.as_str(), window),
        })
    }

    fn claim(&self, asked: Claim) -> Pending<Slice> {
        self.write(move |conn| claim(conn, asked))
    }

    fn return_slices(&self, parts: Vec<(SliceId, Money)>) -> Pending<()> {
        self.write(move |conn| {
            let mut moves = Moves::default();
            for (slice, amount) in &parts {
                moves.take(slice, *amount)?;
            }
            moves.write(conn)
        })
    }

    fn presume_open_slices(&self, node: &NodeId) -> Pending<u64> {
        let node = node.clone();
        self.write(move |conn| presume(conn, &node))
    }

    fn reconcile(&self, told: Reconcile) -> Pending<WindowTotals> {
        self.write(move |conn| reconcile(conn, &told))
    }
}

/// What a write changes, summed up so that each row of a window or a slice is written once.
#[derive(Debug, Default)]
pub(super) struct Moves {
    windows: BTreeMap<(String, i64), Amounts>,
    slices: BTreeMap<SliceId, Money>,
}

/// Changes of a window's amounts.
#[derive(Debug, Default)]
pub(super) struct Amounts {
    pub(super) settled: Money,
    pub(super) unreconciled: Money,
    pub(super) presumed: Money,
    pub(super) reserved: Money,
    pub(super) claimed: Money,
}

impl Moves {
    /// The changes of one window.
    pub(super) fn of(&mut self, budget: &str, window: WindowKey) -> &mut Amounts {
        self.windows.entry((budget.to_owned(), window.0)).or_default()
    }

    /// Takes `amount` from what remains of a slice.
    pub(super) fn take(&mut self, slice: &SliceId, amount: Money) -> Result<(), Error> {
        refuse_negative(amount)?;
        match self.slices.get_mut(slice) {
            Some(taken) => *taken += amount,
            None => drop(self.slices.insert(slice.clone(), amount)),
        }
        Ok(())
    }

    /// Writes them.
    pub(super) fn write(mut self, conn: &Connection) -> Result<(), Error> {
        for (slice, amount) in std::mem::take(&mut self.slices) {
            take_from_slice(conn, &slice, amount, &mut self)?;
        }
        let sql = r#"INSERT INTO budget_windows AS old
                     (budget, "window", settled, unreconciled, presumed, reserved, claimed)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT DO UPDATE SET settled = old.settled + ?3, unreconciled = old.unreconciled + ?4,
                     presumed = old.presumed + ?5, reserved = old.reserved + ?6, claimed = old.claimed + ?7"#;
        let mut upsert = conn.prepare_cached(sql)?;
        for ((budget, window), amounts) in &self.windows {
            upsert.execute(params![
                budget,
                window,
                amounts.settled.nanodollars(),
                amounts.unreconciled.nanodollars(),
                amounts.presumed.nanodollars(),
                amounts.reserved.nanodollars(),
                amounts.claimed.nanodollars(),
            ])?;
        }
        Ok(())
    }
}

/// Holds money for steps of `turn`: all of a reservation's budgets or, by the error and the
/// caller's savepoint, none.
pub(super) fn reserve(
    conn: &Connection,
    reservations: &[StepReservation],
    turn: Option<&ResponseId>,
) -> Result<(), Error> {
    for reservation in reservations {
        refuse_negative(reservation.amount)?;
        let mut budgets: Vec<_> = reservation.budgets.iter().collect();
        budgets.sort();
        for (budget, window) in budgets {
            hold(conn, reservation, budget, *window, turn)?;
        }
    }
    Ok(())
}

fn hold(
    conn: &Connection,
    reservation: &StepReservation,
    budget: &BudgetId,
    asked: WindowKey,
    turn: Option<&ResponseId>,
) -> Result<(), Error> {
    // A budget that was deleted meanwhile limits nothing.
    let Some(limit) = limit(conn, budget)? else { return Ok(()) };
    let window = open_window(conn, budget, asked)?;
    let free = limit.minus_or_zero(window.taken());
    if reservation.amount > free {
        return Err(Error::OverLimit { budget: budget.clone(), free, needed: reservation.amount });
    }
    let sql = r#"INSERT INTO reservations (id, budget, "window", amount, response) VALUES (?1, ?2, ?3, ?4, ?5)"#;
    let amount = reservation.amount.nanodollars();
    let inserted = conn.prepare_cached(sql)?.execute(params![
        reservation.id.as_str(),
        budget.as_str(),
        window.window.0,
        amount,
        turn.map(ResponseId::as_str),
    ]);
    columns::unless_taken(inserted, "reservation")?;
    let mut moves = Moves::default();
    moves.of(budget.as_str(), window.window).reserved += reservation.amount;
    moves.write(conn)
}

/// Lets go of all that a reservation holds. Answers budget and window of each part: none if it was
/// let go before.
pub(super) fn release(
    conn: &Connection,
    id: &ReservationId,
    moves: &mut Moves,
) -> Result<Vec<(String, WindowKey)>, Error> {
    let sql = r#"DELETE FROM reservations WHERE id = ?1 RETURNING budget, "window", amount"#;
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_str()])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let (budget, window): (String, _) = (row.get(0)?, WindowKey(row.get(1)?));
        moves.of(&budget, window).reserved -= columns::money(row, 2)?;
        parts.push((budget, window));
    }
    Ok(parts)
}

/// Presumes spent what a turn that has ended still holds: its journal could not be read, so nobody
/// knows what became of its last attempt.
pub(super) fn presume_held_by(conn: &Connection, turn: &ResponseId) -> Result<(), Error> {
    let sql = r#"DELETE FROM reservations WHERE response = ?1 RETURNING budget, "window", amount"#;
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([turn.as_str()])?;
    let mut moves = Moves::default();
    while let Some(row) = rows.next()? {
        let (budget, window): (String, _) = (row.get(0)?, WindowKey(row.get(1)?));
        let amount = columns::money(row, 2)?;
        tracing::warn!(response = turn.as_str(), budget, %amount, "presumed spent");
        let amounts = moves.of(&budget, window);
        amounts.reserved -= amount;
        amounts.presumed += amount;
    }
    moves.write(conn)
}

/// Takes `amount` from what remains of a slice, and closes it when nothing does. More than remains
/// is never taken: that would free, or move, money which the slice does not hold.
fn take_from_slice(
    conn: &Connection,
    id: &SliceId,
    amount: Money,
    moves: &mut Moves,
) -> Result<(), Error> {
    let sql = r#"UPDATE slices SET remaining = remaining - ?2 WHERE id = ?1
                 RETURNING budget, "window", remaining"#;
    let from_row = |row: &Row<'_>| {
        Ok((row.get::<_, String>(0)?, WindowKey(row.get(1)?), columns::money(row, 2)?))
    };
    let taken = conn
        .prepare_cached(sql)?
        .query_row(params![id.as_str(), amount.nanodollars()], from_row)
        .optional()?;
    let Some((budget, window, remaining)) = taken else {
        if amount > Money::ZERO {
            tracing::error!(slice = %id, %amount, "taken from a slice that is not open");
        }
        return Ok(());
    };
    if remaining < Money::ZERO {
        tracing::error!(slice = %id, %amount, %remaining, "taken from a slice more than remained");
    }
    let missing = Money::ZERO.minus_or_zero(remaining);
    moves.of(&budget, window).claimed -= amount - missing;
    if remaining <= Money::ZERO {
        conn.prepare_cached("DELETE FROM slices WHERE id = ?1")?.execute([id.as_str()])?;
    }
    Ok(())
}

fn list(conn: &Connection, account: &str) -> Result<Vec<Budget>, Error> {
    let sql = r#"SELECT id, account, scope, "limit", "window", version, origin, created_at
                 FROM budgets WHERE account = ?1 ORDER BY id"#;
    let from_row = |row: &Row<'_>| {
        Ok(Budget {
            id: columns::id(row, 0, BudgetId::parse)?,
            account: row.get(1)?,
            scope: columns::json(row, 2)?,
            limit: columns::money(row, 3)?,
            window: columns::name(row, 4)?,
            version: columns::count(row, 5)?,
            origin: columns::name(row, 6)?,
            created_at: columns::timestamp(row, 7)?,
        })
    };
    let budgets =
        conn.prepare_cached(sql)?.query_map([account], from_row)?.collect::<Result<_, _>>()?;
    Ok(budgets)
}

pub(super) fn put(conn: &Connection, budget: &Budget) -> Result<(), Error> {
    let sql = r#"INSERT OR REPLACE INTO budgets (id, account, scope, "limit", "window", version, origin, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"#;
    conn.prepare_cached(sql)?.execute(params![
        budget.id.as_str(),
        budget.account,
        columns::to_json(&budget.scope)?,
        budget.limit.nanodollars(),
        columns::to_name(&budget.window)?,
        columns::from_count(budget.version),
        columns::to_name(&budget.origin)?,
        budget.created_at.0,
    ])?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, id: &BudgetId) -> Result<bool, Error> {
    let sql = "DELETE FROM budgets WHERE id = ?1";
    Ok(conn.prepare_cached(sql)?.execute([id.as_str()])? > 0)
}

fn limit(conn: &Connection, id: &BudgetId) -> Result<Option<Money>, Error> {
    let sql = r#"SELECT "limit" FROM budgets WHERE id = ?1"#;
    let from_row = |row: &Row<'_>| columns::money(row, 0);
    Ok(conn.prepare_cached(sql)?.query_row([id.as_str()], from_row).optional()?)
}

/// Columns of [`WindowTotals`], in the order of [`totals_from_row`].
const TOTALS: &str = r#"SELECT "window", settled, unreconciled, presumed, reserved, claimed
                        FROM budget_windows WHERE budget = ?1"#;

fn totals_from_row(row: &Row<'_>) -> rusqlite::Result<WindowTotals> {
    Ok(WindowTotals {
        window: WindowKey(row.get(0)?),
        settled: columns::money(row, 1)?,
        unreconciled: columns::money(row, 2)?,
        presumed: columns::money(row, 3)?,
        reserved: columns::money(row, 4)?,
        claimed: columns::money(row, 5)?,
    })
}

fn latest(conn: &Connection, budget: &str) -> Result<Option<WindowTotals>, Error> {
    let sql = format!(r#"{TOTALS} ORDER BY "window" DESC LIMIT 1"#);
    Ok(conn.prepare_cached(&sql)?.query_row([budget], totals_from_row).optional()?)
}

fn totals(conn: &Connection, budget: &str, window: WindowKey) -> Result<WindowTotals, Error> {
    let sql = format!(r#"{TOTALS} AND "window" = ?2"#);
    let row = conn
        .prepare_cached(&sql)?
        .query_row(params![budget, window.0], totals_from_row)
        .optional()?;
    Ok(row.unwrap_or_else(|| WindowTotals { window, ..WindowTotals::default() }))
}

/// The window to take from when the clock says `asked`: a later one that was opened before wins,
/// because a window that ended must never open again. One that is new is opened.
fn open_window(
    conn: &Connection,
    budget: &BudgetId,
    asked: WindowKey,
) -> Result<WindowTotals, Error> {
    if let Some(latest) = latest(conn, budget.as_str())?
        && latest.window >= asked
    {
        return Ok(latest);
    }
    let mut moves = Moves::default();
    moves.of(budget.as_str(), asked);
    moves.write(conn)?;
    Ok(WindowTotals { window: asked, ..WindowTotals::default() })
}

fn claim(conn: &Connection, asked: Claim) -> Result<Slice, Error> {
    refuse_negative(asked.wanted)?;
    let Some(limit) = limit(conn, &asked.budget)? else {
        let Claim { id, budget, window, .. } = asked;
        return Ok(Slice { id, budget, window, amount: Money::ZERO });
    };
    let totals = open_window(conn, &asked.budget, asked.window)?;
    let amount = asked.wanted.min(limit.minus_or_zero(totals.taken()));
    let slice = Slice { id: asked.id, budget: asked.budget, window: totals.window, amount };
    if amount == Money::ZERO {
        return Ok(slice);
    }
    let sql = r#"INSERT INTO slices (id, budget, "window", node, amount, remaining)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)"#;
    let inserted = conn.prepare_cached(sql)?.execute(params![
        slice.id.as_str(),
        slice.budget.as_str(),
        slice.window.0,
        asked.node.as_str(),
        amount.nanodollars(),
    ]);
    columns::unless_taken(inserted, "slice")?;
    let mut moves = Moves::default();
    moves.of(slice.budget.as_str(), slice.window).claimed += amount;
    moves.write(conn)?;
    Ok(slice)
}

fn presume(conn: &Connection, node: &NodeId) -> Result<u64, Error> {
    let sql = r#"DELETE FROM slices WHERE node <> ?1 RETURNING budget, "window", remaining"#;
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([node.as_str()])?;
    let mut moves = Moves::default();
    let mut closed = 0;
    while let Some(row) = rows.next()? {
        let budget: String = row.get(0)?;
        let remaining = columns::money(row, 2)?;
        let amounts = moves.of(&budget, WindowKey(row.get(1)?));
        amounts.claimed -= remaining;
        amounts.presumed += remaining;
        closed += 1;
    }
    moves.write(conn)?;
    Ok(closed)
}

fn reconcile(conn: &Connection, told: &Reconcile) -> Result<WindowTotals, Error> {
    let budget = told.budget.as_str();
    let before = conn
        .prepare_cached(&format!(r#"{TOTALS} AND "window" = ?2"#))?
        .query_row(params![budget, told.window.0], totals_from_row)
        .optional()?;
    let Some(before) = before else { return Err(Error::NotFound { what: "window" }) };
    let mut moves = Moves::default();
    let amounts = moves.of(budget, told.window);
    amounts.presumed -= take_seen(told.presumed, before.presumed)?;
    amounts.unreconciled -= take_seen(told.unreconciled, before.unreconciled)?;
    let charged = [told.presumed, told.unreconciled].into_iter().flatten();
    amounts.settled += charged.map(|told| told.charged).sum::<Money>();
    moves.write(conn)?;
    remember(conn, told)?;
    totals(conn, budget, told.window)
}

/// What is taken from an amount of which `there` is left: what was seen of it, and no more.
fn take_seen(told: Option<Told>, there: Money) -> Result<Money, Error> {
    let Some(told) = told else { return Ok(Money::ZERO) };
    refuse_negative(told.seen)?;
    refuse_negative(told.charged)?;
    if told.seen > there {
        return Err(Error::NotFound { what: SEEN_AMOUNT });
    }
    Ok(told.seen)
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

/// A negative amount would create money that no limit sees.
pub(super) fn refuse_negative(amount: Money) -> Result<(), Error> {
    if amount < Money::ZERO {
        return Err(Error::internal(format!("a negative amount: {amount}")));
    }
    Ok(())
}
