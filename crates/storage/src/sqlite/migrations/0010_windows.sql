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

-- The budgets that rules ("each user") have made, one for each value; what is not here is the rule's.
CREATE TABLE budget_values (
    id         TEXT PRIMARY KEY,
    rule       TEXT NOT NULL,
    scope      TEXT NOT NULL,  -- JSON
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX budget_values_rules ON budget_values (rule);
