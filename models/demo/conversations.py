"""Whole conversations: sessions of one or more user turns over a notebook and other tools.

A session is a chain of segments (a task with its calls, a fact told and asked for later, an echo,
small talk). `held_out` draws the values from the other side of the split, `new_phrasings` also the
user's sentences, the note texts' forms and the other tools' names. The demo's own sentences
(`demo_sentences.txt`) are refused: no conversation ever contains one.
"""

import json
import pathlib
import random
from collections.abc import Callable

from chat_format import Conversation
from sentences import (
    ADD_CLAUSES,
    COPY_CLAUSES,
    ECHOES,
    FACTS,
    FAILURES,
    FIND_CLAUSES,
    FIND_QUESTIONS,
    JOINS,
    NEW_ADD_CLAUSES,
    NEW_COPY_CLAUSES,
    NEW_FIND_CLAUSES,
    NEW_FIND_QUESTIONS,
    NEW_JOINS,
    NEW_TITLE_CLAUSES,
    NOTHING_RESULTS,
    SAVED_RESULTS,
    SMALL_TALK,
    SYSTEM_TEXTS,
    TITLE_CLAUSES,
)
from tools import Notebook, Tool, ToolMaker, draw_notebook
from vocabulary import Values

# How many segments a session has: mostly few, sometimes many.
SEGMENTS = [1] * 10 + [2] * 10 + [3] * 10 + [4] * 6 + [7]


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def call(tool: Tool, arguments: dict) -> dict:
    return {"role": "assistant", "tool_calls": [{"name": tool.name, "arguments": arguments}]}


def result(text: str) -> dict:
    return {"role": "tool", "content": text}


def sides(text: str) -> tuple[list[str], list[str]]:
    train, _, held_out = text.partition("|")
    first = [entry.strip() for entry in train.split(";")]
    return first, [entry.strip() for entry in held_out.split(";")] if held_out else first


def load_demo_sentences() -> set[str]:
    path = pathlib.Path(__file__).with_name("demo_sentences.txt")
    lines = path.read_text().splitlines() if path.exists() else []
    return {line.strip().lower() for line in lines if line.strip() and not line.startswith("#")}


