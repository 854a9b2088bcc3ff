"""The bytes: what goes to a provider of the same format is what the client sent."""

import json

import anthropic

from flows import (
    BOTH,
    FIND_TOOL,
    LOCAL,
    PASSED,
    TRANSLATED,
    dropped,
    equal,
    flow,
    over,
    raises,
    texts,
)

NEW_VERSION, OLD_VERSION = "2026-10-21", "2023-06-01"


def headers_sent(f):
    return f.sent()[-1]["headers"]


@flow
def version_is_the_sdks_own(f):
    f.ask("version")
    equal(headers_sent(f)["anthropic-version"], OLD_VERSION if f.is_old else NEW_VERSION)


@flow
def key_is_never_told(f):
    """The provider's own key goes in x-api-key, whichever way the client sent its own."""
    f.ask("key")
    seen = headers_sent(f)
    assert "x-api-key" in seen and "authorization" not in seen, seen
    [line] = f.sent()
    assert f.keys["ci"] not in json.dumps(line), "the client's key"


@flow
def betas_byte_for_byte(f):
    betas = [
        "interleaved-thinking-2025-05-14",
        "prompt-caching-2024-07-31",
        "unheard-of-2030-01-01",
    ]
    f.client.beta.messages.create(**f.options("betas", {}), betas=betas)
    [line] = f.sent()
    equal(line["headers"]["anthropic-beta"], ",".join(betas))
    equal(line["path"], "/v1/messages?beta=true" if f.is_old else "/v1/messages")


@flow
def beta_query_goes_on(f):
    f.ask("query", extra_query={"beta": "true"})
    [line] = f.sent()
    equal(line["path"], "/v1/messages?beta=true")


@flow
def betas_in_a_header_of_the_client(f):
    odd = "a-2025-01-01,b-2025-01-02, c-2025-01-03"
    f.ask("odd betas", extra_headers={"anthropic-beta": odd})
    [line] = f.sent()
    equal((line["headers"]["anthropic-beta"], line["path"]), (odd, "/v1/messages"))


@over("translated")
def betas(f):
    """A provider that has no betas is not told of any."""
    message = f.client.beta.messages.create(**f.options("betas", {}), betas=["x-2025-01-01"])
    equal(texts(message), f"You said: betas {f.mark}")


@over(*BOTH)
def unknown_field(f):
    raw = f.ask_raw("unknown", extra_body={"sparkle": {"deep": [1, None]}})
    equal(texts(raw.parse()), f"You said: unknown {f.mark}")
    if f.passed:
        equal(f.sent_body()["sparkle"], {"deep": [1, None]})
        equal(dropped(raw), set())
    else:
        assert "sparkle" in str(dropped(raw)), dropped(raw)
        assert "sparkle" not in f.sent_body(), f.sent_body()


@flow
def odd_bytes_pass(f):
    """Order of keys, escapes, numbers and blanks: only the model's name is another one."""
    body = (
        '{  "max_tokens": 9,\t"model":"claude/sonnet",  "messages":[{"content":"caf\\u00e9 \\/ '
        + f.mark
        + '","role":"user"}], "metadata" : {"user_id":"u", "x":1e2,"y":-0.0, "z":1.50E+3}\n}\r\n'
    ).encode()
    status, _, data = f.post("/v1/messages", body)
    equal(status, 200, data.decode())
    [line] = f.sent()
    equal(line["body"].encode(), body.replace(b"claude/sonnet", b"sonnet"))


@flow
def answers_bytes_pass(f):
    """The answer too comes as the provider sent it."""
    status, headers, data = f.post("/v1/messages", f.options("[[say:caf\u00e9]]", {}))
    equal(status, 200)
    assert headers["content-type"] == "application/json", headers["content-type"]
    answer = json.loads(data)
    equal(json.dumps(answer, ensure_ascii=False).encode(), data, "the provider's own bytes")
    equal(answer["model"], "sonnet")


def bytes_of(field, body):
    """A field's value as it stands in the body."""
    start = body.index(f'"{field}":') + len(field) + 3
    _, end = json.JSONDecoder().raw_decode(body[start:].lstrip())
    return body[start:].lstrip()[:end]


def grown(f, turns):
    """The bodies of a conversation of that many turns, as the provider got them."""
    messages = []
    for turn in range(turns):
        messages += f.user(f"turn {turn} [[say:answer {turn}]]")
        message = f.ask(messages=messages, system="Be brief.", tools=[FIND_TOOL])
        messages.append({"role": "assistant", "content": message.content})
    lines = f.sent()
    equal(len(lines), turns)
    return [line["body"] for line in lines]


@over(*BOTH)
def prefix_is_the_same_over_turns(f):
    """Each request begins with the bytes of the one before, up to where that one's messages end."""
    bodies = grown(f, 5)
    for before, now in zip(bodies, bodies[1:], strict=False):
        for field in ("tools", "system") if f.passed else ("tools",):
            equal(bytes_of(field, now), bytes_of(field, before), field)
        history = bytes_of("messages", before).removesuffix("]")
        assert bytes_of("messages", now).startswith(history + ","), f"{before} and {now}"


@flow
def prompt_cache_hits_over_turns(f):
    """The provider reads from its cache all that it wrote there the turn before."""
    messages, kept = [], 0
    for turn in range(5):
        content = {"type": "text", "text": f"turn {turn} [[say:answer]] {f.mark}"}
        marked = {**content, "cache_control": {"type": "ephemeral"}}
        usage = f.ask(messages=[*messages, {"role": "user", "content": [marked]}]).usage
        equal(usage.cache_read_input_tokens, kept, f"read in turn {turn}")
        kept += usage.cache_creation_input_tokens
        equal(usage.input_tokens, 0)
        messages += [
            {"role": "user", "content": [content]},
            {"role": "assistant", "content": "answer"},
        ]
    assert kept > 10, kept


