"""A provider of every format, that counts as its vendor does.

For each model it was told which usage it says, and where: its words are JSON texts, so that it can
say what no honest provider would. It writes down what it sent, to whom it could send all of it, and
how its connections ended.
"""

import binascii
import json
import re
import struct
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from http_double import HttpDouble  # noqa: E402

TEXT = "Good day to you."
PATHS = [
    ("chat", re.compile(r"/chat/completions$")),
    ("responses", re.compile(r"/responses$")),
    ("messages", re.compile(r"/messages$")),
    ("gemini", re.compile(r"/models/(?P<model>[^/:]+):(?P<method>\w+)")),
    ("converse", re.compile(r"/model/(?P<model>[^/]+)/(?P<method>converse(-stream)?)$")),
    ("embeddings", re.compile(r"/embeddings$")),
]


class Plan:
    """What a model answers with.

    `usage` is a JSON text, `None` = none is said. In a stream, `steps` says at which events which
    usage stands, where it is not the format's own last place. `beside` are fields beside the usage,
    `fails` is a status, `cut` ends a stream before its end, `gate` is what the end waits for.
    """

    def __init__(self, usage=None, steps=None, beside="", fails=None, cut=False, gate=None, items=()):
        self.usage, self.steps, self.beside = usage, steps, beside
        self.fails, self.cut, self.gate, self.items = fails, cut, gate, list(items)


