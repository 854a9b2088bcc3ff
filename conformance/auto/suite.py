#!/usr/bin/env python3
"""The suite `auto`: which tier of a route's models is asked, and why; what a judge says of it.

    suite.py [NAME …]     only the checks whose name contains one of the NAMEs

200 labelled requests go through the built server to a provider with a small and a large model; what
the provider was asked is what is judged. The others look at rules, the caller's own wish, tasks that
stay where they are, failures, shadow mode, money and the report. Standard library only.
"""

import collections
import json
import pathlib
import re
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

CONFORMANCE = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE / "cascade")]

from provider import Provider as Scripted  # noqa: E402

from harness import ROOT, Provider, Server, SetupFailed, World, eventually  # noqa: E402

KEY = "hf_suite_auto_0123456789abcdef"
POOR = "hf_suite_auto_poor_0123456789abcdef"
LABELLED = ROOT / "models" / "auto" / "test.jsonl"
SMALL, LARGE = "a/small", "a/large"
# Dollars per million tokens, as in the configuration.
PRICES = {SMALL: (Decimal("0.10"), Decimal("0.40")), LARGE: (Decimal("3.00"), Decimal("15.00"))}
EASY = "What is the capital of France?"
HARD = (
    "Design a lock-free multi-producer queue in Rust, prove that it is linearizable, analyse the "
    "memory ordering of each atomic operation and compare it with two alternatives."
)
PARALLEL = 8
# Of 100 each; docs/auto.md says what was measured.
FLOORS = {("easy", "small"): 90, ("hard", "large"): 90}

CONFIG = """
[[providers]]
name = "a"
vendor = "openai-compatible"
base_url = "{base_url}"
api_key = "${{PROVIDER_KEY}}"
models = [
  {{ id = "small", input_usd_per_million = "0.10", output_usd_per_million = "0.40" }},
  {{ id = "large", input_usd_per_million = "3.00", output_usd_per_million = "15.00" }},
]

[[providers]]
name = "down"
vendor = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
api_key = "${{PROVIDER_KEY}}"
models = [{{ id = "gone", free = true }}]

[[providers]]
name = "j"
vendor = "openai-compatible"
base_url = "{judged_url}/v1"
api_key = "${{PROVIDER_KEY}}"
models = [
  {{ id = "cheap", input_usd_per_million = "1", output_usd_per_million = "10", max_output_tokens = 256 }},
  {{ id = "strong", input_usd_per_million = "5", output_usd_per_million = "50", max_output_tokens = 256 }},
  {{ id = "judge", input_usd_per_million = "1", output_usd_per_million = "4" }},
  {{ id = "dear", input_usd_per_million = "1", output_usd_per_million = "4", usd_per_request = "1" }},
]

[[keys]]
name = "suite"
secret = "{key}"

[[keys]]
name = "poor"
secret = "{poor}"

[[budgets]]
scope = {{ key = "poor" }}
limit_usd = "0.50"

[[routes]]
name = "auto"
[routes.auto]
cheap = ["a/small"]
strong = ["a/large"]

[[routes]]
name = "labelled"
auto = {{ cheap = ["a/small"], strong = ["a/large"] }}

[[routes]]
name = "saved"
auto = {{ cheap = ["a/small"], strong = ["a/large"] }}

[[routes]]
name = "shadow"
auto = {{ cheap = ["a/small"], strong = ["a/large"], shadow = true }}

[[routes]]
name = "fixed"
auto = {{ cheap = ["a/small"], strong = ["a/large"], header = false }}

[[routes]]
name = "cheap-down"
backoff = "10ms"
auto = {{ cheap = ["down/gone"], strong = ["a/large"] }}

[[routes]]
name = "strong-down"
backoff = "10ms"
auto = {{ cheap = ["a/small"], strong = ["down/gone"] }}

[[routes]]
name = "judged"
[routes.auto]
cheap = ["j/cheap"]
strong = ["j/strong"]
threshold = 100
judge = {{ model = "j/judge", share = 1, threshold = 60, timeout = "20s" }}

[[routes]]
name = "judged-shadow"
[routes.auto]
cheap = ["j/cheap"]
strong = ["j/strong"]
threshold = 100
shadow = true
judge = {{ model = "j/judge", share = 1.0, prompt = "Is it short?", timeout = "20s" }}

[[routes]]
name = "judged-hard"
[routes.auto]
cheap = ["j/cheap"]
strong = ["j/strong"]
threshold = 1
judge = {{ model = "j/judge", share = 1, timeout = "20s" }}

[[routes]]
name = "judged-dear"
[routes.auto]
cheap = ["j/cheap"]
strong = ["j/strong"]
threshold = 100
judge = {{ model = "j/dear", share = 1 }}

[[routes]]
name = "judged-day"
[routes.auto]
cheap = ["j/cheap"]
strong = ["j/strong"]
threshold = 100
judge = {{ model = "j/judge", share = 1, max_usd_per_day = "0.000001" }}

[[routes]]
name = "by-tier"
targets = [{{ model = "a/large", when = "tier == 'strong' && score >= 50" }}, {{ model = "a/small", when = "tier == 'cheap'" }}]
auto = {{ cheap = ["a/small"], strong = ["a/large"] }}

[[routes]]
name = "listed"
targets = [{{ model = "a/large", when = "class == 'batch'" }}, "a/small"]
auto = {{ cheap = ["a/small"], strong = ["a/large"] }}
"""
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def user(text):
    return [{"role": "user", "content": text}]


