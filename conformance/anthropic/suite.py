"""The suites `anthropic-python` and `anthropic-js`: unmodified Anthropic SDKs against one server.

    suite.py python|js [NAME …]     only the flows whose name contains one of the NAMEs

Behind the server stand a scripted provider of the same format (`claude/…`, passed through), the
demo's scripted provider of chat completions (`mock/…`, translated) and the demo model (`local/…`).
Flows run in a process of their own, once per SDK; ledger and budgets are judged here, when all are
done, by what the providers wrote. Standard library only.
"""

import os
import pathlib
import re
import subprocess
import sys
import time
from decimal import Decimal

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import running  # noqa: E402
import standard  # noqa: E402
from harness import Provider, SetupFailed, World  # noqa: E402

CONFIG = """
[[providers]]
name = "claude"
vendor = "anthropic"
base_url = "{base_url}"
api_key = "${{CLAUDE_KEY}}"

[[providers.models]]
id = "sonnet"
input_usd_per_million = "3.00"
output_usd_per_million = "15.00"
cached_input_usd_per_million = "0.30"
cache_write_usd_per_million = "3.75"
max_output_tokens = 64000
context_tokens = 200000
"""

PYTHON = HERE.parent / "python" / ".venv" / "bin" / "python"
OLD_PYTHON = HERE / "python" / ".venv" / "bin" / "python"
# What runs the flows of each suite: one process per SDK, by its name.
CLIENTS = {
    "python": {
        "2.x": [PYTHON, HERE / "python" / "main.py"],
        "0.x": [OLD_PYTHON, HERE / "python" / "main.py"],
    },
    "js": {"js": ["node", HERE / "js" / "main.mjs"]},
}
COUNTS = re.compile(r"(\d+) passed, (\d+) failed")


def chat_cost(usage):
    return (usage["prompt_tokens"] * 1 + usage["completion_tokens"] * 2) / Decimal(10**6)


def messages_cost(usage):
    if usage is None:
        return Decimal(0)  # only counted
    return (
        usage["input_tokens"] * 3
        + usage["output_tokens"] * 15
        + usage["cache_read_input_tokens"] * Decimal("0.30")
        + usage["cache_creation_input_tokens"] * Decimal("3.75")
    ) / Decimal(10**6)


COSTS = {"mock/demo": chat_cost, "claude/sonnet": messages_cost}


def start(world):
    """The providers, then the server: (chat provider, messages provider, server)."""
    claude = world.start(Provider, models=["sonnet"], name="claude", program=HERE / "provider.py")
    config = CONFIG.format(base_url=claude.base_url)
    mock, server = standard.start(world, config, {"CLAUDE_KEY": claude.key})
    return mock, claude, server


def run_client(name, command, env, names):
    """Runs the flows of one SDK and shows what they print: (passed, failed)."""
    child = subprocess.Popen(
        [*map(str, command), *names],
        env=env | {"HOLDFAST_SDK": name},
        stdout=subprocess.PIPE,
        text=True,
    )
    counts = None
    for line in child.stdout:
        if found := COUNTS.fullmatch(line.strip()):
            counts = int(found[1]), int(found[2])
        else:
            print(f"{name} {line}", end="", flush=True)
    if child.wait() != 0 and (counts is None or counts[1] == 0):
        print(f"FAIL {name} ended with {child.returncode}", flush=True)
        return (counts or (0, 0))[0], 1
    return counts


def checks(mock, claude, server):
    """What is judged when all flows are done, by name."""
    return {
        "ledger_agrees_with_chat_provider": lambda: running.ledger_agrees_with_provider(
            server, mock, COSTS
        ),
        "ledger_agrees_with_messages_provider": lambda: running.ledger_agrees_with_provider(
            server, claude, COSTS
        ),
        "budgets_agree_with_ledger": lambda: running.budgets_agree_with_ledger(server),
        "server_ends_cleanly": lambda: running.server_ends_cleanly(server, mock, claude),
    }


def main(suite, names):
    passed, failed, began = 0, 0, time.monotonic()
    try:
        with World() as world:
            mock, claude, server = start(world)
            told = standard.told(world, mock, server)
            told |= {"HOLDFAST_CLAUDE_LOG": str(claude.log_path)}
            # A key or an address that the SDKs would find by themselves is none of ours.
            env = {k: v for k, v in os.environ.items() if not k.startswith("ANTHROPIC_")} | told
            for name, command in CLIENTS[suite].items():
                good, bad = run_client(name, command, env, names)
                passed, failed = passed + good, failed + bad
            for name, check in checks(mock, claude, server).items():
                bad = running.report(name, *running.timed(check))
                passed, failed = passed + (not bad), failed + bad
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        failed += 1
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
