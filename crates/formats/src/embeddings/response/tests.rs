use std::collections::VecDeque;

use ::types::ErrorCode;
use ::types::error::Billed;
use ::types::format::ReadResponse;
use ::types::outcome::OutcomeEvent;
use bytes::Bytes;

use super::*;

fn events(chunks: &[&str]) -> Vec<OutcomeEvent> {
    let (mut reader, mut events) = (reader(ReadOptions::default()), VecDeque::new());
    for chunk in chunks {
        reader.push(Bytes::copy_from_slice(chunk.as_bytes()), &mut events);
    }
    reader.end(&mut events);
    events.into()
}

fn failure(body: &str) -> Failure {
    match events(&[body]).as_slice() {
        [OutcomeEvent::Failed(failure)] => failure.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_passes_byte_for_byte_and_its_usage_is_read() {
    let body = r#"{"object":"list", "data":[{"embedding":"AACAPw==","index":0, "odd":1e400}],"model":"text-embedding-3-small","usage":{"prompt_tokens":7,"total_tokens":7}}"#;
    let (begin, end) = body.split_at(40);
    let events = events(&[begin, end]);
    let [OutcomeEvent::Frame { raw: Some(raw), delta: None }, OutcomeEvent::Finish(finish)] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!(raw, body.as_bytes());
    assert_eq!(finish.usage, Some(Usage { input_tokens: 7, ..Usage::default() }));
    assert_eq!(finish.model_version.as_deref(), Some("text-embedding-3-small"));
}

#[test]
fn a_total_is_the_usage_where_nothing_else_is_said_and_nothing_is_no_usage() {
    let usage = |usage: &str| {
        let body = format!(r#"{{"data":[]{usage}}}"#);
        match events(&[&body]).last() {
            Some(OutcomeEvent::Finish(finish)) => finish.usage.map(|usage| usage.input_tokens),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(usage(r#","usage":{"total_tokens":5}"#), Some(5));
    assert_eq!(usage(r#","usage":{"prompt_tokens":4,"total_tokens":5}"#), Some(4));
    assert_eq!(usage(r#","usage":{}"#), None);
    assert_eq!(usage(r#","usage":null"#), None);
    assert_eq!(usage(""), None);
}

#[test]
fn what_is_no_list_of_vectors_may_have_been_billed() {
    for (body, code) in [
        (r#"{"data":[{"embedding":[0.1,"#, ErrorCode::StreamCut),
        (r#"{"data":null}"#, ErrorCode::UpstreamFailed),
        (r#"{"choices":[]}"#, ErrorCode::UpstreamFailed),
        ("[]", ErrorCode::UpstreamFailed),
        (r#"{"error":{"message":"out of memory"}}"#, ErrorCode::UpstreamFailed),
    ] {
        let failure = failure(body);
        assert_eq!((failure.code, failure.billed), (code, Billed::Unknown), "{body}");
    }
    let told = failure(r#"{"error":{"message":"out of memory"}}"#).message;
    assert!(told.contains("out of memory"), "{told}");
}

#[test]
fn an_answer_of_ours_is_written_as_the_api_has_it() {
    let numbers = [1.0, -0.25, 0.1, 3.0e-8];
    let vectors = Vectors { numbers: &numbers, dimensions: 2, tokens: 3 };
    let text =
        |encoding| String::from_utf8(render("local/\"m\"", vectors, encoding).into()).unwrap();
    insta::assert_snapshot!(text(Encoding::Float), @r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,-0.25]},{"object":"embedding","index":1,"embedding":[0.1,0.00000003]}],"model":"local/\"m\"","usage":{"prompt_tokens":3,"total_tokens":3}}"#);
    insta::assert_snapshot!(text(Encoding::Base64), @r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAgL4="},{"object":"embedding","index":1,"embedding":"zczMPVnZADM="}],"model":"local/\"m\"","usage":{"prompt_tokens":3,"total_tokens":3}}"#);
}

#[test]
fn written_numbers_read_back_as_the_same_bits() {
    let numbers: Vec<f32> = [0x3f80_0001_u32, 0x0000_0001, 0x7f7f_ffff, 0xbeaa_aaab, 0x8000_0000]
        .map(f32::from_bits)
        .into();
    let vectors = Vectors { numbers: &numbers, dimensions: numbers.len(), tokens: 1 };
    let read: Value = serde_json::from_slice(&render("m", vectors, Encoding::Float)).unwrap();
    let read: Vec<f32> = serde_json::from_value(read["data"][0]["embedding"].clone()).unwrap();
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read), bits(&numbers));
}
