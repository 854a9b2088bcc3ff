"""The suite `limits`: a provider with real limits, asked by many loops, through us and directly.

suite.py [--long] [NAME …]     only the checks whose name contains one of the NAMEs

Judged by what the provider counted and by what each client saw. `Herd` runs 64 loops in three
processes; each check that needs one says which model, and so which limit, it is about.
"""

import json
import pathlib
import secrets
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import running  # noqa: E402
from harness import Asked, Server, eventually  # noqa: E402
from provider import Limit, LimitedProvider  # noqa: E402

LOOPS, PROCESSES, SECONDS = 64, 3, 4
KEYS = ["sk-limits-one-" + secrets.token_hex(8), "sk-limits-two-" + secrets.token_hex(8)]
MEMBER = "hf_limits_member_" + secrets.token_hex(8)
# What is learned is learned from the first answers.
LEARNED = 1.5

LIMITS = {
    "herd": Limit(rate=40, burst=20),
    "claude": Limit(style="anthropic", rate=40, burst=20),
    "windowed": Limit(window=2.0, burst=40),
    "silent": Limit(style="none", at_once=4, seconds=0.05),
    "classes": Limit(rate=12, burst=4),
    "users": Limit(rate=20, burst=4),
    "used-up": Limit(window=60.0, burst=1),
    "routed": Limit(window=60.0, burst=1),
    "shut": Limit(retry_after=3600),
    "aborted": Limit(window=4.0, burst=10),
    "both": Limit(rate=10, burst=5),
    "free": Limit(seconds=0.005),
    "spare": Limit(),
    "cached": Limit(),
    "cached-too": Limit(),
    "claude-cached": Limit(),
    "revoked": Limit(),
    **{f"blocks-{number}": Limit(seconds=0.005, cache="blocks") for number in range(2)},
    **{f"marks-{number}": Limit(style="anthropic", seconds=0.005, cache="marks") for number in range(2)},
}

CONFIG = """
[[keys]]
name = "member"
secret = "{member}"

[[providers]]
name = "one"
vendor = "openai-compatible"
base_url = "{url}/v1"
api_key = "{first}"

[[providers]]
name = "claude"
vendor = "anthropic"
base_url = "{url}/v1"
api_key = "{first}"

[[providers]]
name = "two"
vendor = "openai-compatible"
base_url = "{url}/v1"
api_keys = ["{first}", "{second}"]

[[providers]]
name = "claudes"
vendor = "anthropic"
base_url = "{url}/v1"
api_keys = ["{first}", "{second}"]

[[routes]]
name = "blocks"
sticky = "session"
targets = [{{ model = "two/blocks-0", weight = 1 }}, {{ model = "two/blocks-1", weight = 1 }}]

[[routes]]
name = "marks"
sticky = "session"
targets = [{{ model = "claudes/marks-0", weight = 1 }}, {{ model = "claudes/marks-1", weight = 1 }}]

[[routes]]
name = "fastest"
sticky = "session"
order = "latency"
targets = ["two/cached", "two/cached-too"]

[[routes]]
name = "either"
targets = ["one/routed", "one/spare"]
wait_max = "300ms"
"""

# All of them in order, and those that a busy machine can't fail.
CHECKS, QUICK = [], []


def check(function):
    CHECKS.append(function)
    QUICK.append(function)
    return function


def long_check(function):
    """One that counts what fits into a time: a busy machine fails it, so CI does without."""
    CHECKS.append(function)
    return function


class Seen:
    """What the loops of one herd saw."""

    def __init__(self, lines, began, ended):
        self.lines, self.began, self.ended = lines, began, ended

    def well(self, having=""):
        return [
            one for one in self.lines if one["status"] == 200 and having in one["loop"]
        ]

    def by_loop(self, having=""):
        counts = Counter(one["loop"] for one in self.well(having))
        return [counts[loop] for loop in sorted({one["loop"] for one in self.lines}) if having in loop]

    def mean_wait(self, having):
        took = [one["took"] for one in self.well(having)]
        assert took, f"no answer for {having}"
        return sum(took) / len(took)


