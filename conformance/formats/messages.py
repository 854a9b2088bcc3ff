"""Anthropic's Messages API in the suite's words."""

from words import (
    Asked,
    Call,
    Image,
    Result,
    Said,
    Thought,
    Turn,
    dumps,
    joined,
    loads,
    read_sse,
    sse,
    text_of,
)

NAME = "messages"
FORMAT = "anthropic_messages"
PATH = "/v1/messages"
CANNOT_ASK = set()
CANNOT_ANSWER = set()

STOPS = {"end": "end_turn", "length": "max_tokens", "tools": "tool_use", "filter": "refusal"}


def request(asked):
    body = {"model": asked.model, "max_tokens": asked.cap or 4096, "messages": []}
    if asked.system:
        body["system"] = [{"type": "text", "text": asked.system}]
    for turn in asked.turns:
        role = "assistant" if turn.role == "assistant" else "user"
        body["messages"].append({"role": role, "content": [block(part) for part in turn.parts]})
    if asked.tools:
        body["tools"] = [
            {
                "name": tool["name"],
                "description": tool["description"],
                "input_schema": tool["parameters"],
            }
            for tool in asked.tools
        ]
    named = {"none": {"type": "none"}, "required": {"type": "any"}}
    if asked.choice != "auto":
        body["tool_choice"] = named.get(asked.choice, {"type": "tool", "name": asked.choice})
    for name in ("temperature", "top_p"):
        if getattr(asked, name) is not None:
            body[name] = getattr(asked, name)
    if asked.stop:
        body["stop_sequences"] = asked.stop
    config = {}
    if asked.effort:
        body["thinking"] = {"type": "adaptive"}
        config["effort"] = asked.effort
    if asked.schema:
        config["format"] = {"type": "json_schema", "schema": asked.schema}
    if config:
        body["output_config"] = config
    if asked.stream:
        body["stream"] = True
    if asked.marks:
        mark = {"cache_control": {"type": "ephemeral"}}
        body["system"][-1] |= mark
        body["messages"][-1]["content"][-1] |= mark
    return body


def block(part):
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Image):
        source = {"type": "base64", "media_type": part.kind, "data": part.data}
        return {"type": "image", "source": source}
    if isinstance(part, Call):
        return {
            "type": "tool_use",
            "id": part.id,
            "name": part.name,
            "input": loads(part.arguments),
        }
    if isinstance(part, Thought):
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return {
        "type": "tool_result",
        "tool_use_id": part.of,
        "content": [block(inner) for inner in part.parts],
        **({"is_error": True} if part.is_error else {}),
    }


def read_block(block):
    kind = block["type"]
    if kind == "text":
        return block["text"]
    if kind == "image":
        return Image(block["source"]["data"], block["source"]["media_type"])
    if kind == "tool_use":
        return Call(block["name"], dumps(block["input"]), block["id"])
    if kind == "thinking":
        return Thought(block["thinking"], block["signature"])
    if kind == "redacted_thinking":
        return Thought("", block["data"])
    held = block.get("content", [])
    parts = [held] if isinstance(held, str) else [read_block(inner) for inner in held]
    return Result(block["tool_use_id"], parts, block.get("is_error", False))


def read_request(body):
    asked = Asked(turns=[], cap=body["max_tokens"])
    system = body.get("system", [])
    asked.system = (
        system if isinstance(system, str) else text_of([read_block(held) for held in system])
    )
    for message in body["messages"]:
        held = message["content"]
        parts = [held] if isinstance(held, str) else [read_block(inner) for inner in held]
        if message["role"] == "system":
            asked.system += text_of(parts)
            continue
        results = [part for part in parts if isinstance(part, Result)]
        others = [part for part in parts if not isinstance(part, Result)]
        if results:
            assert parts[: len(results)] == results, "results must come first"
            asked.turns.append(Turn("tool", results))
        if others:
            asked.turns.append(Turn(message["role"], others))
    asked.tools = [
        {"name": t["name"], "description": t.get("description"), "parameters": t["input_schema"]}
        for t in body.get("tools", [])
    ]
    choice = body.get("tool_choice", {"type": "auto"})
    names = {"auto": "auto", "none": "none", "any": "required"}
    asked.choice = names.get(choice["type"]) or choice["name"]
    asked.temperature, asked.top_p = body.get("temperature"), body.get("top_p")
    asked.stop = body.get("stop_sequences") or []
    config = body.get("output_config", {})
    asked.effort = config.get("effort", "")
    asked.schema = config.get("format", {}).get("schema")
    asked.stream = body.get("stream", False)
    asked.marks = dumps(body).count('"cache_control"')
    return asked


