"""The suite `context`: a history that grows is kept small, and no call loses its result.

    suite.py [NAME …]     only the checks whose name contains one of the NAMEs

An agent's history grows step by step and is sent at each, through the doors of chat completions,
responses and messages, to targets of all three formats. What the provider was told is what is
judged: it refuses a call without its result, as the real ones do. Standard library only.
"""

import json
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from provider import Provider, chat, messages, responses  # noqa: E402
from words import TOOL, Asked, Call, Image, Result, Turn, only, text_of  # noqa: E402

from harness import Server, SetupFailed, World  # noqa: E402

DOORS = {"chat": chat, "responses": responses, "messages": messages}
VENDORS = {"chat": "openai-compatible", "responses": "openai-responses", "messages": "anthropic"}
KEY = "hf_suite_context_0123456789abcdef"
POOR = "hf_suite_context_poor_0123456789"
STORM = "hf_suite_context_storm_012345678"
# Some ten Calls at their bounds, with their summaries: less than the storm asks for.
STORM_LIMIT = Decimal("0.15")
PARALLEL = 6
RESULT_BYTES = 900
CLEARED = "[Old tool result cleared"

ROW = """
[[providers]]
name = "{name}"
vendor = "{vendor}"
base_url = "{url}/v1"
api_key = "key-of-the-provider"
"""
PRICED = ', input_usd_per_million = "1.00", output_usd_per_million = "10.00"'
ROUTE = """
[[routes]]
name = "{name}"
targets = [{targets}]
attempts = 2
tries_per_target = 1
[routes.context]
"""
CLEAR = "clear_at_tokens = 3000\nclear_keep_results = 2\nclear_at_least_tokens = 1000\n"
COMPACT = (
    "compact_at_tokens = 3000\ncompact_keep_tokens = 600\ncompact_summary_tokens = 64\n"
    'compact_model = "chat/{small}"\n'
)


def config(provider):
    parts = []
    for name, vendor in VENDORS.items():
        parts.append(ROW.format(name=name, vendor=vendor, url=provider.url))
        if name == "chat":
            ids = ["m", "small", "small-free", "broken", "broken-wide", "one", "narrow"]
            window = {"broken-wide": 100_000, "narrow": 4_000}
            models = [
                f'{{ id = "{id}"'
                + (", free = true" if id in ("small-free", "one") else PRICED)
                + (f", context_tokens = {window[id]}" if id in window else "")
                + ", max_output_tokens = 256 }"
                for id in ids
            ]
            parts.append(f"models = [{', '.join(models)}]\n")

    def route(name, targets, policy):
        targets = ", ".join(f'"{target}"' for target in targets)
        parts.append(ROUTE.format(name=name, targets=targets) + policy)

    for name in VENDORS:
        route(f"clear-{name}", [f"{name}/m"], CLEAR)
        route(f"compact-{name}", [f"{name}/m"], COMPACT.format(small="small"))
        route(f"both-{name}", [f"{name}/m"], CLEAR + COMPACT.format(small="small"))
    route("excluded", ["chat/m"], CLEAR + 'clear_exclude_tools = ["look"]\n')
    route("unsummarised", ["chat/m"], COMPACT.format(small="broken"))
    route("free", ["chat/one"], COMPACT.format(small="small"))
    share = "clear_at_percent = 75\nclear_keep_results = 1\nclear_at_least_tokens = 0\n"
    route("window", ["chat/broken-wide", "chat/narrow"], share)
    parts.append('\n[[keys]]\nname = "suite"\nsecret = "${SUITE_KEY}"\n')
    parts.append('\n[[keys]]\nname = "poor"\nsecret = "${POOR_KEY}"\n')
    # Less than one summary at its bound.
    parts.append('\n[[budgets]]\nscope = { key = "poor" }\nlimit_usd = "0.002"\n')
    parts.append('\n[[keys]]\nname = "storm"\nsecret = "${STORM_KEY}"\n')
    parts.append(f'\n[[budgets]]\nscope = {{ key = "storm" }}\nlimit_usd = "{STORM_LIMIT}"\n')
    return "".join(parts)


