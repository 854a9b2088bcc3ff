"""Scripted answers in Anthropic's format, in the words of `examples/demo/provider_script.py`.

What is to be said is found out there, from the same conversation in that script's terms; what is
Anthropic's own is here: blocks, events, thinking, stop reasons, the prompt's cache.
"""

import hashlib
import json
import threading

import provider_script
from provider import Cut, Refusal
from provider_script import Plan, answer_for, count_words, deltas, number

from rules import REDACTED, blocks, check_messages, refuse, signature

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
NO_MONEY = "Your credit balance is too low to access the Anthropic API."
# How many prefixes are kept before they are forgotten.
PREFIXES_MAX = 10000


def text_in(content):
    return " ".join(block["text"] for block in blocks(content) if block["type"] == "text")


def in_plain_terms(body):
    """The request as the demo's script reads it."""
    messages = []
    if body.get("system"):
        messages.append({"role": "system", "content": text_in(body["system"])})
    for message in body["messages"]:
        content = blocks(message["content"])
        for result in (block for block in content if block["type"] == "tool_result"):
            messages.append({"role": "tool", "content": text_in(result.get("content") or [])})
        plain = {"role": message["role"], "content": text_in(content)}
        plain["tool_calls"] = [block for block in content if block["type"] == "tool_use"]
        if message["role"] != "user" or plain["content"] or not messages_end_in_result(messages):
            messages.append(plain)
    choice = body.get("tool_choice") or {}
    shape = (body.get("output_config") or {}).get("format")
    return {
        "model": body["model"],
        "messages": messages,
        "tools": [
            {"function": {"name": tool["name"], "parameters": tool.get("input_schema")}}
            for tool in body.get("tools") or []
        ],
        "tool_choice": {
            "any": "required",
            "none": "none",
            "tool": {"function": {"name": choice.get("name")}},
        }.get(choice.get("type")),
        "parallel_tool_calls": not choice.get("disable_parallel_tool_use"),
        "response_format": shape and {"type": shape["type"], "json_schema": shape},
    }


def messages_end_in_result(messages):
    return bool(messages) and messages[-1]["role"] == "tool"


class Cache:
    """The prompts' prefixes that were marked to be kept."""

    def __init__(self):
        self.kept, self.lock = set(), threading.Lock()

    def usage(self, body):
        """(words that are new, written, read)"""
        digest, words, ends = hashlib.sha256(body["model"].encode()), 0, []
        for block in prompt_blocks(body):
            plain = {name: value for name, value in block.items() if name != "cache_control"}
            digest.update(json.dumps(plain, sort_keys=True).encode())
            words += words_of(block)
            ends.append((digest.hexdigest(), words, "cache_control" in block))
        if body.get("cache_control") and ends:
            ends[-1] = (*ends[-1][:2], True)
        with self.lock:
            read = max((end for key, end, _ in ends if key in self.kept), default=0)
            marked = [(key, end) for key, end, is_marked in ends if is_marked]
            if len(self.kept) > PREFIXES_MAX:
                self.kept.clear()
            self.kept.update(key for key, _ in marked)
        last = max([read, *(end for _, end in marked)]) if marked else 0
        read = min(read, last)
        return words - last, last - read, read


class Threads:
    """Conversations that are held here: what a request says goes behind what was said."""

    def __init__(self):
        self.kept, self.lock = {}, threading.Lock()

    def open(self, exchange):
        """Puts the history of a thread in front, and checks the whole."""
        thread = exchange.body.get("thread") or {}
        if thread.get("type") == "continue":
            with self.lock:
                held = self.kept.get(thread.get("previous_message_id"))
            if held is None:
                refuse("thread: it is not held here")
            exchange.body = held | exchange.body
            exchange.body["messages"] = [*held["messages"], *exchange.body["messages"]]
        check_messages(exchange.body)

    def keep(self, reply):
        if reply.body.get("thread"):
            said = {"role": "assistant", "content": reply.content}
            held = reply.body | {"messages": [*reply.body["messages"], said]}
            with self.lock:
                self.kept[reply.plan.id("msg_")] = held


