"""One round: start, work, kill, start again, settle what is in doubt, end cleanly. Gathers evidence, judges nothing."""

import dataclasses
import random
import threading
import time

import processes
from clients import LOCAL, BareReader, Chats, Task, events_of, planned_prompt, wait_for

# How long the suite waits for a place or a moment that the product has to bring about by itself.
REACH_SECONDS = 12
SETTLE_SECONDS = 30
WATCH_SECONDS = 0.05
# After the last kill plain calls go on for so long.
AFTERWARDS_SECONDS = 0.25
# How long a lost outcome takes to be shown and decided; and how often a tool is killed until one is lost.
DOUBT_SECONDS, TOOL_KILLS_MAX = 0.5, 5
# A long plain answer, so that some kills come in the middle of a text.
WORDS = 70
DONE_OUTPUT = "It was saved."
# What a round's own small key may spend: a few dozen calls, or what one crash presumes, exhaust it.
TIGHT_USD = "0.0005"


@dataclasses.dataclass
class Evidence:
    """All that is known of one data folder, from outside, over all its rounds."""

    kills: list = dataclasses.field(default_factory=list)
    clean: list = dataclasses.field(default_factory=list)  # {at, number, by_itself, snapshot, left}
    doubts: list = dataclasses.field(default_factory=list)  # {at, number, session, step, tool, arguments}
    decisions: list = dataclasses.field(default_factory=list)  # {at, step, decision, answered}
    tasks: list = dataclasses.field(default_factory=list)
    calls: list = dataclasses.field(default_factory=list)  # plain chat calls
    samples: list = dataclasses.field(default_factory=list)  # {at, idle, budgets}
    effects: list = dataclasses.field(default_factory=list)
    tool_calls: list = dataclasses.field(default_factory=list)
    provider: list = dataclasses.field(default_factory=list)
    panics: list = dataclasses.field(default_factory=list)  # what servers wrote of them
    notes: list = dataclasses.field(default_factory=list)  # what the round itself could not do


class Watch:
    """Looks at budgets and at what is in doubt all the time, and decides what the evidence allows to decide."""

    def __init__(self, machine, evidence, patience):
        self.machine, self.evidence, self.patience, self.since = machine, evidence, patience, {}
        self.deciding = threading.Event()  # off while a dead server's processes may still act
        self.deciding.set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ended.wait(WATCH_SECONDS):
            self.budgets(idle=False)
            self.doubts()

    def budgets(self, idle):
        found = self.machine.api("GET", "budgets")
        if found:
            self.evidence.samples.append({"at": time.time(), "idle": idle, "budgets": found["data"]})

    def doubts(self):
        number, at = self.machine.number, time.time()
        found = self.machine.api("GET", "sessions?state=in_doubt")
        for session in (found or {}).get("data", []):
            step = session.get("in_doubt")
            if not step:
                continue
            shown = {"at": at, "number": number, "session": session["id"], "step": step["id"]}
            shown |= {"tool": step["tool"], "arguments": step["arguments"], "why": step.get("why")}
            self.evidence.doubts.append(shown)
            seen = self.since.setdefault(step["id"], at)
            if self.deciding.is_set() and at - seen >= self.patience:
                self.decide(session["id"], step["id"])

    def decide(self, session, step):
        """What is true is in the tool server's own log."""
        done = any(effect["idempotency_key"] == step for effect in self.machine.effects())
        decision = {"decision": "done", "output": DONE_OUTPUT} if done else {"decision": "retry"}
        made = {"at": time.time(), "step": step, "decision": decision["decision"], "answered": False}
        self.evidence.decisions.append(made)
        made["answered"] = self.machine.api("POST", f"sessions/{session}/steps/{step}/resolve", decision) is not None

    def end(self):
        self.ended.set()
        self.thread.join()


