//! The ledger.
//!
//! Its insert is on the way of every Call, so a row is one statement into one table with two full
//! indexes; a task that is the Call itself and a user that is the key are kept as NULL, which saves
//! their bytes and, for the task, an index entry. Rows are listed in order of the Call's id, which
//! is the order in which the Calls came in.
//!
//! Invariant: a row moves its money in the transaction that inserts it, and only if it was not
//! there before.

use std::cmp::Ordering;
use std::sync::LazyLock;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Params, Row, Statement, params_from_iter};
use serde::Serialize;
use types::ids::{AttemptId, CallId, KeyId, SessionId, StepId};
use types::{ErrorCode, Money, Stop, Usage};

use super::budgets::{self, Moves};
use super::{SqliteStore, columns};
use crate::budgets::WindowKey;
use crate::error::Error;
use crate::ledger::{CALLS_PAGE_MAX, CallFilter, Charge, Held, Ledger, LedgerRow};
use crate::store::Pending;

impl Ledger for SqliteStore {
    fn calls(&self, filter: CallFilter) -> Pending<Vec<LedgerRow>> {
        self.read(move |conn| list(conn, &filter))
    }

    fn call(&self, id: &CallId) -> Pending<Vec<LedgerRow>> {
        let id = id.clone();
        self.read(move |conn| {
            let mut rows = attempts(conn, &id)?;
            rows.reverse();
            Ok(rows)
        })
    }
}

/// The columns, in the order in which they are written and read.
const COLUMNS: &str = "call, attempt, parent, account, key, user, session, step, task, class, door, kind, name, target,
    model_version, error, stop, input_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
    price_version, cost, unreconciled, reserved, over_bound, output_cap, dropped, started_at, first_content_us,
    total_us, target_us, reused_tokens, charges, metadata, notes, usage_more";

/// How many columns there are.
const COLUMN_COUNT: usize = 39;

/// Rows that one statement takes where there are as many: what a statement costs apart from its
/// rows is as much as a row.
const ROWS_PER_STATEMENT: usize = 8;

/// Whether a row's metadata has every entry of an object.
const HAS_METADATA: &str = "NOT EXISTS (SELECT 1 FROM json_each(?) AS wanted WHERE NOT EXISTS
    (SELECT 1 FROM json_each(ledger.metadata) AS has WHERE has.key = wanted.key AND has.type = wanted.type
    AND has.atom IS wanted.atom))";

/// Inserts rows and moves their money. A row that is there already changes nothing.
pub(super) fn insert(conn: &Connection, rows: &[LedgerRow]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut moves = Moves::default();
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        if rows.len() == ROWS_PER_STATEMENT && insert_all(conn, rows)? {
            for row in rows {
                charge(conn, row, &mut moves)?;
            }
            continue;
        }
        for row in rows {
            if insert_row(conn, row)? {
                charge(conn, row, &mut moves)?;
            }
        }
    }
    moves.write(conn)
}

/// Inserts a full statement of rows. False if one of them was there: then none is inserted.
fn insert_all(conn: &Connection, rows: &[LedgerRow]) -> Result<bool, Error> {
    static SQL: LazyLock<String> = LazyLock::new(|| insert_sql(ROWS_PER_STATEMENT));
    let mut statement = conn.prepare_cached(&SQL)?;
    for (index, row) in rows.iter().enumerate() {
        bind(&mut statement, index * COLUMN_COUNT, row)?;
    }
    match statement.raw_execute() {
        Ok(_) => Ok(true),
        Err(error) if is_duplicate(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// False if it was there.
fn insert_row(conn: &Connection, row: &LedgerRow) -> Result<bool, Error> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("{} ON CONFLICT (call, attempt) DO NOTHING", insert_sql(1)));
    let mut statement = conn.prepare_cached(&SQL)?;
    bind(&mut statement, 0, row)?;
    Ok(statement.raw_execute()? > 0)
}

fn insert_sql(rows: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMN_COUNT].join(", "));
    format!("INSERT INTO ledger ({COLUMNS}) VALUES {}", vec![row; rows].join(", "))
}

