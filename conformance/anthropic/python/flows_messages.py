"""Messages: what a client of Anthropic's API sends, and what it must get back."""

import asyncio
import base64
import json

import anthropic
from pydantic import BaseModel

from events import checked
from flows import BOTH, PASSED, equal, flow, over, shown, texts

# A picture of one pixel, and a document that only says that it is one.
PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )
).decode()
DOCUMENT = base64.b64encode(b"%PDF-1.4 conformance").decode()


def image(data=PIXEL, kind="image/png"):
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def said(body):
    """The first text of a request."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[0]["text"]


class Berth(BaseModel):
    harbor: str
    number: int
    free: bool


@over(*BOTH)
def create(f):
    message = f.ask("hello there")
    equal(texts(message), f"You said: hello there {f.mark}")
    equal((message.type, message.role, message.stop_reason), ("message", "assistant", "end_turn"))
    equal((message.usage.input_tokens, message.usage.output_tokens), (3, 5))
    equal(message.stop_sequence, None)
    assert message.id.startswith("msg_"), message.id
    assert message._request_id.startswith("hfc_"), message._request_id
    [line] = f.sent()
    equal((line["finished"], line["status"], line["call_id"]), (True, 200, message._request_id))


@over(*BOTH)
def stream_raw(f):
    with f.ask("stream this", stream=True) as stream:
        events = list(stream)
    pieces = [event.delta.text for event in events if event.type == "content_block_delta"]
    equal("".join(pieces), f"You said: stream this {f.mark}")
    assert len(pieces) > 3, "it did not come in pieces"
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert stream.response.headers["request-id"].startswith("hfc_")
    equal(events[-2].usage.output_tokens, 5)


@over(*BOTH)
def stream_order(f):
    """Every byte of the stream is what clients expect, and the cost is told before its end."""
    events, comments = checked(f.lines("in order"))
    equal(events[-2]["delta"]["stop_reason"], "end_turn")
    [(place, text)] = [c for c in comments if "holdfast-cost" in c[1]]
    equal(place, len(events) - 1, "events before the comment")
    assert "holdfast-attempts=1" in text, text


@over(*BOTH)
def stream_helper(f):
    with f.streamed("help me") as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    equal(texts(message), f"You said: help me {f.mark}")
    equal((message.stop_reason, message.usage.output_tokens), ("end_turn", 5))
    assert "text" in kinds and kinds[-1] == "message_stop", kinds
    equal(shown(message), shown(f.ask("help me")), "the stream and the whole answer")


@over(*BOTH)
def stream_text(f):
    with f.streamed("text only") as stream:
        pieces = list(stream.text_stream)
        equal("".join(pieces), stream.get_final_text())
    equal("".join(pieces), f"You said: text only {f.mark}")


@over(*BOTH)
def stream_usage_is_the_answers(f):
    """A stream's final usage is that of the same answer in one piece."""
    with f.streamed("how much") as stream:
        streamed = stream.get_final_message().usage
    whole = f.ask("how much").usage
    equal(
        (streamed.input_tokens, streamed.output_tokens), (whole.input_tokens, whole.output_tokens)
    )


@over(*BOTH)
def stream_left_early(f):
    """A client that goes away ends its Call, and nobody waits for it."""
    with f.ask("[[words:200]][[delay_ms=50]]", stream=True) as stream:
        for event in stream:
            if event.type == "content_block_delta":
                break
    equal(texts(f.ask("[[say:next]]")), "next")


@over(*BOTH)
def async_client(f):
    async def run():
        async with f.place.client_of("ci", anthropic.AsyncAnthropic) as client:
            options = f.options("both ways", {})
            message = await client.messages.create(**options)
            async with client.messages.stream(**options) as stream:
                streamed = [text async for text in stream.text_stream]
            return texts(message), "".join(streamed)

    equal(asyncio.run(run()), (f"You said: both ways {f.mark}",) * 2)


@over(*BOTH)
def many_at_once(f):
    async def run():
        async with f.place.client_of("ci", anthropic.AsyncAnthropic) as client:
            asks = [
                client.messages.create(**f.options(f"number {number}", {})) for number in range(24)
            ]
            return [texts(message) for message in await asyncio.gather(*asks)]

    equal(asyncio.run(run()), [f"You said: number {n} {f.mark}" for n in range(24)])


@over(*BOTH)
def system_text(f):
    message = f.ask("who speaks?", system="[[say:the system]]")
    equal(texts(message), "the system")


@over(*BOTH)
def system_blocks(f):
    system = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "[[say:block two]]"}]
    equal(texts(f.ask("who speaks?", system=system)), "block two")


@over(*BOTH)
def multi_turn(f):
    messages = [
        {"role": "user", "content": "My name is Nora."},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello Nora."}]},
        {"role": "user", "content": [{"type": "text", "text": f"[[echo:messages]] {f.mark}"}]},
    ]
    seen = json.loads(texts(f.ask(messages=messages)))
    expected = [["user", "My name is Nora."], ["assistant", "Hello Nora."]]
    equal(seen, [*expected, ["user", f"[[echo:messages]] {f.mark}"]])


@over(*BOTH)
def system_inside_messages(f):
    """Claude Code says system text in the middle: it stays at its place."""
    messages = [
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": "Yes?"},
        {"role": "system", "content": "Now be brief."},
        *f.user("[[echo:messages]]"),
    ]
    seen = json.loads(texts(f.ask(messages=messages)))
    equal([role for role, _ in seen], ["user", "assistant", "system", "user"])
    equal(seen[2], ["system", "Now be brief."])


