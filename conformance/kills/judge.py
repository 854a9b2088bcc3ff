"""The judge: evidence in, what is wrong out. Pure, so that doctored evidence can try it (`test_judge.py`).

Every rule is a generator of sentences; none means that all is well. Rules believe what the tool server,
the provider, the kernel and the clients saw, and the files of dead servers; the product's own figures are
only ever held against these.
"""

import json
import re

import snapshot
from events import check_events
from machine import INPUT_PRICE, OUTPUT_PRICE

# A plain call whose answer ended so shortly before a kill may be missing from the ledger (CONTRACTS §3), in seconds.
UNWRITTEN_SECONDS = 1.0
# What the provider's log may lag behind what it did, in seconds.
LOG_LAG_SECONDS = 0.05
RERUNS_MAX = 3
AMOUNTS = ("settled", "unreconciled", "presumed", "reserved")
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
TASK_MARK = re.compile(r"\bt\d+[a-z]+q\b")
RULES = []


def rule(function):
    RULES.append(function)
    return function


def judge(evidence):
    """All that is wrong, each sentence with the name of its rule."""
    found = []
    for function in RULES:
        found += [f"{function.__name__}: {text}" for text in function(evidence)]
    return list(dict.fromkeys(found))


# Effects and steps.


@rule
def one_effect_per_step(ev):
    """No tool effect twice: not under one key, and not under two."""
    keys, texts = {}, {}
    for effect in ev.effects:
        key, text = effect["idempotency_key"], json.dumps([effect["tool"], effect["arguments"]])
        if key is None:
            yield f"an effect without an idempotency key: {text}"
        elif key in keys:
            yield f"step {key} had two effects: {keys[key]} and {text}"
        if text in texts:
            yield f"{text} happened twice, as {texts[text]} and as {key}"
        keys[key], texts[text] = text, key


@rule
def intent_before_effect(ev):
    """What a tool server or the provider was asked for before a kill is in the dead server's journal."""
    for kill in server_kills(ev):
        steps, attempts = kill["snapshot"].steps, kill["snapshot"].attempts
        for call in ev.tool_calls:
            if call["what"] == "called" and call["at"] < kill["at"] and call["key"] not in steps:
                yield f"{call['tool']} was called as {call['key']}, and the journal of {name(kill)} has no such step"
        for line in ev.provider:
            if is_step(line) and line["seen_at"] < kill["at"] and line["attempt_id"] not in attempts:
                yield f"the provider was asked as {line['attempt_id']}, which the journal of {name(kill)} does not have"


@rule
def finished_steps_stay_finished(ev):
    """A step whose outcome is in a dead server's journal is never run again."""
    for kill in server_kills(ev):
        dead = kill["snapshot"]
        finished = dead.finished()
        for call in ev.tool_calls:
            if call["what"] == "called" and call["key"] in finished and call["at"] > kill["dead_at"]:
                yield f"{call['tool']} {call['key']} was called again after {name(kill)}, whose journal has its outcome"
        for line in ev.provider:
            if line["call_id"] in dead.outcomes and line["attempt_id"] not in dead.attempts:
                yield f"{line['call_id']} was asked for again after {name(kill)}, whose journal has its outcome"
        for shown in ev.doubts:
            if shown["step"] in finished and shown["at"] > kill["dead_at"]:
                yield f"{shown['step']} is shown in doubt after {name(kill)}, whose journal has its outcome"


@rule
def only_what_may_be_repeated_is_repeated(ev):
    """A writing tool is called once, and once more for each decision to retry; others three times more at most."""
    called = {}
    for call in ev.tool_calls:
        if call["what"] == "odd":
            yield f"the tool server was sent an odd line: {call['line']}"
        if call["what"] == "called":
            if not str(call["key"]).startswith("step_"):
                yield f"{call['tool']} was called with the key {call['key']!r}"
            called.setdefault((call["key"], call["tool"]), []).append(call)
    for (key, tool), calls in called.items():
        retries = sum(d["step"] == key and d["decision"] == "retry" for d in ev.decisions)
        allowed = 1 + (retries if tool == "add_note" else RERUNS_MAX)
        if len(calls) > allowed:
            yield f"{tool} {key} was called {len(calls)} times, with {retries} decisions to retry it"


@rule
def journals_only_grow(ev):
    """What a dead server had journaled or billed is there, unchanged, ever after."""
    found = copies(ev)
    for (_, before), (_, after) in zip(found, found[1:]):
        later = {(row["session"], row["seq"]): row["body_sha256"] for row in after.journal}
        for row in before.journal:
            if later.get((row["session"], row["seq"])) != row["body_sha256"]:
                yield f"row {row['seq']} ({row['kind']}) of {row['session']} was changed or lost"
        for attempt, row in before.ledger.items():
            if after.ledger.get(attempt) != row:
                yield f"the ledger row of {attempt} was changed or lost"


