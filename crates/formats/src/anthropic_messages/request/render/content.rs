//! Neutral messages as messages and blocks.

use std::borrow::Cow;

use ::types::Failure;
use ::types::conversation::{CacheLife, Message, Part, Role, ToolCall};
use serde_json::Value;
use serde_json::value::RawValue;

use super::tool_name;
use crate::anthropic_messages::NAME;
use crate::anthropic_messages::types::{self, Bare, Block, Content, Piece, Source};
use crate::json::{at, join};
use crate::marks::{self, CacheControl, Marks};

/// Types of image that Anthropic takes.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The system prompt and the messages. What system and developer say first is the prompt; later
/// words of theirs stay in their place.
pub(super) fn messages<'a>(
    list: &'a [Message],
    marks: &Marks,
    dropped: &mut Vec<String>,
) -> Result<(Vec<Piece<'a>>, Vec<types::Message<'a>>), Failure> {
    let mut system = Vec::new();
    let mut rendered: Vec<types::Message<'a>> = Vec::with_capacity(list.len());
    let mut leading = true;
    let mut after_result = false;
    for (index, message) in list.iter().enumerate() {
        let path = at("messages", index);
        leading &= matches!(message.role, Role::System | Role::Developer);
        let pieces = pieces(message, &path, &|part| marks.part(index, part), dropped)?;
        if pieces.is_empty() {
            continue;
        }
        let is_result = message.role == Role::Tool;
        let role = match message.role {
            Role::System | Role::Developer if leading => {
                system.extend(pieces);
                continue;
            }
            Role::System | Role::Developer => "system",
            Role::Assistant => "assistant",
            Role::User | Role::Tool => "user",
        };
        match rendered.last_mut() {
            // All results of one turn belong into one message.
            Some(types::Message { content: Content::Pieces(before), .. })
                if is_result && after_result =>
            {
                before.extend(pieces);
            }
            _ => rendered.push(types::Message { role, content: content(pieces) }),
        }
        after_result = is_result;
    }
    Ok((system, rendered))
}

/// One text is said as such.
fn content(pieces: Vec<Piece<'_>>) -> Content<'_> {
    match pieces.as_slice() {
        [Piece::Bare(Bare::Block(Block::Text { text }))] => Content::Text(text),
        _ => Content::Pieces(pieces),
    }
}

fn pieces<'a>(
    message: &'a Message,
    path: &str,
    mark_of: &dyn Fn(usize) -> Option<CacheLife>,
    dropped: &mut Vec<String>,
) -> Result<Vec<Piece<'a>>, Failure> {
    let mut pieces = Vec::with_capacity(message.parts.len());
    let mut calls = 0;
    for (index, part) in message.parts.iter().enumerate() {
        let here = || at(&join(path, "content"), index);
        let piece = match (part, message.role) {
            (Part::Text { text } | Part::Refusal { text }, _) => text_piece(text),
            (Part::Media { .. }, Role::User) => Some(media(part, &here, dropped)?),
            (Part::ToolCall(call), Role::Assistant) => {
                let path = at(&join(path, "tool_calls"), calls);
                calls += 1;
                Some(Piece::from(tool_use(call, &path)?))
            }
            (Part::ToolResult { .. }, Role::Tool) => {
                Some(Piece::from(tool_result(part, path, dropped)?))
            }
            (Part::Reasoning { .. }, Role::Assistant) => thinking(part, dropped),
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
            marks::report(message, dropped);
        }
    }
    Ok(pieces)
}

/// Marks the last piece that can be marked, which thinking can't; whether there is one. Of two
/// marks at one place the longer counts.
fn mark(pieces: &mut Vec<Piece<'_>>, life: CacheLife) -> bool {
    let thinks = |piece: &Piece<'_>| {
        matches!(
            piece,
            Piece::Bare(Bare::Block(Block::Thinking { .. } | Block::RedactedThinking { .. },))
        )
    };
    let Some(at) = pieces.iter().rposition(|piece| !thinks(piece)) else { return false };
    let wanted = CacheControl::of(life);
    let marked = match pieces.remove(at) {
        Piece::Marked { piece, cache_control } => {
            Piece::Marked { piece, cache_control: cache_control.max(wanted) }
        }
        Piece::Bare(piece) => Piece::Marked { piece, cache_control: wanted },
    };
    pieces.insert(at, marked);
    true
}

