//! Stored responses, their events and items.

use rusqlite::{Connection, OptionalExtension, Row, params};
use types::Timestamp;
use types::ids::{KeyId, ResponseId, SessionId};

use super::{SqliteStore, budgets, columns, events};
use crate::error::Error;
use crate::responses::{
    CHAIN_MAX, Chain, Deletion, ItemRow, Link, Post, PostQuery, Response, ResponseEvent,
    ResponseWrite, Responses, Status,
};
use crate::store::Pending;

const COLUMNS: &str = "id, session, account, user, key, previous, position, status, background, stream, idempotency_key,
                       path, body_sha256, request, input, response, created_at, finished_at, delivered_at, deleted_at";

impl Responses for SqliteStore {
    fn response(&self, id: &ResponseId) -> Pending<Option<Response>> {
        let id = id.clone();
        self.read(move |conn| get(conn, &id))
    }

    fn chain(&self, id: &ResponseId, bytes_max: u64) -> Pending<Chain> {
        let id = id.clone();
        self.read(move |conn| chain(conn, id, bytes_max))
    }

    fn responses_of(&self, session: &SessionId) -> Pending<Vec<Response>> {
        let session = session.clone();
        self.read(move |conn| {
            let sql = format!(
                "SELECT {COLUMNS} FROM responses WHERE session = ?1 ORDER BY created_at, id"
            );
            let mut statement = conn.prepare_cached(&sql)?;
            let rows = statement.query_map([session.as_str()], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn open_responses(&self) -> Pending<Vec<Response>> {
        self.read(|conn| {
            let sql = format!(
                "SELECT {COLUMNS} FROM responses WHERE finished_at IS NULL ORDER BY created_at, id"
            );
            let mut statement = conn.prepare_cached(&sql)?;
            let rows = statement.query_map([], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn response_events(
        &self,
        id: &ResponseId,
        from: u64,
        limit: usize,
    ) -> Pending<Vec<ResponseEvent>> {
        let id = id.clone();
        self.read(move |conn| events::read(conn, &id, from, limit))
    }

    fn item(&self, account: &str, user: &str, item: &str) -> Pending<Option<ItemRow>> {
        let (account, user, item) = (account.to_owned(), user.to_owned(), item.to_owned());
        self.read(move |conn| {
            let sql = "SELECT account, user, item, response, body FROM items
                       WHERE account = ?1 AND user = ?2 AND item = ?3";
            let found = conn.prepare_cached(sql)?.query_row([account, user, item], item_from_row);
            Ok(found.optional()?)
        })
    }

    fn find_post(&self, query: PostQuery) -> Pending<Option<Response>> {
        self.read(move |conn| find_post(conn, &query))
    }

    fn mark_delivered(&self, id: &ResponseId, at: Timestamp) -> Pending<()> {
        let id = id.clone();
        self.write(move |conn| {
            let sql =
                "UPDATE responses SET delivered_at = coalesce(delivered_at, ?2) WHERE id = ?1";
            conn.prepare_cached(sql)?.execute(params![id.as_str(), at.0])?;
            Ok(())
        })
    }

    fn delete_response(&self, id: &ResponseId, at: Timestamp) -> Pending<Deletion> {
        let id = id.clone();
        let work = move |conn: &Connection| match in_use(conn, &id)? {
            Some(open) => Ok(Deletion::InUse(open)),
            None if delete(conn, &id, at)? => Ok(Deletion::Done),
            None => Ok(Deletion::NotFound),
        };
        self.erase(work, |deletion| *deletion == Deletion::Done)
    }
}

/// Applies one change.
pub(super) fn write(conn: &Connection, write: &ResponseWrite) -> Result<(), Error> {
    match write {
        ResponseWrite::Open(response) => insert(conn, response),
        ResponseWrite::Close { id, status, response, finished_at } => {
            let sql = "UPDATE responses SET status = ?2, response = ?3, finished_at = ?4
                       WHERE id = ?1 AND finished_at IS NULL";
            let changed = conn.prepare_cached(sql)?.execute(params![
                id.as_str(),
                status.name(),
                response,
                finished_at.0
            ])?;
            if changed != 1 {
                return Err(Error::NotFound { what: "open response" });
            }
            forget_if_deleted(conn, id)?;
            budgets::presume_held_by(conn, id)
        }
    }
}

fn insert(conn: &Connection, response: &Response) -> Result<(), Error> {
    if get(conn, &response.id)?.is_some() {
        return Err(Error::Exists { what: "response" });
    }
    if let Some(previous) = &response.previous
        && lacks_history(conn, previous)?
    {
        return Err(Error::NotFound { what: "history of a response" });
    }
    let sql = format!(
        "INSERT INTO responses ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"
    );
    conn.prepare_cached(&sql)?.execute(params![
        response.id.as_str(),
        response.session.as_str(),
        response.account,
        response.user,
        response.key.as_str(),
        response.previous.as_ref().map(ResponseId::as_str),
        columns::from_count(response.position),
        response.status.name(),
        response.background,
        response.stream,
        response.post.idempotency_key,
        response.post.path,
        response.post.body_sha256,
        response.request,
        response.input,
        response.response,
        response.created_at.0,
        response.finished_at.map(|at| at.0),
        response.delivered_at.map(|at| at.0),
        response.deleted_at.map(|at| at.0),
    ])?;
    Ok(())
}

/// Makes items findable. A client may send an item again under its id: the newest wins.
pub(super) fn put_items(conn: &Connection, items: &[ItemRow]) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO items (account, user, item, response, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut statement = conn.prepare_cached(sql)?;
    for item in items {
        let response = item.response.as_str();
        statement.execute(params![item.account, item.user, item.item, response, item.body])?;
    }
    Ok(())
}

/// The open response that needs the bodies of this one, if there is one. Few are open: the walk
/// begins at them, and only at those that share its root.
fn in_use(conn: &Connection, id: &ResponseId) -> Result<Option<ResponseId>, Error> {
    let sql = "WITH RECURSIVE
               its (root, position) AS (
                   SELECT sessions.root, responses.position
                   FROM responses JOIN sessions ON sessions.id = responses.session
                   WHERE responses.id = ?1),
               line (id, previous, open) AS (
                   SELECT new.id, new.previous, new.id
                   FROM its CROSS JOIN responses AS new CROSS JOIN sessions
                   WHERE new.finished_at IS NULL AND sessions.id = new.session
                       AND sessions.root = its.root
                   UNION ALL
                   SELECT old.id, old.previous, line.open
                   FROM line CROSS JOIN responses AS old CROSS JOIN its
                   WHERE old.id = line.previous AND old.position >= its.position)
               SELECT open FROM line WHERE id = ?1 LIMIT 1";
    let open = conn
        .prepare_cached(sql)?
        .query_row([id.as_str()], |row| columns::id(row, 0, ResponseId::parse));
    Ok(open.optional()?)
}

/// Whether a body of this response, or of one that it continues, was removed. That is rare: the
/// chain is only walked where something of its sessions was.
fn lacks_history(conn: &Connection, id: &ResponseId) -> Result<bool, Error> {
    let sql = "WITH RECURSIVE family (id) AS (
                   SELECT session FROM responses WHERE id = ?1
                   UNION SELECT forked_from FROM sessions JOIN family ON sessions.id = family.id
                         WHERE forked_from IS NOT NULL)
               SELECT EXISTS (SELECT 1 FROM responses
                              WHERE session IN family AND deleted_at IS NOT NULL)";
    let may: bool = conn.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0))?;
    if !may {
        return Ok(false);
    }
    let sql = "WITH RECURSIVE line (previous, is_deleted) AS (
                   SELECT previous, deleted_at IS NOT NULL FROM responses WHERE id = ?1
                   UNION ALL
                   SELECT old.previous, old.deleted_at IS NOT NULL
                   FROM line CROSS JOIN responses AS old WHERE old.id = line.previous)
               SELECT EXISTS (SELECT 1 FROM line WHERE is_deleted)";
    Ok(conn.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0))?)
}

/// Removes the bodies of a response that has ended.
pub(super) fn delete(conn: &Connection, id: &ResponseId, at: Timestamp) -> Result<bool, Error> {
    let sql = "UPDATE responses SET request = NULL, input = NULL, response = NULL, deleted_at = ?2
               WHERE id = ?1 AND deleted_at IS NULL AND finished_at IS NOT NULL";
    let deleted = conn.prepare_cached(sql)?.execute(params![id.as_str(), at.0])?;
    if deleted == 0 {
        return Ok(false);
    }
    for sql in [
        "DELETE FROM response_events WHERE response = ?1",
        "DELETE FROM items WHERE response = ?1",
        "UPDATE journal SET body = NULL
         WHERE session = (SELECT session FROM responses WHERE id = ?1) AND response = ?1",
    ] {
        conn.prepare_cached(sql)?.execute([id.as_str()])?;
    }
    forget_family(conn, id)?;
    Ok(true)
}

/// Forgets the response's session and all that were forked from it: what an engine holds for a fork
/// was computed over the history before it too. A session with an open turn is left, since that
/// works with what would be forgotten: it is forgotten at the turn's end.
fn forget_family(conn: &Connection, id: &ResponseId) -> Result<(), Error> {
    // REPLACE gives a row that is there a new number: what is being done about it may have been
    // done before this response's turn.
    let sql = "INSERT OR REPLACE INTO forgotten (account, session)
               WITH RECURSIVE family (id) AS (
                   SELECT session FROM responses WHERE id = ?1
                   UNION SELECT forks.id FROM sessions AS forks JOIN family ON forks.forked_from = family.id)
               SELECT account, id FROM sessions WHERE id IN family
                   AND NOT EXISTS (SELECT 1 FROM responses
                                   WHERE session = sessions.id AND finished_at IS NULL)";
    conn.prepare_cached(sql)?.execute([id.as_str()])?;
    Ok(())
}

/// Forgets the session of a response that has just ended if bodies were deleted, meanwhile or
/// before, in it or in one that it was forked from.
fn forget_if_deleted(conn: &Connection, id: &ResponseId) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO forgotten (account, session)
               WITH RECURSIVE line (id) AS (
                   SELECT session FROM responses WHERE id = ?1
                   UNION SELECT forked_from FROM sessions JOIN line ON sessions.id = line.id
                         WHERE forked_from IS NOT NULL)
               SELECT account, session FROM responses AS its WHERE id = ?1
                   AND EXISTS (SELECT 1 FROM responses
                               WHERE session IN line AND deleted_at IS NOT NULL)
                   AND NOT EXISTS (SELECT 1 FROM responses
                                   WHERE session = its.session AND finished_at IS NULL)";
    conn.prepare_cached(sql)?.execute([id.as_str()])?;
    Ok(())
}

fn get(conn: &Connection, id: &ResponseId) -> Result<Option<Response>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM responses WHERE id = ?1");
    Ok(conn.prepare_cached(&sql)?.query_row([id.as_str()], from_row).optional()?)
}

