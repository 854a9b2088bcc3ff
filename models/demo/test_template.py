"""Checks `template.jinja` in two engines: it must agree with chat_format.py and be append-only.

python test_template.py
"""

import pathlib
import random

import jinja2
import minijinja

from chat_format import Conversation, render
from conversations import Sessions
from llama_server import openai_request

CONVERSATIONS = 200
SOURCE = pathlib.Path(__file__).with_name("template.jinja").read_text().rstrip("\n")


def engines() -> dict:
    """One rendering function per engine, set up as its users set it up."""
    strict = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(SOURCE)
    rust = minijinja.Environment(trim_blocks=True, lstrip_blocks=True, pycompat=True)
    return {
        "jinja2": lambda request: strict.render(**request),
        "minijinja": lambda request: rust.render_str(SOURCE, **request),
    }


def request(conversation: Conversation, generate: bool) -> dict:
    tokens = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    return openai_request(conversation) | tokens | {"add_generation_prompt": generate}


def check_other_shapes(run) -> None:
    """What training does not have: late instructions, content in parts, arguments parsed."""
    entry = {"function": {"name": "add", "arguments": {"a": 1, "b": "it"}}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "developer", "content": "Answer briefly."},
        {"role": "assistant", "content": None, "tool_calls": [entry, entry]},
    ]
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "it"}}\n</tool_call>'
    expected = (
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>system\nAnswer briefly.<|im_end|>\n"
        f"<|im_start|>assistant\n{call}\n{call}<|im_end|>\n<|im_start|>assistant\n"
    )
    got = run({"messages": messages, "add_generation_prompt": True})
    assert got == expected, got


def main() -> None:
    sessions = Sessions(random.Random(3), held_out=True)
    for name, run in engines().items():
        for _ in range(CONVERSATIONS):
            whole = sessions.session()
            full = run(request(whole, False))
            assert full == render(whole), (name, full, render(whole))
            for count in range(len(whole.messages)):
                part = Conversation(whole.system, whole.tools, whole.messages[:count])
                assert full.startswith(run(request(part, False))), (name, count, full)
                assert run(request(part, True)) == render(part, True)
        check_other_shapes(run)
        print(f"{name}: same text and append-only in {CONVERSATIONS} conversations")


if __name__ == "__main__":
    main()
