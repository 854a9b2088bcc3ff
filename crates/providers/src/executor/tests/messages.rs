//! A provider that speaks the Messages API: what it is told, and what its answers come to.

use formats::{ANTHROPIC_MESSAGES, OPENAI_CHAT};
use types::call::{Operation, WireContext};
use types::outcome::Start;

use super::*;

const ASKED: &str = r#"{"max_tokens": 64,"model":"p/m",  "messages":[{"role":"user","content":"caf\u00e9"}], "x":1e2}"#;
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-2","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}"#;
const EVENTS: [&str; 6] = [
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-2","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}}"#,
    r#"{"type":"message_stop"}"#,
];

async fn server(replies: impl IntoIterator<Item = Reply>) -> (ScriptedProvider, Arc<dyn Execute>) {
    let server = ScriptedProvider::start(replies).await.unwrap();
    let key = Some(Secret::new("sk-secret"));
    let provider = Provider::new("p", "anthropic", Some(&server.base_url()), key).unwrap();
    let executor =
        executor(provider, Arc::new(SystemClock::new()), Vault::default(), &Limits::default());
    (server, executor)
}

fn passed(body: &str) -> Attempt {
    attempt_of(&ANTHROPIC_MESSAGES, &ANTHROPIC_MESSAGES, body)
}

fn translated(body: &str) -> Attempt {
    attempt_of(&OPENAI_CHAT, &ANTHROPIC_MESSAGES, body)
}

/// The same attempt, with its Call's request changed.
fn with(mut attempt: Attempt, change: impl FnOnce(ModelCall) -> ModelCall) -> Attempt {
    let call = Arc::get_mut(&mut attempt.call).unwrap();
    if let CallKind::Model(model) = &mut call.kind {
        let raw = model.raw.clone().unwrap();
        *model = change(ModelCall::from_raw(model.format, model.head.clone(), raw));
    }
    attempt
}

fn start(events: &[OutcomeEvent]) -> &Start {
    match &events[0] {
        OutcomeEvent::Start(start) => start,
        other => panic!("no start but {other:?}"),
    }
}

fn event(data: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(data).unwrap();
    format!("event: {}\ndata: {data}\n\n", value["type"].as_str().unwrap())
}

#[tokio::test]
async fn a_request_keeps_every_byte_but_the_model() {
    let (server, executor) = server([Reply::json(200, MESSAGE)]).await;
    let events = all(&executor, passed(ASKED)).await;
    let request = server.requests().remove(0);
    assert_eq!(request.body, ASKED.replace("p/m", "m"));
    assert_eq!(request.line, "POST /v1/messages");
    assert_eq!(request.header("x-api-key"), Some("sk-secret"));
    assert_eq!(request.header("authorization"), None);
    // Nobody named a version, and there must be one.
    assert_eq!(request.header("anthropic-version"), Some("2026-10-21"));
    let raw = format!("raw {MESSAGE:?}");
    assert_eq!(
        shown(&events),
        format!("start 200\n{raw}\nfinish End Some((3, 1)) Some(\"claude-2\") None")
    );
}

fn wired() -> WireContext {
    let headers = vec![
        ("anthropic-version", "2023-06-01".to_owned()),
        ("anthropic-beta", "b-1,b-2 ;q".to_owned()),
    ];
    WireContext { headers, query: Some("beta=true") }
}

#[tokio::test]
async fn what_a_client_says_in_headers_reaches_a_target_of_its_format() {
    let (server, executor) = server([Reply::json(200, MESSAGE)]).await;
    all(&executor, with(passed(ASKED), |model| model.with_wire(wired()))).await;
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /v1/messages?beta=true");
    assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(request.header("anthropic-beta"), Some("b-1,b-2 ;q"));
}

#[tokio::test]
async fn it_reaches_no_other_target() {
    let server = ScriptedProvider::start([Reply::json(200, ANSWER)]).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    let attempt = attempt_of(&ANTHROPIC_MESSAGES, &OPENAI_CHAT, ASKED);
    all(&executor, with(attempt, |model| model.with_wire(wired()))).await;
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /v1/chat/completions");
    assert_eq!(request.header("anthropic-version"), None);
    assert_eq!(request.header("anthropic-beta"), None);
}

#[tokio::test]
async fn a_translated_request_has_the_version_and_the_cap_that_it_needs() {
    let (server, executor) = server([Reply::json(200, MESSAGE), Reply::json(200, MESSAGE)]).await;
    let plain = r#"{"model":"p/m","messages":[{"role":"user","content":"hi"}]}"#;
    let capped = r#"{"model":"p/m","max_tokens":9,"temperature":0.5,"messages":[{"role":"user","content":"hi"}]}"#;
    let without_cap = all(&executor, translated(plain)).await;
    let with_cap = all(&executor, translated(capped)).await;
    let requests = server.requests();
    assert_eq!(requests[0].header("anthropic-version"), Some("2026-10-21"));
    assert_eq!(requests[1].header("anthropic-version"), Some("2023-06-01"));
    let sent = |at: usize| requests[at].json()["max_tokens"].as_u64();
    assert_eq!((sent(0), start(&without_cap).output_cap), (Some(32_768), Some(32_768)));
    assert_eq!((sent(1), start(&with_cap).output_cap), (Some(9), None));
    let text = Delta::Text { text: "hi".to_owned() };
    assert!(
        matches!(&with_cap[1], OutcomeEvent::Frame { raw: None, delta: Some(d) } if *d == text)
    );
}

