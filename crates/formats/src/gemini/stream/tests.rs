use std::sync::Arc;

use ::types::ErrorCode;
use ::types::call::Operation;
use ::types::clock::{FakeClock, Timestamp};
use ::types::error::Billed;
use ::types::format::{WriteOptions, WriteResponse};
use ::types::ids::{CallId, Ids};
use ::types::outcome::{Delta, Start, Stop};
use ::types::usage::Usage;
use bytes::BytesMut;
use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::{ANTHROPIC_MESSAGES, OPENAI_CHAT};
use ::types::format::Format;

fn events(data: &[&str]) -> Vec<String> {
    data.iter().map(|data| format!("data: {data}\r\n\r\n")).collect()
}

fn text() -> Vec<String> {
    events(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"one"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4},"modelVersion":"g-1","responseId":"r"}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":" two"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":1,"totalTokenCount":5},"modelVersion":"g-1","responseId":"r"}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"S"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2,"thoughtsTokenCount":3,"totalTokenCount":9},"modelVersion":"g-1","responseId":"r"}"#,
    ])
}

fn calls() -> Vec<String> {
    events(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"n": 9007199254740993}},"thoughtSignature":"S1"},{"functionCall":{"name":"f","args":{}}}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"own","name":"g"}}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2,"totalTokenCount":6}}"#,
    ])
}

fn blocked() -> Vec<String> {
    events(&[
        r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}}"#,
    ])
}

/// Two candidates, of which the second goes on behind the first's end.
fn two() -> Vec<String> {
    events(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"index":0},{"content":{"parts":[{"text":"b"}]},"index":1}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"A"}]},"finishReason":"STOP","index":0}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"B"}]},"finishReason":"MAX_TOKENS","index":1}]}"#,
    ])
}

fn recorded() -> Vec<(&'static str, Vec<String>)> {
    vec![
        ("text", text()),
        ("calls", calls()),
        ("blocked", blocked()),
        ("two", two()),
        ("other line ends", text().iter().map(|event| event.replace("\r\n", "\n")).collect()),
    ]
}

const PASS: ReadOptions = ReadOptions {
    stream: true,
    decode: false,
    withhold_usage: false,
    operation: Operation::Chat,
    hold_preamble: false,
};
const DECODE: ReadOptions = ReadOptions { decode: true, ..PASS };

fn read_chunks<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    options: ReadOptions,
) -> Vec<OutcomeEvent> {
    let (mut reader, mut events) = (Reader::new(options), VecDeque::new());
    for chunk in chunks {
        reader.push(Bytes::copy_from_slice(chunk), &mut events);
    }
    reader.end(&mut events);
    reader.end(&mut events);
    events.into()
}

fn read(stream: &[String], options: ReadOptions) -> Vec<OutcomeEvent> {
    read_chunks(stream.iter().map(|event| event.as_bytes()), options)
}

