"""MCP tools that the server runs itself: what they do, what they leave behind, and doubt."""

import json
import re

import openai
from flows_background import finished

from events import check_events, dumped
from flows import MODEL, equal, flow, raises
from harness import effects, eventually

NOTES = {"type": "mcp", "server_label": "notes", "require_approval": "never"}
# The same program with an answer that comes far too late: its writing steps end in doubt.
SLOW = {"type": "mcp", "server_label": "slow"}
FIND_HARBOR = '[[tool:find_note {"query":"harbor"}]]'
HARBOR = "The harbor gate opens at 6."
STEP = re.compile(r"step_[0-9a-hjkmnp-tv-z]{26}")


def add(text):
    return f'[[tool:add_note {{"text":"{text}"}}]]'


def own_effects(f, which="notes"):
    return [e for e in effects(f.effects_path[which]) if f.mark in json.dumps(e["arguments"])]


def items(response, kind):
    return [item for item in response.output if item.type == kind]


@flow
def mcp_find(f):
    response = f.respond(FIND_HARBOR, tools=[NOTES])
    equal([item.type for item in response.output], ["mcp_list_tools", "mcp_call", "message"])
    listed, call, message = response.output
    equal(listed.server_label, "notes")
    equal(sorted(tool.name for tool in listed.tools), ["add_note", "find_note", "set_title"])
    find = next(tool for tool in listed.tools if tool.name == "find_note")
    equal(find.input_schema["required"], ["query"])
    equal((call.name, call.server_label, call.status), ("find_note", "notes", "completed"))
    equal(
        (json.loads(call.arguments), call.output, call.error), ({"query": "harbor"}, HARBOR, None)
    )
    equal(message.content[0].text, f"The tool said: {HARBOR}")
    equal(
        response.usage.total_tokens,
        sum(line["usage"]["total_tokens"] for line in f.sent()),
        "usage of both calls",
    )


@flow
def mcp_wire_shape(f):
    """What AI SDKs parse strictly: optional fields are absent, never null."""
    raw = f.client.responses.with_raw_response.create(
        model=MODEL, input=f"{FIND_HARBOR} {f.mark}", tools=[NOTES]
    )
    listed, call, _ = json.loads(raw.content)["output"]
    assert listed["id"].startswith("mcpl_") and call["id"].startswith("mcp_"), (
        listed["id"],
        call["id"],
    )
    for where in [listed, *listed["tools"]]:
        nulls = [name for name, value in where.items() if value is None]
        equal(nulls, [], "null fields")
    for name in ("id", "status", "arguments", "name", "server_label"):
        assert call.get(name), f"{name} is missing: {call}"


@flow
def mcp_stream(f):
    events = dumped(f.respond(FIND_HARBOR, tools=[NOTES], stream=True))
    check_events(events)
    kinds = [e["type"] for e in events]
    wanted = [
        "response.mcp_list_tools.in_progress",
        "response.mcp_list_tools.completed",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
        "response.mcp_call.completed",
        "response.output_text.done",
    ]
    equal([kind for kind in wanted if kind not in kinds], [], "missing events")
    assert kinds.index("response.mcp_list_tools.completed") < kinds.index(
        "response.mcp_call.in_progress"
    )


