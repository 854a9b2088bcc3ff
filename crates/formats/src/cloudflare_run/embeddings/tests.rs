use super::*;

#[test]
fn texts_are_asked_for_as_embeddings() {
    let asked = ask("m/é", br#"{"text":["a","b\u00e9"],"pooling":"mean","sparkle":1}"#).unwrap();
    let body = std::str::from_utf8(&asked.body).unwrap();
    assert_eq!(body, r#"{"model":"m/é","input":["a","b\u00e9"],"encoding_format":"float"}"#);
    assert_eq!(asked.dropped, ["sparkle"]);
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    for (body, field) in [
        (r#"{"text":1}"#, "text"),
        (r"{}", "text"),
        (r#"{"text":"a","pooling":"cls"}"#, "pooling"),
        (r#"{"text":"a","Text":"b"}"#, "Text"),
    ] {
        let refused = ask("m", body.as_bytes()).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some(field), "{body}");
    }
}

#[test]
fn vectors_keep_their_digits_and_their_order() {
    let body = br#"{"object":"list","data":[
        {"index":1,"embedding":[1e-7, 2]},
        {"index":0,"embedding":[0.10000000000000001,-3.0]}
    ],"usage":{"prompt_tokens":4,"total_tokens":4}}"#;
    let answer = answer(body).unwrap();
    assert_eq!(
        std::str::from_utf8(&answer).unwrap(),
        r#"{"result":{"shape":[2,2],"data":[[0.10000000000000001,-3.0],[1e-7, 2]],"usage":{"prompt_tokens":4,"total_tokens":4}},"success":true,"errors":[],"messages":[]}"#
    );
}

#[test]
fn an_answer_without_vectors_fails() {
    for body in [
        "{}",
        r#"{"data":[{"embedding":"AAAA"}]}"#,
        r#"{"data":[{"embedding":[1,2]},{"index":1,"embedding":[1]}]}"#,
    ] {
        assert_eq!(answer(body.as_bytes()).unwrap_err().code, ErrorCode::UpstreamFailed, "{body}");
    }
    assert!(answer(br#"{"data":[]}"#).unwrap().starts_with(br#"{"result":{"shape":[0,0]"#));
}
