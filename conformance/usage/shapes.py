"""What providers say of usage, and what they bill for it.

Each shape is a vendor's own, written from its documentation or from a report of a bill that was
wrong. `bills` are the lines of the bill as that vendor counts; `UNKNOWN` where nobody can say.
"""

import json

from provider import Plan
from words import UNKNOWN

SHAPES = []


class Shape:
    def __init__(self, kind, name, bills, whole=True, streamed=True, **plan):
        self.kind, self.name, self.bills = kind, name, bills
        self.whole, self.streamed, self.how = whole, streamed, plan
        self.model = "".join(letter if letter.isalnum() else "-" for letter in name.lower())

    def plan(self):
        return Plan(**self.how)


def shape(kind, name, bills, usage=None, **how):
    """`usage` is an object or a JSON text."""
    text = usage if usage is None or isinstance(usage, str) else json.dumps(usage)
    steps = how.pop("steps", None)
    if steps is not None:
        how["steps"] = {at: said if isinstance(said, str) else json.dumps(said) for at, said in steps.items()}
        how.setdefault("whole", False)
    SHAPES.append(Shape(kind, name, bills, usage=text, **how))


def chat(name, bills, usage=None, **how):
    shape("chat", name, bills, usage, **how)


def tokens(prompt, completion, **more):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def prompt(**details):
    return {"prompt_tokens_details": details}


def completion(**details):
    return {"completion_tokens_details": details}