class Bench:
    """A server and its provider, and an agent's history with a word of its own."""

    def __init__(self, server, provider, mark):
        self.server, self.provider, self.mark = server, provider, mark

    def history(self, steps, parallel=1, result_bytes=RESULT_BYTES):
        """The task, and so many steps of calls with their results."""
        turns = [Turn("user", [f"The task of {self.mark}: read all of it."])]
        for step in range(steps):
            calls = [
                Call("look", json.dumps({"n": step * 10 + at}), f"call_{step}_{at}")
                for at in range(parallel)
            ]
            turns.append(Turn("assistant", calls))
            results = [
                Result(call.id, [f"RESULT {call.id} {self.mark} " + "x" * result_bytes]) for call in calls
            ]
            turns.append(Turn("tool", results))
        return turns

    def ask(self, door, route, turns, key=KEY, headers=None, **more):
        asked = Asked(turns, system=f"You are {self.mark}.", tools=[TOOL], cap=64, **more)
        asked.model = route
        sent = {"holdfast-task": self.mark, **(headers or {})}
        status, got, data = self.server.http("POST", door.PATH, door.request(asked), key, sent)
        return status, got, data.decode()

    def context(self, got):
        """`holdfast-context` as a dictionary; {} if it is not there."""
        pairs = (got.get("holdfast-context") or "").split("; ")
        return dict(pair.split("=", 1) for pair in pairs if pair)

    def told(self, target, model="m"):
        """What the provider was told of this history, oldest first, in no format's words."""
        format = DOORS[target]
        return [
            format.read_request(json.loads(body))
            for body in self.provider.bodies(model, f"You are {self.mark}.")
        ]

    def summaries(self, model="small"):
        """What summaries were asked for of this history."""
        return self.provider.bodies(model, self.mark)

    def rows(self):
        status, found = self.server.api("GET", f"calls?task={self.mark}&limit=1000")
        assert status == 200, found
        return found["data"]

    def sent_fine(self, answer):
        status, got, text = answer
        assert status == 200, (status, text)
        return self.context(got)


def pairs(asked):
    """Every result with the call that it names: (call's id, its argument, the result's text)."""
    calls = {call.id: call for turn in asked.turns for call in only(Call, turn.parts)}
    found = []
    for turn in asked.turns:
        for result in only(Result, turn.parts):
            call = calls[result.of]
            found.append((result.of, json.loads(call.arguments)["n"], text_of(result.parts)))
    return found


def attached(asked):
    """Each result is its own call's."""
    for of, n, text in pairs(asked):
        step, at = of.removeprefix("call_").split("_")
        assert n == int(step) * 10 + int(at), (of, n)
        assert text.startswith(f"RESULT {of} ") or text.startswith(CLEARED), (of, text[:60])


def grows(bench, door, route, steps, **more):
    """Sends the history as it grows; what `holdfast-context` said at each step."""
    return [
        bench.sent_fine(bench.ask(door, route, bench.history(step, **more)))
        for step in range(1, steps + 1)
    ]


CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def crossed_twice(door, target):
    def crossing(bench):
        parallel = 2 if door == "messages" else 1
        steps = 26 // parallel
        said = grows(bench, DOORS[door], f"route/compact-{target}", steps, parallel=parallel)
        told = bench.told(target)
        assert len(told) == steps, len(told)
        for asked in told:
            attached(asked)
            assert f"You are {bench.mark}." in asked.system
            whole = "".join(text_of(turn.parts) for turn in asked.turns)
            assert f"The task of {bench.mark}: read all of it." in whole
        marks = [[part for turn in asked.turns for part in turn.parts if isinstance(part, str)
                  and "<summary>" in part] for asked in told]
        summaries = list(dict.fromkeys(str(mark) for mark in marks if mark))
        assert len(summaries) >= 2, f"crossed {len(summaries)} times"
        # One summary for each crossing, not for each request; and the last result is always there.
        assert len(bench.summaries()) == len(summaries), (len(bench.summaries()), summaries)
        for step, asked in enumerate(told):
            last = [of for of, _, text in pairs(asked) if text.startswith("RESULT")][-1]
            assert last.startswith(f"call_{step}_"), (step, last)
        assert any("summary" in one for one in said) and int(said[-1]["compacted"]) > 0
        assert int(said[-1]["after"]) <= 3000 < int(said[-1]["before"]), said[-1]
        # Between two crossings it only grows at its end.
        for (before, mark), (after, other) in zip(zip(told, marks), list(zip(told, marks))[1:]):
            if mark == other:
                assert after.turns[: len(before.turns)] == before.turns

    crossing.__name__ = f"a_threshold_crossed_twice_keeps_results_attached_{door}_to_{target}"
    return check(crossing)