def steps(results):
    """Calls of a tool with these results, as an agent's history has them."""
    history = []
    for number, result in enumerate(results):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "t0", "arguments": "{}"}}
        history.append({"role": "assistant", "content": None, "tool_calls": [call]})
        history.append({"role": "tool", "tool_call_id": f"c{number}", "content": result})
    return history


def tools(count):
    make = lambda n: {"type": "function", "function": {"name": f"t{n}", "parameters": {"type": "object"}}}
    return [make(number) for number in range(count)]


def of_row(row):
    """A labelled line as a chat completion."""
    count, failed = row.get("results", 0), row.get("failed", 0)
    results = ["Error: it did not work" if n + failed >= count else "ok" for n in range(count)]
    body = {"messages": user(row["text"]) + steps(results)}
    if row.get("tools"):
        body["tools"] = tools(row["tools"])
    if row.get("schema"):
        body["response_format"] = {"type": "json_object"}
    return body


class Auto:
    """The server and its provider."""

    def __init__(self, world):
        self.provider = world.start(Provider, ["small", "large"])
        self.scripted = Scripted()
        world.double(self.scripted)
        config = CONFIG.format(
            base_url=self.provider.base_url, judged_url=self.scripted.url, key=KEY, poor=POOR
        )
        self.server = world.start(Server, config, env={"PROVIDER_KEY": self.provider.key})

    def post(self, path, body, headers=None, key=KEY):
        return self.server.http("POST", path, body, key, headers)

    def judged(self, route, key=KEY, stream=False, judgements=1, **script):
        """(what the client got, the report, rows by target, bodies by model) of a Call whose models
        answer as `script` says."""
        before, mark = self.report(route), "m" + secrets.token_hex(6)
        text = f"{mark} {EASY} @@{json.dumps({model: line for model, line in script.items()})}@@"
        body = {"model": f"route/{route}", "max_tokens": 64, "messages": user(text), "stream": stream}
        status, _, data = self.post("/v1/chat/completions", body, {"holdfast-task": mark}, key)
        assert status == 200, f"{status} {data[:300]}"

        def counted(report):
            missed = sum((report["unjudged"] or {"failed": 0}).values()) if report else 0
            tiers = [report[f"judged_{tier}"]["judged"] for tier in ("cheap", "strong")] if report else [0]
            return missed + sum(tiers)

        known = counted(before)
        eventually("an opinion", lambda: counted(self.report(route)) == known + judgements)
        rows = eventually(
            "rows", lambda: self.server.api("GET", f"calls?task={mark}&limit=20")[1]["data"]
        )
        bodies = collections.defaultdict(list)
        for model, asked in self.scripted.of(mark):
            bodies[model].append(asked)
        return data.decode(), self.report(route), {row["target"]: row for row in rows}, bodies

    def chat(self, route, text=EASY, headers=None, **more):
        """(headers, body) of a chat completion that has to go well."""
        body = {"model": f"route/{route}", "max_tokens": 16, "messages": user(text), **more}
        status, got, data = self.post("/v1/chat/completions", body, headers)
        assert status == 200, f"{status} {data[:300]}"
        return got, data

    def asked(self, route, text=EASY, headers=None, **more):
        """Which model the provider was asked for."""
        got, _ = self.chat(route, text, headers, **more)
        return self.told(got)

    def told(self, got):
        call = got["holdfast-call-id"]
        lines = self.provider.requests(call_id=call)
        assert len(lines) == 1, lines
        return "a/" + json.loads(lines[0]["body"])["model"]

    def row(self, route, text=EASY, headers=None, **more):
        """The ledger's row of a Call."""
        task = "t" + secrets.token_hex(6)
        self.chat(route, text, {"holdfast-task": task, **(headers or {})}, **more)
        found = lambda: self.server.api("GET", f"calls?task={task}&limit=10")[1]["data"]
        rows = eventually("a row", found)
        assert len(rows) == 1, rows
        return rows[0]

    def report(self, route):
        status, found = self.server.api("GET", "auto")
        assert status == 200, found
        one = [row for row in found["data"] if row["route"] == f"route/{route}"]
        return one[0] if one else collections.defaultdict(int)


