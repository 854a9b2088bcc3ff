//! Sessions and their leases.

use rusqlite::{Connection, OptionalExtension, Row, params};
use types::Timestamp;
use types::ids::{NodeId, ResponseId, SessionId};

use super::{SqliteStore, columns, responses};
use crate::error::Error;
use crate::sessions::{
    EXPIRE_MAX, Fence, Forgotten, SESSIONS_PAGE_MAX, Session, SessionFilter, SessionState,
    SessionWrite, Sessions,
};
use crate::store::Pending;

const COLUMNS: &str =
    "id, account, user, name, root, forked_from, epoch, owner, state, newest, next_seq, created_at,
                       last_used_at";

impl Sessions for SqliteStore {
    fn session(&self, id: &SessionId) -> Pending<Option<Session>> {
        let id = id.clone();
        self.read(move |conn| get(conn, &id))
    }

    fn sessions(&self, filter: SessionFilter) -> Pending<Vec<Session>> {
        self.read(move |conn| list(conn, &filter))
    }

    fn name_session(&self, new: Session) -> Pending<Session> {
        self.write(move |conn| name(conn, &new))
    }

    fn acquire(&self, session: &SessionId, node: &NodeId) -> Pending<Option<Session>> {
        let (session, node) = (session.clone(), node.clone());
        self.write(move |conn| acquire(conn, &session, &node))
    }

    fn expire_sessions(&self, unused_since: Timestamp, now: Timestamp) -> Pending<u64> {
        self.erase(move |conn| expire(conn, unused_since, now), |removed| *removed > 0)
    }

    fn forgotten(&self, after: u64, limit: usize) -> Pending<Vec<Forgotten>> {
        self.read(move |conn| forgotten(conn, after, limit))
    }

    fn forgotten_everywhere(&self, number: u64) -> Pending<()> {
        self.write(move |conn| {
            let sql = "DELETE FROM forgotten WHERE number = ?1";
            conn.prepare_cached(sql)?.execute([columns::from_count(number)])?;
            Ok(())
        })
    }
}

/// Refuses unless the session is in that epoch.
pub(super) fn check_fence(conn: &Connection, fence: &Fence) -> Result<(), Error> {
    let sql = "SELECT 1 FROM sessions WHERE id = ?1 AND epoch = ?2";
    let current = conn
        .prepare_cached(sql)?
        .query_row(params![fence.session.as_str(), columns::from_count(fence.epoch)], |_| Ok(()))
        .optional()?;
    current.ok_or_else(|| Error::Fenced { session: fence.session.clone() })
}

/// Applies one change.
pub(super) fn write(conn: &Connection, write: &SessionWrite) -> Result<(), Error> {
    match write {
        SessionWrite::Open(session) => insert(conn, session),
        SessionWrite::Update { session, state, newest, last_used_at } => {
            let sql = "UPDATE sessions SET newest = coalesce(?2, newest), last_used_at = max(last_used_at, ?3)
                       WHERE id = ?1";
            let found = conn.prepare_cached(sql)?.execute(params![
                session.as_str(),
                newest.as_ref().map(ResponseId::as_str),
                last_used_at.0,
            ])?;
            // Apart: naming the state moves its index entry, and few steps change it.
            let sql = "UPDATE sessions SET state = ?2 WHERE id = ?1 AND state <> ?2";
            conn.prepare_cached(sql)?.execute([session.as_str(), state.name()])?;
            if found == 1 { Ok(()) } else { Err(Error::NotFound { what: "session" }) }
        }
    }
}

fn insert(conn: &Connection, session: &Session) -> Result<(), Error> {
    if get(conn, &session.id)?.is_some() {
        return Err(Error::Exists { what: "session" });
    }
    let sql = format!(
        "INSERT INTO sessions ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
    );
    conn.prepare_cached(&sql)?.execute(params![
        session.id.as_str(),
        session.account,
        session.user,
        session.name,
        session.root.as_str(),
        session.forked_from.as_ref().map(SessionId::as_str),
        columns::from_count(session.epoch),
        session.owner.as_ref().map(NodeId::as_str),
        session.state.name(),
        session.newest.as_ref().map(ResponseId::as_str),
        columns::from_count(session.next_seq),
        session.created_at.0,
        session.last_used_at.0,
    ])?;
    Ok(())
}

fn get(conn: &Connection, id: &SessionId) -> Result<Option<Session>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1");
    Ok(conn.prepare_cached(&sql)?.query_row([id.as_str()], from_row).optional()?)
}

