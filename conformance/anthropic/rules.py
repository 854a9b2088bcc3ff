"""What the Messages API refuses, as its documentation and its errors have it.

Fields that are not known here are let through: clients send new ones before anybody knows them.
"""

import base64
import hashlib
import json
import re

from provider import Refusal

VERSIONS = ("2023-06-01", "2026-10-21")
# The first version that takes no sampling parameters.
WITHOUT_SAMPLING = "2026-10-21"
SAMPLING = ("temperature", "top_p", "top_k")
# Fields that are there only with a beta.
BETAS = {"context_management": "context-management-2025-06-27"}
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
ID = re.compile(r"[A-Za-z0-9_-]+")
NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
BUDGET_MIN = 1024
# The opaque data of thinking that is not shown.
REDACTED = base64.b64encode(b"\x00redacted\xff thinking\xfe").decode()


def signature(thinking):
    """Only who made the thinking can make its signature; the bytes are odd on purpose."""
    digest = hashlib.sha512(b"signed by the provider: " + thinking.encode()).digest()
    return base64.b64encode(digest).decode() + "+/=="


def refuse(message):
    raise Refusal(400, message)


def checked(raw, headers, models, counts):
    """The body, if the API would take it."""
    version = headers.get("anthropic-version")
    if version is None:
        refuse("anthropic-version: header is required")
    if version not in VERSIONS:
        refuse(f'anthropic-version: "{version}" is not a valid version')
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        refuse("The request body is not valid JSON")
    if not isinstance(body, dict):
        refuse("The request body must be an object")
    if body.get("model") not in models:
        raise Refusal(404, f"model: {body.get('model')}", "not_found_error")
    if not counts:
        check_cap(body)
    elif "max_tokens" in body:
        refuse("max_tokens: Extra inputs are not permitted")
    if version == WITHOUT_SAMPLING:
        for name in SAMPLING:
            if name in body:
                refuse(f"{name}: Extra inputs are not permitted")
    betas = (headers.get("anthropic-beta") or "").split(",")
    for name, beta in BETAS.items():
        if name in body and beta not in betas:
            refuse(f"{name}: Extra inputs are not permitted")
    check_tools(body)
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        refuse("messages: at least one message is required")
    return body


def check_cap(body):
    cap = body.get("max_tokens")
    if cap is None:
        refuse("max_tokens: Field required")
    if not isinstance(cap, int) or cap < 0:
        refuse("max_tokens: Input should be greater than or equal to 0")
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or budget < BUDGET_MIN:
            refuse("thinking.enabled.budget_tokens: Input should be at least 1024")
        if budget >= cap:
            refuse("`max_tokens` must be greater than `thinking.budget_tokens`")


def check_tools(body):
    tools, choice = body.get("tools") or [], body.get("tool_choice") or {}
    for at, tool in enumerate(tools):
        if not NAME.fullmatch(tool.get("name", "")):
            refuse(f"tools.{at}.custom.name: String should match pattern")
        schema = tool.get("input_schema")
        if tool.get("type", "custom") == "custom" and (schema or {}).get("type") != "object":
            refuse(f"tools.{at}.custom.input_schema.type: Field required")
    if choice and not tools:
        refuse("tool_choice may only be specified while providing tools")
    if choice.get("type") == "tool" and choice.get("name") not in [t["name"] for t in tools]:
        refuse(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")


def blocks(content):
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def check_messages(body):
    """Roles, blocks, and results that follow their calls: of a whole history."""
    messages, open_calls = body["messages"], []
    for at, message in enumerate(messages):
        role, place = message.get("role"), f"messages.{at}"
        if role not in ("user", "assistant", "system"):
            refuse(f"{place}.role: Input should be 'user' or 'assistant'")
        content = blocks(message.get("content"))
        if not content and (role != "assistant" or at + 1 < len(messages)):
            refuse(f"{place}: all messages must have non-empty content")
        for number, block in enumerate(content):
            check_block(block, role, f"{place}.content.{number}")
        results = [b["tool_use_id"] for b in content if b["type"] == "tool_result"]
        if role == "user" and sorted(results) != sorted(open_calls):
            refuse(f"{place}: `tool_use` ids and `tool_result` blocks do not match")
        if role != "system":
            open_calls = [b["id"] for b in content if b["type"] == "tool_use"]
    if open_calls:
        refuse("messages: `tool_use` ids were found without `tool_result` blocks")


def check_block(block, role, place):
    kind = block.get("type")
    if kind == "text":
        if not block.get("text"):
            refuse(f"{place}: text content blocks must be non-empty")
    elif kind == "image":
        check_image(block.get("source") or {}, place)
    elif kind == "tool_use":
        if not ID.fullmatch(block.get("id") or "") or not isinstance(block.get("input"), dict):
            refuse(f"{place}.tool_use: not as it was given")
    elif kind == "tool_result":
        for number, inner in enumerate(blocks(block.get("content") or [])):
            check_block(inner, role, f"{place}.content.{number}")
    elif kind == "thinking":
        if block.get("signature") != signature(block.get("thinking", "")):
            refuse(f"{place}: Invalid `signature` in `thinking` block")
    elif kind == "redacted_thinking":
        if block.get("data") != REDACTED:
            refuse(f"{place}: Invalid `data` in `redacted_thinking` block")
    elif kind != "document":
        refuse(f"{place}: Input tag '{kind}' does not match any of the expected tags")
    if kind in ("thinking", "redacted_thinking", "tool_use") and role != "assistant":
        refuse(f"{place}: `{kind}` blocks are allowed in an assistant's messages only")
    if kind == "tool_result" and role != "user":
        refuse(f"{place}: `tool_result` blocks are allowed in a user's messages only")


def check_image(source, place):
    if source.get("type") == "url":
        return
    if source.get("media_type") not in IMAGES:
        refuse(f"{place}.image.source.base64.media_type: Input should be one of {IMAGES}")
    try:
        base64.b64decode(source.get("data", ""), validate=True)
    except ValueError:
        refuse(f"{place}.image.source.base64.data: invalid base64")
