"""A provider of every format that plays a script: what it says depends on how far the talk is.

A script belongs to a model's name and is a list of answers; the answer to a request is the one at
the number of turns that the assistant already had in it, so that a retried request gets the same
answer again and a resumed conversation goes on. What an agent asks beside its conversation (a
title, a summary) carries no tools and gets `ASIDE`. It speaks the formats of `../formats`.
"""

import json
import pathlib
import re
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "formats"))

from provider import PATHS  # noqa: E402
from words import Said, dumps  # noqa: E402

ASIDE = Said(["aside"], input=7, cached=0, output=1)
# An id that a format gives to an answer or to a part of it.
ID = re.compile(r'("(?:id|item_id|responseId)":"(?:msg_|chatcmpl-|resp_|fc_|rs_|r))(\d+")')


@dataclass
class Fault:
    """An error instead of an answer (`kind`: limit, request or overload), or a cut of the stream.

    `times` is how often it happens before what the script says next is said.
    """

    kind: str = "overload"
    status: int = 529
    times: int = 10**6
    cut: bool = False


@dataclass
class Seen:
    """One request, and what became of it."""

    format: object
    model: str
    path: str
    headers: dict
    body: dict
    said: Said | Fault
    step: int

    @property
    def asked(self):
        return self.format.read_request(self.body)

    @property
    def streams(self):
        return bool(self.body.get("stream")) or ":stream" in self.path

    @property
    def aside(self):
        return self.said is ASIDE


class Provider:
    """Starts at once; `url` is its base URL."""

    def __init__(self):
        self.lock = threading.Lock()
        self.scripts, self.log, self.faults = {}, [], {}
        # The models of which only tokens were to be counted.
        self.counted = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def plan(self, model, *script):
        """What `model` says: an answer per turn, or a list of a `Fault` and the answer after it."""
        with self.lock:
            self.scripts[model] = list(script)

    def seen(self, model, asides=False):
        """What was asked of a model, oldest first; what was asked beside it only if wanted."""
        with self.lock:
            return [seen for seen in self.log if seen.model == model and (asides or not seen.aside)]

    def chosen(self, model, asked):
        """(what is said now, the step of the script): under the lock."""
        step = sum(1 for turn in asked.turns if turn.role == "assistant")
        if not asked.tools:
            return ASIDE, step
        script = self.scripts.get(model) or [Said(["nothing is planned"])]
        said = script[min(step, len(script) - 1)]
        if isinstance(said, list):
            fault, then = said
            met = self.faults.get((model, step), 0)
            self.faults[model, step] = met + 1
            said = fault if met < fault.times else then
        return said, step

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def told_apart(text, number):
    """An answer with ids that no other answer has: agents take equal ids for one answer."""
    return ID.sub(rf"\g<1>{number}\g<2>", text)


def handler(provider):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            """The suite judges by what was asked, not by lines."""

        def do_POST(self):  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            path, _, _ = self.path.partition("?")
            if path.endswith("/count_tokens"):
                provider.counted.append(body["model"])
                return self.reply(200, "application/json", '{"input_tokens":321}')
            format, match = next((f, m) for p, f in PATHS if (m := p.search(path)))
            model = match.groupdict().get("model") or body["model"]
            streams = body.get("stream") or "stream" in match.groupdict().get("method", "")
            with provider.lock:
                said, step = provider.chosen(model, format.read_request(body))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(format, model, self.path, headers, body, said, step)
                provider.log.append(seen)
                number = len(provider.log)
            if isinstance(said, Fault) and not said.cut:
                status, failure = format.error(said.status, said.kind)
                return self.reply(status, "application/json", dumps(failure))
            if isinstance(said, Fault):
                return self.cut(format)
            if not streams:
                text = told_apart(dumps(format.answer(said)), number)
                return self.reply(200, "application/json", text)
            self.reply(200, "text/event-stream", told_apart(format.stream(said), number))

        def cut(self, format):
            """Begins to answer, and goes away in the middle of a text."""
            text = format.stream(Said(["half an answer that never ends"]))
            text = text[: text.rindex("\n", 0, text.index("that never")) + 1]
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(text) + 100))
            self.end_headers()
            self.wfile.write(text.encode())
            self.close_connection = True

        def reply(self, status, kind, text):
            data = text.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
