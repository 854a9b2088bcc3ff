use insta::assert_snapshot;
use types::ids::CallId;
use types::{ErrorCode, Failure};

use super::*;

fn rendered(failure: &Failure) -> Value {
    serde_json::from_slice(&render(failure, None)).unwrap()
}

#[test]
fn every_code_has_a_type_and_a_status() {
    let lines = ErrorCode::ALL.iter().map(|code| {
        let failure = Failure::new(*code, "m");
        let error = rendered(&failure)["error"].take();
        let (kind, cause) = (&error["type"], &error["details"]["error_code"]);
        format!("{} {} {}", status(&failure), kind.as_str().unwrap(), cause.as_str().unwrap())
    });
    assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @"
    400 invalid_request_error invalid_request
    400 invalid_request_error unsupported
    413 request_too_large too_large
    408 timeout_error request_timeout
    401 authentication_error unauthenticated
    403 permission_error permission_denied
    404 not_found_error not_found
    405 invalid_request_error method_not_allowed
    404 not_found_error model_not_found
    400 invalid_request_error previous_response_not_found
    400 invalid_request_error conflict
    400 invalid_request_error session_in_doubt
    400 invalid_request_error price_unknown
    429 rate_limit_error enforced_spend_limit_reached
    400 invalid_request_error context_length_exceeded
    400 invalid_request_error content_filtered
    429 rate_limit_error rate_limited
    529 overloaded_error overloaded
    503 api_error unavailable
    503 api_error storage_unavailable
    502 api_error upstream_unreachable
    502 api_error upstream_failed
    502 api_error upstream_credentials
    502 api_error upstream_quota
    504 timeout_error upstream_timeout
    504 timeout_error deadline_exceeded
    502 api_error stream_cut
    502 api_error tool_failed
    400 invalid_request_error cancelled
    500 api_error internal
    ");
}

