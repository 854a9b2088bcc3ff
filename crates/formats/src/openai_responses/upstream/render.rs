//! The neutral form as a create request.
//!
//! Rendering is a pure function with a fixed order of fields, and the items of message *n* depend
//! on message *n* alone: the items of a history are a prefix of those of a longer one. Nothing is
//! stored at the provider, so that items go without ids and reasoning as it was encrypted. What
//! can't be said is named in `dropped` where the answer stays what was asked for, and refused where
//! it does not.

use ::types::Failure;
use ::types::conversation::{
    Conversation, Message, OutputShape, Part, Role, ToolChoice, ToolDefinition,
};
use ::types::format::{Edits, Rendered};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::OUTPUT_CAP;
use crate::json::{at, field_names, join};
use crate::marks;
use crate::openai_chat::request::reasoning_effort;
use crate::openai_responses::NAME;

/// Fields of `rest` that are this format's own. Not `include`: what it asks for would come, and
/// have no neutral words.
const OWN_FIELDS: [&str; 8] = [
    "client_metadata",
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
];

/// What the names of settings of `reasoning` that the neutral form has no place for begin with.
pub(in crate::openai_responses) const REASONING: &str = "reasoning.";

/// The one of them that may have a model think several times over, which nobody can bound.
const UNBOUNDED: &str = "reasoning.mode";

/// Characters of a call's id at most.
const CALL_ID_CHARS_MAX: usize = 64;

/// Renders a request.
pub(in crate::openai_responses) fn render(
    conversation: &Conversation,
    edits: &Edits<'_>,
) -> Result<Rendered, Failure> {
    let mut dropped: Vec<String> = marks::names(conversation).collect();
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("model", edits.model.into());
    set("input", input(&conversation.messages, &mut dropped)?.into());
    if !conversation.tools.is_empty() {
        set("tools", conversation.tools.iter().map(tool).collect::<Vec<_>>().into());
    }
    if let Some(choice) = tool_choice(&conversation.tool_choice) {
        set("tool_choice", choice);
    }
    if let Some(parallel) = conversation.parallel_tool_calls {
        set("parallel_tool_calls", parallel.into());
    }
    for (name, value) in sampling(conversation, &mut dropped)? {
        set(name, value);
    }
    if let Some(cap) = edits.output_cap.or(conversation.output_cap) {
        set(OUTPUT_CAP, cap.into());
    }
    if let Some(reasoning) = reasoning(conversation) {
        set("reasoning", reasoning);
    }
    if let Some(text) = text(conversation) {
        set("text", text);
    }
    for (name, value) in &conversation.rest {
        match name.as_str() {
            "verbosity" => {}
            own if own.starts_with(REASONING) && own != UNBOUNDED => {}
            own if OWN_FIELDS.contains(&own) => set(name, value.clone()),
            "n" if *value == json!(1) => {}
            "n" => return Err(unsayable("n", "more than one answer can't be asked for")),
            _ => dropped.push(name.clone()),
        }
    }
    // Without it, reasoning can't go on where nothing is stored.
    set("include", json!(["reasoning.encrypted_content"]));
    // Nothing is kept at a provider unasked.
    set("store", false.into());
    set("stream", edits.stream.into());
    let body = Bytes::from(Value::Object(fields).to_string());
    Ok(Rendered { body, dropped: field_names(dropped), ..Rendered::default() })
}

fn input(messages: &[Message], dropped: &mut Vec<String>) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let path = at("messages", index);
        match message.role {
            Role::System => items.push(said("system", message, &path)?),
            Role::Developer => items.push(said("developer", message, &path)?),
            Role::User => items.push(said("user", message, &path)?),
            Role::Assistant => answered(message, &path, &mut items, dropped)?,
            Role::Tool => results(message, &path, &mut items, dropped)?,
        }
    }
    Ok(items)
}

/// A message that is not the model's.
fn said(role: &str, message: &Message, path: &str) -> Result<Value, Failure> {
    let content = contents(&message.parts, &join(path, "content"))?;
    Ok(json!({ "type": "message", "role": role, "content": content }))
}

