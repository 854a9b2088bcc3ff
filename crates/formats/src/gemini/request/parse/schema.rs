//! Google's own schemas as JSON Schema.
//!
//! The older fields for schemas take a part of OpenAPI's: types in capital letters, `nullable`
//! beside the type, and numbers as texts. <https://ai.google.dev/api/caching#Schema>

use serde_json::{Map, Value};

/// Fields whose values are numbers that Google takes as texts too.
const NUMBERS: [&str; 6] =
    ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];
/// Fields that JSON Schema does not have.
const NOT_IN_JSON_SCHEMA: [&str; 2] = ["propertyOrdering", "example"];

/// The same schema in the words of JSON Schema. What has them already stays as it is.
pub(super) fn to_json_schema(schema: Value) -> Value {
    let Value::Object(fields) = schema else { return schema };
    let mut out = Map::new();
    let mut nullable = false;
    for (name, value) in fields {
        let name = crate::object::camel(&name).into_owned();
        match (name.as_str(), value) {
            ("nullable", value) => nullable = value == Value::Bool(true),
            ("type", Value::String(kind)) => {
                out.insert(name, kind.to_ascii_lowercase().into());
            }
            // What properties are called is the client's.
            ("properties" | "defs" | "$defs" | "definitions", Value::Object(named)) => {
                let named = named.into_iter().map(|(key, value)| (key, to_json_schema(value)));
                out.insert(name, Value::Object(named.collect()));
            }
            ("items" | "additionalProperties" | "not", value) => {
                out.insert(name, to_json_schema(value));
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                let list = list.into_iter().map(to_json_schema).collect();
                out.insert(name, Value::Array(list));
            }
            (known, Value::String(text)) if NUMBERS.contains(&known) => {
                let number = text.parse::<u64>().map_or(Value::String(text), Value::from);
                out.insert(name, number);
            }
            (other, _) if NOT_IN_JSON_SCHEMA.contains(&other) => {}
            (_, value) => {
                out.insert(name, value);
            }
        }
    }
    if nullable {
        allow_null(&mut out);
    }
    Value::Object(out)
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(kind) = schema.get_mut("type").filter(|kind| kind.is_string()) {
        *kind = Value::Array(vec![kind.take(), "null".into()]);
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn googles_words_become_those_of_json_schema() {
        let schema = json!({
            "type": "OBJECT",
            "properties": {
                "type": { "type": "STRING", "enum": ["A"], "nullable": true },
                "list": { "type": "ARRAY", "items": { "type": "INTEGER" }, "min_items": "1" },
                "either": { "anyOf": [{ "type": "NUMBER" }, { "type": "BOOLEAN" }] },
            },
            "required": ["type"],
            "propertyOrdering": ["type", "list"],
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "type": { "type": ["string", "null"], "enum": ["A", null] },
                "list": { "type": "array", "items": { "type": "integer" }, "minItems": 1 },
                "either": { "anyOf": [{ "type": "number" }, { "type": "boolean" }] },
            },
            "required": ["type"],
        });
        assert_eq!(to_json_schema(schema), expected);
        assert_eq!(to_json_schema(expected.clone()), expected);
    }
}
