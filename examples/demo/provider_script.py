"""Scripted answers of the demo provider: computed from the request alone, so always the same.

No model, no clock, no randomness: ids are hashes of the messages, and usage is counted in words
(every run of non-blanks in every message text, and in what is answered).

Directives are read from the system and developer messages and from the last user message:

    [[say:TEXT]]                    answer exactly TEXT
    [[words:N]]                     answer `word1 word2 … wordN`
    [[echo:messages]]               answer the messages as received, as compact JSON
    [[echo:FIELD]]                  answer that field of the request, as compact JSON
    [[tool:NAME {"json":"args"}]]   call that tool (several: parallel calls); NAME without its prefix
    [[next]]                        what follows is for the answer after the next tool result …
    [[usage:prompt=9,completion=4,cached=2]]    report this usage instead of counting
    [[delay_ms=50]]                 pause before each piece of a stream, and before a JSON answer
    [[prefill_ms=900]]              pause of a stream between its role and its first piece
    [[fault:status=500]]            an error object (retry_after=1 adds that header)
    [[fault:drop]]                  close before the first byte
    [[fault:cut_after=5]]           break off after 5 pieces (of a JSON answer: after half)
    [[fault:stall=3]]               three seconds of silence after the first piece
    [[fault:malformed]]             a data line, or a body, that is not JSON
    [[fault:error_after=2]]         an error object in the stream after 2 pieces, then the end
    [[fault:no_done]]               a clean end without [DONE]
    [[fault:no_usage]]              no usage, though it was asked for
    [[fault:…,times=2]]             only the first two times that these messages come

Otherwise: after a tool result `The tool said: RESULT`, with a JSON schema a value that satisfies
it, else `You said: ` and the last user message without its directives.
"""

import hashlib
import json
import re
import threading

from provider import Cut, Refusal

CREATED = 1700000000
# The longest answer by [[words:N]], and the deepest schema that is followed.
MAX_WORDS = 20000
MAX_DEPTH = 16
# How many different [[fault:…,times=N]] are counted before the counts begin anew.
MAX_COUNTED = 10000
DIRECTIVE = re.compile(r"\[\[([a-z_]+)\s*([:=]?)\s*")


def text_of(message):
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p.get("text", "") for p in content if isinstance(p, dict)]
        return " ".join(p for p in parts if isinstance(p, str))
    return ""


def parse_directives(text):
    """Returns ([(name, value)], text without them). A tool's value is (name, arguments)."""
    found, rest, at = [], "", 0
    while True:
        match = DIRECTIVE.search(text, at)
        if not match:
            return found, rest + text[at:]
        name, start = match.group(1), match.end()
        rest += text[at : match.start()]
        if name == "tool":
            tool = re.compile(r"[^\s\]]+").match(text, start)
            if tool:
                arguments, end = parse_arguments(text, tool.end())
                found.append((name, (tool.group(), arguments)))
                at = text.find("]]", end) + 2 or len(text)
                continue
        end = text.find("]]", start)
        if end < 0:
            return found, rest + text[match.start() :]
        found.append((name, text[start:end]))
        at = end + 2


def parse_arguments(text, at):
    while at < len(text) and text[at].isspace():
        at += 1
    if text[at : at + 1] != "{":
        return {}, at
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except ValueError:
        return {}, at


def settings(value):
    """`status=500,times=2` as a dictionary of texts; a bare word is a key with an empty text."""
    pairs = (part.partition("=") for part in value.split(",") if part.strip())
    return {key.strip(): text.strip() for key, _, text in pairs}


def number(text, fallback=0):
    try:
        return float(text)
    except (TypeError, ValueError):
        return fallback


def count_words(text):
    return len(text.split())


