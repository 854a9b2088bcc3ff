"""Claude Code as a user runs it without a terminal: its program, its variables, its output."""

import json
import pathlib
import subprocess

from stage import KEYS, program

HERE = pathlib.Path(__file__).resolve().parent
# What a run may take before the flow fails.
SECONDS = 90


class Ran:
    """What Claude Code printed: one event a line, the last one its result."""

    def __init__(self, done):
        self.code, self.errors = done.returncode, done.stderr
        self.events = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
        results = [event for event in self.events if event["type"] == "result"]
        assert results, f"no result: {done.returncode} {done.stdout[-300:]} {done.stderr[-300:]}"
        self.result = results[-1]
        self.session = self.result["session_id"]

    @property
    def text(self):
        return self.result.get("result")

    def blocks(self, role, kind):
        """The blocks of a kind that its transcript has, in order."""
        messages = [event["message"] for event in self.events if event["type"] == role]
        found = [block for message in messages for block in contents(message)]
        return [block for block in found if block["type"] == kind]

    def streamed(self):
        """The events of the stream as they came (with --include-partial-messages)."""
        return [event["event"] for event in self.events if event["type"] == "stream_event"]


def contents(message):
    held = message["content"]
    return [{"type": "text", "text": held}] if isinstance(held, str) else held


def env(talk, model, key):
    """The documented variables of a gateway, and of a client that calls nobody else."""
    names = ("MODEL", "DEFAULT_HAIKU_MODEL", "DEFAULT_SONNET_MODEL", "DEFAULT_OPUS_MODEL")
    return (
        talk.env()
        | {f"ANTHROPIC_{name}": model for name in names}
        | {
            "ANTHROPIC_BASE_URL": talk.stage.server.url,
            "ANTHROPIC_AUTH_TOKEN": KEYS[key],
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_MAX_RETRIES": "2",
            "CLAUDE_CODE_TMPDIR": str(talk.temp),
        }
    )


def run(talk, prompt, *options, model=None, key="agent", more=None):
    """Runs it to its end in the flow's folder; edits are allowed, everything else as it is."""
    command = [program(HERE, "@anthropic-ai/claude-code-*/claude"), "-p", prompt]
    command += ["--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits"]
    done = subprocess.run(
        [*map(str, command), *options],
        cwd=talk.work,
        env=env(talk, model or talk.model, key) | (more or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Ran(done)
