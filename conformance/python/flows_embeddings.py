"""Embeddings: what the SDK asks, what reaches the provider, and what it costs."""

import asyncio
import base64
import json
import struct
from decimal import Decimal

import openai

from flows import INPUT_PRICE, LOCAL, MODEL, equal, flow, raises, refused_by_name

# What the scripted provider gives where nobody says how many numbers a vector has.
DIMENSIONS = 16


def embed(f, given, **options):
    options.setdefault("model", MODEL)
    return f.client.embeddings.create(input=given, **options)


def body_of(line):
    return json.loads(line["body"])


def packed(vector):
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


@flow
def embed_text(f):
    """The SDK asks for base64 of its own accord; usage and cost are the provider's tokens."""
    raw = f.client.embeddings.with_raw_response.create(model=MODEL, input=f"two words {f.mark}")
    answer = raw.parse()
    equal([len(one.embedding) for one in answer.data], [DIMENSIONS])
    assert abs(sum(n * n for n in answer.data[0].embedding) - 1) < 1e-5, answer.data[0]
    equal((answer.usage.prompt_tokens, answer.usage.total_tokens), (3, 3))
    equal(Decimal(raw.headers["holdfast-cost"]), 3 * INPUT_PRICE)
    equal(raw.headers["holdfast-model"], MODEL)
    assert "holdfast-output-cap" not in raw.headers, "a cap on an answer without tokens"
    [line] = f.sent()
    equal(body_of(line)["encoding_format"], "base64")
    equal(body_of(line)["model"], "demo")


@flow
def embed_float_and_base64_are_the_same_numbers(f):
    """Neither is touched: both come as the provider wrote them."""
    floats = f.client.embeddings.with_raw_response.create(
        model=MODEL, input=f"same {f.mark}", encoding_format="float"
    ).http_response.json()
    texts = f.client.embeddings.with_raw_response.create(
        model=MODEL, input=f"same {f.mark}", encoding_format="base64"
    ).http_response.json()
    assert isinstance(floats["data"][0]["embedding"], list), floats
    equal(texts["data"][0]["embedding"], packed(floats["data"][0]["embedding"]))


@flow
def embed_batch_keeps_its_order(f):
    texts = [f"text {number} {f.mark}" for number in range(300)]
    answer = embed(f, texts)
    equal([one.index for one in answer.data], list(range(300)))
    equal(answer.usage.prompt_tokens, 900)
    alone = embed(f, texts[217])
    equal(alone.data[0].embedding, answer.data[217].embedding)


@flow
def embed_dimensions(f):
    answer = embed(f, f"small {f.mark}", dimensions=8)
    equal(len(answer.data[0].embedding), 8)
    equal(body_of(f.sent()[0])["dimensions"], 8)


@flow
def embed_tokens(f):
    """Lists of tokens are the provider's to read; they come to it as they were sent."""
    one = embed(f, [11, 22, 33], user=f.mark)
    equal((len(one.data), one.usage.prompt_tokens), (1, 3))
    two = embed(f, [[11, 22, 33], [44]], user=f.mark)
    equal((len(two.data), two.usage.prompt_tokens), (2, 4))
    equal(two.data[0].embedding, one.data[0].embedding)
    equal([body_of(line)["input"] for line in f.sent()], [[11, 22, 33], [[11, 22, 33], [44]]])


@flow
def embed_bytes_pass_untouched(f):
    """Order, spaces, escapes and unknown fields reach the provider; only the model is replaced."""
    body = (
        b'{ "input" : "caf\\u00e9 ' + f.mark.encode() + b'",\t"x_odd":1e2, "model": "mock/demo" ,'
        b'"encoding_format":"base64","nothing":null}'
    )
    status, _, data = f.server.http("POST", "/v1/embeddings", body, f.keys["ci"])
    equal(status, 200, data[:300])
    equal(f.sent()[0]["body"].encode(), body.replace(b"mock/demo", b"demo"))