class Suite:
    def __init__(self, world):
        self.provider = LimitedProvider(LIMITS)
        config = CONFIG.format(
            url=self.provider.url, first=KEYS[0], second=KEYS[1], member=MEMBER
        )
        self.server = world.start(Server, config)
        self.herds = {}

    def post(self, model, headers=None, path="/v1/chat/completions", messages=None, key=MEMBER):
        """(status, headers, JSON, seconds)"""
        body = {"model": model, "max_tokens": 16}
        body["messages"] = messages or [{"role": "user", "content": "go on"}]
        began = time.monotonic()
        status, told, data = self.server.http("POST", path, body, key, headers)
        return status, told, json.loads(data), time.monotonic() - began

    def herd(self, model, through="one", **options):
        """What 64 loops saw, of this model through us or directly; run once."""
        place = (model, through)
        if place not in self.herds:
            self.herds[place] = self.run_herd(model, through, **options)
        return self.herds[place]

    def run_herd(self, model, through, path="/v1/chat/completions", loops=None, thinks=0.0, seconds=SECONDS):
        direct = through == "direct"
        # What the provider keeps of a key is not shared with who asks it directly.
        plan = {
            "url": self.provider.url if direct else self.server.url,
            "path": path,
            "key": "direct-" + secrets.token_hex(4) if direct else MEMBER,
            "model": model if direct else f"{through}/{model}",
            "seconds": seconds,
            "thinks": thinks,
        }
        loops = loops or [
            {"name": f"loop-{number}", "headers": {"holdfast-session": f"{model}-{number}"}}
            for number in range(LOOPS)
        ]
        children = [
            subprocess.Popen(
                [sys.executable, HERE / "loops.py", json.dumps({**plan, "loops": loops[part::PROCESSES]})],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for part in range(PROCESSES)
        ]
        lines = []
        for child in children:
            output, problems = child.communicate(timeout=60)
            assert child.returncode == 0, problems
            lines += [json.loads(line) for line in output.splitlines()]
        # Processes take their time to start.
        return Seen(lines, min(line["at"] for line in lines), time.monotonic())

    def limits(self, provider, model=None):
        status, page = self.server.api("GET", "limits")
        assert status == 200, page
        (found,) = [one for one in page["data"] if one["provider"] == provider]
        if model is None:
            return found["keys"]
        models = [one for key in found["keys"] for one in key["models"]]
        return [one for one in models if one["model"] == model]

    def refused_later(self, model, seen):
        """429s that the provider had to answer once limits could be known."""
        return self.provider.refused(model, seen.began + LEARNED, seen.ended)


# A herd at one key's bucket.


@check
def a_herd_is_refused_often_without_coordination(s):
    seen = s.herd("herd", "direct")
    assert s.refused_later("herd", seen) > 50, "the check itself: hardly a 429 without us"


@long_check
def a_herd_through_us_is_hardly_refused(s):
    seen = s.herd("herd")
    refused, directly = s.refused_later("herd", seen), s.refused_later("herd", s.herd("herd", "direct"))
    asked = len(s.provider.requests("herd", after=seen.began + LEARNED))
    assert refused <= max(2, asked // 50), f"{refused} of {asked} were refused, {directly} directly"


@long_check
def a_herd_uses_what_there_is(s):
    seen = s.herd("herd")
    most = LIMITS["herd"].rate * SECONDS + LIMITS["herd"].burst
    assert len(seen.well()) >= 0.7 * most, f"{len(seen.well())} of {most}"


@check
def every_loop_of_a_herd_makes_progress(s):
    counts = s.herd("herd").by_loop()
    assert len(counts) == LOOPS and min(counts) >= 1, counts


@check
def no_loop_of_a_herd_gets_much_more_than_another(s):
    counts = s.herd("herd").by_loop()
    assert max(counts) <= 3 * min(counts), counts


@long_check
def nobody_waits_longer_than_allowed(s):
    slowest = max(one["took"] for one in s.herd("herd").lines)
    assert slowest < 5.5, f"{slowest:.1f} s"


@check
def anthropics_headers_are_learned_too(s):
    status, _, answer, _ = s.post("claude/claude", path="/v1/messages")
    assert status == 200, answer
    (known,) = s.limits("claude", "claude")
    (told,) = [limit for limit in known["limits"] if limit["kind"] == "anthropic_requests"]
    assert told["limit"] == LIMITS["claude"].burst, told


@long_check
def a_herd_is_hardly_refused_by_anthropics_headers_either(s):
    seen = s.herd("claude", "claude", path="/v1/messages", seconds=4)
    refused = s.refused_later("claude", seen)
    asked = len(s.provider.requests("claude", after=seen.began + LEARNED))
    assert refused <= max(2, asked // 50) and len(seen.well()) > 80, (refused, len(seen.well()))
    counts = seen.by_loop()
    assert min(counts) >= 1, counts


@long_check
def windows_that_fill_at_once_are_kept_to(s):
    seen = s.herd("windowed", seconds=5)
    refused = s.refused_later("windowed", seen)
    asked = len(s.provider.requests("windowed", after=seen.began + LEARNED))
    # At the edges of windows, clocks differ by a moment.
    assert refused <= max(6, asked // 8) and len(seen.well()) >= 70, (refused, len(seen.well()))


@long_check
def a_silent_provider_is_found_out(s):
    direct = s.herd("silent", "direct", seconds=2)
    directly = s.refused_later("silent", direct)
    seen = s.herd("silent", seconds=5)
    refused = s.refused_later("silent", seen)
    asked = len(s.provider.requests("silent", after=seen.began + LEARNED))
    assert directly > 50 and refused < 0.25 * asked, (directly, refused, asked)
    assert len(seen.well()) > 60, len(seen.well())


# Who goes first.


def of_class(name, count):
    headers = {"holdfast-class": name}
    return [
        {"name": f"{name}-{number}", "headers": {**headers, "holdfast-session": f"{name}-{number}"}}
        for number in range(count)
    ]


@check
def interactive_calls_go_ahead_of_background(s):
    loops = of_class("background", 20) + of_class("interactive", 4)
    seen = s.herd("classes", loops=loops, thinks=0.3)
    urgent, patient = seen.mean_wait("interactive"), seen.mean_wait("background")
    assert urgent < patient / 2, (urgent, patient)


@long_check
def an_interactive_call_hardly_waits(s):
    assert s.herd("classes").mean_wait("interactive") < 0.8


@check
def background_calls_get_what_is_left(s):
    seen = s.herd("classes")
    # More than what the bucket had before anyone waited.
    assert len(seen.well("background")) > LIMITS["classes"].burst, len(seen.well("background"))
    assert min(seen.by_loop("interactive")) >= 1, seen.by_loop("interactive")


@check
def a_user_with_many_calls_does_not_hold_up_one_with_few(s):
    many = [
        {"name": f"many-{number}", "headers": {"holdfast-session": "users-many"}}
        for number in range(40)
    ]
    few = [{"name": f"few-{number}", "headers": {"holdfast-session": f"few-{number}"}} for number in range(2)]
    seen = s.herd("users", loops=many + few)
    few, many = seen.mean_wait("few"), seen.mean_wait("many")
    assert few < many / 2, (few, many)


@long_check
def who_asks_little_hardly_waits(s):
    assert s.herd("users").mean_wait("few") < 0.5, s.herd("users").mean_wait("few")


# What can't be had in time.


@check
def a_wait_that_is_too_long_fails_at_once_and_says_how_long(s):
    assert s.post("one/used-up")[0] == 200
    status, told, body, took = s.post("one/used-up")
    # The provider said a minute; a Call may wait for five seconds.
    assert status == 429 and took < 4, (status, took)
    assert 30 < float(told["retry-after"]) <= 60, told["retry-after"]
    assert body["error"]["code"] == "rate_limited" or "limits" in body["error"]["message"], body


@check
def the_provider_is_not_asked_what_is_known(s):
    before = len(s.provider.requests("used-up"))
    for _ in range(5):
        assert s.post("one/used-up")[0] == 429
    assert len(s.provider.requests("used-up")) == before == 1, "it was asked all the same"


@check
def what_was_not_sent_is_in_the_ledger_and_free(s):
    s.post("one/used-up")
    _, page = s.server.api("GET", "calls?limit=200")
    rows = [row for row in page["data"] if row["target"] == "one/used-up" and row["error"]]
    assert rows and all(row["notes"]["sent"] is False for row in rows), rows[:1]
    assert all(row["cost"] == "0.00" and row["unreconciled"] == "0.00" for row in rows)


@check
def a_route_goes_on_to_its_next_target(s):
    answers = [s.post("route/either") for _ in range(6)]
    assert [one[0] for one in answers] == [200] * 6, [one[0] for one in answers]
    assert len(s.provider.requests("routed")) == 1 and len(s.provider.requests("spare")) == 5


@check
def a_429_on_one_model_slows_no_other(s):
    assert s.post("one/shut")[0] == 429
    assert s.post("one/shut")[0] == 429
    before = len(s.provider.requests("free"))
    # A Call that had to wait for `shut` would be refused.
    assert [s.post("one/free")[0] for _ in range(10)] == [200] * 10
    assert len(s.provider.requests("free")) == before + 10
    assert len(s.provider.requests("shut")) == 1, "a model that said so is not asked again"


@check
def clients_that_go_leave_the_queue(s):
    for _ in range(10):
        assert s.post("one/aborted")[0] == 200
    connections = [open_request(s.server, "one/aborted") for _ in range(10)]
    waiting = lambda: sum(one["waiting"] for one in s.limits("one", "aborted"))  # noqa: E731
    try:
        eventually("ten wait", lambda: waiting() == 10, LIMITS["aborted"].window)
    finally:
        for connection in connections:
            connection.close()
    eventually("nobody waits", lambda: waiting() == 0)
    in_flight = lambda: s.limits("one", "aborted")[0]["in_flight"]  # noqa: E731
    eventually("nothing is under way", lambda: in_flight() == 0)
    assert len(s.provider.requests("aborted")) == 10, "one that had gone was sent"


def open_request(server: Asked, model):
    import socket

    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MEMBER}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


# Several keys.


@check
def two_keys_have_twice_as_much(s):
    s.herd("both", "two", seconds=5)
    used = Counter(one.key for one in s.provider.requests("both") if one.status == 200)
    assert set(used) == set(KEYS) and min(used.values()) > 0.3 * sum(used.values()), used.values()


@long_check
def so_a_herd_gets_more_than_of_one(s):
    seen = s.herd("both", "two", seconds=5)
    assert len(seen.well()) >= 70, f"one key alone has 55: {len(seen.well())}"


@check
def a_session_stays_with_its_key(s):
    keys = {}
    for number in range(8):
        for _ in range(3):
            before = len(s.provider.requests("free"))
            status, *_ = s.post("two/free", {"holdfast-session": f"stays-{number}"})
            assert status == 200
            keys.setdefault(number, set()).add(s.provider.requests("free")[before].key)
    assert all(len(used) == 1 for used in keys.values()), "a session changed its key"
    assert len(set.union(*keys.values())) == 2, "all sessions have the same key"


SESSIONS, TURNS = 16, 6
READ = "fn größe(x: &str) -> usize {\n\tx.len() // \"日本語\" \U0001f980\n}\n" * 60


def history(session, anthropic):
    """The bodies of an agent's session that grows: each has all of the one before it."""
    rules = f"Session {session}. " + "Work with care, and run the tests. " * 200
    messages = [{"role": "user", "content": "rename größe everywhere"}]
    for turn in range(TURNS):
        # What only this session says comes first, so that no other reads what it wrote.
        body = {"max_tokens": 16, "system": rules, "messages": messages}
        if anthropic:
            mark = {"cache_control": {"type": "ephemeral"}}
            body["system"] = [{"type": "text", "text": rules, **mark}]
            last = messages[-1]["content"]
            blocks = [{"type": "text", "text": last}] if isinstance(last, str) else last
            marked = {**messages[-1], "content": [*blocks[:-1], {**blocks[-1], **mark}]}
            # As agents do: the mark is on what is new, and no longer on what was.
            messages[-1] = {**messages[-1], "content": blocks}
            body["messages"] = [*messages[:-1], marked]
        else:
            body["messages"] = [{"role": "system", "content": body.pop("system")}, *messages]
        yield body
        messages = [*messages, *step(turn, anthropic)]


def step(turn, anthropic):
    """A call of a tool and its result."""
    name, call = "read_file", f"call_{turn}"
    asked, result = {"path": f"größe-{turn}.rs"}, f"{turn}\n{READ}"
    if anthropic:
        use = {"type": "tool_use", "id": call, "name": name, "input": asked}
        answer = {"type": "tool_result", "tool_use_id": call, "content": result}
        return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [answer]}]
    function = {"name": name, "arguments": json.dumps(asked)}
    calls = [{"id": call, "type": "function", "function": function}]
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": call, "content": result},
    ]


