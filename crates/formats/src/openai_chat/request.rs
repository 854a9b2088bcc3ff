//! Requests: the head in one pass, byte-exact edits, and the way to and from the neutral form.
//!
//! [`read_head`] and [`patch`] are the hot path of a pass-through and build no tree: the head
//! remembers where the few editable values stand, and an edit copies every other byte as it came.
//! [`parse`] and [`render`] are for crossings, where formats differ.

mod parse;
pub(super) mod quirks;
mod render;

use std::ops::Range;

use ::types::call::{HeadSpans, ModelHead};
use ::types::format::Edits;
use ::types::surcharge::{FIELDS, surcharge};
use ::types::{CacheWrites, Extras, Failure, ServiceTier};
use bytes::Bytes;

pub(crate) use parse::parse;
pub(crate) use render::{reasoning_effort, render};

use crate::edit::{Edit, apply, put, text};
use crate::head::{TopLevel, typed};
use crate::media::{media_in, tools_in};

/// Answers to one request at most, as OpenAI has it.
const CHOICES_MAX: u64 = 128;
/// The field of the output cap that is set where the client gave none.
const OUTPUT_CAP: &str = "max_completion_tokens";
/// The field that asks for log probabilities.
const LOGPROBS: &str = "logprobs";
/// The older name of the same.
const OUTPUT_CAP_OLD: &str = "max_tokens";
const CAP_TYPE: &str = "a positive integer";
/// The fields that are read here.
const READ: [&str; 8] =
    ["model", "messages", OUTPUT_CAP, OUTPUT_CAP_OLD, "n", "stream", "stream_options", "tools"];

/// Reads what every stage needs.
pub(crate) fn read_head(body: &[u8]) -> Result<ModelHead, Failure> {
    let top = TopLevel::read(body)?;
    top.refuse_imitations("", &READ.iter().chain(&FIELDS).copied())?;
    let (output_cap, cap_span) = read_cap(&top)?;
    let choices = top.get("n", CAP_TYPE)?.unwrap_or(1);
    if choices == 0 || choices > CHOICES_MAX {
        return Err(Failure::invalid("n", format!("'n' must be between 1 and {CHOICES_MAX}")));
    }
    let messages = top.raw("messages").ok_or_else(|| crate::json::missing("messages"))?;
    if !messages.get().starts_with('[') {
        let text = "invalid type for 'messages': expected an array of objects";
        return Err(Failure::invalid("messages", text));
    }
    let media = media_in(messages, "messages")?;
    let tools = tools_in(top.raw("tools"))?;
    let extras = extras_of(&top);
    // What a price may say is no surcharge.
    let is_extra = |name| extras.tier.is_some_and(|(_, field)| field == name);
    let billed_apart =
        surcharge(|name| Some(top.raw(name).filter(|_| !is_extra(name))?.get().into()));
    Ok(ModelHead {
        model: top.model()?,
        stream: top.get("stream", "a boolean")?.unwrap_or(false),
        output_cap,
        choices,
        include_usage: asks_usage(&top)?,
        body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        media: media.count,
        tools: tools.any || top.raw("functions").is_some(),
        surcharge: billed_apart.or(tools.unbounded).or(media.unbounded),
        cache_writes: CacheWrites::Unread,
        extras,
        spans: HeadSpans {
            model: top.span("model"),
            stream_options: top.span("stream_options"),
            output_cap: cap_span,
            insert_at: top.insert_at(),
        },
    })
}

/// What it asks for that only some prices say.
fn extras_of(top: &TopLevel<'_>) -> Extras {
    const TIER: &str = "service_tier";
    let is_dear = top.raw(TIER).is_some_and(|raw| raw.get() == "\"priority\"");
    let tier = is_dear.then_some((ServiceTier::Priority, TIER));
    Extras { tier, ..Extras::default() }
}

