use types::ErrorCode;

use super::*;

fn redactor(key: &str) -> Redactor {
    Redactor::new([&Secret::new(key)])
}

#[test]
fn a_key_is_replaced_wherever_it_stands() {
    let mut failure =
        Failure::invalid("headers.sk-1234567", "not Bearer sk-1234567, and not sk-1234567");
    redactor("sk-1234567").clean(&mut failure);
    assert_eq!(failure.message, "not Bearer [redacted], and not [redacted]");
    assert_eq!(failure.param.as_deref(), Some("headers.[redacted]"));
    let body = Bytes::from_static(b"sk-1234567 \xff sk-1234567 sk-123456");
    let clean = redactor("sk-1234567").clean_body(body);
    assert_eq!(clean.as_ref(), b"[redacted] \xff [redacted] sk-123456");
}

#[test]
fn what_does_not_hold_it_stays_as_it_came() {
    let body = Bytes::from_static(b"{\"a\": \"sk-123456\"}");
    for redactor in [redactor("sk-1234567"), redactor("a"), Redactor::new([])] {
        assert_eq!(redactor.clean_body(body.clone()), body);
        let mut failure = Failure::new(ErrorCode::RateLimited, "a rate");
        redactor.clean(&mut failure);
        assert_eq!(failure, Failure::new(ErrorCode::RateLimited, "a rate"));
    }
}

#[test]
fn a_key_is_found_behind_escapes() {
    let redactor = redactor("sk-1234567");
    let found = |body: &str| redactor.is_within(&serde_json::from_str(body).unwrap());
    assert!(found(r#"{"error":[{"message":"\u0073k-1234567"}]}"#));
    assert!(found(r#"{"sk-1234\u003567":1}"#));
    assert!(!found(r#"{"error":{"message":"sk-123456","n":1}}"#));
}

#[test]
fn of_several_keys_none_stays_though_one_is_a_part_of_another() {
    let (short, long) = (Secret::new("AKIDEXAMPLE"), Secret::new("AKIDEXAMPLE/and more"));
    let redactor = Redactor::new([&short, &long]);
    let body = Bytes::from_static(b"AKIDEXAMPLE/and more, AKIDEXAMPLE");
    assert_eq!(redactor.clean_body(body).as_ref(), b"[redacted], [redacted]");
    let mut failure = Failure::new(ErrorCode::RateLimited, "AKIDEXAMPLE/and more");
    redactor.clean(&mut failure);
    assert_eq!(failure.message, "[redacted]");
    assert!(redactor.is_in("x AKIDEXAMPLE"));
}
