"""Agent loops of one client process: each asks again and again, and waits when it is told to.

loops.py PLAN     a JSON object: url, path, key, model, seconds, and `loops`, a list of objects with
                  `name` and `headers`; what they saw is printed as JSON lines
"""

import asyncio
import json
import random
import sys
import time

WAIT_MAX = 2.0


async def ask(connection, plan, loop):
    """(status, headers, body) over a connection that is kept."""
    if connection[0] is None:
        host, port = plan["url"].removeprefix("http://").split(":")
        connection[0] = await asyncio.open_connection(host, int(port))
    reader, writer = connection[0]
    body = {"model": plan["model"], "max_tokens": 16, "messages": [{"role": "user", "content": "go on"}]}
    data = json.dumps(body).encode()
    headers = {
        "host": "x",
        "authorization": f"Bearer {plan['key']}",
        "x-api-key": plan["key"],
        "content-type": "application/json",
        "content-length": len(data),
        **loop["headers"],
    }
    if plan["path"].endswith("messages"):
        headers["anthropic-version"] = "2023-06-01"
        headers.pop("authorization")
    else:
        headers.pop("x-api-key")
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST {plan['path']} HTTP/1.1\r\n{text}\r\n".encode() + data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    told = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    if told.get("transfer-encoding") == "chunked":
        while (size := int((await reader.readline()).strip() or b"0", 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.readexactly(int(told.get("content-length", 0)))
    return int(head[0].split(" ")[1]), told


async def run(plan, loop):
    connection, end = [None], time.monotonic() + plan["seconds"]
    while time.monotonic() < end:
        began = time.monotonic()
        status, told = await ask(connection, plan, loop)
        took = time.monotonic() - began
        print(json.dumps({"loop": loop["name"], "status": status, "at": began, "took": took}))
        if status == 429:
            wait = float(told.get("retry-after-ms", 0)) / 1000 or float(told.get("retry-after", 0.1))
            await asyncio.sleep(min(wait, WAIT_MAX) * random.uniform(0.8, 1.0))
        else:
            await asyncio.sleep(plan.get("thinks", 0.0))


async def main(plan):
    await asyncio.gather(*(run(plan, loop) for loop in plan["loops"]))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
