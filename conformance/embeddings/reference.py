"""What a static model's vectors must be: the plain computation, in plain Python.

It shares nothing with the product but the files: the tokenizer is that of another build, and the
numbers are added up in double precision.
"""

import json
import math
import pathlib
import struct
import zipfile

from tokenizers import Tokenizer

WEIGHTS = "wordllama/weights/l2_supercat_256.safetensors"
TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"


def make_model(wheels, folder, **config):
    """A model's folder, in model2vec's form, of the wheel's weights."""
    [wheel] = pathlib.Path(wheels).glob("wordllama-*.whl")
    folder.mkdir()
    with zipfile.ZipFile(wheel) as files:
        (folder / "model.safetensors").write_bytes(files.read(WEIGHTS))
        (folder / "tokenizer.json").write_bytes(files.read(TOKENIZER))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Reference:
    """A model, read by hand."""

    def __init__(self, folder):
        data = (folder / "model.safetensors").read_bytes()
        [length] = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        table = header["embedding.weight"]
        assert table["dtype"] == "F16", table
        self.rows, self.dimensions = table["shape"]
        self.table, self.start = data, 8 + length + table["data_offsets"][0]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.unknown = self.tokenizer.token_to_id("<unk>")

    def tokens(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def row(self, token):
        size = 2 * self.dimensions
        return struct.unpack_from(f"<{self.dimensions}e", self.table, self.start + token * size)

    def vector(self, text, dimensions=None):
        """The mean of the rows of its tokens, cut, and made as long as one."""
        known = [token for token in self.tokens(text) if token != self.unknown]
        sums = [math.fsum(column) for column in zip(*map(self.row, known), strict=True)]
        mean = [number / len(known) for number in sums[:dimensions]]
        length = math.sqrt(math.fsum(number * number for number in mean))
        return [number / length for number in mean]
