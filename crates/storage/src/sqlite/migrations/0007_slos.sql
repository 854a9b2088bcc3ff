-- What objectives have counted: one row each, written anew as a whole.
CREATE TABLE slo_counts (
  name       TEXT NOT NULL PRIMARY KEY,
  definition TEXT NOT NULL,
  at         INTEGER NOT NULL,
  counts     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
