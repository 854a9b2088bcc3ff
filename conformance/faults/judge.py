"""One check: the Calls that it made, and what is to be believed of them.

Judged from three sides: what the client saw, what the provider wrote down, and what the ledger says.
Every method fails with the evidence in its words.
"""

import json
from decimal import Decimal

from harness import eventually
from wire import WORDS
from world import INPUT, PRICES

# What a busy machine may be late by, in seconds.
LATE = 1.0
# How each format says that an answer is whole.
FINISH = {"chat": "stop", "messages": "end_turn", "gemini": "STOP", "responses": "completed"}
REFUSED = {
    "chat": "content_filter",
    "messages": "refusal",
    "gemini": "SAFETY",
    "responses": "incomplete",
}


def price_of(role, tokens_in, tokens_out):
    """What an answer costs, exactly."""
    rate_in, rate_out = (Decimal(rate) for rate in PRICES[role])
    return (rate_in * tokens_in + rate_out * tokens_out) / 1_000_000


def was_sent(row):
    """Whether the attempt went out: one that would have passed a provider's limits did not."""
    return (row["notes"] or {}).get("sent") is not False


class Case:
    """A check that runs: its route, its Calls, its evidence."""

    def __init__(self, check, around):
        self.check, self.around = check, around
        self.api, self.stream, self.model = check.api, check.stream, check.model
        self.scale = around.scale
        self.answers = []

    def seconds(self, at_scale_one):
        return at_scale_one * self.scale

    def call(self, name=None):
        """One Call through the route; `name` asks for another model."""
        name = name or f"route/{self.model}"
        answer = self.around.ask(self.api, name, self.stream, self.model)
        self.answers.append(answer)
        return answer

    def sdk_call(self):
        """The same through an unmodified SDK: what its caller gets."""
        return self.around.sdks[self.api].call(f"route/{self.model}", self.stream, self.model)

    def well(self):
        """A healthy Call through the same providers: nothing of the fault is left."""
        answer = self.around.ask(self.api, f"route/well-{self.api}", self.stream, "well")
        assert answer.status == 200 and answer.words == WORDS, f"not well behind it: {told(answer)}"

    @property
    def finish(self):
        return FINISH[self.api]

    @staticmethod
    def words(count):
        return WORDS[:count]

    # What the provider saw.

    def requests(self, role=None, ended=True):
        """The provider's requests for this check's models, in order, all of them over."""

        def found():
            models = {name for _, _, name, _ in self.check.targets}
            all_ = [line for line in self.around.provider.requests() if line["model"] in models]
            return all_ if not ended or all(line["end"] for line in all_) else None

        lines = eventually(f"{self.model}: every request ends", lambda: wrap(found()))[0]
        return [line for line in lines if role in (None, line["role"])]

    def asked(self, primary, fallback):
        """Holds how often each was asked; each a number or a range. Answers the requests."""
        lines = self.requests()
        for role, expected in (("primary", primary), ("fallback", fallback)):
            count = sum(line["role"] == role for line in lines)
            allowed = expected if isinstance(expected, range) else range(expected, expected + 1)
            assert count in allowed, f"{role}: {count} requests, not {allowed}: {short(lines)}"
        return lines

    def gap(self, first, second, least, most):
        """Holds the time between two requests, at scale 1."""
        seconds = (second["at_ms"] - first["at_ms"]) / 1000
        within = self.seconds(least) <= seconds <= self.seconds(most) + LATE
        assert within, f"{seconds:.3f} s apart, not {least} to {most} × {self.scale}"

    def client_left(self, line):
        """Holds that we closed this exchange, rather than waited for the provider to."""
        assert line["end"]["how"] == "client_left", f"not closed by the client: {line['end']}"

    # What the client saw.

    def whole(self, answer, role, refuses=False):
        """Holds that the answer is the healthy one of that target, whole, with its bill."""
        api = self.check.api_of(role)
        words = WORDS[:1] if refuses else WORDS
        assert answer.status == 200 and answer.ended, told(answer)
        assert answer.words == words and answer.error is None, told(answer)
        assert answer.finish == (REFUSED if refuses else FINISH)[self.api], told(answer)
        assert answer.unreadable == 0, told(answer)
        assert answer.is_events == self.stream, told(answer)
        assert answer.usage == (INPUT[role], 60), f"usage {answer.usage}: {told(answer)}"
        target = answer.headers.get("holdfast-model")
        name = self.check.name_of(role)
        assert target == f"{role}-{api}/{name}", f"answered by {target}: {told(answer)}"
        if api == self.api:
            self.passed_through(answer, role, name)
        self.bill(answer)

    def passed_through(self, answer, role, name):
        """Holds that the bytes are the provider's own, but for the one comment."""
        # These faults are the same each time, and so the right answer.
        lasting = self.check.fault in ("s11", "s13r") and role == "primary"
        prefix = f"{self.check.fault}-" if lasting else "well-"
        stand_in = prefix + "x" * (len(name) - len(prefix))
        direct = self.around.provider.direct(role, self.api, stand_in, self.stream)
        expected = direct.body.replace(stand_in.encode(), name.encode())
        assert without_comments(answer.body) == expected, told(answer)

    def is_one_stream(self, answer):
        """Holds that an answer of two targets reads as one: one id, one beginning, one end, and
        what came first is the first one's own bytes, where it speaks the client's format."""
        objects = answer.objects()
        if self.api == "messages":
            kinds = [item["type"] for item in objects if item["type"] != "ping"]
            assert kinds[:2] == ["message_start", "content_block_start"], kinds
            deltas = ["content_block_delta"] * (len(kinds) - 5)
            ends = ["content_block_stop", "message_delta", "message_stop"]
            assert kinds[2:] == deltas + ends, kinds
            assert {item["index"] for item in objects if "index" in item} == {0}, told(answer)
        else:
            ids = {item["id" if self.api == "chat" else "responseId"] for item in objects}
            models = {item["model" if self.api == "chat" else "modelVersion"] for item in objects}
            assert len(ids) == len(models) == 1, f"{ids}, {models}"
        if self.api == "chat":
            assert len({item["created"] for item in objects}) == 1, told(answer)
            roles = [item for item in objects if item["choices"] and "role" in item["choices"][0]["delta"]]
            finishes = [item for item in objects if item["choices"] and item["choices"][0]["finish_reason"]]
            assert len(roles) == len(finishes) == 1, told(answer)
        if self.check.primary == self.api:
            stand_in = "well-" + "x" * (len(self.model) - 5)
            direct = self.around.provider.direct("primary", self.api, stand_in, True)
            direct = direct.body.replace(stand_in.encode(), self.model.encode())
            until = direct.index(b"w41")
            until = direct.rindex(b"\n\n", 0, until)
            assert without_comments(answer.body).startswith(direct[:until]), told(answer)

    def ends(self, answer):
        """Holds that a streamed answer says that it is over, as its format does."""
        assert not self.stream or answer.terminal, f"no terminal event: {told(answer)}"

    def cut(self, answer, words, codes):
        """Holds that some words came, then an error, and nothing that looks like an end."""
        assert answer.status == 200 and answer.is_events, told(answer)
        assert answer.words == WORDS[:words], told(answer)
        assert answer.error is not None and answer.error_code in codes, told(answer)
        assert answer.unreadable == 0, told(answer)
        if words < len(WORDS):
            assert answer.finish is None, told(answer)
        assert not answer.terminal, told(answer)

    def refused(self, answer, status, codes):
        """Holds an error in the client's own format."""
        assert answer.status == status and answer.ended, told(answer)
        assert answer.error is not None and answer.words == [], told(answer)
        assert answer.error_code in codes, told(answer)

    # What the ledger says.

    def rows(self):
        """The ledger's rows, one for each of the provider's requests, by attempt."""
        lines = self.requests()
        rows = self.around.rows(self.model)
        attempts = sorted(row["attempt"] for row in rows if was_sent(row))
        expected = sorted(line["attempt"] for line in lines)
        assert attempts == expected, f"rows of {attempts}, requests of {expected}"
        return {row["attempt"]: row for row in rows}

    def bill(self, answer):
        """Holds what the client was told of the cost against the rows of its Call."""
        call = answer.headers["holdfast-call-id"]
        rows = [row for row in self.rows().values() if row["call"] == call]
        lines = {line["attempt"]: line for line in self.requests()}
        for row in rows:
            self.charged(row, lines.get(row["attempt"]))
        if self.api == "gemini" and self.stream:
            return  # its streams have no place for what is known at the end
        told_ = answer.pairs()
        assert told_.get("holdfast-attempts") == str(len(rows)), f"{told_}, rows {len(rows)}"
        unknown = any(Decimal(row["unreconciled"]) for row in rows)
        cost = told_.get("holdfast-cost")
        if unknown:
            assert cost is None, f"a cost that nobody knows: {cost}"
        else:
            assert Decimal(cost) == sum(Decimal(row["cost"]) for row in rows), f"{cost}: {rows}"

    def charged(self, row, line):
        """Holds what one attempt cost against what the provider did."""
        cost, open_ = Decimal(row["cost"]), Decimal(row["unreconciled"])
        if line is None:
            assert (cost, open_) == (0, 0), f"what was not sent was charged: {row}"
        elif row["error"] is None:
            exact = price_of(line["role"], INPUT[line["role"]], 60)
            assert (cost, open_) == (exact, 0), f"not {exact}: {row}"
        elif line["end"]["status"] >= 400:
            assert (cost, open_) == (0, 0), f"a refused attempt was charged: {row}"
        else:
            assert cost == 0 and open_ > 0, f"nobody knows what it cost: {row}"

    def failed_row(self, line, code):
        """The row of an attempt that failed, with its code."""
        row = self.rows()[line["attempt"]]
        assert row["error"] == code, f"{row['error']}, not {code}: {row}"
        return row


def wrap(lines):
    """So that an empty list is found too."""
    return None if lines is None else [lines]


def without_comments(body):
    """A body without the comment that Holdfast adds before the end."""
    return b"\n\n".join(piece for piece in body.split(b"\n\n") if not piece.startswith(b": holdfast-"))


def told(answer):
    """An answer in the words of a failed check."""
    body = answer.body.decode(errors="replace")
    shown = body if len(body) < 1200 else f"{body[:300]} … {body[-800:]}"
    return f"status {answer.status}, ended {answer.ended}, words {len(answer.words)}: {shown}"


def short(lines):
    keys = ("role", "api", "model", "at_ms")
    return json.dumps([{key: line[key] for key in keys} | {"end": line["end"]} for line in lines])
