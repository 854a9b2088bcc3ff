//! Neutral deltas as parts of an answer.
//!
//! Text goes on as it comes. A call is one object here, so that it waits until its arguments are
//! whole; a signature waits for the part that it signs. What waits is at most [`HELD_BYTES_MAX`].

use std::collections::VecDeque;

use ::types::Failure;
use ::types::outcome::{Delta, Stop};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::gemini::{NAME, signature};
use crate::whole::failed;

/// Bytes of calls that wait at most: as large as an answer in one piece may be.
const HELD_BYTES_MAX: usize = crate::whole::BODY_BYTES_MAX;

/// A part that is to be written.
#[derive(Debug)]
pub(crate) struct Part {
    kind: Kind,
    /// Its text, or a call's arguments.
    text: String,
    signature: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thought,
    Call { id: String, name: String },
}

impl Part {
    /// The part as JSON.
    pub(crate) fn json(&self) -> String {
        let mut json = match &self.kind {
            Kind::Text => format!("{{\"text\":{}", quoted(&self.text)),
            Kind::Thought => format!("{{\"text\":{},\"thought\":true", quoted(&self.text)),
            Kind::Call { id, name } => {
                // As the model wrote it: reading it would lose large numbers.
                let args = if self.text.trim_ascii().is_empty() { "{}" } else { &self.text };
                let (id, name) = (quoted(id), quoted(name));
                format!("{{\"functionCall\":{{\"id\":{id},\"name\":{name},\"args\":{args}}}")
            }
        };
        if let Some(signature) = &self.signature {
            json.push_str(&format!(",\"thoughtSignature\":{}", quoted(signature)));
        }
        json.push('}');
        json
    }
}

/// A JSON text.
pub(crate) fn quoted(text: &str) -> Value {
    Value::from(text)
}

/// Adds a part to those of an answer in one piece: pieces of one kind are one part.
pub(crate) fn join(said: &mut Vec<Part>, part: Part) {
    if let Some(last) = said.last_mut()
        && last.kind == part.kind
        && last.signature.is_none()
        && !matches!(part.kind, Kind::Call { .. })
        && (part.kind == Kind::Thought || part.signature.is_none())
    {
        last.text.push_str(&part.text);
        last.signature = part.signature;
        return;
    }
    said.push(part);
}

/// A call whose arguments are coming.
#[derive(Debug)]
struct Pending {
    index: u32,
    part: Part,
}

impl Pending {
    fn is_whole(&self) -> bool {
        let text = &self.part.text;
        text.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
    }
}

/// What waits of an answer.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    calls: VecDeque<Pending>,
    held: usize,
    /// The signature of the part that comes next.
    signature: Option<String>,
}

impl Parts {
    /// Takes a piece of the answer, and gives what can be written.
    pub(crate) fn take(&mut self, delta: &Delta, give: &mut dyn FnMut(Part)) {
        if self.held > HELD_BYTES_MAX {
            return;
        }
        match delta {
            Delta::Text { text } | Delta::Refusal { text } => {
                self.text(Kind::Text, text, give);
            }
            Delta::Reasoning { text } => self.text(Kind::Thought, text, give),
            Delta::ReasoningSignature { signature, redacted: true, origin } if origin == NAME => {
                self.give_signature(give);
                self.signature = Some(signature.clone());
            }
            Delta::ReasoningSignature { signature, redacted, origin } => {
                self.give_whole(give);
                let carried = signature::carried(signature, *redacted, origin);
                let (text, signature) = (String::new(), Some(carried));
                give(Part { kind: Kind::Thought, text, signature });
            }
            Delta::ToolCallStart { index, id, name } => {
                self.give_whole(give);
                self.held = self.held.saturating_add(id.len()).saturating_add(name.len());
                let kind = Kind::Call { id: id.clone(), name: name.clone() };
                let (text, signature) = (String::new(), self.signature.take());
                let part = Part { kind, text, signature };
                self.calls.push_back(Pending { index: *index, part });
            }
            Delta::ToolCallArguments { index, json } => {
                let call = self.calls.iter_mut().rev().find(|call| call.index == *index);
                if let Some(call) = call {
                    call.part.text.push_str(json);
                    self.held = self.held.saturating_add(json.len());
                }
            }
            // Only a Tool Call's outcome has it, and this format is of models.
            Delta::ToolResult { .. } => {}
        }
    }

    fn text(&mut self, kind: Kind, text: &str, give: &mut dyn FnMut(Part)) {
        if text.is_empty() {
            return;
        }
        self.give_whole(give);
        let signature = match kind {
            Kind::Thought => {
                self.give_signature(give);
                None
            }
            Kind::Text | Kind::Call { .. } => self.signature.take(),
        };
        give(Part { kind, text: text.to_owned(), signature });
    }

    /// A signature behind which nothing came.
    fn give_signature(&mut self, give: &mut dyn FnMut(Part)) {
        if let Some(signature) = self.signature.take() {
            let (text, signature) = (String::new(), Some(signature));
            give(Part { kind: Kind::Text, text, signature });
        }
    }

    /// Gives the calls that are whole. Calls come interleaved from some targets, and keep their
    /// order.
    fn give_whole(&mut self, give: &mut dyn FnMut(Part)) {
        while self.calls.front().is_some_and(Pending::is_whole) {
            let Some(call) = self.calls.pop_front() else { return };
            self.held = self.held.saturating_sub(call.part.text.len());
            give(call.part);
        }
    }

    /// The answer has ended: gives what waits.
    pub(crate) fn finish(&mut self, stop: Stop, give: &mut dyn FnMut(Part)) -> Result<(), Failure> {
        if self.held > HELD_BYTES_MAX {
            let text = format!("the answer has calls of more than {HELD_BYTES_MAX} bytes");
            return Err(failed(text));
        }
        let was_cut = matches!(stop, Stop::Length | Stop::ContentFilter);
        while let Some(call) = self.calls.pop_front() {
            if call.is_whole() || call.part.text.trim_ascii().is_empty() {
                give(call.part);
            } else if !was_cut {
                let text = "the model's arguments for a function are no JSON object";
                return Err(failed(text));
            }
        }
        self.give_signature(give);
        Ok(())
    }
}