class Sessions:
    """Draws conversations."""

    def __init__(self, rng: random.Random, held_out=False, new_phrasings=False, pieces=None):
        self.rng = rng
        self.values = Values(rng, held_out, pieces)
        self.maker = ToolMaker(rng, self.values, new_phrasings)
        self.new = new_phrasings
        self.refused = load_demo_sentences()

    # --- sentences -----------------------------------------------------------------------------

    def pick(self, usual: list[str], new: list[str]) -> str:
        return self.rng.choice(new if self.new else usual)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def sentence(self, clause: str) -> str:
        """A clause as a user writes it: maybe "please", a capital letter, a final mark."""
        question = clause.endswith("?")
        if not question and self.chance(0.12):
            clause = f"please {clause}"
        if self.chance(0.85):
            clause = clause[:1].upper() + clause[1:]
        return clause if question or self.chance(0.12) else f"{clause}."

    def subject(self) -> tuple[str, str]:
        """A note's subject as the user says it and as the query must state it (no article)."""
        query = self.values.topic()
        named = query[:1].isupper()
        article = "" if named else self.rng.choice(["the ", "the ", "the ", "my ", "our ", "", ""])
        if query.split()[0] in ("the", "my", "our"):
            article = ""
        return article + query, query

    def joined(self, clauses: list[str]) -> str:
        first, second = clauses
        capital = second[:1].upper() + second[1:]
        return self.pick(JOINS, NEW_JOINS).format(a=first, b=second, B=capital)

    def find_clause(self) -> tuple[str, str]:
        said, query = self.subject()
        return self.pick(FIND_CLAUSES, NEW_FIND_CLAUSES).format(q=said), query

    def add_clause(self, quoted: bool = False) -> tuple[str, str]:
        """`quoted`: something follows, so that the text's end must be marked."""
        text = self.values.note_text(self.new)
        clause = self.pick(ADD_CLAUSES, NEW_ADD_CLAUSES)
        if quoted and "{s}" not in clause:
            clause = clause.replace("{t}", "{s}")
        return clause.format(t=text, s=f'"{text}"'), text

    # --- tool results --------------------------------------------------------------------------

    def wrapped(self, text: str) -> str:
        """Some servers put their text into JSON."""
        if not self.chance(0.1):
            return text
        key = self.rng.choice(["text", "result", "note", "output"])
        return json.dumps({key: text}, ensure_ascii=False)

    def saved(self, text: str) -> str:
        if self.chance(0.55):
            return f"Note {self.rng.randint(1, 40)} is saved: {text}"
        return self.rng.choice(SAVED_RESULTS)

    def search_result(self, query: str, one_line: bool) -> tuple[str, str, bool]:
        """What the search returns, what is said about it, and whether it found anything."""
        if self.chance(0.08):
            text = f"There is no note about {query}."
            return text, text, False
        if self.chance(0.04):
            return self.rng.choice(NOTHING_RESULTS), f"There is no note about {query}.", False
        text = self.values.found_text(self.new)
        if not one_line and self.chance(0.12):
            text += "\n" + self.values.found_text(self.new)
        return self.wrapped(text), text, True

    # --- tasks ---------------------------------------------------------------------------------

    def run(self, request: str, steps: list[tuple[Tool, str]], failing: float) -> list[dict]:
        """The turn that does `steps` in order; a failing tool ends it.

        A step is a tool and its argument; the argument `None` is the text that was found.
        """
        messages = [user(request)]
        told: list[str] = []
        added = 0
        found_says = "The note says:"
        if any(value is not None and tool.parameters[0][0] == "text" for tool, value in steps):
            found_says = "The note I found says:"
        copying = any(value is None for _, value in steps)
        for tool, value in steps:
            parameter = tool.parameters[0][0]
            if value is None:
                value = told[-1]
            messages.append(call(tool, {parameter: value}))
            if self.chance(failing):
                return [*messages, *self.failed()]
            if parameter == "text":
                added += 1
                messages.append(result(self.saved(value)))
            elif parameter == "title":
                told.append(f"The title is now {value}.")
                done = self.rng.choice(SAVED_RESULTS) if self.chance(0.3) else told[-1]
                messages.append(result(done))
            else:
                text, answer, found = self.search_result(value, one_line=copying)
                messages.append(result(text))
                if copying and not found:
                    return [*messages, assistant(answer)]
                told.append(answer if copying or not found else f"{found_says} {answer}")
        if copying:
            return [*messages, assistant(f"I saved a copy. The note says: {told[0]}")]
        saved = ["I saved both notes." if added == 2 else "I saved your note."] if added else []
        return [*messages, assistant(" ".join(saved + told))]

    def failed(self) -> list[dict]:
        """A tool's error and what is said about it."""
        reason = self.rng.choice(FAILURES) if self.chance(0.5) else self.values.word_salad(1, 4)
        forms = [f"error: {reason}", f"Error: {reason}", json.dumps({"error": reason})]
        return [result(self.rng.choice(forms)), assistant(f"That did not work: {reason}")]

    def notes_task(
        self, notebook: Notebook, kind: str | None = None, failing: float = 0.04
    ) -> list[dict]:
        """One user turn over the notebook. F: find, A: add, C: add what was found, T: title."""
        have = {"F": notebook.find, "A": notebook.add, "C": notebook.add, "T": notebook.title}
        weights = {"F": 22, "A": 20, "FA": 26, "FC": 16, "AF": 9, "AA": 3, "FF": 3}
        weights |= {"T": 8, "FT": 3, "TA": 3, "AT": 3}
        weights = {k: w for k, w in weights.items() if all(have[letter] for letter in k)}
        kind = kind or self.rng.choices(list(weights), list(weights.values()))[0]
        if kind == "F" and self.chance(0.3):
            said, query = self.subject()
            request = self.pick(FIND_QUESTIONS, NEW_FIND_QUESTIONS).format(q=said)
            return self.run(request, [(notebook.find, query)], failing)
        clauses, steps = [], []
        for index, letter in enumerate(kind):
            clause, value = self.clause(letter, last=index == len(kind) - 1)
            clauses.append(clause)
            steps.append((have[letter], value))
        joined = clauses[0]
        if len(clauses) == 2:
            joined = self.joined(clauses)
        return self.run(self.sentence(joined), steps, failing)

    def clause(self, letter: str, last: bool) -> tuple[str, str | None]:
        """One step as the user asks for it, and the call's argument."""
        if letter == "F":
            return self.find_clause()
        if letter == "A":
            return self.add_clause(quoted=not last)
        if letter == "T":
            title = self.values.topic() if self.chance(0.5) else self.values.word_salad(1, 4)
            title = title[:1].upper() + title[1:] if self.chance(0.6) else title
            clause = self.pick(TITLE_CLAUSES, NEW_TITLE_CLAUSES)
            if not last:
                clause = clause.replace("{t}", "{s}")
            return clause.format(t=title, s=f'"{title}"'), title
        return self.pick(COPY_CLAUSES, NEW_COPY_CLAUSES), None

    def other_task(self, tools: list[Tool], two: bool = False) -> list[dict]:
        """One or two calls of tools that are not the notebook's."""
        chosen = self.rng.sample(tools, 2) if two and len(tools) > 1 else [self.rng.choice(tools)]
        requests = [self.maker.request(tool) for tool in chosen]
        clauses = [request[0] for request in requests]
        text = clauses[0]
        if len(clauses) == 2:
            text = self.joined([clauses[0].rstrip("?"), clauses[1]])
        messages = [user(self.sentence(text))]
        answer = "Done."
        for tool, (_, arguments, text, act) in zip(chosen, requests):
            messages.append(call(tool, arguments))
            if self.chance(0.05):
                return [*messages, *self.failed()]
            messages.append(result(text))
            if not act:
                answer = f"Here is the result: {text}"
        return [*messages, assistant(answer)]

    def explicit_task(self) -> tuple[Tool, list[dict]]:
        """A call that the user spells out, of a tool that nobody has seen."""
        tool, clause, arguments, text = self.maker.explicit()
        messages = [user(self.sentence(clause)), call(tool, arguments), result(text)]
        return tool, [*messages, assistant(f"Here is the result: {text}")]

    # --- talk ----------------------------------------------------------------------------------

    def small_talk(self) -> list[dict]:
        questions, answer = self.rng.choice(SMALL_TALK)
        question = self.rng.choice(questions.split(";"))
        if not question.endswith("?") and self.chance(0.5):
            question += self.rng.choice([".", "!"])
        return [user(question), assistant(answer)]

    def echo(self) -> list[dict]:
        ask, answer = self.rng.choice(ECHOES)
        if "Hello" in answer:
            text = self.values.name()
            end = "." if self.chance(0.6) else ""
        else:
            salad = self.values.word_salad(1, 7)
            text = self.rng.choice(
                [salad, self.values.note_text(self.new), str(self.maker.value("any"))]
            )
            end = ""
        return [user(ask.format(text) + end), assistant(answer.format(text))]

    def recall(self, between: int | None = None) -> tuple[list[dict], list[dict]]:
        """(a fact is told, it is asked for)"""
        kind, tell, acknowledge, ask, answer = self.rng.choices(FACTS, [4, 1, 1, 1, 1])[0]
        x = self.maker.value(kind)
        tell, ask = (self.rng.choice(sides(entry)[self.maker.side]) for entry in (tell, ask))
        told = [user(tell.format(x=x)), assistant(acknowledge.format(x=x))]
        return told, [user(ask), assistant(answer.format(x=x))]

    # --- whole conversations -------------------------------------------------------------------

    def offered(self, notebook: Notebook) -> list[Tool]:
        """The notebook's tools, sometimes among others."""
        tools = notebook.tools()
        others = self.maker.others(None, self.rng.choice([0, 0, 0, 0, 1, 1, 2]))
        if self.chance(0.2):
            self.rng.shuffle(tools)
        return tools + others if self.chance(0.7) else others + tools

    def session(self, segments: int | None = None) -> Conversation:
        """One conversation of the mixture that training uses."""
        return self._allowed(lambda: self._session(segments or self.rng.choice(SEGMENTS)))

    def copying(self) -> Conversation:
        """The first stage of training: nothing but values to copy."""
        return self._allowed(self._copying)

    def _allowed(self, draw: Callable[[], Conversation]) -> Conversation:
        """Draws until no sentence of the demo is in the conversation."""
        while True:
            conversation = draw()
            said = (m["content"] for m in conversation.messages if m["role"] == "user")
            if not any(text.strip().lower() in self.refused for text in said):
                return conversation

    def _session(self, segments: int) -> Conversation:
        system = self.rng.choice(SYSTEM_TEXTS) if self.chance(0.4) else None
        world = self.rng.random()
        notebook, spelled = None, None
        tools: list[Tool] = []
        if world < 0.60:
            notebook = draw_notebook(self.rng)
            tools = self.offered(notebook)
        elif world < 0.83:
            tools = self.maker.others(None, self.rng.choice([1, 2, 2, 3]))
        elif world < 0.90:
            tool, spelled = self.explicit_task()
            tools = [tool, *self.maker.others(tool, self.rng.randint(0, 2))]
            self.rng.shuffle(tools)
        chain: list[list[dict]] = [spelled] if spelled else []
        while len(chain) < segments:
            chain.append(self._segment(notebook, tools))
        if self.chance(0.25):
            told, asked = self.recall()
            chain = [told, *chain, asked]
        messages = [message for segment in chain for message in segment]
        return Conversation(system, tools, messages)

    def _segment(self, notebook: Notebook | None, tools: list[Tool]) -> list[dict]:
        plain = [tool for tool in tools if tool.domain]
        kind = self.rng.random()
        if notebook and kind < 0.8:
            if plain and kind < 0.1:
                return self.other_task(plain)
            return self.notes_task(notebook)
        if plain and kind < 0.8:
            return self.other_task(plain, two=kind < 0.2)
        if not tools and kind < 0.1:
            wanted = self.notes_task(draw_notebook(self.rng))
            return [wanted[0], assistant("I have no tool for that.")]
        if kind < 0.88:
            return self.small_talk()
        if kind < 0.94:
            return self.echo()
        return [message for part in self.recall() for message in part]

    def _copying(self) -> Conversation:
        if self.chance(0.5):
            return Conversation(None, [], [*self.echo(), *self.echo()])
        if self.chance(0.4):
            tool, messages = self.explicit_task()
            return Conversation(None, [tool], messages)
        notebook = draw_notebook(self.rng)
        tasks = self.notes_task(notebook, "F" if notebook.find else "A")
        if notebook.add:
            tasks += self.notes_task(notebook, "A")
        return Conversation(None, notebook.tools(), tasks)


if __name__ == "__main__":
    import sys

    from chat_format import render

    sessions = Sessions(random.Random(int(sys.argv[1])), held_out=len(sys.argv) > 2)
    for _ in range(12):
        print(render(sessions.session()) + "-" * 20)