for door_name in DOORS:
    for target_name in VENDORS:
        crossed_twice(door_name, target_name)


def cleared(door):
    def clearing(bench):
        said = grows(bench, DOORS[door], f"route/clear-{door}", 14)
        told = bench.told(door)
        for asked in told:
            attached(asked)
        last = pairs(told[-1])
        assert len(last) == 14, "a result is gone"
        gone = [of for of, _, text in last if text.startswith(CLEARED)]
        assert 0 < len(gone) <= 12 and gone == [of for of, _, _ in last][: len(gone)], gone
        assert said[-1]["cleared"] == str(len(gone)) and said[-1]["compacted"] == "0", said[-1]
        assert said[0] == {}, "a small history was changed"
        # It was not cleared anew at each step.
        changes = len({one.get("cleared", "0") for one in said}) - 1
        assert 2 <= changes <= 4, [one.get("cleared") for one in said]

    clearing.__name__ = f"old_results_are_cleared_{door}"
    return check(clearing)


for door_name in DOORS:
    cleared(door_name)


@check
def clearing_comes_before_compacting(bench):
    said = grows(bench, chat, "route/both-chat", 12)
    assert int(said[-1]["cleared"]) > 0, said[-1]
    assert not bench.summaries(), "clearing was enough, and a summary was paid for"


@check
def a_small_history_passes_byte_for_byte(bench):
    turns = bench.history(2)
    body = chat.request(Asked(turns, system=f"You are {bench.mark}.", cap=64))
    body["model"], body["an_unknown_field"] = "route/clear-chat", {"kept": True}
    raw = json.dumps(body, indent=1).encode()
    status, got, _ = bench.server.http("POST", chat.PATH, raw, KEY)
    assert status == 200 and got.get("holdfast-context") is None
    seen = bench.provider.bodies("m", f"You are {bench.mark}.")[-1]
    assert seen == raw.replace(b'"route/clear-chat"', b'"m"'), seen


@check
def named_tools_keep_their_results(bench):
    turns = bench.history(14)
    assert bench.sent_fine(bench.ask(chat, "route/excluded", turns)) == {}
    assert all(text.startswith("RESULT") for _, _, text in pairs(bench.told("chat")[-1]))


@check
def pictures_count_and_stay_with_the_users_last_message(bench):
    turns = bench.history(1)
    turns[0] = Turn("user", [f"The task of {bench.mark}: look.", Image(), Image()])
    assert bench.sent_fine(bench.ask(chat, "route/clear-chat", turns)) == {}
    turns = bench.history(6)
    turns[0] = Turn("user", [f"The task of {bench.mark}: look.", Image(), Image()])
    said = bench.sent_fine(bench.ask(chat, "route/clear-chat", turns))
    assert int(said["before"]) > 3200 and said["cleared"] == "4", said
    assert len(only(Image, bench.told("chat")[-1].turns[0].parts)) == 2


@check
def the_users_last_message_is_told_as_it_is(bench):
    turns = bench.history(8) + [
        Turn("assistant", ["I am done."]),
        Turn("user", [f"And now {bench.mark} something else."]),
    ]
    said = bench.sent_fine(bench.ask(chat, "route/compact-chat", turns))
    assert int(said["compacted"]) > 0, said
    asked = bench.told("chat")[-1]
    assert f"And now {bench.mark} something else." in text_of(asked.turns[-1].parts)


@check
def the_summary_is_a_call_of_its_own_on_the_bill(bench):
    said = bench.sent_fine(bench.ask(chat, "route/compact-chat", bench.history(12)))
    rows = bench.rows()
    child = next(row for row in rows if row["target"] == "chat/small")
    parent = next(row for row in rows if row["target"] == "chat/m")
    assert said["summary"] == child["call"] and child["parent"] == parent["call"], rows
    # 100 tokens in at one dollar, 20 out at ten, per million: as the provider counted.
    assert child["cost"] == parent["cost"] == "0.0003", (child["cost"], parent["cost"])
    noted = parent["notes"]["context"]
    for name in ("cleared", "compacted", "before", "after"):
        assert str(noted[name]) == said[name], (noted, said)
    assert noted["summary"] == child["call"]


