//! A stream for a client from neutral deltas: the message begins, blocks follow one after another,
//! the message stops, the usage follows.
//!
//! Only one block is open at a time. Where a target's calls come interleaved, the first is written
//! as it comes and the others wait until it is whole. A stream that breaks ends with an exception,
//! and without `messageStop`.

use ::types::Failure;
use ::types::format::WriteResponse;
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start};
use bytes::BytesMut;
use serde_json::{Value, json};

use crate::anthropic_messages::response::blocks::{Block, Blocks, Change, HELD_BYTES_MAX, Kind};
use crate::anthropic_messages::response::{broken_call, was_cut};
use crate::bedrock_converse::response::usage::{end_json, reason_of};
use crate::bedrock_converse::{NAME, errors};
use crate::eventstream;
use crate::whole::failed;

const CONTENT_TYPE: (&str, &str) = (":content-type", "application/json");

/// Writes a stream.
pub(crate) struct Writer {
    started: bool,
    /// The blocks that are not yet ended; the first is the open one.
    blocks: Blocks,
    /// Whether the first block has begun for the client.
    opened: bool,
    /// The first block's number.
    index: u32,
}

impl Writer {
    pub(crate) const fn new() -> Self {
        Self { started: false, blocks: Blocks::signed_by(NAME), opened: false, index: 0 }
    }

    /// Nothing may come before the message's beginning.
    fn begin(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.started, true) {
            event("messageStart", br#"{"role":"assistant"}"#, out);
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
            let signed = json!({ "reasoningContent": { "signature": first.signature } });
            piece(self.index, &signed, out);
        }
        let stop = json!({ "contentBlockIndex": self.index });
        event("contentBlockStop", stop.to_string().as_bytes(), out);
        self.opened = false;
        self.index = self.index.saturating_add(1);
    }
}

fn event(name: &str, payload: &[u8], out: &mut BytesMut) {
    let headers = [(":event-type", name), CONTENT_TYPE, (":message-type", "event")];
    eventstream::write(&headers, payload, out);
}

/// `contentBlockDelta`.
fn piece(index: u32, delta: &Value, out: &mut BytesMut) {
    let payload = json!({ "delta": delta, "contentBlockIndex": index });
    event("contentBlockDelta", payload.to_string().as_bytes(), out);
}

/// What a piece of a block says.
fn said(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Text => json!({ "text": text }),
        Kind::Thinking | Kind::Redacted => json!({ "reasoningContent": { "text": text } }),
        Kind::Tool => json!({ "toolUse": { "input": text } }),
    }
}

/// Begins a block, with what of it has come already. Only calls have a beginning of their own.
fn open(block: &Block, index: u32, out: &mut BytesMut) {
    match block.kind {
        Kind::Tool => {
            let call = json!({ "toolUseId": block.id, "name": block.name });
            let start = json!({ "start": { "toolUse": call }, "contentBlockIndex": index });
            event("contentBlockStart", start.to_string().as_bytes(), out);
        }
        Kind::Redacted => {
            let hidden = json!({ "reasoningContent": { "redactedContent": block.signature } });
            piece(index, &hidden, out);
        }
        Kind::Text | Kind::Thinking => {}
    }
    if !block.text.is_empty() {
        piece(index, &said(block.kind, &block.text), out);
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
            Change::Nothing | Change::Grew(1..) => {}
            // Only the open block is written as it grows; it is the first.
            Change::Grew(0) => {
                let Some(first) = self.blocks.first() else { return };
                let text = match delta {
                    Delta::Text { text } | Delta::Refusal { text } | Delta::Reasoning { text } => {
                        text
                    }
                    Delta::ToolCallArguments { json, .. } => json,
                    Delta::ReasoningSignature { .. }
                    | Delta::ToolCallStart { .. }
                    | Delta::ToolResult { .. } => return,
                };
                piece(self.index, &said(first.kind, text), out);
                if first.kind != Kind::Tool {
                    self.blocks.forget_first_text();
                }
            }
            Change::Begun | Change::Ended => self.settle(out),
        }
    }

    fn finish(
        &mut self,
        finish: &Finish,
        _comment: &str,
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
        let (stopped, usage) = end_json(finish, reason_of(finish, self.blocks.has_calls));
        event("messageStop", format!("{{{stopped}}}").as_bytes(), out);
        // How long it took is not said: nobody here knows.
        let metadata = json!({ "usage": usage });
        event("metadata", metadata.to_string().as_bytes(), out);
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, _call: &CallId, out: &mut BytesMut) {
        // Streams spell exceptions' names with a small letter.
        let name = match errors::words(failure.code).0 {
            "ValidationException" => "validationException",
            "ThrottlingException" => "throttlingException",
            "ServiceUnavailableException" => "serviceUnavailableException",
            "ModelErrorException" | "ModelTimeoutException" => "modelStreamErrorException",
            _ => "internalServerException",
        };
        let headers = [(":exception-type", name), CONTENT_TYPE, (":message-type", "exception")];
        let payload = json!({ "message": errors::message(failure) });
        eventstream::write(&headers, payload.to_string().as_bytes(), out);
    }
}
