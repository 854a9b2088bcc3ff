#!/usr/bin/env python3
"""The suite `routes`: which of a route's targets is asked, for whom, and why.

    routes.py [NAME …]     only the checks whose name contains one of the NAMEs

One provider answers for three models, another is not there; each check sends plain HTTP at one or more doors and looks at the model that
answered, at the ledger's notes, and at what the providers were asked. Standard library only.
"""

import collections
import json
import secrets
import sys
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import running
from harness import Provider, Server, eventually

KEY, POOR = "hf_suite_routes_0123456789abcdef", "hf_suite_short_0123456789abcdef"
MODELS = ("one", "two", "three")
# Asked by one check alone: how long their answers take is known from it.
PACED = ("paced", "beside")

CONFIG = """
[[providers]]
name = "a"
vendor = "openai-compatible"
base_url = "{base_url}"
api_key = "${{PROVIDER_KEY}}"
models = [
  {{ id = "one", input_usd_per_million = "3.00", output_usd_per_million = "9.00" }},
  {{ id = "two", input_usd_per_million = "1.00", output_usd_per_million = "2.00" }},
  {{ id = "three", input_usd_per_million = "2.00", output_usd_per_million = "30.00", context_tokens = 2000 }},
  {{ id = "paced", free = true }},
  {{ id = "beside", free = true }},
]

[[providers]]
name = "down"
vendor = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
api_key = "${{PROVIDER_KEY}}"
models = [{{ id = "gone", free = true }}]

[[keys]]
name = "suite"
secret = "{key}"
user = "ada"

[[keys]]
name = "short"
secret = "{poor}"

[[budgets]]
scope = {{ key = "short" }}
limit_usd = "0.02"

[[routes]]
name = "class"
targets = [{{ model = "a/one", when = "class == 'batch'" }}, "a/two"]

[[routes]]
name = "who"
targets = [{{ model = "a/one", when = "user == 'ada' && key == 'suite' && !admin" }}, "a/two"]

[[routes]]
name = "metadata"
targets = [
  {{ model = "a/one", when = "metadata.tier == 'paid'" }},
  {{ model = "a/three", when = "metadata.n > 3" }},
  "a/two",
]

[[routes]]
name = "tools"
targets = [
  {{ model = "a/one", when = "has_tools && 'find' in tool_names" }},
  {{ model = "a/three", when = "has_tools" }},
  "a/two",
]

[[routes]]
name = "shape"
targets = [
  {{ model = "a/one", when = "wants_schema" }},
  {{ model = "a/three", when = "effort == 'high' || output_cap > 500" }},
  {{ model = "a/two", when = "stream || door == 'anthropic_messages'" }},
  "down/gone",
]
attempts = 1

[[routes]]
name = "size"
targets = [{{ model = "a/one", when = "input_tokens < 200" }}, "a/two"]

[[routes]]
name = "money"
targets = [{{ model = "a/one", when = "budget_left_percent > 50 && budget_left_microusd > 5000" }}, "a/two"]

[[routes]]
name = "branches"
fallback = false
targets = [
  {{ when = "metadata.tier == 'paid'", targets = ["down/gone", "a/one"] }},
  {{ when = "metadata.tier == 'down'", targets = ["down/gone"] }},
  "a/two",
]
tries_per_target = 1

[[routes]]
name = "nobody"
targets = [{{ model = "a/one", when = "class == 'never'" }}]

[[routes]]
name = "split"
targets = [{{ model = "a/one", weight = 1 }}, {{ model = "a/two", weight = 3 }}, {{ model = "a/three", weight = 0 }}]

[[routes]]
name = "sticky"
sticky = "metadata.team"
targets = [{{ model = "a/one", weight = 1 }}, {{ model = "a/two", weight = 1 }}]

[[routes]]
name = "session"
sticky = "session"
targets = [{{ model = "a/one", weight = 1 }}, {{ model = "a/two", weight = 1 }}]

[[routes]]
name = "talk"
sticky = "session"
order = "latency"
targets = ["a/one", "a/two"]

[[routes]]
name = "home"
sticky = "session"
targets = ["a/one", "a/two"]

[[routes]]
name = "hasty"
targets = ["a/one", "a/two"]
timeout = "300ms"

[[routes]]
name = "strict"
targets = ["a/one", "a/two"]
strict = true

[[routes]]
name = "kinds"
targets = [
  {{ model = "a/three", when = "'image' in media_kinds && operation == 'chat'" }},
  {{ model = "a/one", when = "failure_percent['a/one'] < 100 && latency_ms['a/one'] >= 0" }},
  "a/two",
]

[[routes]]
name = "broken-split"
targets = [{{ model = "down/gone", weight = 1 }}, {{ model = "a/two", weight = 1 }}]
tries_per_target = 1
cooldown = "1h"

[[routes]]
name = "price"
order = "price"
targets = ["a/one", "a/three", "a/two"]

[[routes]]
name = "latency"
order = "latency"
targets = ["a/one", "a/two"]

[[routes]]
name = "not-hedged"
targets = ["a/paced", "a/beside"]

[[routes]]
name = "hedged"
targets = ["a/paced", "a/beside"]
hedge = {{ after = "p95", after_min = "50ms" }}

[[routes]]
name = "first-one"
targets = ["a/one", "a/two"]

[[routes]]
name = "first-two"
targets = ["a/two", "a/one"]

[[routes]]
name = "health"
order = "health"
targets = ["down/gone", "a/two"]
tries_per_target = 1

[[routes]]
name = "cooling"
targets = [
  {{ targets = ["a/one"], when = "'down/gone' in cooling" }},
  "down/gone",
  "a/two",
]
tries_per_target = 1
cooldown = "1h"

[[routes]]
name = "able"
targets = ["local/demo", "a/two"]

[[routes]]
name = "window"
targets = ["a/three", "a/two"]
"""