def prompt_blocks(body):
    """Everything that a prompt is made of, in the order in which it is cached."""
    yield from body.get("tools") or []
    yield from blocks(body.get("system") or [])
    for message in body["messages"]:
        for block in blocks(message["content"]):
            yield {"role": message["role"], **block}


def words_of(block):
    inner = sum(words_of(block) for block in blocks(block.get("content") or []))
    return inner + count_words(block.get("text", "")) + count_words(block.get("description", ""))


class Reply:
    """One answer: its blocks, why it stopped, and its usage."""

    def __init__(self, body, cache):
        self.body = body
        self.plan = Plan(in_plain_terms(body))
        self.content, self.stop, self.stop_sequence = [], "end_turn", None
        new, written, read = cache.usage(body)
        self.think()
        self.answer()
        output = sum(words for block in self.content for _, words in pieces(block))
        given = provider_script.settings(self.plan.one("usage") or "")
        self.usage = {
            "input_tokens": int(number(given.get("input"), new)),
            "cache_creation_input_tokens": int(number(given.get("written"), written)),
            "cache_read_input_tokens": int(number(given.get("read"), read)),
            "output_tokens": int(number(given.get("output"), output)),
        }

    def think(self):
        thinking = (self.body.get("thinking") or {"type": "disabled"})["type"]
        if thinking == "disabled":
            return
        for name, value in self.plan.directives:
            if name == "think":
                block = {"type": "thinking", "thinking": value, "signature": signature(value)}
                self.content.append(block)
            elif name == "redacted":
                self.content.append({"type": "redacted_thinking", "data": REDACTED})

    def answer(self):
        said = answer_for(self.plan, 0)
        if said.calls:
            # A text before the calls, if there is one to say.
            text = self.plan.one("say")
            self.content += [{"type": "text", "text": text}] if text else []
            self.content += [call_block(call) for call in said.calls]
            self.stop = "tool_use"
            return
        text = said.text
        for stop in self.body.get("stop_sequences") or []:
            if stop in text:
                text, self.stop, self.stop_sequence = text.split(stop)[0], "stop_sequence", stop
        found, cap = provider_script.Answer(text).pieces(), self.body["max_tokens"]
        if len(found) > cap:
            text, self.stop, self.stop_sequence = "".join(found[:cap]), "max_tokens", None
        if self.plan.all("refuse"):
            text, self.stop = "", "refusal"
        self.content += [{"type": "text", "text": text}] if text else []

    def message(self, **fields):
        return {
            "id": self.plan.id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self.body["model"],
            "content": self.content,
            "stop_reason": self.stop,
            "stop_sequence": self.stop_sequence,
            "usage": self.full_usage(self.usage),
        } | fields

    def full_usage(self, usage):
        """With what is said once, where an answer begins."""
        written = usage["cache_creation_input_tokens"]
        lifetimes = {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0}
        return usage | {"cache_creation": lifetimes, "service_tier": "standard"}


def call_block(call):
    function = call["function"]
    block_id = call["id"].replace("call_", "toolu_")
    arguments = json.loads(function["arguments"])
    return {"type": "tool_use", "id": block_id, "name": function["name"], "input": arguments}


def pieces(block):
    """(delta, words in it) for each piece of a block."""
    if block["type"] == "text":
        for piece in provider_script.Answer(block["text"]).pieces():
            yield {"type": "text_delta", "text": piece}, count_words(piece)
    elif block["type"] == "thinking":
        for piece in provider_script.Answer(block["thinking"]).pieces():
            yield {"type": "thinking_delta", "thinking": piece}, count_words(piece)
        yield {"type": "signature_delta", "signature": block["signature"]}, 0
    elif block["type"] == "tool_use":
        # As the demo's script cuts a call: its name first, then its arguments.
        text = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
        call = {"id": block["id"], "function": {"name": block["name"], "arguments": text}}
        for delta, words in deltas(provider_script.Answer(calls=[call])):
            part = delta["tool_calls"][0]["function"]["arguments"]
            yield {"type": "input_json_delta", "partial_json": part}, words