class Round:
    """Plays one plan on a machine whose server does not run, and leaves it so."""

    def __init__(self, machine, plan, evidence):
        self.machine, self.plan, self.evidence = machine, plan, evidence
        self.chance = random.Random(plan.seed * 7919 + 1)
        self.tasks, self.chats, self.readers = [], [], []

    def play(self):
        self.machine.start(self.next_stop(0))
        self.watch = Watch(self.machine, self.evidence, self.plan.patience)
        try:
            self.work()
            for number, kill in enumerate(self.plan.kills):
                self.kill(kill, number)
            time.sleep(AFTERWARDS_SECONDS)
            for chats in self.chats:
                chats.stop()
            threads = [job.thread for job in (*self.tasks, *self.chats, *self.readers)]
            if not wait_for(threads, SETTLE_SECONDS):
                self.evidence.notes.append("clients still wait after the round")
            for task in self.tasks:
                self.whole_log(task)
        finally:
            self.watch.end()
        self.watch.budgets(idle=True)
        self.end()

    def next_stop(self, first):
        """Where the server that is started before kill `first` must stop itself, if anywhere."""
        servers = [kill for kill in self.plan.kills[first:] if kill.what == "server"]
        return servers[0].stop_at if servers else None

    def work(self):
        seed = self.plan.seed
        # Before there is anything at which the server could stop itself.
        made = self.machine.api("POST", "keys", {"name": f"tight{seed}", "budget": {"limit_usd": TIGHT_USD}})
        for style in self.plan.styles:
            mark = f"t{seed}{style.replace('_', '')}q"
            prompt, planned = planned_prompt(mark, self.chance)
            self.add_task(Task(self.machine, mark, style, prompt, planned))
        if self.chance.random() < 0.5:
            mark = f"t{seed}wordsq"
            words = f"[[delay_ms=4]] [[words:{WORDS}]] {mark}"
            self.add_task(Task(self.machine, mark, "background_stream", words, []))
        keys = self.machine.keys
        self.add_chats(f"p{seed}json", "plain", keys["plain"])
        self.add_chats(f"p{seed}stream", "plain", keys["plain"], stream=True)
        if made:
            self.add_chats(f"p{seed}tight", f"tight{seed}", made["secret"])
        else:
            self.evidence.notes.append("no key could be made")
        if self.plan.with_engine:
            mark = f"l{seed}q"
            prompt = "Find my note about the harbor."
            self.add_task(Task(self.machine, mark, "background_stream", prompt, None, model=LOCAL))
            self.add_chats(f"e{seed}", "plain", keys["plain"], model=LOCAL, stream=True)
            self.add_chats(f"f{seed}", "plain", keys["plain"], model=LOCAL)

    def add_task(self, task):
        self.tasks.append(task.start())
        self.evidence.tasks.append(task)
        if task.style == "background_stream":
            self.readers.append(BareReader(task))

    def add_chats(self, *args, **options):
        chats = Chats(self.machine, *args, **options)
        self.chats.append(chats.start())
        self.evidence.calls.append(chats.calls)

    def kill(self, kill, number):
        if kill.what == "server":
            self.kill_server(kill, number)
        elif kill.what == "starting":
            self.kill_starting(kill, number)
        elif kill.what in ("tool", "guard"):
            self.kill_tool(kill)
        else:
            self.kill_engine(kill)

    def kill_server(self, kill, number):
        frozen_at = None
        if kill.point:
            busy = lambda: any(task.thread.is_alive() for task in self.tasks)  # noqa: E731
            if not self.machine.wait_stopped(REACH_SECONDS, busy):
                self.evidence.notes.append(f"it never got to {kill.place}")
            else:
                frozen_at = self.machine.stopped_at
                time.sleep(kill.hold)
        else:
            time.sleep(kill.after)
        self.replace_server(kill.place, number, frozen_at)

    def kill_starting(self, kill, number):
        """Kills the server, and the next one before it is ready: while it takes over what the first left open."""
        time.sleep(kill.hold)
        self.watch.deciding.clear()
        first = self.machine.kill_server(f"after {kill.hold:.3f} s")
        self.evidence.kills.append(first)
        self.machine.start(wait=False)
        time.sleep(kill.after)
        self.replace_server(f"{kill.after:.3f} s after its start", number, None)
        first["ready_at"] = time.time()
        self.machine.bury(first)

    def replace_server(self, place, number, frozen_at):
        self.watch.deciding.clear()
        record = self.machine.kill_server(place, frozen_at)
        self.evidence.kills.append(record)
        self.machine.start(self.next_stop(number + 1))
        record["ready_at"] = time.time()
        self.machine.bury(record)
        self.watch.deciding.set()

    def kill_tool(self, kill):
        """At a moment when a writing tool is at work, so that an outcome is lost; again if a decision is needed."""
        for again in range(TOOL_KILLS_MAX if self.plan.kind == "resolution" else 1):
            child = self.until(lambda: self.machine.find("tool"))  # looked for now: it takes longer than a write
            self.until(lambda: writing(self.machine.tool_calls()))
            time.sleep(kill.after)
            by_guard = kill.what == "guard"
            record = self.machine.kill_child("tool", kill.place, child and child[0], by_guard)
            if record or not again:
                self.keep(record, "tool server")
            if self.plan.kind != "resolution" or self.machine.wait_stopped(DOUBT_SECONDS):
                return

    def kill_engine(self, kill):
        self.until(lambda: self.machine.find("engine"))
        time.sleep(kill.after)
        self.keep(self.machine.kill_child("engine", kill.place), "engine")

    def keep(self, record, what):
        if record is None:
            self.evidence.notes.append(f"there was no {what} to kill")
        else:
            self.evidence.kills.append(record)

    def until(self, check):
        deadline = time.monotonic() + REACH_SECONDS
        while not (found := check()) and time.monotonic() < deadline:
            # Where it is stopped, or where all is done, there will be no more.
            if self.machine.stopped_at is not None or not any(task.thread.is_alive() for task in self.tasks):
                break
            time.sleep(0.005)
        return found

    def whole_log(self, task):
        """The log of a background response as it is in the end."""
        if task.response_id and task.style.startswith("background") and task.final is not None:
            try:
                task.log = list(events_of(self.machine, task.response_id))
            except Exception as error:  # the judge says that it is missing
                task.breaks.append(f"its log: {error}")

    def end(self):
        at = time.time()
        by_itself, copy, left = self.machine.stop()
        machine, evidence = self.machine, self.evidence
        strays = [p for p in processes.about(machine.folder) if p.pid != machine.provider.child.pid]
        left += [f"{p.name} (pid {p.pid})" for p in strays]
        end = {"at": at, "number": machine.number, "by_itself": by_itself, "snapshot": copy, "left": left}
        evidence.clean.append(end)
        evidence.panics += machine.panics()
        evidence.effects = machine.effects()
        evidence.tool_calls = machine.tool_calls()
        evidence.provider = machine.provider_log.all()


def writing(tool_calls):
    """Whether a writing tool has been called and has not answered."""
    answered = {(call["key"], call["pid"]) for call in tool_calls if call["what"] == "answered"}
    calls = [call for call in tool_calls if call["what"] == "called" and call["tool"] == "add_note"]
    return any((call["key"], call["pid"]) not in answered and time.time() - call["at"] < 0.2 for call in calls)
