"""The provider of the suite `budgets`: it counts what it bills, from its own side, to the nanodollar.

Chat completions and embeddings over HTTP/1.1, in a thread of the suite, so that it outlives every
server that is killed. It can hold all answers back until it is told to let them go, and it can fail
in a share of its answers: refuse, break off before or inside an answer, or answer without usage.
"""

import asyncio
import json
import random
import threading
import time
from dataclasses import dataclass

# Picodollars a token: chosen so that sums have to be rounded.
INPUT_PRICE, OUTPUT_PRICE = 1_234_567, 2_345_678
# What becomes of a request where the provider fails, and which of them it bills: all that it began to answer.
FAULTS = ("refused", "reset", "cut", "no_usage", "late")
WORDS = ["one ", "two ", "three ", "four "]


@dataclass
class Seen:
    """One request, as this side saw it."""

    attempt: str
    call: str
    model: str
    began: float
    fault: str = ""
    ended: float = 0.0
    billed: int = 0  # nanodollars
    reported: bool = False  # its usage was sent whole


def nanodollars(tokens_in, tokens_out):
    """Exact, and rounded up once."""
    return -(-(tokens_in * INPUT_PRICE + tokens_out * OUTPUT_PRICE) // 1000)


class CountingProvider:
    """Started at once; `seen` is what came, in order."""

    def __init__(self, seed=0):
        self.chance, self.faulty = random.Random(seed), 0.0
        self.seen, self.holding, self.held = [], False, 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def run(self, started):
        asyncio.set_event_loop(self.loop)
        self.free = asyncio.Event()
        self.free.set()
        start = asyncio.start_server(self.client, "127.0.0.1", 0, backlog=1024)
        self.server = self.loop.run_until_complete(start)
        self.url = "http://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    def hold(self):
        """Answers nobody from now on."""
        self.loop.call_soon_threadsafe(self.free.clear)
        self.held = 0

    def release(self):
        self.loop.call_soon_threadsafe(self.free.set)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    async def client(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = (line.partition(":") for line in head[1:] if line)
                headers = {name.lower(): value.strip() for name, _, value in fields}
                asked = json.loads(await reader.readexactly(int(headers.get("content-length", 0))))
                if not await self.answer(head[0].split(" ")[1], headers, asked, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, path, headers, asked, writer):
        """Whether the connection goes on."""
        attempt, call = headers.get("holdfast-attempt", ""), headers.get("x-client-request-id", "")
        seen = Seen(attempt, call, asked["model"], time.time())
        self.seen.append(seen)
        self.held += 1
        await self.free.wait()
        if self.chance.random() < self.faulty:
            seen.fault = self.chance.choice(FAULTS)
        if seen.fault == "refused":
            await send(writer, 503, {"error": {"message": "not now", "type": "server_error"}})
            seen.ended = time.time()
            return True
        tokens_in = self.chance.randint(1, 12)
        tokens_out = 0 if path.endswith("embeddings") else self.chance.randint(1, 8)
        # It began to answer: it bills, whatever becomes of the answer.
        seen.billed = nanodollars(tokens_in, tokens_out)
        if seen.fault == "late":
            await asyncio.sleep(self.chance.random())
        usage = {"prompt_tokens": tokens_in, "total_tokens": tokens_in + tokens_out}
        if tokens_out:
            usage["completion_tokens"] = tokens_out
        try:
            if seen.fault == "reset":
                return False
            if path.endswith("embeddings"):
                vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
                whole = {"object": "list", "model": asked["model"], "data": vectors}
                return await self.send_whole(writer, seen, whole, usage)
            if asked.get("stream"):
                return await self.send_stream(writer, seen, usage, bool(asked.get("stream_options")))
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {"id": "c-1", "object": "chat.completion", "created": 1, "model": asked["model"]}
            return await self.send_whole(writer, seen, {**whole, "choices": [choice]}, usage)
        finally:
            seen.ended = time.time()

    async def send_whole(self, writer, seen, whole, usage):
        if seen.fault != "no_usage":
            whole["usage"] = usage
        cut = 20 if seen.fault == "cut" else 0
        await send(writer, 200, whole, cut)
        seen.reported = seen.fault not in ("no_usage", "cut")
        return not cut

    async def send_stream(self, writer, seen, usage, is_asked):
        writer.write(b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        whole = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": seen.model}
        for number, word in enumerate(WORDS):
            delta = {"role": "assistant", "content": word}
            await event(writer, {**whole, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            if seen.fault == "cut" and number == 2:
                return False
            await asyncio.sleep(0.005)
        await event(writer, {**whole, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if is_asked and seen.fault != "no_usage":
            await event(writer, {**whole, "choices": [], "usage": usage})
            seen.reported = True
        data = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
        await writer.drain()
        return True


async def event(writer, value):
    data = b"data: " + json.dumps(value).encode() + b"\n\n"
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def send(writer, status, value, cut=0):
    data = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data[: len(data) - cut])
    await writer.drain()