class Plan:
    """What one request asks of the script."""

    def __init__(self, body):
        self.body = body
        self.messages = body["messages"]
        directives, self.said = [], ""
        last_user = max(
            (i for i, m in enumerate(self.messages) if m.get("role") == "user"), default=-1
        )
        for index, message in enumerate(self.messages):
            if message.get("role") in ("system", "developer"):
                directives += parse_directives(text_of(message))[0]
            elif index == last_user:
                found, self.said = parse_directives(text_of(message))
                directives += found
        self.said = " ".join(self.said.split())
        self.directives = this_round(directives, self.rounds_done(last_user))
        self.faults = {}
        for value in self.all("fault"):
            self.faults.update(settings(value))
        self.delay = number(self.one("delay_ms")) / 1000
        self.prefill = number(self.one("prefill_ms")) / 1000

    def rounds_done(self, last_user):
        after = self.messages[last_user + 1 :]
        return sum(1 for m in after if m.get("role") == "assistant" and m.get("tool_calls"))

    def all(self, name):
        return [value for found, value in self.directives if found == name]

    def one(self, name):
        values = self.all(name)
        return values[-1] if values else None

    def id(self, prefix, salt=""):
        seed = json.dumps([self.body.get("model"), self.messages, salt], sort_keys=True)
        return prefix + hashlib.sha256(seed.encode()).hexdigest()[:24]

    def prompt_tokens(self):
        return sum(count_words(text_of(message)) for message in self.messages)


def this_round(directives, done):
    """The directives between the `next` before and the `next` after; faults and delays stay."""
    rounds, constant = [[]], []
    for name, value in directives:
        if name == "next":
            rounds.append([])
        elif name == "delay_ms":
            constant.append((name, value))
        else:
            rounds[-1].append((name, value))
    return constant + (rounds[done] if done < len(rounds) else [])


class Answer:
    """One choice: a text or tool calls, why it stopped, and its size in words."""

    def __init__(self, text=None, calls=(), stop="stop"):
        self.text, self.calls, self.stop = text, list(calls), stop

    def words(self):
        if self.calls:
            return sum(1 + count_words(call["function"]["arguments"]) for call in self.calls)
        return count_words(self.text)

    def pieces(self):
        """The text as it is streamed: one word each, with the blanks before it."""
        return re.findall(r"\s*\S+\s*$|\s*\S+|\s+$", self.text)


def answer_for(plan, index):
    calls = tool_calls(plan)
    if calls:
        return Answer(calls=calls, stop="tool_calls")
    text = plain_text(plan)
    if index:
        text = f"Choice {index}: {text}"
    return limited(plan.body, text)


def limited(body, text):
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0]
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    if isinstance(cap, int) and count_words(text) > cap:
        return Answer(text="".join(re.findall(r"\s*\S+", text)[:cap]), stop="length")
    return Answer(text=text)


def plain_text(plan):
    for name, value in plan.directives:
        if name == "say":
            return value
        if name == "words":
            return " ".join(f"word{i}" for i in range(1, min(int(number(value)), MAX_WORDS) + 1))
        if name == "echo":
            shown = [[m.get("role"), text_of(m)] for m in plan.messages]
            value = shown if value == "messages" else plan.body.get(value)
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    wanted = plan.body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema") or {}
        return json.dumps(satisfying(schema, schema, plan.said, 0), ensure_ascii=False)
    if wanted.get("type") == "json_object":
        return json.dumps({"answer": plan.said}, ensure_ascii=False)
    last = plan.messages[-1]
    if last.get("role") == "tool":
        return f"The tool said: {text_of(last)}"
    return f"You said: {plan.said}"


