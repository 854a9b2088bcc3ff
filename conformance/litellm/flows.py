"""Flows of LiteLLM's own functions: each is played by every way that it names."""

import asyncio
import base64
import json
from decimal import Decimal

import litellm
import openai
import running
from running import equal, raises
from stage import KEYS
from words import PIXEL, SCHEMA, SIGNATURE, TOOL, Call, Image, Result, Said, Thought, calls, only, text_of

litellm.telemetry = False
litellm.suppress_debug_info = True
# What it asks for the way, and the provider behind it, which speaks another format.
WAYS = {
    "openai": ("openai/{model}", "/v1", "gemini"),
    "responses": ("openai/responses/{model}", "/v1", "messages"),
    "anthropic": ("anthropic/{model}", "", "chat"),
    "gemini": ("gemini/{model}", "/v1beta", "responses"),
}
EVERY = tuple(WAYS)
FUNCTION = {"type": "function", "function": TOOL}
SHAPE = {"type": "json_schema", "json_schema": {"name": "shape", "strict": True, "schema": SCHEMA}}
HELLO = [{"role": "user", "content": "héllo ☃"}]


class Around:
    """The server, the scripted provider, the demo's one for embeddings."""

    def __init__(self, server, provider, demo):
        self.server, self.provider, self.demo = server, provider, demo


class Talk:
    """One flow by one way: a model of its own."""

    def __init__(self, around, name):
        self.around, self.way = around, name.rpartition("_by_")[2]
        self.id = name.replace("_", "-")
        asked, path, self.target = WAYS[self.way]
        self.model = f"at-{self.target}/{self.id}"
        self.asked = {
            "model": asked.format(model=self.model),
            "api_base": around.server.url + path,
            "api_key": KEYS["agent"],
            "num_retries": 0,
            "max_retries": 0,
        }

    def plan(self, *parts, **how):
        self.around.provider.plan(self.id, Said(list(parts), **how))

    def fails(self, status, kind):
        self.around.provider.plan(self.id, Said([]), fails=(status, kind))

    def options(self, **options):
        return self.asked | {"messages": HELLO, "max_tokens": 200} | options

    def ask(self, **options):
        return litellm.completion(**self.options(**options))

    def stream(self, **options):
        """The chunks of a stream, and the answer that LiteLLM makes of them."""
        told = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(self.ask(**told, **options))
        return chunks, litellm.stream_chunk_builder(chunks, messages=HELLO)

    def seen(self, index=-1):
        """A request as its provider understands it."""
        body = self.around.provider.bodies(self.id)[index]
        return FORMATS[self.target].read_request(body)


def by(*ways):
    """Registers a flow once for each way."""

    def register(function):
        for way in ways:

            def flow(talk, function=function):
                function(talk)

            flow.__name__ = f"{function.__name__}_by_{way}"
            running.flow(flow)
        return function

    return register


def formats():
    import chat
    import gemini
    import messages
    import responses

    return {one.NAME: one for one in (chat, gemini, messages, responses)}


FORMATS = formats()


def message(answer):
    (choice,) = answer.choices
    return choice.message


@by(*EVERY)
def completes(t):
    t.plan("Good day ☃.")
    answer = t.ask()
    equal((message(answer).content, answer.choices[0].finish_reason), ("Good day ☃.", "stop"))
    (turn,) = t.seen().turns
    equal((turn.role, text_of(turn.parts)), ("user", "héllo ☃"))


@by(*EVERY)
def counts_tokens_and_their_cost(t):
    t.plan("Good day.", input=1000, cached=400, output=30)
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    answer = t.ask(**price)
    usage = answer.usage
    equal((usage.prompt_tokens, usage.completion_tokens), (1000, 30))
    equal(usage.prompt_tokens_details.cached_tokens, 400)
    assert answer._hidden_params["response_cost"] > 0
    (row,) = [r for r in running.every_row(t.around.server) if r["target"] == t.model]
    equal(Decimal(row["cost"]), Decimal("0.0007"), f"{row}")


@by(*EVERY)
def streams(t):
    t.plan("Good day, this comes in pieces.")
    chunks, whole = t.stream()
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    equal("".join(pieces), "Good day, this comes in pieces.")
    equal(whole.choices[0].finish_reason, "stop")
    equal((whole.usage.prompt_tokens, whole.usage.completion_tokens), (100, 20))


