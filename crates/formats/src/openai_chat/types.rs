//! The shapes of answers on the wire, as far as Holdfast reads them.
//!
//! Reading is lenient where servers differ and nothing depends on it: unknown fields are skipped, a
//! usage that can't be read is no usage. Text is borrowed where JSON needs no unescaping.

use std::borrow::Cow;
use std::fmt;

use ::types::outcome::Stop;
use ::types::usage::{More, ServiceTier, Usage};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A chunk of a stream.
#[derive(Debug, Deserialize)]
pub(crate) struct Chunk<'a> {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(borrow, default)]
    pub(crate) choices: Option<Vec<ChunkChoice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    x_groq: Option<XGroq<'a>>,
    #[serde(borrow, default)]
    pub(crate) service_tier: Option<Cow<'a, str>>,
}

impl Chunk<'_> {
    /// Its usage, wherever its server puts it: at the top, in Groq's own object
    /// (<https://console.groq.com/docs/api-reference#chat-create>) or in a choice, as Moonshot does
    /// (<https://platform.moonshot.ai/docs/api/chat>).
    pub(crate) fn usage(&self) -> Option<Usage> {
        let of_groq = || self.x_groq.as_ref().and_then(|own| own.usage.and_then(usage_of));
        let of_choice =
            || self.choices.iter().flatten().find_map(|one| one.usage.and_then(usage_of));
        self.usage.and_then(usage_of).or_else(of_groq).or_else(of_choice)
    }

    /// What Groq says that went wrong in the middle of its stream.
    pub(crate) fn groq_error(&self) -> Option<&str> {
        self.x_groq.as_ref().and_then(|own| own.error.as_deref())
    }
}

#[derive(Debug, Deserialize)]
struct XGroq<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<String>,
}

/// A choice in a chunk.
#[derive(Debug, Deserialize)]
pub(crate) struct ChunkChoice<'a> {
    #[serde(default)]
    pub(crate) index: Option<u64>,
    #[serde(borrow, default)]
    pub(crate) delta: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) finish_reason: Option<String>,
    #[serde(borrow, default)]
    pub(crate) logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

/// What a choice of a chunk adds.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ChunkDelta {
    #[serde(default)]
    pub(crate) content: Option<Content>,
    #[serde(default)]
    pub(crate) refusal: Option<String>,
    #[serde(default)]
    pub(crate) reasoning_content: Option<String>,
    #[serde(default)]
    pub(crate) reasoning: Option<String>,
    #[serde(default)]
    pub(crate) tool_calls: Option<Vec<CallDelta>>,
}

impl ChunkDelta {
    /// Whether it shows something of the answer: a role does not.
    pub(crate) fn has_content(&self) -> bool {
        let texts = [&self.refusal, &self.reasoning_content, &self.reasoning];
        texts.into_iter().flatten().any(|text| !text.is_empty())
            || self.content.as_ref().is_some_and(|content| !content.is_empty())
            || self.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())
    }
}

/// A piece of a tool call, or a whole one in an answer that is not streamed.
#[derive(Debug, Deserialize)]
pub(crate) struct CallDelta {
    #[serde(default)]
    pub(crate) index: Option<u64>,
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) function: Option<FunctionDelta>,
}

/// The function of a tool call.
#[derive(Debug, Deserialize)]
pub(crate) struct FunctionDelta {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) arguments: Option<String>,
}

/// An answer that is not streamed.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer<'a> {
    #[serde(borrow, default)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(borrow)]
    pub(crate) choices: Vec<AnswerChoice<'a>>,
    #[serde(borrow, default)]
    pub(crate) usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<Cow<'a, str>>,
}

impl Answer<'_> {
    /// Its usage, at the tier at which it was answered.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let mut usage = self.usage.and_then(usage_of)?;
        usage.more.service_tier = self.service_tier.as_deref().map(tier_of).unwrap_or_default();
        Some(usage)
    }
}

/// A choice of an answer.
#[derive(Debug, Deserialize)]
pub(crate) struct AnswerChoice<'a> {
    #[serde(borrow, default)]
    pub(crate) message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) logprobs: Option<&'a RawValue>,
}

/// The mean of tokens' log probabilities, while they come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MeanLogprob {
    sum: f64,
    tokens: f64,
}

impl MeanLogprob {
    /// Takes those of a choice, or of a piece of one; what can't be read is left out.
    pub(crate) fn take(&mut self, logprobs: &RawValue) {
        let read: Option<Logprobs> = serde_json::from_str(logprobs.get()).unwrap_or_default();
        for token in read.and_then(|read| read.content).into_iter().flatten() {
            self.sum += token.logprob;
            self.tokens += 1.0;
        }
    }

    /// In millionths; `None` if there were none.
    pub(crate) fn micros(self) -> Option<i64> {
        let mean = self.sum / self.tokens;
        #[expect(clippy::cast_possible_truncation, reason = "what is no number counts as none")]
        mean.is_finite().then(|| (mean * 1e6).round() as i64)
    }
}

#[derive(Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<TokenLogprob>>,
}

#[derive(Deserialize)]
struct TokenLogprob {
    logprob: f64,
}

/// Text that is told apart from thinking: a string, or a list of parts as Mistral's thinking models
/// answer (<https://docs.mistral.ai/capabilities/reasoning/>).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// What the model thought.
    pub(crate) thinking: String,
    /// What it says.
    pub(crate) text: String,
}