def tool_calls(plan):
    offered = [
        tool["function"]
        for tool in plan.body.get("tools") or []
        if isinstance(tool.get("function"), dict)
    ]
    choice = plan.body.get("tool_choice")
    if not offered or choice == "none":
        return []
    asked = plan.all("tool")
    named = (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None
    answered = plan.messages[-1].get("role") == "tool"
    if not asked and (named or (choice == "required" and not answered)):
        asked = [(named or offered[0]["name"], None)]
    if plan.body.get("parallel_tool_calls") is False:
        asked = asked[:1]
    calls = []
    for index, (name, arguments) in enumerate(asked):
        tool = find_tool(offered, name)
        if tool is None:
            continue
        if arguments is None:
            schema = tool.get("parameters") or {}
            arguments = satisfying(schema, schema, plan.said, 0) if schema else {}
        call = {"name": tool["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
        calls.append({"id": plan.id("call_", index), "type": "function", "function": call})
    return calls


def find_tool(offered, name):
    for tool in offered:
        if tool.get("name") == name:
            return tool
    for tool in offered:
        if str(tool.get("name")).endswith(("_" + name, "." + name, "-" + name)):
            return tool
    return None


def satisfying(schema, root, said, depth):
    """A value that a simple JSON schema accepts; texts are the user's own words."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    if "$ref" in schema:
        return satisfying(referred(schema["$ref"], root), root, said, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return satisfying(schema[several][0], root, said, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties") or {}
        return {
            name: satisfying(inner, root, said, depth + 1) for name, inner in properties.items()
        }
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [satisfying(schema.get("items") or {}, root, said, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        digits = re.search(r"-?\d+", said)
        value = int(digits.group()) if digits else 0
        value = max(value, schema.get("minimum", value))
        return min(value, schema.get("maximum", value))
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    text = said or "text"
    return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")


def referred(reference, root):
    found = root
    for part in str(reference).removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return found


class Script:
    """Answers chat requests, and does the faults that they ask for."""

    def __init__(self):
        self.counted = {}
        self.lock = threading.Lock()

    def answer(self, exchange):
        plan = Plan(exchange.body)
        if "times" in plan.faults and self.count(plan) > number(plan.faults["times"]):
            plan.faults = {}
        self.fail_first(exchange, plan)
        answers = [answer_for(plan, index) for index in range(int(exchange.body.get("n") or 1))]
        usage = usage_of(plan, answers)
        if exchange.body.get("stream") is True:
            Stream(exchange, plan, usage).run(answers)
        else:
            self.answer_json(exchange, plan, answers, usage)

    def fail_first(self, exchange, plan):
        faults = plan.faults
        if not ({"status", "drop"} & faults.keys()):
            return
        if "drop" in faults:
            exchange.status = 0
            raise Cut
        status = int(number(faults["status"], 500))
        headers = [("retry-after", faults["retry_after"])] if "retry_after" in faults else []
        kind, code = ERROR_KINDS.get(status, ("server_error", None))
        message = f"scripted failure with status {status}"
        raise Refusal(status, message, kind, code=code, headers=headers)

    def count(self, plan):
        key = plan.id("fault_")
        with self.lock:
            if len(self.counted) > MAX_COUNTED:
                self.counted.clear()
            self.counted[key] = self.counted.get(key, 0) + 1
            return self.counted[key]

    def answer_json(self, exchange, plan, answers, usage):
        exchange.pause(plan.delay + number(plan.faults.get("stall")))
        whole = head(plan, "chat.completion")
        whole["choices"] = [choice_of(plan, index, answer) for index, answer in enumerate(answers)]
        if "no_usage" not in plan.faults:
            whole["usage"] = usage
        exchange.usage = usage
        data = json.dumps(whole, ensure_ascii=False).encode()
        if "malformed" in plan.faults:
            data = data[: len(data) // 2]
        if "cut_after" in plan.faults:
            exchange.handler.start(200, "application/json", (), length=len(data))
            exchange.handler.put(data[: len(data) // 2])
            raise Cut
        exchange.finish_json(data)


ERROR_KINDS = {
    400: ("invalid_request_error", "scripted_bad_request"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "server_is_overloaded"),
}


def head(plan, kind):
    seed = plan.body.get("seed")
    return {
        "id": plan.id("chatcmpl-"),
        "object": kind,
        "created": CREATED,
        "model": plan.body["model"],
        "system_fingerprint": f"fp_scripted_{seed}" if seed is not None else "fp_scripted",
        "service_tier": "default",
    }


def usage_of(plan, answers):
    given = settings(plan.one("usage") or "")
    prompt = int(number(given.get("prompt"), plan.prompt_tokens()))
    completion = int(number(given.get("completion"), sum(answer.words() for answer in answers)))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": int(number(given.get("cached"))),
            "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def choice_of(plan, index, answer):
    message = {
        "role": "assistant",
        "content": None if answer.calls else answer.text,
        "refusal": None,
    }
    if answer.calls:
        message["tool_calls"] = answer.calls
    logprobs = (
        {"content": [logprob(p) for p in answer.pieces()]} if wants_logprobs(plan, answer) else None
    )
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.stop}


def wants_logprobs(plan, answer):
    return plan.body.get("logprobs") is True and not answer.calls


def logprob(piece):
    own = {"token": piece, "logprob": -0.5, "bytes": list(piece.encode())}
    return {**own, "top_logprobs": [own]}


class Stream:
    """Sends answers as server-sent events, and breaks where the plan says so."""

    def __init__(self, exchange, plan, usage):
        self.exchange, self.plan, self.usage = exchange, plan, usage
        options = exchange.body.get("stream_options") or {}
        self.with_usage = bool(options.get("include_usage")) and "no_usage" not in plan.faults
        self.sent = 0

    def run(self, answers):
        self.exchange.pause(self.plan.delay)
        # What a cut leaves behind: the prompt is read, and nothing is written yet.
        self.exchange.usage = dict(
            self.usage, completion_tokens=0, total_tokens=self.usage["prompt_tokens"]
        )
        self.exchange.start_stream()
        for index, answer in enumerate(answers):
            self.delta(
                index,
                {"role": "assistant", "content": None if answer.calls else "", "refusal": None},
            )
        self.exchange.pause(self.plan.prefill)
        for index, answer in enumerate(answers):
            for delta, words in deltas(answer):
                self.piece(index, delta, words, answer)
        for index, answer in enumerate(answers):
            self.delta(index, {}, stop=answer.stop)
        self.exchange.usage = self.usage
        if self.with_usage:
            self.event(dict(head(self.plan, "chat.completion.chunk"), choices=[], usage=self.usage))
        self.exchange.finish_stream(b"" if "no_done" in self.plan.faults else b"data: [DONE]\n\n")

    def piece(self, index, delta, words, answer):
        faults = self.plan.faults
        self.break_off(faults)
        if self.sent and self.plan.delay:
            self.exchange.pause(self.plan.delay)
        extra = {}
        if wants_logprobs(self.plan, answer):
            extra["logprobs"] = {"content": [logprob(delta["content"])], "refusal": None}
        self.delta(index, delta, **extra)
        self.sent += 1
        produced = self.exchange.usage["completion_tokens"] + words
        total = self.usage["prompt_tokens"] + produced
        self.exchange.usage = dict(self.usage, completion_tokens=produced, total_tokens=total)
        if self.sent == 1 and "stall" in faults:
            self.exchange.pause(number(faults["stall"]))
        if self.sent == 1 and "malformed" in faults:
            self.exchange.send_chunk(b'data: {"choices":[{"delta":\n\n')

    def break_off(self, faults):
        if "cut_after" in faults and self.sent >= number(faults["cut_after"]):
            raise Cut
        if "error_after" in faults and self.sent >= number(faults["error_after"]):
            error = {
                "message": "scripted failure in the stream",
                "type": "server_error",
                "param": None,
                "code": None,
            }
            self.event({"error": error})
            self.exchange.log(finished=False)
            raise Cut

    def delta(self, index, delta, stop=None, logprobs=None):
        chunk = head(self.plan, "chat.completion.chunk")
        chunk["choices"] = [
            {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": stop}
        ]
        if self.with_usage:
            chunk["usage"] = None
        self.event(chunk)

    def event(self, value):
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self.exchange.send_chunk(b"data: " + data + b"\n\n")


def deltas(answer):
    """(delta, words in it) for each piece of an answer after its role."""
    if not answer.calls:
        return [({"content": piece}, count_words(piece)) for piece in answer.pieces()]
    found = []
    for index, call in enumerate(answer.calls):
        opening = {"index": index, "id": call["id"], "type": "function"}
        opening["function"] = {"name": call["function"]["name"], "arguments": ""}
        found.append(({"tool_calls": [opening]}, 1))
        for piece in re.findall(r"\s*\S+\s*", call["function"]["arguments"]):
            inner = {"index": index, "function": {"arguments": piece}}
            found.append(({"tool_calls": [inner]}, count_words(piece)))
    return found
