//! The neutral form as a request.
//!
//! Rendering is a pure function with a fixed order of fields, and message *n* depends on message
//! *n* alone: the bytes of a history are a prefix of the bytes of a longer one, which keeps the
//! provider's prompt cache. (Media in tools' results stand behind the last of the results.) What
//! can't be said is named in `dropped` where the answer stays what was asked for, and refused where
//! it does not.

use ::types::Failure;
use ::types::conversation::{
    CacheLife, Conversation, Effort, MarkPlace, Message, OutputShape, Part, ReasoningAsk, Role,
    ToolChoice, ToolDefinition, joined_text,
};
use ::types::format::{CacheControlPlace, Edits, Quirks, Rendered};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{LOGPROBS, quirks};
use crate::json::{at, field_names, join};
use crate::marks::{self, CacheControl, Marks};

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

/// Where a request is written: what the server takes, and what could not be said.
struct Paper<'a> {
    quirks: &'a Quirks,
    fields: Map<String, Value>,
    dropped: Vec<String>,
    /// A field without which the answer would be another, and that the server does not take.
    refused: Option<String>,
}

impl<'a> Paper<'a> {
    fn new(quirks: &'a Quirks) -> Self {
        Self { quirks, fields: Map::new(), dropped: Vec::new(), refused: None }
    }

    /// Writes a field, unless the server refuses it.
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        // One answer is what everybody gives.
        let usual = name == "n" && value == 1;
        if self.quirks.refuses.iter().any(|refused| refused == name) && !usual {
            self.refused.get_or_insert_with(|| name.to_owned());
        } else if self.quirks.drops.iter().any(|refused| refused == name) {
            self.dropped.push(name.to_owned());
        } else {
            self.fields.insert(name.to_owned(), value);
        }
    }
}

/// Renders a request.
pub(crate) fn render(conversation: &Conversation, edits: &Edits<'_>) -> Result<Rendered, Failure> {
    let quirks = quirks::of(edits);
    let mut paper = Paper::new(quirks);
    paper.set("model", edits.model);
    let mut messages = messages(conversation, &mut paper)?;
    let is_begun = is_begun(conversation);
    if let (true, Some(_), Some(last)) = (is_begun, quirks::prefix_path(edits), messages.last_mut())
    {
        last["prefix"] = true.into();
    }
    paper.set("messages", messages);
    if !conversation.tools.is_empty() {
        paper.set("tools", conversation.tools.iter().map(tool).collect::<Vec<_>>());
    }
    if let Some(choice) = tool_choice(&conversation.tool_choice) {
        paper.set("tool_choice", choice);
    }
    if let Some(parallel) = conversation.parallel_tool_calls {
        paper.set("parallel_tool_calls", parallel);
    }
    for (name, value) in sampling(conversation) {
        paper.set(name, value);
    }
    if let Some(cap) = edits.output_cap.or(conversation.output_cap) {
        paper.set(quirks::cap_field(quirks), cap);
    }
    if let Some(effort) = reasoning_effort(&conversation.reasoning) {
        paper.set("reasoning_effort", effort.name());
    }
    if conversation.reasoning.shown == Some(true) {
        // Servers that show their reasoning do so unasked.
        paper.dropped.push("reasoning.summary".to_owned());
    }
    if let Some(shape) = response_format(&conversation.output_shape) {
        paper.set("response_format", shape);
    }
    for (name, value) in &conversation.rest {
        if OWN_FIELDS.contains(&name.as_str()) {
            paper.set(name, value.clone());
        } else {
            paper.dropped.push(name.clone());
        }
    }
    if edits.logprobs && quirks::has_logprobs(edits) && !paper.fields.contains_key(LOGPROBS) {
        paper.set(LOGPROBS, true);
    }
    paper.set("stream", edits.stream);
    if edits.stream && edits.request_usage && !quirks.no_stream_options {
        paper.set("stream_options", json!({ "include_usage": true }));
    }
    if quirks.continue_fields && is_begun {
        paper.set("continue_final_message", true);
        paper.set("add_generation_prompt", false);
    }
    if let Some(name) = paper.refused {
        let text = format!("this provider does not take '{name}', and the answer needs it");
        return Err(Failure::unsupported(name, text));
    }
    let body = Bytes::from(Value::Object(paper.fields).to_string());
    Ok(Rendered { body, dropped: field_names(paper.dropped), ..Rendered::default() })
}

/// Whether it ends in an answer that was begun.
fn is_begun(conversation: &Conversation) -> bool {
    conversation.messages.last().is_some_and(|last| {
        // A call of a tool is whole.
        last.role == Role::Assistant
            && last.parts.iter().all(|part| !matches!(part, Part::ToolCall(_)))
    })
}

fn messages(conversation: &Conversation, paper: &mut Paper<'_>) -> Result<Vec<Value>, Failure> {
    let list = &conversation.messages;
    let mut rendered = Vec::with_capacity(list.len());
    let developer = if paper.quirks.no_developer_role { "system" } else { "developer" };
    let mut behind = Vec::new();
    let marks = marks(conversation, paper);
    for (index, message) in list.iter().enumerate() {
        let path = at("messages", index);
        if message.role != Role::Tool {
            rendered.extend(behind_results(&mut behind));
        }
        let mark_of = |part| marks.part(index, part);
        match message.role {
            Role::System => rendered.push(plain("system", message, &path, &mark_of)?),
            Role::Developer => rendered.push(plain(developer, message, &path, &mark_of)?),
            Role::User => rendered.push(plain("user", message, &path, &mark_of)?),
            Role::Assistant => {
                let mut said = assistant(message, &path, paper)?;
                if marks.message(index).is_some_and(|life| !mark(&mut said, life, paper.quirks)) {
                    marks::report(message, &mut paper.dropped);
                }
                rendered.push(said);
            }
            Role::Tool => {
                for (at, part) in message.parts.iter().enumerate() {
                    let mut result = tool_result(part, &path, &mut behind, paper)?;
                    if let Some(life) = mark_of(at) {
                        mark(&mut result, life, paper.quirks);
                    }
                    rendered.push(result);
                }
            }
        }
    }
    rendered.extend(behind_results(&mut behind));
    Ok(rendered)
}

