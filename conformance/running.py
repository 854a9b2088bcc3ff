"""What Python suites of flows share: the registry, the run, and the judgement at the end.

Standard library only. A flow is one function; flows run beside each other and share one server, so
each marks what it sends with a word of its own and looks only at what carries that mark.
"""

import pathlib
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from decimal import Decimal

from harness import SetupFailed, World, processes_in

FLOWS = []
# Flows wait more than they compute: more than the cores, few enough that none times out.
PARALLEL = 12


def flow(function):
    """Registers a flow under its function's name."""
    FLOWS.append(function)
    return function


def slow(function):
    """Registers a flow that mostly waits: it begins first, so that the others run beside it."""
    FLOWS.insert(0, function)
    return function


def chosen(names):
    """The flows whose names contain one of these, or all."""
    return [flow for flow in FLOWS if not names or any(name in flow.__name__ for name in names)]


def mark_of(name):
    """A word that no other flow says, and that no other flow's word contains."""
    return "m" + name.replace("_", "") + "q"


class Statements:
    """What is said of one scene: each is counted by itself, and a false one does not end the scene."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, what, holds, seen=""):
        self.passed += bool(holds)
        self.failed += not holds
        shown = "" if holds else f"\n        {seen}"
        print(f"{'ok  ' if holds else 'FAIL'} {what}{shown}", flush=True)


def main(checks, names, make, statements=None):
    """Runs checks one after another, each with what `make(world)` makes for all of them.

    Of `names`, only the checks whose name contains one; each must be in one. Ends with `N passed, N
    failed`, those of `statements` included; the exit status.
    """
    unknown = [name for name in names if not any(name in one.__name__ for one in checks)]
    if unknown:
        print(f"conformance: no check has {', '.join(unknown)} in its name; there are:")
        print("\n".join(f"  {one.__name__}" for one in checks))
        return 2
    chosen = [one for one in checks if not names or any(name in one.__name__ for name in names)]
    passed = failed = 0
    began = time.monotonic()
    try:
        with World() as world:
            around = make(world)
            for one in chosen:
                bad = report(one.__name__, *timed(one, around))
                passed, failed = passed + (not bad), failed + bad
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        failed += 1
    if statements is not None:
        passed, failed = passed + statements.passed, failed + statements.failed
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def run(flows, given, parallel=PARALLEL):
    """Runs flows, each with what `given(its name)` makes for it; how many failed."""
    with ThreadPoolExecutor(parallel) as pool:
        runs = {pool.submit(timed, flow, given(flow.__name__)): flow.__name__ for flow in flows}
        return sum(report(runs[done], *done.result()) for done in as_completed(runs))


def timed(function, *args):
    """(what it failed with or None, seconds)"""
    began = time.monotonic()
    try:
        function(*args)
        return None, time.monotonic() - began
    except Exception as error:  # any failure of a flow is the flow's result
        return error, time.monotonic() - began


def report(name, error, seconds):
    """Prints how it went; whether it failed."""
    print(f"{'ok  ' if error is None else 'FAIL'} {name} ({seconds:.1f} s)", flush=True)
    if error is not None:
        print(f"     {where(error)}", flush=True)
    return error is not None


def where(error):
    """The flow's own line, and what was wrong, in one line."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/conformance/" in f.filename]
    place = f"{pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    flow_line = next((f"{f.lineno}" for f in frames if "flows_" in f.filename), "?")
    return (
        f"{type(error).__name__}: {str(error) or '(no text)'}"[:700]
        + f"  [flow line {flow_line}, {place}]"
    )


def raises(kind, call):
    """The error of that kind that `call` raises; anything else fails the flow."""
    try:
        value = call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {value!r:.300}")


def equal(found, expected, what=""):
    assert found == expected, f"{what or 'value'}: expected {expected!r:.600}, got {found!r:.600}"


def ledger_agrees_with_provider(server, provider, costs):
    """Every attempt that the provider finished is one ledger row with its usage and exact cost.

    `costs` has a function per target, from the provider's usage to dollars.
    """
    rows = ledger(server)
    lines = [line for line in provider.requests() if line["attempt_id"]]
    finished = [line for line in lines if line["finished"]]
    assert len(finished) > 20 or len(lines) < 100, "hardly anything to compare"
    for line in lines:
        row = rows.get(line["attempt_id"])
        assert row is not None, f"no ledger row of {line['attempt_id']}: {str(line)[:300]}"
        assert row["call"] == line["call_id"], f"another Call: {row['call']} and {line['call_id']}"
        charged = Decimal(row["cost"]) + Decimal(row["unreconciled"])
        if line["finished"] and row["error"] is None and row["target"] in costs:
            expected = costs[row["target"]](line["usage"])
            assert Decimal(row["cost"]) == expected, f"cost {row['cost']}: {line['usage']}"
        elif line["status"] >= 400:
            assert charged == 0, f"a refused attempt was charged: {row}"


def ledger(server):
    """All rows, by attempt."""
    rows = {}
    for row in every_row(server):
        assert row["attempt"] not in rows, f"two rows of one attempt: {row}"
        rows[row["attempt"]] = row
    return rows


def every_row(server, query=""):
    """The ledger's rows, page by page; `query` says of which Calls, as `&task=…`."""
    before = ""
    while True:
        status, page = server.api("GET", f"calls?limit=1000{query}{before}")
        assert status == 200, page
        if not page["has_more"]:
            yield from page["data"]
            return
        # A page may end between the attempts of a Call, and the next one begins behind that Call.
        last = page["data"][-1]["call"]
        yield from (row for row in page["data"] if row["call"] != last)
        status, whole = server.api("GET", f"calls/{last}")
        assert status == 200, whole
        yield from whole["data"]
        before = f"&before={last}"


def budgets_agree_with_ledger(server):
    """Each budget has settled what its key's Calls cost, reserves nothing, and is not passed."""
    _, keys = server.api("GET", "keys")
    names = {key["id"]: key["name"] for key in keys["data"]}
    calls = ledger(server).values()
    _, budgets = server.api("GET", "budgets")
    assert {b["scope"]["key"] for b in budgets["data"]} == {"poor", "capped", "squeezed"}, budgets
    for budget in budgets["data"]:
        rows = [row for row in calls if names[row["key"]] == budget["scope"]["key"]]
        settled, unreconciled = (
            sum(Decimal(row[name]) for row in rows) for name in ("cost", "unreconciled")
        )
        amounts = {
            name: Decimal(budget[f"{name}_usd"])
            for name in ("settled", "unreconciled", "presumed", "reserved")
        }
        expected = {"settled": settled, "unreconciled": unreconciled, "presumed": 0, "reserved": 0}
        assert amounts == expected, f"{budget['scope']}: {amounts}, the ledger has {expected}"
        assert sum(amounts.values()) <= Decimal(budget["limit_usd"]), (
            f"the limit is passed: {budget}"
        )


def server_ends_cleanly(server, *others):
    """On SIGTERM it ends by itself, leaves no process behind, and its log has no panic in it."""
    assert server.stop(), f"SIGTERM did not end it with success: {server.child.returncode}"
    known = {process.child.pid for process in others}
    left = [command for pid, command in processes_in(server.data.parent) if pid not in known]
    assert not left, f"processes were left behind: {left}"
    panics = [
        line
        for line in server.output.read_text(errors="replace").splitlines()
        if "panicked" in line
    ]
    assert not panics, f"panics in the log: {panics[:3]}"
