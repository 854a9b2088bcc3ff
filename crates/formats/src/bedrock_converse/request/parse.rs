//! A request as its neutral form.
//!
//! What has a place in the neutral form goes there; every other field goes into `rest` under its
//! path. Refused by name is what would change the answer: tools that Bedrock runs, guardrails and
//! prompts that it keeps.

mod content;

use std::collections::BTreeMap;

use ::types::Failure;
use ::types::conversation::{
    CacheLife, Conversation, Effort, OutputShape, ReasoningAsk, Role, Sampling, ToolChoice,
    ToolDefinition,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{INFERENCE, OUTPUT_CAP, STOP_TEXT_PATHS};
use crate::anthropic_messages::request::reasoning;
use crate::json::{join, missing, without_indices};
use crate::marks::History;
use crate::object::{Object, elements, mistyped};
use crate::weight::check_values;

/// Messages in one request at most.
const MESSAGES_MAX: usize = 100_000;
/// Tools in one request at most.
const TOOLS_MAX: usize = 512;
/// Stop sequences at most, as Bedrock has it.
const STOPS_MAX: usize = 2_500;
/// Paths of response fields at most, as Bedrock has it.
const PATHS_MAX: usize = 10;
/// The name of a schema for the answer that has none.
const SHAPE_NAME: &str = "output";

/// Fields without which another answer would come, and that only Bedrock can obey.
const NOT_ELSEWHERE: [(&str, &str); 2] = [
    ("guardrailConfig", "guardrails of Amazon are applied by Bedrock only"),
    ("promptVariables", "prompts of Amazon's prompt management are kept by Bedrock only"),
];
/// Fields of this API that have no place in the neutral form.
const KNOWN: [&str; 3] = ["performanceConfig", "requestMetadata", "serviceTier"];

/// Parses a request.
pub(in super::super) fn parse(body: &[u8]) -> Result<Conversation, Failure> {
    // What is read becomes larger than it stands here.
    check_values(body)?;
    let mut fields = Object::body(body)?;
    for (name, why) in NOT_ELSEWHERE {
        if fields.take(name).filter(|raw| raw.get() != "{}").is_some() {
            return Err(Failure::unsupported(name, why));
        }
    }
    let mut rest = Map::new();
    let (Tools { definitions: tools, marks }, tool_choice) = tool_config(&mut fields, &mut rest)?;
    let (effort, output_shape) = output_config(&mut fields, &mut rest)?;
    let (output_cap, mut sampling) = inference(&mut fields, &mut rest)?;
    let reasoning = additional(&mut fields, effort, &mut sampling, &mut rest)?;
    response_paths(&mut fields, &mut rest)?;
    let (messages, marks) = history(&mut fields, &mut rest)?.finish(marks, None);
    leave(fields, &mut rest);
    Ok(Conversation {
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: None,
        sampling,
        output_cap,
        output_shape,
        reasoning,
        marks,
        rest,
    })
}

/// Keeps what was not taken. A name that this API doesn't have may be a field of another one, which
/// must not take it for its own.
fn leave(fields: Object<'_>, rest: &mut Map<String, Value>) {
    let mut left = Map::new();
    fields.leave(&mut left);
    for (name, value) in left {
        let name = if KNOWN.contains(&name.as_str()) { name } else { format!("body.{name}") };
        rest.insert(name, value);
    }
}

fn history(fields: &mut Object<'_>, rest: &mut Map<String, Value>) -> Result<History, Failure> {
    let mut history = History::default();
    if let Some(system) = fields.take("system") {
        let said = content::blocks(system, "system", Role::System, rest)?;
        if !said.parts.is_empty() {
            history.push(Role::System, said);
        }
    }
    if fields.top().raw("messages").is_none() {
        return Err(missing("messages"));
    }
    for (raw, path) in fields.list("messages", MESSAGES_MAX)? {
        content::message(raw, &path, &mut history, rest)?;
    }
    Ok(history)
}

/// The tools, and the marks behind them.
#[derive(Default)]
struct Tools {
    definitions: Vec<ToolDefinition>,
    marks: BTreeMap<usize, CacheLife>,
}

fn tool_config(
    fields: &mut Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<(Tools, ToolChoice), Failure> {
    let mut tools = Tools::default();
    let Some(mut config) = fields.object("toolConfig")? else {
        return Ok((tools, ToolChoice::Auto));
    };
    for (raw, path) in config.list("tools", TOOLS_MAX)? {
        tools.add(raw, &path, rest)?;
    }
    let choice = tool_choice(&mut config, rest)?;
    config.leave(rest);
    Ok((tools, choice))
}

impl Tools {
    /// Reads a tool, or a mark behind the one before.
    fn add(
        &mut self,
        raw: &RawValue,
        path: &str,
        rest: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        let mut union = Object::read(raw, path)?;
        if union.take("systemTool").is_some() {
            let text = "tools that Bedrock runs are offered by Bedrock only";
            return Err(Failure::unsupported(union.path_of("systemTool"), text));
        }
        if !content::is_mark(&union) {
            self.definitions.extend(definition(&mut union, rest)?);
            union.leave(rest);
            return Ok(());
        }
        match (content::mark(&mut union, rest)?, self.definitions.len().checked_sub(1)) {
            (Some(life), Some(last)) => {
                let at = self.marks.entry(last).or_insert(life);
                *at = life.max(*at);
            }
            (Some(_), None) => {
                rest.insert(without_indices(&join(path, content::MARK)), Value::Bool(true));
            }
            (None, _) => {}
        }
        Ok(())
    }
}

fn definition(
    union: &mut Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<Option<ToolDefinition>, Failure> {
    let Some(mut tool) = union.object("toolSpec")? else { return Ok(None) };
    let mut schema = tool.required_object("inputSchema")?;
    let definition = ToolDefinition {
        name: tool.required_string("name")?,
        description: tool.string("description")?,
        parameters: json(&mut schema, "json")?,
        strict: tool.get("strict", "a boolean")?,
    };
    schema.leave(rest);
    tool.leave(rest);
    Ok(Some(definition))
}

fn json(fields: &mut Object<'_>, name: &'static str) -> Result<Option<Value>, Failure> {
    let path = fields.path_of(name);
    let Some(raw) = fields.take(name) else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(schema @ Value::Object(_)) => Ok(Some(schema)),
        _ => Err(mistyped(raw, &path, "a JSON Schema")),
    }
}

fn tool_choice(
    config: &mut Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<ToolChoice, Failure> {
    let Some(mut choice) = config.object("toolChoice")? else { return Ok(ToolChoice::Auto) };
    let wanted = if let Some(mut tool) = choice.object("tool")? {
        let name = tool.required_string("name")?;
        tool.leave(rest);
        ToolChoice::Named { name }
    } else if choice.take("any").is_some() {
        ToolChoice::Required
    } else if choice.take("auto").is_some() {
        ToolChoice::Auto
    } else {
        let text = "tool choices are auto, any or tool";
        return Err(Failure::invalid("toolConfig.toolChoice", text));
    };
    choice.leave(rest);
    Ok(wanted)
}

fn inference(
    fields: &mut Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<(Option<u64>, Sampling), Failure> {
    let Some(mut config) = fields.object(INFERENCE)? else {
        return Ok((None, Sampling::default()));
    };
    let mut stop = Vec::new();
    for (raw, path) in config.list("stopSequences", STOPS_MAX)? {
        let text: Option<String> = crate::head::typed(raw, &path, "a string")?;
        stop.extend(text);
    }
    let sampling = Sampling {
        temperature: config.get("temperature", "a number")?,
        top_p: config.get("topP", "a number")?,
        stop,
        ..Sampling::default()
    };
    let cap = config.get(OUTPUT_CAP, "a positive integer")?;
    config.leave(rest);
    Ok((cap, sampling))
}

/// What is said in the words of the model's own vendor.
fn additional(
    fields: &mut Object<'_>,
    effort: Option<Effort>,
    sampling: &mut Sampling,
    rest: &mut Map<String, Value>,
) -> Result<ReasoningAsk, Failure> {
    let plain = ReasoningAsk { effort, ..ReasoningAsk::default() };
    let Some(mut more) = fields.object("additionalModelRequestFields")? else { return Ok(plain) };
    sampling.top_k = more.get("top_k", "a non-negative integer")?;
    let path = more.path_of("reasoning_effort");
    let flat = known_effort(more.string("reasoning_effort")?, &path)?;
    let nested = match more.object("reasoning")? {
        None => None,
        Some(mut nested) => {
            let path = nested.path_of("effort");
            let effort = known_effort(nested.string("effort")?, &path)?;
            nested.leave(rest);
            effort
        }
    };
    let ask = reasoning(&mut more, effort.or(flat).or(nested), rest)?;
    more.leave(rest);
    Ok(ask)
}

fn known_effort(name: Option<String>, path: &str) -> Result<Option<Effort>, Failure> {
    let Some(name) = name else { return Ok(None) };
    match Effort::parse(&name) {
        Some(effort) => Ok(Some(effort)),
        None => {
            let text = format!("effort '{name}' is not known: use low, medium, high, xhigh or max");
            Err(Failure::invalid(path, text))
        }
    }
}

/// Which stop sequence was met is known anyway; other fields of an answer are not.
fn response_paths(fields: &mut Object<'_>, rest: &mut Map<String, Value>) -> Result<(), Failure> {
    const NAME: &str = "additionalModelResponseFieldPaths";
    let Some(raw) = fields.take(NAME) else { return Ok(()) };
    for (raw, path) in elements(raw, NAME, PATHS_MAX)? {
        let wanted: Option<String> = crate::head::typed(raw, &path, "a string")?;
        if wanted.is_some_and(|wanted| !STOP_TEXT_PATHS.contains(&wanted.as_str())) {
            rest.insert(NAME.to_owned(), Value::Bool(true));
        }
    }
    Ok(())
}

fn output_config(
    fields: &mut Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<(Option<Effort>, OutputShape), Failure> {
    let Some(mut config) = fields.object("outputConfig")? else {
        return Ok((None, OutputShape::Text));
    };
    let effort = known_effort(config.string("effort")?, "outputConfig.effort")?;
    let shape = match config.object("textFormat")? {
        None => OutputShape::Text,
        Some(format) => text_format(format, rest)?,
    };
    config.leave(rest);
    Ok((effort, shape))
}

fn text_format(
    mut format: Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<OutputShape, Failure> {
    let kind = format.required_string("type")?;
    if kind != "json_schema" {
        let text = format!("format '{kind}' is not known: use json_schema");
        return Err(Failure::unsupported(format.path_of("type"), text));
    }
    let mut structure = format.required_object("structure")?;
    let mut shape = structure.required_object("jsonSchema")?;
    let path = shape.path_of("schema");
    // The schema is a text that holds JSON.
    let schema = match serde_json::from_str(&shape.required_string("schema")?) {
        Ok(schema @ Value::Object(_)) => schema,
        _ => {
            let text = format!("'{path}' must be a text that holds a JSON Schema");
            return Err(Failure::invalid(path, text));
        }
    };
    let name = shape.string("name")?.unwrap_or_else(|| SHAPE_NAME.to_owned());
    shape.leave(rest);
    structure.leave(rest);
    format.leave(rest);
    Ok(OutputShape::JsonSchema { name, schema, strict: Some(true) })
}
