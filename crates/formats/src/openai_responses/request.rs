//! Reads the create request.
//!
//! Everything that is understood and not offered is a 400 that names the field: silently ignoring a
//! tool, a stored prompt or a conversation would answer another question. Fields that are not known
//! at all are kept by name in `rest`. What clients echo from earlier output (`status`,
//! `annotations`, nulls) is accepted, ids are optional.

mod head;
mod items;
mod tools;

use ::types::Failure;
use ::types::call::ModelHead;
use ::types::conversation::{
    Conversation, Effort, Message, OutputShape, ReasoningAsk, Role, Sampling,
};
use serde_json::{Map, Value, json};

use super::response::items_to_messages;
use super::types::{CreateResponse, InputItem, Tool};
use super::upstream::render::REASONING;
use crate::head::TopLevel;
use crate::json::{Fields, malformed, missing, wrong_type};
use crate::weight::{check_length, check_values};

pub use items::read_item;

/// Items in one request at most: as many as a long agent history has, with room.
pub const ITEMS_MAX: usize = 20_000;
/// Tools in one request at most.
pub const TOOLS_MAX: usize = 512;
/// Labels in `metadata` at most, as OpenAI has it.
const METADATA_MAX: usize = 16;
/// Characters of a label's value at most, as OpenAI has it.
const METADATA_CHARS_MAX: usize = 512;

/// Fields that would change the answer and are not offered.
const NOT_OFFERED: [(&str, &str); 4] = [
    ("context_management", "compaction is not offered yet: send a shorter history"),
    ("conversation", "conversations are not offered yet: continue with previous_response_id"),
    ("prompt", "stored prompts are not offered: send instructions and input"),
    ("moderation", "moderation is not offered"),
];

/// What every answer has, whether or not a client asks for it to be included.
const INCLUDED: [&str; 2] = ["reasoning.encrypted_content", "message.input_image.image_url"];

/// What every stage needs, in one pass.
pub(super) fn read_head(body: &[u8]) -> Result<ModelHead, Failure> {
    Ok(head::read(body)?.head)
}

/// What every stage needs of a request that one plain Call answers: it keeps nothing, continues
/// nothing that is kept and has no tool that is run here. `None` where a session has to.
///
/// # Errors
/// A 400 that names the field.
pub fn plain_head(body: &[u8]) -> Result<Option<ModelHead>, Failure> {
    let read = head::read(body)?;
    Ok(read.is_plain.then_some(read.head))
}

/// Reads and checks a create request.
///
/// # Errors
/// A 400 that names the field.
pub fn parse_create(body: &[u8]) -> Result<CreateResponse, Failure> {
    // The tree would keep the last of two equal fields and hide the other, and may be large.
    let top = TopLevel::read(body)?;
    check_length(top.raw("input"), "input", ITEMS_MAX, "items")?;
    check_length(top.raw("tools"), "tools", TOOLS_MAX, "tools")?;
    check_values(body)?;
    let tree: Value = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let mut fields = Fields::of(tree, "")?;
    refuse_not_offered(&mut fields)?;
    let model = fields.required_string("model")?;
    if model.is_empty() {
        return Err(Failure::invalid("model", "'model' is empty: name a model"));
    }
    let tools::Read { tools, echo: tools_echo, dropped } = tools::read(fields.list("tools")?)?;
    let (tool_choice, tool_choice_echo) = tools::read_choice(fields.take("tool_choice"), &tools)?;
    let (output_shape, text_echo) = read_text(fields.object("text")?)?;
    let request = CreateResponse {
        model,
        input: read_input(fields.take("input"))?,
        instructions: fields.string("instructions")?,
        previous_response_id: fields.string("previous_response_id")?,
        store: fields.boolean("store")?.unwrap_or(true),
        background: fields.boolean("background")?.unwrap_or(false),
        stream: fields.boolean("stream")?.unwrap_or(false),
        tools,
        tool_choice,
        parallel_tool_calls: fields.boolean("parallel_tool_calls")?,
        max_output_tokens: positive(&mut fields, "max_output_tokens")?,
        max_tool_calls: positive(&mut fields, "max_tool_calls")?,
        temperature: within(&mut fields, "temperature", 0.0, 2.0)?,
        top_p: within(&mut fields, "top_p", 0.0, 1.0)?,
        presence_penalty: within(&mut fields, "presence_penalty", -2.0, 2.0)?,
        frequency_penalty: within(&mut fields, "frequency_penalty", -2.0, 2.0)?,
        output_shape,
        metadata: read_metadata(&mut fields)?,
        include: read_include(&mut fields)?,
        truncation: read_truncation(&mut fields)?,
        reasoning: fields.object("reasoning")?.map(|object| Value::Object(object.rest())),
        safety_identifier: fields.string("safety_identifier")?,
        prompt_cache_key: fields.string("prompt_cache_key")?,
        service_tier: fields.string("service_tier")?,
        user: fields.string("user")?,
        top_logprobs: no_logprobs(&mut fields)?,
        tools_echo,
        tool_choice_echo,
        text_echo,
        rest: rest(fields, dropped),
    };
    check_whole(&request)?;
    Ok(request)
}

