"""One server on one data folder, killed and started again; and those who watch it from outside."""

import json
import os
import random
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

import openai

import processes
import snapshot
from harness import DEMO, Process, Provider, SetupFailed, effects, holdfast_binary, json_lines

# A restarted server listens where the dead one did, so that SDKs find it: below the kernel's own range of ports.
PORTS = range(18000, 30000)
# After a kill its descendants may live so long; a guard notices the end of its server at once.
LAST_BREATH_SECONDS = 5
POLL_SECONDS = 0.01
# What a client waits for longer than this is a failure, not a slow machine.
CLIENT_SECONDS = 20
# What the suite's model costs, in picodollars a token: chosen so that sums have to be rounded.
INPUT_PRICE, OUTPUT_PRICE = 1_234_567, 2_345_678

CONFIG = """
[[providers]]
name = "mock"
vendor = "openai-compatible"
base_url = "{base_url}"
api_key = "${{MOCK_KEY}}"
models = [{{ id = "demo", input_usd_per_million = "1.234567", output_usd_per_million = "2.345678" }}]

[[keys]]
name = "agent"
secret = "${{AGENT_KEY}}"

[[keys]]
name = "plain"
secret = "${{PLAIN_KEY}}"

[[budgets]]
scope = {{ key = "agent" }}
limit_usd = "8.00"
window = "total"

[[budgets]]
scope = {{ key = "plain" }}
limit_usd = "5.00"
window = "total"

[[mcp_servers]]
name = "notes"
command = ["{python}", "{tap}", "{calls}"]
keys = ["agent"]

[mcp_servers.tools]
add_note = {{ effect = "write" }}
find_note = {{ effect = "read" }}
set_title = {{ effect = "idempotent" }}

[mcp_servers.env]
HOLDFAST_DEMO_EFFECTS = "{effects}"
HOLDFAST_DEMO_TOOL_DELAY_MS = "25"
HOLDFAST_DEMO_TOOL_DELAY_AFTER_MS = "25"
HOLDFAST_DEMO_READ_DELAY_MS = "15"
"""


class Node(Process):
    """`holdfast serve` on a given port and data folder."""

    def __init__(self, folder, number, port, env, wait=True):
        self.number = number
        ready = folder / f"holdfast-{number}.ready"
        command = [holdfast_binary(), "serve", "--config", folder / "holdfast.toml", "--data", folder / "data"]
        command += ["--listen", f"127.0.0.1:{port}", "--ready-file", ready]
        super().__init__(f"holdfast-{number}", command, folder, env)
        if wait:
            self.wait_ready(ready)