@check
def a_summary_is_kept_for_the_requests_that_follow(bench):
    turns = bench.history(12)
    first = bench.sent_fine(bench.ask(chat, "route/compact-chat", turns))
    again = bench.sent_fine(bench.ask(messages, "route/compact-chat", turns))
    assert first["summary"].startswith("hfc_") and again["summary"] == "kept", (first, again)
    assert len(bench.summaries()) == 1


@check
def requests_at_once_want_one_summary(bench):
    turns = bench.history(12)
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(bench.ask, chat, "route/compact-chat", turns) for _ in range(6)]
        said = [bench.sent_fine(job.result()) for job in jobs]
    assert len(bench.summaries()) == 1, len(bench.summaries())
    assert sum(one["summary"].startswith("hfc_") for one in said) == 1, said


@check
def a_summary_that_fails_is_said_and_not_asked_for_again_at_once(bench):
    turns = bench.history(12)
    for _ in range(2):
        said = bench.sent_fine(bench.ask(chat, "route/unsummarised", turns))
        assert said["summary"] == "missing:upstream_failed", said
        assert said["compacted"] == "0" and said["before"] == said["after"], said
    assert len(bench.summaries("broken")) == 1
    assert len(pairs(bench.told("chat")[-1])) == 12


@check
def a_budget_without_room_for_a_summary_is_not_passed(bench):
    said = bench.sent_fine(bench.ask(chat, "route/free", bench.history(12), key=POOR))
    assert said["summary"] == "missing:budget_exceeded", said
    assert not bench.summaries(), "it was asked all the same"
    _, budgets = bench.server.api("GET", "budgets")
    (poor,) = [row for row in budgets["data"] if row["scope"]["key"] == "poor"]
    assert poor["settled_usd"] == "0.00", poor


@check
def a_storm_of_summaries_passes_no_budget(bench):
    """Many agents at once, each with a history that wants a summary: all of it is on one bill."""
    agents = [Bench(bench.server, bench.provider, f"{bench.mark}-{n:02}") for n in range(48)]
    with ThreadPoolExecutor(16) as pool:
        ask = lambda agent: agent.ask(chat, "route/compact-chat", agent.history(12), key=STORM)  # noqa: E731
        answers = list(pool.map(ask, agents))
    statuses = {status for status, _, _ in answers}
    rows = [row for agent in agents for row in agent.rows()]
    summaries = [row for row in rows if row["target"] == "chat/small"]
    assert statuses == {200, 429}, f"the budget was to end amid the storm: {statuses}"
    assert summaries and len(summaries) < len(agents), len(summaries)
    _, budgets = bench.server.api("GET", "budgets")
    (budget,) = [row for row in budgets["data"] if row["scope"]["key"] == "storm"]
    amounts = {name: Decimal(budget[f"{name}_usd"]) for name in ("settled", "unreconciled", "reserved")}
    assert sum(amounts.values()) <= STORM_LIMIT and amounts["reserved"] == 0, budget
    billed = sum(Decimal(row["cost"]) for row in rows)
    assert amounts["settled"] == billed > 0, (budget, billed)
    # Each summary was told to the provider once, and nobody else was.
    told = sum(len(agent.summaries()) for agent in agents)
    assert told == len(summaries), (told, len(summaries))


@check
def the_callers_own_cap_counts_the_summary_too(bench):
    headers = {"holdfast-budget": "0.0001"}
    said = bench.sent_fine(bench.ask(chat, "route/free", bench.history(12), headers=headers))
    assert said["summary"] == "missing:budget_exceeded", said
    assert not bench.summaries()


