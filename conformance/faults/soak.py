"""The suite `soak-long`: high load, a fifth of it meets faults, clients go, and nothing is left.

soak.py     for HOLDFAST_SOAK_SECONDS (1,800 unless set)

The server's process is looked at from outside: its open files, threads and memory before, during
and after the load, and the reservations and Calls that it says are left. Every few seconds its
configuration changes: a route by the API, prices by the file, and the routes back again.
"""

import asyncio
import collections
import itertools
import json
import os
import pathlib
import random
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import wire  # noqa: E402
import world  # noqa: E402
from harness import Process, Server, SetupFailed, World, eventually  # noqa: E402

SECONDS = float(os.environ.get("HOLDFAST_SOAK_SECONDS", "1800"))
WARM_SECONDS = min(20.0, SECONDS / 4)
LOOPS = 64
# Of the requests: how many meet a fault, and how many are left by their client.
FAULTY, ABORTED = 0.2, 0.1
FAULTS = ["s04", "s08", "s08e", "s09", "s10", "s10h", "s11", "s12", "s13", "x01", "x02", "x03"]
# Times are a tenth: less, and a busy machine would miss them without a fault.
SCALE = 0.1
# Connections to providers that may be kept, and what an allocator keeps for itself.
FILES_SLACK = 64
# The four providers are kept 64 connections each, and a process has a few files of its own.
KEPT_MAX = 4 * 64 + 32
MEMORY_SLACK = 24 * 1024 * 1024
# Growth after the warm-up that is a leak, in bytes per 1,000 requests.
SLOPE_MAX = 16 * 1024
# Between two changes of the configuration.
CHANGE_EVERY = 5.0
# Of the answers without a fault, how many may be one of these instead: fallbacks of the others, and
# their cooldowns, take the same provider's connections.
REFUSED_MAX, REFUSALS = 0.01, (429, 503, 504)
# Whole answers a second without a fault: what a debug build gave on two cores that five others used.
WHOLE_MIN = 40
# How a stream says that it is over, and that it failed. What passes a chat model's stream without
# its sentinel on is over too, by its reason to stop.
LAST = {"chat": b"[DONE]", "messages": b"message_stop"}
ENDS = {"chat": b'"finish_reason":"stop"', "messages": b"message_stop"}


def plans():
    """A route per fault and format, and one without a fault for each format."""
    for api in ("chat", "messages"):
        for name in ["well", *FAULTS]:
            model = f"{name}-{api}-soak"
            yield world.Plan(
                model, [("primary", api, model, None), ("fallback", api, f"well-{api}-soak", None)]
            )


class SilentProvider(world.FaultProvider):
    """The provider that fails, which writes nothing down: there are millions of requests."""

    def __init__(self, folder, scale):
        ready = folder / "fault-provider.ready"
        command = [world.provider_binary(), "--log", "/dev/null", "--ready-file", ready]
        Process.__init__(self, "fault-provider", [*command, "--scale", str(scale)], folder)
        self.url = self.wait_ready(ready)["base_url"]


