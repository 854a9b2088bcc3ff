//! Clients of the Responses API, by the vendor that answers them.

use formats::{OPENAI_CHAT, OPENAI_RESPONSES};
use serde_json::{Value, json};

use super::*;

const RESPONSE: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"m-2","output":[{"type":"reasoning","id":"rs_2","summary":[{"type":"summary_text","text":"so"}],"encrypted_content":"gBBB"},{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}"#;

/// A turn of an agent's loop: what the model thought, what it called, and the result.
fn turn() -> Value {
    json!({
        "model": "p/m",
        "input": [
            { "role": "user", "content": "go" },
            {
                "type": "reasoning", "summary": [{ "type": "summary_text", "text": "hm" }],
                "encrypted_content": "gAAA",
            },
            { "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "call_1", "output": "done" },
        ],
        "tools": [{ "type": "function", "name": "f", "parameters": { "type": "object" } }],
        "prompt_cache_key": "k",
        "store": false,
    })
}

/// The Call of a session's step: made here, in neutral form.
fn stepped(mut attempt: Attempt) -> Attempt {
    let call = Arc::get_mut(&mut attempt.call).unwrap();
    if let CallKind::Model(model) = &mut call.kind {
        let (head, neutral) = (model.head.clone(), model.neutral().unwrap());
        *model = ModelCall::from_neutral(&OPENAI_RESPONSES, head, neutral);
    }
    attempt.decode = true;
    attempt
}

async fn asked(
    vendor: &str,
    attempt: Attempt,
    answer: &str,
) -> (testkit::Request, Vec<OutcomeEvent>) {
    let (mut requests, events) = exchanged(vendor, attempt, [Reply::json(200, answer)]).await;
    (requests.pop().unwrap(), events)
}

async fn exchanged(
    vendor: &str,
    attempt: Attempt,
    replies: impl IntoIterator<Item = Reply>,
) -> (Vec<testkit::Request>, Vec<OutcomeEvent>) {
    let server = ScriptedProvider::start(replies).await.unwrap();
    let provider = Provider::new("p", vendor, Some(&server.base_url()), None).unwrap();
    let executor =
        executor(provider, Arc::new(SystemClock::new()), Vault::default(), &Limits::default());
    let events = all(&executor, attempt).await;
    (server.requests(), events)
}

fn signatures(events: &[OutcomeEvent]) -> Vec<&str> {
    let deltas = events.iter().filter_map(|event| match event {
        OutcomeEvent::Frame { delta, .. } => delta.as_ref(),
        _ => None,
    });
    let signatures = deltas.filter_map(|delta| match delta {
        Delta::ReasoningSignature { signature, .. } => Some(signature.as_str()),
        _ => None,
    });
    signatures.collect()
}

#[tokio::test]
async fn what_a_model_thought_survives_at_every_vendor_that_speaks_the_api() {
    for vendor in ["openai", "azure", "xai", "openrouter", "openai-responses"] {
        let spoken = match vendor {
            "openai-responses" => &OPENAI_RESPONSES as &'static dyn Format,
            _ => &OPENAI_CHAT,
        };
        let attempt = attempt_of(&OPENAI_RESPONSES, spoken, &turn().to_string());
        let (request, events) = asked(vendor, stepped(attempt), RESPONSE).await;
        assert_eq!(request.line, "POST /v1/responses", "{vendor}");
        let body = request.json();
        assert_eq!(body["input"][1]["encrypted_content"], "gAAA", "{vendor}");
        assert_eq!(body["input"][1]["summary"], turn()["input"][1]["summary"], "{vendor}");
        assert_eq!((&body["store"], &body["prompt_cache_key"]), (&json!(false), &json!("k")));
        assert_eq!(body["include"], json!(["reasoning.encrypted_content"]), "{vendor}");
        assert_eq!(signatures(&events), ["gBBB"], "{vendor}");
    }
}

/// A request with what nobody here knows, spaced as no program of ours would.
const UNKNOWN: &str = r#"{"x":1e2, "model" : "p/m","store":false,"input":[{"type":"hologram","t":"caf\u00e9"},{"role":"user","content":"hi"}],"tools":[{"type":"custom","name":"p","format":{"type":"grammar","syntax":"lark","definition":"start: /a/"}},{"type":"web_search"}],"include":["web_search_call.action.sources"]}"#;

#[tokio::test]
async fn a_request_passes_byte_for_byte_to_whoever_speaks_its_format() {
    let whole = RESPONSE.replace(r#""output":["#, r#""output":[{"type":"hologram","id":"h_1"},"#);
    for vendor in ["openai", "azure"] {
        let mut attempt = attempt_of(&OPENAI_RESPONSES, &OPENAI_CHAT, UNKNOWN);
        attempt.output_cap = Some(77);
        let (request, events) = asked(vendor, attempt, &whole).await;
        assert_eq!(request.line, "POST /v1/responses", "{vendor}");
        let expected =
            UNKNOWN.replace("\"p/m\"", "\"m\"").replacen('{', "{\"max_output_tokens\":77,", 1);
        assert_eq!(request.body, expected, "{vendor}");
        let raw = events.iter().find_map(|event| match event {
            OutcomeEvent::Frame { raw, .. } => raw.clone(),
            _ => None,
        });
        assert_eq!(raw.unwrap(), whole, "{vendor}");
        let Some(OutcomeEvent::Finish(finish)) = events.last() else {
            panic!("{}", shown(&events))
        };
        assert_eq!(
            finish.usage.map(|usage| (usage.input_tokens, usage.output_tokens)),
            Some((3, 1))
        );
    }
}

#[tokio::test]
async fn what_another_vendor_signed_does_not_pass() {
    let carried = turn().to_string().replace("gAAA", "hf1.anthropic_messages.sig");
    let attempt = attempt_of(&OPENAI_RESPONSES, &OPENAI_CHAT, &carried);
    let (request, events) = asked("openai", attempt, RESPONSE).await;
    let body = request.json();
    let kinds = body["input"].as_array().unwrap().iter().map(|item| &item["type"]);
    assert_eq!(kinds.collect::<Vec<_>>(), ["message", "function_call", "function_call_output"]);
    let OutcomeEvent::Start(start) = &events[0] else { panic!("{}", shown(&events)) };
    assert_eq!(start.dropped, ["reasoning"]);
}

#[tokio::test]
async fn a_vendor_of_chat_completions_alone_is_asked_by_them() {
    let attempt = attempt_of(&OPENAI_RESPONSES, &OPENAI_CHAT, &turn().to_string());
    let (request, events) = asked("openai-compatible", stepped(attempt), ANSWER).await;
    assert_eq!(request.line, "POST /v1/chat/completions");
    assert_eq!(request.json()["prompt_cache_key"], "k");
    let OutcomeEvent::Start(start) = &events[0] else { panic!("{}", shown(&events)) };
    assert_eq!(start.dropped, ["reasoning"]);
}

/// What Codex sends: tools in a namespace, a field of OpenAI's own, reasoning as it came.
fn codex() -> Value {
    let mut body = turn();
    body["input"][1]["content"] = Value::Null;
    body["tools"] = json!([
        { "type": "namespace", "name": "mcp__n", "description": "n", "tools": [
            { "type": "function", "name": "f", "parameters": { "type": "object" } },
        ] },
        { "type": "web_search", "external_web_access": false },
    ]);
    body
}

#[tokio::test]
async fn who_takes_less_than_openai_is_told_what_a_request_means() {
    for vendor in ["xai", "openrouter", "bedrock-openai", "bedrock-mantle"] {
        let attempt = attempt_of(&OPENAI_RESPONSES, &OPENAI_CHAT, &codex().to_string());
        let (request, events) = asked(vendor, attempt, RESPONSE).await;
        assert!(
            request.line.ends_with("/responses HTTP/1.1") || request.line.ends_with("/responses")
        );
        let body = request.json();
        assert_eq!(body["tools"].as_array().unwrap().len(), 1, "{vendor}");
        assert_eq!(body["tools"][0]["name"], "mcp__n__f", "{vendor}");
        assert_eq!(body["input"][1]["encrypted_content"], "gAAA", "{vendor}");
        assert_eq!(body["input"][1].get("content"), None, "{vendor}");
        assert_eq!(signatures(&events), ["gBBB"], "{vendor}");
    }
}

const UNREAD: &str = r#"{"error":{"message":"The encrypted content could not be verified.","type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}"#;

#[tokio::test]
async fn reasoning_that_a_provider_cannot_read_is_left_out_once() {
    let attempt = || attempt_of(&OPENAI_RESPONSES, &OPENAI_CHAT, &turn().to_string());
    for attempt in [attempt(), stepped(attempt())] {
        let replies = [Reply::json(400, UNREAD), Reply::json(200, RESPONSE)];
        let (requests, events) = exchanged("openai", attempt, replies).await;
        assert_eq!(requests[0].json()["input"][1]["encrypted_content"], "gAAA");
        let body = requests[1].json();
        let kinds = body["input"].as_array().unwrap().iter().map(|item| &item["type"]);
        assert_eq!(kinds.collect::<Vec<_>>(), ["message", "function_call", "function_call_output"]);
        let OutcomeEvent::Start(start) = &events[0] else { panic!("{}", shown(&events)) };
        assert_eq!(start.dropped, ["reasoning"]);
    }
}

#[tokio::test]
async fn a_refusal_for_another_reason_or_without_reasoning_is_the_clients() {
    let other = UNREAD.replace("encrypted_content", "prompt").replace("encrypted content", "it");
    let attempt = || attempt_of(&OPENAI_RESPONSES, &OPENAI_CHAT, &turn().to_string());
    let (requests, events) = exchanged("openai", attempt(), [Reply::json(400, &other)]).await;
    assert_eq!((requests.len(), failure(&events).code), (1, ErrorCode::InvalidRequest));
    let twice = [Reply::json(400, UNREAD), Reply::json(400, UNREAD)];
    let (requests, events) = exchanged("openai", attempt(), twice).await;
    assert_eq!((requests.len(), failure(&events).code), (2, ErrorCode::InvalidRequest));
}