/// A request of nothing but a model, for answers that have no request of this format.
pub(super) fn plain(model: &str) -> CreateResponse {
    CreateResponse {
        model: model.to_owned(),
        input: Vec::new(),
        instructions: None,
        previous_response_id: None,
        store: false,
        background: false,
        stream: false,
        tools: Vec::new(),
        tool_choice: ::types::conversation::ToolChoice::Auto,
        parallel_tool_calls: None,
        max_output_tokens: None,
        max_tool_calls: None,
        temperature: None,
        top_p: None,
        presence_penalty: None,
        frequency_penalty: None,
        output_shape: OutputShape::Text,
        metadata: Map::new(),
        include: Vec::new(),
        truncation: None,
        reasoning: None,
        safety_identifier: None,
        prompt_cache_key: None,
        service_tier: None,
        user: None,
        top_logprobs: 0,
        tools_echo: Vec::new(),
        tool_choice_echo: json!("auto"),
        text_echo: json!({ "format": { "type": "text" } }),
        rest: Map::new(),
    }
}

/// The neutral form of a request that continues nothing.
pub(super) fn conversation(body: &[u8]) -> Result<Conversation, Failure> {
    let request = parse_create(body)?;
    if request.previous_response_id.is_some() {
        let text = "the history of a stored response is not part of this request";
        return Err(Failure::unsupported("previous_response_id", text));
    }
    let history = items_to_messages(&request.input)?;
    Ok(request.conversation(history))
}

impl CreateResponse {
    /// The neutral request with this history (earlier items and the new input), instructions first.
    /// MCP tools are the caller's to add.
    pub fn conversation(&self, history: Vec<Message>) -> Conversation {
        let mut messages = Vec::with_capacity(history.len() + 1);
        messages.extend(self.instructions.as_ref().map(|text| Message::text(Role::System, text)));
        messages.extend(history);
        let mut rest = self.rest.clone();
        self.add_settings(&mut rest);
        let reasoning = self.reasoning_ask(&mut rest);
        Conversation {
            messages,
            tools: self.function_definitions(),
            tool_choice: self.tool_choice.clone(),
            parallel_tool_calls: self.parallel_tool_calls,
            sampling: Sampling {
                temperature: self.temperature,
                top_p: self.top_p,
                frequency_penalty: self.frequency_penalty,
                presence_penalty: self.presence_penalty,
                ..Sampling::default()
            },
            output_cap: self.max_output_tokens,
            output_shape: self.output_shape.clone(),
            reasoning,
            marks: Vec::new(),
            rest,
        }
    }
}

