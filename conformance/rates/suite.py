"""The suite `rates`: limits on what callers may do in a length of time, and at once.

suite.py [NAME …]     only the checks whose name contains one of the NAMEs

Every check has a key of its own, and limits on that key, so that checks don't meet. Judged by what the
provider counted, by what came over the wire, and by what unmodified SDKs made of it.
"""

import json
import pathlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import anthropic  # noqa: E402
import openai  # noqa: E402

import running  # noqa: E402
from harness import DEMO, Server, eventually  # noqa: E402
from provider import CountingProvider  # noqa: E402
from running import equal, raises  # noqa: E402

HEAD = """
[[providers]]
name = "p"
vendor = "openai-compatible"
base_url = "{url}/v1"
api_key = "key-of-the-provider"
models = [
  {{ id = "m", input_usd_per_million = "1", output_usd_per_million = "10" }},
  {{ id = "other", free = true }},
  {{ id = "unpriced" }},
]

[[providers]]
name = "claude"
vendor = "anthropic"
base_url = "{url}/v1"
api_key = "key-of-the-provider"
models = [{{ id = "m", input_usd_per_million = "1", output_usd_per_million = "10" }}]

[[mcp_servers]]
name = "notes"
command = ["{python}", "{demo}/notes_server.py"]
keys = ["a_turn_that_has_begun_waits_for_its_next_step"]
tools = {{ find_note = {{ effect = "read" }} }}

[[routes]]
name = "cheap"
targets = ["p/m"]
attempts = 1
"""

CHECKS = []
# The limits of each check: TOML, in which {key} is the name of its key.
LIMITS = {}


def check(*limits):
    def register(function):
        LIMITS[function.__name__] = limits
        CHECKS.append(function)
        return function

    return register


def secret_of(key):
    return f"hf_rates_{key}_0123456789"


class Suite:
    """What all checks share; `s.of(check)` is one check's own key."""

    def __init__(self, world):
        self.provider = world.double(CountingProvider())
        head = {"url": self.provider.url, "python": sys.executable, "demo": DEMO}
        parts = [HEAD.format(**head)]
        for name, limits in LIMITS.items():
            parts += [
                f'[[keys]]\nname = "{key}"\nsecret = "{secret_of(key)}"\nuser = "{name}"\n'
                for key in (name, name + "-two")
            ]
            parts += [
                f'[[rate_limits]]\nname = "{name}-{number}"\n' + limit.replace("{key}", name)
                for number, limit in enumerate(limits)
            ]
        self.config = "\n".join(parts)
        self.server = world.start(Server, self.config)

    def ask(self, mark, words="", key=None, model="p/m", headers=None, **fields):
        """(status, headers, JSON) of a chat completion with the check's key."""
        body = {
            "model": model,
            "max_tokens": 10,
            "messages": [{"role": "user", "content": f"[[mark={mark}]]{words}"}],
            **fields,
        }
        return self.post("/v1/chat/completions", mark, body, key, headers)

    def post(self, path, mark, body, key=None, headers=None):
        status, told, data = self.server.http("POST", path, body, secret_of(key or mark), headers)
        return status, told, json.loads(data) if data[:1] in b"{[" else data

    def many(self, count, ask):
        """The answers of so many at once."""
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(ask, range(count)))

    def status(self, name):
        status, page = self.server.api("GET", "rate-limits")
        assert status == 200, page
        return next(one for one in page["data"] if one["name"] == name)

    def metric(self, series):
        status, _, text = self.server.http("GET", "/metrics", key=self.server.admin_key)
        lines = [line for line in text.decode().splitlines() if line.startswith(series + " ")]
        return float(lines[0].split()[-1]) if lines else 0.0


def well(answers):
    return [one for one in answers if one[0] == 200]


def refused(answers):
    return [one for one in answers if one[0] == 429]


# How much is admitted.


@check('scope = { key = "{key}" }\nrequests = 10\nper = "1h"')
def at_most_ten_of_256_requests(s):
    mark = "at_most_ten_of_256_requests"
    answers = s.many(256, lambda _: s.ask(mark))
    equal((len(well(answers)), len(refused(answers))), (10, 246))
    equal(len(s.provider.of(mark)), 10, "what the provider was asked")


@check('scope = { key = "{key}" }\ntokens = 2000\nper = "1h"')
def tokens_are_never_over_while_256_ask(s):
    mark = "tokens_are_never_over_while_256_ask"
    answers = s.many(256, lambda _: s.ask(mark, "[[tokens=30,10]][[seconds=0.05]]"))
    used = sum(sum(one.usage) for one in s.provider.of(mark))
    assert 0 < used <= 2000, used
    assert all(one[0] in (200, 429) for one in answers), {one[0] for one in answers}
    # What was not used came back: as many are admitted as their usage has room for.
    while s.ask(mark, "[[tokens=30,10]]")[0] == 200:
        pass
    used = sum(sum(one.usage) for one in s.provider.of(mark))
    bound = 2000 - used
    assert 0 <= bound < 600, f"{used} of 2000 used, and no more is admitted"


@check('scope = { key = "{key}" }\ncost_usd = "0.005"\nper = "1h"')
def cost_is_never_over_while_64_ask(s):
    mark = "cost_is_never_over_while_64_ask"
    s.many(64, lambda _: s.ask(mark, "[[tokens=100,10]]"))
    while s.ask(mark, "[[tokens=100,10]]")[0] == 200:
        pass
    cost = sum(one.usage[0] + 10 * one.usage[1] for one in s.provider.of(mark))
    assert 3000 < cost <= 5000, f"{cost} millionths of a dollar"


@check('scope = { key = "{key}" }\ncost_usd = "1"\nper = "1h"')
def a_model_without_a_price_is_refused_under_a_limit_on_cost(s):
    mark = "a_model_without_a_price_is_refused_under_a_limit_on_cost"
    status, _, answer = s.ask(mark, model="p/unpriced")
    equal((status, answer["error"]["holdfast"]["code"]), (400, "price_unknown"))
    equal(s.ask(mark, model="p/other")[0], 200)


@check('scope = { key = "{key}" }\noutput_tokens = 100000\nper = "1h"')
def unknown_usage_stays_held(s):
    mark = "unknown_usage_stays_held"
    equal(s.ask(mark, "[[mute]]", max_tokens=1000)[0], 200)
    (amount,) = s.status(mark + "-0")["amounts"]
    equal(amount["used"], "1000")
    equal(s.ask(mark, "[[tokens=5,5]]", max_tokens=1000)[0], 200)
    (amount,) = s.status(mark + "-0")["amounts"]
    equal(amount["used"], "1005")


@check('scope = { key = "{key}" }\ntokens = 20000\nper = "1h"')
def a_call_without_a_cap_gets_one_and_is_told(s):
    mark = "a_call_without_a_cap_gets_one_and_is_told"
    status, told, _ = s.ask(mark, max_tokens=None)
    equal(status, 200)
    cap = int(told["holdfast-output-cap"])
    equal(s.provider.of(mark)[0].cap, cap)
    assert 4096 <= cap < 20000, cap


@check('scope = { key = "{key}" }\ntokens = 500\nper = "1m"')
def what_can_never_be_admitted_is_not_tried_again(s):
    mark = "what_can_never_be_admitted_is_not_tried_again"
    client = openai.OpenAI(base_url=s.server.url + "/v1", api_key=secret_of(mark))
    ask = lambda: client.chat.completions.create(  # noqa: E731
        model="p/m", max_tokens=1000, messages=[{"role": "user", "content": "hello"}]
    )
    error = raises(openai.APIStatusError, ask)
    equal(error.status_code, 413)
    assert "send less" in str(error), error
    equal(s.status(mark + "-0")["refused"], 1, "tries")


# How windows move.


@check('scope = { key = "{key}" }\nrequests = 4\nper = "2s"')
def a_sliding_window_holds_for_any_stretch_of_its_length(s):
    mark = "a_sliding_window_holds_for_any_stretch_of_its_length"
    began, ask = time.monotonic(), lambda _: s.ask(mark)
    while time.monotonic() - began < 6:
        s.many(3, ask)
        time.sleep(0.05)
    at = sorted(one.at for one in s.provider.of(mark))
    # The provider sees what was admitted a moment later, and not each as much later.
    for first in at:
        within = sum(first <= other < first + 1.9 for other in at)
        assert within <= 4, (within, [round(other - began, 3) for other in at])
    assert len(at) >= 9, f"{len(at)} in six seconds"


@check('scope = { key = "{key}" }\nrequests = 3\nper = "1s"\ntechnique = "fixed"')
def a_fixed_window_begins_with_its_first_call(s):
    mark = "a_fixed_window_begins_with_its_first_call"
    began = time.monotonic()
    equal([s.ask(mark)[0] for _ in range(4)], [200, 200, 200, 429])
    time.sleep(max(0, began + 1.1 - time.monotonic()))
    equal([s.ask(mark)[0] for _ in range(4)], [200, 200, 200, 429])


@check('scope = { key = "{key}" }\nrequests = 1\nper = "1s"')
def who_comes_back_when_told_is_admitted(s):
    mark = "who_comes_back_when_told_is_admitted"
    equal(s.ask(mark)[0], 200)
    status, told, answer = s.ask(mark)
    equal((status, told["retry-after"]), (429, "1"))
    assert "try again in" in answer["error"]["message"], answer
    time.sleep(int(told["retry-after-ms"]) / 1000)
    equal(s.ask(mark)[0], 200)


# Whose Calls.


@check('scope = { key = "{key}" }\neach = "session"\nrequests = 2\nper = "1h"')
def each_session_by_itself(s):
    mark = "each_session_by_itself"
    ask = lambda name: s.ask(mark, headers={"holdfast-session": name})[0]  # noqa: E731
    for name in ("a", "b"):
        equal([ask(name) for _ in range(3)], [200, 200, 429], name)
    equal([s.ask(mark)[0] for _ in range(3)], [200, 200, 429], "no session")
    equal(s.status(mark + "-0")["counted_apart"], 3)


@check('scope = { user = "{key}" }\nrequests = 3\nper = "1h"')
def the_keys_of_a_user_together(s):
    mark = "the_keys_of_a_user_together"
    keys = [mark, mark + "-two"] * 2
    equal([s.ask(mark, key=key)[0] for key in keys], [200, 200, 200, 429])


@check(
    'scope = { key = "{key}", class = "batch" }\nrequests = 1\nper = "1h"',
    'scope = { key = "{key}", model = "route/cheap" }\nrequests = 1\nper = "1h"',
)
def a_class_and_a_route_of_one_key(s):
    mark = "a_class_and_a_route_of_one_key"
    batch = {"holdfast-class": "batch"}
    equal([s.ask(mark, headers=batch)[0] for _ in range(2)], [200, 429])
    equal([s.ask(mark, model="route/cheap")[0] for _ in range(2)], [200, 429])
    equal([s.ask(mark)[0] for _ in range(3)], [200] * 3)
    equal(s.ask(mark, key=mark + "-two", headers=batch)[0], 200)


@check(
    'scope = { key = "{key}" }\nrequests = 50\nper = "1h"',
    'scope = { key = "{key}", class = "batch" }\nrequests = 2\nper = "1h"',
)
def all_limits_or_none(s):
    mark = "all_limits_or_none"
    s.many(40, lambda _: s.ask(mark, headers={"holdfast-class": "batch"}))
    (wide,) = s.status(mark + "-0")["amounts"]
    equal(wide["used"], "2")


# Every door.


@check('scope = { key = "{key}" }\nrequests = 7\nper = "1h"')
def every_door_counts(s):
    mark = "every_door_counts"
    said = f"[[mark={mark}]]"
    user = [{"role": "user", "content": said}]
    gemini = {"contents": [{"role": "user", "parts": [{"text": said}]}]}
    anthropics = {"anthropic-version": "2023-06-01"}
    messages = {"model": "claude/m", "max_tokens": 10, "messages": user}
    doors = [
        ("/v1/chat/completions", {"model": "p/m", "max_tokens": 10, "messages": user}, {}),
        ("/v1/messages", messages, anthropics),
        ("/v1/responses", {"model": "p/m", "input": said, "max_output_tokens": 10}, {}),
        ("/v1/responses", {"model": "p/m", "input": said, "store": False}, {}),
        ("/v1/embeddings", {"model": "p/m", "input": said}, {}),
        ("/v1beta/models/p%2Fm:generateContent", gemini, {}),
        ("/v1/messages/count_tokens", messages, anthropics),
    ]
    for number, (path, body, headers) in enumerate(doors):
        status, _, answer = s.post(path, mark, body, headers=headers)
        equal(status, 200, f"{path} {answer}")
        (amount,) = s.status(mark + "-0")["amounts"]
        equal(amount["used"], str(number + 1), path)
    for path, body, headers in [*doors, ("/v1/messages/count_tokens", {**messages, "model": "p/m"}, anthropics)]:
        status, told, answer = s.post(path, mark, body, headers=headers)
        equal(status, 429, f"{path} {answer}")
        assert int(told["retry-after"]) > 3000, (path, told["retry-after"])
        assert "x-should-retry" not in told, path
    equal(len(s.provider.of(mark)), 7)


@check('scope = { key = "{key}" }\nrequests = 1\nper = "1h"')
def each_door_says_it_in_its_own_words(s):
    mark = "each_door_says_it_in_its_own_words"
    equal(s.ask(mark)[0], 200)
    _, _, openais = s.ask(mark)
    equal(openais["error"]["code"], "rate_limit_exceeded")
    body = {"model": "claude/m", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}]}
    _, _, anthropics = s.post("/v1/messages", mark, body)
    equal((anthropics["type"], anthropics["error"]["type"]), ("error", "rate_limit_error"))
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    _, _, geminis = s.post("/v1beta/models/p%2Fm:generateContent", mark, body)
    equal(geminis["error"]["status"], "RESOURCE_EXHAUSTED")
    info = [one for one in geminis["error"]["details"] if one["@type"].endswith("RetryInfo")]
    assert float(info[0]["retryDelay"].removesuffix("s")) > 3000, info
    path = "/client/v4/accounts/default/ai/run/p/m"
    status, _, cloudflares = s.post(path, mark, {"prompt": "x"})
    equal((status, cloudflares["success"], cloudflares["errors"][0]["code"]), (429, False, 3040))


# Headers.


@check('scope = { key = "{key}" }\nrequests = 60\ntokens = 100000\nper = "1m"')
def openais_headers_say_what_is_left(s):
    mark = "openais_headers_say_what_is_left"
    status, told, _ = s.ask(mark, max_tokens=100)
    equal(status, 200)
    found = {name: told[f"x-ratelimit-{name}"] for name in ("limit-requests", "remaining-requests", "limit-tokens")}
    equal(found, {"limit-requests": "60", "remaining-requests": "59", "limit-tokens": "100000"})
    assert 0 < int(told["x-ratelimit-remaining-tokens"]) <= 100_000
    assert told["x-ratelimit-reset-requests"].endswith("s")
    # A provider's own are not among them.
    equal(told.get_all("x-ratelimit-limit-requests"), ["60"])


@check('scope = { key = "{key}" }\nrequests = 60\ninput_tokens = 50000\noutput_tokens = 20000\nper = "1m"')
def anthropics_headers_say_what_is_left(s):
    mark = "anthropics_headers_say_what_is_left"
    client = anthropic.Anthropic(base_url=s.server.url, api_key=secret_of(mark))
    raw = client.messages.with_raw_response.create(
        model="claude/m", max_tokens=10, messages=[{"role": "user", "content": f"[[mark={mark}]]"}]
    )
    for kind, limit in (("requests", 60), ("input-tokens", 50_000), ("output-tokens", 20_000)):
        equal(raw.headers[f"anthropic-ratelimit-{kind}-limit"], str(limit), kind)
        remaining = int(raw.headers[f"anthropic-ratelimit-{kind}-remaining"])
        assert 0 < remaining <= limit and remaining != 4710, (kind, remaining)
        reset = datetime.fromisoformat(raw.headers[f"anthropic-ratelimit-{kind}-reset"])
        assert -2 < (reset - datetime.now(UTC)).total_seconds() <= 61, reset


@check()
def without_a_limit_the_providers_headers_come_as_they_are(s):
    mark = "without_a_limit_the_providers_headers_come_as_they_are"
    status, told, _ = s.ask(mark)
    equal((status, told["x-ratelimit-remaining-requests"]), (200, "4710"))


@check('scope = { key = "{key}" }\nrequests = 60\nper = "1m"')
def streams_and_stored_responses_have_the_headers_too(s):
    mark = "streams_and_stored_responses_have_the_headers_too"
    _, told, _ = s.ask(mark, stream=True)
    equal(told["x-ratelimit-remaining-requests"], "59")
    _, told, _ = s.post("/v1/responses", mark, {"model": "p/m", "input": f"[[mark={mark}]]"})
    equal(told["x-ratelimit-remaining-requests"], "58")


# What SDKs make of it.


@check('scope = { key = "{key}" }\nrequests = 1\nper = "1s"')
def openais_sdk_waits_and_succeeds(s):
    mark = "openais_sdk_waits_and_succeeds"
    client = openai.OpenAI(base_url=s.server.url + "/v1", api_key=secret_of(mark))
    ask = lambda: client.chat.completions.create(  # noqa: E731
        model="p/m", max_tokens=5, messages=[{"role": "user", "content": f"[[mark={mark}]]"}]
    )
    ask()
    equal(ask().choices[0].message.content, "done")
    first, second = s.provider.of(mark)
    assert 0.9 < second.at - first.at < 3, second.at - first.at


@check('scope = { key = "{key}" }\nrequests = 1\nper = "1s"')
def anthropics_sdk_waits_and_succeeds(s):
    mark = "anthropics_sdk_waits_and_succeeds"
    client = anthropic.Anthropic(base_url=s.server.url, api_key=secret_of(mark))
    ask = lambda: client.messages.create(  # noqa: E731
        model="claude/m", max_tokens=5, messages=[{"role": "user", "content": f"[[mark={mark}]]"}]
    )
    ask()
    equal(ask().content[0].text, "done")
    first, second = s.provider.of(mark)
    assert 0.9 < second.at - first.at < 3, second.at - first.at


@check('scope = { key = "{key}" }\nrequests = 1\nper = "1h"')
def sdks_raise_their_own_error(s):
    mark = "sdks_raise_their_own_error"
    equal(s.ask(mark)[0], 200)
    client = openai.OpenAI(base_url=s.server.url + "/v1", api_key=secret_of(mark), max_retries=0)
    user = [{"role": "user", "content": "x"}]
    error = raises(
        openai.RateLimitError, lambda: client.chat.completions.create(model="p/m", messages=user)
    )
    equal(error.code, "rate_limit_exceeded")
    other = anthropic.Anthropic(base_url=s.server.url, api_key=secret_of(mark), max_retries=0)
    raises(
        anthropic.RateLimitError,
        lambda: other.messages.create(model="claude/m", max_tokens=5, messages=user),
    )


# At once, and in queues.


@check('scope = { key = "{key}" }\nconcurrency = 4')
def no_more_run_at_once_than_may(s):
    mark = "no_more_run_at_once_than_may"
    answers = s.many(64, lambda _: s.ask(mark, "[[seconds=0.2]]"))
    assert s.provider.at_once(mark) <= 4 and len(well(answers)) >= 4, s.provider.at_once(mark)
    assert refused(answers) and all(one[1]["retry-after"] == "1" for one in refused(answers))
    eventually("places that are left", lambda: s.status(mark + "-0")["running"] == 0)
    equal(s.ask(mark)[0], 200)


@check('scope = { key = "{key}" }\nconcurrency = 4\nqueue = { calls = 100, time = "20s" }')
def a_queue_lets_all_through_a_few_at_once(s):
    mark = "a_queue_lets_all_through_a_few_at_once"
    answers = s.many(48, lambda _: s.ask(mark, "[[seconds=0.05]]"))
    equal(len(well(answers)), 48)
    assert s.provider.at_once(mark) <= 4, s.provider.at_once(mark)


@check('scope = { key = "{key}" }\nconcurrency = 1\nqueue = { calls = 5, time = "1s" }')
def a_queue_is_bounded_in_length_and_in_time(s):
    mark = "a_queue_is_bounded_in_length_and_in_time"
    began = time.monotonic()
    answers = s.many(20, lambda _: (*s.ask(mark, "[[seconds=3]]"), time.monotonic() - began))
    equal(len(well(answers)), 1)
    late = [took for _, _, _, took in refused(answers) if took > 0.9]
    equal((len(refused(answers)), len(late)), (19, 5))
    assert max(late) < 2.5, late
    shown = s.metric(f'holdfast_rate_refused_total{{limit="{mark}-0",what="concurrency"}}')
    equal(shown, 19.0)


@check('scope = { key = "{key}" }\nconcurrency = 2\nqueue = { calls = 300, time = "30s" }')
def a_loop_with_one_call_does_not_wait_for_one_with_many(s):
    mark = "a_loop_with_one_call_does_not_wait_for_one_with_many"
    ask = lambda name: s.ask(  # noqa: E731
        mark, "[[seconds=0.05]]", headers={"holdfast-session": name}
    )
    greedy = threading.Thread(target=lambda: s.many(150, lambda _: ask("greedy")))
    greedy.start()
    eventually("a long queue", lambda: s.status(mark + "-0")["waiting"] > 100)
    took = []
    for _ in range(8):
        began = time.monotonic()
        equal(ask("modest")[0], 200)
        took.append(time.monotonic() - began)
    waits = s.status(mark + "-0")["waiting"]
    greedy.join()
    assert waits > 20, f"the check itself: only {waits} still waited"
    assert max(took) < 1.0, took


@check('scope = { key = "{key}" }\nconcurrency = 1\nqueue = { calls = 10, time = "20s" }')
def a_client_that_leaves_leaves_the_queue(s):
    mark = "a_client_that_leaves_leaves_the_queue"
    first = threading.Thread(target=lambda: s.ask(mark, "[[wait]]"))
    first.start()
    eventually("a first one", lambda: len(s.provider.of(mark)) == 1)
    client = openai.OpenAI(base_url=s.server.url + "/v1", api_key=secret_of(mark), max_retries=0, timeout=0.5)
    user = [{"role": "user", "content": f"[[mark={mark}]]"}]
    raises(openai.APITimeoutError, lambda: client.chat.completions.create(model="p/m", messages=user))
    eventually("nobody who waits", lambda: s.status(mark + "-0")["waiting"] == 0)
    s.provider.release.set()
    first.join()
    equal(len(s.provider.of(mark)), 1, "what the provider was asked")


@check('scope = { key = "{key}" }\nconcurrency = 1')
def a_place_is_free_when_its_answer_was_read(s):
    mark = "a_place_is_free_when_its_answer_was_read"
    for number in range(40):
        stream = number % 2 == 0
        equal(s.ask(mark, stream=stream)[0], 200, f"number {number}")


@check('scope = { key = "{key}" }\nrequests = 1\nper = "2s"')
def a_turn_that_has_begun_waits_for_its_next_step(s):
    mark = "a_turn_that_has_begun_waits_for_its_next_step"
    body = {
        "model": "p/m",
        "input": f"[[mark={mark}]][[tool=find_note]]",
        "tools": [{"type": "mcp", "server_label": "notes", "require_approval": "never"}],
    }
    status, _, answer = s.post("/v1/responses", mark, body)
    equal((status, answer.get("status")), (200, "completed"), answer)
    first, second = s.provider.of(mark)
    assert second.at - first.at > 1.8, f"{second.at - first.at:.1f} s"
    # A turn that begins is told at once.
    status, told, _ = s.post("/v1/responses", mark, body)
    equal(status, 429)
    assert int(told["retry-after"]) <= 2, told["retry-after"]


# Changes, and what is shown.


@check('scope = { key = "{key}" }\nrequests = 2\nper = "1h"')
def a_reload_changes_the_number_and_keeps_the_count(s):
    mark = "a_reload_changes_the_number_and_keeps_the_count"
    equal([s.ask(mark)[0] for _ in range(3)], [200, 200, 429])
    old = f'name = "{mark}-0"\nscope = {{ key = "{mark}" }}\nrequests = 2'
    assert old in s.config
    for number, expected in ((3, [200, 429]), (1, [429, 429])):
        s.server.config.write_text(s.config.replace(old, old[:-1] + str(number)))
        status, answer = s.server.api("POST", "config/reload", {})
        equal(status, 200, answer)
        changed = [one["name"] for one in answer["changes"] if one["kind"] == "rate_limit"]
        equal(changed, [mark + "-0"])
        equal([s.ask(mark)[0] for _ in range(2)], expected, f"{number}")
    s.server.config.write_text(s.config.replace(old, old[:-1] + "0"))
    status, answer = s.server.api("POST", "config/reload", {})
    equal(status, 400, answer)
    assert "rate_limits[" in json.dumps(answer) and "more than 0" in json.dumps(answer), answer
    equal(s.ask(mark)[0], 429, "a wrong file changes nothing")
    s.server.config.write_text(s.config)
    equal(s.server.api("POST", "config/reload", {})[0], 200)


@check('scope = { key = "{key}" }\nrequests = 1\nper = "1h"')
def refusals_are_counted(s):
    mark = "refusals_are_counted"
    [s.ask(mark) for _ in range(5)]
    equal(s.status(mark + "-0")["refused"], 4)
    series = f'holdfast_rate_refused_total{{limit="{mark}-0",what="requests"}}'
    equal(s.metric(series), 4.0)


@check('scope = { key = "{key}" }\nrequests = 1\nper = "1h"')
def nobody_but_the_admin_sees_limits(s):
    mark = "nobody_but_the_admin_sees_limits"
    status, _ = s.server.api("GET", "rate-limits", key=secret_of(mark))
    equal(status, 403)


if __name__ == "__main__":
    sys.exit(running.main(CHECKS, sys.argv[1:], Suite))
