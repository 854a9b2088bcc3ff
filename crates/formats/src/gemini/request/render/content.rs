//! Neutral messages as turns and their parts.
//!
//! Results of functions go to the calls that stand before them, in the order of the calls, with
//! the function's name, which the neutral form has at the call only. A signature that stands as
//! reasoning of its own is that of the part behind it.

use std::collections::HashMap;

use ::types::Failure;
use ::types::conversation::{Message, Part, Role, ToolCall};
use serde_json::value::RawValue;

use super::{Family, function_name};
use crate::gemini::NAME;
use crate::gemini::request::MADE_ID;
use crate::gemini::signature::SKIP;
use crate::gemini::types::{
    self, Blob, Content, File, FunctionCall, FunctionResponse, Piece, Response, System,
};
use crate::json::{at, join};

/// Types of media by the ends of their addresses: Google has to be told.
const TYPES: [(&str, &str); 14] = [
    (".png", "image/png"),
    (".jpg", "image/jpeg"),
    (".jpeg", "image/jpeg"),
    (".webp", "image/webp"),
    (".heic", "image/heic"),
    (".heif", "image/heif"),
    (".gif", "image/gif"),
    (".pdf", "application/pdf"),
    (".txt", "text/plain"),
    (".html", "text/html"),
    (".csv", "text/csv"),
    (".mp3", "audio/mp3"),
    (".wav", "audio/wav"),
    (".mp4", "video/mp4"),
];

/// The system prompt and the turns. What system and developer say first is the prompt; later words
/// of theirs can only be said as a user's, in their place.
pub(super) fn contents<'a>(
    messages: &'a [Message],
    family: Family,
    dropped: &mut Vec<String>,
) -> Result<(Option<System<'a>>, Vec<Content<'a>>), Failure> {
    let mut turns = Turns { family, names: HashMap::new(), calls: 0, dropped };
    let mut system = Vec::new();
    let mut rendered: Vec<Content<'a>> = Vec::with_capacity(messages.len());
    let mut results: Vec<(usize, Piece<'a>)> = Vec::new();
    let mut leading = true;
    for (index, message) in messages.iter().enumerate() {
        let path = at("messages", index);
        let of_system = matches!(message.role, Role::System | Role::Developer);
        leading &= of_system;
        if message.role == Role::Tool {
            turns.results(message, &path, &mut results)?;
            continue;
        }
        rendered.extend(joined(&mut results));
        let pieces = turns.pieces(message, &path)?;
        if pieces.is_empty() {
            continue;
        }
        if leading {
            system.extend(pieces);
            continue;
        }
        if of_system {
            turns.dropped.push("messages.role".to_owned());
        }
        let role = if message.role == Role::Assistant { "model" } else { "user" };
        rendered.push(Content { role, parts: pieces });
    }
    rendered.extend(joined(&mut results));
    let system = (!system.is_empty()).then_some(System { parts: system });
    Ok((system, rendered))
}

/// All results of one turn belong into one, in the order of their calls.
fn joined<'a>(results: &mut Vec<(usize, Piece<'a>)>) -> Option<Content<'a>> {
    if results.is_empty() {
        return None;
    }
    results.sort_by_key(|(place, _)| *place);
    let parts = results.drain(..).map(|(_, piece)| piece).collect();
    Some(Content { role: "user", parts })
}

/// What is known of the turns before.
struct Turns<'a, 'd> {
    family: Family,
    /// The calls by their ids: their places among all calls, and their functions.
    names: HashMap<&'a str, (usize, &'a str)>,
    calls: usize,
    dropped: &'d mut Vec<String>,
}

