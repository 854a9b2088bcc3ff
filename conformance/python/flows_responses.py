"""The Responses API in the foreground: stored, chained, forked, streamed, structured, refused."""

import asyncio
import json
from decimal import Decimal

import openai
from flows_chat import Berth

from events import check_events, dumped, read_sse
from flows import MODEL, cost_of, equal, flow, raises

ALWAYS = [
    "id",
    "object",
    "created_at",
    "status",
    "model",
    "output",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "temperature",
    "top_logprobs",
    "store",
    "background",
    "service_tier",
    "metadata",
]
MAY_BE_NULL = [
    "completed_at",
    "incomplete_details",
    "previous_response_id",
    "instructions",
    "error",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
]
FIND_TOOL = {
    "type": "function",
    "name": "find_note",
    "description": "Finds the notes about a word.",
    "parameters": {
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
        "additionalProperties": False,
    },
    "strict": True,
}
ADD_TOOL = {
    "type": "function",
    "name": "add_note",
    "parameters": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    },
}


def history(response):
    """What the provider was given, from an answer to `[[echo:messages]]`."""
    return json.loads(response.output_text)


@flow
def responses_create(f):
    response = f.respond("hello there")
    equal(response.status, "completed")
    equal(response.output_text, f"You said: hello there {f.mark}")
    assert response.id.startswith("resp_"), response.id
    [message] = response.output
    equal((message.type, message.role, message.status), ("message", "assistant", "completed"))
    assert message.id.startswith("msg_"), message.id
    equal(message.content[0].annotations, [])
    equal((response.usage.input_tokens, response.usage.output_tokens), (3, 5))
    equal(response.usage.total_tokens, 8)
    equal(response.usage.input_tokens_details.cached_tokens, 0)
    equal(response.usage.output_tokens_details.reasoning_tokens, 0)
    equal((response.store, response.background), (True, False))


@flow
def responses_object_is_complete(f):
    """Every field that the Open Responses specification wants is there, typed or null."""
    raw = f.client.responses.with_raw_response.create(model=MODEL, input=f"shape {f.mark}")
    body = json.loads(raw.content)
    missing = [name for name in ALWAYS + MAY_BE_NULL if name not in body]
    equal(missing, [], "missing fields")
    equal([name for name in ALWAYS if body[name] is None], [], "null fields")
    equal(body["object"], "response")
    equal(body["metadata"], {})
    assert "output_text" not in body, "output_text is the SDK's own"
    assert body["completed_at"] >= body["created_at"]


@flow
def responses_headers(f):
    raw = f.client.responses.with_raw_response.create(model=MODEL, input=f"headers {f.mark}")
    usage = raw.parse().usage
    assert raw.headers["holdfast-call-id"].startswith("hfc_")
    assert raw.headers["holdfast-session"].startswith("sess_")
    equal(raw.headers["holdfast-model"], MODEL)
    equal(Decimal(raw.headers["holdfast-cost"]), cost_of(usage))


@flow
def responses_retrieve_delete(f):
    response = f.respond("keep me")
    again = f.client.responses.retrieve(response.id)
    equal(again.model_dump(exclude_unset=True), response.model_dump(exclude_unset=True))
    f.client.responses.delete(response.id)
    equal(
        raises(openai.NotFoundError, lambda: f.client.responses.retrieve(response.id)).status_code,
        404,
    )
    raises(openai.NotFoundError, lambda: f.client.responses.delete(response.id))
    raises(openai.NotFoundError, lambda: f.client.responses.input_items.list(response.id))


@flow
def responses_of_another_key(f):
    """One user's responses do not exist for another's key, whatever it asks."""
    response = f.respond("mine")
    other = f.with_key("stranger").responses
    raises(openai.NotFoundError, lambda: other.retrieve(response.id))
    raises(openai.NotFoundError, lambda: other.delete(response.id))
    raises(openai.NotFoundError, lambda: other.cancel(response.id))
    raises(openai.NotFoundError, lambda: other.input_items.list(response.id))
    error = raises(
        openai.APIStatusError,
        lambda: other.create(model=MODEL, input="x", previous_response_id=response.id),
    )
    equal(error.body["code"], "previous_response_not_found")
    equal(f.client.responses.retrieve(response.id).status, "completed")


