"""What a BERT's vectors must be: the plain forward pass, in double precision.

It shares nothing with the product but the file: the GGUF is read here, words are cut into pieces
here (WordPiece: the longest piece first), and the layers are the published ones (Devlin et al.
2018): post-norm, biases everywhere, GELU by tanh as ggml has it.
"""

import math
import struct
import unicodedata

import numpy

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST, F32, ALIGNMENT = 8, 9, 0, 32
POOLING = {1: "mean", 2: "cls", 3: "last"}


class Gguf:
    """The metadata and the 32-bit tensors of a file."""

    def __init__(self, path):
        self.data, self.at = path.read_bytes(), 8
        assert self.data[:4] == b"GGUF"
        tensors, entries = self.number("Q"), self.number("Q")
        self.values = {}
        for _ in range(entries):
            key = self.text()
            self.values[key] = self.value(self.number("I"))
        infos = {}
        for _ in range(tensors):
            name = self.text()
            shape = [self.number("Q") for _ in range(self.number("I"))]
            assert self.number("I") == F32, name
            infos[name] = (shape[::-1], self.number("Q"))
        start = -(-self.at // ALIGNMENT) * ALIGNMENT
        self.tensors = {}
        for name, (shape, offset) in infos.items():
            numbers = numpy.frombuffer(
                self.data, "<f4", math.prod(shape), start + offset
            )
            self.tensors[name] = numbers.reshape(shape).astype(numpy.float64)

    def number(self, code):
        [number] = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return number

    def text(self):
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, kind):
        if kind == TEXT:
            return self.text()
        if kind == LIST:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        return self.number(CODES[kind])


def is_mark(character):
    """Punctuation and symbols of ASCII, and Chinese: words of their own."""
    code = ord(character)
    if 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF:
        return True
    kind = unicodedata.category(character)
    return kind.startswith("P") or (code < 0x7F and kind.startswith("S"))


def words(text):
    """Lower-case words without accents and control characters."""
    found = [""]
    for character in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(character)
        if character.isspace():
            found.append("")
        elif kind in ("Cc", "Cf", "Mn") or character == "\ufffd":
            continue
        elif is_mark(character):
            found += [character, ""]
        else:
            found[-1] += character.lower()
    return [word for word in found if word]


def gelu(x):
    return 0.5 * x * (1 + numpy.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Bert:
    """A model, read by hand."""

    def __init__(self, path):
        file = Gguf(path)
        self.tensors, values = file.tensors, file.values
        self.layers, self.heads = values["bert.block_count"], values["bert.attention.head_count"]
        self.epsilon = values["bert.attention.layer_norm_epsilon"]
        self.pooling = POOLING[values["bert.pooling_type"]]
        self.ids = {piece: id for id, piece in enumerate(values["tokenizer.ggml.tokens"])}
        self.dimensions = values["bert.embedding_length"]
        self.context = values["bert.context_length"]

    def pieces(self, word):
        """The word's pieces, the longest first; unknown as a whole if one is missing."""
        rest, found = "▁" + word, []
        while rest:
            sizes = range(len(rest), 0, -1)
            size = next((size for size in sizes if rest[:size] in self.ids), None)
            if size is None:
                return [self.ids["[UNK]"]]
            found.append(self.ids[rest[:size]])
            rest = rest[size:]
        return found

    def tokens(self, text):
        inner = [id for word in words(text) for id in self.pieces(word)]
        return [self.ids["[CLS]"], *inner, self.ids["[SEP]"]]

    def norm(self, x, name):
        mean, spread = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        x = (x - mean) / numpy.sqrt(spread + self.epsilon)
        return x * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def linear(self, x, name):
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def attention(self, x, layer):
        count, width = len(x), self.dimensions // self.heads
        parts = []
        for name in ("attn_q", "attn_k", "attn_v"):
            part = self.linear(x, f"blk.{layer}.{name}").reshape(count, self.heads, width)
            parts.append(part.transpose(1, 0, 2))
        queries, keys, values = parts
        scores = queries @ keys.transpose(0, 2, 1) / math.sqrt(width)
        weights = numpy.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ values).transpose(1, 0, 2).reshape(count, self.dimensions)
        return self.linear(mixed, f"blk.{layer}.attn_output")

    def vector(self, text):
        """As long as one."""
        ids = self.tokens(text)
        x = self.tensors["token_embd.weight"][ids] + self.tensors["token_types.weight"][0]
        x = self.norm(x + self.tensors["position_embd.weight"][: len(ids)], "token_embd_norm")
        for layer in range(self.layers):
            x = self.norm(x + self.attention(x, layer), f"blk.{layer}.attn_output_norm")
            inner = gelu(self.linear(x, f"blk.{layer}.ffn_up"))
            x = self.norm(x + self.linear(inner, f"blk.{layer}.ffn_down"), f"blk.{layer}.layer_output_norm")
        pooled = {"mean": x.mean(0), "cls": x[0], "last": x[-1]}[self.pooling]
        return pooled / numpy.linalg.norm(pooled)