# Of a Gemini model that is not on its list it thinks that it takes neither a system prompt nor a schema.
@by("openai", "responses", "anthropic")
def asks_with_a_system_prompt_and_a_history(t):
    t.plan("Done.")
    said = [("system", "Be brief."), ("user", "one"), ("assistant", "two"), ("user", "three")]
    t.ask(messages=[{"role": role, "content": text} for role, text in said])
    seen = t.seen()
    equal(seen.system, "Be brief.")
    equal([(turn.role, text_of(turn.parts)) for turn in seen.turns], said[1:])


@by(*EVERY)
def calls_a_tool_and_gives_its_result(t):
    t.plan(Call("look", '{"n":3}', "call_1"), stop="tools")
    answer = t.ask(tools=[FUNCTION])
    (call,) = message(answer).tool_calls
    equal((call.function.name, json.loads(call.function.arguments)), ("look", {"n": 3}))
    equal(answer.choices[0].finish_reason, "tool_calls")
    (tool,) = t.seen().tools
    equal((tool["name"], tool["parameters"]["required"]), ("look", ["n"]))
    t.plan("It is a dot.")
    result = {"role": "tool", "tool_call_id": call.id, "name": "look", "content": "a dot"}
    again = t.ask(messages=[*HELLO, message(answer).model_dump(), result], tools=[FUNCTION])
    equal(message(again).content, "It is a dot.")
    turns = t.seen().turns
    (asked,) = [part for turn in turns for part in calls(turn.parts)]
    (given,) = [part for turn in turns for part in only(Result, turn.parts)]
    equal(given.of, asked.id)
    # Where a result has to be an object, LiteLLM makes it one.
    assert text_of(given.parts) in ("a dot", '{"content":"a dot"}'), given


# Of a stream of the Responses API LiteLLM (1.106.2) says calls' arguments twice, without us too.
@by("openai", "anthropic", "gemini")
def streams_calls_of_tools_at_once(t):
    t.plan(Call("look", '{"n":1}', "call_1"), Call("look", '{"n":2}', "call_2"), stop="tools")
    _, whole = t.stream(tools=[FUNCTION])
    found = [(c.function.name, json.loads(c.function.arguments)) for c in message(whole).tool_calls]
    equal(found, [("look", {"n": 1}), ("look", {"n": 2})])
    equal(len({c.id for c in message(whole).tool_calls}), 2, "ids")


@by(*EVERY)
def demands_a_tool(t):
    t.plan(Call("look", '{"n":3}', "call_1"), stop="tools")
    t.ask(tools=[FUNCTION], tool_choice={"type": "function", "function": {"name": "look"}})
    assert t.seen().choice in ("look", "required"), t.seen().choice


@by("openai", "responses")
def wants_an_answer_of_a_shape(t):
    t.plan('{"n":3}')
    answer = t.ask(response_format=SHAPE)
    equal(json.loads(message(answer).content), {"n": 3})
    shape = t.seen().schema
    equal((shape["properties"], shape["required"]), (SCHEMA["properties"], SCHEMA["required"]))


@by("openai", "anthropic", "gemini")
def shows_a_picture(t):
    t.plan("A dot.")
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    t.ask(messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}, url]}])
    (turn,) = t.seen().turns
    (image,) = only(Image, turn.parts)
    equal((image.kind, base64.b64decode(image.data)), ("image/png", base64.b64decode(PIXEL)))


@by(*EVERY)
def says_how_long_and_how_bold(t):
    t.plan("Half of", stop="length")
    answer = t.ask(max_tokens=77, temperature=0.5)
    equal(answer.choices[0].finish_reason, "length")
    seen = t.seen()
    equal((seen.cap, seen.temperature), (77, 0.5))


@by("anthropic")
def sees_thoughts(t):
    t.target = "messages"
    t.model = f"at-messages/{t.id}"
    t.asked["model"] = f"anthropic/{t.model}"
    t.plan(Thought("I think.", SIGNATURE), "Done.")
    # It asks no model for thoughts that its own list doesn't have.
    thinking = {"type": "enabled", "budget_tokens": 1024}
    asked = {"thinking": thinking, "allowed_openai_params": ["thinking"], "max_tokens": 4000}
    answer = message(t.ask(**asked))
    equal((answer.content, answer.reasoning_content), ("Done.", "I think."))
    equal(answer.thinking_blocks[0]["signature"], SIGNATURE)


@by(*EVERY)
def is_told_of_a_limit(t):
    t.fails(429, "limit")
    raises(litellm.RateLimitError, t.ask)


