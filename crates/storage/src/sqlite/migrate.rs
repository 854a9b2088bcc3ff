//! Bringing a database's tables up to date.
//!
//! The migrations are listed in order; `PRAGMA user_version` is how many of them a database has.
//! Each runs in a transaction of its own together with raising that number. One that was released
//! is never edited: a change is a new file at the end of the list.

use std::cmp::Ordering;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::Error;

/// All migrations, oldest first.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_base.sql"),
    include_str!("migrations/0002_sessions.sql"),
    include_str!("migrations/0003_forgotten.sql"),
    include_str!("migrations/0004_fewer_pages.sql"),
    include_str!("migrations/0005_routes.sql"),
    include_str!("migrations/0006_notes.sql"),
    include_str!("migrations/0007_slos.sql"),
    include_str!("migrations/0008_cache_writes.sql"),
    include_str!("migrations/0009_usage_more.sql"),
    include_str!("migrations/0010_windows.sql"),
];

/// Runs the migrations that `conn`'s database does not have.
///
/// # Errors
/// [`Error::NewerVersion`] if it has more than are known here.
pub(super) fn run(conn: &mut Connection) -> Result<(), Error> {
    run_list(conn, MIGRATIONS)
}

/// Whether `conn`'s database has exactly the migrations that are known here.
///
/// # Errors
/// [`Error::NewerVersion`] if it has more, [`Error::NotFound`] if it lacks some.
pub(super) fn check(conn: &Connection) -> Result<(), Error> {
    let (found, known) =
        (version(conn)?, u32::try_from(MIGRATIONS.len()).map_err(Error::internal)?);
    match found.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Error::NewerVersion { found, known }),
        Ordering::Less => Err(Error::NotFound { what: "database of this version" }),
    }
}

fn version(conn: &Connection) -> Result<u32, Error> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn run_list(conn: &mut Connection, migrations: &[&str]) -> Result<(), Error> {
    let known = u32::try_from(migrations.len()).map_err(Error::internal)?;
    let found = version(conn)?;
    if found > known {
        return Err(Error::NewerVersion { found, known });
    }
    for (version, migration) in (1u32..).zip(migrations).skip_while(|(at, _)| *at <= found) {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
