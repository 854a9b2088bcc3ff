"""Flows in which Claude Code works on files, over each format of the provider."""

import json

import agent
from running import equal
from scripted import Fault
from stage import call, over, results, uses, words_of
from words import SIGNATURE, Image, Said, Thought, only

EVERY = ("chat", "responses", "messages", "gemini")
# Long enough that a talk is cached in pieces.
STEPS = 12


def ended_well(ran, text):
    good = (0, False, "success")
    equal((ran.code, ran.result["is_error"], ran.result["subtype"]), good, ran.text)
    equal(ran.text, text, "the last words")


def counted(ran, said):
    """What Claude Code says it used is what the provider said."""
    usage = ran.result["usage"]
    equal(usage["output_tokens"], sum(each.output for each in said), "output tokens")
    whole = usage["input_tokens"] + usage["cache_read_input_tokens"]
    equal(whole, sum(each.input for each in said), "input tokens")
    equal(usage["cache_read_input_tokens"], sum(each.cached for each in said), "cached")


@over(*EVERY)
def edits_a_file(f):
    path = f.file("greeting.txt", "hello there\n")
    script = [
        uses(call("Read", "call_1", file_path=path), before=["I look first."]),
        uses(call("Edit", "call_2", file_path=path, old_string="hello", new_string="bye")),
        Said(["The file is edited."]),
    ]
    f.plan(*script)
    ran = agent.run(f, "Say bye in greeting.txt")
    ended_well(ran, "The file is edited.")
    equal((f.work / "greeting.txt").read_text(), "bye there\n")
    seen = f.seen()
    equal([one.streams for one in seen], [True] * 3, "streamed")
    equal([len(results(one)) for one in seen], [0, 1, 2], "results in each request")
    assert "hello there" in words_of(results(seen[1])[0]), results(seen[1])
    assert "updated" in words_of(results(seen[2])[1]), results(seen[2])
    equal([block["name"] for block in ran.blocks("assistant", "tool_use")], ["Read", "Edit"])
    counted(ran, script)


@over(*EVERY)
def writes_a_new_file(f):
    path = str(f.work / "new" / "file.py")
    body = 'print("\u00e9\\n\\t\u2603")\n'
    f.plan(uses(call("Write", "call_1", file_path=path, content=body)), Said(["Written."]))
    ended_well(agent.run(f, "Write a file"), "Written.")
    equal((f.work / "new" / "file.py").read_text(), body)


@over(*EVERY)
def two_tools_at_once(f):
    one, two = f.file("one.txt", "first\n"), f.file("two.txt", "second\n")
    both = uses(call("Read", "call_a", file_path=one), call("Read", "call_b", file_path=two))
    f.plan(both, Said(["Both read."]))
    ended_well(agent.run(f, "Read both"), "Both read.")
    # In the order in which the tools were done.
    got = sorted(results(f.seen()[-1]), key=lambda result: result.of)
    equal([result.of for result in got], ["call_a", "call_b"])
    assert "first" in words_of(got[0]) and "second" in words_of(got[1]), got


@over(*EVERY)
def a_tool_that_fails(f):
    missing = str(f.work / "missing.txt")
    f.plan(uses(call("Read", "call_1", file_path=missing)), Said(["It is not there."]))
    ran = agent.run(f, "Read it")
    ended_well(ran, "It is not there.")
    equal([block["is_error"] for block in ran.blocks("user", "tool_result")], [True])
    (result,) = results(f.seen()[-1])
    assert "does not exist" in words_of(result), result
    if f.target in ("messages", "gemini"):
        equal(result.is_error, True, "the provider is told that it failed")


@over(*EVERY)
def signed_thinking_comes_back(f):
    path = f.file("a.txt", "thinking\n")
    thought = Thought("I must look.", "" if f.target == "chat" else SIGNATURE)
    f.plan(
        uses(call("Read", "call_1", file_path=path), before=[thought]),
        Said(["Seen."]),
    )
    ran = agent.run(f, "Look at it", "--effort", "high")
    ended_well(ran, "Seen.")
    equal([block["thinking"] for block in ran.blocks("assistant", "thinking")], ["I must look."])
    back = [t for turn in f.seen()[-1].asked.turns for t in only(Thought, turn.parts)]
    if f.target != "chat":
        equal([thought.signature for thought in back], [SIGNATURE], "the signature came back")


