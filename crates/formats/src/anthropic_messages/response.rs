//! Answers in one piece: read from an upstream or written for a client.
//!
//! The reader passes the body on as it came, in one frame, and reads the usage, the stop reason and
//! the model out of it; where deltas are wanted it takes the content blocks apart. A body that is
//! no answer is a failure that may have been billed. A count of tokens is an answer too: it passes.
//! Both sides hold at most the bytes that [`crate::whole`] allows.

pub(crate) mod blocks;
pub(crate) mod usage;

use std::borrow::Cow;

use ::types::Failure;
use ::types::call::Operation;
use ::types::format::{ReadOptions, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, OutcomeEvent, Start, Stop};
use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::blocks::{Block, BlockBody, Blocks, Kind};
use self::usage::{Counted, PAUSED, reason_of, stop_of, usage_object};
use super::{NAME, errors};
use crate::whole::{self, BODY_BYTES_MAX, failed};

/// Reads a JSON answer: a message, or a count.
pub(crate) fn read(body: &[u8], options: &ReadOptions) -> Result<(Vec<Delta>, Finish), Failure> {
    match options.operation {
        Operation::CountTokens => Ok((Vec::new(), read_count(body)?)),
        Operation::Chat | Operation::Embed => read_message(body, options.decode),
    }
}

pub(crate) const fn decoded(delta: Delta) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: None, delta: Some(delta) }
}

/// A paused turn would look whole in another format.
pub(crate) fn paused(counted: &Counted) -> Failure {
    let text = "the provider paused its answer to be asked for more, which only a client of the \
                Messages API can do";
    failed(text).billed(counted.usage().into())
}

/// The failure of a body that is not what was asked for.
fn no_answer(body: &[u8], error: Option<&serde_json::Error>, what: &str) -> Failure {
    whole::no_answer(error, what, || errors::parse_in_answer(body))
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

fn read_message(body: &[u8], decode: bool) -> Result<(Vec<Delta>, Finish), Failure> {
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
    let deltas = if decode { take_apart(content.get())? } else { Vec::new() };
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
