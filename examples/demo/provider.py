#!/usr/bin/env python3
"""A provider of models for the Holdfast demo: its own process, and a real HTTP/1.1 server.

It behaves like OpenAI's `/v1/chat/completions`, `/v1/models` and, scripted, `/v1/embeddings`
(streams, keep-alive, error objects), asks for a key of its own, and keeps its own account of what
it did. It is plain standard-library Python on purpose: the demo and the kill suites hold Holdfast's
bill against this program's log, so the log may not be written by Holdfast's own code.

Where the answers come from
    --upstream URL   it relays: the body goes to URL/v1/chat/completions with the model's name
                     replaced, and the answer comes back piece by piece as it arrives
    --scripted       it answers by itself, computed from the request alone (provider_script.py), and
                     misbehaves when a message says so: suites need no model and no luck

The log (`--log`, default provider-requests.jsonl)
    One line per request: {"call_id", "attempt_id", "finished", "usage", "model", "body_sha256",
    "status", "stream"}, `call_id` from the header x-client-request-id, `attempt_id` from
    holdfast-attempt.
    "finished": true is flushed and fsynced before the last bytes of the answer leave (the closing
    `[DONE]`, or the end of a JSON body): who has a whole answer can rely on its line, after any
    kill. A request that was refused, or cut by either side, gets "finished": false, and `usage` is
    then what had been produced so far, or null.
"""

import argparse
import hashlib
import http.client
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Bodies that are longer are refused with 413: 32 MiB.
MAX_BODY_BYTES = 32 << 20
# An idle connection is kept this long, and an upstream may be silent this long.
IDLE_SECONDS = 120
UPSTREAM_SECONDS = 600
READ_BYTES = 64 << 10
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


class ClientGone(Exception):
    """The client closed its connection before the answer was whole."""


class Cut(Exception):
    """This answer is to break off here, without its end."""


class Refusal(Exception):
    """An answer with an OpenAI error object."""

    def __init__(
        self, status, message, kind="invalid_request_error", param=None, code=None, headers=()
    ):
        super().__init__(message)
        self.status, self.headers = status, list(headers)
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class RequestLog:
    """The provider's own account: one fsynced line per request."""

    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)
        self.lock = threading.Lock()

    def write(self, entry):
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        with self.lock:
            self.file.write(line)
            os.fsync(self.file.fileno())


class Exchange:
    """One chat request, from its body to its line in the log."""

    def __init__(self, handler, raw):
        self.handler = handler
        self.raw = raw
        self.body = None
        self.usage = None
        self.status = 200
        self.logged = False

    def log(self, finished):
        """Writes the line, once; the first to say how it ended is right."""
        if self.logged:
            return
        self.logged = True
        self.handler.server.log.write(self.entry(finished))

    def entry(self, finished):
        headers, body = self.handler.headers, self.body if isinstance(self.body, dict) else {}
        entry = {
            "call_id": headers.get("x-client-request-id"),
            "attempt_id": headers.get("holdfast-attempt"),
            "finished": finished,
            "usage": self.usage,
            "model": body.get("model"),
            "body_sha256": hashlib.sha256(self.raw).hexdigest(),
            "status": self.status,
            "stream": body.get("stream") is True,
        }
        if self.handler.server.options.log_bodies:
            entry["body"] = self.raw.decode("utf-8", "replace")
        return entry

    def start_stream(self, headers=()):
        self.handler.start(200, "text/event-stream; charset=utf-8", headers, chunked=True)

    def send_chunk(self, data):
        if data:
            self.handler.put(b"%x\r\n%s\r\n" % (len(data), data))

    def finish_stream(self, last):
        """Logs first: nobody may hold a whole answer that the log does not have."""
        self.log(finished=True)
        self.send_chunk(last)
        self.handler.put(b"0\r\n\r\n")

    def finish_json(self, data, headers=()):
        self.log(finished=True)
        self.handler.start(200, "application/json", headers, length=len(data))
        self.handler.put(data)

    def pause(self, seconds):
        """Waits, but not for a client that has gone: a closed connection ends the wait at once."""
        if self.handler.wait_for_close(seconds):
            raise ClientGone