class Look:
    """What a process holds now."""

    def __init__(self, pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        self.memory = int(lines["VmRSS"].split()[0]) * 1024
        self.threads = int(lines["Threads"])
        self.files = len(os.listdir(f"/proc/{pid}/fd"))

    def __str__(self):
        return f"{self.memory / 1e6:.1f} MB, {self.files} files, {self.threads} threads"


class Load:
    """Loops that ask, each on connections of its own, and count how it went."""

    def __init__(self, url, dice):
        self.host, self.port = url.removeprefix("http://").split(":")
        self.dice = dice
        names = ("asked", "whole", "aborted", "failed", "broken", "refused", "changes")
        self.counts = dict.fromkeys(names, 0)
        self.unsaid = []

    async def run(self, seconds):
        end = time.monotonic() + seconds
        await asyncio.gather(*(self.loop(number, end) for number in range(LOOPS)))

    async def loop(self, number, end):
        connection = None
        while time.monotonic() < end:
            name = self.dice.choice(FAULTS) if self.dice.random() < FAULTY else "well"
            try:
                connection = connection or await asyncio.open_connection(self.host, int(self.port))
                keep = await asyncio.wait_for(self.ask(number, name, *connection), 30)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.counts["broken"] += 1
                if name == "well":
                    self.unsaid.append(f"broken off without a fault: {error!r:.200}")
                keep = False
            except TimeoutError:
                self.unsaid.append(f"a request ({name}) was not answered in 30 s")
                keep = False
            if not keep and connection:
                connection[1].close()
                connection = None

    async def ask(self, number, name, reader, writer):
        """Asks once; answers whether the connection can be kept."""
        dice = self.dice
        api = dice.choice(["chat", "messages"])
        stream = dice.random() < 0.7
        model = f"route/{name}-{api}-soak"
        body = json.dumps(wire.request_body(api, model, stream)).encode()
        path = world.BASE_PATHS[api] + wire.path_of(api, model, stream)
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.KEY}\r\n"
        head += f"holdfast-session: soak-{number % 16}\r\nanthropic-version: 2023-06-01\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        self.counts["asked"] += 1
        if dice.random() < ABORTED:
            await asyncio.sleep(dice.random() * 0.05)
            self.counts["aborted"] += 1
            return False
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, lower = int(head.split(" ")[1]), head.lower()
        text = await read_body(reader, lower)
        if status != 200:
            self.counts["failed"] += 1
            if name == "well" and status in REFUSALS:
                self.counts["refused"] += 1
            elif name == "well":
                self.unsaid.append(f"a {status} without a fault: {text[:200]!r}")
            return "connection: close" not in lower
        over = not stream or LAST[api] in text
        if name == "well":
            self.counts["whole"] += 1
            if b"w60" not in text or not over:
                self.unsaid.append(f"half an answer without a fault: {text[-200:]!r}")
        elif not over and b'"error"' not in text and ENDS[api] not in text:
            self.unsaid.append(f"a stream of {name} that just ends: {text[-200:]!r}")
        return "connection: close" not in lower


async def read_body(reader, head):
    if "transfer-encoding: chunked" not in head:
        length = [line for line in head.split("\r\n") if line.startswith("content-length:")]
        return await reader.readexactly(int(length[0].split(":")[1]) if length else 0)
    pieces = []
    while (size := int((await reader.readline()).strip() or b"0", 16)) > 0:
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return b"".join(pieces)