#[tokio::test]
async fn tokens_are_counted_where_the_format_can() {
    let (server, executor) = server([Reply::json(200, r#"{"input_tokens":14}"#)]).await;
    let body = r#"{"model":"p/m","messages":[]}"#;
    let counting = |attempt| with(attempt, |model| model.for_operation(Operation::CountTokens));
    let events = all(&executor, counting(passed(body))).await;
    assert_eq!(server.requests()[0].line, "POST /v1/messages/count_tokens");
    assert_eq!(server.requests()[0].body, r#"{"model":"m","messages":[]}"#);
    assert_eq!(
        shown(&events),
        "start 200\nraw \"{\\\"input_tokens\\\":14}\"\nfinish End None None None"
    );
    let chat = ScriptedProvider::start([]).await.unwrap();
    let executor = made(&chat, Arc::new(SystemClock::new()));
    let attempt = attempt_of(&ANTHROPIC_MESSAGES, &OPENAI_CHAT, body);
    let events = all(&executor, counting(attempt)).await;
    assert_eq!(failure(&events).code, ErrorCode::Unsupported);
    assert_eq!(failure(&events).billed, Billed::No);
}

#[tokio::test]
async fn what_another_vendor_signed_does_not_reach_this_one() {
    let body = r#"{"model":"p/m","max_tokens":64,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"hf1.gemini.c2ln"},{"type":"text","text":"so"}]},{"role":"user","content":"and?"}]}"#;
    let (server, executor) =
        server([Reply::json(200, MESSAGE), Reply::json(200, r#"{"input_tokens":14}"#)]).await;
    let events = all(&executor, passed(body)).await;
    let sent = server.requests().remove(0).json().to_string();
    assert!(!sent.contains("hf1.") && sent.contains("\"so\""), "{sent}");
    assert_eq!(start(&events).dropped, ["thinking"]);
    // Where nothing may be dropped, nothing is sent.
    let mut strict = passed(body);
    let asks = types::call::RouteAsk { strict: true, ..types::call::RouteAsk::default() };
    Arc::get_mut(&mut strict.call).unwrap().asks = Some(Box::new(asks));
    let refused = all(&executor, strict).await;
    let failure = failure(&refused);
    assert_eq!(
        (failure.code, failure.param.as_deref()),
        (ErrorCode::Unsupported, Some("thinking"))
    );
    assert!(failure.message.contains("thinking") && failure.billed == Billed::No, "{failure}");
    // A count has no deltas: it is told as it came though the request could not pass.
    let count = with(passed(body), |model| model.for_operation(Operation::CountTokens));
    let events = all(&executor, count).await;
    assert!(!server.requests().remove(1).json().to_string().contains("hf1."));
    assert!(shown(&events).contains(r#"raw "{\"input_tokens\":14}""#), "{}", shown(&events));
}

#[tokio::test]
async fn a_full_provider_is_told_from_a_broken_one() {
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let (_server, executor) = server([Reply::json(529, body)]).await;
    let events = all(&executor, passed(ASKED)).await;
    assert_eq!(failure(&events).code, ErrorCode::Overloaded);
    assert_eq!(failure(&events).billed, Billed::No);
}

#[tokio::test]
async fn an_account_without_money_is_no_fault_of_the_client() {
    let poor = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API"}}"#;
    let (_server, executor) = server([Reply::json(400, poor)]).await;
    let events = all(&executor, passed(ASKED)).await;
    let failure = failure(&events);
    assert_eq!(failure.code, ErrorCode::UpstreamQuota);
    assert_eq!((failure.status(), failure.upstream.as_ref()), (502, None));
}

#[tokio::test]
async fn only_rate_limits_of_the_account_reach_the_client() {
    let headers = [
        ("request-id", "req_1"),
        ("anthropic-ratelimit-tokens-remaining", "9"),
        ("anthropic-organization-id", "the-operator"),
    ];
    let reply = Reply::with_body(200, "application/json", &headers, MESSAGE);
    let (_server, executor) = server([reply]).await;
    let events = all(&executor, passed(ASKED)).await;
    let names: Vec<&str> = start(&events).headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["request-id", "anthropic-ratelimit-tokens-remaining"]);
}

#[tokio::test]
async fn a_stream_is_whole_only_with_its_last_event() {
    let body = ASKED.replace("\"x\":1e2", "\"stream\":true");
    for kept in 0..=EVENTS.len() {
        let sent: String = EVENTS[..kept].iter().map(|data| event(data)).collect();
        let mut reply = Reply::stream(&[]);
        if kept > 0 {
            reply = reply.chunk(&sent);
        }
        let (_server, executor) = server([reply.end()]).await;
        let events = all(&executor, passed(&body)).await;
        let ends = events
            .iter()
            .filter(|event| matches!(event, OutcomeEvent::Finish(_) | OutcomeEvent::Failed(_)));
        assert_eq!(ends.count(), 1, "{kept}");
        let mut raw = Vec::new();
        for event in &events {
            match event {
                OutcomeEvent::Frame { raw: Some(bytes), .. } => raw.extend_from_slice(bytes),
                OutcomeEvent::Finish(finish) => raw.extend_from_slice(finish.raw.as_ref().unwrap()),
                _ => {}
            }
        }
        if kept == EVENTS.len() {
            assert_eq!(String::from_utf8(raw).unwrap(), sent);
            continue;
        }
        assert_eq!(failure(&events).code, ErrorCode::StreamCut, "{kept}");
        assert!(!String::from_utf8(raw).unwrap().contains("message_stop"));
    }
}

#[tokio::test]
async fn an_error_event_ends_a_stream() {
    let body = ASKED.replace("\"x\":1e2", "\"stream\":true");
    let error = r#"{"type":"error","error":{"type":"api_error","message":"oops"}}"#;
    for before in [0, 3] {
        let sent: String =
            EVENTS[..before].iter().chain([&error]).map(|data| event(data)).collect();
        let (_server, executor) = server([Reply::stream(&[]).chunk(&sent).end()]).await;
        let events = all(&executor, passed(&body)).await;
        assert_eq!(failure(&events).code, ErrorCode::UpstreamFailed, "{before}");
        assert_eq!(failure(&events).billed, Billed::Unknown, "{before}");
    }
}

#[tokio::test]
async fn thoughts_that_a_client_has_no_field_for_go_back_with_the_tools_result() {
    let called = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-2","content":[{"type":"thinking","thinking":"hm","signature":"sig=="},{"type":"tool_use","id":"toolu_1","name":"f","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}"#;
    let (server, executor) = server([Reply::json(200, called), Reply::json(200, MESSAGE)]).await;
    let first =
        r#"{"model":"p/m","reasoning_effort":"high","messages":[{"role":"user","content":"go"}]}"#;
    all(&executor, translated(first)).await;
    let second = r#"{"model":"p/m","reasoning_effort":"high","messages":[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"toolu_1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"toolu_1","content":"ok"}]}"#;
    let events = all(&executor, translated(second)).await;
    assert!(matches!(events.last(), Some(OutcomeEvent::Finish(_))));
    let sent = server.requests().remove(1).json();
    assert_eq!(
        sent["messages"][1]["content"][0],
        serde_json::json!({ "type": "thinking", "thinking": "hm", "signature": "sig==" })
    );
    assert_eq!(sent["thinking"]["type"], "adaptive");
    assert_eq!(start(&events).dropped, Vec::<String>::new());
}

#[tokio::test]
async fn a_count_that_is_refused_says_nothing_of_the_models_limits() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#;
    let limited = Reply::with_body(429, "application/json", &[("retry-after", "60")], body);
    let (server, executor) = server([limited, Reply::json(200, MESSAGE)]).await;
    let count = with(passed(ASKED), |model| model.for_operation(Operation::CountTokens));
    let events = all(&executor, count).await;
    assert_eq!(failure(&events).code, ErrorCode::RateLimited);
    let events = all(&executor, passed(ASKED)).await;
    assert!(shown(&events).contains("finish"), "{}", shown(&events));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn who_is_known_to_go_on_with_an_answer_says_so() {
    let (_server, anthropic) = server([]).await;
    let target = |format: &'static dyn Format, model: &str| {
        let target = (*attempt_of(format, format, ASKED).target).clone();
        Target { upstream_model: model.into(), ..target }
    };
    assert!(anthropic.continues(&target(&ANTHROPIC_MESSAGES, "claude-sonnet-4-5")));
    assert!(!anthropic.continues(&target(&ANTHROPIC_MESSAGES, "claude-opus-4-6")));
    assert!(!anthropic.continues(&target(&ANTHROPIC_MESSAGES, "claude-zeta-9")));
    assert!(!anthropic.continues(&target(&OPENAI_CHAT, "claude-sonnet-4-5")), "not its format");
    let made = |vendor: &str| {
        let provider = Provider::new("p", vendor, Some("http://127.0.0.1:1/v1"), None).unwrap();
        executor(provider, Arc::new(SystemClock::new()), Vault::default(), &Limits::default())
    };
    for vendor in ["vllm", "sglang", "llama-cpp", "deepseek"] {
        assert!(made(vendor).continues(&target(&OPENAI_CHAT, "any")), "{vendor}");
    }
    let elsewhere = Provider::new("p", "deepseek", Some("http://127.0.0.1:1/proxy"), None).unwrap();
    let clock = Arc::new(SystemClock::new());
    let elsewhere = executor(elsewhere, clock, Vault::default(), &Limits::default());
    assert!(!elsewhere.continues(&target(&OPENAI_CHAT, "any")), "whose path is known at home only");
    assert!(!made("openai-compatible").continues(&target(&OPENAI_CHAT, "any")));
}
