//! The head of a request, and what of it is billed beyond its text.
//!
//! Invariant: what a provider may bill is never told as less than it is. A field or a part that is
//! not known gives a surcharge, which a hard budget refuses. The model and whether the answer is
//! streamed are in the path: whoever took the request in fills them in.

use std::ops::Range;

use ::types::call::{HeadSpans, ModelHead};
use ::types::{CacheWrites, Extras, Failure, ServiceTier};
use serde_json::value::RawValue;

use super::scan::{self, Found};
use super::{CONFIG, COUNTED, OUTPUT_CAP};
use crate::head::{TopLevel, typed};
use crate::json::{join, missing};
use crate::object::camel;

/// Fields by which nothing is billed but the tokens of what they say.
const PLAIN: [&str; 9] = [
    "contents",
    CONFIG,
    COUNTED,
    "labels",
    "model",
    "safetySettings",
    "systemInstruction",
    "toolConfig",
    "tools",
];
/// Fields with prices of their own, and the values with which they ask for nothing that costs more:
/// what is cached elsewhere is not in the request, a tier has other rates, and a continuation bills
/// what came before it again.
const BILLED: [(&str, &[&str]); 3] = [
    ("cachedContent", &["\"\""]),
    // The dearer one is told as a tier.
    (TIER, &["\"standard\"", "\"flex\"", "\"unspecified\"", PRIORITY]),
    ("continuationToken", &[]),
];
/// How soon it is to be answered, and the value that costs more.
const TIER: &str = "serviceTier";
const PRIORITY: &str = "\"priority\"";
/// The same among the fields of `generationConfig`.
const CONFIG_PLAIN: [&str; 17] = [
    "candidateCount",
    "frequencyPenalty",
    "logprobs",
    OUTPUT_CAP,
    "presencePenalty",
    "responseJsonSchema",
    "_responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseSchema",
    "seed",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
    "enableEnhancedCivicAnswers",
];
/// Answers in pictures and in sound have rates of their own.
const CONFIG_BILLED: [(&str, &[&str]); 4] = [
    ("responseModalities", &["[]", "[\"TEXT\"]"]),
    ("speechConfig", &[]),
    ("imageConfig", &[]),
    ("mediaResolution", &["\"MEDIA_RESOLUTION_UNSPECIFIED\"", "\"MEDIA_RESOLUTION_LOW\""]),
];

/// Reads what every stage needs, but what is in the path.
pub(in super::super) fn read_head(body: &[u8]) -> Result<ModelHead, Failure> {
    let top = Names::of(TopLevel::read(body)?, "")?;
    // A request that is to be counted may be a whole one, in a field.
    let counted = top.raw(COUNTED).map(|raw| Names::read(raw, COUNTED)).transpose()?;
    let request = counted.as_ref().unwrap_or(&top);
    let contents = request.raw("contents").ok_or_else(|| missing(&request.path_of("contents")))?;
    let mut found = scan::contents(contents)?;
    if let Some(system) = request.raw("systemInstruction") {
        found.join(scan::system(system)?);
    }
    let tools = request.raw("tools").map(scan::tools).transpose()?.unwrap_or_default();
    let config = match request.raw(CONFIG) {
        Some(raw) => Config::read(raw, &request.path_of(CONFIG))?,
        None => Config::default(),
    };
    let billed = request.billed(&PLAIN, &BILLED).or(config.surcharge).or(tools.surcharge);
    let is_dear = request.raw(TIER).is_some_and(|raw| raw.get() == PRIORITY);
    let tier = is_dear.then_some((ServiceTier::Priority, TIER));
    let place = |span: Option<Range<usize>>, inside: Option<Range<usize>>| {
        let (start, inside) = (span?.start, inside?);
        Some(start + inside.start..start + inside.end)
    };
    let of_counted = counted.as_ref().and_then(|counted| counted.fields.span("model"));
    Ok(ModelHead {
        model: String::new(),
        stream: false,
        output_cap: config.cap,
        choices: config.choices.unwrap_or(1).max(1),
        include_usage: true,
        body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        media: found.media,
        tools: tools.any,
        surcharge: billed.or(found.surcharge),
        cache_writes: CacheWrites::Unread,
        extras: Extras { tier, ..Extras::default() },
        spans: HeadSpans {
            model: match counted {
                Some(_) => place(top.span(COUNTED), of_counted),
                None => top.span("model"),
            },
            stream_options: None,
            output_cap: place(request.span(CONFIG), config.cap_span),
            insert_at: top.fields.insert_at(),
        },
    })
}

