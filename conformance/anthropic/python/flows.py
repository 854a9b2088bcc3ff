"""What every flow is given, and what flows say often.

Most flows are run over several targets: `passed` (a provider of the same format), `translated` (a
provider of chat completions) and `local` (the demo model). The answer must be the same where the
scripts are asked for the same.
"""

import json
import os

import anthropic

from harness import Asked, requests_in
from running import equal, flow, mark_of, raises

__all__ = ["equal", "flow", "raises"]

PASSED, TRANSLATED, LOCAL = "claude/sonnet", "mock/demo", "local/demo"
TARGETS = {"passed": PASSED, "translated": TRANSLATED, "local": LOCAL}
BOTH = ("passed", "translated")
KEYS = ("ci", "stranger", "poor", "capped", "squeezed")
# A flow that a client waits on for longer is a failure, not a slow machine.
CLIENT_SECONDS = 30
CAP = 1024

NOTE_TOOL = {
    "name": "add_note",
    "description": "Adds a note.",
    "input_schema": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    },
}
FIND_TOOL = {
    "name": "find_note",
    "description": "Finds the notes about a word.",
    "input_schema": {
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
    },
}
NOW_TOOL = {
    "name": "now",
    "description": "Tells the time.",
    "input_schema": {"type": "object", "properties": {}},
}


def over(*targets):
    """Registers a flow once per target, whose model it finds in `f.model`."""

    def register(function):
        for target in targets:

            def run(f, target=target):
                f.target, f.model = target, TARGETS[target]
                function(f)

            run.__name__ = f"{function.__name__}_{target}"
            flow(run)
        return function

    return register


class Place:
    """The shared server, as this process was told of it."""

    def __init__(self):
        env = os.environ
        self.url = env["HOLDFAST_URL"]
        self.server = Asked(self.url, env["HOLDFAST_ADMIN_KEY"])
        self.keys = {name: env[f"HOLDFAST_KEY_{name.upper()}"] for name in KEYS}
        self.logs = {"claude": env["HOLDFAST_CLAUDE_LOG"], "mock": env["HOLDFAST_PROVIDER_LOG"]}
        self.sdk = env["HOLDFAST_SDK"]
        self.client = self.client_of("ci")

    def client_of(self, key, kind=anthropic.Anthropic, retries=0):
        return kind(
            base_url=self.url,
            api_key=self.keys.get(key, key),
            max_retries=retries,
            timeout=CLIENT_SECONDS,
        )


class Flow:
    """What one flow gets: clients of the shared server, and the others' evidence."""

    def __init__(self, name, place):
        self.name, self.place = name, place
        self.server, self.keys, self.client = place.server, place.keys, place.client
        self.is_old = place.sdk == "0.x"
        self.target, self.model = "passed", PASSED

    @property
    def mark(self):
        """A word of this flow and SDK."""
        return mark_of(f"{'old' if self.is_old else 'new'}{self.name}")

    @property
    def passed(self):
        return self.target == "passed"

    def with_key(self, key, retries=0):
        return self.place.client_of(key, retries=retries)

    def retrying(self, key="ci"):
        """A client as the SDK makes it: two retries."""
        return self.with_key(key, retries=2)

    def sent(self):
        """What reached the target's provider of this flow's requests."""
        return requests_in(self.place.logs[self.model.split("/")[0]], having=self.mark)

    def sent_body(self):
        """The body of this flow's one request, as its provider got it."""
        [line] = self.sent()
        return json.loads(line["body"])

    def user(self, text):
        return [{"role": "user", "content": f"{text} {self.mark}".strip()}]

    def options(self, text, options):
        """What a request needs, unless the flow says otherwise."""
        if text is not None:
            options.setdefault("messages", self.user(text))
        return {"model": self.model, "max_tokens": CAP, **options}

    def ask(self, text=None, /, client=None, **options):
        """A message about this flow's mark."""
        return (client or self.client).messages.create(**self.options(text, options))

    def ask_raw(self, text=None, /, **options):
        """The same, with the HTTP response around it."""
        return self.client.messages.with_raw_response.create(**self.options(text, options))

    def streamed(self, text=None, /, **options):
        """The SDK's helper about this flow's mark."""
        return self.client.messages.stream(**self.options(text, options))

    def lines(self, text=None, /, **options):
        """The lines of a stream as they come over the wire."""
        create = self.client.messages.with_streaming_response.create
        with create(**self.options(text, options), stream=True) as response:
            return list(response.iter_lines())

    def post(self, path, body, key="ci", headers=None):
        """One plain request, for what an SDK would not send: (status, headers, bytes)."""
        version = {"anthropic-version": "2023-06-01"}
        key = self.keys.get(key, key)
        return self.server.http("POST", path, body, key, version | (headers or {}))


def shown(message):
    """What the blocks are and say, whichever of the SDK's classes they are."""
    return [block.to_dict() | {"parsed_output": None} for block in message.content]


def texts(message):
    return "".join(block.text for block in message.content if block.type == "text")


def calls(message):
    return [block for block in message.content if block.type == "tool_use"]


def result(call, content, **fields):
    return {"type": "tool_result", "tool_use_id": call.id, "content": content, **fields}


def after(first, message, *results):
    """The conversation that goes on behind a message with tool calls."""
    said = {"role": "assistant", "content": message.content}
    return [*first, said, {"role": "user", "content": list(results)}]


def dropped(raw):
    """The fields that an answer's header says were left out."""
    return set(filter(None, (raw.headers.get("holdfast-dropped") or "").split(",")))


def refused(error, kind, status, code=None):
    """An error of Anthropic's shape that says which Call it was."""
    equal(error.status_code, status, f"status of {error.body}")
    assert isinstance(error.body, dict), f"no error object: {error.body!r}"
    equal((error.body["type"], error.body["error"]["type"]), ("error", kind), f"{error.body}")
    assert (error.request_id or "").startswith("hfc_"), error.request_id
    equal(error.response.headers["holdfast-call-id"], error.request_id)
    if code:
        equal(error.body["error"]["details"]["error_code"], code)


def tries_of(error):
    """How many requests the SDK made before it gave up."""
    return 1 + int(error.response.request.headers["x-stainless-retry-count"])