impl CreateResponse {
    /// What is asked beside the conversation, by the names that every format looks for in `rest`.
    fn add_settings(&self, rest: &mut Map<String, Value>) {
        let texts = [
            ("prompt_cache_key", self.prompt_cache_key.as_deref()),
            ("safety_identifier", self.safety_identifier.as_deref()),
            ("service_tier", self.service_tier.as_deref()),
            ("user", self.user.as_deref()),
            ("verbosity", self.text_echo.get("verbosity").and_then(Value::as_str)),
        ];
        let mut set = |name: &str, value: Value| {
            rest.insert(name.to_owned(), value);
        };
        for (name, text) in texts {
            text.into_iter().for_each(|text| set(name, text.into()));
        }
        if !self.metadata.is_empty() {
            set("metadata", self.metadata.clone().into());
        }
        let more = |name: &&String| !INCLUDED.contains(&name.as_str());
        let more: Vec<&str> = self.include.iter().filter(more).map(String::as_str).collect();
        if !more.is_empty() {
            set("include", more.into());
        }
    }

    /// How much the model is to think. What has no place in the neutral form goes into `rest` by
    /// its name.
    fn reasoning_ask(&self, rest: &mut Map<String, Value>) -> ReasoningAsk {
        let mut ask = ReasoningAsk::default();
        let settings = self.reasoning.as_ref().and_then(Value::as_object);
        let given = settings.into_iter().flatten().filter(|(_, value)| !value.is_null());
        for (name, value) in given {
            let known = match (name.as_str(), value.as_str()) {
                ("effort", Some(effort)) => {
                    ask.effort = Effort::parse(effort);
                    ask.effort.is_some()
                }
                ("summary", Some(summary)) => {
                    ask.shown = Some(summary != "none");
                    // How long it is to be has no place in the neutral form.
                    matches!(summary, "auto" | "none")
                }
                _ => false,
            };
            if !known {
                rest.insert(format!("{REASONING}{name}"), value.clone());
            }
        }
        ask
    }
}

fn refuse_not_offered(fields: &mut Fields) -> Result<(), Failure> {
    for (name, why) in NOT_OFFERED {
        if let Some(value) = fields.take(name) {
            let empty = value.as_array().is_some_and(Vec::is_empty);
            if !empty {
                return Err(Failure::unsupported(name, why));
            }
        }
    }
    Ok(())
}

/// What can only be judged when every field is known.
fn check_whole(request: &CreateResponse) -> Result<(), Failure> {
    if request.store {
        return Ok(());
    }
    if request.background {
        let text = "a background response must be stored: leave 'store' out, or set it to true";
        return Err(Failure::unsupported("background", text));
    }
    match request.tools.iter().position(|tool| matches!(tool, Tool::Mcp(_))) {
        Some(index) => {
            let text = "tools that are run here need a stored response: leave 'store' out";
            Err(Failure::unsupported(format!("tools[{index}].type"), text))
        }
        None => Ok(()),
    }
}

fn read_input(input: Option<Value>) -> Result<Vec<InputItem>, Failure> {
    match input {
        None => Err(missing("input")),
        Some(Value::String(text)) => {
            let message = json!({
                "type": "message", "role": "user",
                "content": [{ "type": "input_text", "text": text }],
            });
            Ok(vec![read_item(message, "input[0]")?])
        }
        Some(Value::Array(items)) => {
            let items = items.into_iter().enumerate();
            items.map(|(index, item)| read_item(item, &format!("input[{index}]"))).collect()
        }
        Some(other) => Err(wrong_type("input", "a string or an array", &other)),
    }
}

fn read_text(text: Option<Fields>) -> Result<(OutputShape, Value), Failure> {
    let Some(mut text) = text else {
        return Ok((OutputShape::Text, json!({ "format": { "type": "text" } })));
    };
    let format = text.object("format")?;
    let verbosity = text.string("verbosity")?;
    let (shape, format_echo) = match format {
        None => (OutputShape::Text, json!({ "type": "text" })),
        Some(format) => read_format(format)?,
    };
    let mut echo = json!({ "format": format_echo });
    if let (Some(verbosity), Value::Object(echo)) = (verbosity, &mut echo) {
        echo.insert("verbosity".to_owned(), verbosity.into());
    }
    Ok((shape, echo))
}

