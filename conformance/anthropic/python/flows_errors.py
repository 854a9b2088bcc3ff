"""What goes wrong, and how the SDK must see it: refusals, upstream failures, cuts, retries."""

import json

import anthropic

from events import parsed
from flows import BOTH, PASSED, TRANSLATED, equal, flow, over, raises, refused, texts, tries_of

# A body that is larger than any that is taken.
TOO_LARGE_BYTES = 1 << 30


@over(*BOTH)
def error_400_no_max_tokens(f):
    body = {"model": f.model, "messages": f.user("x")}
    error = raises(
        anthropic.BadRequestError,
        lambda: f.client.post("/v1/messages", body=body, cast_to=object),
    )
    refused(error, "invalid_request_error", 400)
    equal(error.body["error"]["message"], "max_tokens: Field required")
    equal(f.sent(), [])


@over("translated")
def error_400_field_types(f):
    """A 400 names the field, as Anthropic's own do."""
    cases = [
        ({"temperature": "warm"}, "temperature"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "sometimes"}}, "thinking.type"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"output_config": {"effort": "heroic"}}, "output_config.effort"),
        ({"messages": [{"role": "robot", "content": f.mark}]}, "messages[0].role"),
    ]
    for extra, field in cases:
        error = raises(anthropic.BadRequestError, lambda e=extra: f.ask("x", extra_body=e))
        refused(error, "invalid_request_error", 400)
        assert field in error.body["error"]["message"], f"{field}: {error.body}"
    equal(f.sent(), [])


@flow
def error_400_of_the_provider(f):
    """In the provider's own words, with our headers."""
    error = raises(anthropic.BadRequestError, lambda: f.ask("[[fault:status=400]]"))
    equal(error.body["error"]["message"], "scripted failure with status 400")
    assert error.response.headers["holdfast-call-id"].startswith("hfc_")
    equal(len(f.sent()), 1)


@over("translated")
def error_400_of_the_other_provider(f):
    error = raises(anthropic.BadRequestError, lambda: f.ask("[[fault:status=400]]"))
    refused(error, "invalid_request_error", 400)
    assert "scripted failure with status 400" in error.body["error"]["message"], error.body


@flow
def error_400_not_json(f):
    for body in (b"{", b"[]", b"", b'{"model": "claude/sonnet", "max_tokens": 5}'):
        status, headers, data = f.post("/v1/messages", body)
        answer = json.loads(data)
        equal((status, answer["type"]), (400, "error"), body.decode())
        equal(answer["error"]["type"], "invalid_request_error")
        equal(answer["request_id"], headers["request-id"])


@flow
def error_401_bad_key(f):
    client = f.with_key("hf_not_a_key")
    for call in (
        lambda: client.models.list(),
        lambda: f.ask("x", client=client),
        lambda: client.messages.count_tokens(model=PASSED, messages=f.user("x")),
    ):
        error = raises(anthropic.AuthenticationError, call)
        equal((error.status_code, error.body["error"]["type"]), (401, "authentication_error"))
        assert "hf_not_a_key" not in str(error.body), "the error repeats the secret"
    equal(f.sent(), [])


@over(*BOTH)
def error_404_model(f):
    for name in (f.model + "x", "nobody/x", "claude-sonnet-5-5"):
        if name == "claude/sonnetx" or name == "mock/demox":
            continue
        error = raises(anthropic.NotFoundError, lambda n=name: f.ask("x", model=n))
        refused(error, "not_found_error", 404, "model_not_found")
        assert name in error.body["error"]["message"], error.body
    equal(f.sent(), [])


@flow
def error_404_model_of_the_provider(f):
    """A model that is not listed may be there all the same: the provider says that it is not."""
    error = raises(anthropic.NotFoundError, lambda: f.ask("x", model="claude/nothing"))
    equal(error.body["error"]["type"], "not_found_error")


@flow
def error_404_path(f):
    error = raises(
        anthropic.NotFoundError,
        lambda: f.client.messages.batches.list(),
    )
    equal((error.body["type"], error.body["error"]["type"]), ("error", "not_found_error"))


@flow
def error_405(f):
    status, headers, data = f.server.http("GET", "/v1/messages", key=f.keys["ci"])
    equal((status, headers["allow"], json.loads(data)["type"]), (405, "POST", "error"))


@flow
def error_413(f):
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        head = {"content-length": str(TOO_LARGE_BYTES), "anthropic-version": "2023-06-01"}
        equal(f.server.announce(path, f.keys["ci"], head), 413, path)


@flow
def error_413_of_the_provider(f):
    error = raises(anthropic.APIStatusError, lambda: f.ask("[[fault:status=413]]"))
    equal((error.status_code, error.body["error"]["type"]), (413, "request_too_large"))


@over(*BOTH)
def error_429_of_the_provider(f):
    error = raises(anthropic.RateLimitError, lambda: f.ask("[[fault:status=429,retry_after=3]]"))
    equal(error.body["error"]["type"], "rate_limit_error")
    equal(error.response.headers["retry-after"], "3")


