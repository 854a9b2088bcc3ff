"""What goes wrong, and how the SDK must see it: refusals, upstream failures, cuts, retries."""

import asyncio
import json
from decimal import Decimal

import openai

from flows import MODEL, cost_of, equal, flow, raises, refused_by_name
from harness import eventually

# More than the server takes in one body, whatever its setting for the suite: 80 MiB.
TOO_LARGE_BYTES = 80 << 20


@flow
def error_bad_key(f):
    client = f.client.with_options(api_key="hf_not_a_key")
    for call in (
        lambda: client.models.list(),
        lambda: client.chat.completions.create(model=MODEL, messages=f.user("x")),
        lambda: client.responses.create(model=MODEL, input="x"),
        lambda: client.responses.retrieve("resp_x"),
    ):
        error = raises(openai.AuthenticationError, call)
        equal(error.body["code"], "invalid_api_key")
        assert "hf_not_a_key" not in str(error), "the error repeats the secret"


@flow
def error_no_key(f):
    for path in (
        "/v1/models",
        "/v1/responses/resp_x",
        "/api/calls",
        "/api/keys",
        "/api/sessions",
        "/api/config",
    ):
        status, _, data = f.server.http("GET", path)
        equal(status, 401, path)
        assert json.loads(data)["error"]["message"], data


@flow
def error_client_key_is_not_an_admin(f):
    """A key that may spend may not make keys, move budgets or read the configuration."""
    for method, path in (
        ("GET", "keys"),
        ("POST", "keys"),
        ("POST", "budgets"),
        ("GET", "config"),
        ("POST", "models"),
    ):
        status, _ = f.server.api(method, path, {} if method == "POST" else None, key=f.keys["ci"])
        equal(status, 403, f"{method} /api/{path}")


@flow
def error_unknown_model(f):
    for model in ("mock/nothing", "nobody/demo", "demo", "mock/", "", "../mock/demo"):
        error = raises(openai.APIStatusError, lambda: f.ask("x", model=model))
        assert error.status_code in (400, 404), f"{model!r}: {error.status_code}"
        equal(error.body["param"], "model")
    equal(
        raises(openai.NotFoundError, lambda: f.ask("x", model="mock/nothing")).body["code"],
        "model_not_found",
    )
    equal(f.sent(), [])


@flow
def error_bad_json(f):
    bodies = (
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"model":"mock/demo","messages":[}',
        b"\xff\xfe",
        b"[" * 50_000,
    )
    for path in ("/v1/chat/completions", "/v1/responses"):
        for body in bodies:
            status, headers, data = f.server.http("POST", path, body, f.keys["ci"])
            equal(status, 400, f"{path} {body[:20]!r}: {data[:200]!r}")
            equal(json.loads(data)["error"]["type"], "invalid_request_error")
            assert headers["holdfast-call-id"], "no call id"


@flow
def error_field_types(f):
    cases = [
        ({"model": 5, "messages": f.user("x")}, "model"),
        ({"messages": f.user("x")}, "model"),
        ({"model": MODEL, "messages": f.user("x"), "stream": "yes"}, "stream"),
        ({"model": MODEL, "messages": f.user("x"), "max_tokens": "many"}, "max_tokens"),
        (
            {"model": MODEL, "messages": f.user("x"), "max_completion_tokens": -1},
            "max_completion_tokens",
        ),
    ]
    for body, field in cases:
        error = raises(
            openai.BadRequestError,
            lambda: f.client.post("/chat/completions", body=body, cast_to=object),
        )
        refused_by_name(error, field)
    equal(f.sent(), [])


@flow
def error_messages_missing(f):
    """Only the provider reads the messages of a pass-through; its 400 comes back as it said it."""
    for messages in ([], "hello", None):
        error = raises(
            openai.BadRequestError,
            lambda: f.client.chat.completions.create(model=MODEL, messages=messages),
        )
        equal(error.body["param"], "messages")


@flow
def error_unknown_path(f):
    for method, path in (
        ("GET", "/v1/nothing"),
        ("POST", "/v1/chat"),
        ("GET", "/v2/models"),
        ("GET", "/v1/../api/keys"),
    ):
        status, _, data = f.server.http(
            method, path, {} if method == "POST" else None, f.keys["ci"]
        )
        assert status in (404, 405), f"{method} {path}: {status} {data[:200]!r}"
        assert json.loads(data)["error"]["message"]


@flow
def error_wrong_method(f):
    status, _, data = f.server.http("DELETE", "/v1/chat/completions", None, f.keys["ci"])
    assert status in (404, 405), f"{status} {data[:200]!r}"
    assert json.loads(data)["error"]["message"]


@flow
def error_too_large(f):
    for path in ("/v1/chat/completions", "/v1/responses"):
        head = {"content-length": str(TOO_LARGE_BYTES)}
        status = f.server.announce(path, f.keys["ci"], head)
        equal(status, 413, path)


