"""Measures the model on values, and on sentences, that training never saw.

    python evaluate.py --gguf holdfast-demo-Q8_0.gguf --count 200     # the table of MODEL_CARD.md
    python evaluate.py --gguf holdfast-demo-Q8_0.gguf --check-format  # template and token ids
    python evaluate.py --checkpoint demo.pt --count 200               # PyTorch, no grammar

The GGUF side answers greedily through llama.cpp's server, turn by turn. A turn is right when its
tool's name and every argument, or its whole text, are exactly the expected ones; a conversation
ends at its first wrong turn, as the expected tool results would not fit any more.
"""

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from chat_format import Conversation, render
from conversations import Sessions, assistant, user
from sentences import SMALL_TALK
from tools import Notebook, draw_notebook

SEED = 999
Draw = Callable[[], Conversation]


def notebook_kinds(sessions: Sessions) -> dict[str, Draw]:
    """One user turn over the notebook (F: find, A: add, C: add what was found), and two."""

    def notebook() -> Notebook:
        made = draw_notebook(sessions.rng)
        while not (made.find and made.add):
            made = draw_notebook(sessions.rng)
        return made

    def one(kind: str) -> Conversation:
        tools = notebook()
        return Conversation(None, sessions.offered(tools), sessions.notes_task(tools, kind, 0))

    def two() -> Conversation:
        tools = notebook()
        first = sessions.notes_task(tools, sessions.rng.choice(["FA", "FA", "FC", "AF"]), 0)
        second = sessions.notes_task(tools, sessions.rng.choice(["A", "F"]), 0)
        return Conversation(None, sessions.offered(tools), first + second)

    names = {
        "F": "find a note",
        "A": "add a note",
        "FA": "find, then add",
        "FC": "find, then add its text",
        "AF": "add, then find",
    }
    kinds: dict[str, Draw] = {name: (lambda k=kind: one(k)) for kind, name in names.items()}
    kinds["two user turns (3 calls)"] = two
    return kinds


def other_kinds(sessions: Sessions) -> dict[str, Draw]:
    """What is not the notebook's."""
    maker, choice = sessions.maker, sessions.rng.choice

    def failing() -> Conversation:
        tools = draw_notebook(sessions.rng)
        tasks = sessions.notes_task(tools, "F" if tools.find else "A", failing=1)
        return Conversation(None, sessions.offered(tools), tasks)

    def title() -> Conversation:
        tools = draw_notebook(sessions.rng)
        while not tools.title:
            tools = draw_notebook(sessions.rng)
        return Conversation(None, sessions.offered(tools), sessions.notes_task(tools, "T", 0))

    def other() -> Conversation:
        tools = maker.others(None, choice([1, 2, 3]))
        return Conversation(None, tools, sessions.other_task(tools))

    def explicit() -> Conversation:
        tool, messages = sessions.explicit_task()
        tools = [tool, *maker.others(tool, choice([0, 1, 2]))]
        return Conversation(None, tools, messages)

    def recall(gap: int) -> Conversation:
        told, asked = sessions.recall()
        tools = draw_notebook(sessions.rng)
        between = [message for _ in range(gap) for message in sessions.notes_task(tools, failing=0)]
        return Conversation(None, sessions.offered(tools), [*told, *between, *asked])

    return {
        "set the title": title,
        "a tool's error is told": failing,
        "recall behind 1 task": lambda: recall(1),
        "recall behind 3 tasks": lambda: recall(3),
        "echo": lambda: Conversation(None, [], sessions.echo()),
        "other tools": other,
        "tools of made-up names": explicit,
    }


def exactness(model, encoder, count: int) -> dict[str, float]:
    """Share (%) of held-out conversations in which every assistant token is the greedy choice.

    Each token is judged behind the correct ones before it, which for greedy decoding is the same
    as comparing whole turns. No grammar helps here.
    """
    import torch

    model.eval()
    sessions = Sessions(random.Random(SEED), held_out=True)
    results = {}
    with torch.no_grad():
        for name, draw in (notebook_kinds(sessions) | other_kinds(sessions)).items():
            right = 0
            for _ in range(count):
                ids, turns = (torch.tensor([row]) for row in encoder.encode(draw()))
                best = model.logits(model(ids[:, :-1])).argmax(-1)
                wrong = (best != ids[:, 1:]) & (turns[:, 1:] > 0)
                right += not bool(wrong.any())
            results[name] = round(100 * right / count, 1)
    model.train()
    return results


