//! What a wire format can do, without naming one. Implementations live in `formats`.
//!
//! Both directions of each part stand together: requests are parsed and rendered, responses read
//! and written. Nothing here does I/O: bytes in, events out, and back.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use crate::call::{ModelHead, Operation};
use crate::clock::{SharedClock, Timestamp};
use crate::conversation::Conversation;
use crate::error::Failure;
use crate::ids::CallId;
use crate::outcome::{Delta, Finish, OutcomeEvent, Start};

/// A wire format.
pub trait Format: Send + Sync + fmt::Debug {
    /// Its name: `openai_chat`, `openai_responses` …
    fn name(&self) -> &'static str;

    /// Path of a request below a provider's base URL, such as `/chat/completions`; `None` if the
    /// format has no such operation.
    fn path(&self, edits: &Edits<'_>) -> Option<Cow<'static, str>>;

    /// Request headers of this format, lower case, that go on to a target of the same format.
    fn wire_headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads what every stage needs in one pass, without building a tree.
    ///
    /// # Errors
    /// A 400 that names the field.
    fn read_head(&self, body: &[u8]) -> Result<ModelHead, Failure>;

    /// Parses a request into its neutral form.
    ///
    /// # Errors
    /// A 400 that names the field.
    fn parse_request(&self, body: &[u8]) -> Result<Conversation, Failure>;

    /// Renders a neutral request.
    ///
    /// # Errors
    /// A 400 naming what this format cannot say and the answer can't do without.
    fn render_request(
        &self,
        conversation: &Conversation,
        edits: &Edits<'_>,
    ) -> Result<Rendered, Failure>;

    /// Replaces only what `edits` names in a request of this format; every other byte stays.
    fn patch_request(&self, raw: &Bytes, head: &ModelHead, edits: &Edits<'_>) -> Bytes;

    /// Reads a successful answer from an upstream.
    fn reader(&self, options: ReadOptions) -> Box<dyn ReadResponse>;

    /// Reads what of a stream was passed on to a client, whole events only, so that
    /// [a writer](WriteResponse::go_on) can go on behind it. Answers whether it can: not where
    /// something was said that no neutral event has words for, or the end was.
    fn read_begun(&self, _events: &[u8], _begun: &mut Begun) -> bool {
        false
    }

    /// Writes an answer to a client.
    fn writer(&self, options: WriteOptions) -> Box<dyn WriteResponse>;

    /// The same, knowing what it answers: for formats whose answers repeat what was asked.
    fn writer_of(
        &self,
        options: WriteOptions,
        _context: &WriteContext<'_>,
    ) -> Box<dyn WriteResponse> {
        self.writer(options)
    }

    /// The `content-type` of a streamed answer.
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// Whether this format's clients skip comments in a stream, as the standard of events has it.
    fn takes_comments(&self) -> bool {
        true
    }

    /// Whether its answers tell what was written to a prompt cache for an hour from the rest.
    fn tells_cache_life(&self) -> bool {
        true
    }

    /// Reads an upstream's error answer.
    fn parse_error(&self, status: u16, body: &[u8]) -> Failure;

    /// The header in which an upstream names an error, lower case, where the body may not.
    fn error_header(&self) -> Option<&'static str> {
        None
    }

    /// Reads an upstream's error answer of which [that header](Self::error_header) says the name.
    fn parse_named_error(&self, status: u16, _name: &str, body: &[u8]) -> Failure {
        self.parse_error(status, body)
    }

    /// Renders an error as a JSON body.
    fn render_error(&self, failure: &Failure, call: Option<&CallId>) -> Bytes;

    /// The HTTP status under which this format's clients understand an error.
    fn error_status(&self, failure: &Failure) -> u16 {
        failure.status()
    }
}

/// What the pipeline changes in a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits<'a> {
    /// The model's name at the target.
    pub model: &'a str,
    /// The output cap to set, in tokens.
    pub output_cap: Option<u64>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Ask a streaming upstream for its usage.
    pub request_usage: bool,
    /// Ask for log probabilities, where the format has them and the client did not ask itself.
    pub logprobs: bool,
    /// Whether it is the rest of an answer that is asked for, whose beginning is the last message.
    pub continues: bool,
    /// What is asked of the model.
    pub operation: Operation,
    /// The most tokens that the target can answer with, if known: for formats in which a request
    /// must have a cap.
    pub output_max: Option<u64>,
    /// Where the target's server differs from the format as its owner has it.
    pub quirks: Option<&'a Quirks>,
}

