//! Turns and their parts as neutral messages.
//!
//! Calls have ids in the neutral form, and here only sometimes: one without gets an id by its
//! place, which a longer history keeps, and an answer without is that of the first open call of its
//! function. A signature of a text or a call stands as reasoning of its own before it.

use ::types::Failure;
use ::types::conversation::{Message, Part, Role, ToolCall};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Rest, list, required};
use crate::gemini::request::MADE_ID;
use crate::gemini::{NAME, signature};
use crate::head::typed;
use crate::json::missing;
use crate::object::{Object, camel, mistyped};

/// Turns in one request at most.
const CONTENTS_MAX: usize = 100_000;
/// Parts of one turn at most.
const PARTS_MAX: usize = 100_000;
/// Where Google keeps files that were uploaded: nobody else can read them.
const GOOGLES_FILES: [&str; 2] =
    ["https://generativelanguage.googleapis.com/", "https://www.googleapis.com/"];

/// Reads the system prompt and the turns.
pub(super) fn messages(fields: &mut Object<'_>, rest: &mut Rest) -> Result<Vec<Message>, Failure> {
    let mut turns = Turns { messages: Vec::new(), open: Vec::new(), rest };
    let path = fields.path_of("systemInstruction");
    if let Some(raw) = fields.take("systemInstruction") {
        turns.system(raw, &path)?;
    }
    if fields.top().fields().all(|(name, _)| camel(name) != "contents") {
        return Err(missing(&fields.path_of("contents")));
    }
    for (index, (content, _)) in list(fields, "contents", CONTENTS_MAX)?.into_iter().enumerate() {
        turns.content(index, content)?;
    }
    Ok(turns.messages)
}

/// A call that has no answer yet: its id and its function.
type Call = (String, String);

struct Turns<'r> {
    messages: Vec<Message>,
    open: Vec<Call>,
    rest: &'r mut Rest,
}

impl Turns<'_> {
    fn system(&mut self, raw: &RawValue, path: &str) -> Result<(), Failure> {
        let text = match raw.get().as_bytes().first() {
            Some(b'"') => typed::<String>(raw, path, "a string")?.map(Part::text),
            _ => None,
        };
        let mut parts: Vec<Part> = text.into_iter().collect();
        if parts.is_empty() {
            let mut content = Object::read(raw, path)?.in_either_case()?;
            content.take("role");
            for (mut part, path) in list(&mut content, "parts", PARTS_MAX)? {
                let Some(text) = part.string("text")? else {
                    let text = "a system prompt can only be text here";
                    return Err(Failure::unsupported(path, text));
                };
                parts.push(Part::text(text));
                part.leave(self.rest);
            }
            content.leave(self.rest);
        }
        if !parts.is_empty() {
            self.messages.push(Message { role: Role::System, parts });
        }
        Ok(())
    }

    /// Reads one turn. A user's turn with functions' answers is told as a tool's message, and as a
    /// user's behind it if it says more.
    fn content(&mut self, index: usize, mut content: Object<'_>) -> Result<(), Failure> {
        let role = match content.string("role")?.as_deref().unwrap_or("user") {
            "user" | "function" | "tool" | "" => Role::User,
            "model" => Role::Assistant,
            other => {
                let text = format!("role '{other}' is not known: use user or model");
                return Err(Failure::invalid(content.path_of("role"), text));
            }
        };
        let mut parts = Vec::new();
        for (place, (mut part, _)) in
            list(&mut content, "parts", PARTS_MAX)?.into_iter().enumerate()
        {
            match role {
                Role::Assistant => self.said(&mut part, (index, place), &mut parts)?,
                _ => self.asked(&mut part, &mut parts)?,
            }
            part.leave(self.rest);
        }
        content.leave(self.rest);
        let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
        let (results, others): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(is_result);
        if !results.is_empty() {
            self.messages.push(Message { role: Role::Tool, parts: results });
        }
        if !others.is_empty() {
            self.messages.push(Message { role, parts: others });
        }
        Ok(())
    }

    /// A part of what a user says.
    fn asked(&mut self, part: &mut Object<'_>, parts: &mut Vec<Part>) -> Result<(), Failure> {
        // Nothing of theirs is signed.
        part.take("thoughtSignature");
        if let Some(text) = part.string("text")? {
            parts.push(Part::text(text));
        } else if let Some(mut answer) = part.object("functionResponse")? {
            parts.push(self.answer(&mut answer)?);
            answer.leave(self.rest);
        } else {
            parts.push(media(part)?);
        }
        Ok(())
    }

    /// A part of what the model said, at this place among the turns and their parts.
    fn said(
        &mut self,
        part: &mut Object<'_>,
        (content, place): (usize, usize),
        parts: &mut Vec<Part>,
    ) -> Result<(), Failure> {
        let carried = part.string("thoughtSignature")?.unwrap_or_default();
        let signature = signature::read(&carried);
        let thought = part.get("thought", "a boolean")?.unwrap_or(false);
        if thought {
            think(part.string("text")?.unwrap_or_default(), signature, parts);
            return Ok(());
        }
        if let Some(signature) = signature {
            parts.push(Part::Reasoning {
                text: String::new(),
                signature: Some(signature.text),
                // Google signs what it does not show; another vendor's seal says what is so.
                redacted: signature.redacted || signature.origin == NAME,
                origin: Some(signature.origin.to_owned()),
            });
        }
        if let Some(text) = part.string("text")? {
            if !text.is_empty() {
                parts.push(Part::text(text));
            }
        } else if let Some(mut call) = part.object("functionCall")? {
            let id = call.string("id")?.filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| format!("{MADE_ID}{content}_{place}"));
            let name = call.required_string("name")?;
            let path = call.path_of("args");
            let arguments = match call.take("args") {
                None => "{}",
                Some(raw) if raw.get().starts_with('{') => raw.get(),
                Some(raw) => return Err(mistyped(raw, &path, "an object")),
            };
            self.open.push((id.clone(), name.clone()));
            call.leave(self.rest);
            parts.push(Part::ToolCall(ToolCall { id, name, arguments: arguments.to_owned() }));
        } else {
            parts.push(media(part)?);
        }
        Ok(())
    }

    /// What a function answered.
    fn answer(&mut self, answer: &mut Object<'_>) -> Result<Part, Failure> {
        let id = answer.string("id")?.filter(|id| !id.is_empty());
        let name = answer.required_string("name")?;
        let place = self.open.iter().position(|(open, of)| match &id {
            Some(id) => open == id,
            None => *of == name,
        });
        let call_id = match (id, place.map(|place| self.open.remove(place))) {
            (Some(id), _) => id,
            (None, Some((id, _))) => id,
            (None, None) => {
                let path = answer.path_of("name");
                let text = format!("no call of the function '{name}' waits for this answer");
                return Err(Failure::invalid(path, text));
            }
        };
        let (text, is_error) = response_text(required(answer, "response")?);
        let mut parts: Vec<Part> =
            (!text.is_empty()).then(|| Part::text(text)).into_iter().collect();
        for (mut part, _) in list(answer, "parts", PARTS_MAX)? {
            parts.push(media(&mut part)?);
            part.leave(self.rest);
        }
        Ok(Part::ToolResult { call_id, parts, is_error })
    }
}