fn shown(events: &[OutcomeEvent]) -> String {
    let lines = events.iter().map(|event| match event {
        OutcomeEvent::Frame { delta: Some(delta), .. } => serde_json::to_string(delta).unwrap(),
        OutcomeEvent::Finish(finish) => {
            let usage = finish.usage.map(|usage| (usage.input_tokens, usage.output_tokens));
            format!("{:?} {usage:?} {:?}", finish.stop, finish.model_version)
        }
        other => format!("{other:?}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn passed(events: &[OutcomeEvent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        if let OutcomeEvent::Frame { raw: Some(raw), .. } = event {
            bytes.extend_from_slice(raw);
        }
    }
    bytes
}

#[test]
fn a_stream_is_told_in_neutral_words() {
    assert_snapshot!(shown(&read(&text(), DECODE)), @r#"
    {"type":"text","text":"one"}
    {"type":"text","text":" two"}
    {"type":"reasoning_signature","signature":"S","redacted":true,"origin":"gemini"}
    End Some((4, 5)) Some("g-1")
    "#);
    assert_snapshot!(shown(&read(&calls(), DECODE)), @r#"
    {"type":"reasoning","text":"hm"}
    {"type":"reasoning_signature","signature":"S1","redacted":true,"origin":"gemini"}
    {"type":"tool_call_start","index":0,"id":"gemini_f1e926fe975015675cd38014","name":"f"}
    {"type":"tool_call_arguments","index":0,"json":"{\"n\": 9007199254740993}"}
    {"type":"tool_call_start","index":1,"id":"gemini_b334be188421038a5291e063","name":"f"}
    {"type":"tool_call_arguments","index":1,"json":"{}"}
    {"type":"tool_call_start","index":2,"id":"own","name":"g"}
    {"type":"tool_call_arguments","index":2,"json":"{}"}
    ToolCalls Some((4, 2)) None
    "#);
    assert_snapshot!(shown(&read(&blocked(), DECODE)), @r#"ContentFilter Some((4, 0)) None"#);
}

#[test]
fn a_stream_passes_as_it_came_and_takes_no_comment() {
    for (name, stream) in recorded() {
        let events = read(&stream, PASS);
        assert_eq!(passed(&events), stream.concat().as_bytes(), "{name}");
        let Some(OutcomeEvent::Finish(finish)) = events.last() else { panic!("{name}") };
        assert!(finish.carried_ids && finish.raw.is_none(), "{name}");
    }
    let Some(OutcomeEvent::Finish(finish)) = read(&calls(), PASS).pop() else { panic!() };
    assert_eq!(finish.stop, Stop::ToolCalls);
}

/// Whether an event is an end, and whether it is a failure.
fn end(event: &OutcomeEvent) -> Option<bool> {
    match event {
        OutcomeEvent::Finish(_) => Some(false),
        OutcomeEvent::Failed(_) => Some(true),
        OutcomeEvent::Start(_) | OutcomeEvent::Frame { .. } => None,
    }
}

#[test]
fn a_stream_that_is_cut_behind_any_chunk_is_a_failure() {
    for (name, stream) in recorded() {
        for cut in 0..stream.len() {
            for options in [PASS, DECODE] {
                let events = read(&stream[..cut], options);
                let ends: Vec<bool> = events.iter().filter_map(end).collect();
                assert_eq!(ends, [true], "{name} behind {cut}");
                assert_eq!(end(events.last().unwrap()), Some(true));
            }
        }
        let ends: Vec<bool> = read(&stream, DECODE).iter().filter_map(end).collect();
        assert_eq!(ends, [false], "{name}");
    }
}

#[test]
fn half_a_chunk_goes_to_nobody() {
    let mut stream = text();
    let last = stream.last_mut().unwrap();
    last.truncate(last.len() / 2);
    let events = read(&stream, PASS);
    assert_eq!(end(events.last().unwrap()), Some(true));
    assert_eq!(passed(&events), stream[..2].concat().as_bytes());
    // One without its empty line is whole.
    let mut stream = text();
    let last = stream.last_mut().unwrap();
    last.truncate(last.trim_end().len());
    assert_eq!(end(read(&stream, PASS).last().unwrap()), Some(false));
}

fn failure(stream: &[String], options: ReadOptions) -> Failure {
    match read(stream, options).pop() {
        Some(OutcomeEvent::Failed(failure)) => *failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_in_a_stream_is_a_failure_that_may_be_billed() {
    let error = r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#;
    for options in [PASS, DECODE] {
        let mut stream = text();
        stream.truncate(2);
        stream.extend(events(&[error]));
        let broken = failure(&stream, options);
        assert_eq!((broken.code, broken.billed), (ErrorCode::Overloaded, Billed::Unknown));
        let mut stream = text();
        stream.extend(events(&[error]));
        // The counts were final.
        assert!(matches!(failure(&stream, options).billed, Billed::Usage(_)));
        assert_eq!(failure(&events(&["{oops"]), options).code, ErrorCode::UpstreamFailed);
    }
}

#[test]
fn chunks_without_content_wait_for_the_first_with_some() {
    let quiet = events(&[
        r#"{"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"}}]}"#,
    ]);
    let options = ReadOptions { hold_preamble: true, ..PASS };
    let (mut reader, mut held) = (Reader::new(options), VecDeque::new());
    for event in &quiet {
        reader.push(Bytes::from(event.clone()), &mut held);
    }
    assert!(held.is_empty());
    for event in text() {
        reader.push(Bytes::from(event), &mut held);
    }
    reader.end(&mut held);
    let all: Vec<String> = quiet.iter().cloned().chain(text()).collect();
    assert_eq!(passed(held.make_contiguous()), all.concat().as_bytes());
    // Nothing but a failure is seen of one that breaks before.
    assert_eq!(read(&quiet, options).len(), 1);
}

#[test]
fn an_answer_that_is_to_be_continued_is_none_elsewhere() {
    let stream: Vec<String> =
        text().iter().map(|event| event.replace("\"STOP\"", "\"CONTINUATION\"")).collect();
    assert_eq!(failure(&stream, DECODE).code, ErrorCode::UpstreamFailed);
    assert_eq!(end(read(&stream, PASS).last().unwrap()), Some(false));
}

fn options() -> WriteOptions {
    WriteOptions {
        stream: true,
        include_usage: true,
        id: "id1".to_owned(),
        model: "p/m".to_owned(),
        created: Timestamp(0),
    }
}

fn written(deltas: &[Delta], finish: &Finish) -> String {
    let (mut writer, mut out) = (Writer::new(options()), BytesMut::new());
    writer.start(&Start::default(), &mut out);
    writer.keep_alive(&mut out);
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    writer.finish(finish, "a comment", &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn a_stream_is_written_chunk_by_chunk() {
    let text = |text: &str| Delta::Text { text: text.to_owned() };
    let start =
        |index: u32| Delta::ToolCallStart { index, id: format!("id{index}"), name: "f".to_owned() };
    let piece = |index, json: &str| Delta::ToolCallArguments { index, json: json.to_owned() };
    let sign = |signature: &str, redacted, origin: &str| Delta::ReasoningSignature {
        signature: signature.to_owned(),
        redacted,
        origin: origin.to_owned(),
    };
    let deltas = [
        Delta::Reasoning { text: "hm".to_owned() },
        sign("A", false, "anthropic_messages"),
        text("one"),
        text(" two"),
        sign("G", true, "gemini"),
        start(0),
        piece(0, "{\"n\":"),
        piece(0, " 1}"),
        start(1),
        piece(1, "{}"),
    ];
    let usage = Some(Usage { input_tokens: 4, output_tokens: 3, ..Usage::default() });
    let finish = Finish { stop: Stop::ToolCalls, usage, ..Finish::default() };
    assert_snapshot!(written(&deltas, &finish), @r#"
    data: {"candidates":[{"content":{"parts":[{"text":"hm","thought":true}],"role":"model"},"index":0}],"modelVersion":"p/m","responseId":"id1"}

    data: {"candidates":[{"content":{"parts":[{"text":"","thought":true,"thoughtSignature":"aGYxLmFudGhyb3BpY19tZXNzYWdlcy5B"}],"role":"model"},"index":0}],"modelVersion":"p/m","responseId":"id1"}

    data: {"candidates":[{"content":{"parts":[{"text":"one"}],"role":"model"},"index":0}],"modelVersion":"p/m","responseId":"id1"}

    data: {"candidates":[{"content":{"parts":[{"text":" two"}],"role":"model"},"index":0}],"modelVersion":"p/m","responseId":"id1"}

    data: {"candidates":[{"content":{"parts":[{"functionCall":{"id":"id0","name":"f","args":{"n": 1}},"thoughtSignature":"G"}],"role":"model"},"index":0}],"modelVersion":"p/m","responseId":"id1"}

    data: {"candidates":[{"content":{"parts":[{"functionCall":{"id":"id1","name":"f","args":{}}}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":3,"totalTokenCount":7},"modelVersion":"p/m","responseId":"id1"}
    "#);
    assert_snapshot!(written(&[text("x")], &Finish::default()), @r#"
    data: {"candidates":[{"content":{"parts":[{"text":"x"}],"role":"model"},"index":0}],"modelVersion":"p/m","responseId":"id1"}

    data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"modelVersion":"p/m","responseId":"id1"}
    "#);
}

#[test]
fn a_failure_is_one_chunk_without_an_end() {
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    let (mut writer, mut out) = (Writer::new(options()), BytesMut::new());
    writer.delta(&Delta::Text { text: "x".to_owned() }, &mut out);
    writer.fail(&failed("broke"), &CallId::new(&ids), &mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert_eq!(text.matches("data: ").count(), 2);
    assert!(text.ends_with("}\n\n") && text.contains(r#"{"error":{"code":502"#), "{text}");
    assert!(!text.contains("finishReason"));
}

/// Reads a stream, writes it, and reads that: what a client of this API is told.
fn told(format: &dyn Format, stream: &[u8]) -> Vec<OutcomeEvent> {
    let mut reader = format.reader(DECODE);
    let (mut writer, mut out) = (Writer::new(options()), BytesMut::new());
    let mut events = VecDeque::new();
    reader.push(Bytes::copy_from_slice(stream), &mut events);
    reader.end(&mut events);
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    for event in events {
        match event {
            OutcomeEvent::Frame { delta: Some(delta), .. } => writer.delta(&delta, &mut out),
            OutcomeEvent::Finish(finish) => writer.finish(&finish, "", &mut out).unwrap(),
            OutcomeEvent::Failed(failure) => {
                writer.fail(&failure, &CallId::new(&ids), &mut out);
            }
            other => panic!("{other:?}"),
        }
    }
    read_chunks([&out[..]], DECODE)
}

#[test]
fn a_cut_answer_of_another_format_never_looks_whole() {
    let chat = [
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}"#,
        r#"data: {"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]}"#,
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        "data: [DONE]",
    ];
    let messages = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"c\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"a\"}}",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}",
    ];
    for (format, stream) in [(&OPENAI_CHAT as &dyn Format, &chat), (&ANTHROPIC_MESSAGES, &messages)]
    {
        let bytes = |length: usize| {
            stream[..length].iter().map(|event| format!("{event}\n\n")).collect::<String>()
        };
        let whole = told(format, bytes(stream.len()).as_bytes());
        assert_eq!(end(whole.last().unwrap()), Some(false), "{}", format.name());
        // Chat is whole with its reason to stop.
        let least = if format.name() == "openai_chat" { 3 } else { 4 };
        for cut in 0..least {
            let events = told(format, bytes(cut).as_bytes());
            let ends: Vec<bool> = events.iter().filter_map(end).collect();
            assert_eq!(ends, [true], "{} behind {cut}", format.name());
        }
    }
}

/// What a client of another format is told of a stream.
fn written_as(format: &dyn Format, stream: &[String]) -> String {
    let (mut writer, mut out) = (format.writer(options()), BytesMut::new());
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    writer.start(&Start::default(), &mut out);
    for event in read(stream, DECODE) {
        match event {
            OutcomeEvent::Frame { delta: Some(delta), .. } => writer.delta(&delta, &mut out),
            OutcomeEvent::Failed(failure) => writer.fail(&failure, &CallId::new(&ids), &mut out),
            OutcomeEvent::Finish(finish) => writer.finish(&finish, "", &mut out).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn a_cut_stream_never_looks_whole_in_other_formats() {
    let formats = [(&OPENAI_CHAT as &dyn Format, "[DONE]"), (&ANTHROPIC_MESSAGES, "message_stop")];
    for (name, stream) in recorded() {
        for (format, terminal) in formats {
            for cut in 0..stream.len() {
                let text = written_as(format, &stream[..cut]);
                assert!(!text.contains(terminal), "{name} behind {cut}");
            }
            assert!(written_as(format, &stream).contains(terminal), "{name}");
        }
    }
}

proptest! {
    #[test]
    fn seams_between_chunks_change_nothing(
        which in 0usize..5,
        seams in prop::collection::vec(0usize..2_000, 0..6),
        decode in any::<bool>(),
    ) {
        let (_, stream) = recorded().swap_remove(which);
        let bytes = stream.concat().into_bytes();
        let mut seams: Vec<usize> = seams.into_iter().filter(|at| *at < bytes.len()).collect();
        seams.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for at in seams.into_iter().chain([bytes.len()]) {
            chunks.push(&bytes[from..at]);
            from = at;
        }
        let options = ReadOptions { decode, ..PASS };
        let (cut, whole) = (read_chunks(chunks, options), read(&stream, options));
        prop_assert_eq!(passed(&cut), passed(&whole));
        let told = |events: &[OutcomeEvent]| {
            let told = events.iter().filter(|event| !matches!(event, OutcomeEvent::Frame { raw: Some(_), .. }));
            shown(&told.cloned().collect::<Vec<_>>())
        };
        prop_assert_eq!(told(&cut), told(&whole));
    }
}
