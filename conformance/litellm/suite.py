"""The suite `litellm-long`: LiteLLM's Python package, unmodified, with Holdfast as its provider.

    suite.py [NAME …]     only the flows whose name contains one of the NAMEs

LiteLLM asks at four doors (`WAYS`), each in front of a model of another format. Judged by what its
caller gets, by what the scripted provider was asked, and by the ledger.
"""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("", "agents", "formats"))]
# Its price list is the one of the package; it would be fetched at the import.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import running  # noqa: E402
from blackhole import BlackHole  # noqa: E402
from harness import Provider as Demo  # noqa: E402
from harness import Server, SetupFailed, World  # noqa: E402
from provider import Provider  # noqa: E402
from stage import KEYS, TARGETS  # noqa: E402

ROW = """
[[providers]]
name = "{name}"
vendor = "{vendor}"
base_url = "{url}"
api_key = "key-of-the-provider"
models = [
{models}
]
"""
PRICE = 'input_usd_per_million = "1.00", output_usd_per_million = "2.00", cached_input_usd_per_million = "0.10"'
MORE = """
[[providers]]
name = "demo"
vendor = "openai-compatible"
base_url = "{url}"
api_key = "{key}"
models = [{{ id = "embed", input_usd_per_million = "1.00", output_usd_per_million = "1.00" }}]

[[keys]]
name = "suite"
secret = "${{SUITE_KEY}}"
"""


def config(provider, demo, flows):
    """A model for each flow at each provider, all at one price."""
    names = [flow.__name__.replace("_", "-") for flow in flows]
    rows = []
    for name, (vendor, path) in TARGETS.items():
        ids = [f"{each}{second}" for each in names for second in ("", "-2")]
        models = "\n".join(f'  {{ id = "{each}", {PRICE} }},' for each in ids)
        # LiteLLM takes a model's name that begins with `responses/` for something of its own.
        rows.append(ROW.format(name=f"at-{name}", vendor=vendor, url=provider.url + path, models=models))
    return "".join(rows) + MORE.format(url=demo.base_url, key=demo.key)


def main(names):
    hole = BlackHole()
    os.environ.update(hole.env())
    # LiteLLM reads its environment when it is imported.
    import flows

    passed = failed = 0
    unknown = [name for name in names if not any(name in f.__name__ for f in running.FLOWS)]
    if unknown:
        print(f"conformance: no flow has {', '.join(unknown)} in its name")
        return 2
    try:
        with World() as world:
            world.double(hole)
            provider = world.double(Provider())
            demo = world.start(Demo, ["embed"])
            text = config(provider, demo, running.FLOWS)
            server = world.start(Server, text, env={"SUITE_KEY": KEYS["agent"]})
            chosen = running.chosen(names)
            around = flows.Around(server, provider, demo)
            failed = running.run(chosen, lambda name: flows.Talk(around, name))
            passed = len(chosen) - failed
            for name, check in flows.checks(around, hole).items():
                bad = running.report(name, *running.timed(check))
                passed, failed = passed + (not bad), failed + bad
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
