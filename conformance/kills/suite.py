"""The suites `kills` and `kills-long`: everything is killed, and judged from outside.

    suite.py kills|kills-long [--seed N] [--kills N] [--workers N] [--self-check]

Without `--seed` the rounds' seeds begin at a random one, which is printed; `--seed N` with `--kills 1` plays exactly
the round of a seed on a fresh data folder. `--self-check` only tries the judge on doctored evidence.
"""

import argparse
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
LINES_MAX = 6
# The judge is tried on what so many rounds and one more really left behind; more would only take longer.
DOCTORED_AFTER = 1


def play(seeds, results):
    """Plays rounds one after the other on one data folder."""
    with World() as world:
        machine = None
        try:
            machine = Machine(world.folder, seeds[0])
            evidence, known = Evidence(), set()
            for number, seed in enumerate(seeds):
                results.put(played(machine, plans.plan(seed), evidence, known))
                if number == DOCTORED_AFTER and not known:
                    results.put(doctored(evidence))
        except Exception:  # the harness itself broke: said, and counted as a failure
            results.put({"title": f"seeds {seeds}", "kills": 0, "seconds": 0, "wrong": [traceback.format_exc()]})
        finally:
            if machine is not None:
                machine.close()


def played(machine, plan, evidence, known):
    """One round and what is wrong after it that was not wrong before."""
    began, before = time.monotonic(), len(evidence.kills)
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
    return {"title": title, "kills": len(evidence.kills) - before, "seconds": time.monotonic() - began, "wrong": wrong}


def doctored(evidence):
    """The judge, tried on real evidence."""
    began = time.monotonic()
    unseen, tried = test_judge.doctored(evidence)
    title = f"the judge sees what is doctored in real evidence, by {len(tried)} rules"
    return {"title": title, "kills": 0, "seconds": time.monotonic() - began, "wrong": unseen}


def keep(machine, plan, evidence):
    """What the folder itself does not have: what clients saw."""
    path = machine.folder / f"evidence-{plan.seed}.json"
    shown = {
        "kills": [{k: v for k, v in kill.items() if k not in ("snapshot", "family")} for kill in evidence.kills],
        "doubts": evidence.doubts,
        "decisions": evidence.decisions,
        "tasks": [
            {"mark": t.mark, "style": t.style, "id": t.response_id, "breaks": t.breaks, "error": t.error, "final": t.final}
            for t in evidence.tasks
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
    parser.add_argument("--kills", type=int)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--self-check", action="store_true")
    return parser.parse_args()


def shares(seeds, workers):
    """Which rounds are played on which folder."""
    size = min(ROUNDS_PER_FOLDER, -(-len(seeds) // workers))
    return [seeds[at : at + size] for at in range(0, len(seeds), size)]


def run(chosen):
    failed, began, kills, rounds = 0, time.monotonic(), 0, 0
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    wanted = chosen.kills or KILLS[chosen.suite]
    seeds = [seed] if chosen.seed is not None and wanted == 1 else list(plans.seeds(seed, wanted))
    print(f"seeds {seeds[0]} to {seeds[-1]}", flush=True)
    context = multiprocessing.get_context("fork")
    results, waiting, running = context.Queue(), shares(seeds, chosen.workers), []
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
        rounds, kills, failed = rounds + 1, kills + result["kills"], failed + bool(result["wrong"])
        report(result)
    print(f"{kills} kills in {rounds} rounds, {time.monotonic() - began:.1f} s")
    return rounds, kills, failed, wanted


def report(result):
    print(f"{'FAIL' if result['wrong'] else 'ok  '} {result['title']} ({result['seconds']:.1f} s)", flush=True)
    for text in result["wrong"][:LINES_MAX]:
        print(f"     {text[:900]}", flush=True)
    if len(result["wrong"]) > LINES_MAX:
        print(f"     and {len(result['wrong']) - LINES_MAX} more", flush=True)


def main():
    chosen = arguments()
    passed, failed = test_judge.run()
    if not chosen.self_check and not failed:
        try:
            rounds, kills, wrong, wanted = run(chosen)
            passed, failed = passed + rounds - wrong, failed + wrong
            if kills < wanted:
                print(f"FAIL only {kills} of {wanted} kills took place")
                failed += 1
        except SetupFailed as problem:
            print(f"conformance: {problem}")
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
