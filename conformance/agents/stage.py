"""What suites of coding agents share: a server over scripted providers, and flows with a folder.

A flow is one function, played once for each format that the model's provider may speak. It gets a
`Talk`: a model's name of its own, a folder to work in, a home, and what its provider was asked.
"""

import json
import os
import pathlib
import shutil
import sys
import time
from decimal import Decimal

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "formats")]

import running  # noqa: E402
from blackhole import BlackHole  # noqa: E402
from harness import ROOT, Server, SetupFailed, World  # noqa: E402
from scripted import Fault, Provider  # noqa: E402
from words import Call, Result, Said, only, text_of  # noqa: E402

# The vendor whose row speaks a format, and the end of its base URL.
TARGETS = {
    "chat": ("openai-compatible", "/v1"),
    "responses": ("openai-responses", "/v1"),
    "messages": ("anthropic", "/v1"),
    "gemini": ("gemini", "/v1beta"),
}
KEYS = {name: f"hf_suite_{name}_0123456789abcdef" for name in ("agent", "poor")}
# Agents compute: about as many at once as there are cores.
PARALLEL = 3

ROW = """
[[providers]]
name = "{name}"
vendor = "{vendor}"
base_url = "{url}"
api_key = "key-of-the-provider"
models = [
{models}
]
"""
MODEL = (
    '  {{ id = "{id}", input_usd_per_million = "1.00", output_usd_per_million = "2.00", '
    'cached_input_usd_per_million = "0.10", cache_write_usd_per_million = "1.25", '
    "context_tokens = 200000, max_output_tokens = 64000 }},"
)
KEY = """
[[keys]]
name = "{name}"
secret = "${{{env}_KEY}}"
"""
ROUTE = """
[[routes]]
name = "{name}"
aliases = ["agent-{name}", "gpt-5.5-{name}"]
targets = [{targets}]
backoff = "1ms"
"""
BUDGET = """
[[budgets]]
scope = { key = "poor" }
limit_usd = "0.001"
window = "day"
"""


def cost(said):
    """What an answer costs at these prices, in dollars."""
    fresh = said.input - said.cached
    return (fresh + said.cached * Decimal("0.10") + said.output * 2) / Decimal(10**6)


def call(name, id, **arguments):
    """A model's call of a tool."""
    return Call(name, json.dumps(arguments), id)


def uses(*calls, before=()):
    """An answer that calls tools, behind what it says before."""
    return Said([*before, *calls], stop="tools")


def results(seen):
    """The results that a request carries, in order."""
    return [result for turn in seen.asked.turns for result in only(Result, turn.parts)]


def words_of(result):
    return text_of(result.parts)


class Part:
    """A flow with a format: what is played, and under which names."""

    def __init__(self, function, target):
        self.function, self.target = function, target
        self.name = f"{function.__name__}_over_{target}"
        self.id = self.name.replace("_", "-")
        # Who answers where the first one does not: the next format in the table.
        names = list(TARGETS)
        self.other = names[(names.index(target) + 1) % len(names)]

    def rows(self):
        """What the configuration says of it: a route from its own format to another one."""
        targets = f'"{self.target}/{self.id}", "{self.other}/{self.id}-2"'
        return ROUTE.format(name=self.id, targets=targets)


