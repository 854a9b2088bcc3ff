//! A [`Commit`], applied: each table family's rows by its own functions, in the order of the
//! fields.

use rusqlite::Connection;

use super::{budgets, events, journal, ledger, responses, sessions};
use crate::commit::Commit;
use crate::error::Error;

/// Applies all of `commit`. On an error the caller's savepoint undoes the rest.
pub(super) fn apply(conn: &Connection, commit: &Commit) -> Result<(), Error> {
    // First, so that a node which was replaced hears that, and not that a budget is exhausted.
    for fence in &commit.fences {
        sessions::check_fence(conn, fence)?;
    }
    ledger::insert(conn, &commit.ledger)?;
    let turn = commit.journal.first().map(|row| &row.response);
    budgets::reserve(conn, &commit.reservations, turn)?;
    for write in &commit.sessions {
        sessions::write(conn, write)?;
    }
    for write in &commit.responses {
        responses::write(conn, write)?;
    }
    journal::append(conn, &commit.journal)?;
    events::append(conn, &commit.response_events)?;
    responses::put_items(conn, &commit.items)
}
