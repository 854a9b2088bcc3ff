//! Items as neutral messages, and the response object.
//!
//! [`items_to_messages`] is append-only: the messages of a history are a prefix of the messages of
//! any longer one that ends a model's answer in between, so a target's prompt cache and the
//! engine's held state stay valid. [`ResponseSkeleton`] holds what a response says about its
//! request and renders all 31 fields that Open Responses requires, at any point of its life.

use ::types::Failure;
use ::types::clock::Timestamp;
use ::types::conversation::{Message, Part, Role, ToolCall};
use ::types::usage::Usage;
use serde_json::{Map, Value, json};

use super::client_tools;
use super::stream::reasoning::unseal;
use super::tool_error;
use super::types::{CreateResponse, InputItem, ItemKind};
use crate::json::{at, join};

/// What a response says about its request, whatever becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseSkeleton {
    fields: Map<String, Value>,
}

/// What has become of a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseState {
    /// `queued`, `in_progress`, `completed`, `failed`, `incomplete` or `cancelled`.
    pub status: String,
    /// Its items.
    pub output: Vec<Value>,
    /// What was counted, where it ended and that is known.
    pub usage: Option<Usage>,
    /// [`super::errors::response_error`], if it failed.
    pub error: Option<Value>,
    /// Why it is incomplete.
    pub incomplete_reason: Option<String>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

impl ResponseSkeleton {
    /// The skeleton of the response `id` to `request`.
    pub fn new(id: &str, created_at: Timestamp, request: &CreateResponse) -> Self {
        let value = json!({
            "id": id,
            "object": "response",
            "created_at": created_at.seconds(),
            "status": "in_progress",
            "completed_at": null,
            "background": request.background,
            "error": null,
            "incomplete_details": null,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "max_tool_calls": request.max_tool_calls,
            "model": request.model,
            "output": [],
            "parallel_tool_calls": request.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": request.previous_response_id,
            "prompt_cache_key": request.prompt_cache_key,
            "reasoning": request.reasoning,
            "safety_identifier": request.safety_identifier,
            "service_tier": request.service_tier.as_deref().unwrap_or("default"),
            "store": request.store,
            "temperature": request.temperature.unwrap_or(1.0),
            "text": request.text_echo,
            "tool_choice": request.tool_choice_echo,
            "tools": request.tools_echo,
            "top_logprobs": request.top_logprobs,
            "top_p": request.top_p.unwrap_or(1.0),
            "presence_penalty": request.presence_penalty.unwrap_or(0.0),
            "frequency_penalty": request.frequency_penalty.unwrap_or(0.0),
            "truncation": request.truncation.as_deref().unwrap_or("disabled"),
            "usage": null,
            "metadata": request.metadata,
        });
        Self::from_value(value)
    }

    /// The skeleton in a response object that was rendered before. What is no object gives an empty
    /// one.
    pub fn from_value(response: Value) -> Self {
        match response {
            Value::Object(fields) => Self { fields },
            _ => Self { fields: Map::new() },
        }
    }

    /// The response's id.
    pub fn id(&self) -> &str {
        self.fields.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// The tools, as they are echoed.
    pub(super) fn tools(&self) -> &Value {
        self.fields.get("tools").unwrap_or(&Value::Null)
    }

    /// Says of what was asked and did not reach the model, by the names under which it was dropped,
    /// what is true instead.
    pub(super) fn correct(&mut self, dropped: &[String]) {
        for name in dropped {
            let (field, instead) = match name.as_str() {
                "prompt_cache_key" | "safety_identifier" => (name.as_str(), Value::Null),
                "service_tier" => (name.as_str(), "default".into()),
                "temperature" | "top_p" => (name.as_str(), 1.0.into()),
                "frequency_penalty" | "presence_penalty" => (name.as_str(), 0.0.into()),
                "verbosity" => {
                    let text = self.fields.get_mut("text").and_then(Value::as_object_mut);
                    text.and_then(|text| text.shift_remove("verbosity"));
                    continue;
                }
                _ => continue,
            };
            self.fields.insert(field.to_owned(), instead);
        }
    }

    /// Sets an extra field, such as `holdfast`.
    pub fn set_extra(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), value);
    }

    /// The response object in this state.
    pub fn render(&self, state: &ResponseState) -> Value {
        let mut fields = self.fields.clone();
        let mut set = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        set("status", state.status.as_str().into());
        set("output", state.output.clone().into());
        set("usage", state.usage.as_ref().map_or(Value::Null, usage_object));
        set("error", state.error.clone().unwrap_or(Value::Null));
        let details = state.incomplete_reason.as_ref().map(|reason| json!({ "reason": reason }));
        set("incomplete_details", details.unwrap_or(Value::Null));
        set("completed_at", state.completed_at.map_or(Value::Null, |time| time.seconds().into()));
        Value::Object(fields)
    }
}

