"""Requests at every door while the provider fails, clients leave and the server is killed; and what is right after it.

The provider counts from its own side, and lives through it all. What the server says of its budgets
is only ever held against that, and against its own ledger.
"""

import os
import queue
import random
import secrets
import threading
import time
from decimal import Decimal

import running
from doors import DOORS
from harness import Asked, Process, eventually, holdfast_binary
from provider import CountingProvider

AMOUNTS = ("settled", "unreconciled", "presumed", "reserved")
# Of all answers the provider fails in this share; of all clients this share leaves early.
FAULTY, LEAVING = 0.30, 0.15
LOOPS = 6  # a client process
KILLS, KILLS_LONG = 4, 40
SECONDS_A_LIFE = (1.2, 2.5)
# A plain Call whose answer ended so shortly before a kill may be missing from the ledger (CONTRACTS §3), in seconds.
UNWRITTEN_SECONDS = 1.0
READY_SECONDS = 30
# Dollars: one for everything, one that has enough, two that run out.
LIMITS = {"account": "100.00", "roomy": "90.00", "tight": "0.012", "session": "0.006"}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Node(Process):
    """`holdfast serve` on a given port and data folder."""

    def __init__(self, folder, number, listen, admin_key):
        ready = folder / f"chaos-{number}.ready"
        command = [holdfast_binary(), "serve", "--config", folder / "chaos.toml", "--data", folder / "chaos"]
        command += ["--listen", listen, "--ready-file", ready]
        super().__init__(f"chaos-{number}", command, folder, {"HOLDFAST_ADMIN_KEY": admin_key})
        self.url = self.wait_ready(ready)["url"].rstrip("/")


