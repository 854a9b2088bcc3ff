-- Money is in nanodollars, times are microseconds since the epoch, windows are seconds since the epoch.
-- STRICT everywhere: a sum that overflows becomes a REAL in SQLite and must be refused, not kept.

-- One row: how often the database was opened.
CREATE TABLE store (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    openings INTEGER NOT NULL
) STRICT;
INSERT INTO store VALUES (1, 0);

CREATE TABLE keys (
    id                 TEXT PRIMARY KEY,
    account            TEXT NOT NULL,
    name               TEXT NOT NULL,
    user               TEXT NOT NULL,
    role               TEXT NOT NULL,
    secret_sha256      BLOB NOT NULL UNIQUE,
    hint               TEXT NOT NULL,
    output_cap_default INTEGER,
    origin             TEXT NOT NULL,
    created_at         INTEGER NOT NULL,
    UNIQUE (account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
    name              TEXT PRIMARY KEY,
    provider          TEXT NOT NULL,
    upstream_model    TEXT NOT NULL,
    path              TEXT,
    sha256            TEXT,
    prices            TEXT NOT NULL,  -- JSON list
    output_tokens_max INTEGER,
    context_tokens    INTEGER,
    origin            TEXT NOT NULL,
    version           INTEGER NOT NULL,
    created_at        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Each configuration object's text as it was last taken from the file.
CREATE TABLE taken (
    kind   TEXT NOT NULL,
    name   TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE budgets (
    id         TEXT PRIMARY KEY,
    account    TEXT NOT NULL,
    scope      TEXT NOT NULL,  -- JSON
    "limit"    INTEGER NOT NULL,
    "window"   TEXT NOT NULL,
    version    INTEGER NOT NULL,
    origin     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A row exists once something was claimed or held in the window. Rows stay when their budget is deleted, so that
-- what is still held in them can be settled, and when their window has ended.
CREATE TABLE budget_windows (
    budget       TEXT NOT NULL,
    "window"     INTEGER NOT NULL,
    settled      INTEGER NOT NULL DEFAULT 0,
    unreconciled INTEGER NOT NULL DEFAULT 0,
    presumed     INTEGER NOT NULL DEFAULT 0,
    reserved     INTEGER NOT NULL DEFAULT 0,  -- = sum of reservations
    claimed      INTEGER NOT NULL DEFAULT 0,  -- = sum of slices' remaining
    PRIMARY KEY (budget, "window")
) STRICT, WITHOUT ROWID;

-- Open slices only: one from which nothing remains is deleted.
CREATE TABLE slices (
    id        TEXT PRIMARY KEY,
    budget    TEXT NOT NULL,
    "window"  INTEGER NOT NULL,
    node      TEXT NOT NULL,
    amount    INTEGER NOT NULL,  -- as claimed
    remaining INTEGER NOT NULL   -- neither accounted for by ledger rows nor returned
) STRICT, WITHOUT ROWID;

-- Open reservations of steps only.
CREATE TABLE reservations (
    id       TEXT NOT NULL,
    budget   TEXT NOT NULL,
    "window" INTEGER NOT NULL,
    amount   INTEGER NOT NULL,
    PRIMARY KEY (id, budget)
) STRICT, WITHOUT ROWID;

-- What operators said that providers really charged. NULL = that amount was left alone.
CREATE TABLE reconciliations (
    budget                TEXT NOT NULL,
    "window"              INTEGER NOT NULL,
    at                    INTEGER NOT NULL,
    operator              TEXT NOT NULL,
    presumed_before       INTEGER NOT NULL,
    presumed_charged      INTEGER,
    unreconciled_before   INTEGER NOT NULL,
    unreconciled_charged  INTEGER
) STRICT;

-- One row per attempt of a Call. `user`, `task` and `target` are NULL where they equal `key`, `call` and `name`; the
-- token columns are NULL together where the usage is unknown; `dropped` and `charges` are JSON lists, NULL if empty.
CREATE TABLE ledger (
    row                INTEGER PRIMARY KEY,
    call               TEXT NOT NULL,
    attempt            TEXT NOT NULL,
    parent             TEXT,
    account            TEXT NOT NULL,
    key                TEXT NOT NULL,
    user               TEXT,
    session            TEXT,
    step               TEXT,
    task               TEXT,
    class              TEXT NOT NULL,
    door               TEXT NOT NULL,
    kind               TEXT NOT NULL,
    name               TEXT NOT NULL,
    target             TEXT,
    model_version      TEXT,
    error              TEXT,
    stop               TEXT,
    input_tokens       INTEGER,
    cached_tokens      INTEGER,
    cache_write_tokens INTEGER,
    output_tokens      INTEGER,
    reasoning_tokens   INTEGER,
    price_version      TEXT,
    cost               INTEGER NOT NULL,
    unreconciled       INTEGER NOT NULL,
    reserved           INTEGER NOT NULL,
    over_bound         INTEGER NOT NULL,
    output_cap         INTEGER,
    dropped            TEXT,
    started_at         INTEGER NOT NULL,
    first_content_us   INTEGER,
    total_us           INTEGER NOT NULL,
    target_us          INTEGER NOT NULL,
    reused_tokens      INTEGER,
    charges            TEXT
) STRICT;

-- A Call's id begins with its time, so all of these grow at their end.
CREATE UNIQUE INDEX ledger_attempts ON ledger (call, attempt);
CREATE INDEX ledger_accounts ON ledger (account, call);
CREATE INDEX ledger_sessions ON ledger (session, call) WHERE session IS NOT NULL;
CREATE INDEX ledger_tasks ON ledger (task, call) WHERE task IS NOT NULL;
