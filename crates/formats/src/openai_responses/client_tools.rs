//! Tools of the client that are no plain functions, and the functions that models know them as.
//!
//! A model of any format knows functions only. A tool in a namespace is told to it under both names
//! in one, and a custom tool, which takes free text, as a function of one text; what it calls is
//! shown to the client as the tool that it gave. Which is which is read from the `tools` that a
//! response echoes, so that it is known after a restart as before.

use ::types::conversation::ToolDefinition;
use serde_json::{Value, json};

use crate::ids;

/// The argument of a custom tool's function.
const INPUT: &str = "input";
/// Bytes of a function's name at most, as OpenAI has it.
pub(super) const NAME_BYTES_MAX: usize = 64;
/// Bytes of such a name that stay where a hash must stand for the rest.
const NAME_BYTES_KEPT: usize = 38;
/// What separates a namespace from a name.
const SEPARATOR: &str = "__";

/// How a called function is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ShownAs {
    /// A `custom_tool_call`.
    Custom,
    /// A `function_call` with a namespace.
    InNamespace {
        /// The namespace.
        namespace: String,
        /// Its name there.
        name: String,
    },
}

/// The function's name of a tool in a namespace.
pub(super) fn flat_name(namespace: &str, name: &str) -> String {
    let separator = if namespace.ends_with(SEPARATOR) { "" } else { SEPARATOR };
    let whole = format!("{namespace}{separator}{name}");
    if whole.len() <= NAME_BYTES_MAX {
        return whole;
    }
    // Names have been checked to be ASCII.
    let kept: String = whole.chars().take(NAME_BYTES_KEPT).collect();
    ids::short(&whole, &format!("{kept}{SEPARATOR}"))
}

/// The function that stands for a custom tool.
pub(super) fn custom_function(
    name: String,
    description: Option<&str>,
    format: Option<&Value>,
) -> ToolDefinition {
    let text = |name: &str| format.and_then(|format| format.get(name)).and_then(Value::as_str);
    let grammar = text("definition").map(|definition| {
        let syntax = text("syntax").unwrap_or("grammar");
        format!("The text must follow this grammar ({syntax}):\n{definition}")
    });
    let told: Vec<&str> = description.into_iter().chain(grammar.as_deref()).collect();
    let parameters = json!({
        "type": "object",
        "properties": {
            INPUT: { "type": "string", "description": "The whole input of the tool, as it is." },
        },
        "required": [INPUT],
        "additionalProperties": false,
    });
    ToolDefinition {
        name,
        description: (!told.is_empty()).then(|| told.join("\n\n")),
        parameters: Some(parameters),
        strict: None,
    }
}

/// The text that a call's arguments hold; what is no such object is the text itself.
pub(super) fn input_of(arguments: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(arguments).ok();
    let input = parsed.as_ref().and_then(|value| value.get(INPUT)).and_then(Value::as_str);
    input.unwrap_or(arguments).to_owned()
}

/// The arguments that hold a text.
pub(super) fn arguments_of(input: &str) -> String {
    json!({ INPUT: input }).to_string()
}

/// The function that a call's item names.
pub fn called_name(item: &Value) -> String {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let name = text("name").unwrap_or_default();
    text("namespace").map_or_else(|| name.to_owned(), |namespace| flat_name(namespace, name))
}

/// Functions that are shown as something else, by name, of the `tools` that a response echoes.
pub(super) fn shown_of(tools: &Value) -> Vec<(String, ShownAs)> {
    tools.as_array().into_iter().flatten().flat_map(shown).collect()
}

fn shown(tool: &Value) -> Vec<(String, ShownAs)> {
    let text = |tool: &Value, name: &str| tool.get(name).and_then(Value::as_str).map(str::to_owned);
    let name = text(tool, "name").unwrap_or_default();
    match tool.get("type").and_then(Value::as_str) {
        Some("custom") => vec![(name, ShownAs::Custom)],
        Some("namespace") => {
            let tools = tool.get("tools").and_then(Value::as_array).into_iter().flatten();
            let names = tools.filter_map(|tool| text(tool, "name"));
            let shown = names.map(|inner| {
                let namespace = name.clone();
                (flat_name(&name, &inner), ShownAs::InNamespace { namespace, name: inner })
            });
            shown.collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
