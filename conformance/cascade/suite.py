"""The suite `cascade`: a cheap target first, the next one if its answer does not pass.

    suite.py [NAME …]     only the checks whose name contains one of the NAMEs

Each check tells a provider of its own what each model answers, asks a route, and judges by what the
client got, what the provider was asked, and what the ledger says against the provider's own counts,
to the nanodollar. Standard library only.
"""

import http.client
import json
import pathlib
import sys
import time
from decimal import Decimal
from types import SimpleNamespace

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from provider import Provider, chat, messages  # noqa: E402
from words import SCHEMA, TOOL, Asked, Turn, calls, text_of  # noqa: E402

from harness import Server, SetupFailed, World, eventually  # noqa: E402
from running import chosen, equal, flow, mark_of, run  # noqa: E402

KEY, POOR = "hf_suite_cascade_0123456789abcdef", "hf_suite_cascade_poor_0123456789"
DOORS = {"chat": chat, "messages": messages}
# Dollars for a million tokens, in and out.
PRICES = {
    "chat/cheap": (1, 10),
    "chat/mid": (2, 20),
    "chat/dear": (5, 50),
    "chat/judge": (1, 4),
    "messages/cheap": (1, 10),
    "messages/dear": (5, 50),
}
VENDORS = {"chat": "openai-compatible", "messages": "anthropic"}
TOKENS = [100, 20]
GIVEN = '{ type = "object", required = ["n"], properties = { n = { type = "integer" } } }'
JUDGE = 'judge = {{ model = "chat/judge", threshold = 60, timeout = "{}", on_failure = "{}" }}'
# Route: what it asks of answers, and its targets if they are not the cheap and the dear one.
ROUTES = {
    "complete": ("complete = true",),
    "refusal": ("no_refusal = true",),
    "empty": ("not_empty = true",),
    "tools": ("tool_arguments = true",),
    "asked": ('json_schema = "request"',),
    "given": (f"json_schema = {GIVEN}",),
    "must": ("must_match = ['^Total: \\d+$']",),
    "must-not": ("must_not_match = ['(?i)as an ai']",),
    "logprob": ("min_logprob = -0.5",),
    "judged": (JUDGE.format("10s", "accept"),),
    "judged-hard": (JUDGE.format("10s", "escalate"),),
    "judged-soon": (JUDGE.format("300ms", "accept"),),
    "three": ("must_not_match = ['bad']", ["chat/cheap", "chat/mid", "chat/dear"]),
    "messages": ("must_not_match = ['bad']", ["messages/cheap", "chat/dear"]),
    "from-chat": ("must_not_match = ['bad']", ["chat/cheap", "messages/dear"]),
    "both-messages": ("must_not_match = ['bad']", ["messages/cheap", "messages/dear"]),
}


def config(provider):
    parts = []
    for name, vendor in VENDORS.items():
        models = [
            f'{{ id = "{model.split("/")[1]}", input_usd_per_million = "{prices[0]}", '
            f'output_usd_per_million = "{prices[1]}", max_output_tokens = 256 }}'
            for model, prices in PRICES.items()
            if model.startswith(name + "/")
        ]
        parts.append(
            f'[[providers]]\nname = "{name}"\nvendor = "{vendor}"\nbase_url = "{provider.url}/v1"\n'
            f'api_key = "key-of-the-provider"\nmodels = [{", ".join(models)}]\n'
        )
    for name, (policy, *targets) in ROUTES.items():
        targets = json.dumps(targets[0] if targets else ["chat/cheap", "chat/dear"])
        parts.append(
            f'[[routes]]\nname = "{name}"\ntargets = {targets}\ntries_per_target = 1\n'
            f'keep_alive_after = "200ms"\n[routes.cascade]\n{policy}\n'
        )
    for name, variable in (("suite", "SUITE_KEY"), ("poor", "POOR_KEY")):
        parts.append(f'[[keys]]\nname = "{name}"\nsecret = "${{{variable}}}"\n')
    # Enough for a dear attempt, but not beside what a cheap one cost.
    parts.append('[[budgets]]\nscope = { key = "poor" }\nlimit_usd = "0.0135"\n')
    return "\n".join(parts)