/// Where a server of a format differs from the format as its owner has it: data of a vendor's row.
/// All false and empty = it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// It knows only the old name of the output cap's field (`max_tokens`).
    pub old_output_cap: bool,
    /// It refuses `stream_options`, or ignores it.
    pub no_stream_options: bool,
    /// It knows no `developer` role: such messages go as `system`.
    pub no_developer_role: bool,
    /// The field of an assistant's message in which it takes its own reasoning back.
    pub reasoning_field: Option<String>,
    /// It takes tool calls' ids of exactly nine letters and digits only.
    pub short_call_ids: bool,
    /// It refuses a user's message behind a tool's result: media of results can't be told to it.
    pub no_user_after_tool: bool,
    /// It goes on with a last message of an assistant where it is told to by two fields
    /// (`continue_final_message`, `add_generation_prompt`), and else begins another.
    pub continue_fields: bool,
    /// The path at which it goes on with a last message of an assistant that has `prefix: true` in
    /// it. Only where Holdfast asks for an answer's rest: all else goes the usual way.
    pub prefix_path: Option<String>,
    /// Where it takes marks for a prompt cache (`cache_control`), if it does.
    pub cache_control: Option<CacheControlPlace>,
    /// Its streams end without `[DONE]`.
    pub no_done: bool,
    /// Fields that it refuses or ignores: left out of what is rendered, and reported.
    pub drops: Vec<String>,
    /// Fields that it refuses or ignores and without which the answer would not be what was asked
    /// for: a request that would have one is refused.
    pub refuses: Vec<String>,
}

/// Where a server of chat completions takes marks for a prompt cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheControlPlace {
    /// In parts of the content, whoever speaks.
    Parts,
    /// In parts of what user and system say, and beside the content of answers and results.
    Messages,
}

/// A rendered request.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// The body.
    pub body: Bytes,
    /// Names of what could not be said and was left out.
    pub dropped: Vec<String>,
    /// Request headers that depend on what is said, lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The output cap that the format had to be given though nobody set one, in tokens.
    pub output_cap: Option<u64>,
}

/// How an upstream's answer is to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Whether it is a stream; else one JSON body.
    pub stream: bool,
    /// Whether deltas are wanted; else raw bytes are.
    pub decode: bool,
    /// Whether the usage that was asked for on our own account is withheld from the client's bytes.
    pub withhold_usage: bool,
    /// What was asked of the model.
    pub operation: Operation,
    /// Whether leading frames without content wait for the first frame that has some, so that
    /// another target can still be asked until then.
    pub hold_preamble: bool,
}

/// Reads an upstream's answer. Exactly one `Finish` or `Failed` is emitted, by `push` or by `end`.
pub trait ReadResponse: Send {
    /// Takes the next bytes of the body.
    fn push(&mut self, chunk: Bytes, events: &mut VecDeque<OutcomeEvent>);
    /// The body has ended, cleanly or not.
    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>);
}

/// How an answer is to be written.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Whether it is a stream; else one JSON body at the end.
    pub stream: bool,
    /// Whether the client asked for the usage in the stream.
    pub include_usage: bool,
    /// Id of the answer, in the format's own form.
    pub id: String,
    /// The model that the client asked for.
    pub model: String,
    /// When the Call came in.
    pub created: Timestamp,
}

/// What an answer is written in view of.
#[derive(Clone, Copy, Debug)]
pub struct WriteContext<'a> {
    /// The client's request, where there is one in bytes.
    pub request: Option<&'a Bytes>,
    /// Says when the answer is whole.
    pub clock: &'a SharedClock,
}

/// What a client was passed of an answer that broke off, beside its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Whether the answer has begun at all: else only signs of life passed.
    pub started: bool,
    /// The answer's id.
    pub id: Option<String>,
    /// The model's name.
    pub model: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: Option<u64>,
    /// The number of the content block that is open, else of the next.
    pub block: u32,
    /// Whether a block of text is open.
    pub is_open: bool,
    /// Whether its events have ids: then nothing may be put between them.
    pub carried_ids: bool,
}

/// Writes an answer for a client from neutral events.
pub trait WriteResponse: Send {
    /// The target answers.
    fn start(&mut self, start: &Start, out: &mut BytesMut);
    /// A piece of it.
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut);
    /// These bytes of a target of this format are passed on as they came: what is written behind
    /// them has to fit.
    fn passed(&mut self, _bytes: &Bytes) {}
    /// What comes follows bytes of a target of this format that were passed on: nothing that they
    /// have said may be said again. Only of formats that [read](Format::read_begun) such bytes.
    fn go_on(&mut self, _begun: &Begun) {}
    /// The stream has been silent for long: what this format's clients take as a sign of life.
    /// Comments do not reset every client's timer, so that a format without such a frame writes
    /// nothing.
    fn keep_alive(&mut self, out: &mut BytesMut) {
        out.reserve(0);
    }
    /// It is whole. `comment` is the SSE comment line to put directly before the terminal frame,
    /// without `: `.
    ///
    /// # Errors
    /// What came can't be said as a whole answer in this format. Nothing that looks whole was
    /// written: whoever writes ends with [`Self::fail`], or answers with the failure alone.
    fn finish(&mut self, finish: &Finish, comment: &str, out: &mut BytesMut)
    -> Result<(), Failure>;
    /// It broke after bytes were sent: an error in the format's own words, never a terminal frame
    /// that looks whole.
    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut);
}
