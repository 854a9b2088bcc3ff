use std::collections::VecDeque;
use std::sync::Arc;

use ::types::ErrorCode;
use ::types::clock::{FakeClock, Timestamp};
use ::types::error::Billed;
use ::types::format::ReadResponse;
use ::types::ids::Ids;
use ::types::outcome::OutcomeEvent;
use ::types::usage::Usage;
use bytes::Bytes;
use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

const ANSWER: &str = r#"{ "id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-5-5-20260901","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"redacted_thinking","data":"aGlkZGVu"},{"type":"text","text":"caf\u00e9","citations":null},{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"x"}},{"type":"tool_use","id":"toolu_a","name":"f","input":{"z": 9007199254740993, "a": 1e2}},{"type":"tool_use","id":"toolu_b","name":"now","input":{ }}],"stop_reason":"tool_use","stop_sequence":null,"stop_details":null,"usage":{"input_tokens":100,"cache_creation_input_tokens":300,"cache_read_input_tokens":600,"output_tokens":50,"output_tokens_details":{"thinking_tokens":20}},"mystery":1}"#;

fn read_as(chunks: &[&[u8]], options: ReadOptions) -> Vec<OutcomeEvent> {
    let mut reader = whole::Reader::new(options, read);
    let mut events = VecDeque::new();
    chunks.iter().for_each(|chunk| reader.push(Bytes::copy_from_slice(chunk), &mut events));
    reader.end(&mut events);
    reader.end(&mut events);
    events.into()
}

const PASS: ReadOptions = ReadOptions {
    stream: false,
    decode: false,
    withhold_usage: false,
    operation: Operation::Chat,
    hold_preamble: false,
};
const DECODE: ReadOptions = ReadOptions { decode: true, ..PASS };

fn failure(body: &str, options: ReadOptions) -> Failure {
    match read_as(&[body.as_bytes()], options).as_slice() {
        [OutcomeEvent::Failed(failure)] => (**failure).clone(),
        other => panic!("{other:?}"),
    }
}

fn finished(events: &[OutcomeEvent]) -> &Finish {
    match events.last().unwrap() {
        OutcomeEvent::Finish(finish) => finish,
        other => panic!("{other:?}"),
    }
}

fn deltas(events: &[OutcomeEvent]) -> Vec<Delta> {
    let delta = |event: &OutcomeEvent| match event {
        OutcomeEvent::Frame { raw: None, delta } => delta.clone(),
        _ => None,
    };
    events.iter().filter_map(delta).collect()
}

#[test]
fn a_body_is_passed_on_as_it_came_and_counted() {
    for cut in 0..=ANSWER.len() {
        let (left, right) = ANSWER.as_bytes().split_at(cut);
        let events = read_as(&[left, right], PASS);
        let [OutcomeEvent::Frame { raw: Some(raw), .. }, OutcomeEvent::Finish(finish)] =
            &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(raw, ANSWER);
        let usage = Usage {
            input_tokens: 1_000,
            cached_tokens: 600,
            cache_write_tokens: 300,
            cache_write_1h_tokens: 0,
            output_tokens: 50,
            reasoning_tokens: 20,
            ..Usage::default()
        };
        let expected = Finish {
            stop: Stop::ToolCalls,
            usage: Some(usage),
            model_version: Some("claude-sonnet-5-5-20260901".to_owned()),
            ..Finish::default()
        };
        assert_eq!(*finish, expected);
    }
}

