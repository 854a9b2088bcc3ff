"""Flows of what else Claude Code does at a gateway."""

import json

import agent
from flows_work import call, ended_well, uses
from running import equal, ledger
from stage import over
from words import Said


@over("chat", "messages")
def partial_messages_are_streamed(f):
    f.plan(Said(["One two three four."]))
    ran = agent.run(f, "Talk", "--include-partial-messages")
    ended_well(ran, "One two three four.")
    deltas = [e["delta"] for e in ran.streamed() if e["type"] == "content_block_delta"]
    pieces = [delta["text"] for delta in deltas if delta["type"] == "text_delta"]
    assert len(pieces) > 1, pieces
    equal("".join(pieces), "One two three four.")


@over("chat", "messages")
def one_talk_is_one_session(f):
    path = f.file("a.txt", "a\n")
    f.plan(uses(call("Read", "call_1", file_path=path)), Said(["Read."]))
    ended_well(agent.run(f, "Read it"), "Read.")
    rows = ledger(f.stage.server)
    sessions = {rows[seen.headers["holdfast-attempt"]]["session"] for seen in f.seen()}
    equal(len(sessions), 1, f"sessions {sessions}")
    assert None not in sessions, rows


@over("chat", "messages")
def an_alias_serves_as_a_model(f):
    f.plan(Said(["By an alias."]))
    ended_well(agent.run(f, "Hello", model=f.alias), "By an alias.")


@over("chat", "messages")
def an_answer_that_fits_a_schema(f):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    f.plan(uses(call("StructuredOutput", "call_1", n=7)), Said(["Done."]))
    ran = agent.run(f, "A number", "--json-schema", json.dumps(schema))
    equal(ran.result["structured_output"], {"n": 7})


@over("chat")
def a_wrong_key_is_said(f):
    f.plan(Said(["not reached"]))
    ran = agent.run(f, "Hello", more={"ANTHROPIC_AUTH_TOKEN": "hf_wrong"})
    equal(ran.result["is_error"], True)
    assert "401" in ran.text or "key" in ran.text.lower(), ran.text
    equal(f.seen(asides=True), [], "asked")


@over("chat")
def an_unknown_model_is_said(f):
    ran = agent.run(f, "Hello", model="nowhere/nothing")
    equal(ran.result["is_error"], True)
    assert "nowhere/nothing" in ran.text, ran.text


@over("chat", "messages")
def an_empty_budget_is_said(f):
    f.plan(Said(["too dear"]))
    ran = agent.run(f, "Hello", key="poor")
    equal(ran.result["is_error"], True)
    assert "budget" in ran.text.lower(), ran.text
    equal(f.seen(asides=True), [], "asked")


@over("chat", "messages")
def tokens_are_counted(f):
    """/context counts by the server: by the provider, or by an estimate."""
    f.plan(Said(["unused"]))
    ran = agent.run(f, "/context")
    equal(ran.result["is_error"], False)
    assert f.id in json.dumps(ran.events), ran.text
    equal(f.id in f.stage.provider.counted, f.target == "messages", "the provider counted")
    equal(f.seen(), [], "asked")


@over("chat", "messages")
def another_agent_is_asked(f):
    """A sub-agent has a talk of its own, and its answer is the tool's result."""
    path = f.file("a.txt", "the treasure\n")
    task = call(
        "Agent", "call_1", description="find it", prompt="Find it", subagent_type="general-purpose"
    )
    f.plan(uses(task), Said(["Found by another."]))
    ran = agent.run(f, "Let another find " + path)
    ended_well(ran, "Found by another.")
    asked = [json.dumps(seen.body) for seen in f.seen()]
    assert any("Find it" in body and "Let another find" not in body for body in asked), asked