fn contents(parts: &[Part], path: &str) -> Result<Vec<Value>, Failure> {
    let parts = parts.iter().enumerate();
    parts.map(|(index, part)| content(part, &at(path, index))).collect()
}

fn content(part: &Part, path: &str) -> Result<Value, Failure> {
    match part {
        Part::Text { text } | Part::Refusal { text } => {
            Ok(json!({ "type": "input_text", "text": text }))
        }
        Part::Media { kind, url, name, source } => {
            media((kind, url.as_deref(), name.as_deref()), source, path)
        }
        Part::ToolCall(_) | Part::ToolResult { .. } | Part::Reasoning { .. } => {
            let text =
                "a message of this role can't hold a tool call, a tool's result or reasoning";
            Err(unsayable(path, text))
        }
    }
}

/// Media as a part of ours: in its own shape where it came in one, else by its address.
fn media(
    (kind, url, name): (&str, Option<&str>, Option<&str>),
    source: &Value,
    path: &str,
) -> Result<Value, Failure> {
    let of_source = |name: &str| source.get(name).and_then(Value::as_str);
    if matches!(of_source("type"), Some("input_image" | "input_file")) {
        return Ok(source.clone());
    }
    match (kind, url) {
        ("image", Some(url)) => {
            let detail = of_source("detail")
                .or_else(|| source.pointer("/image_url/detail").and_then(Value::as_str));
            let detail = detail.unwrap_or("auto");
            Ok(json!({ "type": "input_image", "image_url": url, "detail": detail }))
        }
        ("file", Some(url)) if url.starts_with("data:") => {
            // A file without a name is refused.
            let is_pdf = url.starts_with("data:application/pdf");
            let name = name.unwrap_or(if is_pdf { "document.pdf" } else { "document" });
            Ok(json!({ "type": "input_file", "filename": name, "file_data": url }))
        }
        ("file", Some(url)) => Ok(json!({ "type": "input_file", "file_url": url })),
        (kind, _) => {
            let text = format!("content of type '{kind}' given in this way can't be said here");
            Err(unsayable(join(path, "type"), text))
        }
    }
}

/// What the model said: text in a row is one message; calls and reasoning are items of their own.
fn answered(
    message: &Message,
    path: &str,
    items: &mut Vec<Value>,
    dropped: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut texts: Vec<Value> = Vec::new();
    for (index, part) in message.parts.iter().enumerate() {
        let item = match part {
            Part::Text { text } => {
                texts.push(json!({ "type": "output_text", "text": text, "annotations": [] }));
                continue;
            }
            Part::Refusal { text } => {
                texts.push(json!({ "type": "refusal", "refusal": text }));
                continue;
            }
            Part::ToolCall(call) => Some(json!({
                "type": "function_call", "call_id": call_id(&call.id),
                "name": call.name, "arguments": call.arguments,
            })),
            Part::Reasoning { text, signature, origin, .. } => {
                let signature = signature.as_ref().filter(|_| origin.as_deref() == Some(NAME));
                let item = signature.map(|signature| reasoned(text, signature));
                if item.is_none() {
                    dropped.push("reasoning".to_owned());
                }
                item
            }
            Part::Media { .. } | Part::ToolResult { .. } => {
                let field = at(&join(path, "content"), index);
                let text = "an assistant's message can't hold media or a tool's result here";
                return Err(unsayable(field, text));
            }
        };
        if let Some(item) = item {
            end_message(&mut texts, items);
            items.push(item);
        }
    }
    end_message(&mut texts, items);
    Ok(())
}

fn end_message(texts: &mut Vec<Value>, items: &mut Vec<Value>) {
    if !texts.is_empty() {
        let content = std::mem::take(texts);
        items.push(json!({ "type": "message", "role": "assistant", "content": content }));
    }
}

fn reasoned(text: &str, signature: &str) -> Value {
    let summary: Vec<Value> = (!text.is_empty())
        .then(|| json!({ "type": "summary_text", "text": text }))
        .into_iter()
        .collect();
    json!({ "type": "reasoning", "summary": summary, "encrypted_content": signature })
}

