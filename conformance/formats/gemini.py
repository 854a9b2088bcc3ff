"""Gemini's generateContent in the suite's words."""

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
    text_of,
)

NAME = "gemini"
FORMAT = "gemini"
PATH = "/v1beta/models/{model}:{method}"
# A result that failed is said in its value here; an effort is a level or a budget.
CANNOT_ASK = {"failed_result", "image_result", "marks"}
CANNOT_ANSWER = set()

STOPS = {"end": "STOP", "length": "MAX_TOKENS", "tools": "STOP", "filter": "SAFETY"}


def request(asked):
    names = {
        part.id: part.name for turn in asked.turns for part in turn.parts if isinstance(part, Call)
    }
    body = {"contents": []}
    if asked.system:
        body["systemInstruction"] = {"parts": [{"text": asked.system}]}
    for turn in asked.turns:
        role = "model" if turn.role == "assistant" else "user"
        body["contents"].append({"role": role, "parts": parts_of(turn.parts, names)})
    if asked.tools:
        declared = [
            {
                "name": tool["name"],
                "description": tool["description"],
                "parametersJsonSchema": tool["parameters"],
            }
            for tool in asked.tools
        ]
        body["tools"] = [{"functionDeclarations": declared}]
    modes = {"none": {"mode": "NONE"}, "required": {"mode": "ANY"}}
    if asked.choice != "auto":
        named = {"mode": "ANY", "allowedFunctionNames": [asked.choice]}
        body["toolConfig"] = {"functionCallingConfig": modes.get(asked.choice, named)}
    config = {}
    if asked.temperature is not None:
        config["temperature"] = asked.temperature
    if asked.top_p is not None:
        config["topP"] = asked.top_p
    if asked.stop:
        config["stopSequences"] = asked.stop
    if asked.cap:
        config["maxOutputTokens"] = asked.cap
    if asked.effort:
        config["thinkingConfig"] = {"thinkingLevel": asked.effort}
    if asked.schema:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": asked.schema}
    if config:
        body["generationConfig"] = config
    return body


def parts_of(parts, names):
    """A signature is on the first call, or on what follows the thought where nothing is called."""
    out, signature = [], ""
    called = any(isinstance(part, Call) for part in parts)
    for part in parts:
        if isinstance(part, Thought):
            signature = part.signature
            if part.text:
                out.append({"text": part.text, "thought": True})
            continue
        made = part_of(part, names)
        if signature and (isinstance(part, Call) or not called):
            made["thoughtSignature"], signature = signature, ""
        out.append(made)
    return out


def part_of(part, names):
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, Image):
        return {"inlineData": {"mimeType": part.kind, "data": part.data}}
    if isinstance(part, Call):
        call = {"id": part.id, "name": part.name, "args": loads(part.arguments)}
        return {"functionCall": call}
    response = {"output": text_of(part.parts)}
    return {"functionResponse": {"id": part.of, "name": names[part.of], "response": response}}


def read_parts(parts):
    """In the suite's words a signature stands before what it is on."""
    out, thought = [], None
    for part in parts:
        if part.get("thought"):
            thought = Thought(part["text"], part.get("thoughtSignature", ""))
            out.append(thought)
            continue
        if part.get("thoughtSignature"):
            if thought is None or thought.signature:
                thought = Thought("")
                out.append(thought)
            thought.signature = part["thoughtSignature"]
        out.append(read_part(part))
    return [part for part in out if part != ""]


def read_part(part):
    if "text" in part:
        return part["text"]
    if "inlineData" in part:
        return Image(part["inlineData"]["data"], part["inlineData"]["mimeType"])
    if "functionCall" in part:
        call = part["functionCall"]
        return Call(call["name"], dumps(call.get("args", {})), call.get("id", ""))
    response = part["functionResponse"]
    held = response["response"]
    failed = "error" in held
    said = held.get("error") if failed else next(iter(held.values()), "")
    texts = [said if isinstance(said, str) else dumps(said)]
    images = [read_part(inner) for inner in response.get("parts", [])]
    return Result(response.get("id", ""), texts + images, failed)


