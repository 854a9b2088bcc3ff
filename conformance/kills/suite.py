"""The suites `kills` and `kills-long`: everything is killed, and judged from outside.

    suite.py kills|kills-long [--from N] [--kills N] [--workers N]
    suite.py kills --seed N [--times N]     one round again, on fresh data folders (or HOLDFAST_SEED=N)
    suite.py kills --self-check             only tries the judge on doctored evidence

The rounds' seeds begin at a random one unless `--from` says where; each round prints its own. A seed fixes who is
killed where and what runs meanwhile; not how the machine schedules it, so a rare failure may need `--times`.
"""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import queue
import random
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]

import judge  # noqa: E402
import plan as plans  # noqa: E402
import test_judge  # noqa: E402
from harness import SetupFailed, World  # noqa: E402
from machine import Machine  # noqa: E402
from rounds import Evidence, Round  # noqa: E402

KILLS = {"kills": 40, "kills-long": 400}
WORKERS = 2
# Rounds on one data folder; then a fresh one.
ROUNDS_PER_FOLDER = 14
# From so many kills on each kind of doubt and of refusal must have been seen.
ENOUGH_KILLS = 40
LINES_MAX = 6
# The judge is tried on what so many rounds and one more really left behind; more would only take longer.
DOCTORED_AFTER = 1
# Rounds in place of one whose kill met nobody; the kinds of rounds repeat with plans.STRIDE.
REPLAYS_MAX, REPLAY_STRIDE = 2, 1000 * plans.STRIDE
NOT_PLAYED = "the_round_was_played"


def play(seeds, results):
    """Plays rounds one after the other on one data folder."""
    with World() as world:
        machine = None
        try:
            machine = Machine(world.folder, seeds[0])
            evidence, known = Evidence(), set()
            for number, seed in enumerate(seeds):
                results.put(played_until_played(machine, seed, evidence, known))
                if number == DOCTORED_AFTER and not known:
                    results.put(doctored(evidence))
        except Exception:  # the harness itself broke: said, and counted as a failure
            results.put({"title": f"seeds {seeds}", "seen": {}, "seconds": 0, "wrong": [traceback.format_exc()]})
        finally:
            if machine is not None:
                machine.close()


def played_until_played(machine, seed, evidence, known):
    """A round whose kill met nobody proves nothing: another of its kind is played instead."""
    result = played(machine, plans.plan(seed), evidence, known)
    for again in range(1, REPLAYS_MAX + 1):
        if not result["wrong"] or not all(text.startswith(NOT_PLAYED) for text in result["wrong"]):
            break
        known.difference_update(result["wrong"])
        other = played(machine, plans.plan(seed + again * REPLAY_STRIDE), evidence, known)
        other["seen"].update(result["seen"])
        other["title"] += f" (in place of seed {seed}, whose kill met nobody)"
        result = other
    return result


def played(machine, plan, evidence, known):
    """One round and what is wrong after it that was not wrong before."""
    began, before = time.monotonic(), counted(evidence)
    broken = []
    try:
        Round(machine, plan, evidence).play()
    except SetupFailed as problem:
        broken = [f"the round could not be played: {problem}"]
        machine.node.stop()
    wrong = broken + [text for text in judge.judge(evidence) if text not in known]
    known.update(wrong)
    evidence.notes.clear()
    kept = keep(machine, plan, evidence) if wrong and os.environ.get("HOLDFAST_KEEP") else None
    title = str(plan) + (f" [kept in {kept}]" if kept else "")
    seen = counted(evidence)
    seen.subtract(before)
    return {"title": title, "seed": plan.seed, "seen": seen, "seconds": time.monotonic() - began, "wrong": wrong}


def counted(evidence):
    """What there was to judge."""
    outcomes = [call["outcome"] for calls in evidence.calls for call in calls]
    decisions = {(made["step"], made["decision"]) for made in evidence.decisions if made["answered"]}
    finished = [line["call_id"] for line in evidence.provider if line["finished"]]
    return collections.Counter(
        {
            "kills": len(evidence.kills),
            "tasks": len(evidence.tasks),
            "effects": len(evidence.effects),
            "settled as done": sum(decision == "done" for _, decision in decisions),
            "retried": sum(decision == "retry" for _, decision in decisions),
            "plain calls": len(outcomes),
            "broken": sum(outcome != "ok" and not outcome.startswith("429") for outcome in outcomes),
            "refused": sum(outcome.startswith("429") for outcome in outcomes),
            "answers bought again": len(finished) - len(set(finished)),
        }
    )


