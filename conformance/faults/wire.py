"""What a client sends and sees: requests in each wire format, and answers read byte by byte.

Standard library only. Nothing here judges; it says what is in an answer. An SDK hides what a broken
stream looks like, so these checks read it themselves.
"""

import dataclasses
import http.client
import json
import time
import urllib.parse

# A client that waits for longer has found a hang.
CLIENT_SECONDS = 300
PROMPT = "Say the sixty words."
WORDS = [f"w{number:02}" for number in range(1, 61)]
CAP = 100


def request_body(api, model, stream):
    """A request for the sixty words. The model of Gemini's is in its path."""
    if api == "gemini":
        return {
            "contents": [{"role": "user", "parts": [{"text": PROMPT}]}],
            "generationConfig": {"maxOutputTokens": CAP},
        }
    if api == "responses":
        # Spaced and ordered as it stands, with a field that nobody knows.
        asked = {"store": False, "fault": {"a": 1e2}, "model": model, "max_output_tokens": CAP}
        asked["input"] = [{"role": "user", "content": PROMPT}]
        return asked | ({"stream": True} if stream else {})
    body = {"model": model, "max_tokens": CAP, "messages": [{"role": "user", "content": PROMPT}]}
    if stream:
        body["stream"] = True
        if api == "chat":
            body["stream_options"] = {"include_usage": True}
    return body


def path_of(api, model, stream):
    """Where it goes, below the base URL of the format."""
    if api == "gemini":
        name = urllib.parse.quote(model, safe="")
        return f"/models/{name}:" + (
            "streamGenerateContent?alt=sse" if stream else "generateContent"
        )
    paths = {"chat": "/chat/completions", "messages": "/messages", "responses": "/responses"}
    return paths[api]


@dataclasses.dataclass
class Answer:
    """What came back, and when (seconds since the request)."""

    api: str
    stream: bool
    status: int = 0
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""
    # Whether HTTP says that this was all.
    ended: bool = False
    head_at: float | None = None
    alive_at: float | None = None
    word_at: float | None = None
    over_at: float | None = None

    @property
    def is_events(self):
        return "event-stream" in self.headers.get("content-type", "")

    def events(self):
        """The data of each event, in order; comments are left out."""
        found = []
        for piece in self.body.split(b"\n\n"):
            lines = [line for line in piece.split(b"\n") if line.startswith(b"data:")]
            if lines:
                found.append(b"\n".join(line[5:].strip() for line in lines).decode())
        return found

    def objects(self):
        """The JSON in it: events of a stream, or the one body; what is no JSON is `None`."""
        texts = self.events() if self.is_events else [self.body.decode(errors="replace")]
        return [parsed(text) for text in texts if text != "[DONE]"]

    def comments(self):
        lines = self.body.split(b"\n")
        return [line[1:].strip().decode() for line in lines if line.startswith(b":")]

    def pairs(self):
        """What is told only at the end of a stream, or in the head of a whole answer."""
        told = {name: value for name, value in self.headers.items() if name.startswith("holdfast-")}
        for comment in self.comments():
            told |= dict(pair.split("=", 1) for pair in comment.split("; ") if "=" in pair)
        return told

    @property
    def text(self):
        return "".join(READ[self.api](item)["text"] for item in self.objects() if item)

    @property
    def words(self):
        return self.text.split()

    def last(self, field):
        """The last value of a field that is there."""
        values = [READ[self.api](item)[field] for item in self.objects() if item]
        return next((value for value in reversed(values) if value is not None), None)

    @property
    def finish(self):
        return self.last("finish")

    @property
    def usage(self):
        """(input tokens, output tokens)"""
        found = {"input": None, "output": None}
        for item in filter(None, self.objects()):
            read = READ[self.api](item)
            found = {name: read[name] if read[name] is not None else found[name] for name in found}
        return found["input"], found["output"]

    @property
    def error(self):
        """The error object, if there is one."""
        objects = [item.get("response") or item for item in self.objects() if item]
        return next((item["error"] for item in objects if item.get("error")), None)

    @property
    def error_code(self):
        """What a program would branch on."""
        error = self.error or {}
        details = error.get("details")
        if isinstance(details, dict) and "error_code" in details:
            return details["error_code"]
        if self.api == "gemini":
            reasons = [detail["reason"] for detail in details or [] if "reason" in detail]
            return reasons[0].lower() if reasons else error.get("status")
        return error.get("code") or error.get("type")

    @property
    def terminal(self):
        """Whether the stream says that it is whole."""
        if self.api == "chat":
            return self.events()[-1:] == ["[DONE]"]
        if self.api == "messages":
            return any(item and item.get("type") == "message_stop" for item in self.objects())
        return self.finish is not None

    @property
    def unreadable(self):
        """Events that no client could parse."""
        return sum(item is None for item in self.objects())