def model(name, fallback="end"):
    properties = {"provider": "a", "model": name, "retries": 0, "timeout": 20_000}
    outputs = {"success": {"elementId": "end"}, "fallback": {"elementId": fallback}}
    return {"id": name, "type": "model", "properties": properties, "outputs": outputs}


def fork(ident, kind, outputs, **properties):
    outputs = {name: {"elementId": to} for name, to in outputs.items()}
    return {"id": ident, "type": kind, "properties": properties, "outputs": outputs}


def graph(condition):
    """A dynamic route of AI Gateway; its documentation and its SDK differ in the condition's name."""
    asked = {"$or": [{"metadata.plan": {"$eq": "paid"}}, {"metadata.seats": {"$gte": 5}}]}
    elements = [
        fork("start", "start", {"next": "plan"}),
        fork("plan", "conditional", {"true": "one", "false": "split"}, **{condition: asked}),
        fork("split", "percentage", {"30%": "two", "else": "three"}),
        *map(model, MODELS),
        fork("end", "end", {}),
    ]
    return json.dumps({"name": condition, "elements": elements})


CONFIG += "".join(
    f"[[routes]]\nname = \"cloudflare-{name}\"\ncloudflare = '''{graph(name)}'''\n".replace("{", "{{").replace("}", "}}")
    for name in ("condition", "conditions")
)

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Routes:
    """The server and its providers."""

    def __init__(self, world):
        self.provider = world.start(Provider, [*MODELS, *PACED])
        config = CONFIG.format(base_url=self.provider.base_url, key=KEY, poor=POOR)
        self.server = world.start(Server, config, env={"PROVIDER_KEY": self.provider.key})
        # Who answered the last Call whose notes were looked at.
        self.last_target = None

    def chat(self, route, key=KEY, metadata=None, headers=None, text="Hello!", **more):
        """(status, the model that answered, headers, body) of a chat completion."""
        body = {"model": f"route/{route}", "max_tokens": 16, **more}
        body.setdefault("messages", [{"role": "user", "content": text}])
        return self.post("/v1/chat/completions", body, key, metadata, headers)

    def post(self, path, body, key=KEY, metadata=None, headers=None):
        headers = dict(headers or {})
        if metadata is not None:
            headers["holdfast-metadata"] = json.dumps(metadata)
        status, got, data = self.server.http("POST", path, body, key, headers)
        return status, got.get("holdfast-model"), got, data

    def asked(self, route, **options):
        status, model, _, data = self.chat(route, **options)
        assert status == 200, f"{status} {data[:300]}"
        return model

    def rows(self, query):
        status, calls = self.server.api("GET", "calls?limit=1000&" + query)
        assert status == 200, calls
        return calls["data"]

    def noted(self, route, **options):
        """The row of a Call, with its notes on the route."""
        task = "t" + secrets.token_hex(6)
        headers = {"holdfast-task": task, **options.pop("headers", {})}
        status, self.last_target, _, data = self.chat(route, headers=headers, **options)
        rows = self.rows(f"task={task}")
        assert status == 200 and rows, f"{status} {data[:300]}"
        return (rows[0]["notes"] or {}).get("route", {})