class Relay:
    """Answers by asking another server that speaks the same format."""

    def __init__(self, options):
        url = urllib.parse.urlsplit(options.upstream)
        if url.scheme != "http" or not url.hostname:
            raise SystemExit("--upstream must be an http:// URL")
        self.host, self.port = url.hostname, url.port or 80
        prefix = url.path.rstrip("/")
        self.path = (prefix if prefix.endswith("/v1") else prefix + "/v1") + "/chat/completions"
        self.key, self.model = options.key, options.upstream_model

    def answer(self, exchange):
        body = dict(exchange.body, model=self.model)
        stream = body.get("stream") is True
        # Our own count needs the usage chunk, whether or not the client wants to see it.
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        if stream:
            body["stream_options"] = dict(body.get("stream_options") or {}, include_usage=True)
        connection = http.client.HTTPConnection(self.host, self.port, timeout=UPSTREAM_SECONDS)
        watch = Watch(exchange.handler, connection)
        try:
            self.ask(connection, body)
            watch.start()
            response = connection.getresponse()
            if response.status != 200:
                self.pass_error(exchange, response)
            elif stream:
                self.pass_stream(exchange, response, wants_usage)
            else:
                self.pass_json(exchange, response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if watch.client_gone:
                raise ClientGone from error
            if exchange.handler.started:
                raise Cut from error
            raise Refusal(
                502, "the model behind this provider is not there", "server_error"
            ) from error
        finally:
            watch.stop()
            connection.close()

    def ask(self, connection, body):
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        connection.request("POST", self.path, json.dumps(body).encode(), headers)

    def pass_error(self, exchange, response):
        data = response.read(MAX_BODY_BYTES)
        exchange.status = response.status
        exchange.log(finished=False)
        exchange.handler.start(response.status, "application/json", (), length=len(data))
        exchange.handler.put(data)

    def pass_json(self, exchange, response):
        answer = json.loads(response.read())
        exchange.usage = answer.get("usage")
        answer["model"] = exchange.body["model"]
        exchange.finish_json(json.dumps(answer, ensure_ascii=False).encode())

    def pass_stream(self, exchange, response, wants_usage):
        exchange.start_stream()
        pending = b""
        while True:
            data = response.read1(READ_BYTES)
            if not data:
                break
            pending += data
            if len(pending) > MAX_BODY_BYTES:
                raise Cut
            *events, pending = pending.split(b"\n\n")
            passed = b""
            for event in events:
                if event.strip() == b"data: [DONE]":
                    exchange.send_chunk(passed)
                    return exchange.finish_stream(b"data: [DONE]\n\n")
                passed += self.pass_event(exchange, event, wants_usage)
            exchange.send_chunk(passed)
        raise Cut  # it ended without saying so

    def pass_event(self, exchange, event, wants_usage):
        if not event.startswith(b"data:"):
            return b""  # a comment of the server behind us is not ours to say
        try:
            chunk = json.loads(event[5:])
        except ValueError:
            return event + b"\n\n"
        if isinstance(chunk, dict) and "model" in chunk:
            chunk["model"] = exchange.body["model"]
        if isinstance(chunk, dict) and chunk.get("usage"):
            exchange.usage = chunk["usage"]
            if not wants_usage and not chunk.get("choices"):
                return b""
        if isinstance(chunk, dict) and not wants_usage:
            chunk.pop("usage", None)
        return (
            b"data: "
            + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode()
            + b"\n\n"
        )


class Watch:
    """Closes the connection to the server behind us when our client has gone."""

    def __init__(self, handler, connection):
        self.handler, self.connection = handler, connection
        self.client_gone = False
        self.ours, self.theirs = socket.socketpair()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()

    def run(self):
        if not self.handler.wait_for_close(UPSTREAM_SECONDS, until=self.theirs):
            return
        self.client_gone = True
        upstream = self.connection.sock
        try:
            if upstream is not None:
                upstream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def stop(self):
        self.ours.close()
        if self.thread.is_alive():
            self.thread.join()
        self.theirs.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "demo-provider", ""
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS
    # What a request becomes, for providers of other formats that are made from this one.
    exchange = Exchange

    def do_GET(self):
        self.started = False
        try:
            self.check_key()
            path = urllib.parse.urlsplit(self.path).path
            models = [
                {"id": name, "object": "model", "created": 1700000000, "owned_by": "demo"}
                for name in self.server.options.models
            ]
            if path == "/v1/models":
                return self.send_json(200, {"object": "list", "data": models})
            for model in models:
                if path == "/v1/models/" + model["id"]:
                    return self.send_json(200, model)
            raise Refusal(404, f"there is no {path} here", code="not_found")
        except Refusal as refusal:
            return self.refuse(refusal)
        except OSError:
            self.close_connection = True

    def do_POST(self):
        self.started = False
        exchange = None
        try:
            raw = self.read_body()
            path = urllib.parse.urlsplit(self.path).path
            answer = self.server.answers.get(path)
            if answer is None:
                raise Refusal(404, f"there is nothing at {path} to post to", code="not_found")
            exchange = self.exchange(self, raw)
            self.check_key()
            exchange.body = self.parse(raw, path)
            answer(exchange)
        except Refusal as refusal:
            if exchange is not None:
                exchange.status = refusal.status
                exchange.log(finished=False)
            self.refuse(refusal)
        except (ClientGone, Cut, OSError):
            if exchange is not None:
                exchange.log(finished=False)
            self.cut()

    def parse(self, raw, path):
        return parsed_body(raw, self.server.options.models, chat=path != EMBEDDINGS)

    def read_body(self):
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return self.read_chunked()
        length = self.headers.get("content-length", "")
        if not length.isdigit():
            raise Refusal(411, "content-length is missing")
        if int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            raise Refusal(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        raw = self.rfile.read(int(length))
        if len(raw) < int(length):
            raise ClientGone
        return raw

    def read_chunked(self):
        raw = b""
        while True:
            size_line = self.rfile.readline(1024).split(b";")[0].strip()
            try:
                size = int(size_line, 16)
            except ValueError as error:
                raise ClientGone from error
            if len(raw) + size > MAX_BODY_BYTES:
                self.close_connection = True
                raise Refusal(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
            if size == 0:
                while self.rfile.readline(READ_BYTES) not in (b"\r\n", b"\n", b""):
                    pass
                return raw
            raw += self.rfile.read(size)
            self.rfile.readline(8)

    def check_key(self):
        if self.headers.get("authorization") != f"Bearer {self.server.options.own_key}":
            raise Refusal(401, "incorrect API key provided", code="invalid_api_key")

    def start(self, status, content_type, headers=(), length=None, chunked=False):
        self.started = True
        self.send_response(status)
        self.send_header("content-type", content_type)
        call_id = self.headers.get("x-client-request-id")
        self.send_header("x-request-id", f"req_{call_id}" if call_id else "req_demo")
        if chunked:
            self.send_header("transfer-encoding", "chunked")
            self.send_header("cache-control", "no-cache")
        else:
            self.send_header("content-length", str(length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def put(self, data):
        self.wfile.write(data)

    def send_json(self, status, value, headers=()):
        data = json.dumps(value, ensure_ascii=False).encode()
        self.start(status, "application/json", headers, length=len(data))
        self.put(data)

    def refuse(self, refusal):
        try:
            self.send_json(refusal.status, refusal.body, refusal.headers)
        except OSError:
            self.close_connection = True

    def cut(self):
        """Ends the connection without ending the answer: the other side must see it as broken."""
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def wait_for_close(self, seconds, until=None):
        """Waits that long, or until `until` is closed; true once the client has closed its side."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        if until is not None:
            poll.register(until, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            if not ready or (until is not None and until.fileno() in ready):
                return False
            try:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    return True
            except OSError:
                return True
            # The next request is there already, so the client lives: from now on only wait.
            poll.unregister(self.connection)
        return False

    def log_message(self, *_):
        pass  # the log that counts is the RequestLog


def parsed_body(raw, models, chat):
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "we could not parse the JSON body of your request") from error
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object")
    messages = body.get("messages")
    if chat and (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(m, dict) for m in messages)
    ):
        raise Refusal(
            400, "messages must be a list of messages that is not empty", param="messages"
        )
    if body.get("model") not in models:
        message = f"the model `{body.get('model')}` does not exist"
        raise Refusal(404, message, param="model", code="model_not_found")
    return body


class Provider(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, options, answers, handler=Handler):
        self.options = options
        self.log = RequestLog(options.log)
        # What answers a request, by its path.
        self.answers = answers
        super().__init__((options.host, options.port), handler)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away is no news
            super().handle_error(request, client_address)


def options():
    parser = argparse.ArgumentParser(description="An OpenAI-like provider for demos and suites.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--ready-file", help="where the ready line is written too")
    parser.add_argument("--log", default="provider-requests.jsonl")
    parser.add_argument(
        "--log-bodies", action="store_true", help="put each body as received in its line"
    )
    parser.add_argument(
        "--own-key",
        default=os.environ.get("HOLDFAST_DEMO_PROVIDER_KEY", ""),
        help="what clients must present (or HOLDFAST_DEMO_PROVIDER_KEY)",
    )
    parser.add_argument("--models", default="demo", help="names served here, separated by commas")
    parser.add_argument("--scripted", action="store_true", help="answer without a model")
    parser.add_argument("--upstream", help="the server that is asked, without /v1/chat/completions")
    parser.add_argument(
        "--key",
        default=os.environ.get("HOLDFAST_DEMO_UPSTREAM_KEY", ""),
        help="key for the upstream (or HOLDFAST_DEMO_UPSTREAM_KEY)",
    )
    parser.add_argument(
        "--upstream-model", default="local/demo", help="model asked for at the upstream"
    )
    chosen = parser.parse_args()
    chosen.models = [name for name in chosen.models.split(",") if name]
    if chosen.scripted == bool(chosen.upstream):
        parser.error("give --upstream URL or --scripted, one of the two")
    if not chosen.own_key:
        parser.error("a provider has a key: --own-key or HOLDFAST_DEMO_PROVIDER_KEY")
    return chosen


def main():
    chosen = options()
    if chosen.scripted:
        # The scripts import this module, which runs as __main__: there must be only one of it.
        sys.modules.setdefault("provider", sys.modules[__name__])
        import provider_embeddings
        from provider_script import Script

        answers = {CHAT: Script().answer, EMBEDDINGS: provider_embeddings.answer}
    else:
        answers = {CHAT: Relay(chosen).answer}
    serve(Provider(chosen, answers))


def serve(server):
    """Says that it is ready, and serves until it is told to end."""
    chosen = server.options
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = server.server_address[1]
    url = f"http://{chosen.host}:{port}"
    ready = json.dumps({"url": url, "base_url": url + "/v1", "port": port, "pid": os.getpid()})
    if chosen.ready_file:
        with open(chosen.ready_file + ".partial", "w", encoding="utf-8") as out:
            out.write(ready + "\n")
        os.replace(chosen.ready_file + ".partial", chosen.ready_file)
    print(ready, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
