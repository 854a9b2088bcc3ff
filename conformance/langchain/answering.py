"""A provider that answers what LangChain's standard tests ask: it calls the tool that it is offered,
fills the schema that it is given, and otherwise says a sentence. Standard library only."""

import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "agents"))

from scripted import Provider  # noqa: E402
from words import Call, Said, text_of  # noqa: E402

# Of anything else than ASCII, what the prompt says may have to come back.
FOREIGN = re.compile(r"[^\x00-\x7f]+")
NUMBER = re.compile(r"\d+")
DEPTH_MAX = 8


class Answering(Provider):
    """Says what fits the request instead of a script."""

    def chosen(self, model, asked):
        last = asked.turns[-1]
        prompt = text_of(last.parts) if last.role == "user" else ""
        if asked.tools and asked.choice != "none" and last.role == "user":
            named = [tool for tool in asked.tools if tool["name"] == asked.choice]
            tool = (named or asked.tools)[0]
            filled = value_of(tool.get("parameters") or {}, prompt)
            call = Call(tool["name"], json.dumps(filled or {}), f"call_{len(self.log)}")
            return Said([call], stop="tools"), 0
        if asked.schema:
            return Said([json.dumps(value_of(asked.schema, prompt))]), 0
        return Said(["Hello there, this is an answer in several pieces."]), 0


def value_of(schema, prompt, root=None, depth=0):
    """A value that satisfies a schema, with what the prompt has for it."""
    root = root if root is not None else schema
    if depth > DEPTH_MAX:
        return None
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        schema = {**root.get("$defs", {}), **root.get("definitions", {})}[name]
    for words in ("anyOf", "oneOf", "allOf"):
        if schema.get(words):
            return value_of(schema[words][0], prompt, root, depth + 1)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        inner = schema.get("properties", {})
        return {name: value_of(part, prompt, root, depth + 1) for name, part in inner.items()}
    if kind == "array":
        return [value_of(schema.get("items", {}), prompt, root, depth + 1)]
    number = NUMBER.search(prompt)
    foreign = FOREIGN.search(prompt)
    plain = {"integer": int(number[0]) if number else 3, "number": 3.0, "boolean": True}
    return plain.get(kind, foreign[0] if foreign else "cat")
