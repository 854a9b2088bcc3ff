//! The head of a request, and what of it is billed beyond its text.
//!
//! Invariant: what a provider may bill is never told as less than it is. A field or a block that is
//! not known gives a surcharge, which a hard budget refuses.

use ::types::call::{HeadSpans, ModelHead};
use ::types::{CacheWrites, Extras, Failure};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{INFERENCE, OUTPUT_CAP};
use crate::escapes::has_escaped_letters;
use crate::head::TopLevel;
use crate::json::missing;

/// Fields by which nothing is billed but the tokens of what they say.
const PLAIN: [&str; 8] = [
    "additionalModelResponseFieldPaths",
    "inferenceConfig",
    "messages",
    "outputConfig",
    "requestMetadata",
    "system",
    "toolConfig",
    // What stands in it is the model's vendor's; what of it costs is looked at apart.
    ADDITIONAL,
];
const ADDITIONAL: &str = "additionalModelRequestFields";
/// Fields with prices of their own, or whose text stands elsewhere, and the values with which they
/// ask for nothing that costs more.
const BILLED: [(&str, &[&str]); 4] = [
    ("guardrailConfig", &[]),
    ("performanceConfig", &[r#"{"latency":"standard"}"#]),
    ("promptVariables", &["{}"]),
    ("serviceTier", &[r#"{"type":"default"}"#]),
];
/// Fields of models' vendors that cost nothing but tokens.
const ADDITIONAL_PLAIN: [&str; 6] =
    ["anthropic_version", "output_config", "reasoning", "reasoning_effort", "thinking", "top_k"];

/// Reads what every stage needs. The model and the stream are in the path, and left empty.
pub(in super::super) fn read_head(body: &[u8]) -> Result<ModelHead, Failure> {
    let top = TopLevel::read(body)?;
    top.refuse_imitations("", &known())?;
    let messages = top.raw("messages").ok_or_else(|| missing("messages"))?;
    if !messages.get().starts_with('[') {
        let text = "invalid type for 'messages': expected an array of objects";
        return Err(Failure::invalid("messages", text));
    }
    let (output_cap, span) = cap(&top, body)?;
    let mut found = Found::default();
    found.messages(messages);
    if let Some(system) = top.raw("system") {
        found.blocks(system, "system");
    }
    let tools = top.raw("toolConfig");
    Ok(ModelHead {
        model: String::new(),
        stream: false,
        output_cap,
        choices: 1,
        include_usage: true,
        body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        media: found.media,
        tools: tools.is_some(),
        surcharge: billed_apart(&top)
            .or_else(|| tools.filter(|tools| !are_clients(tools)).map(|_| "toolConfig"))
            .or(found.surcharge),
        cache_writes: marks(body),
        extras: Extras::default(),
        spans: HeadSpans {
            model: None,
            stream_options: None,
            output_cap: span,
            insert_at: top.insert_at(),
        },
    })
}

/// The block that marks what is to be kept in the provider's prompt cache.
const MARK: &str = "cachePoint";

/// What is marked to be kept. What escapes may hide is taken to be dear, and what looks like the
/// longer of the two lifetimes is taken for it.
fn marks(body: &[u8]) -> CacheWrites {
    let has = |text: &[u8]| memchr::memmem::find(body, text).is_some();
    if has_escaped_letters(body) {
        return CacheWrites::Hour;
    }
    match has(MARK.as_bytes()) {
        false => CacheWrites::Unmarked,
        true if has(b"1h") => CacheWrites::Hour,
        true => CacheWrites::Minutes,
    }
}

/// The output cap and where it stands.
fn cap(
    top: &TopLevel<'_>,
    body: &[u8],
) -> Result<(Option<u64>, Option<std::ops::Range<usize>>), Failure> {
    let Some(span) = top.span(INFERENCE) else { return Ok((None, None)) };
    let inner = body.get(span.clone()).unwrap_or_default();
    if !inner.starts_with(b"{") {
        return Ok((None, None));
    }
    let inner = TopLevel::read(inner)?;
    inner.refuse_imitations(INFERENCE, &[OUTPUT_CAP])?;
    let cap = inner.get(OUTPUT_CAP, "a positive integer")?;
    let place =
        inner.span(OUTPUT_CAP).map(|found| span.start + found.start..span.start + found.end);
    Ok((cap, place))
}

/// Every field of this API.
fn known() -> impl Iterator<Item = &'static str> + Clone {
    PLAIN.into_iter().chain(BILLED.into_iter().map(|(name, _)| name))
}

/// The first field that is billed by other rates than those of a text token, or may be.
fn billed_apart(top: &TopLevel<'_>) -> Option<&'static str> {
    let asks = |(name, usual): &(&'static str, &[&str])| {
        let given = top.raw(name).map(RawValue::get);
        given.is_some_and(|text| text != "null" && !usual.contains(&text))
    };
    let named = BILLED.iter().find(|field| asks(field)).map(|(name, _)| *name);
    named.or_else(|| of_the_vendor(top)).or_else(|| {
        let mut fields = top.fields().filter(|(_, raw)| raw.get() != "null");
        fields.any(|(name, _)| known().all(|known| known != name)).then_some("unknown fields")
    })
}

/// A field for the model's vendor of which nobody knows what it costs.
fn of_the_vendor(top: &TopLevel<'_>) -> Option<&'static str> {
    let raw = top.raw(ADDITIONAL).filter(|raw| raw.get() != "null")?;
    let plain = TopLevel::read(raw.get().as_bytes())
        .is_ok_and(|inner| inner.fields().all(|(name, _)| ADDITIONAL_PLAIN.contains(&name)));
    (!plain).then_some(ADDITIONAL)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ToolConfig<'a> {
    #[serde(borrow, default, rename = "tools")]
    _tools: Vec<Tool<'a>>,
    #[serde(default, rename = "toolChoice")]
    _tool_choice: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Tool<'a> {
    #[serde(borrow, default, rename = "toolSpec")]
    _tool_spec: Option<&'a RawValue>,
    #[serde(default, rename = "cachePoint")]
    _cache_point: Option<IgnoredAny>,
}

/// Whether every tool is one that the client runs: the provider's own bill apart.
fn are_clients(tools: &RawValue) -> bool {
    serde_json::from_str::<Option<ToolConfig<'_>>>(tools.get()).is_ok()
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// A block: what is not known of it makes it unreadable.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Block<'a> {
    #[serde(default, rename = "text")]
    _text: Option<IgnoredAny>,
    #[serde(default)]
    image: Option<IgnoredAny>,
    #[serde(default)]
    document: Option<IgnoredAny>,
    #[serde(default)]
    video: Option<IgnoredAny>,
    #[serde(default)]
    audio: Option<IgnoredAny>,
    #[serde(default, rename = "toolUse")]
    _tool_use: Option<IgnoredAny>,
    #[serde(borrow, default)]
    tool_result: Option<ToolResult<'a>>,
    #[serde(default, rename = "json")]
    _json: Option<IgnoredAny>,
    #[serde(default, rename = "reasoningContent")]
    _reasoning_content: Option<IgnoredAny>,
    #[serde(default, rename = "searchResult")]
    _search_result: Option<IgnoredAny>,
    #[serde(default, rename = "citationsContent")]
    _citations_content: Option<IgnoredAny>,
    #[serde(default, rename = "cachePoint")]
    _cache_point: Option<IgnoredAny>,
    #[serde(default)]
    guard_content: Option<IgnoredAny>,
    #[serde(default, rename = "toolAddition")]
    _tool_addition: Option<IgnoredAny>,
    #[serde(default, rename = "toolRemoval")]
    _tool_removal: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ToolResult<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// What was found in messages.
#[derive(Default)]
struct Found {
    media: u32,
    surcharge: Option<&'static str>,
}

impl Found {
    fn messages(&mut self, raw: &RawValue) {
        match serde_json::from_str::<Vec<Message<'_>>>(raw.get()) {
            Ok(messages) => {
                for content in messages.iter().filter_map(|message| message.content) {
                    self.blocks(content, "content");
                }
            }
            Err(_) => self.surcharge = self.surcharge.or(Some("messages")),
        }
    }

    fn blocks(&mut self, raw: &RawValue, name: &'static str) {
        let Ok(blocks) = serde_json::from_str::<Option<Vec<Block<'_>>>>(raw.get()) else {
            self.media = self.media.saturating_add(1);
            self.surcharge = self.surcharge.or(Some(name));
            return;
        };
        for block in blocks.into_iter().flatten() {
            // Pages, seconds and guardrails have no bound; an image has one.
            let mut one = |found: bool, surcharge| {
                if found {
                    self.media = self.media.saturating_add(1);
                    self.surcharge = self.surcharge.or(surcharge);
                }
            };
            one(block.image.is_some(), None);
            one(block.document.is_some(), Some("document"));
            one(block.video.is_some(), Some("video"));
            one(block.audio.is_some(), Some("audio"));
            one(block.guard_content.is_some(), Some("guardContent"));
            if let Some(content) = block.tool_result.and_then(|result| result.content) {
                self.blocks(content, "content");
            }
        }
    }
}