def cost(model, row):
    """What a model costs at a row's usage, in dollars."""
    per_input, per_output = PRICES[model]
    usage = row["usage"]
    whole = usage["input_tokens"] * per_input + usage["output_tokens"] * per_output
    return whole / 1_000_000


def close(told, expected):
    return abs(Decimal(told) - expected) <= Decimal("0.000000002")


@check
def most_of_200_go_to_the_tier_that_they_are_for(auto):
    rows = [json.loads(line) for line in LABELLED.read_text().splitlines()]
    assert collections.Counter(row["label"] for row in rows) == {"easy": 100, "hard": 100}
    before = auto.report("labelled")

    def send(row):
        body = {"model": "route/labelled", "max_tokens": 16, **of_row(row)}
        status, got, data = auto.post("/v1/chat/completions", body)
        assert status == 200, f"{status} {data[:300]}"
        return got["holdfast-call-id"]

    with ThreadPoolExecutor(PARALLEL) as pool:
        calls = list(pool.map(send, rows))
    told = {line["call_id"]: json.loads(line["body"])["model"] for line in auto.provider.requests()}
    counts = collections.Counter((row["label"], told[call]) for row, call in zip(rows, calls))
    print(f"     {dict(counts)}")
    for (label, model), floor in FLOORS.items():
        assert counts[label, model] >= floor, counts
    # The report says what the provider saw.
    report = auto.report("labelled")
    small = counts["easy", "small"] + counts["hard", "small"]
    assert (report["cheap"] - before["cheap"], report["strong"] - before["strong"]) == (small, 200 - small), report


@check
def an_easy_one_is_for_the_small_model_and_a_hard_one_for_the_large(auto):
    assert (auto.asked("auto", EASY), auto.asked("auto", HARD)) == (SMALL, LARGE)


@check
def a_stream_goes_the_same_way(auto):
    for text, model in ((EASY, SMALL), (HARD, LARGE)):
        got, data = auto.chat("auto", text, stream=True)
        assert auto.told(got) == model and b"[DONE]" in data


@check
def every_door_has_tiers(auto):
    for text, model in ((EASY, SMALL), (HARD, LARGE)):
        body = {"model": "route/auto", "max_tokens": 16, "messages": user(text)}
        status, got, data = auto.post("/v1/messages", body)
        assert status == 200 and auto.told(got) == model, f"{status} {data[:300]}"
        body = {"model": "route/auto", "max_output_tokens": 64, "input": text, "store": False}
        status, got, data = auto.post("/v1/responses", body)
        assert status == 200, f"{status} {data[:300]}"
        assert got["holdfast-tier"].startswith("cheap" if model == SMALL else "strong"), got["holdfast-tier"]
        assert auto.provider.requests(having=json.dumps(text)[1:-1]), "the provider was not asked"
        path = "/v1beta/models/route/auto:generateContent"
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        status, got, data = auto.post(path, body)
        assert status == 200 and auto.told(got) == model, f"{status} {data[:300]}"


