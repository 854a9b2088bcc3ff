"""Chat completions: what a client of OpenAI's API sends, and what it must get back."""

import asyncio
import hashlib
import json
from decimal import Decimal

from pydantic import BaseModel

from flows import MODEL, cost_of, equal, flow
from harness import eventually

NOTE_TOOL = {
    "type": "function",
    "function": {
        "name": "add_note",
        "description": "Adds a note.",
        "parameters": {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        },
    },
}
FIND_TOOL = {
    "type": "function",
    "function": {
        "name": "find_note",
        "description": "Finds the notes about a word.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}},
            "required": ["query"],
            "additionalProperties": False,
        },
    },
}


class Berth(BaseModel):
    harbor: str
    number: int
    free: bool


@flow
def chat_plain(f):
    answer = f.ask("hello there")
    equal(answer.choices[0].message.content, f"You said: hello there {f.mark}")
    equal(answer.choices[0].finish_reason, "stop")
    equal(answer.choices[0].message.role, "assistant")
    equal(answer.usage.prompt_tokens, 3)
    equal(answer.usage.completion_tokens, 5)
    equal(answer.usage.total_tokens, 8)
    assert answer.id.startswith("chatcmpl-"), answer.id
    [line] = f.sent()
    assert line["finished"] is True and line["status"] == 200


@flow
def chat_response_headers(f):
    raw = f.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=f.user("price me")
    )
    answer = raw.parse()
    equal(Decimal(raw.headers["holdfast-cost"]), cost_of(answer.usage), "holdfast-cost")
    equal(raw.headers["holdfast-model"], MODEL)
    equal(raw.headers["holdfast-attempts"], "1")
    call_id = raw.headers["holdfast-call-id"]
    assert call_id.startswith("hfc_") and len(call_id) == 4 + 26, call_id
    [line] = f.provider.requests(call_id=call_id)
    assert line["attempt_id"].startswith("att_"), line["attempt_id"]
    assert f.mark in line["body"]


@flow
def chat_stream(f):
    stream = f.ask("stream this", stream=True)
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    equal(text, f"You said: stream this {f.mark}")
    equal(chunks[0].choices[0].delta.role, "assistant")
    equal([c.choices[0].finish_reason for c in chunks if c.choices][-1], "stop")
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert stream.response.headers["holdfast-call-id"].startswith("hfc_")
    equal(len(f.sent()), 1)


@flow
def chat_stream_with_usage(f):
    chunks = list(f.ask("count this", stream=True, stream_options={"include_usage": True}))
    equal(chunks[-1].choices, [])
    equal(chunks[-1].usage.prompt_tokens, 3)
    equal(chunks[-1].usage.completion_tokens, 5)
    assert all(c.usage is None for c in chunks[:-1]), "usage on an ordinary chunk"


@flow
def chat_stream_without_usage(f):
    """The provider is asked for usage all the same, and the client does not see that."""
    chunks = list(f.ask("do not count", stream=True))
    assert all(c.choices for c in chunks), "a chunk without choices was let through"
    assert all(c.usage is None for c in chunks), "usage that nobody asked for"
    [line] = f.sent()
    equal(json.loads(line["body"])["stream_options"], {"include_usage": True})
    assert line["usage"]["completion_tokens"] == 6


@flow
def chat_stream_cost_comment(f):
    """What is known only at the end comes in one comment line directly before [DONE]."""
    with f.client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=f.user("comment"), stream=True
    ) as response:
        lines = list(response.iter_lines())
    equal([line for line in lines if line][-1], "data: [DONE]")
    comments = [line for line in lines if line.startswith(":") and "holdfast-cost" in line]
    equal(len(comments), 1, "comment lines with the cost")
    after = lines[lines.index(comments[0]) + 1 :]
    equal([line for line in after if line], ["data: [DONE]"], "after the comment")
    fields = dict(part.strip().split("=", 1) for part in comments[0].lstrip(": ").split(";"))
    [line] = f.sent()
    equal(Decimal(fields["holdfast-cost"]), cost_of(line["usage"]))
    equal(fields["holdfast-attempts"], "1")


