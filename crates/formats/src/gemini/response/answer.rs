//! What an answer says, chunk by chunk: its parts, why the model stopped, and the usage.
//!
//! Google counts thoughts beside the answer and what tools put into the prompt beside the prompt;
//! the neutral form has one total each. Every chunk of a stream may have counts, and the last ones
//! count. A reason that is no end is none: an answer that is to be continued would look whole in
//! another format.

use std::borrow::Cow;
use std::fmt::Write;

use ::types::error::Billed;
use ::types::outcome::{Delta, Finish, Stop};
use ::types::usage::{More, ServiceTier, Usage};
use ::types::{ErrorCode, Failure};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::gemini::NAME;
use crate::gemini::request::MADE_ID;
use crate::whole::failed;

/// Calls in one answer at most.
const CALLS_MAX: u32 = 1_024;
/// Candidates of one answer at most; Google gives eight.
const CANDIDATES_MAX: usize = 64;
/// Bytes of an id that is made for a call without one: 24 hexadecimal digits.
const ID_BYTES: usize = 12;

/// A chunk of a stream, or a whole answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chunk<'a> {
    #[serde(borrow, default)]
    candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow, default)]
    prompt_feedback: Option<Feedback<'a>>,
    /// Read apart: what can't be read is no usage, and the answer is one all the same.
    #[serde(borrow, default)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(default)]
    model_version: Option<String>,
    #[serde(borrow, default)]
    response_id: Option<Cow<'a, str>>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    finish_message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    grounding_metadata: Option<Grounding<'a>>,
}

/// What was searched for the answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding<'a> {
    #[serde(borrow, default)]
    web_search_queries: Option<Vec<Cow<'a, str>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow, default)]
    block_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    #[serde(default)]
    prompt_token_count: Option<u64>,
    #[serde(default)]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(default)]
    cached_content_token_count: Option<u64>,
    #[serde(default)]
    candidates_token_count: Option<u64>,
    #[serde(default)]
    thoughts_token_count: Option<u64>,
    #[serde(default)]
    total_token_count: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<Vec<OfModality>>,
    #[serde(default)]
    cache_tokens_details: Option<Vec<OfModality>>,
    #[serde(default)]
    candidates_tokens_details: Option<Vec<OfModality>>,
    #[serde(default)]
    traffic_type: Option<String>,
    #[serde(default)]
    service_tier: Option<String>,
}

/// How many tokens are of one kind: text, sound, pictures.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfModality {
    #[serde(default)]
    modality: Option<String>,
    #[serde(default)]
    token_count: Option<u64>,
}

/// Those of one kind.
fn of_kind(details: Option<&Vec<OfModality>>, kind: &str) -> u64 {
    let details = details.into_iter().flatten();
    let of_kind = details.filter(|of| of.modality.as_deref() == Some(kind));
    of_kind.filter_map(|of| of.token_count).fold(0, u64::saturating_add)
}

impl Counts {
    /// What only some answers have.
    fn more(&self) -> More {
        let (prompt, cached) =
            (self.prompt_tokens_details.as_ref(), self.cache_tokens_details.as_ref());
        let pictures = of_kind(prompt, "IMAGE").saturating_sub(of_kind(cached, "IMAGE"));
        More {
            audio_input_tokens: of_kind(prompt, "AUDIO"),
            cached_audio_tokens: of_kind(cached, "AUDIO"),
            image_input_tokens: pictures,
            audio_output_tokens: of_kind(self.candidates_tokens_details.as_ref(), "AUDIO"),
            searches: 0,
            service_tier: self.tier(),
        }
    }

    /// The tier: as Vertex says it, or as Gemini's own API does.
    fn tier(&self) -> ServiceTier {
        match (self.traffic_type.as_deref(), self.service_tier.as_deref()) {
            (Some("ON_DEMAND_PRIORITY"), _) | (_, Some("priority" | "PRIORITY")) => {
                ServiceTier::Priority
            }
            (Some("ON_DEMAND_FLEX"), _) | (_, Some("flex" | "FLEX")) => ServiceTier::Flex,
            _ => ServiceTier::Standard,
        }
    }

    /// The usage. Counts of zero are left out on the wire; a total tells them from missing ones.
    fn usage(&self) -> Option<Usage> {
        let prompt = self.prompt_token_count?;
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let input = prompt.saturating_add(self.tool_use_prompt_token_count.unwrap_or(0));
        let said = self.candidates_token_count.or_else(|| {
            let total = self.total_token_count?;
            Some(total.saturating_sub(input).saturating_sub(thoughts))
        });
        Some(Usage {
            input_tokens: input,
            cached_tokens: self.cached_content_token_count.unwrap_or(0).min(input),
            cache_write_tokens: 0,
            cache_write_1h_tokens: 0,
            output_tokens: said?.saturating_add(thoughts),
            reasoning_tokens: thoughts,
            more: self.more(),
        })
    }
}

fn usage_of(raw: &RawValue) -> Option<Usage> {
    serde_json::from_str::<Counts>(raw.get()).ok()?.usage()
}

