//! Reads one input item: its kind, and that its shape is what later readers rely on.

use ::types::Failure;
use serde_json::Value;

use crate::json::{at, join, missing, wrong_type};
use crate::openai_responses::types::{InputItem, ItemKind};

/// Reads an item that stands at `path`. A message may lack its `type`; any item may lack its `id`.
///
/// # Errors
/// A 400 that names the field: a type that is not offered, a missing field, a wrong type.
pub fn read_item(mut value: Value, path: &str) -> Result<InputItem, Failure> {
    let Value::Object(map) = &mut value else {
        return Err(wrong_type(path, "an object", &value));
    };
    let kind = match map.get("type") {
        None | Some(Value::Null) if map.contains_key("role") => ItemKind::Message,
        // An item reference may be sent as nothing but its id.
        None | Some(Value::Null) if map.len() == 1 && map.contains_key("id") => {
            ItemKind::ItemReference
        }
        None | Some(Value::Null) => return Err(missing(&join(path, "type"))),
        Some(Value::String(name)) => ItemKind::parse(name).ok_or_else(|| {
            let text = format!("items of type '{name}' are not offered here");
            Failure::unsupported(join(path, "type"), text)
        })?,
        Some(other) => return Err(wrong_type(&join(path, "type"), "a string", other)),
    };
    map.insert("type".to_owned(), kind.name().into());
    if map.get("id").is_some_and(Value::is_null) {
        map.shift_remove("id");
    }
    check(kind, &value, path)?;
    Ok(InputItem { kind, value })
}

fn check(kind: ItemKind, value: &Value, path: &str) -> Result<(), Failure> {
    optional_text(value, "id", path)?;
    match kind {
        ItemKind::Message => check_message(value, path),
        ItemKind::FunctionCall => {
            optional_text(value, "namespace", path)?;
            texts(value, &["call_id", "name", "arguments"], path)
        }
        ItemKind::CustomToolCall => texts(value, &["call_id", "name", "input"], path),
        ItemKind::FunctionCallOutput | ItemKind::CustomToolCallOutput => {
            texts(value, &["call_id"], path)?;
            check_content(value, "output", path)
        }
        ItemKind::Reasoning => optional_text(value, "encrypted_content", path),
        ItemKind::McpCall => {
            texts(value, &["id", "server_label", "name", "arguments"], path)?;
            optional_text(value, "output", path)
        }
        ItemKind::McpListTools => texts(value, &["server_label"], path),
        ItemKind::ItemReference => texts(value, &["id"], path),
    }
}

fn check_message(value: &Value, path: &str) -> Result<(), Failure> {
    let field = join(path, "role");
    match value.get("role") {
        None | Some(Value::Null) => return Err(missing(&field)),
        Some(Value::String(role)) => {
            if !matches!(role.as_str(), "user" | "assistant" | "system" | "developer") {
                let text =
                    format!("role '{role}' is not known: use user, assistant, system or developer");
                return Err(Failure::invalid(field, text));
            }
        }
        Some(other) => return Err(wrong_type(&field, "a string", other)),
    }
    check_content(value, "content", path)
}

/// A string, or a list of parts of which each has a type and the text that its type needs.
fn check_content(value: &Value, name: &str, path: &str) -> Result<(), Failure> {
    let field = join(path, name);
    match value.get(name) {
        None | Some(Value::Null) => Err(missing(&field)),
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => {
            let mut parts = parts.iter().enumerate();
            parts.try_for_each(|(index, part)| check_part(part, &at(&field, index)))
        }
        Some(other) => Err(wrong_type(&field, "a string or an array", other)),
    }
}

fn check_part(part: &Value, path: &str) -> Result<(), Failure> {
    if !part.is_object() {
        return Err(wrong_type(path, "an object", part));
    }
    texts(part, &["type"], path)?;
    match part.get("type").and_then(Value::as_str).unwrap_or_default() {
        "input_text" | "output_text" | "text" => texts(part, &["text"], path),
        "refusal" => texts(part, &["refusal"], path),
        "input_image" => reachable(part, "image_url", path),
        "input_file" => reachable(part, "file_url", path),
        other => {
            let text = format!("content of type '{other}' is not offered here");
            Err(Failure::unsupported(join(path, "type"), text))
        }
    }
}

/// A file that was uploaded before is not known here.
fn reachable(part: &Value, url: &str, path: &str) -> Result<(), Failure> {
    optional_text(part, url, path)?;
    if part.get("file_id").is_some_and(|id| !id.is_null()) {
        let text = "uploaded files are not offered yet: send the content itself";
        return Err(Failure::unsupported(join(path, "file_id"), text));
    }
    Ok(())
}

fn texts(value: &Value, names: &[&str], path: &str) -> Result<(), Failure> {
    names.iter().try_for_each(|name| match value.get(name) {
        Some(Value::String(_)) => Ok(()),
        None | Some(Value::Null) => Err(missing(&join(path, name))),
        Some(other) => Err(wrong_type(&join(path, name), "a string", other)),
    })
}

fn optional_text(value: &Value, name: &str, path: &str) -> Result<(), Failure> {
    match value.get(name) {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(other) => Err(wrong_type(&join(path, name), "a string", other)),
    }
}
