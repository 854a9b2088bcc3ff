"""What is said and answered: texts, streams, chats, media, shapes, limits, counts."""

import asyncio
import base64

from google.genai import types
from pydantic import BaseModel

from flows import LOCAL, PASSED, TRANSLATED, both, equal, flow

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
COUNTING = "[[words:12]]"
COUNTED = " ".join(f"word{n}" for n in range(1, 13))


def finish(answer):
    return answer.candidates[0].finish_reason.name


@both
def text(f, model):
    answer = f.ask(model, "[[say:Good day.]]")
    equal(answer.text, "Good day.")
    equal(finish(answer), "STOP")
    usage = answer.usage_metadata
    equal(usage.candidates_token_count, 2)
    equal(usage.total_token_count, usage.prompt_token_count + 2)
    headers = answer.sdk_http_response.headers
    assert float(headers["holdfast-cost"].removeprefix("$")) > 0, headers
    equal(headers["holdfast-model"], model)
    assert answer.response_id and answer.model_version


@both
def stream(f, model):
    chunks = f.stream(model, COUNTING)
    assert len(chunks) > 6, f"{len(chunks)} chunks"
    equal("".join(chunk.text or "" for chunk in chunks), COUNTED)
    equal([finish(c) for c in chunks if c.candidates[0].finish_reason], ["STOP"])
    equal(chunks[-1].usage_metadata.candidates_token_count, 12)


@both
def awaited(f, model):
    async def run():
        async with f.client.aio as client:
            answer = await client.models.generate_content(model=model, contents=f.said("[[say:a]]"))
            pieces = await client.models.generate_content_stream(
                model=model, contents=f.said(COUNTING)
            )
            return answer.text, "".join([piece.text or "" async for piece in pieces])

    equal(asyncio.run(run()), ("a", COUNTED))


@both
def system(f, model):
    answer = f.ask(model, "[[echo:messages]]", system_instruction="Be brief.")
    assert '["system","Be brief."]' in answer.text, answer.text


@both
def turns(f, model):
    contents = [
        types.UserContent(parts=[types.Part(text="one")]),
        types.ModelContent(parts=[types.Part(text="two")]),
        types.UserContent(parts=[types.Part(text=f.said("[[echo:messages]]"))]),
    ]
    answer = f.client.models.generate_content(model=model, contents=contents)
    assert '["user","one"],["assistant","two"]' in answer.text, answer.text


@both
def chat(f, model):
    chat = f.client.chats.create(model=model)
    equal(chat.send_message(f.said("[[say:first]]")).text, "first")
    assert "first" in chat.send_message(f.said("[[echo:messages]]")).text
    equal(len(chat.get_history(curated=True)), 4)


@both
def chat_streamed(f, model):
    chat = f.client.chats.create(model=model)
    pieces = [piece.text or "" for piece in chat.send_message_stream(f.said(COUNTING))]
    equal("".join(pieces), COUNTED)
    # The SDK forgets turns that it takes for broken.
    assert COUNTED.split()[4] in chat.send_message(f.said("[[echo:messages]]")).text


@both
def image(f, model):
    part = types.Part.from_bytes(data=PIXEL, mime_type="image/png")
    f.client.models.generate_content(model=model, contents=[part, f.said("[[say:seen]]")])
    body = f.sent(model)[0]["body"].replace("-", "+").replace("_", "/")
    assert base64.b64encode(PIXEL).decode() in body, body[:600]


class Answer(BaseModel):
    """What is asked for as JSON."""

    name: str
    count: int


@both
def schema_of_a_class(f, model):
    answer = f.ask(
        model, "Seven 7", response_mime_type="application/json", response_schema=Answer
    )
    assert isinstance(answer.parsed, Answer), answer.text
    equal(answer.parsed.count, 7)


@both
def schema_as_json(f, model):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = f.ask(
        model, "Nine 9", response_mime_type="application/json", response_json_schema=schema
    )
    equal(answer.parsed, {"n": 9})


@both
def json_of_any_shape(f, model):
    answer = f.ask(model, "Say it", response_mime_type="application/json")
    assert "answer" in answer.text, answer.text


@both
def cap(f, model):
    answer = f.ask(model, COUNTING, max_output_tokens=5)
    equal((answer.text.split(), finish(answer)), (COUNTED.split()[:5], "MAX_TOKENS"))


@both
def stop_sequences(f, model):
    equal(f.ask(model, COUNTING, stop_sequences=["word4"]).text.strip(), "word1 word2 word3")


@both
def sampling(f, model):
    f.ask(model, "[[say:x]]", temperature=0.5, top_p=0.9, seed=7, presence_penalty=0.5)
    body = f.bodies(model)[0]
    body = body.get("generationConfig", body)
    equal((body["temperature"], body["seed"]), (0.5, 7))


