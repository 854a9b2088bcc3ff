"""What the suite's conversations and answers are made of, in no format's words.

Each format's module says the same things in its own: `request(asked)` and `read_request(body)` for
requests, `answer(said)`, `stream(said)`, `read_answer(body)` and `read_stream(text)` for answers.
They are written from the formats' documentation and know nothing of the product, so that what comes
out on one side of it can be compared with what went in on the other.
"""

from dataclasses import dataclass, field

# A white pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII="
)
# Beyond what a double can hold: whoever parses and writes numbers loses it.
BIG = "9007199254740993"
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
SIGNATURE = "EqQBCgIYAhIkMm1hc2tlZC1zaWduYXR1cmU="


@dataclass
class Call:
    """A tool call; `arguments` is JSON text."""

    name: str
    arguments: str
    id: str = ""


@dataclass
class Result:
    """A tool's result: texts and images in order."""

    of: str
    parts: list
    is_error: bool = False


@dataclass
class Thought:
    """Reasoning with its vendor's signature."""

    text: str
    signature: str = ""


@dataclass
class Image:
    """A picture in base64."""

    data: str = PIXEL
    kind: str = "image/png"


@dataclass
class Turn:
    """What one speaker says: `user`, `assistant` or `tool`. Texts are plain strings."""

    role: str
    parts: list


@dataclass
class Asked:
    """A request."""

    turns: list
    system: str = ""
    tools: list = field(default_factory=list)
    # auto, none, required, or a tool's name
    choice: str = "auto"
    temperature: float | None = None
    top_p: float | None = None
    stop: list = field(default_factory=list)
    cap: int | None = 256
    schema: dict | None = None
    effort: str = ""
    stream: bool = False
    model: str = ""
    # Marks for the prompt cache: none, or on the system prompt and the last part.
    marks: int = 0


@dataclass
class Said:
    """An answer: thoughts, texts and calls in order, why it ended, and what it cost."""

    parts: list
    # end, length, tools, filter
    stop: str = "end"
    input: int = 100
    cached: int = 40
    output: int = 20
    reasoning: int = 0
    # whether the stream, or the body, said that it is whole
    whole: bool = True
    error: str = ""


TOOL = {"name": "look", "description": "Looks it up.", "parameters": SCHEMA}


def text_of(parts):
    return "".join(part for part in parts if isinstance(part, str))


def only(kind, parts):
    return [part for part in parts if isinstance(part, kind)]


def calls(parts):
    return only(Call, parts)


def joined(parts):
    """Neighbouring texts as one: streams cut them anywhere."""
    out = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part != "":
            out.append(part)
    return out


def sse(events):
    """Server-sent events with names, as Anthropic and the Responses API send them."""
    return "".join(f"event: {event['type']}\ndata: {dumps(event)}\n\n" for event in events)


def read_sse(text):
    """The data of each event, parsed; `[DONE]` as that text."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(
            line.removeprefix("data:").removeprefix(" ")
            for line in block.split("\n")
            if line.startswith("data:")
        )
        if data:
            found.append(data if data == "[DONE]" else loads(data))
    return found


def dumps(value):
    import json

    return json.dumps(value, separators=(",", ":"))


def loads(text):
    import json

    return json.loads(text)


def raw_object(text):
    """JSON text as a value whose integers are exact: Python's are."""
    return loads(text or "{}")