impl Content {
    fn is_empty(&self) -> bool {
        self.thinking.is_empty() && self.text.is_empty()
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadContent)
    }
}

struct ReadContent;

impl<'de> Visitor<'de> for ReadContent {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of parts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Content, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Content, E> {
        Ok(Content { text, ..Content::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut content = Content::default();
        while let Some(part) = parts.next_element::<ContentPart>()? {
            content.text.extend(part.text);
            let thoughts = part.thinking.into_iter().flatten().filter_map(|thought| thought.text);
            content.thinking.extend(thoughts);
        }
        Ok(content)
    }
}

/// A part of a content that is a list. One of another kind (a reference) has neither text.
#[derive(Deserialize)]
struct ContentPart {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<Vec<Thought>>,
}

#[derive(Deserialize)]
struct Thought {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    #[serde(default)]
    total_tokens: Option<u64>,
    /// DeepSeek's name of the cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<u64>,
    /// Moonshot's place of the same.
    #[serde(default)]
    cached_tokens: Option<u64>,
    /// Moonshot's place of those that were written.
    #[serde(default)]
    cache_write_tokens: Option<u64>,
    /// Anthropic's names of both, as proxies in front of it hand them on: here parts of the prompt.
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    /// Perplexity's place of what the details say elsewhere.
    #[serde(default)]
    reasoning_tokens: Option<u64>,
    /// What xAI searched for the answer, each source for a fee.
    #[serde(default)]
    num_sources_used: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Default, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    image_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// The usage of a `usage` object. Details are parts of the totals, so a part that is larger is cut
/// to its total.
pub(crate) fn usage_of(raw: &RawValue) -> Option<Usage> {
    let body: UsageBody = serde_json::from_str(raw.get()).ok()?;
    let prompt = body.prompt_tokens_details.unwrap_or_default();
    let completion = body.completion_tokens_details.unwrap_or_default();
    let cached = prompt.cached_tokens.or(body.prompt_cache_hit_tokens).or(body.cached_tokens);
    let cached = cached.or(body.cache_read_input_tokens).unwrap_or(0).min(body.prompt_tokens);
    let written = prompt.cache_write_tokens.or(body.cache_write_tokens);
    let written = written.or(body.cache_creation_input_tokens).unwrap_or(0);
    let written = written.min(body.prompt_tokens - cached);
    let reasoning = completion.reasoning_tokens.or(body.reasoning_tokens).unwrap_or(0);
    let named = body.prompt_tokens.saturating_add(body.completion_tokens);
    let beside = beside(body.total_tokens.unwrap_or(0), named, reasoning);
    let output = body.completion_tokens.saturating_add(beside);
    let reasoning = reasoning.max(beside);
    Some(Usage {
        input_tokens: body.prompt_tokens,
        cached_tokens: cached,
        cache_write_tokens: written,
        cache_write_1h_tokens: 0,
        output_tokens: output,
        reasoning_tokens: reasoning.min(output),
        more: More {
            audio_input_tokens: prompt.audio_tokens.unwrap_or(0).min(body.prompt_tokens),
            image_input_tokens: prompt.image_tokens.unwrap_or(0).min(body.prompt_tokens),
            audio_output_tokens: completion.audio_tokens.unwrap_or(0).min(output),
            searches: body.num_sources_used.unwrap_or(0),
            ..More::default()
        },
    })
}

/// Output tokens beside those that are named as such. xAI and Gemini count the thinking beside the
/// completion and not within it, which their own total tells; Gemini does not even name it.
pub(crate) fn beside(total: u64, named: u64, reasoning: u64) -> u64 {
    let beside = total.saturating_sub(named);
    if reasoning == 0 || beside == reasoning { beside } else { 0 }
}

/// The tier at which an answer says that it was made. One that is not known is the usual one.
pub(crate) fn tier_of(name: &str) -> ServiceTier {
    match name {
        "flex" => ServiceTier::Flex,
        "priority" => ServiceTier::Priority,
        "batch" => ServiceTier::Batch,
        _ => ServiceTier::Standard,
    }
}

/// A `usage` object.
pub(crate) fn usage_object(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens(),
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
    })
}

/// Why the model stopped. A reason that is not known is an end: the answer is whole all the same.
pub(crate) fn stop_of(reason: &str) -> Stop {
    match reason {
        // Mistral has a name of its own for the end of the context.
        "length" | "model_length" => Stop::Length,
        "tool_calls" | "function_call" => Stop::ToolCalls,
        "content_filter" => Stop::ContentFilter,
        _ => Stop::End,
    }
}

/// Whether a finish reason says that the answer broke off: Mistral's and OpenRouter's `error`,
/// vLLM's and SGLang's `abort`, DeepSeek's word for a server that gave up.
pub(crate) fn is_failure(reason: &str) -> bool {
    matches!(reason, "error" | "abort" | "insufficient_system_resource")
}

/// The `finish_reason`.
pub(crate) const fn reason_of(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "stop",
        Stop::Length => "length",
        Stop::ToolCalls => "tool_calls",
        Stop::ContentFilter => "content_filter",
    }
}

#[cfg(test)]
mod tests;