@flow
def thoughts_are_shown_and_signed(f):
    config = {"thinking_config": types.ThinkingConfig(include_thoughts=True)}
    answer = f.ask(PASSED, "[[think:let me see]] [[say:so]]", **config)
    thought, said = answer.candidates[0].content.parts
    equal((thought.text, thought.thought, said.text), ("let me see", True, "so"))
    assert said.thought_signature, "no signature"
    equal(answer.usage_metadata.thoughts_token_count, 3)
    row = f.server.api("GET", f"calls/{answer.sdk_http_response.headers['holdfast-call-id']}")[1]
    # Thoughts are billed as what is answered.
    assert "4" in str(row), row


@flow
def signed_texts_go_back_as_they_were(f):
    chat = f.client.chats.create(model=PASSED)
    chat.send_message(f.said("[[think:hm]] [[say:a b]]"))
    list(chat.send_message_stream(f.said("[[think:hm]] [[say:c d]]")))
    # The provider refuses a signature that is not its own.
    equal(chat.send_message(f.said("[[say:done]]")).text, "done")


@flow
def cached_tokens_are_told(f):
    answer = f.ask(PASSED, "[[usage:prompt=90,completion=4,cached=60]]")
    usage = answer.usage_metadata
    equal((usage.prompt_token_count, usage.cached_content_token_count), (90, 60))


@flow
def several_candidates(f):
    answer = f.ask(PASSED, COUNTING, candidate_count=2)
    equal([c.index or 0 for c in answer.candidates], [0, 1])
    assert answer.candidates[1].content.parts[0].text.startswith("Choice 1")


@flow
def a_blocked_prompt_has_no_candidate(f):
    answer = f.ask(PASSED, "[[block]]")
    equal(answer.prompt_feedback.block_reason.name, "PROHIBITED_CONTENT")
    assert not answer.candidates
    chunks = f.stream(PASSED, "[[block]]")
    equal(chunks[0].prompt_feedback.block_reason.name, "PROHIBITED_CONTENT")


@flow
def safety_settings_pass_and_are_reported_elsewhere(f):
    settings = [
        types.SafetySetting(
            category="HARM_CATEGORY_HATE_SPEECH", threshold="BLOCK_ONLY_HIGH"
        )
    ]
    f.ask(PASSED, "[[say:x]]", safety_settings=settings)
    equal(f.bodies()[0]["safetySettings"][0]["threshold"], "BLOCK_ONLY_HIGH")
    answer = f.ask(TRANSLATED, "[[say:x]]", safety_settings=settings)
    equal(answer.sdk_http_response.headers["holdfast-dropped"], "safetySettings")


@flow
def tokens_are_counted_by_the_provider_or_estimated(f):
    counted = f.client.models.count_tokens(model=PASSED, contents=f.said("one two three"))
    equal(counted.total_tokens, 4)
    estimated = f.client.models.count_tokens(model=TRANSLATED, contents=f.said("one two three"))
    assert estimated.total_tokens > 3
    equal(f.sent(TRANSLATED), [], "requests for an estimate")


@flow
def models_are_listed_and_found(f):
    names = {model.name for model in f.client.models.list()}
    assert {f"models/{name}" for name in (PASSED, TRANSLATED)} <= names, names
    paged = [model.name for model in f.client.models.list(config={"page_size": 1})]
    equal(sorted(paged), sorted(names))
    equal(f.client.models.get(model=PASSED).name, f"models/{PASSED}")


@flow
def local_text(f):
    answer = f.client.models.generate_content(
        model=LOCAL, contents="Hello, who are you?", config={"max_output_tokens": 40}
    )
    assert answer.text.strip() and answer.usage_metadata.candidates_token_count > 0
    assert finish(answer) in ("STOP", "MAX_TOKENS")


@flow
def local_stream(f):
    chunks = list(
        f.client.models.generate_content_stream(
            model=LOCAL, contents="Say hello.", config={"max_output_tokens": 40}
        )
    )
    assert len(chunks) > 2, "it did not come in pieces"
    assert chunks[-1].candidates[0].finish_reason.name in ("STOP", "MAX_TOKENS")
    assert chunks[-1].usage_metadata.prompt_token_count > 0


@flow
def local_json(f):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    config = {"response_mime_type": "application/json", "response_json_schema": schema}
    answer = f.client.models.generate_content(
        model=LOCAL, contents="Give a number.", config={**config, "max_output_tokens": 60}
    )
    assert isinstance(answer.parsed["n"], int), answer.text