def usage(said):
    return {
        "input_tokens": said.input - said.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": said.cached,
        "output_tokens": said.output,
    }


def answer(said):
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [block(part) for part in said.parts],
        "stop_reason": STOPS[said.stop],
        "stop_sequence": None,
        "usage": usage(said),
    }


def stream(said):
    message = answer(said) | {"content": [], "stop_reason": None}
    message["usage"] = usage(said) | {"output_tokens": 1}
    events = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, part in enumerate(said.parts):
        if isinstance(part, str):
            empty, half = {"type": "text", "text": ""}, len(part) // 2
            deltas = [{"type": "text_delta", "text": piece} for piece in (part[:half], part[half:])]
        elif isinstance(part, Thought):
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": part.text},
                {"type": "signature_delta", "signature": part.signature},
            ]
        else:
            empty = block(part) | {"input": {}}
            half = len(part.arguments) // 2
            pieces = (part.arguments[:half], part.arguments[half:])
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": STOPS[said.stop], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": usage(said)})
    return sse([*events, {"type": "message_stop"}])


END_OF_STREAM = "event: message_delta"


def read_usage(said, counted):
    said.cached = counted.get("cache_read_input_tokens") or 0
    written = counted.get("cache_creation_input_tokens") or 0
    said.input = counted["input_tokens"] + said.cached + written
    said.output, said.reasoning = counted["output_tokens"], None


def stop_of(reason):
    return next(name for name, native in STOPS.items() if native == reason)


def read_answer(body):
    if body["type"] == "error":
        return Said([], whole=False, error=body["error"]["message"])
    said = Said([read_block(held) for held in body["content"]])
    said.stop = stop_of(body["stop_reason"])
    read_usage(said, body["usage"])
    return said


def read_stream(text):
    said, blocks, arguments = Said([], whole=False, stop="cut"), [], {}
    for event in read_sse(text):
        kind = event["type"]
        if kind == "content_block_start":
            assert event["index"] == len(blocks), "blocks must be numbered"
            blocks.append(dict(event["content_block"]))
        elif kind == "content_block_delta":
            take(blocks[event["index"]], event["delta"], arguments, event["index"])
        elif kind == "message_delta":
            said.stop = stop_of(event["delta"]["stop_reason"])
            read_usage(said, event["usage"])
        elif kind == "message_stop":
            said.whole = said.stop != "cut"
        elif kind == "error":
            said.error = event["error"]["message"]
    for index, whole in arguments.items():
        blocks[index]["input"] = loads(whole)
    said.parts = joined([read_block(held) for held in blocks])
    return said


def take(held, delta, arguments, index):
    kind = delta["type"]
    if kind == "text_delta":
        held["text"] += delta["text"]
    elif kind == "thinking_delta":
        held["thinking"] += delta["thinking"]
    elif kind == "signature_delta":
        held["signature"] = delta["signature"]
    else:
        arguments[index] = arguments.get(index, "") + delta["partial_json"]


def error(status, kind):
    kinds = {
        "limit": "rate_limit_error",
        "request": "invalid_request_error",
        "overload": "overloaded_error",
    }
    said = {"type": kinds[kind], "message": f"{kind} said so"}
    return status, {"type": "error", "error": said}
