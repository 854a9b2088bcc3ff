use std::sync::Arc;

use ::types::clock::{FakeClock, Timestamp};
use ::types::ids::Ids;
use insta::assert_snapshot;

use super::*;

fn details(details: &str) -> String {
    format!(
        r#"{{"error":{{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[{details}]}}}}"#
    )
}

#[test]
fn a_quota_of_the_minute_is_a_rate_and_one_of_the_day_is_money() {
    let quota = |id: &str| {
        details(&format!(
            r#"{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"quotaMetric":"m","quotaId":"{id}"}}]}},{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.074824224s"}}"#
        ))
    };
    let minute = quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier");
    let failure = parse(429, minute.as_bytes());
    assert_eq!(failure.code, ErrorCode::RateLimited);
    assert_eq!(failure.retry_after, Some(Duration::from_nanos(34_074_824_224)));
    let day = quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier");
    assert_eq!(parse(429, day.as_bytes()).code, ErrorCode::UpstreamQuota);
    assert_eq!(parse(429, details("").as_bytes()).code, ErrorCode::RateLimited);
    assert_eq!(parse(402, details("").as_bytes()).code, ErrorCode::UpstreamQuota);
    let prepaid = details("").replace("current quota", "prepayment credits");
    assert_eq!(parse(429, prepaid.as_bytes()).code, ErrorCode::UpstreamQuota);
}

#[test]
fn a_status_and_a_reason_say_what_a_caller_can_do() {
    let said = |http: u16, status: &str, message: &str, reason: &str| {
        let body = format!(
            r#"{{"error":{{"code":{http},"message":"{message}","status":"{status}","details":[{{"@type":"x","reason":"{reason}"}}]}}}}"#
        );
        let failure = parse(http, body.as_bytes());
        format!("{http} {status} {} {:?}", failure.code, failure.billed)
    };
    let too_long = "The input token count (1048577) exceeds the maximum number of tokens allowed";
    let shown = [
        said(400, "INVALID_ARGUMENT", "bad", ""),
        said(400, "INVALID_ARGUMENT", "API key not valid.", "API_KEY_INVALID"),
        said(400, "INVALID_ARGUMENT", too_long, ""),
        said(400, "FAILED_PRECONDITION", "Please enable billing on your project", ""),
        said(403, "PERMISSION_DENIED", "x", "BILLING_DISABLED"),
        said(403, "PERMISSION_DENIED", "x", ""),
        said(404, "NOT_FOUND", "models/x is not found", ""),
        said(500, "INTERNAL", "x", ""),
        said(503, "UNAVAILABLE", "The model is overloaded.", ""),
        said(504, "DEADLINE_EXCEEDED", "x", ""),
        said(413, "", "x", ""),
        said(418, "NEW", "x", ""),
    ];
    assert_snapshot!(shown.join("\n"), @r#"
    400 INVALID_ARGUMENT invalid_request No
    400 INVALID_ARGUMENT upstream_credentials No
    400 INVALID_ARGUMENT context_length_exceeded No
    400 FAILED_PRECONDITION upstream_quota No
    403 PERMISSION_DENIED upstream_quota No
    403 PERMISSION_DENIED upstream_credentials No
    404 NOT_FOUND model_not_found No
    500 INTERNAL upstream_failed No
    503 UNAVAILABLE overloaded No
    504 DEADLINE_EXCEEDED upstream_timeout Unknown
    413  too_large No
    418 NEW invalid_request No
    "#);
}

#[test]
fn an_error_is_read_in_a_list_and_without_words() {
    let list = br#"[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]"#;
    assert_eq!(parse(503, list).code, ErrorCode::Overloaded);
    assert_eq!(parse(502, b"<html>").billed, Billed::Unknown);
    assert!(parse_in_answer(b"{\"error\":null}").is_none());
    assert!(parse_in_answer(br#"{"candidates":[]}"#).is_none());
    assert!(parse_in_answer(b"[]").is_none());
    let failure = parse_in_answer(&details("").into_bytes()).unwrap();
    assert_eq!((failure.code, failure.billed), (ErrorCode::UpstreamFailed, Billed::Unknown));
}

#[test]
fn every_class_has_googles_words() {
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    let call = CallId::new(&ids);
    for code in ErrorCode::ALL {
        let failure = Failure::new(*code, "words").retry_after(Duration::from_millis(1_500));
        let body: Value = serde_json::from_slice(&render(&failure, Some(&call))).unwrap();
        let error = &body["error"];
        assert_eq!(error["code"], code.status());
        assert_eq!(error["details"][0]["reason"], code.name().to_ascii_uppercase());
        assert_eq!(error["details"][0]["metadata"]["call"], call.as_str());
        assert_eq!(error["details"][1]["retryDelay"], "1.500s");
        assert_ne!(error["status"], "UNKNOWN", "{code}");
    }
    let failure = Failure::invalid("contents", "missing");
    assert_snapshot!(std::str::from_utf8(&render(&failure, None)).unwrap(), @r#"{"error":{"code":400,"message":"missing","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"INVALID_REQUEST","domain":"holdfast","metadata":{}},{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"contents","description":"missing"}]}]}}"#);
}
