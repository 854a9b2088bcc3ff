-- The time zone of a calendar window, by its name; NULL = UTC. The window of a rolling budget is one of its cells.
ALTER TABLE budgets ADD COLUMN zone TEXT;

-- What operators have put to budgets in total: each key once.
CREATE TABLE top_ups (
    budget   TEXT NOT NULL,
    key      TEXT NOT NULL,
    amount   INTEGER NOT NULL,
    operator TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (budget, key)
) STRICT, WITHOUT ROWID;