@over(*BOTH)
def error_529_is_retried(f):
    """Overload is worth another try, and the SDK makes it."""
    text = f"[[fault:status={529 if f.passed else 503},times=2]][[say:at last]]"
    error = raises(anthropic.APIStatusError, lambda: f.ask(text))
    kind = (529, "overloaded_error") if f.passed else (502, "api_error")
    equal((error.status_code, error.body["error"]["type"]), kind)
    equal(tries_of(error), 1)
    equal(texts(f.ask(text, client=f.retrying())), "at last")
    equal(len(f.sent()), 3)


@over(*BOTH)
def error_500_is_retried(f):
    text = "[[fault:status=500,times=1]][[say:again]]"
    equal(texts(f.ask(text, client=f.retrying())), "again")
    equal(len(f.sent()), 2)


@over(*BOTH)
def error_of_the_servers_own_key(f):
    """The provider's 401 is about the server's key, not the client's: not to be repeated."""
    error = raises(
        anthropic.InternalServerError, lambda: f.ask("[[fault:status=401]]", client=f.retrying())
    )
    refused(error, "api_error", 502, "upstream_credentials")
    equal(len(f.sent()), 1)


@flow
def error_of_an_account_without_money(f):
    """The operator's money is not the client's: no 4xx, no retry, and nothing of it is told."""
    error = raises(
        anthropic.InternalServerError, lambda: f.ask("[[fault:credit]]", client=f.retrying())
    )
    equal((error.status_code, error.body["error"]["type"]), (502, "api_error"))
    equal(error.response.headers["x-should-retry"], "false")
    equal(len(f.sent()), 1)


@over(*BOTH)
def error_before_the_answer(f):
    """A connection that breaks before the first byte."""
    error = raises(anthropic.InternalServerError, lambda: f.ask("[[fault:drop]]"))
    refused(error, "api_error", 502)


@over(*BOTH)
def error_in_the_middle_of_a_stream(f):
    """What came before it was given, then it raises: it never looks finished."""
    pieces = []

    def read():
        with f.streamed("[[words:9]][[fault:error_after=4]]") as stream:
            pieces.extend(stream.text_stream)
            return stream.get_final_message()

    error = raises(anthropic.APIStatusError, read)
    equal("".join(pieces), "word1 word2 word3 word4")
    equal(error.body["type"], "error")
    lines = f.lines("[[words:9]][[fault:error_after=4]]")
    events, _ = parsed(lines)
    equal(events[-1]["type"], "error")
    assert "message_stop" not in str(lines), "it looks finished"


@over(*BOTH)
def stream_that_is_cut(f):
    """The raw stream raises too, where the provider's connection just ends."""

    def read():
        with f.ask("[[words:9]][[fault:cut_after=4]]", stream=True) as stream:
            return [event.type for event in stream]

    error = raises(anthropic.APIStatusError, read)
    equal(error.body["error"]["type"], "api_error")


@flow
def stream_without_its_end(f):
    """All words are there, and the provider did not say that it was done: not finished."""

    def read():
        with f.streamed("[[words:9]][[fault:no_stop]]") as stream:
            return stream.get_final_message()

    error = raises(anthropic.APIStatusError, read)
    equal(error.body["error"]["type"], "api_error")


@over("translated")
def stream_of_nonsense(f):
    def read():
        with f.streamed("[[words:9]][[fault:malformed]]") as stream:
            return stream.get_final_message()

    raises(anthropic.APIStatusError, read)


@over(*BOTH)
def others_money_is_refused(f):
    """Fields that bill or act for somebody else are nobody's here."""
    for name in ("billing_policy", "user_profile_id"):
        error = raises(anthropic.BadRequestError, lambda n=name: f.ask("x", extra_body={n: "a"}))
        refused(error, "invalid_request_error", 400, "unsupported")
        assert name in error.body["error"]["message"], error.body
    equal(f.sent(), [])


@over("translated")
def errors_of_what_only_anthropic_can(f):
    for name, value in (
        ("container", "c"),
        ("mcp_servers", [{"type": "url", "url": "https://example.com", "name": "x"}]),
    ):
        error = raises(
            anthropic.BadRequestError, lambda n=name, v=value: f.ask("x", extra_body={n: v})
        )
        refused(error, "invalid_request_error", 400, "unsupported")
        assert name in error.body["error"]["message"], error.body
    equal(f.sent(), [])


@flow
def a_stream_that_fails_at_once(f):
    """Before the first event a stream's error is an ordinary one."""
    for model in (PASSED, TRANSLATED):
        error = raises(
            anthropic.InternalServerError,
            lambda m=model: f.ask("[[fault:status=500]]", model=m, stream=True),
        )
        equal(error.status_code >= 500, True)
        assert error.response.headers["content-type"].startswith("application/json")
