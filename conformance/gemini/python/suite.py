"""The suite `gemini-python`: the unmodified google-genai SDK against a server of its own.

    suite.py [NAME …]     only the flows whose name contains one of the NAMEs
"""

import pathlib
import sys
import time
from decimal import Decimal

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import flows_content  # noqa: E402, F401
import flows_tools  # noqa: E402, F401
import flows_wire  # noqa: E402, F401
import running  # noqa: E402
from flows import PASSED, Flow  # noqa: E402
from start import SetupFailed, World, standard, start  # noqa: E402


def cost_of(usage):
    """What the suite's prices make of a usage; nothing where tokens are only counted."""
    if usage is None:
        return Decimal(0)
    said = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
    return (usage["promptTokenCount"] + 2 * said) / Decimal(10**6)


def main(names):
    chosen = running.chosen(names)
    failed, total, began = 0, len(chosen), time.monotonic()
    try:
        with World() as world:
            google, mock, server = start(world)
            failed += running.run(
                chosen, lambda name: Flow(name, server, google, mock, standard.KEYS)
            )
            costs = {PASSED: cost_of}
            checks = {
                "budgets_agree": lambda: running.budgets_agree_with_ledger(server),
                "ends_cleanly": lambda: running.server_ends_cleanly(server, google, mock),
            }
            if not names:
                agree = running.ledger_agrees_with_provider
                checks = {"ledger_agrees": lambda: agree(server, google, costs)} | checks
            for name, check in checks.items():
                failed += running.report(name, *running.timed(check))
                total += 1
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        failed = total
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
