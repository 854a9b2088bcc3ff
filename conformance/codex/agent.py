"""Codex as a user runs it without a terminal: its program, its configuration, its output."""

import json
import pathlib
import subprocess

from stage import KEYS, program

HERE = pathlib.Path(__file__).resolve().parent
# What a run may take before the flow fails.
SECONDS = 90

CONFIG = """
model = "{model}"
model_provider = "holdfast"
web_search = "disabled"
check_for_update_on_startup = false

[model_providers.holdfast]
name = "Holdfast"
base_url = "{url}/v1"
env_key = "HOLDFAST_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 2

[analytics]
enabled = false

[features]
plugins = false
apps = false
"""


class Ran:
    """What Codex printed: one event a line."""

    def __init__(self, done):
        self.code, self.errors = done.returncode, done.stderr
        self.events = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
        assert self.events, f"nothing: {done.returncode} {done.stderr[-500:]}"
        started = [e["thread_id"] for e in self.events if e["type"] == "thread.started"]
        self.thread = started[0] if started else None
        ended = [e for e in self.events if e["type"] in ("turn.completed", "turn.failed")]
        self.end = ended[-1] if ended else {"type": "none"}

    def items(self, kind):
        """The finished items of a kind, in order."""
        done = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item for item in done if item["type"] == kind]

    @property
    def text(self):
        messages = self.items("agent_message")
        return messages[-1]["text"] if messages else ""

    @property
    def failure(self):
        return json.dumps(self.end.get("error"))


def run(talk, prompt, *options, model=None, key="agent", before=(), more=""):
    """Runs it to its end in the flow's folder; no sandbox, as inside a container."""
    home = talk.home / ".codex"
    home.mkdir(exist_ok=True)
    settings = CONFIG.format(model=model or talk.model, url=talk.stage.server.url)
    (home / "config.toml").write_text(more + settings)
    command = [program(HERE, "@openai/codex-*/vendor/*/bin/codex"), "exec", *before, "--json"]
    command += ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    done = subprocess.run(
        [*map(str, command), *options, prompt],
        cwd=talk.work,
        env=talk.env() | {"HOLDFAST_KEY": KEYS.get(key, key)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Ran(done)