@flow
def chat_stream_helper(f):
    with f.client.chat.completions.stream(model=MODEL, messages=f.user("help me")) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    equal(final.choices[0].message.content, f"You said: help me {f.mark}")
    assert "content.done" in kinds and "content.delta" in kinds, set(kinds)


@flow
def chat_async_stream(f):
    async def run():
        async with f.async_client() as client:
            stream = await client.chat.completions.create(
                model=MODEL, messages=f.user("async"), stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    equal(asyncio.run(run()), f"You said: async {f.mark}")


@flow
def chat_async_many(f):
    """Sixteen at once over one client: every answer goes to the one who asked."""

    async def run():
        async with f.async_client() as client:
            asks = [
                client.chat.completions.create(
                    model=MODEL, messages=f.user(f"[[delay_ms=20]] number {i}")
                )
                for i in range(16)
            ]
            return await asyncio.gather(*asks)

    for i, answer in enumerate(asyncio.run(run())):
        equal(answer.choices[0].message.content, f"You said: number {i} {f.mark}")


@flow
def chat_tool_call(f):
    answer = f.ask('[[tool:add_note {"text":"tide at 7"}]]', tools=[NOTE_TOOL])
    equal(answer.choices[0].finish_reason, "tool_calls")
    [call] = answer.choices[0].message.tool_calls
    equal(call.function.name, "add_note")
    equal(json.loads(call.function.arguments), {"text": "tide at 7"})
    assert call.id.startswith("call_"), call.id


@flow
def chat_tool_call_stream(f):
    stream = f.ask('[[tool:add_note {"text":"a b c"}]]', tools=[NOTE_TOOL], stream=True)
    name, arguments, ids, stop = "", "", set(), None
    for chunk in stream:
        for choice in chunk.choices:
            stop = choice.finish_reason or stop
            for delta in choice.delta.tool_calls or []:
                equal(delta.index, 0)
                name += delta.function.name or ""
                arguments += delta.function.arguments or ""
                ids |= {delta.id} if delta.id else set()
    equal(name, "add_note")
    equal(json.loads(arguments), {"text": "a b c"})
    equal(len(ids), 1)
    equal(stop, "tool_calls")


@flow
def chat_tools_parallel(f):
    text = '[[tool:add_note {"text":"one"}]] [[tool:find_note {"query":"two"}]]'
    answer = f.ask(text, tools=[NOTE_TOOL, FIND_TOOL])
    calls = answer.choices[0].message.tool_calls
    equal([call.function.name for call in calls], ["add_note", "find_note"])
    equal(len({call.id for call in calls}), 2)


@flow
def chat_tools_parallel_stream_helper(f):
    text = '[[tool:add_note {"text":"one"}]] [[tool:find_note {"query":"two"}]]'
    with f.client.chat.completions.stream(
        model=MODEL, messages=f.user(text), tools=[NOTE_TOOL, FIND_TOOL]
    ) as stream:
        done = [e for e in stream if e.type == "tool_calls.function.arguments.done"]
    equal([(e.index, e.name) for e in done], [(0, "add_note"), (1, "find_note")])
    equal(json.loads(done[1].arguments), {"query": "two"})


@flow
def chat_tools_not_parallel(f):
    text = '[[tool:add_note {"text":"one"}]] [[tool:add_note {"text":"two"}]]'
    answer = f.ask(text, tools=[NOTE_TOOL], parallel_tool_calls=False)
    equal(len(answer.choices[0].message.tool_calls), 1)


@flow
def chat_tool_choice_none(f):
    answer = f.ask('[[tool:add_note {"text":"x"}]] words', tools=[NOTE_TOOL], tool_choice="none")
    assert not answer.choices[0].message.tool_calls
    equal(answer.choices[0].message.content, f"You said: words {f.mark}")


@flow
def chat_tool_choice_required(f):
    answer = f.ask("save it", tools=[NOTE_TOOL, FIND_TOOL], tool_choice="required")
    [call] = answer.choices[0].message.tool_calls
    equal(call.function.name, "add_note")
    assert f.mark in json.loads(call.function.arguments)["text"]


@flow
def chat_tool_choice_named(f):
    choice = {"type": "function", "function": {"name": "find_note"}}
    answer = f.ask("look for it", tools=[NOTE_TOOL, FIND_TOOL], tool_choice=choice)
    [call] = answer.choices[0].message.tool_calls
    equal(call.function.name, "find_note")


@flow
def chat_tool_result_round_trip(f):
    messages = f.user('[[tool:find_note {"query":"harbor"}]] look')
    first = f.client.chat.completions.create(model=MODEL, messages=messages, tools=[FIND_TOOL])
    [call] = first.choices[0].message.tool_calls
    messages += [
        first.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "The gate opens at 6."},
    ]
    second = f.client.chat.completions.create(model=MODEL, messages=messages, tools=[FIND_TOOL])
    equal(second.choices[0].message.content, "The tool said: The gate opens at 6.")
    equal(second.choices[0].finish_reason, "stop")


