"""Amazon Bedrock's Converse API in the suite's words, as a target: no door speaks it."""

import binascii
import json
import struct

from words import Asked, Call, Image, Result, Thought, Turn, dumps, loads, text_of

NAME = "bedrock"
FORMAT = "bedrock_converse"
# What a model can be told depends on whose it is.
MODEL = "eu.anthropic.claude-sonnet-4-6-"
CANNOT_ANSWER = set()

STOPS = {"end": "end_turn", "length": "max_tokens", "tools": "tool_use", "filter": "content_filtered"}


def block(part):
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, Call):
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": loads(part.arguments)}}
    return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}


def read_block(block):
    (kind,) = block
    held = block[kind]
    if kind == "text":
        return held
    if kind == "image":
        return Image(held["source"]["bytes"], f"image/{held['format']}")
    if kind == "toolUse":
        return Call(held["name"], dumps(held["input"]), held["toolUseId"])
    if kind == "reasoningContent" and "redactedContent" in held:
        return Thought("", held["redactedContent"])
    if kind == "reasoningContent":
        return Thought(held["reasoningText"]["text"], held["reasoningText"]["signature"])
    failed = held.get("status") == "error"
    return Result(held["toolUseId"], read_blocks(held["content"]), failed)


def read_blocks(blocks):
    return [read_block(held) for held in blocks if "cachePoint" not in held]


def read_request(body):
    inference = body.get("inferenceConfig", {})
    asked = Asked(turns=[], cap=inference.get("maxTokens"))
    asked.system = text_of(read_blocks(body.get("system", [])))
    for message in body["messages"]:
        parts = read_blocks(message["content"])
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
    config = body.get("toolConfig")
    for tool in (config or {}).get("tools", []):
        if "toolSpec" in tool:
            spec = tool["toolSpec"]
            schema = spec["inputSchema"]["json"]
            asked.tools.append(
                {"name": spec["name"], "description": spec.get("description"), "parameters": schema}
            )
    # Without tools none can be called: there is no other word for it.
    choice = (config or {}).get("toolChoice", {"auto": {}} if config else {"none": {}})
    names = {"auto": "auto", "any": "required", "none": "none"}
    (kind,) = choice
    asked.choice = names.get(kind) or choice[kind]["name"]
    asked.temperature, asked.top_p = inference.get("temperature"), inference.get("topP")
    asked.stop = inference.get("stopSequences") or []
    output = body.get("outputConfig", {})
    asked.effort = output.get("effort", "")
    if "textFormat" in output:
        asked.schema = loads(output["textFormat"]["structure"]["jsonSchema"]["schema"])
    asked.marks = dumps(body).count('"cachePoint"')
    return asked


def usage(said):
    return {
        "inputTokens": said.input - said.cached,
        "outputTokens": said.output,
        "totalTokens": said.input + said.output,
        "cacheReadInputTokens": said.cached,
    }


def answer(said):
    message = {"role": "assistant", "content": [block(part) for part in said.parts]}
    stop = STOPS[said.stop]
    return {"output": {"message": message}, "stopReason": stop, "usage": usage(said), "metrics": {"latencyMs": 1}}


def frame(kind, payload):
    """One frame of Amazon's event stream."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(text)) + text.encode()
        for name, text in headers.items()
    )
    data = json.dumps(payload).encode()
    prelude = struct.pack(">II", len(head) + len(data) + 16, len(head))
    whole = prelude + struct.pack(">I", binascii.crc32(prelude)) + head + data
    return whole + struct.pack(">I", binascii.crc32(whole))


def stream(said, cut=False):
    out = [frame("messageStart", {"role": "assistant"})]
    for index, part in enumerate(said.parts):
        place = {"contentBlockIndex": index}
        if isinstance(part, str):
            half = len(part) // 2
            deltas = [{"text": piece} for piece in (part[:half], part[half:])]
        elif isinstance(part, Thought):
            deltas = [{"reasoningContent": {"text": part.text}},
                      {"reasoningContent": {"signature": part.signature}}]
        else:
            start = {"toolUse": {"toolUseId": part.id, "name": part.name}}
            out.append(frame("contentBlockStart", place | {"start": start}))
            half = len(part.arguments) // 2
            pieces = (part.arguments[:half], part.arguments[half:])
            deltas = [{"toolUse": {"input": piece}} for piece in pieces]
        out += [frame("contentBlockDelta", place | {"delta": delta}) for delta in deltas]
        out.append(frame("contentBlockStop", place))
    if not cut:
        out.append(frame("messageStop", {"stopReason": STOPS[said.stop]}))
        out.append(frame("metadata", {"usage": usage(said), "metrics": {"latencyMs": 1}}))
    return b"".join(out)


def error(status, kind):
    kinds = {
        "limit": "ThrottlingException",
        "request": "ValidationException",
        "overload": "ServiceUnavailableException",
    }
    return status, {"__type": kinds[kind], "message": f"{kind} said so"}
