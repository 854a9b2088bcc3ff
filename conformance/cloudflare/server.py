"""The server that the suite `cloudflare-js` drives, and what stands around it.

    python3 server.py COMMAND …

starts it, runs COMMAND with the variables below, stops everything and ends as COMMAND did. Standard
library only.

    HOLDFAST_URL            the server
    HOLDFAST_ADMIN_KEY      its admin key
    HOLDFAST_KEY_CI         a key without a budget
    HOLDFAST_KEY_POOR       a key with a budget of $0.001
    HOLDFAST_PROVIDER_LOG   what the scripted provider behind every name wrote, one JSON object a line
"""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness import Provider, Server, SetupFailed, World  # noqa: E402

KEYS = {name: f"hf_suite_{name}_0123456789abcdef" for name in ("ci", "poor")}

# One scripted provider under several names, as Cloudflare's gateway has several providers.
PROVIDER = """
[[providers]]
name = "{name}"
vendor = "openai-compatible"
base_url = "{base_url}"
api_key = "${{MOCK_KEY}}"
models = [{{ id = "demo", input_usd_per_million = "1.00", output_usd_per_million = "2.00" }}]
"""

CONFIG = """
[[keys]]
name = "ci"
secret = "${CI_KEY}"

[[keys]]
name = "poor"
secret = "${POOR_KEY}"

[[routes]]
name = "support"
aliases = ["@cf/meta/llama-3.1-8b-instruct"]
targets = ["mock/demo"]

[[routes]]
name = "choice"
targets = ["openai/demo", "xai/demo"]

[[budgets]]
scope = { key = "poor" }
limit_usd = "0.001"
window = "day"
"""


def config(base_url):
    names = ("mock", "openai", "anthropic", "xai")
    return "".join(PROVIDER.format(name=name, base_url=base_url) for name in names) + CONFIG


def main(command):
    try:
        with World() as world:
            provider = world.start(Provider, models=["demo"])
            secrets = {f"{name.upper()}_KEY": key for name, key in KEYS.items()}
            secrets["MOCK_KEY"] = provider.key
            server = world.start(Server, config(provider.base_url), env=secrets)
            env = {
                "HOLDFAST_URL": server.url,
                "HOLDFAST_ADMIN_KEY": server.admin_key,
                "HOLDFAST_PROVIDER_LOG": str(provider.log_path),
            }
            env |= {f"HOLDFAST_KEY_{name.upper()}": key for name, key in KEYS.items()}
            return subprocess.run(command, env={**os.environ, **env}, check=False).returncode
    except SetupFailed as problem:
        print(f"conformance: {problem}\n0 passed, 1 failed")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
