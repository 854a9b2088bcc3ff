//! Answers in one piece: read from an upstream or written for a client.
//!
//! The reader passes the body on as it came, in one frame, and reads the usage, the stop reason and
//! the model out of it; where deltas are wanted it takes the content blocks apart. A body that is
//! no answer is a failure that may have been billed. A count of tokens is an answer too: it passes.
//! Both sides hold at most [`BODY_BYTES_MAX`] bytes.

pub(crate) mod blocks;
pub(crate) mod usage;

use std::borrow::Cow;
use std::collections::VecDeque;

use ::types::call::Operation;
use ::types::error::Billed;
use ::types::format::{ReadOptions, ReadResponse, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, OutcomeEvent, Start, Stop};
use ::types::{ErrorCode, Failure};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::blocks::{Block, BlockBody, Blocks, Kind};
use self::usage::{Counted, PAUSED, reason_of, stop_of, usage_object};
use super::{NAME, errors};

/// Bytes of an answer's body at most.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads a JSON answer.
pub(crate) struct Reader {
    options: ReadOptions,
    first: Bytes,
    more: BytesMut,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(options: ReadOptions) -> Self {
        Self { options, first: Bytes::new(), more: BytesMut::new(), ended: false }
    }

    fn fail(&mut self, failure: Failure, events: &mut VecDeque<OutcomeEvent>) {
        self.ended = true;
        events.push_back(OutcomeEvent::Failed(Box::new(failure)));
    }

    fn body(&mut self) -> Bytes {
        if self.more.is_empty() {
            return std::mem::take(&mut self.first);
        }
        std::mem::take(&mut self.more).freeze()
    }

    fn read(&self, body: &[u8]) -> Result<(Option<Vec<Delta>>, Finish), Failure> {
        match self.options.operation {
            Operation::CountTokens => read_count(body).map(|finish| (None, finish)),
            Operation::Chat | Operation::Embed => read_message(body, self.options.decode),
        }
    }
}

impl ReadResponse for Reader {
    fn push(&mut self, chunk: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        if self.ended || chunk.is_empty() {
            return;
        }
        if self.first.is_empty() && self.more.is_empty() {
            self.first = chunk;
            return;
        }
        self.more.extend_from_slice(&std::mem::take(&mut self.first));
        if self.more.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
            let text = format!("the provider's answer is larger than {BODY_BYTES_MAX} bytes");
            self.fail(failed(text), events);
            return;
        }
        self.more.extend_from_slice(&chunk);
    }

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        if self.ended {
            return;
        }
        let body = self.body();
        match self.read(&body) {
            Ok((deltas, finish)) => {
                self.ended = true;
                match deltas {
                    Some(deltas) => events.extend(deltas.into_iter().map(decoded)),
                    None => events.push_back(OutcomeEvent::Frame { raw: Some(body), delta: None }),
                }
                events.push_back(OutcomeEvent::Finish(finish));
            }
            Err(failure) => self.fail(failure, events),
        }
    }
}

pub(crate) const fn decoded(delta: Delta) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: None, delta: Some(delta) }
}

/// A failure of a provider that may have been billed.
pub(crate) fn failed(text: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown)
}

/// A paused turn would look whole in another format.
pub(crate) fn paused(counted: &Counted) -> Failure {
    let text = "the provider paused its answer to be asked for more, which only a client of the \
                Messages API can do";
    failed(text).billed(counted.usage().map_or(Billed::Unknown, Billed::Usage))
}

/// The failure of a body that is not what was asked for.
fn no_answer(body: &[u8], error: Option<&serde_json::Error>, what: &str) -> Failure {
    if error.is_some_and(serde_json::Error::is_eof) {
        let text = "the provider's answer ended before it was whole";
        return Failure::new(ErrorCode::StreamCut, text).billed(Billed::Unknown);
    }
    let text = || failed(format!("the provider answered with something that is no {what}"));
    errors::parse_in_answer(body).unwrap_or_else(text)
}

#[derive(Deserialize)]
struct Count {
    #[serde(rename = "input_tokens")]
    _input_tokens: u64,
}