@flow
def responses_input_items(f):
    items = [{"role": "user", "content": f"item {i} {f.mark}"} for i in range(5)]
    response = f.client.responses.create(model=MODEL, input=items)
    newest_first = list(f.client.responses.input_items.list(response.id))
    equal(
        [i.content[0].text for i in newest_first], [f"item {i} {f.mark}" for i in (4, 3, 2, 1, 0)]
    )
    equal(len({i.id for i in newest_first}), 5)
    paged = list(f.client.responses.input_items.list(response.id, limit=2, order="asc"))
    equal([i.id for i in paged], [i.id for i in reversed(newest_first)], "two a page")


@flow
def responses_chain(f):
    first = f.respond("My name is Ada.")
    second = f.respond("And my boat is Wren.", previous_response_id=first.id)
    third = f.respond("[[echo:messages]]", previous_response_id=second.id)
    equal(third.previous_response_id, second.id)
    seen = history(third)
    equal(
        seen,
        [
            ["user", f"My name is Ada. {f.mark}"],
            ["assistant", f"You said: My name is Ada. {f.mark}"],
            ["user", f"And my boat is Wren. {f.mark}"],
            ["assistant", f"You said: And my boat is Wren. {f.mark}"],
            ["user", f"[[echo:messages]] {f.mark}"],
        ],
    )


@flow
def responses_chain_is_one_session(f):
    create = f.client.responses.with_raw_response.create
    first = create(model=MODEL, input=f"one {f.mark}")
    second = create(model=MODEL, input=f"two {f.mark}", previous_response_id=first.parse().id)
    equal(second.headers["holdfast-session"], first.headers["holdfast-session"])
    steps = f.steps(first.headers["holdfast-session"])
    equal([step["kind"] for step in steps], ["model", "model"], "steps in the journal")


@flow
def responses_fork(f):
    """Two answers to the same response are two sessions with a common past."""
    create = f.client.responses.with_raw_response.create
    root = create(model=MODEL, input=f"trunk {f.mark}")
    root_id = root.parse().id
    left = create(model=MODEL, input=f"left {f.mark}", previous_response_id=root_id)
    right = create(model=MODEL, input=f"[[echo:messages]] {f.mark}", previous_response_id=root_id)
    texts = [text for _, text in history(right.parse())]
    equal(texts, [f"trunk {f.mark}", f"You said: trunk {f.mark}", f"[[echo:messages]] {f.mark}"])
    equal(left.headers["holdfast-session"], root.headers["holdfast-session"])
    assert right.headers["holdfast-session"] != root.headers["holdfast-session"], (
        "the fork has its own session"
    )
    more = f.respond("[[echo:messages]]", previous_response_id=left.parse().id)
    assert f"left {f.mark}" in [text for _, text in history(more)]


@flow
def responses_unknown_previous(f):
    for unknown in ("resp_nothing", "resp_" + "0" * 26, "x", "../x"):
        error = raises(openai.BadRequestError, lambda: f.respond("x", previous_response_id=unknown))
        equal(error.body["code"], "previous_response_not_found")
        equal(error.body["param"], "previous_response_id")


@flow
def responses_instructions_are_not_inherited(f):
    first = f.respond("[[echo:messages]]", instructions="Speak like a sailor.")
    equal(history(first)[0], ["system", "Speak like a sailor."])
    equal(first.instructions, "Speak like a sailor.")
    second = f.respond("[[echo:messages]]", previous_response_id=first.id)
    assert second.instructions is None
    equal([role for role, _ in history(second)], ["user", "assistant", "user"])


@flow
def responses_input_forms(f):
    """What SDKs really send: roles, parts, echoed output items with extra nulls, no ids."""
    items = [
        {"role": "system", "content": "sys"},
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "dev"}],
        },
        {"role": "user", "content": "hi"},
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "phase": None,
            "content": [
                {"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}
            ],
        },
        {
            "role": "user",
            "content": [{"type": "input_text", "text": f"[[echo:messages]] {f.mark}"}],
        },
    ]
    seen = history(f.client.responses.create(model=MODEL, input=items))
    equal([text for _, text in seen], ["sys", "dev", "hi", "hello", f"[[echo:messages]] {f.mark}"])
    equal([role for role, _ in seen][2:], ["user", "assistant", "user"])


