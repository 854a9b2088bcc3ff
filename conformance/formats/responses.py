"""The Responses API in the suite's words, as a client that stores nothing speaks it."""

from words import (
    Asked,
    Call,
    Image,
    Result,
    Said,
    Thought,
    Turn,
    joined,
    read_sse,
    sse,
    text_of,
)

NAME = "responses"
FORMAT = "openai_responses"
PATH = "/v1/responses"
CANNOT_ASK = {"stop", "failed_result", "marks"}
CANNOT_ANSWER = set()


def request(asked):
    body = {"model": asked.model, "store": False, "input": []}
    if asked.system:
        body["instructions"] = asked.system
    for turn in asked.turns:
        body["input"] += said_turn(turn)
    if asked.tools:
        body["tools"] = [{"type": "function", "strict": False, **tool} for tool in asked.tools]
    if asked.choice in ("none", "required"):
        body["tool_choice"] = asked.choice
    elif asked.choice != "auto":
        body["tool_choice"] = {"type": "function", "name": asked.choice}
    for name in ("temperature", "top_p"):
        if getattr(asked, name) is not None:
            body[name] = getattr(asked, name)
    if asked.cap:
        body["max_output_tokens"] = asked.cap
    if asked.effort:
        body["reasoning"] = {"effort": asked.effort}
        body["include"] = ["reasoning.encrypted_content"]
    if asked.schema:
        wanted = {"type": "json_schema", "name": "out", "schema": asked.schema, "strict": True}
        body["text"] = {"format": wanted}
    if asked.stream:
        body["stream"] = True
    return body


def said_turn(turn):
    items, texts = [], []

    def end():
        if texts:
            items.append({"type": "message", "role": turn.role, "content": list(texts)})
            texts.clear()

    for part in turn.parts:
        if isinstance(part, (str, Image)):
            texts.append(content(part, turn.role))
            continue
        end()
        if isinstance(part, Call):
            items.append(
                {
                    "type": "function_call",
                    "call_id": part.id,
                    "name": part.name,
                    "arguments": part.arguments,
                }
            )
        elif isinstance(part, Result):
            held = [content(inner, "user") for inner in part.parts]
            output = (
                held if any(isinstance(i, Image) for i in part.parts) else text_of(part.parts)
            )
            items.append({"type": "function_call_output", "call_id": part.of, "output": output})
        else:
            items.append(reasoning(part))
    end()
    return items


def reasoning(part):
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    item = {"type": "reasoning", "summary": summary}
    return item | ({"encrypted_content": part.signature} if part.signature else {})


def content(part, role):
    if isinstance(part, str):
        if role == "assistant":
            return {"type": "output_text", "text": part, "annotations": []}
        return {"type": "input_text", "text": part}
    return {"type": "input_image", "image_url": f"data:{part.kind};base64,{part.data}"}


def read_content(part):
    if part["type"] in ("input_text", "output_text"):
        return part["text"]
    kind, data = part["image_url"].removeprefix("data:").split(";base64,")
    return Image(data, kind)


def read_item(item):
    kind = item["type"]
    if kind == "function_call":
        return Call(item["name"], item["arguments"], item["call_id"])
    if kind == "reasoning":
        texts = [part["text"] for part in item.get("content") or item["summary"]]
        return Thought("".join(texts), item.get("encrypted_content") or "")
    held = item["output"]
    parts = [held] if isinstance(held, str) else [read_content(inner) for inner in held]
    return Result(item["call_id"], parts)


def read_request(body):
    asked = Asked(turns=[], cap=body.get("max_output_tokens"))
    asked.system = body.get("instructions") or ""
    for item in body["input"]:
        if item["type"] == "message":
            held = item["content"]
            parts = [held] if isinstance(held, str) else [read_content(inner) for inner in held]
            if item["role"] in ("system", "developer"):
                asked.system += text_of(parts)
                continue
            role = item["role"]
        else:
            parts = [read_item(item)]
            role = "tool" if isinstance(parts[0], Result) else "assistant"
        if role == "assistant" and asked.turns and asked.turns[-1].role == role:
            asked.turns[-1].parts += parts
        else:
            asked.turns.append(Turn(role, parts))
    asked.tools = [
        {"name": t["name"], "description": t["description"], "parameters": t["parameters"]}
        for t in body.get("tools", [])
    ]
    choice = body.get("tool_choice", "auto")
    asked.choice = choice if isinstance(choice, str) else choice["name"]
    asked.temperature, asked.top_p = body.get("temperature"), body.get("top_p")
    asked.effort = (body.get("reasoning") or {}).get("effort", "")
    asked.schema = (body.get("text") or {}).get("format", {}).get("schema")
    asked.stream = body.get("stream", False)
    return asked