impl<'a> Turns<'a, '_> {
    fn pieces(&mut self, message: &'a Message, path: &str) -> Result<Vec<Piece<'a>>, Failure> {
        let mut pieces = Vec::with_capacity(message.parts.len());
        let mut signature: Option<&'a str> = None;
        let mut calls = 0;
        for (index, part) in message.parts.iter().enumerate() {
            let here = || at(&join(path, "content"), index);
            let piece = match (part, message.role) {
                (Part::Text { text } | Part::Refusal { text }, _) => {
                    if text.is_empty() {
                        continue;
                    }
                    types::Part { text: Some(text), ..types::Part::default() }
                }
                (Part::Media { .. }, Role::User | Role::Assistant) => {
                    pieces.extend(signature.take().map(alone));
                    pieces.push(media(part, &here, self.dropped)?);
                    continue;
                }
                (Part::ToolCall(call), Role::Assistant) => {
                    let path = at(&join(path, "tool_calls"), calls);
                    // Newer models refuse a turn whose first call nobody signed.
                    if calls == 0 && signature.is_none() && self.family == Family::New {
                        signature = Some(SKIP);
                    }
                    calls += 1;
                    self.call(call, &path)?
                }
                (Part::Reasoning { redacted, .. }, Role::Assistant) => {
                    let Some((text, signed)) = self.thought(part) else { continue };
                    pieces.extend(signature.take().map(alone));
                    if *redacted {
                        signature = Some(signed);
                        continue;
                    }
                    let (text, signed) = (Some(text), Some(signed));
                    let thought = types::Part { text, thought_signature: signed, ..thought() };
                    pieces.push(Piece::Part(Box::new(thought)));
                    continue;
                }
                (
                    Part::Media { .. }
                    | Part::ToolCall(_)
                    | Part::ToolResult { .. }
                    | Part::Reasoning { .. },
                    _,
                ) => {
                    let text = "a message of this role can't hold such a part";
                    return Err(Failure::unsupported(here(), text));
                }
            };
            let thought_signature = signature.take();
            pieces.push(Piece::Part(Box::new(types::Part { thought_signature, ..piece })));
        }
        pieces.extend(signature.map(alone));
        Ok(pieces)
    }

    /// Thoughts go back to whoever signed them, and to nobody else.
    fn thought(&mut self, part: &'a Part) -> Option<(&'a str, &'a str)> {
        match part {
            Part::Reasoning { text, signature: Some(signature), origin, .. }
                if origin.as_deref() == Some(NAME) =>
            {
                Some((text, signature))
            }
            _ => {
                self.dropped.push("thinking".to_owned());
                None
            }
        }
    }

    fn call(&mut self, call: &'a ToolCall, path: &str) -> Result<types::Part<'a>, Failure> {
        let arguments = call.arguments.trim();
        let arguments = if arguments.is_empty() { "{}" } else { arguments };
        let args: Option<&RawValue> = serde_json::from_str(arguments).ok();
        let Some(args) = args.filter(|args| args.get().starts_with('{')) else {
            let path = join(path, "function.arguments");
            let text = format!("'{path}' must be a JSON object for this provider");
            return Err(Failure::invalid(path, text));
        };
        let name = function_name(&call.name, || join(path, "function.name"))?;
        self.names.insert(&call.id, (self.calls, name));
        self.calls += 1;
        let function_call = Some(FunctionCall { id: told(&call.id), name, args });
        Ok(types::Part { function_call, ..types::Part::default() })
    }

    /// The results of one message, with the places of their calls.
    fn results(
        &mut self,
        message: &'a Message,
        path: &str,
        results: &mut Vec<(usize, Piece<'a>)>,
    ) -> Result<(), Failure> {
        for part in &message.parts {
            let Part::ToolResult { call_id, parts, is_error } = part else {
                let text = "a tool's message can only hold results";
                return Err(Failure::unsupported(path, text));
            };
            let Some((place, name)) = self.names.get(call_id.as_str()).copied() else {
                let text = format!(
                    "no call with the id '{call_id}' stands before its result: this provider \
                     needs the function's name"
                );
                return Err(Failure::invalid(join(path, "tool_call_id"), text));
            };
            let text = ::types::conversation::joined_text(parts);
            let response = if *is_error { Response::Error(text) } else { Response::Output(text) };
            let parts = self.inner(parts, path)?;
            let function_response =
                Some(FunctionResponse { id: told(call_id), name, response, parts });
            let piece = types::Part { function_response, ..types::Part::default() };
            results.push((place, Piece::Part(Box::new(piece))));
        }
        Ok(())
    }

    /// What of a result is not text.
    fn inner(&mut self, parts: &'a [Part], path: &str) -> Result<Vec<Piece<'a>>, Failure> {
        let mut pieces = Vec::new();
        for part in parts {
            let kind = match part {
                Part::Text { .. } | Part::Refusal { .. } => continue,
                Part::Media { kind, .. } => kind,
                Part::ToolCall(_) | Part::ToolResult { .. } | Part::Reasoning { .. } => "part",
            };
            let here = || join(&join(path, "tool_result"), kind);
            if self.family == Family::Old || !matches!(part, Part::Media { .. }) {
                let text = "a tool's result can only be text for this model";
                return Err(Failure::unsupported(here(), text));
            }
            pieces.push(media(part, &here, self.dropped)?);
        }
        Ok(pieces)
    }
}

fn thought<'a>() -> types::Part<'a> {
    types::Part { thought: true, ..types::Part::default() }
}

/// A signature behind which nothing comes.
fn alone(signature: &str) -> Piece<'_> {
    let (text, thought_signature) = (Some(""), Some(signature));
    Piece::Part(Box::new(types::Part { text, thought_signature, ..types::Part::default() }))
}

/// A call's id, unless it was made here.
fn told(id: &str) -> Option<&str> {
    Some(id).filter(|id| !id.starts_with(MADE_ID))
}

/// Media by their address, or in their own shape where they came in this format and have none.
fn media<'a>(
    part: &'a Part,
    path: &dyn Fn() -> String,
    dropped: &mut Vec<String>,
) -> Result<Piece<'a>, Failure> {
    let refuse = |text: String| Err(Failure::unsupported(path(), text));
    let Part::Media { kind, url, name, source } = part else {
        return refuse("this is no image, sound or document".to_owned());
    };
    let Some(url) = url.as_deref() else {
        return match source.get("fileData") {
            Some(_) => Ok(Piece::Given(source)),
            None => refuse(format!("content of type '{kind}' given by an id can't be said here")),
        };
    };
    if !source.is_null() {
        // Where an address is not all that was said, the rest is how closely to look.
        dropped.push("messages.content.detail".to_owned());
    }
    let display_name = name.as_deref();
    let inline = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
    if let Some((mime_type, data)) = inline {
        let inline_data = Some(Blob { mime_type: usual_name(mime_type), data, display_name });
        let part = types::Part { inline_data, ..types::Part::default() };
        return Ok(Piece::Part(Box::new(part)));
    }
    if !url.starts_with("https:") {
        return refuse("give base64 data, or an https address".to_owned());
    }
    let mime_type = type_of(kind, url);
    let file_data = Some(File { mime_type, file_uri: url, display_name });
    Ok(Piece::Part(Box::new(types::Part { file_data, ..types::Part::default() })))
}

/// The type of what lies at an address, as far as its name says.
fn type_of(kind: &str, url: &str) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or(url).to_ascii_lowercase();
    let known = TYPES.iter().find(|(end, _)| path.ends_with(end)).map(|(_, known)| *known);
    known.unwrap_or(match kind {
        "image" => "image/jpeg",
        "audio" => "audio/mp3",
        _ => "application/pdf",
    })
}

/// A type under its registered name.
fn usual_name(media_type: &str) -> &str {
    if media_type == "image/jpg" { "image/jpeg" } else { media_type }
}