@flow
def chat_parse_pydantic(f):
    answer = f.client.chat.completions.parse(
        model=MODEL, messages=f.user("berth 14 please"), response_format=Berth
    )
    berth = answer.choices[0].message.parsed
    equal(berth, Berth(harbor=f"berth 14 please {f.mark}", number=14, free=True))


@flow
def chat_parse_stream(f):
    with f.client.chat.completions.stream(
        model=MODEL, messages=f.user("berth 9"), response_format=Berth
    ) as stream:
        parsed = stream.get_final_completion().choices[0].message.parsed
    equal(parsed.number, 9)


@flow
def chat_json_schema(f):
    schema = {
        "type": "object",
        "properties": {
            "level": {"enum": ["low", "high"]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["level", "tags"],
        "additionalProperties": False,
    }
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "tide", "schema": schema, "strict": True},
    }
    answer = f.ask("tide", response_format=wanted)
    value = json.loads(answer.choices[0].message.content)
    equal(value, {"level": "low", "tags": [f"tide {f.mark}"]})


@flow
def chat_json_object(f):
    answer = f.ask("any object", response_format={"type": "json_object"})
    equal(json.loads(answer.choices[0].message.content), {"answer": f"any object {f.mark}"})


@flow
def chat_stop_sequence(f):
    answer = f.ask("[[say:north east south]]", stop=["south"])
    equal(answer.choices[0].message.content, "north east ")
    equal(json.loads(f.sent()[0]["body"])["stop"], ["south"])


@flow
def chat_n_choices(f):
    answer = f.ask("several", n=3)
    equal([c.index for c in answer.choices], [0, 1, 2])
    equal(answer.choices[2].message.content, f"Choice 2: You said: several {f.mark}")


