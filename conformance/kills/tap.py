"""The demo's tool server, unchanged, with a tap on its pipes: what was asked of it, and what it answered.

    tap.py LOG

`tool-effects.log` says what was done. This says also what was only asked for: a read that was run
again, a write that was refused. One line per `tools/call` when it is read from the pipe
(`{"what":"called",…}`) and one before its answer is written (`{"what":"answered",…}`).
"""

import json
import os
import pathlib
import sys
import threading
import time

DEMO = pathlib.Path(__file__).resolve().parents[2] / "examples" / "demo"
sys.path.insert(0, str(DEMO))

import notes_server  # noqa: E402


class Log:
    """Whole lines, appended: several processes may write one file."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, **entry):
        entry = {"at": time.time(), "pid": os.getpid(), **entry}
        os.write(self.file, (json.dumps(entry) + "\n").encode())


class Source:
    """Standard input, read by the server as ever."""

    def __init__(self, inner, log, names):
        self.inner, self.log, self.names = inner, log, names

    def readline(self, limit=-1):
        line = self.inner.readline(limit)
        if b'"tools/call"' in line:
            self.note(line)
        return line

    def note(self, line):
        try:
            message = json.loads(line)
            params = message["params"]
            key = (params.get("_meta") or {}).get(notes_server.IDEMPOTENCY_KEY)
            self.names[message["id"]] = key
            self.log.write(what="called", key=key, tool=params["name"], arguments=params["arguments"])
        except (ValueError, KeyError, TypeError):
            self.log.write(what="odd", line=line[:200].decode(errors="replace"))


class Tapped(notes_server.Server):
    """The server, and a line for each answer before it is written."""

    def __init__(self, notebook, output, log, names):
        super().__init__(notebook, output)
        self.log, self.names, self.lock = log, names, threading.Lock()

    def result(self, request_id, result):
        with self.lock:
            key = self.names.pop(request_id, None)
        if key is not None:
            self.log.write(what="answered", key=key, failed=bool(result.get("isError")))
        super().result(request_id, result)


def main():
    log, names = Log(sys.argv[1]), {}
    effects = os.environ["HOLDFAST_DEMO_EFFECTS"]
    notebook = notes_server.Notebook(os.getcwd(), effects)
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr
    Tapped(notebook, output, log, names).serve(Source(sys.stdin.buffer, log, names))


if __name__ == "__main__":
    main()
