"""The suite `bedrock`: what Holdfast sends to Amazon Bedrock, judged by botocore.

    suite.py [NAME …]     only the checks whose name contains one of the NAMEs

A conversation goes in at each door; the fake behind it recomputes each signature by botocore's own
signer, holds each body against botocore's model of the service, and answers as that model has it.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "formats")]

import chat  # noqa: E402
import gemini  # noqa: E402
import messages  # noqa: E402
import responses  # noqa: E402
import running  # noqa: E402
from fake import KEY_ID, REGION, SECRET, TOKEN, Fake  # noqa: E402
from harness import Server  # noqa: E402
from words import TOOL, Asked, Call, Image, Result, Turn, calls, text_of  # noqa: E402

KEY = "hf_suite_bedrock_0123456789abcdef"
CONFIG = """
[[providers]]
name = "aws"
vendor = "bedrock"
base_url = "{url}"
aws = {{ region = "{region}", access_key_id = "{id}", secret_access_key = "{secret}", session_token = "{token}" }}

[[keys]]
name = "suite"
secret = "${{SUITE_KEY}}"
"""
CHECKS = {}


class At:
    """A door in front of the fake."""

    def __init__(self, server, fake, door, name):
        self.server, self.fake, self.door = server, fake, door
        self.model = f"us.anthropic.claude-sonnet-4-6-{name}-{door.NAME}-v1:0"

    def ask(self, **how):
        how.setdefault("turns", [Turn("user", ["h\u00e9llo \u2603"])])
        asked = Asked(model=f"aws/{self.model}", **how)
        method = "streamGenerateContent" if asked.stream else "generateContent"
        path = self.door.PATH.format(model=asked.model, method=method)
        path += "?alt=sse" if asked.stream and "{method}" in self.door.PATH else ""
        status, _, data = self.server.http("POST", path, self.door.request(asked), KEY)
        text = data.decode()
        assert not any(word in text for word in (SECRET, TOKEN, KEY_ID)), "a secret was said"
        return status, text

    def said(self, **how):
        status, text = self.ask(**how)
        running.equal(status, 200, text)
        if how.get("stream"):
            return self.door.read_stream(text)
        return self.door.read_answer(json.loads(text))

    def seen(self):
        """The last request, which botocore has nothing against."""
        seen = self.fake.asked[self.model][-1]
        running.equal((seen["signature"], seen["shape"]), (None, None), seen["path"])
        return seen["body"]


def check(function):
    CHECKS[function.__name__] = function
    return function


@check
def a_text(at):
    at.fake.plan(at.model, [{"text": "Good day."}])
    said = at.said(system="Be brief.", cap=99)
    running.equal((text_of(said.parts), said.stop, said.output), ("Good day.", "end", 7))
    body = at.seen()
    running.equal(body["messages"], [{"role": "user", "content": [{"text": "h\u00e9llo \u2603"}]}])
    running.equal(body["inferenceConfig"]["maxTokens"], 99)


@check
def a_stream(at):
    at.fake.plan(at.model, [{"text": "Good day."}])
    said = at.said(stream=True)
    running.equal((text_of(said.parts), said.whole, said.output), ("Good day.", True, 7))
    at.seen()


@check
def a_call_of_a_tool(at):
    use = {"toolUse": {"toolUseId": "tooluse_1", "name": "look", "input": {"n": 3}}}
    for stream in (False, True):
        at.fake.plan(at.model, [use], stop="tool_use")
        (call,) = calls(at.said(tools=[TOOL], stream=stream).parts)
        running.equal((call.name, call.arguments.replace(" ", "")), ("look", '{"n":3}'))
        at.seen()


@check
def a_history_with_a_result_and_a_picture(at):
    at.fake.plan(at.model, [{"text": "Seen."}])
    turns = [
        Turn("user", ["What is it?", Image()]),
        Turn("assistant", [Call("look", '{"n":1}', "call_1")]),
        Turn("tool", [Result("call_1", ["a dot"])]),
    ]
    at.said(turns=turns, tools=[TOOL])
    kinds = [list(block) for turn in at.seen()["messages"] for block in turn["content"]]
    running.equal(kinds, [["text"], ["image"], ["toolUse"], ["toolResult"]])


@check
def a_limit_of_the_rate(at):
    at.fake.plan(at.model, fails=(429, "ThrottlingException"))
    running.equal(at.ask()[0], 429)
    at.seen()


@check
def credentials_that_are_refused(at):
    at.fake.plan(at.model, fails=(403, "AccessDeniedException"))
    running.equal(at.ask()[0], 502)


@check
def a_request_that_is_refused(at):
    at.fake.plan(at.model, fails=(400, "ValidationException"))
    running.equal(at.ask()[0], 400)


@check
def a_stream_that_ends_in_an_exception(at):
    at.fake.plan(at.model, [{"text": "half of it"}], fails=("stream", "throttlingException"))
    status, text = at.ask(stream=True)
    assert status >= 400 or at.door.read_stream(text).error, text


def claude_codes_marks(around):
    """What Claude Code marks is marked for Claude on Bedrock, in order, at most four times."""
    at = At(*around, messages, "marks")
    mark, hour = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    text = lambda said, **more: {"type": "text", "text": said, **more}  # noqa: E731
    body = {
        "model": f"aws/{at.model}",
        "max_tokens": 99,
        "tools": [{"name": "look", "input_schema": {"type": "object"}, "cache_control": hour}],
        "system": [text("You are an agent."), text("Be brief.", cache_control=hour)],
        "messages": [
            {"role": "user", "content": [text("one", cache_control=mark)]},
            {"role": "assistant", "content": [
                text("I look."), {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok", "cache_control": mark}]},
        ],
    }
    points = lambda blocks: [place for place, block in enumerate(blocks) if "cachePoint" in block]  # noqa: E731

    def told():
        at.fake.plan(at.model, [{"text": "Good."}])
        status, got, data = at.server.http("POST", "/v1/messages", body, KEY)
        running.equal(status, 200, data)
        return at.seen(), (got.get("holdfast-dropped") or "")

    seen, lost = told()
    running.equal(lost, "")
    running.equal(points(seen["toolConfig"]["tools"]), [1])
    running.equal(seen["system"][2], {"cachePoint": {"type": "default", "ttl": "1h"}})
    running.equal([points(turn["content"]) for turn in seen["messages"]], [[1], [], [1]])
    running.equal(seen["messages"][0]["content"][1], {"cachePoint": {"type": "default"}})
    # A fifth: the oldest goes, by name.
    body["messages"].append({"role": "user", "content": [text("and?", cache_control=mark)]})
    seen, lost = told()
    running.equal(lost, "tools.cache_control")
    running.equal(points(seen["toolConfig"]["tools"]), [])
    running.equal([points(turn["content"]) for turn in seen["messages"]], [[1], [], [1, 3]])


def marks_for_a_model_that_is_not_known(around):
    at = At(*around, messages, "unknown")
    at.model = "arn:aws:bedrock:eu-central-1:1:application-inference-profile/abc"
    at.fake.plan(at.model, [{"text": "Good."}])
    held = [{"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}}]
    body = {"model": f"aws/{at.model}", "max_tokens": 9, "messages": [{"role": "user", "content": held}]}
    status, got, data = at.server.http("POST", "/v1/messages", body, KEY)
    running.equal((status, got.get("holdfast-dropped")), (200, "messages.content.cache_control"), data)
    running.equal(at.seen()["messages"][0]["content"], [{"text": "one"}])


def by_door(name, function, door):
    def played(around):
        function(At(*around, door, name.replace("_", "-")))

    played.__name__ = f"{name}_by_{door.NAME}"
    return played


def no_secret_is_in_the_log(around):
    log = around[0].output.read_text(errors="replace")
    assert SECRET not in log and TOKEN not in log, "a secret is in the log"


def started(world):
    """The server and the fake behind it."""
    fake = world.double(Fake())
    given = {"url": fake.url, "region": REGION, "id": KEY_ID, "secret": SECRET, "token": TOKEN}
    return world.start(Server, CONFIG.format(**given), env={"SUITE_KEY": KEY}), fake


def all_checks():
    doors = (chat, responses, messages, gemini)
    checks = [by_door(*one, door) for door in doors for one in CHECKS.items()]
    return [*checks, claude_codes_marks, marks_for_a_model_that_is_not_known, no_secret_is_in_the_log]


if __name__ == "__main__":
    sys.exit(running.main(all_checks(), sys.argv[1:], started))
