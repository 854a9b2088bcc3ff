//! A small JSON Schema validator for the keywords that the tests use: independent of what is
//! tested.

use serde_json::Value;

/// Why `value` does not satisfy `schema`. `root` is where references start.
pub(crate) fn validate(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Value::Object(fields) = schema else {
        return if *schema == Value::Bool(true) { Ok(()) } else { Err("nothing fits".to_owned()) };
    };
    for (key, rule) in fields {
        let ok = match key.as_str() {
            "$ref" => {
                let path = rule.as_str().unwrap().trim_start_matches('#');
                validate(root, root.pointer(path).unwrap(), value).is_ok()
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|one| is_type(one, value)),
                one => is_type(one, value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => rule == value,
            "anyOf" => {
                rule.as_array().unwrap().iter().any(|one| validate(root, one, value).is_ok())
            }
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() >= size(rule)),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() <= size(rule)),
            "minItems" => value.as_array().is_none_or(|items| items.len() >= size(rule)),
            "maxItems" => value.as_array().is_none_or(|items| items.len() <= size(rule)),
            "pattern" => value.as_str().is_none_or(three_letters_and_two_digits),
            "required" => value.as_object().is_none_or(|object| {
                rule.as_array()
                    .unwrap()
                    .iter()
                    .all(|name| object.contains_key(name.as_str().unwrap()))
            }),
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| validate(root, rule, item).is_ok())),
            "properties" => value.as_object().is_none_or(|object| {
                let of = |name: &String| rule.get(name);
                object.iter().all(|(name, part)| {
                    of(name).is_none_or(|rule| validate(root, rule, part).is_ok())
                })
            }),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let listed =
                    |name: &String| fields.get("properties").and_then(|it| it.get(name)).is_some();
                object.iter().all(|(name, part)| listed(name) || validate(root, rule, part).is_ok())
            }),
            "$defs" | "title" | "description" => true,
            other => panic!("the validator does not know {other}"),
        };
        if !ok {
            return Err(format!("{key} is not satisfied"));
        }
    }
    Ok(())
}

fn size(rule: &Value) -> usize {
    usize::try_from(rule.as_u64().unwrap()).unwrap()
}

fn is_type(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no type {other}"),
    }
}

/// The one pattern of the tests: `^[a-c]{3}-[0-9]{2}$`.
fn three_letters_and_two_digits(text: &str) -> bool {
    let Some((letters, digits)) = text.split_once('-') else { return false };
    letters.len() == 3
        && letters.chars().all(|letter| ('a'..='c').contains(&letter))
        && digits.len() == 2
        && digits.chars().all(|digit| digit.is_ascii_digit())
}