@check
def a_condition_reads_the_class(routes):
    assert routes.asked("class", headers={"holdfast-class": "batch"}) == "a/one"
    assert routes.asked("class") == "a/two"


@check
def a_condition_reads_who_asks(routes):
    assert routes.asked("who") == "a/one"
    assert routes.asked("who", key=routes.server.admin_key) == "a/two"


@check
def a_condition_reads_metadata(routes):
    assert routes.asked("metadata", metadata={"tier": "paid"}) == "a/one"
    assert routes.asked("metadata", metadata={"tier": "free", "n": 4}) == "a/three"
    assert routes.asked("metadata", metadata={"n": 3}) == "a/two"
    assert routes.asked("metadata") == "a/two"


@check
def cloudflares_header_is_metadata_at_its_door(routes):
    body = {"model": "dynamic/metadata", "max_tokens": 16}
    body["messages"] = [{"role": "user", "content": "Hello!"}]
    path = "/ai-gateway/v1/default/default/compat/chat/completions"
    headers = {"cf-aig-metadata": '{"tier":"paid"}'}
    status, model, _, data = routes.post(path, body, headers=headers)
    assert (status, model) == (200, "a/one"), f"{status} {model} {data[:300]}"


@check
def wrong_metadata_is_refused_by_the_name_of_its_header(routes):
    for wrong in ({"a": []}, {str(n): n for n in range(6)}, {"a": "x" * 600}, []):
        status, _, _, data = routes.chat("class", metadata=wrong)
        assert status == 400 and b"holdfast-metadata" in data, f"{wrong}: {status} {data[:200]}"


@check
def metadata_is_kept_and_found(routes):
    team = "t" + secrets.token_hex(4)
    routes.asked("class", metadata={"team": team, "n": 1})
    routes.asked("class", metadata={"team": team, "n": 2})
    wanted = lambda **entries: "metadata=" + urllib.parse.quote(json.dumps(entries))
    found = routes.rows(wanted(team=team, n=2))
    assert [row["metadata"] for row in found] == [{"team": team, "n": 2}], found
    assert len(routes.rows(wanted(team=team))) == 2
    status, answer = routes.server.api("GET", "calls?metadata=%5B%5D")
    assert status == 400, answer


