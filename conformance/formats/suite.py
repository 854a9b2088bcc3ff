"""The suite `formats`: nothing is lost between any door and any target, or it is said what is.

    suite.py [NAME …]     only the checks whose name contains one of the NAMEs

A conversation goes in at each door, in that door's words, and is read at a provider of each format
in that one's words; an answer goes back the same way, whole and as a stream. What arrives must be
what was said, or its name stands in `holdfast-dropped`, or the request was refused with a 400 that
names it. Formats' words are written anew here, from their documentation. Standard library only.
"""

import json
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import converse  # noqa: E402
import checks  # noqa: E402
import chat  # noqa: E402
import gemini  # noqa: E402
import messages  # noqa: E402
import responses  # noqa: E402
from provider import Provider  # noqa: E402

from harness import Server, SetupFailed, World  # noqa: E402

DOORS = [chat, responses, messages, gemini]
# What is asked by them: one more format, in which nobody asks us.
ASKED = [*DOORS, converse]
# The vendor whose row speaks the format, and the end of its base URL.
TARGETS = {
    "chat": ("openai-compatible", "/v1"),
    "responses": ("openai-responses", "/v1"),
    "messages": ("anthropic", "/v1"),
    "gemini": ("gemini", "/v1beta"),
    "bedrock": ("bedrock", ""),
}
PARALLEL = 8
KEY = "hf_suite_formats_0123456789abcdef"

ROW = """
[[providers]]
name = "{name}"
vendor = "{vendor}"
base_url = "{url}"
api_key = "key-of-the-provider"
"""

KEYS = """
[[keys]]
name = "suite"
secret = "${SUITE_KEY}"
"""


def config(provider):
    rows = [
        ROW.format(name=name, vendor=vendor, url=provider.url + path)
        for name, (vendor, path) in TARGETS.items()
    ]
    return "".join(rows) + KEYS


class Answer:
    """What came back to a client."""

    def __init__(self, status, headers, data):
        self.status, self.text = status, data.decode()
        self.dropped = [n for n in (headers.get("holdfast-dropped") or "").split(",") if n]
        self.retry = headers.get("x-should-retry")

    def json(self):
        return json.loads(self.text)


class Pair:
    """A door, a target, and what goes from one to the other."""

    def __init__(self, server, provider, door, target, name):
        self.server, self.provider = server, provider
        self.door, self.target = door, target
        self.model = getattr(target, "MODEL", "") + f"{target.NAME}-{door.NAME}-{name}"

    def ask(self, asked):
        asked.model = f"{self.target.NAME}/{self.model}"
        body = self.door.request(asked)
        method = "streamGenerateContent" if asked.stream else "generateContent"
        path = self.door.PATH.format(model=asked.model, method=method)
        path += "?alt=sse" if asked.stream and "{method}" in self.door.PATH else ""
        return Answer(*self.server.http("POST", path, body, KEY))

    def seen(self, index=-1):
        """The request as its provider understands it."""
        return self.target.read_request(self.provider.bodies(self.model)[index])

    def plan(self, said, **how):
        self.provider.plan(self.model, said, **how)


def run(server, provider, wanted):
    jobs = []
    for door in DOORS:
        for target in ASKED:
            for name, check in checks.CHECKS.items():
                title = f"{door.NAME} to {target.NAME}: {name}"
                if not wanted or any(word in title for word in wanted):
                    jobs.append((title, check, (server, provider, door, target, check.__name__)))

    def one(job):
        title, check, about = job
        try:
            return title, check(Pair(*about)) or "ok"
        except checks.DoesNotApply:
            return title, None
        except Exception as error:  # any failure of a check is its result
            return title, error

    with ThreadPoolExecutor(PARALLEL) as pool:
        return [result for result in pool.map(one, jobs) if result[1] is not None]


def main(wanted):
    provider = Provider()
    try:
        with World() as world:
            server = world.start(Server, config(provider), env={"SUITE_KEY": KEY})
            results = run(server, provider, wanted)
    except SetupFailed as problem:
        print(f"conformance: {problem}\n0 passed, 1 failed")
        return 1
    finally:
        provider.close()
    failed = [(title, error) for title, error in results if isinstance(error, Exception)]
    for title, error in failed:
        print(f"FAIL {title}: {type(error).__name__}: {error}")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
