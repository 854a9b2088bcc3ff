use ::types::ErrorCode;
use ::types::format::{Edits, Format};
use bytes::Bytes;

use super::*;
use crate::openai_chat::OPENAI_CHAT;

fn head(body: &str) -> ModelHead {
    read_head(body.as_bytes()).unwrap()
}

fn refused(body: &str) -> String {
    read_head(body.as_bytes()).unwrap_err().message
}

/// Tokens that the bound adds to the length of the body.
fn added(body: &str) -> u64 {
    head(body).body_bytes - body.len() as u64
}

#[test]
fn every_shape_of_input_is_counted_as_texts() {
    for (input, texts) in
        [(r#""a""#, 1), (r#"["a","b","c"]"#, 3), ("[1,2,3]", 1), ("[[1,2],[3]]", 2), ("[]", 0)]
    {
        let body = format!(r#"{{"model":"m","input":{input}}}"#);
        assert_eq!(added(&body), texts * MARKS_MAX, "{input}");
        assert_eq!(head(&body).surcharge, None, "{input}");
        let body = format!(r#"{{"model":"m","input":{input},"input_type":"query"}}"#);
        assert_eq!(added(&body), texts * INSTRUCTION_MAX, "{input}");
    }
}

#[test]
fn only_the_input_is_paid() {
    let head = head(r#"{"model":"p/m","input":"a","dimensions":256,"stream":true}"#);
    assert_eq!((head.model.as_str(), head.output_cap, head.choices), ("p/m", Some(0), 1));
    assert!(!head.stream);
}

#[test]
fn what_may_cost_more_than_its_text_has_no_bound() {
    for (more, named) in [
        (r#""input":[{"image":"https://x/y.png"}]"#, "input"),
        (r#""input":{"text":"a"}"#, "input"),
        (r#""input":[["a","b"]]"#, "input"),
        (r#""input":"a","instruction":"again and again""#, "unknown fields"),
        (r#""input":"a","messages":[]"#, "unknown fields"),
        (r#""input":"a","provider":{"order":["x"]}"#, "provider"),
    ] {
        assert_eq!(head(&format!(r#"{{"model":"m",{more}}}"#)).surcharge, Some(named), "{more}");
    }
    let usual = r#"{"model":"m","input":"a","user":"u","encoding_format":"base64","odd":null}"#;
    assert_eq!(head(usual).surcharge, None);
}

#[test]
fn what_is_no_request_is_named() {
    insta::assert_snapshot!(refused(r#"{"model":"m"}"#), @"missing required parameter: 'input'");
    insta::assert_snapshot!(refused(r#"{"model":"m","input":7}"#), @"invalid type for 'input': expected a string, an array of strings or an array of tokens");
    insta::assert_snapshot!(refused(r#"{"input":"a"}"#), @"missing required parameter: 'model'");
    insta::assert_snapshot!(refused(r#"{"model":"m","input":"a","Input":"b"}"#), @"'Input' is no field, and some providers take it for 'input': write that");
    insta::assert_snapshot!(refused(r#"{"model":"m","input":"a","input":"b"}"#), @"'input' is given twice");
}

#[test]
fn an_edit_replaces_the_model_and_nothing_else() {
    let raw = r#"{ "input" : ["é", "\u00e9"],"x":1e2, "model": "p/m" ,"encoding_format":"base64"}"#;
    let edits = Edits { model: "m", ..Edits::default() };
    let patched = OPENAI_CHAT.patch_request(&Bytes::from(raw), &head(raw), &edits);
    assert_eq!(patched, raw.replace("p/m", "m"));
}

#[test]
fn a_model_of_ours_is_asked_texts() {
    let read = |body: &str| ask(body.as_bytes()).unwrap();
    let one = read(r#"{"model":"m","input":"a b"}"#);
    assert_eq!(one, Ask { texts: vec!["a b".into()], dimensions: None, encoding: Encoding::Float });
    let many = read(r#"{"model":"m","input":["a","b"],"dimensions":2,"encoding_format":"base64"}"#);
    let texts = vec!["a".into(), "b".into()];
    assert_eq!(many, Ask { texts, dimensions: Some(2), encoding: Encoding::Base64 });
}

#[test]
fn what_a_model_of_ours_cannot_be_asked_is_named() {
    let refused = |rest: &str| {
        let failure = ask(format!(r#"{{"model":"m",{rest}}}"#).as_bytes()).unwrap_err();
        (failure.param.unwrap_or_default().to_string(), failure.code)
    };
    let invalid = |param: &str| (param.to_owned(), ErrorCode::InvalidRequest);
    assert_eq!(refused(r#""input":"""#), invalid("input"));
    assert_eq!(refused(r#""input":["a",""]"#), invalid("input"));
    assert_eq!(refused(r#""input":[]"#), invalid("input"));
    assert_eq!(refused(r#""input":[1,2]"#), ("input".to_owned(), ErrorCode::Unsupported));
    assert_eq!(refused(r#""input":[[1,2]]"#), ("input".to_owned(), ErrorCode::Unsupported));
    assert_eq!(refused(r#""input":"a","dimensions":0"#), invalid("dimensions"));
    assert_eq!(refused(r#""input":"a","encoding_format":"int8""#), invalid("encoding_format"));
    let many = vec!["\"a\""; TEXTS_MAX];
    let input = |texts: &[&str]| format!(r#""input":[{}]"#, texts.join(","));
    assert!(ask(format!(r#"{{"model":"m",{}}}"#, input(&many)).as_bytes()).is_ok());
    assert_eq!(refused(&input(&[many.as_slice(), &["\"a\""]].concat())), invalid("input"));
}
