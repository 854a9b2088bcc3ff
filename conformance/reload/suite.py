"""The suite `reload`: the configuration of a running server, changed by its file and by `/api`.

suite.py [NAME …]     only the checks whose name contains one of the NAMEs

Judged from outside: by what clients get, by what the providers wrote down, and by the ledger. The
checks run one after another on one server, since each changes what all Calls see.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "telemetry")]

import running  # noqa: E402
from kills import processes  # noqa: E402
from doubles import Receiver  # noqa: E402
from harness import (  # noqa: E402
    DEMO,
    Provider,
    Server,
    effects,
    eventually,
    holdfast_binary,
    processes_in,
)
from running import equal  # noqa: E402

CI = "hf_suite_ci_0123456789abcdef"
LATE = "hf_suite_late_0123456789abcdef"
RELOADS, CALLS = 20, 200

PROVIDER = """
[[providers]]
name = "{name}"
vendor = "openai-compatible"
base_url = "{url}"
api_key = "{key}"
models = [{{ id = "script", input_usd_per_million = "{price}", output_usd_per_million = "{price}" }}]
"""
ROUTE = '[[routes]]\nname = "{name}"\naliases = [{aliases}]\ntargets = [{targets}]\n'
KEY = '[[keys]]\nname = "{name}"\nsecret = "{secret}"\n'
BUDGET = '[[budgets]]\nscope = {{ key = "ci" }}\nlimit_usd = "{limit}"\n'
SLO = """
[[slos]]
name = "{name}"
metric = "errors"
objective = "{objective}"
window = "1h"
short_window = "1s"
long_window = "2s"
burn_rate = 5
min_count = 1
webhook = "{webhook}"
"""
SERVER = """
[[mcp_servers]]
name = "{name}"
command = ["{python}", "{demo}/notes_server.py"]
keys = ["ci"]
tools = {{ find_note = {{ effect = "read" }} }}
env = {{ HOLDFAST_DEMO_EFFECTS = "{effects}", HOLDFAST_DEMO_TOOL_DELAY_AFTER_MS = "{delay}" }}
"""
TELEMETRY = '[telemetry]\notlp_endpoint = "{to}"\nmetrics_interval = "1s"\n'
BAD = """
[server]
listen = "127.0.0.1:0"
surprise = 1
[telemetry]
otlp_endpoint = "collector:4317"
sampling = 2
[[slos]]
name = "s"
metric = "errors"
objective = "99%"
threshold = "1s"
webhook = "nowhere"
[[providers]]
name = "one"
vendor = "acme"
[[routes]]
name = "fast"
targets = ["nobody/x"]
attempts = 99
[[keys]]
name = "ci"
secret = "short"
"""


def quoted(names):
    return ", ".join(f'"{name}"' for name in names)


class Platform:
    """A server, two providers, and its file, which is written anew by name."""

    def __init__(self, world):
        self.world = world
        self.one = world.start(Provider, ["script"], name="one")
        self.two = world.start(Provider, ["script"], name="two")
        self.server = world.start(Server, self.text())

    def text(self, price="1.00", providers=("one", "two"), routes=None, keys=(("ci", CI),), more=""):
        """A file; by default the one that every check begins with."""
        parts = []
        for name in providers:
            of = getattr(self, name)
            parts.append(PROVIDER.format(name=name, url=of.base_url, key=of.key, price=price))
        for name, aliases, targets in routes or [("fast", ["quick"], ["one/script", "two/script"])]:
            parts.append(
                ROUTE.format(name=name, aliases=quoted(aliases), targets=quoted(targets))
            )
        parts += [KEY.format(name=name, secret=secret) for name, secret in keys]
        return "".join(parts) + more

    def write(self, text):
        """Replaces the file by rename, as editors do."""
        beside = self.server.config.with_suffix(".new")
        beside.write_text(text)
        os.replace(beside, self.server.config)

    def reload(self):
        return self.server.api("POST", "config/reload", {})

    def take(self, text):
        """Has the server take a file; its answer."""
        self.write(text)
        status, answer = self.reload()
        assert status == 200, answer
        return answer

    def ask(self, model, text="hello", key=CI, headers=None):
        """One chat completion: (status, headers, JSON)."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        status, head, data = self.server.http(
            "POST", "/v1/chat/completions", body, key, headers or {}
        )
        return status, head, json.loads(data)

    def stream(self, model, text):
        """A streamed chat completion that has begun: its connection and its answer."""
        host = self.server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=30)
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": text}]}
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {CI}"}
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.readline().startswith(b"data:")
        return connection, answer

    def cost(self, task):
        """What the ledger says that a task cost, per row."""
        self.server.http("GET", "/readyz")
        rows = eventually(f"the row of {task}", lambda: self.rows(task))
        return [row["cost"] for row in rows]

    def rows(self, task):
        return self.server.api("GET", f"calls?task={task}")[1]["data"]

    def double(self, double):
        """A stand-in of the network, closed at the end of the block."""
        return contextlib.closing(double)

    def quiet(self, receiver):
        """Whether a receiver is posted nothing for two beats of the metrics."""
        posts = len(receiver.posts)
        time.sleep(2.2)
        return len(receiver.posts) == posts

    def metrics(self):
        return self.server.http("GET", "/metrics", key=self.server.admin_key)[2].decode()

    def versions(self):
        return self.server.api("GET", "routes/versions?limit=100")[1]["data"]

    def last(self):
        return self.server.api("GET", "config")[1]["last_reload"]

    def back(self):
        """The file that every check begins with, and no route of the API's."""
        for route in self.server.api("GET", "routes")[1]["data"]:
            if route["origin"] == "api":
                self.server.api("DELETE", f"routes/{route['name']}")
        # Its text must be new to be taken over what was changed at run time.
        self.take(self.text(routes=[("fast", [], ["one/script"])]))
        self.take(self.text())


CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


# The file.


@check
def an_unchanged_file_changes_nothing(p):
    _, answer = p.reload()
    equal((answer["taken"], answer["changes"], answer["needs_restart"]), (True, [], []))
    equal(answer["author"], "admin")


@check
def only_an_admin_may(p):
    status, _ = p.server.api("POST", "config/reload", {}, key=CI)
    equal(status, 403)
    equal(p.server.api("PUT", "routes/x", {"targets": ["one/script"]}, key=CI)[0], 403)
    equal(p.server.api("GET", "routes", key=CI)[0], 403)


@check
def a_new_route_can_be_asked_at_once(p):
    equal(p.ask("route/new")[0], 404)
    routes = [("fast", ["quick"], ["one/script"]), ("new", ["shiny"], ["two/script"])]
    answer = p.take(p.text(routes=routes))
    changes = [(c["kind"], c["name"], c["change"]) for c in answer["changes"]]
    equal(changes, [("route", "fast", "changed"), ("route", "new", "added")])
    for name in ("route/new", "dynamic/new", "shiny"):
        status, head, _ = p.ask(name)
        equal((status, head["holdfast-model"]), (200, "two/script"))


@check
def a_bad_file_changes_nothing_and_names_all(p):
    before = p.server.api("GET", "config")[1]["objects"], p.versions()
    p.write(BAD)
    status, answer = p.reload()
    equal((status, answer["error"]["code"]), (400, "invalid_request"))
    found = {problem["at"] for problem in answer["error"]["problems"]}
    wanted = {
        "server.surprise",
        "providers[0].vendor",
        "routes[0].targets[0]",
        "routes[0].attempts",
        "keys[0].secret",
        "telemetry.otlp_endpoint",
        "telemetry.sampling",
        "slos[0].threshold",
        "slos[0].webhook",
    }
    assert wanted <= found, (wanted - found, found)
    for at in wanted:
        assert at in answer["error"]["message"], answer
    last = p.last()
    equal((last["taken"], {problem["at"] for problem in last["problems"]}), (False, found))
    equal(p.ask("quick")[0], 200)
    equal(p.ask("two/script")[0], 200)
    equal(p.versions(), before[1])
    p.write(p.text())
    equal(p.server.api("GET", "config")[1]["objects"], before[0])


@check
def what_is_no_toml_changes_nothing(p):
    p.write("[[providers]\nname =")
    status, answer = p.reload()
    equal((status, [x["at"] for x in answer["error"]["problems"]]), (400, ["file"]))
    equal(p.ask("route/fast")[0], 200)


