#!/usr/bin/env python3
"""A small notebook as an MCP server over stdio: the tool side of the Holdfast demo.

It is plain standard-library Python on purpose. The demo and the kill suites judge Holdfast by what
this program wrote down, so none of that may be written by Holdfast's own code.

Tools
    find_note {query}   reads: the notes that have the word
    add_note {text}     writes: one more note, so doing it twice is wrong
    set_title {title}   writes, idempotent: doing it twice is the same as once

What a kill can leave behind
    The effects log is the notebook: every change is one appended line, and the notes are the notes
    of the first start plus those lines in order. `notes.json` in the working folder is only a
    rendering of that, replaced by rename, and made anew from the log at each start. So effect and
    evidence are the same fsynced write: after `kill -9` at any instruction both are there or
    neither is. A last line without its newline was cut while being written; it never counted, and
    the next writer cuts it off.

The duplicate detector
    A caller names each piece of work in `_meta["dev.holdfast/idempotency-key"]` of `tools/call`. A
    key that is in the log already is refused (`isError`), also if another process wrote it a moment
    ago: looking and writing happen under one file lock. Only `set_title` with the same title again
    answers as if it were new, without a second line: that is what idempotent means.

Environment
    HOLDFAST_DEMO_EFFECTS               path of the effects log (default ./tool-effects.log)
    HOLDFAST_DEMO_STARTS                if set, a file that gets a line when a writing tool begins,
                                        before any delay: how a test knows that it is in the window
    HOLDFAST_DEMO_TOOL_DELAY_MS         pause of a writing tool before its effect
    HOLDFAST_DEMO_TOOL_DELAY_AFTER_MS   pause of a writing tool between its effect and its answer
    HOLDFAST_DEMO_READ_DELAY_MS         pause of a reading tool
"""

import datetime
import fcntl
import json
import os
import sys
import threading

IDEMPOTENCY_KEY = "dev.holdfast/idempotency-key"
# Newest first: the one we offer to a client that asks for a version we do not know.
PROTOCOL_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
SERVER_INFO = {"name": "holdfast-demo-notes", "title": "Demo notebook", "version": "1.0.0"}
# A longer line is refused and skipped without being collected: 1 MiB.
MAX_LINE_BYTES = 1 << 20
# Tool calls that may run at a time; one more is answered as an error at once.
MAX_RUNNING_CALLS = 16
MAX_TEXT_CHARS = 2000
MAX_KEY_CHARS = 256
MAX_FOUND = 5

FIRST_TITLE = "Notes"
FIRST_NOTES = (
    "The harbor gate opens at 6.",
    "The garden needs water on Friday.",
    "The printer is on floor 3.",
    "The library closes at 19.",
    "The bakery sells rye bread.",
)

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602


def one_string(name, about):
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": about}},
        "required": [name],
        "additionalProperties": False,
    }


TOOLS = [
    {
        "name": "find_note",
        "description": "Finds the notes about a word.",
        "inputSchema": one_string("query", "the word to look for"),
        "annotations": {"title": "Find a note", "readOnlyHint": True, "openWorldHint": False},
    },
    {
        "name": "add_note",
        "description": "Adds a note.",
        "inputSchema": one_string("text", "the text of the note"),
        "annotations": {
            "title": "Add a note",
            "readOnlyHint": False,
            "destructiveHint": False,
            "idempotentHint": False,
            "openWorldHint": False,
        },
    },
    {
        "name": "set_title",
        "description": "Sets the title of the notebook.",
        "inputSchema": one_string("title", "the new title"),
        "annotations": {
            "title": "Set the title",
            "readOnlyHint": False,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        },
    },
]
ARGUMENT = {"find_note": "query", "add_note": "text", "set_title": "title"}
READS = {"find_note"}


class Refused(Exception):
    """The tool will not do it; the text goes to the model as `isError`."""


