use super::*;
use serde_json::json;

fn broken(schema: &Value, value: &Value) -> Option<&'static str> {
    match check(schema, value) {
        Ok(()) => None,
        Err(Broken::By(keyword)) => Some(keyword),
        Err(Broken::Unknown) => Some("unknown"),
    }
}

type Case = (Value, Value, Value, &'static str);

/// Each with a value that follows it, one that does not, and the keyword that says so.
fn check_cases(cases: impl IntoIterator<Item = Case>) {
    for (schema, good, bad, keyword) in cases {
        assert_eq!(broken(&schema, &good), None, "{schema} {good}");
        assert_eq!(broken(&schema, &bad), Some(keyword), "{schema} {bad}");
    }
}

#[test]
fn each_keyword_of_plain_values_and_lists_accepts_and_rejects() {
    check_cases([
        (json!({"type": "integer"}), json!(1.0), json!(1.5), "type"),
        (json!({"type": ["string", "null"]}), json!(null), json!(1), "type"),
        (json!({"const": {"a": 1}}), json!({"a": 1.0}), json!({"a": 2}), "const"),
        (json!({"enum": ["a", [1, 2]]}), json!([1, 2]), json!([2, 1]), "enum"),
        (json!({"minimum": 3}), json!(3), json!(2.9), "minimum"),
        (json!({"maximum": 3}), json!(3), json!(3.1), "maximum"),
        (json!({"exclusiveMinimum": 3}), json!(4), json!(3), "exclusiveMinimum"),
        (json!({"exclusiveMaximum": 3}), json!(2), json!(3), "exclusiveMaximum"),
        (json!({"multipleOf": 0.1}), json!(0.3), json!(0.35), "multipleOf"),
        (json!({"minLength": 2}), json!("äö"), json!("ä"), "minLength"),
        (json!({"maxLength": 2}), json!("äö"), json!("äöü"), "maxLength"),
        (json!({"pattern": "^a+$"}), json!("aa"), json!("ab"), "pattern"),
        (json!({"items": {"type": "null"}}), json!([null]), json!([1]), "type"),
        (
            json!({"prefixItems": [{"const": 1}], "items": {"const": 2}}),
            json!([1, 2]),
            json!([1, 1]),
            "const",
        ),
        (
            json!({"items": [{"const": 1}], "additionalItems": false}),
            json!([1]),
            json!([1, 2]),
            "false",
        ),
        (json!({"minItems": 1}), json!([1]), json!([]), "minItems"),
        (json!({"maxItems": 1}), json!([1]), json!([1, 2]), "maxItems"),
        (json!({"uniqueItems": true}), json!([1, 2]), json!([1, 1]), "uniqueItems"),
        (
            json!({"contains": {"const": 1}, "maxContains": 1}),
            json!([0, 1]),
            json!([1, 1]),
            "contains",
        ),
    ]);
}

#[test]
fn each_keyword_of_objects_and_of_several_schemas_accepts_and_rejects() {
    check_cases([
        (json!({"required": ["a"]}), json!({"a": null}), json!({}), "required"),
        (
            json!({"properties": {"a": {"type": "string"}}}),
            json!({"b": 1}),
            json!({"a": 1}),
            "type",
        ),
        (
            json!({"properties": {"a": true}, "additionalProperties": false}),
            json!({"a": 1}),
            json!({"b": 1}),
            "additionalProperties",
        ),
        (
            json!({"patternProperties": {"^x": {"type": "null"}}}),
            json!({"y": 1}),
            json!({"xy": 1}),
            "type",
        ),
        (
            json!({"propertyNames": {"maxLength": 1}}),
            json!({"a": 1}),
            json!({"ab": 1}),
            "maxLength",
        ),
        (json!({"minProperties": 1}), json!({"a": 1}), json!({}), "minProperties"),
        (json!({"maxProperties": 1}), json!({"a": 1}), json!({"a": 1, "b": 1}), "maxProperties"),
        (
            json!({"dependentRequired": {"a": ["b"]}}),
            json!({"a": 1, "b": 1}),
            json!({"a": 1}),
            "dependentRequired",
        ),
        (json!({"allOf": [{"type": "number"}, {"minimum": 1}]}), json!(1), json!(0), "minimum"),
        (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!(2), json!(3), "anyOf"),
        (json!({"oneOf": [{"minimum": 1}, {"minimum": 2}]}), json!(1), json!(2), "oneOf"),
        (json!({"not": {"const": 1}}), json!(2), json!(1), "not"),
        (
            json!({"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"const": 0}}),
            json!(0),
            json!(""),
            "minLength",
        ),
        (json!({"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}), json!(1), json!(2), "const"),
    ]);
}

#[test]
fn a_list_refers_to_itself() {
    let schema = json!({"$defs": {"n": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}, "required": ["next"], "additionalProperties": false}}, "$ref": "#/$defs/n"});
    assert_eq!(broken(&schema, &json!({"next": {"next": {"next": null}}})), None);
    assert_eq!(broken(&schema, &json!({"next": {"next": {}}})), Some("anyOf"));
}

#[test]
fn what_would_take_for_ever_ends() {
    let mut defs = Map::new();
    for level in 0..60 {
        let next = format!("#/$defs/d{}", level + 1);
        defs.insert(format!("d{level}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}));
    }
    defs.insert("d60".to_owned(), json!(true));
    let doubling = json!({"$ref": "#/$defs/d0", "$defs": defs});
    assert_eq!(broken(&doubling, &json!(1)), Some("unknown"));
    assert_eq!(broken(&json!({"$ref": "#"}), &json!(1)), Some("unknown"));
    assert_eq!(broken(&json!({"$ref": "https://example.com/s"}), &json!(1)), Some("unknown"));
    let items: Vec<Value> = (0..200_000).map(Value::from).collect();
    let listed = json!({"enum": items});
    let many = json!({"items": listed});
    assert_eq!(broken(&many, &json!([-1, -1, -1])), Some("enum"));
    assert_eq!(broken(&many, &json!([199_999, 199_999, 199_999])), Some("unknown"));
    let patterns: Map<_, _> = (0..200).map(|n| (format!("^x{n}"), json!(true))).collect();
    assert_eq!(broken(&json!({"patternProperties": patterns}), &json!({"a": 1})), Some("unknown"));
}