# Doubt.


@rule
def lost_outcomes_are_shown(ev):
    """Every lost outcome of a writing tool is in doubt, and shown so."""
    for kill in server_kills(ev):
        shown = {d["step"] for d in ev.doubts if d["at"] > kill["dead_at"]}
        for step in kill["snapshot"].in_doubt():
            if step not in shown:
                yield f"the outcome of {step} was lost with {name(kill)}, and it was never shown in doubt"
    shown = {(d["step"]) for d in ev.doubts}
    for kill in ev.kills:
        if kill["what"] != "tool":
            continue
        for call in lost_calls(ev, kill):
            if call["tool"] == "add_note" and call["key"] not in shown:
                yield f"the outcome of {call['key']} was lost with its tool server, and it was never shown in doubt"
    for _, copy in copies(ev)[-1:]:
        for step, rows in copy.steps.items():
            if any(row["kind"] == "tool_lost" for row in rows) and snapshot.is_write(rows) and step not in shown:
                yield f"{step} was lost, as the journal says, and never shown in doubt"


@rule
def doubts_are_what_they_say(ev):
    """What is shown in doubt is a writing tool's call, with the arguments that its server was sent."""
    sent = {call["key"]: call for call in ev.tool_calls if call["what"] == "called"}
    for doubt in ev.doubts:
        if doubt["tool"] != "add_note":
            yield f"{doubt['step']} is in doubt, and {doubt['tool']} may be run again"
        call = sent.get(doubt["step"])
        if call and json.loads(doubt["arguments"]) != call["arguments"]:
            yield f"{doubt['step']} is shown with {doubt['arguments']}, and was called with {call['arguments']}"
        if not doubt.get("why"):
            yield f"{doubt['step']} is in doubt, and nothing says why"


@rule
def nothing_stays_open(ev):
    """After a round every step and every response has ended, and no session is in doubt or at work."""
    for end in ev.clean:
        copy = end["snapshot"]
        for response, row in copy.responses.items():
            if row["status"] == "in_progress":
                yield f"{response} is still open after the round"
        for session, state in copy.sessions.items():
            if state != "idle":
                yield f"{session} is {state} after the round"
        for step, rows in copy.steps.items():
            if not snapshot.is_finished(rows):
                yield f"{step} ends with {rows[-1]['kind']}"


# Money.


@rule
def no_answer_is_bought_twice(ev):
    """No `call_id` finished twice at the provider, unless its outcome died with a server."""
    by_call, by_attempt = {}, {}
    for line in ev.provider:
        by_attempt.setdefault(line["attempt_id"], []).append(line)
        if line["finished"]:
            by_call.setdefault(line["call_id"], []).append(line)
    for attempt, lines in by_attempt.items():
        if len(lines) > 1 or attempt is None:
            yield f"attempt {attempt} came to the provider {len(lines)} times"
    for call, lines in by_call.items():
        for first, second in zip(lines, lines[1:]):
            if not any(died_between(kill, first, second, call) for kill in server_kills(ev)):
                yield f"{call} finished twice at the provider, and no dead server's journal lacks its outcome"


def died_between(kill, first, second, call):
    """Whether that server had asked for the first answer, and died without its outcome."""
    dead = kill["snapshot"]
    asked = first["attempt_id"] in dead.attempts and second["attempt_id"] not in dead.attempts
    return asked and call not in dead.outcomes


@rule
def the_provider_is_on_the_bill(ev):
    """Each call that the provider finished is in the ledger; a plain one may have died with a server just then."""
    if not ev.clean:
        return
    ledger, attempts = ev.clean[-1]["snapshot"].ledger, ev.clean[-1]["snapshot"].attempts
    for line in ev.provider:
        attempt, row = line["attempt_id"], ledger.get(line["attempt_id"])
        if is_step(line) or attempt in attempts:
            if row is None:
                yield f"the provider was asked for a step as {attempt}, and the ledger does not have it"
        elif line["finished"] and row is None and not excused(ev, line):
            yield f"the provider finished {attempt} long before any kill, and the ledger does not have it"
        if row is None:
            continue
        if row["input_tokens"] is None:
            if line["finished"] and not excused(ev, line):
                yield f"the provider finished {attempt}, and the ledger does not know its usage"
        elif not line["finished"]:
            yield f"the ledger has the usage of {attempt}, which the provider never finished"
        else:
            usage, cost = line["usage"], cost_of(line["usage"])
            if (row["input_tokens"], row["output_tokens"]) != (usage["prompt_tokens"], usage["completion_tokens"]):
                counted = f"{row['input_tokens']} and {row['output_tokens']}"
                yield f"{attempt}: the provider counted {usage}, the ledger {counted}"
            if row["cost"] != cost:
                yield f"{attempt} costs {cost} by the provider's count, and {row['cost']} in the ledger"


