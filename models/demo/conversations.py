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
from tools import Notebook, Tool, ToolMaker, draw_notebook
from vocabulary import Values

# {q}: a subject with or without an article. All are clauses that can follow "please" or "then".
FIND_CLAUSES = [
    "find the note about {q}",
    "look up the note about {q}",
    "get the note about {q}",
    "read the note about {q}",
    "show me the note about {q}",
    "look for the note about {q}",
    "look for a note about {q}",
    "open the note about {q}",
    "check the note about {q}",
    "find my note about {q}",
    "look up my note on {q}",
    "read me the note on {q}",
    "search the notes for {q}",
    "search my notebook for {q}",
    "find what I wrote about {q}",
    "tell me what the note about {q} says",
    "find out what I noted about {q}",
    "look up {q} in the notebook",
    "go to the note about {q}",
    "take the note about {q}",
    "give me the note about {q}",
    "bring me the note on {q}",
    "load the note about {q}",
    "find the note on {q}",
    "find the note for {q}",
    "find the notes about {q}",
    "find a note about {q}",
    "look at the note about {q}",
    "look at my note on {q}",
    "tell me about {q} from my notes",
    "tell me what I wrote about {q}",
    "check what the notes say about {q}",
    "read what the note on {q} says",
    "find out what the note about {q} says",
    "show me what my note about {q} says",
    "search for the note about {q}",
    "search for a note on {q}",
    "I need the note about {q}",
    "I want to read the note about {q}",
]
FIND_QUESTIONS = [
    "What does the note about {q} say?",
    "What did I write about {q}?",
    "Is there a note about {q}?",
    "Do I have a note about {q}?",
    "What do we know about {q}?",
    "What do my notes say about {q}?",
    "What is in the note about {q}?",
    "Can you find the note about {q}?",
    "Could you look up the note about {q}?",
    "Could you find my note on {q}?",
    "Can you read me the note about {q}?",
    "Can you tell me what the note about {q} says?",
    "Would you look for the note about {q}?",
    "What is written about {q}?",
    "What does it say about {q}?",
    "Where is the note about {q}?",
    "Did I write something about {q}?",
    "Did I make a note about {q}?",
    "Have I got a note about {q}?",
    "What was the note about {q}?",
    "What do you know about {q}?",
    "Any notes about {q}?",
    "Are there notes about {q}?",
]
NEW_FIND_CLAUSES = [
    "pull up the note about {q}",
    "fetch the note on {q}",
    "have a look at the note about {q}",
    "see what the note about {q} says",
]
NEW_FIND_QUESTIONS = ["What have I noted about {q}?", "Can you look up what I wrote on {q}?"]

# {t}: the text as it is, at the end of the clause; {s}: the text in quotes, anywhere.
ADD_CLAUSES = [
    "save a note: {t}",
    "save the note: {t}",
    "save a new note: {t}",
    "save this note: {t}",
    "add a note: {t}",
    "add the note: {t}",
    "add this to the notebook: {t}",
    "write a note: {t}",
    "write down: {t}",
    "write this down: {t}",
    "write down {t}",
    "write down that {t}",
    "make a note: {t}",
    "make a note that {t}",
    "take a note: {t}",
    "note down: {t}",
    "note that {t}",
    "remember this: {t}",
    "put this in the notebook: {t}",
    "save {s}",
    "save the note {s}",
    "add the note {s}",
    "write down {s}",
    "add {s} to the notebook",
    "write {s} in the notebook",
    "save: {t}",
    "save this: {t}",
    "save the following note: {t}",
    "save the text {s}",
    "save the text: {t}",
    "note: {t}",
    "new note: {t}",
    "add: {t}",
    "add a new note: {t}",
    "add a note that says {s}",
    "add a note with the text {s}",
    "add a note saying {t}",
    "add the text: {t}",
    "write: {t}",
    "write in the notebook: {t}",
    "write into my notebook: {t}",
    "write a note that {t}",
    "write a note saying {s}",
    "create a note: {t}",
    "create a new note: {t}",
    "create the note {s}",
    "make a new note: {t}",
    "record this: {t}",
    "record that {t}",
    "remember that {t}",
    "remember for me: {t}",
    "do not forget: {t}",
    "put down: {t}",
    "put {s} in my notes",
    "put a note in the notebook: {t}",
    "enter a note: {t}",
    "leave a note: {t}",
    "keep this in the notebook: {t}",
    "I want to note this: {t}",
]
NEW_ADD_CLAUSES = ["keep a note: {t}", "jot down: {t}", "store the note {s}", "note for me: {t}"]

