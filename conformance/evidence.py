"""The suite `evidence`: may the programs that the other suites judge by be believed?

It drives the demo's tool server and provider alone, kills them, and holds what they wrote down
against what they did. Standard library only.
"""

import http.client
import json
import random
import subprocess
import sys
import threading
import time
import traceback

from harness import DEMO, Process, Provider, World, effects, eventually

NOTES = DEMO / "notes_server.py"
KEY = "dev.holdfast/idempotency-key"
# Kills of the tool server in the random test, and the seed of when.
KILLS = 40
SEED = 20261121
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def equal(found, expected, what=""):
    assert found == expected, f"{what}: expected {expected!r}, got {found!r}"


class Notes:
    """The tool server as a child, spoken to line by line."""

    def __init__(self, folder, **env):
        folder.mkdir(exist_ok=True)
        self.folder, self.log, self.last_id = folder, folder / "tool-effects.log", 0
        self.child = subprocess.Popen(
            [sys.executable, NOTES],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", **env},
        )

    def send(self, method, params=None, notify=False):
        self.last_id += 0 if notify else 1
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        self.write(message if notify else message | {"id": self.last_id})
        return self.last_id

    def write(self, message):
        data = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        self.child.stdin.write(data)
        self.child.stdin.flush()

    def read(self):
        line = self.child.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, method, params=None):
        self.send(method, params)
        return self.read()

    def call(self, name, arguments, key=None):
        answer = self.ask("tools/call", call(name, arguments, key))
        return answer["result"]["isError"], answer["result"]["content"][0]["text"]

    def notes(self):
        return json.loads((self.folder / "notes.json").read_text())

    def close(self):
        for pipe in (self.child.stdin, self.child.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # it was killed with a line of ours unread

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise
        finally:
            self.close()


def call(name, arguments, key=None):
    meta = {"_meta": {KEY: key}} if key else {}
    return {"name": name, "arguments": arguments} | meta


def texts(log):
    return [entry["arguments"]["text"] for entry in effects(log) if entry["tool"] == "add_note"]


@test
def notes_protocol(folder):
    with Notes(folder) as notes:
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        equal(notes.ask("initialize", hello)["result"]["protocolVersion"], "2025-06-18")
        notes.send("notifications/initialized", notify=True)
        equal(
            notes.ask("initialize", {"protocolVersion": "1999"})["result"]["protocolVersion"],
            "2025-11-25",
        )
        equal(notes.ask("ping")["result"], {})
        tools = {
            tool["name"]: tool["annotations"] for tool in notes.ask("tools/list")["result"]["tools"]
        }
        equal(tools["find_note"]["readOnlyHint"], True)
        equal(
            (tools["add_note"]["idempotentHint"], tools["set_title"]["idempotentHint"]),
            (False, True),
        )
        equal(notes.call("find_note", {"query": "HARBOR"}), (False, "The harbor gate opens at 6."))
        equal(notes.ask("nothing")["error"]["code"], -32601)
        equal(notes.ask("tools/call", call("nothing", {}))["error"]["code"], -32602)
    equal(effects(folder / "tool-effects.log"), [], "reads are not logged")


@test
def notes_garbage(folder):
    garbage = [
        b"\n",
        b"garbage\n",
        b"\xff\xfe\x00\n",
        b"[1]\n",
        b"[" * 100_000 + b"\n",
        b"x" * 3_000_000 + b"\n",
        b"5\n",
    ]
    with Notes(folder) as notes:
        for line in garbage:
            notes.write(line)
        notes.write({"id": {}, "method": "ping"})
        notes.write({"id": 7, "method": "tools/call", "params": []})
        codes = [notes.read()["error"]["code"] for _ in range(len(garbage) - 1 + 2)]
        equal(set(codes), {-32700, -32600, -32602})
        equal(notes.ask("ping")["result"], {})
        for arguments in (
            {},
            {"text": 5},
            {"text": " "},
            {"text": "\ud800"},
            {"text": "x", "y": 1},
            {"text": "x" * 9999},
        ):
            equal(notes.call("add_note", arguments)[0], True, str(arguments)[:40])
    equal(effects(folder / "tool-effects.log"), [])


@test
def notes_refuse_a_key_twice(folder):
    with Notes(folder) as notes:
        equal(notes.call("add_note", {"text": "once"}, "k1")[0], False)
        failed, text = notes.call("add_note", {"text": "once"}, "k1")
        assert failed and "has been used already" in text, text
        equal(notes.call("set_title", {"title": "Trip"}, "k2"), (False, "The title is now Trip."))
        equal(
            notes.call("set_title", {"title": "Trip"}, "k2"),
            (False, "The title is now Trip."),
            "idempotent",
        )
        assert notes.call("set_title", {"title": "Else"}, "k2")[0], (
            "another title under the same key"
        )
    with Notes(folder) as notes:
        assert notes.call("add_note", {"text": "once"}, "k1")[0], "after a restart"
        equal(notes.notes()["title"], "Trip")
    equal([e["idempotency_key"] for e in effects(folder / "tool-effects.log")], ["k1", "k2"])


@test
def notes_refuse_a_key_in_two_processes(folder):
    """Two processes with the same key at the same time: one effect."""
    env = {"HOLDFAST_DEMO_TOOL_DELAY_MS": "150"}
    with Notes(folder, **env) as left, Notes(folder, **env) as right:
        for notes in (left, right):
            notes.send("tools/call", call("add_note", {"text": "both"}, "same"))
        refused = [notes.read()["result"]["isError"] for notes in (left, right)]
    equal(sorted(refused), [False, True])
    equal(texts(folder / "tool-effects.log"), ["both"])


@test
def notes_cancel(folder):
    with Notes(folder, HOLDFAST_DEMO_TOOL_DELAY_MS="5000") as notes:
        request = notes.send("tools/call", call("add_note", {"text": "never"}, "k"))
        notes.send("notifications/cancelled", {"requestId": request}, notify=True)
        answer = notes.ask("ping")
        equal((answer["id"], answer["result"]), (request + 1, {}), "only the ping is answered")
    equal(effects(folder / "tool-effects.log"), [])


@test
def notes_end_with_their_client(folder):
    """End of input before the effect: no effect, and no process left waiting for its delay."""
    began = time.monotonic()
    with Notes(folder, HOLDFAST_DEMO_TOOL_DELAY_MS="20000") as notes:
        notes.send("tools/call", call("add_note", {"text": "never"}, "k"))
    assert time.monotonic() - began < 9, "it waited for its delay"
    equal(effects(folder / "tool-effects.log"), [])


@test
def notes_torn_line(folder):
    """A line that a kill cut short never happened, and does not spoil the next."""
    with Notes(folder) as notes:
        notes.call("add_note", {"text": "whole"}, "k1")
    with open(folder / "tool-effects.log", "ab") as log:
        log.write(b'{"tool":"add_note","idempotency_key":"k2","arguments":{"text":"to')
    with Notes(folder) as notes:
        equal(notes.notes()["notes"][-1], "whole")
        equal(notes.call("add_note", {"text": "torn"}, "k2")[0], False, "its key is free")
    equal(texts(folder / "tool-effects.log"), ["whole", "torn"])


@test
def notes_killed_at_random(folder):
    """After `kill -9` at any moment the notes are the log, and what was answered is in it."""
    moments, answered = random.Random(SEED), []
    for number in range(KILLS):
        notes = Notes(folder)
        killer = threading.Timer(moments.uniform(0.03, 0.12), notes.child.kill)
        # Every other one is counted from the first answer: a busy machine starts nothing so soon.
        started = number % 2 == 0
        if started:
            killer.start()
        try:
            for index in range(200):
                text = f"note {number} {index}"
                answer = notes.ask(
                    "tools/call", call("add_note", {"text": text}, f"k{number}.{index}")
                )
                if answer is None:
                    break
                answered.append(text)
                if not started:
                    killer.start()
                    started = True
        except (BrokenPipeError, ValueError):
            pass  # killed between two lines, or inside one
        killer.join()
        notes.child.wait()
        notes.close()
    with Notes(folder) as notes:
        equal(notes.call("find_note", {"query": "no such word"})[0], False)
        rendered = notes.notes()["notes"]
    logged = texts(folder / "tool-effects.log")
    equal(rendered[-len(logged) :] if logged else [], logged, "the notes are the log")
    equal(sorted(set(answered) - set(logged)), [], "answered without a line")
    equal(len(logged), len(set(logged)), "no effect twice")
    assert answered, "every kill came before the first effect: the moments are wrong"


class Client:
    """One keep-alive connection to a provider."""

    def __init__(self, provider):
        self.provider = provider
        port = int(provider.base_url.split(":")[2].split("/")[0])
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def start(self, text, call_id="c", key=None, model="demo", **fields):
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        headers = {
            "authorization": f"Bearer {key or self.provider.key}",
            "x-client-request-id": call_id,
            "holdfast-attempt": f"att-{call_id}",
        }
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return self.connection.getresponse()

    def ask(self, text, call_id="c", **fields):
        response = self.start(text, call_id, **fields)
        return response.status, response.read()


def line_of(provider, call_id):
    found = provider.requests(call_id=call_id)
    return found[0] if len(found) == 1 else None


def check_provider(provider):
    """What any provider promises, scripted or relaying."""
    client = Client(provider)
    for number in range(30):  # one connection: keep-alive
        call_id = f"json{number}"
        status, data = client.ask("hello you", call_id)
        line = line_of(provider, call_id)
        assert line and line["finished"], "no line on disk when the answer had ended"
        equal((status, line["usage"]), (200, json.loads(data)["usage"]))
        equal(line["attempt_id"], f"att-{call_id}")
    for number in range(30):
        call_id = f"stream{number}"
        response = client.start("hello you", call_id, stream=True)
        seen = b""
        while b"[DONE]" not in seen:
            seen += response.read1(65536)
        line = line_of(provider, call_id)
        assert line and line["finished"], "no line on disk when [DONE] had come"
        response.read()
        assert b'"usage"' not in seen, "usage that nobody asked for"
        assert b'"model":"demo"' in seen, seen[:300]
        equal(line["usage"]["total_tokens"], 6)
    equal(client.ask("x", "badkey", key="wrong")[0], 401)
    equal(client.ask("x", "badmodel", model="nothing")[0], 404)
    equal([line_of(provider, name)["finished"] for name in ("badkey", "badmodel")], [False, False])
    client.connection.request(
        "GET", "/v1/models", headers={"authorization": f"Bearer {provider.key}"}
    )
    equal([m["id"] for m in json.loads(client.connection.getresponse().read())["data"]], ["demo"])


def check_cuts(provider):
    """Cut by the provider, or left by the client: logged as not finished, never as whole."""
    response = Client(provider).start("[[words:9]] [[fault:cut_after=3]]", "cut", stream=True)
    try:
        data = response.read()
        raise AssertionError(f"a cut stream ended like a whole one: {data[-200:]}")
    except http.client.IncompleteRead as cut:
        assert b"[DONE]" not in cut.partial
    equal(eventually("its line", lambda: line_of(provider, "cut"))["finished"], False)
    client = Client(provider)
    response = client.start("[[words:90]] [[delay_ms=50]]", "left", stream=True)
    response.read1(100)
    response.close()
    client.connection.close()
    equal(eventually("its line", lambda: line_of(provider, "left"))["finished"], False)


@test
def provider_scripted(folder):
    with Started(folder) as start:
        provider = start(Provider, models=["demo"])
        check_provider(provider)
        check_cuts(provider)


@test
def provider_relaying(folder):
    with Started(folder) as start:
        upstream = start(Provider, models=["inner"], name="upstream")
        provider = start(Relaying, upstream)
        check_provider(provider)
        check_cuts(provider)
        equal({line["model"] for line in upstream.requests()}, {"inner"})
        equal(
            upstream.requests()[-1]["finished"],
            False,
            "who leaves the relay leaves what is behind it",
        )


@test
def provider_is_deterministic(folder):
    with Started(folder) as start:
        client = Client(start(Provider, models=["demo"]))
        asks = ["hello", "[[words:40]]", '[[tool:add {"a":1}]]']
        tools = [{"type": "function", "function": {"name": "add"}}]
        for text in asks:
            for stream in (True, False):
                first, second = (
                    client.ask(text, "d", stream=stream, tools=tools) for _ in range(2)
                )
                equal(first, second, text)


@test
def provider_killed(folder):
    """Whoever got a whole answer before the kill finds its line after it."""
    with Started(folder) as start:
        provider = start(Provider, models=["demo"])
        whole, lock = [], threading.Lock()

        def ask(worker):
            client = Client(provider)
            for number in range(1000):
                call_id = f"w{worker}.{number}"
                try:
                    status, data = client.ask("hello", call_id, stream=bool(number % 2))
                except (OSError, http.client.HTTPException):
                    return
                if status == 200 and data:
                    with lock:
                        whole.append(call_id)

        workers = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for worker in workers:
            worker.start()
        eventually("some answers", lambda: len(whole) > 40)
        provider.kill()
        for worker in workers:
            worker.join()
        finished = {line["call_id"] for line in provider.requests() if line["finished"]}
        equal(sorted(set(whole) - finished), [], "answers without a line")


class Relaying(Provider):
    """The provider in front of another one."""

    def __init__(self, folder, upstream):
        self.upstream, self.key = upstream, "relay-key"
        self.log_path = folder / "relay-requests.jsonl"
        ready = folder / "relay.ready"
        command = [
            sys.executable,
            DEMO / "provider.py",
            "--upstream",
            upstream.base_url,
            "--upstream-model",
            "inner",
        ]
        command += ["--log", self.log_path, "--log-bodies", "--ready-file", ready, "--port", "0"]
        keys = {"HOLDFAST_DEMO_PROVIDER_KEY": self.key, "HOLDFAST_DEMO_UPSTREAM_KEY": upstream.key}
        Process.__init__(self, "relay", command, folder, keys)
        self.base_url = self.wait_ready(ready)["base_url"]


class Started:
    """Starts processes in a folder and stops them at the end."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder, self.processes = folder, []

    def __enter__(self):
        def start(kind, *args, **options):
            self.processes.append(kind(self.folder, *args, **options))
            return self.processes[-1]

        return start

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()


def main(names):
    failed = 0
    chosen = [t for t in TESTS if not names or any(name in t.__name__ for name in names)]
    with World() as world:
        for function in chosen:
            began = time.monotonic()
            try:
                function(world.folder / function.__name__)
                print(f"ok   {function.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception:  # any failure of a test is its result
                failed += 1
                print(f"FAIL {function.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