@check
def a_condition_reads_tools(routes):
    def tools(*names):
        make = lambda name: {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        return [make(name) for name in names]

    assert routes.asked("tools", tools=tools("find", "read")) == "a/one"
    assert routes.asked("tools", tools=tools("read")) == "a/three"
    assert routes.asked("tools") == "a/two"


@check
def a_condition_reads_what_is_asked_of_the_answer(routes):
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    assert routes.asked("shape", response_format=shape) == "a/one"
    assert routes.asked("shape", reasoning_effort="high") == "a/three"
    assert routes.asked("shape", max_tokens=501) == "a/three"
    assert routes.asked("shape", stream=True) == "a/two"


@check
def a_condition_reads_the_door(routes):
    body = {"model": "route/shape", "max_tokens": 16}
    body["messages"] = [{"role": "user", "content": "Hello!"}]
    status, model, _, data = routes.post("/v1/messages", body)
    assert (status, model) == (200, "a/two"), f"{status} {data[:300]}"


@check
def a_condition_reads_the_size(routes):
    assert routes.asked("size") == "a/one"
    assert routes.asked("size", text="word " * 400) == "a/two"


@check
def a_condition_reads_what_budgets_have_left(routes):
    assert routes.asked("money") == "a/one", "nothing limits it"
    assert routes.asked("money", key=POOR) == "a/one", "all is left"
    # An answer of 1,400 tokens at 9 dollars a million is more than half of 0.02.
    spend = {"model": "a/one", "max_tokens": 1500}
    spend["messages"] = [{"role": "user", "content": "[[words:1400]] Say something."}]
    status, _, _, data = routes.post("/v1/chat/completions", spend, POOR)
    assert status == 200, f"{status} {data[:300]}"
    (budget,) = routes.server.api("GET", "budgets")[1]["data"]
    assert float(budget["free_usd"]) < 0.01, budget
    assert routes.asked("money", key=POOR) == "a/two", "less than half is left"


@check
def the_first_branch_that_holds_is_taken_whole(routes):
    assert routes.asked("branches", metadata={"tier": "paid"}) == "a/one", "its own fallback"
    assert routes.asked("branches") == "a/two"


@check
def without_fallback_no_other_branch_is_asked(routes):
    status, model, _, data = routes.chat("branches", metadata={"tier": "down"})
    assert status >= 500, f"{status} {model} {data[:300]}"


@check
def a_route_that_leaves_nobody_refuses(routes):
    status, _, _, data = routes.chat("nobody")
    error = json.loads(data)["error"]
    assert status == 404 and error["code"] == "model_not_found", data
    assert "conditions of `route/nobody`" in error["message"], data


@check
def a_split_follows_its_weights(routes):
    counts = collections.Counter(routes.asked("split") for _ in range(120))
    # A quarter of 120 is 30; four and a half standard deviations are 22.
    assert 8 <= counts["a/one"] <= 52 and counts["a/one"] + counts["a/two"] == 120, counts


@check
def a_sticky_split_keeps_equal_values_together(routes):
    teams = [f"team-{number}" for number in range(24)]
    first = {team: routes.asked("sticky", metadata={"team": team}) for team in teams}
    for _ in range(2):
        again = {team: routes.asked("sticky", metadata={"team": team}) for team in teams}
        assert again == first
    assert set(first.values()) == {"a/one", "a/two"}, first


@check
def a_session_stays_on_its_target(routes):
    for number in range(12):
        headers = {"holdfast-session": f"s{number}"}
        asked = {routes.asked("session", headers=headers) for _ in range(4)}
        assert len(asked) == 1, asked


@check
def a_session_stays_where_it_was_answered_whatever_the_order(routes):
    for number in range(12):
        headers = {"holdfast-session": f"talk{number}"}
        asked = {routes.asked("talk", headers=headers) for _ in range(6)}
        assert len(asked) == 1, asked
    note = routes.noted("talk", headers={"holdfast-session": "talk0"})
    assert "pinned" in note["by"], note
    note = routes.noted("talk", headers={"holdfast-session": "talk0", "holdfast-no-affinity": "true"})
    assert "pinned" not in note["by"], note


@check
def a_session_moves_when_it_must_and_stays_there(routes):
    headers = {"holdfast-session": "mover"}
    assert routes.asked("home", headers=headers) == "a/one"
    assert routes.asked("home", headers={**headers, "holdfast-allowed-models": "a/two"}) == "a/two"
    assert [routes.asked("home", headers=headers) for _ in range(3)] == ["a/two"] * 3
    assert routes.asked("home", headers={"holdfast-session": "other"}) == "a/one"
    assert routes.asked("home", headers={"holdfast-task": "a task of its own"}) == "a/one"


def late(routes, route, headers=None, **more):
    """(seconds, headers, body, its rows) of a Call whose time is over before it is answered."""
    task = "t" + secrets.token_hex(6)
    began = time.monotonic()
    status, _, got, data = routes.chat(
        route, headers={"holdfast-task": task, **(headers or {})}, text="[[delay_ms=9000]] slow", **more
    )
    return time.monotonic() - began, (status, got, data), routes.rows(f"task={task}")


@check
def a_deadline_ends_the_call_in_its_clients_words(routes):
    for route, headers in (("home", {"holdfast-deadline": "300ms"}), ("hasty", {})):
        took, (status, got, data), rows = late(routes, route, headers)
        assert (status, json.loads(data)["error"]["code"]) == (504, "deadline_exceeded"), data
        assert took < 5 and got["x-should-retry"] == "false", (took, got)
        (row,) = rows
        assert row["error"] == "deadline_exceeded" and row["unreconciled"] not in ("0", "0.00"), row
    # SDKs count their own patience themselves.
    body = {"model": "a/one", "max_tokens": 16}
    body["messages"] = [{"role": "user", "content": "[[delay_ms=1500]] patient"}]
    status, _, _, data = routes.post(
        "/v1/chat/completions", body, headers={"x-stainless-timeout": "1"}
    )
    assert status == 200, data


@check
def a_deadline_ends_a_stream_in_the_error_and_in_every_format(routes):
    slow = [{"role": "user", "content": "[[delay_ms=100]] [[words:200]] slow"}]
    ask = {"model": "route/first-one", "max_tokens": 400, "stream": True, "messages": slow}
    for path, ends in (("/v1/chat/completions", b"[DONE]"), ("/v1/messages", b"message_stop")):
        status, _, _, data = routes.post(path, ask, headers={"holdfast-deadline": "1500ms"})
        assert status == 200 and ends not in data, data[-300:]
        tail = data[-600:].decode()
        assert "error" in tail and "the time that this call was given is over" in tail, tail
    responses = {"model": "route/first-one", "stream": True, "store": False, "input": slow[0]["content"]}
    status, _, _, data = routes.post("/v1/responses", responses, headers={"holdfast-deadline": "2"})
    assert b"response.failed" in data and b"response.completed" not in data, data[-600:]


@check
def a_wrong_deadline_is_refused_by_its_name(routes):
    for wrong in ("0s", "soon", "-1", "2026-01-01T00:00:00Z"):
        status, _, _, data = routes.chat("home", headers={"holdfast-deadline": wrong})
        assert status == 400 and b"holdfast-deadline" in data, f"{wrong}: {status} {data[:200]}"


@check
def what_would_be_dropped_is_refused_where_nothing_may_be(routes):
    def ask(route, headers=None):
        body = {"model": f"route/{route}", "max_tokens": 16, "shoe_size": 5}
        body["messages"] = [{"role": "user", "content": "Hello!"}]
        return routes.post("/v1/messages", body, headers=headers)

    status, _, got, data = ask("home")
    assert status == 200 and "shoe_size" in got["holdfast-dropped"], f"{status} {got} {data[:300]}"
    sent = len(routes.provider.requests())
    for status, _, _, data in (ask("home", {"holdfast-strict": "true"}), ask("strict")):
        assert status == 400 and b"shoe_size" in data, f"{status} {data[:300]}"
    assert len(routes.provider.requests()) == sent, "something was sent"
    assert routes.asked("strict") == "a/one", "what can be told is"


@check
def conditions_read_kinds_of_media_the_operation_and_health(routes):
    assert routes.asked("kinds") == "a/one"
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    parts = [{"type": "text", "text": "what is it?"}, image]
    assert routes.asked("kinds", messages=[{"role": "user", "content": parts}]) == "a/three"


@check
def the_other_share_answers_when_one_is_down(routes):
    assert {routes.asked("broken-split") for _ in range(12)} == {"a/two"}


@check
def the_cheapest_for_this_call_comes_first(routes):
    assert routes.asked("price", max_tokens=1000) == "a/two"
    assert routes.noted("price")["by"] == "price"


@check
def the_fastest_comes_first(routes):
    # Both become known as what they are; the slow one stands first in the route.
    for _ in range(3):
        assert routes.asked("first-one", text="[[delay_ms=250]] Hello!") == "a/one"
        assert routes.asked("first-two") == "a/two"
    asked = [(routes.noted("latency").get("by"), routes.last_target) for _ in range(8)]
    by_latency = [target for by, target in asked if by == "latency"]
    # Now and then one looks at the others, and says so.
    assert {by for by, _ in asked} <= {"latency", "latency: tries an unknown one"}, asked
    assert len(by_latency) >= 4 and set(by_latency) == {"a/two"}, asked


@check
def a_second_attempt_goes_by_how_long_answers_usually_take(routes):
    def attempts(delay_ms, model="route/hedged"):
        """The targets that were asked of one Call whose first one takes so long."""
        task = "t" + secrets.token_hex(6)
        body = {"model": model, "max_tokens": 16}
        body["messages"] = [{"role": "user", "content": f"[[delay_ms={delay_ms}]] Hello!"}]
        status, _, _, data = routes.post("/v1/chat/completions", body, headers={"holdfast-task": task})
        assert status == 200, f"{status} {data[:300]}"

        def ended():
            rows = routes.rows(f"task={task}")
            twice = any("hedge" in (row["notes"] or {}) for row in rows)
            return len(rows) == 1 + twice and sorted(row["target"] for row in rows)

        return eventually("each attempt is in the ledger", ended)

    both = ["a/beside", "a/paced"]
    # Nobody knows how long it usually takes: the least time holds.
    assert attempts(1000) == both
    usually = 3000
    with ThreadPoolExecutor(24) as pool:
        assert set(map(tuple, pool.map(attempts, [usually] * 24, ["route/not-hedged"] * 24))) == {("a/paced",)}
    assert attempts(300) == ["a/paced"], "it is as quick as ever"
    assert attempts(2 * usually) == both, "it is slower than usual"


@check
def what_fails_comes_last_by_health(routes):
    assert routes.asked("health") == "a/two"
    _, model, headers, _ = routes.chat("health")
    assert (model, headers["holdfast-attempts"]) == ("a/two", "1"), "it was not asked first again"


@check
def a_condition_reads_who_is_left_alone(routes):
    for _ in range(4):
        routes.asked("cooling")
    assert routes.asked("cooling") == "a/one"


@check
def what_a_model_cant_take_is_not_asked_of_it(routes):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    content = [{"type": "text", "text": "What is this?"}, image]
    status, model, headers, data = routes.chat("able", messages=[{"role": "user", "content": content}])
    assert (status, model) == (200, "a/two"), f"{status} {data[:300]}"
    assert headers["holdfast-attempts"] == "1"
    assert routes.asked("window", text="word " * 4000) == "a/two"
    assert routes.asked("window") == "a/three"


@check
def a_dynamic_route_of_cloudflare_is_taken_in_both_forms(routes):
    for name in ("cloudflare-condition", "cloudflare-conditions"):
        assert routes.asked(name, metadata={"plan": "paid"}) == "a/one"
        assert routes.asked(name, metadata={"plan": "free", "seats": 7}) == "a/one"
        counts = collections.Counter(routes.asked(name, metadata={"seats": 2}) for _ in range(40))
        # Thirty of a hundred are 12 of 40; four and a half standard deviations are 13.
        assert 1 <= counts["a/two"] <= 25 and counts["a/two"] + counts["a/three"] == 40, counts


@check
def why_is_noted_and_nothing_else(routes):
    note = routes.noted("metadata", metadata={"n": "many"}, text="a secret word")
    expected = {"a/one": "when: not in the metadata", "a/three": "when: can't be evaluated"}
    assert note == {"left_out": expected}, note
    assert routes.noted("sticky", metadata={"team": "x"}) == {"by": "sticky"}
    assert routes.noted("split") == {"by": "weight"}


@check
def failed_conditions_are_counted(routes):
    name = "holdfast_route_condition_failures_total"

    def counted():
        _, _, data = routes.server.http("GET", "/metrics", key=routes.server.admin_key)
        (line,) = [line for line in data.decode().splitlines() if line.startswith(name)]
        return int(line.split()[1])

    before = counted()
    routes.asked("metadata", metadata={"n": "many"})
    assert counted() == before + 1
    routes.asked("metadata")
    assert counted() == before + 1, "what was not sent is no failure"


if __name__ == "__main__":
    sys.exit(running.main(CHECKS, sys.argv[1:], Routes))
