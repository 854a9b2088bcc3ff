"""A provider with real limits: a token bucket, a window or a number at once, per key and model.

It says what is left as OpenAI or Anthropic do, refuses what is too much with a 429, and keeps
prompts by key and model as their prompt caches do. It runs in a thread of the suite, so that what
it counted can be looked at.
"""

import asyncio
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class Limit:
    """How a model is limited with one key."""

    style: str = "openai"  # or "anthropic", "none": no headers at all
    rate: float = 0.0  # requests a second that flow into the bucket
    burst: int = 0  # what the bucket holds; 0 = no bucket
    window: float = 0.0  # seconds of a fixed window of `burst` requests, instead of a bucket
    at_once: int = 0  # requests at once; 0 = any
    retry_after: float = 0.0  # answers every request with a 429 that says this
    seconds: float = 0.0  # how long an answer takes
    cache: str = "messages"  # what prompts are kept by: "messages", "blocks" of tokens, or "marks"


@dataclass
class Bucket:
    level: float
    at: float
    running: int = 0


@dataclass
class Seen:
    at: float
    key: str
    model: str
    status: int
    session: str
    attempt: str
    cached: int = 0


@dataclass
class State:
    limits: dict = field(default_factory=dict)
    revoked: set = field(default_factory=set)
    buckets: dict = field(default_factory=dict)
    prefixes: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)


