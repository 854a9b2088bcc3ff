//! What objectives have counted.

use rusqlite::{Connection, params};

use super::{SqliteStore, columns};
use crate::error::Error;
use crate::slos::{SloCounts, Slos};
use crate::store::Pending;

impl Slos for SqliteStore {
    fn slo_counts(&self) -> Pending<Vec<SloCounts>> {
        self.read(all)
    }

    fn put_slo_counts(&self, counts: Vec<SloCounts>, names: Vec<String>) -> Pending<()> {
        self.write(move |conn| put(conn, &counts, &names))
    }
}

fn all(conn: &Connection) -> Result<Vec<SloCounts>, Error> {
    let sql = "SELECT name, definition, at, counts FROM slo_counts ORDER BY name";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(SloCounts {
            name: row.get(0)?,
            definition: row.get(1)?,
            at: columns::timestamp(row, 2)?,
            counts: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn put(conn: &Connection, counts: &[SloCounts], names: &[String]) -> Result<(), Error> {
    let sql = "INSERT INTO slo_counts (name, definition, at, counts) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (name) DO UPDATE SET
                 definition = excluded.definition, at = excluded.at, counts = excluded.counts";
    let mut insert = conn.prepare_cached(sql)?;
    for row in counts {
        insert.execute(params![row.name, row.definition, row.at.0, row.counts])?;
    }
    let sql = "DELETE FROM slo_counts WHERE name NOT IN (SELECT value FROM json_each(?1))";
    conn.prepare_cached(sql)?.execute([columns::to_json(&names)?])?;
    Ok(())
}
