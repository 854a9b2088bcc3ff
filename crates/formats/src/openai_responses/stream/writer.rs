//! An answer in this format from neutral events, without a session behind it.
//!
//! [`EventWriter`] makes the events; here they become bytes, or, where nothing is streamed, one
//! response object at the end. What was asked is read only when something has to be written: an
//! answer that passes as it came is not, and then only its number and its response's id are kept,
//! so that an error behind it fits.

use std::mem;
use std::sync::Arc;

use ::types::clock::{SharedClock, Timestamp};
use ::types::error::Billed;
use ::types::format::{WriteContext, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start, Stop};
use ::types::{ErrorCode, Failure};
use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;
use serde_json::Value;

use super::{EventWriter, NewId, keepalive_event, write_frame};
use crate::openai_responses::request::{parse_create, plain};
use crate::openai_responses::response::ResponseSkeleton;
use crate::sse;

/// Bytes of one answer at most: text, reasoning and arguments. The end of the answer repeats them,
/// so that they are held until then. Some thirty times what the longest answers of today have.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a piece costs beside its text, roughly: an answer of very many empty ones is long too.
const PIECE_BYTES: usize = 16;
/// Bytes of a passing stream in which its response's id is looked for: it stands in the first
/// event.
const ID_WITHIN: usize = 64 * 1024;

/// Writes an answer in this format from neutral events, without a session behind it.
pub(in crate::openai_responses) struct Writer {
    options: WriteOptions,
    /// The request, until something is written.
    request: Option<Bytes>,
    clock: Option<SharedClock>,
    events: Option<EventWriter>,
    passed: Passed,
    /// Bytes that the answer has.
    bytes: usize,
}

impl Writer {
    /// A writer that does not know what was asked.
    pub(in crate::openai_responses) fn new(options: WriteOptions) -> Self {
        let passed = Passed::default();
        Self { options, request: None, clock: None, events: None, passed, bytes: 0 }
    }

    /// A writer that does.
    pub(in crate::openai_responses) fn of(
        options: WriteOptions,
        context: &WriteContext<'_>,
    ) -> Self {
        let (request, clock) = (context.request.cloned(), Some(Arc::clone(context.clock)));
        Self { request, clock, ..Self::new(options) }
    }

    /// What makes the events: from here on something is written.
    fn events(&mut self) -> &mut EventWriter {
        let (options, request, passed) = (&self.options, &mut self.request, &self.passed);
        self.events.get_or_insert_with(|| {
            // What passes need not be what is understood here.
            let asked = request.take().and_then(|body| parse_create(&body).ok());
            let asked = asked.unwrap_or_else(|| plain(&options.model));
            let id = passed.id.as_ref().unwrap_or(&options.id);
            let skeleton = ResponseSkeleton::new(id, options.created, &asked);
            EventWriter::new(skeleton, new_id(&options.id), passed.next_sequence, 0)
        })
    }

    fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or(self.options.created, |clock| clock.now())
    }

    fn write(&self, events: &[Value], out: &mut BytesMut) {
        if self.options.stream {
            events.iter().for_each(|event| write_frame(event, out));
        }
    }

    fn write_end(&self, events: &[Value], comment: &str, out: &mut BytesMut) {
        let Some((last, before)) = events.split_last() else { return };
        self.write(before, out);
        if self.options.stream {
            sse::write_comment(comment, out);
            write_frame(last, out);
            sse::write_data(b"[DONE]", out);
        } else if let Some(response) = last.get("response") {
            out.put_slice(response.to_string().as_bytes());
        }
    }
}

/// Ids of items: the response's own, numbered.
fn new_id(response: &str) -> NewId {
    let id = response.trim_start_matches("resp_").to_owned();
    let mut made = 0u64;
    Box::new(move |prefix| {
        made += 1;
        format!("{prefix}{id}{made:04x}")
    })
}

