"""The server of the suite `vercel-js`, and what stands around it.

    python3 start.py COMMAND …

starts it, runs COMMAND with the variables of `../standard.py`, stops everything and ends as COMMAND
did. Behind it stand the scripted provider of chat completions (`mock/demo`) and the one of messages
(`claude/sonnet`). Standard library only.
"""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "anthropic")]

import standard  # noqa: E402
import suite  # noqa: E402
from harness import SetupFailed, World  # noqa: E402


def main(command):
    try:
        with World() as world:
            mock, _, server = suite.start(world)
            env = os.environ | standard.told(world, mock, server)
            return subprocess.run(command, env=env, check=False).returncode
    except SetupFailed as problem:
        print(f"conformance: {problem}\n0 passed, 1 failed")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