/// The `usage` of a response.
pub fn usage_object(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
        "total_tokens": usage.total_tokens(),
    })
}

/// The neutral messages that items say, in order.
///
/// What the model said in a row (reasoning, text, calls) is one assistant message, as chat formats
/// need it. An `mcp_call` with a result is the model's call and the tool's message; its id is the
/// call's id. What the same answer said after it (the item names the call) belongs before that
/// message. `mcp_list_tools` says nothing to a model.
///
/// # Errors
/// A 400 naming the item: an `item_reference` (the caller resolves those first), or content that
/// can't be said.
pub fn items_to_messages(items: &[InputItem]) -> Result<Vec<Message>, Failure> {
    let mut history = History { messages: Vec::with_capacity(items.len()), ..History::default() };
    for (index, item) in items.iter().enumerate() {
        history.push(item, &at("input", index))?;
    }
    history.end_answer();
    Ok(history.messages)
}

/// Messages while they are written.
#[derive(Default)]
struct History {
    messages: Vec<Message>,
    /// The first MCP call of the answer that may go on.
    answer: Option<String>,
    /// What its tools answered, which stands behind all that it says.
    results: Vec<Message>,
}

impl History {
    fn push(&mut self, item: &InputItem, path: &str) -> Result<(), Failure> {
        let goes_on = self.answer.is_some() && item.beside() == self.answer.as_deref();
        if !(goes_on && is_models(item)) {
            self.end_answer();
        }
        let (value, messages) = (&item.value, &mut self.messages);
        match item.kind {
            ItemKind::Message => push_message(value, path, messages)?,
            ItemKind::FunctionCall => push_said(messages, call_part(value, "call_id")),
            ItemKind::CustomToolCall => push_said(messages, custom_call_part(value)),
            ItemKind::FunctionCallOutput | ItemKind::CustomToolCallOutput => {
                messages.push(result(text_of(value, "call_id"), output_parts(value, path)?, false));
            }
            ItemKind::Reasoning => push_said(messages, reasoning_part(value)),
            ItemKind::McpCall => self.push_mcp_call(item),
            ItemKind::McpListTools => {}
            ItemKind::ItemReference => {
                let id = item.id().unwrap_or_default();
                let text = format!("item '{id}' does not exist, or was not stored");
                return Err(Failure::invalid(path, text));
            }
        }
        Ok(())
    }

    fn push_mcp_call(&mut self, item: &InputItem) {
        let value = &item.value;
        let error = value.get("error").filter(|error| !error.is_null());
        let output = value.get("output").and_then(Value::as_str).map(str::to_owned);
        // A call that never ended: the model knows nothing of it, and a call without its result is
        // refused by targets.
        let Some(text) = output.or_else(|| error.map(tool_error::text_of)) else { return };
        push_said(&mut self.messages, call_part(value, "id"));
        self.answer = item.beside().or_else(|| item.id()).map(str::to_owned);
        self.results.push(result(text_of(value, "id"), vec![Part::text(text)], error.is_some()));
    }

    /// Nothing more belongs to the answer before: its tools' results follow it.
    fn end_answer(&mut self) {
        self.answer = None;
        self.messages.append(&mut self.results);
    }
}

/// Whether it is a part of what a model said, so that it may stand before a tool's result.
fn is_models(item: &InputItem) -> bool {
    match item.kind {
        ItemKind::Message => item.value.get("role").is_some_and(|role| role == "assistant"),
        ItemKind::FunctionCall
        | ItemKind::CustomToolCall
        | ItemKind::Reasoning
        | ItemKind::McpCall => true,
        ItemKind::FunctionCallOutput
        | ItemKind::CustomToolCallOutput
        | ItemKind::McpListTools
        | ItemKind::ItemReference => false,
    }
}