def cost(target, tokens=TOKENS):
    """What the provider's count of tokens costs there, in dollars."""
    prices = PRICES[target]
    return Decimal(tokens[0] * prices[0] + tokens[1] * prices[1]) / 1_000_000


class Bench:
    """One check's view of the server: its requests carry a mark of its own."""

    def __init__(self, server, provider, mark):
        self.server, self.provider, self.mark = server, provider, mark

    def ask(self, route, door="chat", key=KEY, headers=None, stream=False, **script):
        """Asks a route; each model answers as `script` says. What the client got."""
        status, got, data = self.send(route, door, key, headers, stream, script)
        assert status == 200, (status, data)
        format, text = DOORS[door], data.decode()
        said = format.read_stream(text) if stream else format.read_answer(json.loads(text))
        assert said.whole and not said.error, (said, text)
        return SimpleNamespace(
            text=text_of(said.parts),
            calls=[call.arguments for call in calls(said.parts)],
            cascade=got.get("holdfast-cascade"),
            model=got["holdfast-model"],
            cost=got.get("holdfast-cost"),
            attempts=got.get("holdfast-attempts"),
            raw=text,
        )

    def body(self, route, door, stream, script, schema=None):
        models = {model.replace("_", "-"): line for model, line in script.items()}
        text = f"{self.mark} @@{json.dumps(models)}@@"
        asked = Asked([Turn("user", [text])], tools=[TOOL], schema=schema, stream=stream, cap=64)
        asked.model = f"route/{route}"
        return DOORS[door].request(asked)

    def send(self, route, door, key, headers, stream, script):
        script = dict(script)
        body = self.body(route, door, stream, script, script.pop("schema", None))
        sent = {"holdfast-task": self.mark, **(headers or {})}
        return self.server.http("POST", DOORS[door].PATH, body, key, sent)

    def rows(self):
        """The ledger's rows by target, oldest first."""
        status, found = self.server.api("GET", f"calls?task={self.mark}&limit=100")
        assert status == 200, found
        rows = {}
        for row in reversed(found["data"]):
            rows.setdefault(row["target"], []).append(row)
        return rows

    def row(self, target):
        (row,) = self.rows()[target]
        return row

    def models(self):
        return [model for model, _ in self.provider.of(self.mark)]


def accepts_and_rejects(bench, route, good, bad, validator, **more):
    """The good answer is given and the dear model not asked; in the bad one's place it answers."""
    answer = bench.ask(route, cheap=good, dear={"text": "From the dear."}, **more)
    equal((answer.cascade, answer.model), ("accepted", "chat/cheap"))
    equal(bench.models(), ["cheap"])
    answer = bench.ask(route, cheap=bad, dear={"text": "From the dear."}, **more)
    equal(answer.cascade, f"escalated; validator={validator}")
    equal((answer.model, answer.text), ("chat/dear", "From the dear."))
    equal(bench.models(), ["cheap", "cheap", "dear"])
    notes = [row["notes"]["cascade"] for row in bench.rows()["chat/cheap"]]
    return next(note for note in notes if "validator" in note)


@flow
def an_answer_cut_by_its_cap_is_rejected(bench):
    bad = {"text": "half", "stop": "length"}
    accepts_and_rejects(bench, "complete", {"text": "whole"}, bad, "complete")


@flow
def a_filtered_answer_is_rejected(bench):
    bad = {"text": "no", "stop": "filter"}
    accepts_and_rejects(bench, "refusal", {"text": "I can't say."}, bad, "no_refusal")


@flow
def a_refusal_of_the_formats_own_is_rejected(bench):
    accepts_and_rejects(bench, "refusal", {"text": "yes"}, {"refusal": "No."}, "no_refusal")


@flow
def a_streamed_refusal_is_rejected(bench):
    bad = {"text": "No.", "refusal": True}
    accepts_and_rejects(bench, "refusal", {"text": "yes"}, bad, "no_refusal", stream=True)


