"""Every door and every scope: tables, so that a new one is a row."""

import dataclasses
import json
from collections.abc import Callable

MODEL = "mock/demo"
SAID = [{"role": "user", "content": "hi"}]
CHAT = {"model": MODEL, "max_completion_tokens": 20, "messages": SAID}
RUN = {"messages": SAID, "max_tokens": 20}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 20}}
RESPONSE = {"model": MODEL, "max_output_tokens": 20, "input": "hi"}
ACCOUNTS = "/client/v4/accounts/default/ai"
GATEWAY = "/ai-gateway/v1/default/default"


@dataclasses.dataclass(frozen=True)
class Door:
    """A way in: what is sent to where."""

    path: str
    body: object
    headers: dict = dataclasses.field(default_factory=dict)
    # A session of its own: it takes no name for one.
    is_stored: bool = False


DOORS = {
    "chat": Door("/v1/chat/completions", CHAT),
    "chat_stream": Door("/v1/chat/completions", {**CHAT, "stream": True}),
    "responses_stored": Door("/v1/responses", RESPONSE, is_stored=True),
    "responses": Door("/v1/responses", {**RESPONSE, "store": False}),
    "messages": Door(
        "/v1/messages",
        {"model": MODEL, "max_tokens": 20, "messages": SAID},
        {"anthropic-version": "2023-06-01"},
    ),
    "gemini": Door(f"/v1beta/models/{MODEL}:generateContent", GEMINI),
    "embeddings": Door("/v1/embeddings", {"model": MODEL, "input": "hi"}),
    "ai_run": Door(f"{ACCOUNTS}/run/{MODEL}", RUN),
    "ai_run_body": Door(f"{ACCOUNTS}/run", {"model": MODEL, "input": RUN}),
    "ai_v1": Door(f"{ACCOUNTS}/v1/chat/completions", CHAT),
    "compat": Door(f"{GATEWAY}/compat/chat/completions", CHAT),
    "native": Door(f"{GATEWAY}/mock/chat/completions", {**CHAT, "model": "demo"}),
    "universal": Door(
        GATEWAY,
        [{"provider": "mock", "endpoint": "chat/completions", "headers": {}, "query": {**CHAT, "model": "demo"}}],
    ),
}


@dataclasses.dataclass(frozen=True)
class Scope:
    """What a budget is on: `of(key, mark)` as the API takes it, and what a request says to be in it."""

    of: Callable
    headers: Callable = lambda mark: {}
    # Its sessions are named in a header; a stored response's is its own.
    is_session: bool = False
    # Asked for by another name than the model's own.
    model: str = MODEL
    # The doors that lead into it; none = all.
    doors: tuple = ()

    def takes(self, name):
        """Whether a door leads into it."""
        # Where the provider is in the path, the model is the provider's own.
        says_model = MODEL in DOORS[name].path + repr(DOORS[name].body)
        return name in self.doors if self.doors else self.model == MODEL or says_model


ROUTE = "all"
GATEWAY_DOORS = ("compat", "native", "universal")
SCOPES = {
    "account": Scope(lambda key, mark: "account"),
    "key": Scope(lambda key, mark: {"key": key}),
    # A key's user has the key's name here.
    "user": Scope(lambda key, mark: {"user": key}),
    "task": Scope(lambda key, mark: {"task": mark}, lambda mark: {"holdfast-task": mark}),
    "class": Scope(lambda key, mark: {"class": "background"}, lambda mark: {"holdfast-class": "background"}),
    "metadata": Scope(
        lambda key, mark: {"metadata": {"name": "team", "value": mark}},
        lambda mark: {"holdfast-metadata": json.dumps({"team": mark})},
    ),
    "route": Scope(lambda key, mark: {"route": ROUTE}, model=f"route/{ROUTE}"),
    "gateway": Scope(lambda key, mark: {"gateway": "default"}, doors=GATEWAY_DOORS),
    "model": Scope(lambda key, mark: {"model": MODEL}),
    "provider": Scope(lambda key, mark: {"provider": "mock"}),
    "session": Scope(
        lambda key, mark: {"session": mark, "key": key},
        lambda mark: {"holdfast-session": mark},
        is_session=True,
    ),
}
