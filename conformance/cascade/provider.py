"""A provider of chat completions and messages that answers as the request itself says.

A request carries its script between `@@` marks: JSON, by the model's name, of what that model
answers. So checks run beside each other, and a judge, which is told the request, finds its own part
in it. Everything that was asked is kept.
"""

import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "formats"))

import chat  # noqa: E402
import messages  # noqa: E402
from words import Call, Said  # noqa: E402

PATHS = {"/chat/completions": chat, "/messages": messages}
SCRIPT = re.compile("@@(.*?)@@", re.DOTALL)


def texts_in(value):
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)


def script_of(body):
    found = SCRIPT.search("\n".join(texts_in(body)))
    return json.loads(found.group(1)) if found else {}


def said_by(line):
    """What one line of a script makes a model say."""
    called = [Call("look", arguments, "call_1") for arguments in line.get("calls", [])]
    stop = line.get("stop", "tools" if called else "end")
    text = [line["text"]] if line.get("text") else []
    tokens = line.get("tokens", [100, 20])
    return Said(text + called, stop=stop, input=tokens[0], cached=0, output=tokens[1])


class Provider:
    """Starts at once; `url` is its base URL."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked, self.held = [], {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def of(self, mark):
        """(model, body) of each request that carries a mark, oldest first."""
        with self.lock:
            return [(body["model"], body) for text, body in self.asked if mark in text]

    def gate(self, name):
        """What opens an answer whose script says that it waits for this."""
        with self.lock:
            return self.held.setdefault(name, threading.Event())

    def handler(provider):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """The suite judges by what was asked, not by lines."""

            def do_POST(self):  # noqa: N802
                raw = self.rfile.read(int(self.headers["content-length"]))
                body = json.loads(raw)
                with provider.lock:
                    provider.asked.append((raw.decode(), body))
                format = next(f for end, f in PATHS.items() if self.path.endswith(end))
                line = script_of(body).get(body["model"], {"text": "Unscripted."})
                time.sleep(line.get("delay", 0))
                if "status" in line:
                    kind = "limit" if line["status"] == 429 else "overload"
                    status, failure = format.error(line["status"], kind)
                    return self.whole(status, failure)
                said = said_by(line)
                if not body.get("stream"):
                    return self.whole(200, self.adorned(line, body, format.answer(said)))
                text = format.stream(said)
                if "refusal" in line:
                    text = text.replace('"content":', '"refusal":')
                head, end = text.rsplit(format.END_OF_STREAM, 1)
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.chunk(head)
                if "gate" in line:
                    provider.gate(line["gate"]).wait(20)
                try:
                    self.chunk(format.END_OF_STREAM + end)
                    self.chunk("")
                except OSError:
                    self.close_connection = True  # a client that went is not told the rest

            def adorned(self, line, body, answer):
                """With what the formats' words have no place for: a refusal, probabilities."""
                if "refusal" in line:
                    answer["choices"][0]["message"] |= {"content": None, "refusal": line["refusal"]}
                if "logprobs" in line and body.get("logprobs"):
                    tokens = [{"token": "t", "logprob": value} for value in line["logprobs"]]
                    answer["choices"][0]["logprobs"] = {"content": tokens}
                return answer

            def chunk(self, text):
                data = text.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

            def whole(self, status, answer):
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler
