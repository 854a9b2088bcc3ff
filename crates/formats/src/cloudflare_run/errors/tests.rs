use ::types::clock::{FakeClock, Timestamp};
use ::types::ids::Ids;
use insta::assert_snapshot;

use super::*;

#[test]
fn an_error_has_cloudflares_envelope_our_name_and_the_calls_id() {
    let clock = std::sync::Arc::new(FakeClock::new(Timestamp(0)));
    let call = CallId::new(&Ids::seeded(clock, 1));
    let failure = Failure::invalid("messages[0].role", "wrong role");
    let body: Value = serde_json::from_slice(&render(&failure, Some(&call))).unwrap();
    let mut shown = body.clone();
    assert_eq!(body["errors"][0]["holdfast"]["call_id"], call.as_str());
    shown["errors"][0]["holdfast"]["call_id"] = "C".into();
    assert_snapshot!(shown, @r#"{"result":null,"success":false,"errors":[{"code":5006,"message":"wrong role","holdfast":{"code":"invalid_request","call_id":"C"},"source":{"pointer":"/messages/0/role"}}],"messages":[]}"#);
}

#[test]
fn every_class_has_a_number_and_money_is_not_the_providers_rate() {
    for code in ErrorCode::ALL {
        assert!(number(*code) >= 3_000, "{code}");
    }
    assert_ne!(number(ErrorCode::BudgetExceeded), number(ErrorCode::RateLimited));
    assert_eq!(number(ErrorCode::ModelNotFound), 5007);
}
