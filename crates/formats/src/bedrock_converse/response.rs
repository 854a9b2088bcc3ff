//! Answers in one piece: read from an upstream or written for a client.
//!
//! The content blocks, the usage and the reason why the model stopped are read out of the body. A
//! body that is no answer is a failure that may have been billed. The writer holds at most
//! [`BODY_BYTES_MAX`] bytes.

pub(crate) mod usage;

use std::borrow::Cow;

use ::types::Failure;
use ::types::format::{ReadOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start, Stop};
use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use self::usage::{Tier, end_json, reason_of, stop_of, stop_text, usage_of};
use super::{NAME, errors};
use crate::anthropic_messages::response::blocks::{Block, Blocks, Kind};
use crate::anthropic_messages::response::{broken_call, quoted, was_cut};
use crate::whole::{BODY_BYTES_MAX, failed, no_answer};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow)]
    output: Output<'a>,
    stop_reason: String,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<Tier<'a>>,
    #[serde(borrow, default)]
    additional_model_response_fields: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Vec<BlockBody<'a>>,
}

/// A content block: one of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockBody<'a> {
    #[serde(default)]
    text: Option<String>,
    #[serde(borrow, default)]
    tool_use: Option<ToolUse<'a>>,
    #[serde(default)]
    reasoning_content: Option<ReasoningContent>,
    #[serde(default)]
    citations_content: Option<Citations>,
    #[serde(default)]
    image: Option<IgnoredAny>,
    #[serde(default)]
    audio: Option<IgnoredAny>,
    #[serde(default)]
    video: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    #[serde(default)]
    tool_use_id: String,
    #[serde(default)]
    name: String,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    /// A tool that the provider runs itself.
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningContent {
    #[serde(default)]
    reasoning_text: Option<ReasoningText>,
    #[serde(default)]
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    #[serde(default)]
    text: String,
    #[serde(default)]
    signature: Option<String>,
}

#[derive(Deserialize)]
struct Citations {
    #[serde(default)]
    content: Vec<Cited>,
}

#[derive(Deserialize)]
struct Cited {
    #[serde(default)]
    text: Option<String>,
}

/// Reads a JSON answer.
pub(crate) fn read(body: &[u8], _options: &ReadOptions) -> Result<(Vec<Delta>, Finish), Failure> {
    let answer: Answer<'_> = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(error) => {
            return Err(no_answer(Some(&error), "message", || errors::parse_in_answer(body)));
        }
    };
    let usage = usage_of(answer.usage, answer.service_tier.as_ref());
    let billed = |failure: Failure| match usage {
        Some(usage) => failure.billed(usage.into()),
        None => failure,
    };
    let stop = stop_of(&answer.stop_reason).map_err(billed)?;
    let deltas = take_apart(answer.output.message.content).map_err(billed)?;
    let stop_text = stop_text(answer.additional_model_response_fields);
    Ok((deltas, Finish { stop, stop_text, usage, ..Finish::default() }))
}

fn take_apart(blocks: Vec<BlockBody<'_>>) -> Result<Vec<Delta>, Failure> {
    let mut deltas = Vec::new();
    let mut index = 0u32;
    for block in blocks {
        if block.image.is_some() || block.audio.is_some() || block.video.is_some() {
            return Err(no_text());
        }
        deltas.extend(full(block.text).map(|text| Delta::Text { text }));
        let cited = block.citations_content.into_iter().flat_map(|cited| cited.content);
        let cited = cited.filter_map(|cited| full(cited.text));
        deltas.extend(cited.map(|text| Delta::Text { text }));
        if let Some(reasoning) = block.reasoning_content {
            take_reasoning(reasoning, &mut deltas);
        }
        // Calls of tools that the provider runs itself: no other format has words for them.
        let Some(call) = block.tool_use.filter(|call| call.kind.is_none()) else { continue };
        if call.tool_use_id.is_empty() || call.name.is_empty() {
            return Err(failed("the provider's tool call has no id or no name"));
        }
        let (id, name) = (call.tool_use_id, call.name);
        deltas.push(Delta::ToolCallStart { index, id, name });
        let input = call.input.map(RawValue::get).filter(|input| !says_nothing(input));
        let json = input.map(str::to_owned);
        deltas.extend(json.map(|json| Delta::ToolCallArguments { index, json }));
        index += 1;
    }
    Ok(deltas)
}

fn take_reasoning(reasoning: ReasoningContent, deltas: &mut Vec<Delta>) {
    if let Some(said) = reasoning.reasoning_text {
        deltas.extend(full(Some(said.text)).map(|text| Delta::Reasoning { text }));
        deltas.extend(full(said.signature).map(|signature| signed(signature, false)));
    }
    deltas.extend(full(reasoning.redacted_content).map(|data| signed(data, true)));
}

/// The failure of an answer in pictures or sound, which no delta can say.
pub(super) fn no_text() -> Failure {
    failed("the provider's answer holds media, which can't be told")
}

/// The end of a piece of reasoning.
pub(super) fn signed(signature: String, redacted: bool) -> Delta {
    Delta::ReasoningSignature { signature, redacted, origin: NAME.to_owned() }
}

/// A text that says something.
pub(super) fn full(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Whether an input has no arguments.
fn says_nothing(input: &str) -> bool {
    let inner = input.strip_prefix('{').and_then(|input| input.strip_suffix('}'));
    input == "null" || inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

/// Writes a JSON answer at its end.
pub(crate) struct Writer {
    blocks: Blocks,
}

impl Writer {
    pub(crate) const fn new() -> Self {
        Self { blocks: Blocks::signed_by(NAME) }
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
}

fn block_json(block: &Block) -> String {
    let (text, signature) = (quoted(&block.text), quoted(&block.signature));
    match block.kind {
        Kind::Text => format!("{{\"text\":{text}}}"),
        Kind::Thinking if block.signature.is_empty() => {
            format!("{{\"reasoningContent\":{{\"reasoningText\":{{\"text\":{text}}}}}}}")
        }
        Kind::Thinking => format!(
            "{{\"reasoningContent\":{{\"reasoningText\":{{\"text\":{text},\
             \"signature\":{signature}}}}}}}"
        ),
        Kind::Redacted => {
            format!("{{\"reasoningContent\":{{\"redactedContent\":{signature}}}}}")
        }
        Kind::Tool => {
            // As the model wrote it: reading it would lose large numbers.
            let input = if block.text.trim_ascii().is_empty() { "{}" } else { &block.text };
            let (id, name) = (quoted(&block.id), quoted(&block.name));
            format!("{{\"toolUse\":{{\"toolUseId\":{id},\"name\":{name},\"input\":{input}}}}}")
        }
    }
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
        if self.blocks.too_large() {
            return Err(failed(format!("the answer is larger than {BODY_BYTES_MAX} bytes")));
        }
        let reason = reason_of(finish, self.blocks.has_calls);
        let content = self.content(finish.stop)?;
        let (stopped, usage) = end_json(finish, reason);
        let message = format!(
            "{{\"output\":{{\"message\":{{\"role\":\"assistant\",\"content\":{content}}}}},\
             {stopped},\"usage\":{usage}}}"
        );
        out.put_slice(message.as_bytes());
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, _call: &CallId, out: &mut BytesMut) {
        out.put_slice(&errors::render(failure));
    }
}

#[cfg(test)]
mod tests;
