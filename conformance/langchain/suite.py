"""The suite `langchain-long`: LangChain's standard tests of chat models against the server.

    suite.py [NAME …]     only the tests whose name contains one of the NAMEs

The tests are LangChain's own (`langchain-tests`), run by pytest; the models behind the server answer
what they ask (`answering.py`). Standard library only.
"""

import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "agents"), str(HERE.parent / "formats")]

from answering import Answering  # noqa: E402
from blackhole import BlackHole  # noqa: E402
from harness import Server, SetupFailed, World  # noqa: E402
from stage import KEY, KEYS, MODEL, ROW, TARGETS  # noqa: E402

COUNTS = re.compile(r"(\d+) (passed|failed|errors?|xpassed)\b")


def config(provider):
    rows = []
    for name, (vendor, path) in TARGETS.items():
        models = MODEL.format(id="demo")
        rows.append(ROW.format(name=name, vendor=vendor, url=provider.url + path, models=models))
    return "".join(rows) + KEY.format(name="agent", env="AGENT")


def run(world, provider, hole, names):
    server = world.start(Server, config(provider), env={"AGENT_KEY": KEYS["agent"]})
    env = os.environ | hole.env() | {"HOLDFAST_URL": server.url, "HOLDFAST_KEY_CI": KEYS["agent"]}
    env |= {"LANGSMITH_TRACING": "false", "HOME": str(world.folder)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rfEX"]
    # LangChain keeps its connections for one event loop: all tests run in one.
    command += ["-o", "asyncio_default_test_loop_scope=session", "--asyncio-mode=auto"]
    command += ["-W", "ignore", "--benchmark-disable", HERE / "test_standard.py"]
    command += ["-k", " or ".join(names)] if names else []
    command = [str(part) for part in command]
    output = subprocess.PIPE
    done = subprocess.run(command, env=env, cwd=world.folder, stdout=output, text=True, check=False)
    print(done.stdout[-6000:])
    found = {kind: int(count) for count, kind in COUNTS.findall(done.stdout.splitlines()[-1])}
    failed = sum(count for kind, count in found.items() if kind != "passed")
    if hole.wanted:
        print(f"FAIL it wanted out: {hole.wanted[:5]}")
        failed += 1
    return found.get("passed", 0), failed


def main(names):
    provider, hole = Answering(), BlackHole()
    try:
        with World() as world:
            passed, failed = run(world, provider, hole, names)
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        passed, failed = 0, 1
    finally:
        provider.close()
        hole.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
