use ::types::conversation::{Effort, OutputShape, Part, Role};
use ::types::{Conversation, ErrorCode};
use serde_json::{Value, json};

use super::*;

fn parsed(body: &Value) -> Conversation {
    parse(body.to_string().as_bytes()).unwrap()
}

fn refused(body: &Value) -> Failure {
    let body = body.to_string();
    match read_head(Some("m"), body.as_bytes()) {
        Err(failure) => failure,
        Ok(_) => parse(body.as_bytes()).unwrap_err(),
    }
}

#[test]
fn a_prompt_is_one_message() {
    let conversation = parsed(&json!({ "prompt": "Hi", "max_tokens": 5, "temperature": 0.5 }));
    let [message] = conversation.messages.as_slice() else { panic!("{conversation:?}") };
    assert_eq!((message.role, message.joined_text().as_str()), (Role::User, "Hi"));
    assert_eq!((conversation.output_cap, conversation.sampling.temperature), (Some(5), Some(0.5)));
    assert!(conversation.rest.is_empty(), "{:?}", conversation.rest);
}

#[test]
fn the_head_says_what_every_stage_needs() {
    let body = br#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}],"stream":true,"max_tokens":7,"tools":[]}"#;
    let head = read_head(Some("@cf/a/b"), body).unwrap();
    assert_eq!((head.model.as_str(), head.stream, head.output_cap), ("@cf/a/b", true, Some(7)));
    assert_eq!((head.media, head.tools, head.surcharge), (1, true, None));
    assert_eq!(head.body_bytes, body.len() as u64);
    let dear = read_head(Some("m"), br#"{"prompt":"a","service_tier":"priority"}"#).unwrap();
    assert_eq!(dear.surcharge, Some("service_tier"));
}

#[test]
fn flat_tools_and_calls_are_functions_and_results_find_their_call() {
    let conversation = parsed(&json!({
        "messages": [
            { "role": "user", "content": "go" },
            { "role": "assistant", "content": null, "tool_calls": [
                { "name": "add", "arguments": { "b": 1, "a": [2] } },
                { "name": "now", "arguments": {} },
                { "name": "now", "arguments": {}, "id": "given", "index": 2 },
            ] },
            { "role": "tool", "name": "now", "content": "7:00" },
            { "role": "tool", "tool_call_id": "given", "content": "7:01" },
            { "role": "tool", "content": "3" },
        ],
        "tools": [
            { "name": "add", "description": "adds", "parameters": { "type": "object" } },
            { "type": "function", "function": { "name": "now" } },
        ],
    }));
    let names: Vec<&str> = conversation.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["add", "now"]);
    assert_eq!(conversation.tools[0].description.as_deref(), Some("adds"));
    let calls = conversation.parts().filter_map(|part| match part {
        Part::ToolCall(call) => Some((call.id.as_str(), call.arguments.as_str())),
        _ => None,
    });
    let calls: Vec<_> = calls.collect();
    assert_eq!(calls, [("call_1_0", r#"{"b":1,"a":[2]}"#), ("call_1_1", "{}"), ("given", "{}")]);
    let results = conversation.parts().filter_map(|part| match part {
        Part::ToolResult { call_id, parts, .. } => Some((call_id.as_str(), parts[0].as_text())),
        _ => None,
    });
    let results: Vec<_> = results.collect();
    assert_eq!(
        results,
        [("call_1_1", Some("7:00")), ("given", Some("7:01")), ("call_1_0", Some("3"))]
    );
    assert!(conversation.rest.is_empty(), "{:?}", conversation.rest);
}

#[test]
fn a_longer_history_keeps_the_ids_of_the_shorter_one() {
    let turn = |n: usize| {
        [
            json!({ "role": "assistant", "tool_calls": [{ "name": "f", "arguments": { "n": n } }] }),
            json!({ "role": "tool", "name": "f", "content": "ok" }),
        ]
    };
    let mut messages = vec![json!({ "role": "user", "content": "go" })];
    let mut before: Option<Conversation> = None;
    for n in 0..6 {
        messages.extend(turn(n));
        let now = parsed(&json!({ "messages": messages }));
        if let Some(before) = &before {
            assert!(now.messages.starts_with(&before.messages));
        }
        before = Some(now);
    }
}

#[test]
fn a_schema_comes_bare_or_with_a_name() {
    let shape = |json_schema: Value| {
        let format = json!({ "type": "json_schema", "json_schema": json_schema });
        parsed(&json!({ "prompt": "x", "response_format": format })).output_shape
    };
    let schema = json!({ "type": "object", "title": "a b" });
    let bare =
        OutputShape::JsonSchema { name: "output".to_owned(), schema: schema.clone(), strict: None };
    assert_eq!(shape(schema.clone()), bare);
    assert_eq!(shape(json!({ "schema": schema })), bare);
    let named = shape(json!({ "name": "n", "schema": schema, "strict": true }));
    assert_eq!(named, OutputShape::JsonSchema { name: "n".to_owned(), schema, strict: Some(true) });
}

#[test]
fn no_effort_is_no_thinking() {
    let effort = |value: Value| {
        parsed(&json!({ "prompt": "x", "reasoning_effort": value })).reasoning.effort
    };
    assert_eq!(effort(Value::Null), Some(Effort::Off));
    assert_eq!(effort(json!("low")), Some(Effort::Low));
    assert_eq!(parsed(&json!({ "prompt": "x" })).reasoning.effort, None);
}

#[test]
fn what_is_not_offered_or_wrong_is_named() {
    for (body, code, param) in [
        (json!({ "prompt": "x", "raw": true }), ErrorCode::Unsupported, "raw"),
        (json!({ "prompt": "x", "lora": "l" }), ErrorCode::Unsupported, "lora"),
        (json!({ "prompt": "x", "n": 2 }), ErrorCode::Unsupported, "n"),
        (json!({ "prompt": "x", "image": [1, 2] }), ErrorCode::Unsupported, "image"),
        (json!({ "prompt": "x", "functions": [{}] }), ErrorCode::Unsupported, "functions"),
        (json!({}), ErrorCode::InvalidRequest, "messages"),
        (json!({ "prompt": 3 }), ErrorCode::InvalidRequest, "prompt"),
        (json!({ "prompt": "x", "messages": [] }), ErrorCode::InvalidRequest, "prompt"),
        (json!({ "messages": {} }), ErrorCode::InvalidRequest, "messages"),
        (json!({ "prompt": "x", "max_tokens": 0 }), ErrorCode::InvalidRequest, "max_tokens"),
        (json!({ "prompt": "x", "Stream": true }), ErrorCode::InvalidRequest, "Stream"),
        (
            json!({ "prompt": "x", "tools": [{ "name": 1 }] }),
            ErrorCode::InvalidRequest,
            "tools[0].name",
        ),
        (
            json!({ "messages": [{ "role": "tool", "content": "x" }] }),
            ErrorCode::InvalidRequest,
            "messages[0].tool_call_id",
        ),
    ] {
        let failure = refused(&body);
        assert_eq!((failure.code, failure.param.as_deref()), (code, Some(param)), "{body}");
    }
    assert!(parsed(&json!({ "prompt": "x", "raw": false, "n": 1 })).rest.get("raw").is_none());
}

#[test]
fn a_model_in_the_body_stands_beside_the_input_or_around_it() {
    let body = Bytes::from_static(br#"{"model":"a/b","input":{ "prompt":"x" },"options":{}}"#);
    let (model, input) = unwrapped(body).unwrap();
    assert_eq!((model.as_str(), &input[..]), ("a/b", &br#"{ "prompt":"x" }"#[..]));
    let body = Bytes::from_static(br#"{"model":"a/b","prompt":"x"}"#);
    let (model, input) = unwrapped(body.clone()).unwrap();
    assert_eq!((model.as_str(), &input), ("a/b", &body));
    assert_eq!(parse(&input).unwrap().messages.len(), 1);
    assert!(unwrapped(Bytes::from_static(br#"{"prompt":"x"}"#)).is_err());
}

#[test]
fn what_is_asked_for_is_told_by_the_fields() {
    assert!(asks_vectors(br#"{"text":["a"]}"#));
    assert!(!asks_vectors(br#"{"text":"a","target_lang":"de"}"#));
    assert!(!asks_vectors(br#"{"prompt":"a"}"#) && !asks_vectors(b"text"));
    assert!(asks_json(br#"{"response_format":{"type":"json_object"}}"#));
    assert!(!asks_json(br#"{"response_format":{"type":"text"}}"#) && !asks_json(b"{}"));
}
