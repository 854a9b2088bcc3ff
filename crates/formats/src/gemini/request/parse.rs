//! A request as its neutral form.
//!
//! What has a place in the neutral form goes there; every other field goes into `rest` under its
//! path and is never refused: SDKs send new fields before anybody knows them. Refused by name is
//! what would change the answer: tools that Google runs, and state that it keeps.

mod content;
mod schema;

use ::types::Failure;
use ::types::conversation::{
    Conversation, Effort, OutputShape, ReasoningAsk, Sampling, ToolChoice, ToolDefinition,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{CONFIG, COUNTED, OUTPUT_CAP};
use crate::head::typed;
use crate::json::missing;
use crate::object::{Object, camel, elements, mistyped};
use crate::weight::check_values;

/// Functions in one request at most.
const TOOLS_MAX: usize = 512;
/// Stop sequences at most.
const STOPS_MAX: usize = 64;
/// The name of a schema for the answer, which has none here.
const SHAPE_NAME: &str = "output";

/// Fields without which another answer would come, and that only Google can obey.
const NOT_ELSEWHERE: [(&str, &str); 2] = [
    ("cachedContent", "what is cached is kept by Google's own service: send it in the request"),
    ("continuationToken", "only Google's own service can go on with an answer"),
];
/// Fields of this API that have no place in the neutral form.
const KNOWN: [&str; 3] = ["labels", "safetySettings", "serviceTier"];

type Rest = Map<String, Value>;

/// Parses a request.
pub(in super::super) fn parse(body: &[u8]) -> Result<Conversation, Failure> {
    // What is read becomes larger than it stands here.
    check_values(body)?;
    let mut fields = Object::body(body)?.in_either_case()?;
    if let Some(counted) = fields.object(COUNTED)? {
        fields = counted;
    }
    fields.take("model");
    for (name, why) in NOT_ELSEWHERE {
        if fields.take(name).filter(|raw| raw.get() != "\"\"").is_some() {
            return Err(Failure::unsupported(name, why));
        }
    }
    let mut rest = Map::new();
    let mut conversation =
        Conversation { messages: content::messages(&mut fields, &mut rest)?, ..Default::default() };
    conversation.tools = tools(&mut fields, &mut rest)?;
    conversation.tool_choice = tool_choice(&mut fields, &mut conversation.tools, &mut rest)?;
    if let Some(config) = fields.object(CONFIG)? {
        read_config(config, &mut conversation, &mut rest)?;
    }
    leave(fields, &mut rest);
    Ok(Conversation { rest, ..conversation })
}

/// Keeps what was not taken. A name that this API doesn't have may be a field of another one, which
/// must not take it for its own.
fn leave(fields: Object<'_>, rest: &mut Rest) {
    let mut left = Map::new();
    fields.leave(&mut left);
    for (name, value) in left {
        let known = KNOWN.contains(&name.as_str()) || name.starts_with(COUNTED);
        rest.insert(if known { name } else { format!("body.{name}") }, value);
    }
}

/// The elements of a list; Google takes one object where a list of them is meant.
fn list<'a>(
    fields: &mut Object<'a>,
    name: &'static str,
    most: usize,
) -> Result<Vec<(Object<'a>, String)>, Failure> {
    let path = fields.path_of(name);
    let Some(raw) = fields.take(name) else { return Ok(Vec::new()) };
    let raws = match raw.get().as_bytes().first() {
        Some(b'{') => vec![(raw, path)],
        _ => elements(raw, &path, most)?,
    };
    let objects = raws.into_iter().map(|(raw, path)| {
        let object = Object::read(raw, &path)?.in_either_case()?;
        Ok((object, path))
    });
    objects.collect()
}