fn is_duplicate(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

/// Binds a row to the parameters behind the first `before`. What is NULL is not bound: a statement
/// from the cache has no bindings.
fn bind(statement: &mut Statement<'_>, before: usize, row: &LedgerRow) -> Result<(), Error> {
    let usage = row.usage.as_ref();
    let tokens = |of: fn(&Usage) -> u64| usage.map(|usage| columns::from_count(of(usage)));
    let dropped = columns::list_to_json(&row.dropped)?;
    let charges = columns::list_to_json(&row.charges)?;
    let metadata = unless_empty(&row.metadata, row.metadata.is_empty())?;
    let notes = unless_empty(&row.notes, row.notes.is_empty())?;
    let more = usage.map(|usage| unless_empty(&usage.more, usage.more.is_empty()));
    let more = more.transpose()?.flatten();
    let values: [ToSqlOutput<'_>; COLUMN_COUNT] = [
        text(row.call.as_str()),
        text(row.attempt.as_str()),
        some_text(row.parent.as_ref().map(CallId::as_str)),
        text(&row.account),
        text(row.key.as_str()),
        some_text(unless_equal(&row.user, row.key.as_str())),
        some_text(row.session.as_ref().map(SessionId::as_str)),
        some_text(row.step.as_ref().map(StepId::as_str)),
        some_text(unless_equal(&row.task, row.call.as_str())),
        text(&row.class),
        text(row.door.name()),
        text(&row.kind),
        text(&row.name),
        some_text(unless_equal(&row.target, &row.name)),
        some_text(row.model_version.as_deref()),
        some_text(row.error.map(ErrorCode::name)),
        some_text(row.stop.map(stop_name)),
        some_number(tokens(|usage| usage.input_tokens)),
        some_number(tokens(|usage| usage.cached_tokens)),
        some_number(tokens(|usage| usage.cache_write_tokens)),
        some_number(tokens(|usage| usage.cache_write_1h_tokens).filter(|tokens| *tokens > 0)),
        some_number(tokens(|usage| usage.output_tokens)),
        some_number(tokens(|usage| usage.reasoning_tokens)),
        some_text(row.price_version.as_deref()),
        number(row.cost.nanodollars()),
        number(row.unreconciled.nanodollars()),
        number(row.reserved.nanodollars()),
        number(row.over_bound.into()),
        some_number(row.output_cap.map(columns::from_count)),
        some_text(dropped.as_deref()),
        number(row.started_at.0),
        some_number(row.first_content_us.map(columns::from_count)),
        number(columns::from_count(row.total_us)),
        number(columns::from_count(row.target_us)),
        some_number(row.reused_tokens.map(columns::from_count)),
        some_text(charges.as_deref()),
        some_text(metadata.as_deref()),
        some_text(notes.as_deref()),
        some_text(more.as_deref()),
    ];
    for (index, value) in values.iter().enumerate() {
        if !matches!(value, ToSqlOutput::Borrowed(ValueRef::Null)) {
            statement.raw_bind_parameter(before + index + 1, value)?;
        }
    }
    Ok(())
}

const fn text(text: &str) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
}

fn some_text(some: Option<&str>) -> ToSqlOutput<'_> {
    some.map_or(ToSqlOutput::Borrowed(ValueRef::Null), text)
}

const fn number(number: i64) -> ToSqlOutput<'static> {
    ToSqlOutput::Borrowed(ValueRef::Integer(number))
}

fn some_number(some: Option<i64>) -> ToSqlOutput<'static> {
    some.map_or(ToSqlOutput::Borrowed(ValueRef::Null), number)
}

