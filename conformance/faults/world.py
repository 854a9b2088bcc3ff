"""What stands around the checks: the provider that fails, the server, its routes, and the evidence.

Every check has a model of its own, which says which fault it meets and keeps what the fault
remembers apart from all others; and a route of its own over a primary and its fallback.
"""

import dataclasses
import json
import pathlib
import queue
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import wire  # noqa: E402
from harness import ROOT, Process, Server, SetupFailed, holdfast_binary, json_lines  # noqa: E402

KEY = "hf_suite_faults_0123456789abcdef"
# The limits that the product is given, in seconds at scale 1: a late model (20 s) is noticed by the
# first and not by the last, a stall (30 s) by the last.
FIRST_TOKEN, RESPONSE, STALL = 8.0, 28.0, 24.0
BACKOFF, WAIT_MAX, COOLDOWN = 0.5, 5.0, 5.0
# Dollars per million tokens, input and output: whose answer it was shows in its cost.
PRICES = {"primary": ("1.00", "2.00"), "fallback": ("3.00", "5.00"), "goes-on": ("3.00", "5.00")}
INPUT = {"primary": 12, "fallback": 14}
VENDORS = {
    "chat": "openai-compatible",
    "messages": "anthropic",
    "gemini": "gemini",
    "responses": "openai-responses",
}
# What goes on with an answer that was begun: a fallback whose vendor or model does.
GOES_ON = {"chat": "vllm", "messages": "anthropic"}
FAMILY = {"chat": "", "messages": "claude-haiku-4-5-"}
BASE_PATHS = {"chat": "/v1", "messages": "/v1", "gemini": "/v1beta", "responses": "/v1"}
# The formats whose SDKs are tried, and where they are installed.
SDKS = ("chat", "messages")
VENV = ROOT / "conformance" / "python" / ".venv"
# A cooldown is doubled by each failed probe, up to this.
COOLDOWN_FACTOR_MAX = 12


@dataclasses.dataclass
class Plan:
    """A route: its model's name and where it leads, as `(role, format, name, context tokens)`."""

    model: str
    targets: list


def provider_binary():
    path = holdfast_binary().with_name("holdfast-fault-provider")
    if not path.is_file():
        raise SetupFailed(f"{path} is not there: run `make build` first")
    return path


class FaultProvider(Process):
    """The provider that fails, and what it wrote about its clients."""

    def __init__(self, folder, scale):
        self.log_path = folder / "fault-requests.jsonl"
        ready = folder / "fault-provider.ready"
        command = [provider_binary(), "--log", self.log_path, "--ready-file", ready]
        super().__init__("fault-provider", [*command, "--scale", str(scale)], folder)
        self.url = self.wait_ready(ready)["base_url"]

    def requests(self, model=None):
        """Its requests in order, each with how it ended (`end`), once it has."""
        found = {}
        for line in json_lines(self.log_path):
            if line["event"] == "request":
                found[line["id"]] = {**line, "end": None}
            elif line["id"] in found:
                found[line["id"]]["end"] = line
        return [line for line in found.values() if model is None or line["model"] == model]

    def direct(self, role, api, model, stream):
        """The same request without Holdfast."""
        return wire.ask(f"{self.url}/{role}{BASE_PATHS[api]}", api, model, stream, {})


def milliseconds(seconds, scale):
    return f'"{max(1, round(seconds * scale * 1000))}ms"'


def configuration(provider_url, plans, scale):
    """The file: four providers, the models of every check, and its routes."""
    models = {}
    for plan in plans:
        for role, api, name, context in plan.targets:
            models.setdefault((role, api), {})[name] = context
    lines = []
    for (role, api), named in models.items():
        price_in, price_out = PRICES[role]
        lines += [
            "[[providers]]",
            f'name = "{role}-{api}"',
            f'vendor = "{GOES_ON[api] if role == "goes-on" else VENDORS[api]}"',
            f'base_url = "{provider_url}/{"fallback" if role == "goes-on" else role}{BASE_PATHS[api]}"',
            'api_key = "a-key-of-the-operator"',
            'connect_timeout = "5s"',
            f"response_timeout = {milliseconds(RESPONSE, scale)}",
            f"stall_timeout = {milliseconds(STALL, scale)}",
        ]
        for name, context in named.items():
            lines += [
                "[[providers.models]]",
                f'id = "{name}"',
                f'input_usd_per_million = "{price_in}"',
                f'output_usd_per_million = "{price_out}"',
            ]
            if context:
                lines.append(f"context_tokens = {context}")
    for plan in plans:
        targets = [f"{role}-{api}/{name}" for role, api, name, _ in plan.targets]
        lines += [
            "[[routes]]",
            f'name = "{plan.model}"',
            f"targets = {json.dumps(targets)}",
            f"backoff = {milliseconds(BACKOFF, scale)}",
            f"wait_max = {milliseconds(WAIT_MAX, scale)}",
            f"first_token_timeout = {milliseconds(FIRST_TOKEN, scale)}",
            f"cooldown = {milliseconds(COOLDOWN, scale)}",
        ]
    lines += ["[[keys]]", 'name = "suite"', f'secret = "{KEY}"']
    # A hard budget: every attempt has to be bounded, reserved and settled.
    lines += ["[[budgets]]", 'scope = { key = "suite" }', 'limit_usd = "100000.00"']
    return "\n".join(lines) + "\n"


class Sdk(Process):
    """An SDK in its own virtual environment, asked line by line."""

    def __init__(self, folder, api, url):
        self.lock, self.waiting, self.count = threading.Lock(), {}, 0
        self.name, self.output = f"sdk-{api}", folder / f"sdk-{api}.log"
        program = pathlib.Path(__file__).with_name("sdk.py")
        with open(self.output, "ab") as output:
            self.child = subprocess.Popen(
                [VENV / "bin" / "python", program, api, url, KEY],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            seen = json.loads(line)
            self.waiting.pop(seen.pop("id")).put(seen)

    def call(self, model, stream, task):
        """One Call: what the SDK's caller got."""
        answer = queue.Queue(1)
        with self.lock:
            self.count += 1
            self.waiting[self.count] = answer
            request = {"id": self.count, "model": model, "stream": stream, "task": task}
            self.child.stdin.write(json.dumps(request) + "\n")
            self.child.stdin.flush()
        try:
            return answer.get(timeout=wire.CLIENT_SECONDS)
        except queue.Empty:
            raise AssertionError(f"no answer of the SDK:\n{self.tail()}") from None


class Around:
    """The running processes, and what they know of a check."""

    def __init__(self, world, scale, plans):
        self.scale = scale
        self.provider = world.start(FaultProvider, scale)
        config = configuration(self.provider.url, plans, scale)
        self.server = world.start(Server, config)
        self.sdks = {api: world.start(Sdk, api, self.server.url) for api in SDKS}

    def ask(self, api, model, stream, task):
        headers = {"authorization": f"Bearer {KEY}", "holdfast-task": task}
        if api == "messages":
            headers["anthropic-version"] = "2023-06-01"
        return wire.ask(self.server.url + BASE_PATHS[api], api, model, stream, headers)

    def rows(self, task):
        """The ledger's rows of a task, oldest first."""
        status, page = self.server.api("GET", f"calls?limit=1000&task={task}")
        assert status == 200, page
        return page["data"][::-1]
