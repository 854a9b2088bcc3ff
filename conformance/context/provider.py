"""A provider of chat completions, messages and responses that is as strict as the real ones: a call
of a tool without its result directly behind it, and a result without its call, are a 400.

Models whose name begins with `small` write summaries, a different one each time; `broken` ones
fail. All others answer a word. Everything that was asked is kept."""

import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "formats")]

import chat  # noqa: E402
import messages  # noqa: E402
import responses  # noqa: E402
from http_double import HttpDouble  # noqa: E402
from words import Call, Result, Said  # noqa: E402

PATHS = {"/chat/completions": chat, "/messages": messages, "/responses": responses}
# How long a summary takes, so that requests can meet at one.
SUMMARY_SECONDS = 0.2


def part_of_no_pair(turns):
    """What is wrong with a history of turns, as a strict provider sees it; None = nothing."""
    waiting = []
    for place, turn in enumerate(turns):
        results = [part.of for part in turn.parts if isinstance(part, Result)]
        if waiting and not results:
            return f"turn {place}: the calls {waiting} have no result"
        for of in results:
            if of not in waiting:
                return f"turn {place}: the result of {of} has no call"
            waiting.remove(of)
        if waiting and any(not isinstance(part, Result) for part in turn.parts):
            return f"turn {place}: something stands before the results of {waiting}"
        waiting += [part.id for part in turn.parts if isinstance(part, Call)]
    return f"at the end the calls {waiting} have no result" if waiting else None


class Provider(HttpDouble):
    """Answers, and remembers every half of a pair that it saw."""

    def __init__(self):
        self.asked, self.orphans, self.summaries = {}, [], 0
        super().__init__()

    def bodies(self, model, having=""):
        """The raw bodies that `model` was sent, oldest first."""
        with self.lock:
            all_of_it = [body for body in self.asked.get(model, []) if having.encode() in body]
        return all_of_it

    def answer(self, model):
        if not model.startswith("small"):
            return Said(["Done."])
        time.sleep(SUMMARY_SECONDS)
        with self.lock:
            self.summaries += 1
            return Said([f"Summary number {self.summaries}."])

    def post(self, request):
        body = request.json()
        format = next(f for end, f in PATHS.items() if request.path.endswith(end))
        model = body["model"]
        with self.lock:
            self.asked.setdefault(model, []).append(request.body)
        wrong = part_of_no_pair(format.read_request(body).turns)
        if wrong:
            with self.lock:
                self.orphans.append((model, wrong))
            return refuse(request, format, 400, "request")
        if model.startswith("broken"):
            return refuse(request, format, 500, "overload")
        said = self.answer(model)
        if body.get("stream"):
            return request.reply(200, "text/event-stream", format.stream(said))
        request.reply(200, "application/json", format.answer(said))


def refuse(request, format, status, kind):
    status, failure = format.error(status, kind)
    request.reply(status, "application/json", failure)
