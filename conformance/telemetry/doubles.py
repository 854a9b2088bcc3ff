"""What both suites of telemetry need around the server: a provider whose delays are in the model's
name, a receiver that remembers what it was posted, and a list of checks. Standard library only."""

import json
import re
import threading
import time

from http_double import HttpDouble

# p/d300-200: the first content after 300 ms, the end 200 ms later. p/e500: an error.
DELAYS = re.compile(r"^d(\d+)-(\d+)$")
FAILS = re.compile(r"^e(\d+)$")
# In every answer, and in no request: neither may be in what is exported.
ANSWER = "an-answer-that-nobody-exports"


class Provider(HttpDouble):
    """Speaks chat completions, as late as the model's name says."""

    def __init__(self):
        self.asked = []
        super().__init__()

    def post(self, request):
        body = request.json()
        with self.lock:
            self.asked.append((dict(request.headers.items()), body))
        failing = FAILS.match(body["model"])
        if failing:
            error = {"error": {"message": "as told"}}
            return request.reply(int(failing[1]), "application/json", error)
        first, rest = (int(part) / 1000 for part in DELAYS.match(body["model"]).groups())
        time.sleep(first)
        if not body.get("stream"):
            time.sleep(rest)
            return request.reply(200, "application/json", whole(body["model"]))
        request.send_response(200)
        request.send_header("content-type", "text/event-stream")
        request.send_header("connection", "close")
        request.end_headers()
        chunks = streamed(body["model"])
        event(request, chunks[0])
        time.sleep(rest)
        for chunk in chunks[1:]:
            event(request, chunk)
        request.wfile.write(b"data: [DONE]\n\n")
        request.close_connection = True


def event(request, chunk):
    request.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    request.wfile.flush()


USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def head(kind, model):
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": f"{model}-version-7"}


def whole(model):
    message = {"role": "assistant", "content": ANSWER}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return head("chat.completion", model) | {"choices": [choice], "usage": USAGE}


def streamed(model):
    def chunk(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return head("chat.completion.chunk", model) | {"choices": [choice]}

    said = chunk({"role": "assistant", "content": ANSWER})
    last = head("chat.completion.chunk", model) | {"choices": [], "usage": USAGE}
    return [said, chunk({}, "stop"), last]


class Receiver(HttpDouble):
    """Remembers each post, with its path, headers and body; `plan` says what is answered."""

    def __init__(self):
        self.posts, self.plans = [], {}
        self.hang = threading.Event()
        super().__init__()

    def plan(self, path, *statuses):
        """The next posts to `path` get these statuses, or no answer at all for `None`."""
        with self.lock:
            self.plans[path] = list(statuses)

    def to(self, path):
        with self.lock:
            return [post for post in self.posts if post["path"] == path]

    def post(self, request):
        headers, path = request.lower_headers(), request.path
        post = {"path": path, "headers": headers, "body": request.body, "at": time.time()}
        with self.lock:
            self.posts.append(post)
            plan = self.plans.get(path) or [200]
            status = plan.pop(0) if len(plan) > 1 else plan[0]
        if status is None:
            self.hang.wait(60)
            request.close_connection = True
            return
        request.reply(status, "text/plain", b"")

    def close(self):
        self.hang.set()
        super().close()


def ask(server, key, model, headers=None, stream=False, text="a prompt"):
    """One chat completion: (status, headers, bytes)."""
    body = {"model": f"p/{model}", "messages": [{"role": "user", "content": text}]}
    if stream:
        body["stream"] = True
    return server.http("POST", "/v1/chat/completions", body, key, headers)
