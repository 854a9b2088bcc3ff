"""Writes a checkpoint as a GGUF file of llama.cpp's `llama` architecture.

    python export_gguf.py --checkpoint demo.pt --out holdfast-demo-Q8_0.gguf

The model's RoPE is interleaved already, as the format wants it, so no weight is permuted.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np

from model import NORM_EPSILON, Llama, load_checkpoint

BEGIN_ID, END_ID = 0, 2  # <|endoftext|> and <|im_end|> in tokenizer.json
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7}
TENSORS = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "feed_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def write_shape(writer: gguf.GGUFWriter, model: Llama) -> None:
    shape = model.shape
    writer.add_name("Holdfast demo")
    writer.add_description("A tiny tool-calling model for Holdfast's demo; see MODEL_CARD.md")
    writer.add_license("apache-2.0")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.theta)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_vocab_size(shape.vocabulary)
    # A model this small is good only at its first choice: greedy unless the request says otherwise.
    writer.add_float32("general.sampling.temp", 0.0)


def write_tokenizer(writer: gguf.GGUFWriter, path: str, template: str) -> None:
    state = json.loads(pathlib.Path(path).read_text())
    vocabulary = sorted(state["model"]["vocab"].items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary]
    special = {entry["content"]: entry["special"] for entry in state["added_tokens"]}

    def kind(token: str) -> gguf.TokenType:
        if token not in special:
            return gguf.TokenType.NORMAL
        return gguf.TokenType.CONTROL if special[token] else gguf.TokenType.USER_DEFINED

    merges = state["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([kind(token) for token in tokens])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(BEGIN_ID)
    writer.add_eos_token_id(END_ID)
    writer.add_add_bos_token(False)
    writer.add_chat_template(pathlib.Path(template).read_text().rstrip("\n"))


def write_tensor(writer: gguf.GGUFWriter, name: str, value: np.ndarray, kind: str) -> None:
    """Norms stay in 32 bits; matrices take the file's type."""
    if value.ndim == 1 or kind == "F32":
        writer.add_tensor(name, value.astype(np.float32))
    elif kind == "F16":
        writer.add_tensor(name, value.astype(np.float16))
    else:
        quantised = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(value, quantised), raw_dtype=quantised)


def export(checkpoint: str, tokenizer: str, template: str, kind: str, out: str) -> None:
    model = load_checkpoint(checkpoint)
    writer = gguf.GGUFWriter(out, "llama")
    write_shape(writer, model)
    write_tokenizer(writer, tokenizer, template)
    writer.add_file_type(FILE_TYPES[kind])
    weights = {name: value.float().numpy() for name, value in model.state_dict().items()}
    write_tensor(writer, "token_embd.weight", weights["embedding"], kind)
    write_tensor(writer, "output_norm.weight", weights["norm"], kind)
    for layer in range(model.shape.layers):
        for ours, theirs in TENSORS.items():
            value = weights[f"blocks.{layer}.{ours}"]
            write_tensor(writer, f"blk.{layer}.{theirs}.weight", value, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{out}: {pathlib.Path(out).stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", default="demo.pt")
    parser.add_argument("--tokenizer", default="tokenizer.json")
    parser.add_argument("--template", default="template.jinja")
    parser.add_argument("--type", choices=FILE_TYPES, default="Q8_0")
    parser.add_argument("--out", default="holdfast-demo-Q8_0.gguf")
    options = parser.parse_args()
    export(options.checkpoint, options.tokenizer, options.template, options.type, options.out)


if __name__ == "__main__":
    main()