class Notebook:
    """The notes of one folder, and the append-only log that they are read from."""

    def __init__(self, folder, log_path):
        self.folder = os.path.abspath(folder)
        self.log_path = os.path.abspath(log_path)
        os.makedirs(os.path.dirname(self.log_path), exist_ok=True)
        self.title = FIRST_TITLE
        self.notes = list(FIRST_NOTES)
        self.seen = {}  # idempotency key -> (tool, arguments), of every notebook in this log
        self.offset = 0  # how much of the log has been read, always the end of a whole line
        self.lock = threading.Lock()
        with self.lock, self._locked_log() as log:
            self._read_new_lines(log)
            self._render()

    def find(self, query):
        word = query.strip().casefold()
        with self.lock:
            found = [note for note in self.notes if word in note.casefold()]
        if not found:
            return f"There is no note about {query.strip()}."
        return "\n".join(found[-MAX_FOUND:])

    def write(self, tool, value, key):
        """Does one effect: appends its line, durably, or refuses."""
        arguments = {ARGUMENT[tool]: value}
        with self.lock, self._locked_log() as log:
            self._read_new_lines(log)
            if key is not None and key in self.seen:
                if tool == "set_title" and self.seen[key] == (tool, arguments):
                    return f"The title is now {value}."
                raise Refused(
                    f"idempotency key {key} has been used already: this call had its effect before, "
                    "and was not done again"
                )
            self._append(log, tool, arguments, key)
            self._read_new_lines(log)
            self._render()
            if tool == "set_title":
                return f"The title is now {value}."
            return f"Note {len(self.notes)} is saved: {value}"

    def _locked_log(self):
        is_new = not os.path.exists(self.log_path)
        log = open(self.log_path, "a+b", buffering=0)
        if is_new:
            sync_folder(os.path.dirname(self.log_path))
        # Released when the file is closed, by a kill too: no stale lock can be left.
        fcntl.flock(log, fcntl.LOCK_EX)
        return log

    def _append(self, log, tool, arguments, key):
        now = datetime.datetime.now(datetime.timezone.utc)
        entry = {
            "tool": tool,
            "idempotency_key": key,
            "arguments": arguments,
            "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "notebook": self.folder,
        }
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        log.truncate(self.offset)  # drops a line that a kill has cut short
        try:
            if log.write(line) != len(line):
                raise OSError("the effects log took only part of a line")
            os.fsync(log.fileno())
        except OSError:
            log.truncate(self.offset)
            raise

    def _read_new_lines(self, log):
        log.seek(self.offset)
        data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                self._apply(entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                print(f"notes: skipped a log line that is not ours: {line[:80]!r}", file=sys.stderr)

    def _apply(self, entry):
        tool, arguments = entry["tool"], entry["arguments"]
        value = arguments[ARGUMENT[tool]]
        if entry.get("idempotency_key") is not None:
            self.seen[entry["idempotency_key"]] = (tool, arguments)
        if entry.get("notebook", self.folder) != self.folder:
            return
        if tool == "add_note":
            self.notes.append(value)
        elif tool == "set_title":
            self.title = value

    def _render(self):
        path = os.path.join(self.folder, "notes.json")
        partial = f"{path}.{os.getpid()}.partial"
        with open(partial, "w", encoding="utf-8") as out:
            json.dump({"title": self.title, "notes": self.notes}, out, ensure_ascii=False, indent=2)
            out.write("\n")
        os.replace(partial, path)


class Server:
    """JSON-RPC over stdio: one reader, one thread per running tool call."""

    def __init__(self, notebook, output):
        self.notebook = notebook
        self.output = output
        self.output_lock = threading.Lock()
        self.running = {}  # request id -> Event that cancels it
        self.running_lock = threading.Lock()
        self.threads = []

    def serve(self, source):
        skipping = False
        while True:
            line = source.readline(MAX_LINE_BYTES)
            if not line:
                break
            whole = line.endswith(b"\n")
            if skipping or not whole:
                if not skipping and len(line) >= MAX_LINE_BYTES:
                    self.error(
                        None, INVALID_REQUEST, f"a line is longer than {MAX_LINE_BYTES} bytes"
                    )
                skipping = not whole
                continue
            if line.strip():
                self.receive(line)
        # Whoever asked is gone: nothing that has not begun its effect begins it now.
        with self.running_lock:
            for cancelled in self.running.values():
                cancelled.set()
        for thread in self.threads:
            thread.join(timeout=5)

    def receive(self, line):
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return self.error(None, PARSE_ERROR, "that line is not JSON")
        if not isinstance(message, dict):
            return self.error(None, INVALID_REQUEST, "expected one JSON-RPC object a line")
        method, request_id = message.get("method"), message.get("id")
        if not isinstance(method, str):
            if "result" in message or "error" in message:
                return None  # an answer; we never ask anything
            return self.error(request_id, INVALID_REQUEST, "method is missing")
        params = message.get("params")
        if params is None:
            params = {}
        if not isinstance(params, dict):
            if "id" in message:
                self.error(request_id, INVALID_PARAMS, "params must be an object")
            return None
        if "id" not in message:
            return self.notified(method, params)
        if isinstance(request_id, bool) or not isinstance(request_id, (str, int)):
            return self.error(None, INVALID_REQUEST, "id must be a string or an integer")
        return self.requested(request_id, method, params)

    def notified(self, method, params):
        if method == "notifications/cancelled":
            with self.running_lock:
                cancelled = self.running.get(as_id(params.get("requestId")))
            if cancelled is not None:
                cancelled.set()

    def requested(self, request_id, method, params):
        if method == "initialize":
            asked = params.get("protocolVersion")
            version = asked if asked in PROTOCOL_VERSIONS else PROTOCOL_VERSIONS[0]
            self.result(
                request_id,
                {
                    "protocolVersion": version,
                    "capabilities": {"tools": {"listChanged": False}},
                    "serverInfo": SERVER_INFO,
                },
            )
        elif method == "ping":
            self.result(request_id, {})
        elif method == "tools/list":
            self.result(request_id, {"tools": TOOLS})
        elif method == "tools/call":
            self.start_call(request_id, params)
        else:
            self.error(request_id, METHOD_NOT_FOUND, f"there is no method {method[:80]}")

    def start_call(self, request_id, params):
        tool = params.get("name")
        if not isinstance(tool, str) or tool not in ARGUMENT:
            names = ", ".join(ARGUMENT)
            return self.error(
                request_id, INVALID_PARAMS, f"there is no such tool; there are {names}"
            )
        cancelled = threading.Event()
        with self.running_lock:
            if as_id(request_id) in self.running:
                return self.error(request_id, INVALID_REQUEST, "a request with this id is running")
            if len(self.running) >= MAX_RUNNING_CALLS:
                return self.error(
                    request_id, INVALID_REQUEST, f"{MAX_RUNNING_CALLS} calls are running"
                )
            self.running[as_id(request_id)] = cancelled
        self.threads = [thread for thread in self.threads if thread.is_alive()]
        thread = threading.Thread(
            target=self.call, args=(request_id, tool, params, cancelled), daemon=True
        )
        self.threads.append(thread)
        thread.start()
        return None

    def call(self, request_id, tool, params, cancelled):
        try:
            text, failed = self.run(tool, params, cancelled), False
        except Refused as refusal:
            text, failed = str(refusal), True
        except OSError as error:
            text, failed = f"the notebook could not be written: {error.strerror or error}", True
        finally:
            with self.running_lock:
                self.running.pop(as_id(request_id), None)
        # A cancelled request gets no answer; what it did before that stays done, and logged.
        if not cancelled.is_set():
            self.result(
                request_id, {"content": [{"type": "text", "text": text}], "isError": failed}
            )

    def run(self, tool, params, cancelled):
        value = checked_argument(tool, params.get("arguments"))
        if tool in READS:
            cancelled.wait(delay("HOLDFAST_DEMO_READ_DELAY_MS"))
            return self.notebook.find(value)
        key = checked_key(params.get("_meta"))
        note_start(tool, key)
        if cancelled.wait(delay("HOLDFAST_DEMO_TOOL_DELAY_MS")):
            raise Refused("cancelled before its effect")
        text = self.notebook.write(tool, value, key)
        cancelled.wait(delay("HOLDFAST_DEMO_TOOL_DELAY_AFTER_MS"))
        return text

    def result(self, request_id, result):
        self.send({"jsonrpc": "2.0", "id": request_id, "result": result})

    def error(self, request_id, code, message):
        if isinstance(request_id, bool) or not isinstance(request_id, (str, int)):
            request_id = None
        self.send({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})

    def send(self, message):
        data = (json.dumps(message, ensure_ascii=True) + "\n").encode()
        with self.output_lock:
            try:
                self.output.write(data)
                self.output.flush()
            except (BrokenPipeError, ValueError):
                pass  # the client is gone; its end of file ends us too


def as_id(request_id):
    """A dictionary key for a JSON-RPC id: 1 and "1" are two ids, and lists are none."""
    return (type(request_id).__name__, str(request_id))


def sync_folder(path):
    """Makes the name of a new file as durable as what is written to it."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def checked_argument(tool, arguments):
    name = ARGUMENT[tool]
    if not isinstance(arguments, dict):
        raise Refused(f"{tool} needs the argument {name}")
    unknown = sorted(str(key) for key in arguments if key != name)
    if unknown:
        raise Refused(f"{tool} has no argument {unknown[0][:80]}; it takes {name}")
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Refused(f"{name} must be a text that is not empty")
    if len(value) > MAX_TEXT_CHARS:
        raise Refused(f"{name} is longer than {MAX_TEXT_CHARS} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{name} has half a surrogate pair in it") from error
    return value


def checked_key(meta):
    key = meta.get(IDEMPOTENCY_KEY) if isinstance(meta, dict) else None
    if key is not None and (
        not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS or not key.isascii()
    ):
        raise Refused(f"{IDEMPOTENCY_KEY} must be 1 to {MAX_KEY_CHARS} ASCII characters")
    return key


def note_start(tool, key):
    path = os.environ.get("HOLDFAST_DEMO_STARTS")
    if path:
        with open(path, "ab", buffering=0) as starts:
            starts.write((json.dumps({"tool": tool, "idempotency_key": key}) + "\n").encode())


def delay(variable):
    """Seconds to pause, from a variable in milliseconds; anything odd is no pause."""
    text = os.environ.get(variable, "")
    return int(text) / 1000 if text.isdigit() else 0


def main():
    notebook = Notebook(os.getcwd(), os.environ.get("HOLDFAST_DEMO_EFFECTS") or "tool-effects.log")
    # Our own handle on stdout: a stray print must not land in the protocol.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr
    Server(notebook, output).serve(sys.stdin.buffer)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
