//! What becomes of requests because of their model's family.

use formats::{ANTHROPIC_MESSAGES, OPENAI_CHAT};
use serde_json::{Value, json};
use types::format::Format;

use super::*;

const RESPONSE: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-5.6","output":[{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}"#;
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-2","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}"#;

/// What a provider of this vendor is asked, and what comes of it.
async fn asked(
    vendor: &str,
    model: &str,
    spoken: &'static dyn Format,
    body: &Value,
    answer: &str,
) -> (Option<testkit::Request>, Vec<OutcomeEvent>) {
    let server = ScriptedProvider::start([Reply::json(200, answer)]).await.unwrap();
    let provider = Provider::new("p", vendor, Some(&server.base_url()), None).unwrap();
    let executor =
        executor(provider, Arc::new(SystemClock::new()), Vault::default(), &Limits::default());
    let mut attempt = attempt_of(&OPENAI_CHAT, spoken, &body.to_string());
    attempt.target =
        Arc::new(Target { upstream_model: model.into(), ..Target::clone(&attempt.target) });
    let events = all(&executor, attempt).await;
    (server.requests().pop(), events)
}

fn chat(fields: Value) -> Value {
    let mut body = json!({ "model": "p/m", "messages": [{ "role": "user", "content": "go" }] });
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        body.extend(fields);
    }
    body
}

fn tools() -> Value {
    json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }])
}

#[tokio::test]
async fn tools_that_chat_refuses_go_to_the_responses_api() {
    let body = chat(json!({ "tools": tools() }));
    let (request, events) = asked("openai", "gpt-5.6", &OPENAI_CHAT, &body, RESPONSE).await;
    let request = request.unwrap();
    assert_eq!(request.line, "POST /v1/responses");
    assert_eq!(request.json()["tools"][0]["name"], "f");
    let text = Delta::Text { text: "hi".to_owned() };
    let said = |event: &OutcomeEvent| matches!(event, OutcomeEvent::Frame { delta: Some(d), .. } if *d == text);
    assert!(events.iter().any(said), "{}", shown(&events));
    assert!(matches!(events.last(), Some(OutcomeEvent::Finish(_))), "{}", shown(&events));
}

#[tokio::test]
async fn what_chat_takes_stays_there_byte_for_byte() {
    for (model, fields) in [
        ("gpt-5.6", json!({})),
        ("gpt-5.6", json!({ "tools": tools(), "reasoning_effort": "none" })),
        ("gpt-5.4", json!({ "tools": tools() })),
        ("gpt-4o", json!({ "tools": tools(), "reasoning_effort": "high" })),
    ] {
        let body = chat(fields);
        let (request, _) = asked("openai", model, &OPENAI_CHAT, &body, ANSWER).await;
        let request = request.unwrap();
        assert_eq!(request.line, "POST /v1/chat/completions", "{model}");
        assert_eq!(request.body, body.to_string().replace("p/m", model), "{model}");
    }
    // A vendor without the Responses API is asked as the client asked it, and so is one that asks
    // by it itself.
    let body = chat(json!({ "tools": tools() }));
    for vendor in ["together", "openrouter"] {
        let (request, _) = asked(vendor, "openai/gpt-5.6", &OPENAI_CHAT, &body, ANSWER).await;
        assert_eq!(request.unwrap().line, "POST /v1/chat/completions", "{vendor}");
    }
}

#[tokio::test]
async fn a_translated_request_is_made_into_what_the_model_takes() {
    let body = chat(json!({ "temperature": 0.2, "max_tokens": 9 }));
    let model = "claude-opus-5-5";
    let (request, events) = asked("anthropic", model, &ANTHROPIC_MESSAGES, &body, MESSAGE).await;
    let request = request.unwrap();
    assert_eq!(request.json().get("temperature"), None);
    assert_eq!(request.header("anthropic-version"), Some("2026-10-21"));
    let OutcomeEvent::Start(start) = &events[0] else { panic!("{}", shown(&events)) };
    assert_eq!(start.dropped, ["temperature"]);
}

#[tokio::test]
async fn what_a_model_cannot_do_is_refused_before_it_is_asked() {
    let body = chat(json!({ "tools": tools(), "tool_choice": "required" }));
    let model = "claude-opus-5-5";
    let (request, events) = asked("anthropic", model, &ANTHROPIC_MESSAGES, &body, MESSAGE).await;
    assert!(request.is_none());
    let failure = failure(&events);
    assert_eq!((failure.code, failure.billed.clone()), (ErrorCode::Unsupported, Billed::No));
    assert_eq!(failure.param.as_deref(), Some("tool_choice"));
}
