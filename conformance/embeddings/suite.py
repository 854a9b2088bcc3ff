"""The suite `embeddings`: a static model with real weights, and GGUF models of random ones in the
engine, held against plain computations.

suite.py WHEELS [NAME …]     only the checks whose name contains one of the NAMEs
"""

import base64
import json
import os
import pathlib
import struct
import subprocess
import sys
import time
import traceback
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import gguf_checks  # noqa: E402
from reference import Reference, make_model  # noqa: E402

from harness import Server, World, holdfast_binary  # noqa: E402

NEAR = 1e-5
MODEL = "local/words"
TEXTS_MAX = 2048
CUTS = [64, 128]

CONFIG = """
[[models]]
name = "words"
path = "{folder}"

[[keys]]
name = "poor"
secret = "hf_suite_poor_0123456789abcdef"

[[budgets]]
scope = {{ key = "poor" }}
limit_usd = "0.000001"
window = "day"

{ggufs}"""
POOR = "hf_suite_poor_0123456789abcdef"

TEXTS = [
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "  leading, trailing and   doubled spaces  ",
    "tabs\tand\nlines\r\nof text",
    "Grüße aus Köln, où l'été est là — ¿no?",
    "Съешь же ещё этих мягких французских булок",
    "いろはにほへと ちりぬるを",
    "你好，世界",
    "مرحبا بالعالم",
    "👩‍👩‍👧‍👦 family, 🇩🇪 flag, e\u0301 accents",
    "def main():\n    return {'a': [1, 2.5e-3], \"b\": None}",
    "</s> <s> <unk> special words in a text",
    "zero\u0000byte and \ufffd and \U0010ffff",
    "1234567890 " * 20,
    "word " * 5000,
]

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Suite:
    def __init__(self, world, server, folder):
        self.world, self.server, self.folder = world, server, folder
        self.reference = Reference(folder)

    def post(self, body, key=None, path="embeddings"):
        """(status, headers, JSON)"""
        key = key or self.server.admin_key
        status, headers, data = self.server.http("POST", f"/v1/{path}", body, key)
        return status, headers, json.loads(data)

    def embed(self, given, **more):
        status, headers, answer = self.post({"model": MODEL, "input": given, **more})
        equal(status, 200, answer)
        return answer, headers

    def refused(self, param, code="invalid_request", path="embeddings", **body):
        body = {"model": MODEL, **body}
        status, _, answer = self.post(body, path=path)
        equal((status, answer["error"]["param"]), (400, param), answer)
        equal(answer["error"]["holdfast"]["code"], code, answer)
        return answer["error"]["message"]


def equal(found, expected, what=""):
    assert found == expected, f"expected {expected!r:.300}, got {found!r:.300} ({what!r:.300})"


def near(found, expected, what):
    equal(len(found), len(expected), what)
    worst = max(abs(one - other) for one, other in zip(found, expected, strict=True))
    assert worst <= NEAR, f"off by {worst}: {what!r:.80}"


@check
def vectors_are_the_plain_computation(s):
    for text in TEXTS:
        answer, _ = s.embed(text)
        near(answer["data"][0]["embedding"], s.reference.vector(text), text)
        equal(answer["usage"]["prompt_tokens"], len(s.reference.tokens(text)), text)


@check
def a_batch_is_the_same_in_its_order(s):
    answer, _ = s.embed(TEXTS)
    equal([row["index"] for row in answer["data"]], list(range(len(TEXTS))))
    for text, row in zip(TEXTS, answer["data"], strict=True):
        near(row["embedding"], s.reference.vector(text), text)
    tokens = sum(len(s.reference.tokens(text)) for text in TEXTS)
    equal(answer["usage"], {"prompt_tokens": tokens, "total_tokens": tokens})
    equal((answer["object"], answer["model"]), ("list", MODEL))


@check
def base64_has_the_same_bits(s):
    floats, _ = s.embed(TEXTS[:8], encoding_format="float")
    texts, _ = s.embed(TEXTS[:8], encoding_format="base64")
    for one, other in zip(floats["data"], texts["data"], strict=True):
        packed = struct.pack(f"<{s.reference.dimensions}f", *one["embedding"])
        equal(base64.b64decode(other["embedding"]), packed)


@check
def cut_vectors_are_as_long_as_one(s):
    for dimensions in [*CUTS, s.reference.dimensions]:
        answer, _ = s.embed(TEXTS[1], dimensions=dimensions)
        near(answer["data"][0]["embedding"], s.reference.vector(TEXTS[1], dimensions), dimensions)
    for dimensions in (0, 1, 100, 257, 1 << 40):
        s.refused("dimensions", input="a", dimensions=dimensions)


@check
def meaning_is_near(s):
    """The weights are real: what means the same is nearer than what does not."""
    pairs = [
        ("the cat sat on the mat", "a kitten lay on a rug", "quarterly tax returns are due"),
        ("how do I reset my password", "forgot login credentials", "recipe for tomato soup"),
        ("the engine will not start", "the car's motor is broken", "a sonnet by Shakespeare"),
    ]
    for texts in pairs:
        answer, _ = s.embed(list(texts))
        one, same, other = (row["embedding"] for row in answer["data"])
        cosine = [sum(a * b for a, b in zip(one, two, strict=True)) for two in (same, other)]
        assert cosine[0] > cosine[1] + 0.1, f"{texts}: {cosine}"


