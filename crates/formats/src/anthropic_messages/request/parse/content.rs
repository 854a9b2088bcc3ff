//! Messages and their blocks as neutral ones.

use ::types::Failure;
use ::types::conversation::{Part, Role, ToolCall};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::anthropic_messages::NAME;
use crate::head::typed;
use crate::json::{join, missing, without_indices};
use crate::marks::{self, History, Marked};
use crate::object::{Object, elements, mistyped};
use crate::seal::unseal;

/// Blocks in one message at most.
const BLOCKS_MAX: usize = 100_000;

type Rest = Map<String, Value>;

/// Reads one message. A user's message with tools' results is told as a tool's message, and as a
/// user's behind it if it says more.
pub(super) fn message(
    raw: &RawValue,
    path: &str,
    history: &mut History,
    rest: &mut Rest,
) -> Result<(), Failure> {
    let mut fields = Object::read(raw, path)?;
    let role = match fields.required_string("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        other => {
            let text = format!("role '{other}' is not known: use user, assistant or system");
            return Err(Failure::invalid(fields.path_of("role"), text));
        }
    };
    let content = fields.take("content");
    let path = fields.path_of("content");
    // A system message may hold settings alone.
    if content.is_none() && role != Role::System {
        return Err(missing(&path));
    }
    fields.leave(rest);
    let Some(content) = content else { return Ok(()) };
    let said = match role {
        Role::Assistant => blocks(content, &path, rest, assistant_block)?,
        Role::User => blocks(content, &path, rest, user_block)?,
        Role::System | Role::Developer | Role::Tool => said(content, &path, rest)?,
    };
    let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
    let (results, others) = said.partition(is_result);
    // Nothing follows the results, or it is the answer that a client begins with nothing.
    let says_nothing =
        others.parts.is_empty() && (!results.parts.is_empty() || role == Role::Assistant);
    if !results.parts.is_empty() {
        history.push(Role::Tool, results);
    }
    if !says_nothing {
        history.push(role, others);
    }
    Ok(())
}

/// The text of a system prompt.
pub(super) fn said(raw: &RawValue, path: &str, rest: &mut Rest) -> Result<Marked, Failure> {
    let said = blocks(raw, path, rest, plain_block)?;
    match said.parts.iter().position(|part| part.as_text().is_none()) {
        Some(_) => Err(Failure::unsupported(path, "a system prompt can only be text here")),
        None => Ok(said),
    }
}

