"""Checks a stream of the Messages API against the order that all known clients accept."""

import json

from flows import equal

# Which deltas a block of each type may have.
DELTAS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "redacted_thinking": set(),
    "tool_use": {"input_json_delta"},
}
USAGE = {"input_tokens", "output_tokens"}


def parsed(lines):
    """(events, comments) of a stream's lines; a comment is (number of events before it, text)."""
    events, comments, name = [], [], None
    for line in lines:
        if line.startswith(":"):
            comments.append((len(events), line[1:].strip()))
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            events.append(json.loads(line[5:]))
            equal(name, events[-1]["type"], "the event's line")
        else:
            equal(line, "", "a line that is not of a stream")
            name = None
    return events, comments


def checked(lines):
    """(events, comments) of a whole stream, from its start to its one end."""
    events, comments = parsed(lines)
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    equal((kinds[0], kinds[-2:]), ("message_start", ["message_delta", "message_stop"]), str(kinds))
    message = events[0]["message"]
    assert message["usage"].keys() >= USAGE, f"the SDK needs a usage at the start: {message}"
    equal((message["content"], message["stop_reason"]), ([], None))
    open_block, following = None, 0
    for event in events[1:-2]:
        kind = event["type"]
        if kind == "content_block_start":
            equal((open_block, event["index"]), (None, following), "an open block")
            open_block = event["content_block"]["type"]
        elif kind == "content_block_delta":
            assert event["delta"]["type"] in DELTAS[open_block], f"{event} in {open_block}"
            equal(event["index"], following)
        elif kind == "content_block_stop":
            equal(event["index"], following)
            assert open_block, "a block is closed that is not open"
            open_block, following = None, following + 1
        else:
            equal(kind, "ping", "an event in the middle")
    equal(open_block, None, "a block that was left open")
    assert events[-2]["usage"].keys() >= {"output_tokens"}, events[-2]
    return events, comments