class Machine:
    """The data folder, who serves it now, and what others wrote down meanwhile."""

    def __init__(self, folder, seed):
        self.folder, self.node, self.number = folder, None, 0
        self.keys = {"agent": "hf_" + secrets.token_hex(16), "plain": "hf_" + secrets.token_hex(16)}
        self.admin_key = "hf_" + secrets.token_hex(16)
        self.effects_path, self.calls_path = folder / "tool-effects.log", folder / "tool-calls.jsonl"
        self.port = free_port(random.Random(seed ^ os.getpid()))
        self.provider = Provider(folder, models=["demo"])
        self.url = f"http://127.0.0.1:{self.port}"
        tap = DEMO.parents[1] / "conformance" / "kills" / "tap.py"
        paths = {"python": sys.executable, "tap": tap, "calls": self.calls_path, "effects": self.effects_path}
        (folder / "holdfast.toml").write_text(CONFIG.format(base_url=self.provider.base_url, **paths))
        self.provider_log = Tail(self.provider.log_path)
        self.clients = {}

    def client(self, secret):
        """The SDK as anyone makes it, with its default retries: one for each key, as its makers advise."""
        if secret not in self.clients:
            self.clients[secret] = openai.OpenAI(base_url=self.url + "/v1", api_key=secret, timeout=CLIENT_SECONDS)
        return self.clients[secret]

    def start(self, stop_at=None, wait=True):
        """Starts the server; with `stop_at` it stops itself there; without `wait` it is not yet ready."""
        env = {"MOCK_KEY": self.provider.key, "HOLDFAST_ADMIN_KEY": self.admin_key}
        env |= {f"{name.upper()}_KEY": key for name, key in self.keys.items()}
        env["HOLDFAST_STOP_AT"] = stop_at or ""
        if not stop_at:
            env.pop("HOLDFAST_STOP_AT")
        self.number += 1
        self.stopped_at = None
        self.node = Node(self.folder, self.number, self.port, env, wait)
        if stop_at:
            threading.Thread(target=self.watch_stop, args=(self.node,), daemon=True).start()

    def watch_stop(self, node):
        """Notes when the server stopped itself: from then on it does nothing, however late it is killed."""
        while node.child.returncode is None and node is self.node:
            if processes.is_stopped(node.child.pid):
                self.stopped_at = time.time()
                return
            time.sleep(POLL_SECONDS / 2)

    def wait_stopped(self, seconds, while_true=lambda: True):
        """Whether the server stopped itself within that time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and while_true():
            if self.stopped_at is not None:
                return True
            time.sleep(POLL_SECONDS / 2)
        return self.stopped_at is not None

    def kill_server(self, place, frozen_at=None):
        """SIGKILL, and what there is to know after it: a record for the judge."""
        pid = self.node.child.pid
        family = processes.descendants(pid)
        at = time.time() if frozen_at is None else frozen_at
        self.node.kill()
        dead_at = time.time()
        copy = snapshot.take(self.folder / "data", self.folder / "dead" / str(self.number))
        kill = {"what": "server", "place": place, "at": at, "dead_at": dead_at, "snapshot": copy, "number": self.number}
        kill["family"] = family
        kill["survivors"] = []
        return kill

    def bury(self, kill):
        """Waits for the descendants of a dead server; those that do not die are named."""
        deadline = time.monotonic() + LAST_BREATH_SECONDS
        while (left := processes.alive(kill["family"])) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        kill["survivors"] = [f"{p.name} (pid {p.pid}): {processes.command_line(p.pid)}" for p in left]
        for process in left:  # never leave them to the next suite
            kill_process(process)

    def find(self, what):
        """Processes of the running server: `tool` or `engine`, the child itself and not its guard."""
        wanted = {"tool": "tap.py", "engine": "holdfast-engine"}[what]
        family = processes.alive(processes.descendants(self.node.child.pid))
        lines = ((process, processes.command_line(process.pid)) for process in family)
        return [process for process, line in lines if wanted in line and " guard " not in line]

    def kill_child(self, what, place, child=None, by_guard=False):
        """SIGKILL for one tool server or engine, or for the guard over it; None if there is none."""
        found = [child] if child and processes.alive([child]) else self.find(what)
        if not found:
            return None
        victim = processes.read(found[0].parent) if by_guard else found[0]
        at = time.time()
        if victim:
            kill_process(victim)
        kill = {"what": what, "place": place, "at": at, "dead_at": time.time(), "pid": found[0].pid}
        return kill | {"number": self.number, "snapshot": None, "survivors": [], "family": []}

    def stop(self):
        """A clean end, and the file after it. Returns (ended by itself, snapshot, who is left)."""
        family = processes.descendants(self.node.child.pid)
        clean = self.node.stop()
        deadline = time.monotonic() + LAST_BREATH_SECONDS
        while (left := processes.alive(family)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        copy = snapshot.take(self.folder / "data", self.folder / "clean" / str(self.number))
        return clean, copy, [f"{p.name} (pid {p.pid})" for p in left]

    def api(self, method, path, body=None, timeout=10):
        """Holdfast's own API: JSON, or None if the server is not there or answers an error."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/{path}", data, method=method)
        request.add_header("content-type", "application/json")
        request.add_header("authorization", f"Bearer {self.admin_key}")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return json.loads(response.read())
        except (OSError, ValueError, urllib.error.HTTPError):
            return None

    def panics(self):
        """What servers wrote about panics."""
        found = []
        for path in sorted(self.folder.glob("holdfast-*.log")):
            lines = path.read_text(errors="replace").splitlines()
            at = [number for number, line in enumerate(lines) if " panicked at " in line]
            found += [f"{path.name}: {' '.join(lines[number : number + 2])}" for number in at]
        return found

    def effects(self):
        return effects(self.effects_path)

    def tool_calls(self):
        return json_lines(self.calls_path)

    def close(self):
        if self.node is not None:
            self.node.stop()
        self.provider_log.close()
        self.provider.stop()


class Tail:
    """Follows a log and says when each line was first seen."""

    def __init__(self, path):
        self.path, self.lines, self.offset, self.rest = path, [], 0, b""
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ended.wait(POLL_SECONDS * 2):
            self.look()

    def look(self):
        with self.lock:
            now = time.time()
            try:
                with open(self.path, "rb") as file:
                    file.seek(self.offset)
                    data = file.read()
            except FileNotFoundError:
                return
            self.offset += len(data)
            *whole, self.rest = (self.rest + data).split(b"\n")
            self.lines += [json.loads(line) | {"seen_at": now} for line in whole]

    def all(self):
        self.look()
        with self.lock:
            return list(self.lines)

    def close(self):
        self.ended.set()
        self.thread.join()


def kill_process(process):
    """SIGKILL for exactly that process."""
    found = processes.read(process.pid)
    if found and found.started == process.started:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def free_port(chance):
    for _ in range(200):
        port = chance.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SetupFailed("no free port was found")
