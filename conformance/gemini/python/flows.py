"""What every flow of this suite is given.

A flow drives the server with the unmodified SDK and asserts what came back and what the providers
wrote down. Flows run in parallel and share one server, so each marks its prompts with a word of its
own (`f.mark`) and looks only at what carries that mark.
"""

import dataclasses
import functools
import json
import typing

from google import genai
from google.genai import types

from running import equal, flow, mark_of, raises

__all__ = ["both", "equal", "flow", "raises"]
# The scripted Gemini provider, passed through; a chat provider, translated; the local engine.
PASSED, OLDER, TRANSLATED, LOCAL = (
    "google/gemini-3-script",
    "google/gemini-2.5-script",
    "mock/demo",
    "local/demo",
)


def both(function):
    """Registers a flow twice: passed through to Google's format, and translated to chat."""
    for suffix, model in (("passed", PASSED), ("translated", TRANSLATED)):

        def run(f, model=model):
            function(f, model)

        run.__name__ = f"{function.__name__}_{suffix}"
        flow(run)
    return function


@dataclasses.dataclass
class Flow:
    """What one flow gets: a client of the shared server, and the others' evidence."""

    name: str
    server: typing.Any
    google: typing.Any
    mock: typing.Any
    keys: dict

    @property
    def mark(self):
        """A word that no other flow says, and that no other flow's word contains."""
        return mark_of(self.name)

    @functools.cached_property
    def client(self):
        # Held for as long as the flow: the SDK closes a client that nobody holds.
        return self.client_of("ci")

    def client_of(self, key, **options):
        options = types.HttpOptions(base_url=self.server.url, timeout=30_000, **options)
        return genai.Client(api_key=self.keys.get(key, key), http_options=options)

    def ask(self, model, text, **config):
        return self.client.models.generate_content(
            model=model, contents=self.said(text), config=config or None
        )

    def stream(self, model, text, **config):
        return list(
            self.client.models.generate_content_stream(
                model=model, contents=self.said(text), config=config or None
            )
        )

    def said(self, text):
        return f"{text} {self.mark}"

    def sent(self, model=PASSED):
        """What reached the provider of this flow's requests."""
        provider = self.mock if model == TRANSLATED else self.google
        return provider.requests(having=self.mark)

    def bodies(self, model=PASSED):
        return [json.loads(line["body"]) for line in self.sent(model)]

    def http(self, path, body=None, method="POST", key="ci", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        key = self.keys.get(key)
        if key:
            headers["x-goog-api-key"] = key
        return self.server.http(method, path, body, headers=headers)