@check
def marks_for_the_prompt_cache_stay_on_what_is_left(bench):
    for route in ("clear-messages", "compact-messages"):
        asked = Asked(bench.history(14), system=f"You are {bench.mark}.", tools=[TOOL], cap=64)
        asked.model = f"route/{route}"
        body = messages.request(asked)
        hour, mark = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
        body["system"][0]["cache_control"] = hour
        body["messages"][-1]["content"][-1]["cache_control"] = mark
        sent = {"holdfast-task": bench.mark}
        status, got, data = bench.server.http("POST", messages.PATH, body, KEY, sent)
        said = bench.sent_fine((status, got, data.decode()))
        assert int(said["cleared"]) + int(said["compacted"]) > 0, said
        assert "cache_control" not in (got.get("holdfast-dropped") or ""), got
        told = json.loads(bench.provider.bodies("m", f"You are {bench.mark}.")[-1])
        assert told["system"][0]["cache_control"] == hour, told["system"]
        held = [block for turn in told["messages"] for block in turn["content"]
                if isinstance(turn["content"], list)]
        marked = [block for block in held if "cache_control" in block]
        assert marked == [held[-1]] and marked[0]["cache_control"] == mark, marked


@check
def streams_are_edited_too(bench):
    status, got, text = bench.ask(chat, "route/clear-messages", bench.history(14), stream=True)
    assert status == 200 and "[DONE]" in text, text
    assert int(bench.context(got)["cleared"]) > 0
    attached(bench.told("messages")[-1])


@check
def a_fallback_is_told_what_fits_its_own_window(bench):
    # The first target's provider knows no such model and fails; the second one's window is small.
    turns = bench.history(10)
    status, got, text = bench.ask(chat, "route/window", turns)
    assert status == 200, text
    assert got["holdfast-model"] == "chat/narrow", got["holdfast-model"]
    assert int(bench.context(got)["cleared"]) > 0
    first = bench.told("chat", "broken-wide")[-1]
    assert all(text.startswith("RESULT") for _, _, text in pairs(first))
    assert any(text.startswith(CLEARED) for _, _, text in pairs(bench.told("chat", "narrow")[-1]))


def stored(bench, route):
    """A stored response's headers and body."""
    body = responses.request(Asked(bench.history(14), tools=[TOOL], cap=64))
    body |= {"model": route, "store": True, "instructions": f"You are {bench.mark}."}
    headers = {"holdfast-task": bench.mark}
    status, got, data = bench.server.http("POST", responses.PATH, body, KEY, headers)
    assert status == 200, data
    return got, json.loads(data)


@check
def a_stored_responses_steps_follow_the_policy(bench):
    stored(bench, "route/clear-chat")
    asked = bench.told("chat")[-1]
    attached(asked)
    assert any(text.startswith(CLEARED) for _, _, text in pairs(asked))
    assert bench.rows()[0]["notes"]["context"]["cleared"] > 0


@check
def a_stored_responses_summary_is_beside_its_steps(bench):
    got, response = stored(bench, "route/compact-chat")
    attached(bench.told("chat")[-1])
    rows = {row["target"]: row for row in bench.rows()}
    summary, step = rows["chat/small"], rows["chat/m"]
    assert len(bench.summaries()) == 1 and len(bench.rows()) == 2, rows
    assert summary["parent"] == step["call"] and summary["session"] == step["session"], rows
    assert step["step"] and not summary.get("step"), rows
    assert step["notes"]["context"]["summary"] == summary["call"], step["notes"]
    assert response["status"] == "completed", response
    # The turn's cost is its steps'.
    assert float(got["holdfast-cost"]) == float(step["cost"]), (got["holdfast-cost"], step)


def run(server, provider, wanted):
    jobs = [
        (name, function)
        for name, function in CHECKS.items()
        if not wanted or any(word in name for word in wanted)
    ]

    def one(job):
        number, (name, function) = job
        try:
            function(Bench(server, provider, f"agent{number:03}"))
            return name, None
        except Exception as error:  # any failure of a check is its result
            return name, error

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(one, enumerate(jobs)))


def main(wanted):
    provider = Provider()
    try:
        with World() as world:
            keys = {"SUITE_KEY": KEY, "POOR_KEY": POOR, "STORM_KEY": STORM}
            server = world.start(Server, config(provider), env=keys)
            results = run(server, provider, wanted)
            orphans = provider.orphans
    except SetupFailed as problem:
        print(f"conformance: {problem}\n0 passed, 1 failed")
        return 1
    finally:
        provider.close()
    if not wanted:
        lost = AssertionError(orphans) if orphans else None
        results.append(("no_provider_ever_saw_half_of_a_pair", lost))
    failed = [(name, error) for name, error in results if error]
    for name, error in failed:
        print(f"FAIL {name}: {type(error).__name__}: {error}")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
