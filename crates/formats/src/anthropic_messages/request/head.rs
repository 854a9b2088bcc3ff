//! The head of a request, and what of it is billed beyond its text.
//!
//! Invariant: what a provider may bill is never told as less than it is. A field or a block that is
//! not known gives a surcharge, which a hard budget refuses; text that Anthropic adds of its own is
//! counted into the length.

use ::types::call::{HeadSpans, ModelHead};
use ::types::{Extras, Failure, ServiceTier};
use serde::Deserialize;

use super::{OUTPUT_CAP, cache, scan};
use crate::head::TopLevel;
use crate::json::missing;

/// Fields by which nothing is billed but the tokens of what they say.
const PLAIN: [&str; 17] = [
    "cache_control",
    "diagnostics",
    OUTPUT_CAP,
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];
/// Fields with prices of their own, and the values with which they ask for nothing that costs more:
/// tiers, speeds and regions have other rates, containers and tool servers are billed apart, what a
/// fallback or a compaction does is billed beside the answer, and a thread brings a history that is
/// not in the request.
/// <https://platform.claude.com/docs/en/about-claude/pricing>
const BILLED: [(&str, &[&str]); 9] = [
    ("service_tier", &["\"auto\"", "\"standard_only\""]),
    // The faster one is told as a tier.
    (SPEED, &["\"standard\"", FAST]),
    ("inference_geo", &[]),
    ("container", &[]),
    ("mcp_servers", &["[]"]),
    ("fallbacks", &["[]"]),
    ("fallback_credit_token", &[]),
    ("compaction", &[]),
    ("thread", &[]),
];
/// How fast it is to be answered, and the value that costs more.
const SPEED: &str = "speed";
const FAST: &str = "\"fast\"";
/// What becomes of an old history. How it is billed depends on the edits.
const MANAGEMENT: &str = "context_management";
/// Fields that act for, or bill, somebody whom the key does not name.
const OF_OTHERS: [&str; 2] = ["billing_policy", "user_profile_id"];

/// Tokens of the instructions that come with any tool. The most in Anthropic's table is 530.
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing>
const TOOLS_PROMPT: u64 = 1_024;
/// Tokens of a tool that Anthropic defines, such as its text editor: 1,234 for the longest, the
/// computer with its instructions.
const DEFINED_TOOL: u64 = 2_048;
/// Tokens of the instructions that come with a schema for the answer, beyond the schema.
const SHAPE_PROMPT: u64 = 1_024;

/// Reads what every stage needs. The output cap may be absent: counting takes none.
pub(in super::super) fn read_head(body: &[u8]) -> Result<ModelHead, Failure> {
    let top = TopLevel::read(body)?;
    // Some servers take it for one of ours, which we would not have read.
    top.refuse_imitations("", &known())?;
    refuse_others_money(&top)?;
    let messages = top.raw("messages").ok_or_else(|| missing("messages"))?;
    if !messages.get().starts_with('[') {
        let text = "invalid type for 'messages': expected an array of objects";
        return Err(Failure::invalid("messages", text));
    }
    let mut found = scan::messages(messages)?;
    if let Some(system) = top.raw("system") {
        found.join(scan::system(system)?);
    }
    let tools = top.raw("tools").map(scan::tools).transpose()?.unwrap_or_default();
    let marks = cache::marks(body);
    let extras = Extras {
        tier: (top.raw(SPEED).is_some_and(|raw| raw.get() == FAST))
            .then_some((ServiceTier::Fast, SPEED)),
        searches: (tools.searches > 0).then_some((tools.searches, "tools")),
    };
    let surcharge = billed_apart(&top)
        .or(tools.surcharge)
        .or(found.surcharge)
        .or_else(|| marks.unusual.then_some("cache_control"));
    let added = prompts_of(&top, &tools);
    Ok(ModelHead {
        model: top.model()?,
        stream: top.get("stream", "a boolean")?.unwrap_or(false),
        output_cap: top.get(OUTPUT_CAP, "a non-negative integer")?,
        choices: 1,
        include_usage: true,
        body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX).saturating_add(added),
        media: found.media,
        tools: tools.count > 0,
        surcharge,
        cache_writes: marks.asked,
        extras,
        spans: HeadSpans {
            model: top.span("model"),
            stream_options: None,
            output_cap: top.span(OUTPUT_CAP),
            insert_at: top.insert_at(),
        },
    })
}

/// Refuses what no key is allowed to ask for.
pub(super) fn refuse_others_money(top: &TopLevel<'_>) -> Result<(), Failure> {
    let asked = |name: &&str| top.raw(name).is_some_and(|raw| raw.get() != "null");
    match OF_OTHERS.into_iter().find(asked) {
        Some(name) => {
            let text =
                format!("'{name}' acts for somebody else, which no key here may: leave it out");
            Err(Failure::unsupported(name, text))
        }
        None => Ok(()),
    }
}

/// Every field of this API.
fn known() -> impl Iterator<Item = &'static str> + Clone {
    let billed = BILLED.into_iter().map(|(name, _)| name);
    PLAIN.into_iter().chain(billed).chain(OF_OTHERS).chain([MANAGEMENT])
}

/// The first field that is billed by other rates than those of a text token, or may be.
fn billed_apart(top: &TopLevel<'_>) -> Option<&'static str> {
    let given = |name: &str| top.raw(name).map(serde_json::value::RawValue::get);
    let asks = |name: &str, usual: &[&str]| {
        given(name).is_some_and(|text| text != "null" && !usual.contains(&text))
    };
    let named = BILLED.into_iter().find(|(name, usual)| asks(name, usual)).map(|(name, _)| name);
    named.or_else(|| edits_beyond_clearing(top)).or_else(|| {
        let mut fields = top.fields().filter(|(_, raw)| raw.get() != "null");
        fields.any(|(name, _)| known().all(|known| known != name)).then_some("unknown fields")
    })
}

#[derive(Deserialize)]
struct Management {
    #[serde(default)]
    edits: Option<Vec<Change>>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(rename = "type")]
    kind: String,
}

/// Clearing old results or thinking costs nothing; a compaction is billed as a request of its own.
fn edits_beyond_clearing(top: &TopLevel<'_>) -> Option<&'static str> {
    let raw = top.raw(MANAGEMENT)?;
    let read = serde_json::from_str::<Option<Management>>(raw.get());
    let clears = read.is_ok_and(|management| {
        let mut edits = management.and_then(|management| management.edits).into_iter().flatten();
        edits.all(|edit| edit.kind.starts_with("clear_"))
    });
    (!clears).then_some(MANAGEMENT)
}

/// Tokens at most of the text that Anthropic adds on account of what the request asks for.
fn prompts_of(top: &TopLevel<'_>, tools: &scan::Tools) -> u64 {
    let any = if tools.count > 0 { TOOLS_PROMPT } else { 0 };
    let shape = ["output_config", "output_format"].iter().any(|name| top.raw(name).is_some());
    let shape = if shape { SHAPE_PROMPT } else { 0 };
    tools.defined.saturating_mul(DEFINED_TOOL).saturating_add(any + shape)
}