@check
def what_only_shows_when_it_is_taken_changes_nothing_either(p):
    # A secret that a key made at run time has already: only the store knows.
    status, made = p.server.api("POST", "keys", {"name": "made", "budget": None})
    equal(status, 200)
    text = p.text(
        keys=(("ci", CI), ("thief", made["secret"])), routes=[("other", [], ["two/script"])]
    )
    p.write(text)
    status, answer = p.reload()
    equal(status, 400)
    assert "thief" in answer["error"]["message"], answer
    equal((p.ask("route/other")[0], p.ask("route/fast")[0]), (404, 200))
    p.server.api("DELETE", f"keys/{made['id']}")


@check
def a_running_stream_survives_the_end_of_its_provider(p):
    connection, answer = p.stream("two/script", "[[delay_ms=60]] [[words:40]]")
    p.take(p.text(providers=("one",), routes=[("fast", ["quick"], ["one/script"])]))
    equal(p.ask("two/script")[0], 404)
    rest = answer.read()
    connection.close()
    assert b"word40" in rest and rest.rstrip().endswith(b"data: [DONE]"), rest[-200:]


@check
def a_provider_that_is_gone_is_in_no_list(p):
    p.take(p.text(providers=("one",), routes=[("fast", ["quick"], ["one/script"])]))
    models = {m["id"] for m in json.loads(p.server.http("GET", "/v1/models", key=CI)[2])["data"]}
    assert "one/script" in models and not any(m.startswith("two/") for m in models), models
    p.take(p.text())
    equal(p.ask("two/script")[0], 200)


@check
def a_price_holds_from_the_next_call_on(p):
    task = {"holdfast-task": "price-before"}
    said = "[[usage:prompt=1000000,completion=0]] hi"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(p.ask, "one/script", f"[[delay_ms=3000]] {said}", headers=task)
        eventually("the slow call is at the provider", lambda: p.in_flight("one") >= 1)
        p.take(p.text(price="3.00"))
        p.ask("one/script", said, headers={"holdfast-task": "price-after"})
        equal(slow.result()[0], 200)
    equal(p.cost("price-after"), ["3.00"])
    equal(p.cost("price-before"), ["1.00"])


@check
def keys_and_budgets_come_and_go(p):
    equal(p.ask("one/script", key=LATE)[0], 401)
    keys = (("ci", CI), ("late", LATE))
    p.take(p.text(keys=keys, more=BUDGET.format(limit="0.000001")))
    equal(p.ask("one/script", key=LATE)[0], 200)
    status, _, answer = p.ask("one/script")
    equal((status, answer["error"]["code"]), (429, "insufficient_quota"))
    answer = p.take(p.text())
    gone = {(c["kind"], c["change"]) for c in answer["changes"]}
    equal(gone, {("key", "removed"), ("budget", "removed")})
    equal((p.ask("one/script", key=LATE)[0], p.ask("one/script")[0]), (401, 200))


@check
def what_needs_a_restart_is_named(p):
    more = '[server]\nmax_connections = 77\n[engine]\nthreads = 3\n'
    answer = p.take(p.text(more=more))
    equal(answer["needs_restart"], ["engine.threads", "server.max_connections"])
    equal(p.take(p.text())["needs_restart"], [])


@check
def connections_of_what_stays_survive(p):
    p.ask("one/script", "warm")
    before = p.one_connections()
    p.take(p.text(routes=[("fast", [], ["two/script"])]))
    p.ask("one/script", "again")
    equal(p.one_connections(), before)


@check
def a_signal_reloads(p):
    p.write(p.text(routes=[("by-signal", [], ["one/script"])]))
    p.server.child.send_signal(signal.SIGHUP)
    eventually("the route is there", lambda: p.ask("route/by-signal")[0] == 200)
    assert p.last()["author"] == "SIGHUP", p.last()


@check
def the_file_is_watched(p):
    p.write(p.text(routes=[("by-file", [], ["one/script"])]))
    eventually("the route is there", lambda: p.ask("route/by-file")[0] == 200)
    equal((p.last()["author"], p.last()["taken"]), ("file", True))


