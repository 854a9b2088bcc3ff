use std::collections::VecDeque;
use std::sync::Arc;

use ::types::ErrorCode;
use ::types::clock::{FakeClock, Timestamp};
use ::types::format::ReadResponse;
use ::types::ids::Ids;
use ::types::outcome::{OutcomeEvent, Stop};
use ::types::usage::Usage;
use bytes::Bytes;
use insta::assert_snapshot;

use super::*;

const WHOLE: ReadOptions = ReadOptions {
    stream: false,
    decode: false,
    withhold_usage: false,
    operation: Operation::Chat,
    hold_preamble: false,
};

fn reader(options: ReadOptions) -> whole::Reader {
    whole::Reader::new(options, read_body)
}

fn read(body: &str, decode: bool) -> Vec<OutcomeEvent> {
    let (mut reader, mut events) = (reader(ReadOptions { decode, ..WHOLE }), VecDeque::new());
    let (first, second) = body.split_at(body.len() / 2);
    reader.push(Bytes::from(first.to_owned()), &mut events);
    reader.push(Bytes::from(second.to_owned()), &mut events);
    reader.end(&mut events);
    reader.end(&mut events);
    events.into()
}

fn finish(body: &str) -> Finish {
    match read(body, false).pop() {
        Some(OutcomeEvent::Finish(finish)) => finish,
        other => panic!("{other:?}"),
    }
}

fn failure(body: &str, decode: bool) -> Failure {
    match read(body, decode).as_slice() {
        [OutcomeEvent::Failed(failure)] => (**failure).clone(),
        other => panic!("{other:?}"),
    }
}

fn ended(reason: &str) -> String {
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":"x"}}],"role":"model"}},"finishReason":"{reason}"}}],"usageMetadata":{{"promptTokenCount":3,"candidatesTokenCount":1,"totalTokenCount":4}}}}"#
    )
}

const ANSWER: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true},{"text":"yes","thought":true,"thoughtSignature":"S1"},{"text":"a","thoughtSignature":"S2"},{"functionCall":{"name":"f","args":{"n": 9007199254740993}},"thoughtSignature":"S3"},{"functionCall":{"id":"i","name":"g"}},{"executableCode":{"code":"x"}},{"text":"","thoughtSignature":"S4"}],"role":"model"},"finishReason":"STOP","index":0},{"content":{"parts":[{"text":"other"}]},"finishReason":"STOP","index":1}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":7,"cachedContentTokenCount":4,"toolUsePromptTokenCount":2,"totalTokenCount":24},"modelVersion":"gemini-3-pro-001","responseId":"r1"}"#;

#[test]
fn an_answer_passes_as_it_came() {
    let events = read(ANSWER, false);
    let [OutcomeEvent::Frame { raw: Some(raw), delta: None }, OutcomeEvent::Finish(finish)] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!(raw, ANSWER);
    let usage = Usage {
        input_tokens: 12,
        cached_tokens: 4,
        cache_write_tokens: 0,
        cache_write_1h_tokens: 0,
        output_tokens: 12,
        reasoning_tokens: 7,
        ..Usage::default()
    };
    assert_eq!(finish.usage, Some(usage));
    assert_eq!(finish.stop, Stop::ToolCalls);
    assert_eq!(finish.model_version.as_deref(), Some("gemini-3-pro-001"));
}