/// Blank text is refused by Anthropic, and says nothing.
fn text_piece(text: &str) -> Option<Piece<'_>> {
    (!text.trim().is_empty()).then_some(Piece::from(Block::Text { text }))
}

/// Thinking goes back to whoever signed it, and to nobody else.
fn thinking<'a>(part: &'a Part, dropped: &mut Vec<String>) -> Option<Piece<'a>> {
    let Part::Reasoning { text, signature, redacted, origin } = part else { return None };
    match signature {
        Some(data) if origin.as_deref() == Some(NAME) && *redacted => {
            Some(Block::RedactedThinking { data }.into())
        }
        Some(signature) if origin.as_deref() == Some(NAME) => {
            Some(Block::Thinking { thinking: text, signature }.into())
        }
        _ => {
            dropped.push("thinking".to_owned());
            None
        }
    }
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
    Ok(Block::ToolUse { id: call_id(&call.id), name, input })
}

fn tool_result<'a>(
    part: &'a Part,
    path: &str,
    dropped: &mut Vec<String>,
) -> Result<Block<'a>, Failure> {
    let Part::ToolResult { call_id: id, parts, is_error } = part else {
        return Err(Failure::unsupported(path, "a tool's message can only hold results"));
    };
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Text { text } | Part::Refusal { text } => pieces.extend(text_piece(text)),
            Part::Media { kind, .. } => {
                let here = || join(&join(path, "tool_result"), kind);
                pieces.push(media(part, &here, dropped)?);
            }
            Part::ToolCall(_) | Part::ToolResult { .. } | Part::Reasoning { .. } => {
                let text = "a tool's result can only be text, images and documents";
                return Err(Failure::unsupported(join(path, "tool_result"), text));
            }
        }
    }
    let content = (!pieces.is_empty()).then(|| content(pieces));
    Ok(Block::ToolResult { tool_use_id: call_id(id), content, is_error: *is_error })
}

/// A call's id in the letters that Anthropic takes. One that does not fit becomes a hash of itself:
/// a call and its result go on to agree.
fn call_id(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(crate::ids::short(id, "toolu_"))
}

/// Media in their own shape where they came in this format and have no address, else by address.
fn media<'a>(
    part: &'a Part,
    path: &dyn Fn() -> String,
    dropped: &mut Vec<String>,
) -> Result<Piece<'a>, Failure> {
    let refuse = |text: String| Err(Failure::unsupported(path(), text));
    let Part::Media { kind, url, name, source } = part else {
        return refuse("this is no image and no document".to_owned());
    };
    let Some(url) = url.as_deref() else {
        let own = source.get("type").and_then(Value::as_str);
        return match own {
            Some("image" | "document") => Ok(Piece::Bare(Bare::Given(source))),
            _ => refuse(format!("content of type '{kind}' given by an id can't be said here")),
        };
    };
    if !source.is_null() {
        // Where an address is not all that was said, the rest is how closely to look.
        dropped.push("messages.content.detail".to_owned());
    }
    let inline = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
    let place = match inline {
        Some((media_type, data)) => Source::Base64 { media_type: usual_name(media_type), data },
        None if url.starts_with("https:") => Source::Url { url },
        None => return refuse("give base64 data, or an https address".to_owned()),
    };
    match (kind.as_str(), &place) {
        ("image", Source::Base64 { media_type, .. }) if !IMAGES.contains(media_type) => refuse(
            format!("images of type '{media_type}' can't be said: use JPEG, PNG, GIF or WebP"),
        ),
        ("image", _) => Ok(Block::Image { source: place }.into()),
        ("file", Source::Base64 { media_type, .. }) if *media_type != "application/pdf" => {
            refuse(format!("files of type '{media_type}' can't be said: use PDF"))
        }
        ("file", _) => Ok(Block::Document { source: place, title: name.as_deref() }.into()),
        (kind, _) => refuse(format!("content of type '{kind}' can't be said here")),
    }
}

/// A type under its registered name.
fn usual_name(media_type: &str) -> &str {
    if media_type == "image/jpg" { "image/jpeg" } else { media_type }
}
