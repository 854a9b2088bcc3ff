"""The suite `codex-long`: Codex from npm against the server, over scripted models.

    suite.py [NAME …]     only the flows whose name contains one of the NAMEs

What the scripted model says makes it run commands and patch files; judged are the files on disk,
its own events, what the provider was asked, and the ledger. Standard library only.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "agents"))

import stage  # noqa: E402

import flows_work  # noqa: E402, F401
import flows_more  # noqa: E402, F401

if __name__ == "__main__":
    sys.exit(stage.main(sys.argv[1:]))