/// Counting costs nothing, so that there is no usage.
fn read_count(body: &[u8]) -> Result<Finish, Failure> {
    match serde_json::from_slice::<Count>(body) {
        Ok(_) => Ok(Finish::default()),
        Err(error) => Err(no_answer(body, Some(&error), "count of tokens")),
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    model: Option<String>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

fn read_message(body: &[u8], decode: bool) -> Result<(Option<Vec<Delta>>, Finish), Failure> {
    let message: Message<'_> = match serde_json::from_slice(body) {
        Ok(message) => message,
        Err(error) => return Err(no_answer(body, Some(&error), "message")),
    };
    let Some(content) = message.content.filter(|_| message.kind == "message") else {
        return Err(no_answer(body, None, "message"));
    };
    let mut counted = Counted::default();
    counted.take(message.usage);
    let reason = message.stop_reason.as_deref();
    if decode && reason == Some(PAUSED) {
        return Err(paused(&counted));
    }
    let deltas = if decode { Some(take_apart(content.get())?) } else { None };
    let finish = Finish {
        stop: reason.map_or(Stop::End, stop_of),
        stop_text: message.stop_sequence,
        usage: counted.usage(),
        model_version: message.model,
        ..Finish::default()
    };
    Ok((deltas, finish))
}

fn take_apart(content: &str) -> Result<Vec<Delta>, Failure> {
    let unreadable = |_| failed("the provider's message has content that can't be read");
    let blocks: Vec<BlockBody<'_>> = serde_json::from_str(content).map_err(unreadable)?;
    let full = |text: &String| !text.is_empty();
    let origin = || NAME.to_owned();
    let mut deltas = Vec::new();
    let mut index = 0u32;
    for mut block in blocks {
        match block.kind.as_ref() {
            "text" => {
                deltas.extend(block.text.filter(full).map(|text| Delta::Text { text }));
            }
            "thinking" => {
                deltas.extend(block.thinking.filter(full).map(|text| Delta::Reasoning { text }));
                let signature = block.signature.filter(full);
                deltas.extend(signature.map(|signature| Delta::ReasoningSignature {
                    signature,
                    redacted: false,
                    origin: origin(),
                }));
            }
            "redacted_thinking" => {
                let data = block.data.filter(full);
                deltas.extend(data.map(|signature| Delta::ReasoningSignature {
                    signature,
                    redacted: true,
                    origin: origin(),
                }));
            }
            "tool_use" => {
                let arguments = block.arguments();
                let Some((id, name)) = block.take_call() else {
                    return Err(failed("the provider's tool call has no id or no name"));
                };
                deltas.push(Delta::ToolCallStart { index, id, name });
                deltas.extend(arguments.map(|json| Delta::ToolCallArguments { index, json }));
                index += 1;
            }
            // Blocks of tools that the provider runs itself: no other format has words for them.
            _ => {}
        }
    }
    Ok(deltas)
}

/// Writes a JSON answer at its end.
pub(crate) struct Writer {
    options: WriteOptions,
    blocks: Blocks,
}

impl Writer {
    pub(crate) fn new(options: WriteOptions) -> Self {
        Self { options, blocks: Blocks::default() }
    }

    /// The blocks as a JSON list.
    fn content(&mut self, stop: Stop) -> Result<String, Failure> {
        let mut content = String::new();
        while let Some(block) = self.blocks.pop_first() {
            if block.is_broken() {
                if was_cut(stop) {
                    // There is no call that a client could run.
                    continue;
                }
                return Err(broken_call(&block.name));
            }
            let separator = if content.is_empty() { '[' } else { ',' };
            content.push(separator);
            content.push_str(&block_json(&block));
        }
        content.push_str(if content.is_empty() { "[]" } else { "]" });
        Ok(content)
    }

    fn message(&mut self, finish: &Finish) -> Result<String, Failure> {
        if self.blocks.too_large() {
            return Err(failed(format!("the answer is larger than {BODY_BYTES_MAX} bytes")));
        }
        let (reason, sequence) = reason_of(finish, self.blocks.has_calls);
        let content = self.content(finish.stop)?;
        let (id, model) = (quoted(&self.options.id), quoted(&self.options.model));
        let sequence = Value::from(sequence);
        let usage = usage_object(finish.usage.as_ref());
        Ok(format!(
            "{{\"id\":{id},\"type\":\"message\",\"role\":\"assistant\",\"model\":{model},\
             \"content\":{content},\"stop_reason\":\"{reason}\",\"stop_sequence\":{sequence},\
             \"usage\":{usage}}}"
        ))
    }
}

/// Whether the model was stopped in the middle of what it said: then half a call is no mistake.
pub(crate) const fn was_cut(stop: Stop) -> bool {
    matches!(stop, Stop::Length | Stop::ContentFilter)
}

/// The failure of a call that this format can't say.
pub(crate) fn broken_call(name: &str) -> Failure {
    failed(format!("the model's arguments for the tool '{name}' are no JSON object"))
}

fn block_json(block: &Block) -> String {
    let (text, signature) = (quoted(&block.text), quoted(&block.signature));
    match block.kind {
        Kind::Text => format!("{{\"type\":\"text\",\"text\":{text}}}"),
        Kind::Thinking => {
            format!("{{\"type\":\"thinking\",\"thinking\":{text},\"signature\":{signature}}}")
        }
        Kind::Redacted => format!("{{\"type\":\"redacted_thinking\",\"data\":{signature}}}"),
        Kind::Tool => {
            // As the model wrote it: reading it would lose large numbers.
            let input = if block.text.trim_ascii().is_empty() { "{}" } else { &block.text };
            let (id, name) = (quoted(&block.id), quoted(&block.name));
            format!("{{\"type\":\"tool_use\",\"id\":{id},\"name\":{name},\"input\":{input}}}")
        }
    }
}

/// A JSON text.
pub(crate) fn quoted(text: &str) -> Value {
    Value::from(text)
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, _out: &mut BytesMut) {}

    fn delta(&mut self, delta: &Delta, _out: &mut BytesMut) {
        if !self.blocks.too_large() {
            self.blocks.take(delta);
        }
    }

    fn finish(
        &mut self,
        finish: &Finish,
        _comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        out.put_slice(self.message(finish)?.as_bytes());
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        out.put_slice(&errors::render(failure, Some(call)));
    }
}

#[cfg(test)]
mod tests;