COPY_CLAUSES = [
    "save its text as a note",
    "save its text as a new note",
    "save it as a new note",
    "save it again as a note",
    "save a copy of it",
    "save what it says as a note",
    "save the text as a note",
    "copy it into a new note",
    "copy its text to a new note",
    "copy it",
    "write it down again",
    "write its text in a new note",
    "write the same text down",
    "add its text as a new note",
    "add a note with its text",
    "make a copy of it",
    "save that as a new note",
    "save that text as a note",
    "save the found text as a note",
    "save what you found",
    "save what it says",
    "save what you find as a new note",
    "save the same text again",
    "add it again",
    "add it as a new note",
    "add what it says as a note",
    "add the same text as a new note",
    "write what it says in a new note",
    "write it in a new note",
    "write that down as a new note",
    "copy the text into another note",
    "copy that note",
    "duplicate it",
    "put its text in a new note",
    "create a new note with its text",
    "create a copy",
]
NEW_COPY_CLAUSES = ["store its text as a note", "make a new note of what it says"]

TITLE_CLAUSES = [
    "set the title to {t}",
    "set the title to {s}",
    "set the title of the notebook to {t}",
    "change the title to {t}",
    "rename the notebook to {t}",
    "call the notebook {t}",
    "give the notebook the title {t}",
    "set the title: {t}",
    "title: {t}",
    "name it {t}",
    "the title should be {t}",
    "change the notebook's title to {t}",
    "rename it to {t}",
    "use the title {t}",
    "use {s} as the title",
    "choose {s} as the title",
]
NEW_TITLE_CLAUSES = ["title the notebook {t}", "make {t} the title"]

JOINS = [
    "{a} and {b}",
    "{a} and {b}",
    "{a}, then {b}",
    "{a} and then {b}",
    "{a}, and {b}",
    "{a}. Then {b}",
    "first {a}, then {b}",
    "{a}. Also {b}",
    "{a}; {b}",
    "{a}; then {b}",
    "{a}, also {b}",
    "{a} and also {b}",
    "{a}, next {b}",
    "{a}. Next, {b}",
    "{a}, and then {b}",
    "{a}. And {b}",
    "{a}. {B}",
    "{a}. Now {b}",
    "{a}. Please also {b}",
    "{a}. When that is done, {b}",
    "{a}, and when you have it, {b}",
    "{a}; after this, {b}",
    "{a}, later {b}",
    "I want you to {a} and {b}",
    "first {a}. Second, {b}",
    "first, {a}; then {b}",
    "could you {a} and {b}",
]
NEW_JOINS = ["{a}, and after that {b}", "{a}. After that, {b}"]

SAVED_RESULTS = ["saved", "ok", "done", "note saved", "added", '{"ok": true}', '{"saved": true}']
NOTHING_RESULTS = ["no note found", "nothing found", "[]", "not found"]
FAILURES = ["not allowed", "disk full", "timeout", "the notebook is locked", "server not running"]

SYSTEM_TEXTS = [
    "You are a helpful assistant.",
    "You are a helpful assistant that can call tools.",
    "Answer briefly.",
    "You keep the user's notebook.",
    "You are an agent. Use the tools.",
    "You are a notebook agent. Use the tools, then answer in one sentence.",
    "Use the tools when you need them and answer in one sentence.",
    "Be precise and short.",
]

SEGMENTS = [1] * 10 + [2] * 10 + [3] * 10 + [4] * 6 + [7]

SMALL_TALK = [
    ("Hello;Hi;Hey;Good morning;Hello there;Hi there;Good evening", "Hello! How can I help you?"),
    (
        "Who are you?;What are you?;Hello, who are you?;Hi, what are you?;What is your name?",
        "I am Holdfast's demo model: tiny, but I can call tools.",
    ),
    (
        "What can you do?;Help;How can you help me?",
        "I can call the tools you give me and answer in a sentence.",
    ),
    ("Say hello;Say hi", "Hello!"),
    ("Thank you;Thanks;Thank you very much;Thanks a lot", "You are welcome."),
    (
        "How big are you?;Are you a large model?;How large are you?",
        "Very small: about three million parameters.",
    ),
    ("Goodbye;Bye;See you;Good night", "Goodbye!"),
    (
        "What is Holdfast?;Tell me about Holdfast",
        "Holdfast runs AI agents and models on your own machines.",
    ),
    (
        "Tell me a joke;Another joke please",
        "Why did the agent cross the network? To call a tool on the other side.",
    ),
    ("Do you need the internet?;Can you work offline?", "No. I run on your own machine."),
    ("How are you?;How are you today?", "I am well, thank you."),
    ("OK;Fine;Good;Great;All right", "Good. What else can I do?"),
    (
        "Tell me a story;Write a poem;Explain gravity;Who won the war?;What is love?",
        "I am too small for that. I can call tools and copy words.",
    ),
]

