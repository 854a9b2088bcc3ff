"""Checks of GGUF embedding models: a BERT of random weights, held against the plain forward pass,
and a decoder whose last token's vector is the text's."""

import base64
import concurrent.futures
import json
import os
import pathlib
import struct
import subprocess
import time
from decimal import Decimal

from bert import Bert

from harness import holdfast_binary

SHAPE = "--width 64 --feed-forward 128 --layers 2 --heads 4".split()
MODELS = {
    "mean": ["--architecture", "bert", "--context", "128"],
    "cls": ["--architecture", "bert", "--context", "128", "--pooling", "cls", "--seed", "2"],
    "last": ["--context", "2048", "--kv-heads", "2", "--vocab", "1024", "--pooling", "last"],
}
NEAR = 0.9999
SAME = 0.99999

TEXTS = [
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "embedding vectors: unable, unlabled!",
    "  spaces,\ttabs\nand\r\nlines  ",
    "Grüße aus Köln, où l'été est là",
    "你好，世界",
    "д зык 👩‍👩‍👧‍👦",
    "zero\u0000byte and \ufffd and \U0010ffff",
    "[SEP] [CLS] [MASK]",
    "(1234) \"567\" - 'x'",
    "fox " * 100,
]


def engine_binary():
    return pathlib.Path(os.path.realpath(holdfast_binary())).with_name("holdfast-engine")


def make(folder, name, *arguments):
    """A model of random weights."""
    path = folder / f"{name}.gguf"
    command = [engine_binary(), "make-random-model", "--out", path, *arguments, *SHAPE]
    subprocess.run(command, check=True, env={**os.environ, "RUST_LOG": "error"})
    return path


def entries(folder):
    """The models as the file names them."""
    paths = {name: make(folder, name, *arguments) for name, arguments in MODELS.items()}
    return "".join(f'[[models]]\nname = "{name}"\npath = "{path}"\n' for name, path in paths.items())


def cosine(one, other):
    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    return dot(one, other) / (dot(one, one) * dot(other, other)) ** 0.5