@flow
def an_empty_answer_is_rejected(bench):
    accepts_and_rejects(bench, "empty", {"text": "x"}, {"text": ""}, "not_empty")


@flow
def a_streamed_empty_answer_is_rejected(bench):
    accepts_and_rejects(bench, "empty", {"text": "x"}, {"text": "  "}, "not_empty", stream=True)


@flow
def arguments_by_the_tools_schema_pass_and_others_do_not(bench):
    good, bad = {"calls": ['{"n": 1}']}, {"calls": ['{"n": "one"}']}
    note = accepts_and_rejects(bench, "tools", good, bad, "tool_arguments")
    equal(note["detail"], "type")


@flow
def streamed_arguments_that_are_no_json_are_rejected(bench):
    good, bad = {"calls": ['{"n": 1}']}, {"calls": ['{"n": 1']}
    note = accepts_and_rejects(bench, "tools", good, bad, "tool_arguments", stream=True)
    equal(note["detail"], "no_json")


@flow
def the_schema_of_the_request_decides(bench):
    good, bad = {"text": '{"n": 5}'}, {"text": '{"n": 5, "m": 6}'}
    note = accepts_and_rejects(bench, "asked", good, bad, "json_schema", schema=SCHEMA)
    equal(note["detail"], "additionalProperties")


@flow
def without_a_schema_in_the_request_any_text_passes(bench):
    answer = bench.ask("asked", cheap={"text": "no json"})
    equal((answer.text, answer.cascade), ("no json", "accepted"))


@flow
def the_schema_of_the_route_decides(bench):
    good, bad = {"text": '{"n": 5}'}, {"text": "Sure! {}"}
    note = accepts_and_rejects(bench, "given", good, bad, "json_schema", stream=True)
    equal(note["detail"], "no_json")


@flow
def an_expression_must_be_found(bench):
    accepts_and_rejects(bench, "must", {"text": "Total: 12"}, {"text": "It is 12"}, "must_match")


@flow
def an_expression_must_not_be_found(bench):
    bad = {"text": "Well, as an AI I can't."}
    accepts_and_rejects(bench, "must-not", {"text": "12"}, bad, "must_not_match", stream=True)


@flow
def log_probabilities_are_asked_for_and_decide(bench):
    good, bad = {"text": "a", "logprobs": [-0.5, -0.3]}, {"text": "b", "logprobs": [-0.9, -0.2]}
    accepts_and_rejects(bench, "logprob", good, bad, "min_logprob")
    bodies = bench.provider.of(bench.mark)
    equal([body.get("logprobs") for _, body in bodies], [True, True, None])


@flow
def without_log_probabilities_an_answer_is_not_judged_by_them(bench):
    answer = bench.ask("logprob", cheap={"text": "a"})
    equal((answer.text, answer.cascade), ("a", "accepted"))
    equal(bench.row("chat/cheap")["notes"]["cascade"]["unjudged"], ["min_logprob"])


@flow
def a_judges_score_decides_and_its_call_is_on_the_ledger(bench):
    good, bad = {"text": '{"score": 60}'}, {"text": 'Hm. {"score": 59}', "tokens": [300, 7]}
    answer = bench.ask("judged", cheap={"text": "a"}, judge=good)
    equal((answer.cascade, answer.model), ("accepted", "chat/cheap"))
    answer = bench.ask("judged", cheap={"text": "a"}, judge=bad, dear={"text": "b"})
    equal((answer.cascade, answer.text), ("escalated; validator=judge", "b"))
    rows = bench.rows()
    judged = {row["notes"]["cascade"]["judge"]["score"]: row for row in rows["chat/cheap"]}
    equal(sorted(judged), [59, 60])
    for score, tokens in ((60, TOKENS), (59, [300, 7])):
        note = judged[score]["notes"]["cascade"]
        (judge,) = [row for row in rows["chat/judge"] if row["call"] == note["judge"]["call"]]
        equal(judge["parent"], judged[score]["call"])
        equal(Decimal(judge["cost"]), cost("chat/judge", tokens))
        equal(Decimal(note["judge"]["cost"]), cost("chat/judge", tokens))
        rejected = cost("chat/cheap") if score < 60 else 0
        equal(Decimal(note["wasted"]), cost("chat/judge", tokens) + rejected)