#[test]
fn a_body_is_taken_apart_where_deltas_are_wanted() {
    let events = read_as(&[ANSWER.as_bytes()], DECODE);
    let shown = deltas(&events);
    let shown = shown.iter().map(|delta| serde_json::to_string(delta).unwrap());
    assert_snapshot!(shown.collect::<Vec<_>>().join("\n"), @r#"
    {"type":"reasoning","text":"hm"}
    {"type":"reasoning_signature","signature":"c2ln","redacted":false,"origin":"anthropic_messages"}
    {"type":"reasoning_signature","signature":"aGlkZGVu","redacted":true,"origin":"anthropic_messages"}
    {"type":"text","text":"café"}
    {"type":"tool_call_start","index":0,"id":"toolu_a","name":"f"}
    {"type":"tool_call_arguments","index":0,"json":"{\"z\": 9007199254740993, \"a\": 1e2}"}
    {"type":"tool_call_start","index":1,"id":"toolu_b","name":"now"}
    "#);
    assert_eq!(finished(&events).stop, Stop::ToolCalls);
}

#[test]
fn the_stop_sequence_is_told() {
    let body = ANSWER.replace(
        "\"tool_use\",\"stop_sequence\":null",
        "\"stop_sequence\",\"stop_sequence\":\"#\"",
    );
    let events = read_as(&[body.as_bytes()], PASS);
    let finish = finished(&events);
    assert_eq!((finish.stop, finish.stop_text.as_deref()), (Stop::End, Some("#")));
}

#[test]
fn a_body_that_ends_early_is_cut() {
    // A number that ends in its exponent is malformed wherever it stands.
    let answer = ANSWER.replace("1e2", "12");
    for cut in 0..answer.len() {
        for options in [PASS, DECODE] {
            let failure = failure(&answer[..cut], options);
            assert_eq!(failure.code, ErrorCode::StreamCut, "cut at {cut}");
            assert_eq!(failure.billed, Billed::Unknown);
        }
    }
}

#[test]
fn what_is_no_message_is_a_failure() {
    let bodies = [
        "7",
        "<html>",
        "{}",
        r#"{"type":"completion","content":[]}"#,
        r#"{"type":"message","content":null}"#,
        r#"{"id":"c","object":"chat.completion","choices":[]}"#,
    ];
    for body in bodies {
        for options in [PASS, DECODE] {
            let failure = failure(body, options);
            assert_eq!(failure.code, ErrorCode::UpstreamFailed, "{body}");
            assert_eq!(failure.billed, Billed::Unknown);
        }
    }
    let said = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    assert_eq!(failure(said, PASS).code, ErrorCode::Overloaded);
    let nameless = r#"{"type":"message","content":[{"type":"tool_use","id":"t","input":{}}]}"#;
    assert_eq!(failure(nameless, DECODE).code, ErrorCode::UpstreamFailed);
    let paused = ANSWER.replace("\"stop_reason\":\"tool_use\"", "\"stop_reason\":\"pause_turn\"");
    assert_eq!(failure(&paused, DECODE).code, ErrorCode::UpstreamFailed);
    assert_eq!(finished(&read_as(&[paused.as_bytes()], PASS)).stop, Stop::End);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let chunk = vec![b' '; 16 * 1024 * 1024];
    let events = read_as(&[&chunk[..]; 5], PASS);
    let [OutcomeEvent::Failed(failure)] = &events[..] else { panic!() };
    assert_eq!(failure.code, ErrorCode::UpstreamFailed);
}

#[test]
fn a_count_of_tokens_passes_and_costs_nothing() {
    let counting = ReadOptions { operation: Operation::CountTokens, ..PASS };
    let body = "{ \"input_tokens\": 2095, \"context_management\": null }";
    let events = read_as(&[body.as_bytes()], counting);
    let [OutcomeEvent::Frame { raw: Some(raw), delta: None }, OutcomeEvent::Finish(finish)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(raw, body);
    assert_eq!(*finish, Finish::default());
    assert_eq!(failure("{\"input_tokens\":", counting).code, ErrorCode::StreamCut);
    assert_eq!(failure(ANSWER, counting).code, ErrorCode::UpstreamFailed);
}

fn written(deltas: &[Delta], finish: &Finish) -> String {
    let mut writer = Writer::new(WriteOptions {
        stream: false,
        include_usage: true,
        id: "msg_1".to_owned(),
        model: "local/demo".to_owned(),
        created: Timestamp(0),
    });
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    assert!(out.is_empty(), "an answer in one piece comes at its end");
    if let Err(failure) = writer.finish(finish, "", &mut out) {
        assert!(out.is_empty(), "half an answer");
        let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
        writer.fail(&failure, &CallId::new(&ids), &mut out);
    }
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn an_answer_is_written_whole() {
    let all = deltas(&read_as(&[ANSWER.as_bytes()], DECODE));
    let usage = Usage {
        input_tokens: 1_000,
        cached_tokens: 600,
        cache_write_tokens: 300,
        cache_write_1h_tokens: 0,
        output_tokens: 50,
        reasoning_tokens: 20,
        ..Usage::default()
    };
    let finish = Finish { stop: Stop::ToolCalls, usage: Some(usage), ..Finish::default() };
    assert_snapshot!(written(&all, &finish), @r#"{"id":"msg_1","type":"message","role":"assistant","model":"local/demo","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"redacted_thinking","data":"aGlkZGVu"},{"type":"text","text":"café"},{"type":"tool_use","id":"toolu_a","name":"f","input":{"z": 9007199254740993, "a": 1e2}},{"type":"tool_use","id":"toolu_b","name":"now","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":100,"cache_creation_input_tokens":300,"cache_read_input_tokens":600,"output_tokens":50,"output_tokens_details":{"thinking_tokens":20}}}"#);
    assert_snapshot!(written(&[], &Finish::default()), @r#"{"id":"msg_1","type":"message","role":"assistant","model":"local/demo","content":[],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}"#);
}

#[test]
fn arguments_that_are_no_object_are_an_error_or_a_cut() {
    let calls = |json: &str| {
        let call = |index: u32| Delta::ToolCallStart {
            index,
            id: format!("t{index}"),
            name: "f".to_owned(),
        };
        let mut deltas = vec![call(0)];
        deltas.push(Delta::ToolCallArguments { index: 0, json: "{\"a\":1}".to_owned() });
        deltas.push(call(1));
        deltas.push(Delta::ToolCallArguments { index: 1, json: json.to_owned() });
        deltas
    };
    let content = |json: &str, stop: Stop| {
        let body = written(&calls(json), &Finish { stop, ..Finish::default() });
        let body: Value = serde_json::from_str(&body).unwrap();
        body["content"].as_array().map(Vec::len)
    };
    for json in ["{\"a\":", "7", "[]", "nonsense", "{} {}"] {
        assert_eq!(content(json, Stop::ToolCalls), None, "{json}");
        assert_eq!(content(json, Stop::Length), Some(1), "{json}");
    }
    for json in ["{}", " {\"a\": 1}\n", "", " "] {
        assert_eq!(content(json, Stop::ToolCalls), Some(2), "{json}");
    }
    let error = written(&calls("nonsense"), &Finish::default());
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["type"], "error");
}

#[test]
fn a_failure_is_an_error_body() {
    let options = WriteOptions {
        stream: false,
        include_usage: false,
        id: "msg_1".to_owned(),
        model: "m".to_owned(),
        created: Timestamp(0),
    };
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    let mut out = BytesMut::new();
    let failure = Failure::new(ErrorCode::Overloaded, "full");
    Writer::new(options).fail(&failure, &CallId::new(&ids), &mut out);
    let said: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(said["error"]["type"], "overloaded_error");
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        texts in prop::collection::vec("[a-z \"\\\\\n\u{e9}\u{1F600}]{1,8}", 1..6),
        signature in "[a-z]{1,6}",
        number in any::<u64>(),
        sequence in prop::option::of("[#a-z]{1,4}"),
    ) {
        let mut said = Vec::new();
        for (index, text) in (0u32..).zip(texts) {
            let signed = |redacted| Delta::ReasoningSignature {
                signature: signature.clone(),
                redacted,
                origin: NAME.to_owned(),
            };
            said.extend([
                Delta::Reasoning { text: text.clone() },
                signed(false),
                signed(true),
                Delta::Text { text: text.clone() },
                Delta::ToolCallStart { index, id: format!("t{index}"), name: "f".to_owned() },
                Delta::ToolCallArguments { index, json: format!("{{\"n\": {number}, \"a\":1}}") },
            ]);
        }
        let usage = Usage { input_tokens: number, output_tokens: 7, ..Usage::default() };
        let stop = if sequence.is_some() { Stop::End } else { Stop::ToolCalls };
        let finish = Finish { stop, stop_text: sequence, usage: Some(usage), ..Finish::default() };
        let events = read_as(&[written(&said, &finish).as_bytes()], DECODE);
        prop_assert_eq!(deltas(&events), said);
        let expected = Finish { model_version: Some("local/demo".to_owned()), ..finish };
        prop_assert_eq!(finished(&events), &expected);
    }
}