/// Thoughts come in pieces where they were streamed, the signature with the last one: what is
/// signed is the whole.
fn think(text: String, signature: Option<signature::Signature>, parts: &mut Vec<Part>) {
    let redacted = signature.as_ref().is_some_and(|signature| signature.redacted);
    let (signed, origin) = match signature {
        Some(signature) => (Some(signature.text), Some(signature.origin.to_owned())),
        None => (None, None),
    };
    match parts.last_mut() {
        Some(Part::Reasoning { text: before, signature: slot @ None, origin: whose, .. })
            if !redacted =>
        {
            before.push_str(&text);
            *slot = signed;
            *whose = origin;
        }
        _ if text.is_empty() && signed.is_none() => {}
        _ => parts.push(Part::Reasoning { text, signature: signed, redacted, origin }),
    }
}

/// The text of a function's answer, and whether it is an error. Models know the answer and the
/// error by these names, and SDKs write one of them.
fn response_text(response: &RawValue) -> (String, bool) {
    let fields = serde_json::from_str::<Map<String, Value>>(response.get());
    let whole = || response.get().to_owned();
    let Ok(fields) = fields else { return (whole(), false) };
    let mut names = fields.iter();
    let (Some((name, value)), None) = (names.next(), names.next()) else {
        return (whole(), false);
    };
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match name.as_str() {
        "output" | "result" => (text, false),
        "error" => (text, true),
        _ => (whole(), false),
    }
}

/// An image, a sound or a document.
fn media(part: &mut Object<'_>) -> Result<Part, Failure> {
    if let Some(mut data) = part.object("inlineData")? {
        let kind = data.required_string("mimeType")?;
        // SDKs write either alphabet of base64; the others take one.
        let bytes = data.required_string("data")?.replace('-', "+").replace('_', "/");
        let url = Some(format!("data:{kind};base64,{bytes}"));
        let name = data.string("displayName")?;
        return Ok(Part::Media { kind: kind_of(&kind), url, name, source: Value::Null });
    }
    if let Some(mut file) = part.object("fileData")? {
        let uri = file.required_string("fileUri")?;
        let kind = file.string("mimeType")?.unwrap_or_default();
        let name = file.string("displayName")?;
        let anyones = uri.starts_with("https:")
            && !GOOGLES_FILES.iter().any(|google| uri.starts_with(google));
        let (url, source) = if anyones {
            (Some(uri), Value::Null)
        } else {
            (None, json!({ "fileData": { "mimeType": kind, "fileUri": uri } }))
        };
        return Ok(Part::Media { kind: kind_of(&kind), url, name, source });
    }
    let name = part.top().fields().map(|(name, _)| camel(name)).next().unwrap_or_default();
    let text = if name.is_empty() {
        "a part must say something".to_owned()
    } else {
        format!("parts of type '{name}' are not offered here")
    };
    Err(Failure::unsupported(part.path_of(&name), text))
}

fn kind_of(media_type: &str) -> String {
    let kind = media_type.split('/').next().unwrap_or_default();
    if matches!(kind, "image" | "audio") { kind } else { "file" }.to_owned()
}
