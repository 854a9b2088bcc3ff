//! A request as its neutral form.
//!
//! What has a place in the neutral form goes there; every other field goes into `rest` under its
//! path and is never refused: agents send new fields before anybody knows them. Refused by name is
//! what would change the answer: tools that Anthropic runs, and state that it keeps.

mod content;

use ::types::Failure;
use ::types::conversation::{
    Conversation, Effort, OutputShape, ReasoningAsk, Role, Sampling, ToolChoice, ToolDefinition,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::OUTPUT_CAP;
use super::head::refuse_others_money;
use crate::json::missing;
use crate::marks::{self, History, ToolMarks};
use crate::object::{Object, mistyped};
use crate::weight::check_values;

/// Messages in one request at most, as Anthropic has it.
const MESSAGES_MAX: usize = 100_000;
/// Tools in one request at most.
const TOOLS_MAX: usize = 512;
/// Stop sequences at most.
const STOPS_MAX: usize = 64;
/// The name of a schema for the answer, which has none here.
pub(super) const SHAPE_NAME: &str = "output";

/// Fields without which another answer would come, and that only Anthropic can obey.
const NOT_ELSEWHERE: [(&str, &str); 6] = [
    ("compaction", "a conversation can be compacted by Anthropic's own service only"),
    ("container", "containers are Anthropic's own"),
    ("fallbacks", "fallbacks are Anthropic's own: configure a route"),
    ("inference_geo", "where another provider computes can't be chosen per request"),
    ("mcp_servers", "tool servers of a request are called by Anthropic's own service only"),
    ("thread", "threads are kept by Anthropic's own service: send the whole history"),
];
/// Fields of this API that have no place in the neutral form.
const KNOWN: [&str; 5] =
    ["cache_control", "context_management", "diagnostics", "fallback_credit_token", "speed"];

/// Parses a request.
pub(in super::super) fn parse(body: &[u8]) -> Result<Conversation, Failure> {
    // What is read becomes larger than it stands here.
    check_values(body)?;
    let mut fields = Object::body(body)?;
    refuse_others_money(fields.top())?;
    for spoken_elsewhere in ["model", "stream", "billing_policy", "user_profile_id"] {
        fields.take(spoken_elsewhere);
    }
    for (name, why) in NOT_ELSEWHERE {
        let nothing = |raw: &&RawValue| matches!(raw.get(), "[]" | "\"global\"");
        if fields.take(name).filter(|raw| !nothing(raw)).is_some() {
            return Err(Failure::unsupported(name, why));
        }
    }
    service_tier(&mut fields)?;
    let mut rest = Map::new();
    let (tool_choice, parallel_tool_calls) = tool_choice(&mut fields, &mut rest)?;
    let (effort, output_shape) = output_config(&mut fields, &mut rest)?;
    let history = history(&mut fields, &mut rest)?;
    let (tools, of_tools) = tools(&mut fields, &mut rest)?;
    let (messages, marks) = history.finish(of_tools, marks::take(&mut fields, &mut rest));
    let conversation = Conversation {
        messages,
        tools,
        marks,
        tool_choice,
        parallel_tool_calls,
        sampling: sampling(&mut fields)?,
        output_cap: fields.get(OUTPUT_CAP, "a non-negative integer")?,
        output_shape,
        reasoning: reasoning(&mut fields, effort, &mut rest)?,
        rest: Map::new(),
    };
    if let Some(metadata) = fields.object("metadata")? {
        metadata.leave(&mut rest);
    }
    leave(fields, &mut rest);
    Ok(Conversation { rest, ..conversation })
}

/// Both tiers that there are cost no more, and no other provider has them.
fn service_tier(fields: &mut Object<'_>) -> Result<(), Failure> {
    match fields.string("service_tier")?.as_deref() {
        None | Some("auto" | "standard_only") => Ok(()),
        Some(_) => Err(Failure::invalid("service_tier", "use auto or standard_only")),
    }
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
        let said = content::said(system, "system", rest)?;
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
fn tools(
    fields: &mut Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<(Vec<ToolDefinition>, ToolMarks), Failure> {
    let mut marks = Vec::new();
    let list = fields.list("tools", TOOLS_MAX)?.into_iter().enumerate();
    let tools = list.map(|(index, (raw, path))| {
        let mut tool = Object::read(raw, &path)?;
        if let Some(kind) = tool.string("type")?.filter(|kind| kind != "custom") {
            let text =
                format!("tools of type '{kind}' are offered by Anthropic's own service only");
            return Err(Failure::unsupported(tool.path_of("type"), text));
        }
        let definition = ToolDefinition {
            name: tool.required_string("name")?,
            description: tool.string("description")?,
            parameters: schema(&mut tool, "input_schema")?,
            strict: tool.get("strict", "a boolean")?,
        };
        marks.extend(marks::take(&mut tool, rest).map(|life| (index, life)));
        tool.leave(rest);
        Ok(definition)
    });
    let tools = tools.collect::<Result<_, Failure>>()?;
    Ok((tools, marks))
}

fn schema(fields: &mut Object<'_>, name: &'static str) -> Result<Option<Value>, Failure> {
    let path = fields.path_of(name);
    let Some(raw) = fields.take(name) else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(schema @ Value::Object(_)) => Ok(Some(schema)),
        _ => Err(mistyped(raw, &path, "a JSON Schema")),
    }
}

fn tool_choice(
    fields: &mut Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<(ToolChoice, Option<bool>), Failure> {
    let Some(mut choice) = fields.object("tool_choice")? else {
        return Ok((ToolChoice::Auto, None));
    };
    let wanted = match choice.required_string("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named { name: choice.required_string("name")? },
        other => {
            let text = format!("tool choice '{other}' is not known: use auto, any, tool or none");
            return Err(Failure::invalid("tool_choice.type", text));
        }
    };
    let alone: Option<bool> = choice.get("disable_parallel_tool_use", "a boolean")?;
    choice.leave(rest);
    Ok((wanted, alone.map(|alone| !alone)))
}

fn sampling(fields: &mut Object<'_>) -> Result<Sampling, Failure> {
    let mut stop = Vec::new();
    for (raw, path) in fields.list("stop_sequences", STOPS_MAX)? {
        let text: Option<String> = crate::head::typed(raw, &path, "a string")?;
        stop.extend(text);
    }
    Ok(Sampling {
        temperature: fields.get("temperature", "a number")?,
        top_p: fields.get("top_p", "a number")?,
        top_k: fields.get("top_k", "a non-negative integer")?,
        stop,
        ..Sampling::default()
    })
}

/// The effort and the shape of the answer. The shape stood at the top once, where old clients still
/// put it.
fn output_config(
    fields: &mut Object<'_>,
    rest: &mut Map<String, Value>,
) -> Result<(Option<Effort>, OutputShape), Failure> {
    let old = fields.object("output_format")?;
    let Some(mut config) = fields.object("output_config")? else {
        return Ok((None, output_shape(old, rest)?));
    };
    let effort = match config.string("effort")? {
        None => None,
        Some(name) => Some(Effort::parse(&name).ok_or_else(|| {
            let text = format!("effort '{name}' is not known: use low, medium, high, xhigh or max");
            Failure::invalid("output_config.effort", text)
        })?),
    };
    let shape = output_shape(config.object("format")?.or(old), rest)?;
    config.leave(rest);
    Ok((effort, shape))
}

fn output_shape(
    format: Option<Object<'_>>,
    rest: &mut Map<String, Value>,
) -> Result<OutputShape, Failure> {
    let Some(mut format) = format else { return Ok(OutputShape::Text) };
    let kind = format.required_string("type")?;
    if kind != "json_schema" {
        let text = format!("format '{kind}' is not known: use json_schema");
        return Err(Failure::unsupported(format.path_of("type"), text));
    }
    let schema =
        schema(&mut format, "schema")?.ok_or_else(|| missing(&format.path_of("schema")))?;
    format.leave(rest);
    Ok(OutputShape::JsonSchema { name: SHAPE_NAME.to_owned(), schema, strict: Some(true) })
}

/// How much the model is to think: the field `thinking`, and an effort that stands elsewhere.
pub(crate) fn reasoning(
    fields: &mut Object<'_>,
    effort: Option<Effort>,
    rest: &mut Map<String, Value>,
) -> Result<ReasoningAsk, Failure> {
    let mut ask = ReasoningAsk { effort, ..ReasoningAsk::default() };
    let Some(mut thinking) = fields.object("thinking")? else { return Ok(ask) };
    match thinking.required_string("type")?.as_str() {
        "enabled" => {
            let budget = thinking.get("budget_tokens", "a positive integer")?;
            let budget = budget.ok_or_else(|| missing("thinking.budget_tokens"))?;
            ask.budget_tokens = Some(budget);
        }
        "adaptive" | "between_tools" => ask.adaptive = true,
        "disabled" => ask.effort = Some(Effort::Off),
        other => {
            let text = format!("'{other}' is not known: use enabled, adaptive or disabled");
            return Err(Failure::invalid("thinking.type", text));
        }
    }
    ask.shown = thinking.string("display")?.map(|display| display != "omitted");
    thinking.leave(rest);
    Ok(ask)
}
