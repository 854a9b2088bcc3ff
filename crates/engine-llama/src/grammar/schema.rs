//! JSON schemas, made ready for the compiler without changing what they accept beyond what is said
//! here.
//!
//! Three things are made explicit, because a model must choose one of the many texts that a loose
//! schema accepts: no white space is free; an object that lists properties has no others; and
//! numbers stay within what every JSON reader holds exactly (±2^53) instead of running on for
//! thousands of digits. Everything generated satisfies the client's own schema too.

use engine::protocol::{EngineFailure, FailureCode};
use serde_json::{Map, Value, json};

/// Numbers between these are exact in every JSON reader.
const NUMBER_MAX: i64 = 9_007_199_254_740_991;
/// Where the definition of "any value" is put; the name can't be a client's by accident.
const ANY: &str = "holdfast:any-value";
/// Nested schemas that are followed; serde_json has already bounded the nesting of the text.
const DEPTH_MAX: usize = 100;
/// Parts of a refused schema that are compiled by themselves to find the fault.
const FAULT_TRIES_MAX: usize = 64;

/// Keywords whose value is a schema.
const ONE: [&str; 7] = [
    "items",
    "additionalProperties",
    "additionalItems",
    "contains",
    "not",
    "propertyNames",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords whose value is a map of schemas.
const MAPS: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
/// Keywords that say nothing about the value.
pub(super) const ANNOTATIONS: [&str; 9] = [
    "title",
    "description",
    "default",
    "examples",
    "$comment",
    "$schema",
    "$id",
    "deprecated",
    "readOnly",
];

/// The schema of a tool's arguments, which must be an object.
///
/// # Errors
/// The schema says that it is something else.
pub(super) fn as_object(schema: &Value, path: &str) -> Result<Value, EngineFailure> {
    let object = || Value::from("object");
    match schema {
        Value::Object(fields) => match fields.get("type") {
            None if is_any(fields) || fields.contains_key("properties") => {
                let mut fields = fields.clone();
                fields.insert("type".to_owned(), object());
                Ok(Value::Object(fields))
            }
            Some(kind) if *kind != "object" => Err(not_an_object(path)),
            None | Some(_) => Ok(schema.clone()),
        },
        Value::Bool(true) => Ok(json!({"type": "object"})),
        Value::Null
        | Value::Bool(false)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => Err(not_an_object(path)),
    }
}

fn not_an_object(path: &str) -> EngineFailure {
    let message = "a tool's parameters are a JSON schema of type object";
    EngineFailure::new(FailureCode::UnsupportedSchema, message).param(format!("{path}/type"))
}

/// Any object.
pub(super) fn any_object() -> Value {
    normalise(&json!({"type": "object"}))
}

/// The schema as it is compiled.
pub(super) fn normalise(schema: &Value) -> Value {
    let mut fields = match normal(schema, DEPTH_MAX) {
        Value::Object(fields) => fields,
        other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
    };
    let definitions = fields.entry("$defs").or_insert_with(|| json!({}));
    if let Value::Object(definitions) = definitions {
        definitions.insert(ANY.to_owned(), any_value());
    }
    // How the compiler is told; a client's own setting must not reach it.
    let style =
        json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    fields.insert("x-guidance".to_owned(), style);
    Value::Object(fields)
}

fn any_value() -> Value {
    let any = json!({"$ref": format!("#/$defs/{ANY}")});
    json!({"anyOf": [
        {"type": "string"},
        {"type": "number", "minimum": -NUMBER_MAX, "maximum": NUMBER_MAX},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "array", "items": any},
        {"type": "object", "additionalProperties": any},
    ]})
}

fn is_any(fields: &Map<String, Value>) -> bool {
    fields.keys().all(|key| ANNOTATIONS.contains(&key.as_str()))
}

