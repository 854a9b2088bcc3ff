use super::*;

fn head(uri: &str) -> Parts {
    Request::builder().uri(uri).body(()).unwrap().into_parts().0
}

#[test]
fn the_path_names_the_model_and_what_is_asked() {
    for (path, model, what) in [
        ("/v1beta/models/local/demo:generateContent", "local/demo", What::Generate),
        ("/v1beta/models/local%2Fdemo:streamGenerateContent", "local%2Fdemo", What::Stream),
        ("/v1/models/p/qwen3:8b:countTokens", "p/qwen3:8b", What::Count),
    ] {
        assert_eq!(asked(path), Some((model, what)), "{path}");
        assert!(is_path(path));
    }
    for path in
        ["/v1/models/p/qwen3:8b", "/v1/models", "/v1/chat/completions", "/v1/models/:countTokens"]
    {
        assert!(!is_path(path), "{path}");
    }
    assert!(is_path("/v1beta/models"));
}

#[test]
fn a_request_takes_from_the_path_what_its_body_does_not_say() {
    let body = || Bytes::from_static(br#"{"contents":[]}"#);
    let call =
        read(&head("/v1beta/models/a%2Fb%20c:streamGenerateContent?alt=sse"), body()).unwrap();
    assert_eq!((call.head.model.as_str(), call.head.stream), ("a/b c", true));
    let call = read(&head("/v1/models/a/b:generateContent"), body()).unwrap();
    assert_eq!((call.head.model.as_str(), call.head.stream), ("a/b", false));
    let failure = read(&head("/v1beta/models/a"), body()).unwrap_err();
    assert_eq!(failure.code, ErrorCode::NotFound);
}

#[test]
fn parameters_are_found_by_their_names() {
    let query = Some("alt=sse&key=hf%5Fa&keys=x");
    assert_eq!(parameter(query, "alt").as_deref(), Some("sse"));
    assert_eq!(parameter(query, "key").as_deref(), Some("hf_a"));
    assert_eq!(parameter(query, "al"), None);
    assert_eq!(parameter(None, "key"), None);
}
