"""Tools: calls, results, and what a target can't be told of them."""

import json

import anthropic

from events import checked
from flows import (
    BOTH,
    FIND_TOOL,
    NOTE_TOOL,
    NOW_TOOL,
    after,
    calls,
    dropped,
    equal,
    flow,
    over,
    raises,
    refused,
    result,
    texts,
)
from flows_messages import image

CALL = '[[tool:find_note {"query":"harbor"}]]'
TWO_CALLS = CALL + '[[tool:add_note {"text":"it is open"}]]'


@over(*BOTH)
def tool_once(f):
    message = f.ask(CALL, tools=[FIND_TOOL])
    [call] = calls(message)
    equal(
        (call.name, call.input, message.stop_reason), ("find_note", {"query": "harbor"}, "tool_use")
    )
    history = after(f.user(CALL), message, result(call, "open until nine"))
    equal(texts(f.ask(messages=history, tools=[FIND_TOOL])), "The tool said: open until nine")


@over(*BOTH)
def tool_once_streamed(f):
    with f.streamed(CALL, tools=[FIND_TOOL]) as stream:
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        message = stream.get_final_message()
    equal(json.loads("".join(parts)), {"query": "harbor"})
    [call] = calls(message)
    equal((call.input, message.stop_reason), ({"query": "harbor"}, "tool_use"))
    history = after(f.user(CALL), message, result(call, [{"type": "text", "text": "open"}]))
    with f.streamed(messages=history, tools=[FIND_TOOL]) as stream:
        equal(stream.get_final_text(), "The tool said: open")


@over(*BOTH)
def tools_parallel(f):
    """Two calls in one answer; the results come back in another order."""
    tools = [FIND_TOOL, NOTE_TOOL]
    message = f.ask(TWO_CALLS, tools=tools)
    first, second = calls(message)
    equal((first.name, second.name), ("find_note", "add_note"))
    assert first.id != second.id, "two calls of one id"
    results = [
        result(second, "saved"),
        result(first, "open"),
        {"type": "text", "text": "[[say:so]]"},
    ]
    equal(texts(f.ask(messages=after(f.user(TWO_CALLS), message, *results), tools=tools)), "so")
    sent = json.loads(f.sent()[-1]["body"])["messages"]
    if f.passed:
        equal([block["type"] for block in sent[-1]["content"]], ["tool_result"] * 2 + ["text"])
    else:
        told = {m["tool_call_id"]: m["content"] for m in sent if m["role"] == "tool"}
        equal(told, {first.id: "open", second.id: "saved"})
        equal(sent[-1]["role"], "user")


@over(*BOTH)
def tools_parallel_streamed(f):
    tools = [FIND_TOOL, NOTE_TOOL, NOW_TOOL]
    asked = TWO_CALLS + "[[tool:now {}]]"
    with f.streamed(asked, tools=tools) as stream:
        found = calls(stream.get_final_message())
    expected = [{"query": "harbor"}, {"text": "it is open"}, {}]
    equal([call.input for call in found], expected)
    equal(len({call.id for call in found}), 3, "ids")
    events, _ = checked(f.lines(asked, tools=tools))
    opened = [e["content_block"] for e in events if e["type"] == "content_block_start"]
    equal([block["name"] for block in opened], ["find_note", "add_note", "now"])


@over(*BOTH)
def tool_without_arguments(f):
    message = f.ask("[[tool:now {}]]", tools=[NOW_TOOL])
    [call] = calls(message)
    equal(call.input, {})
    with f.streamed("[[tool:now {}]]", tools=[NOW_TOOL]) as stream:
        [streamed] = calls(stream.get_final_message())
    equal(streamed.input, {})
    history = after(f.user("[[tool:now {}]]"), message, result(call, "noon"))
    equal(texts(f.ask(messages=history, tools=[NOW_TOOL])), "The tool said: noon")


@over(*BOTH)
def tool_result_without_content(f):
    message = f.ask("[[tool:now {}]]", tools=[NOW_TOOL])
    [call] = calls(message)
    empty = {"type": "tool_result", "tool_use_id": call.id}
    history = after(f.user("[[tool:now {}]]"), message, empty)
    equal(texts(f.ask(messages=history, tools=[NOW_TOOL])).strip(), "The tool said:")


@over(*BOTH)
def tool_choice_any(f):
    message = f.ask("no call is asked for", tools=[FIND_TOOL], tool_choice={"type": "any"})
    equal([call.name for call in calls(message)], ["find_note"])


@over(*BOTH)
def tool_choice_tool(f):
    choice = {"type": "tool", "name": "add_note"}
    message = f.ask("a note", tools=[FIND_TOOL, NOTE_TOOL], tool_choice=choice)
    equal([call.name for call in calls(message)], ["add_note"])


@over(*BOTH)
def tool_choice_none(f):
    message = f.ask(CALL, tools=[FIND_TOOL], tool_choice={"type": "none"})
    equal((calls(message), message.stop_reason), ([], "end_turn"))


@over(*BOTH)
def tool_choice_disable_parallel(f):
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    message = f.ask(TWO_CALLS, tools=[FIND_TOOL, NOTE_TOOL], tool_choice=choice)
    equal(len(calls(message)), 1)
    sent = f.sent_body()
    equal(
        sent["tool_choice"] if f.passed else sent["parallel_tool_calls"],
        choice if f.passed else False,
    )