fn push_message(value: &Value, path: &str, messages: &mut Vec<Message>) -> Result<(), Failure> {
    let role = match value.get("role").and_then(Value::as_str) {
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        _ => Role::User,
    };
    let parts = content_parts(value.get("content"), &join(path, "content"))?;
    if role == Role::Assistant {
        parts.into_iter().for_each(|part| push_said(messages, part));
    } else {
        messages.push(Message { role, parts });
    }
    Ok(())
}

fn content_parts(content: Option<&Value>, path: &str) -> Result<Vec<Part>, Failure> {
    match content {
        Some(Value::String(text)) => Ok(vec![Part::Text { text: text.clone() }]),
        Some(Value::Array(parts)) => {
            let parts = parts.iter().enumerate();
            parts.map(|(index, part)| content_part(part, &at(path, index))).collect()
        }
        _ => Ok(Vec::new()),
    }
}

fn content_part(part: &Value, path: &str) -> Result<Part, Failure> {
    match part.get("type").and_then(Value::as_str).unwrap_or_default() {
        "input_text" | "output_text" | "text" => Ok(Part::Text { text: text_of(part, "text") }),
        "refusal" => Ok(Part::Refusal { text: text_of(part, "refusal") }),
        "input_image" => {
            let url = part.get("image_url").and_then(Value::as_str);
            // An address that says it all is not kept twice: it may hold 30 MB.
            let source = match (url, part.get("detail")) {
                (Some(_), None | Some(Value::Null)) => Value::Null,
                _ => part.clone(),
            };
            let url = url.map(str::to_owned);
            Ok(Part::Media { kind: "image".to_owned(), url, name: None, source })
        }
        "input_file" => Ok(file_part(part)),
        other => Err(Failure::unsupported(
            join(path, "type"),
            format!("content of type '{other}' is not offered here"),
        )),
    }
}

fn file_part(part: &Value) -> Part {
    let text = |name: &str| part.get(name).and_then(Value::as_str);
    let name = text("filename").map(str::to_owned);
    let url = match (text("file_url"), text("file_data")) {
        (Some(url), _) => Some(url.to_owned()),
        (None, Some(data)) if data.starts_with("data:") => Some(data.to_owned()),
        // Bare bytes: the name says what they are.
        (None, Some(data)) => {
            let is_pdf = name.as_deref().is_none_or(|name| name.ends_with(".pdf"));
            let kind = if is_pdf { "application/pdf" } else { "application/octet-stream" };
            Some(format!("data:{kind};base64,{data}"))
        }
        (None, None) => None,
    };
    let source = if url.is_some() { Value::Null } else { part.clone() };
    Part::Media { kind: "file".to_owned(), url, name, source }
}

fn output_parts(value: &Value, path: &str) -> Result<Vec<Part>, Failure> {
    content_parts(value.get("output"), &join(path, "output"))
}

fn reasoning_part(value: &Value) -> Part {
    let texts = |name: &str| -> String {
        let parts = value.get(name).and_then(Value::as_array).into_iter().flatten();
        parts.map(|part| text_of(part, "text")).collect::<Vec<_>>().join("\n")
    };
    let content = texts("content");
    let text = if content.is_empty() { texts("summary") } else { content };
    let sealed = value.get("encrypted_content").and_then(Value::as_str).map(unseal);
    let Some((signature, redacted, origin)) = sealed else { return Part::reasoning(text) };
    Part::Reasoning {
        text: if redacted { String::new() } else { text },
        signature: Some(signature.to_owned()),
        redacted,
        origin: Some(origin.to_owned()),
    }
}

fn call_part(value: &Value, id_field: &str) -> Part {
    Part::ToolCall(ToolCall {
        id: text_of(value, id_field),
        name: client_tools::called_name(value),
        arguments: text_of(value, "arguments"),
    })
}

fn custom_call_part(value: &Value) -> Part {
    Part::ToolCall(ToolCall {
        id: text_of(value, "call_id"),
        name: text_of(value, "name"),
        arguments: client_tools::arguments_of(&text_of(value, "input")),
    })
}

fn result(call_id: String, parts: Vec<Part>, is_error: bool) -> Message {
    Message { role: Role::Tool, parts: vec![Part::ToolResult { call_id, parts, is_error }] }
}

/// Adds a part to what the model says now.
fn push_said(messages: &mut Vec<Message>, part: Part) {
    match messages.last_mut() {
        Some(last) if last.role == Role::Assistant => last.parts.push(part),
        _ => messages.push(Message { role: Role::Assistant, parts: vec![part] }),
    }
}

fn text_of(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
