use types::cascade::Pattern;
use types::conversation::ToolDefinition;

use super::answer::ToolCalled;
use super::*;

fn text(text: &str) -> Said {
    Said { text: text.to_owned(), ..Said::default() }
}

fn calls(name: &str, arguments: &str) -> Said {
    let called = ToolCalled { name: name.to_owned(), arguments: arguments.to_owned() };
    Said { calls: vec![called], stop: Stop::ToolCalls, ..Said::default() }
}

fn request(shape: OutputShape) -> Conversation {
    let parameters = json!({
        "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"]
    });
    let tool = |name: &str, parameters| ToolDefinition {
        name: name.to_owned(),
        description: None,
        parameters,
        strict: None,
    };
    let tools = vec![tool("f", Some(parameters)), tool("g", None)];
    Conversation { tools, output_shape: shape, ..Conversation::default() }
}

/// Who rejects an answer, and why.
fn verdict(policy: &CascadePolicy, said: &Said) -> Option<(&'static str, Option<&'static str>)> {
    verdict_on(policy, said, OutputShape::Text)
}

fn verdict_on(
    policy: &CascadePolicy,
    said: &Said,
    shape: OutputShape,
) -> Option<(&'static str, Option<&'static str>)> {
    let request = Arc::new(request(shape));
    let judged = validate(policy, &|| Some(Arc::clone(&request)), Some(said));
    assert_eq!(judged.unjudged, []);
    judged.rejected.map(|(by, detail)| (by.name(), detail))
}

#[test]
fn an_empty_answer_is_one_without_text_and_calls() {
    let policy = CascadePolicy { not_empty: true, ..CascadePolicy::default() };
    assert_eq!(verdict(&policy, &text(" \n")), Some(("not_empty", None)));
    assert_eq!(verdict(&policy, &text("x")), None);
    assert_eq!(verdict(&policy, &calls("f", "")), None);
}

#[test]
fn a_cut_answer_is_not_complete() {
    let policy = CascadePolicy { complete: true, ..CascadePolicy::default() };
    let cut = Said { stop: Stop::Length, ..text("x") };
    assert_eq!(verdict(&policy, &cut), Some(("complete", None)));
    assert_eq!(verdict(&policy, &text("x")), None);
}

#[test]
fn a_refusal_is_said_in_its_own_words_or_filtered() {
    let policy = CascadePolicy { no_refusal: true, ..CascadePolicy::default() };
    let refuses = Said { refuses: true, ..text("") };
    let filtered = Said { stop: Stop::ContentFilter, ..text("x") };
    assert_eq!(verdict(&policy, &refuses), Some(("no_refusal", None)));
    assert_eq!(verdict(&policy, &filtered), Some(("no_refusal", None)));
    assert_eq!(verdict(&policy, &text("I can't help with that.")), None, "text is for patterns");
}

#[test]
fn arguments_follow_the_tools_schema() {
    let policy = CascadePolicy { tool_arguments: true, ..CascadePolicy::default() };
    let of = |name, arguments| verdict(&policy, &calls(name, arguments));
    assert_eq!(of("f", "{\"n\": 1}"), None);
    assert_eq!(of("f", "{\"n\": 1"), Some(("tool_arguments", Some("no_json"))));
    assert_eq!(of("f", "{\"n\": \"1\"}"), Some(("tool_arguments", Some("type"))));
    assert_eq!(of("f", ""), Some(("tool_arguments", Some("required"))));
    assert_eq!(of("h", "{}"), Some(("tool_arguments", Some("no_such_tool"))));
    assert_eq!(of("g", ""), None);
    assert_eq!(of("g", "[]"), Some(("tool_arguments", Some("type"))));
    assert_eq!(verdict(&policy, &text("x")), None);
}

#[test]
fn the_text_follows_a_schema() {
    let schema = json!({ "type": "object", "required": ["a"] });
    let given = CascadePolicy {
        json_schema: Some(SchemaOf::Given(schema.clone())),
        ..CascadePolicy::default()
    };
    assert_eq!(verdict(&given, &text("{\"a\": 1}")), None);
    assert_eq!(verdict(&given, &text("{}")), Some(("json_schema", Some("required"))));
    assert_eq!(verdict(&given, &text("```{\"a\":1}```")), Some(("json_schema", Some("no_json"))));
    assert_eq!(verdict(&given, &calls("f", "{}")), None, "a call is no final answer");
    let asked = CascadePolicy { json_schema: Some(SchemaOf::Request), ..CascadePolicy::default() };
    assert_eq!(verdict(&asked, &text("x")), None, "none was asked for");
    let object = verdict_on(&asked, &text("[]"), OutputShape::JsonObject);
    assert_eq!(object, Some(("json_schema", Some("type"))));
    let shape =
        || OutputShape::JsonSchema { name: "s".into(), schema: schema.clone(), strict: None };
    assert_eq!(verdict_on(&asked, &text("{\"a\": 1}"), shape()), None);
    let missing = verdict_on(&asked, &text("{\"b\": 1}"), shape());
    assert_eq!(missing, Some(("json_schema", Some("required"))));
}

#[test]
fn expressions_must_or_must_not_be_found() {
    let pattern = |text: &str| vec![Pattern::new(text).unwrap()];
    let must = CascadePolicy { must_match: pattern("^Total: \\d+"), ..CascadePolicy::default() };
    assert_eq!(verdict(&must, &text("Total: 5")), None);
    assert_eq!(verdict(&must, &text("It is 5")), Some(("must_match", None)));
    assert_eq!(verdict(&must, &calls("f", "{}")), None);
    let not = CascadePolicy { must_not_match: pattern("(?i)as an ai"), ..CascadePolicy::default() };
    assert_eq!(verdict(&not, &text("As an AI, I")), Some(("must_not_match", None)));
    assert_eq!(verdict(&not, &text("5")), None);
    let talks = Said { text: "As an AI".to_owned(), ..calls("f", "{}") };
    assert_eq!(verdict(&not, &talks), Some(("must_not_match", None)));
}

#[test]
fn what_has_no_probabilities_is_not_judged_by_them() {
    let policy = CascadePolicy { min_logprob_micros: Some(-500_000), ..CascadePolicy::default() };
    let sure = |micros| Said { mean_logprob_micros: Some(micros), ..text("x") };
    assert_eq!(verdict(&policy, &sure(-500_000)), None);
    assert_eq!(verdict(&policy, &sure(-500_001)), Some(("min_logprob", None)));
    let judged = validate(&policy, &|| None, Some(&text("x")));
    assert_eq!(judged, Judged { rejected: None, unjudged: vec![Validator::MinLogprob] });
}

#[test]
fn what_can_not_be_read_is_not_judged() {
    let policy = CascadePolicy {
        not_empty: true,
        tool_arguments: true,
        json_schema: Some(SchemaOf::Request),
        ..CascadePolicy::default()
    };
    let judged = validate(&policy, &|| None, Some(&calls("f", "{}")));
    assert_eq!((judged.rejected, judged.unjudged), (None, vec![Validator::ToolArguments]));
    let unread = validate(&policy, &|| None, None);
    let all = vec![Validator::NotEmpty, Validator::ToolArguments, Validator::JsonSchema];
    assert_eq!((unread.rejected, unread.unjudged), (None, all));
}
