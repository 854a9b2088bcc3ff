use std::collections::VecDeque;

use ::types::conversation::{
    Conversation, Effort, Message, OutputShape, Part, ReasoningAsk, Role, ToolCall, ToolChoice,
    ToolDefinition,
};
use ::types::error::Billed;
use ::types::format::{Edits, Format, ReadOptions};
use ::types::outcome::{Delta, Finish, OutcomeEvent, Stop};
use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::OPENAI_RESPONSES;

const EDITS: Edits<'static> = Edits {
    model: "m",
    output_cap: None,
    stream: false,
    request_usage: false,
    logprobs: false,
    continues: false,
    operation: ::types::call::Operation::Chat,
    output_max: None,
    quirks: None,
};

fn rendered(conversation: &Conversation) -> (Value, Vec<String>) {
    let rendered = OPENAI_RESPONSES.render_request(conversation, &EDITS).unwrap();
    (serde_json::from_slice(&rendered.body).unwrap(), rendered.dropped)
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts }
}

fn signed(text: &str, origin: &str) -> Part {
    Part::Reasoning {
        text: text.to_owned(),
        signature: Some("sig".to_owned()),
        redacted: false,
        origin: Some(origin.to_owned()),
    }
}

fn call(id: &str, arguments: &str) -> Part {
    Part::ToolCall(ToolCall {
        id: id.to_owned(),
        name: "f".to_owned(),
        arguments: arguments.to_owned(),
    })
}

fn image(url: &str) -> Part {
    Part::Media {
        kind: "image".to_owned(),
        url: Some(url.to_owned()),
        name: None,
        source: Value::Null,
    }
}

fn history() -> Vec<Message> {
    let shown = Part::ToolResult {
        call_id: "c2".to_owned(),
        parts: vec![Part::text("see"), image("data:image/png;base64,AA==")],
        is_error: true,
    };
    vec![
        Message::text(Role::System, "s"),
        message(Role::User, vec![Part::text("u"), image("https://x/y.png")]),
        message(
            Role::Assistant,
            vec![
                signed("hm", "openai_responses"),
                signed("other", "anthropic_messages"),
                Part::text("a"),
                call("c1", "{\"n\":9007199254740993}"),
                call("c2", "{}"),
            ],
        ),
        message(Role::Tool, vec![Part::tool_result("c1", "one", false), shown]),
        Message::text(Role::User, "and?"),
    ]
}

