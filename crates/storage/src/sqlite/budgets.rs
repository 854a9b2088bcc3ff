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
    Budget, Budgets, Claim, ForgetValues, Reconcile, Slice, TopUp, ToppedUp, WindowKey, WindowKind,
    WindowTotals, Zone,
};
use crate::commit::StepReservation;
use crate::error::Error;
use crate::store::Pending;

mod reconcile;
mod top_up;
mod values;

impl Budgets for SqliteStore {
    fn budgets(&self, account: &str) -> Pending<Vec<Budget>> {
        let account = account.to_owned();
        self.read(move |conn| list(conn, &account))
    }

    fn put_budget(&self, budget: Budget) -> Pending<()> {
        self.write(move |conn| put(conn, &budget))
    }

    fn forget_values(&self, asked: Vec<ForgetValues>) -> Pending<Vec<BudgetId>> {
        self.write(move |conn| values::forget(conn, &asked))
    }

    fn delete_budget(&self, id: &BudgetId) -> Pending<bool> {
        let id = id.clone();
        self.write(move |conn| delete(conn, &id))
    }

    fn window(&self, id: &BudgetId, window: Option<WindowKey>) -> Pending<WindowTotals> {
        let id = id.clone();
        self.read(move |conn| {
            let kind = terms(conn, &id)?.map(|(_, kind)| kind);
            match window {
                None => Ok(latest(conn, id.as_str(), kind)?.unwrap_or_default()),
                Some(window) => totals(conn, id.as_str(), kind, window),
            }
        })
    }

    fn top_up(&self, asked: TopUp) -> Pending<ToppedUp> {
        self.write(move |conn| top_up::top_up(conn, &asked))
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
        self.write(move |conn| reconcile::reconcile(conn, &told))
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
    // A budget that was deleted meanwhile limits nothing; a value that was forgotten does.
    let rule = reservation.rules.get(budget);
    let Some((limit, kind)) = terms_or_rules(conn, budget, rule)? else { return Ok(()) };
    let window = open_window(conn, budget, kind, asked)?;
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
    let sql = r#"SELECT id, account, scope, "limit", "window", version, origin, created_at, zone, NULL
                 FROM budgets WHERE account = ?1
                 UNION ALL
                 SELECT made.id, account, made.scope, "limit", "window", version, origin, made.created_at, zone, rule
                 FROM budget_values AS made JOIN budgets ON budgets.id = rule WHERE account = ?1
                 ORDER BY 1"#;
    let from_row = |row: &Row<'_>| {
        Ok(Budget {
            id: columns::id(row, 0, BudgetId::parse)?,
            account: row.get(1)?,
            scope: columns::json(row, 2)?,
            limit: columns::money(row, 3)?,
            window: kind_from(row, 4)?,
            zone: zone_from(row, 8)?,
            version: columns::count(row, 5)?,
            origin: columns::name(row, 6)?,
            created_at: columns::timestamp(row, 7)?,
            rule: columns::opt_id(row, 9, BudgetId::parse)?,
        })
    };
    let budgets =
        conn.prepare_cached(sql)?.query_map([account], from_row)?.collect::<Result<_, _>>()?;
    Ok(budgets)
}

pub(super) fn put(conn: &Connection, budget: &Budget) -> Result<(), Error> {
    if let Some(rule) = &budget.rule {
        return values::put(conn, budget, rule);
    }
    let sql = r#"INSERT OR REPLACE INTO budgets (id, account, scope, "limit", "window", version, origin, created_at, zone)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"#;
    conn.prepare_cached(sql)?.execute(params![
        budget.id.as_str(),
        budget.account,
        columns::to_json(&budget.scope)?,
        budget.limit.nanodollars(),
        budget.window.to_string(),
        columns::from_count(budget.version),
        columns::to_name(&budget.origin)?,
        budget.created_at.0,
        (!budget.zone.is_utc()).then(|| budget.zone.name()),
    ])?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, id: &BudgetId) -> Result<bool, Error> {
    let values = "DELETE FROM budget_values WHERE id = ?1 OR rule = ?1";
    let values = conn.prepare_cached(values)?.execute([id.as_str()])?;
    let sql = "DELETE FROM budgets WHERE id = ?1";
    Ok(conn.prepare_cached(sql)?.execute([id.as_str()])? + values > 0)
}

