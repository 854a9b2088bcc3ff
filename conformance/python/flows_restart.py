"""A server of its own that is stopped, or killed, and started again on the same data folder."""

import contextlib
import socket

import openai

import standard
from events import check_events, dumped
from flows import MODEL, equal, flow, raises, slow
from harness import Server, World, effects, eventually

NOTES = {"type": "mcp", "server_label": "notes"}


class Restartable:
    """One data folder, one provider, and the server of the moment."""

    def __init__(self, world):
        self.world = world
        self.provider, self.server = standard.start(world)
        self.connect()

    def connect(self):
        url = self.server.url + "/v1"
        self.client = openai.OpenAI(
            base_url=url, api_key=standard.KEYS["ci"], max_retries=0, timeout=30
        )

    def again(self):
        """Starts it anew with the same configuration; its port is another."""
        self.server = self.world.start(
            Server, self.server.config.read_text(), env=standard.environment(self.provider)
        )
        self.connect()

    def respond(self, prompt, **options):
        return self.client.responses.create(model=MODEL, input=prompt, **options)


@contextlib.contextmanager
def restartable():
    with World() as world:
        yield Restartable(world)


@flow
def restart_keeps_what_was_stored(_):
    with restartable() as r:
        first = r.respond("remember the tide", metadata={"a": "b"})
        background = r.respond("[[words:20]]", background=True, stream=True)
        log = dumped(background)
        assert r.server.stop(), "it did not end by itself"
        r.again()
        equal(
            r.client.responses.retrieve(first.id).model_dump(exclude_unset=True),
            first.model_dump(exclude_unset=True),
        )
        equal(dumped(r.client.responses.retrieve(log[0]["response"]["id"], stream=True)), log)
        second = r.respond("[[echo:messages]]", previous_response_id=first.id)
        assert "remember the tide" in second.output_text, second.output_text
        _, budgets = r.server.api("GET", "budgets")
        equal(
            {b["presumed_usd"] for b in budgets["data"]},
            {"0.00"},
            "presumed spent after a clean stop",
        )


@flow
def killed_in_a_background_stream(_):
    """`kill -9` while a model streams: the work goes on by itself, the client resumes."""
    with restartable() as r:
        stream = r.respond("[[delay_ms=40]] [[words:60]]", background=True, stream=True)
        head = [next(stream).model_dump(exclude_unset=True) for _ in range(12)]
        r.server.kill()
        with contextlib.suppress(openai.APIError, Exception):
            list(stream)
        r.again()
        response_id, last = head[0]["response"]["id"], head[-1]["sequence_number"]
        tail = dumped(r.client.responses.retrieve(response_id, stream=True, starting_after=last))
        final = check_events(head + tail)
        equal(final["status"], "completed")
        equal(final["output"][-1]["content"][0]["text"], " ".join(f"word{i}" for i in range(1, 61)))
        calls = {line["call_id"] for line in r.provider.requests()}
        equal(len(calls), 1, "the same step keeps its Call")
        equal([line["finished"] for line in r.provider.requests()], [False, True])
        attempts = {line["attempt_id"] for line in r.provider.requests()}
        equal(len(attempts), 2, "a new attempt")


@flow
def killed_while_a_tool_writes(_):
    """`kill -9` while a tool writes: in doubt after the restart, one effect, then decided."""
    with restartable() as r:
        raw = r.client.responses.with_raw_response.create(
            model=MODEL,
            input='[[tool:add_note {"text":"once only"}]]',
            tools=[{"type": "mcp", "server_label": "patient"}],
            background=True,
        )
        response_id, session = raw.parse().id, raw.headers["holdfast-session"]
        log = standard.effects_paths(r.world.folder)["slow"]
        eventually("the tool has had its effect", lambda: effects(log))
        r.server.kill()
        r.again()

        def doubt():
            calls = [item.model_dump() for item in r.client.responses.retrieve(response_id).output]
            return [
                c["holdfast"]["step"]
                for c in calls
                if (c.get("holdfast") or {}).get("state") == "in_doubt"
            ]

        [step] = eventually("it is in doubt", doubt)
        equal([effect["idempotency_key"] for effect in effects(log)], [step])
        decision = {"decision": "done", "output": "It was saved."}
        status, _ = r.server.api("POST", f"sessions/{session}/steps/{step}/resolve", decision)
        equal(status, 200)
        events = dumped(r.client.responses.retrieve(response_id, stream=True))
        final = check_events(events)
        equal(final["output"][-1]["content"][0]["text"], "The tool said: It was saved.")
        equal(len(effects(log)), 1, "effects")


def long_stream(r):
    """A chat stream in the middle of an answer that takes a minute."""
    stream = r.client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "[[delay_ms=100]] [[words:600]]"}],
        stream=True,
    )
    for _ in range(3):
        next(stream)
    return stream


def is_listening(server):
    host, port = server.url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@slow
def stopped_in_a_chat_stream(_):
    """SIGTERM: a stream has its time, then it is closed, and its Call is in the ledger."""
    with restartable() as r:
        stream = long_stream(r)
        assert r.server.stop(), "it waits for the stream to end"
        raises(Exception, lambda: list(stream))
        r.again()
        _, calls = r.server.api("GET", "calls")
        [call] = calls["data"]
        equal(call["error"], "cancelled", "how the Call ended")


@flow
def told_to_stop_twice(_):
    """Who says it twice does not wait for streams."""
    with restartable() as r:
        stream = long_stream(r)
        r.server.child.terminate()
        eventually("it takes no connections", lambda: not is_listening(r.server))
        r.server.child.terminate()
        equal(r.server.child.wait(5), 0, "its status")
        raises(Exception, lambda: list(stream))