fn chain(conn: &Connection, id: ResponseId, bytes_max: u64) -> Result<Chain, Error> {
    let mut chain = Chain { fits: true, ..Chain::default() };
    // The lengths stand in a row's head: the bodies are not read for them.
    let sql = "SELECT session, account, user, position, deleted_at IS NOT NULL, previous,
                      coalesce(octet_length(input), 0) + coalesce(octet_length(response), 0)
               FROM responses WHERE id = ?1";
    let mut heads = conn.prepare_cached(sql)?;
    let mut next = Some(id);
    while let Some(id) = next.take() {
        chain.fits &= chain.links.len() < CHAIN_MAX && chain.bytes <= bytes_max;
        if !chain.fits {
            break;
        }
        let head = heads.query_row([id.as_str()], |row| {
            let previous = columns::opt_id(row, 5, ResponseId::parse)?;
            Ok((link_from_row(row, id.clone())?, previous, columns::count(row, 6)?))
        });
        let Some((link, previous, bytes)) = head.optional()? else {
            // Rows are never removed: without this one the history would silently lack a part.
            let is_gone = !chain.links.is_empty();
            let gone = || Error::internal(format!("the predecessor {id} is gone"));
            return if is_gone { Err(gone()) } else { Ok(chain) };
        };
        chain.links.push(link);
        chain.bytes = chain.bytes.saturating_add(bytes);
        next = previous;
    }
    chain.fits &= chain.bytes <= bytes_max;
    chain.links.reverse();
    if chain.fits {
        read_bodies(conn, &mut chain.links)?;
    }
    Ok(chain)
}

