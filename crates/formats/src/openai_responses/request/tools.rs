//! Reads `tools` and `tool_choice`.
//!
//! A tool that can't be run is refused with its place: an agent that silently loses a tool answers
//! wrongly. Only what coding agents offer unasked beside tools of their own is left out, and that
//! is said. MCP tools are those of configured servers only (`server_url` absent or
//! `holdfast:<label>`), and nobody can approve yet (`require_approval` absent or `never`).

use std::collections::HashSet;

use ::types::Failure;
use ::types::conversation::{ToolChoice, ToolDefinition};
use serde_json::{Map, Value, json};

use super::TOOLS_MAX;
use crate::items::OWN_SCHEME;
use crate::json::{Fields, at, join, wrong_type};
use crate::openai_responses::client_tools;
use crate::openai_responses::types::{FunctionTool, McpTool, McpToolFilter, Tool};

/// Tools that a vendor's own servers run, and tools that only find others: agents offer them beside
/// their own, and work without.
const OPTIONAL: [&str; 3] = ["web_search", "image_generation", "tool_search"];

/// What `tools` says.
#[derive(Default)]
pub(super) struct Read {
    /// In the client's order.
    pub(super) tools: Vec<Tool>,
    /// How they are echoed.
    pub(super) echo: Vec<Value>,
    /// What is left out, by the names under which that is said.
    pub(super) dropped: Vec<String>,
}

/// Reads the tools.
pub(super) fn read(list: Option<Vec<Value>>) -> Result<Read, Failure> {
    let list = list.unwrap_or_default();
    if list.len() > TOOLS_MAX {
        return Err(too_many());
    }
    let kind_of = |tool: &Value| tool.get("type").and_then(Value::as_str).map(str::to_owned);
    let optional = |kind: &Option<String>| kind.as_deref().is_some_and(|k| OPTIONAL.contains(&k));
    // Who gives no other tool needs that one.
    let others = list.iter().any(|tool| !optional(&kind_of(tool)));
    let (mut read, mut names) = (Read::default(), HashSet::new());
    for (index, tool) in list.into_iter().enumerate() {
        match kind_of(&tool).filter(|kind| others && optional(&Some(kind.clone()))) {
            Some(kind) => read.dropped.push(format!("tools.{kind}")),
            None => {
                let (tools, echo) = read_tool(tool, index)?;
                check_names(&tools, &mut names, (&echo, index))?;
                read.tools.extend(tools);
                read.echo.push(echo);
            }
        }
    }
    if read.tools.len() > TOOLS_MAX { Err(too_many()) } else { Ok(read) }
}

fn too_many() -> Failure {
    Failure::invalid("tools", format!("'tools' has more than {TOOLS_MAX} tools"))
}

/// A model knows functions by one name each, so that of two tools with the same one would never be
/// called, or the wrong one.
fn check_names(
    tools: &[Tool],
    names: &mut HashSet<String>,
    (echo, index): (&Value, usize),
) -> Result<(), Failure> {
    let is_namespace = echo.get("type").and_then(Value::as_str) == Some("namespace");
    for (inner, tool) in tools.iter().enumerate() {
        let Tool::Function(FunctionTool { definition }) = tool else { continue };
        if names.insert(definition.name.clone()) {
            continue;
        }
        let tool = at("tools", index);
        let tool = if is_namespace { at(&join(&tool, "tools"), inner) } else { tool };
        let text = format!("another tool is called '{}' already", definition.name);
        return Err(Failure::invalid(join(&tool, "name"), text));
    }
    Ok(())
}

fn read_tool(tool: Value, index: usize) -> Result<(Vec<Tool>, Value), Failure> {
    let mut fields = Fields::of(tool, &at("tools", index))?;
    let one = |(tool, echo): (Tool, Value)| (vec![tool], echo);
    match fields.required_string("type")?.as_str() {
        "function" => read_function(fields, None).map(one),
        "mcp" => read_mcp(fields, index).map(one),
        "custom" => read_custom(fields).map(one),
        "namespace" => read_namespace(fields),
        other => {
            let text = format!("tools of type '{other}' are not offered here: use function or mcp");
            Err(Failure::unsupported(fields.path_of("type"), text))
        }
    }
}

