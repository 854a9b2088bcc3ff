//! Streamed answers: chunks read from an upstream or written for a client.
//!
//! Passing through, the reader looks at each event once and reads only those that can matter: a
//! chunk with a finish reason, a usage or an error. Quotes inside JSON strings are escaped, so a
//! search for `"finish_reason"` with its quotes can't be fooled by text. Everything else goes on as
//! a slice of the chunk it came in. `[DONE]` is kept for the end.
//!
//! A stream is whole only if some choice got a finish reason; `[DONE]` alone, or a silent end, is a
//! cut.

mod begun;
mod decode;

use std::collections::VecDeque;
use std::sync::LazyLock;

use ::types::error::Billed;
use ::types::format::{Begun, ReadOptions, ReadResponse, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, OutcomeEvent, Start};
use ::types::usage::{ServiceTier, Usage};
use ::types::{ErrorCode, Failure, Stop};
use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem::Finder;

pub(super) use self::begun::read_begun;
use self::decode::Decoder;
use super::errors;
use super::types::{Chunk, ChunkDelta, is_failure, reason_of, stop_of, tier_of, usage_object};
use crate::sse;
use crate::sse::reading::{self, See, Seen};

static FINISH_REASON: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new("\"finish_reason\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));

/// The longest event that can be `data: [DONE]` with any line ends and spaces.
const DONE_EVENT_BYTES_MAX: usize = 24;

/// Reads a stream.
pub(super) struct Reader(reading::Reader<Chunks>);

impl Reader {
    pub(super) fn new(options: ReadOptions) -> Self {
        let chunks = Chunks {
            decoder: options.decode.then(Decoder::default),
            withhold_usage: options.withhold_usage,
            stop: None,
            usage: None,
            tier: ServiceTier::default(),
            model_version: None,
            has_ids: false,
        };
        Self(reading::Reader::new(chunks, options.hold_preamble))
    }
}

impl ReadResponse for Reader {
    fn push(&mut self, chunk: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        self.0.push(chunk, events);
    }

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        self.0.end(events);
    }
}

/// What the chunks of a stream have said so far.
struct Chunks {
    decoder: Option<Decoder>,
    withhold_usage: bool,
    stop: Option<Stop>,
    usage: Option<Usage>,
    /// The tier at which it is answered, as far as it was said where something else was.
    tier: ServiceTier,
    model_version: Option<String>,
    /// The upstream sent `id:` lines: then nothing may be put before the last frame.
    has_ids: bool,
}

impl See for Chunks {
    fn has_content(&self, event: &[u8]) -> bool {
        let Some(data) = sse::data(event) else { return false };
        let chunk = crate::json::parse::<Chunk<'_>>(&data);
        // What can't be read might be anything.
        let Ok(chunk) = chunk else { return true };
        chunk.choices.unwrap_or_default().iter().any(|choice| {
            choice.delta.is_some_and(|delta| {
                serde_json::from_str::<Option<ChunkDelta>>(delta.get())
                    .map_or(true, |delta| delta.is_some_and(|delta| delta.has_content()))
            })
        })
    }

    fn see(&mut self, event: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        self.has_ids |= carries_id(event);
        if event.len() <= DONE_EVENT_BYTES_MAX {
            match sse::data(event) {
                Some(data) if data.trim_ascii() == b"[DONE]" => return Seen::End,
                Some(_) => {}
                None => return self.unless_decoding(),
            }
        }
        if self.decoder.is_none() && !matters(event) {
            // Clients' SDKs fail at such a piece in their own words; behind it nothing may look
            // like an end.
            let outlined = reading::is_outlined(event);
            return if outlined { Seen::Pass } else { Seen::Fail(Box::new(unreadable())) };
        }
        let Some(data) = sse::data(event) else { return self.unless_decoding() };
        if ERROR.find(&data).is_some()
            && let Some(failure) = errors::parse_in_answer(&data)
        {
            return Seen::Fail(Box::new(failure));
        }
        match crate::json::parse::<Chunk<'_>>(&data) {
            Ok(chunk) => self.read(chunk, events),
            Err(_) if self.decoder.is_some() || !reading::is_outlined(event) => {
                Seen::Fail(Box::new(unreadable()))
            }
            // What it is, is between the provider and the client; without a finish reason it ends
            // as a cut.
            Err(_) => Seen::Pass,
        }
    }

    fn see_rest(&mut self, rest: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        if reading::is_half(rest) {
            return Seen::Withhold;
        }
        self.see(rest, events)
    }

    fn finish(&mut self, raw: Option<Bytes>) -> Result<Finish, Failure> {
        let Some(stop) = self.stop else {
            let text =
                "the provider's stream ended without a finish reason: the answer is not whole";
            return Err(Failure::new(ErrorCode::StreamCut, text).billed(Billed::Unknown));
        };
        Ok(Finish {
            stop,
            stop_text: None,
            usage: self.usage.map(|usage| at_tier(usage, self.tier)),
            model_version: self.model_version.take(),
            raw: raw.filter(|_| self.decoder.is_none()),
            carried_ids: self.has_ids,
            mean_logprob_micros: self
                .decoder
                .as_ref()
                .and_then(|decoder| decoder.mean_logprob.micros()),
        })
    }
}

