"""Trains the demo model on one CPU thread; conversations are generated as they are needed.

    python train.py --steps 4000 --out demo.pt

The loss is taken over the assistant's tokens only. A first stage of pure copying, at a high rate,
is followed by the whole mixture at a lower one that falls to zero. CPU-seconds in the output are
those of the training itself: compiling and the checks in between are not counted.
"""

import argparse
import random
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from chat_format import END, START, Conversation, render
from conversations import Sessions
from evaluate import exactness
from model import Llama, Shape, load_checkpoint
from sentences import fixed_sentences

POOL = 240  # conversations sorted by length together
WARM_UP_STEPS = 50
LOWEST_RATE = 0.01
BETAS = (0.9, 0.98)


class Encoder:
    """Turns conversations into token ids and the number of the assistant turn each id is in."""

    def __init__(self, path: str):
        self.tokenizer = Tokenizer.from_file(path)
        self.start = self.tokenizer.token_to_id(START)
        self.end = self.tokenizer.token_to_id(END)
        self.opening = self.tokenizer.encode(f"{START}assistant\n").ids

    def pieces(self) -> list[str]:
        """The tokens that are made of plain letters, those of the fixed sentences five times.

        A token such as `work`, which the model says mostly in sentences of its own ("That did not
        work"), needs more practice to be copied in a user's word ("workshop").
        """
        letters = [t for t in self.tokenizer.get_vocab() if t.isalpha() and t.isascii()]
        fixed = set(self.tokenizer.encode(" ".join(fixed_sentences())).tokens)
        return letters + 4 * [t for t in letters if t in fixed]

    def encode(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        ids = self.tokenizer.encode(render(conversation)).ids
        turns = [0] * len(ids)
        at = turn = 0
        while at < len(ids):
            if ids[at] == self.start and ids[at : at + len(self.opening)] == self.opening:
                at += len(self.opening)
                turn += 1
                while ids[at] != self.end:
                    turns[at] = turn
                    at += 1
                turns[at] = turn
            at += 1
        return ids, turns


def pad(rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    length = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [0] * (length - len(row)) for row, _ in rows])
    turns = torch.tensor([row + [0] * (length - len(row)) for _, row in rows])
    return ids, turns


def batches(draw, encoder: Encoder, rng: random.Random, tokens: int) -> Iterator:
    """Forever: batches of at most `tokens` tokens, rows of like length together."""
    while True:
        rows = sorted((encoder.encode(draw()) for _ in range(POOL)), key=lambda row: len(row[0]))
        groups, start = [], 0
        while start < len(rows):
            stop = start + 1
            while stop < len(rows) and (stop - start + 1) * len(rows[stop][0]) <= tokens:
                stop += 1
            groups.append(rows[start:stop])
            start = stop
        rng.shuffle(groups)
        yield from (pad(group) for group in groups)


def optimizers(model: Llama, muon: float, adam: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the embedding and the norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.dim() == 2 and name != "embedding"]
    others = [p for name, p in named if p.dim() < 2 or name == "embedding"]
    return [
        torch.optim.Muon(
            matrices, lr=muon, momentum=0.95, weight_decay=0.01, adjust_lr_fn="original"
        ),
        torch.optim.AdamW(others, lr=adam, betas=BETAS, weight_decay=0.0),
    ]


def rate(step: int, options: argparse.Namespace) -> float:
    """The factor on both learning rates at a step."""
    warm = min(1.0, step / WARM_UP_STEPS)
    if step <= options.copying_steps:
        return warm
    falling = min(1.0, (1 - step / options.steps) / options.decay)
    return warm * options.after_copying * max(LOWEST_RATE, falling)


def save(model: Llama, path: str, spent: float) -> None:
    state = {"weights": model.state_dict(), "shape": model.shape.as_dict(), "cpu_seconds": spent}
    torch.save(state, path)


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    rng = random.Random(options.seed * 1000 + 11)
    encoder = Encoder(options.tokenizer)
    if options.resume:
        model = load_checkpoint(options.resume).train()
    else:
        vocabulary = encoder.tokenizer.get_vocab_size()
        model = Llama(
            Shape(vocabulary, options.width, options.layers, options.heads, options.inner)
        )
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    forward = torch.compile(model, dynamic=True) if options.compile else model
    steppers = optimizers(model, options.muon, options.adam)
    base_rates = [stepper.param_groups[0]["lr"] for stepper in steppers]
    sessions = Sessions(rng, pieces=encoder.pieces())

    step = tokens = 0
    average = None

    def draw() -> Conversation:
        return sessions.copying() if step < options.copying_steps else sessions.session()

    if options.compile:
        for shape in ((8, 100), (9, 120)):
            forward(torch.zeros(shape, dtype=torch.long)).sum().backward()
    began, excluded = time.process_time(), 0.0
    for ids, turns in batches(draw, encoder, rng, options.batch_tokens):
        step += 1
        factor = rate(step, options)
        for stepper, base in zip(steppers, base_rates):
            stepper.param_groups[0]["lr"] = base * factor
        wanted = turns[:, 1:].reshape(-1).nonzero()[:, 0]
        targets = ids[:, 1:].reshape(-1)[wanted]
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            hidden = forward(ids[:, :-1]).reshape(-1, model.shape.width)[wanted]
            loss = F.cross_entropy(model.logits(hidden).float(), targets)
        for stepper in steppers:
            stepper.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(steppers[1].param_groups[0]["params"], 1.0)
        for stepper in steppers:
            stepper.step()
        tokens += ids.numel()
        average = loss.item() if average is None else 0.97 * average + 0.03 * loss.item()
        spent = time.process_time() - began - excluded
        if step % 20 == 0:
            print(
                f"step {step}, {tokens / 1e6:.2f} M tokens, {tokens / spent:.0f}/s, "
                f"loss {average:.4f}, rate {factor:.3f}, cpu {spent:.0f} s",
                flush=True,
            )
        if step % options.check_steps == 0 or step == options.steps:
            paused = time.process_time()
            save(model, options.out, spent)
            count = 200 if step == options.steps else 50
            print(f"  check {exactness(model, encoder, count)}", flush=True)
            excluded += time.process_time() - paused
        if step == options.steps:
            break
    print(f"done: {step} steps, {tokens} tokens, {spent:.0f} CPU-seconds of training", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("--out", default="demo.pt")
    add("--steps", type=int, default=4000)
    add("--tokenizer", default="tokenizer.json")
    add("--resume", help="a checkpoint to go on from")
    add("--seed", type=int, default=1)
    add("--width", type=int, default=256)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=4)
    add("--inner", type=int, default=512)
    add("--batch-tokens", type=int, default=4096)
    add("--copying-steps", type=int, default=250, help="steps that only copy")
    add("--muon", type=float, default=0.02)
    add("--adam", type=float, default=0.004)
    add("--after-copying", type=float, default=0.3, help="factor on both rates after copying")
    add("--decay", type=float, default=0.7, help="share of the steps over which the rate falls")
    add("--check-steps", type=int, default=500)
    add("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    add("--compile", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
