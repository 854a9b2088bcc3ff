"""The suite `slos`: an injected delay burns the right objective and no other.

    slos.py [NAME …]     only the scenes whose name contains one of the NAMEs

A provider answers as late as it is told, and a receiver stands where the webhooks go. What is
judged: which objectives told the receiver, what `/api/slos` and `/metrics` say of what the suite
itself injected, and how the posts are signed. Windows are a second long. Standard library only.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import running  # noqa: E402
from doubles import Provider, Receiver, ask  # noqa: E402
from harness import Server, eventually, holdfast_binary  # noqa: E402

KEY = "hf_suite_slos_0123456789abcdef"
GATED_KEY = "hf_suite_slos_gated_0123456789"
SECRET = b"a secret of the webhook's"
# More than one Call at once, so that a window of a second holds them.
CALLS = 6

HEAD = """
[[providers]]
name = "p"
vendor = "openai-compatible"
base_url = "{provider}/v1"
api_key = "key-of-the-provider"
models = [{models}]

[[keys]]
name = "suite"
secret = "{key}"

[[keys]]
name = "gated"
secret = "{gated}"

[[budgets]]
scope = {{ key = "gated" }}
limit_usd = "1.00"

[[routes]]
name = "home"
targets = [{{ model = "p/d0-0", when = "!('routed-errors' in burning)" }}, "p/d0-1"]
"""

SLO = """
[[slos]]
name = "{name}"
class = "{class_}"
metric = "{metric}"
objective = "90%"
window = "1h"
short_window = "1s"
long_window = "2s"
burn_rate = 5
min_count = 3
webhook = "{webhook}/{name}"
{more}
"""

# class, metric, threshold. What is to be late is half a second later, what is to be quick takes none
# of it: a busy machine changes no count.
OBJECTIVES = [
    ("chat", "time_to_first_token", "1s"),
    ("chat", "task_time", "4s"),
    ("chat", "policy_time", "1s"),
    ("chat", "errors", None),
    ("batch", "time_to_first_token", "1s"),
    ("batch", "task_time", "4s"),
    ("batch", "policy_time", "1s"),
    ("batch", "errors", None),
    ("gated", "time_to_first_token", "20s"),
    ("gated", "policy_time", "1s"),
    ("agent", "task_time", "1s"),
    ("agent", "time_to_first_token", "20s"),
    ("routed", "errors", None),
]
MODELS = ["d0-0", "d0-1", "d1500-0", "d0-4500", "e500", "d0-1500"]
# A task is over when nothing of it was asked for so long.
TASK_IDLE = 1.0
# In so long a webhook would have come of which there is to be none.
QUIET = 1.0
# What has changed is written so often.
KEPT_EVERY = 10.0
check = running.Statements()


def name_of(class_, metric):
    return f"{class_}-{metric}"


def config(provider, receiver):
    free = ", ".join(f'{{ id = "{model}", usd_per_request = "0.001" }}' for model in MODELS)
    text = HEAD.format(provider=provider.url, models=free, key=KEY, gated=GATED_KEY)
    for class_, metric, threshold in OBJECTIVES:
        more = f'threshold = "{threshold}"\n' if threshold else ""
        if metric == "task_time":
            more += f'task_idle = "{TASK_IDLE * 1000:.0f}ms"\n'
        if class_ == "chat":
            more += f'webhook_secret = "whsec_{base64.b64encode(SECRET).decode()}"\n'
        name = name_of(class_, metric)
        text += SLO.format(
            name=name, class_=class_, metric=metric, webhook=receiver.url, more=more
        )
    return text


class Suite:
    def __init__(self, world):
        self.world, self.folder = world, world.folder
        self.provider, self.receiver = world.double(Provider()), world.double(Receiver())
        self.server = world.start(Server, config(self.provider, self.receiver))

    def slos(self):
        status, body = self.server.api("GET", "slos")
        assert status == 200, body
        return {slo["name"]: slo for slo in body["data"]}

    def counts(self, name):
        """Good and bad events in the hour, which is longer than the suite."""
        budget = self.slos()[name]["windows"]["budget"]
        return budget["good"], budget["bad"]

    def events(self, name, kind=None):
        bodies = [json.loads(post["body"]) for post in self.receiver.to(f"/{name}")]
        return [body for body in bodies if kind in (None, body["type"])]

    def told(self):
        """The objectives that have said that they burn."""
        names = [name_of(class_, metric) for class_, metric, _ in OBJECTIVES]
        return {name for name in names if self.events(name, "slo.burning")}

    def many(self, model, class_, count=CALLS, **options):
        headers = {"holdfast-class": class_} | options.pop("headers", {})
        with ThreadPoolExecutor(count) as pool:
            asked = [
                pool.submit(ask, self.server, KEY, model, headers, **options) for _ in range(count)
            ]
            return [one.result()[0] for one in asked]

    def burns_alone(self, what, name, before):
        """Waits until an objective says that it burns, and holds that no other did."""
        try:
            eventually(f"{name} burns", lambda: self.events(name, "slo.burning"))
        except AssertionError as error:
            return check(f"{what} burns {name}", False, f"{error}; {self.slos()[name]}")
        check(f"{what} burns {name}", True)
        time.sleep(QUIET)
        others = self.told() - before - {name}
        check(f"{what} burns no other", not others, others)

    # What happens, in order.

    def quiet(self):
        for class_ in ("chat", "batch"):
            self.many("d0-0", class_, stream=True)
        eventually("tasks are over", lambda: self.counts("chat-task_time")[0] >= CALLS)
        time.sleep(QUIET)
        check("nothing burns while all is quick", not self.told(), self.told())
        for metric in ("time_to_first_token", "task_time", "policy_time", "errors"):
            seen = self.counts(name_of("chat", metric))
            check(f"quick calls are good for {metric}", seen == (CALLS, 0), seen)
        seen = self.counts("agent-task_time")
        check("a class counts its own calls only", seen == (0, 0), seen)

    def first_token(self):
        before = self.told()
        self.many("d1500-0", "chat", stream=True)
        self.burns_alone("a late first token", "chat-time_to_first_token", before)
        seen = self.counts("chat-time_to_first_token")
        check("each late first token is counted once", seen == (CALLS, CALLS), seen)
        slo = self.slos()["chat-time_to_first_token"]
        left = slo["error_budget_left"]
        # Half of all were bad, and a tenth may be.
        check("the error budget is overdrawn by what was bad", abs(left + 4) < 1e-6, left)
        name = "chat-time_to_first_token"
        eventually("it resolves", lambda: self.events(name, "slo.resolved"))
        check("it is resolved once the delay is gone", self.slos()[name]["state"] == "ok")
        kinds = [event["type"] for event in self.events(name)]
        check("each change is told once", kinds == ["slo.burning", "slo.resolved"], kinds)

    def slow_end(self):
        before = self.told()
        self.many("d0-4500", "batch", stream=True)
        self.burns_alone("a slow end", "batch-task_time", before)
        seen = self.counts("batch-time_to_first_token")
        check("a slow end is no late first token", seen == (2 * CALLS, 0), seen)

    def tasks(self):
        before = self.counts("chat-task_time")
        for _ in range(3):
            self.many("d1500-0", "chat", 1, headers={"holdfast-task": "three-in-a-row"})
        self.many("d0-0", "chat", 2, headers={"holdfast-task": "two-at-once"})

        def added():
            now = self.counts("chat-task_time")
            return (now[0] - before[0], now[1] - before[1])

        eventually("both tasks are counted", lambda: sum(added()) >= 2)
        time.sleep(TASK_IDLE)
        check("calls of one task are timed together", added() == (1, 1), added())

    def turn(self):
        before = self.told()
        body = {"model": "p/d0-1500", "input": "hello", "store": True}
        with ThreadPoolExecutor(3) as pool:
            args = ("POST", "/v1/responses", body, KEY)
            asked = [pool.submit(self.server.http, *args) for _ in range(3)]
            statuses = [one.result()[0] for one in asked]
        check("turns are answered", statuses == [200] * 3, statuses)
        eventually("turns are counted", lambda: sum(self.counts("agent-task_time")) >= 3)
        seen = self.counts("agent-task_time")
        check("a session's turn is a task of the class agent", seen == (0, 3), seen)
        self.burns_alone("a slow turn", "agent-task_time", before)

    def errors(self):
        before = self.told()
        first = self.counts("chat-time_to_first_token")
        statuses = self.many("e500", "chat")
        check("the provider's errors arrive", set(statuses) == {502}, statuses)
        self.burns_alone("a failing provider", "chat-errors", before)
        check(
            "a quick failure is no late first token",
            self.counts("chat-time_to_first_token") == first,
            (first, self.counts("chat-time_to_first_token")),
        )

    def condition(self):
        def answers():
            headers = {"holdfast-class": "unmeasured"}
            body = {"model": "route/home", "messages": [{"role": "user", "content": "a prompt"}]}
            _, told, _ = self.server.http("POST", "/v1/chat/completions", body, KEY, headers)
            return told.get("holdfast-model")

        check("a route asks its first target while nothing burns", answers() == "p/d0-0")
        failing = threading.Event()

        def keep_failing():
            while not failing.is_set():
                self.many("e500", "routed", 3)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(keep_failing)
            try:
                eventually("traffic moves while it burns", lambda: answers() == "p/d0-1")
                state = self.slos()["routed-errors"]["state"]
                check("it is the objective that burns", state == "burning", state)
            finally:
                failing.set()
        eventually("traffic comes home", lambda: answers() == "p/d0-0")
        state = self.slos()["routed-errors"]["state"]
        check("traffic comes home when it no longer burns", state == "ok", state)

    def policy(self):
        before = self.told()
        # Who holds the database's write lock holds up the slice that a budget's first Call needs.
        database = sqlite3.connect(self.server.data / "holdfast.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(CALLS) as pool:
            headers = {"holdfast-class": "gated"}
            asked = [
                pool.submit(ask, self.server, GATED_KEY, "d0-0", headers) for _ in range(CALLS)
            ]
            time.sleep(1.6)
            database.execute("ROLLBACK")
            statuses = [one.result()[0] for one in asked]
        database.close()
        check("calls wait for the budget's store", statuses == [200] * CALLS, statuses)
        self.burns_alone("a slow admission", "gated-policy_time", before)

    def webhooks(self):
        posts = self.receiver.to("/chat-time_to_first_token")
        ok = []
        for post in posts:
            headers = post["headers"]
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
            digest = hmac.new(SECRET, signed + post["body"], hashlib.sha256).digest()
            ok.append(headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode())
        check("posts are signed by the secret", ok and all(ok), ok)
        ids = [post["headers"]["webhook-id"] for post in posts]
        check("each alert has an id of its own", len(set(ids)) == len(ids), ids)
        bare = self.receiver.to("/batch-task_time")[0]["headers"]
        check("without a secret nothing is signed", "webhook-signature" not in bare, bare)
        event = self.events("chat-time_to_first_token")[0]
        data = event["data"]
        wanted = {"name": "chat-time_to_first_token", "class": "chat", "state": "burning"}
        check("a post says which objective", wanted.items() <= data.items(), data)
        rates = [data["windows"][window]["burn_rate"] for window in ("short", "long")]
        check("a post says how fast both windows burn", min(rates) >= 5, rates)

    def retries(self):
        # The receiver fails once; another objective's receiver hangs all the while.
        path = "/batch-time_to_first_token"
        self.receiver.plan(path, 500, 200)
        self.receiver.plan("/chat-errors", None)
        began = time.monotonic()
        self.many("e500", "chat")
        statuses = self.many("d1500-0", "batch")
        check(
            "a receiver that hangs holds up no call",
            set(statuses) == {200} and time.monotonic() - began < 20,
            (statuses, time.monotonic() - began),
        )
        kind = "slo.burning"
        eventually(
            "the alert came twice",
            lambda: len(self.events("batch-time_to_first_token", kind)) >= 2,
        )
        posts = self.receiver.to(path)[:2]
        ids = {post["headers"]["webhook-id"] for post in posts}
        check("what failed is tried again under the same id", len(ids) == 1, ids)

    def api(self):
        status, slo = self.server.api("GET", "slos/chat-policy_time")
        wanted = {"metric": "policy_time", "threshold_ms": 1000, "objective": 0.9}
        check("one objective is found by name", status == 200 and wanted.items() <= slo.items(), slo)
        status, _ = self.server.api("GET", "slos/nothing")
        check("an unknown objective is a 404", status == 404, status)
        status, _ = self.server.api("GET", "slos", key=KEY)
        check("objectives are for administrators", status == 403, status)
        ask(self.server, "hf_nobody", "d0-0")
        _, _, text = self.server.http("GET", "/metrics", key=self.server.admin_key)
        lines = text.decode().splitlines()
        seen = self.counts("chat-errors")
        wanted = [
            f'holdfast_slo_events_total{{slo="chat-errors",result="bad"}} {seen[1]}',
            f'holdfast_slo_events_total{{slo="chat-errors",result="good"}} {seen[0]}',
            'holdfast_refused_total{code="unauthenticated",class="unidentified"} 1',
        ]
        for line in wanted:
            check(f"/metrics has {line.split('}')[0]}}}", line in lines, line)
        burning = [line for line in lines if line.startswith("holdfast_slo_burning{")]
        check("/metrics has a state of each", len(burning) == len(OBJECTIVES), burning)

    def all_counts(self):
        return {name: self.counts(name) for name in self.slos()}

    def again(self, text):
        """Starts the server again, which must have ended, with this configuration."""
        self.server = self.world.start(Server, text)

    def restarts(self):
        text = self.server.config.read_text()
        self.many("d0-0", "chat")
        eventually("tasks are over", lambda: self.counts("chat-task_time") == self.settled())
        time.sleep(KEPT_EVERY + 1)
        before = self.all_counts()
        self.server.kill()
        self.again(text)
        after = self.all_counts()
        check("what was counted survives a kill", after == before, (before, after))
        self.many("e500", "chat", 1)
        good, bad = before["chat-errors"]
        self.server.stop()
        self.again(text)
        counts = self.counts("chat-errors")
        check("a clean stop keeps the last of it", counts == (good, bad + 1), counts)
        self.server.stop()
        other = text.replace('threshold = "1s"', 'threshold = "2s"', 1)
        self.again(other)
        counts = self.all_counts()
        first = counts.pop("chat-time_to_first_token")
        check("an objective that was changed begins anew", first == (0, 0), first)
        check("and no other", counts["chat-errors"] == (good, bad + 1), counts)

    def settled(self):
        """The tasks' counts, once nothing is added any more."""
        time.sleep(TASK_IDLE + 0.5)
        return self.counts("chat-task_time")