@flow
def error_upstream_400(f):
    """A 4xx of the provider in the client's own format passes byte for byte, with our headers."""
    error = raises(openai.BadRequestError, lambda: f.ask("[[fault:status=400]]"))
    expected = {
        "error": {
            "message": "scripted failure with status 400",
            "type": "invalid_request_error",
            "param": None,
            "code": "scripted_bad_request",
        }
    }
    equal(error.response.content, json.dumps(expected).encode())
    assert error.response.headers["holdfast-call-id"].startswith("hfc_")


@flow
def error_upstream_429(f):
    error = raises(openai.RateLimitError, lambda: f.ask("[[fault:status=429,retry_after=3]]"))
    equal(error.body["code"], "rate_limit_exceeded")
    equal(error.response.headers["retry-after"], "3")
    equal(len(f.sent()), 1, "requests at the provider")


@flow
def error_upstream_429_is_retried_by_the_sdk(f):
    """Nothing was billed, so the SDK's own retry is welcome, and finds the provider well again."""
    answer = f.retrying().chat.completions.create(
        model=MODEL, messages=f.user("[[fault:status=429,times=1]] second time lucky")
    )
    equal(answer.choices[0].message.content, f"You said: second time lucky {f.mark}")
    equal([line["status"] for line in f.sent()], [429, 200])
    equal(len({line["call_id"] for line in f.sent()}), 2, "each POST is a Call of its own")


@flow
def error_upstream_500(f):
    """The SDK sends again exactly when the answer does not forbid it."""
    client = f.retrying()
    error = raises(
        openai.InternalServerError,
        lambda: client.chat.completions.create(
            model=MODEL, messages=f.user("[[fault:status=500]]")
        ),
    )
    assert error.body["message"], error.body
    forbidden = error.response.headers.get("x-should-retry") == "false"
    equal(len(f.sent()), 1 if forbidden else 3, "requests at the provider")


@flow
def error_upstream_401_is_not_the_clients(f):
    """The provider refusing our credential is not the client's bad key."""
    error = raises(openai.APIStatusError, lambda: f.ask("[[fault:status=401]]"))
    assert f.provider.key not in str(error.body), "the provider's key leaked"
    assert error.response.headers["holdfast-call-id"].startswith("hfc_")


@flow
def error_upstream_drops_connection(f):
    """No byte came back, and it may have been billed: a clear 5xx that SDKs must not repeat."""
    client = f.retrying()
    error = raises(
        openai.InternalServerError,
        lambda: client.chat.completions.create(model=MODEL, messages=f.user("[[fault:drop]]")),
    )
    equal(error.response.headers.get("x-should-retry"), "false")
    assert error.body["code"], error.body
    equal(len(f.sent()), 1, "requests at the provider")


@flow
def error_upstream_cuts_json(f):
    client = f.retrying()
    error = raises(
        openai.InternalServerError,
        lambda: client.chat.completions.create(
            model=MODEL, messages=f.user("[[fault:cut_after=1]]")
        ),
    )
    equal(error.response.headers.get("x-should-retry"), "false")
    equal(len(f.sent()), 1, "requests at the provider")


@flow
def error_upstream_json_is_not_json(f):
    error = raises(openai.APIError, lambda: f.ask("[[fault:malformed]]"))
    assert (
        "holdfast-call-id" in error.response.headers
        if isinstance(error, openai.APIStatusError)
        else True
    )


@flow
def error_stream_cut(f):
    """A cut stream is an error, not an answer that looks finished."""
    client, text, stops = f.retrying(), "", []
    stream = client.chat.completions.create(
        model=MODEL, messages=f.user("[[words:20]] [[fault:cut_after=5]]"), stream=True
    )

    def read():
        nonlocal text
        for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                stops.append(choice.finish_reason)

    error = raises(openai.APIError, read)
    equal(text, "word1 word2 word3 word4 word5")
    assert not any(stops), f"a finish reason on a cut stream: {stops}"
    assert error.body and error.body["message"], error.body
    [line] = f.sent()
    assert line["finished"] is False


@flow
def error_stream_cut_has_no_done(f):
    with f.client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=f.user("[[words:20]] [[fault:cut_after=2]]"), stream=True
    ) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data:")]
    assert "data: [DONE]" not in lines, "a cut stream ends in [DONE]"
    error = json.loads(lines[-1][5:])["error"]
    assert error["message"] and error["code"], error


@flow
def error_stream_upstream_error_event(f):
    stream = f.ask("[[words:9]] [[fault:error_after=2]]", stream=True)
    raises(openai.APIError, lambda: list(stream))


@flow
def error_stream_malformed_chunk(f):
    """A provider's broken chunk never becomes a quietly shortened answer."""
    stream = f.ask("[[words:9]] [[fault:malformed]]", stream=True)
    raises((openai.APIError, ValueError), lambda: list(stream))