/// A `usageMetadata` object.
pub(crate) fn usage_object(usage: &Usage) -> Value {
    let said = usage.output_tokens.saturating_sub(usage.reasoning_tokens);
    let mut object = json!({
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": said,
        "totalTokenCount": usage.total_tokens(),
    });
    if let Value::Object(fields) = &mut object {
        let details = [
            ("cachedContentTokenCount", usage.cached_tokens),
            ("thoughtsTokenCount", usage.reasoning_tokens),
        ];
        let counted = details.into_iter().filter(|(_, count)| *count > 0);
        fields.extend(counted.map(|(name, count)| (name.to_owned(), count.into())));
    }
    object
}

impl Chunk<'_> {
    /// Whether it is a part of an answer, and no error.
    pub(crate) const fn is_answer(&self) -> bool {
        let says = self.candidates.is_some()
            || self.prompt_feedback.is_some()
            || self.usage_metadata.is_some();
        says && self.error.is_none()
    }

    /// Whether a client would see something of it.
    pub(crate) fn has_content(&self) -> bool {
        let mut turns = self.candidates.iter().flatten().filter_map(|candidate| candidate.content);
        turns.any(says_something)
    }
}

/// Whether a turn has a part that is more than an empty text.
fn says_something(content: &RawValue) -> bool {
    let Ok(content) = serde_json::from_str::<Content<'_>>(content.get()) else { return true };
    let empty = |part: &Part<'_>| {
        part.function_call.is_none() && part.text.as_deref().is_some_and(str::is_empty)
    };
    !content.parts.unwrap_or_default().iter().all(empty)
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(default)]
    thought: Option<bool>,
    #[serde(borrow, default)]
    thought_signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    function_call: Option<Call<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    #[serde(default)]
    id: Option<String>,
    name: String,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(default)]
    partial_args: Option<IgnoredAny>,
    #[serde(default)]
    will_continue: Option<bool>,
}

/// What of an answer has come.
#[derive(Default)]
pub(crate) struct Answer {
    /// Whether deltas are wanted; else the bytes go on as they come.
    decode: bool,
    usage: Option<Usage>,
    model_version: Option<String>,
    response_id: String,
    /// The candidates that have begun, and whether each has ended.
    candidates: Vec<(u32, bool)>,
    /// Why the first candidate stopped, or that the prompt was blocked.
    stop: Option<Stop>,
    calls: u32,
    has_calls: bool,
    /// Queries of the search that the answer rests on.
    queries: u64,
}

impl Answer {
    pub(crate) fn new(decode: bool) -> Self {
        Self { decode, ..Self::default() }
    }

    /// Whether deltas are wanted.
    pub(crate) const fn decodes(&self) -> bool {
        self.decode
    }

