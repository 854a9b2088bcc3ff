"""The demo model on the local engine: whatever its words, its calls and objects are well formed."""

import json

from events import checked
from flows import FIND_TOOL, NOTE_TOOL, after, calls, equal, over, result, texts
from flows_messages import Berth


@over("local")
def create_plain(f):
    message = f.ask("Hello, who are you?", max_tokens=40)
    assert texts(message).strip(), "an empty answer"
    assert message.stop_reason in ("end_turn", "max_tokens"), message.stop_reason
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0, message.usage


@over("local")
def stream_plain(f):
    with f.streamed("Say hello.", max_tokens=40) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 1, "it did not come in pieces"
    equal("".join(pieces), texts(message))
    checked(f.lines("Say hello.", max_tokens=20))


@over("local")
def tool_call(f):
    """Constrained sampling: a required call always parses and names an offered tool."""
    options = dict(tools=[FIND_TOOL, NOTE_TOOL], tool_choice={"type": "any"}, max_tokens=200)
    asked = [{"role": "user", "content": "Find my note about the harbor."}]
    message = f.ask(messages=asked, **options)
    [call, *_] = calls(message)
    equal(set(call.input), {"query"} if call.name == "find_note" else {"text"})
    equal(message.stop_reason, "tool_use")
    results = [result(call, "The harbor closes at nine.") for call in calls(message)]
    again = f.ask(messages=after(asked, message, *results), tools=options["tools"], max_tokens=40)
    assert again.content, "no answer to a tool's result"


@over("local")
def tool_call_streamed(f):
    options = dict(tools=[FIND_TOOL], tool_choice={"type": "tool", "name": "find_note"})
    with f.streamed("Find it.", **options, max_tokens=200) as stream:
        [call, *_] = calls(stream.get_final_message())
    equal(set(call.input), {"query"})


@over("local")
def object_by_schema(f):
    message = f.client.messages.parse(
        **f.options("A berth in a harbor.", {"max_tokens": 200}), output_format=Berth
    )
    assert isinstance(message.parsed_output.number, int), message.parsed_output
    json.loads(texts(message))