fn read_format(mut format: Fields) -> Result<(OutputShape, Value), Failure> {
    match format.required_string("type")?.as_str() {
        "text" => Ok((OutputShape::Text, json!({ "type": "text" }))),
        "json_object" => Ok((OutputShape::JsonObject, json!({ "type": "json_object" }))),
        "json_schema" => {
            let name = format.required_string("name")?;
            let strict = format.boolean("strict")?;
            let description = format.string("description")?;
            let Some(schema) = format.object("schema")? else {
                return Err(missing(&format.path_of("schema")));
            };
            let schema = Value::Object(schema.rest());
            let echo = json!({
                "type": "json_schema", "name": name, "description": description,
                "schema": schema, "strict": strict.unwrap_or(false),
            });
            Ok((OutputShape::JsonSchema { name, schema, strict }, echo))
        }
        other => Err(Failure::unsupported(
            format.path_of("type"),
            format!("format '{other}' is not known: use text, json_object or json_schema"),
        )),
    }
}

fn read_metadata(fields: &mut Fields) -> Result<Map<String, Value>, Failure> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(Map::new()) };
    let metadata = metadata.rest();
    if metadata.len() > METADATA_MAX {
        let text = format!("'metadata' has more than {METADATA_MAX} labels");
        return Err(Failure::invalid("metadata", text));
    }
    for (name, value) in &metadata {
        let path = format!("metadata.{name}");
        match value.as_str() {
            None => return Err(wrong_type(&path, "a string", value)),
            Some(text) if text.chars().count() > METADATA_CHARS_MAX => {
                let text = format!("'{path}' has more than {METADATA_CHARS_MAX} characters");
                return Err(Failure::invalid(path, text));
            }
            Some(_) => {}
        }
    }
    Ok(metadata)
}

fn read_include(fields: &mut Fields) -> Result<Vec<String>, Failure> {
    let list = fields.list("include")?.unwrap_or_default();
    let texts = list.into_iter().enumerate().map(|(index, value)| match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(&format!("include[{index}]"), "a string", &other)),
    });
    texts.collect()
}

fn read_truncation(fields: &mut Fields) -> Result<Option<String>, Failure> {
    match fields.string("truncation")? {
        Some(value) if value == "auto" => Err(Failure::unsupported(
            "truncation",
            "'auto' is not offered: a history that does not fit is an error, not cut",
        )),
        Some(value) if value != "disabled" => {
            let text = "'truncation' is not known: use disabled";
            Err(Failure::invalid("truncation", text))
        }
        value => Ok(value),
    }
}

fn no_logprobs(fields: &mut Fields) -> Result<u64, Failure> {
    match fields.unsigned("top_logprobs")? {
        None | Some(0) => Ok(0),
        Some(_) => Err(Failure::unsupported("top_logprobs", "log probabilities are not offered")),
    }
}

fn positive(fields: &mut Fields, name: &str) -> Result<Option<u64>, Failure> {
    match fields.unsigned(name)? {
        Some(0) => Err(Failure::invalid(name, format!("'{name}' must be at least 1"))),
        value => Ok(value),
    }
}

fn within(fields: &mut Fields, name: &str, low: f64, high: f64) -> Result<Option<f64>, Failure> {
    match fields.number(name)? {
        Some(value) if !(low..=high).contains(&value) => {
            let text = format!("'{name}' must be between {low} and {high}");
            Err(Failure::invalid(name, text))
        }
        value => Ok(value),
    }
}

/// Fields that only say how the answer is sent are not reported as dropped.
fn rest(mut fields: Fields, dropped: Vec<String>) -> Map<String, Value> {
    fields.take("stream_options");
    let mut rest = fields.rest();
    rest.retain(|_, value| !value.is_null());
    rest.extend(dropped.into_iter().map(|name| (name, true.into())));
    rest
}

#[cfg(test)]
mod tests;
