//! A streamed response: events read from an upstream.
//!
//! Passing through, an event is read only if its name says that it can be an end or an error; the
//! rest goes on as slices of the chunks it came in. Where deltas are wanted each event is read.
//!
//! A stream is whole only with `response.completed` or `response.incomplete`; `[DONE]` alone, or a
//! silent end, is a cut.

use std::collections::{HashMap, VecDeque};

use ::types::error::Billed;
use ::types::format::{ReadOptions, ReadResponse};
use ::types::outcome::{Delta, Finish, OutcomeEvent};
use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde_json::Value;

use super::{arguments_in, end_of, failure_of, is_call, usage_in};
use crate::openai_responses::NAME;
use crate::openai_responses::client_tools::called_name;
use crate::sse::reading::{self, Fields, See, Seen};

/// Tool calls in one answer at most.
const CALLS_MAX: usize = 1_024;

/// Reads a stream.
pub(in crate::openai_responses) struct Reader(reading::Reader<Events>);

impl Reader {
    pub(in crate::openai_responses) fn new(options: ReadOptions) -> Self {
        let decoder = options.decode.then(Decoder::default);
        let events = Events { decoder, ..Events::default() };
        Self(reading::Reader::new(events, options.hold_preamble))
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

/// What the events of a stream have said so far.
#[derive(Default)]
struct Events {
    decoder: Option<Decoder>,
    calls: bool,
    finish: Option<Finish>,
    /// The upstream sent `id:` lines: then nothing may be put before the last frame.
    has_ids: bool,
}

impl See for Events {
    fn has_content(&self, event: &[u8]) -> bool {
        let fields = Fields::of(event);
        let Some(data) = read(&fields) else { return true };
        match name(&fields, &data) {
            "response.output_item.added" => {
                let kind = data.pointer("/item/type").and_then(Value::as_str);
                !matches!(kind, Some("message" | "reasoning"))
            }
            name => name.ends_with(".delta"),
        }
    }

    fn see(&mut self, event: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        let fields = Fields::of(event);
        self.has_ids |= fields.has_id;
        let nothing = fields.data.as_deref().is_none_or(|data| data.trim_ascii() == b"[DONE]");
        if nothing || (self.decoder.is_none() && fields.name.is_some_and(can_pass)) {
            if !nothing && !reading::is_outlined(event) {
                return Seen::Fail(Box::new(unreadable()));
            }
            self.calls |= fields.name.is_some_and(is_calls);
            return self.unless_decoding();
        }
        let Some(data) = read(&fields) else { return Seen::Fail(Box::new(unreadable())) };
        match self.take(name(&fields, &data), &data, events) {
            Ok(true) => Seen::End,
            Ok(false) => self.unless_decoding(),
            Err(failure) => Seen::Fail(Box::new(failure)),
        }
    }

    fn see_rest(&mut self, rest: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        if reading::is_half(rest) {
            return Seen::Withhold;
        }
        self.see(rest, events)
    }

    fn finish(&mut self, raw: Option<Bytes>) -> Result<Finish, Failure> {
        let Some(finish) = self.finish.take() else {
            let text =
                "the provider's stream ended before its response did: the answer is not whole";
            return Err(Failure::new(ErrorCode::StreamCut, text).billed(Billed::Unknown));
        };
        let raw = raw.filter(|_| self.decoder.is_none());
        Ok(Finish { raw, carried_ids: self.has_ids, ..finish })
    }
}

/// Whether an event of this name says nothing that Holdfast needs.
fn can_pass(name: &[u8]) -> bool {
    let ends: [&[u8]; 4] =
        [b"response.completed", b"response.incomplete", b"response.failed", b"error"];
    let added: &[u8] = b"response.output_item.added";
    !name.is_empty() && name != b"message" && !ends.contains(&name) && name != added
}

fn is_calls(name: &[u8]) -> bool {
    name.starts_with(b"response.function_call_arguments")
        || name.starts_with(b"response.custom_tool_call_input")
}

fn read(fields: &Fields<'_>) -> Option<Value> {
    serde_json::from_slice(fields.data.as_deref()?).ok()
}

/// What an event is: its data say so, and its `event` line where they don't.
fn name<'a>(fields: &Fields<'a>, data: &'a Value) -> &'a str {
    let line = || fields.name.and_then(|name| std::str::from_utf8(name).ok());
    data.get("type").and_then(Value::as_str).or_else(line).unwrap_or_default()
}

impl Events {
    const fn unless_decoding(&self) -> Seen {
        if self.decoder.is_some() { Seen::Withhold } else { Seen::Pass }
    }

    /// Takes an event; whether it is the end.
    fn take(
        &mut self,
        name: &str,
        data: &Value,
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<bool, Failure> {
        match name {
            "response.completed" | "response.incomplete" => {
                let response = data.get("response").unwrap_or(&Value::Null);
                let calls = self.calls || self.decoder.as_ref().is_some_and(Decoder::has_calls);
                self.finish = Some(end_of(response, calls)?);
                return Ok(true);
            }
            "response.failed" => {
                let usage = data.get("response").and_then(usage_in);
                return Err(failure_of(data.pointer("/response/error"), usage));
            }
            // Flat or nested, as servers have it.
            "error" => return Err(failure_of(Some(data.get("error").unwrap_or(data)), None)),
            "response.output_item.added" => {
                let kind = data.pointer("/item/type").and_then(Value::as_str);
                self.calls |= kind.is_some_and(is_call);
            }
            _ => {}
        }
        match &mut self.decoder {
            Some(decoder) => decoder.take(name, data, events).map(|()| false),
            None => Ok(false),
        }
    }
}

/// Turns events into deltas.
#[derive(Default)]
struct Decoder {
    /// The place of each call among the calls, by its output index, and whether its arguments have
    /// come in pieces.
    calls: HashMap<u64, (u32, bool)>,
    /// The reasoning item whose text came last.
    reasoning: Option<(u64, u64)>,
}

impl Decoder {
    fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    fn take(
        &mut self,
        name: &str,
        data: &Value,
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or(0);
        let place = number("output_index");
        let mut send =
            |delta| events.push_back(OutcomeEvent::Frame { raw: None, delta: Some(delta) });
        match name {
            "response.output_text.delta" if !text("delta").is_empty() => {
                send(Delta::Text { text: text("delta").to_owned() });
            }
            "response.refusal.delta" if !text("delta").is_empty() => {
                send(Delta::Refusal { text: text("delta").to_owned() });
            }
            "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
                let part = number("content_index") + number("summary_index");
                let now = (place, part);
                // Parts of one summary are paragraphs.
                let gap = matches!(self.reasoning, Some((item, at)) if item == place && at != part);
                self.reasoning = Some(now);
                let gap = if gap { "\n\n" } else { "" };
                send(Delta::Reasoning { text: format!("{gap}{}", text("delta")) });
            }
            "response.output_item.added" => self.begin(place, &data["item"], &mut send)?,
            "response.function_call_arguments.delta" => {
                self.arguments(place, text("delta"), &mut send)?;
            }
            "response.output_item.done" => self.end(place, &data["item"], &mut send)?,
            // What repeats what was said, and what the provider's own tools do.
            _ => {}
        }
        Ok(())
    }

    fn begin(
        &mut self,
        at: u64,
        item: &Value,
        send: &mut impl FnMut(Delta),
    ) -> Result<(), Failure> {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        if !is_call(text("type")) || self.calls.contains_key(&at) {
            return Ok(());
        }
        if self.calls.len() >= CALLS_MAX {
            return Err(failed("the provider's stream has too many tool calls"));
        }
        let (id, name) = (text("call_id").to_owned(), called_name(item));
        if id.is_empty() || name.is_empty() {
            return Err(failed("the provider's stream begins a tool call without id or name"));
        }
        let index = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        self.calls.insert(at, (index, false));
        send(Delta::ToolCallStart { index, id, name });
        Ok(())
    }

    fn arguments(
        &mut self,
        at: u64,
        json: &str,
        send: &mut impl FnMut(Delta),
    ) -> Result<(), Failure> {
        let Some((index, came)) = self.calls.get_mut(&at) else {
            return Err(failed("the provider's stream has arguments of no tool call"));
        };
        if !json.is_empty() {
            *came = true;
            send(Delta::ToolCallArguments { index: *index, json: json.to_owned() });
        }
        Ok(())
    }

    /// An item is whole: what came in no delta is said now.
    fn end(&mut self, at: u64, item: &Value, send: &mut impl FnMut(Delta)) -> Result<(), Failure> {
        match item.get("type").and_then(Value::as_str).unwrap_or_default() {
            // The pieces of a custom call are no JSON: its whole input is.
            kind if is_call(kind) => {
                self.begin(at, item, send)?;
                if matches!(self.calls.get(&at), Some((_, false))) {
                    self.arguments(at, &arguments_in(item), send)?;
                }
            }
            "reasoning" => {
                let shown = matches!(self.reasoning, Some((item, _)) if item == at);
                signature_of(item, shown).into_iter().for_each(send);
            }
            _ => {}
        }
        Ok(())
    }
}

/// What signs a reasoning item; `shown` if its text was.
pub(super) fn signature_of(item: &Value, shown: bool) -> Option<Delta> {
    let signature = item.get("encrypted_content").and_then(Value::as_str)?;
    let (signature, origin) = (signature.to_owned(), NAME.to_owned());
    Some(Delta::ReasoningSignature { signature, redacted: !shown, origin })
}

fn failed(text: &str) -> Failure {
    Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown)
}

fn unreadable() -> Failure {
    failed("the provider's stream has an event that can't be read")
}
