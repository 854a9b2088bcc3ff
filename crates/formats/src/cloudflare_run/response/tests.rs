use ::types::format::WriteResponse;
use ::types::outcome::Stop;
use ::types::usage::Usage;
use insta::assert_snapshot;

use super::*;

pub(in crate::cloudflare_run) fn text(text: &str) -> Delta {
    Delta::Text { text: text.to_owned() }
}

pub(in crate::cloudflare_run) fn call(index: u32, name: &str, pieces: &[&str]) -> Vec<Delta> {
    let start = Delta::ToolCallStart { index, id: format!("call_{index}"), name: name.to_owned() };
    let pieces = pieces.iter().map(|json| (*json).to_owned());
    let pieces = pieces.map(|json| Delta::ToolCallArguments { index, json });
    std::iter::once(start).chain(pieces).collect()
}

pub(in crate::cloudflare_run) fn ended(stop: Stop) -> Finish {
    let usage = Usage { input_tokens: 3, cached_tokens: 1, output_tokens: 2, ..Usage::default() };
    Finish { stop, usage: Some(usage), ..Finish::default() }
}

fn written(json: bool, deltas: &[Delta], finish: &Finish) -> String {
    let mut writer = Writer::new(json);
    let mut out = BytesMut::new();
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    assert!(out.is_empty(), "a JSON answer is written at its end");
    writer.finish(finish, "holdfast-cost=1", &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn text_comes_in_the_envelope_with_its_usage() {
    assert_snapshot!(written(false, &[text("Hi"), text(" \"you\"")], &ended(Stop::End)), @r#"{"result":{"response":"Hi \"you\"","finish_reason":"stop","usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}},"success":true,"errors":[],"messages":[]}"#);
}

#[test]
fn calls_are_whole_objects() {
    let mut deltas = call(0, "add", &["{\"a\":", "1}"]);
    deltas.extend(call(1, "now", &[]));
    deltas.extend(call(2, "odd", &["[1"]));
    let finish = Finish { stop: Stop::ToolCalls, ..Finish::default() };
    assert_snapshot!(written(false, &deltas, &finish), @r#"{"result":{"response":null,"tool_calls":[{"index":0,"id":"call_0","name":"add","arguments":{"a":1}},{"index":1,"id":"call_1","name":"now","arguments":{}},{"index":2,"id":"call_2","name":"odd","arguments":"[1"}],"finish_reason":"tool_calls"},"success":true,"errors":[],"messages":[]}"#);
}

#[test]
fn what_a_schema_shaped_is_json_and_not_text() {
    let finish = Finish::default();
    let json = written(true, &[text("{\"a\":"), text("[1]}")], &finish);
    assert!(json.contains(r#""response":{"a":[1]}"#), "{json}");
    let cut = written(true, &[text("{\"a\":")], &finish);
    assert!(cut.contains(r#""response":"{\"a\":""#), "{cut}");
    let plain = written(false, &[text("{\"a\":1}")], &finish);
    assert!(plain.contains(r#""response":"{\"a\":1}""#), "{plain}");
}

#[test]
fn reasoning_stands_beside_the_text_and_a_refusal_is_text() {
    let deltas =
        [Delta::Reasoning { text: "hm".to_owned() }, Delta::Refusal { text: "No.".to_owned() }];
    let shown = written(false, &deltas, &Finish::default());
    assert!(
        shown.starts_with(r#"{"result":{"response":"No.","reasoning_content":"hm""#),
        "{shown}"
    );
}