WRONG = """
[[slos]]
name = "a"
metric = "time_to_first_token"
objective = "99%"

[[slos]]
name = "b"
metric = "speed"
objective = "99%"

[[slos]]
name = "c"
metric = "errors"
objective = "100%"

[[slos]]
name = "d"
metric = "errors"
objective = "50%"
webhook = "ftp://example/x"
"""


def wrong_settings(suite):
    path = suite.folder / "wrong.toml"
    path.write_text(WRONG)
    said = subprocess.run(
        [holdfast_binary(), "check", "--config", path], capture_output=True, text=True, check=False
    )
    places = ["slos[0].threshold", "slos[1].metric", "slos[2].objective", "slos[3].webhook"]
    text = said.stdout + said.stderr
    missing = [place for place in places if place not in text]
    check("wrong settings are named, all at once", said.returncode and not missing, text)


def ends_cleanly(suite):
    check("the server stops in time", suite.server.stop())


SCENES = [
    Suite.quiet,
    Suite.first_token,
    Suite.slow_end,
    Suite.tasks,
    Suite.turn,
    Suite.errors,
    Suite.condition,
    Suite.policy,
    Suite.webhooks,
    Suite.retries,
    Suite.api,
    Suite.restarts,
    wrong_settings,
    ends_cleanly,
]

if __name__ == "__main__":
    sys.exit(running.main(SCENES, sys.argv[1:], Suite, check))
