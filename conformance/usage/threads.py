"""What users of other gateways reported of their bills, each as a check. The numbers are those of the
threads in which they did."""

import threading
from decimal import Decimal

from provider import Plan
from words import bill, nanodollars
from world import CAP, FREE, Bench

from running import every_row

CHECKS = []
USAGE = '{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050}'
COUNTS = '{"input_tokens":1000,"output_tokens":50}'
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


@check("a dearer tier that is asked for is reserved at its price, and billed as it was answered")
def tiers_are_billed_as_answered(bench):
    for answered, tier in (("priority", "priority"), ("default", None)):
        bench.provider.plan("tiered", usage=USAGE, beside=f'"service_tier":"{answered}"')
        bench.ask("chat/tiered", service_tier="priority")
        row = bench.rows()[-1]
        assert nanodollars(row["cost"]) == bill(BILLED | {"tier": tier}), row
    usual = Bench(bench.server, bench.provider, bench.task + "usual")
    usual.ask("chat/tiered")
    (plain,) = usual.rows()
    assert nanodollars(row["reserved"]) > nanodollars(plain["reserved"]), "reserved as usual"


@check("a tier that the price does not say is refused by name, and its provider not asked")
def unpriced_tiers_are_refused(bench):
    status, _, text = bench.send("bare/unasked", service_tier="priority")
    assert status == 400 and "service_tier" in text, (status, text)
    assert not bench.provider.log("unasked"), "the provider was asked"


@check("an answer at a tier that the price does not say costs what was reserved, and says why")
def unpriced_tiers_are_unreconciled(bench):
    bench.provider.plan("bare", usage=USAGE, beside='"service_tier":"priority"')
    answer = bench.ask("bare/bare")
    (row,) = bench.rows()
    assert answer.cost is None, answer.cost
    assert nanodollars(row["cost"]) == 0 < nanodollars(row["unreconciled"]), row
    assert row["notes"]["unpriced"] == "priority" and row["usage"]["input_tokens"] == 1000, row


SEARCH = {"type": "web_search_20250305", "name": "web_search"}


@check("searches with a bound are reserved, and billed as they were made")
def bounded_searches(bench):
    usage = '{"input_tokens":3000,"output_tokens":50,"server_tool_use":{"web_search_requests":2}}'
    bench.provider.plan("searching", usage=usage)
    bench.ask("searching/searching", door="messages", tools=[SEARCH | {"max_uses": 2}])
    (row,) = bench.rows()
    expected = {"input": 3000, "output": 50, "search": 2}
    assert nanodollars(row["cost"]) == bill(expected), row
    # Three prompts as long as the context, all of them written to the cache, and three answers.
    most = bill({"write": 3 * 10_000, "output": 3 * CAP, "search": 2})
    assert nanodollars(row["reserved"]) == most, (row["reserved"], most)


@check("searches without a bound are refused by name under a budget")
def unbounded_searches(bench):
    status, _, text = bench.send("searching/unasked", door="messages", tools=[SEARCH])
    assert status == 400 and "tools" in text, (status, text)
    assert not bench.provider.log("unasked"), "the provider was asked"


def left(bench, model, door, usage=USAGE, opens=True, **how):
    """The row of a Call whose client goes in the middle of its answer."""
    gate = threading.Event()
    name = model.split("/")[1]
    bench.provider.plan(name, usage=usage, gate=gate)
    bench.leave(model, door=door, **how)
    if opens:
        gate.set()
    row = bench.row_in_the_end()
    gate.set()
    return row


@check("a client that hangs up: the stream is read on, and costs what its provider bills")
def hang_up_and_drain(bench):
    row = left(bench, "drained/drained-left", "chat")
    assert row["error"] == "cancelled" and row["notes"]["drained"] is True, row
    assert nanodollars(row["cost"]) == bill(BILLED) and nanodollars(row["unreconciled"]) == 0, row
    assert bench.provider.log("drained-left")[-1]["whole"], "the provider could not send all"


@check("a client of messages that hangs up: the same")
def hang_up_and_drain_messages(bench):
    row = left(bench, "drained-messages/drained-messages-left", "messages", usage=COUNTS)
    assert nanodollars(row["cost"]) == bill(BILLED) and nanodollars(row["unreconciled"]) == 0, row


@check("a client that hangs up on a translated stream: the same")
def hang_up_and_drain_translated(bench):
    row = left(bench, "drained-messages/drained-messages-late", "chat", usage=COUNTS)
    assert nanodollars(row["cost"]) == bill(BILLED), row


@check("a client that hangs up: by default the stream is given up, and costs what was reserved")
def hang_up_and_abort(bench):
    row = left(bench, "chat/left", "chat", opens=False)
    assert nanodollars(row["cost"]) == 0, row
    assert nanodollars(row["unreconciled"]) == nanodollars(row["reserved"]) > 0, row


@check("a stream that is read on for nobody ends in time, and then costs what was reserved")
def drains_are_bounded(bench):
    row = left(bench, "hurried/hurried-left", "chat", opens=False)
    assert row["notes"]["drained"] is False, row
    assert nanodollars(row["unreconciled"]) == nanodollars(row["reserved"]) > 0, row


@check("a task is the sum of its Calls, and says what each useful answer cost")
def tasks_add_up(bench):
    bench.provider.plan("tasked", Plan(fails=503), Plan(usage=USAGE))
    bench.ask("route/tasked")
    bench.provider.plan("tasked", usage=USAGE)
    bench.ask("route/tasked")
    status, found = bench.server.api("GET", f"tasks/{bench.task}")
    assert status == 200, found
    (task,) = found["data"]
    counts = [task[name] for name in ("model_calls", "attempts", "retries", "failed", "useful_answers")]
    assert counts == [2, 3, 1, 1, 2], task
    assert nanodollars(task["settled_usd"]) == 2 * bill(BILLED), task
    assert nanodollars(task["usd_per_useful_answer"]) == bill(BILLED), task
    said = [row["why"] for row in bench.rows()]
    # What it counts is more than so short a request can have.
    assert said.count("not_billed") == 1 and said.count("over_bound") == 2, said


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
