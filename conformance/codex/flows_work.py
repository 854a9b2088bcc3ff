"""Flows in which Codex works on files, over each format of the provider."""

import json

import agent
from running import equal
from scripted import Fault
from stage import call, over, results, uses, words_of
from words import SIGNATURE, Call, Said, Thought, only

EVERY = ("chat", "messages", "gemini", "responses")
STEPS = 8


def shell(id, command):
    return call("exec_command", id, cmd=command)


def patch(*lines):
    return "\n".join(["*** Begin Patch", *lines, "*** End Patch"]) + "\n"


def ended_well(ran, text):
    equal((ran.code, ran.end["type"]), (0, "turn.completed"), ran.failure + ran.errors[-300:])
    equal(ran.text, text, "the last words")


@over(*EVERY)
def edits_a_file_by_a_command(f):
    f.file("greeting.txt", "hello there\n")
    script = [
        uses(shell("call_1", "cat greeting.txt"), before=["I look first."]),
        uses(shell("call_2", "sed -i s/hello/bye/ greeting.txt")),
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
    equal([item["exit_code"] for item in ran.items("command_execution")], [0, 0])
    usage = ran.end["usage"]
    equal(usage["input_tokens"], sum(said.input for said in script), "input tokens")
    equal(usage["cached_input_tokens"], sum(said.cached for said in script), "cached")
    equal(usage["output_tokens"], sum(said.output for said in script), "output tokens")


@over(*EVERY)
def patches_a_file_by_its_own_tool(f):
    """A model that Codex knows gets `apply_patch`, a tool of free text; here it is an alias."""
    f.file("a.py", "one = 1\ntwo = 2\n")
    edit = patch("*** Update File: a.py", "@@", " one = 1", "-two = 2", '+two = "2\u2603"')
    f.plan(uses(call("apply_patch", "call_1", input=edit)), Said(["Patched."]))
    ran = agent.run(f, "Patch a.py", model=f.known)
    ended_well(ran, "Patched.")
    equal((f.work / "a.py").read_text(), 'one = 1\ntwo = "2\u2603"\n')
    (change,) = ran.items("file_change")
    equal([one["kind"] for one in change["changes"]], ["update"])
    first, last = f.seen()
    (tool,) = [tool for tool in first.asked.tools if tool["name"] == "apply_patch"]
    assert "begin_patch" in tool["description"], tool
    made = [one for turn in last.asked.turns for one in only(Call, turn.parts)]
    equal([(one.name, json.loads(one.arguments)) for one in made], [("apply_patch", {"input": edit})])
    assert "Success" in words_of(results(last)[0]), results(last)


@over(*EVERY)
def a_patch_that_does_not_fit(f):
    f.file("a.py", "one = 1\n")
    wrong = patch("*** Update File: a.py", "@@", "-none = 0", "+none = 1")
    right = patch("*** Add File: b.py", "+new = 1")
    f.plan(
        uses(call("apply_patch", "call_1", input=wrong)),
        uses(call("apply_patch", "call_2", input=right)),
        Said(["Patched."]),
    )
    ended_well(agent.run(f, "Patch a.py", model=f.known), "Patched.")
    equal((f.work / "a.py").read_text(), "one = 1\n")
    equal((f.work / "b.py").read_text(), "new = 1\n")
    assert "Success" not in words_of(results(f.seen()[1])[0])


@over(*EVERY)
def two_tools_at_once(f):
    f.plan(
        uses(shell("call_a", "echo first > one.txt"), shell("call_b", "echo second > two.txt")),
        Said(["Both done."]),
    )
    ended_well(agent.run(f, "Do both"), "Both done.")
    equal((f.work / "one.txt").read_text() + (f.work / "two.txt").read_text(), "first\nsecond\n")
    equal(sorted(result.of for result in results(f.seen()[-1])), ["call_a", "call_b"])


@over(*EVERY)
def a_command_that_fails(f):
    f.plan(uses(shell("call_1", "cat missing.txt")), Said(["It is not there."]))
    ran = agent.run(f, "Read it")
    ended_well(ran, "It is not there.")
    assert ran.items("command_execution")[0]["exit_code"] != 0, ran.events
    assert "No such file" in words_of(results(f.seen()[-1])[0])


@over(*EVERY)
def signed_thinking_comes_back(f):
    thought = Thought("I must look.", "" if f.target == "chat" else SIGNATURE)
    f.plan(uses(shell("call_1", "true"), before=[thought]), Said(["Seen."]))
    ran = agent.run(f, "Look at it", "-c", "model_reasoning_effort=high")
    ended_well(ran, "Seen.")
    back = [t for turn in f.seen()[-1].asked.turns for t in only(Thought, turn.parts)]
    if f.target != "chat":
        equal([thought.signature for thought in back], [SIGNATURE], "the signature came back")


@over(*EVERY)
def a_long_talk_in_order(f):
    steps = [
        uses(shell(f"call_{step}", f"echo {step} >> log.txt"), before=[f"Step {step}."])
        for step in range(STEPS)
    ]
    f.plan(*steps, Said(["Counted."]))
    ended_well(agent.run(f, "Count"), "Counted.")
    equal((f.work / "log.txt").read_text().split(), [str(step) for step in range(STEPS)])
    last = f.seen()[-1].asked
    said = [part for turn in last.turns if turn.role == "assistant" for part in turn.parts]
    texts = [part for part in said if isinstance(part, str)]
    equal(texts, [f"Step {step}." for step in range(STEPS)])
    equal(len(results(f.seen()[-1])), STEPS)


@over(*EVERY)
def goes_on_where_it_was(f):
    f.plan(
        uses(shell("call_1", "echo one > a.txt")),
        Said(["First done."]),
        uses(shell("call_2", "echo two >> a.txt")),
        Said(["Second done."]),
    )
    first = agent.run(f, "The first prompt")
    ended_well(first, "First done.")
    ended_well(agent.run(f, "The second prompt", first.thread, before=["resume"]), "Second done.")
    equal((f.work / "a.txt").read_text(), "one\ntwo\n")
    said = json.dumps(f.seen()[-1].body)
    for words in ("The first prompt", "First done.", "The second prompt"):
        assert words in said, f"{words!r} is lost"


@over(*EVERY)
def a_fault_in_the_middle_is_met_by_the_route(f):
    """The first target fails in the second step; the second one, of another format, goes on."""
    f.plan(uses(shell("call_1", "echo before > a.txt")), Fault("overload", 503))
    f.plan_other(Said(["not asked"]), uses(shell("call_2", "echo after > a.txt")), Said(["On."]))
    ran = agent.run(f, "Change it", model=f.route)
    ended_well(ran, "On.")
    equal((f.work / "a.txt").read_text(), "after\n")
    equal([len(results(one)) for one in f.seen_other()], [1, 2])


@over(*EVERY)
def a_cut_stream_is_asked_again(f):
    again = [Fault(cut=True, times=1), Said(["Whole."])]
    f.plan(uses(shell("call_1", "true")), again)
    ended_well(agent.run(f, "Do it"), "Whole.")