impl Chunks {
    const fn unless_decoding(&self) -> Seen {
        if self.decoder.is_some() { Seen::Withhold } else { Seen::Pass }
    }

    fn read(&mut self, chunk: Chunk<'_>, events: &mut VecDeque<OutcomeEvent>) -> Seen {
        if let Some(error) = chunk.groq_error() {
            return Seen::Fail(Box::new(errors::in_answer(ErrorCode::UpstreamFailed, error)));
        }
        let usage = chunk.usage();
        if let Some(tier) = chunk.service_tier.as_deref() {
            self.tier = tier_of(tier);
        }
        let choices = chunk.choices.unwrap_or_default();
        for choice in &choices {
            if let Some(reason) = choice.finish_reason.as_deref() {
                if is_failure(reason) {
                    let failure = errors::in_answer(ErrorCode::UpstreamFailed, reason);
                    return Seen::Fail(Box::new(failure));
                }
                self.stop.get_or_insert_with(|| stop_of(reason));
            }
        }
        // Some servers count along on every chunk: the last count is the bill.
        self.usage = usage.or(self.usage);
        self.model_version = chunk.model.or_else(|| self.model_version.take());
        let Some(decoder) = &mut self.decoder else {
            let only_usage = choices.is_empty() && usage.is_some();
            return if only_usage && self.withhold_usage { Seen::Withhold } else { Seen::Pass };
        };
        match decoder.read(chunk.id.as_deref(), &choices, events) {
            Ok(()) => Seen::Withhold,
            Err(failure) => Seen::Fail(Box::new(failure)),
        }
    }
}

const fn at_tier(mut usage: Usage, tier: ServiceTier) -> Usage {
    usage.more.service_tier = tier;
    usage
}

fn unreadable() -> Failure {
    let text = "the provider's stream has a chunk that can't be read";
    Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown)
}

/// Whether an event has an `id` line. Nearly all are one line of data, which costs one search.
fn carries_id(event: &[u8]) -> bool {
    let one_line = memchr::memchr(b'\n', event.trim_ascii_end()).is_none();
    !(one_line && event.first() == Some(&b'd')) && sse::has_id(event)
}

/// Whether an event can say something that Holdfast needs.
fn matters(event: &[u8]) -> bool {
    has_value(event, &FINISH_REASON) || has_value(event, &USAGE) || ERROR.find(event).is_some()
}

/// Whether a field occurs with a value that is not `null`.
fn has_value(event: &[u8], field: &Finder<'static>) -> bool {
    field.find_iter(event).any(|at| {
        let behind = event.get(at + field.needle().len()..).unwrap_or_default();
        let value = behind.trim_ascii_start().strip_prefix(b":").unwrap_or_default();
        !matches!(value.trim_ascii_start().first(), None | Some(b'n'))
    })
}

/// Writes a stream.
pub(super) struct Writer {
    /// What every chunk begins with, up to `"choices":`.
    prefix: Vec<u8>,
    /// What every chunk with a choice ends with.
    suffix: &'static str,
    include_usage: bool,
    started: bool,
    /// Calls that have begun and have no arguments yet.
    bare_calls: Vec<u32>,
}

