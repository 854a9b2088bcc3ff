//! Neutral messages as messages and blocks.

use std::borrow::Cow;
use std::collections::HashSet;

use ::types::Failure;
use ::types::conversation::{CacheLife, Message, Part, Role, ToolCall};
use serde_json::Value;
use serde_json::value::RawValue;

use super::tool_name;
use crate::bedrock_converse::NAME;
use crate::bedrock_converse::media::Kind;
use crate::bedrock_converse::types::{self, Block, CachePoint, Piece, Reasoning, Source};
use crate::ids::short;
use crate::json::{at, join};
use crate::marks::{self, Marks};

/// Characters of a call's id at most, as Bedrock has it.
const ID_CHARS_MAX: usize = 64;
/// Characters of a document's name at most, as Bedrock has it; room is left for a number.
const DOCUMENT_CHARS_MAX: usize = 180;

/// The system prompt and the messages. What system and developer say first is the prompt; later
/// words of theirs stay in their place. Neighbours of one role join, because roles take turns.
pub(super) fn messages<'a>(
    list: &'a [Message],
    marks: &Marks,
    dropped: &mut Vec<String>,
) -> Result<(Vec<Piece<'a>>, Vec<types::Message<'a>>), Failure> {
    let mut writer = Writer { dropped, documents: HashSet::new() };
    let mut system = Vec::new();
    let mut rendered: Vec<types::Message<'a>> = Vec::with_capacity(list.len());
    let mut leading = true;
    for (index, message) in list.iter().enumerate() {
        leading &= matches!(message.role, Role::System | Role::Developer);
        let mark_of = |part| marks.part(index, part);
        let pieces = writer.pieces(message, &at("messages", index), &mark_of)?;
        if pieces.is_empty() {
            continue;
        }
        let role = match message.role {
            Role::System | Role::Developer if leading => {
                system.extend(pieces);
                continue;
            }
            Role::System | Role::Developer => "system",
            Role::Assistant => "assistant",
            Role::User | Role::Tool => "user",
        };
        match rendered.last_mut().filter(|before| before.role == role) {
            Some(before) => before.content.extend(pieces),
            None => rendered.push(types::Message { role, content: pieces }),
        }
    }
    if let Some(life) = marks.end() {
        let last = rendered.last_mut().map_or(&mut system, |last| &mut last.content);
        if !mark(last, life) {
            writer.dropped.push(marks::FIELD.to_owned());
        }
    }
    Ok((system, rendered))
}

/// What one part depends on besides itself.
struct Writer<'d> {
    dropped: &'d mut Vec<String>,
    /// Names of the documents so far: Bedrock refuses one that is given twice.
    documents: HashSet<String>,
}

