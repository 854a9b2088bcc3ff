//! Whole answers: one JSON body in Cloudflare's envelope, written for a client.
//!
//! A call's arguments are an object, as Workers AI gives them; text that is none stays text, so
//! that nothing the model said is lost.

use ::types::format::WriteResponse;
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start};
use ::types::{ErrorCode, Failure};
use bytes::{BufMut, BytesMut};
use serde_json::{Map, Value, json};

use super::errors;
use crate::openai_chat::types::{reason_of, usage_object};

/// A tool call as it comes together.
#[derive(Debug)]
pub(super) struct Call {
    id: String,
    name: String,
    arguments: String,
}

/// The calls of an answer.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<Call>);

impl Calls {
    /// Takes what a delta says of calls.
    pub(super) fn take(&mut self, delta: &Delta) {
        match delta {
            Delta::ToolCallStart { id, name, .. } => {
                let (id, name) = (id.clone(), name.clone());
                self.0.push(Call { id, name, arguments: String::new() });
            }
            Delta::ToolCallArguments { index, json } => {
                let place = usize::try_from(*index).unwrap_or(usize::MAX);
                if let Some(call) = self.0.get_mut(place) {
                    call.arguments.push_str(json);
                }
            }
            Delta::Text { .. }
            | Delta::Reasoning { .. }
            | Delta::ReasoningSignature { .. }
            | Delta::Refusal { .. }
            | Delta::ToolResult { .. } => {}
        }
    }

    /// The field `tool_calls`; `None` if there are none.
    pub(super) fn rendered(&self) -> Option<Value> {
        let calls = self.0.iter().enumerate().map(|(index, call)| {
            let arguments = arguments_of(&call.arguments);
            json!({ "index": index, "id": call.id, "name": call.name, "arguments": arguments })
        });
        (!self.0.is_empty()).then(|| calls.collect())
    }
}

fn arguments_of(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Value::Object(object),
        Ok(_) | Err(_) => text.into(),
    }
}

/// What stands at the end of an answer, streamed or not.
pub(super) fn ending(finish: &Finish, into: &mut Map<String, Value>) {
    into.insert("finish_reason".to_owned(), reason_of(finish.stop).into());
    let usage = finish.usage.as_ref().map(usage_object);
    into.extend(usage.map(|usage| ("usage".to_owned(), usage)));
}

/// Writes a JSON answer at its end.
#[derive(Debug)]
pub(super) struct Writer {
    /// Whether the text is JSON that was asked for.
    json: bool,
    text: String,
    reasoning: String,
    calls: Calls,
}

impl Writer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, text: String::new(), reasoning: String::new(), calls: Calls::default() }
    }

    /// The field `response`: `null` beside calls without text.
    fn response(&self) -> Result<Value, Failure> {
        if self.text.is_empty() && !self.calls.0.is_empty() {
            return Ok(Value::Null);
        }
        if !self.json {
            return Ok(self.text.as_str().into());
        }
        match serde_json::from_str(&self.text) {
            Ok(value) => Ok(value),
            // The client has no other place for it, and may want to read what came.
            Err(_) => Ok(self.text.as_str().into()),
        }
    }
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, _out: &mut BytesMut) {}

    fn delta(&mut self, delta: &Delta, _out: &mut BytesMut) {
        match delta {
            Delta::Text { text } | Delta::Refusal { text } => self.text.push_str(text),
            Delta::Reasoning { text } => self.reasoning.push_str(text),
            Delta::ToolCallStart { .. } | Delta::ToolCallArguments { .. } => self.calls.take(delta),
            // This format has no field for a signature, and only a Tool Call's outcome has a
            // result.
            Delta::ReasoningSignature { .. } | Delta::ToolResult { .. } => {}
        }
    }

    fn finish(
        &mut self,
        finish: &Finish,
        _comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        let mut result = Map::new();
        result.insert("response".to_owned(), self.response()?);
        if !self.reasoning.is_empty() {
            result.insert("reasoning_content".to_owned(), self.reasoning.as_str().into());
        }
        result.extend(self.calls.rendered().map(|calls| ("tool_calls".to_owned(), calls)));
        ending(finish, &mut result);
        out.put_slice(envelope(&Value::Object(result)).to_string().as_bytes());
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        out.put_slice(&errors::render(failure, Some(call)));
    }
}

/// A result as Cloudflare's REST API answers it.
pub(super) fn envelope(result: &Value) -> Value {
    json!({ "result": result, "success": true, "errors": [], "messages": [] })
}

/// What a provider's answer that can't be read is to a client.
pub(super) fn unreadable(what: &str) -> Failure {
    Failure::new(ErrorCode::UpstreamFailed, format!("the provider's answer {what}"))
}

#[cfg(test)]
pub(in crate::cloudflare_run) mod tests;