@flow
def mcp_stream_helper(f):
    with f.client.responses.stream(
        model=MODEL, input=f"{FIND_HARBOR} {f.mark}", tools=[NOTES]
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    equal(final.output_text, f"The tool said: {HARBOR}")


@flow
def mcp_write_has_one_effect(f):
    raw = f.client.responses.with_raw_response.create(
        model=MODEL, input=f"{add('berth 12 ' + f.mark)} {f.mark}", tools=[NOTES]
    )
    [call] = items(raw.parse(), "mcp_call")
    assert f"berth 12 {f.mark}" in call.output, call.output
    [effect] = own_effects(f)
    equal((effect["tool"], effect["arguments"]), ("add_note", {"text": f"berth 12 {f.mark}"}))
    assert STEP.fullmatch(effect["idempotency_key"]), effect["idempotency_key"]
    steps = {step["id"]: step for step in f.steps(raw.headers["holdfast-session"])}
    step = steps[effect["idempotency_key"]]
    equal((step["kind"], step["tool"], step["state"]), ("tool", "add_note", "done"))


@flow
def mcp_five_calls(f):
    """A task of several rounds: each tool result is in the next question."""
    rounds = "[[next]]".join(
        [
            FIND_HARBOR,
            add("a " + f.mark),
            '[[tool:find_note {"query":"garden"}]]',
            add("b " + f.mark),
        ]
    )
    response = f.respond(rounds, tools=[NOTES])
    equal(
        [c.name for c in items(response, "mcp_call")],
        ["find_note", "add_note", "find_note", "add_note"],
    )
    equal(len(f.sent()), 5, "model calls")
    equal([e["arguments"]["text"] for e in own_effects(f)], [f"a {f.mark}", f"b {f.mark}"])
    assert response.output_text.startswith("The tool said: Note "), response.output_text


@flow
def mcp_parallel_calls(f):
    text = FIND_HARBOR + '[[tool:find_note {"query":"printer"}]]'
    response = f.respond(text, tools=[NOTES])
    calls = items(response, "mcp_call")
    equal([c.output for c in calls], [HARBOR, "The printer is on floor 3."])
    equal(response.output_text, "The tool said: The printer is on floor 3.")
    # The model reads them as it said them: in one message, the results behind it.
    [_, told] = [json.loads(line["body"])["messages"] for line in f.sent()]
    equal([message["role"] for message in told], ["user", "assistant", "tool", "tool"])
    equal([call["id"] for call in told[1]["tool_calls"]], [call.id for call in calls])
    equal([message["tool_call_id"] for message in told[2:]], [call.id for call in calls])


@flow
def mcp_history_only_grows(f):
    """Each question to a model begins with the whole one before, byte for byte."""
    pair = FIND_HARBOR + '[[tool:find_note {"query":"printer"}]]'
    rounds = "[[next]]".join([pair, FIND_HARBOR, FIND_HARBOR + add(f.mark)])
    first = f.respond(rounds, tools=[NOTES])
    f.respond("[[words:3]]", tools=[NOTES], previous_response_id=first.id)
    told = [json.loads(line["body"])["messages"] for line in f.sent()]
    equal(len(told), 5, "model calls")
    for before, after in zip(told, told[1:], strict=False):
        equal(json.dumps(after[: len(before)]), json.dumps(before))
    calls = [len(m["tool_calls"]) for m in told[-1] if m.get("tool_calls")]
    equal(calls, [2, 1, 2], "calls of each answer")


@flow
def mcp_more_calls_than_one_answer_may_make(f):
    """The first 128 are made; the model reads of each other that it was not."""
    response = f.respond(FIND_HARBOR * 130, tools=[NOTES])
    calls = items(response, "mcp_call")
    equal([c.status for c in calls], ["completed"] * 128 + ["failed"] * 2)
    equal(calls[-1].error.type, "mcp_protocol_error")
    assert "at most" in calls[-1].error.message, calls[-1].error
    told = json.loads(f.sent()[-1]["body"])["messages"]
    equal(len([m for m in told if m["role"] == "tool" and "at most" in m["content"]]), 2)


@flow
def mcp_call_limit_of_the_client(f):
    """A call that is not made is typed as a refusal, and one effect is had."""
    response = f.respond(add("a " + f.mark) + add("b " + f.mark), tools=[NOTES], max_tool_calls=1)
    made, refused = items(response, "mcp_call")
    equal((made.status, made.error, refused.status), ("completed", None, "failed"))
    error = refused.error
    equal((error.type, isinstance(error.code, int)), ("mcp_protocol_error", True))
    assert "no more tool calls" in error.message, error
    equal(len(own_effects(f)), 1)


@flow
def mcp_tool_error(f):
    """A tool that refuses is told to the model; the turn goes on."""
    response = f.respond('[[tool:add_note {"text":" "}]]', tools=[NOTES])
    [call] = items(response, "mcp_call")
    equal((call.status, call.error.type), ("failed", "mcp_tool_execution_error"))
    [content] = call.error.content
    assert content["type"] == "text" and "must be a text" in content["text"], content
    assert "must be a text" in response.output_text, response.output_text
    equal(response.status, "completed")


@flow
def mcp_allowed_tools(f):
    """What is not allowed is neither shown to the model nor run when it asks anyway."""
    response = f.respond(add(f.mark), tools=[NOTES | {"allowed_tools": ["find_note"]}])
    offered = [tool["function"]["name"] for tool in json.loads(f.sent()[0]["body"])["tools"]]
    assert len(offered) == 1 and offered[0].endswith("find_note"), offered
    equal(own_effects(f), [])
    [listed] = items(response, "mcp_list_tools")
    equal([tool.name for tool in listed.tools], ["find_note"])


@flow
def mcp_allowed_tools_filter(f):
    response = f.respond(
        add(f.mark), tools=[NOTES | {"allowed_tools": {"tool_names": ["set_title"]}}]
    )
    equal([tool.name for tool in items(response, "mcp_list_tools")[0].tools], ["set_title"])
    equal(own_effects(f), [])


@flow
def mcp_with_function_tool(f):
    """Its own tools are run, the client's are handed out, in one turn."""
    function = {
        "type": "function",
        "name": "ask_captain",
        "parameters": {
            "type": "object",
            "properties": {"question": {"type": "string"}},
            "required": ["question"],
        },
    }
    text = FIND_HARBOR + '[[next]][[tool:ask_captain {"question":"go?"}]]'
    first = f.respond(text, tools=[NOTES, function])
    equal([item.type for item in first.output], ["mcp_list_tools", "mcp_call", "function_call"])
    call = first.output[-1]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "Aye."}
    second = f.client.responses.create(
        model=MODEL, input=[output], previous_response_id=first.id, tools=[NOTES, function]
    )
    equal(second.output_text, "The tool said: Aye.")


