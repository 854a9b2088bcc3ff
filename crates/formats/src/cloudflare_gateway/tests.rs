use super::*;

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn a_step_keeps_the_bytes_of_its_query() {
    let list = steps(&body(
        r#" [{"provider":"openai","endpoint":"chat/completions",
            "headers":{"Authorization":"Bearer x","cf-aig-max-attempts":2,"x-none":null},
            "config":{"requestTimeout":1000,"maxAttempts":3,"retryDelay":5,"backoff":"linear"},
            "query":{ "z":1e2, "model" : "gpt\u002d5","a":[ ] }},
           {"provider":"anthropic","endpoint":"v1/messages","query":{}}]"#,
    ));
    let list = list.unwrap();
    let [first, second] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!(&first.query[..], br#"{ "z":1e2, "model" : "gpt\u002d5","a":[ ] }"#);
    assert_eq!(first.headers["authorization"], "Bearer x");
    assert_eq!(first.headers["cf-aig-max-attempts"], "2");
    assert!(!first.headers.contains_key("x-none"));
    let config = StepConfig {
        request_timeout: Some(1_000),
        max_attempts: Some(3),
        retry_delay: Some(5),
        backoff: Some("linear".to_owned()),
    };
    assert_eq!(first.config, config);
    assert_eq!((second.endpoint.as_str(), &second.config), ("v1/messages", &StepConfig::default()));
}

#[test]
fn one_step_needs_no_list() {
    let one = body(r#"{"provider":"p","endpoint":"e","query":{}}"#);
    assert_eq!(steps(&one).unwrap().len(), 1);
}

#[test]
fn what_is_no_step_is_named() {
    for (text, param) in [
        (r#"[{"provider":"p","endpoint":"e","query":{}},{"provider":"p"}]"#, Some("[1]")),
        (r#"[{"provider":"p","endpoint":"e","query":[]}]"#, Some("[0].query")),
        (r#"[{"provider":1,"endpoint":"e","query":{}}]"#, Some("[0]")),
        ("[]", None),
        ("[", None),
        ("text", None),
    ] {
        let refused = steps(&body(text)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "{text}");
        assert_eq!(refused.param.as_deref(), param, "{text}");
    }
    let many = format!("[{}]", vec![r#"{"provider":"p","endpoint":"e","query":{}}"#; 17].join(","));
    assert!(steps(&Bytes::from(many)).is_err());
}

#[test]
fn a_model_gets_another_name_and_nothing_else_moves() {
    let odd = body(r#"{ "z":1e2,"model" : "gpt\u002d5" ,"n":null}"#);
    let renamed_body = renamed(&odd, |name| format!("openai/{name}")).unwrap();
    assert_eq!(&renamed_body[..], br#"{ "z":1e2,"model" : "openai/gpt-5" ,"n":null}"#);
    assert_eq!(renamed(&odd, str::to_owned).unwrap(), odd);
    let none = body(r#"{"a":1}"#);
    assert_eq!(renamed(&none, |_| "x".to_owned()).unwrap(), none);
    assert!(renamed(&body(r#"{"model":1}"#), str::to_owned).is_err());
    assert!(renamed(&body("[]"), str::to_owned).is_err());
}

#[test]
fn a_model_of_the_address_goes_into_the_body() {
    let bare = body(r#"{ "messages":[ 1 ]}"#);
    assert_eq!(
        &addressed(&bare, "az/g\"5").unwrap()[..],
        br#"{"model":"az/g\"5", "messages":[ 1 ]}"#
    );
    let other = body(r#"{"model" : "x", "n":1}"#);
    assert_eq!(&addressed(&other, "az/gpt").unwrap()[..], br#"{"model" : "az/gpt", "n":1}"#);
    assert!(addressed(&body("[]"), "a/m").is_err());
}
