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

/// What an older program wrote is read as it was.
#[test]
fn journals_and_streams_of_the_third_version_are_kept() {
    let mut conn = Connection::open_in_memory().unwrap();
    run_list(&mut conn, &MIGRATIONS[..3]).unwrap();
    conn.execute_batch(
        "INSERT INTO journal VALUES ('s', 2, 1, 'tool_outcome', 'r', NULL, NULL, 6, '{\"b\":2}', 'h2');
         INSERT INTO journal VALUES ('s', 1, 1, 'tool_intent', 'r', 'step', 'call', 5, NULL, 'h1');
         INSERT INTO response_events VALUES ('r', 1, 'second');
         INSERT INTO response_events VALUES ('r', 0, 'first');",
    )
    .unwrap();
    run(&mut conn).unwrap();
    let journal = "SELECT group_concat(concat_ws(',', row, session, seq, epoch, kind, response, step, call, at, body,
                   body_sha256), ';') FROM (SELECT * FROM journal ORDER BY row)";
    let journal: String = conn.query_row(journal, [], |row| row.get(0)).unwrap();
    assert_eq!(
        journal,
        "1,s,1,1,tool_intent,r,step,call,5,h1;2,s,2,1,tool_outcome,r,6,{\"b\":2},h2"
    );
    let events = "SELECT group_concat(concat_ws(',', response, first, count, bodies), ';')
                  FROM (SELECT * FROM response_events ORDER BY first)";
    let events: String = conn.query_row(events, [], |row| row.get(0)).unwrap();
    assert_eq!(events, "r,0,1,first;r,1,1,second");
}
