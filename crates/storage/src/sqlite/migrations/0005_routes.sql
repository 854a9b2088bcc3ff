-- The routes. Each row is a whole set of them; the one of the highest number is in force.
CREATE TABLE route_versions (
    number INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    author TEXT NOT NULL,
    what   TEXT NOT NULL,
    routes TEXT NOT NULL            -- JSON
) STRICT;
