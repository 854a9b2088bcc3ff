//! The Responses API as an upstream speaks it.
//!
//! [`render`] writes a request that stores nothing there: the history is sent whole, and reasoning
//! travels as `encrypted_content`. [`stream`] reads events, [`body`] a response in one piece; what
//! both find in a response object is read here.
//!
//! Invariant: an answer is whole only with `response.completed` or `response.incomplete`.

pub(super) mod body;
pub(super) mod render;
pub(super) mod stream;

use ::types::call::ModelHead;
use ::types::error::Billed;
use ::types::format::Edits;
use ::types::outcome::{Finish, Stop};
use ::types::usage::{More, Usage};
use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::edit::{Edit, apply, put, text};
use crate::openai_chat::errors;
use crate::openai_chat::types::{beside, tier_of};
use crate::openai_responses::client_tools::arguments_of;

/// A call of a tool that takes free text.
const CUSTOM_CALL: &str = "custom_tool_call";
/// The field of the output cap.
const OUTPUT_CAP: &str = "max_output_tokens";

/// Edits a request byte-exactly.
pub(super) fn patch(raw: &Bytes, head: &ModelHead, edits: &Edits<'_>) -> Bytes {
    let mut list: Vec<Edit> = Vec::with_capacity(2);
    let spans = &head.spans;
    if edits.model != head.model {
        list.push(put(spans.model.clone(), "model", text(edits.model), spans.insert_at));
    }
    if let Some(cap) = edits.output_cap.filter(|cap| head.output_cap != Some(*cap)) {
        let value = cap.to_string().into_bytes();
        list.push(put(spans.output_cap.clone(), OUTPUT_CAP, value, spans.insert_at));
    }
    apply(raw, list)
}

/// Whether an item calls a tool of the client.
fn is_call(kind: &str) -> bool {
    matches!(kind, "function_call" | CUSTOM_CALL)
}

/// The arguments of a call, as those of the function that its tool is told as elsewhere.
fn arguments_in(item: &Value) -> String {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        CUSTOM_CALL => arguments_of(text("input")),
        _ => text("arguments").to_owned(),
    }
}

/// The end that a response object says: whole, or what it failed with.
fn end_of(response: &Value, calls: bool) -> Result<Finish, Failure> {
    let text = |pointer: &str| response.pointer(pointer).and_then(Value::as_str);
    let usage = usage_in(response);
    let stop = match text("/status") {
        Some("completed") if calls => Stop::ToolCalls,
        Some("completed") => Stop::End,
        Some("incomplete") => match text("/incomplete_details/reason") {
            Some("content_filter") => Stop::ContentFilter,
            _ => Stop::Length,
        },
        _ => return Err(failure_of(response.get("error"), usage)),
    };
    let model_version = text("/model").map(str::to_owned);
    Ok(Finish { stop, usage, model_version, ..Finish::default() })
}

/// What an `error` object says, of a response that failed.
fn failure_of(error: Option<&Value>, usage: Option<Usage>) -> Failure {
    let said = error.filter(|error| !error.is_null());
    let said = said.and_then(|error| {
        errors::parse_in_answer(json!({ "error": error }).to_string().as_bytes())
    });
    let nothing = || {
        let text = "the provider's response failed, and does not say why";
        Failure::new(ErrorCode::UpstreamFailed, text)
    };
    let billed = Billed::from(usage);
    said.unwrap_or_else(nothing).billed(billed)
}

/// The usage of a response: the counts, the searches that were made for it, and its tier.
fn usage_in(response: &Value) -> Option<Usage> {
    let mut usage = response.get("usage").and_then(usage_of)?;
    let tier = response.get("service_tier").and_then(Value::as_str);
    let items = response.get("output").and_then(Value::as_array);
    let searches = items.into_iter().flatten().filter(|item| is_search(item)).count();
    usage.more = More {
        searches: u64::try_from(searches).unwrap_or(u64::MAX),
        service_tier: tier.map(tier_of).unwrap_or_default(),
        ..usage.more
    };
    Some(usage)
}

/// Whether an item is a search that is billed: opening a page that was found is not.
fn is_search(item: &Value) -> bool {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str);
    text("/type") == Some("web_search_call")
        && matches!(text("/action/type"), None | Some("search"))
}

/// The usage, if all of it can be read: a wrong bill is worse than none.
fn usage_of(usage: &Value) -> Option<Usage> {
    let count = |pointer: &str| match usage.pointer(pointer) {
        None | Some(Value::Null) => Some(None),
        Some(count) => count.as_u64().map(Some),
    };
    let part = |pointer: &str| Some(count(pointer)?.unwrap_or(0));
    let input = count("/input_tokens")??;
    let cached = part("/input_tokens_details/cached_tokens")?.min(input);
    let written = part("/input_tokens_details/cache_write_tokens")?.min(input - cached);
    let named = count("/output_tokens")??;
    let reasoning = part("/output_tokens_details/reasoning_tokens")?;
    let total = part("/total_tokens")?;
    let beside = beside(total, input.saturating_add(named), reasoning);
    let output = named.saturating_add(beside);
    Some(Usage {
        input_tokens: input,
        cached_tokens: cached,
        cache_write_tokens: written,
        cache_write_1h_tokens: 0,
        output_tokens: output,
        reasoning_tokens: reasoning.max(beside).min(output),
        more: More::default(),
    })
}

#[cfg(test)]
mod tests;