@check
def the_answer_says_tier_score_and_reasons_and_no_word_of_the_prompt(auto):
    for text, tier in ((EASY, "cheap"), (HARD, "strong")):
        got, _ = auto.chat("auto", text)
        found = re.fullmatch(r"(cheap|strong); score=(\d+); reasons=([a-z,_]+)", got["holdfast-tier"])
        assert found and found[1] == tier, got["holdfast-tier"]
        assert (int(found[2]) >= 50) == (tier == "strong")
        words = set(re.findall(r"\w+", text.lower()))
        assert not words & set(found[3].split(",")), got["holdfast-tier"]


@check
def the_ledger_says_it_too(auto):
    for text, tier in ((EASY, "cheap"), (HARD, "strong")):
        note = auto.row("auto", text)["notes"]["auto"]
        assert note["tier"] == tier and 0 <= note["score"] <= 100 and note["reasons"], note
        assert set(note) == {"tier", "score", "reasons"}, note


@check
def a_plain_name_has_no_tier(auto):
    body = {"model": SMALL, "max_tokens": 16, "messages": user(HARD)}
    status, got, data = auto.post("/v1/chat/completions", body, {"holdfast-tier": "strong"})
    assert status == 200 and got["holdfast-tier"] is None and auto.told(got) == SMALL, data[:300]


@check
def a_caller_may_choose(auto):
    got, _ = auto.chat("auto", HARD, {"holdfast-tier": "cheap"})
    assert auto.told(got) == SMALL and got["holdfast-tier"] == "cheap; reasons=header"
    assert auto.asked("auto", EASY, {"holdfast-tier": "strong"}) == LARGE


@check
def a_wish_that_is_no_tier_is_refused_by_its_name(auto):
    body = {"model": "route/auto", "messages": user(EASY)}
    status, _, data = auto.post("/v1/chat/completions", body, {"holdfast-tier": "best"})
    assert status == 400 and b"holdfast-tier" in data, f"{status} {data[:300]}"


@check
def where_a_caller_may_not_choose_it_is_as_if_it_had_not(auto):
    assert auto.asked("fixed", HARD, {"holdfast-tier": "cheap"}) == LARGE
    assert auto.asked("fixed", EASY, {"holdfast-tier": "strong"}) == SMALL


@check
def high_effort_is_for_the_large_model(auto):
    got, _ = auto.chat("auto", EASY, reasoning_effort="high")
    assert auto.told(got) == LARGE and got["holdfast-tier"] == "strong; reasons=effort"
    assert auto.asked("auto", EASY, reasoning_effort="low") == SMALL


@check
def failures_of_late_are_for_the_large_model(auto):
    def tier(results):
        messages = user("list the files here") + steps(results)
        got, _ = auto.chat("auto", messages=messages, tools=tools(1))
        return got["holdfast-tier"]

    assert tier(["ok", "ok"]).startswith("cheap"), tier(["ok", "ok"])
    assert tier(["Error: denied", "Traceback (most recent call last):\n x"]) == "strong; reasons=failures"
    # Those of long ago count no more.
    assert tier(["Error: denied"] * 2 + ["ok"] * 12) != "strong; reasons=failures"


@check
def a_very_long_body_is_not_read(auto):
    got, _ = auto.chat("auto", "word " * 60_000)
    assert auto.told(got) == LARGE and got["holdfast-tier"] == "strong; reasons=long"


@check
def a_long_paste_with_an_easy_question_is_easy(auto):
    paste = "The harbour was quiet and the boats came home before the storm began to rise. " * 60
    assert auto.asked("auto", f'Translate the title into French: "The Harbour"\n\n"{paste}"') == SMALL