fn tools(fields: &mut Object<'_>, rest: &mut Rest) -> Result<Vec<ToolDefinition>, Failure> {
    let mut definitions = Vec::new();
    for (mut tool, path) in list(fields, "tools", TOOLS_MAX)? {
        for (mut function, _) in list(&mut tool, "functionDeclarations", TOOLS_MAX)? {
            definitions.push(ToolDefinition {
                name: function.required_string("name")?,
                description: function.string("description")?,
                parameters: parameters(&mut function)?,
                strict: None,
            });
            function.leave(rest);
        }
        let names = tool.top().fields().filter(|(_, raw)| raw.get() != "null");
        let other = names.map(|(name, _)| camel(name)).find(|name| name != "functionDeclarations");
        if let Some(name) = other {
            let text = format!("the tool '{name}' is run by Google's own service only");
            return Err(Failure::unsupported(format!("{path}.{name}"), text));
        }
    }
    Ok(definitions)
}

/// The schema of a function's arguments, in either of the two ways to give it.
fn parameters(function: &mut Object<'_>) -> Result<Option<Value>, Failure> {
    if let Some(schema) = value(function, "parametersJsonSchema")? {
        function.take("parameters");
        return Ok(Some(schema));
    }
    Ok(value(function, "parameters")?.map(schema::to_json_schema))
}

/// A schema, which is an object.
fn value(fields: &mut Object<'_>, name: &'static str) -> Result<Option<Value>, Failure> {
    let path = fields.path_of(name);
    let Some(raw) = fields.take(name) else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(schema @ Value::Object(_)) => Ok(Some(schema)),
        _ => Err(mistyped(raw, &path, "a schema")),
    }
}

/// Whether functions are called. Where only some of them may be, the others are not offered.
fn tool_choice(
    fields: &mut Object<'_>,
    tools: &mut Vec<ToolDefinition>,
    rest: &mut Rest,
) -> Result<ToolChoice, Failure> {
    let Some(mut config) = fields.object("toolConfig")? else { return Ok(ToolChoice::Auto) };
    let calling = config.object("functionCallingConfig")?;
    config.leave(rest);
    let Some(mut calling) = calling else { return Ok(ToolChoice::Auto) };
    let mode = calling.string("mode")?.unwrap_or_default();
    let mut allowed = Vec::new();
    for (raw, path) in calling.list("allowedFunctionNames", TOOLS_MAX)? {
        let name: Option<String> = typed(raw, &path, "a string")?;
        allowed.extend(name);
    }
    let path = calling.path_of("mode");
    calling.leave(rest);
    let choice = match mode.to_ascii_uppercase().as_str() {
        "" | "AUTO" | "MODE_UNSPECIFIED" => return Ok(ToolChoice::Auto),
        "NONE" => return Ok(ToolChoice::None),
        "ANY" => ToolChoice::Required,
        "VALIDATED" => {
            // Other providers have no word for it.
            rest.insert(path, "VALIDATED".into());
            ToolChoice::Auto
        }
        other => {
            let text = format!("mode '{other}' is not known: use AUTO, ANY, NONE or VALIDATED");
            return Err(Failure::invalid(path, text));
        }
    };
    match (allowed.as_slice(), &choice) {
        ([], _) => Ok(choice),
        ([name], ToolChoice::Required) => Ok(ToolChoice::Named { name: name.clone() }),
        _ => {
            tools.retain(|tool| allowed.contains(&tool.name));
            Ok(choice)
        }
    }
}

fn read_config(
    mut config: Object<'_>,
    conversation: &mut Conversation,
    rest: &mut Rest,
) -> Result<(), Failure> {
    conversation.output_cap = config.get(OUTPUT_CAP, "a non-negative integer")?;
    conversation.sampling = sampling(&mut config)?;
    conversation.output_shape = output_shape(&mut config)?;
    conversation.reasoning = reasoning(&mut config, rest)?;
    if config.get::<u64>("candidateCount", "a positive integer")?.is_some_and(|count| count > 1) {
        let text = "this provider gives one answer per request";
        return Err(Failure::unsupported(config.path_of("candidateCount"), text));
    }
    let path = config.path_of("responseModalities");
    if let Some(kinds) = config.take("responseModalities") {
        let kinds: Vec<String> = typed(kinds, &path, "a list of strings")?.unwrap_or_default();
        if let Some(kind) = kinds.iter().find(|kind| !kind.eq_ignore_ascii_case("text")) {
            let text = format!("answers of type '{kind}' are not offered by this provider");
            return Err(Failure::unsupported(path, text));
        }
    }
    config.leave(rest);
    Ok(())
}