def cache_counts(usage):
    """What an answer says was read from the prompt cache, and written to it."""
    if "prompt_tokens_details" in usage:
        return usage["prompt_tokens_details"]["cached_tokens"], 0
    return usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]


def sessions_at_once(ask, anthropic):
    """The counts of each turn of each session; the sessions run beside each other."""

    def run(session):
        return [cache_counts(ask(session, body)) for body in history(session, anthropic)]

    with ThreadPoolExecutor(SESSIONS) as pool:
        return list(pool.map(run, range(SESSIONS)))


def agents_read_as_often(s, kind, path):
    anthropic = kind == "marks"

    def through_us(session, body):
        headers = {"holdfast-session": f"{kind}-{session}"}
        body = {"model": f"route/{kind}", **body}
        status, _, data = s.server.http("POST", path, body, MEMBER, headers)
        assert status == 200, data[:300]
        return json.loads(data)["usage"]

    def directly(session, body):
        # Each session keeps to a key and a model, as a careful client would.
        headers = {"x-api-key": f"direct-{session % 2}"}
        body = {"model": f"{kind}-{session // 2 % 2}", **body}
        status, _, data = Asked(s.provider.url, "").http("POST", path, body, headers=headers)
        assert status == 200, data[:300]
        return json.loads(data)["usage"]

    before = time.monotonic()
    through = sessions_at_once(through_us, anthropic)
    asked = [one for number in range(2) for one in s.provider.requests(f"{kind}-{number}", before)]
    assert {one.key for one in asked} == set(KEYS) and len({one.model for one in asked}) == 2
    direct = sessions_at_once(directly, anthropic)
    assert through == direct, (through, direct)
    # From the second turn on, all but what is new is read.
    assert all(read > 0 for turns in through for read, _ in turns[1:]), through