async def watch(pid, load, looks, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(max(1.0, seconds / 200))
        looks.append((load.counts["asked"], Look(pid)))


class Changes:
    """A configuration that changes all the while, each time to one that serves the same."""

    def __init__(self, server, load):
        self.server, self.load = server, load
        self.text = server.config.read_text()
        self.ways = itertools.cycle([self.by_api, self.by_file, self.back])

    async def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(CHANGE_EVERY)
            count, way = self.load.counts["changes"], next(self.ways)
            try:
                status, answer = await asyncio.to_thread(way, count)
            except OSError as error:
                status, answer = None, error
            self.load.counts["changes"] += 1
            if status != 200:
                self.load.unsaid.append(f"{way.__name__} was not taken: {answer!r:.300}")

    def by_api(self, count):
        """A route that is asked all the time gets another setting."""
        status, route = self.server.api("GET", "routes/well-chat-soak")
        if status != 200:
            return status, route
        self.before = self.server.api("GET", "routes/versions?limit=1")[1]["data"][0]["number"]
        settings = route["settings"] | {"backoff": f"{10 + count}ms"}
        return self.server.api("PUT", "routes/well-chat-soak", settings)

    def by_file(self, count):
        """The file has other prices."""
        text = self.text.replace('"1.00"', f'"1.{count % 100:02}"')
        self.server.config.with_suffix(".new").write_text(text)
        os.replace(self.server.config.with_suffix(".new"), self.server.config)
        return self.server.api("POST", "config/reload", {})

    def back(self, _):
        return self.server.api("POST", "routes/rollback", {"version": self.before})


async def soak(server, load, looks, seconds):
    changes = Changes(server, load)
    watching = watch(server.child.pid, load, looks, seconds)
    await asyncio.gather(load.run(seconds), watching, changes.run(seconds))


def slope(looks):
    """Bytes by which the memory grows per 1,000 requests, in the last two thirds."""
    later = looks[len(looks) // 3 :]
    line = statistics.linear_regression([one[0] for one in later], [one[1].memory for one in later])
    return line.slope * 1000


def settled(server):
    """Nothing is reserved, waits or is under way."""
    _, budgets = server.api("GET", "budgets")
    _, limits = server.api("GET", "limits")
    keys = [key for one in limits["data"] for key in one["keys"]]
    models = [model for key in keys for model in key["models"]]
    held = [float(one["reserved_usd"]) for one in budgets["data"]]
    ways = [one["in_flight"] for one in keys + models] + [one["waiting"] for one in models]
    return not any(held + ways)


def checks(around, load, looks, before):
    """Each as (name, what is wrong with it or nothing)."""
    server, provider = around
    pid = server.child.pid
    try:
        eventually("nothing is reserved, waits or is under way", lambda: settled(server), 60)
        yield "nothing_is_reserved_or_under_way", None
    except AssertionError as problem:
        yield "nothing_is_reserved_or_under_way", str(problem)
    kept = Look(provider.child.pid).files
    yield "no_connection_is_left_at_the_provider", None if kept < KEPT_MAX else f"{kept} files"
    after = Look(pid)
    print(f"     before: {before}; after: {after}; {load.counts}")
    more = after.files - before.files
    yield "no_connection_is_left", None if more <= FILES_SLACK else f"{more} files more"
    more = after.threads - before.threads
    yield "no_thread_is_left", None if more <= 2 else f"{more} threads more"
    grown = slope(looks)
    later = looks[len(looks) // 3][1].memory
    wrong = grown > SLOPE_MAX and after.memory > later + MEMORY_SLACK
    text = f"{grown / 1024:.1f} kB per 1,000 requests, {later / 1e6:.1f} to {after.memory / 1e6:.1f} MB"
    print(f"     memory: {text}")
    yield "memory_does_not_grow", text if wrong else None
    told = load.unsaid[:3]
    print(f"     unexpected: {collections.Counter(text[:24] for text in load.unsaid)}")
    yield "what_met_no_fault_was_answered", f"{len(load.unsaid)}: {told}" if told else None
    counts = load.counts
    few = counts["refused"] <= REFUSED_MAX * counts["whole"]
    yield "hardly_any_was_refused_without_a_fault", None if few else f"{counts}"
    enough = counts["whole"] > WHOLE_MIN * SECONDS and counts["aborted"] > SECONDS
    yield "the_load_was_high", None if enough else f"{counts}"
    often = counts["changes"] >= SECONDS // (4 * CHANGE_EVERY)
    yield "the_configuration_changed_all_the_while", None if often else f"{counts}"
    status, *_ = server.http("GET", "/readyz")
    yield "it_is_ready", None if status == 200 else f"readyz says {status}"
    yield "it_ends_cleanly", None if server.stop() else "it had to be killed"


def main():
    results = []
    try:
        with World() as all_of_it:
            provider = all_of_it.start(SilentProvider, SCALE)
            config = world.configuration(provider.url, list(plans()), SCALE)
            server = all_of_it.start(Server, config)
            load, looks = Load(server.url, random.Random(1)), []
            asyncio.run(soak(server, load, [], WARM_SECONDS))
            before = Look(server.child.pid)
            asyncio.run(soak(server, load, looks, SECONDS - WARM_SECONDS))
            for name, wrong in checks((server, provider), load, looks, before):
                results.append(wrong is None)
                print(f"{'ok  ' if wrong is None else 'FAIL'} {name}{': ' + wrong if wrong else ''}")
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        results.append(False)
    print(f"{results.count(True)} passed, {results.count(False)} failed")
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
