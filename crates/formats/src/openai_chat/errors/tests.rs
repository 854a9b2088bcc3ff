use insta::assert_snapshot;
use types::clock::{FakeClock, Timestamp};
use types::ids::Ids;

use super::*;

fn parsed(status: u16, body: &str) -> String {
    let failure = parse(status, body.as_bytes());
    format!("{} {:?} {:?}: {}", failure.code, failure.param, failure.billed, failure.message)
}

#[test]
fn upstream_errors_are_classified_by_code_then_status() {
    let cases = [
        (400, r#"{"error":{"message":"bad","type":"invalid_request_error","param":"top_p"}}"#),
        (400, r#"{"error":{"message":"long","code":"context_length_exceeded"}}"#),
        (400, r#"{"message":"This model's maximum context length is 4096 tokens"}"#),
        (400, r#"{"error":{"message":"no","code":"content_filter"}}"#),
        (401, r#"{"error":{"message":"bad key","code":"invalid_api_key"}}"#),
        (403, r#"{"error":{"message":"this account may not"}}"#),
        (404, r#"{"error":{"message":"gone","code":"model_not_found"}}"#),
        (404, r#"{"detail":"Not Found"}"#),
        (413, r#"{"error":"too big"}"#),
        (422, r#"{"detail":[{"loc":["body"],"msg":"x"}]}"#),
        (429, r#"{"error":{"message":"later","code":"rate_limit_exceeded"}}"#),
        (429, r#"{"error":{"message":"pay","code":"insufficient_quota"}}"#),
        (500, r#"{"error":{"message":"oops"}}"#),
        (502, "<html>"),
        (503, r#"{"error":{"message":"busy"}}"#),
        (504, r#"{"error":{"message":"slow"}}"#),
    ];
    let shown: Vec<String> =
        cases.iter().map(|(status, body)| format!("{status} {}", parsed(*status, body))).collect();
    assert_snapshot!(shown.join("\n"), @r#"
    400 invalid_request Some("top_p") No: the provider answered 400: bad
    400 context_length_exceeded None No: the provider answered 400: long
    400 context_length_exceeded None No: the provider answered 400: This model's maximum context length is 4096 tokens
    400 content_filtered None No: the provider answered 400: no
    401 upstream_credentials None No: the provider answered 401: bad key
    403 upstream_credentials None No: the provider answered 403: this account may not
    404 model_not_found None No: the provider answered 404: gone
    404 model_not_found None No: the provider answered 404: Not Found
    413 too_large None No: the provider answered 413: too big
    422 invalid_request None No: the provider answered 422: [{"loc":["body"],"msg":"x"}]
    429 rate_limited None No: the provider answered 429: later
    429 upstream_quota None No: the provider answered 429: pay
    500 upstream_failed None No: the provider answered 500: oops
    502 upstream_failed None Unknown: the provider answered 502 without an error that can be read
    503 upstream_failed None No: the provider answered 503: busy
    504 upstream_timeout None Unknown: the provider answered 504: slow
    "#);
}

#[test]
fn money_is_told_from_rate_whatever_the_status() {
    for (whose, status, body, code) in [
        ("OpenAI", 429, r#"{"error":{"code":"project_spend_limit_exceeded"}}"#, "upstream_quota"),
        ("OpenAI", 429, r#"{"error":{"code":"slow_down"}}"#, "rate_limited"),
        ("Moonshot", 429, r#"{"error":{"type":"exceeded_current_quota_error"}}"#, "upstream_quota"),
        ("Moonshot", 429, r#"{"error":{"type":"engine_overloaded_error"}}"#, "rate_limited"),
        ("Z.ai", 429, r#"{"error":{"code":"1113","message":"x"}}"#, "upstream_quota"),
        ("Z.ai", 429, r#"{"error":{"code":"1302","message":"x"}}"#, "rate_limited"),
        ("DashScope", 400, r#"{"error":{"code":"Arrearage","message":"x"}}"#, "upstream_quota"),
        ("Workers AI", 429, r#"{"success":false,"errors":[{"code":3036}]}"#, "upstream_quota"),
        ("Workers AI", 429, r#"{"success":false,"errors":[{"code":3040}]}"#, "rate_limited"),
        ("DeepSeek", 402, r#"{"error":{"message":"Insufficient Balance"}}"#, "upstream_quota"),
        ("OpenRouter", 402, r#"{"error":{"code":402,"message":"x"}}"#, "upstream_quota"),
    ] {
        assert_eq!(parse(status, body.as_bytes()).code.name(), code, "{whose} {body}");
    }
}

#[test]
fn a_prompt_that_is_too_long_is_understood_in_every_servers_words() {
    let in_words = CONTEXT_LENGTH_WORDS.map(|words| format!(r#"{{"message":"so: {words} is 9"}}"#));
    for body in in_words.iter().map(String::as_str).chain([
        r#"{"error":{"code":400,"message":"x","type":"exceed_context_size_error","n_ctx":9}}"#,
        r#"{"object":"error","message":"longer than the model's context length","code":400}"#,
        r#"{"error":{"code":"tokens_limit_reached","message":"x"}}"#,
    ]) {
        for status in [400, 413] {
            let code = parse(status, body.as_bytes()).code;
            assert_eq!(code, ErrorCode::ContextLengthExceeded, "{status} {body}");
        }
    }
    assert_eq!(parse(400, br#"{"message":"short"}"#).code, ErrorCode::InvalidRequest);
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "ü".repeat(5_000));
    let failure = parse(400, body.as_bytes());
    assert!(failure.message.chars().count() < MESSAGE_CHARS_MAX + 50);
}

#[test]
fn ours_carry_the_native_words_and_our_code() {
    let ids = Ids::seeded(std::sync::Arc::new(FakeClock::new(Timestamp(0))), 1);
    let failure = Failure::invalid("n", "'n' must be at least 1");
    let with_call = render(&failure, Some(&CallId::new(&ids)));
    assert_snapshot!(String::from_utf8_lossy(&with_call), @r#"{"error":{"message":"'n' must be at least 1","type":"invalid_request_error","param":"n","code":"invalid_request","holdfast":{"code":"invalid_request","call_id":"hfc_0000000001rpf7gbq60aaxd8jr"}}}"#);
}

#[test]
fn every_class_has_words_and_the_ones_that_sdks_act_on_are_openais() {
    let shown: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let (kind, word) = crate::openai::words(*code);
            format!("{} {code}: {kind} / {word}", code.status())
        })
        .collect();
    assert_snapshot!(shown.join("\n"));
}

#[test]
fn an_error_in_an_answer_is_told_from_an_answer() {
    assert!(parse_in_answer(br#"{"choices":[]}"#).is_none());
    assert!(parse_in_answer(br#"{"error":null,"choices":[]}"#).is_none());
    let failure = parse_in_answer(br#"{"error":{"message":"x","code":429}}"#).unwrap();
    assert_eq!(failure.billed, Billed::Unknown);
    let failure = parse_in_answer(br#"{"error":"plain"}"#).unwrap();
    assert_snapshot!(failure.to_string(), @"upstream_failed: the provider failed in its answer: plain");
}

#[test]
fn an_error_without_an_object_around_it_is_one_all_the_same() {
    let bare = br#"{"object":"error","message":"boom","type":"BadRequestError","code":400}"#;
    let failure = parse_in_answer(bare).unwrap();
    assert_snapshot!(failure.to_string(), @"invalid_request: the provider failed in its answer: boom");
    let late = parse_in_answer(br#"{"error":{"code":402,"message":"no credits"}}"#).unwrap();
    assert_eq!((late.code, late.billed), (ErrorCode::UpstreamQuota, Billed::Unknown));
    let rate = parse_in_answer(br#"{"error":{"message":"x","code":429}}"#).unwrap();
    assert_eq!(rate.code, ErrorCode::UpstreamFailed);
    assert!(parse_in_answer(br#"{"object":"chat.completion.chunk","choices":[]}"#).is_none());
}