@flow
def mcp_next_turn_knows(f):
    first = f.respond(FIND_HARBOR, tools=[NOTES])
    second = f.respond("[[echo:messages]]", previous_response_id=first.id, tools=[NOTES])
    seen = json.loads(second.output_text)
    assert ["tool", HARBOR] in seen, seen
    equal(seen[-1], ["user", f"[[echo:messages]] {f.mark}"])


@flow
def mcp_own_url(f):
    response = f.respond(FIND_HARBOR, tools=[NOTES | {"server_url": "holdfast:notes"}])
    equal(items(response, "mcp_call")[0].output, HARBOR)


@flow
def mcp_denied_to_other_keys(f):
    """A tool server is denied to keys that are not named, and nothing of it is told."""
    client = f.with_key("stranger")
    error = raises(
        openai.APIStatusError,
        lambda: client.responses.create(model=MODEL, input=f"{add(f.mark)}", tools=[NOTES]),
    )
    assert error.status_code in (400, 403), error.status_code
    assert "add_note" not in str(error.body), error.body
    equal((own_effects(f), f.sent()), ([], []))


@flow
def mcp_unknown_server(f):
    error = raises(
        openai.APIStatusError,
        lambda: f.respond("x", tools=[{"type": "mcp", "server_label": "nobody"}]),
    )
    assert error.status_code in (400, 403) and "nobody" in error.body["message"], error.body
    equal(f.sent(), [])


@flow
def mcp_background(f):
    response = f.respond(add(f.mark), tools=[NOTES], background=True)
    done = finished(f, response.id)
    equal([item.type for item in done.output], ["mcp_list_tools", "mcp_call", "message"])
    equal(len(own_effects(f)), 1)
    check_events(dumped(f.client.responses.retrieve(response.id, stream=True)))


@flow
def mcp_idempotency_key_of_a_turn(f):
    """The whole turn is taken once: one effect for two equal POSTs."""
    options = dict(tools=[NOTES], extra_headers={"Idempotency-Key": f"turn-{f.mark}"})
    first, second = f.respond(add(f.mark), **options), f.respond(add(f.mark), **options)
    equal(first.id, second.id)
    equal(len(own_effects(f)), 1)


def in_doubt(f, response_id):
    """The open item of a response whose step is in doubt, once it says so."""

    def look():
        response = f.client.responses.retrieve(response_id)
        assert response.status in ("queued", "in_progress"), response.status
        calls = [item.model_dump() for item in items(response, "mcp_call")]
        marked = [call for call in calls if (call.get("holdfast") or {}).get("state") == "in_doubt"]
        return marked[0] if marked else None

    return eventually(f"{response_id} is in doubt", look)


def doubtful(f, **options):
    """A background turn whose writing tool had its effect and never answered."""
    raw = f.client.responses.with_raw_response.create(
        model=MODEL, input=f"{add(f.mark)} {f.mark}", tools=[SLOW], background=True, **options
    )
    response = raw.parse()
    return response.id, raw.headers["holdfast-session"], in_doubt(f, response.id)


def resolve(f, session, step, decision):
    status, answer = f.server.api("POST", f"sessions/{session}/steps/{step}/resolve", decision)
    assert status in (200, 202, 204), f"{status} {answer}"


@flow
def doubt_is_shown(f):
    """In doubt, with its arguments, and the session takes no other turn meanwhile."""
    response_id, session, item = doubtful(f)
    step = item["holdfast"]["step"]
    equal((item["name"], item["status"]), ("add_note", "in_progress"))
    equal(own_effects(f, "slow")[0]["idempotency_key"], step)
    status, found = f.server.api("GET", "sessions?state=in_doubt")
    equal(status, 200)
    assert session in json.dumps(found), "the session is not listed as in doubt"
    [shown] = [entry for entry in f.steps(session) if entry["id"] == step]
    equal((shown["tool"], json.loads(shown["arguments"])), ("add_note", {"text": f.mark}))
    assert shown["state"] == "in_doubt" and shown["why"] and shown["in_doubt_since"], shown
    error = raises(
        openai.BadRequestError, lambda: f.respond("meanwhile", previous_response_id=response_id)
    )
    equal(error.body["code"], "session_in_doubt")
    assert step in error.body["message"], error.body
    f.client.responses.cancel(response_id)