    /// Takes a chunk. What it says joins `deltas` where they are wanted.
    pub(crate) fn take(
        &mut self,
        chunk: Chunk<'_>,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), Failure> {
        self.usage = chunk.usage_metadata.and_then(usage_of).or(self.usage);
        self.model_version = chunk.model_version.or_else(|| self.model_version.take());
        if let Some(id) = chunk.response_id {
            self.response_id = id.into_owned();
        }
        if chunk.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some()) {
            self.stop = Some(Stop::ContentFilter);
        }
        for candidate in chunk.candidates.into_iter().flatten() {
            self.candidate(&candidate, deltas)?;
        }
        Ok(())
    }

    fn candidate(
        &mut self,
        candidate: &Candidate<'_>,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), Failure> {
        let index = candidate.index.unwrap_or(0);
        let known = self.candidates.iter().position(|(known, _)| *known == index);
        let place = known.unwrap_or(self.candidates.len());
        if known.is_none() {
            if self.candidates.len() >= CANDIDATES_MAX {
                return Err(failed("the provider's answer has too many candidates"));
            }
            self.candidates.push((index, false));
        }
        if let Some(content) = candidate.content {
            let called = br#""functionCall""#;
            self.has_calls |= memchr::memmem::find(content.get().as_bytes(), called).is_some();
            // Another format has one answer per request.
            if self.decode && index == 0 {
                self.content(content, deltas)?;
            }
        }
        if let Some(Grounding { web_search_queries: Some(queries) }) = &candidate.grounding_metadata
        {
            // Each chunk that has them has all of them.
            let queries = queries.iter().filter(|query| !query.is_empty()).count();
            self.queries = self.queries.max(u64::try_from(queries).unwrap_or(u64::MAX));
        }
        let Some(reason) = candidate.finish_reason.as_deref() else { return Ok(()) };
        if self.decode {
            self.check(reason, candidate.finish_message.as_deref())?;
        }
        if let Some((_, ended)) = self.candidates.get_mut(place) {
            *ended = true;
        }
        if index == 0 {
            self.stop = Some(stop_of(reason, self.has_calls));
        }
        Ok(())
    }

    /// Refuses ends that are none, or that are mistakes of the model: another format would show
    /// them as answers.
    fn check(&self, reason: &str, message: Option<&str>) -> Result<(), Failure> {
        let why = match reason {
            "CONTINUATION" => {
                "wants to be asked for the rest of its answer, which only a client of the Gemini \
                 API can do"
            }
            "MALFORMED_FUNCTION_CALL"
            | "UNEXPECTED_TOOL_CALL"
            | "TOO_MANY_TOOL_CALLS"
            | "MISSING_THOUGHT_SIGNATURE"
            | "MALFORMED_RESPONSE" => "ended its answer with a mistake of the model",
            _ => return Ok(()),
        };
        let message = message.map(|message| format!(": {message}")).unwrap_or_default();
        let message = crate::openai_chat::errors::shorten(&message);
        let text = format!("the provider {why} ({reason}){message}");
        Err(failed(text).billed(self.billed()))
    }

    fn content(&mut self, content: &RawValue, deltas: &mut Vec<Delta>) -> Result<(), Failure> {
        let unreadable = |_| failed("the provider's answer has content that can't be read");
        let content: Content<'_> = serde_json::from_str(content.get()).map_err(unreadable)?;
        for part in content.parts.into_iter().flatten() {
            self.part(part, deltas)?;
        }
        Ok(())
    }

    fn part(&mut self, part: Part<'_>, deltas: &mut Vec<Delta>) -> Result<(), Failure> {
        let full = |text: &Cow<'_, str>| !text.is_empty();
        let signed = part.thought_signature.filter(full);
        let sign = |redacted| {
            let (signature, origin) = (signed.map(Cow::into_owned), NAME.to_owned());
            signature.map(|signature| Delta::ReasoningSignature { signature, redacted, origin })
        };
        let text = part.text.filter(full).map(Cow::into_owned);
        if part.thought == Some(true) {
            deltas.extend(text.map(|text| Delta::Reasoning { text }));
            deltas.extend(sign(false));
            return Ok(());
        }
        deltas.extend(sign(true));
        deltas.extend(text.map(|text| Delta::Text { text }));
        // What is left are tools that Google runs and media, for which no other format has words.
        let Some(call) = part.function_call else { return Ok(()) };
        if call.partial_args.is_some() || call.will_continue == Some(true) {
            let text = "the provider sends a call's arguments in pieces, which was not asked for";
            return Err(failed(text));
        }
        if self.calls >= CALLS_MAX {
            return Err(failed("the provider's answer has too many calls"));
        }
        let index = self.calls;
        self.calls += 1;
        let json = call.args.map_or("{}", RawValue::get).to_owned();
        let id = call.id.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| self.made_id(index, &call.name, &json));
        deltas.push(Delta::ToolCallStart { index, id, name: call.name });
        deltas.push(Delta::ToolCallArguments { index, json });
        Ok(())
    }

    /// An id for a call that the model gave none. The answer's own id makes it another one in every
    /// answer.
    fn made_id(&self, index: u32, name: &str, arguments: &str) -> String {
        let mut hash = Sha256::new();
        for text in [&self.response_id, name, arguments] {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
        hash.update(index.to_be_bytes());
        let mut id = MADE_ID.to_owned();
        for byte in hash.finalize().iter().take(ID_BYTES) {
            // Writing into a string can't fail.
            let _ok = write!(id, "{byte:02x}");
        }
        id
    }

    /// The usage with what was searched: models up to the second generation are billed by the
    /// prompt that was grounded, later ones by the query.
    fn whole_usage(&self) -> Option<Usage> {
        let mut usage = self.usage?;
        let by_prompt = ["gemini-1", "gemini-2"];
        let model = self.model_version.as_deref().unwrap_or_default();
        let by_prompt = by_prompt.into_iter().any(|name| model.starts_with(name));
        usage.more.searches = if by_prompt { self.queries.min(1) } else { self.queries };
        Some(usage)
    }

    /// What an answer that breaks now has cost: the counts are final once the model has stopped.
    pub(crate) fn billed(&self) -> Billed {
        let usage = self.stop.and_then(|_| self.whole_usage());
        Billed::from(usage)
    }

    /// The answer has ended: it is whole if every candidate has, and there is one.
    pub(crate) fn finish(&mut self) -> Result<Finish, Failure> {
        let open = self.candidates.iter().any(|(_, ended)| !ended);
        let Some(stop) = self.stop.filter(|_| !open) else {
            let text = "the provider's answer ended without a reason: it is not whole";
            return Err(Failure::new(ErrorCode::StreamCut, text).billed(Billed::Unknown));
        };
        Ok(Finish {
            stop,
            usage: self.whole_usage(),
            model_version: self.model_version.take(),
            ..Finish::default()
        })
    }
}

/// Why the model stopped. A reason that is not known is an end: the answer is whole all the same.
fn stop_of(reason: &str, has_calls: bool) -> Stop {
    match reason {
        "MAX_TOKENS" | "CONTINUATION" => Stop::Length,
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
        | "MODEL_ARMOR" => Stop::ContentFilter,
        image if image.starts_with("IMAGE_") => Stop::ContentFilter,
        _ if has_calls => Stop::ToolCalls,
        _ => Stop::End,
    }
}

/// The `finishReason`. Google has none for calls.
pub(crate) const fn reason_of(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::ToolCalls => "STOP",
        Stop::Length => "MAX_TOKENS",
        Stop::ContentFilter => "SAFETY",
    }
}