def parsed(text):
    try:
        value = json.loads(text)
        return value if isinstance(value, dict) else None
    except ValueError:
        return None


def read_chat(item):
    choice = (item.get("choices") or [{}])[0]
    message = choice.get("delta") or choice.get("message") or {}
    usage = item.get("usage") or {}
    return {
        "text": message.get("content") or "",
        "finish": choice.get("finish_reason"),
        "input": usage.get("prompt_tokens"),
        "output": usage.get("completion_tokens"),
        "model": item.get("model"),
    }


def read_messages(item):
    message = item.get("message") or item
    delta = item.get("delta") or {}
    usage = message.get("usage") or item.get("usage") or {}
    blocks = message.get("content") or []
    text = delta.get("text") or "".join(block.get("text", "") for block in blocks)
    return {
        "text": text,
        "finish": delta.get("stop_reason") or message.get("stop_reason"),
        "input": usage.get("input_tokens"),
        "output": usage.get("output_tokens"),
        "model": message.get("model"),
    }


def read_gemini(item):
    candidate = (item.get("candidates") or [{}])[0]
    parts = (candidate.get("content") or {}).get("parts") or []
    usage, feedback = item.get("usageMetadata") or {}, item.get("promptFeedback") or {}
    return {
        "text": "".join(part.get("text", "") for part in parts),
        "finish": candidate.get("finishReason") or feedback.get("blockReason"),
        "input": usage.get("promptTokenCount"),
        "output": usage.get("candidatesTokenCount"),
        "model": item.get("modelVersion"),
    }


def read_responses(item):
    kind, response = item.get("type"), item.get("response") or item
    usage, status = response.get("usage") or {}, response.get("status")
    text = item["delta"] if kind == "response.output_text.delta" else ""
    if kind is None:
        contents = [part for out in response.get("output") or [] for part in out["content"]]
        text = "".join(part["text"] for part in contents)
    return {
        "text": text,
        "finish": status if status in ("completed", "incomplete") else None,
        "input": usage.get("input_tokens"),
        "output": usage.get("output_tokens"),
        "model": response.get("model"),
    }


READ = {
    "chat": read_chat,
    "messages": read_messages,
    "gemini": read_gemini,
    "responses": read_responses,
}


def ask(base_url, api, model, stream, headers):
    """One request, read to whatever end it comes to."""
    answer = Answer(api, stream)
    url = urllib.parse.urlsplit(base_url + path_of(api, model, stream))
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=CLIENT_SECONDS)
    path = url.path + (f"?{url.query}" if url.query else "")
    began = time.monotonic()
    body = json.dumps(request_body(api, model, stream))
    try:
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        answer.head_at = time.monotonic() - began
        answer.status = response.status
        answer.headers = {name.lower(): value for name, value in response.getheaders()}
        while piece := response.read1(65536):
            if answer.alive_at is None and answer.body:
                answer.alive_at = time.monotonic() - began
            if answer.word_at is None and b"w01" in piece:
                answer.word_at = time.monotonic() - began
            answer.body += piece
        answer.ended = True
    except (http.client.HTTPException, OSError):
        pass  # it broke off: what came is in the answer
    finally:
        answer.over_at = time.monotonic() - began
        connection.close()
    return answer
