"""Those who use the server while it is killed: the unmodified SDK with its own retries, and one bare reader.

Each client does what its author would do: the SDK retries by itself (twice); a background response is
followed with `starting_after`, a foreground one is sent again with the same `Idempotency-Key`, or, where
there is none, as one more retry of the same POST. What each was told, and when, is kept for the judge.
"""

import http.client
import json
import re
import threading
import time

import openai

NOTES = {"type": "mcp", "server_label": "notes", "require_approval": "never"}
MODEL, LOCAL = "mock/demo", "local/demo"
FINAL = ("completed", "failed", "incomplete", "cancelled")
TERMINAL = ("response.completed", "response.failed", "response.incomplete")
# A client gives up on a task after so long, and waits so long before it tries again by itself.
TASK_SECONDS = 25
AGAIN_SECONDS = 0.1
CALL_SECONDS = 20
# After so long a client that was told of a doubt sends its POST again, as one more retry.
DOUBT_SECONDS = 2


class Ended(Exception):
    """The client stops trying; the text says why."""


class Task:
    """One agent task: a prompt whose tool calls are known beforehand, and what came of it."""

    def __init__(self, machine, mark, style, prompt, planned, model=MODEL):
        self.machine, self.mark, self.style = machine, mark, style
        self.prompt, self.planned, self.model = prompt, planned, model
        self.response_id = self.final = self.error = None
        self.final_at = None
        self.readers, self.breaks, self.log = [], [], None
        self.deadline = time.monotonic() + TASK_SECONDS
        self.client = machine.client(machine.keys["agent"])
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def run(self):
        try:
            getattr(self, self.style)()
        except Ended as end:
            self.error = str(end)
        except Exception as error:  # a client that breaks in any other way is a finding
            self.error = f"{type(error).__name__}: {error}"

    def body(self, **options):
        tools = {"tools": [NOTES]} if self.planned is not None or self.model == LOCAL else {}
        return dict(model=self.model, input=self.prompt, max_output_tokens=96, **tools, **options)

    def attempt(self, call):
        """Calls until the server answers; what broke in between is noted."""
        while True:
            try:
                return call()
            except openai.APIStatusError as error:
                if error.status_code < 500 and error.status_code != 429:
                    raise
                self.broke(error)
            except openai.APIError as error:
                self.broke(error)

    def broke(self, error):
        self.breaks.append(f"{type(error).__name__}: {error}"[:200])
        if time.monotonic() > self.deadline:
            raise Ended(f"gave up after {TASK_SECONDS} s; last: {self.breaks[-1]}")
        time.sleep(AGAIN_SECONDS)

    def ended(self, response):
        """Takes a final response as an SDK object or a dictionary."""
        self.final_at = time.time()
        self.final = response if isinstance(response, dict) else response.to_dict(warnings=False)
        self.response_id = self.final["id"]

    # The ways of asking.

    def background_poll(self):
        headers = {"Idempotency-Key": self.mark}
        first = self.attempt(lambda: self.client.responses.create(**self.body(background=True), extra_headers=headers))
        self.response_id = first.id
        self.poll()

    def poll(self, seconds=TASK_SECONDS):
        """Asks until the response has ended, or for that long."""
        until = time.monotonic() + seconds
        while self.final is None and time.monotonic() < until:
            response = self.attempt(lambda: self.client.responses.retrieve(self.response_id))
            if response.status in FINAL:
                return self.ended(response)
            if time.monotonic() > self.deadline:
                raise Ended(f"{self.response_id} is still {response.status} after {TASK_SECONDS} s")
            time.sleep(AGAIN_SECONDS / 2)
        return None

    def background_stream(self):
        headers = {"Idempotency-Key": self.mark}
        reader = Reader("sdk")
        self.readers.append(reader)

        def begin():
            return self.client.responses.create(**self.body(background=True, stream=True), extra_headers=headers)

        def resume():
            return self.client.responses.retrieve(self.response_id, stream=True, starting_after=reader.last)

        while self.final is None:
            stream = self.attempt(begin if self.response_id is None else resume)
            if self.response_id is None:
                reader.restart()
            self.read(stream, reader)

    def read(self, stream, reader):
        """Reads until the end of the stream, whole or cut."""
        try:
            for event in stream:
                event = event.to_dict(warnings=False)
                reader.take(event)
                if "response" in event and self.response_id is None:
                    self.response_id = event["response"]["id"]
                if event["type"] in TERMINAL:
                    return self.ended(event["response"])
        except Exception as error:  # the connection broke, in whichever layer of the client it was noticed
            return self.broke(error)
        finally:
            stream.close()
        return self.broke(EOFError("the stream ended without its end"))

    def foreground_stream(self):
        headers = {"Idempotency-Key": self.mark}
        while self.final is None:
            stream = self.attempt(
                lambda: self.client.responses.create(**self.body(stream=True), extra_headers=headers)
            )
            reader = Reader("foreground")
            self.readers.append(reader)
            self.read(stream, reader)

    def foreground(self):
        """No key of its own: only the SDK's count of retries says that it is the same POST."""
        headers = {}
        while self.final is None:
            try:
                self.ended(self.client.responses.create(**self.body(), extra_headers=headers))
            except openai.BadRequestError as error:
                self.doubt(error)
            except openai.APIStatusError as error:
                if error.status_code < 500:
                    raise
                self.broke(error)
            except openai.APIError as error:
                self.broke(error)
            headers = {"x-stainless-retry-count": "1"}

    def doubt(self, error):
        """A JSON POST whose step is in doubt is told so; whoever asked waits for the decision.

        If the server restarts after the decision, the turn waits for a retry of its POST (CONTRACTS §4):
        so not forever.
        """
        if (error.body or {}).get("code") != "session_in_doubt":
            raise error
        self.breaks.append("session_in_doubt")
        self.response_id = re.search(r"resp_[0-9a-z]+", error.body["message"]).group()
        self.poll(DOUBT_SECONDS)


