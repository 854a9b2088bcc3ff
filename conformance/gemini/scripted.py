#!/usr/bin/env python3
"""A provider that speaks the Gemini API: its own process, and a real HTTP/1.1 server.

What it says is computed from the request alone, by the directives of
`examples/demo/provider_script.py`; what is Google's own is here. It is as strict as the documented
API, so that what passes here may pass there:

- a key in x-goog-api-key; without one, or with another, Google's 400
- fields that there are, in either spelling, each once; parts that say exactly one thing
- functions' answers that follow their calls, as many as there were
- on `gemini-3-…`, the first call of a turn signed by what made it, or by the documented stand-in

    [[think:TEXT]]       thoughts before the answer, signed
    [[block]]            the prompt is blocked: no candidate
    [[finish:REASON]]    another finishReason
    [[no_id]]            calls without ids, as older models give them
    [[fault:no_finish]]  a clean end without a finishReason

The log has one line per request, written before the last bytes of the answer leave, as that of
`examples/demo/provider.py` has, with `path` and the request's `headers` beside. Standard library only.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "demo"))

from provider import RequestLog  # noqa: E402
from provider_script import Plan, answer_for, count_words, number, settings  # noqa: E402

MAX_BODY_BYTES = 32 << 20
SKIP = "skip_thought_signature_validator"
REQUEST = {
    "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings",
    "cachedContent", "labels", "model",
}  # fmt: skip
CONFIG = {
    "candidateCount", "stopSequences", "maxOutputTokens", "temperature", "topP", "topK", "seed",
    "presencePenalty", "frequencyPenalty", "responseMimeType", "responseSchema",
    "responseJsonSchema", "thinkingConfig", "responseModalities", "mediaResolution",
}  # fmt: skip
DATA = {
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
    "codeExecutionResult",
}  # fmt: skip
STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
INFO = "type.googleapis.com/google.rpc.ErrorInfo"
RETRY = "type.googleapis.com/google.rpc.RetryInfo"
QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"


class Refusal(Exception):
    def __init__(self, code, message, details=()):
        super().__init__(message)
        error = {"code": code, "message": message, "status": STATUS.get(code, "UNKNOWN")}
        if details:
            error["details"] = list(details)
        self.code, self.body = code, {"error": error}


class Cut(Exception):
    """This answer is to break off here."""


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def named(value, known, path):
    """The fields of an object under their names in camel case, if there are such fields."""
    if not isinstance(value, dict):
        raise Refusal(400, f"Invalid value at '{path}'")
    found = {}
    for name, inner in value.items():
        plain = camel(name)
        if plain in found:
            raise Refusal(400, f"Invalid JSON payload received. '{plain}' is given twice")
        if known and plain not in known:
            where = f" at '{path}'" if path else ""
            raise Refusal(
                400, f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'
            )
        found[plain] = inner
    return found


def several(value):
    return value if isinstance(value, list) else [value]


def signature(text):
    """Only who made a part can make its signature."""
    return base64.b64encode(hashlib.sha256(b"signed: " + text.encode()).digest()).decode()


def signed_call(call):
    return signature(call["name"] + json.dumps(call.get("args") or {}, sort_keys=True))


def plain_base64(text):
    return (text or "").replace("-", "+").replace("_", "/")


def checked_parts(content, path):
    parts = []
    for at, part in enumerate(several(content.get("parts") or [])):
        place = f"{path}.parts[{at}]"
        known = DATA | {"thought", "thoughtSignature", "videoMetadata", "mediaResolution"}
        part = named(part, known, place)
        if len(DATA & part.keys()) != 1:
            raise Refusal(400, f"{place}: required oneof field 'data' must have one initialized field")
        for kind in ("inlineData", "functionCall", "functionResponse", "fileData"):
            if kind in part:
                part[kind] = named(part[kind], None, place)
        if "inlineData" in part:
            base64.b64decode(plain_base64(part["inlineData"]["data"]), validate=True)
        parts.append(part)
    if not parts:
        raise Refusal(400, f"* GenerateContentRequest.{path}.parts: contents.parts must not be empty.")
    return parts


def checked(body, model):
    """The request in camel case, if the API would take it."""
    request = named(body, REQUEST, "")
    if not request.get("contents"):
        raise Refusal(400, "* GenerateContentRequest.contents: contents is not specified")
    config = named(request.get("generationConfig") or {}, CONFIG, "generation_config")
    for tool in several(request.get("tools") or []):
        for function in named(tool, None, "tools").get("functionDeclarations") or []:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}", function.get("name", "")):
                raise Refusal(400, f"Invalid function name {function.get('name')}")
    contents, calls = [], 0
    for at, content in enumerate(several(request["contents"])):
        content = named(content, {"role", "parts"}, f"contents[{at}]")
        role = content.get("role") or "user"
        if role not in ("user", "model", "function"):
            raise Refusal(400, "Please use a valid role: user, model.")
        parts = checked_parts(content, f"contents[{at}]")
        answers = sum("functionResponse" in part for part in parts)
        if role != "model" and answers != calls:
            raise Refusal(
                400,
                "Please ensure that the number of function response parts is equal to the number of "
                "function call parts of the function call turn.",
            )
        calls = sum("functionCall" in part for part in parts) if role == "model" else 0
        if role == "model" and model.startswith("gemini-3"):
            check_signatures(parts)
        contents.append({"role": role, "parts": parts})
    system = request.get("systemInstruction")
    if system is not None:
        system = checked_parts(named(system, {"role", "parts"}, ""), "system_instruction")
    return {**request, "contents": contents, "system": system or [], "generationConfig": config}


def check_signatures(parts):
    first = True
    for part in parts:
        call, given = part.get("functionCall"), plain_base64(part.get("thoughtSignature"))
        if call is None:
            if given and given not in (signature(part.get("text", "")), signature("end")):
                raise Refusal(400, "Corrupted thought signature.")
            continue
        if given and given != plain_base64(SKIP) and given != signed_call(call):
            raise Refusal(400, "Corrupted thought signature.")
        if first and not given:
            raise Refusal(400, f"Function call {call['name']} is missing a thought_signature.")
        first = False


def text_of(parts):
    return " ".join(part["text"] for part in parts if "text" in part and not part.get("thought"))


def in_plain_terms(request, model):
    """The request as the demo's script reads it."""
    messages = []
    if request["system"]:
        messages.append({"role": "system", "content": text_of(request["system"])})
    for content in request["contents"]:
        if content["role"] == "model":
            calls = [part for part in content["parts"] if "functionCall" in part]
            messages.append(
                {"role": "assistant", "content": text_of(content["parts"]), "tool_calls": calls}
            )
            continue
        for part in content["parts"]:
            if "functionResponse" in part:
                said = json.dumps(part["functionResponse"].get("response"), ensure_ascii=False)
                messages.append({"role": "tool", "content": said})
        if any("functionResponse" not in part for part in content["parts"]):
            messages.append({"role": "user", "content": text_of(content["parts"])})
    config, functions = request["generationConfig"], []
    for tool in several(request.get("tools") or []):
        functions += named(tool, None, "").get("functionDeclarations") or []
    calling = (request.get("toolConfig") or {}).get("functionCallingConfig") or {}
    allowed, choice = calling.get("allowedFunctionNames") or [], None
    if calling.get("mode") == "ANY":
        choice = {"function": {"name": allowed[0]}} if allowed else "required"
    elif calling.get("mode") == "NONE":
        choice = "none"
    shape = None
    if config.get("responseMimeType") == "application/json":
        schema = config.get("responseJsonSchema") or lowered(config.get("responseSchema"))
        shape = {"type": "json_object"}
        if schema:
            shape = {"type": "json_schema", "json_schema": {"schema": schema}}
    return {
        "model": model,
        "messages": messages,
        "tools": [{"function": dict(f, parameters=f.get("parametersJsonSchema") or lowered(f.get("parameters")))} for f in functions],
        "tool_choice": choice,
        "stop": config.get("stopSequences"),
        "max_tokens": config.get("maxOutputTokens"),
        "response_format": shape,
    }  # fmt: skip