@check
def a_task_that_was_hard_stays_with_the_large_model(auto):
    task = {"holdfast-task": "t" + secrets.token_hex(6)}
    assert auto.asked("auto", EASY, task) == SMALL
    assert auto.asked("auto", HARD, task) == LARGE
    got, _ = auto.chat("auto", EASY, task)
    assert auto.told(got) == LARGE and got["holdfast-tier"].endswith("reasons=task"), got["holdfast-tier"]
    assert auto.asked("auto", EASY) == SMALL, "another task"
    session = {"holdfast-session": "s" + secrets.token_hex(6)}
    assert auto.asked("auto", HARD, session) == LARGE
    assert auto.asked("auto", EASY, session) == LARGE, "a session without a task"


@check
def a_callers_own_wish_does_not_stick(auto):
    task = {"holdfast-task": "t" + secrets.token_hex(6)}
    assert auto.asked("auto", EASY, {**task, "holdfast-tier": "strong"}) == LARGE
    assert auto.asked("auto", EASY, task) == SMALL


@check
def the_other_tier_answers_when_one_fails(auto):
    got, _ = auto.chat("cheap-down", EASY)
    assert got["holdfast-model"] == LARGE and got["holdfast-tier"].startswith("cheap"), got.items()
    got, _ = auto.chat("strong-down", HARD)
    assert got["holdfast-model"] == SMALL and got["holdfast-tier"].startswith("strong"), got.items()


@check
def what_was_saved_is_exact(auto):
    row = auto.row("saved", EASY)
    expected = cost(LARGE, row) - cost(SMALL, row)
    assert row["target"] == SMALL and expected > 0 and close(row["notes"]["auto_saved"], expected), row
    assert "auto_saved" not in auto.row("saved", HARD)["notes"]
    assert close(auto.report("saved")["saved_usd"], expected), (auto.report("saved"), expected)


@check
def shadow_asks_the_large_model_and_says_what_would_have_been_saved(auto):
    row = auto.row("shadow", EASY)
    assert row["target"] == LARGE and row["notes"]["auto"]["shadow"] is True, row
    assert row["notes"]["auto"]["tier"] == "cheap"
    expected = cost(LARGE, row) - cost(SMALL, row)
    assert close(row["notes"]["auto_would_save"], expected), (row["notes"], expected)
    hard = auto.row("shadow", HARD)
    assert hard["target"] == LARGE and "auto_would_save" not in hard["notes"], hard
    report = auto.report("shadow")
    assert (report["cheap"], report["strong"], report["shadow"]) == (1, 1, 2), report
    assert close(report["would_save_usd"], expected) and Decimal(report["saved_usd"]) == 0, report
    got, _ = auto.chat("shadow", EASY)
    assert auto.told(got) == LARGE and got["holdfast-tier"].endswith("; shadow"), got["holdfast-tier"]


@check
def conditions_come_first(auto):
    assert auto.asked("listed", HARD) == SMALL, "its condition leaves the large one out"
    assert auto.asked("listed", HARD, {"holdfast-class": "batch"}) == LARGE
    assert auto.asked("listed", EASY, {"holdfast-class": "batch"}) == SMALL


@check
def conditions_read_tier_and_score(auto):
    for text, model, left_out in ((EASY, SMALL, LARGE), (HARD, LARGE, SMALL)):
        row = auto.row("by-tier", text)
        assert row["target"] == model and row["notes"]["route"]["left_out"] == {left_out: "when"}, row
    route = {"name": "wrong", "targets": [{"model": SMALL, "when": "tier == 'cheap'"}]}
    status, answer = auto.server.api("PUT", "routes/wrong", route)
    assert status == 400 and "targets[0].when" in json.dumps(answer), (status, answer)


@check
def how_long_decisions_take_is_told(auto):
    auto.chat("auto", EASY)
    report = auto.report("auto")
    assert 0 < report["decision_us_p50"] <= report["decision_us_p99"], report


@check
def the_threshold_can_be_changed_while_it_runs(auto):
    name = "moved" + secrets.token_hex(3)
    tiers = {"cheap": [SMALL], "strong": [LARGE]}
    for threshold, model in ((1, LARGE), (100, SMALL), (50, SMALL)):
        text = EASY if threshold == 50 else HARD if threshold == 100 else "Explain briefly how a heap works, and why."
        route = {"name": name, "auto": {**tiers, "threshold": threshold}}
        status, answer = auto.server.api("PUT", f"routes/{name}", route)
        assert status in (200, 201), (status, answer)
        found = auto.asked(name, text)
        assert found == model, (threshold, found)


