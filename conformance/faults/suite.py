"""The suites `faults` and `faults-long`: sixteen faults of providers, judged from both sides.

    suite.py faults|faults-long [NAME …]     only the checks whose name contains one of the NAMEs

`faults` runs with every duration at a tenth, in the provider and in the configuration alike;
`faults-long` with the real ones.
"""

import pathlib
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import world  # noqa: E402
from checks import APIS, CHECKS  # noqa: E402
from harness import SetupFailed, World, eventually  # noqa: E402
from judge import Case, was_sent  # noqa: E402
from running import every_row  # noqa: E402

SCALES = {"faults": 0.1, "faults-long": 1.0}
# Checks wait more than they compute.
PARALLEL = {"faults": 24, "faults-long": 64}


def run_one(check, around):
    """(what it failed with or None, seconds)"""
    began = time.monotonic()
    case = Case(check, around)
    try:
        check.run(case)
        case.well()
        return None, time.monotonic() - began
    except Exception as error:  # any failure of a check is its result
        return error, time.monotonic() - began


def every_request_ended(around, _):
    """No exchange was left open: the provider saw each end, and the ledger has a row for each."""
    left = [line for line in around.provider.requests() if not line["end"]]
    assert not left, f"{len(left)} exchanges are open: {left[:3]}"


def ledger_agrees(around, whole):
    """One row for each request of the provider, of the same Call, in the whole ledger."""
    rows = {row["attempt"]: row for row in every_row(around.server)}
    lines = {line["attempt"]: line for line in around.provider.requests() if line["attempt"]}
    assert not whole or len(lines) > 100, "hardly anything to compare"
    unasked = [row for attempt, row in rows.items() if was_sent(row) and attempt not in lines]
    unknown = [line for attempt, line in lines.items() if attempt not in rows]
    assert not unasked and not unknown, f"no request of {unasked[:3]}, no row of {unknown[:3]}"
    for attempt, line in lines.items():
        assert rows[attempt]["call"] == line["call"], f"{rows[attempt]} is not of {line}"


def budget_agrees(around, _):
    """The budget has settled what the rows cost, and nothing of it is reserved any more."""
    rows = list(every_row(around.server))
    sums = {name: sum(Decimal(row[name]) for row in rows) for name in ("cost", "unreconciled")}

    def budget():
        _, page = around.server.api("GET", "budgets")
        (found,) = page["data"]
        return found if Decimal(found["reserved_usd"]) == 0 else None

    found = eventually("nothing is reserved", budget)
    told = {name: Decimal(found[f"{name}_usd"]) for name in ("settled", "unreconciled")}
    assert told == {"settled": sums["cost"], "unreconciled": sums["unreconciled"]}, f"{told}, {sums}"
    assert Decimal(found["presumed_usd"]) == 0, found


def ends_cleanly(around, _):
    """On SIGTERM it ends by itself, and its log has no panic in it."""
    assert around.server.stop(), "SIGTERM did not end it"
    log = around.server.output.read_text(errors="replace")
    assert "panicked" not in log, log[log.index("panicked") :][:500]


AFTERWARDS = (every_request_ended, ledger_agrees, budget_agrees, ends_cleanly)


def chosen(suite, names):
    long = suite == "faults-long"
    found = [check for check in CHECKS if long or not check.long]
    if names:
        found = [check for check in found if any(name in check.name for name in names)]
    assert len({check.model for check in found}) == len(found), "two checks have one name"
    return found


def well_plans():
    """A route per format on which nothing fails."""
    for api in APIS:
        name = f"well-{api}"
        yield world.Plan(name, [("primary", api, name, None), ("fallback", api, name, None)])


def told(name, error, seconds):
    if error is None:
        print(f"ok   {name} ({seconds:.1f} s)", flush=True)
        return True
    text = "".join(traceback.format_exception(error))
    shown = str(error) if isinstance(error, AssertionError) and str(error) else text
    print(f"FAIL {name}: {shown}", flush=True)
    return False


def run(suite, names):
    checks, results = chosen(suite, names), []
    plans = [*well_plans(), *(check.plan for check in checks)]
    with World() as around_all:
        around = world.Around(around_all, SCALES[suite], plans)
        with ThreadPoolExecutor(PARALLEL[suite]) as pool:
            # The slowest first.
            order = sorted(checks, key=lambda check: check.fault != "s15")
            running = {pool.submit(run_one, check, around): check for check in order}
            for done in as_completed(running):
                results.append(told(running[done].name, *done.result()))
        for check in AFTERWARDS:
            began = time.monotonic()
            try:
                check(around, not names)
                error = None
            except Exception as problem:  # as above
                error = problem
            results.append(told(check.__name__, error, time.monotonic() - began))
    return results.count(True), results.count(False)


def main(suite, *names):
    try:
        passed, failed = run(suite, names)
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        passed, failed = 0, 1
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
