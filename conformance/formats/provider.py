"""A provider of every format: says what it was told to say for a model's name, and remembers what
it was asked. A real HTTP server; the path says which format is spoken."""

import re
import sys
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import converse  # noqa: E402
import chat  # noqa: E402
import gemini  # noqa: E402
import messages  # noqa: E402
import responses  # noqa: E402
from http_double import HttpDouble  # noqa: E402

# The end of a path below a provider's base URL, and the format that is spoken there.
PATHS = [
    (re.compile(r"/chat/completions$"), chat),
    (re.compile(r"/messages$"), messages),
    (re.compile(r"/responses$"), responses),
    (re.compile(r"/model/(?P<model>[^/]+)/(?P<method>converse(-stream)?)$"), converse),
    (re.compile(r"/models/(?P<model>[^/:]+):(?P<method>\w+)"), gemini),
]


class Provider(HttpDouble):
    """Says what was planned for a model."""

    def __init__(self):
        self.plans, self.asked = {}, {}
        super().__init__()

    def plan(self, model, said, cut=False, fails=None):
        """What `model` answers with: `said`, cut before its end, or an error (status, kind)."""
        with self.lock:
            self.plans[model] = (said, cut, fails)

    def bodies(self, model):
        """What was asked of `model`, parsed, oldest first."""
        with self.lock:
            return list(self.asked.get(model, []))

    def post(self, request):
        body = request.json()
        format, model, streams = spoken(request.path, body)
        with self.lock:
            self.asked.setdefault(model, []).append(body)
            said, cut, fails = self.plans[model]
        if fails:
            return request.reply(fails[0], "application/json", format.error(*fails)[1])
        if not streams:
            return request.reply(200, "application/json", format.answer(said))
        if format is converse:
            data = format.stream(said, cut)
            return request.reply(200, "application/vnd.amazon.eventstream", data)
        text = format.stream(said)
        if cut:
            text = text[: text.rindex("\n", 0, text.index(format.END_OF_STREAM)) + 1]
        request.reply(200, "text/event-stream", text)


def spoken(path, body):
    """(format, model, whether a stream is asked for) of a request."""
    path, _, _ = path.partition("?")
    format, match = next((f, m) for p, f in PATHS if (m := p.search(path)))
    groups = match.groupdict()
    return (
        format,
        unquote(groups["model"]) if groups.get("model") else body["model"],
        bool(body.get("stream")) or "stream" in groups.get("method", ""),
    )
