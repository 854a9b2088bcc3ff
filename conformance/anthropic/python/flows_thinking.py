"""Thinking: signatures come back byte for byte, or nobody is told that they would."""

import json

import anthropic

from flows import BOTH, FIND_TOOL, after, calls, dropped, equal, flow, over, raises
from flows import result, shown, texts

BUDGET = {"type": "enabled", "budget_tokens": 1024}
ROOM = 4096
CALL = '[[think:First I look it up.]][[tool:find_note {"query":"harbor"}]]'


def signed(message):
    return [block for block in message.content if block.type == "thinking"]


@flow
def thinking_whole(f):
    message = f.ask("[[think:hm well]][[say:yes]]", thinking=BUDGET, max_tokens=ROOM)
    [block] = signed(message)
    equal((block.thinking, texts(message)), ("hm well", "yes"))
    assert block.signature.endswith("+/=="), block.signature


@flow
def thinking_streamed(f):
    options = dict(thinking=BUDGET, max_tokens=ROOM)
    with f.streamed("[[think:hm well]][[say:yes]]", **options) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_message()
    assert {"thinking", "signature", "text"} <= kinds, kinds
    equal(shown(message), shown(f.ask("[[think:hm well]][[say:yes]]", **options)))


@flow
def thinking_signature_round_trip(f):
    """The provider checks the signature that it gave; its very bytes are in the request."""
    options = dict(thinking=BUDGET, max_tokens=ROOM, tools=[FIND_TOOL])
    with f.streamed(CALL, **options) as stream:
        message = stream.get_final_message()
    [block], [call] = signed(message), calls(message)
    history = after(f.user(CALL), message, result(call, "open"))
    equal(texts(f.ask(messages=history, **options)), "The tool said: open")
    assert json.dumps(block.signature) in f.sent()[-1]["body"], "not the same bytes"


@flow
def thinking_redacted_round_trip(f):
    options = dict(thinking=BUDGET, max_tokens=ROOM, tools=[FIND_TOOL])
    text = '[[redacted]][[think:Then I see.]][[tool:find_note {"query":"harbor"}]]'
    with f.streamed(text, **options) as stream:
        message = stream.get_final_message()
    equal([block.type for block in message.content][:2], ["redacted_thinking", "thinking"])
    [call] = calls(message)
    history = after(f.user(text), message, result(call, "open"))
    equal(texts(f.ask(messages=history, **options)), "The tool said: open")
    assert message.content[0].data in f.sent()[-1]["body"], "not the same bytes"


@flow
def thinking_that_was_changed(f):
    """What the provider says about it reaches the client in the provider's own words."""
    history = [
        *f.user("first"),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "changed", "signature": "bm90IG1pbmU="},
                {"type": "text", "text": "yes"},
            ],
        },
        *f.user("second"),
    ]
    error = raises(anthropic.BadRequestError, lambda: f.ask(messages=history))
    assert "Invalid `signature`" in error.body["error"]["message"], error.body
    equal(len(f.sent()), 1)


@over("translated")
def thinking_history(f):
    """Thinking of another provider is nothing to this one: it is left out, and that is said."""
    history = [
        *f.user("first"),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "b3BhcXVl"},
                {"type": "text", "text": "yes"},
            ],
        },
        *f.user("second"),
    ]
    raw = f.ask_raw(messages=history)
    equal(texts(raw.parse()), f"You said: second {f.mark}")
    assert "reasoning" in dropped(raw), dropped(raw)
    body = f.sent()[-1]["body"]
    assert "c2ln" not in body and "b3BhcXVl" not in body, body


@over(*BOTH)
def thinking_effort(f):
    """An effort is said in the target's own word."""
    f.ask("think hard", thinking={"type": "adaptive"}, output_config={"effort": "high"})
    sent = f.sent_body()
    if f.passed:
        equal((sent["thinking"], sent["output_config"]), ({"type": "adaptive"}, {"effort": "high"}))
    else:
        equal(sent["reasoning_effort"], "high")


@over("translated")
def thinking_budget_becomes_an_effort(f):
    for tokens, effort in ((1024, "low"), (8192, "medium"), (20000, "high")):
        budget = {"type": "enabled", "budget_tokens": tokens}
        f.ask(f"budget {tokens}", thinking=budget, max_tokens=30000, extra_headers={})
        equal(json.loads(f.sent()[-1]["body"])["reasoning_effort"], effort)


@flow
def thinking_of_a_chat_client(f):
    """Over the other door: a chat client's effort reaches this provider as it wants it."""
    body = {"model": "claude/sonnet", "messages": f.user("hello"), "reasoning_effort": "low"}
    status, headers, data = f.post("/v1/chat/completions", body)
    equal(status, 200, data.decode())
    sent, [line] = f.sent_body(), f.sent()
    equal(sent["output_config"]["effort"], "low")
    equal(line["headers"]["anthropic-version"], "2026-10-21")
    equal(headers["holdfast-output-cap"], str(sent["max_tokens"]))
    equal(json.loads(data)["choices"][0]["message"]["content"], f"You said: hello {f.mark}")


@flow
def thinking_is_the_models_own_matter(f):
    """What an answer thought is billed as output, and told as it came."""
    message = f.ask("[[think:one two three]][[say:four]]", thinking=BUDGET, max_tokens=ROOM)
    equal(message.usage.output_tokens, 4)