class Provider(HttpDouble):
    def __init__(self):
        self.plans, self.seen = {}, []
        super().__init__()

    def plan(self, model, *plans, **how):
        """What a model answers, the last plan again and again."""
        with self.lock:
            self.plans[model] = list(plans) or [Plan(**how)]

    def log(self, model):
        """What was asked of a model, oldest first: `body`, `wrote` (events), `whole`."""
        with self.lock:
            return [line for line in self.seen if line["model"] == model]

    def next_plan(self, model):
        plans = self.plans[model]
        return plans.pop(0) if len(plans) > 1 else plans[0]

    def post(self, request):
        body = request.json()
        path, _, _ = request.path.partition("?")
        kind, found = next((kind, m) for kind, p in PATHS if (m := p.search(path)))
        groups = found.groupdict()
        model = groups.get("model") or body["model"]
        streams = bool(body.get("stream")) or "stream" in (groups.get("method") or "")
        line = {"model": model, "body": body, "wrote": 0, "whole": False, "attempt": request.headers["holdfast-attempt"]}
        with self.lock:
            plan = self.next_plan(model)
            self.seen.append(line)
        if plan.fails:
            line["whole"] = True
            error = {"error": {"message": "the suite says so", "type": "overloaded_error"}, "type": "error"}
            return request.reply(plan.fails, "application/json", error)
        if not streams:
            request.reply(200, "application/json", WHOLE[kind](plan, model))
            line["whole"] = True
            return
        kind_of_body = "application/vnd.amazon.eventstream" if kind == "converse" else "text/event-stream"
        self.stream(request, line, plan, kind_of_body, STREAMS[kind](plan, model))

    def stream(self, request, line, plan, kind, events):
        events = list(events)
        if plan.cut:
            events = events[: max(1, len(events) // 2)]
        request.send_response(200)
        request.send_header("content-type", kind)
        request.send_header("transfer-encoding", "chunked")
        request.end_headers()
        try:
            for number, event in enumerate(events):
                if plan.gate is not None and number == len(events) // 2:
                    plan.gate.wait(30)
                data = event if isinstance(event, bytes) else event.encode()
                request.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                request.wfile.flush()
                line["wrote"] += 1
            if plan.cut:
                request.close_connection = True
                request.connection.close()
                return
            request.wfile.write(b"0\r\n\r\n")
            request.wfile.flush()
            line["whole"] = True
        except OSError:
            request.close_connection = True


def fields(*texts):
    return ",".join(text for text in texts if text)


def data(text):
    return f"data: {text}\n\n"


def named(name, text):
    return f"event: {name}\ndata: {text}\n\n"


def step(plan, place):
    """The usage that stands at a place of a stream, as a field; the last place has the usage itself."""
    if plan.steps is not None:
        said = plan.steps.get(place)
    else:
        said = plan.usage if place == "end" else None
    return said


def chat_whole(plan, model):
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    usage = plan.usage and f'"usage":{plan.usage}'
    head = f'"id":"c1","object":"chat.completion","created":1,"model":{json.dumps(model)}'
    return "{" + fields(head, f'"choices":[{json.dumps(choice)}]', usage, plan.beside) + "}"


def chat_stream(plan, model):
    """Places: `first`, `middle`, `stop` (with the finish reason), `choice` (in it), `groq`, `end`."""
    head = f'"id":"c1","object":"chat.completion.chunk","created":1,"model":{json.dumps(model)}'

    def chunk(place, delta, reason="null", more=""):
        said = step(plan, place)
        choice = fields(f'"index":0,"delta":{delta},"finish_reason":{reason}', more)
        return data("{" + fields(head, f'"choices":[{{{choice}}}]', said and f'"usage":{said}', plan.beside) + "}")

    yield chunk("first", '{"role":"assistant","content":""}')
    half = len(TEXT) // 2
    yield chunk("middle", json.dumps({"content": TEXT[:half]}))
    yield chunk("late", json.dumps({"content": TEXT[half:]}))
    in_choice = step(plan, "choice")
    yield chunk("stop", "{}", '"stop"', in_choice and f'"usage":{in_choice}')
    groq = step(plan, "groq")
    if groq:
        yield data("{" + fields(head, '"choices":[]', f'"x_groq":{{"id":"r1","usage":{groq}}}') + "}")
    for place in ("end", "again"):
        said = step(plan, place)
        if said:
            yield data("{" + fields(head, '"choices":[]', f'"usage":{said}', plan.beside) + "}")
    yield data("[DONE]")


def messages_whole(plan, model):
    head = f'"id":"msg_1","type":"message","role":"assistant","model":{json.dumps(model)}'
    content = json.dumps([{"type": "text", "text": TEXT}, *plan.items])
    usage = f'"usage":{plan.usage}' if plan.usage else ""
    return "{" + fields(head, f'"content":{content}', '"stop_reason":"end_turn","stop_sequence":null', usage) + "}"


def messages_stream(plan, model):
    """Places: `start`, `early` (a delta before the last), `end`. Without steps the usage is at both."""
    steps = plan.steps
    if steps is None:
        steps = {"start": plan.usage, "end": plan.usage} if plan.usage else {}
    head = f'"id":"msg_1","type":"message","role":"assistant","model":{json.dumps(model)},"content":[]'
    start = steps.get("start")
    inner = fields(head, '"stop_reason":null,"stop_sequence":null', start and f'"usage":{start}')
    yield named("message_start", f'{{"type":"message_start","message":{{{inner}}}}}')
    block = '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
    yield named("content_block_start", block)
    for piece in (TEXT[:8], TEXT[8:]):
        delta = {"type": "text_delta", "text": piece}
        yield named("content_block_delta", json.dumps({"type": "content_block_delta", "index": 0, "delta": delta}))
    yield named("content_block_stop", '{"type":"content_block_stop","index":0}')
    early = steps.get("early")
    if early:
        yield named("message_delta", f'{{"type":"message_delta","delta":{{}},"usage":{early}}}')
    end = steps.get("end")
    said = fields('"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null}', end and f'"usage":{end}')
    yield named("message_delta", f"{{{said}}}")
    yield named("message_stop", '{"type":"message_stop"}')


def response_object(plan, model, status="completed"):
    item = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant"}
    item["content"] = [{"type": "output_text", "text": TEXT, "annotations": []}]
    head = f'"id":"resp_1","object":"response","created_at":1,"status":"{status}","model":{json.dumps(model)}'
    output = f'"output":{json.dumps([*plan.items, item])}'
    return "{" + fields(head, output, plan.usage and f'"usage":{plan.usage}', plan.beside) + "}"


def responses_stream(plan, model):
    created = json.dumps({"id": "resp_1", "object": "response", "status": "in_progress", "model": model, "output": [], "usage": None})
    yield named("response.created", f'{{"type":"response.created","sequence_number":0,"response":{created}}}')
    item = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    added = {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item}
    yield named(added["type"], json.dumps(added))
    for number, piece in enumerate((TEXT[:8], TEXT[8:])):
        delta = {"type": "response.output_text.delta", "sequence_number": 2 + number, "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": piece}
        yield named(delta["type"], json.dumps(delta))
    done = {"type": "response.output_item.done", "sequence_number": 4, "output_index": 0}
    done["item"] = {**item, "status": "completed", "content": [{"type": "output_text", "text": TEXT, "annotations": []}]}
    yield named(done["type"], json.dumps(done))
    whole = response_object(plan, model)
    yield named("response.completed", f'{{"type":"response.completed","sequence_number":5,"response":{whole}}}')


def gemini_chunk(plan, model, text, said, reason):
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
        candidate |= dict(plan.items)
    usage = said and f'"usageMetadata":{said}'
    return "{" + fields(f'"candidates":[{json.dumps(candidate)}]', usage, f'"modelVersion":{json.dumps(model)},"responseId":"r1"') + "}"


def gemini_stream(plan, model):
    """Places: `first`, `middle`, `end`."""
    yield data(gemini_chunk(plan, model, TEXT[:4], step(plan, "first"), None))
    yield data(gemini_chunk(plan, model, TEXT[4:9], step(plan, "middle"), None))
    yield data(gemini_chunk(plan, model, TEXT[9:], step(plan, "end"), "STOP"))


def converse_whole(plan, model):
    message = json.dumps({"message": {"role": "assistant", "content": [{"text": TEXT}]}})
    usage = plan.usage and f'"usage":{plan.usage}'
    return "{" + fields(f'"output":{message}', '"stopReason":"end_turn","metrics":{"latencyMs":5}', usage, plan.beside) + "}"


def frame(kind, text):
    """One frame of Amazon's event stream."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event"))
    )
    body = text.encode()
    prelude = struct.pack(">II", len(head) + len(body) + 16, len(head))
    whole = prelude + struct.pack(">I", binascii.crc32(prelude)) + head + body
    return whole + struct.pack(">I", binascii.crc32(whole))


def converse_stream(plan, model):
    yield frame("messageStart", '{"role":"assistant"}')
    for piece in (TEXT[:8], TEXT[8:]):
        yield frame("contentBlockDelta", json.dumps({"contentBlockIndex": 0, "delta": {"text": piece}}))
    yield frame("contentBlockStop", '{"contentBlockIndex":0}')
    yield frame("messageStop", '{"stopReason":"end_turn"}')
    if plan.usage:
        yield frame("metadata", "{" + fields(f'"usage":{plan.usage}', '"metrics":{"latencyMs":5}', plan.beside) + "}")


def embeddings_whole(plan, model):
    vectors = '"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,0.25]}]'
    return "{" + fields(vectors, f'"model":{json.dumps(model)}', plan.usage and f'"usage":{plan.usage}') + "}"


WHOLE = {
    "chat": chat_whole,
    "messages": messages_whole,
    "responses": response_object,
    "gemini": lambda plan, model: gemini_chunk(plan, model, TEXT, plan.usage, "STOP"),
    "converse": converse_whole,
    "embeddings": embeddings_whole,
}
STREAMS = {
    "chat": chat_stream,
    "messages": messages_stream,
    "responses": responses_stream,
    "gemini": gemini_stream,
    "converse": converse_stream,
}
