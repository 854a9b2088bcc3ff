//! A provider that speaks the Gemini API: what it is told, and what its answers come to.

use formats::{GEMINI, OPENAI_CHAT};

use super::*;

const ASKED: &str = r#"{"contents":[{"role":"user","parts":[{"text":"caf\u00e9"}]}], "generation_config":{"max_output_tokens": 64},"x":1e2}"#;
const ANSWER: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":1,"totalTokenCount":4},"modelVersion":"gemini-3-pro-001"}"#;

async fn server(replies: impl IntoIterator<Item = Reply>) -> (ScriptedProvider, Arc<dyn Execute>) {
    let server = ScriptedProvider::start(replies).await.unwrap();
    let key = Some(Secret::new("sk-secret"));
    let provider = Provider::new("p", "gemini", Some(&server.base_url()), key).unwrap();
    let executor =
        executor(provider, Arc::new(SystemClock::new()), Vault::default(), &Limits::default());
    (server, executor)
}

#[tokio::test]
async fn a_request_passes_and_its_model_is_in_the_path() {
    let (server, executor) = server([Reply::json(200, ANSWER)]).await;
    let events = all(&executor, attempt_of(&GEMINI, &GEMINI, ASKED)).await;
    let request = server.requests().remove(0);
    assert_eq!(request.body, ASKED);
    assert_eq!(request.line, "POST /v1/models/m:generateContent");
    assert_eq!(request.header("x-goog-api-key"), Some("sk-secret"));
    assert_eq!(request.header("authorization"), None);
    assert_eq!(
        shown(&events),
        format!(
            "start 200\nraw {ANSWER:?}\nfinish End Some((3, 1)) Some(\"gemini-3-pro-001\") None"
        )
    );
}

#[tokio::test]
async fn a_stream_is_asked_for_as_events() {
    let (server, executor) = server([Reply::events(&[ANSWER])]).await;
    let asked = r#"{"model":"p/m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let events = all(&executor, attempt_of(&OPENAI_CHAT, &GEMINI, asked)).await;
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /v1/models/m:streamGenerateContent?alt=sse");
    assert!(matches!(events.last(), Some(OutcomeEvent::Finish(_))), "{events:?}");
}

#[tokio::test]
async fn a_key_that_google_refuses_with_a_400_is_the_operators() {
    let refused = r#"{"error":{"code":400,"message":"API key not valid: sk-secret","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
    let (_server, executor) = server([Reply::json(400, refused)]).await;
    let events = all(&executor, attempt_of(&GEMINI, &GEMINI, ASKED)).await;
    let failure = failure(&events);
    assert_eq!((failure.code, failure.status()), (ErrorCode::UpstreamCredentials, 502));
    assert!(!failure.message.contains("sk-"), "{}", failure.message);
}