fn normal(schema: &Value, depth: usize) -> Value {
    let any = || json!({"$ref": format!("#/$defs/{ANY}")});
    let fields = match schema {
        Value::Bool(true) => return any(),
        Value::Object(fields) if is_any(fields) => return any(),
        Value::Object(fields) => fields,
        Value::Null
        | Value::Bool(false)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => {
            return schema.clone();
        }
    };
    let mut fields = fields.clone();
    fields.remove("x-guidance");
    fields.retain(|key, _| !ANNOTATIONS.contains(&key.as_str()));
    if depth > 0 {
        each_part(&mut fields, &mut |part| *part = normal(part, depth - 1));
    }
    let is = |kind: &str| match fields.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    };
    let (number, object, array) = (is("number") || is("integer"), is("object"), is("array"));
    if number && !fields.contains_key("enum") && !fields.contains_key("const") {
        bound(&mut fields, "minimum", "exclusiveMinimum", -NUMBER_MAX);
        bound(&mut fields, "maximum", "exclusiveMaximum", NUMBER_MAX);
    }
    if object && !fields.contains_key("additionalProperties") {
        let open = !fields.contains_key("properties") && !fields.contains_key("patternProperties");
        let more = if open { any() } else { Value::Bool(false) };
        fields.insert("additionalProperties".to_owned(), more);
    }
    if array && !fields.contains_key("items") {
        let more = if fields.contains_key("prefixItems") { Value::Bool(false) } else { any() };
        fields.insert("items".to_owned(), more);
    }
    Value::Object(fields)
}

fn bound(fields: &mut Map<String, Value>, key: &str, exclusive: &str, value: i64) {
    if !fields.contains_key(key) && !fields.contains_key(exclusive) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Applies `change` to every schema directly inside.
fn each_part(fields: &mut Map<String, Value>, change: &mut impl FnMut(&mut Value)) {
    for (key, value) in fields.iter_mut() {
        let key = key.as_str();
        match value {
            Value::Array(parts) if LISTS.contains(&key) || key == "items" => {
                parts.iter_mut().for_each(&mut *change);
            }
            Value::Object(parts) if MAPS.contains(&key) => {
                parts.values_mut().for_each(&mut *change);
            }
            one if ONE.contains(&key) => change(one),
            _ => {}
        }
    }
}

/// The innermost part of a schema that the compiler refuses, as a path, and why. In a large schema
/// it may be a part further out.
///
/// `refuses` says why a schema is refused, or `None` if it isn't.
pub(super) fn find_fault(
    schema: &Value,
    reason: String,
    refuses: &impl Fn(&Value) -> Option<String>,
) -> (String, String) {
    let (mut path, mut reason) = (String::new(), reason);
    let mut at = schema.clone();
    let definitions = schema.get("$defs").cloned();
    let mut tries = 0;
    for _ in 0..DEPTH_MAX {
        let Value::Object(fields) = &at else { break };
        let worse = parts(fields).into_iter().find_map(|(step, part)| {
            tries += 1;
            if tries > FAULT_TRIES_MAX {
                return None;
            }
            let alone = with_definitions(part, definitions.as_ref());
            refuses(&alone).map(|reason| (step, alone, reason))
        });
        let Some((step, part, why)) = worse else { break };
        path.push_str(&step);
        (at, reason) = (part, why);
    }
    (path, reason)
}

fn with_definitions(part: &Value, definitions: Option<&Value>) -> Value {
    let mut alone = part.clone();
    if let (Value::Object(fields), Some(definitions)) = (&mut alone, definitions) {
        fields.entry("$defs").or_insert_with(|| definitions.clone());
    }
    alone
}

/// The schemas directly inside, with their steps of a path.
fn parts(fields: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for (key, value) in fields {
        match value {
            Value::Array(list) if LISTS.contains(&key.as_str()) => {
                let list = list.iter().enumerate();
                parts.extend(list.map(|(index, part)| (format!("/{key}/{index}"), part)));
            }
            // The definitions are tried where they are referred to, or below: each by itself.
            Value::Object(map) if MAPS.contains(&key.as_str()) => {
                let map = map.iter().filter(|(name, _)| *name != ANY);
                parts.extend(map.map(|(name, part)| (format!("/{key}/{name}"), part)));
            }
            Value::Object(_) if ONE.contains(&key.as_str()) => {
                parts.push((format!("/{key}"), value));
            }
            _ => {}
        }
    }
    parts
}
