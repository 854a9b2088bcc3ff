"""What both suites of telemetry need around the server: a provider whose delays are in the model's
name, a receiver that remembers what it was posted, and a list of checks. Standard library only."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# p/d300-200: the first content after 300 ms, the end 200 ms later. p/e500: an error.
DELAYS = re.compile(r"^d(\d+)-(\d+)$")
FAILS = re.compile(r"^e(\d+)$")
# In every answer, and in no request: neither may be in what is exported.
ANSWER = "an-answer-that-nobody-exports"


class HttpDouble:
    """A real HTTP server on a free port; `url` is its base URL."""

    def __init__(self):
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Provider(HttpDouble):
    """Speaks chat completions, as late as the model's name says."""

    def __init__(self):
        self.asked = []
        super().__init__()

    def handler(provider):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """What is asked is kept; lines are not."""

            def do_POST(self):  # noqa: N802
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with provider.lock:
                    provider.asked.append((dict(self.headers.items()), body))
                failing = FAILS.match(body["model"])
                if failing:
                    return self.say(int(failing[1]), {"error": {"message": "as told"}})
                first, rest = (int(part) / 1000 for part in DELAYS.match(body["model"]).groups())
                time.sleep(first)
                if not body.get("stream"):
                    time.sleep(rest)
                    return self.say(200, whole(body["model"]))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                chunks = streamed(body["model"])
                self.event(chunks[0])
                time.sleep(rest)
                for chunk in chunks[1:]:
                    self.event(chunk)
                self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def event(self, chunk):
                self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                self.wfile.flush()

            def say(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler


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

    def handler(receiver):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """Posts are kept; lines are not."""

            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                post = {"path": self.path, "headers": headers, "body": body, "at": time.time()}
                with receiver.lock:
                    receiver.posts.append(post)
                    plan = receiver.plans.get(self.path) or [200]
                    status = plan.pop(0) if len(plan) > 1 else plan[0]
                if status is None:
                    receiver.hang.wait(60)
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

        return Handler

    def close(self):
        self.hang.set()
        super().close()


class Checks:
    """Counts what holds and says what does not."""

    def __init__(self, names):
        self.names, self.passed, self.failed = names, 0, 0

    def __call__(self, name, holds, seen=""):
        if self.names and not any(part in name for part in self.names):
            return
        if holds:
            self.passed += 1
        else:
            self.failed += 1
        print(f"{'ok' if holds else 'FAILED'}  {name}" + ("" if holds else f"\n        {seen}"))

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def ask(server, key, model, headers=None, stream=False, text="a prompt"):
    """One chat completion: (status, headers, bytes)."""
    body = {"model": f"p/{model}", "messages": [{"role": "user", "content": text}]}
    if stream:
        body["stream"] = True
    return server.http("POST", "/v1/chat/completions", body, key, headers)
