use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn time_and_tries_are_read() {
    let asked = read(&headers(&[
        (REQUEST_TIMEOUT, "1500"),
        (MAX_ATTEMPTS, "5"),
        (RETRY_DELAY, "0"),
        (BACKOFF, "constant"),
        (EVENT_ID, "mine"),
    ]));
    let asked = asked.unwrap();
    assert_eq!(asked.request_timeout, Some(Duration::from_millis(1_500)));
    let expected = AttemptsAsk {
        same_target_max: Some(5),
        backoff: Some(Duration::ZERO),
        growth: Some(Growth::Constant),
        hold: false,
    };
    assert_eq!(asked.attempts, expected);
    assert_eq!(asked.event_id.unwrap(), "mine");
    assert_eq!(read(&HeaderMap::new()).unwrap(), Asked::default());
}

#[test]
fn each_wrong_value_is_a_400_that_names_its_header() {
    let six = r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}"#;
    for (name, value) in [
        (REQUEST_TIMEOUT, "0"),
        (REQUEST_TIMEOUT, "soon"),
        (MAX_ATTEMPTS, "0"),
        (MAX_ATTEMPTS, "6"),
        (RETRY_DELAY, "5001"),
        (RETRY_DELAY, "-1"),
        (BACKOFF, "random"),
        (METADATA, six),
        (METADATA, r#"{"a":{"b":1}}"#),
        (METADATA, "[]"),
        (METADATA, "text"),
        (CUSTOM_COST, r#"{"per_token_in":-1}"#),
        (CUSTOM_COST, r#"{"other":1}"#),
        ("cf-aig-cache-ttl", "59"),
        ("cf-cache-ttl", "2678401"),
        ("cf-aig-skip-cache", "maybe"),
        ("cf-aig-collect-log", ""),
        ("cf-aig-zdr", "on"),
        ("cf-aig-byok-alias", "mine"),
        ("cf-aig-session-id", ""),
        ("cf-aig-session-id", "sess_00000000000000000000000000"),
        ("cf-aig-turn-id", &"t".repeat(129)),
        ("cf-aig-allowed-models", ","),
        ("cf-aig-allowed-providers", &"a,".repeat(33)),
        ("cf-aig-no-session-affinity", "on"),
        ("cf-aig-otel-trace-id", "0af7"),
        ("cf-aig-otel-trace-id", &"0".repeat(32)),
        ("cf-aig-otel-parent-span-id", "b7ad6b7169203331"),
    ] {
        let refused = read(&headers(&[(name, value)])).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some(name), "{value}");
    }
}

#[test]
fn what_does_nothing_is_taken() {
    let taken = read(&headers(&[
        (METADATA, r#"{"team":"ü","n":1,"b":true,"x":null,"y":2.5}"#),
        (CUSTOM_COST, r#"{"per_token_in":0.1,"per_token_out":0}"#),
        ("cf-aig-cache-ttl", "3600"),
        ("cf-aig-cache-key", "mine"),
        ("cf-aig-skip-cache", "true"),
        ("cf-aig-session-id", "s"),
        ("cf-aig-unknown", "y"),
    ]));
    assert_eq!(taken.unwrap(), Asked::default());
}

#[test]
fn a_trace_is_joined_with_its_span_or_without() {
    let trace = ("cf-aig-otel-trace-id", "0AF7651916cd43dd8448eb211c80319c");
    let span = ("cf-aig-otel-parent-span-id", "b7ad6b7169203331");
    let joined = read(&headers(&[trace, span])).unwrap().trace.unwrap();
    assert_eq!((joined.trace[0], joined.span[0], joined.is_sampled), (0x0a, 0xb7, true));
    let alone = read(&headers(&[trace])).unwrap().trace.unwrap();
    assert_eq!((alone.trace, alone.span), (joined.trace, [0; 8]));
}

#[test]
fn a_gateways_key_is_the_key_and_a_providers_goes_nowhere() {
    let mut both = headers(&[
        (AUTHORIZATION_HERE, "Bearer hf_ours"),
        ("authorization", "Bearer sk-theirs"),
        ("x-api-key", "sk-theirs"),
        ("x-goog-api-key", "theirs"),
    ]);
    take_key(&mut both);
    assert_eq!(both, headers(&[("authorization", "Bearer hf_ours")]));
    let mut one = headers(&[("x-api-key", "hf_ours")]);
    take_key(&mut one);
    assert_eq!(one, headers(&[("x-api-key", "hf_ours")]));
}

#[test]
fn what_stands_closer_counts() {
    let far = read(&headers(&[(REQUEST_TIMEOUT, "1"), (MAX_ATTEMPTS, "2")])).unwrap();
    let near = read(&headers(&[(MAX_ATTEMPTS, "3"), (BACKOFF, "linear")])).unwrap();
    let both = far.overlaid(near);
    assert_eq!(both.request_timeout, Some(Duration::from_millis(1)));
    assert_eq!(both.attempts.same_target_max, Some(3));
    assert_eq!(both.attempts.growth, Some(Growth::Linear));
}

#[test]
fn an_answer_says_what_is_true_of_it() {
    let mut response = Response::new(Body::whole("x"));
    response.headers_mut().insert(CALL_ID, HeaderValue::from_static("hfc_1"));
    let model = HeaderValue::from_static("openai/a/b");
    response.headers_mut().insert("holdfast-model", model);
    Asked { event_id: Some(HeaderValue::from_static("e")), ..Asked::default() }
        .describe(&mut response, 2);
    let said = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(said("cf-aig-log-id"), Some("hfc_1"));
    assert_eq!(said("cf-aig-step"), Some("2"));
    assert_eq!(said("cf-aig-event-id"), Some("e"));
    assert_eq!((said("cf-aig-provider"), said("cf-aig-model")), (Some("openai"), Some("a/b")));
    assert_eq!(said("cf-aig-cache-status"), None);
}
