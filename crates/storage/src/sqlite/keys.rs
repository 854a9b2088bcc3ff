//! API keys.

use rusqlite::{Connection, OptionalExtension, Row, params};
use types::ids::KeyId;

use super::{SqliteStore, budgets, columns};
use crate::budgets::Budget;
use crate::error::Error;
use crate::keys::{Key, Keys};
use crate::store::Pending;

impl Keys for SqliteStore {
    fn keys(&self) -> Pending<Vec<Key>> {
        self.read(list)
    }

    fn put_key(&self, key: Key) -> Pending<()> {
        self.write(move |conn| put(conn, &key))
    }

    fn put_key_with_budget(&self, key: Key, budget: Budget) -> Pending<()> {
        self.write(move |conn| {
            put(conn, &key)?;
            budgets::put(conn, &budget)
        })
    }

    fn delete_key(&self, id: &KeyId) -> Pending<bool> {
        let id = id.clone();
        self.write(move |conn| delete(conn, &id))
    }
}

fn list(conn: &Connection) -> Result<Vec<Key>, Error> {
    let sql = "SELECT id, account, name, user, role, secret_sha256, hint, output_cap_default, origin, created_at
               FROM keys ORDER BY account, name";
    let keys = conn.prepare_cached(sql)?.query_map([], from_row)?.collect::<Result<_, _>>()?;
    Ok(keys)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok(Key {
        id: columns::id(row, 0, KeyId::parse)?,
        account: row.get(1)?,
        name: row.get(2)?,
        user: row.get(3)?,
        role: columns::name(row, 4)?,
        secret_sha256: row.get(5)?,
        hint: row.get(6)?,
        output_cap_default: columns::opt_count(row, 7)?,
        origin: columns::name(row, 8)?,
        created_at: columns::timestamp(row, 9)?,
    })
}

pub(super) fn put(conn: &Connection, key: &Key) -> Result<(), Error> {
    if is_taken(conn, key)? {
        return Err(Error::Exists { what: "key" });
    }
    let sql = "INSERT OR REPLACE INTO keys (id, account, name, user, role, secret_sha256, hint, output_cap_default,
               origin, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    conn.prepare_cached(sql)?.execute(params![
        key.id.as_str(),
        key.account,
        key.name,
        key.user,
        columns::to_name(&key.role)?,
        key.secret_sha256,
        key.hint,
        key.output_cap_default.map(columns::from_count),
        columns::to_name(&key.origin)?,
        key.created_at.0,
    ])?;
    Ok(())
}

/// Whether another key has the name or the secret: neither may ever stand for two.
fn is_taken(conn: &Connection, key: &Key) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM keys WHERE id <> ?1 AND ((account = ?2 AND name = ?3) OR secret_sha256 = ?4)";
    let found = conn
        .prepare_cached(sql)?
        .query_row(params![key.id.as_str(), key.account, key.name, key.secret_sha256], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

pub(super) fn delete(conn: &Connection, id: &KeyId) -> Result<bool, Error> {
    let deleted = conn.prepare_cached("DELETE FROM keys WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(deleted > 0)
}