fn results(
    message: &Message,
    path: &str,
    items: &mut Vec<Value>,
    dropped: &mut Vec<String>,
) -> Result<(), Failure> {
    for part in &message.parts {
        let Part::ToolResult { call_id: id, parts, is_error } = part else {
            let text = "a tool's message can only hold results";
            return Err(unsayable(join(path, "content"), text));
        };
        if *is_error {
            // The text says so too; there is no field for it.
            dropped.push("tool_result.is_error".to_owned());
        }
        let output = if parts.iter().all(|part| part.as_text().is_some()) {
            ::types::conversation::joined_text(parts).into()
        } else {
            Value::from(contents(parts, &join(path, "tool_result"))?)
        };
        items.push(json!({
            "type": "function_call_output", "call_id": call_id(id), "output": output,
        }));
    }
    Ok(())
}

/// A call's id as it is taken here: one that is too long becomes a short one, always the same.
fn call_id(id: &str) -> String {
    if id.chars().count() <= CALL_ID_CHARS_MAX {
        return id.to_owned();
    }
    crate::ids::short(id, "call_")
}

fn tool(definition: &ToolDefinition) -> Value {
    let any = || json!({ "type": "object", "properties": {} });
    json!({
        "type": "function",
        "name": definition.name,
        "description": definition.description,
        "parameters": definition.parameters.clone().unwrap_or_else(any),
        // Here the default is true; elsewhere it is false.
        "strict": definition.strict.unwrap_or(false),
    })
}

fn tool_choice(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some("none".into()),
        ToolChoice::Required => Some("required".into()),
        ToolChoice::Named { name } => Some(json!({ "type": "function", "name": name })),
    }
}

fn sampling(
    conversation: &Conversation,
    dropped: &mut Vec<String>,
) -> Result<Vec<(&'static str, Value)>, Failure> {
    let sampling = &conversation.sampling;
    if !sampling.stop.is_empty() {
        return Err(unsayable("stop", "this target's API has no stop sequences"));
    }
    let lost = [
        ("top_k", sampling.top_k.is_some()),
        ("seed", sampling.seed.is_some()),
        ("frequency_penalty", sampling.frequency_penalty.is_some()),
        ("presence_penalty", sampling.presence_penalty.is_some()),
    ];
    dropped.extend(lost.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).to_owned()));
    let set = [
        ("temperature", sampling.temperature.map(Value::from)),
        ("top_p", sampling.top_p.map(Value::from)),
    ];
    Ok(set.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

fn reasoning(conversation: &Conversation) -> Option<Value> {
    let ask = &conversation.reasoning;
    let mut fields = Map::new();
    let effort = reasoning_effort(ask);
    fields.extend(effort.map(|effort| ("effort".to_owned(), effort.name().into())));
    if ask.shown == Some(true) {
        fields.insert("summary".to_owned(), "auto".into());
    }
    let own = conversation.rest.iter();
    let own = own.filter(|(name, _)| *name != UNBOUNDED);
    let own = own.filter_map(|(name, value)| Some((name.strip_prefix(REASONING)?, value)));
    fields.extend(own.map(|(name, value)| (name.to_owned(), value.clone())));
    (!fields.is_empty()).then_some(Value::Object(fields))
}

fn text(conversation: &Conversation) -> Option<Value> {
    let mut fields = Map::new();
    let format = match &conversation.output_shape {
        OutputShape::Text => None,
        OutputShape::JsonObject => Some(json!({ "type": "json_object" })),
        OutputShape::JsonSchema { name, schema, strict } => Some(json!({
            "type": "json_schema", "name": name, "schema": schema, "strict": strict.unwrap_or(false),
        })),
    };
    fields.extend(format.map(|format| ("format".to_owned(), format)));
    let verbosity = conversation.rest.get("verbosity").cloned();
    fields.extend(verbosity.map(|verbosity| ("verbosity".to_owned(), verbosity)));
    (!fields.is_empty()).then_some(Value::Object(fields))
}

fn unsayable(field: impl Into<Box<str>>, text: impl Into<String>) -> Failure {
    Failure::unsupported(field, text)
}
