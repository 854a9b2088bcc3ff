"""The server of the Gemini suites, and what stands around it.

    python3 start.py COMMAND …

starts it, runs COMMAND with the variables of `../standard.py` and those below, stops everything and
ends as COMMAND did: so a suite in any language gets the same server. Standard library only.

    HOLDFAST_GEMINI_LOG     what the scripted Gemini provider behind `google/…` wrote
"""

import os
import pathlib
import secrets
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import standard  # noqa: E402
from harness import Process, SetupFailed, World, json_lines  # noqa: E402

MODELS = ("gemini-3-script", "gemini-3-limited", "gemini-2.5-script")
GOOGLE = """
[[providers]]
name = "google"
vendor = "gemini"
base_url = "{base_url}"
api_key = "${{GOOGLE_KEY}}"
models = [
  {{ id = "gemini-3-script", input_usd_per_million = "1.00", output_usd_per_million = "2.00" }},
  {{ id = "gemini-3-limited", input_usd_per_million = "1.00", output_usd_per_million = "2.00" }},
  {{ id = "gemini-2.5-script", input_usd_per_million = "1.00", output_usd_per_million = "2.00" }},
]

[[providers]]
name = "wrong"
vendor = "gemini"
base_url = "{base_url}"
api_key = "not-the-key"
models = [{{ id = "gemini-3-script" }}]

[[routes]]
name = "google"
targets = ["google/gemini-3-script", "google/gemini-2.5-script"]
keep_alive_after = "50ms"

[[routes]]
name = "mock"
targets = ["mock/demo", "google/gemini-2.5-script"]
keep_alive_after = "50ms"
"""


class Google(Process):
    """The scripted Gemini provider, and what it wrote about its requests."""

    def __init__(self, folder):
        self.key = "gk-" + secrets.token_hex(12)
        self.log_path, ready = folder / "google-requests.jsonl", folder / "google.ready"
        command = [sys.executable, HERE / "scripted.py", "--key", self.key, "--log", self.log_path]
        command += ["--models", ",".join(MODELS), "--ready-file", ready]
        super().__init__("google", command, folder)
        self.base_url = self.wait_ready(ready)["base_url"]

    def requests(self, having=None):
        lines = json_lines(self.log_path)
        return [line for line in lines if having is None or having in line["body"]]


def start(world):
    """Starts the providers and the server: (google, mock, server)."""
    google = world.start(Google)
    more = GOOGLE.format(base_url=google.base_url)
    mock, server = standard.start(world, more, {"GOOGLE_KEY": google.key})
    return google, mock, server


def main(command):
    try:
        with World() as world:
            google, mock, server = start(world)
            env = os.environ | standard.told(world, mock, server)
            env["HOLDFAST_GEMINI_LOG"] = str(google.log_path)
            return subprocess.run(command, env=env, check=False).returncode
    except SetupFailed as problem:
        print(f"conformance: {problem}\n0 passed, 1 failed")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
