//! What an answer says at its end, both ways: the usage and why the model stopped.
//!
//! Anthropic counts what it read from its cache and what it wrote there beside the input, not in
//! it; the neutral form has one total. In a stream the counts of the end replace those of the
//! beginning, and a count that the end leaves out keeps its value. A usage that can't be read, or
//! that needs several prices, is no usage: a wrong bill is worse than none.

use std::borrow::Cow;

use ::types::outcome::Finish;
use ::types::outcome::Stop;
use ::types::usage::{More, ServiceTier, Usage};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What a provider has counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    input: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
    written_1h: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
    searches: Option<u64>,
    tier: Option<ServiceTier>,
    /// There is something that these counts don't say.
    unclear: bool,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(flatten)]
    counts: Counts,
    #[serde(default)]
    server_tool_use: Option<ServerToolUse>,
    #[serde(borrow, default)]
    service_tier: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    speed: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    iterations: Option<Vec<Iteration<'a>>>,
}

impl Body<'_> {
    /// The tier at which it says that it was answered. What Anthropic calls priority is paid in
    /// advance, and has no price by the token: it is counted as usual.
    fn tier(&self) -> Option<ServiceTier> {
        match (self.speed.as_deref(), self.service_tier.as_deref()) {
            (Some("fast"), _) => Some(ServiceTier::Fast),
            (_, Some("batch")) => Some(ServiceTier::Batch),
            (None, None) => None,
            _ => Some(ServiceTier::Standard),
        }
    }
}

/// What was run beside the model.
#[derive(Deserialize)]
struct ServerToolUse {
    #[serde(default)]
    web_search_requests: Option<u64>,
}

/// Counts, of an answer or of one of the steps that made it.
#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation: Option<CacheCreation>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

/// What was written, by how long it is kept.
#[derive(Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_5m_input_tokens: Option<u64>,
    #[serde(default)]
    ephemeral_1h_input_tokens: Option<u64>,
}

impl CacheCreation {
    /// All that was written, if it says any.
    fn sum(&self) -> Option<u64> {
        let parts = [self.ephemeral_5m_input_tokens, self.ephemeral_1h_input_tokens];
        parts.into_iter().flatten().reduce(u64::saturating_add)
    }
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Iteration<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    model: Option<IgnoredAny>,
    #[serde(flatten)]
    counts: Counts,
}

impl Iteration<'_> {
    fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind) && self.model.is_none()
    }
}

