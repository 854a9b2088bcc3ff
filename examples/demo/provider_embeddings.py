"""Scripted embeddings of the demo provider: vectors computed from each input alone.

Equal inputs have equal vectors of length 1; usage is counted in words, or in tokens where tokens
are sent. `dimensions` says how many numbers a vector has, `encoding_format` how it is written.
"""

import base64
import hashlib
import json
import math
import struct

from provider import Refusal

DIMENSIONS, DIMENSIONS_MAX = 16, 4096
TEXTS_MAX = 2048


def inputs_of(body):
    """The texts, or lists of tokens, of a request."""
    given = body.get("input")
    if isinstance(given, str) or (isinstance(given, list) and given and is_tokens(given)):
        given = [given]
    valid = isinstance(given, list) and all(
        isinstance(one, str) or (isinstance(one, list) and is_tokens(one)) for one in given
    )
    if not valid or not given or not all(given):
        raise Refusal(400, "'$.input' is invalid", param="input")
    if len(given) > TEXTS_MAX:
        raise Refusal(400, f"at most {TEXTS_MAX} inputs", param="input")
    return given


def is_tokens(value):
    return all(isinstance(token, int) and not isinstance(token, bool) for token in value)


def vector_of(one, dimensions):
    """Numbers that depend on the input alone, as four-byte floats hold them."""
    seed = json.dumps(one).encode()
    blocks = b"".join(
        hashlib.sha256(seed + bytes([at & 255, at >> 8])).digest() for at in range(dimensions // 8 + 1)
    )
    numbers = [n / 2**31 - 1 for n in struct.unpack(f"<{len(blocks) // 4}I", blocks)][:dimensions]
    length = math.sqrt(sum(n * n for n in numbers))
    return struct.pack(f"<{dimensions}f", *(n / length for n in numbers))


def answer(exchange):
    body = exchange.body
    inputs = inputs_of(body)
    dimensions = body.get("dimensions") or DIMENSIONS
    if not isinstance(dimensions, int) or not 1 <= dimensions <= DIMENSIONS_MAX:
        raise Refusal(400, "'dimensions' is invalid", param="dimensions")
    data = []
    for index, one in enumerate(inputs):
        packed = vector_of(one, dimensions)
        if body.get("encoding_format") == "base64":
            value = base64.b64encode(packed).decode()
        else:
            value = list(struct.unpack(f"<{dimensions}f", packed))
        data.append({"object": "embedding", "index": index, "embedding": value})
    tokens = sum(len(one.split()) if isinstance(one, str) else len(one) for one in inputs)
    exchange.usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    whole = {"object": "list", "data": data, "model": body["model"], "usage": exchange.usage}
    exchange.finish_json(json.dumps(whole).encode())