@over(*BOTH)
def stop_sequence(f):
    """Which one it was is known where the target says it."""
    message = f.ask("[[say:one two STOP three]]", stop_sequences=["STOP", "HALT"])
    equal(texts(message).strip(), "one two")
    found = (message.stop_reason, message.stop_sequence)
    equal(found, ("stop_sequence", "STOP") if f.passed else ("end_turn", None))


@over(*BOTH)
def max_tokens(f):
    message = f.ask("[[words:50]]", max_tokens=5)
    equal((message.stop_reason, message.usage.output_tokens), ("max_tokens", 5))
    with f.streamed("[[words:50]]", max_tokens=5) as stream:
        equal(stream.get_final_message().stop_reason, "max_tokens")


@flow
def max_tokens_of_zero_warms_the_cache(f):
    message = f.ask("warm", max_tokens=0)
    equal((message.content, message.stop_reason), ([], "max_tokens"))
    equal(f.sent_body()["max_tokens"], 0)


@over(*BOTH)
def output_format(f):
    """A schema by the SDK's own helper, which parses the answer."""
    parse = f.client.messages.parse
    message = parse(**f.options("berth 7", {}), output_format=Berth)
    equal(message.parsed_output.number, 7)
    schema = {"type": "object", "properties": {"harbor": {"type": "string"}}}
    config = {"format": {"type": "json_schema", "schema": schema}}
    equal(set(json.loads(texts(f.ask("by hand", output_config=config)))), {"harbor"})


@over(*BOTH)
def odd_characters(f):
    text = 'naïve “quotes” \U0001f600 \u200b é \\ " / <&>'
    equal(texts(f.ask(f"[[say:{text}]]")), text)
    with f.streamed(f"[[say:{text}]]") as stream:
        equal(stream.get_final_text(), text)
    for line in f.sent():
        assert f"[[say:{text}]]" in said(json.loads(line["body"])), line["body"]


@over(*BOTH)
def large_history(f):
    """A megabyte of old messages."""
    messages = []
    for number in range(64):
        messages.append({"role": "user", "content": f"{number} " + "x" * 16_000})
        messages.append({"role": "assistant", "content": "Noted."})
    message = f.ask(messages=[*messages, *f.user("[[say:still here]]")])
    equal(texts(message), "still here")
    [line] = f.sent()
    assert len(line["body"]) > 1_000_000, len(line["body"])


@over(*BOTH)
def image_base64(f):
    f.ask(messages=[{"role": "user", "content": [image(), {"type": "text", "text": f.mark}]}])
    [part, _] = f.sent_body()["messages"][0]["content"]
    if f.passed:
        equal(part, image())
    else:
        equal(part, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}})


@over(*BOTH)
def image_url(f):
    url = "https://example.com/harbor.png"
    shown = {"type": "image", "source": {"type": "url", "url": url}}
    f.ask(messages=[{"role": "user", "content": [shown, {"type": "text", "text": f.mark}]}])
    [part, _] = f.sent_body()["messages"][0]["content"]
    equal(part, shown if f.passed else {"type": "image_url", "image_url": {"url": url}})


@over(*BOTH)
def document(f):
    """A PDF with its title, and a text that is a document."""
    source = {"type": "base64", "media_type": "application/pdf", "data": DOCUMENT}
    plain = {"type": "text", "media_type": "text/plain", "data": "The harbor closes at nine."}
    content = [
        {"type": "document", "source": source, "title": "tides.pdf"},
        {"type": "document", "source": plain},
        {"type": "text", "text": f.mark},
    ]
    f.ask(messages=[{"role": "user", "content": content}])
    sent = f.sent_body()["messages"][0]["content"]
    if f.passed:
        return equal(sent, content)
    data = f"data:application/pdf;base64,{DOCUMENT}"
    equal(sent[0], {"type": "file", "file": {"filename": "tides.pdf", "file_data": data}})
    equal(sent[1], {"type": "text", "text": "The harbor closes at nine."})


@over("translated")
def audio_and_unknown_content_is_named(f):
    block = {"type": "hologram", "text": f.mark}
    status, _, data = f.post(
        "/v1/messages", f.options(None, {"messages": [{"role": "user", "content": [block]}]})
    )
    equal(status, 400)
    assert "messages[0].content[0]" in json.loads(data)["error"]["message"], data
    equal(f.sent(), [])


@flow
def refusal(f):
    """A model that refuses has answered: 200, and its own stop reason."""
    message = f.ask("[[refuse]]")
    equal((message.stop_reason, message.content), ("refusal", []))
    with f.streamed("[[refuse]]") as stream:
        equal(stream.get_final_message().stop_reason, "refusal")
    equal(len(f.sent()), 2)


@flow
def count_tokens_by_the_provider(f):
    raw = f.client.messages.with_raw_response.count_tokens(
        model=PASSED, messages=f.user("one two three"), system="four five"
    )
    equal(raw.parse().input_tokens, 6)
    assert "holdfast-estimated" not in raw.headers, "it was not asked"
    [line] = f.sent()
    equal(line["path"].split("?")[0], "/v1/messages/count_tokens")


@over("translated", "local")
def count_tokens_estimated(f):
    raw = f.client.messages.with_raw_response.count_tokens(
        model=f.model, messages=f.user("one two three"), system="four five"
    )
    equal(raw.headers["holdfast-estimated"], "true")
    assert 6 <= raw.parse().input_tokens <= 100, raw.parse()
    if f.target == "translated":
        equal(f.sent(), [])


@over(*BOTH)
def idle_stream_is_kept_alive(f):
    """A pause of two seconds in the middle of an answer is no end."""
    with f.streamed("[[say:a b c]][[delay_ms=700]]") as stream:
        equal(stream.get_final_text(), "a b c")
