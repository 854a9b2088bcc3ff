//! The events of responses' streams.
//!
//! A row holds what one commit added to one stream: a turn writes some ten events with each step,
//! and a row each would cost more than the journal beside it. Within a row they stand one per line;
//! an event with a line break of its own has a row of its own.
//!
//! Invariant: nothing that was sent is ever replaced, so numbers of a stream only grow.

use rusqlite::{Connection, OptionalExtension, params};
use types::ids::ResponseId;

use super::columns;
use crate::error::Error;
use crate::responses::{EVENTS_PAGE_MAX, ResponseEvent};

/// Adds events. A number that is not behind all that are there is refused.
pub(super) fn append(conn: &Connection, events: &[ResponseEvent]) -> Result<(), Error> {
    for group in events.chunk_by(stand_together) {
        let Some(first) = group.first() else { continue };
        if first.sequence < next_number(conn, &first.response)? {
            return Err(Error::Exists { what: "response event" });
        }
        let bodies: Vec<&str> = group.iter().map(|event| event.body.as_str()).collect();
        let sql =
            "INSERT INTO response_events (response, first, count, bodies) VALUES (?1, ?2, ?3, ?4)";
        conn.prepare_cached(sql)?.execute(params![
            first.response.as_str(),
            columns::from_count(first.sequence),
            columns::from_count(group.len() as u64),
            bodies.join("\n"),
        ])?;
    }
    Ok(())
}

fn stand_together(one: &ResponseEvent, next: &ResponseEvent) -> bool {
    let is_line = |event: &ResponseEvent| !event.body.contains('\n');
    one.response == next.response
        && one.sequence.checked_add(1) == Some(next.sequence)
        && is_line(one)
        && is_line(next)
}

/// The number behind the last event of a stream.
fn next_number(conn: &Connection, response: &ResponseId) -> Result<u64, Error> {
    let sql =
        "SELECT first + count FROM response_events WHERE response = ?1 ORDER BY first DESC LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    let next = statement.query_row([response.as_str()], |row| columns::count(row, 0));
    Ok(next.optional()?.unwrap_or(0))
}

/// Events from `from` on, in order, at most `limit` and [`EVENTS_PAGE_MAX`].
pub(super) fn read(
    conn: &Connection,
    response: &ResponseId,
    from: u64,
    limit: usize,
) -> Result<Vec<ResponseEvent>, Error> {
    let limit = limit.min(EVENTS_PAGE_MAX);
    // The row in which `from` stands, if it is not the first of one, begins before it.
    let sql = "SELECT first, count, bodies FROM response_events
               WHERE response = ?1 AND first >= coalesce(
                   (SELECT max(first) FROM response_events WHERE response = ?1 AND first <= ?2), 0)
               ORDER BY first";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![response.as_str(), columns::from_count(from)])?;
    let mut events = Vec::new();
    while events.len() < limit
        && let Some(row) = rows.next()?
    {
        let (first, count) = (columns::count(row, 0)?, columns::count(row, 1)?);
        let bodies = row.get_ref(2)?.as_str().map_err(Error::internal)?;
        // A single event may have line breaks of its own.
        let lines = bodies.splitn(usize::try_from(count).map_err(Error::internal)?, '\n');
        let numbered = (first..).zip(lines).filter(|(sequence, _)| *sequence >= from);
        let event = |(sequence, body): (u64, &str)| ResponseEvent {
            response: response.clone(),
            sequence,
            body: body.to_owned(),
        };
        events.extend(numbered.take(limit - events.len()).map(event));
    }
    Ok(events)
}
