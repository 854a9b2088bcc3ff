//! What every stage needs of a create request, in one pass and without a tree.
//!
//! Here too it is told whose request it is: one that keeps nothing, continues nothing that is kept
//! and has no tool that is run here is one plain Call, whose bytes may pass through. All else is a
//! session's business. What nobody can bound of a request that passes is named as in chat
//! completions: what a provider runs or looks up of its own has no bound.

use ::types::call::{HeadSpans, ModelHead};
use ::types::surcharge::{FIELDS, surcharge};
use ::types::{CacheWrites, Extras, Failure};
use serde_json::value::RawValue;

use crate::head::TopLevel;
use crate::items::{CACHE_CONTROL, Items, Tools, items_in, not_reachable, tools_in};
use crate::media::is_long_mark;

/// The field of the output cap.
const OUTPUT_CAP: &str = "max_output_tokens";
const CAP_TYPE: &str = "a positive integer";
/// The fields that are read here.
const READ: [&str; 12] = [
    "model",
    "instructions",
    CACHE_CONTROL,
    "input",
    OUTPUT_CAP,
    "stream",
    "tools",
    "store",
    "background",
    "previous_response_id",
    "conversation",
    "reasoning",
];
/// What costs more than can be told from the request, beside what every format names: what is kept
/// at the provider, what it makes of a history, how long it caches; other names of the output cap,
/// and a number of answers, of which this API has none.
const BILLED: [&str; 6] = [
    "prompt",
    "context_management",
    "prompt_cache_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
];
/// Values with which such a field asks for nothing.
const NOTHING: [&str; 4] = ["null", "[]", "{}", "1"];

/// A create request, as far as it is read here.
pub(super) struct Read {
    /// What every stage needs.
    pub(super) head: ModelHead,
    /// Whether it is one plain Call.
    pub(super) is_plain: bool,
}

/// Reads a create request.
///
/// # Errors
/// A 400 that names the field.
pub(super) fn read(body: &[u8]) -> Result<Read, Failure> {
    let top = TopLevel::read(body)?;
    top.refuse_imitations("", &READ.iter().chain(&BILLED).chain(&FIELDS).copied())?;
    let output_cap: Option<u64> = top.get(OUTPUT_CAP, CAP_TYPE)?;
    if output_cap == Some(0) {
        let text = format!("'{OUTPUT_CAP}' must be at least 1");
        return Err(Failure::invalid(OUTPUT_CAP, text));
    }
    let is_list = |raw: &&RawValue| raw.get().starts_with('[');
    let items = top.raw("input").filter(is_list);
    let items = items.map(|items| items_in(items, "input")).transpose()?.unwrap_or_default();
    let tools = tools_in(top.raw("tools"), "tools")?;
    let head = ModelHead {
        model: top.model()?,
        stream: top.get("stream", "a boolean")?.unwrap_or(false),
        output_cap,
        choices: 1,
        include_usage: true,
        body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        media: items.media.count,
        tools: tools.any,
        surcharge: billed_apart(&top)?.or(tools.unbounded).or(items.unbounded),
        cache_writes: CacheWrites::Unread,
        extras: Extras::default(),
        spans: HeadSpans {
            model: top.span("model"),
            stream_options: None,
            output_cap: top.span(OUTPUT_CAP),
            insert_at: top.insert_at(),
        },
    };
    let is_plain = is_plain(&top, &items, tools)?;
    if is_plain {
        refuse_kept(&top, &items)?;
    }
    Ok(Read { head, is_plain })
}

/// Refuses what names things that the operator's own account at a provider holds: any key could
/// read them by their ids.
fn refuse_kept(top: &TopLevel<'_>, items: &Items) -> Result<(), Failure> {
    let has_prompt = top.raw("prompt").is_some_and(|raw| raw.get() != "null");
    let kept = has_prompt.then_some("prompt").or(items.media.kept);
    kept.map_or(Ok(()), |name| Err(not_reachable(name.to_owned())))
}

/// Whether it is one plain Call.
fn is_plain(top: &TopLevel<'_>, items: &Items, tools: Tools) -> Result<bool, Failure> {
    let has = |name: &str| top.raw(name).is_some_and(|raw| raw.get() != "null");
    let stored = top.get("store", "a boolean")?.unwrap_or(true);
    let background = top.get("background", "a boolean")?.unwrap_or(false);
    let kept = stored || background || has("previous_response_id") || has("conversation");
    // Calls of a server whose tools the provider does not run were made here.
    let ours = tools.ours || items.refers || (items.mcp && !tools.remote);
    Ok(!kept && !ours)
}

/// The first field whose cost nobody knows.
fn billed_apart(top: &TopLevel<'_>) -> Result<Option<&'static str>, Failure> {
    let billed = surcharge(|name| {
        let raw = top.raw(name).filter(|_| name != OUTPUT_CAP)?;
        Some(raw.get().into())
    });
    let asked = |name: &&'static str| {
        let spoken = |raw: &RawValue| raw.get().split_ascii_whitespace().collect::<String>();
        top.raw(name).is_some_and(|raw| !NOTHING.contains(&spoken(raw).as_str()))
    };
    if let Some(name) = billed.or_else(|| BILLED.into_iter().find(asked)) {
        return Ok(Some(name));
    }
    if top.raw(CACHE_CONTROL).is_some_and(|raw| is_long_mark(CACHE_CONTROL, raw)) {
        return Ok(Some(CACHE_CONTROL));
    }
    // Text, or what is told of above; of what is neither nobody knows what it is taken for.
    let is_text = |raw: &RawValue| raw.get().starts_with('"') || raw.get() == "null";
    if top.raw("instructions").is_some_and(|raw| !is_text(raw)) {
        return Ok(Some("instructions"));
    }
    if top.raw("input").is_some_and(|raw| !is_text(raw) && !raw.get().starts_with('[')) {
        return Ok(Some("input"));
    }
    let Some(reasoning) = top.raw("reasoning").filter(|raw| raw.get() != "null") else {
        return Ok(None);
    };
    let wrong =
        |_| Failure::invalid("reasoning", "invalid type for 'reasoning': expected an object");
    let reasoning = TopLevel::read(reasoning.get().as_bytes()).map_err(wrong)?;
    reasoning.refuse_imitations("reasoning", &["mode"])?;
    // Some modes have a model think several times over.
    let usual = ["null", "\"auto\"", "\"default\"", "\"standard\""];
    let mode = reasoning.raw("mode").filter(|mode| !usual.contains(&mode.get()));
    Ok(mode.map(|_| "reasoning.mode"))
}
