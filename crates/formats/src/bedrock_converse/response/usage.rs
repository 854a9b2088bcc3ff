//! What an answer says at its end, both ways: the usage and why the model stopped.
//!
//! Bedrock counts what it read from its cache and what it wrote there beside the input, not in it;
//! the neutral form has one total. A usage that can't be read is no usage: a wrong bill is worse
//! than none.

use std::borrow::Cow;

use ::types::Failure;
use ::types::outcome::{Finish, Stop};
use ::types::usage::{More, ServiceTier, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::whole::failed;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_write_input_tokens: Option<u64>,
    #[serde(default)]
    cache_details: Option<Vec<CacheDetail>>,
}

/// What was written, by how long it is kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheDetail {
    ttl: String,
    input_tokens: u64,
}

/// The tier at which an answer was made.
#[derive(Deserialize)]
pub(crate) struct Tier<'a> {
    #[serde(borrow, rename = "type", default)]
    name: Option<Cow<'a, str>>,
}

impl Tier<'_> {
    fn tier(&self) -> ServiceTier {
        self.name.as_deref().map(crate::openai_chat::types::tier_of).unwrap_or_default()
    }
}

/// The usage, if all of it can be read.
pub(crate) fn usage_of(raw: Option<&RawValue>, tier: Option<&Tier<'_>>) -> Option<Usage> {
    let body: Body = serde_json::from_str(raw?.get()).ok()?;
    let read = body.cache_read_input_tokens.unwrap_or(0);
    let written = body.cache_write_input_tokens.unwrap_or(0);
    let details = body.cache_details.unwrap_or_default();
    let hour = details.iter().filter(|detail| detail.ttl == "1h").map(|detail| detail.input_tokens);
    Some(Usage {
        input_tokens: body.input_tokens.saturating_add(read).saturating_add(written),
        cached_tokens: read,
        cache_write_tokens: written,
        cache_write_1h_tokens: hour.fold(0, u64::saturating_add).min(written),
        output_tokens: body.output_tokens,
        reasoning_tokens: 0,
        more: More { service_tier: tier.map(Tier::tier).unwrap_or_default(), ..More::default() },
    })
}

/// A `usage` object. SDKs need one in every answer, so one that nobody counted is all zeros.
pub(crate) fn usage_object(usage: Option<&Usage>) -> Value {
    let usage = usage.copied().unwrap_or_default();
    let beside = usage.cached_tokens.saturating_add(usage.cache_write_tokens);
    let hour = usage.cache_write_1h_tokens;
    let mut object = json!({
        "inputTokens": usage.input_tokens.saturating_sub(beside),
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens(),
        "cacheReadInputTokens": usage.cached_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    });
    if let (1.., Value::Object(fields)) = (hour, &mut object) {
        let minutes = usage.cache_write_tokens.saturating_sub(hour);
        let of = |ttl: &str, tokens: u64| json!({ "ttl": ttl, "inputTokens": tokens });
        fields.insert("cacheDetails".to_owned(), json!([of("1h", hour), of("5m", minutes)]));
    }
    object
}

/// Why the model stopped. A reason that is not known is an end: the answer is whole all the same.
///
/// # Errors
/// The model said something that nobody can read.
pub(crate) fn stop_of(reason: &str) -> Result<Stop, Failure> {
    Ok(match reason {
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "tool_use" => Stop::ToolCalls,
        "guardrail_intervened" | "content_filtered" => Stop::ContentFilter,
        "malformed_model_output" | "malformed_tool_use" => {
            return Err(failed(format!("the model's answer can't be read ({reason})")));
        }
        _ => Stop::End,
    })
}

#[derive(Deserialize)]
struct Additional {
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    delta: Option<AdditionalDelta>,
}

#[derive(Deserialize)]
struct AdditionalDelta {
    #[serde(default)]
    stop_sequence: Option<String>,
}

/// The stop sequence that the model met, where its vendor says it.
pub(crate) fn stop_text(raw: Option<&RawValue>) -> Option<String> {
    let additional: Additional = serde_json::from_str(raw?.get()).ok()?;
    additional.stop_sequence.or_else(|| additional.delta?.stop_sequence)
}

/// The `stopReason`. Some servers end an answer that calls tools as any other; this format's
/// clients then would not run them.
pub(crate) const fn reason_of(finish: &Finish, calls_tools: bool) -> &'static str {
    match finish.stop {
        Stop::End if finish.stop_text.is_some() => "stop_sequence",
        Stop::End if calls_tools => "tool_use",
        Stop::End => "end_turn",
        Stop::Length => "max_tokens",
        Stop::ToolCalls => "tool_use",
        Stop::ContentFilter => "content_filtered",
    }
}

/// Why the model stopped, as fields, and the usage.
pub(crate) fn end_json(finish: &Finish, reason: &str) -> (String, Value) {
    let stop_text = finish.stop_text.as_deref().filter(|_| reason == "stop_sequence");
    let more = stop_text.map(|text| {
        let fields = json!({ "stop_sequence": text });
        format!(",\"additionalModelResponseFields\":{fields}")
    });
    let stopped = format!("\"stopReason\":\"{reason}\"{}", more.unwrap_or_default());
    (stopped, usage_object(finish.usage.as_ref()))
}
