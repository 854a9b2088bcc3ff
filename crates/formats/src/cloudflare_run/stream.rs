//! Streamed answers: events with a piece of text each, written for a client.
//!
//! `data: {"response":"…"}` for each piece, one event with the calls, if there are any, one with
//! the finish reason and the usage, and `data: [DONE]`. Calls come whole, as Workers AI gives them:
//! there is no event for a piece of one. A stream that breaks ends in the error's envelope, without
//! `[DONE]`.

use ::types::Failure;
use ::types::format::WriteResponse;
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start};
use bytes::BytesMut;
use serde_json::{Map, Value};

use super::errors;
use super::response::{Calls, ending};
use crate::sse;

/// Writes a stream.
#[derive(Debug, Default)]
pub(super) struct Writer {
    calls: Calls,
}

/// An event. Each has a `response`: clients join the field without looking.
fn event(text: &str, others: Map<String, Value>, out: &mut BytesMut) {
    let mut fields = Map::new();
    fields.insert("response".to_owned(), text.into());
    fields.extend(others);
    sse::write_data(Value::Object(fields).to_string().as_bytes(), out);
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, _out: &mut BytesMut) {}

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        match delta {
            Delta::Text { text } | Delta::Refusal { text } => event(text, Map::new(), out),
            Delta::Reasoning { text } => {
                let piece = ("reasoning_content".to_owned(), text.as_str().into());
                event("", Map::from_iter([piece]), out);
            }
            Delta::ToolCallStart { .. } | Delta::ToolCallArguments { .. } => self.calls.take(delta),
            // This format has no field for a signature, and only a Tool Call's outcome has a
            // result.
            Delta::ReasoningSignature { .. } | Delta::ToolResult { .. } => {}
        }
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        event("", Map::new(), out);
    }

    fn finish(
        &mut self,
        finish: &Finish,
        comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        if let Some(calls) = self.calls.rendered() {
            event("", Map::from_iter([("tool_calls".to_owned(), calls)]), out);
        }
        let mut last = Map::new();
        ending(finish, &mut last);
        event("", last, out);
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