/// A budget's limit and kind of window; `None` = it is not there.
fn terms(conn: &Connection, id: &BudgetId) -> Result<Option<(Money, WindowKind)>, Error> {
    let sql = r#"SELECT "limit", "window" FROM budgets WHERE id = ?1
                 UNION ALL
                 SELECT "limit", "window" FROM budget_values AS made JOIN budgets ON budgets.id = rule
                 WHERE made.id = ?1"#;
    let from_row = |row: &Row<'_>| Ok((columns::money(row, 0)?, kind_from(row, 1)?));
    Ok(conn.prepare_cached(sql)?.query_row([id.as_str()], from_row).optional()?)
}

/// The same of one that `rule` made: while the rule is there, forgetting a value lifts no limit.
fn terms_or_rules(
    conn: &Connection,
    id: &BudgetId,
    rule: Option<&BudgetId>,
) -> Result<Option<(Money, WindowKind)>, Error> {
    match (terms(conn, id)?, rule) {
        (None, Some(rule)) => terms(conn, rule),
        (terms, _) => Ok(terms),
    }
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

/// The newest window of a budget that was opened, with its amounts.
fn latest(
    conn: &Connection,
    budget: &str,
    kind: Option<WindowKind>,
) -> Result<Option<WindowTotals>, Error> {
    let sql = format!(r#"{TOTALS} ORDER BY "window" DESC LIMIT 1"#);
    let latest = conn.prepare_cached(&sql)?.query_row([budget], totals_from_row).optional()?;
    match (latest, kind) {
        (Some(latest), Some(WindowKind::Rolling(_))) => {
            totals(conn, budget, kind, latest.window).map(Some)
        }
        (latest, _) => Ok(latest),
    }
}

/// The amounts that count in a window: its own, or those of all cells that count together.
fn totals(
    conn: &Connection,
    budget: &str,
    kind: Option<WindowKind>,
    window: WindowKey,
) -> Result<WindowTotals, Error> {
    let before = kind.map_or(WindowKey(window.0 - 1), |kind| kind.before(window));
    let sql = r#"SELECT ?3, SUM(settled), SUM(unreconciled), SUM(presumed), SUM(reserved), SUM(claimed)
                 FROM budget_windows WHERE budget = ?1 AND "window" > ?2 AND "window" <= ?3
                 GROUP BY budget"#;
    let row = conn
        .prepare_cached(sql)?
        .query_row(params![budget, before.0, window.0], totals_from_row)
        .optional()?;
    Ok(row.unwrap_or_else(|| WindowTotals { window, ..WindowTotals::default() }))
}

fn kind_from(row: &Row<'_>, at: usize) -> rusqlite::Result<WindowKind> {
    let text = row.get_ref(at)?.as_str().map_err(columns::damaged)?;
    WindowKind::parse(text).map_err(columns::damaged)
}

fn zone_from(row: &Row<'_>, at: usize) -> rusqlite::Result<Zone> {
    let name = row.get_ref(at)?.as_str_or_null().map_err(columns::damaged)?;
    name.map_or(Ok(Zone::UTC), |name| Zone::parse(name).map_err(columns::damaged))
}

/// The window to take from when the clock says `asked`: a later one that was opened before wins,
/// because a window that ended must never open again. One that is new is opened.
fn open_window(
    conn: &Connection,
    budget: &BudgetId,
    kind: WindowKind,
    asked: WindowKey,
) -> Result<WindowTotals, Error> {
    if let Some(latest) = latest(conn, budget.as_str(), Some(kind))?
        && latest.window >= asked
    {
        return Ok(latest);
    }
    let mut moves = Moves::default();
    moves.of(budget.as_str(), asked);
    moves.write(conn)?;
    totals(conn, budget.as_str(), Some(kind), asked)
}

fn claim(conn: &Connection, asked: Claim) -> Result<Slice, Error> {
    refuse_negative(asked.wanted)?;
    let terms = terms_or_rules(conn, &asked.budget, asked.rule.as_ref())?;
    let Some((limit, kind)) = terms else {
        let Claim { id, budget, window, .. } = asked;
        return Ok(Slice { id, budget, window, amount: Money::ZERO });
    };
    let totals = open_window(conn, &asked.budget, kind, asked.window)?;
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

/// A negative amount would create money that no limit sees.
pub(super) fn refuse_negative(amount: Money) -> Result<(), Error> {
    if amount < Money::ZERO {
        return Err(Error::internal(format!("a negative amount: {amount}")));
    }
    Ok(())
}
