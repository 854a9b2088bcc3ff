"""Chat completions in the suite's words."""

from words import Asked, Call, Image, Result, Said, Turn, calls, dumps, joined, read_sse, text_of

NAME = "chat"
FORMAT = "openai_chat"
PATH = "/v1/chat/completions"
# What a request of this format has no field for.
CANNOT_ASK = {"thought", "failed_result", "image_result"}
CANNOT_ANSWER = {"signature"}

STOPS = {"end": "stop", "length": "length", "tools": "tool_calls", "filter": "content_filter"}


def request(asked):
    body = {"model": asked.model, "messages": []}
    messages = body["messages"]
    if asked.system:
        messages.append({"role": "system", "content": asked.system})
    for turn in asked.turns:
        messages += said_turn(turn)
    if asked.tools:
        body["tools"] = [{"type": "function", "function": tool} for tool in asked.tools]
    if asked.choice in ("none", "required"):
        body["tool_choice"] = asked.choice
    elif asked.choice != "auto":
        body["tool_choice"] = {"type": "function", "function": {"name": asked.choice}}
    for name in ("temperature", "top_p"):
        if getattr(asked, name) is not None:
            body[name] = getattr(asked, name)
    if asked.stop:
        body["stop"] = asked.stop
    if asked.cap:
        body["max_completion_tokens"] = asked.cap
    if asked.effort:
        body["reasoning_effort"] = asked.effort
    if asked.schema:
        wanted = {"name": "out", "schema": asked.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
    if asked.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    for message in (messages[0], messages[-1]) if asked.marks else ():
        mark = {"cache_control": {"type": "ephemeral"}}
        message["content"] = [{"type": "text", "text": message["content"]} | mark]
    return body


def said_turn(turn):
    if turn.role == "tool":
        return [
            {"role": "tool", "tool_call_id": result.of, "content": text_of(result.parts)}
            for result in turn.parts
        ]
    if turn.role == "assistant":
        message = {"role": "assistant", "content": text_of(turn.parts) or None}
        made = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls(turn.parts)
        ]
        return [message | ({"tool_calls": made} if made else {})]
    if any(isinstance(part, Image) for part in turn.parts):
        return [{"role": "user", "content": [content(part) for part in turn.parts]}]
    return [{"role": "user", "content": text_of(turn.parts)}]


def content(part):
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": f"data:{part.kind};base64,{part.data}"}}


def read_request(body):
    asked = Asked(turns=[], cap=body.get("max_completion_tokens", body.get("max_tokens")))
    for message in body["messages"]:
        role, held = message["role"], message.get("content")
        parts = [held] if isinstance(held, str) else [read_content(part) for part in held or []]
        if role in ("system", "developer"):
            asked.system += text_of(parts)
        elif role == "tool":
            asked.turns.append(Turn("tool", [Result(message["tool_call_id"], parts)]))
        else:
            for call in message.get("tool_calls") or []:
                made = call["function"]
                parts.append(Call(made["name"], made["arguments"], call["id"]))
            asked.turns.append(Turn(role, parts))
    asked.tools = [tool["function"] for tool in body.get("tools", [])]
    choice = body.get("tool_choice", "auto")
    asked.choice = choice if isinstance(choice, str) else choice["function"]["name"]
    asked.temperature, asked.top_p = body.get("temperature"), body.get("top_p")
    asked.stop = body.get("stop") or []
    asked.effort = body.get("reasoning_effort", "")
    asked.schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    asked.stream = body.get("stream", False)
    asked.marks = dumps(body).count('"cache_control"')
    return asked


def read_content(part):
    if part["type"] == "text":
        return part["text"]
    kind, data = part["image_url"]["url"].removeprefix("data:").split(";base64,")
    return Image(data, kind)


def usage(said):
    return {
        "prompt_tokens": said.input,
        "completion_tokens": said.output,
        "total_tokens": said.input + said.output,
        "prompt_tokens_details": {"cached_tokens": said.cached},
        "completion_tokens_details": {"reasoning_tokens": said.reasoning},
    }


def answer(said):
    message = {"role": "assistant", "content": text_of(said.parts) or None}
    thought = "".join(getattr(part, "text", "") for part in said.parts if not isinstance(part, str))
    if thought:
        message["reasoning_content"] = thought
    made = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls(said.parts)
    ]
    if made:
        message["tool_calls"] = made
    choice = {"index": 0, "message": message, "finish_reason": STOPS[said.stop]}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m-1"}
    return head | {"choices": [choice], "usage": usage(said)}


def stream(said):
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    deltas = [{"role": "assistant", "content": ""}]
    index = 0
    for part in said.parts:
        if isinstance(part, str):
            half = len(part) // 2
            deltas += [{"content": part[:half]}, {"content": part[half:]}]
        elif isinstance(part, Call):
            function = {"name": part.name, "arguments": ""}
            begun = {"index": index, "id": part.id, "type": "function", "function": function}
            half = len(part.arguments) // 2
            pieces = [part.arguments[:half], part.arguments[half:]]
            deltas.append({"tool_calls": [begun]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
                for piece in pieces
            ]
            index += 1
        else:
            deltas.append({"reasoning_content": part.text})
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": STOPS[said.stop]})
    chunks = [head | {"choices": [choice]} for choice in choices]
    chunks.append(head | {"choices": [], "usage": usage(said)})
    return "".join(f"data: {dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


# Where a stream is cut: before what says that it is whole.
END_OF_STREAM = '"finish_reason":"'


def read_usage(said, counted):
    said.input, said.output = counted["prompt_tokens"], counted["completion_tokens"]
    said.cached = counted["prompt_tokens_details"]["cached_tokens"]
    said.reasoning = counted["completion_tokens_details"]["reasoning_tokens"]


def stop_of(reason):
    return next(name for name, native in STOPS.items() if native == reason)


def read_answer(body):
    if "error" in body:
        return Said([], whole=False, error=body["error"]["message"])
    choice = body["choices"][0]
    message = choice["message"]
    parts = [message["content"]] if message.get("content") else []
    for call in message.get("tool_calls") or []:
        made = call["function"]
        parts.append(Call(made["name"], made["arguments"], call["id"]))
    said = Said(with_thought(message.get("reasoning_content"), parts))
    said.stop = stop_of(choice["finish_reason"])
    read_usage(said, body["usage"])
    return said


def with_thought(text, parts):
    from words import Thought

    return [Thought(text), *parts] if text else parts


def read_stream(text):
    said, parts, made, thought, reason = Said([], whole=False), [], {}, "", None
    for chunk in read_sse(text):
        if chunk == "[DONE]":
            said.whole = reason is not None
            continue
        if "error" in chunk:
            said.error = chunk["error"]["message"]
            continue
        if chunk.get("usage"):
            read_usage(said, chunk["usage"])
        for choice in chunk["choices"]:
            delta, reason = choice["delta"], choice["finish_reason"] or reason
            thought += delta.get("reasoning_content") or ""
            parts.append(delta.get("content") or "")
            for piece in delta.get("tool_calls") or []:
                function = piece["function"]
                if piece["index"] not in made:
                    made[piece["index"]] = Call(function["name"], "", piece["id"])
                made[piece["index"]].arguments += function.get("arguments") or ""
    said.parts = with_thought(thought, joined(parts) + list(made.values()))
    said.stop = stop_of(reason) if reason else "cut"
    return said


def error(status, kind):
    """What the provider says for `limit`, `request` or `overload`: (status, body)."""
    codes = {"limit": "rate_limit_exceeded", "request": None, "overload": "server_error"}
    return status, {"error": {"message": f"{kind} said so", "type": "x", "code": codes[kind]}}