@dataclass
class Score:
    """Right and all: calls, final answers, whole conversations."""

    calls: list[int] = field(default_factory=lambda: [0, 0])
    answers: list[int] = field(default_factory=lambda: [0, 0])
    whole: list[int] = field(default_factory=lambda: [0, 0])
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Score") -> None:
        for mine, theirs in zip(self._counts(), other._counts()):
            mine[0] += theirs[0]
            mine[1] += theirs[1]

    def _counts(self) -> tuple[list[int], ...]:
        return self.calls, self.answers, self.whole

    def row(self, name: str) -> str:
        cells = [f"{a} / {b} ({100 * a / b:.1f} %)" if b else "–" for a, b in self._counts()]
        return f"| {name} | {' | '.join(cells)} |"


def play(server, conversation: Conversation, score: Score) -> None:
    """Asks for each assistant turn; stops at the first wrong one."""
    messages = conversation.messages
    for at, expected in enumerate(messages):
        if expected["role"] != "assistant":
            continue
        asked = Conversation(conversation.system, conversation.tools, messages[:at])
        got = server.next_message(asked)
        counts = score.calls if expected.get("tool_calls") else score.answers
        counts[1] += 1
        if got == expected:
            counts[0] += 1
            continue
        question = next(m["content"] for m in reversed(messages[:at]) if m["role"] == "user")
        score.wrong.append(f"  {question!r}\n    want {said(expected)}\n    got  {said(got)}")
        break
    else:
        score.whole[0] += 1
    score.whole[1] += 1


def said(message: dict) -> str:
    return json.dumps(message.get("tool_calls") or message["content"], ensure_ascii=False)


def measure(server, kinds: dict[str, Draw], count: int, show: int) -> Score:
    total = Score()
    for name, draw in kinds.items():
        score = Score()
        for _ in range(count):
            play(server, draw(), score)
        print(score.row(name), flush=True)
        for line in score.wrong[:show]:
            print(line)
        total.add(score)
    return total


def small_talk() -> Score:
    """The fixed questions, which training did see."""
    pairs = [(q, answer) for questions, answer in SMALL_TALK for q in questions.split(";")]
    return [Conversation(None, [], [user(q), assistant(answer)]) for q, answer in pairs]


def table(server, count: int, show: int) -> None:
    head = "| {} | exact calls | exact answers | whole conversations |\n| --- | --- | --- | --- |"
    print(head.format("values never trained"))
    sessions = Sessions(random.Random(SEED), held_out=True)
    print(measure(server, notebook_kinds(sessions), count, show).row("all of the notebook"))
    measure(server, other_kinds(sessions), count, show)
    score = Score()
    for conversation in small_talk():
        play(server, conversation, score)
    print(score.row("small talk (fixed questions, trained)"))
    print()
    print(head.format("values, sentences, note forms and tool names never trained"))
    sessions = Sessions(random.Random(SEED + 1), held_out=True, new_phrasings=True)
    print(measure(server, notebook_kinds(sessions), count, show).row("all of the notebook"))
    measure(server, other_kinds(sessions), count, show)


def check_format(server, tokenizer: str, count: int) -> None:
    """Python's text and token ids against those of the file."""
    from tokenizers import Tokenizer

    ours = Tokenizer.from_file(tokenizer)
    sessions = Sessions(random.Random(5), held_out=True)
    texts = ids = 0
    for _ in range(count):
        conversation = sessions.session()
        conversation.messages.pop()
        text = render(conversation, generate=True)
        got = server.prompt(conversation)
        if got != text:
            print(f"ours {text!r}\nfile {got!r}")
        texts += got == text
        ids += server.tokens(text) == ours.encode(text).ids
    print(f"same text {texts} of {count}, same token ids {ids} of {count}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf")
    parser.add_argument("--checkpoint")
    parser.add_argument("--tokenizer", default="tokenizer.json")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--show", type=int, default=0, help="wrong turns to print for each row")
    parser.add_argument("--check-format", action="store_true")
    options = parser.parse_args()
    if options.checkpoint:
        from model import load_checkpoint
        from train import Encoder

        model = load_checkpoint(options.checkpoint)
        print(json.dumps(exactness(model, Encoder(options.tokenizer), options.count), indent=1))
        return
    from llama_server import LlamaServer

    server = LlamaServer(options.gguf)
    if options.check_format:
        check_format(server, options.tokenizer, options.count)
    else:
        table(server, options.count, options.show)


if __name__ == "__main__":
    main()