impl WriteResponse for Writer {
    fn start(&mut self, start: &Start, out: &mut BytesMut) {
        let writer = self.events();
        writer.dropped(&start.dropped);
        let mut events = writer.created();
        events.extend(writer.in_progress());
        self.write(&events, out);
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        self.bytes = self.bytes.saturating_add(bytes_of(delta) + PIECE_BYTES);
        if self.bytes > ANSWER_BYTES_MAX {
            return;
        }
        let events = self.events().delta(delta);
        self.write(&events, out);
    }

    fn passed(&mut self, bytes: &Bytes) {
        self.passed.see(bytes);
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        // Before `response.created` it would break the SDKs' helpers.
        if self.events.is_some() {
            self.write(&[keepalive_event()], out);
        }
    }

    fn finish(
        &mut self,
        finish: &Finish,
        comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        if self.bytes > ANSWER_BYTES_MAX {
            let text = format!("the answer has more than {ANSWER_BYTES_MAX} bytes");
            let billed = Billed::from(finish.usage);
            return Err(Failure::new(ErrorCode::TooLarge, text).billed(billed));
        }
        let now = self.now();
        let writer = self.events();
        let mut events = writer.close_open_item();
        if writer.next_output_index() == 0 {
            events.extend(writer.open_message());
            events.extend(writer.close_open_item());
        }
        events.extend(match finish.stop {
            Stop::End | Stop::ToolCalls => writer.completed(finish.usage, now),
            Stop::Length => writer.incomplete("max_output_tokens", finish.usage),
            Stop::ContentFilter => writer.incomplete("content_filter", finish.usage),
        });
        self.write_end(&events, comment, out);
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        // A helper of an SDK raises at a stream that begins with anything else.
        let is_first = self.events.is_none() && !self.passed.any;
        let writer = self.events();
        let mut events = Vec::new();
        if is_first {
            events.extend(writer.created());
            events.extend(writer.in_progress());
        }
        events.extend(writer.failed(failure, Some(call), None));
        self.write_end(&events, "", out);
    }
}

/// Bytes of what a piece says.
fn bytes_of(delta: &Delta) -> usize {
    match delta {
        Delta::Text { text } | Delta::Refusal { text } | Delta::Reasoning { text } => text.len(),
        Delta::ReasoningSignature { signature, .. } => signature.len(),
        Delta::ToolCallStart { id, name, .. } => id.len() + name.len(),
        Delta::ToolCallArguments { json, .. } => json.len(),
        Delta::ToolResult { .. } => 0,
    }
}

/// What is known of a stream that passes.
#[derive(Debug, Default)]
struct Passed {
    /// The id of its response.
    id: Option<String>,
    /// The number of its next event.
    next_sequence: u64,
    /// Its beginning, as long as the id is looked for.
    begun: Vec<u8>,
    /// Whether that was given up.
    given_up: bool,
    /// Whether anything has passed.
    any: bool,
}

impl Passed {
    fn see(&mut self, bytes: &[u8]) {
        self.any |= !bytes.is_empty();
        // Quotes inside JSON texts are escaped, so that no text can look like a field's name.
        if let Some(at) = memmem::rfind(bytes, b"\"sequence_number\":") {
            let behind = bytes.get(at..).unwrap_or_default();
            let number = behind.iter().skip_while(|byte| !byte.is_ascii_digit());
            let digits: String = number
                .take_while(|byte| byte.is_ascii_digit())
                .map(|byte| char::from(*byte))
                .collect();
            let seen = digits.parse::<u64>().map_or(0, |number| number.saturating_add(1));
            self.next_sequence = self.next_sequence.max(seen);
        }
        if self.id.is_some() || self.given_up {
            return;
        }
        self.begun.extend_from_slice(bytes);
        self.id = id_in(&self.begun);
        self.given_up = self.begun.len() > ID_WITHIN;
        if self.id.is_some() || self.given_up {
            mem::take(&mut self.begun);
        }
    }
}

/// The first id that a stream names: that of its response.
fn id_in(begun: &[u8]) -> Option<String> {
    let at = memmem::find(begun, b"\"id\":")?;
    let value = begun.get(at + 5..)?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', value)?;
    let id = std::str::from_utf8(value.get(..end)?).ok()?;
    (!id.contains('\\')).then(|| id.to_owned())
}