def usage(said):
    return {
        "input_tokens": said.input,
        "input_tokens_details": {"cached_tokens": said.cached},
        "output_tokens": said.output,
        "output_tokens_details": {"reasoning_tokens": said.reasoning},
        "total_tokens": said.input + said.output,
    }


def items(said):
    made = []
    for index, part in enumerate(said.parts):
        if isinstance(part, str):
            text = {"type": "output_text", "text": part, "annotations": []}
            message = {"id": f"msg_{index}", "type": "message", "role": "assistant"}
            made.append(message | {"status": "completed", "content": [text]})
        elif isinstance(part, Call):
            call = {"call_id": part.id, "name": part.name, "arguments": part.arguments}
            head = {"id": f"fc_{index}", "type": "function_call", "status": "completed"}
            made.append(head | call)
        else:
            made.append({"id": f"rs_{index}"} | reasoning(part))
    return made


def answer(said):
    cut = {"length": "max_output_tokens", "filter": "content_filter"}.get(said.stop)
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": cut} if cut else None,
        "error": None,
        "model": "m-1",
        "output": items(said),
        "usage": usage(said),
    }


def stream(said):
    begun = answer(said) | {"status": "in_progress", "output": [], "usage": None}
    events = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(items(said)):
        place = {"output_index": index, "item_id": item["id"]}
        events.append(
            {
                "type": "response.output_item.added",
                "output_index": index,
                "item": opened(item),
            }
        )
        kind = item["type"]
        if kind == "message":
            whole, name = item["content"][0]["text"], "response.output_text.delta"
            place["content_index"] = 0
        elif kind == "function_call":
            whole, name = item["arguments"], "response.function_call_arguments.delta"
        else:
            texts = item["summary"]
            whole = texts[0]["text"] if texts else ""
            name = "response.reasoning_summary_text.delta"
            place["summary_index"] = 0
        half = len(whole) // 2
        events += [
            {"type": name, "delta": piece} | place for piece in (whole[:half], whole[half:])
        ]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    whole = answer(said)
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return sse(events)


def opened(item):
    if item["type"] == "message":
        return item | {"content": [], "status": "in_progress"}
    if item["type"] == "function_call":
        return item | {"arguments": "", "status": "in_progress"}
    return {"id": item["id"], "type": "reasoning", "summary": []}


END_OF_STREAM = "event: response.completed"


def read_usage(said, counted):
    said.input, said.output = counted["input_tokens"], counted["output_tokens"]
    said.cached = counted["input_tokens_details"]["cached_tokens"]
    said.reasoning = counted["output_tokens_details"]["reasoning_tokens"]


def read_answer(body):
    if body.get("error"):
        return Said([], whole=False, error=body["error"]["message"])
    parts = []
    for item in body["output"]:
        if item["type"] == "message":
            parts += [part["text"] for part in item["content"]]
        else:
            parts.append(read_item(item))
    said = Said(joined(parts))
    reason = (body["incomplete_details"] or {}).get("reason")
    called = any(isinstance(part, Call) for part in parts)
    ends = {"max_output_tokens": "length", "content_filter": "filter"}
    said.stop = ends.get(reason) or ("tools" if called else "end")
    read_usage(said, body["usage"])
    return said


def read_stream(text):
    said, deltas = Said([], whole=False, stop="cut"), {}
    for event in read_sse(text):
        if event == "[DONE]":
            continue
        kind = event["type"]
        if kind.endswith(".delta"):
            deltas[event["item_id"]] = deltas.get(event["item_id"], "") + event["delta"]
        elif kind in ("response.completed", "response.incomplete"):
            said = read_answer(event["response"])
            for item in event["response"]["output"]:
                check_deltas(item, deltas.get(item["id"], ""))
        elif kind == "response.failed":
            said.error = event["response"]["error"]["message"]
        elif kind == "error":
            said.error = event["message"]
    return said


def check_deltas(item, came):
    """What came piece by piece is what the whole says."""
    if item["type"] == "message":
        assert came == text_of([part["text"] for part in item["content"]]), (came, item)
    elif item["type"] == "function_call":
        assert came == item["arguments"], (came, item)


def error(status, kind):
    codes = {"limit": "rate_limit_exceeded", "request": None, "overload": "server_error"}
    return status, {"error": {"message": f"{kind} said so", "type": "x", "code": codes[kind]}}
