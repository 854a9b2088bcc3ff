"""How a turn is refused, fails, is sent again, falls silent, or is left by its client."""

import time

import openai
from flows_responses import FIND_TOOL

from events import check_events, dumped, read_sse
from flows import MODEL, equal, flow, raises, refused_by_name, slow
from harness import eventually


@flow
def responses_upstream_failure_json(f):
    """A foreground turn whose model fails is an error to the SDK, and is not run again by it."""
    client = f.retrying()

    def call():
        response = client.responses.create(model=MODEL, input=f"[[fault:status=500]] {f.mark}")
        assert response.status != "failed", f"failed: {response.error}"
        return response

    error = raises((openai.APIStatusError, AssertionError), call)
    if isinstance(error, openai.APIStatusError):
        assert error.body["code"] and error.body["message"], error.body
        equal(error.response.headers.get("x-should-retry"), "false")
    equal(len(f.sent()), 1, "requests at the provider")


@flow
def responses_upstream_failure_stream(f):
    """After the first event a failure is `response.failed`, with the full response."""
    events = dumped(f.respond("[[words:9]] [[fault:cut_after=3]]", stream=True))
    equal(events[-1]["type"], "response.failed")
    final = check_events(events)
    equal(final["status"], "failed")
    assert final["error"]["code"] and final["error"]["message"], final["error"]
    stored = f.client.responses.retrieve(final["id"])
    equal(stored.status, "failed")
    equal(stored.error.code, final["error"]["code"])
    equal(len(f.sent()), 1, "requests at the provider")


@flow
def responses_upstream_failure_helper(f):
    with f.client.responses.stream(model=MODEL, input=f"[[fault:cut_after=2]] {f.mark}") as stream:
        kinds = [event.type for event in stream]
        raises(RuntimeError, stream.get_final_response)
    equal(kinds[-1], "response.failed")


@flow
def responses_unsupported_fields(f):
    """What is not done is refused by name, and nothing is sent or stored."""
    mcp = {"type": "mcp", "server_label": "notes"}
    cases = [
        (dict(tools=[mcp | {"require_approval": "always"}]), "require_approval"),
        (
            dict(tools=[mcp | {"require_approval": {"always": {"tool_names": ["add_note"]}}}]),
            "require_approval",
        ),
        (dict(tools=[mcp | {"server_url": "https://example.com/mcp"}]), "server_url"),
        (dict(tools=[mcp], store=False), "store"),
        (dict(background=True, store=False), "background"),
        (dict(tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]), "tools[0].vector_store_ids"),
        (
            dict(tools=[FIND_TOOL, {"type": "code_interpreter", "container": {"type": "auto"}}]),
            "tools[1].type",
        ),
        (dict(tools=[{"type": "function"}]), "tools[0].name"),
        (dict(conversation="conv_1"), "conversation"),
        (dict(prompt={"id": "pmpt_1"}), "prompt"),
        (
            dict(context_management=[{"type": "compaction", "compact_threshold": 1000}]),
            "context_management",
        ),
    ]
    for options, field in cases:
        error = raises(openai.BadRequestError, lambda: f.respond("refused", **options))
        refused_by_name(error, field)
    equal(f.sent(), [])


@flow
def responses_field_types(f):
    good = {"model": MODEL, "input": f"x {f.mark}"}
    cases = [
        ({"model": MODEL}, "input"),
        ({"input": "x"}, "model"),
        (good | {"input": 5}, "input"),
        (good | {"input": [{"type": "nonsense"}]}, "input[0]"),
        (good | {"input": [{"role": "pirate", "content": "x"}]}, "input[0]"),
        (good | {"tools": "all"}, "tools"),
        (good | {"stream": 1}, "stream"),
        (good | {"metadata": {"a": 1}}, "metadata"),
        (good | {"temperature": "hot"}, "temperature"),
        (good | {"max_output_tokens": -4}, "max_output_tokens"),
        (good | {"previous_response_id": 7}, "previous_response_id"),
    ]
    for body, field in cases:
        error = raises(
            openai.BadRequestError, lambda: f.client.post("/responses", body=body, cast_to=object)
        )
        refused_by_name(error, field)
    equal(f.sent(), [])


@flow
def responses_idempotency_key(f):
    """The same POST under the same Idempotency-Key is one turn, however often it is sent."""
    options = dict(extra_headers={"Idempotency-Key": f"idem-{f.mark}"})
    first, second = f.respond("once", **options), f.respond("once", **options)
    equal(second.id, first.id)
    equal(len(f.sent()), 1, "requests at the provider")
    events = dumped(
        f.respond("once", stream=True, extra_headers={"Idempotency-Key": f"idem-s-{f.mark}"})
    )
    check_events(events)


@flow
def responses_retried_post_attaches(f):
    """A POST that timed out and is sent again by the SDK attaches to its turn: one answer."""
    client = f.with_key("ci", max_retries=2, timeout=1.0)
    response = client.responses.create(
        model=MODEL, input=f"[[fault:stall=8,times=1]] patience {f.mark}"
    )
    equal(response.output_text, f"You said: patience {f.mark}")
    equal(
        len([line for line in f.sent() if line["finished"]]), 1, "finished answers at the provider"
    )
    equal(len({line["call_id"] for line in f.sent()}), 1, "Calls: the step is the same")


@slow
def responses_keep_alive(f):
    """A long silence of the model: `keepalive`, which every client's timer takes for an event."""
    with f.client.responses.with_streaming_response.create(
        model=MODEL, input=f"[[prefill_ms=17000]] patience {f.mark}", stream=True
    ) as response:
        events, _ = read_sse(response.iter_lines())
    kinds = [event["type"] for event in events]
    assert "keepalive" in kinds, kinds
    equal(kinds[0], "response.created")
    equal(check_events(events)["output"][0]["content"][0]["text"], f"You said: patience {f.mark}")


@flow
def responses_abort_mid_stream(f):
    """Who leaves a foreground turn stops its model; nothing further is started for it."""
    stream = f.respond("[[delay_ms=100]] [[words:200]]", stream=True)
    seen = [next(stream).type for _ in range(6)]
    stream.close()
    assert "response.output_text.delta" in seen, seen
    [line] = eventually("the provider sees the cut", f.sent)
    assert line["finished"] is False
    time.sleep(0.3)
    equal(len(f.sent()), 1, "requests at the provider")