fn list(conn: &Connection, filter: &SessionFilter) -> Result<Vec<Session>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM sessions
         WHERE (?1 IS NULL OR account = ?1) AND (?2 IS NULL OR user = ?2) AND (?3 IS NULL OR state = ?3)
           AND (?4 IS NULL OR id < ?4)
         ORDER BY id DESC LIMIT ?5"
    );
    let limit = filter.limit.min(SESSIONS_PAGE_MAX) as u64;
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(
        params![
            filter.account,
            filter.user,
            filter.state.map(SessionState::name),
            filter.before.as_ref().map(SessionId::as_str),
            columns::from_count(limit),
        ],
        from_row,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn name(conn: &Connection, new: &Session) -> Result<Session, Error> {
    let sql =
        format!("SELECT {COLUMNS} FROM sessions WHERE account = ?1 AND user = ?2 AND name = ?3");
    let found = conn
        .prepare_cached(&sql)?
        .query_row(params![new.account, new.user, new.name], from_row)
        .optional()?;
    let Some(mut found) = found else {
        insert(conn, new)?;
        return Ok(new.clone());
    };
    found.last_used_at = found.last_used_at.max(new.last_used_at);
    conn.prepare_cached("UPDATE sessions SET last_used_at = ?2 WHERE id = ?1")?
        .execute(params![found.id.as_str(), found.last_used_at.0])?;
    Ok(found)
}

fn acquire(
    conn: &Connection,
    session: &SessionId,
    node: &NodeId,
) -> Result<Option<Session>, Error> {
    let sql = "UPDATE sessions SET epoch = epoch + 1, owner = ?2 WHERE id = ?1 AND owner IS NOT ?2";
    conn.prepare_cached(sql)?.execute(params![session.as_str(), node.as_str()])?;
    get(conn, session)
}

fn expire(conn: &Connection, unused_since: Timestamp, now: Timestamp) -> Result<u64, Error> {
    let sql = "SELECT id FROM responses
               WHERE deleted_at IS NULL AND finished_at IS NOT NULL AND session IN (
                   SELECT id FROM sessions WHERE root NOT IN (
                       SELECT root FROM sessions WHERE last_used_at >= ?1 OR state <> 'idle'))
               LIMIT ?2";
    let ids = conn
        .prepare_cached(sql)?
        .query_map(params![unused_since.0, columns::from_count(EXPIRE_MAX as u64)], |row| {
            columns::id(row, 0, ResponseId::parse)
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut removed = 0;
    for id in &ids {
        removed += u64::from(responses::delete(conn, id, now)?);
    }
    forget_named(conn, unused_since, now)?;
    Ok(removed)
}

/// Forgets sessions that stateless Calls named and did not use since.
fn forget_named(conn: &Connection, unused_since: Timestamp, now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE sessions SET forgotten_at = ?2 WHERE name IS NOT NULL AND last_used_at < ?1
                   AND (forgotten_at IS NULL OR forgotten_at < last_used_at)
               RETURNING account, id";
    let mut statement = conn.prepare_cached(sql)?;
    let unused = statement
        .query_map([unused_since.0, now.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(String, String)>, _>>()?;
    let sql = "INSERT OR REPLACE INTO forgotten (account, session) VALUES (?1, ?2)";
    for (account, session) in unused {
        conn.prepare_cached(sql)?.execute([account, session])?;
    }
    Ok(())
}

fn forgotten(conn: &Connection, after: u64, limit: usize) -> Result<Vec<Forgotten>, Error> {
    let sql =
        "SELECT number, account, session FROM forgotten WHERE number > ?1 ORDER BY number LIMIT ?2";
    let limit = columns::from_count(limit.min(SESSIONS_PAGE_MAX) as u64);
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([columns::from_count(after), limit], |row| {
        Ok(Forgotten {
            number: columns::count(row, 0)?,
            account: row.get(1)?,
            session: columns::id(row, 2, SessionId::parse)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Session> {
    let state: String = row.get(8)?;
    Ok(Session {
        id: columns::id(row, 0, SessionId::parse)?,
        account: row.get(1)?,
        user: row.get(2)?,
        name: row.get(3)?,
        root: columns::id(row, 4, SessionId::parse)?,
        forked_from: columns::opt_id(row, 5, SessionId::parse)?,
        epoch: columns::count(row, 6)?,
        owner: columns::opt_id(row, 7, NodeId::parse)?,
        state: columns::required(SessionState::parse(&state))?,
        newest: columns::opt_id(row, 9, ResponseId::parse)?,
        next_seq: columns::count(row, 10)?,
        created_at: columns::timestamp(row, 11)?,
        last_used_at: columns::timestamp(row, 12)?,
    })
}