@check
def what_is_wrong_is_named_by_its_place(auto):
    def refused(**settings):
        auto_table = {"cheap": [SMALL], "strong": [LARGE], **settings}
        status, answer = auto.server.api("PUT", "routes/wrong", {"name": "wrong", "auto": auto_table})
        assert status == 400, (status, answer)
        return json.dumps(answer)

    assert "auto.threshold" in refused(threshold=0)
    assert "auto.strong" in refused(strong=[])
    assert "auto.strong[0]" in refused(strong=[SMALL])
    assert "surprise" in refused(surprise=True)


@check
def prometheus_counts_decisions(auto):
    def counted(name, **labels):
        _, _, data = auto.server.http("GET", "/metrics", key=auto.server.admin_key)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in data.decode().splitlines() if line.startswith(name + "{")]
        return sum(int(line.split()[-1]) for line in lines if all(one in line for one in wanted))

    name = "holdfast_auto_decisions_total"
    before = counted(name, route="route/auto", tier="cheap")
    saved = counted("holdfast_auto_saved_nanousd_total", route="route/auto", mode="active")
    auto.row("auto", EASY)
    assert counted(name, route="route/auto", tier="cheap") == before + 1
    assert counted("holdfast_auto_saved_nanousd_total", route="route/auto", mode="active") > saved


@check
def a_sessions_steps_have_tiers(auto):
    for text, model, tier in ((EASY, SMALL, "cheap"), (HARD, LARGE, "strong")):
        mark = "m" + secrets.token_hex(6)
        headers = {"holdfast-task": mark}
        body = {"model": "route/auto", "input": text, "max_output_tokens": 64}
        status, got, data = auto.post("/v1/responses", body, headers)
        assert status == 200, f"{status} {data[:300]}"
        rows = eventually("a row", lambda: auto.server.api("GET", f"calls?task={mark}")[1]["data"])
        assert [row["target"] for row in rows] == [model], rows
        assert rows[0]["notes"]["auto"]["tier"] == tier, rows
        assert got["holdfast-tier"].startswith(tier), got["holdfast-tier"]


def spent(rows):
    """What the rows of a judgement cost, in dollars."""
    return sum(Decimal(row["cost"]) for row in rows.values() if row["class"] == "auto-judge")


@check
def a_cheap_answer_is_judged_on_a_bill_of_its_own(auto):
    for score, disagreed in (("80", 0), ("59", 1)):
        script = {"cheap": {"text": "Paris."}, "judge": {"text": f'{{"score": {score}}}'}}
        data, report, rows, bodies = auto.judged("judged", stream=True, **script)
        assert "[DONE]" in data and set(bodies) == {"cheap", "judge"}, (data, bodies)
        assert report["judged_cheap"] == {"judged": 1 + disagreed, "disagreed": disagreed}, report
        told = json.dumps(bodies["judge"])
        assert "Paris." in told and EASY in told, told
        asked, judge = rows["j/cheap"], rows["j/judge"]
        assert judge["parent"] == asked["call"] and judge["class"] == "auto-judge", judge
        assert judge["notes"]["auto_judge"] == "grade" and asked["class"] == "interactive", rows
    assert Decimal(report["judging_usd"]) > spent(rows) > 0, report


