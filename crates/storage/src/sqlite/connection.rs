//! Opening connections and saying what SQLite's errors mean.
//!
//! Every connection has the same settings; they are what the promise "answered = on disk" rests on,
//! so they are set here and nowhere else.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::Error;

/// How long a statement waits for another process (a backup, somebody's `sqlite3`) to let go of the
/// file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection: more than there are distinct ones.
const STATEMENTS_KEPT: usize = 192;
/// Page cache of the writer in KiB: the ends of all indexes of the ledger and the journal stay in
/// memory.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
/// Page cache of each reader in KiB.
const READER_CACHE_KIB: i64 = 8 * 1024;
/// The database may hold prompts and the hashes of keys: nobody else on the machine reads it.
const FILE_MODE: u32 = 0o600;

/// The one connection that writes.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Error> {
    create_private(path)?;
    let conn = open(path)?;
    // The log is checkpointed by the writer between two transactions, not inside a COMMIT that
    // somebody waits for.
    //
    // What was deleted is overwritten, not left in free pages: it was somebody's prompt. Rows that
    // are only added cost no more for it (measured), and deleting a body costs what adding it did.
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -{WRITER_CACHE_KIB};"
    ))?;
    Ok(conn)
}

/// A connection that cannot write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let conn = open(path)?;
    conn.execute_batch(&format!(
        "PRAGMA query_only = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -{READER_CACHE_KIB};"
    ))?;
    Ok(conn)
}

/// A connection that cannot write, to a database that must be there.
pub(super) fn open_to_look(path: &Path) -> Result<Connection, Error> {
    if !path.exists() {
        return Err(Error::NotFound { what: "database" });
    }
    open_reader(path)
}

fn open(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // A page that fails to be read must be an error of one statement, not a SIGBUS of the process.
    conn.execute_batch("PRAGMA mmap_size = 0;")?;
    Ok(conn)
}

/// Makes the file, if it isn't there, readable for its owner alone; SQLite gives the log the same
/// mode.
#[expect(clippy::disallowed_methods, reason = "opening the store blocks anyway, once, at start")]
fn create_private(path: &Path) -> Result<(), Error> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
        .map(drop)
        .map_err(Error::unavailable)
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::PermissionDenied,
            ) => Self::unavailable(error),
            _ => Self::internal(error),
        }
    }
}
