//! The shapes of answers on the wire, as far as Holdfast reads them.
//!
//! Reading is lenient where servers differ and nothing depends on it: unknown fields are skipped, a
//! usage that can't be read is no usage. Text is borrowed where JSON needs no unescaping.

use std::borrow::Cow;

use ::types::outcome::Stop;
use ::types::usage::Usage;
use serde::Deserialize;
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
    pub(crate) usage: Option<&'a RawValue>,
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
}

/// What a choice of a chunk adds.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ChunkDelta {
    #[serde(default)]
    pub(crate) content: Option<String>,
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
        let texts = [&self.content, &self.refusal, &self.reasoning_content, &self.reasoning];
        texts.into_iter().flatten().any(|text| !text.is_empty())
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
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(borrow)]
    pub(crate) choices: Vec<AnswerChoice<'a>>,
    #[serde(borrow, default)]
    pub(crate) usage: Option<&'a RawValue>,
}

/// A choice of an answer.
#[derive(Debug, Deserialize)]
pub(crate) struct AnswerChoice<'a> {
    #[serde(borrow, default)]
    pub(crate) message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
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
}

#[derive(Default, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// The usage of a `usage` object. Details are parts of the totals, so a part that is larger is cut
/// to its total.
pub(crate) fn usage_of(raw: &RawValue) -> Option<Usage> {
    let body: UsageBody = serde_json::from_str(raw.get()).ok()?;
    let prompt = body.prompt_tokens_details.unwrap_or_default();
    let completion = body.completion_tokens_details.unwrap_or_default();
    let cached = prompt.cached_tokens.unwrap_or(0).min(body.prompt_tokens);
    let written = prompt.cache_write_tokens.unwrap_or(0).min(body.prompt_tokens - cached);
    Some(Usage {
        input_tokens: body.prompt_tokens,
        cached_tokens: cached,
        cache_write_tokens: written,
        output_tokens: body.completion_tokens,
        reasoning_tokens: completion.reasoning_tokens.unwrap_or(0).min(body.completion_tokens),
    })
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
        "length" => Stop::Length,
        "tool_calls" | "function_call" => Stop::ToolCalls,
        "content_filter" => Stop::ContentFilter,
        _ => Stop::End,
    }
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
