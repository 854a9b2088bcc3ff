//! JSON Schema as Google takes it: all of it but `const`, which an `enum` of one value says too.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Fields whose values are schemas by name: the names are the client's.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Fields whose values are data, not schemas.
const DATA: [&str; 4] = ["enum", "default", "examples", "example"];

/// The same schema without `const`.
pub(super) fn sayable(schema: &Value) -> Cow<'_, Value> {
    if has_const(schema) { Cow::Owned(rewritten(schema)) } else { Cow::Borrowed(schema) }
}

fn has_const(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(name, value)| match value {
            Value::Object(named) if NAMED.contains(&name.as_str()) => named.values().any(has_const),
            _ if DATA.contains(&name.as_str()) => false,
            _ => name == "const" || has_const(value),
        }),
        Value::Array(list) => list.iter().any(has_const),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn rewritten(schema: &Value) -> Value {
    let Value::Object(fields) = schema else {
        return match schema {
            Value::Array(list) => Value::Array(list.iter().map(rewritten).collect()),
            other => other.clone(),
        };
    };
    let mut out = Map::new();
    for (name, value) in fields {
        let (name, value) = match (name.as_str(), value) {
            ("const", only) => ("enum", Value::Array(vec![only.clone()])),
            (name, Value::Object(named)) if NAMED.contains(&name) => {
                let named = named.iter().map(|(key, value)| (key.clone(), rewritten(value)));
                (name, Value::Object(named.collect()))
            }
            (name, value) if DATA.contains(&name) => (name, value.clone()),
            (name, value) => (name, rewritten(value)),
        };
        out.insert(name.to_owned(), value);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_const_becomes_an_enum_of_one() {
        let schema = json!({
            "type": "object",
            "properties": { "const": { "const": "a" }, "b": { "anyOf": [{ "const": 1 }] } },
            "default": { "const": 2 },
        });
        let expected = json!({
            "type": "object",
            "properties": { "const": { "enum": ["a"] }, "b": { "anyOf": [{ "enum": [1] }] } },
            "default": { "const": 2 },
        });
        assert_eq!(*sayable(&schema), expected);
    }

    #[test]
    fn a_schema_without_is_not_copied() {
        let schema = json!({ "properties": { "const": { "type": "string" } }, "enum": ["const"] });
        assert!(matches!(sayable(&schema), Cow::Borrowed(_)));
    }
}
