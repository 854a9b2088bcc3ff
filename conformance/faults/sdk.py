"""What the caller of an unmodified SDK gets. Runs in the SDK's own virtual environment.

    sdk.py chat|messages URL KEY

takes a request per line on its standard input, `{"id", "model", "stream", "task"}`, and answers
each with a line, in whatever order they end: `{"id", "words", "finish", "output_tokens", "final",
"raised", "status"}`. `final` is whether the SDK held the answer for whole.
"""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

PROMPT = [{"role": "user", "content": "Say the sixty words."}]
CAP = 100
PARALLEL = 16


class Chat:
    def __init__(self, url, key):
        import openai

        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)

    def call(self, seen, model, stream, headers):
        ask = {"model": model, "messages": PROMPT, "max_tokens": CAP, "extra_headers": headers}
        if not stream:
            answer = self.client.chat.completions.create(**ask)
            choice = answer.choices[0]
            seen["text"] = choice.message.content
            seen |= {"finish": choice.finish_reason, "final": True}
            seen["output_tokens"] = answer.usage.completion_tokens
            return
        options = {"include_usage": True}
        for chunk in self.client.chat.completions.create(
            **ask, stream=True, stream_options=options
        ):
            for choice in chunk.choices:
                seen["text"] += choice.delta.content or ""
                seen["finish"] = choice.finish_reason or seen["finish"]
            if chunk.usage:
                seen["output_tokens"] = chunk.usage.completion_tokens
        seen["final"] = True


class Messages:
    def __init__(self, url, key):
        import anthropic

        self.client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)

    def call(self, seen, model, stream, headers):
        ask = {"model": model, "messages": PROMPT, "max_tokens": CAP, "extra_headers": headers}
        if not stream:
            answer = self.client.messages.create(**ask)
            seen["text"] = "".join(block.text for block in answer.content)
        else:
            with self.client.messages.stream(**ask) as events:
                for text in events.text_stream:
                    seen["text"] += text
                answer = events.get_final_message()
        seen |= {"finish": answer.stop_reason, "final": True}
        seen["output_tokens"] = answer.usage.output_tokens


def one(client, request, lock):
    seen = {"text": "", "finish": None, "output_tokens": None, "final": False}
    seen |= {"raised": None, "status": None}
    try:
        headers = {"holdfast-task": request["task"]}
        client.call(seen, request["model"], request["stream"], headers)
    except Exception as error:  # what an SDK raises is what this is about
        seen["raised"] = f"{type(error).__name__}: {error}"
        seen["status"] = getattr(error, "status_code", None)
    seen["words"] = seen.pop("text").split()
    with lock:
        print(json.dumps({"id": request["id"], **seen}), flush=True)


def main(api, url, key):
    client, lock = {"chat": Chat, "messages": Messages}[api](url, key), threading.Lock()
    with ThreadPoolExecutor(PARALLEL) as pool:
        for line in sys.stdin:
            pool.submit(one, client, json.loads(line), lock)


if __name__ == "__main__":
    main(*sys.argv[1:])
