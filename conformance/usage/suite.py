"""The suite `usage`: what the ledger says that a Call cost is what its provider bills.

    suite.py [NAME …]     only the checks whose name contains one of the NAMEs

A provider of every format says usage in every shape that vendors have; the bill is computed here,
from what the provider said, as that vendor counts, in integers. The ledger must have the same to
the nanodollar, streamed or not, passed through or translated; where nobody can know, what was
reserved must stand there as `unreconciled`. Standard library only.
"""

import json
import pathlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import threads  # noqa: E402
from provider import Provider  # noqa: E402
from shapes import SHAPES  # noqa: E402
from words import UNKNOWN, bill, nanodollars  # noqa: E402
from world import Bench, config  # noqa: E402

from harness import Server, SetupFailed, World  # noqa: E402

PARALLEL = 4
# The door whose format a provider's own is; the other one has to translate.
OWN = {"chat": "chat", "messages": "messages", "responses": "responses", "gemini": "gemini", "converse": "chat", "embeddings": "embeddings"}
OTHER = {"chat": "messages", "messages": "chat", "responses": "chat", "gemini": "chat"}


def of_shapes():
    """(name, check) of every way in which a shape can come."""
    for shape in SHAPES:
        doors = {"passed": OWN[shape.kind], "translated": OTHER.get(shape.kind)}
        for streams, there in ((False, shape.whole), (True, shape.streamed)):
            for way, door in doors.items():
                if there and door:
                    how = "streamed" if streams else "whole"
                    yield f"{shape.name} ({how}, {way})", checked(shape, door, streams)


def checked(shape, door, streams):
    def check(bench):
        model = f"{shape.kind}/{shape.model}"
        answer = bench.ask(model, door=door, stream=streams)
        (row,) = bench.rows()
        if shape.bills is UNKNOWN:
            assert nanodollars(row["cost"]) == 0, f"billed though nobody knows: {row['cost']}"
            owed = nanodollars(row["unreconciled"])
            assert owed == nanodollars(row["reserved"]) > 0, f"{row['unreconciled']} of {row['reserved']}"
            return
        expected = bill(shape.bills)
        found = nanodollars(row["cost"])
        assert found == expected, f"{found} n$ in the ledger, the provider bills {expected} n$: {row['usage']}"
        assert nanodollars(row["unreconciled"]) == 0, row["unreconciled"]
        assert row["over_bound"] == (expected > nanodollars(row["reserved"])), row["over_bound"]
        if answer.cost is not None:
            assert nanodollars(answer.cost) == expected, f"the client was told {answer.cost}"

    return check


def main(wanted):
    checks = [*of_shapes(), *threads.CHECKS]
    checks = [(name, run) for name, run in checks if not wanted or any(word in name for word in wanted)]
    began, failed = time.monotonic(), 0
    provider = Provider()
    try:
        with World() as world:
            server = world.start(Server, config(provider))
            for shape in SHAPES:
                provider.plan(shape.model, shape.plan())

            def one(numbered):
                number, (name, run) = numbered
                try:
                    run(Bench(server, provider, f"u{number}q"))
                    return name, None
                except Exception as error:  # any failure of a check is its result
                    return name, error

            with ThreadPoolExecutor(PARALLEL) as pool:
                for name, error in pool.map(one, enumerate(checks)):
                    failed += error is not None
                    if error is not None:
                        print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
            if not wanted:
                for name, error in threads.at_the_end(server, provider):
                    checks.append((name, None))
                    failed += error is not None
                    if error is not None:
                        print(f"FAIL {name}: {error}", flush=True)
    except SetupFailed as problem:
        print(f"conformance: {problem}\n0 passed, 1 failed")
        return 1
    finally:
        provider.close()
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