/// The marks that this server takes: none of them on tools.
fn marks(conversation: &Conversation, paper: &mut Paper<'_>) -> Marks {
    let takes = paper.quirks.cache_control.is_some();
    let lost = conversation.marks.iter().map(|mark| mark.place);
    let lost = lost.filter(|place| !takes || matches!(place, MarkPlace::Tool(_)));
    paper.dropped.extend(lost.map(|place| marks::mark_name(conversation, place).to_owned()));
    if takes { Marks::on_parts(conversation) } else { Marks::default() }
}

/// Marks the message of an answer or a result; whether it has a place for that.
fn mark(message: &mut Value, life: CacheLife, quirks: &Quirks) -> bool {
    let control = CacheControl::value(life);
    if quirks.cache_control == Some(CacheControlPlace::Messages) {
        message[marks::FIELD] = control;
        return true;
    }
    let Some(Value::String(text)) = message.get_mut("content").map(Value::take) else {
        return false;
    };
    message["content"] = json!([{ "type": "text", "text": text, marks::FIELD: control }]);
    true
}

/// A user's message with the media of the results before it: nothing may stand between results.
fn behind_results(media: &mut Vec<Value>) -> Option<Value> {
    let content = std::mem::take(media);
    (!content.is_empty()).then(|| json!({ "role": "user", "content": content }))
}

fn plain(
    role: &str,
    message: &Message,
    path: &str,
    mark_of: &dyn Fn(usize) -> Option<CacheLife>,
) -> Result<Value, Failure> {
    if let ([Part::Text { text }], None) = (message.parts.as_slice(), mark_of(0)) {
        return Ok(json!({ "role": role, "content": text }));
    }
    let parts = message.parts.iter().enumerate();
    let parts = parts.map(|(index, part)| {
        let mut part = content(part, &at(&join(path, "content"), index))?;
        if let Some(life) = mark_of(index) {
            part[marks::FIELD] = CacheControl::value(life);
        }
        Ok(part)
    });
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

fn assistant(message: &Message, path: &str, paper: &mut Paper<'_>) -> Result<Value, Failure> {
    let (mut text, mut refusal) = (None::<String>, None::<String>);
    let mut thought = None::<String>;
    let quirks = paper.quirks;
    let mut calls = Vec::new();
    for (index, part) in message.parts.iter().enumerate() {
        match part {
            Part::Text { text: piece } => text.get_or_insert_default().push_str(piece),
            Part::Refusal { text: piece } => refusal.get_or_insert_default().push_str(piece),
            Part::ToolCall(call) => calls.push(json!({
                "id": quirks::call_id(&call.id, quirks), "type": "function",
                "function": { "name": call.name, "arguments": call.arguments },
            })),
            // What a vendor signed is worth nothing to another.
            Part::Reasoning { text: piece, origin: None, .. }
                if quirks.reasoning_field.is_some() =>
            {
                thought.get_or_insert_default().push_str(piece);
            }
            // There is no standard field for it, and strict servers refuse unknown ones.
            Part::Reasoning { .. } => paper.dropped.push("reasoning".to_owned()),
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
    let thought = quirks.reasoning_field.clone().zip(thought);
    fields.extend(thought.map(|(name, text)| (name, text.into())));
    fields.extend(refusal.map(|text| ("refusal".to_owned(), text.into())));
    if !calls.is_empty() {
        fields.insert("tool_calls".to_owned(), calls.into());
    }
    Ok(Value::Object(fields))
}

/// A result as a message; its media, for which such a message has no place, go to `behind`.
fn tool_result(
    part: &Part,
    path: &str,
    behind: &mut Vec<Value>,
    paper: &mut Paper<'_>,
) -> Result<Value, Failure> {
    let Part::ToolResult { call_id, parts, is_error } = part else {
        let text = "a tool's message can only hold results";
        return Err(Failure::unsupported(join(path, "content"), text));
    };
    if *is_error {
        // The text says so too; there is no field for it.
        paper.dropped.push("tool_result.is_error".to_owned());
    }
    let call_id = quirks::call_id(call_id, paper.quirks);
    let mut text = joined_text(parts);
    let path = join(path, "tool_result");
    let others = parts.iter().filter(|part| part.as_text().is_none());
    let others = others.map(|part| match part {
        Part::Media { kind, .. } => Ok((kind, content(part, &path)?)),
        _ => Err(Failure::unsupported(&*path, "a result holds text and media only")),
    });
    for (count, other) in others.enumerate() {
        let (kind, media) = other?;
        if paper.quirks.no_user_after_tool {
            let text = "a tool's result can only be text here";
            return Err(Failure::unsupported(join(&path, kind), text));
        }
        paper.dropped.push(format!("tool_result.{kind}"));
        if count == 0 {
            let named = format!("From the result of {call_id}:");
            behind.push(json!({ "type": "text", "text": named }));
            if text.is_empty() {
                // Servers refuse an empty result.
                "Given in the next message.".clone_into(&mut text);
            }
        }
        behind.push(media);
    }
    Ok(json!({ "role": "tool", "tool_call_id": call_id, "content": text }))
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