@flow
def usage_has_all_its_fields(f):
    system = [{"type": "text", "text": f"a b c d {f.mark}", "cache_control": {"type": "ephemeral"}}]
    first = f.ask("hello", system=system)
    second = f.ask("hello again", system=system)
    usage = second.usage
    equal((usage.input_tokens, usage.output_tokens), (3, 5))
    equal((first.usage.cache_creation_input_tokens, usage.cache_creation_input_tokens), (5, 0))
    equal((first.usage.cache_read_input_tokens, usage.cache_read_input_tokens), (0, 5))
    equal(first.usage.cache_creation.ephemeral_5m_input_tokens, 5)
    with f.streamed("hello again", system=system) as stream:
        streamed = stream.get_final_message().usage
    equal((streamed.cache_read_input_tokens, streamed.input_tokens), (5, 3))


@over("translated")
def cache_control(f):
    """No field of chat completions: accepted, left out, and named once wherever it stood."""
    mark = {"cache_control": {"type": "ephemeral"}}
    raw = f.ask_raw(
        messages=[{"role": "user", "content": [{"type": "text", "text": f.mark, **mark}]}],
        system=[{"type": "text", "text": "s", **mark}],
        tools=[{**FIND_TOOL, **mark}],
    )
    found = dropped(raw)
    for name in ("messages.content.cache_control", "system.cache_control", "tools.cache_control"):
        assert name in found, found


@over(*BOTH)
def raw_response(f):
    raw = f.ask_raw("headers")
    equal(raw.headers["request-id"], raw.headers["holdfast-call-id"])
    equal(raw.request_id, raw.headers["request-id"])
    equal(raw.headers["holdfast-model"], f.model)
    equal(raw.headers["holdfast-attempts"], "1")
    equal([line["call_id"] for line in f.sent()], [raw.request_id])


@flow
def providers_headers(f):
    """Its limits are told on, and who pays for it is not."""
    raw = f.ask_raw("headers")
    equal(raw.headers["anthropic-ratelimit-requests-remaining"], "41")
    assert "anthropic-organization-id" not in raw.headers, raw.headers


@flow
def models(f):
    found = {model.id: model for model in f.client.models.list()}
    assert {PASSED, TRANSLATED, LOCAL} <= set(found), set(found)
    equal((found[PASSED].type, found[PASSED].display_name), ("model", PASSED))
    equal(f.client.models.retrieve(PASSED).id, PASSED)
    first = f.client.models.list(limit=1)
    assert first.has_next_page(), "one of at least three models"
    paged = [model.id for model in f.client.models.list(limit=1)]
    equal(sorted(paged), sorted(found))
    error = raises(anthropic.NotFoundError, lambda: f.client.models.retrieve("claude/none"))
    equal(error.body["error"]["type"], "not_found_error")


@over("translated")
def sampling(f):
    extra = {"temperature": 0.25, "top_p": 0.5, "top_k": 7}
    f.ask("sampled", extra_body=extra, stop_sequences=["never"])
    sent = f.sent_body()
    equal({name: sent[name] for name in extra}, extra)
    equal((sent["stop"], sent["max_completion_tokens"]), (["never"], 1024))


@flow
def sampling_by_version(f):
    """Whether the version takes it is the provider's to say: the old one does."""
    extra = {"temperature": 0.25}
    if f.is_old:
        equal(texts(f.ask("sampled", **extra)), f"You said: sampled {f.mark}")
    else:
        error = raises(anthropic.BadRequestError, lambda: f.ask("sampled", extra_body=extra))
        equal(error.body["error"]["message"], "temperature: Extra inputs are not permitted")
        f.ask("old", extra_body=extra, extra_headers={"anthropic-version": OLD_VERSION})
    equal(headers_sent(f)["anthropic-version"], OLD_VERSION)


@flow
def sampling_of_a_chat_client(f):
    """A translated request has the version that takes what is in it."""
    body = {"model": PASSED, "messages": f.user("hello"), "temperature": 0.2, "max_tokens": 50}
    status, _, data = f.post("/v1/chat/completions", body)
    equal(status, 200, data.decode())
    equal(headers_sent(f)["anthropic-version"], OLD_VERSION)
    equal(f.sent_body()["temperature"], 0.2)


@flow
def either_header_has_the_key(f):
    """x-api-key of old SDKs, bearer of new ones; two keys that differ are none."""
    body = json.dumps(f.options("[[say:in]]", {})).encode()
    version = {"anthropic-version": OLD_VERSION}
    for headers in (
        {"x-api-key": f.keys["ci"]},
        {"authorization": f"Bearer {f.keys['ci']}"},
        {"x-api-key": f.keys["ci"], "authorization": f"Bearer {f.keys['ci']}"},
    ):
        status, _, data = f.server.http("POST", "/v1/messages", body, None, version | headers)
        equal((status, json.loads(data)["content"][0]["text"]), (200, "in"))
    two = {"x-api-key": f.keys["ci"], "authorization": f"Bearer {f.keys['stranger']}"}
    status, _, data = f.server.http("POST", "/v1/messages", body, None, version | two)
    equal((status, json.loads(data)["error"]["type"]), (401, "authentication_error"))


@flow
def base_urls(f):
    """A base URL with or without a slash at its end is the same."""
    for ending in ("", "/"):
        client = anthropic.Anthropic(
            base_url=f.place.url + ending, api_key=f.keys["ci"], max_retries=0
        )
        with client:
            equal(texts(f.ask("[[say:here]]", client=client)), "here")


@flow
def head_of_the_root(f):
    """Claude Code asks whether its gateway is there."""
    status, _, _ = f.server.http("HEAD", "/")
    equal(status, 200)