class Chaos:
    def __init__(self, world, herd, config, is_long):
        self.world, self.herd, self.is_long = world, herd, is_long
        self.seed = int(os.environ.get("HOLDFAST_SEED") or random.SystemRandom().randrange(10**6))
        self.chance = random.Random(self.seed)
        self.provider = world.double(CountingProvider(self.seed))
        self.provider.faulty = FAULTY
        self.keys = {name: "hf_" + secrets.token_hex(16) for name in ("roomy", "tight")}
        self.admin_key = "hf_" + secrets.token_hex(20)
        lines = [config.format(url=self.provider.url)]
        lines += [f'[[keys]]\nname = "{name}"\nsecret = "{key}"' for name, key in self.keys.items()]
        scopes = {
            "account": '"account"',
            "roomy": '{ key = "roomy" }',
            "tight": '{ key = "tight" }',
        }
        for name, scope in scopes.items():
            lines.append(f'[[budgets]]\nscope = {scope}\nlimit_usd = "{LIMITS[name]}"\nwindow = "total"')
        (world.folder / "chaos.toml").write_text("\n".join(lines) + "\n")
        self.kills, self.passed, self.statuses = [], [], {}
        self.number, self.listen, self.node = 0, "127.0.0.1:0", None

    # What happens.

    def start(self):
        self.number += 1
        self.node = self.world.start(Node, self.number, self.listen, self.admin_key)
        self.listen = self.node.url.removeprefix("http://")
        self.asked = Asked(self.node.url, self.admin_key)

    def requests(self):
        """At every door with either key, some in a session with a budget, some whose client leaves."""
        for door in DOORS.values():
            for name, key in self.keys.items():
                for in_session in (False, name == "roomy" and not door.is_stored):
                    headers = {"authorization": f"Bearer {key}", **door.headers}
                    if in_session:
                        headers["holdfast-session"] = "crowd"
                    yield {"path": door.path, "headers": headers, "body": door.body}

    def play(self):
        self.start()
        session = {"scope": {"session": "crowd", "key": "roomy"}, "limit_usd": LIMITS["session"], "window": "total"}
        status, made = self.asked.api("POST", "budgets", session)
        assert status < 300, made
        kinds = list(self.requests())
        leaving = [{**one, "leaves": self.chance.uniform(0.005, 0.15)} for one in kinds]
        share = round(len(kinds) * LEAVING / (1 - LEAVING))
        kinds += self.chance.sample(leaving, share)
        count = KILLS_LONG if self.is_long else KILLS
        lives = [self.chance.uniform(*SECONDS_A_LIFE) for _ in range(count + 1)]
        plan = {"url": self.node.url, "requests": kinds, "loops": LOOPS, "seconds": sum(lives) + count * 0.5}
        self.herd.ask(lambda _: plan)
        reader = threading.Thread(target=self.read, args=(len(self.herd.children),))
        reader.start()
        for life in lives[:-1]:
            self.watch(life)
            at = time.time()
            self.node.kill()
            self.kills.append((at, time.time()))
            self.start()
        self.watch(lives[-1])
        reader.join()
        eventually("nothing is reserved", self.is_quiet, 20)

    def read(self, processes):
        while processes:
            line = self.herd.lines.get(timeout=120)
            processes -= bool(line.get("done"))
            if "status" in line:
                self.statuses[line["status"]] = self.statuses.get(line["status"], 0) + 1

    def watch(self, seconds):
        """Looks at the budgets all the time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for budget in self.budgets():
                taken = sum(budget[name] for name in AMOUNTS)
                if taken > budget["limit"] or budget["free"] < 0:
                    self.passed.append(budget)
            time.sleep(0.05)

    def budgets(self):
        try:
            status, page = self.asked.api("GET", "budgets")
        except (OSError, queue.Empty, ValueError):
            return []
        if status != 200:
            return []
        return [
            {"scope": one["scope"]} | {name: Decimal(one[f"{name}_usd"]) for name in (*AMOUNTS, "limit", "free")}
            for one in page["data"]
        ]

    def is_quiet(self):
        budgets = self.budgets()
        return budgets and all(one["reserved"] == 0 for one in budgets)

    # What is known of it.

    def rows(self):
        if not hasattr(self, "ledger"):
            self.ledger = running.ledger(self.asked)
        return self.ledger

    def seen(self):
        return [one for one in self.provider.seen if one.attempt]

    def account(self):
        (found,) = [one for one in self.budgets() if one["scope"] == "account"]
        return found


def dollars(nanodollars):
    return Decimal(nanodollars).scaleb(-9)


@check
def there_was_something_to_judge(c):
    faults = {one.fault for one in c.seen()}
    print(
        f"     seed {c.seed}: {len(c.seen())} requests at the provider, {len(c.kills)} kills, {len(c.rows())} rows, "
        f"clients saw {dict(sorted(c.statuses.items()))}; {c.account()}"
    )
    assert len(c.seen()) > 200 and len(faults) > 4, (len(c.seen()), faults)
    assert c.statuses.get(200, 0) > 100 and c.statuses.get(429, 0) > 20, c.statuses
    assert len(c.kills) >= KILLS, c.kills


@check
def no_budget_was_ever_passed(c):
    assert not c.passed, c.passed[:3]


@check
def at_the_end_nothing_is_reserved(c):
    assert c.is_quiet(), c.budgets()


@check
def what_is_settled_unreconciled_and_presumed_is_within_every_limit(c):
    for one in c.budgets():
        assert one["settled"] + one["unreconciled"] + one["presumed"] <= one["limit"], one


@check
def every_row_with_usage_costs_what_the_provider_billed(c):
    rows, compared, billed, settled = c.rows(), 0, 0, Decimal(0)
    for one in c.seen():
        row = rows.get(one.attempt)
        if row is None or row["usage"] is None:
            continue
        compared, billed, settled = compared + 1, billed + one.billed, settled + Decimal(row["cost"])
        assert Decimal(row["cost"]) == dollars(one.billed), (row, one)
    assert compared > 100, f"hardly anything to compare: {compared}"
    assert settled == dollars(billed)
    # Nobody else asked: what is settled of everything is exactly that.
    assert c.account()["settled"] == settled, (c.account(), settled)


@check
def a_row_without_usage_is_charged_no_less_than_the_provider_billed(c):
    rows, compared = c.rows(), 0
    for one in c.seen():
        row = rows.get(one.attempt)
        if row is None or row["usage"] is not None:
            continue
        compared += 1
        charged = Decimal(row["cost"]) + Decimal(row["unreconciled"])
        assert charged >= dollars(one.billed), (row, one)
        # A client that left did not wait for the refusal.
        is_known = one.fault == "refused" and row["error"] != "cancelled"
        assert not is_known or charged == 0, (row, one)
    assert compared > 20, f"hardly anything to compare: {compared}"


@check
def no_attempt_came_to_the_provider_twice(c):
    attempts = [one.attempt for one in c.seen()]
    assert len(attempts) == len(set(attempts)) and len(attempts) == len(c.provider.seen)


@check
def what_the_provider_saw_and_the_ledger_lacks_was_in_flight_at_a_kill(c):
    lacking = [one for one in c.seen() if one.attempt not in c.rows()]
    for one in lacking:
        near = [
            kill
            for kill, dead in c.kills
            if one.began < dead and (not one.ended or one.ended > kill - UNWRITTEN_SECONDS)
        ]
        assert near, f"no row, and no kill was near: {one}, {c.kills}"


@check
def all_that_the_provider_billed_is_accounted_for(c):
    billed = dollars(sum(one.billed for one in c.seen()))
    account = c.account()
    accounted = account["settled"] + account["unreconciled"] + account["presumed"]
    assert billed <= accounted, (billed, account)


@check
def budgets_agree_with_the_ledger(c):
    _, keys = c.asked.api("GET", "keys")
    names = {key["id"]: key["name"] for key in keys["data"]}
    for budget in c.budgets():
        if budget["scope"] == "account":
            rows = list(c.rows().values())
        elif "key" in budget["scope"]:
            rows = [row for row in c.rows().values() if names[row["key"]] == budget["scope"]["key"]]
        else:
            continue
        for name, column in (("settled", "cost"), ("unreconciled", "unreconciled")):
            total = sum(Decimal(row[column]) for row in rows)
            assert budget[name] == total, (budget, name, total)


@check
def presumed_money_is_reconciled_to_nothing(c):
    _, page = c.asked.api("GET", "budgets")
    for one in page["data"]:
        told = {"presumed_charged_usd": "0.00", "unreconciled_charged_usd": one["unreconciled_usd"]}
        status, answer = c.asked.api("POST", f"budgets/{one['id']}/reconcile", told)
        assert status == 200, answer
    for one in c.budgets():
        assert (one["presumed"], one["unreconciled"], one["reserved"]) == (0, 0, 0), one
        assert one["free"] == max(Decimal(0), one["limit"] - one["settled"]), one


@check
def it_stops_cleanly_and_opens_nothing_again(c):
    before = c.account()
    assert c.node.stop(), "SIGTERM did not end it with success"
    c.start()
    assert c.account() == before, (before, c.account())
    for path in sorted(c.world.folder.glob("chaos-*.log")):
        text = path.read_text(errors="replace")
        assert " panicked at " not in text, path