@check
def limits_are_named(s):
    answer, _ = s.embed(["a"] * TEXTS_MAX)
    equal(len(answer["data"]), TEXTS_MAX)
    assert str(TEXTS_MAX) in s.refused("input", input=["a"] * (TEXTS_MAX + 1))
    s.refused("input", input=["a", "b" * (3 << 20)])
    s.refused("input", input="")
    s.refused("input", input=["a", ""])
    s.refused("input", input=[])
    s.refused("input", code="unsupported", input=[1, 2, 3])
    s.refused("encoding_format", input="a", encoding_format="int8")


@check
def a_chat_model_makes_none_and_this_one_makes_nothing_else(s):
    s.refused("model", code="unsupported", model="local/demo", input="a")
    messages = [{"role": "user", "content": "hello"}]
    for stream in (False, True):
        told = s.refused(
            "model",
            code="unsupported",
            path="chat/completions",
            messages=messages,
            stream=stream,
        )
        assert MODEL in told and "/v1/embeddings" in told, told


@check
def it_is_a_model_like_others_and_free(s):
    _, _, data = s.server.http("GET", "/v1/models", None, s.server.admin_key)
    listed = {model["id"]: model for model in json.loads(data)["data"]}
    equal(listed[MODEL]["price"]["version"], "unpriced@free", listed)
    answer, headers = s.embed("count me")
    equal(Decimal(headers["holdfast-cost"]), 0)
    _, shown = s.server.api("GET", f"calls/{headers['holdfast-call-id']}")
    [row] = shown["data"]
    equal(row["usage"]["input_tokens"], answer["usage"]["prompt_tokens"])
    equal((row["door"], row["target"]), ("openai_embeddings", MODEL))
    status, _, answer = s.post({"model": MODEL, "input": "a" * 1000}, key=POOR)
    equal(status, 200, answer)


@check
def a_folder_is_added_by_command_priced_and_served_after_a_restart(s):
    folder = make_model(sys.argv[1], s.world.folder / "again", normalize=False)
    command = [holdfast_binary(), "models", "--data", s.server.data, "add", folder]
    env = {**os.environ, "HOLDFAST_ADMIN_KEY": s.server.admin_key}
    done = subprocess.run([*command, "--input", "1.00", "--output", "0"], capture_output=True, text=True, env=env)
    equal(done.returncode, 0, done.stderr)
    assert "local/again" in done.stdout, done.stdout
    name = "local/again"
    status, headers, answer = s.post({"model": name, "input": TEXTS[1]})
    equal(status, 200, answer)
    tokens = answer["usage"]["prompt_tokens"]
    equal(Decimal(headers["holdfast-cost"]), tokens * Decimal("0.000001"))
    s.refused("dimensions", model=name, input="a", dimensions=64)
    status, _, refused = s.post({"model": name, "input": "a"}, key=POOR)
    equal((status, refused["error"]["code"]), (429, "insufficient_quota"), refused)
    before = answer["data"][0]["embedding"]
    assert s.server.stop(), "it did not stop"
    s.server = s.world.start(Server, s.server.config.read_text())
    status, _, answer = s.post({"model": name, "input": TEXTS[1]})
    equal((status, answer["data"][0]["embedding"]), (200, before))


@check
def check_names_what_is_wrong_with_a_folder(s):
    folder = make_model(sys.argv[1], s.world.folder / "broken")
    config = s.world.folder / "broken.toml"
    config.write_text(f'[[models]]\nname = "broken"\npath = "{folder}"\n')

    def told():
        done = subprocess.run(
            [holdfast_binary(), "check", "--config", config], capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    equal(told()[0], 0, told())
    (folder / "tokenizer.json").unlink()
    code, text = told()
    assert code != 0 and "models[0].path" in text and "tokenizer.json" in text, text


gguf_checks.checks(check, equal)


@check
def it_takes_microseconds(s):
    """Printed, not judged."""
    texts = TEXTS[:13]
    began, rounds = time.monotonic(), 50
    for _ in range(rounds):
        s.embed(texts * 16, encoding_format="base64")
    each = (time.monotonic() - began) / (rounds * len(texts) * 16)
    print(f"     {each * 1e6:.0f} us a text, HTTP and its client included", flush=True)


def run(function, suite):
    began = time.monotonic()
    try:
        function(suite)
        print(f"ok   {function.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        return True
    except Exception as error:  # any failure of a check is its result
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        print(f"FAIL {function.__name__}: {type(error).__name__}: {error} [line {line}]"[:900])
        return False


def main(wheels, names):
    chosen = [one for one in CHECKS if not names or any(name in one.__name__ for name in names)]
    with World() as world:
        folder = make_model(wheels, world.folder / "words", matryoshka_dimensions=CUTS)
        config = CONFIG.format(folder=folder, ggufs=gguf_checks.entries(world.folder))
        suite = Suite(world, world.start(Server, config), folder)
        passed = sum(run(one, suite) for one in chosen)
    print(f"{passed} passed, {len(chosen) - passed} failed")
    return 0 if chosen and passed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