class Talk:
    """One flow's own: model, folder, home, script."""

    def __init__(self, part, stage):
        self.part, self.stage, self.name = part, stage, part.name
        self.target, self.id = part.target, part.id
        self.model = f"{part.target}/{part.id}"
        self.route = f"route/{part.id}"
        self.alias = f"agent-{part.id}"
        # A name that an agent takes for a model it knows.
        self.known = f"gpt-5.5-{part.id}"
        self.folder = stage.world.folder / part.name
        self.work, self.home = self.folder / "work", self.folder / "home"
        self.temp = self.folder / "temp"
        for folder in (self.work, self.home, self.temp):
            folder.mkdir(parents=True)

    def plan(self, *script):
        self.stage.provider.plan(self.id, *script)

    def plan_other(self, *script):
        """What the route's second target says."""
        self.stage.provider.plan(f"{self.id}-2", *script)

    def file(self, name, text):
        path = self.work / name
        path.write_text(text)
        return str(path)

    def seen(self, asides=False):
        return self.stage.provider.seen(self.id, asides)

    def seen_other(self):
        return self.stage.provider.seen(f"{self.id}-2")

    def env(self):
        """The environment of an agent: nothing of this machine's user, nowhere to go but here."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.temp),
            "LANG": "C.UTF-8",
        } | self.stage.hole.env()

    def rows(self):
        """The ledger's rows of this flow's models, by the provider's request (`Seen`)."""
        rows = running.ledger(self.stage.server)
        found = []
        for seen in self.seen(asides=True) + self.stage.provider.seen(f"{self.id}-2", True):
            row = rows.get(seen.headers.get("holdfast-attempt"))
            assert row is not None, f"no ledger row of {seen.headers}"
            found.append((seen, row))
        return found

    def paid(self):
        """Each answer is a ledger row with its tokens and its exact cost, each fault is free."""
        for seen, row in self.rows():
            if isinstance(seen.said, Fault):
                assert row["error"] is not None, row
                assert seen.said.cut or Decimal(row["cost"]) == 0, row
                continue
            running.equal(row["error"], None, "error in the ledger")
            running.equal(Decimal(row["cost"]), cost(seen.said), f"cost of {row['usage']}")


class Stage:
    """The server, the scripted provider, the black hole."""

    def __init__(self, world, parts):
        self.world = world
        self.provider, self.hole = Provider(), BlackHole()
        env = {f"{name.upper()}_KEY": key for name, key in KEYS.items()}
        self.server = world.start(Server, self.config(parts), env=env)

    def config(self, parts):
        rows = []
        for name, (vendor, path) in TARGETS.items():
            ids = [part.id for part in parts if part.target == name]
            ids += [f"{part.id}-2" for part in parts if part.other == name]
            models = "\n".join(MODEL.format(id=id) for id in ids)
            url = self.provider.url + path
            rows.append(ROW.format(name=name, vendor=vendor, url=url, models=models))
        rows += [KEY.format(name=name, env=name.upper()) for name in KEYS]
        return "".join(rows) + BUDGET + "".join(part.rows() for part in parts)

    def checks(self):
        """What is judged when all flows are done, by name."""
        return {
            "budgets_reserve_nothing": self.budgets_reserve_nothing,
            "nothing_wanted_out": lambda: running.equal(self.hole.wanted, []),
            "server_ends_cleanly": lambda: running.server_ends_cleanly(self.server),
        }

    def budgets_reserve_nothing(self):
        _, budgets = self.server.api("GET", "budgets")
        for budget in budgets["data"]:
            running.equal(Decimal(budget["reserved_usd"]), 0, "reserved")
            assert Decimal(budget["settled_usd"]) <= Decimal(budget["limit_usd"]), budget

    def close(self):
        self.provider.close()
        self.hole.close()


PARTS = []


def over(*targets):
    """Registers a flow, once per format of its provider."""

    def register(function):
        PARTS.extend(Part(function, target) for target in targets)
        return function

    return register


def program(folder, path):
    """The agent's own program below its node_modules, installed by lockfile."""
    found = sorted((folder / "node_modules").glob(path))
    if not found:
        raise SetupFailed(f"{folder.name} is not installed: conformance/run --install")
    return found[0]


def main(names):
    began = time.monotonic()
    passed = failed = 0
    try:
        with World() as world:
            stage = Stage(world, PARTS)
            try:
                chosen = [p for p in PARTS if not names or any(name in p.name for name in names)]
                failed = play(chosen, stage)
                passed = len(chosen) - failed
                for name, check in stage.checks().items():
                    bad = running.report(name, *running.timed(check))
                    passed, failed = passed + (not bad), failed + bad
            finally:
                stage.close()
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        failed += 1
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def play(parts, stage):
    """Plays flows beside each other; how many failed."""
    flows = [named(part, stage) for part in parts]
    return running.run(flows, lambda name: None, parallel=PARALLEL)


def named(part, stage):
    def flow(_):
        talk = Talk(part, stage)
        part.function(talk)
        talk.paid()
        if not stage.world.keep:
            shutil.rmtree(talk.folder, ignore_errors=True)

    flow.__name__ = part.name
    return flow


__all__ = ["ROOT", "KEYS", "Talk", "over", "program", "main"]
__all__ += ["call", "uses", "results", "words_of"]