impl Writer<'_> {
    fn pieces<'a>(
        &mut self,
        message: &'a Message,
        path: &str,
        mark_of: &dyn Fn(usize) -> Option<CacheLife>,
    ) -> Result<Vec<Piece<'a>>, Failure> {
        let mut pieces = Vec::with_capacity(message.parts.len());
        let mut calls = 0;
        for (index, part) in message.parts.iter().enumerate() {
            let here = || at(&join(path, "content"), index);
            let piece = match (part, message.role) {
                (Part::Text { text } | Part::Refusal { text }, _) => text_piece(text),
                (Part::Media { .. }, Role::User) => Some(self.media(part, &here)?),
                (Part::ToolCall(call), Role::Assistant) => {
                    let path = at(&join(path, "tool_calls"), calls);
                    calls += 1;
                    Some(Piece::Block(tool_use(call, &path)?))
                }
                (Part::ToolResult { .. }, Role::Tool) => {
                    Some(Piece::Block(self.tool_result(part, path)?))
                }
                (Part::Reasoning { .. }, Role::Assistant) => self.reasoning(part),
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
            pieces.extend(piece);
            if mark_of(index).is_some_and(|life| !mark(&mut pieces, life)) {
                marks::report(message, self.dropped);
            }
        }
        Ok(pieces)
    }

    /// Reasoning goes back to whoever signed it, and to nobody else. Some models repeat what is not
    /// signed in their answers.
    fn reasoning<'a>(&mut self, part: &'a Part) -> Option<Piece<'a>> {
        let Part::Reasoning { text, signature, redacted, origin } = part else { return None };
        let reasoning = match signature {
            Some(data) if origin.as_deref() == Some(NAME) && *redacted => {
                Reasoning::RedactedContent(data)
            }
            Some(signature) if origin.as_deref() == Some(NAME) => {
                Reasoning::ReasoningText { text, signature }
            }
            _ => {
                self.dropped.push("thinking".to_owned());
                return None;
            }
        };
        Some(Piece::Block(Block::ReasoningContent(reasoning)))
    }

    fn tool_result<'a>(&mut self, part: &'a Part, path: &str) -> Result<Block<'a>, Failure> {
        let Part::ToolResult { call_id: id, parts, is_error } = part else {
            return Err(Failure::unsupported(path, "a tool's message can only hold results"));
        };
        let mut content = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Part::Text { text } | Part::Refusal { text } => content.extend(text_piece(text)),
                Part::Media { kind, .. } => {
                    let here = || join(&join(path, "tool_result"), kind);
                    content.push(self.media(part, &here)?);
                }
                Part::ToolCall(_) | Part::ToolResult { .. } | Part::Reasoning { .. } => {
                    let text = "a tool's result can only be text, images and documents";
                    return Err(Failure::unsupported(join(path, "tool_result"), text));
                }
            }
        }
        let status = is_error.then_some("error");
        Ok(Block::ToolResult { tool_use_id: call_id(id), content, status })
    }

    /// Media in their own shape where they came in this format and lie at the provider, else their
    /// content: Bedrock fetches nothing.
    fn media<'a>(
        &mut self,
        part: &'a Part,
        path: &dyn Fn() -> String,
    ) -> Result<Piece<'a>, Failure> {
        let refuse = |text: String| Err(Failure::unsupported(path(), text));
        let Part::Media { kind: neutral, url, name, source } = part else {
            return refuse("this is no image and no document".to_owned());
        };
        let Some(kind) = Kind::of(neutral) else {
            return refuse(format!("content of type '{neutral}' can't be said here"));
        };
        let Some(url) = url.as_deref() else {
            return match source.get(kind.block()) {
                Some(Value::Object(_)) => Ok(Piece::Given(source)),
                _ => refuse(format!("content of type '{neutral}' given by an id can't be said")),
            };
        };
        if !source.is_null() {
            // Where an address is not all that was said, the rest is how closely to look.
            self.dropped.push("messages.content.detail".to_owned());
        }
        let inline = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
        let Some((media_type, data)) = inline else {
            return refuse("this provider fetches nothing: give base64 data".to_owned());
        };
        let Some(format) = kind.format(media_type) else {
            return refuse(format!("content of type '{media_type}' can't be said here"));
        };
        let source = Source::Bytes(data);
        Ok(Piece::Block(match kind {
            Kind::Image => Block::Image { format, source },
            Kind::Document => {
                Block::Document { format, name: self.document_name(name.as_deref()), source }
            }
            Kind::Video => Block::Video { format, source },
            Kind::Audio => Block::Audio { format, source },
        }))
    }

    /// A document needs a name, of few characters and unlike the others'.
    fn document_name(&mut self, given: Option<&str>) -> String {
        let wanted = given.map(plain_name).filter(|name| !name.trim().is_empty());
        let base = wanted.unwrap_or_else(|| "document".to_owned());
        let mut name = base.clone();
        let mut number = 1;
        while !self.documents.insert(name.clone()) {
            number += 1;
            name = format!("{base} {number}");
        }
        if given.is_some_and(|given| given != name) {
            self.dropped.push("messages.content.filename".to_owned());
        }
        name
    }
}

/// Puts a mark behind the last piece that one can stand behind, which reasoning is not; whether
/// there is one. Where a mark stands already the longer one counts.
fn mark(pieces: &mut Vec<Piece<'_>>, life: CacheLife) -> bool {
    let reasons = |piece: &Piece<'_>| matches!(piece, Piece::Block(Block::ReasoningContent(_)));
    let Some(at) = pieces.iter().rposition(|piece| !reasons(piece)) else { return false };
    let new = CachePoint::of(life);
    match pieces.get_mut(at) {
        Some(Piece::Block(Block::CachePoint(mark))) => mark.ttl = mark.ttl.max(new.ttl),
        _ => pieces.insert(at + 1, Piece::Block(Block::CachePoint(new))),
    }
    true
}

/// A name in the characters that Bedrock takes: letters, digits, hyphens, brackets, and single
/// spaces.
fn plain_name(name: &str) -> String {
    let mut plain = String::new();
    for letter in name.chars().take(DOCUMENT_CHARS_MAX) {
        let fits = letter.is_ascii_alphanumeric() || "-()[]".contains(letter);
        let letter = match letter {
            ' ' if plain.ends_with(' ') => continue,
            ' ' => ' ',
            letter if fits => letter,
            _ => '-',
        };
        plain.push(letter);
    }
    plain
}

/// Blank text is refused, and says nothing.
fn text_piece(text: &str) -> Option<Piece<'_>> {
    (!text.trim().is_empty()).then_some(Piece::Block(Block::Text(text)))
}

fn tool_use<'a>(call: &'a ToolCall, path: &str) -> Result<Block<'a>, Failure> {
    let arguments = call.arguments.trim();
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    let input: Option<&RawValue> = serde_json::from_str(arguments).ok();
    let Some(input) = input.filter(|input| input.get().starts_with('{')) else {
        let path = join(path, "function.arguments");
        let text = format!("'{path}' must be a JSON object for this provider");
        return Err(Failure::invalid(path, text));
    };
    let name = tool_name(&call.name, || join(path, "function.name"))?;
    Ok(Block::ToolUse { tool_use_id: call_id(&call.id), name, input })
}

/// A call's id in the letters that Bedrock takes. One that does not fit becomes a hash of itself:
/// a call and its result go on to agree.
fn call_id(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if !id.is_empty() && id.len() <= ID_CHARS_MAX && id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(short(id, "tooluse_"))
}