impl Counted {
    /// Takes the counts of a whole answer, or of the end of one that is streamed.
    pub(crate) fn take(&mut self, usage: Option<&RawValue>) {
        let Some(usage) = usage else { return };
        let Ok(body) = serde_json::from_str::<Option<Body<'_>>>(usage.get()) else {
            self.unclear = true;
            return;
        };
        let Some(body) = body else { return };
        self.counts(&body.counts);
        let ran = body.server_tool_use.as_ref();
        self.searches = ran.and_then(|ran| ran.web_search_requests).or(self.searches);
        self.tier = body.tier().or(self.tier);
        let steps = body.iterations.unwrap_or_default();
        // Other kinds of steps may be of other models, each with prices of its own.
        self.unclear |= !steps.iter().all(|step| step.is("message") || step.is("compaction"));
        if steps.iter().any(|step| step.is("compaction")) {
            // The totals leave a compaction out: all steps together are the bill.
            let sum = steps.iter().try_fold(Self::default(), |sum, step| sum.plus(&step.counts));
            self.unclear |= sum.is_none();
            let Self { unclear, searches, tier, .. } = *self;
            *self = Self { unclear, searches, tier, ..sum.unwrap_or_default() };
        }
    }

    /// Takes what is said; the rest keeps its value.
    fn counts(&mut self, said: &Counts) {
        self.input = said.input_tokens.or(self.input);
        self.read = said.cache_read_input_tokens.or(self.read);
        let by_time = said.cache_creation.as_ref();
        let written = said.cache_creation_input_tokens;
        self.written = written.or_else(|| by_time?.sum()).or(self.written);
        let hour = by_time.and_then(|written| written.ephemeral_1h_input_tokens);
        self.written_1h = hour.or(self.written_1h);
        self.output = said.output_tokens.or(self.output);
        let details = said.output_tokens_details.as_ref();
        self.thinking = details.and_then(|details| details.thinking_tokens).or(self.thinking);
    }

    /// Both together; `None` if the step does not say what it took.
    fn plus(&self, step: &Counts) -> Option<Self> {
        let mut its = Self::default();
        its.counts(step);
        let (_, _) = (its.input?, its.output?);
        let sum = |one: Option<u64>, other: Option<u64>| {
            [one, other].into_iter().flatten().reduce(u64::saturating_add)
        };
        Some(Self {
            input: sum(self.input, its.input),
            read: sum(self.read, its.read),
            written: sum(self.written, its.written),
            written_1h: sum(self.written_1h, its.written_1h),
            output: sum(self.output, its.output),
            thinking: sum(self.thinking, its.thinking),
            ..Self::default()
        })
    }

    /// Takes the counts of a stream's beginning: what it says of the output is no total.
    pub(crate) fn take_first(&mut self, usage: Option<&RawValue>) {
        self.take(usage);
        self.output = None;
        self.thinking = None;
    }

    /// The usage, if all of it is known. A detail that is larger than its total is cut to it.
    pub(crate) fn usage(&self) -> Option<Usage> {
        if self.unclear {
            return None;
        }
        let (read, written) = (self.read.unwrap_or(0), self.written.unwrap_or(0));
        let output = self.output?;
        Some(Usage {
            input_tokens: self.input?.saturating_add(read).saturating_add(written),
            cached_tokens: read,
            cache_write_tokens: written,
            cache_write_1h_tokens: self.written_1h.unwrap_or(0).min(written),
            output_tokens: output,
            reasoning_tokens: self.thinking.unwrap_or(0).min(output),
            more: More {
                searches: self.searches.unwrap_or(0),
                service_tier: self.tier.unwrap_or_default(),
                ..More::default()
            },
        })
    }
}

/// A `usage` object. SDKs need one in every answer, so one that nobody counted is all zeros.
pub(crate) fn usage_object(usage: Option<&Usage>) -> Value {
    let usage = usage.copied().unwrap_or_default();
    let beside = usage.cached_tokens.saturating_add(usage.cache_write_tokens);
    let hour = usage.cache_write_1h_tokens;
    let mut object = json!({
        "input_tokens": usage.input_tokens.saturating_sub(beside),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    });
    if let (1.., Value::Object(fields)) = (hour, &mut object) {
        let minutes = usage.cache_write_tokens.saturating_sub(hour);
        let written =
            json!({ "ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour });
        fields.insert("cache_creation".to_owned(), written);
    }
    if let (1.., Value::Object(fields)) = (usage.reasoning_tokens, &mut object) {
        let details = json!({ "thinking_tokens": usage.reasoning_tokens });
        fields.insert("output_tokens_details".to_owned(), details);
    }
    object
}

/// A turn that the provider paused, to be sent back for more: no other format can say it.
pub(crate) const PAUSED: &str = "pause_turn";

/// Why the model stopped. A reason that is not known is an end: the answer is whole all the same.
pub(crate) fn stop_of(reason: &str) -> Stop {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "tool_use" => Stop::ToolCalls,
        "refusal" => Stop::ContentFilter,
        _ => Stop::End,
    }
}

/// The `stop_reason` and the `stop_sequence`. Some servers end an answer that calls tools as any
/// other; this format's clients then would not run them.
pub(crate) fn reason_of(finish: &Finish, calls_tools: bool) -> (&'static str, Option<&str>) {
    match (finish.stop, finish.stop_text.as_deref()) {
        (Stop::End, Some(text)) => ("stop_sequence", Some(text)),
        (Stop::End, None) if calls_tools => ("tool_use", None),
        (Stop::End, None) => ("end_turn", None),
        (Stop::Length, _) => ("max_tokens", None),
        (Stop::ToolCalls, _) => ("tool_use", None),
        (Stop::ContentFilter, _) => ("refusal", None),
    }
}
