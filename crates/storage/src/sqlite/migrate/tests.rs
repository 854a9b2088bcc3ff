use rusqlite::Connection;

use super::{MIGRATIONS, run, run_list};
use crate::error::Error;

fn version(conn: &Connection) -> u32 {
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn a_new_database_gets_all_and_a_second_run_does_nothing() {
    let mut conn = Connection::open_in_memory().unwrap();
    run(&mut conn).unwrap();
    assert_eq!(version(&conn) as usize, MIGRATIONS.len());
    run(&mut conn).unwrap();
    assert_eq!(version(&conn) as usize, MIGRATIONS.len());
}

#[test]
fn only_the_missing_ones_run() {
    let mut conn = Connection::open_in_memory().unwrap();
    run_list(&mut conn, &["CREATE TABLE a (x)"]).unwrap();
    // The first would fail if it ran again.
    run_list(&mut conn, &["CREATE TABLE a (x)", "CREATE TABLE b (x)"]).unwrap();
    assert_eq!(version(&conn), 2);
    conn.execute_batch("INSERT INTO b VALUES (1)").unwrap();
}

#[test]
fn a_failing_migration_leaves_the_version_and_the_tables_as_they_were() {
    let mut conn = Connection::open_in_memory().unwrap();
    let broken = ["CREATE TABLE a (x)", "CREATE TABLE b (x); CREATE TABLE a (x)"];
    assert!(run_list(&mut conn, &broken).is_err());
    assert_eq!(version(&conn), 1);
    assert!(conn.execute_batch("SELECT * FROM b").is_err());
}

#[test]
fn a_newer_database_is_refused_by_its_number() {
    let mut conn = Connection::open_in_memory().unwrap();
    conn.pragma_update(None, "user_version", 1_000).unwrap();
    let error = run(&mut conn).unwrap_err();
    assert!(matches!(error, Error::NewerVersion { found: 1_000, .. }));
    assert!(error.to_string().contains("use the newer program"));
}
