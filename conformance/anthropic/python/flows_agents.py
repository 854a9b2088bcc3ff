"""What Claude Code sends: its tools, its betas, its marks, all in one request."""

import json

from events import checked
from flows import BOTH, calls, dropped, equal, over, result, texts

BETAS = [
    "claude-code-20250219",
    "interleaved-thinking-2025-05-14",
    "context-management-2025-06-27",
    "fine-grained-tool-streaming-2025-05-14",
]
MARK = {"cache_control": {"type": "ephemeral"}}


def tool(name, text, /, **properties):
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": list(properties)[:1],
        "additionalProperties": False,
    }
    return {"name": name, "description": text, "input_schema": schema}


TEXT, NUMBER = {"type": "string"}, {"type": "number"}
TOOLS = [
    tool("Bash", "Runs a command.", command=TEXT, timeout=NUMBER, description=TEXT),
    tool("Read", "Reads a file.", file_path=TEXT, offset=NUMBER, limit=NUMBER),
    tool("Edit", "Replaces text in a file.", file_path=TEXT, old_string=TEXT, new_string=TEXT),
    tool("Grep", "Searches.", pattern=TEXT, path=TEXT, output_mode={"enum": ["content", "count"]}),
    tool("mcp__notes__find_note", "Finds a note.", query=TEXT),
    tool("TodoWrite", "Keeps a list.", todos={"type": "array", "items": {"type": "object"}}),
]


def request(f, messages):
    """One request as the client builds it."""
    return {
        "model": f.model,
        "max_tokens": 32000,
        "system": [
            {"type": "text", "text": "You are a coding agent.", **MARK},
            {"type": "text", "text": "# Environment\nWorking directory: /home/nora/harbor", **MARK},
        ],
        "messages": messages,
        "tools": TOOLS,
        "thinking": {"type": "adaptive"},
        "metadata": {"user_id": "user_0123_account__session_4567"},
        "betas": BETAS,
        "extra_body": {
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "medium"},
        },
        "extra_query": {"beta": "true"},
        "extra_headers": {"x-app": "cli", "x-claude-code-session-id": f"session-{f.mark}"},
    }


def first_turn(f):
    reminder = "<system-reminder>\nToday is Saturday.\n</system-reminder>"
    asked = f'[[think:I read it.]][[tool:Read {{"file_path":"/a.txt"}}]] {f.mark}'
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": reminder},
                {"type": "text", "text": asked, **MARK},
            ],
        }
    ]


@over(*BOTH)
def claude_code_turns(f):
    """Two turns with a tool, streamed, a system message in between; nothing is refused."""
    with f.client.beta.messages.stream(**request(f, first_turn(f))) as stream:
        message = stream.get_final_message()
    [call] = calls(message)
    equal(
        (call.name, call.input, message.stop_reason), ("Read", {"file_path": "/a.txt"}, "tool_use")
    )
    history = [
        *first_turn(f),
        {"role": "assistant", "content": [block.to_dict() for block in message.content]},
        {"role": "user", "content": [{**result(call, "1\tthe harbor"), **MARK}]},
        {
            "role": "system",
            "content": [{"type": "text", "text": "[[next]][[say:It was changed.]]"}],
        },
    ]
    with f.client.beta.messages.stream(**request(f, history)) as stream:
        equal(texts(stream.get_final_message()), "It was changed.")
    lines = f.sent()
    equal(len(lines), 2)
    if f.passed:
        assert all(line["path"] == "/v1/messages?beta=true" for line in lines), lines[0]["path"]
        assert all(line["headers"]["anthropic-beta"] == ",".join(BETAS) for line in lines), lines
        sent = json.loads(lines[1]["body"])
        equal(sent["messages"][1]["content"][0]["type"], "thinking")
        equal(sent["context_management"]["edits"][0]["type"], "clear_thinking_20251015")


@over(*BOTH)
def claude_code_losses_are_named(f):
    options = request(f, first_turn(f))
    raw = f.client.beta.messages.with_raw_response.create(**options)
    found = dropped(raw)
    if f.passed:
        return equal(found, set())
    for name in ("context_management", "cache_control", "metadata"):
        assert any(name in one for one in found), f"{name} is not named: {found}"
    return equal(json.loads(f.sent()[-1]["body"])["reasoning_effort"], "medium")


@over(*BOTH)
def claude_code_session(f):
    """Its session groups its Calls."""
    create = f.client.beta.messages.with_raw_response.create
    sessions = {create(**request(f, first_turn(f))).headers["holdfast-session"] for _ in range(2)}
    equal(len(sessions), 1)
    status, page = f.server.api("GET", f"calls?session={sessions.pop()}")
    equal((status, len(page["data"])), (200, 2), "Calls of the session")


@over(*BOTH)
def claude_code_stream_order(f):
    create = f.client.beta.messages.with_streaming_response.create
    with create(**request(f, first_turn(f)), stream=True) as response:
        events, _ = checked(list(response.iter_lines()))
    kinds = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
    equal(kinds, ["thinking", "tool_use"] if f.passed else ["tool_use"])


@over(*BOTH)
def claude_code_counts(f):
    """It counts before it compacts, with the same tools and betas."""
    counted = f.client.beta.messages.count_tokens(
        model=f.model, messages=first_turn(f), tools=TOOLS, betas=BETAS
    )
    assert counted.input_tokens > 5, counted


@over(*BOTH)
def claude_code_title_request(f):
    """Its small request beside the conversation: no thinking, a schema, a small cap."""
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }
    message = f.client.beta.messages.create(
        **f.options("the harbor", {"max_tokens": 512}),
        thinking={"type": "disabled"},
        output_config={"format": {"type": "json_schema", "schema": schema}},
        betas=BETAS,
    )
    equal(set(json.loads(texts(message))), {"title"})
