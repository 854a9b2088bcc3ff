use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use types::call::{Call, CallKind, Door, Plan, ToolInvocation};
use types::clock::{FakeClock, Timestamp};
use types::conversation::{
    Conversation, Effort, Message, OutputShape, Part, ReasoningAsk, Role, ToolCall,
};
use types::ids::{CallId, KeyId, SessionId, StepId};
use types::principal::{self, DEFAULT_ACCOUNT, Principal};
use types::{ErrorCode, Ids};

use super::request::{belong, check_fits, dropped, from_conversation};
use crate::protocol::{ChatMessage, Generate, LoadedModel};

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
    let result = |id: &str, text: &str| Part::tool_result(id, text, false);
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
    let media = Part::Media { kind: "image".to_owned(), url: None, name: None, source: json!({}) };
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
    let quiet = ["user", "tools.function.strict", "store", "metadata.user_id", "cache_control"];
    for name in
        quiet.into_iter().chain(["logit_bias", "messages.content.cache_control", "shoe_size"])
    {
        conversation.rest.insert(name.to_owned(), serde_json::Value::from(1));
    }
    assert_eq!(dropped(&conversation), ["logit_bias", "shoe_size"]);
    conversation.reasoning.effort = Some(Effort::Off);
    conversation.reasoning.budget_tokens = Some(2_000);
    conversation.reasoning.shown = Some(true);
    let asked = ["reasoning_effort", "thinking", "reasoning.summary", "logit_bias", "shoe_size"];
    assert_eq!(dropped(&conversation), asked);
    conversation.reasoning = ReasoningAsk { adaptive: true, ..ReasoningAsk::default() };
    let result = Part::tool_result("call_1", "broken", true);
    conversation.messages.push(Message { role: Role::Tool, parts: vec![result] });
    let asked = ["thinking", "tool_result.is_error", "logit_bias", "shoe_size"];
    assert_eq!(dropped(&conversation), asked);
    for index in 0..100 {
        conversation.rest.insert(format!("field{index}"), serde_json::Value::from(1));
    }
    assert_eq!(dropped(&conversation).len(), 32);
}

#[test]
fn an_image_in_a_result_is_refused_by_name() {
    let media = Part::Media { kind: "image".to_owned(), url: None, name: None, source: json!({}) };
    let parts = vec![Part::text("look"), media];
    let result = Part::ToolResult { call_id: "call_1".to_owned(), parts, is_error: false };
    let message = Message { role: Role::Tool, parts: vec![result] };
    let failure = from_conversation(&conversation(vec![message])).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("messages[0].content"));
}

fn call() -> Call {
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    let key = KeyId::new(&ids);
    let principal = Principal {
        account: DEFAULT_ACCOUNT.into(),
        user: key.as_str().into(),
        key,
        key_name: "test".into(),
        role: principal::Role::Member,
        output_cap_default: None,
    };
    let invocation = ToolInvocation {
        server: "s".to_owned(),
        tool: "t".to_owned(),
        arguments: json!({}),
        idempotency_key: "k".to_owned(),
    };
    Call {
        id: CallId::new(&ids),
        parent: None,
        principal: Arc::new(principal),
        session: Some(SessionId::new(&ids)),
        session_root: None,
        step: Some(StepId::new(&ids)),
        task: "t".into(),
        class: "interactive".into(),
        door: Door::OpenaiChat,
        gateway: None,
        metadata: types::Metadata::default(),
        trace: None,
        notes: types::Notes::default(),
        budget: None,
        deadline: None,
        time: None,
        asks: None,
        pins: Vec::new(),
        started_at: Timestamp(0),
        started: Duration::ZERO,
        plan: Arc::new(Plan {
            name: "local/m".into(),
            targets: Vec::new(),
            policy: types::call::RoutePolicy::default(),
        }),
        kind: CallKind::Tool(invocation),
    }
}

#[test]
fn only_a_stored_sessions_step_leaves_state_on_disk() {
    let stored = call();
    let mut request = Generate::default();
    belong(&mut request, &stored);
    assert!(request.persist);
    assert_eq!(request.session, stored.session.as_ref().map(ToString::to_string));
    // `store: false` and chat completions name a session and keep nothing.
    belong(&mut request, &Call { step: None, ..stored });
    assert!(!request.persist && request.session.is_some());
}

#[test]
fn a_prompt_of_more_bytes_than_the_context_can_spell_is_refused_before_it_is_sent() {
    let model = LoadedModel {
        sha256: String::new(),
        arch: "llama".to_owned(),
        context: 10,
        sequences: 1,
        token_bytes_max: 4,
        dimensions: 0,
        template_sha256: String::new(),
    };
    let says = |role: &str, bytes: usize| ChatMessage {
        role: role.to_owned(),
        content: format!(" {}\n", "x".repeat(bytes)),
        ..ChatMessage::default()
    };
    let with = |messages| Generate { messages, ..Generate::default() };
    let fits = with(vec![says("system", 20), says("assistant", 1_000), says("user", 20)]);
    assert!(check_fits(&fits, &model).is_ok());
    let more = with(vec![says("system", 20), says("user", 21)]);
    let failure = check_fits(&more, &model).unwrap_err();
    assert_eq!(failure.code, ErrorCode::ContextLengthExceeded);
    assert_eq!(failure.param.as_deref(), Some("messages"));
    // An engine that does not say how long its tokens are refuses by itself.
    assert!(check_fits(&more, &LoadedModel { token_bytes_max: 0, ..model }).is_ok());
}
