//! Errors of Bedrock, both ways.

use super::*;

fn class(status: u16, body: &str) -> (ErrorCode, Billed) {
    let failure = parse(status, "", body.as_bytes());
    (failure.code, failure.billed)
}

fn named(status: u16, name: &str, message: &str) -> (ErrorCode, Billed) {
    class(status, &json!({ "__type": name, "message": message }).to_string())
}

#[test]
fn errors_are_classed_by_their_name() {
    let cases = [
        (429, "ThrottlingException", ErrorCode::RateLimited),
        (400, "ServiceQuotaExceededException", ErrorCode::UpstreamQuota),
        (429, "ModelNotReadyException", ErrorCode::Unavailable),
        (503, "ServiceUnavailableException", ErrorCode::Overloaded),
        (500, "InternalServerException", ErrorCode::UpstreamFailed),
        (404, "ResourceNotFoundException", ErrorCode::ModelNotFound),
        (403, "AccessDeniedException", ErrorCode::UpstreamCredentials),
        (403, "InvalidSignatureException", ErrorCode::UpstreamCredentials),
        (400, "ValidationException", ErrorCode::InvalidRequest),
    ];
    for (status, name, code) in cases {
        assert_eq!(named(status, name, "x"), (code, Billed::No), "{name}");
        let long = format!("com.amazon.coral.service#{name}:http://internal/");
        assert_eq!(named(status, &long, "x").0, code, "{long}");
    }
    // The model ran: it may be billed whatever the status.
    for (status, name) in [(408, "ModelTimeoutException"), (424, "ModelErrorException")] {
        assert_eq!(named(status, name, "x").1, Billed::Unknown, "{name}");
    }
    assert_eq!(named(408, "ModelTimeoutException", "x").0, ErrorCode::UpstreamTimeout);
}

#[test]
fn a_name_in_the_headers_comes_first() {
    let body = br#"{"__type":"ValidationException","message":"x"}"#;
    let code = |name: &str| parse(400, name, body).code;
    assert_eq!(code("ServiceQuotaExceededException:http://x/#y"), ErrorCode::UpstreamQuota);
    assert_eq!(code("a#ThrottlingException"), ErrorCode::RateLimited);
    assert_eq!(code(""), ErrorCode::InvalidRequest);
}

#[test]
fn errors_without_a_name_are_classed_by_their_status() {
    let cases = [
        (400, ErrorCode::InvalidRequest),
        (401, ErrorCode::UpstreamCredentials),
        (403, ErrorCode::UpstreamCredentials),
        (404, ErrorCode::ModelNotFound),
        (408, ErrorCode::UpstreamTimeout),
        (413, ErrorCode::TooLarge),
        (418, ErrorCode::InvalidRequest),
        (424, ErrorCode::UpstreamFailed),
        (429, ErrorCode::RateLimited),
        (500, ErrorCode::UpstreamFailed),
        (503, ErrorCode::Overloaded),
    ];
    for (status, code) in cases {
        assert_eq!(class(status, r#"{"message":"x"}"#).0, code, "{status}");
        assert_eq!(class(status, "<html>").0, code, "{status}");
    }
    assert_eq!(class(429, r#"{"Message":"Model is not ready"}"#).0, ErrorCode::Unavailable);
}

#[test]
fn a_prompt_that_is_too_long_is_told_by_words() {
    let words = [
        "Input is too long for requested model.",
        "The model returned the following errors: prompt is too long: 205430 tokens > 200000",
        "The model returned the following errors: Too many input tokens",
        "This model's maximum context length is 32768 tokens.",
    ];
    for text in words {
        let (code, billed) = named(400, "ValidationException", text);
        assert_eq!((code, billed), (ErrorCode::ContextLengthExceeded, Billed::No), "{text}");
    }
    let text = "Output blocked by content filtering policy";
    assert_eq!(named(400, "ValidationException", text).0, ErrorCode::ContentFiltered);
    let text = "The maximum tokens you requested exceeds the model limit of 8192";
    assert_eq!(named(400, "ValidationException", text).0, ErrorCode::InvalidRequest);
}

#[test]
fn an_exception_of_a_stream_may_be_billed_and_is_no_limit_of_rate() {
    let exception = |name: &str| parse_exception(name, br#"{"message":"why"}"#);
    let failed = exception("throttlingException");
    assert_eq!((failed.code, failed.billed), (ErrorCode::UpstreamFailed, Billed::Unknown));
    assert!(failed.message.contains("why"), "{}", failed.message);
    assert_eq!(exception("modelStreamErrorException").code, ErrorCode::UpstreamFailed);
    assert_eq!(exception("serviceUnavailableException").code, ErrorCode::Overloaded);
    assert_eq!(parse_exception("", b"").code, ErrorCode::UpstreamFailed);
}

#[test]
fn every_class_is_said_and_read_back_as_a_failure_of_its_kind() {
    for code in ErrorCode::ALL {
        let failure = Failure { param: Some("x.y".into()), ..Failure::new(*code, "why") };
        let body = render(&failure);
        let read = parse(status(&failure), "", &body);
        assert!(read.message.contains("x.y: why"), "{code}: {}", read.message);
        let (name, status) = words(*code);
        assert!(body.starts_with(format!("{{\"__type\":\"{name}\"").as_bytes()));
        assert!((400..600).contains(&status));
    }
    // What an SDK sends again is what may help.
    let status_of = |code| status(&Failure::new(code, "x"));
    assert_eq!(status_of(ErrorCode::RateLimited), 429);
    assert_eq!(status_of(ErrorCode::BudgetExceeded), 400);
}
