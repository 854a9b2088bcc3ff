"""The text that a conversation becomes: the Python twin of `template.jinja`.

`evaluate.py --check-format` compares the two byte for byte. Rendering is append-only: each message
adds text behind what the earlier ones gave, so that a held KV state can be extended.
"""

import json
from dataclasses import dataclass

from tools import Tool

START, END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CALL_START, CALL_END = "<tool_call>", "</tool_call>"

# The fixed parts of a call are one token each, so that in the call a parameter's name follows the
# tool's name as closely as it does in the specification `name(parameter: type)`.
NAME_PART, ARGUMENTS_PART = '\n{"name": "', '", "arguments": {"'


@dataclass
class Conversation:
    """Messages in OpenAI's shape, except that a call is `{"name", "arguments": dict}`."""

    system: str | None
    tools: list[Tool]
    messages: list[dict]


def specification(tool: Tool) -> str:
    """The description stands first: at the name the model already knows what the tool is for."""
    parameters = ", ".join(f"{name}: {kind}" for name, kind in tool.parameters)
    return (f"{tool.description}: " if tool.description else "") + f"{tool.name}({parameters})"


def call_text(call: dict) -> str:
    arguments = json.dumps(call["arguments"], ensure_ascii=False)
    return f'{CALL_START}{NAME_PART}{call["name"]}", "arguments": {arguments}}}\n{CALL_END}'


def render(conversation: Conversation, generate: bool = False) -> str:
    """The whole text; `generate` opens an assistant turn at its end."""
    parts = []
    if conversation.system or conversation.tools:
        lines = [conversation.system] if conversation.system else []
        if conversation.tools:
            lines += ["# Tools", *(specification(tool) for tool in conversation.tools)]
        parts.append(f"{START}system\n" + "\n".join(lines) + f"{END}\n")
    for message in conversation.messages:
        calls = "\n".join(call_text(call) for call in message.get("tool_calls", []))
        parts.append(f"{START}{message['role']}\n{message.get('content') or ''}{calls}{END}\n")
    if generate:
        parts.append(f"{START}assistant\n")
    return "".join(parts)