@flow
def doubt_resolved_as_done(f):
    response_id, session, item = doubtful(f)
    resolve(f, session, item["holdfast"]["step"], {"decision": "done", "output": "It was saved."})
    done = finished(f, response_id)
    equal(items(done, "mcp_call")[0].output, "It was saved.")
    equal(done.output_text, "The tool said: It was saved.")
    equal(len(own_effects(f, "slow")), 1)
    check_events(dumped(f.client.responses.retrieve(response_id, stream=True)))


@flow
def doubt_resolved_as_failed(f):
    response_id, session, item = doubtful(f)
    resolve(
        f, session, item["holdfast"]["step"], {"decision": "failed", "message": "The pen was dry."}
    )
    done = finished(f, response_id)
    [call] = items(done, "mcp_call")
    equal((call.status, call.error.type), ("failed", "mcp_tool_execution_error"))
    equal(call.error.content, [{"type": "text", "text": "The pen was dry."}])
    assert "The pen was dry." in done.output_text, done.output_text


@flow
def doubt_resolved_by_retry(f):
    """A retry carries the same key, so the tool server refuses what it has done already."""
    response_id, session, item = doubtful(f)
    resolve(f, session, item["holdfast"]["step"], {"decision": "retry"})
    done = finished(f, response_id)
    assert "has been used already" in done.output_text, done.output_text
    equal(len(own_effects(f, "slow")), 1, "effects")


@flow
def doubt_resolved_by_cancel(f):
    response_id, session, item = doubtful(f)
    equal(f.client.responses.cancel(response_id).status, "cancelled")
    [step] = [entry for entry in f.steps(session) if entry["id"] == item["holdfast"]["step"]]
    equal(step["state"], "abandoned")


@flow
def doubt_of_a_json_post(f):
    """A waiting POST is answered at once, by a 400 that SDKs do not repeat."""
    client = f.retrying()
    error = raises(
        openai.BadRequestError,
        lambda: client.responses.create(model=MODEL, input=f"{add(f.mark)} {f.mark}", tools=[SLOW]),
    )
    equal(error.body["code"], "session_in_doubt")
    equal(error.response.headers["x-should-retry"], "false")
    [step] = set(STEP.findall(error.body["message"]))
    [response_id] = set(re.findall(r"resp_[0-9a-z]+", error.body["message"]))
    equal([e["idempotency_key"] for e in own_effects(f, "slow")], [step])
    equal(f.client.responses.retrieve(response_id).status, "in_progress")
    resolve(
        f, error.response.headers["holdfast-session"], step, {"decision": "done", "output": "ok"}
    )
    equal(finished(f, response_id).output_text, "The tool said: ok")


@flow
def doubt_of_a_stream(f):
    """A foreground stream stays open in doubt, and goes on with the decision."""
    stream = f.respond(add(f.mark), tools=[SLOW], stream=True)
    events = [next(stream).model_dump(exclude_unset=True)]
    response_id = events[0]["response"]["id"]
    step = in_doubt(f, response_id)["holdfast"]["step"]
    session = stream.response.headers["holdfast-session"]
    resolve(f, session, step, {"decision": "done", "output": "It was saved."})
    events += dumped(stream)
    final = check_events(events)
    equal(final["output"][-1]["content"][0]["text"], "The tool said: It was saved.")


@flow
def doubt_decision_is_checked(f):
    response_id, session, item = doubtful(f)
    step = item["holdfast"]["step"]
    for decision in ({}, {"decision": "maybe"}, {"decision": "done", "output": 5}):
        status, _ = f.server.api("POST", f"sessions/{session}/steps/{step}/resolve", decision)
        equal(status, 400, str(decision))
    status, _ = f.server.api(
        "POST", f"sessions/{session}/steps/{step}/resolve", {"decision": "retry"}, f.keys["ci"]
    )
    equal(status, 403, "a client's key decides")
    resolve(f, session, step, {"decision": "done", "output": "ok"})
    status, _ = f.server.api(
        "POST", f"sessions/{session}/steps/{step}/resolve", {"decision": "retry"}
    )
    assert 400 <= status < 500 and status != 409, f"decided twice: {status}"
    finished(f, response_id)
    equal(len(own_effects(f, "slow")), 1)
