"""A provider of every format: says what it was told to say for a model's name, and remembers what
it was asked. A real HTTP server; the path says which format is spoken."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import chat
import gemini
import messages
import responses

# The end of a path below a provider's base URL, and the format that is spoken there.
PATHS = [
    (re.compile(r"/chat/completions$"), chat),
    (re.compile(r"/messages$"), messages),
    (re.compile(r"/responses$"), responses),
    (re.compile(r"/models/(?P<model>[^/:]+):(?P<method>\w+)"), gemini),
]


class Provider:
    """Starts at once; `url` is its base URL."""

    def __init__(self):
        self.lock = threading.Lock()
        self.plans, self.asked = {}, {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def plan(self, model, said, cut=False, fails=None):
        """What `model` answers with: `said`, cut before its end, or an error (status, kind)."""
        with self.lock:
            self.plans[model] = (said, cut, fails)

    def bodies(self, model):
        """What was asked of `model`, parsed, oldest first."""
        with self.lock:
            return list(self.asked.get(model, []))

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def handler(provider):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """The suite judges by what was asked, not by lines."""

            def do_POST(self):  # noqa: N802
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                path, _, _ = self.path.partition("?")
                format, match = next((f, m) for p, f in PATHS if (m := p.search(path)))
                model = match.groupdict().get("model") or body["model"]
                streams = body.get("stream") or "stream" in match.groupdict().get("method", "")
                with provider.lock:
                    provider.asked.setdefault(model, []).append(body)
                    said, cut, fails = provider.plans[model]
                if fails:
                    status, failure = format.error(*fails)
                    return self.reply(status, "application/json", json.dumps(failure))
                if not streams:
                    return self.reply(200, "application/json", json.dumps(format.answer(said)))
                text = format.stream(said)
                if cut:
                    text = text[: text.rindex("\n", 0, text.index(format.END_OF_STREAM)) + 1]
                self.reply(200, "text/event-stream", text)

            def reply(self, status, kind, text):
                data = text.encode()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler
