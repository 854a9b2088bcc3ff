"""The checks: each fault with what must be seen, in each format, streamed and whole.

A function says what is right; `@for_each` registers it for the formats and modes that it holds for.
The numbers of the faults are those of failoverbench's catalogue; `x` ones were seen in the wild.
"""

import dataclasses
import json
import time
from decimal import Decimal

from judge import LATE, price_of, told
from world import (
    BACKOFF,
    COOLDOWN,
    COOLDOWN_FACTOR_MAX,
    FAMILY,
    FIRST_TOKEN,
    INPUT,
    RESPONSE,
    SDKS,
    STALL,
    Plan,
)

APIS = ("chat", "messages", "gemini", "responses")
FIELDS = {"chat": "messages", "messages": "messages", "gemini": "contents", "responses": "input"}
BOTH = (True, False)
STREAM, JSON = (True,), (False,)
SAME = {api: api for api in APIS}
OTHER = {"chat": "messages", "messages": "chat", "gemini": "chat", "responses": "chat"}
# How a 503 reads: Gemini's says that it is overloaded.
UNAVAILABLE = {
    "chat": "upstream_failed",
    "messages": "upstream_failed",
    "gemini": "overloaded",
    "responses": "upstream_failed",
}
# The formats in which a prompt that is filtered is refused with a 400.
BY_STATUS = ("chat", "messages", "responses")
# Those in which a stream without its last event is cut, and those whose answers others go on with.
ENDED = ("messages", "responses")
CONTINUED = ("chat", "messages", "gemini")
CHECKS = []


@dataclasses.dataclass
class Check:
    """A check with its route: a primary that fails, and a fallback that does not."""

    fault: str
    # The client's format, and those of the two targets.
    api: str
    stream: bool
    primary: str
    fallback: str | None
    run: object
    note: str = ""
    # Context windows of the primary, of a smaller fallback before the other, and of that.
    contexts: tuple = ()
    long: bool = False
    sdk: bool = False

    @property
    def name(self):
        note = f"_{self.note}" if self.note else ""
        over = f"_over_{self.primary}" if self.primary != self.api else ""
        to = f"_to_{self.fallback}" if self.fallback not in (None, self.primary) else ""
        mode = "stream" if self.stream else "json"
        return f"{self.fault}{note}_{self.api}_{mode}{over}{to}" + ("_sdk" if self.sdk else "")

    @property
    def model(self):
        return self.name.replace("_", "-")

    @property
    def targets(self):
        own, small, large = self.contexts or (None, None, None)
        found = [("primary", self.primary, self.model, own)]
        if small:
            found.append(("fallback", self.primary, f"{self.model}-small", small))
        if self.fallback and self.goes_on:
            name = FAMILY[self.fallback] + self.model
            return [*found, ("goes-on", self.fallback, name, None)]
        if self.fallback:
            found.append(("fallback", self.fallback, self.model, large))
        return found

    @property
    def goes_on(self):
        return self.fault in ("x04", "x05")

    @property
    def plan(self):
        return Plan(self.model, self.targets)

    def api_of(self, role):
        return self.primary if role == "primary" else self.fallback

    def name_of(self, _role):
        return self.model


def for_each(fault, modes=BOTH, apis=APIS, over=SAME, to=SAME, **more):
    """Registers a check for each format and mode.

    `over` says of the client's format what the primary speaks, `to` the same of the fallback, where
    `None` is none at all.
    """

    def register(function):
        for api in apis:
            for stream in modes:
                targets = {"primary": over[api], "fallback": to[api] if to else None}
                CHECKS.append(Check(fault, api, stream, run=function, **targets, **more))
        return function

    return register


def across(fault, **more):
    """With a fallback of the other format: a chat provider's Messages one, and the other way."""
    return for_each(fault, to=OTHER, **more)


def translated(fault, **more):
    """With both targets in another format than the client's."""
    return for_each(fault, over=OTHER, to=OTHER, **more)


@for_each("s01")
def waits_as_told_and_asks_again(c):
    answer = c.call()
    c.whole(answer, "primary")
    c.ends(answer)
    first, second = c.asked(primary=2, fallback=0)
    c.gap(first, second, 2.0, 3.5)
    c.failed_row(first, "rate_limited")


@for_each("s02")
def backs_off_and_never_hammers(c):
    c.whole(c.call(), "fallback")
    tries = c.asked(primary=range(1, 3), fallback=1)
    if len(tries) == 3:
        c.gap(tries[0], tries[1], 0, 2 * BACKOFF)
    began = time.monotonic()
    for _ in range(10):
        c.whole(c.call(), "fallback")
    cooldowns = (time.monotonic() - began) / c.seconds(COOLDOWN)
    # A third failure in a row opens the breaker: from then on one probe per cooldown.
    most = 3 + int(cooldowns) + 1
    c.asked(primary=range(2, most + 1), fallback=11)


@for_each("s03")
def asks_the_same_provider_once_more(c):
    answer = c.call()
    c.whole(answer, "primary")
    c.ends(answer)
    first, second = c.asked(primary=2, fallback=0)
    c.gap(first, second, 0, 2 * BACKOFF)
    c.failed_row(first, "upstream_failed")


@for_each("s04")
@across("s04")
def falls_back(c):
    answer = c.call()
    c.whole(answer, "fallback")
    c.ends(answer)
    lines = c.asked(primary=range(1, 3), fallback=1)
    c.failed_row(lines[0], UNAVAILABLE[c.check.primary])


@for_each("s05")
def survives_a_reset(c):
    answer = c.call()
    c.ends(answer)
    lines = c.asked(primary=range(1, 3), fallback=range(0, 2))
    c.whole(answer, lines[-1]["role"])
    c.failed_row(lines[0], "upstream_failed")


@for_each("s06")
@across("s06")
def leaves_a_provider_that_never_answers(c):
    answer = c.call()
    c.whole(answer, "fallback")
    c.ends(answer)
    limit = FIRST_TOKEN if c.stream else RESPONSE
    seconds = answer.word_at if c.stream else answer.over_at
    within = c.seconds(limit) * 0.9 <= seconds <= c.seconds(limit) + LATE
    assert within, f"after {seconds:.2f} s, the limit is {c.seconds(limit):.2f} s"
    lines = c.asked(primary=1, fallback=1)
    c.client_left(lines[0])
    c.failed_row(lines[0], "upstream_timeout")


@for_each("s06", note="alone", to=None)
def tells_a_timeout_in_the_clients_format(c):
    answer = c.call()
    c.refused(answer, 504, ("upstream_timeout",))
    assert answer.over_at <= c.seconds(RESPONSE) + LATE, f"after {answer.over_at:.2f} s"
    (line,) = c.asked(primary=1, fallback=0)
    c.client_left(line)


@for_each("s07", modes=STREAM)
def leaves_a_model_that_is_late(c):
    answer = c.call()
    c.whole(answer, "fallback")
    c.ends(answer)
    within = answer.word_at <= c.seconds(FIRST_TOKEN) + LATE
    assert within, f"first word after {answer.word_at:.2f} s"
    lines = c.asked(primary=1, fallback=1)
    c.client_left(lines[0])
    c.failed_row(lines[0], "upstream_timeout")


@for_each("s07", modes=STREAM, note="alone", to=None)
@for_each("s07", modes=JSON)
def waits_for_a_late_model_where_nothing_else_is_left(c):
    answer = c.call()
    c.whole(answer, "primary")
    c.ends(answer)
    assert answer.over_at >= c.seconds(20) * 0.95, f"after {answer.over_at:.2f} s"
    c.asked(primary=1, fallback=0)


@for_each("s07", modes=STREAM, apis=BY_STATUS, over=OTHER, to=None, note="plain", long=True)
def keeps_a_late_stream_alive(c):
    answer = c.call(f"primary-{c.check.primary}/{c.model}")
    c.whole(answer, "primary")
    assert answer.head_at < 2, f"the head came after {answer.head_at:.2f} s"
    assert answer.alive_at and answer.alive_at < answer.word_at, "no sign of life before the words"


@for_each("s08", modes=STREAM)
@for_each("s08e", modes=STREAM)
@across("s08", modes=STREAM)
@translated("s08", modes=STREAM)
def never_finishes_a_stump(c):
    answer = c.call()
    c.cut(answer, 40, ("stream_cut",))
    (line,) = c.asked(primary=1, fallback=0)
    row = c.failed_row(line, "stream_cut")
    c.charged(row, line)


@for_each("s08", modes=JSON)
@for_each("s08e", modes=JSON)
@across("s08", modes=JSON)
def takes_the_whole_answer_from_the_fallback(c):
    c.whole(c.call(), "fallback")
    c.asked(primary=range(1, 3), fallback=1)


@for_each("s09", modes=STREAM)
@translated("s09", modes=STREAM)
def notices_a_stall(c):
    answer = c.call()
    c.cut(answer, 20, ("upstream_timeout",))
    within = c.seconds(STALL) * 0.9 <= answer.over_at <= c.seconds(STALL) + LATE
    assert within, f"after {answer.over_at:.2f} s, the limit is {c.seconds(STALL):.2f} s"
    (line,) = c.asked(primary=1, fallback=0)
    c.client_left(line)
    c.charged(c.failed_row(line, "upstream_timeout"), line)


@for_each("s09", modes=JSON)
def takes_the_place_of_a_body_that_stalls(c):
    answer = c.call()
    c.whole(answer, "fallback")
    assert answer.over_at <= c.seconds(STALL) + LATE, f"after {answer.over_at:.2f} s"
    lines = c.asked(primary=1, fallback=1)
    c.client_left(lines[0])


@for_each("s10", modes=STREAM)
@translated("s10", modes=STREAM)
def fails_cleanly_at_a_broken_piece(c):
    answer = c.call()
    c.cut(answer, 20, ("upstream_failed",))
    assert b"bro" not in answer.body, "a part of the broken piece leaked"
    (line,) = c.asked(primary=1, fallback=0)
    c.charged(c.failed_row(line, "upstream_failed"), line)


@for_each("s10", modes=JSON)
@for_each("s10h", modes=STREAM)
def leaves_a_provider_that_speaks_nonsense(c):
    answer = c.call()
    c.whole(answer, "fallback")
    c.ends(answer)
    c.asked(primary=range(1, 3), fallback=1)


@for_each("s11", modes=STREAM, apis=[api for api in APIS if api not in ENDED])
@for_each("s11", modes=JSON)
def finishes_promptly_without_a_terminal_event(c):
    answer = c.call()
    c.whole(answer, "primary")
    assert answer.over_at - (answer.word_at or 0) <= 0.3 + LATE, f"{answer.over_at:.2f} s"
    c.asked(primary=1, fallback=0)


@for_each("s11", modes=STREAM, apis=ENDED, over=OTHER, to=OTHER)
def says_itself_that_a_translated_answer_is_whole(c):
    answer = c.call()
    c.whole(answer, "primary")
    c.ends(answer)
    assert answer.over_at <= 0.3 + LATE, f"after {answer.over_at:.2f} s"
    c.asked(primary=1, fallback=0)


@for_each("s11", modes=STREAM, apis=("chat",), over=OTHER, to=OTHER)
@for_each("s11", modes=STREAM, apis=("messages",))
def takes_a_missing_message_stop_for_a_cut(c):
    answer = c.call()
    c.cut(answer, 60, ("stream_cut",))
    assert answer.over_at <= 0.3 + LATE, f"after {answer.over_at:.2f} s"
    (line,) = c.asked(primary=1, fallback=0)
    # The usage came before the end was missed: the bill is exact although it failed.
    row = c.failed_row(line, "stream_cut")
    cost = (Decimal(row["cost"]), Decimal(row["unreconciled"]))
    assert cost == (price_of("primary", INPUT["primary"], 60), 0), f"{row}"


@for_each("s11", modes=STREAM, apis=("responses",))
def takes_a_missing_end_of_the_response_for_a_cut(c):
    answer = c.call()
    c.cut(answer, 60, ("stream_cut",))
    assert answer.over_at <= 0.3 + LATE, f"after {answer.over_at:.2f} s"
    (line,) = c.asked(primary=1, fallback=0)
    c.charged(c.failed_row(line, "stream_cut"), line)


@for_each("s11", modes=STREAM, apis=("responses",), note="ids")
def tells_the_cut_of_the_same_response(c):
    """The error behind the provider's own events is numbered on, and of their response."""
    answer = c.call()
    *before, failed = answer.objects()
    ids = {item["response"]["id"] for item in [*before, failed] if "response" in item}
    assert ids == {"resp_fault"}, told(answer)
    assert failed["type"] == "response.failed", told(answer)
    assert failed["sequence_number"] == before[-1]["sequence_number"] + 1, told(answer)
    c.asked(primary=1, fallback=0)


@for_each("s12", contexts=(8192, 4096, 100_000))
@across("s12", contexts=(8192, None, 100_000))
def takes_a_larger_model(c):
    answer = c.call()
    c.whole(answer, "fallback")
    c.ends(answer)
    c.asked(primary=1, fallback=1)
    assert all(not line["model"].endswith("-small") for line in c.requests()), "a smaller one"


@for_each("s12", contexts=(8192, 4096, None), note="none", to=None)
def tells_that_the_prompt_is_too_long(c):
    answer = c.call()
    codes = ("context_length_exceeded", "invalid_request_error", "INVALID_ARGUMENT")
    c.refused(answer, 400, codes)
    direct = c.around.provider.direct("primary", c.api, c.model + "-direct", c.stream)
    assert answer.body == direct.body, f"{answer.body} is not {direct.body}"
    c.asked(primary=1, fallback=0)


@for_each("s13", apis=BY_STATUS)
def passes_a_content_filter_on(c):
    answer = c.call()
    c.refused(answer, 400, ("content_filter", "invalid_request_error"))
    direct = c.around.provider.direct("primary", c.api, c.model + "-direct", c.stream)
    assert answer.body == direct.body, f"{answer.body} is not {direct.body}"
    c.asked(primary=1, fallback=0)


@for_each("s13", apis=[api for api in APIS if api not in BY_STATUS])
def passes_a_blocked_prompt_on(c):
    answer = c.call()
    assert (answer.status, answer.words, answer.finish) == (200, [], "SAFETY"), answer.body
    direct = c.around.provider.direct("primary", c.api, c.model + "-direct", c.stream)
    expected = direct.body.replace(f"{c.model}-direct".encode(), c.model.encode())
    assert answer.body == expected, f"{answer.body} is not {expected}"
    c.asked(primary=1, fallback=0)


@for_each("s13r")
def passes_a_refusal_on(c):
    answer = c.call()
    c.whole(answer, "primary", refuses=True)
    c.ends(answer)
    c.asked(primary=1, fallback=0)


@for_each("s14", modes=STREAM)
def shows_the_cut_and_not_what_a_prefill_met(c):
    answer = c.call()
    c.cut(answer, 40, ("stream_cut",))
    assert b"prefill" not in answer.body
    c.asked(primary=1, fallback=0)


@for_each("s14", modes=JSON)
def starts_again_without_a_prefill(c):
    answer = c.call()
    c.whole(answer, "fallback")
    lines = c.asked(primary=range(1, 3), fallback=1)
    assert lines[0]["body"] == lines[-1]["body"], "the fallback got another request"
    turns = json.loads(lines[-1]["body"])[FIELDS[c.api]]
    assert [turn["role"] for turn in turns] == ["user"], turns


@for_each("s15")
def outlives_an_outage(c):
    began = time.monotonic()
    outage, roles = c.seconds(60), []
    for number in range(1, 21):
        answer = c.call()
        roles.append(answer.headers.get("holdfast-model", "").partition("-")[0])
        # The provider counts from the first request, so that it is down until then at least.
        if time.monotonic() - began < outage:
            assert roles[-1] == "fallback", roles
        c.whole(answer, roles[-1])
        time.sleep(max(0.0, began + number * outage / 19 - time.monotonic()))
    assert roles.count("fallback") >= 10, roles
    down = [line for line in c.requests("primary") if line["end"]["status"] == 503]
    # Three failures open the breaker; probes of 5, 10, 20 and 40 s follow within 60 s.
    assert len(down) <= 3 + 5, f"{len(down)} requests to a provider that is down"
    for first, second in zip(down[2:], down[3:], strict=False):
        seconds = (second["at_ms"] - first["at_ms"]) / 1000
        assert seconds >= c.seconds(COOLDOWN) * 0.9, f"asked again after {seconds:.2f} s"
    back = time.monotonic() + c.seconds(COOLDOWN * COOLDOWN_FACTOR_MAX) + LATE
    while roles[-1] != "primary":
        assert time.monotonic() < back, "the primary is well and is not asked again"
        time.sleep(c.seconds(1))
        answer = c.call()
        roles.append(answer.headers.get("holdfast-model", "").partition("-")[0])
    for _ in range(3):
        c.whole(c.call(), "primary")


@for_each("s16")
@across("s16", modes=JSON)
def bills_who_answered(c):
    answer = c.call()
    c.whole(answer, "fallback")
    lines = c.asked(primary=range(1, 3), fallback=1)
    rows = c.rows()
    assert all(rows[line["attempt"]]["cost"] == "0.00" for line in lines[:-1]), rows
    assert rows[lines[-1]["attempt"]]["target"].startswith("fallback-"), rows


@for_each("x01")
def sees_an_error_with_status_200(c):
    answer = c.call()
    c.whole(answer, "fallback")
    c.ends(answer)
    c.asked(primary=range(1, 3), fallback=1)


@for_each("x02", modes=STREAM)
@translated("x02", modes=STREAM)
def tells_an_error_behind_some_words(c):
    answer = c.call()
    c.cut(answer, 20, ("upstream_failed",))
    c.asked(primary=1, fallback=0)


@for_each("x03", modes=STREAM)
def falls_back_before_the_first_word(c):
    answer = c.call()
    c.whole(answer, "fallback")
    c.ends(answer)
    c.asked(primary=range(1, 3), fallback=1)


# Who goes on with a client's answer: a target of its own format where one can, else another.
OWN_REST = {"chat": "chat", "messages": "messages", "gemini": "chat"}
OTHER_REST = {"chat": "messages", "messages": "chat", "gemini": "messages"}


@for_each("x04", modes=STREAM, apis=CONTINUED, to=OWN_REST)
@for_each("x04", modes=STREAM, apis=CONTINUED, to=OTHER_REST)
@for_each("x04", modes=STREAM, apis=CONTINUED, over=OTHER, to=OWN_REST)
def goes_on_with_an_answer_that_broke_off(c):
    """One stream: its beginning from the primary, the rest from the next, each word once."""
    answer = c.call()
    assert answer.status == 200 and answer.ended and answer.error is None, told(answer)
    assert answer.words == c.words(60) and answer.unreadable == 0, told(answer)
    assert answer.finish == c.finish, told(answer)
    c.ends(answer)
    # The prompt once, and all that was read.
    assert answer.usage == (INPUT["fallback"], 60), f"{answer.usage}: {told(answer)}"
    c.is_one_stream(answer)
    first, second = c.asked(primary=1, fallback=1)
    row = c.failed_row(first, "stream_cut")
    c.charged(row, first)
    row = c.rows()[second["attempt"]]
    assert row["error"] is None and row["notes"].get("continued") is True, row
    # Its own bill: what was said before is its input.
    assert Decimal(row["cost"]) == price_of("fallback", INPUT["fallback"] + 40, 20), row
    asked = json.loads(second["body"])["messages"][-1]
    assert asked["role"] == "assistant", asked


@for_each("x05", modes=STREAM, apis=CONTINUED, to=OWN_REST)
@for_each("x05", modes=STREAM, apis=CONTINUED, to=OTHER_REST)
def ends_an_answer_that_broke_off_behind_its_last_word(c):
    """Who goes on has nothing to add: the client is told the end all the same."""
    answer = c.call()
    assert answer.status == 200 and answer.ended and answer.error is None, told(answer)
    assert answer.words == c.words(60) and answer.unreadable == 0, told(answer)
    assert answer.finish == c.finish, told(answer)
    c.ends(answer)
    c.is_one_stream(answer)
    first, second = c.asked(primary=1, fallback=1)
    c.failed_row(first, "stream_cut")
    row = c.rows()[second["attempt"]]
    assert row["error"] is None and row["notes"].get("continued") is True, row


# What an SDK makes of a stream that breaks: the words before.
BREAKS = {"s08": 40, "s08e": 40, "s09": 20, "s10": 20, "s14": 40, "x02": 20}
SEEN_BY_SDKS = [f"s{number:02}" for number in range(1, 17) if number != 15] + ["s08e", "x01", "x02"]
SEEN_BY_SDKS += ["x04"]


def sdk_sees(c):
    """An unmodified SDK, told not to try again: a whole answer, or an exception, never a stump."""
    seen = c.sdk_call()
    breaks = BREAKS.get(c.check.fault) if c.stream else None
    if (c.check.fault, c.api, c.stream) == ("s11", "messages", True):
        breaks = 60
    if c.check.fault == "s13" and c.api in BY_STATUS:
        assert seen["status"] == 400 and seen["words"] == [], seen
    elif breaks:
        assert seen["words"] == c.words(breaks) and seen["raised"], seen
        assert not seen["final"], seen
    else:
        assert seen["words"] == c.words(60) and not seen["raised"], seen
        assert seen["finish"] == c.finish and seen["output_tokens"] == 60, seen
    c.rows()


for fault in SEEN_BY_SDKS:
    contexts = (8192, None, 100_000) if fault == "s12" else ()
    for_each(fault, apis=SDKS, sdk=True, contexts=contexts)(sdk_sees)
