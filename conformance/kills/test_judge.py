"""Can the judge fail? Evidence that is in order, doctored in one place at a time: each must be seen, by the right rule.

The doctorings work on any evidence. They are tried on a small one made by hand (`made`), and, in each run of the suite,
on what the first rounds really left behind, so that a rule that no longer fits what the product writes is noticed.
"""

import copy
import json
import pickle
import types

import judge
import snapshot

DOCTORINGS = []


def doctoring(rule):
    def register(function):
        DOCTORINGS.append((rule, function))
        return function

    return register


def run():
    """Tries the judge on the evidence that was made by hand: (passed, failed)."""
    wrong = judge.judge(made())
    if wrong:
        print(f"FAIL the judge finds fault with evidence that is in order: {wrong}")
        return 0, 1
    unseen, tried = doctored(made())
    unseen += [f"nothing tries the rule {rule.__name__}" for rule in judge.RULES if rule.__name__ not in tried]
    if len(tried) < len({rule for rule, _ in DOCTORINGS}):
        unseen.append("not every doctoring fits the evidence that was made by hand")
    for text in unseen:
        print(f"FAIL {text}")
    print(f"{'FAIL' if unseen else 'ok  '} the judge sees {len(DOCTORINGS)} doctorings by {len(judge.RULES)} rules")
    return (0, 1) if unseen else (1, 0)


def doctored(evidence):
    """What the judge does not see in this evidence, and the rules that were tried on it."""
    frozen, unseen, tried = pickle.dumps(plain(evidence)), [], set()
    for rule, function in DOCTORINGS:
        evidence = pickle.loads(frozen)
        try:
            function(evidence)
        except (IndexError, StopIteration):
            continue  # there is nothing of that kind in this evidence
        tried.add(rule)
        if not any(text.startswith(rule + ":") for text in judge.judge(evidence)):
            unseen.append(f"the judge does not see {function.__name__} by {rule}")
    return unseen, tried


def plain(evidence):
    """The evidence without threads and clients, so that it can be copied."""
    found = copy.copy(evidence)
    fields = ("mark", "style", "planned", "response_id", "final", "final_at", "error", "breaks", "log")
    found.tasks = []
    for task in evidence.tasks:
        readers = [types.SimpleNamespace(kind=r.kind, events=list(r.events)) for r in task.readers]
        found.tasks.append(types.SimpleNamespace(readers=readers, **{name: getattr(task, name) for name in fields}))
    return found


# What can be wrong.


@doctoring("one_effect_per_step")
def an_effect_twice(ev):
    ev.effects.append(dict(ev.effects[0]))


@doctoring("one_effect_per_step")
def an_effect_under_two_steps(ev):
    ev.effects.append(ev.effects[0] | {"idempotency_key": "step_other"})


@doctoring("intent_before_effect")
def a_tool_called_without_an_intent(ev):
    kill, call = next((k, c) for k in server(ev) for c in called(ev) if c["at"] < k["at"])
    del kill["snapshot"].steps[call["key"]]


@doctoring("intent_before_effect")
def a_model_asked_without_an_intent(ev):
    kill, line = next((k, n) for k in server(ev) for n in ev.provider if judge.is_step(n) and n["seen_at"] < k["at"])
    del kill["snapshot"].attempts[line["attempt_id"]]


@doctoring("finished_steps_stay_finished")
def a_finished_tool_step_run_again(ev):
    kill, call = next((k, c) for k in server(ev) for c in called(ev) if c["key"] in k["snapshot"].finished())
    ev.tool_calls.append(call | {"at": kill["dead_at"] + 0.1})


@doctoring("finished_steps_stay_finished")
def a_finished_model_step_asked_again(ev):
    line = next(n for k in server(ev) for n in ev.provider if n["call_id"] in k["snapshot"].outcomes)
    ev.provider.append(line | {"attempt_id": "att_again", "finished": False})


@doctoring("only_what_may_be_repeated_is_repeated")
def a_write_called_without_a_decision(ev):
    call = next(c for c in called(ev) if c["tool"] == "add_note")
    ev.tool_calls += [call] * (1 + sum(d["step"] == call["key"] for d in ev.decisions))


@doctoring("journals_only_grow")
def a_journal_row_changed(ev):
    ev.clean[-1]["snapshot"].journal[0]["body_sha256"] = "other"


@doctoring("journals_only_grow")
def a_ledger_row_lost(ev):
    attempt = next(iter(server(ev)[0]["snapshot"].ledger))
    del ev.clean[-1]["snapshot"].ledger[attempt]


@doctoring("lost_outcomes_are_shown")
def a_doubt_that_nobody_was_shown(ev):
    step = next(step for k in server(ev) for step in k["snapshot"].in_doubt())
    ev.doubts = [doubt for doubt in ev.doubts if doubt["step"] != step]