@flow
def chat_n_choices_stream(f):
    texts = {0: "", 1: ""}
    for chunk in f.ask("both", n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    equal(texts, {0: f"You said: both {f.mark}", 1: f"Choice 1: You said: both {f.mark}"})


@flow
def chat_seed(f):
    first, second = f.ask("seeded", seed=7), f.ask("seeded", seed=7)
    equal(first.system_fingerprint, "fp_scripted_7")
    equal(first.choices[0].message.content, second.choices[0].message.content)


@flow
def chat_logprobs(f):
    answer = f.ask("sure", logprobs=True, top_logprobs=1)
    tokens = answer.choices[0].logprobs.content
    equal("".join(t.token for t in tokens), answer.choices[0].message.content)
    equal(tokens[0].logprob, -0.5)
    equal(tokens[0].top_logprobs[0].token, "You")


@flow
def chat_max_tokens(f):
    answer = f.ask("[[words:50]]", max_tokens=4)
    equal(answer.choices[0].message.content, "word1 word2 word3 word4")
    equal(answer.choices[0].finish_reason, "length")
    equal(answer.usage.completion_tokens, 4)


@flow
def chat_max_completion_tokens_stream(f):
    chunks = list(f.ask("[[words:50]]", max_completion_tokens=3, stream=True))
    equal(
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "word1 word2 word3"
    )
    equal(chunks[-1].choices[0].finish_reason, "length")


@flow
def chat_bytes_pass_through(f):
    """Unknown fields, key order and odd spellings reach the provider as they were sent."""
    body = {
        "zebra": {
            "nested": [1.50, "\u00fc \u4f60\u597d \U0001f6a2", None, {"b": 1, "a": 2}],
            "e": 1e-7,
        },
        "provider_quirk": "keep me",
        "x_flag": False,
    }
    raw = f.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=f.user("bytes"), max_tokens=50, extra_body=body
    )
    sent = raw.http_request.content
    expected = sent.replace(b'"mock/demo"', b'"demo"', 1)
    [line] = f.provider.requests(call_id=raw.headers["holdfast-call-id"])
    equal(line["body"].encode(), expected, "the body at the provider")
    equal(line["body_sha256"], hashlib.sha256(expected).hexdigest())


@flow
def chat_content_parts_and_roles(f):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "[[echo:messages]]"},
                {"type": "text", "text": f.mark},
            ],
        },
    ]
    answer = f.client.chat.completions.create(model=MODEL, messages=messages)
    seen = json.loads(answer.choices[0].message.content)
    equal(seen, [["developer", "Be brief."], ["user", f"[[echo:messages]] {f.mark}"]])


@flow
def chat_long_stream(f):
    """A thousand chunks arrive whole and in order."""
    stream = f.ask("[[words:1000]]", stream=True)
    text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    equal(text, " ".join(f"word{i}" for i in range(1, 1001)))


@flow
def chat_large_body(f):
    """300 kB of message pass, and are counted."""
    text = "pad " * 75_000
    answer = f.ask(text + "[[say:ok]]")
    equal(answer.choices[0].message.content, "ok")
    assert answer.usage.prompt_tokens > 75_000


@flow
def chat_abort_mid_stream(f):
    """A client that leaves stops the provider; its connection pool stays usable."""
    stream = f.ask("[[delay_ms=100]] [[words:200]]", stream=True)
    call_id = stream.response.headers["holdfast-call-id"]
    for _ in range(4):
        next(stream)
    stream.close()
    [line] = eventually("the provider sees the cut", lambda: f.provider.requests(call_id=call_id))
    assert line["finished"] is False, line
    assert line["usage"]["completion_tokens"] < 100, line["usage"]
    equal(f.ask("[[say:still here]]").choices[0].message.content, "still here")


@flow
def chat_task_and_session_headers(f):
    """Stateless calls may name a session and a task; both come back on the bill."""
    named = {"holdfast-session": f.mark, "holdfast-task": f"task-{f.mark}"}
    raw = f.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=f.user("on the bill"), extra_headers=named
    )
    assert raw.headers.get("holdfast-session"), "no holdfast-session in the answer"
    call_id, usage = raw.headers["holdfast-call-id"], raw.parse().usage

    def recorded():
        status, found = f.server.api("GET", f"calls?task=task-{f.mark}")
        equal(status, 200, "GET /api/calls")
        return [call for call in found["data"] if call["call"] == call_id]

    [call] = eventually("the call is in the ledger", recorded)
    equal(call["usage"]["input_tokens"], usage.prompt_tokens, "input tokens in the ledger")
    equal(call["attempt"], f.sent()[0]["attempt_id"])
