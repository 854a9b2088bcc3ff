"""One client process of the suite `budgets`: asks what it is told to, all of it at once.

Reads one JSON object a line: `url`, `requests` (a list of `path`, `headers`, `body`, and `leaves`:
seconds after which the client goes), `apart` (seconds over which they are spread), or `loops` and
`seconds` for requests again and again. Writes a line for each that has ended, and one that says so
of all.
"""

import asyncio
import json
import random
import sys
import time

ANSWER_SECONDS = 40


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def ask(host, port, one):
    """The status, and what the first 300 bytes of the answer say; 0 = there was none."""
    data = json.dumps(one["body"]).encode()
    headers = {"host": "x", "content-type": "application/json", "connection": "close", **one["headers"]}
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {one['path']} HTTP/1.1\r\n{text}content-length: {len(data)}\r\n\r\n"
    writer = None
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(head.encode() + data)
        answer = await asyncio.wait_for(reader.read(-1), one.get("leaves") or ANSWER_SECONDS)
        return int(answer[9:12] or 0), answer.partition(b"\r\n\r\n")[2][:300].decode(errors="replace")
    except (OSError, asyncio.TimeoutError, ValueError) as problem:
        return 0, type(problem).__name__
    finally:
        if writer is not None:
            writer.close()


async def once(host, port, number, one, apart):
    await asyncio.sleep(random.random() * apart)
    status, text = await ask(host, port, one)
    say({"number": number, "status": status, "text": text})


async def again(host, port, requests, until):
    while time.monotonic() < until:
        one = random.choice(requests)
        status, _ = await ask(host, port, one)
        say({"status": status})
        # A server that was killed comes back; one that refuses is not asked without a pause.
        await asyncio.sleep(0.01 if status == 200 else 0.05)


async def work(plan):
    host, port = plan["url"].removeprefix("http://").split(":")
    if plan.get("loops"):
        until = time.monotonic() + plan["seconds"]
        await asyncio.gather(*(again(host, port, plan["requests"], until) for _ in range(plan["loops"])))
    else:
        each = enumerate(plan["requests"])
        await asyncio.gather(*(once(host, port, number, one, plan["apart"]) for number, one in each))
    say({"done": True})


for line in sys.stdin:
    asyncio.run(work(json.loads(line)))
