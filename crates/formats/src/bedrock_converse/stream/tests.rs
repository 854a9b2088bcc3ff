//! Streams: read, written, cut, and hostile.

use ::types::clock::{FakeClock, Timestamp};
use ::types::format::{Format, WriteOptions, WriteResponse};
use ::types::ids::{CallId, Ids};
use ::types::outcome::{Delta, Start};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{ANTHROPIC_MESSAGES, BEDROCK_CONVERSE, OPENAI_CHAT, OPENAI_RESPONSES, eventstream};

const DOORS: [&dyn Format; 3] = [&OPENAI_CHAT, &ANTHROPIC_MESSAGES, &OPENAI_RESPONSES];
/// What says that an answer is whole, in any format.
const ENDS: [&str; 4] =
    ["\"message_stop\"", "\"response.completed\"", "\"response.incomplete\"", "messageStop"];

fn frame(name: &str, payload: &Value) -> Vec<u8> {
    let headers =
        [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    let mut out = BytesMut::new();
    eventstream::write(&headers, payload.to_string().as_bytes(), &mut out);
    out.to_vec()
}

fn exception(name: &str, message: &str) -> Vec<u8> {
    let headers = [(":exception-type", name), (":message-type", "exception")];
    let mut out = BytesMut::new();
    eventstream::write(&headers, json!({ "message": message }).to_string().as_bytes(), &mut out);
    out.to_vec()
}

fn delta(index: u32, delta: &Value) -> Vec<u8> {
    frame("contentBlockDelta", &json!({ "delta": delta, "contentBlockIndex": index, "p": "abc" }))
}

fn stop(index: u32) -> Vec<u8> {
    frame("contentBlockStop", &json!({ "contentBlockIndex": index }))
}

fn call(index: u32, id: &str) -> Vec<u8> {
    let call = json!({ "toolUse": { "toolUseId": id, "name": "f" } });
    frame("contentBlockStart", &json!({ "start": call, "contentBlockIndex": index }))
}

/// A stream as Bedrock sends it.
fn frames() -> Vec<Vec<u8>> {
    vec![
        frame("messageStart", &json!({ "role": "assistant", "p": "abcdef" })),
        delta(0, &json!({ "reasoningContent": { "text": "hm" } })),
        delta(0, &json!({ "reasoningContent": { "signature": "c2" } })),
        delta(0, &json!({ "reasoningContent": { "signature": "ln" } })),
        stop(0),
        delta(1, &json!({ "reasoningContent": { "redactedContent": "eA==" } })),
        delta(1, &json!({ "reasoningContent": { "redactedContent": "eQ==" } })),
        stop(1),
        delta(2, &json!({ "text": "a\n" })),
        delta(2, &json!({ "text": "b" })),
        stop(2),
        frame("sparkle", &json!({ "new": true })),
        call(3, "x"),
        delta(3, &json!({ "toolUse": { "input": "{\"n\":" } })),
        call(4, "y"),
        delta(3, &json!({ "toolUse": { "input": "9007199254740993}" } })),
        delta(4, &json!({ "toolUse": { "input": "" } })),
        stop(3),
        stop(4),
        frame("messageStop", &json!({ "stopReason": "tool_use" })),
        frame(
            "metadata",
            &json!({
                "usage": { "inputTokens": 3, "outputTokens": 2, "totalTokens": 9,
                           "cacheReadInputTokens": 4 },
                "metrics": { "latencyMs": 5 },
            }),
        ),
    ]
}

fn said() -> Vec<Delta> {
    let text = |text: &str| text.to_owned();
    let signed = |signature: &str, redacted| Delta::ReasoningSignature {
        signature: text(signature),
        redacted,
        origin: text("bedrock_converse"),
    };
    let begun = |index, id: &str| Delta::ToolCallStart { index, id: text(id), name: text("f") };
    let arguments = |index, json: &str| Delta::ToolCallArguments { index, json: text(json) };
    vec![
        Delta::Reasoning { text: text("hm") },
        signed("c2ln", false),
        signed("eHk=", true),
        Delta::Text { text: text("a\n") },
        Delta::Text { text: text("b") },
        begun(0, "x"),
        arguments(0, "{\"n\":"),
        begun(1, "y"),
        arguments(0, "9007199254740993}"),
    ]
}

fn read(options: ReadOptions, chunks: &[&[u8]]) -> Vec<OutcomeEvent> {
    let mut reader = BEDROCK_CONVERSE.reader(ReadOptions { stream: true, ..options });
    let mut events = VecDeque::new();
    chunks.iter().for_each(|chunk| reader.push(Bytes::copy_from_slice(chunk), &mut events));
    reader.end(&mut events);
    reader.push(Bytes::from_static(b"more"), &mut events);
    reader.end(&mut events);
    events.into()
}

fn decoding() -> ReadOptions {
    ReadOptions { decode: true, ..ReadOptions::default() }
}

fn deltas(events: &[OutcomeEvent]) -> Vec<Delta> {
    let delta = |event: &OutcomeEvent| match event {
        OutcomeEvent::Frame { delta, .. } => delta.clone(),
        _ => None,
    };
    events.iter().filter_map(delta).collect()
}

fn ends(events: &[OutcomeEvent]) -> usize {
    let is_end =
        |event: &&OutcomeEvent| matches!(event, OutcomeEvent::Finish(_) | OutcomeEvent::Failed(_));
    events.iter().filter(is_end).count()
}

fn failure(events: &[OutcomeEvent]) -> &Failure {
    assert_eq!(ends(events), 1);
    match events.last() {
        Some(OutcomeEvent::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn passed(events: &[OutcomeEvent]) -> Vec<u8> {
    let raw = |event: &OutcomeEvent| match event {
        OutcomeEvent::Frame { raw, .. } => raw.clone(),
        OutcomeEvent::Finish(finish) => finish.raw.clone(),
        _ => None,
    };
    events.iter().filter_map(raw).flatten().collect()
}

/// What a client of `door` gets.
fn told(door: &dyn Format, events: &[OutcomeEvent]) -> Vec<u8> {
    let ids = Ids::seeded(std::sync::Arc::new(FakeClock::new(Timestamp(0))), 1);
    let mut writer = door.writer(WriteOptions {
        stream: true,
        include_usage: true,
        id: "x_1".to_owned(),
        model: "m".to_owned(),
        created: Timestamp(0),
    });
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    for event in events {
        match event {
            OutcomeEvent::Frame { raw: None, delta: Some(delta) } => writer.delta(delta, &mut out),
            OutcomeEvent::Finish(finish) => writer.finish(finish, "", &mut out).unwrap(),
            OutcomeEvent::Failed(failure) => writer.fail(failure, &CallId::new(&ids), &mut out),
            other => panic!("{other:?}"),
        }
    }
    out.to_vec()
}

#[test]
fn a_stream_is_read_however_it_is_cut_into_chunks() {
    let whole = frames().concat();
    for size in [1, 3, 64, 10_000] {
        let chunks: Vec<&[u8]> = whole.chunks(size).collect();
        let events = read(decoding(), &chunks);
        assert_eq!(deltas(&events), said(), "chunks of {size}");
        let Some(OutcomeEvent::Finish(finish)) = events.last() else { panic!("{events:?}") };
        assert_eq!(finish.stop, Stop::ToolCalls);
        let usage = finish.usage.unwrap();
        assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens), (7, 4, 2));
        assert_eq!((ends(&events), finish.raw.clone()), (1, None));
    }
}

#[test]
fn a_stream_passes_byte_for_byte_and_waits_with_its_end() {
    let whole = frames().concat();
    for hold_preamble in [false, true] {
        let options = ReadOptions { hold_preamble, ..ReadOptions::default() };
        let events = read(options, &[&whole]);
        assert_eq!(passed(&events), whole);
        let Some(OutcomeEvent::Finish(finish)) = events.last() else { panic!("{events:?}") };
        assert_eq!(finish.raw.as_deref().unwrap(), frames()[19..].concat());
        let frames = frames();
        let events = read(options, &[&frames[0]]);
        assert_eq!(passed(&events).is_empty(), hold_preamble);
        assert_eq!(failure(&events).code, ErrorCode::StreamCut);
    }
}

#[test]
fn what_is_cut_never_looks_whole_to_anybody() {
    let frames = frames();
    let whole = frames.concat();
    let stopped: usize = frames[..20].iter().map(Vec::len).sum();
    let before_stop = stopped - frames[19].len();
    let edges: Vec<usize> = (0..20).map(|count| frames[..count].concat().len()).collect();
    for cut in (0..stopped).chain(stopped + 1..whole.len()) {
        let (start, _) = whole.split_at(cut);
        let events = read(ReadOptions::default(), &[start]);
        assert_eq!(failure(&events).code, ErrorCode::StreamCut, "cut at {cut}");
        let passed = passed(&events);
        assert!(passed.len() <= before_stop && whole.starts_with(&passed), "cut at {cut}");
        let events = read(decoding(), &[start]);
        assert_eq!(failure(&events).code, ErrorCode::StreamCut, "cut at {cut}");
        // The doors' own tests go through every event; here one of each frame will do.
        let is_edge = edges.contains(&cut);
        for door in DOORS.iter().filter(|_| is_edge) {
            let told = String::from_utf8(told(*door, &events)).unwrap();
            assert_eq!(ENDS.iter().find(|end| told.contains(**end)), None, "cut at {cut}");
            assert!(told.contains("stream_cut"), "{told}");
        }
        if is_edge {
            let told = told(&BEDROCK_CONVERSE, &events);
            let contains = |words: &[u8]| told.windows(words.len()).any(|part| part == words);
            assert!(!contains(b"messageStop") && !contains(b"metadata"), "cut at {cut}");
            let again = read(decoding(), &[&told]);
            assert_eq!(failure(&again).code, ErrorCode::UpstreamFailed);
        }
    }
    // The message is whole, and nobody counted.
    let events = read(decoding(), &[&whole[..stopped]]);
    let Some(OutcomeEvent::Finish(finish)) = events.last() else { panic!("{events:?}") };
    assert_eq!((finish.stop, finish.usage), (Stop::ToolCalls, None));
}

#[test]
fn an_exception_ends_a_stream_wherever_it_comes() {
    let frames = frames();
    let cases = [
        ("throttlingException", ErrorCode::UpstreamFailed),
        ("modelStreamErrorException", ErrorCode::UpstreamFailed),
        ("internalServerException", ErrorCode::UpstreamFailed),
        ("serviceUnavailableException", ErrorCode::Overloaded),
        ("validationException", ErrorCode::InvalidRequest),
        ("sparkleException", ErrorCode::UpstreamFailed),
    ];
    for (name, code) in cases {
        for place in 0..frames.len() {
            let stream =
                [frames[..place].concat(), exception(name, "why"), frames[place..].concat()];
            let events = read(decoding(), &[&stream.concat()]);
            let failure = failure(&events);
            assert_eq!(
                (failure.code, failure.billed.clone()),
                (code, Billed::Unknown),
                "{name} at {place}"
            );
            assert!(failure.message.contains("why"));
        }
    }
    let mut out = BytesMut::new();
    let headers = [
        (":message-type", "error"),
        (":error-code", "InternalError"),
        (":error-message", "broken inside"),
    ];
    eventstream::write(&headers, b"", &mut out);
    let events = read(decoding(), &[&out]);
    assert!(failure(&events).message.contains("broken inside"));
}

#[test]
fn what_cannot_be_read_ends_a_stream() {
    let bad_usage = frame("metadata", &json!({ "usage": 1 }));
    let streams = [
        frame("messageStop", &json!({})),
        frame("messageStop", &json!({ "stopReason": "malformed_tool_use" })),
        frame("contentBlockDelta", &json!({ "delta": {} })),
        delta(0, &json!({ "toolUse": { "input": "{}" } })),
        frame("contentBlockStart", &json!({ "start": { "toolUse": {} }, "contentBlockIndex": 0 })),
        frame(
            "contentBlockStart",
            &json!({ "start": { "image": { "format": "png" } }, "contentBlockIndex": 0 }),
        ),
        delta(0, &json!({ "reasoningContent": { "redactedContent": "not base64" } })),
        b"data: {\"choices\":[]}\n\n".to_vec(),
    ];
    for stream in streams {
        let events = read(decoding(), &[&stream]);
        let failure = failure(&events);
        assert_eq!(failure.code, ErrorCode::UpstreamFailed, "{}", failure.message);
        assert_eq!(failure.billed, Billed::Unknown);
    }
    let whole = [frames()[19].clone(), bad_usage].concat();
    let events = read(decoding(), &[&whole]);
    let Some(OutcomeEvent::Finish(finish)) = events.last() else { panic!("{events:?}") };
    assert_eq!(finish.usage, None, "a usage that can't be read is none");
}

#[test]
fn too_many_calls_and_blocks_are_refused() {
    let calls: Vec<u8> = (0..1_025).flat_map(|index| call(index, "x")).collect();
    assert_eq!(failure(&read(decoding(), &[&calls])).code, ErrorCode::UpstreamFailed);
    let other = |index: u32| {
        frame("contentBlockStart", &json!({ "start": {}, "contentBlockIndex": index }))
    };
    let blocks: Vec<u8> = (0..4_097).flat_map(other).collect();
    assert_eq!(failure(&read(decoding(), &[&blocks])).code, ErrorCode::UpstreamFailed);
}

#[test]
fn every_pair_of_formats_tells_the_same() {
    // Whose signature it is, each format says in its own way.
    let unsigned = |deltas: Vec<Delta>| -> Vec<Delta> {
        let signs = |delta: &Delta| matches!(delta, Delta::ReasoningSignature { .. });
        deltas.into_iter().filter(|delta| !signs(delta)).collect()
    };
    let plain = unsigned(said());
    // Calls come one after another from some doors.
    let sorted = |mut deltas: Vec<Delta>| {
        deltas.sort_by_key(|delta| match delta {
            Delta::ToolCallStart { index, .. } | Delta::ToolCallArguments { index, .. } => {
                index + 1
            }
            _ => 0,
        });
        // Some doors say of a call without arguments that it has none.
        let nothing =
            |delta: &Delta| matches!(delta, Delta::ToolCallArguments { json, .. } if json == "{}");
        let mut joined: Vec<Delta> = Vec::new();
        for delta in deltas.into_iter().filter(|delta| !nothing(delta)) {
            match (joined.last_mut(), &delta) {
                (Some(Delta::Text { text: before }), Delta::Text { text }) => before.push_str(text),
                (
                    Some(Delta::ToolCallArguments { json: before, .. }),
                    Delta::ToolCallArguments { json, .. },
                ) => before.push_str(json),
                _ => joined.push(delta),
            }
        }
        joined
    };
    let events = read(decoding(), &[&frames().concat()]);
    let again = read(decoding(), &[&told(&BEDROCK_CONVERSE, &events)]);
    assert_eq!(sorted(deltas(&again)), sorted(said()));
    for other in [&OPENAI_CHAT as &dyn Format, &ANTHROPIC_MESSAGES] {
        // From Bedrock to a door, and from its answer to a client of Bedrock's.
        let told_there = told(other, &events);
        let mut reader = other.reader(ReadOptions { stream: true, ..decoding() });
        let mut there = VecDeque::new();
        reader.push(Bytes::from(told_there), &mut there);
        reader.end(&mut there);
        let there: Vec<OutcomeEvent> = there.into();
        assert_eq!(sorted(unsigned(deltas(&there))), sorted(plain.clone()), "{}", other.name());
        let back = read(decoding(), &[&told(&BEDROCK_CONVERSE, &there)]);
        assert_eq!(sorted(unsigned(deltas(&back))), sorted(plain.clone()), "{}", other.name());
        let Some(OutcomeEvent::Finish(finish)) = back.last() else { panic!("{back:?}") };
        assert_eq!((finish.stop, finish.usage.unwrap().total_tokens()), (Stop::ToolCalls, 9));
    }
}

#[test]
fn a_stream_is_written_in_bedrocks_order() {
    let mut writer = Writer::new();
    let mut out = BytesMut::new();
    for delta in said() {
        writer.delta(&delta, &mut out);
    }
    writer.finish(&Finish { stop: Stop::ToolCalls, ..Finish::default() }, "", &mut out).unwrap();
    let mut decoder = Decoder::default();
    decoder.push(&out);
    let mut lines = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        let payload = String::from_utf8(frame.payload.to_vec()).unwrap();
        lines.push(format!("{} {payload}", frame.header(":event-type")));
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    messageStart {"role":"assistant"}
    contentBlockDelta {"delta":{"reasoningContent":{"text":"hm"}},"contentBlockIndex":0}
    contentBlockDelta {"delta":{"reasoningContent":{"signature":"c2ln"}},"contentBlockIndex":0}
    contentBlockStop {"contentBlockIndex":0}
    contentBlockDelta {"delta":{"reasoningContent":{"redactedContent":"eHk="}},"contentBlockIndex":1}
    contentBlockStop {"contentBlockIndex":1}
    contentBlockDelta {"delta":{"text":"a\n"},"contentBlockIndex":2}
    contentBlockDelta {"delta":{"text":"b"},"contentBlockIndex":2}
    contentBlockStop {"contentBlockIndex":2}
    contentBlockStart {"start":{"toolUse":{"toolUseId":"x","name":"f"}},"contentBlockIndex":3}
    contentBlockDelta {"delta":{"toolUse":{"input":"{\"n\":"}},"contentBlockIndex":3}
    contentBlockDelta {"delta":{"toolUse":{"input":"9007199254740993}"}},"contentBlockIndex":3}
    contentBlockStop {"contentBlockIndex":3}
    contentBlockStart {"start":{"toolUse":{"toolUseId":"y","name":"f"}},"contentBlockIndex":4}
    contentBlockStop {"contentBlockIndex":4}
    messageStop {"stopReason":"tool_use"}
    metadata {"usage":{"inputTokens":0,"outputTokens":0,"totalTokens":0,"cacheReadInputTokens":0,"cacheWriteInputTokens":0}}
    "#);
}

proptest! {
    /// Any mixture of frames, whole, malformed or torn, ends once.
    #[test]
    fn any_stream_ends_once(
        picks in prop::collection::vec((0usize..40, any::<bool>()), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        at in 0usize..4_000,
        cut in 0usize..4_000,
    ) {
        let frames = frames();
        let mut stream = Vec::new();
        for (pick, torn) in &picks {
            let frame = &frames[pick % frames.len()];
            let end = if *torn { frame.len() / 2 } else { frame.len() };
            stream.extend_from_slice(&frame[..end]);
        }
        let at = at.min(stream.len());
        stream.splice(at..at, noise.iter().copied());
        let (left, right) = stream.split_at(cut.min(stream.len()));
        for decode in [false, true] {
            let events = read(ReadOptions { decode, ..ReadOptions::default() }, &[left, right]);
            prop_assert_eq!(ends(&events), 1);
            let last = events.last();
            let is_end = matches!(last, Some(OutcomeEvent::Finish(_) | OutcomeEvent::Failed(_)));
            prop_assert!(is_end);
        }
    }

    /// Whatever stands in frames that are whole is read or refused.
    #[test]
    fn any_events_are_read_or_refused(
        events in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop",
                    "messageStop", "metadata",
                ]),
                r#"\{("(delta|start|contentBlockIndex|stopReason|usage)":(\{\}|1|null|"x"|\{"text":"x"\}|\{"toolUse":\{"toolUseId":"i","name":"n","input":"x"\}\}|\{"reasoningContent":\{"signature":"s"\}\}),){0,3}"z":1\}"#,
            ),
            0..8,
        ),
    ) {
        let mut stream = BytesMut::new();
        for (name, payload) in &events {
            let headers = [(":event-type", *name), (":message-type", "event")];
            eventstream::write(&headers, payload.as_bytes(), &mut stream);
        }
        let events = read(decoding(), &[&stream]);
        prop_assert_eq!(ends(&events), 1);
    }
}
