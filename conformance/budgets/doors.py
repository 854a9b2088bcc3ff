"""Every door and every scope: tables, so that a new one is a row."""

import dataclasses
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


SCOPES = {
    "account": Scope(lambda key, mark: "account"),
    "key": Scope(lambda key, mark: {"key": key}),
    "session": Scope(
        lambda key, mark: {"session": mark, "key": key},
        lambda mark: {"holdfast-session": mark},
        is_session=True,
    ),
}
