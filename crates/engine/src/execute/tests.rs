use serde_json::json;
use types::conversation::{Conversation, Message, OutputShape, Part, Role, ToolCall};

use super::request::{dropped, from_conversation};

fn conversation(messages: Vec<Message>) -> Conversation {
    Conversation { messages, ..Conversation::default() }
}

#[test]
fn a_tool_loop_is_told_as_templates_expect_it() {
    let call = ToolCall {
        id: "call_1".to_owned(),
        name: "get".to_owned(),
        arguments: r#"{"q": 1}"#.to_owned(),
    };
    let asks = Message {
        role: Role::Assistant,
        parts: vec![Part::Text { text: "I look.".to_owned() }, Part::ToolCall(call)],
    };
    let result = |id: &str, text: &str| Part::ToolResult {
        call_id: id.to_owned(),
        text: text.to_owned(),
        is_error: false,
    };
    let results =
        Message { role: Role::Tool, parts: vec![result("call_1", "a"), result("call_2", "b")] };
    let conversation = conversation(vec![Message::text(Role::User, "hi"), asks, results]);
    let request = from_conversation(&conversation).unwrap();
    let expected = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "I look.",
         "tool_calls": [{"id": "call_1", "name": "get", "arguments": "{\"q\": 1}"}]},
        {"role": "tool", "content": "a", "tool_call_id": "call_1"},
        {"role": "tool", "content": "b", "tool_call_id": "call_2"},
    ]);
    assert_eq!(serde_json::to_value(&request.messages).unwrap(), expected);
}

#[test]
fn an_image_is_refused_by_name() {
    let media = Part::Media { kind: "image".to_owned(), url: None, source: json!({}) };
    let message = Message { role: Role::User, parts: vec![media] };
    let conversation = conversation(vec![Message::text(Role::User, "hi"), message]);
    let failure = from_conversation(&conversation).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("messages[1].content"));
    assert_eq!(failure.status(), 400);
}

#[test]
fn json_mode_is_any_object() {
    let shape = OutputShape::JsonObject;
    let conversation = Conversation { output_shape: shape, ..Conversation::default() };
    let request = from_conversation(&conversation).unwrap();
    assert_eq!(request.schema, Some(json!({"type": "object"})));
    assert!(request.parallel_tool_calls);
}

#[test]
fn what_the_model_is_not_told_is_named() {
    let mut conversation = conversation(Vec::new());
    for name in ["user", "logit_bias", "tools[0].function.strict", "store", "shoe_size"] {
        conversation.rest.insert(name.to_owned(), serde_json::Value::from(1));
    }
    assert_eq!(dropped(&conversation), ["logit_bias", "shoe_size"]);
}