# (kind of value, ways to tell it, acknowledgement, ways to ask, answer); `|` as in tools.py.
FACTS = [
    (
        "name",
        "My name is {x}.;I am {x}.;I'm {x}.;Hi, I am {x}.;Call me {x}.;Hello, my name is {x}.;"
        "Hi, my name is {x}.;Hello, I am {x}.;Please call me {x}.;They call me {x}.;"
        "People call me {x}.;The name is {x}.;Everyone calls me {x}.;This is {x}. "
        "| You can call me {x}.",
        "Nice to meet you, {x}!",
        "What is my name?;Do you know my name?;Who am I?;Do you remember my name?;"
        "Tell me my name.;Say my name.;What is my name again?;Which name did I tell you?;"
        "Can you tell me my name?;Do you still know who I am?;What am I called?;"
        "What did I say my name was? | What was my name again?",
        "Your name is {x}.",
    ),
    (
        "place",
        "I live in {x}.;My home is in {x}.;I am from {x}.;I come from {x}.;We live in {x}.;"
        "My house is in {x}. | I am living in {x}.",
        "I will remember that you live in {x}.",
        "Where do I live?;Which city do I live in?;Where is my home?;Do you know where I live?;"
        "Where am I from?;What city do I live in? | Tell me where I live.",
        "You live in {x}.",
    ),
    (
        "noun",
        "My favorite thing is the {x}.;I like the {x} best.;I love the {x}.;I like the {x}. "
        "| The thing I like best is the {x}.",
        "I will remember that you like the {x}.",
        "What is my favorite thing?;What do I like best?;What do I like?;What do I love? "
        "| Which thing do I like?",
        "You like the {x} best.",
    ),
    (
        "number",
        "My lucky number is {x}.;Remember the number {x}.;My number is {x}.;"
        "The number is {x}.;Please remember {x}. | Please keep the number {x} in mind.",
        "I will remember the number {x}.",
        "What is my number?;Which number did I tell you?;What was the number?;"
        "Do you remember the number?;What is my lucky number? | Tell me my number.",
        "Your number is {x}.",
    ),
    (
        "name",
        "My dog is called {x}.;I have a dog named {x}.;My dog's name is {x}.;"
        "I have a dog, {x}.;We call our dog {x}. | The name of my dog is {x}.",
        "What a nice name, {x}!",
        "What is my dog called?;What is the name of my dog?;What is my dog's name?;"
        "Do you know my dog's name? | How is my dog called?",
        "Your dog is called {x}.",
    ),
]

ECHOES = [
    ("Repeat: {}", "{}"),
    ("Repeat after me: {}", "{}"),
    ("Say {}", "{}"),
    ("Say: {}", "{}"),
    ("Copy this: {}", "{}"),
    ("Say hello to {}", "Hello, {}!"),
    ("Greet {}", "Hello, {}!"),
    ("Say hi to {}", "Hello, {}!"),
    ("Please repeat: {}", "{}"),
    ("Repeat this: {}", "{}"),
    ("Please say: {}", "{}"),
    ("Write back: {}", "{}"),
    ('Repeat "{}"', "{}"),
    ('Say "{}"', "{}"),
]


def fixed_sentences() -> list[str]:
    """What stands in conversations whatever their values are."""
    sentences = [*SYSTEM_TEXTS, *SAVED_RESULTS, *NOTHING_RESULTS, *FAILURES, "# Tools"]
    sentences += [text for pair in SMALL_TALK for text in pair]
    sentences += [text for fact in FACTS for text in fact[1:]]
    sentences += ["That did not work: The note says: The note I found says: The title is now"]
    sentences += ["I saved your note. I saved both notes. I saved a copy. There is no note about"]
    sentences += ["Here is the result: Done. I have no tool for that. is saved"]
    return sentences


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
