-- A step of a session is one commit, and what a commit costs is the pages that it touches. Tables with large rows are
-- ordinary ones, to which rows are added at the end: without a row number, a row of a page's quarter moved its
-- neighbours at every insert. No index holds what changes with each step.

-- `sessions.next_seq` is what keeps (session, seq) unique.
CREATE TABLE journal_rows (
    row         INTEGER PRIMARY KEY,
    session     TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    response    TEXT NOT NULL,
    step        TEXT,
    call        TEXT,
    at          INTEGER NOT NULL,
    body        TEXT,               -- JSON
    body_sha256 TEXT NOT NULL
) STRICT;
INSERT INTO journal_rows (session, seq, epoch, kind, response, step, call, at, body, body_sha256)
    SELECT session, seq, epoch, kind, response, step, call, at, body, body_sha256 FROM journal ORDER BY session, seq;
DROP TABLE journal;
ALTER TABLE journal_rows RENAME TO journal;
CREATE INDEX journal_by_turn ON journal (session, response, seq);

-- One row holds the events that one commit added: `count` of them, numbered from `first`, one per line.
CREATE TABLE event_rows (
    row      INTEGER PRIMARY KEY,
    response TEXT NOT NULL,
    first    INTEGER NOT NULL,
    count    INTEGER NOT NULL,
    bodies   TEXT NOT NULL          -- JSON, one per line
) STRICT;
INSERT INTO event_rows (response, first, count, bodies)
    SELECT response, sequence, 1, body FROM response_events ORDER BY response, sequence;
DROP TABLE response_events;
ALTER TABLE event_rows RENAME TO response_events;
CREATE UNIQUE INDEX response_events_by_number ON response_events (response, first);

-- Deleting a response's bodies reaches the sessions that were forked from its own.
CREATE INDEX sessions_by_origin ON sessions (forked_from) WHERE forked_from IS NOT NULL;

-- No query looks for a root by its index.
DROP INDEX sessions_by_root;

-- Only what is held now is in this table: it is read whole where a turn ends.
DROP INDEX reservations_by_response;