@rule
def the_ledger_has_no_more_than_the_provider(ev):
    """Whatever has a cost was really asked for."""
    asked = {line["attempt_id"] for line in ev.provider}
    for _, copy in copies(ev):
        for attempt, row in copy.ledger.items():
            if row["cost"] and attempt not in asked:
                yield f"the ledger bills {row['cost']} for {attempt}, which the provider never saw"
            if row["over_bound"]:
                yield f"{attempt} went over its bound"


@rule
def journal_and_ledger_agree(ev):
    """An outcome and its bill are one commit; an attempt whose outcome was lost stays on the bill."""
    for what, copy in copies(ev):
        billed = {}
        for row in copy.ledger.values():
            billed.setdefault(row["call"], []).append(row)
            if row["step"] and row["attempt"] not in copy.attempts:
                yield f"{what}: the ledger has {row['attempt']} of {row['step']}, and the journal no intent of it"
        for row in copy.journal:
            kind, event, bills = row["kind"], row["event"], billed.get(row["call"], [])
            if kind == "model_outcome":
                usage = event["usage"] and (event["usage"]["input_tokens"], event["usage"]["output_tokens"])
                if not any((r["input_tokens"], r["output_tokens"]) == (usage or (None, None)) for r in bills):
                    yield f"{what}: the outcome of {row['step']} is journaled, and not billed with the same usage"
            elif kind == "model_lost" and not any(r["attempt"] == event["attempt"] for r in bills):
                yield f"{what}: {event['attempt']} was lost, and is not on the bill"
            elif kind == "tool_outcome" and not bills:
                yield f"{what}: the outcome of {row['step']} is in the journal, and not in the ledger"
        if what.startswith("clean"):
            for attempt in copy.attempts:
                if attempt not in copy.ledger:
                    yield f"{what}: {attempt} has an intent and no row in the ledger"


@rule
def budgets_hold(ev):
    """The four amounts never exceed the limit, in no answer and in no file, and are what the ledger says."""
    for sample in ev.samples:
        for budget in sample["budgets"]:
            amounts = [nanodollars(budget[f"{part}_usd"]) for part in AMOUNTS]
            if sum(amounts) > nanodollars(budget["limit_usd"]) or min(amounts) < 0:
                yield f"the budget of {budget['scope']} is over its limit: {budget}"
            if sample["idle"] and amounts[3]:
                yield f"the budget of {budget['scope']} has {budget['reserved_usd']} reserved, and nothing runs"
    for what, copy in copies(ev):
        for budget in copy.budgets:
            amounts = [budget[part] for part in (*AMOUNTS, "claimed")]
            if sum(amounts) > budget["limit"] or min(amounts) < 0:
                yield f"{what}: the budget of {budget['key']} is over its limit: {budget}"
            rows = [row for row in copy.ledger.values() if copy.keys.get(row["key"]) == budget["key"]]
            for part, column in (("settled", "cost"), ("unreconciled", "unreconciled")):
                if budget[part] != (made := sum(row[column] for row in rows)):
                    yield f"{what}: {part} of {budget['key']} is {budget[part]}, and its ledger rows make {made}"
            if what.startswith("clean") and (budget["reserved"] or budget["claimed"] or budget["slices"]):
                yield f"{what}: the budget of {budget['key']} still holds something: {budget}"


@rule
def crashes_are_presumed_exactly(ev):
    """What a crash adds to `presumed` is what was left of the dead server's slices.

    A server that is killed while it starts may leave that to the next; until then the slices stay as they are.
    """
    found = copies(ev)
    for (what, before), (_, after) in zip(found, found[1:]):
        later = {budget["budget"]: budget for budget in after.budgets}
        for name_of, part in before.slices.items():
            if after.slices.get(name_of, part) != part:
                yield f"slice {name_of} of {what} was still used after it: {part}, then {after.slices[name_of]}"
        for budget in before.budgets:
            gone = [part for name_of, part in before.slices.items() if name_of not in after.slices]
            lost = sum(remaining for of, remaining in gone if of == budget["budget"])
            next_one = later.get(budget["budget"])
            if next_one is None:
                yield f"the budget of {budget['key']} is gone after {what}"
            elif next_one["presumed"] != budget["presumed"] + lost:
                yield (
                    f"after {what} the budget of {budget['key']} presumes {next_one['presumed']},"
                    f" and it was {budget['presumed']} with {lost} left in slices"
                )