def opening(block):
    """A block as it begins in a stream."""
    empty = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    return block | empty.get(block["type"], {})


class Script(provider_script.Script):
    """Answers messages, and does the faults that they ask for."""

    def __init__(self):
        super().__init__()
        self.cache, self.threads = Cache(), Threads()

    def answer(self, exchange):
        self.threads.open(exchange)
        if exchange.counts:
            words = sum(words_of(block) for block in prompt_blocks(exchange.body))
            return exchange.finish_json(json.dumps({"input_tokens": words}).encode())
        reply = Reply(exchange.body, self.cache)
        plan = reply.plan
        if "times" in plan.faults and self.count(plan) > number(plan.faults["times"]):
            plan.faults = {}
        self.fail_first(exchange, plan)
        self.threads.keep(reply)
        if exchange.body.get("stream") is True:
            return Stream(exchange, reply).run()
        exchange.pause(plan.delay)
        exchange.usage = reply.usage
        return exchange.finish_json(json.dumps(reply.message(), ensure_ascii=False).encode())

    def fail_first(self, exchange, plan):
        faults = plan.faults
        if "credit" in faults:
            refuse(NO_MONEY)
        if "drop" in faults:
            exchange.status = 0
            raise Cut
        if "status" in faults:
            status = int(number(faults["status"], 500))
            after = [("retry-after", faults["retry_after"])] if "retry_after" in faults else []
            kind = KINDS.get(status, "api_error")
            raise Refusal(status, f"scripted failure with status {status}", kind, headers=after)


class Stream:
    """Sends a reply as events, and breaks where the plan says so."""

    def __init__(self, exchange, reply):
        self.exchange, self.reply, self.plan = exchange, reply, reply.plan
        self.sent = 0

    def run(self):
        exchange, reply = self.exchange, self.reply
        exchange.pause(self.plan.delay)
        # What a cut leaves behind: the prompt is read, and nothing is written yet.
        exchange.usage = reply.usage | {"output_tokens": 0}
        exchange.start_stream()
        begun = reply.full_usage(reply.usage | {"output_tokens": 1})
        message = reply.message(content=[], stop_reason=None, stop_sequence=None, usage=begun)
        self.event("message_start", message=message)
        self.event("ping")
        for index, block in enumerate(reply.content):
            self.event("content_block_start", index=index, content_block=opening(block))
            for delta, words in pieces(block):
                self.piece(index, delta, words)
            self.event("content_block_stop", index=index)
        stop = {"stop_reason": reply.stop, "stop_sequence": reply.stop_sequence}
        self.event("message_delta", delta=stop, usage=reply.usage)
        exchange.usage = reply.usage
        last = b"" if "no_stop" in self.plan.faults else self.bytes_of("message_stop", {})
        exchange.finish_stream(last)

    def piece(self, index, delta, words):
        faults = self.plan.faults
        if "cut_after" in faults and self.sent >= number(faults["cut_after"]):
            raise Cut
        if "error_after" in faults and self.sent >= number(faults["error_after"]):
            self.event("error", error={"type": "overloaded_error", "message": "Overloaded"})
            self.exchange.log(finished=False)
            raise Cut
        if self.sent and self.plan.delay:
            self.exchange.pause(self.plan.delay)
        self.event("content_block_delta", index=index, delta=delta)
        self.sent += 1
        usage = self.exchange.usage
        self.exchange.usage = usage | {"output_tokens": usage["output_tokens"] + words}

    def event(self, kind, **fields):
        self.exchange.send_chunk(self.bytes_of(kind, fields))

    def bytes_of(self, kind, fields):
        data = json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":"))
        return f"event: {kind}\ndata: {data}\n\n".encode()
