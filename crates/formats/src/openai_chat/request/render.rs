//! The neutral form as a request.
//!
//! Rendering is a pure function with a fixed order of fields, and message *n* depends on message
//! *n* alone: the bytes of a history are a prefix of the bytes of a longer one, which keeps the
//! provider's prompt cache. What can't be said is named in `dropped` where the answer stays what
//! was asked for, and refused where it does not.

use ::types::Failure;
use ::types::conversation::{
    Conversation, Effort, Message, OutputShape, Part, ReasoningAsk, Role, ToolChoice,
    ToolDefinition, joined_text,
};
use ::types::format::{Edits, Rendered};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::json::{at, field_names, join};

/// Fields of `rest` that are this format's own.
const OWN_FIELDS: [&str; 17] = [
    "audio",
    "logit_bias",
    "logprobs",
    "metadata",
    "modalities",
    "n",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "repetition_penalty",
    "safety_identifier",
    "service_tier",
    "store",
    "top_logprobs",
    "user",
    "verbosity",
    "web_search_options",
];

/// Tokens of thinking from which on an effort is more than low.
const LOW_BELOW: u64 = 4_096;
/// Tokens of thinking from which on an effort is more than medium.
const MEDIUM_BELOW: u64 = 16_384;

/// Renders a request.
pub(crate) fn render(conversation: &Conversation, edits: &Edits<'_>) -> Result<Rendered, Failure> {
    let mut dropped = Vec::new();
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("model", edits.model.into());
    set("messages", messages(&conversation.messages, &mut dropped)?.into());
    if !conversation.tools.is_empty() {
        set("tools", conversation.tools.iter().map(tool).collect::<Vec<_>>().into());
    }
    if let Some(choice) = tool_choice(&conversation.tool_choice) {
        set("tool_choice", choice);
    }
    if let Some(parallel) = conversation.parallel_tool_calls {
        set("parallel_tool_calls", parallel.into());
    }
    for (name, value) in sampling(conversation) {
        set(name, value);
    }
    if let Some(cap) = edits.output_cap.or(conversation.output_cap) {
        set("max_completion_tokens", cap.into());
    }
    if let Some(effort) = reasoning_effort(&conversation.reasoning) {
        set("reasoning_effort", effort.name().into());
    }
    if conversation.reasoning.shown == Some(true) {
        // Servers that show their reasoning do so unasked.
        dropped.push("reasoning.summary".to_owned());
    }
    if let Some(shape) = response_format(&conversation.output_shape) {
        set("response_format", shape);
    }
    for (name, value) in &conversation.rest {
        if OWN_FIELDS.contains(&name.as_str()) {
            set(name, value.clone());
        } else {
            dropped.push(name.clone());
        }
    }
    set("stream", edits.stream.into());
    if edits.stream && edits.request_usage {
        set("stream_options", json!({ "include_usage": true }));
    }
    let body = Bytes::from(Value::Object(fields).to_string());
    Ok(Rendered { body, dropped: field_names(dropped), ..Rendered::default() })
}

fn messages(list: &[Message], dropped: &mut Vec<String>) -> Result<Vec<Value>, Failure> {
    let mut rendered = Vec::with_capacity(list.len());
    for (index, message) in list.iter().enumerate() {
        let path = at("messages", index);
        match message.role {
            Role::System => rendered.push(plain("system", message, &path)?),
            Role::Developer => rendered.push(plain("developer", message, &path)?),
            Role::User => rendered.push(plain("user", message, &path)?),
            Role::Assistant => rendered.push(assistant(message, &path, dropped)?),
            Role::Tool => tool_results(message, &path, &mut rendered, dropped)?,
        }
    }
    Ok(rendered)
}

fn plain(role: &str, message: &Message, path: &str) -> Result<Value, Failure> {
    if let [Part::Text { text }] = message.parts.as_slice() {
        return Ok(json!({ "role": role, "content": text }));
    }
    let parts = message.parts.iter().enumerate();
    let parts = parts.map(|(index, part)| content(part, &at(&join(path, "content"), index)));
    Ok(json!({ "role": role, "content": parts.collect::<Result<Vec<_>, _>>()? }))
}

fn content(part: &Part, path: &str) -> Result<Value, Failure> {
    match part {
        Part::Text { text } => Ok(json!({ "type": "text", "text": text })),
        Part::Refusal { text } => Ok(json!({ "type": "refusal", "refusal": text })),
        Part::Media { kind, url, name, source } => {
            let (url, name) = (url.as_deref(), name.as_deref());
            media(&Media { kind, url, name, source }, path)
        }
        Part::ToolCall(_) | Part::ToolResult { .. } | Part::Reasoning { .. } => {
            let text =
                "a message of this role can't hold a tool call, a tool's result or reasoning";
            Err(Failure::unsupported(path, text))
        }
    }
}

/// Media as a part of ours: in its own shape where it came in one, else by its address.
fn media(part: &Media<'_>, path: &str) -> Result<Value, Failure> {
    let source = |name: &str| part.source.get(name).and_then(Value::as_str);
    if matches!(source("type"), Some("image_url" | "input_audio" | "file")) {
        return Ok(part.source.clone());
    }
    let data = part.url.and_then(|url| url.strip_prefix("data:"));
    match (part.kind, part.url, data.and_then(|data| data.split_once(";base64,"))) {
        ("image", Some(url), _) => {
            let mut image = json!({ "url": url });
            // How closely to look is a hint beside the address.
            if let (Some(detail), Value::Object(image)) = (source("detail"), &mut image) {
                image.insert("detail".to_owned(), detail.into());
            }
            Ok(json!({ "type": "image_url", "image_url": image }))
        }
        ("audio", _, Some((kind, data))) if kind.starts_with("audio/") => {
            let format = kind.trim_start_matches("audio/");
            Ok(json!({ "type": "input_audio", "input_audio": { "data": data, "format": format } }))
        }
        ("file", Some(url), Some((kind, _))) => {
            // A file without a name is refused.
            let unnamed = if kind == "application/pdf" { "document.pdf" } else { "document" };
            let name = part.name.unwrap_or(unnamed);
            Ok(json!({ "type": "file", "file": { "filename": name, "file_data": url } }))
        }
        (kind, ..) => {
            let text = format!("content of type '{kind}' given in this way can't be said here");
            Err(Failure::unsupported(join(path, "type"), text))
        }
    }
}

