#!/usr/bin/env python3
"""The suite `home-cloud`: a local model first, a provider when that is busy, cold or dead.

    home_cloud.py [NAME …]     only the checks whose name contains one of the NAMEs

The engine is the real one with the demo model, behind a program that can make its load slow or
fail; the cloud is a provider of its own that counts what it did. Clients stream beside each other
in two formats while the engine is killed under them. Standard library only.
"""

import http.client
import json
import os
import shlex
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import running
from harness import Provider, Server, eventually, holdfast_binary
from kills import processes

KEY, POOR = "hf_suite_home_0123456789abcdef", "hf_suite_poor_0123456789abcdef"
LATE, LATE_LIMIT = "hf_suite_late_0123456789abcdef", Decimal(10)
INPUT, OUTPUT = Decimal("0.000002"), Decimal("0.000010")
POOR_LIMIT = Decimal("0.02")
SEQUENCES = 2
CLIENT_SECONDS = 60
# A load takes so long where a check says that it does.
SLOW_LOAD = 4
# Words of an answer of the cloud: it has to cost something.
WORDS = "[[words:40]] Say something."


def schema(items):
    """An answer of so many words, whatever the model would like to say."""
    words = {"type": "array", "minItems": items, "maxItems": items}
    words["items"] = {"type": "string", "enum": ["alpha", "beta", "gamma"]}
    return {
        "type": "object",
        "properties": {"words": words},
        "required": ["words"],
        "additionalProperties": False,
    }


def chat(stream, items):
    body = {"model": "route/home", "max_tokens": 4000, "stream": stream}
    body["messages"] = [{"role": "user", "content": WORDS}]
    if items:
        shape = {"name": "words", "strict": True, "schema": schema(items)}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    return "/v1/chat/completions", body


def messages(stream, items):
    body = {"model": "route/home", "max_tokens": 4000, "stream": stream}
    body["messages"] = [{"role": "user", "content": WORDS}]
    if items:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema(items)}}
    return "/v1/messages", body


class Seen:
    """What a client got, and what it may conclude from that."""

    def __init__(self):
        self.status, self.headers, self.text, self.ends = 0, {}, "", []
        # Comments of the stream, and how many of them came before its first event.
        self.comments, self.before = [], None
        self.error = self.broken = None
        # How often an answer began.
        self.starts = 0
        self.seconds = 0.0

    @property
    def target(self):
        return self.headers.get("holdfast-model")

    @property
    def whole(self):
        return self.status == 200 and self.ends == ["stop", "end"] and not self.error

    @property
    def said_so(self):
        """It broke off, and the client was told in its format."""
        return self.status == 200 and self.error and "end" not in self.ends

    def __repr__(self):
        return f"{self.status} {self.target} {len(self.text)} chars {self.ends} {self.error} {self.broken}"


def event(seen, data):
    """One event of either format."""
    if data == "[DONE]":
        seen.ends.append("end")
        return
    value = json.loads(data)
    if value.get("error"):
        seen.error = value["error"]
    kind = value.get("type")
    seen.starts += kind == "message_start"
    for choice in value.get("choices", []):
        seen.starts += "role" in (choice.get("delta") or {})
        seen.text += (choice.get("delta") or {}).get("content") or ""
        if choice.get("finish_reason"):
            seen.ends.append("stop")
    if kind == "content_block_delta":
        seen.text += value["delta"].get("text", "")
    elif kind == "message_delta" and value["delta"].get("stop_reason"):
        seen.ends.append("stop")
    elif kind == "message_stop":
        seen.ends.append("end")


