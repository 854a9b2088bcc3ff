"""Plays the demo's own sentences against the model, with the tool server's real answers.

    python check_demo.py --gguf holdfast-demo-Q8_0.gguf

The tools are those of examples/demo/notes_server.py. Every call must be exact, and every answer
must be the expected one; the script prints what differs and ends with 1 then.
"""

import argparse
import sys

from chat_format import Conversation
from conversations import assistant, call, load_demo_sentences, result, user
from evaluate import Score, play
from llama_server import LlamaServer
from tools import ADD, FIND, TITLE, Tool

FIND_NOTE, ADD_NOTE, SET_TITLE = (
    Tool(name, description, [(parameter, "string")])
    for name, parameter, description, _ in (FIND, ADD, TITLE)
)
HARBOR = "The harbor gate opens at 6."
LIBRARY = "The library closes at 19."
BAKERY = "The bakery sells rye bread."
PRINTER = "The printer is on floor 3."


def find(sentence: str, query: str, text: str) -> list[dict]:
    step = [call(FIND_NOTE, {"query": query}), result(text)]
    return [user(sentence), *step, assistant(f"The note says: {text}")]


def add(sentence: str, number: int, text: str) -> list[dict]:
    step = [call(ADD_NOTE, {"text": text}), result(f"Note {number} is saved: {text}")]
    return [user(sentence), *step, assistant("I saved your note.")]


def find_and_add(sentence: str, query: str, text: str, number: int, note: str) -> list[dict]:
    steps = [call(FIND_NOTE, {"query": query}), result(text)]
    steps += [call(ADD_NOTE, {"text": note}), result(f"Note {number} is saved: {note}")]
    answer = assistant(f"I saved your note. The note I found says: {text}")
    return [user(sentence), *steps, answer]


def find_and_copy(sentence: str, query: str, text: str, number: int) -> list[dict]:
    steps = [call(FIND_NOTE, {"query": query}), result(text)]
    steps += [call(ADD_NOTE, {"text": text}), result(f"Note {number} is saved: {text}")]
    return [user(sentence), *steps, assistant(f"I saved a copy. The note says: {text}")]


SESSIONS = {
    "first task": [
        *find_and_add(
            "Find the note about the harbor and save a note: call Nina at 14.",
            "harbor",
            HARBOR,
            6,
            "call Nina at 14",
        ),
        *add("Write this down: bring the blanket to Salma.", 7, "bring the blanket to Salma"),
        *find("What does the note about the library say?", "library", LIBRARY),
    ],
    "killed task": [
        *find_and_add(
            "Look up the note about the library, then save a note: Oskar has the orange tent.",
            "library",
            LIBRARY,
            6,
            "Oskar has the orange tent",
        ),
        *find("What does the note about the harbor say?", "harbor", HARBOR),
    ],
    "task in doubt": [
        *add("Save a note: meet Greta in Utrecht at 16.", 8, "meet Greta in Utrecht at 16"),
        *find("Find the note about the printer.", "printer", PRINTER),
    ],
    "copy": [
        *find_and_copy(
            "Find the note about the bakery and save it as a new note.", "bakery", BAKERY, 6
        ),
        *add("Add a note: the piano lesson is on Friday.", 7, "the piano lesson is on Friday"),
    ],
    "recall": [
        user("My name is Salma."),
        assistant("Nice to meet you, Salma!"),
        *find("Find my note about the harbor.", "harbor", HARBOR),
        user("What was my name again?"),
        assistant("Your name is Salma."),
    ],
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", default="holdfast-demo-Q8_0.gguf")
    server = LlamaServer(parser.parse_args().gguf)
    refused = load_demo_sentences()
    good = True
    for name, messages in SESSIONS.items():
        sentences = [m["content"] for m in messages if m["role"] == "user"]
        missing = [s for s in sentences if s.lower() not in refused]
        if missing:
            sys.exit(f"not in demo_sentences.txt: {missing}")
        for system in (None, "You keep the user's notebook."):
            score = Score()
            tools = [FIND_NOTE, ADD_NOTE, SET_TITLE]
            play(server, Conversation(system, tools, messages), score)
            good &= not score.wrong
            print(f"{name}, {'with' if system else 'no'} instructions: ", end="")
            print("\n".join(score.wrong) or "exact")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
