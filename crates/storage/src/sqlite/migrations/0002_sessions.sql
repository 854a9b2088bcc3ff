-- Times are microseconds since the epoch. A body that is NULL was removed; its row and its hash stay.

CREATE TABLE sessions (
    id           TEXT PRIMARY KEY,
    account      TEXT NOT NULL,
    user         TEXT NOT NULL,
    name         TEXT,               -- given by stateless Calls; such a session has no items
    root         TEXT NOT NULL,
    forked_from  TEXT,
    epoch        INTEGER NOT NULL,
    owner        TEXT,
    state        TEXT NOT NULL,
    newest       TEXT,
    next_seq     INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX sessions_by_name ON sessions (account, user, name) WHERE name IS NOT NULL;
CREATE INDEX sessions_by_root ON sessions (root, last_used_at);
CREATE INDEX sessions_by_state ON sessions (state) WHERE state <> 'idle';

CREATE TABLE journal (
    session     TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    response    TEXT NOT NULL,
    step        TEXT,
    call        TEXT,
    at          INTEGER NOT NULL,
    body        TEXT,               -- JSON
    body_sha256 TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX journal_by_response ON journal (response, seq);

CREATE TABLE responses (
    id              TEXT PRIMARY KEY,
    session         TEXT NOT NULL,
    account         TEXT NOT NULL,
    user            TEXT NOT NULL,
    key             TEXT NOT NULL,
    previous        TEXT,
    position        INTEGER NOT NULL,
    status          TEXT NOT NULL,
    background      INTEGER NOT NULL,
    stream          INTEGER NOT NULL,
    idempotency_key TEXT,
    path            TEXT NOT NULL,
    body_sha256     TEXT NOT NULL,
    request         TEXT,           -- JSON
    input           TEXT,           -- JSON list of items
    response        TEXT,           -- JSON, once it has ended
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    delivered_at    INTEGER,
    deleted_at      INTEGER
) STRICT;
CREATE INDEX responses_by_session ON responses (session, created_at);
CREATE INDEX responses_open ON responses (created_at) WHERE finished_at IS NULL;
CREATE INDEX responses_by_idempotency_key ON responses (key, idempotency_key, created_at)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX responses_by_post ON responses (key, body_sha256, created_at);

CREATE TABLE response_events (
    response TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    body     TEXT NOT NULL,         -- JSON
    PRIMARY KEY (response, sequence)
) STRICT, WITHOUT ROWID;

-- Items that clients may refer to by their id. One user's items are unreachable for another.
CREATE TABLE items (
    account  TEXT NOT NULL,
    user     TEXT NOT NULL,
    item     TEXT NOT NULL,
    response TEXT NOT NULL,
    body     TEXT NOT NULL,         -- JSON
    PRIMARY KEY (account, user, item)
) STRICT, WITHOUT ROWID;
CREATE INDEX items_by_response ON items (response);
