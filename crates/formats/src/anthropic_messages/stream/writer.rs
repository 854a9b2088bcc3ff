//! A stream for a client from neutral deltas, in the one order that SDKs take: the message begins,
//! blocks follow one after another, the message ends.
//!
//! Only one block is open at a time. Where a target's calls come interleaved, the first is written
//! as it comes and the others wait until it is whole. Every event has its `event:` line, without
//! which SDKs skip it.

use std::fmt::Write as _;

use ::types::Failure;
use ::types::format::{Begun, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start};
use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use crate::anthropic_messages::errors;
use crate::anthropic_messages::response::blocks::{Block, Blocks, Change, HELD_BYTES_MAX, Kind};
use crate::anthropic_messages::response::usage::{reason_of, usage_object};
use crate::anthropic_messages::response::{broken_call, quoted, was_cut};
use crate::sse;
use crate::whole::failed;

/// Writes a stream.
pub(crate) struct Writer {
    /// The data of `message_start`.
    message: Vec<u8>,
    started: bool,
    /// The blocks that are not yet ended; the first is the open one.
    blocks: Blocks,
    /// Whether the first block has begun for the client.
    opened: bool,
    /// The first block's number.
    index: u32,
}

impl Writer {
    pub(crate) fn new(options: &WriteOptions) -> Self {
        // SDKs need a usage here. What was counted is known at the end, which replaces it.
        let message = json!({ "type": "message_start", "message": {
            "id": options.id, "type": "message", "role": "assistant", "model": options.model,
            "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": 0, "output_tokens": 0 },
        }});
        let message = message.to_string().into_bytes();
        Self { message, started: false, blocks: Blocks::default(), opened: false, index: 0 }
    }

    /// Nothing may come before the message's beginning.
    fn begin(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.started, true) {
            sse::write_event("message_start", &self.message, out);
        }
    }

    /// Ends and begins blocks as far as what is known allows.
    fn settle(&mut self, out: &mut BytesMut) {
        while let Some(first) = self.blocks.first() {
            if !self.opened {
                open(first, self.index, out);
                self.opened = true;
            }
            if !(first.ended || self.blocks.len() > 1 && first.may_end()) {
                if first.kind != Kind::Tool {
                    self.blocks.forget_first_text();
                }
                return;
            }
            self.close_first(out);
        }
    }

    fn close_first(&mut self, out: &mut BytesMut) {
        let Some(first) = self.blocks.pop_first() else { return };
        if !self.opened {
            open(&first, self.index, out);
        }
        if first.kind == Kind::Thinking && !first.signature.is_empty() {
            piece(self.index, SIGNATURE, &first.signature, out);
        }
        out.put_slice(
            b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":",
        );
        write!(out, "{}", self.index).unwrap_or_default();
        out.put_slice(b"}\n\n");
        self.opened = false;
        self.index = self.index.saturating_add(1);
    }
}

/// The kind of a piece, and the field that has its text.
type PieceName = (&'static str, &'static str);
const TEXT: PieceName = ("text_delta", "text");
const THINKING: PieceName = ("thinking_delta", "thinking");
const SIGNATURE: PieceName = ("signature_delta", "signature");
const INPUT: PieceName = ("input_json_delta", "partial_json");

const fn piece_name(kind: Kind) -> PieceName {
    match kind {
        Kind::Text => TEXT,
        Kind::Thinking | Kind::Redacted => THINKING,
        Kind::Tool => INPUT,
    }
}

/// `content_block_delta`.
fn piece(index: u32, (kind, field): PieceName, text: &str, out: &mut BytesMut) {
    out.put_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    write!(out, "{index},\"delta\":{{\"type\":\"{kind}\",\"{field}\":").unwrap_or_default();
    serde_json::to_writer((&mut *out).writer(), text).unwrap_or_default();
    out.put_slice(b"}}\n\n");
}

/// `content_block_start`, and what of the block has come already.
fn open(block: &Block, index: u32, out: &mut BytesMut) {
    let body = match block.kind {
        Kind::Text => r#"{"type":"text","text":""}"#.to_owned(),
        Kind::Thinking => r#"{"type":"thinking","thinking":"","signature":""}"#.to_owned(),
        Kind::Redacted => {
            format!("{{\"type\":\"redacted_thinking\",\"data\":{}}}", quoted(&block.signature))
        }
        Kind::Tool => format!(
            "{{\"type\":\"tool_use\",\"id\":{},\"name\":{},\"input\":{{}}}}",
            quoted(&block.id),
            quoted(&block.name)
        ),
    };
    out.put_slice(
        b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
    );
    write!(out, "{index},\"content_block\":{body}}}\n\n").unwrap_or_default();
    if !block.text.is_empty() {
        piece(index, piece_name(block.kind), &block.text, out);
    }
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, out: &mut BytesMut) {
        self.begin(out);
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        self.begin(out);
        if self.blocks.too_large() {
            return;
        }
        match self.blocks.take(delta) {
            Change::Nothing => {}
            // Only the open block is written as it grows; it is the first.
            Change::Grew(0) => {
                let Some(first) = self.blocks.first() else { return };
                let text = match delta {
                    Delta::Text { text } | Delta::Refusal { text } | Delta::Reasoning { text } => {
                        text
                    }
                    Delta::ToolCallArguments { json, .. } => json,
                    _ => return,
                };
                piece(self.index, piece_name(first.kind), text, out);
                if first.kind != Kind::Tool {
                    self.blocks.forget_first_text();
                }
            }
            Change::Grew(_) => {}
            Change::Begun | Change::Ended => self.settle(out),
        }
    }

    fn go_on(&mut self, begun: &Begun) {
        self.started = true;
        self.index = begun.block;
        self.opened = begun.is_open;
        if begun.is_open {
            self.blocks.go_on_with_text();
        }
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        // SDKs take it at any time, before the message's beginning too.
        sse::write_event("ping", br#"{"type":"ping"}"#, out);
    }

    fn finish(
        &mut self,
        finish: &Finish,
        comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        self.begin(out);
        if self.blocks.too_large() {
            let text = format!("the answer has more than {HELD_BYTES_MAX} bytes that have to wait");
            return Err(failed(text));
        }
        while let Some(first) = self.blocks.first() {
            if first.is_broken() && !was_cut(finish.stop) {
                return Err(broken_call(&first.name));
            }
            self.close_first(out);
        }
        let (reason, sequence) = reason_of(finish, self.blocks.has_calls);
        let sequence = Value::from(sequence);
        let usage = usage_object(finish.usage.as_ref());
        out.put_slice(b"event: message_delta\ndata: {\"type\":\"message_delta\",");
        write!(
            out,
            "\"delta\":{{\"stop_reason\":\"{reason}\",\"stop_sequence\":{sequence}}},\"usage\":{usage}}}\n\n"
        )
        .unwrap_or_default();
        sse::write_comment(comment, out);
        sse::write_event("message_stop", br#"{"type":"message_stop"}"#, out);
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        // Not even a beginning before it: bytes of a passed stream may be out.
        sse::write_event("error", &errors::render(failure, Some(call)), out);
    }
}