@flow
def a_judge_that_fails_accepts_or_escalates_as_the_route_says(bench):
    for line in ({"status": 429}, {"text": "It is fine."}, {"text": '{"score": 400}'}):
        script = {"cheap": {"text": "a"}, "judge": line, "dear": {"text": "b"}}
        answer = bench.ask("judged", **script)
        equal((answer.cascade, answer.text), ("accepted", "a"))
        answer = bench.ask("judged-hard", **script)
        equal((answer.cascade, answer.text), ("escalated; validator=judge", "b"))


@flow
def a_judge_that_takes_too_long_is_given_up(bench):
    began = time.monotonic()
    judge = {"text": '{"score": 1}', "delay": 4}
    answer = bench.ask("judged-soon", cheap={"text": "a"}, judge=judge)
    equal((answer.cascade, answer.text), ("accepted", "a"))
    assert time.monotonic() - began < 3.5, "the client waited for the judge"
    note = bench.row("chat/cheap")["notes"]["cascade"]
    equal(note["judge"]["failed"], "upstream_timeout")
    equal(note["unjudged"], ["judge"])
    judge = bench.row("chat/judge")
    equal(Decimal(note["wasted"]), Decimal(judge["unreconciled"]))


@flow
def what_was_saved_and_wasted_is_exact(bench):
    script = {
        "cheap": {"text": "bad", "tokens": [1_234, 7]},
        "mid": {"text": "good", "tokens": [1_111, 13]},
    }
    answer = bench.ask("three", **script)
    equal((answer.text, answer.cascade), ("good", "escalated; validator=must_not_match"))
    rejected, given = bench.row("chat/cheap"), bench.row("chat/mid")
    equal(Decimal(rejected["cost"]), cost("chat/cheap", [1_234, 7]))
    equal(Decimal(rejected["notes"]["cascade"]["wasted"]), cost("chat/cheap", [1_234, 7]))
    equal(Decimal(given["cost"]), cost("chat/mid", [1_111, 13]))
    saved = cost("chat/dear", [1_111, 13]) - cost("chat/mid", [1_111, 13])
    equal(Decimal(given["notes"]["cascade"]["saved"]), saved)
    equal(given["notes"]["cascade"]["wasted"], "0.00")
    equal(Decimal(answer.cost), Decimal(rejected["cost"]) + Decimal(given["cost"]))
    equal(answer.attempts, "2")


@flow
def an_accepted_answer_saves_what_the_last_would_have_cost_more(bench):
    bench.ask("three", cheap={"text": "good", "tokens": [999, 31]})
    saved = cost("chat/dear", [999, 31]) - cost("chat/cheap", [999, 31])
    note = bench.row("chat/cheap")["notes"]["cascade"]
    equal(Decimal(note["saved"]), saved)
    equal((note["escalated"], note["wasted"]), (False, "0.00"))


@flow
def the_last_target_saves_nothing_and_is_not_judged(bench):
    line = {"text": "bad"}
    answer = bench.ask("three", cheap=line, mid=line, dear=line)
    equal((answer.model, answer.text), ("chat/dear", "bad"))
    note = bench.row("chat/dear")["notes"]["cascade"]
    equal((note["escalated"], note["saved"]), (True, "0.00"))


@flow
def no_budget_no_escalation_and_the_rejected_answer_is_given(bench):
    line = {"text": "half", "stop": "length", "tokens": [1_500, 64]}
    answer = bench.ask("complete", key=POOR, cheap=line, dear={"text": "b"})
    equal((answer.cascade, answer.text), ("rejected; validator=complete", "half"))
    equal((bench.models(), answer.attempts), (["cheap"], "1"))