@over(*EVERY)
def a_long_talk_in_order(f):
    path = f.file("log.txt", "0\n")
    steps = [uses(call("Read", "call_0", file_path=path))]
    for step in range(1, STEPS):
        old, new = f"{step - 1}\n", f"{step}\n"
        change = call("Edit", f"call_{step}", file_path=path, old_string=old, new_string=new)
        steps.append(uses(change, before=[f"Step {step}."]))
    f.plan(*steps, Said(["Counted."]))
    ended_well(agent.run(f, "Count"), "Counted.")
    equal((f.work / "log.txt").read_text(), f"{STEPS - 1}\n")
    seen = f.seen()
    equal(len(seen), STEPS + 1, "requests")
    last = seen[-1].asked
    said = [t for turn in last.turns if turn.role == "assistant" for t in turn.parts]
    texts = [part for part in said if isinstance(part, str)]
    equal(texts, [f"Step {step}." for step in range(1, STEPS)])
    marks = json.dumps(seen[-1].body).count('"cache_control"')
    assert (marks > 0) == (f.target == "messages"), f"{marks} marks of the cache"


@over(*EVERY)
def goes_on_where_it_was(f):
    path = f.file("a.txt", "one\n")
    f.plan(
        uses(call("Read", "call_1", file_path=path)),
        Said(["First done."]),
        uses(call("Edit", "call_2", file_path=path, old_string="one", new_string="two")),
        Said(["Second done."]),
        Said(["Third done."]),
    )
    first = agent.run(f, "The first prompt")
    ended_well(first, "First done.")
    second = agent.run(f, "The second prompt", "--resume", first.session)
    ended_well(second, "Second done.")
    equal((f.work / "a.txt").read_text(), "two\n")
    ended_well(agent.run(f, "The third prompt", "--continue"), "Third done.")
    last = f.seen()[-1]
    said = json.dumps(last.body)
    for words in ("The first prompt", "First done.", "The second prompt", "Second done."):
        assert words in said, f"{words!r} is lost"
    equal(len(results(last)), 2, "results")


@over(*EVERY)
def a_fault_in_the_middle_is_met_by_the_route(f):
    """The first target fails in the second step; the second one, of another format, goes on."""
    path = f.file("a.txt", "before\n")
    f.plan(uses(call("Read", "call_1", file_path=path)), Fault("overload", 503))
    change = call("Edit", "call_2", file_path=path, old_string="before", new_string="after")
    f.plan_other(Said(["not asked"]), uses(change), Said(["Went on."]))
    ran = agent.run(f, "Change it", model=f.route)
    ended_well(ran, "Went on.")
    equal((f.work / "a.txt").read_text(), "after\n")
    equal(f.seen_other()[0].step, 1, "the step at which the other took over")
    equal([len(results(one)) for one in f.seen_other()], [1, 2])


@over(*EVERY)
def a_cut_stream_is_asked_again(f):
    path = f.file("a.txt", "cut\n")
    again = [Fault(cut=True, times=1), Said(["Whole."])]
    f.plan(uses(call("Read", "call_1", file_path=path)), again)
    ended_well(agent.run(f, "Read it"), "Whole.")


@over(*EVERY)
def a_picture_is_seen(f):
    import base64

    (f.work / "dot.png").write_bytes(base64.b64decode(Image().data))
    f.plan(
        uses(call("Read", "call_1", file_path=str(f.work / "dot.png"))),
        Said(["A dot."]),
    )
    ended_well(agent.run(f, "What is in it?"), "A dot.")
    body = json.dumps(f.seen()[-1].body)
    assert "iVBORw0KGgo" in body, body[-2000:]