class LimitedProvider:
    """Started in a thread; `requests()` is what came."""

    def __init__(self, limits):
        self.state = State(limits=limits)
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    def requests(self, model=None, after=0.0):
        seen = [one for one in list(self.state.seen) if model in (None, one.model)]
        return [one for one in seen if one.at >= after]

    def refused(self, model, after, before):
        return sum(one.status == 429 for one in self.requests(model, after) if one.at < before)

    async def _client(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, more, answer = await self._answer(lines[0].split(" ")[1], headers, body)
                data = json.dumps(answer).encode()
                more = {**more, "content-type": "application/json", "content-length": len(data)}
                text = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(f"HTTP/1.1 {status} x\r\n{text}\r\n".encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path, headers, body):
        asked = json.loads(body)
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        model, now = asked["model"], time.monotonic()
        seen = Seen(
            now, key, model, 0, asked.get("user") or "", headers.get("holdfast-attempt", "")
        )
        self.state.seen.append(seen)
        anthropic = path.split("?")[0].endswith("/messages")
        if key in self.state.revoked:
            seen.status = 401
            return 401, {}, error("invalid_api_key", f"the key {key} is wrong")
        limit = self.state.limits.get(model, Limit())
        place = (key, model)
        full = limit.burst or 1
        bucket = self.state.buckets.setdefault(place, Bucket(full, now))
        headers, admitted = admit(limit, bucket, now)
        if not admitted:
            seen.status = 429
            return 429, headers, error("rate_limit_exceeded", "too much")
        bucket.running += 1
        try:
            await asyncio.sleep(limit.seconds)
        finally:
            bucket.running -= 1
        seen.status = 200
        if limit.cache == "messages":
            messages, seen.cached = self._cached(place, body, asked)
            counts = (messages * 10, seen.cached * 10, 0)
        else:
            known = self.state.prefixes.setdefault(place, set())
            counts = cached_tokens(limit.cache, known, body)
            seen.cached = counts[1]
        return 200, headers, answer(anthropic, model, *counts)

    def _cached(self, place, body, asked):
        """How many messages there are, and how many at the start are in the cache."""
        known = self.state.prefixes.setdefault(place, set())
        prefixes = list(message_prefixes(body, asked))
        hit = max((n for n, prefix in enumerate(prefixes, 1) if prefix in known), default=0)
        known.update(prefixes)
        return len(prefixes), hit


# Tokens are bytes by four. OpenAI's caches keep blocks of tokens, Anthropic's what ends at a mark.
TOKEN_BYTES, BLOCK_TOKENS = 4, 1024
MARK = re.compile(rb',?\s*"cache_control":\s*\{"type":\s*"ephemeral"\}')


def cached_tokens(kind, known, body):
    """(tokens, of them read from the cache, of them written to it) of a prompt's exact bytes."""
    text = body[min(at for at in (body.find(b'"system"'), body.find(b'"messages"')) if at >= 0) :]
    if kind == "marks":
        ends, at, removed = [], 0, 0
        while mark := MARK.search(text, at):
            ends.append(mark.start() - removed)
            removed += mark.end() - mark.start()
            at = mark.end()
        text = MARK.sub(b"", text)
    else:
        block = TOKEN_BYTES * BLOCK_TOKENS
        ends = range(block, len(text) + 1, block)
    begins = lambda end: (end, hashlib.sha256(text[:end]).hexdigest())  # noqa: E731
    read = max((end for end, _ in known if begins(end) in known), default=0)
    known.update(begins(end) for end in ends)
    written = max([0, *(end - read for end in ends)]) if kind == "marks" else 0
    return tuple(number // TOKEN_BYTES for number in (len(text), read, written))


def message_prefixes(body, asked):
    """A hash of the exact bytes from the first message to the end of each."""
    text = body.decode()
    decoder = json.JSONDecoder()
    start = text.index('"messages"')
    at = text.index("[", start) + 1
    digest = hashlib.sha256(json.dumps(asked.get("system")).encode())
    for _ in asked["messages"]:
        begin = at
        while text[at] in " \n\t,":
            at += 1
        _, at = decoder.raw_decode(text, at)
        digest.update(text[begin:at].encode())
        yield digest.hexdigest()


def admit(limit, bucket, now):
    """The headers, and whether the request is taken."""
    if limit.retry_after:
        return {"retry-after": limit.retry_after}, False
    if limit.at_once:
        return {}, bucket.running < limit.at_once
    if not limit.burst:
        return {}, True
    if limit.window:
        if now - bucket.at >= limit.window:
            bucket.level, bucket.at = float(limit.burst), now
        full_in = limit.window - (now - bucket.at)
        next_in = full_in
    else:
        flown = (now - bucket.at) * limit.rate
        bucket.level, bucket.at = min(float(limit.burst), bucket.level + flown), now
    admitted = bucket.level >= 1
    if admitted:
        bucket.level -= 1
    if not limit.window:
        full_in = (limit.burst - bucket.level) / limit.rate
        next_in = max(0.0, 1 - bucket.level) / limit.rate
    headers = told(limit, int(bucket.level), full_in)
    if not admitted and limit.style != "none":
        headers["retry-after-ms"] = int(next_in * 1000) + 1
    return headers, admitted


def told(limit, left, full_in):
    if limit.style == "openai":
        return {
            "x-ratelimit-limit-requests": limit.burst,
            "x-ratelimit-remaining-requests": left,
            "x-ratelimit-reset-requests": f"{full_in * 1000:.0f}ms" if full_in < 1 else f"{full_in:.3f}s",
        }
    if limit.style == "anthropic":
        reset = datetime.now(UTC) + timedelta(seconds=full_in)
        return {
            "anthropic-ratelimit-requests-limit": limit.burst,
            "anthropic-ratelimit-requests-remaining": left,
            "anthropic-ratelimit-requests-reset": reset.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
    return {}


def error(code, message):
    return {
        "type": "error",
        "error": {"message": message, "type": "rate_limit_error", "code": code, "param": None},
    }


def answer(anthropic, model, tokens, cached, written):
    if anthropic:
        usage = {
            "input_tokens": tokens - cached - written,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": written,
            "output_tokens": 3,
        }
        content = [{"type": "text", "text": "well said"}]
        whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": model}
        return {**whole, "content": content, "stop_reason": "end_turn", "usage": usage}
    usage = {
        "prompt_tokens": tokens,
        "completion_tokens": 3,
        "total_tokens": tokens + 3,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    message = {"role": "assistant", "content": "well said"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {"id": "c-1", "object": "chat.completion", "created": 1, "model": model}
    return {**whole, "choices": [choice], "usage": usage}
