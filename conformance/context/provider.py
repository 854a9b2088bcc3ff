"""A provider of chat completions, messages and responses that is as strict as the real ones: a call
of a tool without its result directly behind it, and a result without its call, are a 400.

Models whose name begins with `small` write summaries, a different one each time; `broken` ones
fail. All others answer a word. Everything that was asked is kept."""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "formats"))

import chat  # noqa: E402
import messages  # noqa: E402
import responses  # noqa: E402
from words import Call, Result, Said  # noqa: E402

PATHS = {"/chat/completions": chat, "/messages": messages, "/responses": responses}
# How long a summary takes, so that requests can meet at one.
SUMMARY_SECONDS = 0.2


def part_of_no_pair(turns):
    """What is wrong with a history of turns, as a strict provider sees it; None = nothing."""
    waiting = []
    for place, turn in enumerate(turns):
        results = [part.of for part in turn.parts if isinstance(part, Result)]
        if waiting and not results:
            return f"turn {place}: the calls {waiting} have no result"
        for of in results:
            if of not in waiting:
                return f"turn {place}: the result of {of} has no call"
            waiting.remove(of)
        if waiting and any(not isinstance(part, Result) for part in turn.parts):
            return f"turn {place}: something stands before the results of {waiting}"
        waiting += [part.id for part in turn.parts if isinstance(part, Call)]
    return f"at the end the calls {waiting} have no result" if waiting else None


class Provider:
    """Starts at once; `url` is its base URL."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked, self.orphans, self.summaries = {}, [], 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def bodies(self, model, having=""):
        """The raw bodies that `model` was sent, oldest first."""
        with self.lock:
            all_of_it = [body for body in self.asked.get(model, []) if having.encode() in body]
        return all_of_it

    def answer(self, model):
        if not model.startswith("small"):
            return Said(["Done."])
        time.sleep(SUMMARY_SECONDS)
        with self.lock:
            self.summaries += 1
            return Said([f"Summary number {self.summaries}."])

    def handler(provider):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """The suite judges by what was asked, not by lines."""

            def do_POST(self):  # noqa: N802
                raw = self.rfile.read(int(self.headers["content-length"]))
                body = json.loads(raw)
                format = next(f for end, f in PATHS.items() if self.path.endswith(end))
                model = body["model"]
                with provider.lock:
                    provider.asked.setdefault(model, []).append(raw)
                wrong = part_of_no_pair(format.read_request(body).turns)
                if wrong:
                    with provider.lock:
                        provider.orphans.append((model, wrong))
                    return self.refuse(format, 400, "request")
                if model.startswith("broken"):
                    return self.refuse(format, 500, "overload")
                said = provider.answer(model)
                if body.get("stream"):
                    return self.reply(200, "text/event-stream", format.stream(said))
                self.reply(200, "application/json", json.dumps(format.answer(said)))

            def refuse(self, format, status, kind):
                status, failure = format.error(status, kind)
                self.reply(status, "application/json", json.dumps(failure))

            def reply(self, status, kind, text):
                data = text.encode()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler
