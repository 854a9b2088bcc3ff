//! Messages and their blocks as neutral ones.
//!
//! A block is an object with one field, whose name says what it is.

use ::types::Failure;
use ::types::conversation::{CacheLife, Part, Role, ToolCall};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::bedrock_converse::NAME;
use crate::bedrock_converse::media::Kind;
use crate::json::{join, missing, without_indices};
use crate::marks::{self, History, Marked};
use crate::object::{Object, elements, mistyped};

/// The block that marks what is to be kept in the prompt cache.
pub(super) const MARK: &str = "cachePoint";
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
    let path = fields.path_of("content");
    let content = fields.take("content").ok_or_else(|| missing(&path))?;
    fields.leave(rest);
    let said = blocks(content, &path, role, rest)?;
    let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
    let (results, others) = said.partition(is_result);
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

/// Reads the blocks of a message of this role, of the system's prompt, or of a tool's result, whose
/// role is the tool's.
pub(super) fn blocks(
    raw: &RawValue,
    path: &str,
    role: Role,
    rest: &mut Rest,
) -> Result<Marked, Failure> {
    let mut said = Marked::default();
    for (raw, path) in elements(raw, path, BLOCKS_MAX)? {
        let mut union = Object::read(raw, &path)?;
        match is_mark(&union) {
            // Where nothing stands before it there is nothing to keep.
            true if mark(&mut union, rest)?.is_some_and(|life| !said.mark(life)) => {
                rest.insert(without_indices(&join(&path, MARK)), Value::Bool(true));
            }
            true => {}
            false => block(&mut union, role, &mut said, rest)?,
        }
        union.leave(rest);
    }
    Ok(said)
}

/// Whether a block or a tool is a mark for the prompt cache.
pub(super) fn is_mark(union: &Object<'_>) -> bool {
    union.top().raw(MARK).is_some_and(|raw| raw.get() != "null")
}

/// Takes a mark. One that is not understood is reported.
pub(super) fn mark(union: &mut Object<'_>, rest: &mut Rest) -> Result<Option<CacheLife>, Failure> {
    if union.top().fields().filter(|(_, raw)| raw.get() != "null").count() > 1 {
        let text = "a mark of the prompt cache stands alone";
        return Err(Failure::invalid(union.path_of(MARK), text));
    }
    let mut point = union.required_object(MARK)?;
    let (kind, ttl) = (point.string("type")?, point.string("ttl")?);
    let life = marks::life_of(ttl.as_deref()).filter(|_| kind.as_deref() == Some("default"));
    if life.is_none() {
        rest.insert(without_indices(&union.path_of(MARK)), Value::Bool(true));
    }
    point.leave(rest);
    Ok(life)
}

fn block(
    union: &mut Object<'_>,
    role: Role,
    said: &mut Marked,
    rest: &mut Rest,
) -> Result<(), Failure> {
    let given = union.top().fields().find(|(_, raw)| raw.get() != "null");
    let Some(kind) = given.map(|(name, _)| name.to_owned()) else {
        return Err(missing(&union.path_of("text")));
    };
    let only = |wanted: Role| {
        let text = format!("content of type '{kind}' can't stand here");
        if role == wanted { Ok(()) } else { Err(text) }
    };
    let placed = match kind.as_str() {
        "toolUse" | "reasoningContent" => only(Role::Assistant),
        "toolResult" => only(Role::User),
        "json" => only(Role::Tool),
        "text" | "guardContent" => Ok(()),
        _ if role == Role::System => only(Role::User),
        _ => Ok(()),
    };
    placed.map_err(|text| Failure::invalid(union.path_of(&kind), text))?;
    match kind.as_str() {
        "text" => said.push(Part::Text { text: union.required_string("text")? }),
        "json" => {
            let value = union.take("json").map(RawValue::get).unwrap_or_default();
            said.push(Part::text(value));
        }
        "image" => said.push(media(union, Kind::Image, rest)?),
        "video" => said.push(media(union, Kind::Video, rest)?),
        "audio" => said.push(media(union, Kind::Audio, rest)?),
        "document" => document(union, said, rest)?,
        "toolUse" => said.push(Part::ToolCall(tool_call(union, rest)?)),
        "toolResult" => tool_result(union, said, rest)?,
        "reasoningContent" => said.parts.extend(reasoning(union, rest)?),
        "citationsContent" => texts(union, "citationsContent", said, rest)?,
        "searchResult" => texts(union, "searchResult", said, rest)?,
        "guardContent" => guarded(union, said, rest)?,
        other => {
            let text = format!("content of type '{other}' is not offered here");
            return Err(Failure::unsupported(union.path_of(other), text));
        }
    }
    Ok(())
}

/// The texts of a block that says where they are from.
fn texts(
    union: &mut Object<'_>,
    name: &'static str,
    said: &mut Marked,
    rest: &mut Rest,
) -> Result<(), Failure> {
    let mut fields = union.required_object(name)?;
    for (raw, path) in fields.list("content", BLOCKS_MAX)? {
        let mut text = Object::read(raw, &path)?;
        said.push(Part::Text { text: text.required_string("text")? });
        text.leave(rest);
    }
    fields.leave(rest);
    Ok(())
}

/// What a guardrail is to look at. It is said all the same, without the guardrail.
fn guarded(union: &mut Object<'_>, said: &mut Marked, rest: &mut Rest) -> Result<(), Failure> {
    let mut fields = union.required_object("guardContent")?;
    let path = without_indices(&union.path_of("guardContent"));
    rest.entry(path).or_insert(Value::Bool(true));
    if let Some(mut text) = fields.object("text")? {
        said.push(Part::Text { text: text.required_string("text")? });
        text.take("qualifiers");
        text.leave(rest);
    } else {
        said.push(media(&mut fields, Kind::Image, rest)?);
    }
    fields.leave(rest);
    Ok(())
}

fn tool_call(union: &mut Object<'_>, rest: &mut Rest) -> Result<ToolCall, Failure> {
    let mut fields = union.required_object("toolUse")?;
    if fields.take("type").is_some() {
        let text = "calls of tools that Bedrock runs are offered by Bedrock only";
        return Err(Failure::unsupported(fields.path_of("type"), text));
    }
    let (id, name) = (fields.required_string("toolUseId")?, fields.required_string("name")?);
    let path = fields.path_of("input");
    let arguments = match fields.take("input") {
        None => "{}",
        Some(raw) if raw.get().starts_with('{') => raw.get(),
        Some(raw) => return Err(mistyped(raw, &path, "an object")),
    };
    let arguments = arguments.to_owned();
    fields.leave(rest);
    Ok(ToolCall { id, name, arguments })
}

fn tool_result(union: &mut Object<'_>, said: &mut Marked, rest: &mut Rest) -> Result<(), Failure> {
    let mut fields = union.required_object("toolResult")?;
    let call_id = fields.required_string("toolUseId")?;
    let is_error = match fields.string("status")?.as_deref() {
        None | Some("success") => false,
        Some("error") => true,
        Some(_) => {
            return Err(Failure::invalid(fields.path_of("status"), "use success or error"));
        }
    };
    let path = fields.path_of("content");
    let content = fields.take("content");
    let content = content.map(|raw| blocks(raw, &path, Role::Tool, rest)).transpose()?;
    fields.leave(rest);
    let content = content.unwrap_or_default();
    said.hold(content, |parts| Part::ToolResult { call_id, parts, is_error });
    Ok(())
}

fn reasoning(union: &mut Object<'_>, rest: &mut Rest) -> Result<Option<Part>, Failure> {
    let mut fields = union.required_object("reasoningContent")?;
    let part = if let Some(mut said) = fields.object("reasoningText")? {
        let text = said.required_string("text")?;
        let signature = said.string("signature")?.filter(|signature| !signature.is_empty());
        let origin = signature.is_some().then(|| NAME.to_owned());
        said.leave(rest);
        Some(Part::Reasoning { text, signature, redacted: false, origin })
    } else {
        fields.string("redactedContent")?.map(|data| Part::Reasoning {
            text: String::new(),
            signature: Some(data),
            redacted: true,
            origin: Some(NAME.to_owned()),
        })
    };
    fields.leave(rest);
    Ok(part)
}

fn media(union: &mut Object<'_>, kind: Kind, rest: &mut Rest) -> Result<Part, Failure> {
    let path = union.path_of(kind.block());
    let raw = union.take(kind.block()).ok_or_else(|| missing(&path))?;
    let mut fields = Object::read(raw, &path)?;
    let format = fields.string("format")?;
    let name = fields.string("name")?;
    let mut source = fields.required_object("source")?;
    let neutral = |url, source| Part::Media {
        kind: kind.neutral().to_owned(),
        url,
        name: name.clone(),
        source,
    };
    let part = if source.take("s3Location").is_some() {
        // It lies at the provider: only a target of this format can be told of it.
        let whole = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
        let whole = Map::from_iter([(kind.block().to_owned(), whole)]);
        return Ok(neutral(None, Value::Object(whole)));
    } else {
        let data = source.required_string("bytes")?;
        let format = format.ok_or_else(|| missing(&join(&path, "format")))?;
        let Some(media_type) = kind.media_type(&format) else {
            let text = format!("the format '{format}' is not known");
            return Err(Failure::unsupported(join(&path, "format"), text));
        };
        neutral(Some(format!("data:{media_type};base64,{data}")), Value::Null)
    };
    source.leave(rest);
    fields.leave(rest);
    Ok(part)
}

/// A document: media if it is a file, else the texts that it is.
fn document(union: &mut Object<'_>, said: &mut Marked, rest: &mut Rest) -> Result<(), Failure> {
    let mut fields = union.required_object("document")?;
    let mut source = fields.required_object("source")?;
    if let Some(text) = source.string("text")? {
        said.push(Part::Text { text });
    } else if source.top().raw("content").is_some() {
        for (raw, path) in source.list("content", BLOCKS_MAX)? {
            let mut text = Object::read(raw, &path)?;
            said.push(Part::Text { text: text.required_string("text")? });
            text.leave(rest);
        }
    } else {
        said.push(media(union, Kind::Document, rest)?);
        return Ok(());
    }
    fields.take("format");
    fields.take("name");
    source.leave(rest);
    fields.leave(rest);
    Ok(())
}