def ask(server, make, stream=True, items=0, key=KEY, task="home", at_text=None):
    """One Call: what its client saw, whatever came of it. `at_text` is done at its first text."""
    path, body = make(stream, items)
    seen, began = Seen(), time.monotonic()
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=CLIENT_SECONDS)
    headers = {"authorization": f"Bearer {key}", "holdfast-task": task}
    headers |= {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    try:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        seen.status = response.status
        seen.headers = {name.lower(): value for name, value in response.getheaders()}
        if stream and seen.status == 200:
            for line in response:
                if line.startswith(b": "):
                    seen.comments.append(line[2:].decode().strip())
                if line.startswith(b"data: "):
                    seen.before = len(seen.comments) if seen.before is None else seen.before
                    event(seen, line[6:].decode().strip())
                if seen.text and at_text:
                    at_text()
                    at_text = None
        else:
            read_whole(seen, json.loads(response.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        seen.broken = repr(error)
    finally:
        connection.close()
        seen.seconds = time.monotonic() - began
    return seen


def read_whole(seen, value):
    seen.error = value.get("error")
    if seen.error:
        return
    if "choices" in value:
        seen.text = value["choices"][0]["message"]["content"]
    else:
        seen.text = "".join(block.get("text", "") for block in value["content"])
    seen.ends = ["stop", "end"]


class Home:
    """The running processes, and the ways to make the engine slow, dead or well."""

    def __init__(self, world):
        self.folder = world.folder
        self.load, self.broken = self.folder / "load-seconds", self.folder / "broken"
        self.load.write_text("0")
        program = self.folder / "engine.sh"
        engine = holdfast_binary().with_name("holdfast-engine")
        program.write_text(
            f"#!/bin/sh\n[ -e {shlex.quote(str(self.broken))} ] && exit 1\n"
            f'sleep "$(cat {shlex.quote(str(self.load))})"\nexec {shlex.quote(str(engine))} "$@"\n'
        )
        program.chmod(0o755)
        self.cloud = world.start(Provider, models=["big"])
        # One that goes on with an answer that was begun.
        self.rest = world.start(Provider, models=["rest"], name="rest")
        # One that is slow, with a log of its own.
        self.slow = world.start(Provider, models=["one", "two"], name="slow")
        self.server = world.start(Server, self.configuration(program))

    def configuration(self, program):
        return f"""
[engine]
program = "{program}"
sequences = {SEQUENCES}

[[providers]]
name = "cloud"
vendor = "openai-compatible"
base_url = "{self.cloud.base_url}"
api_key = "{self.cloud.key}"

[[providers.models]]
id = "big"
input_usd_per_million = "2.00"
output_usd_per_million = "10.00"
max_output_tokens = 4000

[[providers]]
name = "slow"
vendor = "openai-compatible"
base_url = "{self.slow.base_url}"
api_key = "{self.slow.key}"
models = [
  {{ id = "one", input_usd_per_million = "2.00", output_usd_per_million = "10.00" }},
  {{ id = "two", input_usd_per_million = "2.00", output_usd_per_million = "10.00" }},
]

[[providers]]
name = "rest"
vendor = "vllm"
base_url = "{self.rest.base_url}"
api_key = "{self.rest.key}"
models = [{{ id = "rest", input_usd_per_million = "2.00", output_usd_per_million = "10.00" }}]

[[routes]]
name = "goes-on"
targets = ["local/demo", "rest/rest"]

[[routes]]
name = "late"
targets = ["slow/one", "slow/two"]
keep_alive_after = "150ms"

[[routes]]
name = "hedged"
targets = ["slow/one", "local/demo"]
hedge = {{ after = "300ms" }}

# The same for what is quick: times that no busy machine reaches.
[[routes]]
name = "not-late"
targets = ["slow/one", "slow/two"]
keep_alive_after = "5s"

[[routes]]
name = "not-hedged"
targets = ["slow/one", "local/demo"]
hedge = {{ after = "5s" }}

[[routes]]
name = "home"
targets = ["local/demo", "cloud/big"]
local_wait_max = "200ms"
local_queue_max = 1
backoff = "50ms"
cooldown = "1s"

[[keys]]
name = "suite"
secret = "{KEY}"

[[keys]]
name = "poor"
secret = "{POOR}"

[[keys]]
name = "late"
secret = "{LATE}"

[[budgets]]
scope = {{ key = "late" }}
limit_usd = "{LATE_LIMIT}"

[[budgets]]
scope = {{ key = "suite" }}
limit_usd = "100.00"

[[budgets]]
scope = {{ key = "poor" }}
limit_usd = "{POOR_LIMIT}"
"""

    def engines(self):
        """Engine processes that are under the server, those that still only sleep included."""
        below = processes.alive(processes.descendants(self.server.child.pid))
        return [p for p in below if "--model-sha256" in processes.command_line(p.pid) and p.name != "holdfast"]

    def is_up(self):
        return any(process.name.startswith("holdfast-eng") for process in self.engines())

    def kill(self):
        """kill -9, of whatever is the engine now."""
        for process in self.engines():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def come_home(self, seconds=20):
        """Waits until a Call is answered at home."""
        return eventually(
            "a Call is answered at home",
            lambda: ask(self.server, chat).target == "local/demo",
            seconds,
        )

    def at_once(self, count, make, **options):
        """So many Calls beside each other."""
        with ThreadPoolExecutor(count) as pool:
            asked = [pool.submit(ask, self.server, make, **options) for _ in range(count)]
            return [one.result() for one in asked]

    def rows(self, task=None):
        """All rows of the ledger, of one task or of all, by attempt."""
        found = running.every_row(self.server, f"&task={task}" if task else "")
        return {row["attempt"]: row for row in found}


CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def targets(seen):
    return {name: sum(one.target == name for one in seen) for name in ("local/demo", "cloud/big")}


def all_whole(seen):
    wrong = [one for one in seen if not one.whole]
    assert not wrong, f"{len(wrong)} of {len(seen)} are not whole: {wrong[:3]}"


@check
def a_cold_model_is_loaded_while_the_cloud_answers(home):
    home.load.write_text(str(SLOW_LOAD))
    first = ask(home.server, chat, task="cold")
    assert first.whole and first.target == "cloud/big", first
    assert not home.is_up(), "it was waited for"
    assert home.engines(), "nobody starts it"


@check
def who_comes_while_it_loads_does_not_wait_for_it(home):
    seen = [ask(home.server, make, task="cold") for make in (chat, messages)]
    all_whole(seen)
    assert targets(seen)["cloud/big"] == 2, targets(seen)
    assert not home.is_up(), "it was waited for"


@check
def a_loaded_model_answers_at_home(home):
    home.come_home()
    before = len(home.cloud.requests())
    seen = [ask(home.server, make, stream, task="well") for make in (chat, messages) for stream in (True, False)]
    all_whole(seen)
    assert targets(seen)["local/demo"] == 4, targets(seen)
    assert len(home.cloud.requests()) == before, "the cloud was asked"


@check
def what_turned_a_call_away_cost_nothing_and_says_what_it_was(home):
    rows = [row for row in home.rows("cold").values() if row["target"] == "local/demo"]
    assert rows, "no row"
    for row in rows:
        assert row["error"] == "unavailable", row
        assert Decimal(row["cost"]) == Decimal(row["unreconciled"]) == 0, row


@check
def a_crowd_is_shared_between_home_and_cloud(home):
    seen = home.at_once(12, chat, items=120, task="crowd")
    all_whole(seen)
    where = targets(seen)
    assert where["local/demo"] >= SEQUENCES and where["cloud/big"] >= 1, where
    errors = {row["error"] for row in home.rows("crowd").values() if row["target"] == "local/demo"}
    assert errors <= {None, "overloaded"} and "overloaded" in errors, errors


@check
def a_crowd_in_another_format_is_too(home):
    seen = home.at_once(8, messages, items=120, task="crowd-messages")
    all_whole(seen)
    assert all(targets(seen).values()), targets(seen)


@check
def a_crowd_that_does_not_stream_is_too(home):
    seen = home.at_once(8, chat, stream=False, items=120, task="crowd-json")
    all_whole(seen)
    assert all(targets(seen).values()), targets(seen)


@check
def after_the_crowd_the_next_call_is_at_home(home):
    seen = ask(home.server, chat)
    assert seen.whole and seen.target == "local/demo", seen


@check
def who_cannot_pay_for_the_cloud_waits_at_home(home):
    # Each answer of the cloud may cost 4000 tokens, which this budget does not have.
    seen = home.at_once(8, chat, items=40, key=POOR, task="poor")
    all_whole(seen)
    assert targets(seen)["cloud/big"] == 0, targets(seen)


@check
def a_small_budget_pays_for_some_of_the_crowd_and_is_not_passed(home):
    def small(stream, items):
        path, body = chat(stream, items)
        return path, {**body, "max_tokens": 600}

    with ThreadPoolExecutor(1) as pool:
        # Keeps the engine busy, so that the others overflow.
        busy = pool.submit(home.at_once, SEQUENCES + 2, chat, items=250)
        time.sleep(0.2)
        seen = home.at_once(12, small, items=40, key=POOR, task="small")
        busy.result()
    all_whole(seen)
    assert targets(seen)["cloud/big"] >= 1, targets(seen)
    budget = budget_of(home, POOR_LIMIT)
    taken = sum(Decimal(budget[f"{name}_usd"]) for name in ("settled", "unreconciled", "reserved"))
    assert taken <= POOR_LIMIT, budget


def storm(home, kills):
    """Eight clients that never stop asking while the engine is killed again and again."""
    over, seen, lock = threading.Event(), [], threading.Lock()

    def client(number):
        make, stream = (chat, messages)[number % 2], number % 4 != 3
        while not over.is_set():
            one = ask(home.server, make, stream=stream, items=300, task=f"storm-{stream}")
            with lock:
                seen.append((stream, one))

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        try:
            for _ in range(kills):
                answered = len(seen)
                eventually("the engine is up", home.is_up, 40)
                eventually("and answers", lambda: len(seen) > answered + 2, 40)
                home.kill()
        finally:
            over.set()
        for one in clients:
            one.result()
    return seen


@check
def killed_under_load_no_call_fails_that_had_shown_nothing(home):
    home.load.write_text("0.3")
    home.seen = storm(home, 6)
    unanswered = [one for _, one in home.seen if not one.whole and not one.text]
    assert not unanswered, f"{len(unanswered)} of {len(home.seen)}: {unanswered[:3]}"


@check
def what_was_cut_says_so_and_never_looks_finished(home):
    cut = [one for stream, one in home.seen if stream and not one.whole]
    assert cut, "no answer was cut: the check has shown nothing"
    wrong = [one for one in cut if not one.said_so]
    assert not wrong, f"{len(wrong)} of {len(cut)}: {wrong[:3]}"


@check
def an_answer_that_is_not_streamed_survives_every_kill(home):
    seen = [one for stream, one in home.seen if not stream]
    assert len(seen) > 3, "hardly anything to look at"
    all_whole(seen)


@check
def the_kills_were_met_before_content_too(home):
    rows = [row for row in home.rows().values() if row["task"].startswith("storm")]
    ends = {row["error"] for row in rows if row["target"] == "local/demo"}
    assert {"stream_cut", "unavailable"} <= ends, ends


@check
def after_the_kills_traffic_comes_home(home):
    home.load.write_text("0")
    # A child that died six times in a row is started again after some seconds.
    home.come_home(40)


class Slowly:
    """Lets the engine work for a moment now and then, so that it can be met in the middle."""

    def __init__(self, home):
        self.engines, self.over = home.engines(), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def signal(self, number):
        for process in self.engines:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                pass

    def run(self):
        while not self.over.is_set():
            self.signal(signal.SIGSTOP)
            time.sleep(0.03)
            self.signal(signal.SIGCONT)
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.signal(signal.SIGCONT)


@check
def an_answer_that_broke_off_at_home_goes_on_elsewhere(home):
    end = "and so it goes on."
    for make in (chat, messages):
        for turn in range(5):
            home.come_home(40)
            task = f"goes-on-{make.__name__}-{turn}"
            asked = late(make, f"Tell me a story. [[say:{end}]]", "goes-on")
            with Slowly(home):
                seen = ask(home.server, asked, key=LATE, task=task, at_text=home.kill)
            assert seen.whole and seen.starts == 1, (seen, seen.starts)
            assert seen.target == "local/demo", seen
            rows = {row["target"]: row for row in home.rows(task).values()}
            if "rest/rest" in rows:
                break
            assert rows["local/demo"]["error"] is None, "it broke off, and nobody went on"
        assert rows["local/demo"]["error"] == "stream_cut", rows
        assert rows["rest/rest"]["notes"] == {"continued": True}, rows
        (line,) = home.rest.requests(rows["rest/rest"]["call"])
        body = json.loads(line["body"])
        told = body["messages"][-1]
        assert told["role"] == "assistant" and told["content"], body
        assert body["continue_final_message"] is True, body
        assert body["add_generation_prompt"] is False, body
        # What was read at home, of which the blanks at its end were not told, and the rest.
        between = seen.text.removeprefix(told["content"]).removesuffix(end)
        assert told["content"] + between + end == seen.text and not between.strip(), (seen.text, body)
        assert "holdfast-attempts=2" in seen.comments[-1], seen.comments
        usage, row = line["usage"], rows["rest/rest"]
        cost = usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT
        assert Decimal(row["cost"]) == cost and Decimal(row["unreconciled"]) == 0, row
        assert Decimal(rows["local/demo"]["unreconciled"]) == 0, rows


@check
def an_engine_that_cannot_start_costs_nobody_time(home):
    home.broken.touch()
    home.kill()
    seen = home.at_once(6, chat, task="dead")
    all_whole(seen)
    assert targets(seen)["cloud/big"] == 6, targets(seen)


@check
def a_sessions_step_overflows_too(home):
    body = {"model": "route/home", "input": "[[say:Here I am.]]", "max_output_tokens": 50}
    headers = {"holdfast-task": "session"}
    status, _, answer = home.server.http("POST", "/v1/responses", body, KEY, headers)
    answer = json.loads(answer)
    assert status == 200 and answer["status"] == "completed", answer
    assert answer["output"][0]["content"][0]["text"] == "Here I am.", answer
    rows = list(home.rows("session").values())
    assert [row["target"] for row in rows if row["error"] is None] == ["cloud/big"], rows
    assert len({row["call"] for row in rows}) == 1, rows


@check
def once_it_can_start_again_traffic_comes_home(home):
    home.broken.unlink()
    home.come_home(40)


def late(make, text, route="late"):
    """The same request, of another route and with other words."""

    def made(stream, items):
        path, body = make(stream, items)
        said = [{"role": "user", "content": text}]
        return path, {**body, "model": f"route/{route}", "messages": said, "max_tokens": 50}

    return made


@check
def a_stream_whose_head_is_held_shows_that_it_lives(home):
    for make in (chat, messages):
        seen = ask(home.server, late(make, "[[prefill_ms=900]] Hello!"), key=LATE, task="late")
        assert seen.whole and "Hello" in seen.text, seen
        assert seen.target is None and seen.headers["holdfast-call-id"], seen.headers
        assert seen.before >= 3, seen.comments
        assert seen.comments[seen.before - 1] == "holdfast-model=slow/one", seen.comments
        assert set(seen.comments[: seen.before - 1]) == {"waiting for the model"}, seen.comments
        assert "holdfast-attempts=1" in seen.comments[-1], seen.comments


@check
def a_quick_answer_has_its_head_as_ever(home):
    for make in (chat, messages):
        seen = ask(home.server, late(make, "Hello!", "not-late"), key=LATE, task="quick")
        assert seen.whole and seen.target == "slow/one" and seen.before == 0, seen


@check
def what_fails_behind_an_early_head_is_an_error_of_the_format(home):
    text = "[[prefill_ms=700]] [[fault:cut_after=0]] Hello!"
    for make in (chat, messages):
        seen = ask(home.server, late(make, text), key=LATE, task="late-failed")
        assert seen.status == 200 and seen.error and not seen.ends and not seen.text, seen
    rows = home.rows("late-failed").values()
    asked = sorted((row["target"], row["error"]) for row in rows)
    assert {target for target, _ in asked} == {"slow/one", "slow/two"}, asked


@check
def what_fails_at_once_is_a_status_as_ever(home):
    for make in (chat, messages):
        made = late(make, "[[fault:status=400]] Hello!", "not-late")
        seen = ask(home.server, made, key=LATE, task="refused")
        assert seen.status == 400 and seen.error, seen


@check
def a_second_attempt_answers_for_a_slow_first(home):
    home.come_home()
    for make in (chat, messages):
        seen = ask(home.server, late(make, "[[prefill_ms=3000]] Hello!", "hedged"), key=LATE, task="hedged")
        assert seen.whole and seen.target == "local/demo" and seen.seconds < 3, (seen, seen.seconds)
    rows = list(home.rows("hedged").values())
    first = [row for row in rows if row["target"] == "slow/one"]
    assert len(first) == 2 and len(rows) == 4, rows
    for row in first:
        assert row["error"] == "cancelled" and Decimal(row["unreconciled"]) > 0, row
        assert row["notes"] == {"hedge": "first"}, row
    mine = {row["attempt"] for row in first}

    def ended():
        return [line for line in home.slow.requests() if line["attempt_id"] in mine]

    eventually("the provider saw both end", lambda: len(ended()) == len(mine))
    assert not any(line["finished"] for line in ended()), "it was not closed"


@check
def a_quick_first_has_no_second(home):
    seen = ask(home.server, late(chat, "Hello!", "not-hedged"), key=LATE, task="hedge-quick")
    assert seen.whole and seen.target == "slow/one", seen
    assert len(home.rows("hedge-quick")) == 1


@check
def each_request_of_the_cloud_is_one_row_at_its_price(home):
    rows = {a: row for a, row in home.rows().items() if row["target"] == "cloud/big"}
    lines = {line["attempt_id"]: line for line in home.cloud.requests()}
    assert rows.keys() == lines.keys(), rows.keys() ^ lines.keys()
    assert len(lines) > 20, "hardly anything to compare"
    for attempt, line in lines.items():
        usage, row = line["usage"], rows[attempt]
        assert line["finished"], f"nobody left an answer of the cloud: {line}"
        cost = usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT
        assert Decimal(row["cost"]) == cost and row["error"] is None, f"{row}, {line}"


@check
def the_budgets_have_settled_just_that(home):
    eventually("nothing is reserved", lambda: all(
        Decimal(budget["reserved_usd"]) == 0 for budget in budgets(home)))
    rows = home.rows().values()
    for limit in (POOR_LIMIT, Decimal(100), LATE_LIMIT):
        key = budget_of(home, limit)["scope"]["key"]
        _, keys = home.server.api("GET", "keys")
        (ident,) = [found["id"] for found in keys["data"] if found["name"] == key]
        own = [row for row in rows if row["key"] == ident]
        cost, unknown = (sum(Decimal(row[name]) for row in own) for name in ("cost", "unreconciled"))
        budget = budget_of(home, limit)
        told = [Decimal(budget[f"{name}_usd"]) for name in ("settled", "unreconciled", "presumed")]
        assert told == [cost, unknown, 0], f"{budget}, {cost}, {unknown}"
        assert unknown == 0 or limit == LATE_LIMIT, "something of the cloud was given up"
        assert cost + unknown <= limit, budget


def budgets(home):
    return home.server.api("GET", "budgets")[1]["data"]


def budget_of(home, limit):
    (found,) = [budget for budget in budgets(home) if Decimal(budget["limit_usd"]) == limit]
    return found


@check
def it_ends_cleanly_and_leaves_no_engine(home):
    engines = home.engines()
    assert home.server.stop(), "SIGTERM did not end it"
    assert engines and not processes.alive(engines), "an engine was left behind"
    log = home.server.output.read_text(errors="replace")
    assert "panicked" not in log, log[log.index("panicked") :][:500]


if __name__ == "__main__":
    sys.exit(running.main(CHECKS, sys.argv[1:], Home))
