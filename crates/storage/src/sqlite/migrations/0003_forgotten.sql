-- Sessions of which bodies were removed here and of which an engine may still hold state. A row goes when all of that
-- is gone too. Its number is raised when the session is forgotten again, so that what was done before is not taken for
-- it.
CREATE TABLE forgotten (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    session TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO forgotten (account, session)
    SELECT DISTINCT account, session FROM responses WHERE deleted_at IS NOT NULL;
CREATE INDEX responses_deleted ON responses (session) WHERE deleted_at IS NOT NULL;

-- When a session that stateless Calls named was forgotten for want of use.
ALTER TABLE sessions ADD COLUMN forgotten_at INTEGER;

-- The response whose turn holds the money: it holds none once it has ended.
ALTER TABLE reservations ADD COLUMN response TEXT;
CREATE INDEX reservations_by_response ON reservations (response) WHERE response IS NOT NULL;
