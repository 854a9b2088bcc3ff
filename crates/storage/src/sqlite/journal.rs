//! The journal.

use rusqlite::{Connection, Row, params};
use types::ids::{CallId, ResponseId, SessionId, StepId};

use super::{SqliteStore, columns, sessions};
use crate::error::Error;
use crate::journal::{JOURNAL_PAGE_MAX, Journal, JournalQuery, JournalRow};
use crate::sessions::Fence;
use crate::store::Pending;

impl Journal for SqliteStore {
    fn journal(&self, query: JournalQuery) -> Pending<Vec<JournalRow>> {
        self.read(move |conn| read(conn, &query))
    }
}

/// Appends rows of one commit. Each must be in its session's epoch and have the session's next
/// number.
pub(super) fn append(conn: &Connection, rows: &[JournalRow]) -> Result<(), Error> {
    for run in rows.chunk_by(|one, next| one.session == next.session && one.epoch == next.epoch) {
        count(conn, run)?;
        for row in run {
            insert(conn, row)?;
        }
    }
    Ok(())
}

/// Moves the session's next number behind a run of rows, if they have the numbers from it on.
fn count(conn: &Connection, run: &[JournalRow]) -> Result<(), Error> {
    let Some(first) = run.first() else { return Ok(()) };
    sessions::check_fence(conn, &Fence { session: first.session.clone(), epoch: first.epoch })?;
    let numbered = (first.seq..).zip(run).all(|(seq, row)| row.seq == seq);
    let sql = "UPDATE sessions SET next_seq = next_seq + ?3 WHERE id = ?1 AND next_seq = ?2";
    let counted = conn.prepare_cached(sql)?.execute(params![
        first.session.as_str(),
        columns::from_count(first.seq),
        columns::from_count(run.len() as u64),
    ])?;
    if numbered && counted == 1 { Ok(()) } else { Err(Error::Exists { what: "journal entry" }) }
}

fn insert(conn: &Connection, row: &JournalRow) -> Result<(), Error> {
    let sql = "INSERT INTO journal (session, seq, epoch, kind, response, step, call, at, body, body_sha256)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    conn.prepare_cached(sql)?.execute(params![
        row.session.as_str(),
        columns::from_count(row.seq),
        columns::from_count(row.epoch),
        row.kind,
        row.response.as_str(),
        row.step.as_ref().map(StepId::as_str),
        row.call.as_ref().map(CallId::as_str),
        row.at.0,
        row.body,
        row.body_sha256,
    ])?;
    Ok(())
}

fn read(conn: &Connection, query: &JournalQuery) -> Result<Vec<JournalRow>, Error> {
    let sql = "SELECT session, seq, epoch, kind, response, step, call, at, body, body_sha256 FROM journal
               WHERE session = ?1 AND seq > ?2 AND (?3 IS NULL OR response = ?3) ORDER BY seq LIMIT ?4";
    let limit = query.limit.min(JOURNAL_PAGE_MAX) as u64;
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(
        params![
            query.session.as_str(),
            columns::from_count(query.after),
            query.response.as_ref().map(ResponseId::as_str),
            columns::from_count(limit),
        ],
        from_row,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<JournalRow> {
    Ok(JournalRow {
        session: columns::id(row, 0, SessionId::parse)?,
        seq: columns::count(row, 1)?,
        epoch: columns::count(row, 2)?,
        kind: row.get(3)?,
        response: columns::id(row, 4, ResponseId::parse)?,
        step: columns::opt_id(row, 5, StepId::parse)?,
        call: columns::opt_id(row, 6, CallId::parse)?,
        at: columns::timestamp(row, 7)?,
        body: row.get(8)?,
        body_sha256: row.get(9)?,
    })
}