@rule
def what_was_spent_is_accounted_for(ev):
    """What the provider really produced for a key is never more than its budget shows as gone."""
    if not ev.clean:
        return
    spent = {}
    for line in ev.provider:
        key = key_of(line)
        if key and line["usage"]:
            spent[key] = spent.get(key, 0) + cost_of(line["usage"])
    for budget in ev.clean[-1]["snapshot"].budgets:
        shown = budget["settled"] + budget["unreconciled"] + budget["presumed"]
        if spent.get(budget["key"], 0) > shown:
            yield f"the provider produced {spent[budget['key']]} for {budget['key']}, whose budget shows {shown}"
        if spent.get(budget["key"], 0) > budget["limit"]:
            yield f"the provider produced {spent[budget['key']]} for {budget['key']}, whose limit is {budget['limit']}"


# What clients saw.


@rule
def tasks_end_as_planned(ev):
    """Each task completes, with each of its tools' answers, and each of its writes is done once."""
    written = {}
    for effect in ev.effects:
        for text in effect["arguments"].values():
            written[text] = written.get(text, 0) + 1
    for task in ev.tasks:
        if task.error or task.final is None:
            yield f"{task.style} {task.mark} ({task.response_id}) did not end: {task.error}; {task.breaks[-3:]}"
            continue
        if task.final["status"] != "completed":
            yield f"{task.style} {task.mark} ({task.response_id}) is {task.final['status']}: {task.final.get('error')}"
            continue
        if task.planned is not None:
            yield from planned_calls(task, written)


def planned_calls(task, written):
    items = [item for item in task.final["output"] if item["type"] == "mcp_call"]
    found = [(item["name"], *json.loads(item["arguments"]).values()) for item in items]
    if found != [tuple(call) for call in task.planned]:
        yield f"{task.mark}: planned {task.planned}, called {found}"
        return
    for item, (tool, text) in zip(items, task.planned):
        done = written.get(text, 0)
        wanted = 1 if item["status"] == "completed" else 0
        if item["status"] not in ("completed", "failed"):
            yield f"{task.mark}: {tool} ended as {item['status']}"
        elif tool != "find_note" and done != wanted:
            yield f"{task.mark}: {tool} {text!r} is {item['status']}, and has {done} effects"
    messages = [item for item in task.final["output"] if item["type"] == "message"]
    said = "".join(part["text"] for item in messages for part in item["content"])
    if not items:
        if not re.fullmatch(r"word1( word\d+)+", said):
            yield f"{task.mark}: it said {said!r}"
    elif items[-1]["status"] == "completed" and said != f"The tool said: {items[-1]['output']}":
        yield f"{task.mark}: it said {said!r} of {items[-1]['output']!r}"


@rule
def streams_have_no_gap(ev):
    """Picked up with `starting_after`: every number once, in order, and always the same bytes."""
    for task in ev.tasks:
        bodies = {}
        whole = task.log and [json.loads(raw) for raw in task.log]
        for number, raw in enumerate(task.log or []):
            bodies[number] = raw
        if task.style.startswith("background") and task.final is not None:
            if not whole:
                yield f"{task.mark}: its log can't be read"
            else:
                yield from checked_log(task, whole)
        for reader in task.readers:
            yield from checked_reader(task, reader, bodies)


def checked_log(task, whole):
    try:
        check_events(whole)
    except (AssertionError, KeyError, IndexError) as error:
        yield f"{task.mark}: its log is no whole life of a response: {error}"


def checked_reader(task, reader, bodies):
    numbers = [number for number, *_ in reader.events]
    if numbers != list(range(len(numbers))):
        yield f"{task.mark}: the {reader.kind} reader got the numbers {numbers}"
        return
    if reader.kind == "foreground":
        return
    for number, body, _ in reader.events:
        expected = bodies.get(number)
        same = body == expected if isinstance(body, str) else expected is not None and body == json.loads(expected)
        if bodies and not same:
            yield f"{task.mark}: event {number} was {body} for the {reader.kind} reader, and is {expected}"


@rule
def what_was_told_is_durable(ev):
    """What a client had before a kill is in the dead server's file."""
    for kill in server_kills(ev):
        dead = kill["snapshot"]
        for task in ev.tasks:
            if task.final is not None and task.final_at < kill["at"]:
                row = dead.responses.get(task.response_id)
                if row is None or row["status"] != task.final["status"]:
                    yield f"{task.mark} was told {task.final['status']} before {name(kill)}, whose file says {row}"
            if task.style.startswith("background") and task.response_id:
                yield from told_events(task, kill, dead.events.get(task.response_id, {}))


