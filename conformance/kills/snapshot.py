"""What the file of a dead server says: a copy of `holdfast.db`, read by sqlite3 and nobody else."""

import collections
import json
import shutil
import sqlite3

# Events after which a step is finished: it may never be run again.
CLOSED = ("model_outcome", "model_failed", "tool_outcome", "abandoned")


class Snapshot:
    """The tables that the judge reads, as plain values."""

    def __init__(self):
        self.journal = []  # {session, seq, kind, response, step, call, body_sha256, event}
        self.ledger = {}  # attempt -> row
        self.budgets = []  # {budget, key, limit, settled, unreconciled, presumed, reserved, claimed, slices}
        self.slices = {}  # id -> (budget, what remains of it)
        self.reservations = {}  # reservation id -> amount
        self.responses = {}  # id -> {session, status, background}
        self.sessions = {}  # id -> state
        self.events = {}  # response -> {sequence: body}
        self.keys = {}  # id -> name

    def index(self):
        """What is asked of it often, worked out once."""
        self.attempts, self.steps = {}, collections.defaultdict(list)
        self.call_of_attempt, self.outcomes = {}, {}
        for row in self.journal:
            event = row["event"]
            if row["kind"] in ("model_intent", "tool_intent"):
                self.attempts[event["attempt"]] = row
            if row["kind"] in ("model_outcome", "model_failed"):
                self.outcomes[row["call"]] = row
            if row["step"]:
                self.steps[row["step"]].append(row)
        return self

    def finished(self):
        """Ids of steps that may never be run again."""
        return {step for step, rows in self.steps.items() if is_finished(rows)}

    def in_doubt(self):
        """Steps of writing tools whose outcome this file does not have: step -> response."""
        open_responses = {name for name, row in self.responses.items() if row["status"] == "in_progress"}
        return {
            step: rows[-1]["response"]
            for step, rows in self.steps.items()
            if rows[-1]["response"] in open_responses and not is_finished(rows) and is_write(rows)
            and rows[-1]["kind"] in ("tool_intent", "tool_lost")
        }


def is_finished(rows):
    last = rows[-1]
    if last["kind"] == "resolved":
        return last["event"]["decision"]["decision"] != "retry"
    return last["kind"] in CLOSED


def is_write(rows):
    return any(row["kind"] == "tool_intent" and row["event"]["effect"] == "write" for row in rows)


def take(data, to):
    """Copies the database of a server that does not run: its file and what was not yet moved into it."""
    copy = to / "holdfast.db"
    to.mkdir(parents=True)
    for suffix in ("", "-wal"):
        source = data / f"holdfast.db{suffix}"
        if source.exists():
            shutil.copyfile(source, f"{copy}{suffix}")
    return read(copy)


def read(path):
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    found = Snapshot()
    if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise AssertionError(f"{path} is damaged")
    found.keys = dict(rows(db, "SELECT id, name FROM keys"))
    for row in db.execute("SELECT * FROM journal ORDER BY session, seq"):
        found.journal.append(dict(row) | {"event": json.loads(row["body"])})
    found.ledger = {row["attempt"]: dict(row) for row in db.execute("SELECT * FROM ledger")}
    responses = db.execute("SELECT id, session, status, background FROM responses")
    found.responses = {row["id"]: dict(row) for row in responses}
    found.sessions = dict(rows(db, "SELECT id, state FROM sessions"))
    for response, first, count, bodies in rows(db, "SELECT response, first, count, bodies FROM response_events"):
        lines = bodies.split("\n")
        if len(lines) != count:
            raise AssertionError(f"{response}: {count} events from {first} on are {len(lines)} lines")
        found.events.setdefault(response, {}).update(enumerate(lines, first))
    for name, amount in rows(db, "SELECT id, sum(amount) FROM reservations GROUP BY id"):
        found.reservations[name] = amount
    for name, budget, remaining in rows(db, "SELECT id, budget, remaining FROM slices"):
        found.slices[name] = (budget, remaining)
    found.budgets = [dict(row) for row in db.execute(BUDGETS)]
    for budget in found.budgets:
        budget["key"] = json.loads(budget.pop("scope")).get("key")
    db.close()
    return found.index()


def rows(db, query):
    return [tuple(row) for row in db.execute(query)]


BUDGETS = """
SELECT b.id AS budget, b.scope, b."limit", ifnull(w.settled, 0) AS settled, ifnull(w.unreconciled, 0) AS unreconciled,
       ifnull(w.presumed, 0) AS presumed, ifnull(w.reserved, 0) AS reserved, ifnull(w.claimed, 0) AS claimed,
       (SELECT ifnull(sum(s.remaining), 0) FROM slices s WHERE s.budget = b.id) AS slices
FROM budgets b LEFT JOIN budget_windows w ON w.budget = b.id
"""
