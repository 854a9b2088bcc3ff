"""The suite `openai-python`: unmodified OpenAI SDKs against a server of its own.

    suite.py [NAME …]     only the flows whose name contains one of the NAMEs

Set HOLDFAST_DIRECT=1 to run the chat flows against the scripted provider itself, without Holdfast:
that checks the flows, not the product.
"""

import os
import pathlib
import sys
import time

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

import running  # noqa: E402
import standard  # noqa: E402
from flows import MODEL, Flow, cost_of  # noqa: E402
from harness import Provider, Server, SetupFailed, World  # noqa: E402

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


def ledger_agrees_with_provider(server, provider):
    running.ledger_agrees_with_provider(server, provider, {MODEL: cost_of})


def budgets_agree_with_ledger(server, _):
    running.budgets_agree_with_ledger(server)


def main(names):
    flows = running.chosen(names)
    failed, total, began = 0, len(flows), time.monotonic()
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
            failed = running.run(
                flows, lambda name: Flow(name, server, provider, keys, client, paths)
            )
            client.close()
            for check in (
                ledger_agrees_with_provider,
                budgets_agree_with_ledger,
                running.server_ends_cleanly,
            ):
                if isinstance(server, Server):
                    ended = running.timed(check, server, provider)
                    failed += running.report(check.__name__, *ended)
                    total += 1
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        failed = total
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed or not flows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