def checks(check, equal):
    """Registers the checks."""

    def embed(s, model, given, **more):
        status, headers, answer = s.post({"model": f"local/{model}", "input": given, **more})
        equal(status, 200, answer)
        return answer, headers

    @check
    def a_bert_is_the_plain_forward_pass(s):
        for name in ("mean", "cls"):
            reference = Bert(s.world.folder / f"{name}.gguf")
            for text in TEXTS:
                answer, _ = embed(s, name, text)
                vector = answer["data"][0]["embedding"]
                near = cosine(vector, reference.vector(text))
                assert near > NEAR, f"{name}: {near} for {text!r}"
                assert abs(sum(number * number for number in vector) - 1) < 1e-5, text
                equal(answer["usage"]["prompt_tokens"], len(reference.tokens(text)), text)

    @check
    def a_batch_of_texts_is_what_single_ones_are(s):
        for name in MODELS:
            texts = [f"{TEXTS[place % len(TEXTS)]} {place}" for place in range(256)]
            answer, _ = embed(s, name, texts)
            equal([row["index"] for row in answer["data"]], list(range(256)))
            tokens = 0
            for place in range(0, 256, 15):
                alone, _ = embed(s, name, texts[place])
                vectors = (alone["data"][0]["embedding"], answer["data"][place]["embedding"])
                assert cosine(*vectors) > SAME, f"{name}: {texts[place]!r}"
            for place in range(256):
                alone, _ = embed(s, name, texts[place]) if place < 20 else (None, None)
                tokens += alone["usage"]["prompt_tokens"] if alone else 0
            assert answer["usage"]["prompt_tokens"] > tokens > 0
            equal(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"])

    @check
    def numbers_may_come_as_bytes(s):
        floats, _ = embed(s, "mean", TEXTS, encoding_format="float")
        packed, _ = embed(s, "mean", TEXTS, encoding_format="base64")
        for one, other in zip(floats["data"], packed["data"], strict=True):
            equal(base64.b64decode(other["embedding"]), struct.pack("<64f", *one["embedding"]))

    @check
    def what_does_not_fit_is_named(s):
        told = s.refused(
            "input",
            code="context_length_exceeded",
            model="local/mean",
            input=["a", "fox " * 127],
        )
        assert "input[1]" in told and "129" in told and "128" in told, told
        s.refused("input", model="local/mean", input=["a", ""])
        s.refused("input", model="local/mean", input=["a"] * 2049)
        s.refused("input", model="local/mean", input=["a" * (1 << 20)] * 9)
        s.refused("input", code="unsupported", model="local/mean", input=[1, 2, 3])
        told = s.refused("dimensions", model="local/mean", input="a", dimensions=32)
        assert "64" in told, told
        embed(s, "mean", "a", dimensions=64)

    @check
    def a_long_text_is_whole_in_a_decoder(s):
        answer, _ = embed(s, "last", ["word " * 300, "word " * 300 + "x"])
        assert answer["usage"]["prompt_tokens"] > 1200, answer["usage"]
        one, other = (row["embedding"] for row in answer["data"])
        assert cosine(one, other) < NEAR

    @check
    def an_embedding_model_of_an_engine_answers_nothing(s):
        messages = [{"role": "user", "content": "hello"}]
        for name in ("mean", "last"):
            for stream in (False, True):
                told = s.refused(
                    "model",
                    code="unsupported",
                    model=f"local/{name}",
                    path="chat/completions",
                    messages=messages,
                    stream=stream,
                )
                assert f"local/{name}" in told and "/v1/embeddings" in told, told

    @check
    def cloudflares_doors_give_the_same(s):
        answer, _ = embed(s, "mean", TEXTS[:3])
        key = s.server.admin_key
        base = "/client/v4/accounts/default/ai"
        body = {"text": TEXTS[:3]}
        status, _, data = s.server.http("POST", f"{base}/run/local/mean", body, key)
        equal(status, 200, data)
        result = json.loads(data)["result"]
        equal(result["shape"], [3, 64])
        equal(result["data"], [row["embedding"] for row in answer["data"]])
        body = {"model": "local/mean", "input": TEXTS[:3]}
        status, _, data = s.server.http("POST", f"{base}/v1/embeddings", body, key)
        equal((status, json.loads(data)["data"]), (200, answer["data"]))

    @check
    def requests_side_by_side_get_their_own(s):
        def one(place):
            text = f"text {place} fox"
            answer, _ = embed(s, "mean", [text, "a", text])
            return text, [row["embedding"] for row in answer["data"]]

        reference = Bert(s.world.folder / "mean.gguf")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for text, (first, _, third) in pool.map(one, range(40)):
                assert cosine(first, reference.vector(text)) > NEAR, text
                assert cosine(first, third) > SAME, text

    @check
    def a_ranking_model_and_one_without_pooling_are_refused_by_name(s):
        for pooling, why in (("rank", "ranks texts"), ("none", "pooling_type is none")):
            path = make(s.world.folder, pooling, "--architecture", "bert", "--pooling", pooling)
            config = s.world.folder / f"{pooling}.toml"
            config.write_text(f'[[models]]\nname = "x"\npath = "{path}"\n')
            command = [holdfast_binary(), "check", "--config", config]
            done = subprocess.run(command, capture_output=True, text=True)
            told = done.stdout + done.stderr
            assert done.returncode != 0 and "models[0].path" in told and why in told, told

    @check
    def the_engine_killed_meanwhile_is_started_again(s):
        embed(s, "cls", "a")
        processes = [
            int(path.name)
            for path in pathlib.Path("/proc").glob("[0-9]*")
            if is_engine_of(path, s.world.folder / "cls.gguf")
        ]
        assert processes, "no engine was found"
        for process in processes:
            os.kill(process, 9)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            status, headers, answer = s.post({"model": "local/cls", "input": "a"})
            if status == 200:
                return
            assert status in (502, 503), answer
        raise AssertionError("it did not come back")

    @check
    def vectors_of_an_engine_are_priced_by_their_tokens(s):
        path = s.world.folder / "mean.gguf"
        command = [holdfast_binary(), "models", "--data", s.server.data, "add", path]
        command += ["--name", "priced", "--input", "1.00", "--output", "0"]
        env = {**os.environ, "HOLDFAST_ADMIN_KEY": s.server.admin_key}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        equal(done.returncode, 0, done.stderr)
        answer, headers = embed(s, "priced", TEXTS[1])
        tokens = answer["usage"]["prompt_tokens"]
        equal(Decimal(headers["holdfast-cost"]), tokens * Decimal("0.000001"))
        _, shown = s.server.api("GET", f"calls/{headers['holdfast-call-id']}")
        [row] = shown["data"]
        equal((row["usage"]["input_tokens"], row["target"]), (tokens, "local/priced"))


def is_engine_of(process, model):
    """Whether it is an engine, not its guard, and serves that file."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].endswith(b"holdfast-engine") and os.fsencode(model) in words
