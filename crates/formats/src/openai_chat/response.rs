//! Whole answers: one JSON body, read from an upstream or written for a client.
//!
//! The reader passes the body on as it came, in one frame, and reads the usage, the stop reason and
//! the model out of it; where deltas are wanted it takes the first choice apart. A body that is no
//! answer is a failure that may have been billed. Both sides hold at most the bytes that
//! [`crate::whole`] allows.

use ::types::format::{ReadOptions, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start, Stop};
use ::types::{ErrorCode, Failure};
use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::errors;
use super::types::{
    Answer, CallDelta, Content, MeanLogprob, is_failure, reason_of, stop_of, usage_object,
};
use crate::whole::{failed, no_answer};

/// Reads a JSON answer.
pub(super) fn read(body: &[u8], options: &ReadOptions) -> Result<(Vec<Delta>, Finish), Failure> {
    let answer: Answer<'_> = match crate::json::parse(body) {
        Ok(answer) => answer,
        Err(error) => {
            let said = || errors::parse_in_answer(body);
            return Err(no_answer(Some(&error), "chat completion", said));
        }
    };
    let Some(choice) = answer.choices.first() else {
        return Err(failed("the provider answered without a choice".to_owned()));
    };
    if let Some(reason) = choice.finish_reason.as_deref().filter(|reason| is_failure(reason)) {
        return Err(errors::in_answer(ErrorCode::UpstreamFailed, reason));
    }
    let mut deltas = Vec::new();
    if let (true, Some(message)) = (options.decode, choice.message) {
        let id = answer.id.as_deref().unwrap_or_default();
        deltas = take_apart(message.get(), id)?;
    }
    let mut mean = MeanLogprob::default();
    if let Some(logprobs) = choice.logprobs.filter(|_| options.decode) {
        mean.take(logprobs);
    }
    let finish = Finish {
        stop: choice.finish_reason.as_deref().map_or(Stop::End, stop_of),
        usage: answer.usage(),
        model_version: answer.model,
        mean_logprob_micros: mean.micros(),
        ..Finish::default()
    };
    Ok((deltas, finish))
}

#[derive(Deserialize)]
struct AnswerMessage {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

fn take_apart(message: &str, answer_id: &str) -> Result<Vec<Delta>, Failure> {
    let unreadable = |_| failed("the provider's message can't be read".to_owned());
    let message: AnswerMessage = serde_json::from_str(message).map_err(unreadable)?;
    let mut deltas = Vec::new();
    let reasoning = message.reasoning_content.or(message.reasoning);
    let full = |text: &String| !text.is_empty();
    deltas.extend(reasoning.filter(full).map(|text| Delta::Reasoning { text }));
    let Content { thinking, text } = message.content.unwrap_or_default();
    deltas.extend(Some(thinking).filter(full).map(|text| Delta::Reasoning { text }));
    deltas.extend(Some(text).filter(full).map(|text| Delta::Text { text }));
    deltas.extend(message.refusal.filter(full).map(|text| Delta::Refusal { text }));
    for (index, call) in (0u32..).zip(message.tool_calls.unwrap_or_default()) {
        let function = call.function;
        let (name, arguments) = function.map(|f| (f.name, f.arguments)).unwrap_or_default();
        let Some(name) = name else {
            return Err(failed("the provider's tool call has no name".to_owned()));
        };
        let id = call.id.filter(full).unwrap_or_else(|| made_up_id(answer_id, index));
        deltas.push(Delta::ToolCallStart { index, id, name });
        let arguments = arguments.filter(full);
        deltas.extend(arguments.map(|json| Delta::ToolCallArguments { index, json }));
    }
    Ok(deltas)
}

/// An id for a call that came without one: unique as far as the answer's own id is.
pub(super) fn made_up_id(answer_id: &str, index: u32) -> String {
    let plain: String = answer_id.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    format!("call_{plain}{index}")
}

/// Writes a JSON answer at its end.
pub(super) struct Writer {
    options: WriteOptions,
    text: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    calls: Vec<(String, String, String)>,
}

impl Writer {
    pub(super) fn new(options: WriteOptions) -> Self {
        Self { options, text: None, reasoning: None, refusal: None, calls: Vec::new() }
    }

    fn message(&self) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), self.text.clone().into());
        message.insert("refusal".to_owned(), self.refusal.clone().into());
        let reasoning = self.reasoning.clone();
        message.extend(reasoning.map(|text| ("reasoning_content".to_owned(), text.into())));
        if !self.calls.is_empty() {
            let calls = self.calls.iter().map(|(id, name, arguments)| {
                let function = json!({ "name": name, "arguments": arguments });
                json!({ "id": id, "type": "function", "function": function })
            });
            message.insert("tool_calls".to_owned(), calls.collect::<Vec<_>>().into());
        }
        Value::Object(message)
    }
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, _out: &mut BytesMut) {}

    fn delta(&mut self, delta: &Delta, _out: &mut BytesMut) {
        match delta {
            Delta::Text { text } => self.text.get_or_insert_default().push_str(text),
            Delta::Reasoning { text } => self.reasoning.get_or_insert_default().push_str(text),
            Delta::Refusal { text } => self.refusal.get_or_insert_default().push_str(text),
            Delta::ToolCallStart { id, name, .. } => {
                self.calls.push((id.clone(), name.clone(), String::new()));
            }
            Delta::ToolCallArguments { index, json } => {
                let place = usize::try_from(*index).unwrap_or(usize::MAX);
                if let Some((_, _, arguments)) = self.calls.get_mut(place) {
                    arguments.push_str(json);
                }
            }
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
        for (_, _, arguments) in self.calls.iter_mut().filter(|call| call.2.is_empty()) {
            // A call without arguments: clients parse the text as JSON.
            arguments.push_str("{}");
        }
        if self.text.is_none() && self.calls.is_empty() && self.refusal.is_none() {
            self.text = Some(String::new());
        }
        let mut body = json!({
            "id": self.options.id,
            "object": "chat.completion",
            "created": self.options.created.seconds(),
            "model": self.options.model,
            "choices": [{
                "index": 0,
                "message": self.message(),
                "logprobs": null,
                "finish_reason": reason_of(finish.stop),
            }],
        });
        if let (Some(usage), Value::Object(body)) = (&finish.usage, &mut body) {
            body.insert("usage".to_owned(), usage_object(usage));
        }
        out.put_slice(body.to_string().as_bytes());
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        out.put_slice(&errors::render(failure, Some(call)));
    }
}

#[cfg(test)]
mod tests;
