//! Requests: the head in one pass, and the way to the neutral form.
//!
//! A request is the model's input as it is, with the model in the path; or `{model, input}`, or the
//! input with `model` beside its fields ([`unwrapped`]). What Workers AI says otherwise than chat
//! completions do (`prompt`, flat tools, a bare schema, results without a call's id) is told in
//! their words first, so that one set of rules reads both.

mod chat;

use std::borrow::Cow;

use ::types::call::{HeadSpans, ModelHead};
use ::types::surcharge::{FIELDS, surcharge};
use ::types::{CacheWrites, Extras, Failure};
use bytes::Bytes;
use serde_json::value::RawValue;

pub(super) use chat::parse;

use crate::head::TopLevel;
use crate::json::missing;
use crate::media::media_in;

const CAP_TYPE: &str = "a positive integer";
/// The output cap, by Workers AI's name and by the one that its newer models take too.
const OUTPUT_CAPS: [&str; 2] = ["max_tokens", "max_completion_tokens"];
/// The fields that are read here.
const READ: [&str; 9] = [
    "model",
    "input",
    "messages",
    "prompt",
    OUTPUT_CAPS[0],
    OUTPUT_CAPS[1],
    "response_format",
    "stream",
    "tools",
];

/// The model and the input of a request that names the model in its body.
///
/// # Errors
/// A 400 that names the field.
pub fn unwrapped(body: Bytes) -> Result<(String, Bytes), Failure> {
    let top = TopLevel::read(&body)?;
    top.refuse_imitations("", &READ)?;
    let model = top.model()?;
    let input = top.raw("input").filter(|input| input.get().starts_with('{'));
    let input = input.and_then(|_| top.span("input")).map(|span| body.slice(span));
    Ok((model, input.unwrap_or(body)))
}

/// Whether an input is one of texts that are to become vectors.
pub fn asks_vectors(input: &[u8]) -> bool {
    let Ok(top) = TopLevel::read(input) else { return false };
    let has = |name| top.raw(name).is_some();
    has("text") && !["messages", "prompt", "target_lang"].into_iter().any(has)
}

/// Whether the answer's shape is asked for, so that it is JSON where it comes in one piece.
pub fn asks_json(input: &[u8]) -> bool {
    let Ok(top) = TopLevel::read(input) else { return false };
    let Some(format) = top.raw("response_format").map(RawValue::get) else { return false };
    let Ok(format) = TopLevel::read(format.as_bytes()) else { return false };
    let kind: Result<Option<Cow<'_, str>>, _> = format.get("type", "a string");
    matches!(kind, Ok(Some(kind)) if kind != "text")
}

/// Reads what every stage needs. `model` is the one in the path; `None` = it is in the body.
///
/// # Errors
/// A 400 that names the field.
pub fn read_head(model: Option<&str>, body: &[u8]) -> Result<ModelHead, Failure> {
    let top = TopLevel::read(body)?;
    top.refuse_imitations("", &READ.into_iter().chain(FIELDS))?;
    let model = match model {
        Some(model) => model.to_owned(),
        None => top.model()?,
    };
    let given = |raw: &&RawValue| raw.get() != "null";
    let messages = top.raw("messages").filter(given);
    if messages.is_some_and(|list| !list.get().starts_with('[')) {
        let wrong = "invalid type for 'messages': expected an array of objects";
        return Err(Failure::invalid("messages", wrong));
    }
    if messages.is_none() && top.raw("prompt").filter(given).is_none() {
        let text = "give 'messages' or 'prompt': this address runs text generation, and 'text' \
                    for embeddings";
        return Err(Failure { message: text.to_owned(), ..missing("messages") });
    }
    let media = messages.map(|list| media_in(list, "messages")).transpose()?.unwrap_or_default();
    Ok(ModelHead {
        model,
        stream: top.get("stream", "a boolean")?.unwrap_or(false),
        output_cap: read_cap(&top)?,
        choices: 1,
        include_usage: true,
        body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        media: media.count,
        tools: top.raw("tools").is_some(),
        surcharge: surcharge(|name| Some(top.raw(name)?.get().into())).or(media.unbounded),
        cache_writes: CacheWrites::Unread,
        extras: Extras::default(),
        spans: HeadSpans::default(),
    })
}

fn read_cap(top: &TopLevel<'_>) -> Result<Option<u64>, Failure> {
    let [name, other] = OUTPUT_CAPS;
    let (cap, same): (Option<u64>, Option<u64>) =
        (top.get(name, CAP_TYPE)?, top.get(other, CAP_TYPE)?);
    if cap.is_some() && same.is_some() {
        return Err(Failure::invalid(name, format!("give '{name}' or '{other}', not both")));
    }
    let cap = cap.or(same);
    if cap == Some(0) {
        return Err(Failure::invalid(name, format!("'{name}' must be at least 1")));
    }
    Ok(cap)
}

#[cfg(test)]
mod tests;
