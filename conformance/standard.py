"""The server that SDK suites share: its configuration, its keys, and what stands around it.

    python3 standard.py COMMAND …

starts it, runs COMMAND with the variables below, stops everything and ends as COMMAND did: so a
suite in any language gets the same server. Standard library only.

    HOLDFAST_URL            the server, without /v1
    HOLDFAST_ADMIN_KEY      its admin key
    HOLDFAST_KEY_CI         a key without a budget that may use the tool servers
    HOLDFAST_KEY_STRANGER   another user's key, which may not
    HOLDFAST_KEY_POOR       a key with a budget of $0.001
    HOLDFAST_KEY_CAPPED     a key with a budget of $1.00
    HOLDFAST_KEY_SQUEEZED   a key with a budget of $0.002
    HOLDFAST_PROVIDER_LOG   what the scripted provider behind `mock/…` wrote, one JSON object a line
    HOLDFAST_EFFECTS        what the tool server `notes` wrote
    HOLDFAST_SLOW_EFFECTS   what the tool server `slow` wrote
"""

import os
import subprocess
import sys

from harness import DEMO, Provider, Server, SetupFailed, World

KEYS = {
    name: f"hf_suite_{name}_0123456789abcdef"
    for name in ("ci", "stranger", "poor", "capped", "squeezed")
}

CONFIG = """
[[providers]]
name = "mock"
vendor = "openai-compatible"
base_url = "{base_url}"
api_key = "${{MOCK_KEY}}"
models = [
  {{ id = "demo", input_usd_per_million = "1.00", output_usd_per_million = "2.00" }},
  {{ id = "unpriced" }},
]

[[keys]]
name = "ci"
secret = "${{CI_KEY}}"

[[keys]]
name = "stranger"
secret = "${{STRANGER_KEY}}"

[[keys]]
name = "poor"
secret = "${{POOR_KEY}}"

[[keys]]
name = "capped"
secret = "${{CAPPED_KEY}}"

[[keys]]
name = "squeezed"
secret = "${{SQUEEZED_KEY}}"

[[budgets]]
scope = {{ key = "squeezed" }}
limit_usd = "0.002"
window = "day"

[[budgets]]
scope = {{ key = "poor" }}
limit_usd = "0.001"
window = "day"

[[budgets]]
scope = {{ key = "capped" }}
limit_usd = "1.00"
window = "day"

[[mcp_servers]]
name = "notes"
command = ["{python}", "{demo}/notes_server.py"]
keys = ["ci"]
tools = {tools}
env = {{ HOLDFAST_DEMO_EFFECTS = "{notes}" }}

[[mcp_servers]]
name = "slow"
command = ["{python}", "{demo}/notes_server.py"]
keys = ["ci"]
timeout = "1s"
tools = {tools}
env = {{ HOLDFAST_DEMO_EFFECTS = "{slow}", HOLDFAST_DEMO_TOOL_DELAY_AFTER_MS = "20000" }}

[[mcp_servers]]
name = "patient"
command = ["{python}", "{demo}/notes_server.py"]
keys = ["ci"]
tools = {tools}
env = {{ HOLDFAST_DEMO_EFFECTS = "{slow}", HOLDFAST_DEMO_TOOL_DELAY_AFTER_MS = "20000" }}
"""

# What each tool of the notebook does to the world, as an operator says it.
EFFECTS = {"add_note": "write", "find_note": "read", "set_title": "idempotent"}


def effects_paths(folder):
    """Where the tool servers write their effects: `slow` and `patient` share a log."""
    return {"notes": folder / "tool-effects.log", "slow": folder / "slow-effects.log"}


def start(world, more="", env=None):
    """Starts the provider and the server: (provider, server).

    `more` is put to the configuration, and `env` to what it takes from the environment.
    """
    provider = world.start(Provider, models=["demo", "unpriced"])
    tools = ", ".join(f'{name} = {{ effect = "{effect}" }}' for name, effect in EFFECTS.items())
    config = CONFIG.format(
        tools=f"{{ {tools} }}",
        base_url=provider.base_url,
        python=sys.executable,
        demo=DEMO,
        **effects_paths(world.folder),
    )
    return provider, world.start(Server, config + more, env=environment(provider) | (env or {}))


def environment(provider):
    """What the configuration takes from the environment."""
    return {f"{name.upper()}_KEY": key for name, key in KEYS.items()} | {"MOCK_KEY": provider.key}


def told(world, provider, server):
    """What a command is told of all this, as environment variables."""
    effects = effects_paths(world.folder)
    env = {
        "HOLDFAST_URL": server.url,
        "HOLDFAST_ADMIN_KEY": server.admin_key,
        "HOLDFAST_PROVIDER_LOG": str(provider.log_path),
        "HOLDFAST_EFFECTS": str(effects["notes"]),
        "HOLDFAST_SLOW_EFFECTS": str(effects["slow"]),
    }
    return env | {f"HOLDFAST_KEY_{name.upper()}": key for name, key in KEYS.items()}


def main(command):
    try:
        with World() as world:
            env = os.environ | told(world, *start(world))
            return subprocess.run(command, env=env, check=False).returncode
    except SetupFailed as problem:
        print(f"conformance: {problem}\n0 passed, 1 failed")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