def read_request(body):
    config = body.get("generationConfig", {})
    asked = Asked(turns=[], cap=config.get("maxOutputTokens"))
    asked.system = text_of(read_parts(body.get("systemInstruction", {}).get("parts", [])))
    for content in body["contents"]:
        parts = read_parts(content["parts"])
        role = "assistant" if content["role"] == "model" else "user"
        if parts and isinstance(parts[0], Result):
            role = "tool"
        asked.turns.append(Turn(role, parts))
    for group in body.get("tools", []):
        for tool in group["functionDeclarations"]:
            schema = tool.get("parametersJsonSchema", tool.get("parameters"))
            declared = {"name": tool["name"], "description": tool.get("description")}
            asked.tools.append(declared | {"parameters": schema})
    choice = body.get("toolConfig", {}).get("functionCallingConfig", {"mode": "AUTO"})
    modes = {"AUTO": "auto", "NONE": "none", "ANY": "required", "VALIDATED": "auto"}
    asked.choice = (choice.get("allowedFunctionNames") or [modes[choice["mode"]]])[0]
    asked.temperature, asked.top_p = config.get("temperature"), config.get("topP")
    asked.stop = config.get("stopSequences") or []
    thinking = config.get("thinkingConfig", {})
    asked.effort = str(thinking.get("thinkingLevel") or thinking.get("thinkingBudget") or "")
    asked.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    return asked


def usage(said):
    return {
        "promptTokenCount": said.input,
        "cachedContentTokenCount": said.cached,
        "candidatesTokenCount": said.output - said.reasoning,
        "thoughtsTokenCount": said.reasoning,
        "totalTokenCount": said.input + said.output,
    }


def answer(said):
    candidate = {"index": 0, "content": {"role": "model", "parts": parts_of(said.parts, {})}}
    candidate["finishReason"] = STOPS[said.stop]
    return {
        "candidates": [candidate],
        "usageMetadata": usage(said),
        "modelVersion": "m-1",
        "responseId": "r1",
    }


def stream(said):
    chunks = []
    for part in parts_of(said.parts, {}):
        pieces = [part]
        if set(part) == {"text"}:
            half = len(part["text"]) // 2
            pieces = [{"text": part["text"][:half]}, {"text": part["text"][half:]}]
        for piece in pieces:
            content = {"role": "model", "parts": [piece]}
            chunks.append({"candidates": [{"index": 0, "content": content}]})
    end = {"index": 0, "content": {"role": "model", "parts": [{"text": ""}]}}
    chunks.append({"candidates": [end | {"finishReason": STOPS[said.stop]}]})
    for chunk in chunks:
        chunk |= {"usageMetadata": usage(said), "modelVersion": "m-1", "responseId": "r1"}
    return "".join(f"data: {dumps(chunk)}\r\n\r\n" for chunk in chunks)


END_OF_STREAM = '"finishReason"'


def read_usage(said, counted):
    said.input = counted["promptTokenCount"]
    said.cached = counted.get("cachedContentTokenCount", 0)
    said.reasoning = counted.get("thoughtsTokenCount", 0)
    said.output = counted.get("candidatesTokenCount", 0) + said.reasoning


def take(said, body):
    """Takes a body, or a chunk of a stream."""
    if "error" in body:
        said.error = body["error"]["message"]
        return
    for candidate in body.get("candidates", []):
        said.parts += read_parts(candidate.get("content", {}).get("parts", []))
        reason = candidate.get("finishReason")
        if reason:
            ends = {"MAX_TOKENS": "length", "SAFETY": "filter"}
            called = any(isinstance(part, Call) for part in said.parts)
            said.stop = ends.get(reason) or ("tools" if called else "end")
            said.whole = True
    if "usageMetadata" in body:
        read_usage(said, body["usageMetadata"])


def read_answer(body):
    said = Said([], whole=False, stop="cut")
    take(said, body)
    said.parts = joined(said.parts)
    return said


def read_stream(text):
    said = Said([], whole=False, stop="cut")
    for chunk in read_sse(text):
        take(said, chunk)
    said.parts = merged(joined(said.parts))
    return said


def merged(parts):
    """Thoughts that came in pieces as one."""
    out = []
    for part in parts:
        if isinstance(part, Thought) and out and isinstance(out[-1], Thought):
            if not out[-1].signature:
                out[-1].text += part.text
                out[-1].signature = part.signature
                continue
        out.append(part)
    return out


def error(status, kind):
    names = {"limit": "RESOURCE_EXHAUSTED", "request": "INVALID_ARGUMENT", "overload": "UNAVAILABLE"}
    said = {"code": status, "message": f"{kind} said so", "status": names[kind]}
    return status, {"error": said}