/// Reads a block of one kind of message, and adds what it says.
type ReadBlock = fn(&str, &mut Object<'_>, &mut Rest, &mut Marked) -> Result<(), Failure>;

fn blocks(
    raw: &RawValue,
    path: &str,
    rest: &mut Rest,
    block: ReadBlock,
) -> Result<Marked, Failure> {
    let mut said = Marked::default();
    match raw.get().as_bytes().first() {
        Some(b'"') => {
            let text: Option<String> = typed(raw, path, "a string")?;
            said.parts.extend(text.map(Part::text));
        }
        Some(b'[') => {
            for (raw, path) in elements(raw, path, BLOCKS_MAX)? {
                let mut fields = Object::read(raw, &path)?;
                let kind = fields.required_string("type")?;
                let mark = marks::take(&mut fields, rest);
                block(&kind, &mut fields, rest, &mut said)?;
                fields.leave(rest);
                if mark.is_some_and(|life| !said.mark(life)) {
                    // It says nothing, and nothing stands before it.
                    rest.insert(join(&without_indices(&path), marks::FIELD), Value::Bool(true));
                }
            }
        }
        _ => return Err(mistyped(raw, path, "a string or a list of blocks")),
    }
    Ok(said)
}

fn user_block(
    kind: &str,
    fields: &mut Object<'_>,
    rest: &mut Rest,
    said: &mut Marked,
) -> Result<(), Failure> {
    if kind != "tool_result" {
        return plain_block(kind, fields, rest, said);
    }
    let call_id = fields.required_string("tool_use_id")?;
    let is_error = fields.get("is_error", "a boolean")?.unwrap_or(false);
    let path = fields.path_of("content");
    let content = fields.take("content").map(|raw| blocks(raw, &path, rest, plain_block));
    let content = content.transpose()?.unwrap_or_default();
    said.hold(content, |parts| Part::ToolResult { call_id, parts, is_error });
    Ok(())
}

fn assistant_block(
    kind: &str,
    fields: &mut Object<'_>,
    rest: &mut Rest,
    said: &mut Marked,
) -> Result<(), Failure> {
    match kind {
        "tool_use" => said.push(Part::ToolCall(tool_call(fields)?)),
        "thinking" => {
            let text = fields.required_string("thinking")?;
            let signature = fields.string("signature")?.filter(|signature| !signature.is_empty());
            said.push(match signature {
                Some(signature) => signed(text, &signature, false),
                None => Part::reasoning(text),
            });
        }
        "redacted_thinking" => {
            said.push(signed(String::new(), &fields.required_string("data")?, true));
        }
        _ => plain_block(kind, fields, rest, said)?,
    }
    Ok(())
}

/// Reasoning with a signature: Anthropic's, or that of another vendor that a client carries.
fn signed(text: String, sealed: &str, redacted: bool) -> Part {
    let (signature, redacted, origin) = unseal(sealed).unwrap_or((sealed, redacted, NAME));
    let (signature, origin) = (Some(signature.to_owned()), Some(origin.to_owned()));
    Part::Reasoning { text, signature, redacted, origin }
}

fn tool_call(fields: &mut Object<'_>) -> Result<ToolCall, Failure> {
    let (id, name) = (fields.required_string("id")?, fields.required_string("name")?);
    let path = fields.path_of("input");
    let arguments = match fields.take("input") {
        None => "{}",
        Some(raw) if raw.get().starts_with('{') => raw.get(),
        Some(raw) => return Err(mistyped(raw, &path, "an object")),
    };
    Ok(ToolCall { id, name, arguments: arguments.to_owned() })
}

/// What may stand in tools' results too.
fn plain_block(
    kind: &str,
    fields: &mut Object<'_>,
    rest: &mut Rest,
    said: &mut Marked,
) -> Result<(), Failure> {
    match kind {
        "document" => document(fields, rest, said)?,
        "search_result" => {
            let path = fields.path_of("content");
            let content = fields.take("content").ok_or_else(|| missing(&path))?;
            said.append(blocks(content, &path, rest, leaf_block)?);
        }
        _ => leaf_block(kind, fields, rest, said)?,
    }
    Ok(())
}

/// What holds no blocks of its own: however a body nests, reading it ends here.
fn leaf_block(
    kind: &str,
    fields: &mut Object<'_>,
    rest: &mut Rest,
    said: &mut Marked,
) -> Result<(), Failure> {
    match kind {
        "text" => said.push(Part::Text { text: fields.required_string("text")? }),
        "image" => said.push(media("image", fields, rest)?),
        other => {
            let text = format!("content of type '{other}' is not offered here");
            return Err(Failure::unsupported(fields.path_of("type"), text));
        }
    }
    Ok(())
}

/// An image, or a document that is no text.
fn media(kind: &str, fields: &mut Object<'_>, rest: &mut Rest) -> Result<Part, Failure> {
    let mut source = fields.required_object("source")?;
    let name = fields.string("title")?;
    let neutral = if kind == "document" { "file" } else { kind };
    let media = |url: Option<String>, name: Option<String>, source: Value| Part::Media {
        kind: neutral.to_owned(),
        url,
        name,
        source,
    };
    let part = match source.required_string("type")?.as_str() {
        "base64" => {
            let kind = source.required_string("media_type")?;
            let data = source.required_string("data")?;
            media(Some(format!("data:{kind};base64,{data}")), name, Value::Null)
        }
        "url" => media(Some(source.required_string("url")?), name, Value::Null),
        // It lies at the provider: only a target of this format can be told of it.
        "file" => {
            let id = source.required_string("file_id")?;
            let whole = json!({ "type": kind, "source": { "type": "file", "file_id": id } });
            media(None, name, whole)
        }
        other => {
            let text = format!("a source of type '{other}' is not offered here");
            return Err(Failure::unsupported(source.path_of("type"), text));
        }
    };
    source.leave(rest);
    Ok(part)
}

/// A document: media if it has pages, else the text or the blocks that it is.
fn document(fields: &mut Object<'_>, rest: &mut Rest, said: &mut Marked) -> Result<(), Failure> {
    let path = fields.path_of("source");
    let raw = fields.take("source").ok_or_else(|| missing(&path))?;
    let mut source = Object::read(raw, &path)?;
    match source.required_string("type")?.as_str() {
        "text" => {
            source.take("media_type");
            said.push(Part::Text { text: source.required_string("data")? });
        }
        "content" => {
            let path = join(&path, "content");
            let content = source.take("content").ok_or_else(|| missing(&path))?;
            said.append(blocks(content, &path, rest, leaf_block)?);
        }
        _ => {
            said.push(media("document", fields, rest)?);
            return Ok(());
        }
    }
    source.leave(rest);
    Ok(())
}