fn sampling(config: &mut Object<'_>) -> Result<Sampling, Failure> {
    let mut stop = Vec::new();
    for (raw, path) in config.list("stopSequences", STOPS_MAX)? {
        let text: Option<String> = typed(raw, &path, "a string")?;
        stop.extend(text);
    }
    Ok(Sampling {
        temperature: config.get("temperature", "a number")?,
        top_p: config.get("topP", "a number")?,
        top_k: top_k(config)?,
        seed: config.get("seed", "an integer")?,
        frequency_penalty: config.get("frequencyPenalty", "a number")?,
        presence_penalty: config.get("presencePenalty", "a number")?,
        stop,
    })
}

/// SDKs send it as a number that may have a fraction, which is none.
fn top_k(config: &mut Object<'_>) -> Result<Option<u32>, Failure> {
    const WANTED: &str = "a non-negative integer";
    let path = config.path_of("topK");
    let Some(raw) = config.take("topK") else { return Ok(None) };
    let whole = raw.get().split_once('.').filter(|(_, part)| part.bytes().all(|b| b == b'0'));
    let text = whole.map_or_else(|| raw.get(), |(whole, _)| whole);
    let number = text.parse().map_err(|_| mistyped(raw, &path, WANTED))?;
    Ok(Some(number))
}

fn output_shape(config: &mut Object<'_>) -> Result<OutputShape, Failure> {
    let given = match value(config, "responseJsonSchema")? {
        Some(schema) => Some(schema),
        None => value(config, "_responseJsonSchema")?,
    };
    let older = value(config, "responseSchema")?.map(schema::to_json_schema);
    let path = config.path_of("responseMimeType");
    let kind = config.string("responseMimeType")?.unwrap_or_default();
    match (kind.as_str(), given.or(older)) {
        ("" | "text/plain", None) => Ok(OutputShape::Text),
        ("application/json", None) => Ok(OutputShape::JsonObject),
        ("application/json", Some(schema)) => {
            Ok(OutputShape::JsonSchema { name: SHAPE_NAME.to_owned(), schema, strict: Some(true) })
        }
        (other, _) => {
            let text = format!("answers of type '{other}' with a schema are not offered here");
            Err(Failure::unsupported(path, text))
        }
    }
}

fn reasoning(config: &mut Object<'_>, rest: &mut Rest) -> Result<ReasoningAsk, Failure> {
    let mut ask = ReasoningAsk::default();
    let Some(mut thinking) = config.object("thinkingConfig")? else { return Ok(ask) };
    ask.shown = thinking.get("includeThoughts", "a boolean")?;
    match thinking.get::<i64>("thinkingBudget", "an integer")? {
        None => {}
        Some(0) => ask.effort = Some(Effort::Off),
        Some(budget) => match u64::try_from(budget) {
            Ok(budget) => ask.budget_tokens = Some(budget),
            // The model decides.
            Err(_) => ask.adaptive = true,
        },
    }
    let path = thinking.path_of("thinkingLevel");
    if let Some(level) = thinking.string("thinkingLevel")? {
        ask.effort = match level.to_ascii_lowercase().as_str() {
            "thinking_level_unspecified" => ask.effort,
            name => Some(Effort::parse(name).ok_or_else(|| {
                let text = format!("'{level}' is not known: use MINIMAL, LOW, MEDIUM or HIGH");
                Failure::invalid(path, text)
            })?),
        };
    }
    thinking.leave(rest);
    Ok(ask)
}

/// A field that must be there.
fn required<'a>(fields: &mut Object<'a>, name: &'static str) -> Result<&'a RawValue, Failure> {
    fields.take(name).ok_or_else(|| missing(&fields.path_of(name)))
}
