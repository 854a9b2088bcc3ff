"""Cost and budgets, as a client of this API sees them."""

from decimal import Decimal

import anthropic

from events import parsed
from flows import BOTH, equal, flow, over, raises, refused, texts, tries_of


@over(*BOTH)
def cost_in_a_header(f):
    raw = f.ask_raw("price me")
    usage = raw.parse().usage
    prices = (3, 15) if f.passed else (1, 2)
    cost = (usage.input_tokens * prices[0] + usage.output_tokens * prices[1]) / Decimal(10**6)
    equal(Decimal(raw.headers["holdfast-cost"]), cost)


@flow
def cost_of_cached_tokens(f):
    """Reads and writes have their own prices; both are on the bill."""
    raw = f.ask_raw("[[usage:input=10,written=200,read=3000,output=50]]")
    usage = raw.parse().usage
    equal((usage.cache_read_input_tokens, usage.cache_creation_input_tokens), (3000, 200))
    cost = Decimal(10 * 3 + 50 * 15) + Decimal("3.75") * 200 + Decimal("0.30") * 3000
    equal(Decimal(raw.headers["holdfast-cost"]), cost / 10**6)


@flow
def cost_of_a_stream(f):
    """Its usage is said in two events, of which the last one counts."""
    lines = f.lines("[[usage:input=10,written=200,read=3000,output=50]][[say:a b]]")
    [comment] = [text for _, text in parsed(lines)[1] if "holdfast-cost" in text]
    cost = Decimal(10 * 3 + 50 * 15) + Decimal("3.75") * 200 + Decimal("0.30") * 3000
    shown = dict(part.strip().split("=") for part in comment.split(";"))
    equal(Decimal(shown["holdfast-cost"]), cost / 10**6)


@over(*BOTH)
def budget_refuses_at_once(f):
    """One request, though the SDK would make three; and nobody is asked."""
    error = raises(
        anthropic.RateLimitError,
        lambda: f.ask("rich text", client=f.retrying("poor"), max_tokens=8000),
    )
    refused(error, "rate_limit_error", 429, "enforced_spend_limit_reached")
    equal((tries_of(error), error.response.headers["x-should-retry"]), (1, "false"))
    assert "0.001" in error.body["error"]["message"], error.body
    equal(f.sent(), [])


@over(*BOTH)
def budget_allows_what_fits(f):
    for _ in range(3):
        message = f.ask("[[say:cheap]]", client=f.with_key("capped"), max_tokens=50)
        equal(texts(message), "cheap")


@flow
def budget_bounds_marks_and_thinking(f):
    """Marks, thinking and tools have bounds too: a hard budget takes them."""
    client = f.with_key("capped")
    marked = {
        "type": "text",
        "text": f"[[say:fits]] {f.mark}",
        "cache_control": {"type": "ephemeral"},
    }
    message = f.ask(
        messages=[{"role": "user", "content": [marked]}],
        client=client,
        thinking={"type": "adaptive"},
        max_tokens=50,
    )
    equal(texts(message), "fits")


@flow
def budget_refuses_what_has_no_bound(f):
    """What would be billed beyond the tokens is named, and nobody is asked."""
    client = f.with_key("capped")
    tool = {"type": "web_search_20250305", "name": "web_search"}
    for options in (
        dict(tools=[tool]),
        dict(extra_body={"speed": "fast"}),
        dict(extra_body={"container": "c"}),
        dict(extra_body={"sparkle": 1}),
    ):
        error = raises(
            anthropic.BadRequestError,
            lambda o=options: f.ask("x", client=client, max_tokens=9, **o),
        )
        refused(error, "invalid_request_error", 400)
    equal(f.sent(), [])


@flow
def budget_of_one_call(f):
    error = raises(
        anthropic.RateLimitError,
        lambda: f.ask("x", max_tokens=8000, extra_headers={"holdfast-budget": "0.001"}),
    )
    equal(error.body["error"]["type"], "rate_limit_error")
    equal(f.sent(), [])


@over(*BOTH)
def counting_is_free(f):
    """It needs no budget, and makes no row that costs anything."""
    counted = f.with_key("poor").messages.count_tokens(model=f.model, messages=f.user("a b c"))
    assert counted.input_tokens >= 4, counted


@over(*BOTH)
def ledger_row(f):
    raw = f.ask_raw("for the books", extra_headers={"holdfast-task": f.mark})
    status, page = f.server.api("GET", f"calls?task={f.mark}")
    equal(status, 200)
    [row] = page["data"]
    equal((row["call"], row["door"]), (raw.request_id, "anthropic_messages"))
    equal((row["target"], row["error"]), (f.model, None))
    equal(Decimal(row["cost"]), Decimal(raw.headers["holdfast-cost"]))