@check
def agents_at_once_read_the_prompt_cache_as_directly(s):
    agents_read_as_often(s, "blocks", "/v1/chat/completions")


@check
def so_do_agents_that_mark_what_is_to_be_kept(s):
    agents_read_as_often(s, "marks", "/v1/messages")


@check
def the_ledger_says_which_key_it_was(s):
    s.post("two/free", {"holdfast-session": "noted", "holdfast-task": "noted-task"})
    key = s.provider.requests("free")[-1].key
    _, page = s.server.api("GET", "calls?limit=50")
    (row,) = [row for row in page["data"] if row["task"] == "noted-task"]
    assert row["notes"]["key"] == KEYS.index(key) + 1, row["notes"]


@check
def nobody_notices_that_a_key_is_revoked(s):
    loops = [
        {"name": f"loop-{number}", "headers": {"holdfast-session": f"revoked-{number}"}}
        for number in range(16)
    ]
    well = lambda: [one for one in s.provider.requests("revoked") if one.status == 200]  # noqa: E731
    with ThreadPoolExecutor(1) as pool:
        herd = pool.submit(s.herd, "revoked", "two", loops=loops, thinks=0.02, seconds=6)
        eventually("both keys are used", lambda: {one.key for one in well()} == set(KEYS))
        s.provider.state.revoked.add(KEYS[0])
        before = len(well())
        seen = herd.result()
    failed = [one for one in seen.lines if one["status"] != 200]
    assert not failed and len(well()) > before, (failed[:3], len(well()), before)
    refused = [one for one in s.provider.requests("revoked") if one.status == 401]
    # Those that were on their way together.
    assert 1 <= len(refused) <= 16, len(refused)


