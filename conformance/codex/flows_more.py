"""Flows of what else Codex does at a gateway."""

import json

import agent
from flows_work import call, ended_well, results, shell, uses, words_of
from running import equal
from stage import over
from words import Said


@over("chat", "messages", "gemini")
def a_tool_in_a_namespace(f):
    """Codex groups its sub-agents' tools; a model knows them under one flat name."""
    f.plan(
        uses(call("multi_agent_v1__close_agent", "call_1", target="nobody")),
        Said(["Nobody to close."]),
    )
    ended_well(agent.run(f, "Close it"), "Nobody to close.")
    first, last = f.seen()
    names = [tool["name"] for tool in first.asked.tools]
    assert "multi_agent_v1__close_agent" in names, names
    (result,) = results(last)
    assert "unsupported" not in words_of(result).lower(), result
    assert "nobody" in words_of(result), result


@over("chat", "messages", "gemini")
def an_answer_that_fits_a_schema(f):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    path = f.file("schema.json", json.dumps(schema))
    f.plan(Said(['{"n": 7}']))
    ended_well(agent.run(f, "A number", "--output-schema", path), '{"n": 7}')
    equal(f.seen()[0].asked.schema, schema, "the schema that was asked for")


@over("chat", "messages")
def a_search_that_nobody_offers_is_left_out(f):
    """Codex offers the vendor's web search unless told not to; its own tools go on."""
    f.plan(uses(shell("call_1", "echo x > a.txt")), Said(["Without a search."]))
    ran = agent.run(f, "Write it", "-c", "web_search=live")
    ended_well(ran, "Without a search.")
    equal((f.work / "a.txt").read_text(), "x\n")


@over("chat")
def a_wrong_key_is_said(f):
    ran = agent.run(f, "Hello", key="hf_wrong")
    equal(ran.end["type"], "turn.failed")
    assert "401" in ran.failure or "key" in ran.failure, ran.failure
    equal(f.seen(asides=True), [], "asked")


@over("chat")
def an_unknown_model_is_said(f):
    ran = agent.run(f, "Hello", model="nowhere/nothing")
    equal(ran.end["type"], "turn.failed")
    assert "nowhere/nothing" in ran.failure, ran.failure


@over("chat", "messages")
def an_empty_budget_is_said(f):
    f.plan(Said(["too dear"]))
    ran = agent.run(f, "Hello", key="poor")
    equal(ran.end["type"], "turn.failed")
    assert "Quota exceeded" in ran.failure, ran.failure
    equal(f.seen(asides=True), [], "asked")