#[test]
fn an_answer_is_taken_apart_with_its_signatures() {
    let mut shown = Vec::new();
    for event in read(ANSWER, true) {
        match event {
            OutcomeEvent::Frame { delta: Some(delta), raw: None } => {
                shown.push(serde_json::to_string(&delta).unwrap());
            }
            OutcomeEvent::Finish(finish) => shown.push(format!("{:?}", finish.stop)),
            other => panic!("{other:?}"),
        }
    }
    assert_snapshot!(shown.join("\n"), @r#"
    {"type":"reasoning","text":"hm"}
    {"type":"reasoning","text":"yes"}
    {"type":"reasoning_signature","signature":"S1","redacted":false,"origin":"gemini"}
    {"type":"reasoning_signature","signature":"S2","redacted":true,"origin":"gemini"}
    {"type":"text","text":"a"}
    {"type":"reasoning_signature","signature":"S3","redacted":true,"origin":"gemini"}
    {"type":"tool_call_start","index":0,"id":"gemini_7ffed23e8a90d13f6d10d2bf","name":"f"}
    {"type":"tool_call_arguments","index":0,"json":"{\"n\": 9007199254740993}"}
    {"type":"tool_call_start","index":1,"id":"i","name":"g"}
    {"type":"tool_call_arguments","index":1,"json":"{}"}
    {"type":"reasoning_signature","signature":"S4","redacted":true,"origin":"gemini"}
    ToolCalls
    "#);
    // Another answer's calls have other ids.
    let id = |body: &str| format!("{:?}", read(body, true).get(6));
    assert_eq!(id(ANSWER), id(ANSWER));
    assert_ne!(id(ANSWER), id(&ANSWER.replace("\"r1\"", "\"r2\"")));
}

#[test]
fn counts_that_are_left_out_are_told_by_the_total() {
    let usage = |counts: &str| {
        let body =
            format!(r#"{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{{{counts}}}}}"#);
        finish(&body).usage.map(|usage| (usage.input_tokens, usage.output_tokens))
    };
    assert_eq!(usage(r#""promptTokenCount":3,"candidatesTokenCount":1"#), Some((3, 1)));
    assert_eq!(
        usage(r#""promptTokenCount":3,"thoughtsTokenCount":2,"totalTokenCount":9"#),
        Some((3, 6))
    );
    assert_eq!(usage(r#""promptTokenCount":3,"totalTokenCount":3"#), Some((3, 0)));
    assert_eq!(usage(r#""promptTokenCount":3"#), None);
    assert_eq!(usage(r#""totalTokenCount":3"#), None);
}

#[test]
fn every_reason_to_stop_has_a_meaning() {
    let of = |reason: &str| finish(&ended(reason)).stop;
    assert_eq!(of("STOP"), Stop::End);
    assert_eq!(of("MAX_TOKENS"), Stop::Length);
    for filtered in
        ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"]
    {
        assert_eq!(of(filtered), Stop::ContentFilter, "{filtered}");
    }
    assert_eq!(of("OTHER"), Stop::End);
    assert_eq!(of("SOMETHING_NEW"), Stop::End);
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}"#;
    assert_eq!(finish(blocked).stop, Stop::ContentFilter);
    assert_eq!(read(blocked, true).len(), 1);
}

#[test]
fn mistakes_of_a_model_are_no_answers_elsewhere() {
    for reason in [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "MISSING_THOUGHT_SIGNATURE",
        "CONTINUATION",
    ] {
        // A client of the same API is told as Google says it.
        assert_eq!(read(&ended(reason), false).len(), 2);
        let events = read(&ended(reason), true);
        let Some(OutcomeEvent::Failed(failure)) = events.last() else { panic!("{events:?}") };
        assert_eq!(failure.code, ErrorCode::UpstreamFailed);
        assert!(failure.message.contains(reason), "{}", failure.message);
    }
}

#[test]
fn what_is_no_answer_fails() {
    assert_eq!(failure(r#"{"candidates":[{"content":{}}]}"#, false).code, ErrorCode::StreamCut);
    assert_eq!(failure(r#"{"candidates":[{"finishReason":"ST"#, false).code, ErrorCode::StreamCut);
    assert_eq!(failure("{}", false).code, ErrorCode::UpstreamFailed);
    assert_eq!(failure("<html>", true).code, ErrorCode::UpstreamFailed);
    let busy = r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#;
    assert_eq!(failure(busy, false).code, ErrorCode::Overloaded);
    let other = r#"{"candidates":[{"finishReason":"STOP"},{"index":1,"content":{"parts":[]}}]}"#;
    assert_eq!(failure(other, false).code, ErrorCode::StreamCut);
}

#[test]
fn a_count_is_read_and_costs_nothing() {
    let options = ReadOptions { operation: Operation::CountTokens, ..WHOLE };
    let (mut reader, mut events) = (reader(options), VecDeque::new());
    reader.push(Bytes::from_static(br#"{"totalTokens":31}"#), &mut events);
    reader.end(&mut events);
    let Some(OutcomeEvent::Finish(finish)) = events.back() else { panic!("{events:?}") };
    assert_eq!(finish.usage, None);
}

fn options() -> WriteOptions {
    WriteOptions {
        stream: false,
        include_usage: true,
        id: "id1".to_owned(),
        model: "p/m".to_owned(),
        created: Timestamp(0),
    }
}

fn written(deltas: &[Delta], finish: &Finish) -> Result<String, Failure> {
    let (mut writer, mut out) = (Writer::new(options()), BytesMut::new());
    writer.start(&Start::default(), &mut out);
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    assert!(out.is_empty());
    writer.finish(finish, "a comment", &mut out)?;
    Ok(String::from_utf8(out.to_vec()).unwrap())
}

fn signature(signature: &str, redacted: bool, origin: &str) -> Delta {
    let (signature, origin) = (signature.to_owned(), origin.to_owned());
    Delta::ReasoningSignature { signature, redacted, origin }
}

fn text(text: &str) -> Delta {
    Delta::Text { text: text.to_owned() }
}

fn start(index: u32, name: &str) -> Delta {
    Delta::ToolCallStart { index, id: format!("id{index}"), name: name.to_owned() }
}

fn arguments(index: u32, json: &str) -> Delta {
    Delta::ToolCallArguments { index, json: json.to_owned() }
}

#[test]
fn an_answer_is_written_with_whose_signatures_they_are() {
    let deltas = [
        Delta::Reasoning { text: "h".to_owned() },
        Delta::Reasoning { text: "m".to_owned() },
        signature("A1", false, "anthropic_messages"),
        signature("A2", true, "anthropic_messages"),
        text("a"),
        text("b"),
        signature("G1", true, "gemini"),
        text("c"),
        signature("G2", true, "gemini"),
        start(0, "f"),
        start(1, "g"),
        arguments(0, "{\"n\": 900"),
        arguments(1, "{}"),
        arguments(0, "7199254740993}"),
        start(2, "h"),
        signature("G3", true, "gemini"),
    ];
    let usage = Usage {
        input_tokens: 10,
        cached_tokens: 4,
        cache_write_tokens: 0,
        cache_write_1h_tokens: 0,
        output_tokens: 9,
        reasoning_tokens: 2,
        ..Usage::default()
    };
    let finish = Finish { stop: Stop::ToolCalls, usage: Some(usage), ..Finish::default() };
    let body = written(&deltas, &finish).unwrap();
    assert_snapshot!(body, @r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true,"thoughtSignature":"aGYxLmFudGhyb3BpY19tZXNzYWdlcy5BMQ=="},{"text":"","thought":true,"thoughtSignature":"aGYxLmFudGhyb3BpY19tZXNzYWdlc19yZWRhY3RlZC5BMg=="},{"text":"ab"},{"text":"c","thoughtSignature":"G1"},{"functionCall":{"id":"id0","name":"f","args":{"n": 9007199254740993}},"thoughtSignature":"G2"},{"functionCall":{"id":"id1","name":"g","args":{}}},{"functionCall":{"id":"id2","name":"h","args":{}}},{"text":"","thoughtSignature":"G3"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":7,"totalTokenCount":19,"cachedContentTokenCount":4,"thoughtsTokenCount":2},"modelVersion":"p/m","responseId":"id1"}"#);
    // What was written is read back, but for foreign thoughts, which are carried as Google's.
    let [.., OutcomeEvent::Finish(again)] = &read(&body, true)[..] else { panic!("{body}") };
    assert_eq!((again.stop, again.usage), (Stop::ToolCalls, Some(usage)));
}

#[test]
fn an_answer_that_says_nothing_is_a_turn_all_the_same() {
    let finish = Finish { stop: Stop::Length, ..Finish::default() };
    assert_snapshot!(written(&[], &finish).unwrap(), @r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"MAX_TOKENS","index":0}],"modelVersion":"p/m","responseId":"id1"}"#);
}

#[test]
fn half_a_call_is_a_mistake_unless_the_model_was_stopped() {
    let deltas = [text("a"), start(0, "f"), arguments(0, "{\"n\":")];
    let of = |stop| written(&deltas, &Finish { stop, ..Finish::default() });
    assert_eq!(of(Stop::ToolCalls).unwrap_err().code, ErrorCode::UpstreamFailed);
    assert!(!of(Stop::Length).unwrap().contains("functionCall"));
}

#[test]
fn a_failure_is_written_in_googles_words() {
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    let (mut writer, mut out) = (Writer::new(options()), BytesMut::new());
    writer.fail(&whole::failed("broke"), &CallId::new(&ids), &mut out);
    let body: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(body["error"]["status"], "UNAVAILABLE");
}
