"""What users of other gateways reported of their bills, each as a check. The numbers are those of the
threads in which they did."""

import threading
from decimal import Decimal

from provider import Plan
from words import UNKNOWN, bill, nanodollars
from world import FREE

from running import every_row

CHECKS = []
USAGE = '{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050}'
COUNTS = '{"input_tokens":1000,"output_tokens":50}'
ENDS = {"start": '{"input_tokens":1000,"output_tokens":1}', "end": COUNTS}
BILLED = {"input": 1000, "output": 50}


def check(name):
    def take(run):
        CHECKS.append((name, run))
        return run

    return take


@check("an unknown model is not free: refused under a budget, and its provider not asked")
def unknown_is_refused(bench):
    status, _, text = bench.send("open/never-heard-of")
    assert status == 400 and "price" in text, (status, text)
    assert not bench.provider.log("never-heard-of"), "the provider was asked"


@check("an unknown model without a budget: no cost is claimed")
def unknown_is_said(bench):
    bench.provider.plan("unheard", usage=USAGE)
    answer = bench.ask("open/unheard", key=FREE)
    (row,) = bench.rows()
    assert answer.cost is None, f"the client was told {answer.cost}"
    assert row["price_version"] is None and row["usage"]["input_tokens"] == 1000, row


@check("an attempt that was refused is not billed, the one after it is")
def failed_attempts_cost_nothing(bench):
    bench.provider.plan("again", Plan(fails=503), Plan(usage=USAGE))
    bench.ask("route/again")
    first, second = sorted(bench.rows(), key=lambda row: row["error"] is None)
    assert nanodollars(first["cost"]) == nanodollars(first["unreconciled"]) == 0, first
    assert nanodollars(second["cost"]) == bill(BILLED), second


@check("a stream that was cut before its usage keeps what was reserved")
def cut_streams_are_unreconciled(bench):
    bench.provider.plan("cut", usage=USAGE, cut=True)
    bench.send("chat/cut", stream=True)
    rows = bench.rows()
    assert rows, "no row"
    for row in rows:
        assert row["error"] and nanodollars(row["cost"]) == 0, row
        assert nanodollars(row["unreconciled"]) == nanodollars(row["reserved"]) > 0, row


def at_the_end(server, provider):
    """(what, what is wrong with it or None): the whole ledger beside the whole log of the provider."""
    rows = {row["attempt"]: row for row in every_row(server)}
    asked = [line["attempt"] for line in provider.seen]
    missing = [attempt for attempt in asked if attempt not in rows]
    yield "every request that the provider saw is a row", f"{len(missing)} are not" if missing else None
    twice = len(asked) - len(set(asked))
    yield "no attempt was sent twice", f"{twice} were" if twice else None
    _, budgets = server.api("GET", "budgets")
    (budget,) = budgets["data"]
    _, keys = server.api("GET", "keys")
    (key,) = [key["id"] for key in keys["data"] if key["name"] == "suite"]
    mine = [row for row in rows.values() if row["key"] == key]
    for amount, column in (("settled", "cost"), ("unreconciled", "unreconciled")):
        total = sum(Decimal(row[column]) for row in mine)
        found = Decimal(budget[f"{amount}_usd"])
        yield f"the budget's {amount} is its rows' sum", None if found == total else f"{found}, the rows have {total}"
    for amount in ("reserved", "presumed"):
        found = Decimal(budget[f"{amount}_usd"])
        yield f"nothing is {amount}", None if found == 0 else str(found)