/// The fields of an object, which may be spelt in either way.
struct Names<'a> {
    fields: TopLevel<'a>,
    path: &'static str,
}

impl<'a> Names<'a> {
    fn read(raw: &'a RawValue, path: &'static str) -> Result<Self, Failure> {
        if !raw.get().starts_with('{') {
            let text = format!("invalid type for '{path}': expected an object");
            return Err(Failure::invalid(path, text));
        }
        Self::of(TopLevel::read(raw.get().as_bytes())?, path)
    }

    fn of(fields: TopLevel<'a>, path: &'static str) -> Result<Self, Failure> {
        for (index, (name, _)) in fields.fields().enumerate() {
            let name = camel(name);
            if fields.fields().take(index).any(|(earlier, _)| camel(earlier) == name) {
                let path = join(path, &name);
                return Err(Failure::invalid(path.as_str(), format!("'{path}' is given twice")));
            }
        }
        Ok(Self { fields, path })
    }

    fn path_of(&self, name: &str) -> String {
        join(self.path, name)
    }

    fn given(&self, name: &str) -> Option<&str> {
        self.fields.fields().map(|(given, _)| given).find(|given| camel(given) == name)
    }

    /// A field's value, if it is not `null`.
    fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.raw(self.given(name)?).filter(|raw| raw.get() != "null")
    }

    /// Where its value stands, `null` included.
    fn span(&self, name: &str) -> Option<Range<usize>> {
        self.fields.span(self.given(name)?)
    }

    /// The first field that is billed by other rates than those of a text token, or may be.
    fn billed(&self, plain: &[&str], billed: &[(&'static str, &[&str])]) -> Option<&'static str> {
        let mut named = billed.iter().filter_map(|(name, usual)| {
            self.raw(name).filter(|raw| !usual.contains(&raw.get())).map(|_| *name)
        });
        let known =
            |name: &str| plain.contains(&name) || billed.iter().any(|(billed, _)| *billed == name);
        named.next().or_else(|| {
            let mut fields = self.fields.fields().filter(|(_, raw)| raw.get() != "null");
            fields.any(|(name, _)| !known(&camel(name))).then_some("unknown fields")
        })
    }
}

/// What `generationConfig` says of the bill.
#[derive(Default)]
struct Config {
    cap: Option<u64>,
    cap_span: Option<Range<usize>>,
    choices: Option<u64>,
    surcharge: Option<&'static str>,
}

impl Config {
    fn read(raw: &RawValue, path: &str) -> Result<Self, Failure> {
        let names = Names::read(raw, CONFIG)?;
        let number = |name: &str| {
            let raw = names.raw(name);
            let read = raw.map(|raw| typed(raw, &join(path, name), "a non-negative integer"));
            read.transpose().map(Option::flatten)
        };
        Ok(Self {
            cap: number(OUTPUT_CAP)?,
            cap_span: names.span(OUTPUT_CAP),
            choices: number("candidateCount")?,
            surcharge: names.billed(&CONFIG_PLAIN, &CONFIG_BILLED),
        })
    }
}

impl Found {
    /// Takes in what was found elsewhere.
    pub(super) fn join(&mut self, other: Self) {
        self.media = self.media.saturating_add(other.media);
        self.surcharge = self.surcharge.or(other.surcharge);
    }
}