class Reader:
    """The events that one client got of one response, in the order in which it got them."""

    def __init__(self, kind):
        self.kind, self.events, self.abandoned = kind, [], []

    @property
    def last(self):
        return self.events[-1][0] if self.events else None

    def restart(self):
        """The POST was sent again before its response was known: its stream begins anew."""
        if self.events:
            self.abandoned.append(self.events)
        self.events = []

    def take(self, event, raw=None):
        if event.get("type") != "keepalive":
            self.events.append((event.get("sequence_number"), raw if raw is not None else event, time.time()))


class BareReader:
    """Follows a background response over plain HTTP and keeps each event's bytes."""

    def __init__(self, task):
        self.task, self.reader = task, Reader("raw")
        task.readers.append(self.reader)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.task.response_id is None:
            if not self.task.thread.is_alive():
                return
            time.sleep(AGAIN_SECONDS / 5)
        while time.monotonic() < self.task.deadline:
            try:
                for raw in events_of(self.task.machine, self.task.response_id, self.reader.last):
                    event = json.loads(raw)
                    self.reader.take(event, raw)
                    if event["type"] in TERMINAL:
                        return
            except (OSError, http.client.HTTPException, ValueError):
                pass
            time.sleep(AGAIN_SECONDS / 2)


def events_of(machine, response_id, after=None):
    """The data of each event of a response's log behind number `after`, as it came."""
    connection = http.client.HTTPConnection("127.0.0.1", machine.port, timeout=CALL_SECONDS)
    try:
        path = f"/v1/responses/{response_id}?stream=true" + (f"&starting_after={after}" if after is not None else "")
        connection.request("GET", path, headers={"authorization": f"Bearer {machine.keys['agent']}"})
        response = connection.getresponse()
        if response.status != 200:
            raise http.client.HTTPException(f"status {response.status}: {response.read(300)}")
        while line := response.readline():
            if line.startswith(b"data:") and line.endswith(b"\n") and b"[DONE]" not in line:
                yield line[5:].strip().decode()
    finally:
        connection.close()


class Chats:
    """Plain chat calls one after the other, until they are told to stop."""

    def __init__(self, machine, mark, key, secret, model=MODEL, stream=False):
        self.machine, self.mark, self.key, self.model, self.stream = machine, mark, key, model, stream
        self.client = machine.client(secret)
        self.stopping, self.calls = threading.Event(), []
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.stopping.set()

    def run(self):
        number = 0
        while not self.stopping.is_set():
            number += 1
            call = {"mark": f"{self.mark}x{number}q", "key": self.key, "model": self.model, "begun": time.time()}
            try:
                call["text"] = self.ask(call)
                call["outcome"] = "ok"
            except openai.APIStatusError as error:
                call["outcome"] = f"{error.status_code} {(error.body or {}).get('code')}"
            except Exception as error:  # whichever layer of the client noticed
                call["outcome"] = f"{type(error).__name__}: {error}"[:300]
            call["ended"] = time.time()
            self.calls.append(call)
            if call["outcome"].startswith("429"):
                self.stopping.wait(0.2)  # out of money: what is left is looked at again, not hammered
            self.stopping.wait(0.02)

    def ask(self, call):
        text = f"say {call['mark']}" if self.model == LOCAL else f"[[delay_ms=3]] {call['mark']} is here"
        asked = dict(model=self.model, messages=[{"role": "user", "content": text}], max_tokens=24)
        if not self.stream:
            return self.client.chat.completions.create(**asked).choices[0].message.content
        said = ""
        for chunk in self.client.chat.completions.create(**asked, stream=True):
            said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        return said


def planned_prompt(mark, chance):
    """A task of five model calls with tools between them: (prompt, [(tool, text)]).

    Two calls at once come only in the last round: a history in which each has a message of its own would count as
    two rounds in the provider's script.
    """
    rounds, planned = [], []
    for number in range(4):
        calls = [chance.choice(("find_note", "add_note", "add_note", "set_title"))]
        if number == 3 and chance.random() < 0.6:
            calls = ["add_note", chance.choice(("find_note", "add_note", "set_title"))]
        directives = ""
        for index, name in enumerate(calls):
            text = "harbor" if name == "find_note" else f"{mark} n{number}{index}"
            argument = {"find_note": "query", "add_note": "text", "set_title": "title"}[name]
            directives += f"[[tool:{name} {json.dumps({argument: text})}]]"
            planned.append((name, text))
        rounds.append(directives)
    return f"[[delay_ms=4]] {'[[next]]'.join(rounds)} {mark}", planned


def wait_for(threads, seconds):
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
