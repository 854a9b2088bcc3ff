//! A request as its neutral form.
//!
//! What has a place in the neutral form goes there; every other field, at any depth, goes into
//! `rest` under its path, so that a crossing can report what it loses. Tools and roles that would
//! change the answer and can't be said are refused by name.

use ::types::Failure;
use ::types::conversation::{
    CacheLife, Conversation, Effort, OutputShape, Part, ReasoningAsk, Role, Sampling, ToolCall,
    ToolChoice, ToolDefinition, joined_text,
};
use serde_json::{Map, Value, json};

use crate::head::TopLevel;
use crate::json::{Fields, at, malformed, missing, without_indices, wrong_type};
use crate::marks::{self, History, Marked, ToolMarks};
use crate::weight::{check_length, check_values};

/// Messages in one request at most.
const MESSAGES_MAX: usize = 20_000;
/// Tools in one request at most.
const TOOLS_MAX: usize = 512;
/// Stop sequences at most; OpenAI takes four, others more.
const STOPS_MAX: usize = 64;

/// Parses a request.
pub(crate) fn parse(body: &[u8]) -> Result<Conversation, Failure> {
    // The tree would keep the last of two equal fields and hide the other, and may be large.
    let top = TopLevel::read(body)?;
    check_length(top.raw("messages"), "messages", MESSAGES_MAX, "messages")?;
    check_length(top.raw("tools"), "tools", TOOLS_MAX, "tools")?;
    check_values(body)?;
    let tree: Value = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let mut fields = Fields::of(tree, "")?;
    for spoken_elsewhere in ["model", "stream", "stream_options"] {
        fields.take(spoken_elsewhere);
    }
    for old in ["functions", "function_call"] {
        if fields.take(old).is_some() {
            let text =
                format!("'{old}' is deprecated and not offered: use 'tools' and 'tool_choice'");
            return Err(Failure::unsupported(old, text));
        }
    }
    let mut rest = Map::new();
    let history = history(&mut fields, &mut rest)?;
    let (tools, of_tools) = tools(&mut fields, &mut rest)?;
    let end = marks::take_value(&mut fields, &mut rest);
    let (messages, marks) = history.finish(of_tools, end);
    let conversation = Conversation {
        messages,
        tools,
        marks,
        tool_choice: tool_choice(fields.take("tool_choice"))?,
        parallel_tool_calls: fields.boolean("parallel_tool_calls")?,
        sampling: sampling(&mut fields)?,
        output_cap: match fields.unsigned("max_completion_tokens")? {
            Some(cap) => Some(cap),
            None => fields.unsigned("max_tokens")?,
        },
        output_shape: output_shape(fields.object("response_format")?, &mut rest)?,
        reasoning: reasoning(fields.take("reasoning_effort"), &mut rest),
        rest: Map::new(),
    };
    keep_rest(fields, &mut rest);
    Ok(Conversation { rest, ..conversation })
}

/// Keeps what was not taken, by its path. The first of several at one path stands for all.
fn keep_rest(fields: Fields, rest: &mut Map<String, Value>) {
    let path = without_indices(&fields.path);
    for (name, value) in fields.rest() {
        if !value.is_null() {
            rest.entry(crate::json::join(&path, &name)).or_insert(value);
        }
    }
}

fn history(fields: &mut Fields, rest: &mut Map<String, Value>) -> Result<History, Failure> {
    let list = fields.list("messages")?.ok_or_else(|| missing("messages"))?;
    let mut history = History::default();
    for (index, value) in list.into_iter().enumerate() {
        message(value, &at("messages", index), &mut history, rest)?;
    }
    Ok(history)
}

fn message(
    value: Value,
    path: &str,
    history: &mut History,
    rest: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let mut fields = Fields::of(value, path)?;
    let role = match fields.required_string("role")?.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let text = format!(
                "role '{other}' is not offered: use system, developer, user, assistant or tool"
            );
            return Err(Failure::unsupported(fields.path_of("role"), text));
        }
    };
    let content = fields.take("content");
    let content_path = fields.path_of("content");
    let mark = marks::take_value(&mut fields, rest);
    let mut said = match role {
        Role::Assistant => assistant_parts(content, &mut fields, rest)?,
        Role::Tool => tool_result(content, &mut fields, rest)?,
        Role::System | Role::Developer | Role::User => {
            let content = content.ok_or_else(|| missing(&content_path))?;
            content_parts(content, &content_path, rest)?
        }
    };
    if mark.is_some_and(|life| !said.mark(life)) {
        rest.entry(without_indices(&fields.path_of(marks::FIELD))).or_insert(Value::Bool(true));
    }
    keep_rest(fields, rest);
    history.push(role, said);
    Ok(())
}

fn content_parts(
    content: Value,
    path: &str,
    rest: &mut Map<String, Value>,
) -> Result<Marked, Failure> {
    let mut said = Marked::default();
    match content {
        Value::String(text) => said.push(Part::Text { text }),
        Value::Array(parts) => {
            for (index, part) in parts.into_iter().enumerate() {
                content_part(part, &at(path, index), &mut said, rest)?;
            }
        }
        other => return Err(wrong_type(path, "a string or an array of parts", &other)),
    }
    Ok(said)
}

