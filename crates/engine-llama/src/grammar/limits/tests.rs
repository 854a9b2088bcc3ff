use serde_json::json;

use super::pattern::{Work, work};
use super::*;

fn path_of(schema: &Value) -> Option<String> {
    let failure = Counts::default().add(schema, "schema").err()?;
    assert_eq!(failure.code, FailureCode::UnsupportedSchema);
    failure.param
}

fn string(pattern: &str) -> Value {
    json!({"type": "string", "pattern": pattern})
}

fn ranges(count: u32) -> Vec<Value> {
    (10..10 + count).map(|length| string(&format!(".*[a-c]{{{length}}}.*"))).collect()
}

#[test]
fn patterns_that_must_match_together_are_few() {
    assert_eq!(path_of(&json!({"allOf": ranges(4)})), None);
    assert_eq!(path_of(&json!({"allOf": ranges(30)})).as_deref(), Some("schema"));
    // However they come together.
    let properties = |pattern: Value| json!({"type": "object", "properties": {"a": pattern}});
    let merged: Vec<_> = ranges(30).into_iter().map(properties).collect();
    let inner = json!({"type": "object", "properties": {"x": {"allOf": merged}}});
    assert_eq!(path_of(&inner).as_deref(), Some("schema/properties/x"));
    let mut chained = string("x");
    for part in ranges(30) {
        chained = json!({"allOf": [chained], "pattern": part["pattern"]});
    }
    assert!(path_of(&chained).is_some());
    let definitions: Map<_, _> = (0..30).map(|number| number.to_string()).zip(ranges(30)).collect();
    let all: Vec<_> =
        definitions.keys().map(|name| json!({"$ref": format!("#/$defs/{name}")})).collect();
    assert!(path_of(&json!({"allOf": all, "$defs": definitions})).is_some());
    let hidden = json!({"allOf": [{"$ref": "#/x/0"}, {"$ref": "#/x/1"}], "x": ranges(30)});
    assert!(path_of(&hidden).is_some());
    assert!(path_of(&json!({"anyOf": ranges(30), "pattern": "x"})).is_some());
}

#[test]
fn patterns_of_different_values_may_be_many() {
    let properties: Map<_, _> =
        ranges(100).into_iter().enumerate().map(|(at, part)| (format!("p{at}"), part)).collect();
    let object = json!({"type": "object", "properties": properties});
    assert_eq!(path_of(&object), None);
    // Also where objects are put together.
    let more = json!({"type": "object", "properties": {"q": {"type": "string"}}});
    assert_eq!(path_of(&json!({"allOf": [object, more]})), None);
    assert_eq!(path_of(&json!({"anyOf": ranges(100), "description": "one of them"})), None);
    let same = vec![string("^[a-z]{2}-[0-9]+$"); 50];
    assert_eq!(path_of(&json!({"allOf": same})), None);
    let email = r"^\w+([\.-]?\w+)*@\w+([\.-]?\w+)*(\.\w{2,})+$";
    let email = json!({"type": "string", "format": "email", "pattern": email, "minLength": 6});
    assert_eq!(path_of(&json!({"allOf": [email, {"type": "string", "maxLength": 80}]})), None);
}

#[test]
fn each_limit_names_the_part_that_passed_it() {
    let nested = (0..60).fold(json!({}), |inner, _| json!({"items": {"not": inner}}));
    let numbered = |count: usize| (0..count).map(|number| (format!("p{number}"), json!({})));
    let wide = |count: usize| Value::Object(numbered(count).collect());
    let patterns = wide(PATTERNS_MAX + 1);
    let cases = [
        (json!({"title": "x".repeat(BYTES_MAX)}), "schema"),
        (json!({"properties": wide(PROPERTIES_MAX + 1)}), "schema/properties"),
        (json!({"items": {"enum": [wide(OBJECTS_MAX)]}}), "schema/items/enum/0/p9997"),
        (json!({"items": {"anyOf": vec![json!({}); BRANCHES_MAX + 1]}}), "schema/items/anyOf"),
        (json!({"patternProperties": patterns}), "schema/patternProperties"),
        (string(&"x".repeat(PATTERN_BYTES_MAX + 1)), "schema/pattern"),
        (string("((((a{100}){100}){100}){100})"), "schema/pattern"),
        (json!({"items": {"multipleOf": 99_991}}), "schema/items/multipleOf"),
        (json!({"multipleOf": 0.123_456}), "schema/multipleOf"),
    ];
    for (schema, path) in cases {
        assert_eq!(path_of(&schema).as_deref(), Some(path), "{schema}");
    }
    assert!(path_of(&nested).unwrap().starts_with("schema/items/not/items/not"));
}

#[test]
fn schemas_of_one_request_count_together() {
    let mut counts = Counts::default();
    let schema = json!({"enum": ["x".repeat(BYTES_MAX / 2)]});
    counts.add(&schema, "tools[0].parameters").unwrap();
    let failure = counts.add(&schema, "tools[1].parameters").unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("tools[1].parameters"));
}

#[test]
fn decimals_have_digits() {
    let of = |text: &str| digits(&serde_json::from_str(text).unwrap());
    assert_eq!((of("0.25"), of("300"), of("1.5"), of("0.01"), of("-3")), (25, 300, 15, 1, 3));
    assert_eq!(of("1e300"), u64::MAX);
}

#[test]
fn a_patterns_work_is_read_off_its_text() {
    let cases = [
        ("", 0, 2),
        ("abc", 3, 2),
        ("a{3}b{2,}c{2,7}d{0,4}", 3 + 2 + 7 + 4, 2),
        ("(ab{2}){3}", 9, 2),
        ("((((a{100}){100}){100}){100})", 100_000_000, 2),
        (r"[a-c]{2}\d{3}.", 6, 5),
        (r"[]()]{3}", 3, 3),
        (r"[^\]{]x", 2, 3),
        // No repetitions.
        (r"a{b}{,}\{3}", 7, 3),
        (r"(a|b)*(c?d+)", 4, 2),
        ("a{99999999999999999999}{9}", u64::MAX, 2),
        ("((a{5}", 5, 2),
        ("a)b", 3, 2),
    ];
    for (pattern, size, choices) in cases {
        assert_eq!(work(pattern), Work { size, choices }, "{pattern}");
    }
}
