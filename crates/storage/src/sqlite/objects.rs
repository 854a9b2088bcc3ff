//! Routes and their versions, and changes of several objects in one transaction.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, budgets, columns, keys, models};
use crate::error::Error;
use crate::objects::{
    Objects, ObjectsChange, ROUTE_VERSIONS_BYTES_MAX, ROUTE_VERSIONS_MAX, RouteVersion,
};
use crate::store::Pending;

impl Objects for SqliteStore {
    fn route_versions(&self, limit: usize) -> Pending<Vec<RouteVersion>> {
        self.read(move |conn| versions(conn, limit))
    }

    fn route_version(&self, number: u64) -> Pending<Option<RouteVersion>> {
        self.read(move |conn| version(conn, number))
    }

    fn change_objects(&self, change: ObjectsChange) -> Pending<()> {
        self.write(move |conn| apply(conn, &change))
    }

    fn try_write(&self) -> Pending<()> {
        self.write(|conn| {
            let taken = models::taken(conn)?;
            models::put_taken(conn, &taken)
        })
    }
}

/// Columns of [`RouteVersion`], in the order of [`from_row`].
const COLUMNS: &str = "SELECT number, at, author, what, routes FROM route_versions";

fn versions(conn: &Connection, limit: usize) -> Result<Vec<RouteVersion>, Error> {
    let sql = format!("{COLUMNS} ORDER BY number DESC LIMIT ?1");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let versions =
        conn.prepare_cached(&sql)?.query_map([limit], from_row)?.collect::<Result<_, _>>()?;
    Ok(versions)
}

fn version(conn: &Connection, number: u64) -> Result<Option<RouteVersion>, Error> {
    let sql = format!("{COLUMNS} WHERE number = ?1");
    let number = columns::from_count(number);
    Ok(conn.prepare_cached(&sql)?.query_row([number], from_row).optional()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<RouteVersion> {
    Ok(RouteVersion {
        number: columns::count(row, 0)?,
        at: columns::timestamp(row, 1)?,
        author: row.get(2)?,
        what: row.get(3)?,
        routes: columns::json(row, 4)?,
    })
}

/// Applies all of `change`. On an error the caller's savepoint undoes the rest.
fn apply(conn: &Connection, change: &ObjectsChange) -> Result<(), Error> {
    for id in &change.deleted_keys {
        keys::delete(conn, id)?;
    }
    for id in &change.deleted_budgets {
        budgets::delete(conn, id)?;
    }
    for name in &change.deleted_models {
        models::delete(conn, name)?;
    }
    for key in &change.keys {
        keys::put(conn, key)?;
    }
    for budget in &change.budgets {
        budgets::put(conn, budget)?;
    }
    for model in &change.models {
        models::put(conn, model)?;
    }
    if let Some(version) = &change.routes {
        insert(conn, version)?;
    }
    change.taken.as_ref().map_or(Ok(()), |taken| models::put_taken(conn, taken))
}

fn insert(conn: &Connection, version: &RouteVersion) -> Result<(), Error> {
    let sql =
        "INSERT INTO route_versions (number, at, author, what, routes) VALUES (?1, ?2, ?3, ?4, ?5)";
    let inserted = conn.prepare_cached(sql)?.execute(params![
        columns::from_count(version.number),
        version.at.0,
        version.author,
        version.what,
        columns::to_json(&version.routes)?,
    ]);
    columns::unless_taken(inserted, "version of the routes")?;
    // Of the newest versions, those that are few and small enough together.
    let sql = "DELETE FROM route_versions WHERE number < (SELECT MAX(number) FROM route_versions)
               AND number NOT IN (SELECT number FROM (
                 SELECT number,
                        ROW_NUMBER() OVER newest AS place,
                        SUM(LENGTH(CAST(routes AS BLOB))) OVER newest AS bytes
                 FROM route_versions WINDOW newest AS (ORDER BY number DESC))
               WHERE place <= ?1 AND bytes <= ?2)";
    let kept = [ROUTE_VERSIONS_MAX, ROUTE_VERSIONS_BYTES_MAX];
    let kept = kept.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
    conn.prepare_cached(sql)?.execute(kept)?;
    Ok(())
}
