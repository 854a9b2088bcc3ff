"""Starts and stops what a suite needs: the built server, the scripted provider, their folders.

Standard library only, so that every suite can use it, whatever clients it has installed. All that a
suite starts it starts through a `World`, which ends it again by process id, in the reverse order.
Nothing here asks the server how it is doing: suites judge from outside.
"""

import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ROOT / "examples" / "demo"
# How long a process may take to be ready, and to end after SIGTERM, before the suite gives up.
READY_SECONDS = 30
STOP_SECONDS = 15
# How long `eventually` waits for something that another process does on its own.
EVENTUALLY_SECONDS = 10


class SetupFailed(Exception):
    """What a suite needs is not there or did not start; the text says what to do."""


def holdfast_binary():
    path = pathlib.Path(os.environ.get("HOLDFAST_BIN", ROOT / "target" / "release" / "holdfast"))
    if not path.is_file():
        raise SetupFailed(f"{path} is not there: run `make build` first")
    return path


def eventually(what, check, seconds=EVENTUALLY_SECONDS):
    """Polls until `check()` is truthy and returns that; fails with `what` if it never is."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


class Process:
    """A child, its output in a file, stopped by its process id and nothing else."""

    def __init__(self, name, command, folder, env=None):
        self.name, self.output = name, folder / f"{name}.log"
        with open(self.output, "ab") as output:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                cwd=folder,
            )

    def wait_ready(self, ready_file):
        deadline = time.monotonic() + READY_SECONDS
        while not ready_file.exists():
            if self.child.poll() is not None:
                raise SetupFailed(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise SetupFailed(
                    f"{self.name} was not ready after {READY_SECONDS} s:\n{self.tail()}"
                )
            time.sleep(0.02)
        return json.loads(ready_file.read_text())

    def tail(self, lines=40):
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def stop(self):
        """Asks it to end, and makes it; returns whether it ended by itself."""
        if self.child.poll() is not None:
            return self.child.returncode == 0
        self.child.terminate()
        try:
            self.child.wait(STOP_SECONDS)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


class Provider(Process):
    """examples/demo/provider.py with scripted answers, and what it wrote about its requests.

    `program` names another provider that takes the same options.
    """

    def __init__(self, folder, models, name="provider", program=DEMO / "provider.py"):
        self.key = "pk-" + secrets.token_hex(12)
        self.log_path = folder / f"{name}-requests.jsonl"
        ready = folder / f"{name}.ready"
        command = [
            sys.executable,
            program,
            "--scripted",
            "--log-bodies",
            "--port",
            "0",
        ]
        command += ["--log", self.log_path, "--ready-file", ready, "--models", ",".join(models)]
        super().__init__(name, command, folder, {"HOLDFAST_DEMO_PROVIDER_KEY": self.key})
        self.base_url = self.wait_ready(ready)["base_url"]

    def requests(self, call_id=None, having=None):
        """The lines of its log, of one call or of those whose body has a text."""
        return requests_in(self.log_path, call_id, having)


def requests_in(path, call_id=None, having=None):
    """The lines of a provider's log, of one call or of those whose body has a text."""
    lines = json_lines(path)
    if call_id is not None:
        lines = [line for line in lines if line["call_id"] == call_id]
    if having is not None:
        lines = [line for line in lines if having in line["body"]]
    return lines


class Asked:
    """A server that runs somewhere, as any HTTP client sees it."""

    def __init__(self, url, admin_key):
        self.url, self.admin_key = url, admin_key

    def api(self, method, path, body=None, key=None):
        """Holdfast's own API, as any HTTP client sees it: (status, JSON)."""
        status, _, data = self.http(method, "/api/" + path, body, key or self.admin_key)
        return status, json.loads(data) if data else None

    def http(self, method, path, body=None, key=None, headers=None):
        """One plain request, for what an SDK would not send: (status, headers, bytes)."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, method=method, headers=headers or {}
        )
        request.add_header("content-type", "application/json")
        if key:
            request.add_header("authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def announce(self, path, key, headers):
        """Sends the head of a POST and none of its body: the status that comes back to that."""
        host, port = self.url.removeprefix("http://").split(":")
        lines = [f"POST {path} HTTP/1.1", f"host: {host}", f"authorization: Bearer {key}"]
        lines += [
            "content-type: application/json",
            *(f"{n}: {v}" for n, v in headers.items()),
            "",
            "",
        ]
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall("\r\n".join(lines).encode())
            return int(connection.makefile("rb").readline().split()[1])


class Server(Asked, Process):
    """`holdfast serve` on a free port with its own data folder."""

    def __init__(self, folder, config, env=None, name="holdfast", arguments=()):
        self.data = folder / "data"
        self.config = folder / "holdfast.toml"
        self.config.write_text(config)
        self.admin_key = "hf_" + secrets.token_hex(20)
        ready = folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        command = [holdfast_binary(), "serve", "--config", self.config, "--data", self.data]
        command += ["--listen", "127.0.0.1:0", "--ready-file", ready]
        command += arguments
        Process.__init__(
            self, name, command, folder, {"HOLDFAST_ADMIN_KEY": self.admin_key, **(env or {})}
        )
        self.ready = self.wait_ready(ready)
        self.url = self.ready["url"].rstrip("/")
        if self.ready.get("pid") != self.child.pid:
            raise SetupFailed(
                f"the ready file names process {self.ready.get('pid')}, not {self.child.pid}"
            )


class World:
    """A temporary folder and all that was started in it; leaving it stops that and removes it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-suite-"))
        self.started, self.doubles = [], []
        self.lock = threading.Lock()
        self.keep = bool(os.environ.get("HOLDFAST_KEEP"))

    def start(self, kind, *args, below=None, **options):
        """Starts a process in the folder, or in one `below` it where it needs its own."""
        folder = self.folder / below if below else self.folder
        folder.mkdir(exist_ok=True)
        process = kind(folder, *args, **options)
        with self.lock:
            self.started.append(process)
        return process

    def double(self, thing):
        """Keeps a double that runs in this process, to close it after all processes have ended."""
        with self.lock:
            self.doubles.append(thing)
        return thing

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            if process.child.poll() is None and not process.stop():
                print(f"conformance: {process.name} had to be killed", file=sys.stderr)
        for double in reversed(self.doubles):
            double.close()
        if self.keep:
            print(f"conformance: kept {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def processes_in(folder):
    """Ids and command lines of processes whose working folder is in `folder` (Linux; else none)."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if pathlib.Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                command = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                found.append((int(entry.name), command.strip()))
        except OSError:
            pass  # it ended meanwhile, or is not ours to look at
    return found


def json_lines(path):
    """The whole lines of a JSONL file that another process may be writing at this moment."""
    try:
        data = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].split(b"\n") if line]


def effects(path):
    """The tool server's own log: a list of effects."""
    return json_lines(path)