@doctoring("doubts_are_what_they_say")
def a_doubt_with_other_arguments(ev):
    step = next(d for d in ev.doubts if any(c["key"] == d["step"] for c in called(ev)))
    step["arguments"] = '{"text":"something else"}'


@doctoring("nothing_stays_open")
def a_response_left_open(ev):
    next(iter(ev.clean[-1]["snapshot"].responses.values()))["status"] = "in_progress"


@doctoring("nothing_stays_open")
def a_step_left_open(ev):
    rows = next(r for r in ev.clean[-1]["snapshot"].steps.values() if len(r) > 1)
    del rows[1:]


@doctoring("no_answer_is_bought_twice")
def a_call_finished_twice(ev):
    line = [n for n in ev.provider if n["finished"]][-1]
    ev.provider.append(line | {"attempt_id": "att_again"})


@doctoring("no_answer_is_bought_twice")
def an_attempt_sent_twice(ev):
    ev.provider.append(dict(ev.provider[0]))


@doctoring("the_provider_is_on_the_bill")
def a_step_missing_from_the_ledger(ev):
    line = next(n for n in ev.provider if judge.is_step(n) and n["finished"])
    ev.clean[-1]["snapshot"].ledger.pop(line["attempt_id"], None)


@doctoring("the_provider_is_on_the_bill")
def a_plain_call_missing_long_before_a_kill(ev):
    line = next(n for n in ev.provider if not judge.is_step(n) and n["finished"])
    ev.clean[-1]["snapshot"].ledger.pop(line["attempt_id"], None)
    line["seen_at"] -= 100


@doctoring("the_provider_is_on_the_bill")
def a_cost_that_is_off_by_one(ev):
    priced(ev)["cost"] += 1


@doctoring("the_ledger_has_no_more_than_the_provider")
def a_bill_for_nothing(ev):
    row = priced(ev)
    ev.provider = [line for line in ev.provider if line["attempt_id"] != row["attempt"]]


@doctoring("journal_and_ledger_agree")
def an_outcome_without_its_bill(ev):
    row = next(r for r in ev.clean[-1]["snapshot"].journal if r["kind"] == "model_outcome")
    found = ev.clean[-1]["snapshot"].ledger
    for attempt in [a for a, r in found.items() if r["call"] == row["call"]]:
        del found[attempt]


@doctoring("budgets_hold")
def a_budget_over_its_limit(ev):
    ev.samples[0]["budgets"][0]["settled_usd"] = "1000.00"


@doctoring("budgets_hold")
def a_settlement_without_a_row(ev):
    ev.clean[-1]["snapshot"].budgets[0]["settled"] += 1


@doctoring("budgets_hold")
def something_still_reserved(ev):
    ev.clean[-1]["snapshot"].budgets[0]["reserved"] += 1


@doctoring("budgets_hold")
def something_still_shown_as_reserved(ev):
    next(s for s in ev.samples if s["idle"])["budgets"][0]["reserved_usd"] = "0.000001"


@doctoring("crashes_are_presumed_exactly")
def a_crash_that_was_forgiven(ev):
    ev.clean[-1]["snapshot"].budgets[0]["presumed"] += 1


@doctoring("crashes_are_presumed_exactly")
def a_slice_that_vanished(ev):
    kill = server(ev)[-1]
    budget = kill["snapshot"].budgets[0]
    kill["snapshot"].slices["slice_gone"] = (budget["budget"], 1)


@doctoring("what_was_spent_is_accounted_for")
def money_that_went_unseen(ev):
    keys = {judge.key_of(line) for line in ev.provider if line["usage"]}
    budget = next(b for b in ev.clean[-1]["snapshot"].budgets if b["key"] in keys)
    budget.update(settled=0, unreconciled=0, presumed=0)


@doctoring("tasks_end_as_planned")
def a_task_that_failed(ev):
    ev.tasks[0].final = ev.tasks[0].final | {"status": "failed"}


@doctoring("tasks_end_as_planned")
def a_task_that_never_ended(ev):
    ev.tasks[0].final, ev.tasks[0].error = None, "gave up"


@doctoring("tasks_end_as_planned")
def a_write_that_was_never_done(ev):
    texts = [text for task in ev.tasks for tool, text in task.planned or [] if tool != "find_note"]
    ev.effects = [effect for effect in ev.effects if texts[0] not in effect["arguments"].values()]


@doctoring("streams_have_no_gap")
def a_gap_in_a_stream(ev):
    del next(r for t in ev.tasks for r in t.readers if len(r.events) > 3).events[2]


@doctoring("streams_have_no_gap")
def an_event_twice_in_a_stream(ev):
    reader = next(r for t in ev.tasks for r in t.readers if len(r.events) > 3)
    reader.events.insert(2, reader.events[2])


