#!/usr/bin/env python3
"""The suite `demo`: runs `holdfast demo --json` and judges it by what others wrote.

The demo's own words are not believed: effects are counted in the tool server's log, answers and
money in the provider's. Standard library only.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("HOLDFAST_BIN", ROOT / "target/release/holdfast")
# In nanodollars per token, as the demo's configuration prices its provider.
INPUT_NANODOLLARS, OUTPUT_NANODOLLARS = 2_000, 8_000
RUN_SECONDS = 120


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def nanodollars(text):
    whole, _, decimals = text.partition(".")
    return int(whole) * 10**9 + int(decimals.ljust(9, "0"))


class Judge:
    def __init__(self, name_parts):
        self.passed = self.failed = 0
        self.name_parts = name_parts

    def check(self, name, holds, seen):
        if self.name_parts and not any(part in name for part in self.name_parts):
            return
        self.passed += bool(holds)
        self.failed += not holds
        print(f"ok   {name}" if holds else f"FAIL {name}: {seen}")


def judge(judge, shown, data):
    check = judge.check
    check("every part of the answer is there", set(shown) >= {
        "steps", "platform_ms", "model_ms", "tool_ms", "ttft_ms", "budget"}, shown)
    check("five model calls and their tools", shown["steps"] == 8, shown["steps"])
    times = shown["ttft_ms"]
    check("restored state is quicker than none", 0 < times["restored"] < times["cold"], times)
    check("held state is quicker than none", 0 < times["held"] < times["cold"], times)

    effects = read_lines(data / "demo/tool-effects.log")
    keys = collections.Counter(effect["idempotency_key"] for effect in effects)
    check("no effect happened twice", max(keys.values()) == 1, keys)
    # Two notes on the local model, and one in each of the two tasks that were killed.
    check("every note was written", len(effects) == 4, [effect["tool"] for effect in effects])

    requests = read_lines(data / "demo/provider-requests.jsonl")
    finished = [request for request in requests if request["finished"]]
    calls = collections.Counter(request["call_id"] for request in finished)
    check("no finished answer was bought twice", max(calls.values()) == 1, calls)

    budget = shown["budget"]
    settled = nanodollars(budget["settled_usd"])
    spent = settled + nanodollars(budget["unreconciled_usd"]) + nanodollars(budget["presumed_usd"])
    check("the budget was not passed", spent <= nanodollars(budget["limit_usd"]), budget)
    check("some calls were refused and some were not", 0 < budget["refused"] < 64, budget)
    answered = finished[-(64 - budget["refused"]):]
    counted = sum(
        request["usage"]["prompt_tokens"] * INPUT_NANODOLLARS
        + request["usage"]["completion_tokens"] * OUTPUT_NANODOLLARS
        for request in answered
    )
    check("settled is what the provider counted", settled == counted, (settled, counted))


def main():
    judged = Judge(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        data = pathlib.Path(folder) / "data"
        command = [str(BINARY), "demo", "--json", "--data", str(data)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
        if ran.returncode != 0:
            print(f"FAIL the demo ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
            judged.failed += 1
        else:
            judge(judged, json.loads(ran.stdout.splitlines()[-1]), data)
    print(f"{judged.passed} passed, {judged.failed} failed")
    return judged.failed > 0


if __name__ == "__main__":
    sys.exit(main())
