"""The suite `slos`: an injected delay burns the right objective and no other.

    slos.py [NAME …]     only the checks whose name contains one of the NAMEs

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
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from doubles import Checks, Provider, Receiver, ask  # noqa: E402

from harness import Server, SetupFailed, World, eventually, holdfast_binary  # noqa: E402

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

# class, metric, threshold
OBJECTIVES = [
    ("chat", "time_to_first_token", "300ms"),
    ("chat", "task_time", "900ms"),
    ("chat", "policy_time", "300ms"),
    ("chat", "errors", None),
    ("batch", "time_to_first_token", "300ms"),
    ("batch", "task_time", "900ms"),
    ("batch", "policy_time", "300ms"),
    ("batch", "errors", None),
    ("gated", "time_to_first_token", "20s"),
    ("gated", "policy_time", "300ms"),
    ("agent", "task_time", "900ms"),
    ("agent", "time_to_first_token", "20s"),
]
MODELS = ["d0-0", "d500-0", "d0-1200", "d400-0", "e500", "d0-1000"]


def name_of(class_, metric):
    return f"{class_}-{metric}"


def config(provider, receiver):
    free = ", ".join(f'{{ id = "{model}", usd_per_request = "0.001" }}' for model in MODELS)
    text = HEAD.format(provider=provider.url, models=free, key=KEY, gated=GATED_KEY)
    for class_, metric, threshold in OBJECTIVES:
        more = f'threshold = "{threshold}"\n' if threshold else ""
        if metric == "task_time":
            more += 'task_idle = "400ms"\n'
        if class_ == "chat":
            more += f'webhook_secret = "whsec_{base64.b64encode(SECRET).decode()}"\n'
        name = name_of(class_, metric)
        text += SLO.format(
            name=name, class_=class_, metric=metric, webhook=receiver.url, more=more
        )
    return text


class Suite:
    def __init__(self, world, provider, receiver, check):
        self.provider, self.receiver, self.check = provider, receiver, check
        self.server = world.start(Server, config(provider, receiver))

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
            return self.check(f"{what} burns {name}", False, f"{error}; {self.slos()[name]}")
        self.check(f"{what} burns {name}", True)
        time.sleep(0.5)
        others = self.told() - before - {name}
        self.check(f"{what} burns no other", not others, others)

    # What happens, in order.

    def quiet(self):
        for class_ in ("chat", "batch"):
            self.many("d0-0", class_, stream=True)
        eventually("tasks are over", lambda: self.counts("chat-task_time")[0] >= CALLS)
        self.check("nothing burns while all is quick", not self.told(), self.told())
        for metric in ("time_to_first_token", "task_time", "policy_time", "errors"):
            seen = self.counts(name_of("chat", metric))
            self.check(f"quick calls are good for {metric}", seen == (CALLS, 0), seen)
        seen = self.counts("agent-task_time")
        self.check("a class counts its own calls only", seen == (0, 0), seen)

    def first_token(self):
        before = self.told()
        self.many("d500-0", "chat", stream=True)
        self.burns_alone("a late first token", "chat-time_to_first_token", before)
        seen = self.counts("chat-time_to_first_token")
        self.check("each late first token is counted once", seen == (CALLS, CALLS), seen)
        slo = self.slos()["chat-time_to_first_token"]
        left = slo["error_budget_left"]
        # Half of all were bad, and a tenth may be.
        self.check("the error budget is overdrawn by what was bad", abs(left + 4) < 1e-6, left)
        name = "chat-time_to_first_token"
        eventually("it resolves", lambda: self.events(name, "slo.resolved"))
        self.check("it is resolved once the delay is gone", self.slos()[name]["state"] == "ok")
        kinds = [event["type"] for event in self.events(name)]
        self.check("each change is told once", kinds == ["slo.burning", "slo.resolved"], kinds)

    def slow_end(self):
        before = self.told()
        self.many("d0-1200", "batch", stream=True)
        self.burns_alone("a slow end", "batch-task_time", before)
        seen = self.counts("batch-time_to_first_token")
        self.check("a slow end is no late first token", seen == (2 * CALLS, 0), seen)

    def tasks(self):
        before = self.counts("chat-task_time")
        for _ in range(3):
            self.many("d400-0", "chat", 1, headers={"holdfast-task": "three-in-a-row"})
        self.many("d0-0", "chat", 2, headers={"holdfast-task": "two-at-once"})

        def added():
            now = self.counts("chat-task_time")
            return (now[0] - before[0], now[1] - before[1])

        eventually("both tasks are counted", lambda: sum(added()) >= 2)
        time.sleep(0.5)
        self.check("calls of one task are timed together", added() == (1, 1), added())

    def turn(self):
        before = self.told()
        body = {"model": "p/d0-1000", "input": "hello", "store": True}
        statuses = []
        for _ in range(3):
            statuses.append(self.server.http("POST", "/v1/responses", body, KEY)[0])
        self.check("turns are answered", statuses == [200] * 3, statuses)
        eventually("turns are counted", lambda: sum(self.counts("agent-task_time")) >= 3)
        seen = self.counts("agent-task_time")
        self.check("a session's turn is a task of the class agent", seen == (0, 3), seen)
        others = self.told() - before - {"agent-task_time"}
        self.check("a slow turn burns no other", not others, others)

    def errors(self):
        before = self.told()
        first = self.counts("chat-time_to_first_token")
        statuses = self.many("e500", "chat")
        self.check("the provider's errors arrive", set(statuses) == {502}, statuses)
        self.burns_alone("a failing provider", "chat-errors", before)
        self.check(
            "a quick failure is no late first token",
            self.counts("chat-time_to_first_token") == first,
            (first, self.counts("chat-time_to_first_token")),
        )

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
            time.sleep(0.8)
            database.execute("ROLLBACK")
            statuses = [one.result()[0] for one in asked]
        database.close()
        self.check("calls wait for the budget's store", statuses == [200] * CALLS, statuses)
        self.burns_alone("a slow admission", "gated-policy_time", before)

    def webhooks(self):
        posts = self.receiver.to("/chat-time_to_first_token")
        ok = []
        for post in posts:
            headers = post["headers"]
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
            digest = hmac.new(SECRET, signed + post["body"], hashlib.sha256).digest()
            ok.append(headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode())
        self.check("posts are signed by the secret", ok and all(ok), ok)
        ids = [post["headers"]["webhook-id"] for post in posts]
        self.check("each alert has an id of its own", len(set(ids)) == len(ids), ids)
        bare = self.receiver.to("/batch-task_time")[0]["headers"]
        self.check("without a secret nothing is signed", "webhook-signature" not in bare, bare)
        event = self.events("chat-time_to_first_token")[0]
        data = event["data"]
        wanted = {"name": "chat-time_to_first_token", "class": "chat", "state": "burning"}
        self.check("a post says which objective", wanted.items() <= data.items(), data)
        rates = [data["windows"][window]["burn_rate"] for window in ("short", "long")]
        self.check("a post says how fast both windows burn", min(rates) >= 5, rates)

    def retries(self):
        # The receiver fails once; another objective's receiver hangs all the while.
        path = "/batch-time_to_first_token"
        self.receiver.plan(path, 500, 200)
        self.receiver.plan("/chat-errors", None)
        began = time.monotonic()
        self.many("e500", "chat")
        statuses = self.many("d500-0", "batch")
        self.check(
            "a receiver that hangs holds up no call",
            set(statuses) == {200} and time.monotonic() - began < 5,
            (statuses, time.monotonic() - began),
        )
        kind = "slo.burning"
        eventually(
            "the alert came twice",
            lambda: len(self.events("batch-time_to_first_token", kind)) >= 2,
        )
        posts = self.receiver.to(path)[:2]
        ids = {post["headers"]["webhook-id"] for post in posts}
        self.check("what failed is tried again under the same id", len(ids) == 1, ids)

    def api(self):
        status, slo = self.server.api("GET", "slos/chat-policy_time")
        wanted = {"metric": "policy_time", "threshold_ms": 300, "objective": 0.9}
        self.check("one objective is found by name", status == 200 and wanted.items() <= slo.items(), slo)
        status, _ = self.server.api("GET", "slos/nothing")
        self.check("an unknown objective is a 404", status == 404, status)
        status, _ = self.server.api("GET", "slos", key=KEY)
        self.check("objectives are for administrators", status == 403, status)
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
            self.check(f"/metrics has {line.split('}')[0]}}}", line in lines, line)
        burning = [line for line in lines if line.startswith("holdfast_slo_burning{")]
        self.check("/metrics has a state of each", len(burning) == len(OBJECTIVES), burning)


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


def wrong_settings(folder, check):
    path = folder / "wrong.toml"
    path.write_text(WRONG)
    said = subprocess.run(
        [holdfast_binary(), "check", "--config", path], capture_output=True, text=True, check=False
    )
    places = ["slos[0].threshold", "slos[1].metric", "slos[2].objective"]
    text = said.stdout + said.stderr
    missing = [place for place in places if place not in text]
    check("wrong settings are named, all at once", said.returncode and not missing, text)


def main():
    check = Checks(sys.argv[1:])
    provider, receiver = Provider(), Receiver()
    with World() as world:
        suite = Suite(world, provider, receiver, check)
        suite.quiet()
        suite.first_token()
        suite.slow_end()
        suite.tasks()
        suite.turn()
        suite.errors()
        suite.policy()
        suite.webhooks()
        suite.retries()
        suite.api()
        wrong_settings(world.folder, check)
        check("the server stops in time", suite.server.stop())
    receiver.close()
    provider.close()
    return check.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupFailed as failed:
        print(failed, file=sys.stderr)
        sys.exit(2)
