"""The suites `budgets` and `budgets-long`: no door, no scope and no crash goes around a hard budget.

suite.py [--long] [NAME …]     only the checks whose name contains one of the NAMEs

Judged from the provider's side: it counts what it was asked for, and what it bills, to the
nanodollar (`provider.py`). Clients are processes of their own (`asking.py`). The short form tries
every door under one scope and every scope at two doors; the long one every door under every scope,
and more kills.
"""

import json
import pathlib
import queue
import secrets
import subprocess
import sys
import threading
import time
from decimal import Decimal

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import running  # noqa: E402
from chaos import CHECKS as CHAOS_CHECKS  # noqa: E402
from chaos import Chaos  # noqa: E402
from doors import DOORS, MODEL, SCOPES  # noqa: E402
from harness import Server, eventually  # noqa: E402
from provider import CountingProvider  # noqa: E402

# So many requests at once, from so many client processes, on a budget worth so many Calls.
AT_ONCE, PROCESSES, WORTH = 256, 4, 10
# Clients come within this time, so that the kernel's queue of new connections holds them.
APART_SECONDS = 0.15
# A wave has come to its end when nothing moves for so long.
STILL_SECONDS = 5
WAVE_SECONDS = 40

CONFIG = """
[[providers]]
name = "mock"
vendor = "openai-compatible"
base_url = "{url}/v1"
api_key = "the-providers-key"
models = [{{ id = "demo", input_usd_per_million = "1.234567", output_usd_per_million = "2.345678" }}]

[[routes]]
name = "all"
targets = ["mock/demo"]
"""