@flow
def the_callers_own_limit_holds_back_an_escalation(bench):
    # A dear attempt fits alone, and not beside what the cheap one cost.
    headers = {"holdfast-budget": "0.0135"}
    line = {"text": "half", "stop": "length", "tokens": [1_500, 64]}
    answer = bench.ask("complete", headers=headers, cheap=line, dear={"text": "b"})
    equal((answer.cascade, answer.text), ("rejected; validator=complete", "half"))
    equal(bench.models(), ["cheap"])


@flow
def if_the_dear_target_fails_the_rejected_answer_is_given(bench):
    script = {"cheap": {"text": "half", "stop": "length"}, "dear": {"status": 500}}
    for stream in (False, True):
        answer = bench.ask("complete", stream=stream, **script)
        equal((answer.cascade, answer.text), ("rejected; validator=complete", "half"))
        equal(answer.model, "chat/cheap")


@flow
def a_fallback_without_an_answer_is_no_escalation(bench):
    answer = bench.ask("complete", cheap={"status": 500}, dear={"text": "half", "stop": "length"})
    equal((answer.cascade, answer.model), (None, "chat/dear"))


class Stream:
    """A stream whose head and pieces are read as they come."""

    def __init__(self, bench, route, door, **script):
        host = bench.server.url.removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=20)
        body = json.dumps(bench.body(route, door, True, script))
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        headers["holdfast-task"] = bench.mark
        self.connection.request("POST", DOORS[door].PATH, body, headers)
        self.response = self.connection.getresponse()

    def until(self, word):
        """All that has come when a word has."""
        text = ""
        while word not in text:
            line = self.response.readline().decode()
            assert line, f"the stream ended without {word}: {text}"
            text += line
        return text

    def rest(self):
        return self.response.read().decode()


@flow
def a_stream_is_held_with_signs_of_life_and_then_comes_as_it_was(bench):
    gate = bench.provider.gate(bench.mark)
    line = {"text": "good words", "gate": bench.mark}
    stream = Stream(bench, "three", "chat", cheap=line)
    before = stream.until(": waiting")
    assert "good" not in before and '"delta"' not in before, before
    gate.set()
    rest = stream.rest()
    said = chat.read_stream(rest)
    equal((text_of(said.parts), said.whole), ("good words", True))
    assert "holdfast-cascade=accepted" in rest, rest
    assert ": holdfast-model=chat/cheap" in rest, rest


@flow
def a_rejected_stream_is_never_seen_and_the_last_target_streams_at_once(bench):
    gate = bench.provider.gate(bench.mark)
    script = {"cheap": {"text": "bad words"}, "dear": {"text": "dear words", "gate": bench.mark}}
    stream = Stream(bench, "must-not", "chat", cheap={"text": "as an AI"}, dear=script["dear"])
    equal(stream.response.headers["holdfast-cascade"], "escalated; validator=must_not_match")
    before = stream.until("words")
    assert "as an AI" not in before, before
    gate.set()
    rest = before + stream.rest()
    equal(text_of(chat.read_stream(rest).parts), "dear words")


@flow
def the_messages_door_is_judged_the_same_in_every_direction(bench):
    for route, cheap, dear in (
        ("both-messages", "messages/cheap", "messages/dear"),
        ("messages", "messages/cheap", "chat/dear"),
        ("from-chat", "chat/cheap", "messages/dear"),
    ):
        for door in DOORS:
            for stream in (False, True):
                answer = bench.ask(route, door, stream=stream, cheap={"text": "fine"})
                equal((answer.text, answer.model, answer.cascade), ("fine", cheap, "accepted"))
                script = {"cheap": {"text": "bad"}, "dear": {"text": "fine"}}
                answer = bench.ask(route, door, stream=stream, **script)
                equal((answer.text, answer.model), ("fine", dear), f"{route} {door} {stream}")
                equal(answer.cascade, "escalated; validator=must_not_match")


@flow
def tool_calls_at_the_messages_door_are_judged(bench):
    script = {"cheap": {"calls": ['{"m": 1}']}, "dear": {"calls": ['{"n": 2}']}}
    for stream in (False, True):
        answer = bench.ask("tools", "messages", stream=stream, **script)
        equal([json.loads(call) for call in answer.calls], [{"n": 2}])
        equal(answer.cascade, "escalated; validator=tool_arguments")