# Chat completions.
chat("chat: input and output", {"input": 1000, "output": 50}, tokens(1000, 50))
chat("chat: no total", {"input": 1000, "output": 50}, {"prompt_tokens": 1000, "completion_tokens": 50})
chat("OpenAI: cached tokens are in the prompt", {"input": 400, "cached": 600, "output": 50}, tokens(1000, 50, **prompt(cached_tokens=600)))
chat("OpenAI: reasoning is in the completion", {"input": 1000, "output": 50}, tokens(1000, 50, **completion(reasoning_tokens=20)))
chat("OpenAI: read, written and reasoning", {"input": 100, "cached": 600, "write": 300, "output": 50}, tokens(1000, 50, **prompt(cached_tokens=600, cache_write_tokens=300), **completion(reasoning_tokens=20)))
chat("OpenAI: predictions are in the completion", {"input": 1000, "output": 90}, tokens(1000, 90, **completion(accepted_prediction_tokens=30, rejected_prediction_tokens=40, reasoning_tokens=0, audio_tokens=0)))
chat("OpenAI: details that are null", {"input": 1000, "output": 50}, tokens(1000, 50, prompt_tokens_details=None, completion_tokens_details=None))
chat("OpenAI: counts in details that are null", {"input": 1000, "output": 50}, tokens(1000, 50, **prompt(cached_tokens=None, audio_tokens=None), **completion(reasoning_tokens=None)))
chat("Moonshot: cached tokens beside the prompt's", {"input": 400, "cached": 600, "output": 50}, tokens(1000, 50, cached_tokens=600))
chat("Moonshot: the usage is in the choice", {"input": 400, "cached": 600, "output": 50}, steps={"choice": tokens(1000, 50, cached_tokens=600)})
chat("Moonshot: written tokens too", {"input": 100, "cached": 600, "write": 300, "output": 50}, tokens(1000, 50, cached_tokens=600, cache_write_tokens=300))
chat("DeepSeek: hits and misses", {"input": 360, "cached": 640, "output": 50}, tokens(1000, 50, prompt_cache_hit_tokens=640, prompt_cache_miss_tokens=360))
chat("DeepSeek: hits said twice", {"input": 360, "cached": 640, "output": 50}, tokens(1000, 50, prompt_cache_hit_tokens=640, prompt_cache_miss_tokens=360, **prompt(cached_tokens=640), **completion(reasoning_tokens=12)))
chat("Groq: the usage is its own object's", {"input": 1000, "output": 50}, steps={"groq": tokens(1000, 50, queue_time=0.01, prompt_time=0.002)})
chat("Groq: the usage is at both places", {"input": 1000, "output": 50}, steps={"groq": tokens(1000, 50), "end": tokens(1000, 50)})
chat("Groq: times beside the counts", {"input": 1000, "output": 50}, tokens(1000, 50, queue_time=0.01, total_time=0.31))
chat("xAI: thinking is beside the completion", {"input": 1000, "output": 350}, {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1350, **prompt(cached_tokens=0, text_tokens=1000, audio_tokens=0, image_tokens=0), **completion(reasoning_tokens=300), "num_sources_used": 0})
chat("xAI: thinking and cached tokens", {"input": 300, "cached": 700, "output": 350}, {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1350, **prompt(cached_tokens=700), **completion(reasoning_tokens=300)})
chat("Gemini as OpenAI: thoughts are in the total alone", {"input": 1000, "output": 350}, {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1350})
chat("OpenRouter: cached and written tokens", {"input": 100, "cached": 600, "write": 300, "output": 50}, tokens(1000, 50, cost=0.00123, is_byok=False, cost_details={"upstream_inference_cost": None}, **prompt(cached_tokens=600, cache_write_tokens=300, audio_tokens=0)))
chat("Perplexity: reasoning, citations, searches", {"input": 1000, "output": 50}, tokens(1000, 50, search_context_size="low", citation_tokens=0, num_search_queries=0, reasoning_tokens=7, cost={"total_cost": 0.005}))
chat("Mistral: with sounds' seconds", {"input": 1000, "output": 50}, tokens(1000, 50, prompt_audio_seconds=None))
chat("Cohere: counts alone", {"input": 1000, "output": 50}, tokens(1000, 50))
chat("LiteLLM: Anthropic's names at the top", {"input": 100, "cached": 600, "write": 300, "output": 50}, tokens(1000, 50, cache_read_input_tokens=600, cache_creation_input_tokens=300, **prompt(cached_tokens=600)))
chat("chat: zero is zero", {}, tokens(0, 0))
chat("chat: no output", {"input": 1000}, tokens(1000, 0))
chat("chat: more is cached than there is", {"cached": 1000, "output": 50}, tokens(1000, 50, **prompt(cached_tokens=1600)))
chat("chat: more reasoning than output", {"input": 1000, "output": 50}, tokens(1000, 50, **completion(reasoning_tokens=90)))
chat("chat: no usage", UNKNOWN)
chat("chat: a usage that is null", UNKNOWN, "null")
chat("chat: an empty usage", UNKNOWN, "{}")
chat("chat: counts below zero", UNKNOWN, {"prompt_tokens": -1000, "completion_tokens": 50, "total_tokens": -950})
chat("chat: cached tokens below zero", UNKNOWN, tokens(1000, 50, **prompt(cached_tokens=-600)))
chat("chat: counts that no prompt has", UNKNOWN, tokens(10**18, 50))
chat("chat: counts beyond all integers", UNKNOWN, '{"prompt_tokens":99999999999999999999999,"completion_tokens":5}')
chat("chat: counts with fractions", UNKNOWN, '{"prompt_tokens":1000.5,"completion_tokens":50}')
chat("chat: counts that are texts", UNKNOWN, '{"prompt_tokens":"1000","completion_tokens":"50"}')
chat("chat: one count is missing", UNKNOWN, {"prompt_tokens": 1000, "total_tokens": 1050})
chat("chat: the usage twice at the end", {"input": 1000, "output": 50}, steps={"end": tokens(1000, 50), "again": tokens(1000, 50)})
chat("chat: counts that grow along", {"input": 1000, "output": 50}, steps={"first": tokens(1000, 0), "middle": tokens(1000, 20), "stop": tokens(1000, 40), "end": tokens(1000, 50)})
chat("chat: the usage on a chunk between", {"input": 1000, "output": 50}, steps={"middle": tokens(1000, 50)})
chat("chat: the usage between, then null", {"input": 1000, "output": 50}, steps={"middle": tokens(1000, 50), "late": "null", "stop": "null"})
chat("chat: the usage beside the finish reason", {"input": 1000, "output": 50}, steps={"stop": tokens(1000, 50)})
chat("chat: the usage on the first chunk alone", {"input": 1000, "output": 0}, steps={"first": tokens(1000, 0)})
chat("OpenAI: sound in and out", {"input": 900, "audio_in": 100, "output": 20, "audio_out": 30}, tokens(1000, 50, **prompt(audio_tokens=100, cached_tokens=0), **completion(audio_tokens=30, reasoning_tokens=0)))
chat("OpenAI: answered at priority", {"tier": "priority", "input": 400, "cached": 600, "output": 50}, tokens(1000, 50, **prompt(cached_tokens=600)), beside='"service_tier":"priority"')
chat("OpenAI: answered at flex", {"tier": "flex", "input": 1000, "output": 50}, tokens(1000, 50), beside='"service_tier":"flex"')
chat("OpenAI: answered as usual", {"input": 1000, "output": 50}, tokens(1000, 50), beside='"service_tier":"default"')
chat("xAI: sources that were searched", {"input": 1000, "output": 50, "search": 3}, tokens(1000, 50, num_sources_used=3))