fn read_bodies(conn: &Connection, links: &mut [Link]) -> Result<(), Error> {
    let mut bodies = conn.prepare_cached("SELECT input, response FROM responses WHERE id = ?1")?;
    for link in links {
        let both = bodies.query_row([link.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)));
        (link.input, link.response) = both?;
    }
    Ok(())
}

fn link_from_row(row: &Row<'_>, id: ResponseId) -> rusqlite::Result<Link> {
    Ok(Link {
        id,
        session: columns::id(row, 0, SessionId::parse)?,
        account: row.get(1)?,
        user: row.get(2)?,
        position: columns::count(row, 3)?,
        is_deleted: row.get(4)?,
        input: None,
        response: None,
    })
}

fn find_post(conn: &Connection, query: &PostQuery) -> Result<Option<Response>, Error> {
    if let Some((idempotency_key, since)) = &query.idempotency_key {
        let sql = format!(
            "SELECT {COLUMNS} FROM responses WHERE key = ?1 AND idempotency_key = ?2 AND created_at >= ?3
             ORDER BY created_at DESC, id DESC LIMIT 1"
        );
        let found = conn
            .prepare_cached(&sql)?
            .query_row(params![query.key.as_str(), idempotency_key, since.0], from_row)
            .optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let Some((post, since)) = &query.retried else { return Ok(None) };
    let sql = format!(
        "SELECT {COLUMNS} FROM responses
         WHERE key = ?1 AND body_sha256 = ?2 AND path = ?3
           AND (finished_at IS NULL OR (delivered_at IS NULL AND finished_at >= ?4))
         ORDER BY created_at DESC, id DESC LIMIT 1"
    );
    let found = conn
        .prepare_cached(&sql)?
        .query_row(params![query.key.as_str(), post.body_sha256, post.path, since.0], from_row);
    Ok(found.optional()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Response> {
    let status: String = row.get(7)?;
    let time = |at: usize| row.get::<_, Option<i64>>(at).map(|micros| micros.map(Timestamp));
    Ok(Response {
        id: columns::id(row, 0, ResponseId::parse)?,
        session: columns::id(row, 1, SessionId::parse)?,
        account: row.get(2)?,
        user: row.get(3)?,
        key: columns::id(row, 4, KeyId::parse)?,
        previous: columns::opt_id(row, 5, ResponseId::parse)?,
        position: columns::count(row, 6)?,
        status: columns::required(Status::parse(&status))?,
        background: row.get(8)?,
        stream: row.get(9)?,
        post: Post { idempotency_key: row.get(10)?, path: row.get(11)?, body_sha256: row.get(12)? },
        request: row.get(13)?,
        input: row.get(14)?,
        response: row.get(15)?,
        created_at: columns::timestamp(row, 16)?,
        finished_at: time(17)?,
        delivered_at: time(18)?,
        deleted_at: time(19)?,
    })
}

fn item_from_row(row: &Row<'_>) -> rusqlite::Result<ItemRow> {
    Ok(ItemRow {
        account: row.get(0)?,
        user: row.get(1)?,
        item: row.get(2)?,
        response: columns::id(row, 3, ResponseId::parse)?,
        body: row.get(4)?,
    })
}