@flow
def the_policy_changes_at_run_time_and_wrong_ones_are_refused(bench):
    name = f"live-{bench.mark}"
    path = f"routes/{name}"
    entry = {"name": name, "targets": ["chat/cheap", "chat/dear"], "tries_per_target": 1}
    script = {"cheap": {"text": "one"}, "dear": {"text": "two"}}

    def put(cascade):
        return bench.server.api("PUT", path, entry | {"cascade": cascade})

    for cascade, expected in (({"must_match": ["one"]}, "one"), ({"must_match": ["two"]}, "two")):
        status, found = put(cascade)
        assert status in (200, 201), found
        equal(bench.ask(name, **script).text, expected)
    for cascade, at in (
        ({}, "cascade.not_empty"),
        ({"must_match": ["("]}, "cascade.must_match[0]"),
        ({"json_schema": "mine"}, "cascade.json_schema"),
        ({"judge": {"model": "nobody/m"}}, "cascade.judge.model"),
        ({"regex": "x"}, "regex"),
    ):
        status, found = put(cascade)
        assert status == 400 and at in json.dumps(found), (cascade, found)
    equal(bench.ask(name, **script).text, "two")


@flow
def a_client_that_goes_while_an_answer_is_held_leaves_a_row(bench):
    line = {"text": "good", "gate": bench.mark}
    stream = Stream(bench, "three", "chat", cheap=line)
    stream.until(": waiting")
    stream.response.close()
    stream.connection.close()
    row = eventually("its row", lambda: bench.rows().get("chat/cheap"))[0]
    equal((row["error"], row["cost"]), ("cancelled", "0.00"))
    assert Decimal(row["unreconciled"]) > 0, row
    bench.provider.gate(bench.mark).set()


@flow
def a_step_of_a_session_is_not_judged_and_says_so(bench):
    body = {"model": "route/empty", "input": f"{bench.mark} @@{json.dumps({'cheap': {'text': ''}})}@@"}
    status, _, data = bench.server.http(
        "POST", "/v1/responses", body, KEY, {"holdfast-task": bench.mark}
    )
    assert status == 200, data
    equal(bench.row("chat/cheap")["notes"]["cascade"], "off: a step of a session")


def in_the_end(server):
    """Prometheus counts by route and validator; no budget is passed, and nothing stays reserved."""
    _, _, data = server.http("GET", "/metrics", key=server.admin_key)
    text = data.decode()
    for line in (
        'holdfast_cascade_answers_total{route="route/must",validator="must_match"}',
        'holdfast_cascade_answers_total{route="route/must",validator="none"}',
        'holdfast_cascade_nanousd_total{route="route/three",kind="saved"}',
        'holdfast_cascade_nanousd_total{route="route/three",kind="wasted"}',
    ):
        assert line in text, f"{line} is not in /metrics"
    _, budgets = server.api("GET", "budgets")
    (budget,) = budgets["data"]
    amounts = [Decimal(budget[f"{name}_usd"]) for name in ("settled", "unreconciled", "reserved")]
    equal(amounts[2], 0, "reserved")
    assert sum(amounts) <= Decimal(budget["limit_usd"]), budget


def main(wanted):
    provider, flows = Provider(), chosen(wanted)
    try:
        with World() as world:
            server = world.start(
                Server, config(provider), env={"SUITE_KEY": KEY, "POOR_KEY": POOR}
            )
            failed = run(flows, lambda name: Bench(server, provider, mark_of(name)), 6)
            count = len(flows)
            if not wanted:
                count += 1
                try:
                    in_the_end(server)
                except Exception as error:  # any failure is the check's result
                    failed += 1
                    print(f"FAIL in_the_end: {error}")
    except SetupFailed as problem:
        print(f"conformance: {problem}\n0 passed, 1 failed")
        return 1
    finally:
        provider.close()
    print(f"{count - failed} passed, {failed} failed")
    return 1 if failed or not flows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
