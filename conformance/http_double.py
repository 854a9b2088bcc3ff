"""HTTP servers that suites run in their own process, as providers, collectors or receivers.

Real HTTP/1.1 servers on free ports, a thread per connection. What a double says is its suite's; here
is how it starts, reads, answers and ends. Standard library only.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HttpDouble:
    """Starts at once; `url` is its base URL. What it keeps is under `lock`."""

    def __init__(self):
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def post(self, request):
        """Answers a POST: `request` is its handler, with the raw body as `body`."""
        raise NotImplementedError

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Request(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    double = None

    def log_message(self, *_):
        """Suites judge by what was asked, not by lines."""

    def do_POST(self):  # noqa: N802
        self.body = self.rfile.read(int(self.headers["content-length"]))
        self.double.post(self)

    def json(self):
        return json.loads(self.body)

    def lower_headers(self):
        return {name.lower(): value for name, value in self.headers.items()}

    def reply(self, status, kind, data, headers=None, missing=0):
        """The answer: bytes, a text, or what is written as JSON; `missing` bytes more are announced."""
        if not isinstance(data, bytes | str):
            data = json.dumps(data)
        data = data if isinstance(data, bytes) else data.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data) + missing))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def handler_of(double):
    return type("Handler", (Request,), {"double": double})