def doctored(evidence):
    """The judge, tried on real evidence."""
    began = time.monotonic()
    unseen, tried = test_judge.doctored(evidence)
    title = f"the judge sees what is doctored in real evidence, by {len(tried)} rules"
    return {"title": title, "seen": {}, "seconds": time.monotonic() - began, "wrong": unseen}


def keep(machine, plan, evidence):
    """What the folder itself does not have: what clients saw."""
    path = machine.folder / f"evidence-{plan.seed}.json"
    shown = {
        "kills": [{k: v for k, v in kill.items() if k not in ("snapshot", "family")} for kill in evidence.kills],
        "doubts": evidence.doubts,
        "decisions": evidence.decisions,
        "tasks": [
            {name: getattr(task, name) for name in ("mark", "style", "response_id", "breaks", "error", "final")}
            for task in evidence.tasks
        ],
        "calls": evidence.calls,
        "provider": evidence.provider,
    }
    path.write_text(json.dumps(shown, indent=1))
    return machine.folder


def arguments():
    parser = argparse.ArgumentParser(description="Kills everything, and judges from outside.")
    parser.add_argument("suite", choices=sorted(KILLS))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("HOLDFAST_SEED", 0)) or None)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--from", type=int, dest="first")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--self-check", action="store_true")
    return parser.parse_args()


def shares(chosen):
    """Which rounds are played on which folder, and how many kills they must have."""
    if chosen.seed is not None:
        return [[chosen.seed] for _ in range(chosen.times)], chosen.times
    wanted = chosen.kills or KILLS[chosen.suite]
    first = random.SystemRandom().randrange(10**6) if chosen.first is None else chosen.first
    seeds = list(plans.seeds(first, wanted))
    size = min(ROUNDS_PER_FOLDER, -(-len(seeds) // chosen.workers))
    return [seeds[at : at + size] for at in range(0, len(seeds), size)], wanted


def run(chosen):
    failed, began, seen, rounds = 0, time.monotonic(), collections.Counter(), 0
    waiting, wanted = shares(chosen)
    context = multiprocessing.get_context("fork")
    results, running = context.Queue(), []
    while waiting or running:
        while waiting and len(running) < chosen.workers:
            worker = context.Process(target=play, args=(waiting.pop(0), results))
            worker.start()
            running.append(worker)
        try:
            result = results.get(timeout=1)
        except queue.Empty:
            running = [worker for worker in running if worker.is_alive()]
            continue
        rounds, failed = rounds + 1, failed + bool(result["wrong"])
        seen.update(result["seen"])
        report(result)
    print(f"{', '.join(f'{count} {what}' for what, count in seen.items())}; {time.monotonic() - began:.1f} s")
    if seen["kills"] < wanted:
        print(f"FAIL only {seen['kills']} of {wanted} kills took place")
        failed += 1
    if wanted >= ENOUGH_KILLS and not (seen["settled as done"] and seen["retried"] and seen["refused"]):
        print("FAIL nothing was settled as done, retried or refused: the kills come at the wrong moments")
        failed += 1
    return rounds, failed


def report(result):
    print(f"{'FAIL' if result['wrong'] else 'ok  '} {result['title']} ({result['seconds']:.1f} s)", flush=True)
    if result["wrong"] and result["seen"]:
        print(f"     again: conformance/run kills --seed {result['seed']} --times 10", flush=True)
    for text in result["wrong"][:LINES_MAX]:
        print(f"     {text[:900]}", flush=True)
    if len(result["wrong"]) > LINES_MAX:
        print(f"     and {len(result['wrong']) - LINES_MAX} more", flush=True)


def main():
    chosen = arguments()
    passed, failed = test_judge.run()
    if not chosen.self_check and not failed:
        try:
            rounds, wrong = run(chosen)
            passed, failed = passed + max(0, rounds - wrong), failed + wrong
        except SetupFailed as problem:
            print(f"conformance: {problem}")
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
