use std::collections::VecDeque;

use ::types::error::Billed;
use ::types::format::ReadResponse;
use ::types::outcome::OutcomeEvent;
use bytes::Bytes;
use insta::assert_snapshot;
use types::clock::Timestamp;
use types::usage::Usage;

use super::*;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"m-2","choices":[{"index":0,"message":{"role":"assistant","content":"hi","reasoning_content":"hm","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}},{"type":"function","function":{"name":"g","arguments":""}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1000,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":600,"cache_write_tokens":300},"completion_tokens_details":{"reasoning_tokens":20}}}"#;

fn read_all(chunks: &[&str], decode: bool) -> VecDeque<OutcomeEvent> {
    let options = ReadOptions { decode, ..ReadOptions::default() };
    let mut reader = crate::whole::Reader::new(options, read);
    let mut events = VecDeque::new();
    for chunk in chunks {
        reader.push(Bytes::copy_from_slice(chunk.as_bytes()), &mut events);
    }
    reader.end(&mut events);
    events
}

#[test]
fn a_body_is_passed_on_as_it_came_and_counted() {
    for cut in [0, 1, 60, ANSWER.len()] {
        let events = read_all(&[&ANSWER[..cut], &ANSWER[cut..]], false);
        let [OutcomeEvent::Frame { raw: Some(raw), .. }, OutcomeEvent::Finish(finish)] =
            events.iter().collect::<Vec<_>>()[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(raw, ANSWER);
        assert_eq!(finish.stop, Stop::ToolCalls);
        assert_eq!(finish.model_version.as_deref(), Some("m-2"));
        let usage = Usage {
            input_tokens: 1_000,
            cached_tokens: 600,
            cache_write_tokens: 300,
            cache_write_1h_tokens: 0,
            output_tokens: 50,
            reasoning_tokens: 20,
            ..Usage::default()
        };
        assert_eq!(finish.usage, Some(usage));
    }
}

#[test]
fn log_probabilities_come_as_their_mean_where_deltas_are_wanted() {
    let body = |logprobs: &str| {
        format!(
            r#"{{"choices":[{{"message":{{"content":"ab"}},"logprobs":{logprobs},"finish_reason":"stop"}}]}}"#
        )
    };
    let mean = |logprobs: &str, decode| match read_all(&[&body(logprobs)], decode).pop_back() {
        Some(OutcomeEvent::Finish(finish)) => finish.mean_logprob_micros,
        other => panic!("{other:?}"),
    };
    let two = r#"{"content":[{"token":"a","logprob":-0.5},{"token":"b","logprob":-0.25}]}"#;
    assert_eq!(mean(two, true), Some(-375_000));
    assert_eq!(mean(two, false), None);
    for none in ["null", "{\"content\":null}", "{\"content\":[]}", "7"] {
        assert_eq!(mean(none, true), None, "{none}");
    }
}

#[test]
fn a_body_is_taken_apart_where_deltas_are_wanted() {
    let deltas: Vec<Delta> = read_all(&[ANSWER], true)
        .into_iter()
        .filter_map(|event| match event {
            OutcomeEvent::Frame { raw, delta } => {
                assert_eq!(raw, None);
                delta
            }
            _ => None,
        })
        .collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        deltas,
        [
            Delta::Reasoning { text: text("hm") },
            Delta::Text { text: text("hi") },
            Delta::ToolCallStart { index: 0, id: text("call_1"), name: text("f") },
            Delta::ToolCallArguments { index: 0, json: text("{}") },
            Delta::ToolCallStart { index: 1, id: text("call_chatcmpl11"), name: text("g") },
        ]
    );
}