def lowered(schema):
    """Google's own schema with JSON Schema's names of types."""
    if isinstance(schema, dict):
        return {
            name: inner.lower() if name == "type" and isinstance(inner, str) else lowered(inner)
            for name, inner in schema.items()
        }
    return [lowered(inner) for inner in schema] if isinstance(schema, list) else schema


class Reply:
    """One answer: what it says, why it stopped, and its usage."""

    def __init__(self, request, model):
        self.plan, self.model = Plan(in_plain_terms(request, model)), model
        self.faults = self.plan.faults
        count = int(request["generationConfig"].get("candidateCount") or 1)
        answers = [answer_for(self.plan, index) for index in range(count)]
        self.thought = self.plan.one("think")
        self.candidates = [self.parts(answer) for answer in answers]
        stops = {"length": "MAX_TOKENS"}
        named = self.plan.one("finish")
        self.reasons = [named or stops.get(answer.stop, "STOP") for answer in answers]
        given = settings(self.plan.one("usage") or "")
        said = int(number(given.get("completion"), sum(answer.words() for answer in answers)))
        prompt = int(number(given.get("prompt"), self.plan.prompt_tokens()))
        thoughts = count_words(self.thought or "")
        self.blocked = any(name == "block" for name, _ in self.plan.directives)
        if self.blocked:
            said = thoughts = 0
        self.usage = {"promptTokenCount": prompt}
        # Counts of zero are left out, as on Google's wire.
        self.usage |= {"candidatesTokenCount": said} if said else {}
        self.usage |= {"thoughtsTokenCount": thoughts} if thoughts else {}
        if given.get("cached"):
            self.usage["cachedContentTokenCount"] = int(number(given["cached"]))
        self.usage["totalTokenCount"] = prompt + said + thoughts

    def parts(self, answer):
        parts = [{"text": self.thought, "thought": True}] if self.thought else []
        no_id = any(name == "no_id" for name, _ in self.plan.directives)
        for at, call in enumerate(answer.calls):
            made = {"name": call["function"]["name"], "args": json.loads(call["function"]["arguments"])}
            part = {"functionCall": made if no_id else {"id": call["id"], **made}}
            if at == 0:
                part["thoughtSignature"] = signed_call(made)
            parts.append(part)
        if not answer.calls:
            parts += [{"text": piece} for piece in answer.pieces()] or [{"text": ""}]
        return parts

    def chunk(self, candidates, usage=None):
        chunk = {"candidates": candidates} if candidates else {}
        if self.blocked:
            chunk = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        chunk["usageMetadata"] = usage or self.usage
        return chunk | {"modelVersion": self.model + "-001", "responseId": self.plan.id("r")}

    def whole(self):
        candidates = []
        for index, parts in enumerate(self.candidates):
            thoughts = [part for part in parts if part.get("thought")]
            text = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
            calls = [part for part in parts if "functionCall" in part]
            said = thoughts + (calls or [{"text": text}])
            if self.thought and not calls:
                said[-1]["thoughtSignature"] = signature(text)
            content = {"parts": said, "role": "model"}
            candidates.append(
                {"content": content, "finishReason": self.reasons[index], "index": index}
            )
        return self.chunk(candidates)

    def chunks(self):
        """The stream: a chunk per piece, and one with the end, which signs what was said."""
        if self.blocked:
            yield self.chunk(None)
            return
        early = {"promptTokenCount": self.usage["promptTokenCount"]}
        early["totalTokenCount"] = early["promptTokenCount"]
        for index, parts in enumerate(self.candidates):
            for part in parts:
                content = {"parts": [part], "role": "model"}
                yield self.chunk([{"content": content, "index": index}], early)
        for index, reason in enumerate(self.reasons):
            last = {"text": ""}
            if self.thought and not any("functionCall" in part for part in self.candidates[index]):
                last["thoughtSignature"] = signature("end")
            content = {"parts": [last], "role": "model"}
            ended = {} if "no_finish" in self.faults else {"finishReason": reason}
            yield self.chunk([{"content": content, **ended, "index": index}])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "gemini-script"
    disable_nagle_algorithm = True

    def do_POST(self):
        self.usage, self.status, self.logged, self.raw = None, 200, False, b""
        try:
            length = int(self.headers.get("content-length") or 0)
            if length > MAX_BODY_BYTES:
                raise Refusal(400, "Request payload size exceeds the limit")
            self.raw = self.rfile.read(length)
            self.answer()
        except Refusal as refusal:
            self.status = refusal.code
            self.log(False)
            self.send_json(refusal.code, refusal.body)
        except (Cut, ConnectionError):
            self.log(False)
            self.close_connection = True

    def answer(self):
        path, _, query = self.path.partition("?")
        asked = re.fullmatch(r"/v1(?:beta)?/models/([^:]+):(\w+)", path)
        if asked is None:
            raise Refusal(404, f"there is nothing at {path}")
        if self.headers.get("x-goog-api-key") != self.server.key:
            reason = {"@type": INFO, "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            raise Refusal(400, "API key not valid. Please pass a valid API key.", [reason])
        model, method = asked.groups()
        if model not in self.server.models:
            raise Refusal(404, f"models/{model} is not found for API version v1beta")
        try:
            body = json.loads(self.raw)
        except ValueError as error:
            raise Refusal(400, f"Invalid JSON payload received. {error}") from None
        if method == "countTokens":
            counted = named(body, {"contents", "generateContentRequest", "model"}, "")
            request = checked(counted.get("generateContentRequest") or counted, model)
            words = Plan(in_plain_terms(request, model)).prompt_tokens()
            self.log(True)
            return self.send_json(200, {"totalTokens": words})
        reply = Reply(checked(body, model), model)
        self.fail_first(reply)
        if method == "generateContent":
            return self.send_whole(reply)
        if method != "streamGenerateContent":
            raise Refusal(404, f"there is no method {method}")
        return self.send_stream(reply, "alt=sse" in query.split("&"))

    def fail_first(self, reply):
        faults = reply.faults
        if "times" in faults and self.server.count(self.raw) > number(faults["times"]):
            reply.faults = {}
        elif "drop" in faults:
            self.status = 0
            raise Cut
        elif "status" in faults:
            status, details = int(number(faults["status"], 500)), []
            if "retry_after" in faults:
                details.append({"@type": RETRY, "retryDelay": faults["retry_after"] + "s"})
            if "quota" in faults:
                violation = {"quotaId": f"GenerateRequests{faults['quota']}-FreeTier"}
                details.append({"@type": QUOTA, "violations": [violation]})
            raise Refusal(status, f"scripted failure with status {status}", details)
        if reply.plan.delay:
            time.sleep(reply.plan.delay)

    def send_whole(self, reply):
        self.usage, data = reply.usage, json.dumps(reply.whole(), ensure_ascii=False).encode()
        if "cut_after" in reply.faults:
            self.start(200, "application/json", len(data))
            self.wfile.write(data[: len(data) // 2])
            raise Cut
        self.log(True)
        self.start(200, "application/json", len(data))
        self.wfile.write(data)

    def send_stream(self, reply, as_events):
        self.start(200, "text/event-stream" if as_events else "application/json")
        chunks, faults = list(reply.chunks()), reply.faults
        for sent, chunk in enumerate(chunks):
            if "cut_after" in faults and sent >= number(faults["cut_after"]):
                raise Cut
            if "error_after" in faults and sent >= number(faults["error_after"]):
                chunk = Refusal(503, "scripted failure in the stream").body
            last = sent + 1 == len(chunks)
            if last and "no_finish" not in faults:
                self.usage = reply.usage
                self.log(True)
            text = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
            if as_events:
                self.piece(f"data: {text}\r\n\r\n")
            else:
                self.piece(("[" if sent == 0 else ",\r\n") + text + ("]" if last else ""))
            if "error" in chunk:
                raise Cut
            if reply.plan.delay:
                time.sleep(reply.plan.delay)
        self.log(False)
        self.wfile.write(b"0\r\n\r\n")

    def piece(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def start(self, status, content_type, length=None):
        self.send_response(status)
        self.send_header("content-type", content_type)
        if length is None:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(length))
        self.end_headers()

    def send_json(self, status, value):
        data = json.dumps(value).encode()
        self.start(status, "application/json; charset=UTF-8", len(data))
        self.wfile.write(data)

    def log(self, finished):
        if self.logged:
            return
        self.logged = True
        self.server.log.write(
            {
                "call_id": self.headers.get("x-client-request-id"),
                "attempt_id": self.headers.get("holdfast-attempt"),
                "finished": finished,
                "usage": self.usage,
                "status": self.status,
                "path": self.path,
                "headers": {n: v for n, v in self.headers.items() if "key" not in n.lower()},
                "body": self.raw.decode("utf-8", "replace"),
            }
        )

    def log_message(self, *_):
        pass


class Google(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, options):
        super().__init__(("127.0.0.1", options.port), Handler)
        self.key, self.models = options.key, set(options.models.split(","))
        self.log, self.counted = RequestLog(options.log), {}

    def count(self, raw):
        key = hashlib.sha256(raw).hexdigest()
        self.counted[key] = self.counted.get(key, 0) + 1
        return self.counted[key]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--ready-file", type=pathlib.Path, required=True)
    options = parser.parse_args()
    server = Google(options)
    ready = {"base_url": f"http://127.0.0.1:{server.server_port}/v1beta"}
    part = options.ready_file.with_suffix(".part")
    part.write_text(json.dumps(ready))
    part.rename(options.ready_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