impl Writer {
    pub(super) fn new(options: &WriteOptions) -> Self {
        let prefix = prefix(&options.id, options.created.seconds(), &options.model);
        let suffix = if options.include_usage { ",\"usage\":null}" } else { "}" };
        let include_usage = options.include_usage;
        Self { prefix, suffix, include_usage, started: false, bare_calls: Vec::new() }
    }

    /// A chunk with one choice.
    fn chunk(&self, delta: &str, reason: Option<Stop>, out: &mut BytesMut) {
        out.put_slice(b"data: ");
        out.put_slice(&self.prefix);
        out.put_slice(b"[{\"index\":0,\"delta\":");
        out.put_slice(delta.as_bytes());
        out.put_slice(b",\"logprobs\":null,\"finish_reason\":");
        match reason {
            None => out.put_slice(b"null"),
            Some(stop) => {
                out.put_slice(b"\"");
                out.put_slice(reason_of(stop).as_bytes());
                out.put_slice(b"\"");
            }
        }
        out.put_slice(b"}]");
        out.put_slice(self.suffix.as_bytes());
        out.put_slice(b"\n\n");
    }

    /// The role comes first, before any content: SDK helpers need it.
    fn role(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.started, true) {
            self.chunk("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", None, out);
        }
    }
}

/// What every chunk of an answer begins with, up to `"choices":`.
fn prefix(id: &str, created: impl std::fmt::Display, model: &str) -> Vec<u8> {
    let (id, model) = (quoted(id), quoted(model));
    format!(
        "{{\"id\":{id},\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":{model},\"choices\":"
    )
    .into_bytes()
}

/// A piece of a call's arguments.
fn arguments(index: u32, json: &str) -> String {
    let json = quoted(json);
    format!("{{\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":{json}}}}}]}}")
}

/// A JSON text.
fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, out: &mut BytesMut) {
        self.role(out);
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        self.role(out);
        let delta = match delta {
            Delta::Text { text } => format!("{{\"content\":{}}}", quoted(text)),
            Delta::Reasoning { text } => format!("{{\"reasoning_content\":{}}}", quoted(text)),
            Delta::Refusal { text } => format!("{{\"refusal\":{}}}", quoted(text)),
            // This format has no field for it.
            Delta::ReasoningSignature { .. } => return,
            // Id, type and name come on a call's first delta only: SDKs join what is repeated.
            Delta::ToolCallStart { index, id, name } => {
                self.bare_calls.push(*index);
                format!(
                    "{{\"tool_calls\":[{{\"index\":{index},\"id\":{},\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":\"\"}}}}]}}",
                    quoted(id),
                    quoted(name)
                )
            }
            Delta::ToolCallArguments { index, json } => {
                self.bare_calls.retain(|bare| bare != index || json.is_empty());
                arguments(*index, json)
            }
            // Only a Tool Call's outcome has it, and this format is of models.
            Delta::ToolResult { .. } => return,
        };
        self.chunk(&delta, None, out);
    }

    fn go_on(&mut self, begun: &Begun) {
        self.started = true;
        let Begun { id: Some(id), model, created, .. } = begun else { return };
        self.prefix = prefix(id, created.unwrap_or_default(), model.as_deref().unwrap_or_default());
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        self.chunk("{}", None, out);
    }

    fn finish(
        &mut self,
        finish: &Finish,
        comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        self.role(out);
        let cut = matches!(finish.stop, Stop::Length | Stop::ContentFilter);
        for index in std::mem::take(&mut self.bare_calls).into_iter().filter(|_| !cut) {
            // A call without arguments: clients parse the text as JSON.
            self.chunk(&arguments(index, "{}"), None, out);
        }
        self.chunk("{}", Some(finish.stop), out);
        if let (true, Some(usage)) = (self.include_usage, &finish.usage) {
            out.put_slice(b"data: ");
            out.put_slice(&self.prefix);
            out.put_slice(b"[],\"usage\":");
            out.put_slice(usage_object(usage).to_string().as_bytes());
            out.put_slice(b"}\n\n");
        }
        sse::write_comment(comment, out);
        sse::write_data(b"[DONE]", out);
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        sse::write_data(&errors::render(failure, Some(call)), out);
    }
}

#[cfg(test)]
mod tests;
