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