/// Moves what `row` charges.
fn charge(conn: &Connection, row: &LedgerRow, moves: &mut Moves) -> Result<(), Error> {
    let mut released = Vec::new();
    for charge in &row.charges {
        if let Held::Reservation(id) = &charge.held {
            released.extend(budgets::release(conn, id, moves)?);
        }
    }
    for charge in &row.charges {
        budgets::refuse_negative(charge.settled)?;
        budgets::refuse_negative(charge.unreconciled)?;
        let window = match &charge.held {
            Held::Reservation(_) => held_window(row, charge, &released),
            Held::Slices(parts) => {
                for part in parts {
                    moves.take(&part.slice, part.charged)?;
                    moves.take(&part.slice, part.returned)?;
                }
                charge.window
            }
        };
        // An empty move would open the window.
        if charge.settled + charge.unreconciled > Money::ZERO {
            let amounts = moves.of(charge.budget.as_str(), window);
            amounts.settled += charge.settled;
            amounts.unreconciled += charge.unreconciled;
        }
    }
    Ok(())
}

/// The window in which a reservation held its money: a later one may have been open than the
/// caller's clock said.
fn held_window(row: &LedgerRow, charge: &Charge, released: &[(String, WindowKey)]) -> WindowKey {
    let held = released.iter().find(|(budget, _)| budget == charge.budget.as_str());
    if held.is_none() && charge.settled + charge.unreconciled > Money::ZERO {
        tracing::error!(call = %row.call, attempt = %row.attempt, budget = %charge.budget,
            "charged without a reservation that holds the money");
    }
    held.map_or(charge.window, |(_, window)| *window)
}

/// `None` for a text that another column holds.
fn unless_equal<'a>(text: &'a str, other: &str) -> Option<&'a str> {
    (text != other).then_some(text)
}

/// `None` for an object that has nothing in it.
fn unless_empty<T: Serialize>(object: &T, is_empty: bool) -> Result<Option<String>, Error> {
    (!is_empty).then(|| columns::to_json(object)).transpose()
}

const fn stop_name(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "end",
        Stop::Length => "length",
        Stop::ToolCalls => "tool_calls",
        Stop::ContentFilter => "content_filter",
    }
}

fn list(conn: &Connection, filter: &CallFilter) -> Result<Vec<LedgerRow>, Error> {
    let mut sql = format!("SELECT {COLUMNS} FROM ledger WHERE true");
    let mut values: Vec<Value> = Vec::new();
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        let number = values.len().to_string();
        sql.push_str(" AND ");
        sql.push_str(&condition.replace('?', &format!("?{number}")));
    };
    // The narrowest filter that is set picks its index; a `+` keeps the next one's out of the
    // choice.
    let mut plus = "";
    if let Some(session) = &filter.session {
        and("session = ?", session.as_str().to_owned().into());
        plus = "+";
    }
    if let Some(task) = &filter.task {
        let condition = "(task = ? OR (task IS NULL AND call = ?))";
        and(&condition.replace("task =", &format!("{plus}task =")), task.clone().into());
        plus = "+";
    }
    if let Some(account) = &filter.account {
        and(&format!("{plus}account = ?"), account.clone().into());
    }
    if let Some(key) = &filter.key {
        and("key = ?", key.as_str().to_owned().into());
    }
    if !filter.metadata.is_empty() {
        and(HAS_METADATA, columns::to_json(&filter.metadata)?.into());
    }
    if let Some(before) = &filter.before {
        and("call < ?", before.as_str().to_owned().into());
    }
    if let Some(since) = filter.since {
        // A Call's id is as old as the Call: this bounds what is looked at, the next says it
        // exactly.
        and("call >= ?", columns::oldest_id(CallId::PREFIX, since).into());
        and("started_at >= ?", since.0.into());
    }
    let limit = filter.limit.min(CALLS_PAGE_MAX);
    values.push(i64::try_from(limit).map_err(Error::internal)?.into());
    sql.push_str(&format!(" ORDER BY call DESC, attempt DESC LIMIT ?{}", values.len()));
    let mut rows = query(conn, &sql, params_from_iter(values))?;
    let Some(last) = rows.last().filter(|_| rows.len() == limit).map(|row| row.call.clone()) else {
        rows.sort_by(newest_first);
        return Ok(rows);
    };
    // A page ends between Calls: the next one begins behind a Call, not behind an attempt.
    rows.retain(|row| row.call != last);
    rows.sort_by(newest_first);
    rows.extend(attempts(conn, &last)?);
    Ok(rows)
}