#[test]
fn an_error_has_the_shape_that_sdks_read() {
    let call = CallId::parse("hfc_0191e8a0-0000-7000-8000-000000000001").unwrap();
    let failure = Failure::invalid("max_tokens", "it must be at least 0");
    let body = String::from_utf8(render(&failure, Some(&call)).to_vec()).unwrap();
    assert_snapshot!(body, @r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: it must be at least 0","details":{"error_code":"invalid_request"}},"request_id":"hfc_0191e8a0-0000-7000-8000-000000000001"}"#);
    let named = Failure::invalid("model", "missing required parameter: 'model'");
    assert_eq!(rendered(&named)["error"]["message"], "missing required parameter: 'model'");
    assert!(rendered(&named).get("request_id").is_none());
}

#[test]
fn a_thread_that_can_not_be_is_named_as_sdks_know_it() {
    let code = |failure| rendered(&failure)["error"]["details"]["error_code"].take();
    let refused = Failure::unsupported("thread", "send the whole history");
    assert_eq!(code(refused), "thread_unsupported_request");
    assert_eq!(code(Failure::invalid("thread", "must be an object")), "invalid_request");
    assert_eq!(code(Failure::unsupported("container", "not here")), "unsupported");
}

fn said(kind: &str, code: &str, message: &str) -> String {
    let details = if code.is_empty() { Value::Null } else { json!({ "error_code": code }) };
    let error = json!({ "type": kind, "message": message, "details": details });
    json!({ "type": "error", "error": error, "request_id": "req_1" }).to_string()
}

#[test]
fn a_cause_counts_before_a_status() {
    const REQUEST: &str = "invalid_request_error";
    const RATE: &str = "rate_limit_error";
    let cases = [
        (429, said(RATE, "", "slow")),
        (429, said(RATE, "ramp_limit_exceeded", "slow")),
        (429, said(RATE, "enforced_spend_limit_reached", "tier")),
        (429, said(RATE, "contract_spend_limit_reached", "contract")),
        (402, said("billing_error", "linked_organization_spend_limit_reached", "linked")),
        (403, said("permission_error", "user_profile_not_billable", "profile")),
        (400, said(REQUEST, "", "Your credit balance is too low to access the API")),
        (402, "{}".to_owned()),
        (400, said(REQUEST, "", "prompt is too long: 200001 tokens > 200000 maximum")),
        (400, said(REQUEST, "", "input length and `max_tokens` exceed context limit: 1 + 2 > 2")),
        (400, said(REQUEST, "", "Output blocked by content filtering policy")),
        (400, said(REQUEST, "", "messages.0.content: Field required")),
        (400, said(REQUEST, "organization_on_hold", "held")),
        (401, said("authentication_error", "", "invalid x-api-key")),
        (403, said("permission_error", "", "no")),
        (404, said("not_found_error", "", "model: claude-zeta-9")),
        (409, said("conflict_error", "", "again")),
        (413, said("request_too_large", "", "large")),
        (500, said("api_error", "", "oops")),
        (504, said("timeout_error", "", "late")),
        (529, said("overloaded_error", "", "Overloaded")),
        (529, "<html>".to_owned()),
        (502, "<html>".to_owned()),
        (422, r#"{"detail":[{"loc":["body"]}]}"#.to_owned()),
        (500, r#"{"message":"plain"}"#.to_owned()),
        (400, r#"{"error":"only text"}"#.to_owned()),
    ];
    let lines = cases.iter().map(|(status, body)| {
        let failure = parse(*status, body.as_bytes());
        format!("{} {:?}: {}", failure.code, failure.billed, failure.message)
    });
    assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
    rate_limited No: the provider answered 429: slow
    rate_limited No: the provider answered 429: slow
    upstream_quota No: the provider answered 429 (its account is out of money or at a spend limit): tier
    upstream_quota No: the provider answered 429 (its account is out of money or at a spend limit): contract
    upstream_quota No: the provider answered 402 (its account is out of money or at a spend limit): linked
    upstream_quota No: the provider answered 403 (its account is out of money or at a spend limit): profile
    upstream_quota No: the provider answered 400 (its account is out of money or at a spend limit): Your credit balance is too low to access the API
    upstream_quota No: the provider answered 402 (its account is out of money or at a spend limit) without an error that can be read
    context_length_exceeded No: the provider answered 400: prompt is too long: 200001 tokens > 200000 maximum
    context_length_exceeded No: the provider answered 400: input length and `max_tokens` exceed context limit: 1 + 2 > 2
    content_filtered No: the provider answered 400: Output blocked by content filtering policy
    invalid_request No: the provider answered 400: messages.0.content: Field required
    invalid_request No: the provider answered 400: held
    upstream_credentials No: the provider answered 401: invalid x-api-key
    upstream_credentials No: the provider answered 403: no
    model_not_found No: the provider answered 404: model: claude-zeta-9
    invalid_request No: the provider answered 409: again
    too_large No: the provider answered 413: large
    upstream_failed No: the provider answered 500: oops
    upstream_timeout Unknown: the provider answered 504: late
    overloaded No: the provider answered 529: Overloaded
    overloaded Unknown: the provider answered 529 without an error that can be read
    upstream_failed Unknown: the provider answered 502 without an error that can be read
    invalid_request No: the provider answered 422: [{"loc":["body"]}]
    upstream_failed No: the provider answered 500: plain
    invalid_request No: the provider answered 400: only text
    "#);
}

#[test]
fn an_error_in_an_answer_may_have_cost_money() {
    let read = |body: String| {
        let failure = parse_in_answer(body.as_bytes()).unwrap();
        assert_eq!(failure.billed, Billed::Unknown);
        failure.code
    };
    assert_eq!(read(said("overloaded_error", "", "Overloaded")), ErrorCode::Overloaded);
    assert_eq!(read(said("rate_limit_error", "", "slow")), ErrorCode::UpstreamFailed);
    assert_eq!(read(said("api_error", "", "oops")), ErrorCode::UpstreamFailed);
    assert_eq!(read(said("invalid_request_error", "", "x")), ErrorCode::InvalidRequest);
    assert!(parse_in_answer(br#"{"type":"message","content":[]}"#).is_none());
    assert!(parse_in_answer(br#"{"type":"message_start","message":{}}"#).is_none());
    assert!(parse_in_answer(br#"{"type":"message","error":null}"#).is_none());
    assert!(parse_in_answer(b"{").is_none());
}

#[test]
fn a_long_message_is_cut() {
    let failure = parse(500, said("api_error", "", &"é".repeat(10_000)).as_bytes());
    assert!(failure.message.chars().count() < 2_100);
}