@check
def in_shadow_mode_the_cheap_tier_is_asked_the_same_and_both_are_judged(auto):
    script = {"cheap": {"text": "It is Paris."}, "strong": {"text": "Paris, surely."}}
    judge = {"text": '{"scores": [30, 30]}'}
    data, report, rows, bodies = auto.judged("judged-shadow", **script, judge=judge)
    assert "Paris, surely." in data and "It is Paris." not in data, data
    assert report["judged_cheap"] == {"judged": 1, "disagreed": 0}, report
    assert [len(bodies[model]) for model in ("strong", "cheap", "judge")] == [1, 1, 1], bodies
    texts = [[m["content"] for m in bodies[model][0]["messages"]] for model in ("strong", "cheap")]
    assert texts[0] == texts[1], "not the same request"
    told = json.dumps(bodies["judge"])
    assert "It is Paris." in told and "Paris, surely." in told and "Is it short?" in told, told
    assert rows["j/cheap"]["parent"] == rows["j/strong"]["call"], rows
    assert rows["j/cheap"]["notes"]["auto_judge"] == "answer", rows["j/cheap"]
    assert close(report["judging_usd"], spent(rows)), (report, rows)
    data, report, _, _ = auto.judged("judged-shadow", **script, judge={"text": "I can not say."})
    assert report["unjudged"] == {"failed": 1, "refused": 0, "passed_over": 0}, report


@check
def of_a_hard_one_it_is_asked_whether_the_cheap_tier_would_have_done(auto):
    script = {"cheap": {"text": "Paris."}, "strong": {"text": "Paris!"}}
    for scores, disagreed in (("[95, 95]", 1), ("[70, 70]", 2)):
        judge = {"text": f'{{"scores": {scores}}}'}
        _, report, _, _ = auto.judged("judged-hard", **script, judge=judge)
        assert report["judged_strong"] == {"judged": disagreed, "disagreed": disagreed}, report
    assert report["judged_cheap"] == {"judged": 0, "disagreed": 0}, report


@check
def what_no_budget_or_day_pays_for_is_not_judged_and_counted(auto):
    script = {"cheap": {"text": "Paris."}}
    for route, key in (("judged-dear", POOR), ("judged-day", KEY)):
        data, report, rows, bodies = auto.judged(route, key=key, **script)
        assert "Paris." in data and set(bodies) == {"cheap"} == {n[2:] for n in rows}, (rows, bodies)
        assert report["unjudged"] == {"failed": 0, "refused": 1, "passed_over": 0}, report
        assert Decimal(report["judging_usd"]) == 0, report


@check
def nothing_of_what_is_judged_is_kept(auto):
    words = "zanzibar" + secrets.token_hex(6)
    judge = {"text": '{"scores": [1, 1]}'}
    auto.judged("judged-shadow", cheap={"text": words}, strong={"text": "Paris."}, judge=judge)
    kept = [
        path for path in auto.server.data.rglob("*")
        if path.is_file() and words.encode() in path.read_bytes()
    ]
    assert not kept, kept


@check
def what_is_wrong_with_a_judge_is_named_by_its_place(auto):
    def refused(**judge):
        table = {"cheap": [SMALL], "strong": [LARGE], "judge": {"model": "j/judge", **judge}}
        status, answer = auto.server.api("PUT", "routes/wrong", {"name": "wrong", "auto": table})
        assert status == 400, (status, answer)
        return json.dumps(answer)

    assert "auto.judge.model" in refused(model="nobody/judge")
    assert "auto.judge.share" in refused(share=0)
    assert "auto.judge.max_usd_per_day" in refused(max_usd_per_day="0")
    assert "on_failure" in refused(on_failure="accept")


@check
def prometheus_counts_opinions(auto):
    _, _, data = auto.server.http("GET", "/metrics", key=auto.server.admin_key)
    text = data.decode()
    for name in ("judged_total", "disagreed_total", "unjudged_total", "judging_nanousd_total"):
        assert f"holdfast_auto_{name}{{" in text, name


def main(names):
    chosen = [one for one in CHECKS if not names or any(name in one.__name__ for name in names)]
    passed, began = 0, time.monotonic()
    try:
        with World() as world:
            auto = Auto(world)
            for one in chosen:
                started = time.monotonic()
                try:
                    one(auto)
                    passed += 1
                    print(f"ok   {one.__name__} ({time.monotonic() - started:.1f} s)", flush=True)
                except Exception as error:  # any failure of a check is its result
                    print(f"FAIL {one.__name__}: {error!r:.900}", flush=True)
    except SetupFailed as problem:
        print(f"conformance: {problem}")
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{passed} passed, {len(chosen) - passed} failed")
    return passed < len(chosen) or not chosen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