@flow
def stream_without_done_is_whole(f):
    """`[DONE]` is optional: a stream with its finish reason and a clean end is an answer."""
    chunks = list(f.ask("[[words:3]] [[fault:no_done]]", stream=True))
    equal(
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "word1 word2 word3"
    )
    equal([c.choices[0].finish_reason for c in chunks if c.choices][-1], "stop")


@flow
def error_client_timeout_stops_the_provider(f):
    client = f.client.with_options(timeout=0.6)
    raises(
        openai.APITimeoutError,
        lambda: client.chat.completions.create(model=MODEL, messages=f.user("[[delay_ms=5000]]")),
    )
    [line] = eventually("the provider sees the cut", f.sent)
    assert line["finished"] is False


@flow
def budget_refusal(f):
    """429 with OpenAI's out-of-money code, never repeated, nothing sent."""
    client = f.retrying("poor")
    error = raises(
        openai.RateLimitError,
        lambda: client.chat.completions.create(
            model=MODEL, messages=f.user("rich text"), max_tokens=4000
        ),
    )
    equal(error.body["code"], "insufficient_quota")
    equal(error.response.headers["x-should-retry"], "false")
    assert "0.001" in error.body["message"], f"the limit is not named: {error.body['message']}"
    equal(f.sent(), [])


@flow
def budget_allows_what_fits(f):
    """The same key may spend what is left: a refusal only when the bound exceeds it."""
    answer = f.with_key("poor").chat.completions.create(
        model=MODEL, messages=f.user("[[say:cheap]]"), max_tokens=5
    )
    equal(answer.choices[0].message.content, "cheap")


@flow
def budget_refusal_of_a_response(f):
    client = f.retrying("poor")
    error = raises(
        openai.RateLimitError,
        lambda: client.responses.create(
            model=MODEL, input=f"{f.mark} rich", max_output_tokens=4000
        ),
    )
    equal(error.body["code"], "insufficient_quota")
    equal(error.response.headers["x-should-retry"], "false")
    equal(f.sent(), [])


@flow
def budget_under_concurrency(f):
    """64 at once over a budget of a dozen bounds: the provider never earns more than the limit."""

    async def run():
        async with f.async_client("squeezed") as client:
            asks = [
                client.chat.completions.create(
                    model=MODEL, messages=f.user(f"[[delay_ms=50]] {number}"), max_tokens=20
                )
                for number in range(64)
            ]
            return await asyncio.gather(*asks, return_exceptions=True)

    results = asyncio.run(run())
    refused = [r for r in results if isinstance(r, openai.RateLimitError)]
    answered = [r for r in results if not isinstance(r, Exception)]
    equal(
        len(refused) + len(answered),
        64,
        f"other errors: {[r for r in results if isinstance(r, Exception)][:2]}",
    )
    assert len(refused) > 20 and len(answered) >= 4, (
        f"{len(answered)} answered, {len(refused)} refused"
    )
    equal({error.body["code"] for error in refused}, {"insufficient_quota"})
    equal(len(f.sent()), len(answered), "requests at the provider")
    assert sum(cost_of(line["usage"]) for line in f.sent()) <= Decimal("0.002")
    late = f.with_key("squeezed").chat.completions.create(
        model=MODEL, messages=f.user("[[say:late]]"), max_tokens=20
    )
    equal(late.choices[0].message.content, "late", "what was freed is there again")


@flow
def budget_sets_an_output_cap(f):
    """Under a budget a request without a cap gets one, and is told which."""
    raw = f.with_key("capped").chat.completions.with_raw_response.create(
        model=MODEL, messages=f.user("uncapped")
    )
    cap = int(raw.headers["holdfast-output-cap"])
    assert 4096 <= cap <= 32768, cap
    body = json.loads(f.sent()[0]["body"])
    equal(body.get("max_completion_tokens") or body.get("max_tokens"), cap)
    without = f.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=f.user("free")
    )
    assert "holdfast-output-cap" not in without.headers, "a cap without a budget"


@flow
def budget_needs_a_price(f):
    """An unknown price is not zero: under a budget the error says which price is missing."""
    error = raises(
        openai.APIStatusError,
        lambda: f.with_key("capped").chat.completions.create(
            model="mock/unpriced", messages=f.user("x"), max_tokens=5
        ),
    )
    assert 400 <= error.status_code < 500, error.status_code
    assert "mock/unpriced" in error.body["message"] and "price" in error.body["message"], error.body
    equal(f.sent(), [])


@flow
def models_list(f):
    ids = [model.id for model in f.client.models.list()]
    assert MODEL in ids and "local/demo" in ids, ids
    equal(len(ids), len(set(ids)), "ids are distinct")


@flow
def models_retrieve(f):
    model = f.client.models.retrieve(MODEL)
    equal((model.id, model.object), (MODEL, "model"))
    status, _, data = f.server.http("GET", "/v1/models/mock/demo", None, f.keys["ci"])
    equal((status, json.loads(data)["id"]), (200, MODEL))
    raises(openai.NotFoundError, lambda: f.client.models.retrieve("mock/nothing"))