/// The attempts of one Call, newest first.
fn attempts(conn: &Connection, call: &CallId) -> Result<Vec<LedgerRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM ledger WHERE call = ?1");
    let mut rows = query(conn, &sql, [call.as_str()])?;
    rows.sort_by(newest_first);
    Ok(rows)
}

/// By Call, then by when an attempt began: ids of one millisecond come in any order.
fn newest_first(one: &LedgerRow, other: &LedgerRow) -> Ordering {
    let began = |row: &LedgerRow| row.total_us.saturating_sub(row.target_us);
    let by_time = || began(other).cmp(&began(one));
    let calls = other.call.cmp(&one.call);
    calls.then_with(by_time).then_with(|| other.attempt.cmp(&one.attempt))
}

fn query(conn: &Connection, sql: &str, values: impl Params) -> Result<Vec<LedgerRow>, Error> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(values, from_row)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<LedgerRow> {
    let call = columns::id(row, "call", CallId::parse)?;
    let key = columns::id(row, "key", KeyId::parse)?;
    let name: String = row.get("name")?;
    Ok(LedgerRow {
        attempt: columns::id(row, "attempt", AttemptId::parse)?,
        parent: columns::opt_id(row, "parent", CallId::parse)?,
        account: row.get("account")?,
        user: row.get::<_, Option<_>>("user")?.unwrap_or_else(|| key.as_str().to_owned()),
        session: columns::opt_id(row, "session", SessionId::parse)?,
        step: columns::opt_id(row, "step", StepId::parse)?,
        task: row.get::<_, Option<_>>("task")?.unwrap_or_else(|| call.as_str().to_owned()),
        class: row.get("class")?,
        door: columns::name(row, "door")?,
        kind: row.get("kind")?,
        target: row.get::<_, Option<_>>("target")?.unwrap_or_else(|| name.clone()),
        model_version: row.get("model_version")?,
        error: columns::opt_name(row, "error")?,
        stop: columns::opt_name(row, "stop")?,
        usage: usage(row)?,
        price_version: row.get("price_version")?,
        cost: columns::money(row, "cost")?,
        unreconciled: columns::money(row, "unreconciled")?,
        reserved: columns::money(row, "reserved")?,
        over_bound: row.get("over_bound")?,
        output_cap: columns::opt_count(row, "output_cap")?,
        dropped: columns::list_from_json(row, "dropped")?,
        started_at: columns::timestamp(row, "started_at")?,
        first_content_us: columns::opt_count(row, "first_content_us")?,
        total_us: columns::count(row, "total_us")?,
        target_us: columns::count(row, "target_us")?,
        reused_tokens: columns::opt_count(row, "reused_tokens")?,
        charges: columns::list_from_json(row, "charges")?,
        metadata: columns::object_from_json(row, "metadata")?,
        notes: columns::object_from_json(row, "notes")?,
        call,
        key,
        name,
    })
}

/// The usage, unknown where no input tokens are.
fn usage(row: &Row<'_>) -> rusqlite::Result<Option<Usage>> {
    let Some(input_tokens) = columns::opt_count(row, "input_tokens")? else { return Ok(None) };
    Ok(Some(Usage {
        input_tokens,
        cached_tokens: columns::count(row, "cached_tokens")?,
        cache_write_tokens: columns::count(row, "cache_write_tokens")?,
        cache_write_1h_tokens: columns::opt_count(row, "cache_write_1h_tokens")?.unwrap_or(0),
        output_tokens: columns::count(row, "output_tokens")?,
        reasoning_tokens: columns::count(row, "reasoning_tokens")?,
        more: columns::object_from_json(row, "usage_more")?,
    }))
}
