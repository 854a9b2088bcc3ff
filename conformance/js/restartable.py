"""A server that a flow kills and starts again on the same data: for flows in any language.

It speaks lines of JSON with the flow that started it. Its standard output says where the server
is, once it serves (`{"url": …, "provider_log": …, "effects": …, "keys": {…}}`); its input takes
`kill` (SIGKILL, answered by `{}`) and `start` (answered as at first; the port is another one). At
the end of its input it stops everything. Standard library only.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import standard  # noqa: E402
from harness import Server, World  # noqa: E402


def say(value):
    print(json.dumps(value), flush=True)


def main():
    with World() as world:
        provider, server = standard.start(world)
        config = server.config.read_text()
        env = {f"{name.upper()}_KEY": key for name, key in standard.KEYS.items()}
        env["MOCK_KEY"] = provider.key
        where = {
            "provider_log": str(provider.log_path),
            "effects": str(standard.effects_paths(world.folder)["notes"]),
            "keys": standard.KEYS,
        }
        say({"url": server.url, "admin_key": server.admin_key, **where})
        for line in sys.stdin:
            if line.strip() == "kill":
                server.kill()
                world.started.remove(server)
                say({})
            elif line.strip() == "start":
                server = world.start(Server, config, env=env)
                say({"url": server.url, "admin_key": server.admin_key, **where})


if __name__ == "__main__":
    main()
