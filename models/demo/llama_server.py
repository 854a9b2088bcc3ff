"""llama.cpp's own server around a GGUF file, in this process, for the evaluation.

It renders the file's own template and parses tool calls with llama.cpp's parser, so that what is
measured is the shipped file and not our training code.
"""

import json
import urllib.request

import xllamacpp

from chat_format import Conversation

CONTEXT = 4096
MAX_TOKENS = 160


class LlamaServer:
    def __init__(self, path: str):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = path
        parameters.n_ctx = CONTEXT
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = 1
        parameters.cpuparams_batch.n_threads = 1
        parameters.use_jinja = True
        parameters.verbosity = -1
        parameters.warmup = False
        self.server = xllamacpp.Server(parameters)
        self.url = self.server.listening_address

    def post(self, path: str, body: dict) -> dict:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def prompt(self, conversation: Conversation) -> str:
        """What the file's template makes of a conversation."""
        return self.post("/apply-template", openai_request(conversation))["prompt"]

    def tokens(self, text: str) -> list[int]:
        body = {"content": text, "parse_special": True, "add_special": False}
        return self.post("/tokenize", body)["tokens"]

    def next_message(self, conversation: Conversation) -> dict:
        """The greedy next message, in the shape that `Conversation.messages` has."""
        sampling = {"temperature": 0, "max_tokens": MAX_TOKENS}
        body = openai_request(conversation) | sampling
        message = self.post("/v1/chat/completions", body)["choices"][0]["message"]
        calls = []
        for entry in message.get("tool_calls") or []:
            function = entry["function"]
            try:
                arguments = json.loads(function["arguments"])
            except ValueError:
                arguments = {"invalid": function["arguments"]}
            calls.append({"name": function["name"], "arguments": arguments})
        if calls:
            return {"role": "assistant", "tool_calls": calls}
        return {"role": "assistant", "content": message.get("content") or ""}


def openai_request(conversation: Conversation) -> dict:
    """The conversation as the body of a chat completion."""
    messages: list[dict] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    number = 0
    for message in conversation.messages:
        message = dict(message)
        if message.get("tool_calls"):
            number += 1
            message["content"] = None
            message["tool_calls"] = [
                {"id": f"call_{number}", "type": "function", "function": written(entry)}
                for entry in message["tool_calls"]
            ]
        if message["role"] == "tool":
            message["tool_call_id"] = f"call_{number}"
        messages.append(message)
    body: dict = {"messages": messages}
    if conversation.tools:
        body["tools"] = [tool.openai() for tool in conversation.tools]
    return body


def written(call: dict) -> dict:
    """A call with its arguments as the text that the model wrote."""
    return {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
