//! An input of Workers AI in the words of chat completions, from which it is parsed.
//!
//! Nothing is decided about what the words mean: that is `openai_chat`'s business. What it would
//! read otherwise than Workers AI does is refused here by name.

use ::types::Failure;
use ::types::conversation::{Conversation, Effort};
use serde_json::{Map, Value, json};

use crate::head::TopLevel;
use crate::json::{at, join, malformed, missing, wrong_type};
use crate::openai_chat;
use crate::weight::{check_length, check_values};

/// Messages in one request at most.
const MESSAGES_MAX: usize = 20_000;
/// Tools in one request at most.
const TOOLS_MAX: usize = 512;
/// Fields that change which model answers, or what it sees, in ways that only Workers AI has.
const NOT_OFFERED: [(&str, &str); 6] = [
    ("functions", "code that the model's host runs: use 'tools'"),
    ("image", "images stand in 'messages', as parts of type image_url"),
    ("input", "the input of the Responses API is taken at ai/v1/responses"),
    ("lora", "adapters are not offered here"),
    ("n", "one answer is given"),
    ("raw", "every model's own chat template is applied"),
];

/// Parses an input.
pub(in crate::cloudflare_run) fn parse(body: &[u8]) -> Result<Conversation, Failure> {
    // The tree would keep the last of two equal fields and hide the other, and may be large.
    let top = TopLevel::read(body)?;
    check_length(top.raw("messages"), "messages", MESSAGES_MAX, "messages")?;
    check_length(top.raw("tools"), "tools", TOOLS_MAX, "tools")?;
    check_values(body)?;
    let mut fields: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let silent = fields.get("reasoning_effort").is_some_and(Value::is_null);
    refuse(&mut fields)?;
    let history = history(&mut fields)?;
    fields.insert("messages".to_owned(), history);
    if let Some(Value::Array(list)) = fields.get_mut("tools") {
        for (index, tool) in list.iter_mut().enumerate() {
            nest_tool(tool, &at("tools", index))?;
        }
    }
    if let Some(Value::Object(format)) = fields.get_mut("response_format") {
        name_schema(format);
    }
    let body = Value::Object(fields).to_string();
    let mut conversation = openai_chat::request::parse(body.as_bytes())?;
    if silent {
        // Chat completions take `null` for nothing said, Workers AI for no thinking.
        conversation.reasoning.effort = Some(Effort::Off);
    }
    Ok(conversation)
}

fn refuse(fields: &mut Map<String, Value>) -> Result<(), Failure> {
    for (name, why) in NOT_OFFERED {
        let usual = |value: &Value| {
            value.is_null() || *value == Value::Bool(false) || (name == "n" && *value == json!(1))
        };
        if fields.shift_remove(name).is_some_and(|value| !usual(&value)) {
            return Err(Failure::unsupported(name, format!("'{name}' is not offered: {why}")));
        }
    }
    Ok(())
}

/// The history, whichever way it is given.
fn history(fields: &mut Map<String, Value>) -> Result<Value, Failure> {
    let mut take = |name| fields.shift_remove(name).filter(|value: &Value| !value.is_null());
    match (take("messages"), take("prompt")) {
        (Some(Value::Array(list)), None) => messages(list),
        (Some(_), Some(_)) => {
            Err(Failure::invalid("prompt", "give 'messages' or 'prompt', not both"))
        }
        (Some(other), None) => Err(wrong_type("messages", "an array of objects", &other)),
        (None, Some(Value::String(prompt))) => Ok(json!([{ "role": "user", "content": prompt }])),
        (None, Some(other)) => Err(wrong_type("prompt", "a string", &other)),
        (None, None) => Err(missing("messages")),
    }
}

/// A call that waits for its result: the tool's name and the call's id.
type Waiting = (String, String);