@flow
def embed_async(f):
    async def run():
        async with f.async_client() as client:
            asked = [
                client.embeddings.create(model=MODEL, input=f"{number} {f.mark}")
                for number in range(8)
            ]
            return await asyncio.gather(*asked)

    answers = asyncio.run(run())
    equal(len({tuple(answer.data[0].embedding) for answer in answers}), 8)
    equal(len(f.sent()), 8)


@flow
def embed_is_a_row_of_the_ledger(f):
    raw = f.client.embeddings.with_raw_response.create(model=MODEL, input=f"a b c {f.mark}")
    status, shown = f.server.api("GET", f"calls/{raw.headers['holdfast-call-id']}")
    equal(status, 200, shown)
    [attempt] = shown["data"]
    equal(Decimal(attempt["cost"]), 4 * INPUT_PRICE)
    equal((attempt["usage"]["input_tokens"], attempt["usage"]["output_tokens"]), (4, 0))
    equal(attempt["door"], "openai_embeddings")


@flow
def embed_budget_refuses_by_the_input(f):
    """A budget of $0.001 holds a thousand tokens of input at this price, and no more."""
    client = f.retrying("poor")
    error = raises(
        openai.APIStatusError,
        lambda: client.embeddings.create(model=MODEL, input=f"{f.mark} " + "word " * 400),
    )
    equal((error.status_code, error.body["code"]), (429, "insufficient_quota"))
    equal(error.response.headers.get("x-should-retry"), "false")
    equal(f.sent(), [])


@flow
def embed_call_budget(f):
    """The header caps one Call: what it may cost is its input, whatever it answers."""
    asked = {"model": MODEL, "input": f"short {f.mark}"}
    error = raises(
        openai.APIStatusError,
        lambda: f.client.embeddings.create(**asked, extra_headers={"holdfast-budget": "0.0001"}),
    )
    equal(error.body["code"], "insufficient_quota")
    answer = f.client.embeddings.create(**asked, extra_headers={"holdfast-budget": "0.001"})
    equal(answer.usage.prompt_tokens, 2)


@flow
def embed_without_a_bound_is_refused_under_a_budget(f):
    """Who may cost more than the text says is not let through where a budget must hold."""
    client = f.with_key("capped")
    for more in ({"instruction": "in front of each text"}, {"service_tier": "priority"}):
        error = raises(
            openai.BadRequestError,
            lambda: client.embeddings.create(model=MODEL, input=f.mark, extra_body=more),
        )
        equal(error.body["code"], "unsupported_parameter", str(error.body))
    equal(f.sent(), [])
    embed(f, f.mark, extra_body={"instruction": "where nothing has to be held"})
    equal(len(f.sent()), 1)


@flow
def embed_unknown_and_invalid(f):
    error = raises(openai.NotFoundError, lambda: embed(f, f.mark, model="mock/nothing"))
    equal(error.body["code"], "model_not_found")
    for body, field in (
        ({"model": MODEL}, "input"),
        ({"model": MODEL, "input": 7}, "input"),
        ({"input": f.mark}, "model"),
    ):
        error = raises(
            openai.BadRequestError,
            lambda: f.client.post("/embeddings", body=body, cast_to=object),
        )
        refused_by_name(error, field)
    equal(f.sent(), [])
    # What the provider refuses comes back in its words.
    error = raises(openai.BadRequestError, lambda: embed(f, ["", f.mark]))
    equal((error.body["param"], error.body["message"]), ("input", "'$.input' is invalid"))


@flow
def embed_on_a_chat_model(f):
    error = raises(openai.BadRequestError, lambda: embed(f, f.mark, model=LOCAL))
    equal(error.body["holdfast"]["code"], "unsupported")
    refused_by_name(error, LOCAL)


@flow
def embed_wrong_method_and_key(f):
    status, headers, _ = f.server.http("GET", "/v1/embeddings", None, f.keys["ci"])
    equal((status, headers["allow"]), (405, "POST"))
    client = f.client.with_options(api_key="hf_not_a_key")
    error = raises(
        openai.AuthenticationError, lambda: client.embeddings.create(model=MODEL, input="x")
    )
    equal(error.body["code"], "invalid_api_key")