/// The cap, and the place of the field that an edit replaces: the one that counts, else one that is
/// `null`.
fn read_cap(top: &TopLevel<'_>) -> Result<(Option<u64>, Option<Range<usize>>), Failure> {
    let new: Option<u64> = top.get(OUTPUT_CAP, CAP_TYPE)?;
    let old: Option<u64> = top.get(OUTPUT_CAP_OLD, CAP_TYPE)?;
    let name = match (new, old) {
        (Some(_), Some(_)) => {
            let text = format!("give '{OUTPUT_CAP}' or '{OUTPUT_CAP_OLD}', not both");
            return Err(Failure::invalid(OUTPUT_CAP_OLD, text));
        }
        (None, Some(_)) => OUTPUT_CAP_OLD,
        (None, None) if top.raw(OUTPUT_CAP).is_none() => OUTPUT_CAP_OLD,
        _ => OUTPUT_CAP,
    };
    let cap = new.or(old);
    if cap == Some(0) {
        return Err(Failure::invalid(name, format!("'{name}' must be at least 1")));
    }
    Ok((cap, top.span(name)))
}

fn asks_usage(top: &TopLevel<'_>) -> Result<bool, Failure> {
    const PATH: &str = "stream_options";
    let Some(raw) = top.raw(PATH) else { return Ok(false) };
    let wrong = || Failure::invalid(PATH, "invalid type for 'stream_options': expected an object");
    if raw.get() == "null" {
        return Ok(false);
    }
    let options = TopLevel::read(raw.get().as_bytes()).map_err(|_| wrong())?;
    options.refuse_imitations(PATH, &["include_usage"])?;
    let asked = options.raw("include_usage");
    let asked = asked.map(|raw| typed(raw, "stream_options.include_usage", "a boolean"));
    Ok(asked.transpose()?.flatten().unwrap_or(false))
}

/// Replaces only what `edits` names. Bytes that need no edit are shared, not copied.
pub(crate) fn patch(raw: &Bytes, head: &ModelHead, edits: &Edits<'_>) -> Bytes {
    let mut list: Vec<Edit> = Vec::with_capacity(3);
    let spans = &head.spans;
    if edits.model != head.model {
        let value = text(edits.model);
        list.push(put(spans.model.clone(), "model", value, spans.insert_at));
    }
    quirks::cap_edits(raw, head, edits, &mut list);
    if quirks::of(edits).no_stream_options {
        list.extend(quirks::without_stream_options(raw, spans));
    } else if edits.request_usage && edits.stream && !head.include_usage {
        list.push(usage_edit(raw, spans));
    }
    if edits.logprobs && quirks::has_logprobs(edits) && !mentions_logprobs(raw) {
        list.push(put(None, LOGPROBS, b"true".to_vec(), spans.insert_at));
    }
    apply(raw, list)
}

/// Whether the client says something of them itself. Quotes inside JSON strings are escaped, so
/// that no text can look like it.
fn mentions_logprobs(raw: &[u8]) -> bool {
    memchr::memmem::find(raw, b"\"logprobs\"").is_some()
}

/// Asks for the usage: in the client's `stream_options` if there are some, else in new ones.
fn usage_edit(raw: &Bytes, spans: &HeadSpans) -> Edit {
    const ASK: &[u8] = br#"{"include_usage":true}"#;
    let given = spans.stream_options.as_ref().and_then(|span| Some((span, raw.get(span.clone())?)));
    let Some((span, found)) = given.filter(|(_, found)| found.first() == Some(&b'{')) else {
        let value = ASK.to_vec();
        return put(spans.stream_options.clone(), "stream_options", value, spans.insert_at);
    };
    let Ok(inner) = TopLevel::read(found) else { return (span.clone(), ASK.to_vec()) };
    let start = span.start;
    if let Some(value) = inner.span("include_usage") {
        return (start + value.start..start + value.end, b"true".to_vec());
    }
    let empty = found.get(1..).is_none_or(|rest| rest.trim_ascii_start() == b"}");
    let field: &[u8] = if empty { br#""include_usage":true"# } else { br#""include_usage":true,"# };
    (start + 1..start + 1, field.to_vec())
}

#[cfg(test)]
mod tests;