/// A tool that takes free text.
fn read_custom(mut fields: Fields) -> Result<(Tool, Value), Failure> {
    let name = read_name(&mut fields)?;
    let description = fields.string("description")?;
    let format = fields.object("format")?.map(|format| Value::Object(format.rest()));
    let mut echo = Map::new();
    echo.insert("type".to_owned(), "custom".into());
    echo.insert("name".to_owned(), name.clone().into());
    echo.extend(description.clone().map(|text| ("description".to_owned(), text.into())));
    echo.extend(format.clone().map(|format| ("format".to_owned(), format)));
    let definition = client_tools::custom_function(name, description.as_deref(), format.as_ref());
    Ok((Tool::Function(FunctionTool { definition }), Value::Object(echo)))
}

/// Functions under a common name.
fn read_namespace(mut fields: Fields) -> Result<(Vec<Tool>, Value), Failure> {
    let namespace = read_name(&mut fields)?;
    let description = fields.string("description")?;
    let path = fields.path_of("tools");
    let list = fields.list("tools")?.unwrap_or_default();
    let (mut tools, mut echoes) = (Vec::new(), Vec::new());
    for (index, tool) in list.into_iter().enumerate() {
        let mut inner = Fields::of(tool, &at(&path, index))?;
        let kind = inner.required_string("type")?;
        if kind != "function" {
            let text = format!("a namespace with tools of type '{kind}' is not offered here");
            return Err(Failure::unsupported(inner.path_of("type"), text));
        }
        let (tool, echo) = read_function(inner, Some(&namespace))?;
        tools.push(tool);
        echoes.push(echo);
    }
    let echo = json!({
        "type": "namespace", "name": namespace, "description": description, "tools": echoes,
    });
    Ok((tools, echo))
}

fn read_name(fields: &mut Fields) -> Result<String, Failure> {
    let name = fields.required_string("name")?;
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > client_tools::NAME_BYTES_MAX || !name.chars().all(valid) {
        let text = "a function's name has 1 to 64 letters, digits, '_' or '-'";
        return Err(Failure::invalid(fields.path_of("name"), text));
    }
    Ok(name)
}

fn read_function(mut fields: Fields, namespace: Option<&str>) -> Result<(Tool, Value), Failure> {
    let name = read_name(&mut fields)?;
    let description = fields.string("description")?;
    let strict = fields.boolean("strict")?;
    let parameters = fields.object("parameters")?.map(|schema| Value::Object(schema.rest()));
    let echo = json!({
        "type": "function", "name": name, "description": description,
        "parameters": parameters, "strict": strict.unwrap_or(true),
    });
    let name = match namespace {
        Some(namespace) => client_tools::flat_name(namespace, &name),
        None => name,
    };
    let definition = ToolDefinition { name, description, parameters, strict };
    Ok((Tool::Function(FunctionTool { definition }), echo))
}

fn read_mcp(mut fields: Fields, index: usize) -> Result<(Tool, Value), Failure> {
    let label = fields.required_string("server_label")?;
    if label.is_empty() {
        return Err(Failure::invalid(fields.path_of("server_label"), "name a configured server"));
    }
    let url = fields.string("server_url")?;
    if url.as_deref().is_some_and(|url| url.strip_prefix(OWN_SCHEME) != Some(&label)) {
        let text = format!(
            "only configured tool servers are offered: leave 'server_url' out, or set it to '{OWN_SCHEME}{label}'"
        );
        return Err(Failure::unsupported(fields.path_of("server_url"), text));
    }
    let approval = fields.take("require_approval");
    if approval.as_ref().is_some_and(|value| value.as_str() != Some("never")) {
        let text =
            "approvals are not offered yet: leave 'require_approval' out, or set it to 'never'";
        return Err(Failure::unsupported(fields.path_of("require_approval"), text));
    }
    for name in ["authorization", "connector_id", "headers", "tunnel_id"] {
        if fields.take(name).is_some() {
            let text = format!("'{name}' is for remote servers, which are not offered yet");
            return Err(Failure::unsupported(fields.path_of(name), text));
        }
    }
    let allowed_raw = fields.take("allowed_tools");
    let allowed_tools = read_filter(allowed_raw.clone(), &fields.path_of("allowed_tools"))?;
    let mut echo = Map::new();
    echo.insert("type".to_owned(), "mcp".into());
    echo.insert("server_label".to_owned(), label.clone().into());
    echo.extend(url.map(|url| ("server_url".to_owned(), url.into())));
    echo.insert("allowed_tools".to_owned(), allowed_raw.unwrap_or(Value::Null));
    echo.insert("require_approval".to_owned(), "never".into());
    Ok((Tool::Mcp(McpTool { server_label: label, allowed_tools, index }), Value::Object(echo)))
}

fn read_filter(value: Option<Value>, path: &str) -> Result<Option<McpToolFilter>, Failure> {
    match value {
        None => Ok(None),
        Some(Value::Array(names)) => {
            let names = Some(names_of(names, path)?);
            Ok(Some(McpToolFilter { names, read_only: None }))
        }
        Some(other) => {
            let mut fields = Fields::of(other, path)?;
            let path = fields.path_of("tool_names");
            let names =
                fields.list("tool_names")?.map(|names| names_of(names, &path)).transpose()?;
            Ok(Some(McpToolFilter { names, read_only: fields.boolean("read_only")? }))
        }
    }
}

fn names_of(names: Vec<Value>, path: &str) -> Result<Vec<String>, Failure> {
    let names = names.into_iter().enumerate().map(|(index, name)| match name {
        Value::String(name) => Ok(name),
        other => Err(wrong_type(&at(path, index), "a string", &other)),
    });
    names.collect()
}

/// The choice, and how it is echoed.
pub(super) fn read_choice(
    choice: Option<Value>,
    tools: &[Tool],
) -> Result<(ToolChoice, Value), Failure> {
    let (neutral, echo) = match choice {
        None => (ToolChoice::Auto, json!("auto")),
        Some(Value::String(mode)) => {
            let neutral = match mode.as_str() {
                "auto" => ToolChoice::Auto,
                "none" => ToolChoice::None,
                "required" => ToolChoice::Required,
                _ => {
                    let text =
                        format!("tool choice '{mode}' is not known: use auto, none or required");
                    return Err(Failure::invalid("tool_choice", text));
                }
            };
            (neutral, mode.into())
        }
        Some(other) => {
            let echo = other.clone();
            (named_choice(Fields::of(other, "tool_choice")?, tools)?, echo)
        }
    };
    let must_call = matches!(neutral, ToolChoice::Required | ToolChoice::Named { .. });
    if must_call && tools.is_empty() {
        return Err(Failure::invalid("tool_choice", "a tool must be called, but 'tools' is empty"));
    }
    Ok((neutral, echo))
}

fn named_choice(mut fields: Fields, tools: &[Tool]) -> Result<ToolChoice, Failure> {
    match fields.required_string("type")?.as_str() {
        "function" | "custom" => {
            let name = fields.required_string("name")?;
            let known = tools.iter().any(|tool| match tool {
                Tool::Function(function) => function.definition.name == name,
                Tool::Mcp(_) => false,
            });
            if known {
                return Ok(ToolChoice::Named { name });
            }
            let text = format!("function '{name}' is not in 'tools'");
            Err(Failure::invalid("tool_choice.name", text))
        }
        "mcp" => {
            let label = fields.required_string("server_label")?;
            let known = tools.iter().any(|tool| match tool {
                Tool::Function(_) => false,
                Tool::Mcp(mcp) => mcp.server_label == label,
            });
            if !known {
                let text = format!("server '{label}' is not in 'tools'");
                return Err(Failure::invalid("tool_choice.server_label", text));
            }
            let name = fields.string("name")?.ok_or_else(|| {
                let text = "name one tool of the server: any of them can't be demanded";
                Failure::unsupported("tool_choice.name", text)
            })?;
            Ok(ToolChoice::Named { name })
        }
        other => {
            let text = format!("tool choice of type '{other}' is not offered: use function or mcp");
            Err(Failure::unsupported("tool_choice.type", text))
        }
    }
}
