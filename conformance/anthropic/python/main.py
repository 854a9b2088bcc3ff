"""Runs the flows of one Anthropic SDK against the server that `../suite.py` started.

    main.py [NAME …]     only the flows whose name contains one of the NAMEs

The environment says where all is, and HOLDFAST_SDK which of the two SDKs this is.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import flows_agents  # noqa: E402, F401
import flows_bill  # noqa: E402, F401
import flows_errors  # noqa: E402, F401
import flows_local  # noqa: E402, F401
import flows_messages  # noqa: E402, F401
import flows_thinking  # noqa: E402, F401
import flows_tools  # noqa: E402, F401
import flows_wire  # noqa: E402, F401
from flows import Flow, Place  # noqa: E402

import running  # noqa: E402


def main(names):
    flows, place = running.chosen(names), Place()
    failed = running.run(flows, lambda name: Flow(name, place))
    place.client.close()
    print(f"{len(flows) - failed} passed, {failed} failed")
    return 1 if failed or not flows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
