"""The server of the suite, and one check's view of it."""

import http.client
import json
import pathlib
import sys
from types import SimpleNamespace

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from shapes import SHAPES  # noqa: E402
from words import all_settings, settings  # noqa: E402

from harness import eventually  # noqa: E402

KEY = "hf_suite_usage_0123456789abcdef"
FREE = "hf_suite_usage_without_a_budget_0"
AWS = 'aws = { region = "eu-central-1", access_key_id = "AKIDSUITE", secret_access_key = "secret" }'
# Name: the vendor whose row speaks the format, the end of its base URL, and how it is signed.
PROVIDERS = {
    "chat": ("openai-compatible", "/v1", 'api_key = "k"'),
    "messages": ("anthropic", "/v1", 'api_key = "k"'),
    "responses": ("openai-responses", "/v1", 'api_key = "k"'),
    "gemini": ("gemini", "/v1beta", 'api_key = "k"'),
    "converse": ("bedrock", "", AWS),
    "embeddings": ("openai-compatible", "/v1", 'api_key = "k"'),
}
# Models of checks that are no shapes.
MORE = {"chat": ["again", "tasked", "cut", "left", "tiered"], "messages": ["left"]}
# Models with less in their price, and providers that are read on when a client goes.
DRAINED = ["left", "late", "broken"]
CAP = 64


def config(provider):
    parts = []
    for name, (vendor, path, key) in PROVIDERS.items():
        shapes = [shape.model for shape in SHAPES if shape.kind == name]
        models = ",\n  ".join(
            f'{{ id = "{model}", {all_settings()} }}' for model in [*shapes, *MORE.get(name, [])]
        )
        parts.append(
            f'[[providers]]\nname = "{name}"\nvendor = "{vendor}"\nbase_url = "{provider.url}{path}"\n'
            f"{key}\nmodels = [\n  {models}\n]\n"
        )
    parts.append(f'[[providers]]\nname = "open"\nvendor = "openai-compatible"\nbase_url = "{provider.url}/v1"\napi_key = "k"\n')
    bare = [f'{{ id = "{model}", {settings(("input", "output"))} }}' for model in ("bare", "unasked")]
    parts.append(
        f'[[providers]]\nname = "bare"\nvendor = "openai-compatible"\nbase_url = "{provider.url}/v1"\napi_key = "k"\n'
        f'models = [{", ".join(bare)}]\n'
    )
    parts.append(
        f'[[providers]]\nname = "searching"\nvendor = "anthropic"\nbase_url = "{provider.url}/v1"\napi_key = "k"\n'
        f'models = [{{ id = "searching", context_tokens = 10000, {all_settings()} }}, {{ id = "unasked", {all_settings()} }}]\n'
    )
    for name, vendor, longest in (
        ("drained", "openai-compatible", "20s"),
        ("hurried", "openai-compatible", "1s"),
        ("drained-messages", "anthropic", "20s"),
    ):
        models = ", ".join(f'{{ id = "{name}-{model}", {all_settings()} }}' for model in DRAINED)
        parts.append(
            f'[[providers]]\nname = "{name}"\nvendor = "{vendor}"\nbase_url = "{provider.url}/v1"\napi_key = "k"\n'
            f'on_disconnect = "drain"\ndrain_max = "{longest}"\nmodels = [{models}]\n'
        )
    for name in ("again", "tasked"):
        parts.append(f'[[routes]]\nname = "{name}"\ntargets = ["chat/{name}"]\ntries_per_target = 2\nbackoff = "10ms"\n')
    parts.append(f'[[keys]]\nname = "suite"\nsecret = "{KEY}"\n')
    parts.append(f'[[keys]]\nname = "free"\nsecret = "{FREE}"\n')
    parts.append('[[budgets]]\nscope = { key = "suite" }\nlimit_usd = "100000"\n')
    return "\n".join(parts)


def request_of(door, model, stream, more):
    """(path, body) of a small request at a door."""
    text = "How do you do?"
    if door == "gemini":
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        body["generationConfig"] = {"maxOutputTokens": CAP}
        return f"/v1beta/models/{model}:{method}", body | more
    if door == "embeddings":
        return "/v1/embeddings", {"model": model, "input": text} | more
    if door == "responses":
        body = {"model": model, "input": text, "max_output_tokens": CAP, "store": False}
        return "/v1/responses", body | {"stream": stream} | more
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": CAP}
    path = "/v1/messages" if door == "messages" else "/v1/chat/completions"
    return path, body | {"stream": stream} | more


class Bench:
    """What one check sends is its own task, by which it finds its rows."""

    def __init__(self, server, provider, task):
        self.server, self.provider, self.task = server, provider, task

    def send(self, model, door="chat", stream=False, key=KEY, headers=None, **more):
        """(status, headers, text)"""
        path, body = request_of(door, model, stream, more)
        sent = {"holdfast-task": self.task, **(headers or {})}
        status, got, data = self.server.http("POST", path, body, key, sent)
        return status, got, data.decode()

    def ask(self, model, **how):
        """An answer that is well: its text, and what it says that it cost."""
        status, got, text = self.send(model, **how)
        assert status == 200, (status, text)
        cost = got.get("holdfast-cost")
        for line in text.splitlines():
            if line.startswith(": ") and "holdfast-cost=" in line:
                cost = line.split("holdfast-cost=")[1].split(";")[0]
        return SimpleNamespace(text=text, cost=cost, headers=got)

    def leave(self, model, door="chat", until="Good day", stream=True, key=KEY, **more):
        """Asks, reads until a text has come (nothing, if there is none to wait for), and goes."""
        path, body = request_of(door, model, stream, more)
        host, port = self.server.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "holdfast-task": self.task}
        connection.request("POST", path, json.dumps(body), headers)
        if until is None:
            eventually("the provider is asked", lambda: self.provider.log(model.split("/")[1]))
        else:
            response = connection.getresponse()
            seen = b""
            while until.encode() not in seen:
                piece = response.read1(4096)
                assert piece, f"the stream ended before {until!r}: {seen}"
                seen += piece
        connection.close()
        if until is not None:
            response.close()

    def rows(self):
        """The ledger's rows of this task, oldest first."""
        status, found = self.server.api("GET", f"calls?task={self.task}&limit=100")
        assert status == 200, found
        return found["data"][::-1]

    def row_in_the_end(self):
        return eventually("the Call is in the ledger", self.rows)[-1]
