"""A provider that counts: what was asked, when, and how many of it ran at once.

It speaks chat completions, embeddings and messages; other doors are translated to these. What a request is to find is in its prompt: `[[seconds=0.3]]`, `[[tokens=7,3]]` (what its
usage says), `[[mute]]` (no usage), `[[tool]]` (asks for the first tool first), `[[wait]]` (until `release` is set).
"""

import json
import pathlib
import re
import sys
import threading
import time
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from http_double import HttpDouble  # noqa: E402


@dataclass
class Seen:
    at: float
    mark: str
    path: str
    cap: int | None
    usage: tuple
    ended: float = 0.0


class CountingProvider(HttpDouble):
    def __init__(self):
        self.seen, self.running, self.release = [], {}, threading.Event()
        self.most = {}
        super().__init__()

    def of(self, mark):
        """What was asked with this mark, in order."""
        with self.lock:
            return [one for one in self.seen if one.mark == mark]

    def at_once(self, mark):
        """The most of this mark that ever ran beside each other."""
        with self.lock:
            return self.most.get(mark, 0)

    def post(self, request):
        body = request.json()
        text = json.dumps(body)
        said = dict(re.findall(r"\[\[(\w+)(?:=([^\]]*))?\]\]", text))
        mark = said.get("mark", "")
        usage = tuple(int(part) for part in said.get("tokens", "7,3").split(","))
        cap = body.get("max_tokens") or body.get("max_completion_tokens")
        one = Seen(time.monotonic(), mark, request.path, cap, usage)
        with self.lock:
            self.seen.append(one)
            self.running[mark] = self.running.get(mark, 0) + 1
            self.most[mark] = max(self.most.get(mark, 0), self.running[mark])
        try:
            if "wait" in said:
                self.release.wait(20)
            time.sleep(float(said.get("seconds", 0)))
            self.answer(request, body, said, usage)
        except (BrokenPipeError, ConnectionError):
            pass
        finally:
            with self.lock:
                self.running[mark] -= 1
                one.ended = time.monotonic()

    def answer(self, request, body, said, usage):
        theirs = {"x-ratelimit-limit-requests": "4711", "x-ratelimit-remaining-requests": "4710"}
        if request.path.endswith("/embeddings"):
            answer = {
                "object": "list",
                "model": body["model"],
                "data": [{"object": "embedding", "index": 0, "embedding": [0.0, 1.0]}],
                "usage": {"prompt_tokens": usage[0], "total_tokens": usage[0]},
            }
            return request.reply(200, "application/json", answer, theirs)
        if "/messages" in request.path:
            return self.messages(request, body, said, usage)
        told = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        if body.get("stream"):
            return self.stream(request, self.tool_calls(said, body), told, theirs)
        answer = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "done"},
                    "finish_reason": "stop",
                }
            ],
        }
        if "mute" not in said:
            answer["usage"] = told
        request.reply(200, "application/json", answer, theirs)

    def tool_calls(self, said, body):
        """What is asked of tools, while no answer of one is there."""
        if "tool" not in said or any(one["role"] == "tool" for one in body["messages"]):
            return []
        call = {"name": body["tools"][0]["function"]["name"], "arguments": '{"query": "gate"}'}
        return [{"index": 0, "id": "call_1", "type": "function", "function": call}]

    def messages(self, request, body, said, usage):
        if request.path.split("?")[0].endswith("count_tokens"):
            return request.reply(200, "application/json", {"input_tokens": usage[0]})
        answer = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": "done"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": usage[0], "output_tokens": usage[1]},
        }
        theirs = {"anthropic-ratelimit-requests-remaining": "4710"}
        request.reply(200, "application/json", answer, theirs)

    def stream(self, request, calls, told, theirs):
        request.send_response(200)
        request.send_header("content-type", "text/event-stream")
        for name, value in theirs.items():
            request.send_header(name, value)
        request.send_header("connection", "close")
        request.end_headers()
        piece = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}

        def send(**more):
            request.wfile.write(f"data: {json.dumps({**piece, **more})}\n\n".encode())
            request.wfile.flush()

        if calls:
            send(choices=[{"index": 0, "delta": {"role": "assistant", "tool_calls": calls}}])
            send(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
        else:
            send(choices=[{"index": 0, "delta": {"role": "assistant", "content": "do"}}])
            send(choices=[{"index": 0, "delta": {"content": "ne"}, "finish_reason": "stop"}])
        send(choices=[], usage=told)
        request.wfile.write(b"data: [DONE]\n\n")
        request.close_connection = True
