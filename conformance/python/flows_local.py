"""The demo model on the local engine: whatever its words, its calls and objects are well formed."""

import json

from flows_chat import FIND_TOOL, NOTE_TOOL, Berth
from flows_responses import FIND_TOOL as FIND_FUNCTION
from flows_tools import NOTES, items

from events import check_events, dumped
from flows import LOCAL, equal, flow


@flow
def local_chat_plain(f):
    answer = f.ask("Hello, who are you?", model=LOCAL, max_tokens=40)
    assert answer.choices[0].message.content.strip(), "an empty answer"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)


@flow
def local_chat_stream(f):
    with f.client.chat.completions.stream(
        model=LOCAL,
        messages=f.user("Say hello."),
        max_tokens=40,
        stream_options={"include_usage": True},
    ) as stream:
        deltas = [e for e in stream if e.type == "content.delta"]
        final = stream.get_final_completion()
    assert len(deltas) > 1, "it did not come in pieces"
    equal("".join(d.delta for d in deltas), final.choices[0].message.content)
    assert final.usage.completion_tokens > 0


@flow
def local_chat_greedy_is_repeatable(f):
    ask = dict(model=LOCAL, temperature=0, max_tokens=20)
    equal(
        f.ask("The harbor", **ask).choices[0].message.content,
        f.ask("The harbor", **ask).choices[0].message.content,
    )


@flow
def local_chat_tool_call(f):
    """Constrained sampling: a required call always parses and names an offered tool."""
    answer = f.client.chat.completions.create(
        model=LOCAL,
        messages=[{"role": "user", "content": "Find my note about the harbor."}],
        tools=[FIND_TOOL, NOTE_TOOL],
        tool_choice="required",
    )
    [call, *_] = answer.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    equal(set(arguments), {"query"} if call.function.name == "find_note" else {"text"})
    equal(answer.choices[0].finish_reason, "tool_calls")


@flow
def local_chat_schema(f):
    schema = Berth.model_json_schema() | {"additionalProperties": False}
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "berth", "schema": schema, "strict": True},
    }
    answer = f.ask(
        "Berth 7 is free.", model=LOCAL, response_format=wanted, max_tokens=400, temperature=0
    )
    if answer.choices[0].finish_reason == "stop":
        Berth.model_validate_json(answer.choices[0].message.content)
    else:
        equal(answer.choices[0].finish_reason, "length")


@flow
def local_responses_plain(f):
    response = f.respond("Hello.", model=LOCAL, max_output_tokens=60)
    assert response.status in ("completed", "incomplete"), response.status
    assert response.output_text.strip()
    assert response.usage.input_tokens > 0 and response.usage.output_tokens > 0


@flow
def local_responses_chain_stream(f):
    first = f.respond("My name is Ada.", model=LOCAL, max_output_tokens=40)
    events = dumped(
        f.respond(
            "What is my name?",
            model=LOCAL,
            max_output_tokens=40,
            previous_response_id=first.id,
            stream=True,
        )
    )
    final = check_events(events)
    assert final["output"][0]["content"][0]["text"].strip()
    assert final["usage"]["input_tokens"] > first.usage.input_tokens, (
        "the second turn has the first in it"
    )


@flow
def local_responses_function_call(f):
    first = f.client.responses.create(
        model=LOCAL,
        input="Find my note about the harbor.",
        tools=[FIND_FUNCTION],
        tool_choice="required",
    )
    call = next(item for item in first.output if item.type == "function_call")
    equal(set(json.loads(call.arguments)), {"query"})
    output = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": "The harbor gate opens at 6.",
    }
    second = f.client.responses.create(
        model=LOCAL,
        input=[output],
        previous_response_id=first.id,
        tools=[FIND_FUNCTION],
        tool_choice="none",
    )
    assert second.output_text.strip(), second.output


@flow
def local_mcp(f):
    """The demo model with the demo's tool server: a real task, whatever words it finds."""
    response = f.client.responses.create(
        model=LOCAL,
        input="Find my note about the harbor.",
        tools=[NOTES],
        max_output_tokens=200,
        temperature=0,
    )
    calls = items(response, "mcp_call")
    assert calls, f"no tool was called: {response.output}"
    for call in calls:
        json.loads(call.arguments)
    assert response.output_text.strip(), response.output
