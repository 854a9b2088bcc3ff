//! Answers in one piece.

use std::collections::VecDeque;

use ::types::ErrorCode;
use ::types::error::Billed;
use ::types::format::Format;
use ::types::outcome::OutcomeEvent;
use ::types::usage::Usage;
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::BEDROCK_CONVERSE;

fn read_with(body: &str, decode: bool) -> Vec<OutcomeEvent> {
    let mut reader = BEDROCK_CONVERSE.reader(ReadOptions { decode, ..ReadOptions::default() });
    let mut events = VecDeque::new();
    for chunk in body.as_bytes().chunks(11) {
        reader.push(Bytes::copy_from_slice(chunk), &mut events);
    }
    reader.end(&mut events);
    reader.end(&mut events);
    events.into()
}

fn answer(content: &Value, reason: &str) -> String {
    json!({
        "output": { "message": { "role": "assistant", "content": content } },
        "stopReason": reason,
        "usage": {
            "inputTokens": 100, "outputTokens": 50, "totalTokens": 1_050,
            "cacheReadInputTokens": 600, "cacheWriteInputTokens": 300,
            "cacheDetails": [{ "ttl": "5m", "inputTokens": 300 }],
        },
        "metrics": { "latencyMs": 7 },
        "additionalModelResponseFields": { "stop_sequence": "END" },
    })
    .to_string()
}

fn deltas(events: &[OutcomeEvent]) -> Vec<Delta> {
    let delta = |event: &OutcomeEvent| match event {
        OutcomeEvent::Frame { delta, .. } => delta.clone(),
        _ => None,
    };
    events.iter().filter_map(delta).collect()
}

fn finish(events: &[OutcomeEvent]) -> &Finish {
    match events.last() {
        Some(OutcomeEvent::Finish(finish)) => finish,
        other => panic!("{other:?}"),
    }
}

fn failure(events: &[OutcomeEvent]) -> &Failure {
    match events {
        [OutcomeEvent::Failed(failure)] => failure,
        other => panic!("{other:?}"),
    }
}

const COUNTED: Usage = Usage {
    input_tokens: 1_000,
    cached_tokens: 600,
    cache_write_tokens: 300,
    cache_write_1h_tokens: 0,
    output_tokens: 50,
    reasoning_tokens: 0,
    more: ::types::usage::More {
        audio_input_tokens: 0,
        cached_audio_tokens: 0,
        image_input_tokens: 0,
        audio_output_tokens: 0,
        searches: 0,
        service_tier: ::types::ServiceTier::Standard,
    },
};

fn content() -> Value {
    json!([
        { "reasoningContent": { "reasoningText": { "text": "hm", "signature": "c2ln" } } },
        { "reasoningContent": { "redactedContent": "eA==" } },
        { "text": "hello" },
        { "citationsContent": { "content": [{ "text": " cited" }], "citations": [] } },
        { "toolUse": { "toolUseId": "a", "name": "f", "input": { "n": 9_007_199_254_740_993_u64 } } },
        { "toolUse": { "toolUseId": "s", "name": "web", "input": {}, "type": "server_tool_use" } },
        { "toolUse": { "toolUseId": "b", "name": "g", "input": {} } },
    ])
}