fn content_part(
    value: Value,
    path: &str,
    said: &mut Marked,
    rest: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let mut fields = Fields::of(value, path)?;
    let part = match fields.required_string("type")?.as_str() {
        "text" => Part::Text { text: fields.required_string("text")? },
        "refusal" => Part::Refusal { text: fields.required_string("refusal")? },
        "image_url" => image(&mut fields)?,
        "input_audio" => audio(&mut fields)?,
        "file" => file(&mut fields)?,
        other => {
            let text = format!("content of type '{other}' is not offered here");
            return Err(Failure::unsupported(fields.path_of("type"), text));
        }
    };
    said.push(part);
    if let Some(life) = marks::take_value(&mut fields, rest) {
        said.mark(life);
    }
    keep_rest(fields, rest);
    Ok(())
}

fn image(fields: &mut Fields) -> Result<Part, Failure> {
    let image = fields.object("image_url")?;
    let mut image = image.ok_or_else(|| missing(&fields.path_of("image_url")))?;
    let url = image.required_string("url")?;
    let hints = image.rest();
    // An address that says it all is not kept twice: it may hold 30 MB.
    let source = match hints.is_empty() {
        true => Value::Null,
        false => {
            let mut whole = Map::from_iter([("url".to_owned(), url.clone().into())]);
            whole.extend(hints);
            json!({ "type": "image_url", "image_url": whole })
        }
    };
    Ok(Part::Media { kind: "image".to_owned(), url: Some(url), name: None, source })
}

fn audio(fields: &mut Fields) -> Result<Part, Failure> {
    let sound = fields.object("input_audio")?;
    let mut sound = sound.ok_or_else(|| missing(&fields.path_of("input_audio")))?;
    let (data, format) = (sound.required_string("data")?, sound.required_string("format")?);
    let url = format!("data:audio/{format};base64,{data}");
    Ok(Part::Media { kind: "audio".to_owned(), url: Some(url), name: None, source: Value::Null })
}

fn file(fields: &mut Fields) -> Result<Part, Failure> {
    let file = fields.object("file")?;
    let mut file = file.ok_or_else(|| missing(&fields.path_of("file")))?;
    let (kind, name) = ("file".to_owned(), file.string("filename")?);
    let data = file.string("file_data")?;
    if let (Some(url), true) = (&data, data.as_deref().is_some_and(|url| url.starts_with("data:")))
    {
        return Ok(Part::Media { kind, url: Some(url.clone()), name, source: Value::Null });
    }
    // What lies at the provider under an id, or has no media type, is told in its own shape only.
    let mut whole = file.rest();
    whole.extend(data.map(|data| ("file_data".to_owned(), data.into())));
    whole.extend(name.clone().map(|name| ("filename".to_owned(), name.into())));
    let source = json!({ "type": "file", "file": whole });
    Ok(Part::Media { kind, url: None, name, source })
}

fn assistant_parts(
    content: Option<Value>,
    fields: &mut Fields,
    rest: &mut Map<String, Value>,
) -> Result<Marked, Failure> {
    let mut said = Marked::default();
    for name in ["reasoning_content", "reasoning"] {
        if let Some(text) = fields.string(name)? {
            said.push(Part::reasoning(text));
        }
    }
    if let Some(content) = content {
        said.append(content_parts(content, &fields.path_of("content"), rest)?);
    }
    said.parts.extend(fields.string("refusal")?.map(|text| Part::Refusal { text }));
    let path = fields.path_of("tool_calls");
    for (index, call) in fields.list("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        said.push(Part::ToolCall(tool_call(call, &at(&path, index))?));
    }
    Ok(said)
}

fn tool_call(value: Value, path: &str) -> Result<ToolCall, Failure> {
    let mut fields = Fields::of(value, path)?;
    let id = fields.required_string("id")?;
    if let Some(kind) = fields.string("type")?.filter(|kind| kind != "function") {
        let text = format!("tool calls of type '{kind}' are not offered here");
        return Err(Failure::unsupported(fields.path_of("type"), text));
    }
    let function = fields.object("function")?;
    let mut function = function.ok_or_else(|| missing(&fields.path_of("function")))?;
    let name = function.required_string("name")?;
    Ok(ToolCall { id, name, arguments: function.required_string("arguments")? })
}

fn tool_result(
    content: Option<Value>,
    fields: &mut Fields,
    rest: &mut Map<String, Value>,
) -> Result<Marked, Failure> {
    let call_id = fields.required_string("tool_call_id")?;
    let path = fields.path_of("content");
    let content = content_parts(content.ok_or_else(|| missing(&path))?, &path, rest)?;
    if let Some(index) = content.parts.iter().position(|part| part.as_text().is_none()) {
        let field = crate::json::join(&at(&path, index), "type");
        return Err(Failure::unsupported(field, "a tool's result can only be text"));
    }
    let mut said = Marked::default();
    said.hold(content, |parts| Part::tool_result(call_id, joined_text(&parts), false));
    Ok(said)
}