# Anthropic's messages.
def messages(name, bills, usage=None, **how):
    shape("messages", name, bills, usage, **how)


def counts(input, output, read=0, written=0, **more):
    return {"input_tokens": input, "cache_creation_input_tokens": written, "cache_read_input_tokens": read, "output_tokens": output, **more}


def split(minutes, hour):
    return {"cache_creation": {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour}}


READ_AND_WRITTEN = {"input": 100, "cached": 600, "write": 300, "output": 50}
BOTH_TTLS = {"input": 100, "cached": 600, "write": 200, "write_1h": 100, "output": 50}
messages("Anthropic: input and output", {"input": 1000, "output": 50}, {"input_tokens": 1000, "output_tokens": 50})
messages("Anthropic: the cache is beside the input", READ_AND_WRITTEN, counts(100, 50, 600, 300))
messages("Anthropic: written for minutes and for an hour", BOTH_TTLS, counts(100, 50, 600, 300, **split(200, 100)))
messages("Anthropic: lifetimes are said at the start alone", BOTH_TTLS, steps={"start": counts(100, 1, 600, 300, **split(200, 100)), "end": counts(100, 50, 600, 300)})
messages("Anthropic: the end says the output alone", BOTH_TTLS, steps={"start": counts(100, 1, 600, 300, **split(200, 100)), "end": {"output_tokens": 50}})
messages("Anthropic: lifetimes without their sum", BOTH_TTLS, {"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 600, **split(200, 100)})
messages("Anthropic: two ends, each the whole", READ_AND_WRITTEN, steps={"start": counts(100, 1, 600, 300), "early": counts(100, 20, 600, 300), "end": counts(100, 50, 600, 300)})
messages("Anthropic: thinking is in the output", {"input": 1000, "output": 50}, {"input_tokens": 1000, "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}})
messages("Anthropic: steps of the same kind", READ_AND_WRITTEN, counts(100, 50, 600, 300, iterations=[{"type": "message", **counts(100, 50, 600, 300)}]))
messages("Anthropic: a compaction is not in the totals", {"input": 1100, "cached": 600, "write": 300, "output": 130}, counts(100, 50, 600, 300, iterations=[{"type": "compaction", **counts(1000, 80)}, {"type": "message", **counts(100, 50, 600, 300)}]))
messages("Anthropic: an advisor of another model", UNKNOWN, counts(100, 50, iterations=[{"type": "message", **counts(100, 50)}, {"type": "advisor_message", "model": "claude-other", **counts(500, 20)}]))
messages("Anthropic: standard is said", {"input": 1000, "output": 50}, counts(1000, 50, service_tier="standard", inference_geo="not_available"))
messages("Anthropic: searches", {"input": 1000, "output": 50, "search": 3}, counts(1000, 50, server_tool_use={"web_search_requests": 3, "web_fetch_requests": 1}))
messages("Anthropic: searches are said at the end alone", {"input": 1000, "output": 50, "search": 2}, steps={"start": counts(1000, 1), "end": counts(1000, 50, server_tool_use={"web_search_requests": 2})})
messages("Anthropic: fast", {"tier": "fast", "input": 400, "cached": 600, "output": 50}, counts(400, 50, 600, speed="fast", service_tier="standard"))
messages("Anthropic: a batch", {"tier": "batch", "input": 1000, "output": 50}, counts(1000, 50, service_tier="batch"))
messages("Anthropic: priority is paid in advance", {"input": 1000, "output": 50}, counts(1000, 50, service_tier="priority"))
messages("Anthropic: the tier is said at the start alone", {"tier": "fast", "input": 1000, "output": 50}, steps={"start": counts(1000, 1, speed="fast"), "end": counts(1000, 50)})
messages("Kimi: the start has the cached in the input, the end splits it", {"input": 250, "cached": 173056, "output": 50}, steps={"start": counts(173306, 0), "end": counts(250, 50, 173056, prompt_tokens=173306)})
messages("Qwen: the start has no counts of a cache", {"input": 18, "cached": 8831, "output": 426}, steps={"start": {"input_tokens": 8834, "output_tokens": 0}, "end": {**counts(18, 426, 8831), "cache_creation": {"ephemeral_5m_input_tokens": 0}}})
messages("GLM: the start has zeros", {"input": 400, "cached": 600, "output": 50}, steps={"start": {"input_tokens": 0, "output_tokens": 0}, "end": {"input_tokens": 400, "cache_read_input_tokens": 600, "output_tokens": 50}})
messages("Anthropic: counts that are null", {"input": 1000, "output": 50}, {"input_tokens": 1000, "output_tokens": 50, "cache_read_input_tokens": None, "cache_creation_input_tokens": None, "cache_creation": None, "server_tool_use": None, "iterations": None})
messages("Anthropic: zero is zero", {}, counts(0, 0))
messages("Anthropic: no usage", UNKNOWN)
messages("Anthropic: the start alone", UNKNOWN, steps={"start": counts(1000, 1)})
messages("Anthropic: counts below zero", UNKNOWN, {"input_tokens": -5, "output_tokens": 50})
messages("Anthropic: counts that no prompt has", UNKNOWN, counts(100, 50, 10**18))


# The Responses API.
def responses(name, bills, usage=None, **how):
    shape("responses", name, bills, usage, **how)


def spent(input, output, cached=0, written=0, reasoning=0, **more):
    return {
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input + output,
        **more,
    }


responses("Responses: input and output", {"input": 1000, "output": 50}, spent(1000, 50))
responses("Responses: read and written are in the input", READ_AND_WRITTEN, spent(1000, 50, 600, 300, 20))
responses("Responses: no details", {"input": 1000, "output": 50}, {"input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050})
responses("Responses: details that are null", {"input": 1000, "output": 50}, {"input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050, "input_tokens_details": None, "output_tokens_details": None})
responses("Responses: more is cached than there is", {"cached": 1000, "output": 50}, spent(1000, 50, 1600))
responses("Responses: zero is zero", {}, spent(0, 0))
responses("Responses: no usage", UNKNOWN)
responses("Responses: a usage that is null", UNKNOWN, "null")
responses("Responses: counts below zero", UNKNOWN, spent(-1000, 50))
responses("Responses: cached tokens below zero", UNKNOWN, spent(1000, 50, -600))
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
responses("Responses: searches, and a page that was opened", {"input": 1000, "output": 50, "search": 2}, spent(1000, 50), streamed=True, items=[SEARCH, SEARCH, SEARCH | {"action": {"type": "open_page", "url": "https://example.org"}}])
responses("Responses: answered at flex", {"tier": "flex", "input": 1000, "output": 50}, spent(1000, 50), beside='"service_tier":"flex"')


# Gemini.
def gemini(name, bills, usage=None, **how):
    shape("gemini", name, bills, usage, **how)


def counted(prompt, said, **more):
    return {"promptTokenCount": prompt, "candidatesTokenCount": said, "totalTokenCount": prompt + said, **more}


gemini("Gemini: input and output", {"input": 1000, "output": 50}, counted(1000, 50))
gemini("Gemini: cached tokens are in the prompt", {"input": 400, "cached": 600, "output": 50}, counted(1000, 50, cachedContentTokenCount=600))
gemini("Gemini: thoughts are beside the answer", {"input": 1000, "output": 350}, counted(1000, 50, thoughtsTokenCount=300) | {"totalTokenCount": 1350})
gemini("Gemini: what tools read is beside the prompt", {"input": 1200, "output": 50}, counted(1000, 50, toolUsePromptTokenCount=200) | {"totalTokenCount": 1250})
gemini("Gemini: cached, thoughts and tools", {"input": 600, "cached": 600, "output": 350}, counted(1000, 50, cachedContentTokenCount=600, toolUsePromptTokenCount=200, thoughtsTokenCount=300) | {"totalTokenCount": 1550})
gemini("Gemini: no count of the answer, a total", {"input": 1000, "output": 300}, {"promptTokenCount": 1000, "thoughtsTokenCount": 300, "totalTokenCount": 1300})
gemini("Gemini: details of modalities", {"input": 1000, "output": 50}, counted(1000, 50, promptTokensDetails=[{"modality": "TEXT", "tokenCount": 1000}], candidatesTokensDetails=[{"modality": "TEXT", "tokenCount": 50}], trafficType="ON_DEMAND"))
gemini("Gemini: counts that grow along", {"input": 400, "cached": 600, "output": 50}, steps={"first": counted(1000, 5, cachedContentTokenCount=600), "middle": counted(1000, 20, cachedContentTokenCount=600), "end": counted(1000, 50, cachedContentTokenCount=600)})
gemini("Gemini: the usage on a chunk between", {"input": 1000, "output": 50}, steps={"middle": counted(1000, 50)})
gemini("Gemini: more is cached than there is", {"cached": 1000, "output": 50}, counted(1000, 50, cachedContentTokenCount=1600))
gemini("Gemini: zero is left out", {"input": 1000}, {"promptTokenCount": 1000, "totalTokenCount": 1000})
gemini("Gemini: no usage", UNKNOWN)
gemini("Gemini: an empty usage", UNKNOWN, "{}")
gemini("Gemini: counts below zero", UNKNOWN, counted(1000, 50, cachedContentTokenCount=-600))
AUDIO = [{"modality": "TEXT", "tokenCount": 700}, {"modality": "AUDIO", "tokenCount": 300}]
gemini("Gemini: sound in the prompt", {"input": 700, "audio_in": 300, "output": 50}, counted(1000, 50, promptTokensDetails=AUDIO))
gemini("Gemini: priority on Vertex", {"tier": "priority", "input": 1000, "output": 50}, counted(1000, 50, trafficType="ON_DEMAND_PRIORITY"))
gemini("Gemini: flex", {"tier": "flex", "input": 1000, "output": 50}, counted(1000, 50, serviceTier="flex"))
GROUNDED = [("groundingMetadata", {"webSearchQueries": ["one", "two"]})]
gemini("Gemini-3: each query is billed", {"input": 1000, "output": 50, "search": 2}, counted(1000, 50), items=GROUNDED)
gemini("Gemini-2: a prompt that was grounded is billed once", {"input": 1000, "output": 50, "search": 1}, counted(1000, 50), items=GROUNDED)


# Bedrock's Converse.
def converse(name, bills, usage=None, **how):
    shape("converse", name, bills, usage, **how)


def used(input, output, **more):
    return {"inputTokens": input, "outputTokens": output, "totalTokens": input + output, **more}


converse("Bedrock: input and output", {"input": 1000, "output": 50}, used(1000, 50))
converse("Bedrock: the cache is beside the input", READ_AND_WRITTEN, used(100, 50, cacheReadInputTokens=600, cacheWriteInputTokens=300))
converse("Bedrock: written for minutes and for an hour", BOTH_TTLS, used(100, 50, cacheReadInputTokens=600, cacheWriteInputTokens=300, cacheDetails=[{"ttl": "1h", "inputTokens": 100}, {"ttl": "5m", "inputTokens": 200}]))
converse("Bedrock: priority", {"tier": "priority", "input": 1000, "output": 50}, used(1000, 50), beside='"serviceTier":{"type":"priority"}')
converse("Bedrock: zero is zero", {}, used(0, 0))
converse("Bedrock: counts below zero", UNKNOWN, used(-100, 50))
converse("Bedrock: no usage", UNKNOWN)


# Embeddings.
def embeddings(name, bills, usage=None):
    shape("embeddings", name, bills, usage, streamed=False)


embeddings("embeddings: a prompt", {"input": 1000}, {"prompt_tokens": 1000, "total_tokens": 1000})
embeddings("embeddings: a total alone", {"input": 1000}, {"total_tokens": 1000})
embeddings("embeddings: no usage", UNKNOWN)
embeddings("embeddings: counts below zero", UNKNOWN, {"prompt_tokens": -3, "total_tokens": 1000})
