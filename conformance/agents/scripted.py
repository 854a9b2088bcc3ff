"""A provider of every format that plays a script: what it says depends on how far the talk is.

A script belongs to a model's name and is a list of answers; the answer to a request is the one at
the number of turns that the assistant already had in it, so that a retried request gets the same
answer again and a resumed conversation goes on. What an agent asks beside its conversation (a
title, a summary) carries no tools and gets `ASIDE`. It speaks the formats of `../formats`.
"""

import pathlib
import re
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "formats")]

from http_double import HttpDouble  # noqa: E402
from provider import spoken  # noqa: E402
from words import Said, dumps  # noqa: E402

ASIDE = Said(["aside"], input=7, cached=0, output=1)
# An id that a format gives to an answer or to a part of it.
ID = re.compile(r'("(?:id|item_id|responseId)":"(?:msg_|chatcmpl-|resp_|fc_|rs_|r))(\d+")')


@dataclass
class Fault:
    """An error instead of an answer (`kind`: limit, request or overload), or a cut of the stream.

    `times` is how often it happens before what the script says next is said.
    """

    kind: str = "overload"
    status: int = 529
    times: int = 10**6
    cut: bool = False


@dataclass
class Seen:
    """One request, and what became of it."""

    format: object
    model: str
    path: str
    headers: dict
    body: dict
    said: Said | Fault
    step: int

    @property
    def asked(self):
        return self.format.read_request(self.body)

    @property
    def streams(self):
        return bool(self.body.get("stream")) or ":stream" in self.path

    @property
    def aside(self):
        return self.said is ASIDE


class Provider(HttpDouble):
    """Plays scripts by models' names."""

    def __init__(self):
        self.scripts, self.log, self.faults = {}, [], {}
        # The models of which only tokens were to be counted.
        self.counted = []
        super().__init__()

    def plan(self, model, *script):
        """What `model` says: an answer per turn, or a list of a `Fault` and the answer after it."""
        with self.lock:
            self.scripts[model] = list(script)

    def seen(self, model, asides=False):
        """What was asked of a model, oldest first; what was asked beside it only if wanted."""
        with self.lock:
            return [seen for seen in self.log if seen.model == model and (asides or not seen.aside)]

    def chosen(self, model, asked):
        """(what is said now, the step of the script): under the lock."""
        step = sum(1 for turn in asked.turns if turn.role == "assistant")
        if not asked.tools:
            return ASIDE, step
        script = self.scripts.get(model) or [Said(["nothing is planned"])]
        said = script[min(step, len(script) - 1)]
        if isinstance(said, list):
            fault, then = said
            met = self.faults.get((model, step), 0)
            self.faults[model, step] = met + 1
            said = fault if met < fault.times else then
        return said, step

    def post(self, request):
        body = request.json()
        if request.path.partition("?")[0].endswith("/count_tokens"):
            self.counted.append(body["model"])
            return request.reply(200, "application/json", {"input_tokens": 321})
        format, model, streams = spoken(request.path, body)
        with self.lock:
            said, step = self.chosen(model, format.read_request(body))
            headers = request.lower_headers()
            seen = Seen(format, model, request.path, headers, body, said, step)
            self.log.append(seen)
            number = len(self.log)
        if isinstance(said, Fault) and not said.cut:
            status, failure = format.error(said.status, said.kind)
            return request.reply(status, "application/json", dumps(failure))
        if isinstance(said, Fault):
            return cut(request, format)
        if not streams:
            text = told_apart(dumps(format.answer(said)), number)
            return request.reply(200, "application/json", text)
        request.reply(200, "text/event-stream", told_apart(format.stream(said), number))


def cut(request, format):
    """Begins to answer, and goes away in the middle of a text."""
    text = format.stream(Said(["half an answer that never ends"]))
    text = text[: text.rindex("\n", 0, text.index("that never")) + 1]
    # More is announced than comes.
    request.reply(200, "text/event-stream", text, missing=100)
    request.close_connection = True


def told_apart(text, number):
    """An answer with ids that no other answer has: agents take equal ids for one answer."""
    return ID.sub(rf"\g<1>{number}\g<2>", text)