@check
def a_bad_file_that_is_found_is_told_once(p):
    p.write(BAD)
    eventually("the file was refused", lambda: not p.last()["taken"])
    at = p.server.output.read_text().count("the configuration was not taken")
    time.sleep(2.5)
    equal(p.server.output.read_text().count("the configuration was not taken"), at)
    equal(p.ask("route/fast")[0], 200)


@check
def the_command_tells_what_changed(p):
    command = [holdfast_binary(), "reload", "--url", p.server.url, "--key", p.server.admin_key]
    p.write(p.text(routes=[("fast", ["quick"], ["two/script"])]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    equal((done.returncode, done.stdout), (0, "route fast: changed\n"))
    p.write(BAD)
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    equal(done.returncode, 1)
    assert "routes[0].targets[0]" in done.stderr and "keys[0].secret" in done.stderr, done.stderr


@check
def calls_never_fail_while_the_file_is_reloaded(p):
    statuses = []

    def reload():
        for turn in range(RELOADS):
            first, second = ("one", "two") if turn % 2 else ("two", "one")
            routes = [("fast", ["quick"], [f"{first}/script", f"{second}/script"])]
            p.take(p.text(price=f"{turn + 1}.00", routes=routes))

    def call(number):
        return p.ask(("route/fast", "quick", "one/script")[number % 3], f"call {number}")[0]

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        reloading = pool.submit(reload)
        while not reloading.done() or len(statuses) < CALLS:
            statuses += pool.map(call, range(len(statuses), len(statuses) + 24))
        reloading.result()
    bad = [status for status in statuses if status != 200]
    assert not bad and len(statuses) >= CALLS, (len(statuses), bad)


# Objectives and exports.


def slo(p, name):
    status, found = p.server.api("GET", f"slos/{name}")
    return found if status == 200 else None


def counts(p, name):
    """Good and bad events of the error budget's window, which is longer than the suite."""
    budget = slo(p, name)["windows"]["budget"]
    return budget["good"], budget["bad"]


def kinds(receiver, path):
    return [json.loads(post["body"])["type"] for post in receiver.to(path)]


@check
def objectives_come_and_change_and_go(p):
    with p.double(Receiver()) as receiver:
        one = SLO.format(name="stays", objective="90%", webhook=f"{receiver.url}/stays")
        two = "".join([one, SLO.format(name="other", objective="90%", webhook=f"{receiver.url}/a")])
        told = p.take(p.text(more=one))
        equal(told["changes"], [{"kind": "slo", "name": "stays", "change": "added"}])
        equal(told["needs_restart"], [])
        p.ask("one/script")
        eventually("it is counted", lambda: counts(p, "stays") == (1, 0))
        p.take(p.text(more=two))
        equal((counts(p, "stays"), counts(p, "other")), ((1, 0), (0, 0)))
        p.ask("one/script")
        eventually("both count", lambda: (counts(p, "stays"), counts(p, "other")) == ((2, 0), (1, 0)))
        changed = SLO.format(name="other", objective="80%", webhook=f"{receiver.url}/a")
        told = p.take(p.text(more=one + changed))
        equal(told["changes"], [{"kind": "slo", "name": "other", "change": "changed"}])
        equal((counts(p, "stays"), counts(p, "other")), ((2, 0), (0, 0)))
        objects = p.server.api("GET", "config")[1]["objects"]
        shown = [(o["name"], o["differs_from_file"]) for o in objects if o["kind"] == "slo"]
        equal(shown, [("stays", False), ("other", False)])
        p.take(p.text())
        equal((slo(p, "stays"), slo(p, "other")), (None, None))
        assert 'slo="stays"' not in p.metrics(), p.metrics()


@check
def an_objective_that_goes_while_it_burns_is_resolved(p):
    with p.double(Receiver()) as receiver:
        p.take(p.text(more=SLO.format(name="b", objective="90%", webhook=f"{receiver.url}/b")))
        for _ in range(3):
            equal(p.ask("one/script", "[[fault:status=500]]")[0], 502)
        eventually("it burns", lambda: kinds(receiver, "/b") == ["slo.burning"])
        p.take(p.text())
        eventually("it is told", lambda: kinds(receiver, "/b") == ["slo.burning", "slo.resolved"])


@check
def a_webhook_that_changes_takes_no_counts_and_gets_the_next_alert(p):
    with p.double(Receiver()) as receiver:
        text = SLO.format(name="w", objective="90%", webhook=f"{receiver.url}/before")
        p.take(p.text(more=text))
        for _ in range(3):
            p.ask("one/script", "[[fault:status=500]]")
        eventually("it burns", lambda: kinds(receiver, "/before") == ["slo.burning"])
        p.take(p.text(more=text.replace("/before", "/after")))
        equal(counts(p, "w")[1], 3)
        eventually("it resolves", lambda: kinds(receiver, "/after") == ["slo.resolved"])
        equal(kinds(receiver, "/before"), ["slo.burning"])


@check
def exports_move_to_another_collector_and_lose_no_call(p):
    def exported(receiver):
        return b"".join(post["body"] for post in receiver.to("/v1/traces"))

    def call():
        status, head, _ = p.ask("one/script")
        equal(status, 200)
        return head["holdfast-call-id"].encode()

    with p.double(Receiver()) as first, p.double(Receiver()) as second:
        unseen = call()
        told = p.take(p.text(more=TELEMETRY.format(to="http://127.0.0.1:9")))
        equal(told["changes"], [{"kind": "telemetry", "name": "otlp", "change": "added"}])
        lost = [call() for _ in range(5)]
        equal(p.take(p.text(more=TELEMETRY.format(to=first.url)))["needs_restart"], [])
        before = [call() for _ in range(5)]
        connection, answer = p.stream("one/script", "[[delay_ms=60]] [[words:20]]")
        across = answer.headers["holdfast-call-id"].encode()
        p.take(p.text(more=TELEMETRY.format(to=second.url)))
        after = [call() for _ in range(5)]
        answer.read()
        connection.close()
        eventually("the first has its own", lambda: all(c in exported(first) for c in before))
        eventually("the second too", lambda: all(c in exported(second) for c in [*after, across]))
        mixed = [c for c in [*after, across] if c in exported(first)]
        mixed += [c for c in [unseen, *lost, *before] if c in exported(second)]
        equal(mixed, [])
        p.take(p.text())
        posts = len(second.posts)
        call()
        eventually("the last of it", lambda: p.quiet(second))
        assert len(second.posts) <= posts + 2, "one last batch of spans and of metrics"


# Tool servers.

ADD = '[[tool:add_note {{"text":"{text}"}}]]'


def server(p, name, delay=0):
    log = p.world.folder / f"{name}.log"
    return SERVER.format(
        name="notes", python=sys.executable, demo=DEMO, effects=log, delay=delay
    ), log


def turn(p, text):
    """One response that may use the notes: (status, JSON)."""
    tools = [{"type": "mcp", "server_label": "notes", "require_approval": "never"}]
    body = {"model": "one/script", "input": text, "tools": tools}
    status, _, data = p.server.http("POST", "/v1/responses", body, CI)
    return status, json.loads(data)


def called(answer):
    """The tool calls of a response: name, status and error."""
    calls = [item for item in answer["output"] if item["type"] == "mcp_call"]
    return [(call["name"], call["status"], call["error"]) for call in calls]


def servers(p):
    """The processes of tool servers, without the guards that look after them."""
    return [
        found for found in processes_in(p.server.data / "tools") if found[1].startswith(sys.executable)
    ]


@check
def tool_servers_come_and_change_and_go(p):
    equal(turn(p, "hello")[0], 403)
    text, log = server(p, "first")
    told = p.take(p.text(more=text))
    equal(told["changes"], [{"kind": "mcp_server", "name": "notes", "change": "added"}])
    equal(told["needs_restart"], [])
    status, answer = turn(p, ADD.format(text="one"))
    equal((status, called(answer)), (200, [("add_note", "completed", None)]))
    equal([entry["arguments"] for entry in effects(log)], [{"text": "one"}])
    [(first, _)] = servers(p)
    # Who may use it, and how long, is no other program: the process stays.
    p.take(p.text(more=text.replace('keys = ["ci"]', 'keys = ["late"]')))
    equal(turn(p, "hello")[0], 403)
    told = p.take(p.text(more=text))
    equal(told["changes"], [{"kind": "mcp_server", "name": "notes", "change": "changed"}])
    equal((turn(p, ADD.format(text="two"))[0], [pid for pid, _ in servers(p)]), (200, [first]))
    text, other = server(p, "second")
    p.take(p.text(more=text))
    eventually("the first has ended", lambda: not servers(p))
    equal(called(turn(p, ADD.format(text="three"))[1]), [("add_note", "completed", None)])
    equal([entry["arguments"] for entry in effects(other)], [{"text": "three"}])
    equal(len(effects(log)), 2)
    p.take(p.text())
    eventually("none is left", lambda: not servers(p))
    equal(turn(p, "hello")[0], 403)


@check
def a_tool_call_that_runs_ends_well_and_its_turn_keeps_its_server(p):
    text, old = server(p, "running", delay=1500)
    p.take(p.text(more=text))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(turn, p, f"{ADD.format(text='a')} [[next]] {ADD.format(text='b')}")
        eventually("the first call has had its effect", lambda: len(effects(old)) == 1)
        text, new = server(p, "beside")
        p.take(p.text(more=text))
        equal(called(turn(p, ADD.format(text="c"))[1]), [("add_note", "completed", None)])
        equal([entry["arguments"] for entry in effects(new)], [{"text": "c"}])
        p.take(p.text())
        status, answer = slow.result()
    equal((status, called(answer)), (200, [("add_note", "completed", None)] * 2))
    equal([entry["arguments"] for entry in effects(old)], [{"text": "a"}, {"text": "b"}])
    eventually("none is left", lambda: not servers(p))


# Local models.


MODEL = '[[models]]\nname = "own"\npath = "{path}"\n'


def engines(p):
    """The engines under the server that live."""
    below = processes.alive(processes.descendants(p.server.child.pid))
    is_engine = [one for one in below if "--model-sha256" in processes.command_line(one.pid)]
    return {one.pid for one in is_engine if one.name != "holdfast"}


@check
def a_local_model_that_goes_ends_its_engine_and_no_call(p):
    before, path = engines(p), p.world.folder / "own.gguf"
    demo = DEMO.parent.parent / "models" / "demo" / "holdfast-demo-Q8_0.gguf"
    # Other weights by their hash: the same ones would be served by the demo's engine.
    path.write_bytes(demo.read_bytes() + bytes(32))

    def until_it_is_gone():
        statuses = []
        while not statuses or statuses[-1] == 200:
            statuses.append(p.ask("local/own", "Say something long.")[0])
        return statuses

    for _ in range(2):
        p.take(p.text(more=MODEL.format(path=path)))
        equal(p.ask("local/own")[0], 200)
        assert engines(p) - before, "an engine of its own"
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(until_it_is_gone) for _ in range(6)]
            time.sleep(0.5)
            p.take(p.text())
            ends = [one.result() for one in asking]
        # Those that ran have ended well; the next ones found no such model.
        equal([(set(all_[:-1]), all_[-1]) for all_ in ends], [({200}, 404)] * 6)
        eventually("its engine has ended", lambda: engines(p) <= before)


# Routes by the API.


@check
def a_route_is_made_replaced_and_removed(p):
    body = {"name": "own", "targets": ["two/script"], "aliases": ["mine"], "wait_max": "2s"}
    status, made = p.server.api("POST", "routes", body)
    equal((status, made["origin"], made["settings"]["wait_max"]), (200, "api", "2s"))
    equal(made["targets"], [{"model": "two/script", "state": "well"}])
    equal(p.ask("mine")[1]["holdfast-model"], "two/script")
    status, put = p.server.api("PUT", "routes/own", {"targets": ["one/script"]})
    equal((status, put["version"]), (200, made["version"] + 1))
    equal(p.ask("route/own")[1]["holdfast-model"], "one/script")
    equal(p.ask("mine")[0], 404)
    equal(p.server.api("GET", "routes/own")[1]["settings"], {"targets": ["one/script"]})
    equal(p.server.api("DELETE", "routes/own")[0], 200)
    equal(p.server.api("DELETE", "routes/own")[0], 404)
    equal(p.ask("route/own")[0], 404)
    what = [version["what"] for version in p.versions()[:3]]
    equal(what, ["removed own", "changed own", "added own"])
    equal({version["author"] for version in p.versions()[:3]}, {"admin"})


@check
def the_same_again_is_no_version(p):
    body = {"targets": ["two/script"]}
    first = p.server.api("PUT", "routes/own", body)[1]
    equal(p.server.api("PUT", "routes/own", body)[1]["version"], first["version"])


@check
def a_wrong_route_is_refused_with_all_that_is_wrong(p):
    before = p.versions()
    body = {"targets": ["nobody/x", "one/script", "one/script"], "attempts": 99}
    status, answer = p.server.api("PUT", "routes/own", body)
    found = {problem["at"] for problem in answer["error"]["problems"]}
    equal((status, found), (400, {"targets[0]", "targets[2]", "attempts"}))
    for body in ({"targets": "one/script"}, {"targets": ["one/script"], "surprise": 1}, {}):
        status, answer = p.server.api("PUT", "routes/own", body)
        equal((status, answer["error"]["code"]), (400, "invalid_request"))
    equal(p.server.api("PUT", "routes/a%20b", {"targets": ["one/script"]})[0], 400)
    equal(p.server.api("PUT", "routes/a", {"name": "b", "targets": ["one/script"]})[0], 400)
    equal(p.versions(), before)


@check
def a_name_that_is_taken_is_a_conflict(p):
    status, answer = p.server.api("POST", "routes", {"name": "fast", "targets": ["one/script"]})
    equal((status, answer["error"]["code"]), (400, "conflict"))
    assert "configuration file" in answer["error"]["message"], answer
    body = {"targets": ["one/script"], "aliases": ["quick"]}
    status, answer = p.server.api("PUT", "routes/own", body)
    equal((answer["error"]["code"], answer["error"]["param"]), ("conflict", "aliases"))
    assert "fast" in answer["error"]["message"], answer


@check
def a_file_that_takes_an_alias_of_the_api_is_refused(p):
    equal(p.server.api("PUT", "routes/own", {"targets": ["one/script"], "aliases": ["x"]})[0], 200)
    p.write(p.text(routes=[("fast", ["quick"], ["one/script"]), ("new", ["x"], ["one/script"])]))
    status, answer = p.reload()
    equal((status, [x["at"] for x in answer["error"]["problems"]]), (400, ["routes[1].aliases[0]"]))
    equal((p.ask("route/new")[0], p.ask("x")[0]), (404, 200))


@check
def of_two_edits_the_later_wins(p):
    equal(p.server.api("PUT", "routes/fast", {"targets": ["two/script"]})[0], 200)
    equal(p.reload()[1]["changes"], [])
    equal(p.ask("route/fast")[1]["holdfast-model"], "two/script")
    objects = p.server.api("GET", "config")[1]["objects"]
    [route] = [o for o in objects if o["kind"] == "route"]
    equal((route["origin"], route["differs_from_file"]), ("api", True))
    p.take(p.text(routes=[("fast", [], ["one/script"])]))
    equal(p.ask("route/fast")[1]["holdfast-model"], "one/script")


@check
def a_route_of_a_provider_that_is_gone_does_without_it(p):
    p.server.api("PUT", "routes/own", {"targets": ["two/script", "one/script"]})
    answer = p.take(p.text(providers=("one",), routes=[("fast", ["quick"], ["one/script"])]))
    assert any("own" in warning["at"] for warning in answer["warnings"]), answer
    equal(p.ask("route/own")[1]["holdfast-model"], "one/script")


@check
def a_former_set_comes_back(p):
    p.server.api("PUT", "routes/own", {"targets": ["two/script"]})
    number = p.versions()[0]["number"]
    p.server.api("PUT", "routes/own", {"targets": ["one/script"]})
    p.server.api("DELETE", "routes/fast")
    equal(p.ask("route/fast")[0], 404)
    status, version = p.server.api("POST", "routes/rollback", {"version": number})
    equal((status, version["number"]), (200, number + 3))
    equal(version["what"], f"rolled back to {number}")
    equal(p.ask("route/own")[1]["holdfast-model"], "two/script")
    equal(p.ask("quick")[0], 200)
    origins = {r["name"]: r["origin"] for r in p.server.api("GET", "routes")[1]["data"]}
    equal(origins, {"fast": "file", "own": "api"})
    equal(p.server.api("POST", "routes/rollback", {"version": 99999})[0], 404)


@check
def a_set_that_cannot_be_served_by_now_does_not_come_back(p):
    p.server.api("PUT", "routes/own", {"targets": ["two/script"]})
    number = p.versions()[0]["number"]
    p.server.api("DELETE", "routes/own")
    p.take(p.text(providers=("one",), routes=[("fast", ["quick"], ["one/script"])]))
    status, answer = p.server.api("POST", "routes/rollback", {"version": number})
    equal(status, 400)
    at = {problem["at"] for problem in answer["error"]["problems"]}
    assert "own.targets[0]" in at, at


@check
def the_commands_do_the_same(p):
    asking = ["--url", p.server.url, "--key", p.server.admin_key]

    def run(*arguments):
        command = [holdfast_binary(), "routes", *arguments, *asking]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        equal(done.returncode, 0)
        return done.stdout

    [_, row] = run("put", "own", "two/script", "--alias", "mine").splitlines()
    equal(row.split()[:4], ["own", "mine", "two/script", "api"])
    assert "own" in run("list") and "two/script" in run("show", "own")
    number = p.versions()[0]["number"]
    equal(run("delete", "own"), "deleted own\n")
    assert "removed own" in run("versions")
    assert "rolled back" in run("rollback", str(number))
    equal(p.ask("mine")[0], 200)


@check
def a_kill_leaves_the_old_or_the_new(p):
    """Routes are changed without end; wherever the server dies, a whole set is there after."""
    acknowledged = []

    def change():
        turn = 0
        while True:
            turn += 1
            target = ("one/script", "two/script")[turn % 2]
            body = {"targets": [target], "aliases": [f"alias-{turn}"]}
            try:
                status, route = p.server.api("PUT", "routes/own", body)
            except OSError:
                return
            if status == 200:
                acknowledged.append((route["version"], turn))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            eventually("some changes", lambda: len(acknowledged) > 20)
        finally:
            p.server.kill()
        changing.result()
    p.restart()
    version, turn = acknowledged[-1]
    newest = p.versions()[0]
    assert newest["number"] in (version, version + 1), (newest["number"], version)
    settings = {r["name"]: r["settings"] for r in newest["routes"]}
    turn += newest["number"] - version
    equal(settings["own"]["aliases"], [f"alias-{turn}"])
    equal(p.ask(f"alias-{turn}")[1]["holdfast-model"], settings["own"]["targets"][0])


@check
def a_restart_keeps_what_the_api_made(p):
    p.server.api("PUT", "routes/own", {"targets": ["two/script"], "aliases": ["mine"]})
    p.server.api("DELETE", "routes/fast")
    before = p.versions()
    assert p.server.stop()
    p.restart()
    equal(p.versions(), before)
    equal((p.ask("mine")[0], p.ask("route/fast")[0]), (200, 404))


class Watched(Platform):
    """With a look at the provider's connections, and a server that can be started again."""

    def one_port(self):
        return int(self.one.base_url.split(":")[2].split("/")[0])

    def one_connections(self):
        """The server's ends of connections to the first provider (Linux)."""
        port = f"{self.one_port():04X}"
        lines = pathlib.Path(f"/proc/{self.server.child.pid}/net/tcp").read_text().splitlines()
        rows = [line.split() for line in lines[1:]]
        return {row[1] for row in rows if row[2].endswith(":" + port) and row[3] == "01"}

    def in_flight(self, provider):
        """Calls that are under way with a provider's keys now: who they are is decided by then."""
        _, page = self.server.api("GET", "limits")
        (found,) = [one for one in page["data"] if one["provider"] == provider]
        return sum(key["in_flight"] for key in found["keys"])

    def restart(self):
        if self.server.child.poll() is None:
            self.server.stop()
        text = self.server.config.read_text()
        self.server = self.world.start(Server, text)


def from_the_start(function):
    """A check, on the file that every check begins with."""

    def played(p):
        p.back()
        function(p)

    played.__name__ = function.__name__
    return played


if __name__ == "__main__":
    sys.exit(running.main([from_the_start(one) for one in CHECKS], sys.argv[1:], Watched))