fn messages(list: Vec<Value>) -> Result<Value, Failure> {
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut told = Vec::with_capacity(list.len());
    for (index, mut message) in list.into_iter().enumerate() {
        let path = at("messages", index);
        if let Value::Object(fields) = &mut message {
            if let Some(Value::Array(calls)) = fields.get_mut("tool_calls") {
                for (place, call) in calls.iter_mut().enumerate() {
                    waiting.extend(nest_call(call, (index, place)));
                }
            }
            if fields.get("role").and_then(Value::as_str) == Some("tool") {
                answer_call(fields, &mut waiting, &path)?;
            }
        }
        told.push(message);
    }
    Ok(Value::Array(told))
}

/// A flat call (`{name, arguments}`) becomes one with an id, the same for the same history; what
/// has the other shape keeps it. Answers what the call's result may name.
fn nest_call(call: &mut Value, (message, place): (usize, usize)) -> Option<Waiting> {
    let Value::Object(fields) = call else { return None };
    let id = fields.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let id = id.map_or_else(|| format!("call_{message}_{place}"), str::to_owned);
    fields.insert("id".to_owned(), id.clone().into());
    // Our own answers number their calls.
    fields.shift_remove("index");
    if !fields.contains_key("function") {
        let mut function = Map::new();
        for name in ["name", "arguments"] {
            function.extend(fields.shift_remove(name).map(|value| (name.to_owned(), value)));
        }
        fields.insert("type".to_owned(), "function".into());
        fields.insert("function".to_owned(), Value::Object(function));
    }
    let Some(Value::Object(function)) = fields.get_mut("function") else { return None };
    let arguments = function.get("arguments").filter(|arguments| !arguments.is_string());
    if let Some(text) = arguments.map(Value::to_string) {
        function.insert("arguments".to_owned(), text.into());
    }
    let name = function.get("name").and_then(Value::as_str)?;
    Some((name.to_owned(), id))
}

/// A result names its call by the call's id; older clients give the tool's name, or nothing: then
/// it is the first call that has none yet.
fn answer_call(
    fields: &mut Map<String, Value>,
    waiting: &mut Vec<Waiting>,
    path: &str,
) -> Result<(), Failure> {
    let name = fields.shift_remove("name");
    let name = name.as_ref().and_then(Value::as_str);
    let given = fields.get("tool_call_id").and_then(Value::as_str);
    let place = match given {
        Some(id) => waiting.iter().position(|(_, known)| known == id),
        None => waiting.iter().position(|(known, _)| name.is_none_or(|name| name == known)),
    };
    let found = place.map(|place| waiting.remove(place));
    if given.is_some() {
        return Ok(());
    }
    let Some((_, id)) = found else {
        let field = join(path, "tool_call_id");
        let text = format!("'{path}' is a tool's result, and no call before it waits for one");
        return Err(Failure::invalid(field, text));
    };
    fields.insert("tool_call_id".to_owned(), id.into());
    Ok(())
}

/// A flat tool (`{name, description, parameters}`) becomes a function.
fn nest_tool(tool: &mut Value, path: &str) -> Result<(), Failure> {
    let Value::Object(fields) = &*tool else { return Ok(()) };
    if fields.contains_key("type") || fields.contains_key("function") {
        return Ok(());
    }
    match fields.get("name") {
        Some(Value::String(_)) => {}
        Some(other) => return Err(wrong_type(&join(path, "name"), "a string", other)),
        None => return Err(missing(&join(path, "name"))),
    }
    let function = tool.take();
    *tool = json!({ "type": "function", "function": function });
    Ok(())
}

/// Workers AI takes a bare schema; chat completions one with a name around it.
fn name_schema(format: &mut Map<String, Value>) {
    let Some(Value::Object(schema)) = format.get_mut("json_schema") else { return };
    if schema.get("schema").is_some_and(Value::is_object) {
        schema.entry("name").or_insert_with(|| "output".into());
        return;
    }
    let bare = std::mem::take(schema);
    schema.insert("name".to_owned(), "output".into());
    schema.insert("schema".to_owned(), Value::Object(bare));
}