#[test]
fn a_history_becomes_items() {
    let (body, dropped) =
        rendered(&Conversation { messages: history(), ..Conversation::default() });
    let items: Vec<String> =
        body["input"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_snapshot!(items.join("\n"), @r#"
    {"type":"message","role":"system","content":[{"type":"input_text","text":"s"}]}
    {"type":"message","role":"user","content":[{"type":"input_text","text":"u"},{"type":"input_image","image_url":"https://x/y.png","detail":"auto"}]}
    {"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"sig"}
    {"type":"message","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]}]}
    {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"n\":9007199254740993}"}
    {"type":"function_call","call_id":"c2","name":"f","arguments":"{}"}
    {"type":"function_call_output","call_id":"c1","output":"one"}
    {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"see"},{"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"auto"}]}
    {"type":"message","role":"user","content":[{"type":"input_text","text":"and?"}]}
    "#);
    assert_eq!(dropped, ["reasoning", "tool_result.is_error"]);
}

#[test]
fn a_longer_history_only_adds_items() {
    let all = history();
    let whole = rendered(&Conversation { messages: all.clone(), ..Conversation::default() }).0;
    let whole = whole["input"].as_array().unwrap();
    for end in 1..=all.len() {
        let messages = all[..end].to_vec();
        let part = rendered(&Conversation { messages, ..Conversation::default() }).0;
        let part = part["input"].as_array().unwrap().clone();
        assert_eq!(part[..], whole[..part.len()], "{end} messages");
    }
}

#[test]
fn what_is_asked_of_the_model_is_said_or_named() {
    let tool = ToolDefinition {
        name: "f".to_owned(),
        description: None,
        parameters: None,
        strict: Some(true),
    };
    let mut conversation = Conversation {
        messages: vec![Message::text(Role::User, "u")],
        tools: vec![tool],
        tool_choice: ToolChoice::Named { name: "f".to_owned() },
        parallel_tool_calls: Some(false),
        output_cap: Some(9),
        output_shape: OutputShape::JsonSchema {
            name: "o".to_owned(),
            schema: json!({ "type": "object" }),
            strict: None,
        },
        reasoning: ReasoningAsk {
            effort: Some(Effort::High),
            shown: Some(true),
            ..ReasoningAsk::default()
        },
        ..Conversation::default()
    };
    conversation.sampling.temperature = Some(0.5);
    conversation.sampling.seed = Some(1);
    conversation.rest.insert("logit_bias".to_owned(), json!({}));
    conversation.rest.insert("verbosity".to_owned(), json!("low"));
    let (mut body, dropped) = rendered(&conversation);
    body.as_object_mut().unwrap().shift_remove("input");
    assert_snapshot!(body.to_string(), @r#"{"model":"m","tools":[{"type":"function","name":"f","description":null,"parameters":{"type":"object","properties":{}},"strict":true}],"tool_choice":{"type":"function","name":"f"},"parallel_tool_calls":false,"temperature":0.5,"max_output_tokens":9,"reasoning":{"effort":"high","summary":"auto"},"text":{"format":{"type":"json_schema","name":"o","schema":{"type":"object"},"strict":false},"verbosity":"low"},"include":["reasoning.encrypted_content"],"store":false,"stream":false}"#);
    assert_eq!(dropped, ["seed", "logit_bias"]);
    conversation.sampling.stop = vec!["x".to_owned()];
    let refused = OPENAI_RESPONSES.render_request(&conversation, &EDITS).unwrap_err();
    assert_eq!((refused.code, refused.param.as_deref()), (ErrorCode::Unsupported, Some("stop")));
}

#[test]
fn what_is_rendered_reads_as_what_was_said() {
    let mut messages = history();
    // What another vendor signed is left out, and an error has no field.
    messages[2].parts.remove(1);
    if let Part::ToolResult { is_error, .. } = &mut messages[3].parts[1] {
        *is_error = false;
    }
    let conversation = Conversation { messages, ..Conversation::default() };
    let body = OPENAI_RESPONSES.render_request(&conversation, &EDITS).unwrap().body;
    let again = OPENAI_RESPONSES.parse_request(&body).unwrap();
    let flat = |conversation: &Conversation| -> Vec<Part> {
        let mut parts: Vec<Part> =
            conversation.messages.iter().flat_map(|message| message.parts.clone()).collect();
        for part in &mut parts {
            match part {
                Part::Media { source, .. } => *source = Value::Null,
                Part::ToolResult { parts, .. } => parts.iter_mut().for_each(|part| {
                    if let Part::Media { source, .. } = part {
                        *source = Value::Null;
                    }
                }),
                _ => {}
            }
        }
        parts
    };
    assert_eq!(flat(&again), flat(&conversation));
}

#[test]
fn a_long_id_stays_one_id() {
    let long = "x".repeat(100);
    let messages = vec![
        message(Role::Assistant, vec![call(&long, "{}")]),
        message(Role::Tool, vec![Part::tool_result(long.as_str(), "r", false)]),
    ];
    let (body, _) = rendered(&Conversation { messages, ..Conversation::default() });
    let ids: Vec<&str> =
        (0..2).map(|index| body["input"][index]["call_id"].as_str().unwrap()).collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].len() <= 64 && ids[0].starts_with("call_"));
}

fn read(stream: bool, decode: bool, body: &str) -> Vec<OutcomeEvent> {
    let mut reader =
        OPENAI_RESPONSES.reader(ReadOptions { stream, decode, ..ReadOptions::default() });
    let mut events = VecDeque::new();
    reader.push(Bytes::copy_from_slice(body.as_bytes()), &mut events);
    reader.end(&mut events);
    events.into()
}

fn deltas(events: &[OutcomeEvent]) -> Vec<Delta> {
    let delta = |event: &OutcomeEvent| match event {
        OutcomeEvent::Frame { delta, .. } => delta.clone(),
        _ => None,
    };
    events.iter().filter_map(delta).collect()
}

fn finish(events: &[OutcomeEvent]) -> &Finish {
    match events.last() {
        Some(OutcomeEvent::Finish(finish)) => finish,
        other => panic!("{other:?}"),
    }
}

fn failure(events: &[OutcomeEvent]) -> &Failure {
    match events.last() {
        Some(OutcomeEvent::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn response(status: &str) -> Value {
    json!({
        "object": "response", "status": status, "model": "gpt-x", "error": null,
        "output": [
            { "type": "reasoning", "summary": [{ "type": "summary_text", "text": "hm" }], "encrypted_content": "sig" },
            { "type": "web_search_call", "id": "ws_1" },
            { "type": "message", "content": [{ "type": "output_text", "text": "hi" }] },
            { "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}" },
        ],
        "usage": {
            "input_tokens": 10, "input_tokens_details": { "cached_tokens": 4 },
            "output_tokens": 5, "output_tokens_details": { "reasoning_tokens": 2 }, "total_tokens": 15,
        },
    })
}

#[test]
fn a_whole_response_is_read() {
    let events = read(false, true, &response("completed").to_string());
    let shown: Vec<String> =
        deltas(&events).iter().map(|delta| serde_json::to_string(delta).unwrap()).collect();
    assert_snapshot!(shown.join("\n"), @r#"
    {"type":"reasoning","text":"hm"}
    {"type":"reasoning_signature","signature":"sig","redacted":false,"origin":"openai_responses"}
    {"type":"text","text":"hi"}
    {"type":"tool_call_start","index":0,"id":"c1","name":"f"}
    {"type":"tool_call_arguments","index":0,"json":"{}"}
    "#);
    let end = finish(&events);
    assert_eq!((end.stop, end.model_version.as_deref()), (Stop::ToolCalls, Some("gpt-x")));
    let usage = end.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.cached_tokens), (10, 4));
    assert_eq!((usage.output_tokens, usage.reasoning_tokens), (5, 2));
}

#[test]
fn why_it_ended_is_told() {
    let mut cut = response("incomplete");
    cut["incomplete_details"] = json!({ "reason": "max_output_tokens" });
    assert_eq!(finish(&read(false, true, &cut.to_string())).stop, Stop::Length);
    cut["incomplete_details"] = json!({ "reason": "content_filter" });
    assert_eq!(finish(&read(false, false, &cut.to_string())).stop, Stop::ContentFilter);
    let mut failed = response("failed");
    failed["error"] = json!({ "code": "insufficient_quota", "message": "pay" });
    let events = read(false, true, &failed.to_string());
    assert_eq!(failure(&events).code, ErrorCode::UpstreamQuota);
    assert!(matches!(&failure(&events).billed, Billed::Usage(usage) if usage.output_tokens == 5));
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

#[test]
fn what_came_in_no_delta_is_said_when_the_item_ends() {
    let item =
        json!({ "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}" });
    let reasoning = json!({ "type": "reasoning", "summary": [], "encrypted_content": "sig" });
    let stream = [
        json!({ "type": "response.created", "response": { "status": "in_progress" } }),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": reasoning }),
        json!({ "type": "response.output_item.done", "output_index": 1, "item": item }),
        json!({ "type": "response.completed", "response": response("completed") }),
    ];
    let stream: String = stream.iter().map(event).collect();
    let events = read(true, true, &stream);
    let shown: Vec<String> =
        deltas(&events).iter().map(|delta| serde_json::to_string(delta).unwrap()).collect();
    assert_snapshot!(shown.join("\n"), @r#"
    {"type":"reasoning_signature","signature":"sig","redacted":true,"origin":"openai_responses"}
    {"type":"tool_call_start","index":0,"id":"c1","name":"f"}
    {"type":"tool_call_arguments","index":0,"json":"{\"a\":1}"}
    "#);
    assert_eq!(finish(&events).stop, Stop::ToolCalls);
}

#[test]
fn calls_of_every_kind_of_client_tool_are_read_as_those_of_functions() {
    let items = [
        json!({ "type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "go \"on\"" }),
        json!({ "type": "function_call", "call_id": "c2", "namespace": "mcp__n", "name": "f", "arguments": "{}" }),
    ];
    let mut whole = response("completed");
    whole["output"] = json!(items);
    let mut stream: Vec<Value> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let mut begun = item.clone();
        begun["input"] = json!("");
        begun["arguments"] = json!("");
        stream.push(
            json!({ "type": "response.output_item.added", "output_index": at, "item": begun }),
        );
        let piece = json!({ "type": "response.custom_tool_call_input.delta", "output_index": at, "delta": "go" });
        stream.extend((at == 0).then_some(piece));
        stream
            .push(json!({ "type": "response.output_item.done", "output_index": at, "item": item }));
    }
    stream.push(json!({ "type": "response.completed", "response": whole }));
    let stream: String = stream.iter().map(event).collect();
    for events in [read(false, true, &whole.to_string()), read(true, true, &stream)] {
        let shown: Vec<String> =
            deltas(&events).iter().map(|delta| serde_json::to_string(delta).unwrap()).collect();
        assert_eq!(
            shown,
            [
                r#"{"type":"tool_call_start","index":0,"id":"c1","name":"patch"}"#,
                r#"{"type":"tool_call_arguments","index":0,"json":"{\"input\":\"go \\\"on\\\"\"}"}"#,
                r#"{"type":"tool_call_start","index":1,"id":"c2","name":"mcp__n__f"}"#,
                r#"{"type":"tool_call_arguments","index":1,"json":"{}"}"#,
            ]
        );
        assert_eq!(finish(&events).stop, Stop::ToolCalls);
    }
    let passed = [read(false, false, &whole.to_string()), read(true, false, &stream)];
    assert!(passed.iter().all(|events| finish(events).stop == Stop::ToolCalls));
}

#[test]
fn thinking_that_is_counted_beside_the_output_is_billed() {
    let usage = |total: u64| {
        let mut whole = response("completed");
        whole["usage"] = json!({
            "input_tokens": 10, "output_tokens": 5, "total_tokens": total,
            "output_tokens_details": { "reasoning_tokens": 7 },
        });
        let usage = finish(&read(false, false, &whole.to_string())).usage.unwrap();
        (usage.output_tokens, usage.reasoning_tokens)
    };
    assert_eq!(usage(22), (12, 7));
    assert_eq!(usage(15), (5, 5));
    assert_eq!(usage(19), (5, 5), "a total that nothing explains is not believed");
}

#[test]
fn an_error_is_read_flat_and_nested() {
    let flat = json!({ "type": "error", "code": "server_error", "message": "oops" });
    let nested =
        json!({ "type": "error", "error": { "code": "context_length_exceeded", "message": "l" } });
    for decode in [false, true] {
        let events = read(true, decode, &event(&flat));
        assert_eq!(failure(&events).code, ErrorCode::UpstreamFailed);
        assert_eq!(failure(&events).billed, Billed::Unknown);
        let events = read(true, decode, &event(&nested));
        assert_eq!(failure(&events).code, ErrorCode::ContextLengthExceeded);
    }
}

#[test]
fn a_request_is_patched_byte_for_byte() {
    let raw = Bytes::from_static(br#"{"x":1e2,  "model":"p/m","input":"hi"}"#);
    let head = OPENAI_RESPONSES.read_head(&raw).unwrap();
    let edits = Edits { output_cap: Some(7), ..EDITS };
    let patched = OPENAI_RESPONSES.patch_request(&raw, &head, &edits);
    assert_eq!(patched, r#"{"max_output_tokens":7,"x":1e2,  "model":"m","input":"hi"}"#);
}