@over(*BOTH)
def tool_result_is_error(f):
    """Chat completions have no word for it: the text says it, the header that it is left out."""
    message = f.ask(CALL, tools=[FIND_TOOL])
    [call] = calls(message)
    history = after(f.user(CALL), message, result(call, "The pen was dry.", is_error=True))
    raw = f.ask_raw(messages=history, tools=[FIND_TOOL])
    equal(texts(raw.parse()), "The tool said: The pen was dry.")
    equal(dropped(raw), set() if f.passed else {"tool_result.is_error"})
    if f.passed:
        sent = json.loads(f.sent()[-1]["body"])["messages"]
        equal(sent[-1]["content"][0]["is_error"], True)


@flow
def tool_result_image_passed(f):
    message = f.ask(CALL, tools=[FIND_TOOL])
    [call] = calls(message)
    history = after(f.user(CALL), message, result(call, [image(), {"type": "text", "text": "see"}]))
    equal(texts(f.ask(messages=history, tools=[FIND_TOOL])), "The tool said: see")
    sent = json.loads(f.sent()[-1]["body"])["messages"]
    equal(sent[-1]["content"][0]["content"][0], image())


@over("translated")
def tool_result_image(f):
    """Chat completions have no place for it in a result: it follows in a user's message."""
    message = f.ask(CALL, tools=[FIND_TOOL])
    [call] = calls(message)
    history = after(f.user(CALL), message, result(call, [image()]))
    raw = f.ask_raw(messages=history, tools=[FIND_TOOL])
    equal(dropped(raw), {"tool_result.image"})
    told = json.loads(f.sent()[-1]["body"])["messages"][-2:]
    equal([one["role"] for one in told], ["tool", "user"])
    assert "image_url" in [part["type"] for part in told[1]["content"]], told


@over(*BOTH)
def tool_with_big_integers(f):
    """What a client's language can't hold is not rounded on the way."""
    text = '[[tool:add_note {"text":"n","n":9007199254740993,"x":1.50}]]'
    message = f.ask(text, tools=[NOTE_TOOL])
    [call] = calls(message)
    equal(call.input, {"text": "n", "n": 9007199254740993, "x": 1.5})
    history = after(f.user(text), message, result(call, "saved"))
    f.ask(messages=history, tools=[NOTE_TOOL])
    assert "9007199254740993" in f.sent()[-1]["body"].split("saved")[0], f.sent()[-1]["body"]


@flow
def server_tool_passed(f):
    """What Anthropic runs itself is the provider's business."""
    tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 1}
    f.ask("search", tools=[tool])
    equal(f.sent_body()["tools"], [tool])


@over("translated", "local")
def server_tool(f):
    tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 1}
    error = raises(anthropic.BadRequestError, lambda: f.ask("search", tools=[tool]))
    refused(error, "invalid_request_error", 400, "unsupported")
    assert "tools[0].type" in error.body["error"]["message"], error.body
    if f.target == "translated":
        equal(f.sent(), [])


@over(*BOTH)
def tool_schema_arrives_as_it_is(f):
    """Bytes of a schema matter: the order of its fields is kept, and nothing is put to it."""
    schema = {
        "type": "object",
        "required": ["z", "a"],
        "properties": {
            "z": {"enum": ["one", None], "description": "Last first."},
            "a": {"$ref": "#/$defs/a"},
        },
        "$defs": {"a": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"const": 2}]}}},
        "additionalProperties": False,
    }
    f.ask("[[say:ok]]", tools=[{"name": "odd", "description": "d", "input_schema": schema}])
    [tool] = f.sent_body()["tools"]
    sent = tool["input_schema"] if f.passed else tool["function"]["parameters"]
    equal(json.dumps(sent), json.dumps(schema))


def run_tools(f, client):
    """The SDK's own loop: it calls the function and sends its result back. Gives what was asked."""
    asked = []

    @anthropic.beta_tool
    def find_note(query: str) -> str:
        """Finds the notes about a word.

        Args:
            query: The word.
        """
        asked.append(query)
        return f"open until nine {f.mark}"

    runner = client.beta.messages.tool_runner(**f.options(CALL, {}), tools=[find_note])
    equal(texts(runner.until_done()), f"The tool said: open until nine {f.mark}")
    return asked


@over(*BOTH)
def tool_runner(f):
    """New SDKs have the provider hold the conversation; where it can't, they send it whole."""
    equal(run_tools(f, f.client), ["harbor"])
    bodies = [json.loads(line["body"]) for line in f.sent()[:2]]
    if f.passed and not f.is_old:
        equal([body["thread"]["type"] for body in bodies], ["create", "continue"])
        equal([len(body["messages"]) for body in bodies], [1, 1])
    else:
        assert all("thread" not in body for body in bodies), bodies
        equal([len(body["messages"]) for body in bodies], [1, 3])


@flow
def tool_runner_under_a_budget(f):
    """A thread's cost is not in the request: no hard budget holds it, and the SDK does without."""
    equal(run_tools(f, f.with_key("capped")), ["harbor"])
    assert all("thread" not in json.loads(line["body"]) for line in f.sent()), f.sent()
