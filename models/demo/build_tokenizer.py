"""Trains the tokenizer: byte-level BPE whose merges never join a space, quote or digit with a word.

A value therefore has the same tokens wherever it stands (in a sentence, in JSON), which makes
copying it a matter of looking back. Digits are joined in pairs, JSON punctuation by hand-written
merges; the fixed parts of a tool call are one token each (see chat_format.py).

    python build_tokenizer.py --vocabulary 1152 --out tokenizer.json
"""

import argparse
import json
import random
import re

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from chat_format import (
    ARGUMENTS_PART,
    CALL_END,
    CALL_START,
    END,
    END_OF_TEXT,
    NAME_PART,
    START,
    render,
)
from conversations import Sessions

CONTROL = [END_OF_TEXT, START, END]
# Not control tokens: their text must show in the model's output, where the engine parses it.
VISIBLE = [CALL_START, CALL_END, NAME_PART, ARGUMENTS_PART]
SPACE = "\u0120"  # the byte-level alphabet's sign for a space
DIGIT_PAIRS = [(a, b) for a in "0123456789" for b in "0123456789"]
PUNCTUATION = [("{", '"'), ('"', ":"), ('"', ","), ('"', "}"), ('"}', "}"), ("}", "}")]
PUNCTUATION += [(SPACE, '"'), (SPACE, '{"'), (SPACE, "{")]


def corpus(conversations: int, seed: int):
    """Only the words: nothing else may form a merge."""
    sessions = Sessions(random.Random(seed))
    for _ in range(conversations):
        yield " ".join(re.findall(r"[^\W\d_]+", render(sessions.session())))


def build(vocabulary: int, conversations: int, seed: int) -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    hand_made = DIGIT_PAIRS + PUNCTUATION
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    room = vocabulary - len(CONTROL) - len(VISIBLE) - len(hand_made)
    trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(corpus(conversations, seed), trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    pairs = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in merges]

    words = ["".join(pair) for pair in hand_made + pairs]
    tokens = CONTROL + [CALL_START, CALL_END] + sorted(alphabet) + words
    tokens += [NAME_PART, ARGUMENTS_PART]
    if not len(set(tokens)) == len(tokens) == vocabulary:
        raise SystemExit(f"{len(tokens)} tokens, {len(set(tokens))} distinct, want {vocabulary}")
    ids = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=hand_made + pairs))
    # GPT-2's splitting rule, which llama.cpp knows as "gpt-2".
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(CONTROL)
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in VISIBLE])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocabulary", type=int, default=1152)
    parser.add_argument("--conversations", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", default="tokenizer.json")
    arguments = parser.parse_args()
    tokenizer = build(arguments.vocabulary, arguments.conversations, arguments.seed)
    tokenizer.save(arguments.out)
    sessions = Sessions(random.Random(arguments.seed + 1))
    lengths = [len(tokenizer.encode(render(sessions.session())).ids) for _ in range(1000)]
    print(f"{tokenizer.get_vocab_size()} tokens; a conversation has {sum(lengths) / 1000:.0f}")
    print(f"the longest {max(lengths)}")


if __name__ == "__main__":
    main()
