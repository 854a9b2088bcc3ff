//! Models, and which file texts were taken.

use rusqlite::{Connection, Row, params};

use super::{SqliteStore, columns};
use crate::error::Error;
use crate::models::{Model, Models, Taken};
use crate::store::Pending;

impl Models for SqliteStore {
    fn models(&self) -> Pending<Vec<Model>> {
        self.read(list)
    }

    fn put_model(&self, model: Model) -> Pending<()> {
        self.write(move |conn| put(conn, &model))
    }

    fn delete_model(&self, name: &str) -> Pending<bool> {
        let name = name.to_owned();
        self.write(move |conn| delete(conn, &name))
    }

    fn taken(&self) -> Pending<Vec<Taken>> {
        self.read(taken)
    }

    fn put_taken(&self, taken: Vec<Taken>) -> Pending<()> {
        self.write(move |conn| put_taken(conn, &taken))
    }
}

fn list(conn: &Connection) -> Result<Vec<Model>, Error> {
    let sql = "SELECT name, provider, upstream_model, path, sha256, prices, output_tokens_max, context_tokens, origin,
               version, created_at FROM models ORDER BY name";
    let models = conn.prepare_cached(sql)?.query_map([], from_row)?.collect::<Result<_, _>>()?;
    Ok(models)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Model> {
    Ok(Model {
        name: row.get(0)?,
        provider: row.get(1)?,
        upstream_model: row.get(2)?,
        path: row.get(3)?,
        sha256: row.get(4)?,
        prices: columns::json(row, 5)?,
        output_tokens_max: columns::opt_count(row, 6)?,
        context_tokens: columns::opt_count(row, 7)?,
        origin: columns::name(row, 8)?,
        version: columns::count(row, 9)?,
        created_at: columns::timestamp(row, 10)?,
    })
}

pub(super) fn put(conn: &Connection, model: &Model) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO models (name, provider, upstream_model, path, sha256, prices, output_tokens_max,
               context_tokens, origin, version, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    conn.prepare_cached(sql)?.execute(params![
        model.name,
        model.provider,
        model.upstream_model,
        model.path,
        model.sha256,
        columns::to_json(&model.prices)?,
        model.output_tokens_max.map(columns::from_count),
        model.context_tokens.map(columns::from_count),
        columns::to_name(&model.origin)?,
        columns::from_count(model.version),
        model.created_at.0,
    ])?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, name: &str) -> Result<bool, Error> {
    let deleted = conn.prepare_cached("DELETE FROM models WHERE name = ?1")?.execute([name])?;
    Ok(deleted > 0)
}

pub(super) fn taken(conn: &Connection) -> Result<Vec<Taken>, Error> {
    let sql = "SELECT kind, name, sha256 FROM taken ORDER BY kind, name";
    let from_row =
        |row: &Row<'_>| Ok(Taken { kind: row.get(0)?, name: row.get(1)?, sha256: row.get(2)? });
    let taken = conn.prepare_cached(sql)?.query_map([], from_row)?.collect::<Result<_, _>>()?;
    Ok(taken)
}

pub(super) fn put_taken(conn: &Connection, taken: &[Taken]) -> Result<(), Error> {
    conn.prepare_cached("DELETE FROM taken")?.execute([])?;
    let mut insert =
        conn.prepare_cached("INSERT INTO taken (kind, name, sha256) VALUES (?1, ?2, ?3)")?;
    for one in taken {
        insert.execute([&one.kind, &one.name, &one.sha256])?;
    }
    Ok(())
}
