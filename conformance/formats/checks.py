"""What is checked between a door and a target."""

import json
import re

from words import (
    BIG,
    SCHEMA,
    SIGNATURE,
    TOOL,
    Asked,
    Call,
    Image,
    Result,
    Said,
    Thought,
    Turn,
    joined,
    only,
    text_of,
)

CHECKS = {}


class DoesNotApply(Exception):
    """The door's format has no words for it, so there is nothing to lose."""


def check(function):
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def same(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def hello(**more):
    return Asked(turns=[Turn("user", ["hello"])], **more)


def asked(pair, request, names):
    """The request as it arrived; `None` if it was dropped or refused by one of these names."""
    pair.plan(Said(["ok"]))
    answer = pair.ask(request)
    if answer.status == 400:
        assert named(names, [answer.text]), f"refused without naming any of {names}: {answer.text}"
        return None
    same(answer.status, 200)
    return None if named(names, answer.dropped) else pair.seen()


def named(names, texts):
    return any(name in text for name in names for text in texts)


@check
def a_system_prompt_and_a_history(pair):
    turns = [Turn("user", ["one"]), Turn("assistant", ["two"]), Turn("user", ["thr\u00e9e \U0001f600"])]
    pair.plan(Said(["ok"]))
    answer = pair.ask(Asked(turns=turns, system="Be brief."))
    same((answer.status, answer.dropped), (200, []))
    seen = pair.seen()
    same(seen.system, "Be brief.")
    same([(turn.role, joined(turn.parts)) for turn in seen.turns], [(t.role, t.parts) for t in turns])


@check
def a_picture(pair):
    request = Asked(turns=[Turn("user", ["what is it?", Image()])])
    seen = asked(pair, request, [])
    same(seen.turns[0].parts, ["what is it?", Image()])


@check
def tools_are_declared(pair):
    seen = asked(pair, hello(tools=[TOOL]), [])
    same(seen.tools, [seen.tools[0] | TOOL])
    same(seen.choice, "auto")


CALLED = [Call("look", '{"n":' + BIG + "}", "call_a"), Call("look", '{"n":2}', "call_b")]


def used(results, said="I look."):
    turns = [Turn("user", ["look"]), Turn("assistant", [said, *CALLED]), Turn("tool", results)]
    return Asked(turns=turns, tools=[TOOL])


@check
def parallel_calls_and_their_results(pair):
    seen = asked(pair, used([Result("call_a", ["A"]), Result("call_b", ["B"])]), [])
    calls = [part for turn in seen.turns for part in only(Call, turn.parts)]
    results = [part for turn in seen.turns for part in only(Result, turn.parts)]
    same([call.name for call in calls], ["look", "look"])
    same([json.loads(call.arguments) for call in calls], [{"n": int(BIG)}, {"n": 2}])
    assert calls[0].id != calls[1].id and calls[0].id, "calls must be told apart"
    same([result.of for result in results], [call.id for call in calls])
    same([text_of(result.parts) for result in results], ["A", "B"])
    same(text_of(seen.turns[1].parts), "I look.")


@check
def a_result_that_failed(pair):
    if "failed_result" in pair.door.CANNOT_ASK:
        raise DoesNotApply
    results = [Result("call_a", ["A"]), Result("call_b", ["broke"], is_error=True)]
    seen = asked(pair, used(results), ["tool_result.is_error"])
    if seen is None:
        seen = pair.seen()
        found = [part for turn in seen.turns for part in only(Result, turn.parts)]
        same(text_of(found[1].parts), "broke")
        return
    found = [part for turn in seen.turns for part in only(Result, turn.parts)]
    same([result.is_error for result in found], [False, True])


@check
def a_result_with_a_picture(pair):
    if "image_result" in pair.door.CANNOT_ASK:
        raise DoesNotApply
    results = [Result("call_a", ["A", Image()]), Result("call_b", ["B"])]
    seen = asked(pair, used(results), ["tool_result", "image"])
    if seen is not None:
        found = [part for turn in seen.turns for part in only(Result, turn.parts)]
        same(found[0].parts, ["A", Image()])


@check
def a_tool_is_demanded(pair):
    seen = asked(pair, hello(tools=[TOOL], choice="look"), [])
    assert seen.choice in ("look", "required"), seen.choice


@check
def some_tool_is_demanded(pair):
    same(asked(pair, hello(tools=[TOOL], choice="required"), []).choice, "required")


@check
def no_tool_is_allowed(pair):
    same(asked(pair, hello(tools=[TOOL], choice="none"), []).choice, "none")


@check
def how_tokens_are_drawn(pair):
    seen = asked(pair, hello(temperature=0.25), ["temperature"])
    if seen is not None:
        same(seen.temperature, 0.25)


@check
def texts_that_end_the_answer(pair):
    if "stop" in pair.door.CANNOT_ASK:
        raise DoesNotApply
    seen = asked(pair, hello(stop=["END"]), ["stop"])
    if seen is not None:
        same(seen.stop, ["END"])


@check
def the_longest_answer(pair):
    same(asked(pair, hello(cap=77), []).cap, 77)


@check
def the_shape_of_the_answer(pair):
    same(asked(pair, hello(schema=SCHEMA), []).schema, SCHEMA)


@check
def how_hard_to_think(pair):
    seen = asked(pair, hello(effort="high", cap=None), ["reasoning", "thinking"])
    if seen is not None:
        assert seen.effort, "the effort is neither said nor reported"


@check
def thoughts_of_the_past(pair):
    if "thought" in pair.door.CANNOT_ASK:
        raise DoesNotApply
    parts = [Thought("Hm.", SIGNATURE), "I look.", *CALLED]
    results = [Result("call_a", ["A"]), Result("call_b", ["B"])]
    turns = [Turn("user", ["look"]), Turn("assistant", parts), Turn("tool", results)]
    request = Asked(turns=turns, tools=[TOOL], effort="high", cap=None)
    seen = asked(pair, request, ["reasoning", "thinking"])
    if seen is not None:
        found = [part for turn in seen.turns for part in only(Thought, turn.parts)]
        same([part.signature for part in found], [SIGNATURE])


@check
def marks_of_the_prompt_cache(pair):
    if "marks" in pair.door.CANNOT_ASK:
        raise DoesNotApply
    seen = asked(pair, hello(system="Be brief.", marks=2), ["cache_control"])
    if seen is None:
        assert pair.target.NAME not in ("messages", "bedrock"), "a target that takes marks has none"
        return
    same((seen.marks, seen.system, seen.turns[0].parts), (2, "Be brief.", ["hello"]))


@check
def everything_at_once(pair):
    """Parallel calls, a picture, thoughts and a schema in one conversation, there and back."""
    thought = [] if "thought" in pair.door.CANNOT_ASK else [Thought("Hm.", SIGNATURE)]
    turns = [
        Turn("user", ["What is it?", Image()]),
        Turn("assistant", [*thought, "I look.", *CALLED]),
        Turn("tool", [Result("call_a", ["A"]), Result("call_b", ["B"])]),
        Turn("user", ["And now?"]),
    ]
    thinks = [] if "signature" in pair.target.CANNOT_ANSWER else [Thought("So.", SIGNATURE)]
    for stream in (False, True):
        about = {"system": "Be brief.", "tools": [TOOL], "schema": SCHEMA, "effort": "high", "cap": None}
        pair.plan(Said([*thinks, "I look.", *CALLED], stop="tools"))
        answer = pair.ask(Asked(turns=turns, stream=stream, **about))
        same(answer.status, 200)
        lost = set(answer.dropped)
        assert lost <= {"thinking", "reasoning", "reasoning_effort", "tools.strict"}, lost
        seen = pair.seen()
        same((seen.system, seen.schema), ("Be brief.", SCHEMA))
        same([tool["name"] for tool in seen.tools], ["look"])
        assert seen.effort or lost, "the effort is neither said nor reported"
        found = [part for turn in seen.turns for part in turn.parts]
        same(found[:2], ["What is it?", Image()])
        same([json.loads(call.arguments) for call in only(Call, found)], [{"n": int(BIG)}, {"n": 2}])
        results = only(Result, found)
        same([text_of(result.parts) for result in results], ["A", "B"])
        same([result.of for result in results], [call.id for call in only(Call, found)])
        same([text for text in found if isinstance(text, str)][-1], "And now?")
        heard = pair.door.read_stream(answer.text) if stream else pair.door.read_answer(answer.json())
        assert heard.whole and not heard.error, heard
        same([json.loads(call.arguments) for call in only(Call, heard.parts)], [{"n": int(BIG)}, {"n": 2}])
        same((text_of(heard.parts), heard.stop), ("I look.", "tools"))
        same("".join(part.text for part in only(Thought, heard.parts)), "So." if thinks else "")


def answered(pair, said, stream, **more):
    pair.plan(said)
    answer = pair.ask(hello(stream=stream, tools=[TOOL], **more))
    same(answer.status, 200)
    if stream:
        return pair.door.read_stream(answer.text)
    return pair.door.read_answer(answer.json())


def both(pair, said, judge):
    """The same answer in one piece and as a stream."""
    for stream in (False, True):
        heard = answered(pair, said, stream)
        assert heard.whole and not heard.error, f"stream {stream}: not whole: {heard}"
        judge(heard)


@check
def a_text_and_its_usage(pair):
    def judge(heard):
        same(heard.parts, ["Hello, w\u00f6rld \U0001f600!"])
        same((heard.stop, heard.input, heard.cached, heard.output), ("end", 100, 40, 20))

    both(pair, Said(["Hello, w\u00f6rld \U0001f600!"]), judge)


@check
def an_answer_that_met_its_cap(pair):
    both(pair, Said(["Hello and"], stop="length"), lambda heard: same(heard.stop, "length"))


@check
def an_answer_that_was_filtered(pair):
    both(pair, Said(["Well"], stop="filter"), lambda heard: same(heard.stop, "filter"))


@check
def calls_in_an_answer(pair):
    def judge(heard):
        calls = only(Call, heard.parts)
        same([call.name for call in calls], ["look", "look"])
        same([json.loads(call.arguments) for call in calls], [{"n": int(BIG)}, {"n": 2}])
        assert calls[0].id and calls[0].id != calls[1].id, "calls must be told apart"
        same((text_of(heard.parts), heard.stop), ("I look.", "tools"))

    both(pair, Said(["I look.", *CALLED], stop="tools"), judge)


@check
def thoughts_come_back_with_the_result(pair):
    """An agent's loop: what the model thought before its call goes back to it, whoever asks."""
    if "signature" in pair.target.CANNOT_ANSWER:
        raise DoesNotApply
    for stream in (False, True):
        call = Call("look", '{"n":1}', f"call_{pair.door.NAME}_{stream}")
        said = Said([Thought("Hm.", SIGNATURE), "I look.", call], stop="tools")
        heard = answered(pair, said, stream, effort="high", cap=None)
        same("".join(part.text for part in only(Thought, heard.parts)), "Hm.")
        made = only(Call, heard.parts)[0]
        results = Turn("tool", [Result(made.id, ["A"])])
        turns = [Turn("user", ["hello"]), Turn("assistant", heard.parts), results]
        pair.plan(Said(["done"]))
        request = Asked(turns=turns, tools=[TOOL], effort="high", cap=None, stream=stream)
        same(pair.ask(request).status, 200)
        found = [part for turn in pair.seen().turns for part in only(Thought, turn.parts)]
        same([part.signature for part in found], [SIGNATURE])


@check
def a_stream_that_was_cut(pair):
    pair.plan(Said(["Hello, world"]), cut=True)
    answer = pair.ask(hello(stream=True))
    heard = pair.door.read_stream(answer.text)
    assert not heard.whole, "a cut stream looks whole"
    assert heard.error, f"nobody says that it was cut: {answer.text[-300:]}"


@check
def a_request_that_is_refused(pair):
    pair.plan(Said([]), fails=(400, "request"))
    answer = pair.ask(hello())
    same(answer.status, 400)
    assert "request said so" in pair.door.read_answer(answer.json()).error


@check
def a_limit_that_is_met(pair):
    pair.plan(Said([]), fails=(429, "limit"))
    answer = pair.ask(hello())
    same(answer.status, 429)
    assert pair.door.read_answer(answer.json()).error


@check
def the_provider_is_down(pair):
    pair.plan(Said([]), fails=(503, "overload"))
    answer = pair.ask(hello())
    assert answer.status in (502, 503, 529), answer.status
    assert re.search(r"overload said so|provider", answer.text), answer.text
    assert pair.door.read_answer(answer.json()).error
    answer = pair.ask(hello(stream=True))
    if answer.status == 200:
        # A door whose streams begin before anybody was asked.
        heard = pair.door.read_stream(answer.text)
        assert heard.error and not heard.whole, answer.text