class Herd:
    """Client processes that go on living from wave to wave."""

    def __init__(self):
        self.lines, self.children = queue.Queue(), []
        for _ in range(PROCESSES):
            command = [sys.executable, HERE / "asking.py"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            child = subprocess.Popen(command, **pipes)
            self.children.append(child)
            threading.Thread(target=self.read, args=(child,), daemon=True).start()

    def read(self, child):
        for line in child.stdout:
            self.lines.put(json.loads(line))

    def ask(self, plan_of):
        """Gives each process its plan."""
        for number, child in enumerate(self.children):
            child.stdin.write(json.dumps(plan_of(number)) + "\n")
            child.stdin.flush()

    def close(self):
        for child in self.children:
            child.stdin.close()
            child.wait(10)


class Suite:
    def __init__(self, world):
        self.world = world
        self.provider = world.double(CountingProvider())
        self.server = world.start(Server, CONFIG.format(url=self.provider.url))
        self.herd = world.double(Herd())
        self.chaos = None

    def api(self, method, path, body=None):
        status, answer = self.server.api(method, path, body)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def budget(self, made):
        (found,) = [one for one in self.api("GET", "budgets")["data"] if one["id"] == made]
        return {name: Decimal(found[f"{name}_usd"]) for name in (*AMOUNTS, "limit", "free")}

    def post(self, path, body, headers):
        status, told, data = self.server.http("POST", path, body, headers=headers)
        assert status == 200, f"{path}: {status} {data[:300]!r}"
        return told, data

    def wave(self, url, requests):
        """All of them at once: how many came to the provider, and each client's (status, text)."""
        before, answers, done = len(self.provider.seen), [], 0
        self.provider.hold()
        parts = [requests[part::PROCESSES] for part in range(PROCESSES)]
        self.herd.ask(lambda number: {"url": url, "requests": parts[number], "apart": APART_SECONDS})
        began = moved = time.monotonic()
        came, is_free = 0, False
        while done < PROCESSES:
            if len(self.provider.seen) - before > came:
                came, moved = len(self.provider.seen) - before, time.monotonic()
            still = time.monotonic() - moved > STILL_SECONDS
            # Who was admitted waits for its answer; all others have theirs.
            if not is_free and (came + len(answers) >= len(requests) or still):
                self.provider.release()
                is_free = True
            assert time.monotonic() - began < WAVE_SECONDS, f"{len(answers)} answers, {came} came"
            try:
                line = self.herd.lines.get(timeout=0.05)
            except queue.Empty:
                continue
            moved = time.monotonic()
            if line.get("done"):
                done += 1
            else:
                answers.append((line["status"], line["text"]))
        return len(self.provider.seen) - before, answers


AMOUNTS = ("settled", "unreconciled", "presumed", "reserved")


def admits_what_it_is_worth(s, door, scope):
    """256 at once on a budget worth 10."""
    door, scope, mark = DOORS[door], SCOPES[scope], "m" + secrets.token_hex(6)
    key = s.api("POST", "keys", {"name": mark, "user": mark, "budget": None})
    headers = {"authorization": f"Bearer {key['secret']}", **door.headers}
    body, path, of = door.body, door.path, scope.of(mark, mark)
    if scope.model != MODEL:
        body = json.loads(json.dumps(body).replace(MODEL, scope.model))
        path = path.replace(MODEL, scope.model)
    if scope.is_session and door.is_stored:
        told, data = s.post(path, body, headers)
        of, body = {"session": told["holdfast-session"]}, {**body, "previous_response_id": json.loads(data)["id"]}
    else:
        headers |= scope.headers(mark)
    made = s.api("POST", "budgets", {"scope": of, "limit_usd": "1000.00", "window": "total"})["id"]
    try:
        # One that fits says what a Call is held at.
        s.post(path, body, headers)
        eventually("nothing is held", lambda: s.budget(made)["reserved"] == 0)
        (row,) = s.api("GET", f"calls?limit=1&key={key['id']}")["data"]
        spent, bound = s.budget(made)["settled"], Decimal(row["reserved"])
        assert bound > 0 and spent == Decimal(row["cost"]), row
        limit = {"scope": of, "limit_usd": str(spent + WORTH * bound), "window": "total"}
        assert s.api("POST", "budgets", limit)["id"] == made, "another budget"
        one = {"path": path, "headers": headers, "body": body}
        came, answers = s.wave(s.server.url, [one] * AT_ONCE)
        well = sum(status == 200 for status, _ in answers)
        others = [answer for answer in answers if answer[0] not in (200, 429)]
        assert came <= WORTH, f"{came} came to the provider"
        assert not others, f"{len(others)} neither answered nor refused: {others[0]}"
        assert came == well == WORTH, f"{came} came and {well} were answered: there was money for {WORTH}"
        eventually("nothing is held", lambda: s.budget(made)["reserved"] == 0)
        after = s.budget(made)
        billed = sum(one.billed for one in s.provider.seen[-came:])
        assert after["settled"] == spent + Decimal(billed).scaleb(-9), (after, billed)
        assert sum(after[name] for name in AMOUNTS) <= after["limit"], after
    finally:
        s.api("DELETE", f"budgets/{made}")


def checks(is_long):
    """Every door under a key's budget, every scope at a plain door and at that of sessions; all pairs in the long form."""
    pairs = [(door, "key") for door in DOORS]
    pairs += [(next(door for door in DOORS if scope.takes(door)), name) for name, scope in SCOPES.items()]
    # What moves money in commits of its own.
    pairs += [("responses_stored", name) for name in SCOPES if SCOPES[name].takes("responses_stored")]
    if is_long:
        pairs = [(door, name) for name, scope in SCOPES.items() for door in DOORS if scope.takes(door)]
    found = []
    for door, scope in dict.fromkeys(pairs):

        def check(s, door=door, scope=scope):
            admits_what_it_is_worth(s, door, scope)

        check.__name__ = f"{AT_ONCE}_at_once_{door}_on_a_budget_of_{scope}"
        found.append(check)
    return found


def of_chaos(check, is_long):
    """A check of what was left behind by requests, faults, clients that left, and kills."""

    def checked(s):
        if s.chaos is None:
            s.chaos = Chaos(s.world, s.herd, CONFIG, is_long)
            s.chaos.play()
        check(s.chaos)

    checked.__name__ = check.__name__
    return checked


if __name__ == "__main__":
    is_long = "--long" in sys.argv
    names = [name for name in sys.argv[1:] if name != "--long"]
    all_checks = checks(is_long) + [of_chaos(check, is_long) for check in CHAOS_CHECKS]
    sys.exit(running.main(all_checks, names, Suite))