/// The tools, and the marks behind them.
fn tools(
    fields: &mut Fields,
    rest: &mut Map<String, Value>,
) -> Result<(Vec<ToolDefinition>, ToolMarks), Failure> {
    let list = fields.list("tools")?.unwrap_or_default();
    let (mut tools, mut marks) = (Vec::with_capacity(list.len()), Vec::new());
    for (index, value) in list.into_iter().enumerate() {
        let (definition, mark) = tool(value, &at("tools", index), rest)?;
        tools.push(definition);
        marks.extend(mark.map(|life| (index, life)));
    }
    Ok((tools, marks))
}

/// A tool, and the mark behind it: clients write it beside the function or into it.
fn tool(
    value: Value,
    path: &str,
    rest: &mut Map<String, Value>,
) -> Result<(ToolDefinition, Option<CacheLife>), Failure> {
    let mut fields = Fields::of(value, path)?;
    let kind = fields.required_string("type")?;
    if kind != "function" {
        let text = format!("tools of type '{kind}' are not offered here: use function");
        return Err(Failure::unsupported(fields.path_of("type"), text));
    }
    let function = fields.object("function")?;
    let mut function = function.ok_or_else(|| missing(&fields.path_of("function")))?;
    let definition = ToolDefinition {
        name: function.required_string("name")?,
        description: function.string("description")?,
        parameters: function.object("parameters")?.map(|schema| Value::Object(schema.rest())),
        strict: function.boolean("strict")?,
    };
    let inner = marks::take_value(&mut function, rest);
    let mark = marks::take_value(&mut fields, rest).max(inner);
    keep_rest(function, rest);
    keep_rest(fields, rest);
    Ok((definition, mark))
}

fn tool_choice(choice: Option<Value>) -> Result<ToolChoice, Failure> {
    const PATH: &str = "tool_choice";
    let mut fields = match choice {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(mode)) => {
            return match mode.as_str() {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                "required" => Ok(ToolChoice::Required),
                _ => {
                    let text =
                        format!("tool choice '{mode}' is not known: use auto, none or required");
                    Err(Failure::invalid(PATH, text))
                }
            };
        }
        Some(other) => Fields::of(other, PATH)?,
    };
    let kind = fields.required_string("type")?;
    if kind != "function" {
        let text = format!("tool choice of type '{kind}' is not offered: use function");
        return Err(Failure::unsupported("tool_choice.type", text));
    }
    let function = fields.object("function")?;
    let mut function = function.ok_or_else(|| missing("tool_choice.function"))?;
    Ok(ToolChoice::Named { name: function.required_string("name")? })
}

/// An effort that is not known is kept by name: servers have words of their own.
fn reasoning(effort: Option<Value>, rest: &mut Map<String, Value>) -> ReasoningAsk {
    let known = effort.as_ref().and_then(Value::as_str).and_then(Effort::parse);
    if let (Some(unknown), None) = (effort, known) {
        rest.insert("reasoning_effort".to_owned(), unknown);
    }
    ReasoningAsk { effort: known, ..ReasoningAsk::default() }
}

fn sampling(fields: &mut Fields) -> Result<Sampling, Failure> {
    let top_k = fields.unsigned("top_k")?;
    let too_large = |_| Failure::invalid("top_k", "'top_k' is too large");
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: top_k.map(u32::try_from).transpose().map_err(too_large)?,
        seed: fields.signed("seed")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        stop: stop_sequences(fields.take("stop"))?,
    })
}

fn stop_sequences(value: Option<Value>) -> Result<Vec<String>, Failure> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) if list.len() <= STOPS_MAX => {
            let list = list.into_iter().enumerate();
            let texts = list.map(|(index, value)| match value {
                Value::String(text) => Ok(text),
                other => Err(wrong_type(&at("stop", index), "a string", &other)),
            });
            texts.collect()
        }
        Some(Value::Array(_)) => {
            Err(Failure::invalid("stop", format!("'stop' has more than {STOPS_MAX} sequences")))
        }
        Some(other) => Err(wrong_type("stop", "a string or an array", &other)),
    }
}

fn output_shape(
    format: Option<Fields>,
    rest: &mut Map<String, Value>,
) -> Result<OutputShape, Failure> {
    let Some(mut format) = format else { return Ok(OutputShape::Text) };
    match format.required_string("type")?.as_str() {
        "text" => Ok(OutputShape::Text),
        "json_object" => Ok(OutputShape::JsonObject),
        "json_schema" => {
            let schema = format.object("json_schema")?;
            let mut wanted = schema.ok_or_else(|| missing(&format.path_of("json_schema")))?;
            let name = wanted.required_string("name")?;
            let strict = wanted.boolean("strict")?;
            let schema = match wanted.object("schema")? {
                Some(schema) => Value::Object(schema.rest()),
                None => Value::Object(Map::new()),
            };
            keep_rest(wanted, rest);
            Ok(OutputShape::JsonSchema { name, schema, strict })
        }
        other => {
            let text =
                format!("format '{other}' is not known: use text, json_object or json_schema");
            Err(Failure::unsupported("response_format.type", text))
        }
    }
}
