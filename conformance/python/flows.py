"""The registry of flows, and what every flow is given.

A flow is one function that drives the server with an unmodified SDK and asserts what came back and
what the provider or the tool server wrote down. Flows run in parallel and share one server, so each
marks its prompts with a word of its own (`flow.mark`) and looks only at what carries that mark.
"""

import dataclasses
import typing
from decimal import Decimal

import openai

from running import equal, flow, mark_of, raises, slow

__all__ = ["equal", "flow", "raises", "slow"]
# The prices that the suite's configuration sets, in dollars per token.
INPUT_PRICE, OUTPUT_PRICE = Decimal("1.00") / 10**6, Decimal("2.00") / 10**6
MODEL = "mock/demo"
LOCAL = "local/demo"


@dataclasses.dataclass
class Flow:
    """What one flow gets: clients of the shared server, and the others' evidence."""

    name: str
    server: typing.Any
    provider: typing.Any
    keys: dict
    client: openai.OpenAI
    effects_path: typing.Any

    @property
    def mark(self):
        """A word that no other flow says, and that no other flow's word contains."""
        return mark_of(self.name)

    def with_key(self, name, **options):
        return self.client.with_options(api_key=self.keys[name], **options)

    def retrying(self, key="ci"):
        """A client as the SDK makes it: two retries."""
        return self.with_key(key, max_retries=2)

    def async_client(self, key="ci"):
        return openai.AsyncOpenAI(
            base_url=self.server.url + "/v1", api_key=self.keys[key], max_retries=0, timeout=30
        )

    def sent(self):
        """What reached the provider of this flow's requests."""
        return self.provider.requests(having=self.mark)

    def ask(self, text, **options):
        """A plain chat completion about this flow's mark."""
        options.setdefault("model", MODEL)
        return self.client.chat.completions.create(messages=self.user(text), **options)

    def user(self, text):
        return [{"role": "user", "content": f"{text} {self.mark}".strip()}]

    def respond(self, prompt, /, **options):
        """A response about this flow's mark."""
        options.setdefault("model", MODEL)
        return self.client.responses.create(input=f"{prompt} {self.mark}".strip(), **options)

    def steps(self, session):
        """The steps of a session as `/api` shows them, in order."""
        status, shown = self.server.api("GET", f"sessions/{session}")
        equal(status, 200, "GET /api/sessions/{id}")
        return [step for turn in shown["turns"] for step in turn["steps"]]


def cost_of(usage):
    """What the suite's prices make of a usage object, whichever API's."""
    count = usage if isinstance(usage, dict) else usage.model_dump()
    if "prompt_tokens" in count:
        # Embeddings have no output.
        output = count.get("completion_tokens", 0)
        return count["prompt_tokens"] * INPUT_PRICE + output * OUTPUT_PRICE
    return count["input_tokens"] * INPUT_PRICE + count["output_tokens"] * OUTPUT_PRICE


def refused_by_name(error, field, status=400):
    """An OpenAI error object with that status that names the field, and says which call it was."""
    equal(error.status_code, status, "status")
    assert isinstance(error.body, dict), f"no error object: {error.body!r}"
    where = f"{error.body.get('param')} {error.body.get('message')}"
    assert field in where, f"the error does not name {field}: {error.body}"
    assert error.response.headers.get("holdfast-call-id", "").startswith("hfc_"), (
        "no holdfast-call-id"
    )
    assert isinstance(error.body.get("code"), str) and error.body["code"], f"no code: {error.body}"