def told_events(task, kill, kept):
    for reader in task.readers:
        for number, body, at in reader.events:
            if at >= kill["at"]:
                break
            event = json.loads(body) if isinstance(body, str) else body
            if number not in kept or json.loads(kept[number]) != event:
                yield f"{task.mark} got event {number} before {name(kill)}, whose file does not have it so"


@rule
def plain_calls_are_answered(ev):
    """Nothing but a kill breaks a plain call, and nothing but an empty budget refuses it."""
    for call in (call for calls in ev.calls for call in calls):
        outcome = call["outcome"]
        if outcome == "ok":
            if call["model"] != "local/demo" and call["text"] != f"You said: {call['mark']} is here":
                yield f"{call['mark']} was answered {call['text']!r}"
        elif outcome == "429 insufficient_quota":
            if not call["key"].startswith("tight"):
                yield f"{call['mark']} of {call['key']} was refused: {outcome}"
        elif not any(overlaps(kill, call) for kill in ev.kills):
            yield f"{call['mark']} ({call['model']}) broke without a kill: {outcome}"


# Processes, and the suite itself.


@rule
def nobody_survives(ev):
    """No process of a dead server is still alive."""
    for kill in server_kills(ev):
        for survivor in kill["survivors"]:
            yield f"{survivor} survived {name(kill)}"
    for end in ev.clean:
        if not end["by_itself"]:
            yield f"server {end['number']} did not end by itself, or not well"
        for left in end["left"]:
            yield f"{left} is still there after server {end['number']} has ended"


@rule
def nothing_panicked(ev):
    """No server said that it had panicked."""
    for text in ev.panics:
        yield text


@rule
def the_round_was_played(ev):
    """A kill that did not take place proves nothing."""
    yield from ev.notes


def server_kills(ev):
    return [kill for kill in ev.kills if kill["what"] == "server"]


def name(kill):
    return f"server {kill['number']} (killed {kill['place']})"


def copies(ev):
    """The files of servers that have ended, in their order."""
    found = [(kill["number"], f"dead server {kill['number']}", kill["snapshot"]) for kill in server_kills(ev)]
    found += [(end["number"], f"clean server {end['number']}", end["snapshot"]) for end in ev.clean]
    return [(what, copy) for _, what, copy in sorted(found, key=lambda entry: entry[0])]


def lost_calls(ev, kill):
    """Calls that this tool server had read and never answered."""
    answered = {(c["key"], c["pid"]) for c in ev.tool_calls if c["what"] == "answered"}
    return [
        call for call in ev.tool_calls
        if call["what"] == "called" and call["pid"] == kill["pid"] and (call["key"], call["pid"]) not in answered
    ]


def is_step(line):
    return bool(TASK_MARK.search(line["body"]))


def key_of(line):
    """Whose money it was, by the mark in the prompt."""
    if is_step(line):
        return "agent"
    found = re.search(r"\bp(\d+)(json|stream|tight)x\d+q\b", line["body"])
    return found and (f"tight{found[1]}" if found[2] == "tight" else "plain")


def cost_of(usage):
    """Nanodollars, rounded up once."""
    return -(-(usage["prompt_tokens"] * INPUT_PRICE + usage["completion_tokens"] * OUTPUT_PRICE) // 1000)


def nanodollars(text):
    whole, _, part = text.partition(".")
    sign = -1 if whole.startswith("-") else 1
    return sign * (abs(int(whole)) * 10**9 + int(part.ljust(9, "0")[:9] or 0))


def excused(ev, line):
    """Whether it was in flight at a kill, or had ended less than a second before."""
    begun = made_at(line["call_id"])
    return any(
        begun <= kill["dead_at"] and line["seen_at"] >= kill["at"] - UNWRITTEN_SECONDS - LOG_LAG_SECONDS
        and line["seen_at"] - LOG_LAG_SECONDS <= kill["dead_at"] + UNWRITTEN_SECONDS
        for kill in server_kills(ev)
    )


def made_at(identifier):
    """When a UUIDv7 in Crockford's letters was made, in seconds."""
    number = 0
    for letter in identifier.split("_")[1]:
        number = number * 32 + CROCKFORD.index(letter)
    return (number >> 82) / 1000


def overlaps(kill, call):
    return call["begun"] <= kill.get("ready_at", kill["dead_at"] + 5) and call["ended"] >= kill["at"]