@by(*EVERY)
def is_told_of_a_wrong_key(t):
    t.asked["api_key"] = "hf_nobody_0123456789abcdef"
    raises(litellm.AuthenticationError, t.ask)


@by(*EVERY)
def is_told_of_an_unknown_model(t):
    t.asked["model"] = t.asked["model"].replace(t.id, "nobody")
    raises(litellm.NotFoundError, t.ask)


@by(*EVERY)
def is_told_of_a_bad_request(t):
    t.fails(400, "request")
    raises(litellm.BadRequestError, t.ask)


@by(*EVERY)
def is_told_of_a_provider_that_is_down(t):
    t.fails(503, "overload")
    error = raises(openai.APIError, t.ask)
    found = isinstance(error, litellm.BadRequestError | litellm.AuthenticationError)
    assert not found, f"not what it is: {error!r:.300}"


@by(*EVERY)
def never_takes_a_cut_stream_for_a_whole_one(t):
    said = Said(["half an answer that never ends"])
    t.around.provider.plan(t.id, said, cut=True)
    try:
        _, whole = t.stream()
    except openai.APIError:  # every exception of LiteLLM is one
        return
    assert whole is None or whole.choices[0].finish_reason != "stop", whole


@by(*EVERY)
def asks_without_waiting(t):
    t.plan("Good day.")

    async def play():
        many = await asyncio.gather(*(litellm.acompletion(**t.options()) for _ in range(4)))
        stream = await litellm.acompletion(**t.options(stream=True))
        pieces = [c.choices[0].delta.content or "" async for c in stream if c.choices]
        return [message(one).content for one in many], "".join(pieces)

    equal(asyncio.run(play()), (["Good day."] * 4, "Good day."))


@by("responses")
def uses_the_responses_api(t):
    t.plan("Good day.")
    asked = t.asked | {"model": f"openai/{t.model}", "input": "héllo ☃", "store": False}
    answer = litellm.responses(**asked)
    equal((answer.status, answer.output[-1].content[0].text), ("completed", "Good day."))
    equal((answer.usage.input_tokens, answer.usage.output_tokens), (100, 20))


@by("responses")
def streams_the_responses_api(t):
    t.plan("Good day.")
    asked = t.asked | {"model": f"openai/{t.model}", "input": "héllo ☃", "store": False}
    events = list(litellm.responses(**asked, stream=True))
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    equal((said, events[-1].type), ("Good day.", "response.completed"))


@by("anthropic")
def uses_the_messages_api(t):
    t.plan("Good day.")
    asked = {name: t.asked[name] for name in ("model", "api_base", "api_key")}
    answer = asyncio.run(litellm.anthropic_messages(**asked, messages=HELLO, max_tokens=100))
    equal((answer["content"][0]["text"], answer["stop_reason"]), ("Good day.", "end_turn"))


@by("openai")
def embeds(t):
    asked = t.asked | {"model": "openai/demo/embed", "input": ["one", "two"]}
    answer = litellm.embedding(**asked, encoding_format="float")
    equal([one["index"] for one in answer.data], [0, 1])
    equal(len({len(one["embedding"]) for one in answer.data}), 1, "dimensions")
    assert answer.usage.prompt_tokens > 0


@by("openai", "anthropic", "gemini")
def its_router_falls_back_by_us(t):
    t.fails(429, "limit")
    second = f"{t.id}-2"
    t.around.provider.plan(second, Said(["The second."]))
    other = t.asked | {"model": t.asked["model"].replace(t.id, second)}
    names = [("first", t.asked), ("second", other)]
    models = [{"model_name": name, "litellm_params": params} for name, params in names]
    router = litellm.Router(models, fallbacks=[{"first": ["second"]}], num_retries=0)
    answer = router.completion("first", messages=HELLO, max_tokens=50)
    equal(message(answer).content, "The second.")


def checks(around, hole):
    """What is judged when all flows are done, by name."""

    def reserved():
        status, page = around.server.api("GET", "limits")
        keys = [key for one in page["data"] for key in one["keys"]]
        equal((status, sum(key["in_flight"] for key in keys)), (200, 0), "calls under way")

    return {
        "nothing_is_under_way": reserved,
        "nothing_wanted_out": lambda: equal(hole.wanted, []),
        "server_ends_cleanly": lambda: running.server_ends_cleanly(around.server, around.demo),
    }