@check
def the_state_of_keys_is_shown_and_no_secret(s):
    s.provider.state.revoked.add(KEYS[0])
    for number in range(8):
        assert s.post("two/free", {"holdfast-session": f"shown-{number}"})[0] == 200
    first, second = s.limits("two")
    assert (first["key"], second["key"]) == (1, 2)
    assert first["state"] == "refused" and first["refused_for_us"] > 0, first
    assert second["state"] == "well", second
    _, _, data = s.server.http("GET", "/api/limits", key=s.server.admin_key)
    assert not any(key.encode() in data for key in KEYS)


@check
def what_was_learned_is_shown_to_administrators_alone(s):
    s.herd("herd")
    (known,) = s.limits("one", "herd")
    (told,) = [limit for limit in known["limits"] if limit["kind"] == "requests"]
    assert told["limit"] == LIMITS["herd"].burst and told["left"] <= told["limit"], told
    assert s.server.api("GET", "limits", key=MEMBER)[0] == 403


@check
def keys_are_in_no_answer_and_no_log(s):
    s.provider.state.revoked.update(KEYS)
    try:
        status, told, body, _ = s.post("two/free", {"holdfast-session": "leaks"})
    finally:
        s.provider.state.revoked.discard(KEYS[1])
    assert status >= 400, status
    log = s.server.output.read_text(errors="replace")
    for key in KEYS:
        assert key not in json.dumps(body) and key not in str(told) and key not in log


