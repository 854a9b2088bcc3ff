use types::ErrorCode;

use super::*;

fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn headers_of_the_format_are_kept_and_no_others() {
    let sent = [
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "b-1,b-2"),
        ("x-api-key", "hf_secret"),
        ("anthropic-beta", "b-3 ;x"),
        ("authorization", "Bearer hf_secret"),
    ];
    let wire = wire(&head("/v1/messages?beta=true", &sent)).unwrap();
    let kept = [
        ("anthropic-version", "2023-06-01".to_owned()),
        ("anthropic-beta", "b-1,b-2,b-3 ;x".to_owned()),
    ];
    assert_eq!(wire.headers, kept);
    assert_eq!(wire.query, Some("beta=true"));
}

#[test]
fn only_the_one_query_goes_on() {
    let query = |uri| wire(&head(uri, &[])).unwrap().query;
    assert_eq!(query("/v1/messages"), None);
    assert_eq!(query("/v1/messages?beta=false"), None);
    assert_eq!(query("/v1/messages?x=1&beta=true"), Some("beta=true"));
}

#[test]
fn an_answer_needs_a_cap_as_it_does_at_anthropic() {
    let read =
        |body: &'static str| read(&head("/v1/messages", &[]), Bytes::from_static(body.as_bytes()));
    let failure = read(r#"{"model":"m","messages":[]}"#).unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidRequest);
    let body = ERRORS.render_error(&failure, None);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["message"], "max_tokens: Field required");
    // Zero warms the prompt's cache.
    assert!(read(r#"{"model":"m","messages":[],"max_tokens":0}"#).is_ok());
}

#[test]
fn paths_of_this_api_are_known_wherever_a_base_url_ends() {
    for path in ["/v1/messages", "/messages", "/v1/v1/messages/count_tokens", "/v1/messages/"] {
        assert!(is_path(path), "{path}");
    }
    for path in ["/v1/responses", "/v1/messages2", "/", "/v1/chat/messages"] {
        assert!(!is_path(path), "{path}");
    }
}