#[test]
fn what_is_no_answer_is_a_failure_that_may_have_cost() {
    let cases = [
        "",
        &ANSWER[..80],
        "{}",
        "hello",
        r#"{"choices":[]}"#,
        r#"{"error":{"message":"boom"}}"#,
        r#"{"choices":[{"message":7}]}"#,
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|body| match read_all(&[body], true).pop_back() {
            Some(OutcomeEvent::Failed(failure)) => {
                assert_eq!(failure.billed, Billed::Unknown);
                failure.to_string()
            }
            other => panic!("{body}: {other:?}"),
        })
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    stream_cut: the provider's answer ended before it was whole
    stream_cut: the provider's answer ended before it was whole
    upstream_failed: the provider answered with something that is no chat completion
    upstream_failed: the provider answered with something that is no chat completion
    upstream_failed: the provider answered without a choice
    upstream_failed: the provider failed in its answer: boom
    upstream_failed: the provider's message can't be read
    "#);
}

#[test]
fn a_usage_that_cannot_be_is_no_usage_and_parts_never_exceed_totals() {
    let usage = |usage: &str| {
        let body = format!(r#"{{"choices":[{{"finish_reason":"stop"}}],"usage":{usage}}}"#);
        match read_all(&[&body], false).pop_back() {
            Some(OutcomeEvent::Finish(finish)) => finish.usage,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(usage("null"), None);
    assert_eq!(usage("{}"), None);
    assert_eq!(usage(r#"{"prompt_tokens":-1,"completion_tokens":2}"#), None);
    assert_eq!(usage(r#"{"prompt_tokens":0,"completion_tokens":0}"#), Some(Usage::default()));
    let cut = usage(
        r#"{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":9},"completion_tokens_details":{"reasoning_tokens":7}}"#,
    );
    let expected = Usage {
        input_tokens: 5,
        cached_tokens: 4,
        cache_write_tokens: 1,
        cache_write_1h_tokens: 0,
        output_tokens: 2,
        reasoning_tokens: 2,
        ..Usage::default()
    };
    assert_eq!(cut, Some(expected));
}

fn written(deltas: &[Delta], finish: &Finish) -> String {
    let mut writer = Writer::new(WriteOptions {
        stream: false,
        include_usage: false,
        id: "chatcmpl-1".to_owned(),
        model: "local/demo".to_owned(),
        created: Timestamp::from_millis(1_700_000_000_000),
    });
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    assert!(out.is_empty(), "nothing before the end");
    writer.finish(finish, "holdfast-cost=1", &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn an_answer_is_written_whole() {
    let text = [Delta::Text { text: "a".to_owned() }, Delta::Text { text: "b".to_owned() }];
    let usage = Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() };
    let finish = Finish { usage: Some(usage), ..Finish::default() };
    assert_snapshot!(written(&text, &finish), @r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"local/demo","choices":[{"index":0,"message":{"role":"assistant","content":"ab","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#);
    let calls = [
        Delta::ToolCallStart { index: 0, id: "call_1".to_owned(), name: "f".to_owned() },
        Delta::ToolCallArguments { index: 0, json: "{\"a\":1}".to_owned() },
        Delta::ToolCallStart { index: 1, id: "call_2".to_owned(), name: "g".to_owned() },
    ];
    let finish = Finish { stop: Stop::ToolCalls, ..Finish::default() };
    assert_snapshot!(written(&calls, &finish), @r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"local/demo","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}]}"#);
}

#[test]
fn what_is_written_is_read_again() {
    let deltas = [
        Delta::Text { text: "é\"\n".to_owned() },
        Delta::ToolCallStart { index: 0, id: "call_1".to_owned(), name: "f".to_owned() },
        Delta::ToolCallArguments { index: 0, json: "{}".to_owned() },
    ];
    let finish = Finish { stop: Stop::ToolCalls, ..Finish::default() };
    let body = written(&deltas, &finish);
    let read: Vec<Delta> = read_all(&[&body], true)
        .into_iter()
        .filter_map(|event| match event {
            OutcomeEvent::Frame { delta, .. } => delta,
            _ => None,
        })
        .collect();
    assert_eq!(read, deltas);
}
