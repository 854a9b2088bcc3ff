"""The suite `openai-python`: unmodified OpenAI SDKs against a server of its own.

    suite.py [NAME …]     only the flows whose name contains one of the NAMEs

Set HOLDFAST_DIRECT=1 to run the chat flows against the scripted provider itself, without Holdfast:
that checks the flows, not the product.
"""

import os
import pathlib
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import flows_agents  # noqa: E402, F401
import flows_background  # noqa: E402, F401
import flows_chat  # noqa: E402, F401
import flows_embeddings  # noqa: E402, F401
import flows_errors  # noqa: E402, F401
import flows_failures  # noqa: E402, F401
import flows_local  # noqa: E402, F401
import flows_responses  # noqa: E402, F401
import flows_restart  # noqa: E402, F401
import flows_tools  # noqa: E402, F401
import openai  # noqa: E402

import standard  # noqa: E402
from flows import FLOWS, MODEL, Flow, cost_of  # noqa: E402
from harness import Provider, Server, SetupFailed, World, processes_in  # noqa: E402

# Flows wait more than they compute: more than the cores, few enough that none times out.
PARALLEL = 12
# A flow that a client waits on for longer is a failure, not a slow machine.
CLIENT_SECONDS = 30


class Direct:
    """Stands for the server when the flows themselves are tried: the provider, bare."""

    def __init__(self, provider):
        self.url = provider.base_url.removesuffix("/v1")


def start(world):
    if os.environ.get("HOLDFAST_DIRECT"):
        provider = world.start(Provider, models=["demo", "unpriced", "mock/demo"])
        return provider, Direct(provider), dict.fromkeys(standard.KEYS, provider.key)
    return *standard.start(world), standard.KEYS


def timed(function, *args):
    """(what it failed with or None, seconds)"""
    began = time.monotonic()
    try:
        function(*args)
        return None, time.monotonic() - began
    except Exception as error:  # any failure of a flow is the flow's result
        return error, time.monotonic() - began


def ledger_agrees_with_provider(server, provider):
    """Every attempt that the provider finished is one ledger row with its usage and exact cost."""
    rows, before = {}, ""
    while True:
        status, page = server.api("GET", f"calls?limit=1000{before}")
        assert status == 200, page
        for row in page["data"]:
            assert row["attempt"] not in rows, f"two rows of one attempt: {row}"
            rows[row["attempt"]] = row
        if not page["has_more"]:
            break
        before = f"&before={page['data'][-1]['call']}"
    lines = provider.requests()
    finished = [line for line in lines if line["finished"]]
    assert len(finished) > 20 or len(lines) < 100, "hardly anything to compare"
    for line in lines:
        row = rows.get(line["attempt_id"])
        assert row is not None, f"no ledger row of {line['attempt_id']}: {str(line)[:300]}"
        assert row["call"] == line["call_id"], f"another Call: {row['call']} and {line['call_id']}"
        charged = Decimal(row["cost"]) + Decimal(row["unreconciled"])
        if line["finished"] and row["error"] is None and row["target"] == MODEL:
            assert Decimal(row["cost"]) == cost_of(line["usage"]), (
                f"cost {row['cost']}: {line['usage']}"
            )
        elif line["status"] >= 400:
            assert charged == 0, f"a refused attempt was charged: {row}"


def budgets_agree_with_ledger(server, _):
    """Each budget has settled what its key's Calls cost, reserves nothing more, and is not passed."""
    _, keys = server.api("GET", "keys")
    names = {key["id"]: key["name"] for key in keys["data"]}
    _, calls = server.api("GET", "calls?limit=1000")
    _, budgets = server.api("GET", "budgets")
    assert {b["scope"]["key"] for b in budgets["data"]} == {"poor", "capped", "squeezed"}, budgets
    for budget in budgets["data"]:
        rows = [row for row in calls["data"] if names[row["key"]] == budget["scope"]["key"]]
        settled, unreconciled = (
            sum(Decimal(row[name]) for row in rows) for name in ("cost", "unreconciled")
        )
        amounts = {
            name: Decimal(budget[f"{name}_usd"])
            for name in ("settled", "unreconciled", "presumed", "reserved")
        }
        expected = {"settled": settled, "unreconciled": unreconciled, "presumed": 0, "reserved": 0}
        assert amounts == expected, f"{budget['scope']}: {amounts}, the ledger has {expected}"
        assert sum(amounts.values()) <= Decimal(budget["limit_usd"]), (
            f"the limit is passed: {budget}"
        )


def server_ends_cleanly(server, provider):
    """On SIGTERM it ends by itself, leaves no process behind, and its log has no panic in it."""
    assert server.stop(), f"SIGTERM did not end it with success: {server.child.returncode}"
    left = [
        command for pid, command in processes_in(server.data.parent) if pid != provider.child.pid
    ]
    assert not left, f"processes were left behind: {left}"
    panics = [
        line
        for line in server.output.read_text(errors="replace").splitlines()
        if "panicked" in line
    ]
    assert not panics, f"panics in the log: {panics[:3]}"


def report(name, error, seconds):
    print(f"{'ok  ' if error is None else 'FAIL'} {name} ({seconds:.1f} s)", flush=True)
    if error is not None:
        print(f"     {where(error)}", flush=True)
    return error is not None


def where(error):
    """The flow's own line, and what was wrong, in one line."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/conformance/" in f.filename]
    place = f"{pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    flow_line = next((f"{f.lineno}" for f in frames if "flows_" in f.filename), "?")
    return (
        f"{type(error).__name__}: {str(error) or '(no text)'}"[:700]
        + f"  [flow line {flow_line}, {place}]"
    )


def main(names):
    chosen = [flow for flow in FLOWS if not names or any(name in flow.__name__ for name in names)]
    failed, total, began = 0, len(chosen), time.monotonic()
    try:
        with World() as world:
            provider, server, keys = start(world)
            paths = standard.effects_paths(world.folder)
            client = openai.OpenAI(
                base_url=server.url + "/v1",
                api_key=keys["ci"],
                max_retries=0,
                timeout=CLIENT_SECONDS,
            )
            with ThreadPoolExecutor(PARALLEL) as pool:
                runs = {
                    pool.submit(
                        timed, flow, Flow(flow.__name__, server, provider, keys, client, paths)
                    ): flow.__name__
                    for flow in chosen
                }
                for run in as_completed(runs):
                    failed += report(runs[run], *run.result())
            client.close()
            for check in (
                ledger_agrees_with_provider,
                budgets_agree_with_ledger,
                server_ends_cleanly,
            ):
                if isinstance(server, Server):
                    failed += report(check.__name__, *timed(check, server, provider))
                    total += 1
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        failed = total
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