# Prompt caches.


def conversation(session, turns):
    """The bodies' messages of a conversation that grows."""
    messages = [{"role": "user", "content": f"session {session}: begin — café"}]
    for turn in range(turns):
        yield list(messages)
        messages.append({"role": "assistant", "content": "well said"})
        messages.append({"role": "user", "content": f"go on, {turn}"})


def cached_directly(s, provider_model, path):
    """The cached messages of eight conversations, each with a key of its own choice."""
    asked = Asked(s.provider.url, "")
    place, total = [f"direct-{number}" for number in range(2)], 0
    for session in range(8):
        for messages in conversation(session, 8):
            body = {"model": provider_model, "max_tokens": 16, "messages": messages}
            headers = {"x-api-key": place[session % 2]}
            _, _, data = asked.http("POST", path, body, headers=headers)
            usage = json.loads(data)["usage"]
            total += usage.get("cache_read_input_tokens") or usage.get(
                "prompt_tokens_details", {}
            ).get("cached_tokens", 0)
    return total


def cached_through_us(s, model, path):
    total = 0
    for session in range(8):
        name = {"holdfast-session": f"{model}-{path}-{session}"}
        for messages in conversation(session, 8):
            status, _, answer, _ = s.post(model, name, path, messages)
            assert status == 200, answer
            usage = answer["usage"]
            details = usage.get("prompt_tokens_details") or {}
            total += usage.get("cache_read_input_tokens") or details.get("cached_tokens") or 0
    return total


def with_both_keys(s):
    s.provider.state.revoked.clear()
    s.provider.state.prefixes.clear()


def as_often(s, model, path):
    """A model's prompt cache is read through us, at the door of this path, as often as directly."""
    own = "/v1/messages" if model.startswith("claude/") else "/v1/chat/completions"
    s.provider.state.revoked.clear()
    s.provider.state.prefixes.clear()
    through = cached_through_us(s, model, path)
    s.provider.state.prefixes.clear()
    directly = cached_directly(s, model.partition("/")[2], own)
    assert through == directly > 0, (model, path, through, directly)


@check
def the_prompt_cache_is_read_as_often_as_directly(s):
    as_often(s, "two/cached", "/v1/chat/completions")


@check
def so_it_is_with_anthropics_format(s):
    as_often(s, "claude/claude-cached", "/v1/messages")


@check
def a_session_reads_its_cache_though_another_target_is_faster_by_now(s):
    path = "/v1/chat/completions"
    with_both_keys(s)
    through = cached_through_us(s, "route/fastest", path)
    s.provider.state.prefixes.clear()
    directly = cached_directly(s, "cached", path)
    assert through == directly > 0, (through, directly)


@check
def translated_conversations_grow_by_what_is_new(s):
    as_often(s, "two/cached", "/v1/messages")
    as_often(s, "claude/claude-cached", "/v1/chat/completions")


# At the end.


@check
def nobody_waits_and_nothing_is_under_way_at_the_end(s):
    def all_ended():
        _, page = s.server.api("GET", "limits")
        keys = [key for one in page["data"] for key in one["keys"]]
        models = [model for key in keys for model in key["models"]]
        counts = [one["in_flight"] for one in keys + models] + [one["waiting"] for one in models]
        return not any(counts)

    eventually("nothing is under way", all_ended)


if __name__ == "__main__":
    long = sys.argv[1:2] == ["--long"]
    checks, names = (CHECKS, sys.argv[2:]) if long else (QUICK, sys.argv[1:])
    sys.exit(running.main(checks, names, Suite))