/// [`Part::Media`], borrowed.
struct Media<'a> {
    kind: &'a str,
    url: Option<&'a str>,
    name: Option<&'a str>,
    source: &'a Value,
}

fn assistant(message: &Message, path: &str, dropped: &mut Vec<String>) -> Result<Value, Failure> {
    let (mut text, mut refusal) = (None::<String>, None::<String>);
    let mut calls = Vec::new();
    for (index, part) in message.parts.iter().enumerate() {
        match part {
            Part::Text { text: piece } => text.get_or_insert_default().push_str(piece),
            Part::Refusal { text: piece } => refusal.get_or_insert_default().push_str(piece),
            Part::ToolCall(call) => calls.push(json!({
                "id": call.id, "type": "function",
                "function": { "name": call.name, "arguments": call.arguments },
            })),
            // There is no standard field for it, and strict servers refuse unknown ones.
            Part::Reasoning { .. } => dropped.push("reasoning".to_owned()),
            Part::Media { .. } | Part::ToolResult { .. } => {
                let field = at(&join(path, "content"), index);
                let text = "an assistant's message can't hold media or a tool's result here";
                return Err(Failure::unsupported(field, text));
            }
        }
    }
    let mut fields = Map::new();
    fields.insert("role".to_owned(), "assistant".into());
    fields.insert("content".to_owned(), text.into());
    fields.extend(refusal.map(|text| ("refusal".to_owned(), text.into())));
    if !calls.is_empty() {
        fields.insert("tool_calls".to_owned(), calls.into());
    }
    Ok(Value::Object(fields))
}

fn tool_results(
    message: &Message,
    path: &str,
    out: &mut Vec<Value>,
    dropped: &mut Vec<String>,
) -> Result<(), Failure> {
    for part in &message.parts {
        let Part::ToolResult { call_id, parts, is_error } = part else {
            let text = "a tool's message can only hold results";
            return Err(Failure::unsupported(join(path, "content"), text));
        };
        if let Some(other) = parts.iter().find(|part| part.as_text().is_none()) {
            let kind = if let Part::Media { kind, .. } = other { kind } else { "content" };
            let text = "a tool's result can only be text here";
            let field = join(&join(path, "tool_result"), kind);
            return Err(Failure::unsupported(field, text));
        }
        if *is_error {
            // The text says so too; there is no field for it.
            dropped.push("tool_result.is_error".to_owned());
        }
        let text = joined_text(parts);
        out.push(json!({ "role": "tool", "tool_call_id": call_id, "content": text }));
    }
    Ok(())
}

fn tool(definition: &ToolDefinition) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), definition.name.clone().into());
    let description = definition.description.clone();
    function.extend(description.map(|text| ("description".to_owned(), text.into())));
    let parameters = definition.parameters.clone();
    function.extend(parameters.map(|schema| ("parameters".to_owned(), schema)));
    function.extend(definition.strict.map(|strict| ("strict".to_owned(), strict.into())));
    json!({ "type": "function", "function": function })
}

fn tool_choice(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some("none".into()),
        ToolChoice::Required => Some("required".into()),
        ToolChoice::Named { name } => {
            Some(json!({ "type": "function", "function": { "name": name } }))
        }
    }
}

fn sampling(conversation: &Conversation) -> Vec<(&'static str, Value)> {
    let sampling = &conversation.sampling;
    let mut fields = Vec::new();
    let mut set = |name: &'static str, value: Option<Value>| {
        fields.extend(value.map(|value| (name, value)));
    };
    set("temperature", sampling.temperature.map(Value::from));
    set("top_p", sampling.top_p.map(Value::from));
    set("top_k", sampling.top_k.map(Value::from));
    set("seed", sampling.seed.map(Value::from));
    set("frequency_penalty", sampling.frequency_penalty.map(Value::from));
    set("presence_penalty", sampling.presence_penalty.map(Value::from));
    let stop = (!sampling.stop.is_empty()).then(|| Value::from(sampling.stop.clone()));
    set("stop", stop);
    fields
}

/// The effort that comes nearest to what is asked; `None` = the model's habit.
pub(crate) fn reasoning_effort(ask: &ReasoningAsk) -> Option<Effort> {
    let by_budget = |tokens: u64| match tokens {
        0..LOW_BELOW => Effort::Low,
        LOW_BELOW..MEDIUM_BELOW => Effort::Medium,
        MEDIUM_BELOW.. => Effort::High,
    };
    ask.effort.or_else(|| ask.budget_tokens.map(by_budget))
}

fn response_format(shape: &OutputShape) -> Option<Value> {
    match shape {
        OutputShape::Text => None,
        OutputShape::JsonObject => Some(json!({ "type": "json_object" })),
        OutputShape::JsonSchema { name, schema, strict } => {
            let mut wanted = json!({ "name": name, "schema": schema });
            if let (Some(strict), Value::Object(wanted)) = (strict, &mut wanted) {
                wanted.insert("strict".to_owned(), (*strict).into());
            }
            Some(json!({ "type": "json_schema", "json_schema": wanted }))
        }
    }
}
