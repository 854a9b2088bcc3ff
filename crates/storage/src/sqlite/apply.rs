//! A [`Commit`], applied: each table family's rows by its own functions, in the order of the fields.

use rusqlite::Connection;

use crate::commit::Commit;
use crate::error::Error;

/// Applies all of `commit`. On an error the caller's savepoint undoes the rest.
pub(super) fn apply(_conn: &Connection, commit: &Commit) -> Result<(), Error> {
    if commit.ledger.is_empty() && commit.reservations.is_empty() {
        return Ok(());
    }
    Err(Error::internal("ledger rows and reservations are not written yet"))
}