@flow
def responses_manual_history(f):
    """The output of one response given back as input of the next, as the SDK's guide does it."""
    items = [{"role": "user", "content": f"first {f.mark}"}]
    first = f.client.responses.create(model=MODEL, input=items, store=False)
    items += first.output
    items.append({"role": "user", "content": f"[[echo:messages]] {f.mark}"})
    second = f.client.responses.create(model=MODEL, input=items, store=False)
    equal([role for role, _ in history(second)], ["user", "assistant", "user"])


@flow
def responses_item_reference(f):
    first = f.respond("referred to")
    items = [
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": f"[[echo:messages]] {f.mark}"},
    ]
    second = f.client.responses.create(model=MODEL, input=items)
    equal(history(second)[0], ["assistant", f"You said: referred to {f.mark}"])


@flow
def responses_unknown_item_reference(f):
    mine = f.respond("private")
    items = [{"type": "item_reference", "id": mine.output[0].id}, {"role": "user", "content": "x"}]
    other = f.with_key("stranger").responses
    error = raises(openai.APIStatusError, lambda: other.create(model=MODEL, input=items))
    assert error.status_code in (400, 404) and mine.output[0].id in error.body["message"], (
        error.body
    )


@flow
def responses_metadata(f):
    response = f.respond("tagged", metadata={"trip": "north", "leg": "2"})
    equal(response.metadata, {"trip": "north", "leg": "2"})
    equal(f.client.responses.retrieve(response.id).metadata, {"trip": "north", "leg": "2"})


@flow
def responses_sampling_reaches_the_provider(f):
    response = f.respond("sampled", temperature=0.25, top_p=0.5, max_output_tokens=77)
    body = json.loads(f.sent()[0]["body"])
    equal((body["temperature"], body["top_p"]), (0.25, 0.5))
    equal(body.get("max_completion_tokens") or body.get("max_tokens"), 77)
    equal((response.temperature, response.top_p, response.max_output_tokens), (0.25, 0.5, 77))


@flow
def responses_incomplete(f):
    response = f.respond("[[words:50]]", max_output_tokens=4)
    equal(response.status, "incomplete")
    equal(response.incomplete_details.reason, "max_output_tokens")
    equal(response.output_text, "word1 word2 word3 word4")
    equal(f.client.responses.retrieve(response.id).status, "incomplete")


@flow
def responses_incomplete_stream(f):
    events = dumped(f.respond("[[words:50]]", max_output_tokens=3, stream=True))
    equal(events[-1]["type"], "response.incomplete")
    equal(check_events(events)["incomplete_details"]["reason"], "max_output_tokens")


@flow
def responses_store_false(f):
    response = f.respond("forget me", store=False)
    equal(response.status, "completed")
    assert response.store is False
    raises(openai.NotFoundError, lambda: f.client.responses.retrieve(response.id))
    error = raises(openai.APIStatusError, lambda: f.respond("x", previous_response_id=response.id))
    equal(error.body["code"], "previous_response_not_found")
    for path in f.server.data.rglob("holdfast.db*"):
        assert f"forget me {f.mark}".encode() not in path.read_bytes(), (
            f"its text is in {path.name}"
        )


@flow
def responses_stream_wire(f):
    """The raw bytes: safe order, no ids, one comment line directly before the terminal event."""
    with f.client.responses.with_streaming_response.create(
        model=MODEL, input=f"wire {f.mark}", stream=True
    ) as response:
        equal(response.status_code, 200)
        assert response.headers["holdfast-session"].startswith("sess_")
        lines = list(response.iter_lines())
    events, comments = read_sse(lines)
    final = check_events(events)
    equal(events[-1]["type"], "[DONE]")
    equal(final["status"], "completed")
    cost = [(at, text) for at, text in comments if "holdfast-cost" in text]
    equal(len(cost), 1, "comment lines with the cost")
    equal(events[cost[0][0]]["type"], "response.completed", "what follows the comment")
    fields = dict(part.strip().split("=", 1) for part in cost[0][1].split(";"))
    equal(Decimal(fields["holdfast-cost"]), cost_of(final["usage"]))


@flow
def responses_stream_raw(f):
    events = dumped(f.respond("typed events", stream=True))
    final = check_events(events)
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    equal(text, f"You said: typed events {f.mark}")
    equal(final["output"][0]["content"][0]["text"], text)
    equal(final["usage"]["total_tokens"], 8)
    stored = f.client.responses.retrieve(final["id"]).model_dump(exclude_unset=True)
    equal(stored["output"], final["output"])