#[test]
fn an_answer_is_taken_apart() {
    let events = read_with(&answer(&content(), "tool_use"), true);
    let text = |text: &str| Delta::Text { text: text.to_owned() };
    let call = |index, id: &str, name: &str| Delta::ToolCallStart {
        index,
        id: id.to_owned(),
        name: name.to_owned(),
    };
    assert_eq!(
        deltas(&events),
        [
            Delta::Reasoning { text: "hm".to_owned() },
            signed("c2ln".to_owned(), false),
            signed("eA==".to_owned(), true),
            text("hello"),
            text(" cited"),
            call(0, "a", "f"),
            Delta::ToolCallArguments { index: 0, json: r#"{"n":9007199254740993}"#.to_owned() },
            call(1, "b", "g"),
        ]
    );
    let finish = finish(&events);
    assert_eq!((finish.stop, finish.usage), (Stop::ToolCalls, Some(COUNTED)));
    assert_eq!(finish.stop_text.as_deref(), Some("END"));
}

#[test]
fn a_body_passes_where_no_deltas_are_wanted() {
    let body = answer(&content(), "end_turn");
    let events = read_with(&body, false);
    let Some(OutcomeEvent::Frame { raw: Some(raw), delta: None }) = events.first() else {
        panic!("{events:?}")
    };
    assert_eq!(raw, body.as_bytes());
    assert_eq!(finish(&events).usage, Some(COUNTED));
}

#[test]
fn every_reason_has_its_stop() {
    let cases = [
        ("end_turn", Stop::End),
        ("stop_sequence", Stop::End),
        ("max_tokens", Stop::Length),
        ("model_context_window_exceeded", Stop::Length),
        ("tool_use", Stop::ToolCalls),
        ("guardrail_intervened", Stop::ContentFilter),
        ("content_filtered", Stop::ContentFilter),
        ("sparkle", Stop::End),
    ];
    for (reason, stop) in cases {
        assert_eq!(finish(&read_with(&answer(&json!([]), reason), true)).stop, stop, "{reason}");
    }
    for reason in ["malformed_model_output", "malformed_tool_use"] {
        let events = read_with(&answer(&json!([]), reason), true);
        let failure = failure(&events);
        assert_eq!(failure.code, ErrorCode::UpstreamFailed);
        assert_eq!(failure.billed, COUNTED.into(), "the model ran");
    }
}

#[test]
fn what_is_no_answer_is_a_failure() {
    let whole = answer(&content(), "end_turn");
    for cut in [0, 1, 50, whole.len() - 1] {
        assert_eq!(failure(&read_with(&whole[..cut], true)).code, ErrorCode::StreamCut, "{cut}");
    }
    for body in ["[]", "{}", "{\"output\":{}}", "<html>", "null"] {
        let events = read_with(body, true);
        let failure = failure(&events);
        assert_eq!(
            (failure.code, failure.billed.clone()),
            (ErrorCode::UpstreamFailed, Billed::Unknown)
        );
    }
    let events = read_with(r#"{"__type":"ModelTimeoutException","message":"slow"}"#, true);
    assert_eq!(failure(&events).code, ErrorCode::UpstreamTimeout);
    let media = json!([{ "image": { "format": "png", "source": { "bytes": "AA" } } }]);
    assert_eq!(
        failure(&read_with(&answer(&media, "end_turn"), true)).code,
        ErrorCode::UpstreamFailed
    );
    let nameless = json!([{ "toolUse": { "input": {} } }]);
    assert_eq!(
        failure(&read_with(&answer(&nameless, "tool_use"), true)).code,
        ErrorCode::UpstreamFailed
    );
}

#[test]
fn a_usage_that_cannot_be_read_is_none() {
    for usage in ["null", "{}", r#"{"inputTokens":1}"#, r#"{"inputTokens":-1,"outputTokens":1}"#] {
        let body = format!(
            r#"{{"output":{{"message":{{"content":[]}}}},"stopReason":"end_turn","usage":{usage}}}"#
        );
        assert_eq!(finish(&read_with(&body, true)).usage, None, "{usage}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let given = deltas(&read_with(&answer(&content(), "tool_use"), true));
    let mut writer = Writer::new();
    let mut out = BytesMut::new();
    given.iter().for_each(|delta| writer.delta(delta, &mut out));
    let end = Finish { stop: Stop::ToolCalls, usage: Some(COUNTED), ..Finish::default() };
    writer.finish(&end, "", &mut out).unwrap();
    let events = read_with(std::str::from_utf8(&out).unwrap(), true);
    let joined = |deltas: Vec<Delta>| {
        let mut joined: Vec<Delta> = Vec::new();
        for delta in deltas {
            match (joined.last_mut(), &delta) {
                (Some(Delta::Text { text: before }), Delta::Text { text }) => before.push_str(text),
                _ => joined.push(delta),
            }
        }
        joined
    };
    assert_eq!(deltas(&events), joined(given));
    assert_eq!(finish(&events), &end);
    let mut stopped = BytesMut::new();
    let end = Finish { stop_text: Some("END".to_owned()), ..Finish::default() };
    Writer::new().finish(&end, "", &mut stopped).unwrap();
    let stopped = read_with(std::str::from_utf8(&stopped).unwrap(), true);
    assert_eq!(finish(&stopped).stop_text.as_deref(), Some("END"));
}

#[test]
fn a_broken_call_is_no_answer_unless_the_model_was_stopped() {
    let write = |stop| {
        let mut writer = Writer::new();
        let mut out = BytesMut::new();
        let call = Delta::ToolCallStart { index: 0, id: "a".to_owned(), name: "f".to_owned() };
        writer.delta(&call, &mut out);
        let half = Delta::ToolCallArguments { index: 0, json: "{\"n\":".to_owned() };
        writer.delta(&half, &mut out);
        let written = writer.finish(&Finish { stop, ..Finish::default() }, "", &mut out);
        (written.is_ok(), String::from_utf8(out.to_vec()).unwrap())
    };
    assert_eq!(write(Stop::ToolCalls), (false, String::new()));
    let (is_written, body) = write(Stop::Length);
    assert!(is_written && body.contains("\"content\":[]"), "{body}");
}
