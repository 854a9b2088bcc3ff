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

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import openai  # noqa: E402
import standard  # noqa: E402
from flows import FLOWS, Flow  # noqa: E402
from harness import Provider, SetupFailed, World  # noqa: E402

import flows_agents  # noqa: E402, F401
import flows_background  # noqa: E402, F401
import flows_chat  # noqa: E402, F401
import flows_errors  # noqa: E402, F401
import flows_responses  # noqa: E402, F401
import flows_tools  # noqa: E402, F401

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


def run_flow(function, server, provider, keys, client, folder):
    paths = standard.effects_paths(folder)
    began = time.monotonic()
    try:
        function(Flow(function.__name__, server, provider, keys, client, paths))
        return None, time.monotonic() - began
    except Exception as error:  # any failure of a flow is the flow's result
        return error, time.monotonic() - began


def where(error):
    """The flow's own line, and what was wrong, in one line."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/conformance/" in f.filename]
    place = f"{pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    flow_line = next((f"{f.lineno}" for f in frames if "flows_" in f.filename), "?")
    return f"{type(error).__name__}: {str(error) or '(no text)'}"[:700] + f"  [flow line {flow_line}, {place}]"


def main(names):
    chosen = [flow for flow in FLOWS if not names or any(name in flow.__name__ for name in names)]
    failed, began = 0, time.monotonic()
    try:
        with World() as world:
            provider, server, keys = start(world)
            client = openai.OpenAI(
                base_url=server.url + "/v1", api_key=keys["ci"], max_retries=0, timeout=CLIENT_SECONDS
            )
            with ThreadPoolExecutor(PARALLEL) as pool:
                runs = {
                    pool.submit(run_flow, flow, server, provider, keys, client, world.folder): flow.__name__
                    for flow in chosen
                }
                for run in as_completed(runs):
                    error, seconds = run.result()
                    failed += error is not None
                    print(f"{'ok  ' if error is None else 'FAIL'} {runs[run]} ({seconds:.1f} s)", flush=True)
                    if error is not None:
                        print(f"     {where(error)}", flush=True)
            client.close()
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        failed = len(chosen)
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