@flow
def responses_stream_helper(f):
    with f.client.responses.stream(model=MODEL, input=f"helped {f.mark}") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    equal(final.output_text, f"You said: helped {f.mark}")
    assert kinds.index("response.created") == 0 and kinds[-1] == "response.completed", kinds


@flow
def responses_async_stream_helper(f):
    async def run():
        async with f.async_client() as client:
            async with client.responses.stream(model=MODEL, input=f"async {f.mark}") as stream:
                async for _ in stream:
                    pass
                return await stream.get_final_response()

    equal(asyncio.run(run()).output_text, f"You said: async {f.mark}")


@flow
def responses_function_call(f):
    first = f.respond('[[tool:find_note {"query":"harbor"}]]', tools=[FIND_TOOL])
    [call] = first.output
    equal((call.type, call.name, call.status), ("function_call", "find_note", "completed"))
    equal(json.loads(call.arguments), {"query": "harbor"})
    assert call.id.startswith("fc_") and call.call_id.startswith("call_"), (call.id, call.call_id)
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "It opens at 6."}
    second = f.client.responses.create(
        model=MODEL, input=[output], previous_response_id=first.id, tools=[FIND_TOOL]
    )
    equal(second.output_text, "The tool said: It opens at 6.")


@flow
def responses_function_call_stream(f):
    events = dumped(f.respond('[[tool:add_note {"text":"a b c"}]]', tools=[ADD_TOOL], stream=True))
    final = check_events(events)
    deltas = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert len(deltas) > 1, "the arguments came in one piece"
    equal(json.loads("".join(deltas)), {"text": "a b c"})
    equal(final["output"][0]["name"], "add_note")


@flow
def responses_function_calls_parallel(f):
    text = '[[tool:add_note {"text":"one"}]] [[tool:find_note {"query":"two"}]]'
    with f.client.responses.stream(
        model=MODEL, input=f"{text} {f.mark}", tools=[ADD_TOOL, FIND_TOOL]
    ) as stream:
        first = stream.get_final_response()
    equal([item.name for item in first.output], ["add_note", "find_note"])
    outputs = [
        {
            "type": "function_call_output",
            "call_id": item.call_id,
            "output": f"result of {item.name}",
        }
        for item in first.output
    ]
    second = f.client.responses.create(model=MODEL, input=outputs, previous_response_id=first.id)
    equal(second.output_text, "The tool said: result of find_note")


@flow
def responses_function_call_without_state(f):
    """store:false: the call and its output go back in full."""
    items = [{"role": "user", "content": f'[[tool:find_note {{"query":"x"}}]] {f.mark}'}]
    first = f.client.responses.create(model=MODEL, input=items, tools=[FIND_TOOL], store=False)
    items += first.output
    items.append(
        {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "found"}
    )
    second = f.client.responses.create(model=MODEL, input=items, tools=[FIND_TOOL], store=False)
    equal(second.output_text, "The tool said: found")


@flow
def responses_tool_choice(f):
    tools = [ADD_TOOL, FIND_TOOL]
    named = f.respond("look", tools=tools, tool_choice={"type": "function", "name": "find_note"})
    equal(named.output[0].name, "find_note")
    none = f.respond('[[tool:find_note {"query":"x"}]] talk', tools=tools, tool_choice="none")
    equal(none.output[0].type, "message")
    required = f.respond("save", tools=tools, tool_choice="required", parallel_tool_calls=False)
    equal(required.output[0].name, "add_note")


@flow
def responses_parse(f):
    response = f.client.responses.parse(model=MODEL, input=f"berth 21 {f.mark}", text_format=Berth)
    equal(response.output_parsed, Berth(harbor=f"berth 21 {f.mark}", number=21, free=True))


@flow
def responses_parse_stream(f):
    with f.client.responses.stream(
        model=MODEL, input=f"berth 8 {f.mark}", text_format=Berth
    ) as stream:
        equal(stream.get_final_response().output_parsed.number, 8)


@flow
def responses_json_object(f):
    response = f.respond("json", text={"format": {"type": "json_object"}})
    equal(json.loads(response.output_text), {"answer": f"json {f.mark}"})
    equal(response.text.format.type, "json_object")