@doctoring("streams_have_no_gap")
def other_bytes_under_a_number(ev):
    reader = next(r for t in ev.tasks for r in t.readers if r.kind == "raw" and len(r.events) > 3)
    number, raw, at = reader.events[2]
    reader.events[2] = (number, raw + " ", at)


@doctoring("what_was_told_is_durable")
def an_event_sent_before_it_was_durable(ev):
    kill, task = next(
        (k, t) for k in server(ev) for t in ev.tasks for r in t.readers
        if r.kind != "foreground" and r.events and r.events[0][2] < k["at"]
    )
    del kill["snapshot"].events[task.response_id][0]


@doctoring("what_was_told_is_durable")
def an_answer_sent_before_it_was_durable(ev):
    kill, task = next((k, t) for k in server(ev) for t in ev.tasks if t.final and t.final_at < k["at"])
    del kill["snapshot"].responses[task.response_id]


@doctoring("plain_calls_are_answered")
def a_call_broken_by_nothing(ev):
    call = ev.calls[0][0]
    call.update(outcome="APIConnectionError: Connection error.", begun=1.0, ended=2.0)


@doctoring("plain_calls_are_answered")
def an_answer_to_something_else(ev):
    next(c for calls in ev.calls for c in calls if c["outcome"] == "ok")["text"] = "You said: nothing"


@doctoring("nobody_survives")
def a_survivor(ev):
    server(ev)[0]["survivors"].append("python3 (pid 1)")


@doctoring("nobody_survives")
def somebody_left_after_a_clean_end(ev):
    ev.clean[0]["left"].append("python3 (pid 1)")


@doctoring("nothing_panicked")
def a_panic(ev):
    ev.panics.append("holdfast-1.log: thread 'main' panicked at x.rs:1:1:")


@doctoring("the_round_was_played")
def a_kill_that_did_not_take_place(ev):
    ev.notes.append("it never got there")


def server(ev):
    return [kill for kill in ev.kills if kill["what"] == "server"]


def called(ev):
    return [call for call in ev.tool_calls if call["what"] == "called"]


def priced(ev):
    """A ledger row, in the last file, of something that the provider finished."""
    finished = {line["attempt_id"] for line in ev.provider if line["finished"]}
    return next(r for a, r in ev.clean[-1]["snapshot"].ledger.items() if a in finished and r["cost"])


# Evidence made by hand: a plain call, and two tasks; one had ended, one's tool was at work when the server was killed.

TEXTS = {"a": "t1aq n00", "b": "t1bq n00"}


def made():
    """One kill in the middle of task b, whose effect is there; then the decision, the end, and a clean stop."""
    steps_a = [*model("a", 1), *tool("a"), *model("a", 2)]
    lost = [*model("b", 1), *tool("b")[:1]]
    settled = [
        row("tool_lost", "b", "step_b0", "hfc_b0"),
        row("resolved", "b", "step_b0", None, decision={"decision": "done", "output": "It was saved."}),
        *model("b", 2),
    ]
    asked = ["att_a1", "att_a2", "att_b1"]
    dead = file_of(steps_a + lost, [*asked, "att_a0", "att_p"], {"a": "completed", "b": "in_progress"})
    billed = [*asked, "att_b2", "att_a0", "att_b0", "att_p"]
    clean = file_of(steps_a + lost + settled, billed, dict.fromkeys("ab", "completed"))
    kill = {"what": "server", "place": "here", "at": 101.0, "dead_at": 101.1, "ready_at": 101.5, "number": 1}
    lines = [line(asked[n], f"t1{asked[n][4]}q", 100.1 + n / 5) for n in range(3)]
    lines += [line("att_b2", "t1bq", 102.1), line("att_p", "p1jsonx1q", 100.6)]
    calls = [call("a", 100.25, "called"), call("a", 100.3, "answered"), call("b", 100.8, "called")]
    doubt = {"at": 101.6, "number": 2, "session": "sess_b", "step": "step_b0", "tool": "add_note", "why": "killed"}
    plain_call = {"mark": "p1jsonx1q", "key": "plain", "model": "mock/demo", "outcome": "ok", "begun": 100.5}
    plain_call["ended"] = 100.7
    shown = {"scope": {"key": "agent"}, "limit_usd": "1.00", "settled_usd": "0.10", "unreconciled_usd": "0.00"}
    return types.SimpleNamespace(
        kills=[kill | {"snapshot": dead, "survivors": []}],
        clean=[{"at": 103.0, "number": 2, "by_itself": True, "snapshot": clean, "left": []}],
        doubts=[doubt | {"arguments": json.dumps({"text": TEXTS["b"]})}],
        decisions=[{"at": 101.7, "step": "step_b0", "decision": "done", "answered": True}],
        tasks=[task("a", "Note 6 is saved.", 100.9), task("b", "It was saved.", 102.5)],
        calls=[[plain_call | {"text": "You said: p1jsonx1q is here"}]],
        samples=[{"at": 102.9, "idle": True, "budgets": [shown | {"presumed_usd": "0.00", "reserved_usd": "0.00"}]}],
        effects=[{"tool": "add_note", "idempotency_key": f"step_{n}0", "arguments": {"text": TEXTS[n]}} for n in "ab"],
        tool_calls=calls,
        provider=lines,
        panics=[],
        notes=[],
    )


def row(kind, task, step, call_id, **event):
    found = {"session": f"sess_{task}", "kind": kind, "response": f"resp_{task}", "step": step, "call": call_id}
    return found | {"seq": 0, "body_sha256": f"{kind}{step}", "event": {"kind": kind, **event}}


def model(task, number):
    step, call_id = f"step_{task}{number}", f"hfc_{task}{number}"
    usage = {"input_tokens": 10, "output_tokens": 5}
    intent = row("model_intent", task, step, call_id, attempt=f"att_{task}{number}")
    return [intent, row("model_outcome", task, step, call_id, usage=usage)]


def tool(task):
    step, call_id = f"step_{task}0", f"hfc_{task}0"
    intent = row("tool_intent", task, step, call_id, attempt=f"att_{task}0", effect="write")
    return [intent, row("tool_outcome", task, step, call_id)]


def line(attempt, mark, at):
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    found = {"call_id": attempt.replace("att", "hfc"), "attempt_id": attempt, "finished": True, "usage": usage}
    return found | {"body": f"say {mark} now", "seen_at": at}


def call(task, at, what):
    found = {"at": at, "pid": 1, "what": what, "key": f"step_{task}0", "tool": "add_note"}
    return found | {"arguments": {"text": TEXTS[task]}}


def file_of(journal, attempts, statuses):
    found = snapshot.Snapshot()
    found.journal = [dict(entry, seq=number) for number, entry in enumerate(journal)]
    for attempt in attempts:
        is_tool, name = attempt.endswith("0"), attempt[4:]
        usage = {"input_tokens": None if is_tool else 10, "output_tokens": None if is_tool else 5}
        found.ledger[attempt] = {
            "attempt": attempt, "call": f"hfc_{name}", "step": None if name == "p" else f"step_{name}",
            "key": "key_plain" if name == "p" else "key_agent", "over_bound": 0, "unreconciled": 0,
            "cost": 0 if is_tool else judge.cost_of({"prompt_tokens": 10, "completion_tokens": 5}), **usage,
        }
    found.keys = {"key_agent": "agent", "key_plain": "plain"}
    bills = found.ledger.values()
    costs = {key: sum(r["cost"] for r in bills if r["key"] == f"key_{key}") for key in ("agent", "plain")}
    zero = dict.fromkeys(("unreconciled", "presumed", "reserved", "claimed", "slices"), 0)
    found.budgets = [
        {"budget": f"bud_{key}", "key": key, "limit": 10**9, "settled": cost, **zero} for key, cost in costs.items()
    ]
    found.responses = {f"resp_{task}": {"status": status} for task, status in statuses.items()}
    found.sessions = {f"sess_{task}": "idle" for task in statuses}
    found.events = {f"resp_{task}": {number: raw for number, raw in enumerate(log(task))} for task in statuses}
    return found.index()


def log(task):
    """The shortest life of a response that the standard's order allows."""
    response = {"id": f"resp_{task}", "object": "response", "status": "in_progress", "output": []}
    events = [{"type": f"response.{kind}", "response": response} for kind in ("created", "in_progress")]
    item = {"id": f"msg_{task}", "type": "message", "status": "completed", "content": []}
    events.append({"type": "response.output_item.added", "output_index": 0, "item": item})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    events.append({"type": "response.completed", "response": response | {"status": "completed", "output": [item]}})
    return [json.dumps(event | {"sequence_number": number}) for number, event in enumerate(events)]


def task(name, output, at):
    said = {"type": "message", "content": [{"type": "output_text", "text": f"The tool said: {output}"}]}
    arguments = json.dumps({"text": TEXTS[name]})
    called_item = {"type": "mcp_call", "name": "add_note", "arguments": arguments, "status": "completed"}
    called_item["output"] = output
    final = {"id": f"resp_{name}", "status": "completed", "output": [called_item, said]}
    whole = log(name)
    reader = types.SimpleNamespace(kind="raw", events=[(n, raw, at - 0.6 + n / 10) for n, raw in enumerate(whole)])
    return types.SimpleNamespace(
        mark=f"t1{name}q", style="background_stream", planned=[("add_note", TEXTS[name])], response_id=final["id"],
        final=final, final_at=at, error=None, breaks=[], log=whole, readers=[reader],
    )
