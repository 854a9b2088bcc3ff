"""Checks a stream of the Responses API against the order that all known clients accept."""

import json

TERMINAL = {"response.completed", "response.failed", "response.incomplete"}
KEEPALIVE = "keepalive"


def read_sse(lines):
    """Parses raw lines into (events, comments); refuses what SDK decoders trip over."""
    events, comments, name, data = [], [], None, []
    for line in lines:
        assert not line.startswith(("id:", "retry:")), f"a line that breaks clients: {line!r}"
        if line.startswith(":"):
            comments.append((len(events), line[1:].strip()))
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line and (name or data):
            assert data, f"event {name} without data"
            text = "\n".join(data)
            if text == "[DONE]":
                events.append({"type": "[DONE]"})
            else:
                events.append(json.loads(text))
                if name is not None:
                    assert events[-1].get("type") == name, (
                        f"event: {name} but type {events[-1].get('type')}"
                    )
            name, data = None, []
    assert not data, f"the stream ended inside an event: {data}"
    return events, comments


def check_events(events, first=0):
    """Asserts the whole life of one response, from `created` to its one terminal event.

    Returns the terminal event's response. `first` is the expected first sequence number.
    """
    events = [e for e in events if e["type"] != "[DONE]"]
    numbered = [e for e in events if e["type"] != KEEPALIVE]
    numbers = [e.get("sequence_number") for e in numbered]
    assert numbers == list(range(first, first + len(numbers))), f"sequence numbers: {numbers}"
    assert numbered[-1]["type"] in TERMINAL, f"the last event is {numbered[-1]['type']}"
    assert sum(e["type"] in TERMINAL for e in numbered) == 1, "more than one terminal event"
    if first == 0:
        check_opening(numbered)
    ids = {e["response"]["id"] for e in numbered if "response" in e}
    assert len(ids) == 1, f"response ids: {ids}"
    check_items(numbered, whole=first == 0)
    return numbered[-1]["response"]


def check_opening(events):
    kinds = [e["type"] for e in events[:3]]
    assert kinds[0] == "response.created", kinds
    assert "response.in_progress" in kinds[1:3], kinds
    created = events[0]["response"]
    assert created["output"] == [] and created["object"] == "response", created
    assert created["status"] in ("in_progress", "queued"), created["status"]


def check_items(events, whole):
    """Items open and close in order, parts inside items, deltas add up to what `done` says."""
    added, done, texts, arguments, parts = {}, {}, {}, {}, set()
    for event in events:
        kind, index = event["type"], event.get("output_index")
        place = (index, event.get("content_index"))
        if kind == "response.output_item.added":
            assert index == len(added) or not whole, (
                f"output_index {index} after {len(added)} items"
            )
            added[index] = event["item"]
        elif kind == "response.output_item.done":
            done[index] = event["item"]
            if whole:
                assert added[index]["id"] == event["item"]["id"], "the item's id changed"
        elif kind == "response.content_part.added":
            parts.add(place)
        elif kind == "response.output_text.delta":
            assert not whole or place in parts, f"text before its part: {event}"
            texts[place] = texts.get(place, "") + event["delta"]
        elif kind == "response.output_text.done" and whole:
            assert texts.get(place, "") == event["text"], (
                f"{texts.get(place)!r} != {event['text']!r}"
            )
        elif kind.endswith("arguments.delta"):
            arguments[index] = arguments.get(index, "") + event["delta"]
        elif kind.endswith("arguments.done") and whole:
            assert arguments.get(index, event["arguments"]) == event["arguments"], event
        if whole and "item_id" in event:
            assert event["item_id"] == added[index]["id"], f"foreign item id: {event}"
    if whole:
        ended = events[-1]["response"]["status"] in ("completed", "incomplete")
        assert set(added) == set(done) or not ended, (
            f"items {set(added) - set(done)} were never closed"
        )
        check_final(events[-1], done)


def check_final(terminal, done):
    """The final response has every finished item, as `output_item.done` had it."""
    output = {item["id"]: item for item in terminal["response"]["output"]}
    for item in done.values():
        if item["id"] in output:
            assert output[item["id"]] == item, (
                f"item differs at the end: {output[item['id']]} != {item}"
            )
        else:
            assert item.get("status") == "incomplete", (
                f"finished item is missing at the end: {item}"
            )


def dumped(stream):
    """Typed SDK events as plain dictionaries, unset fields left out."""
    return [event.model_dump(exclude_unset=True, by_alias=True) for event in stream]
