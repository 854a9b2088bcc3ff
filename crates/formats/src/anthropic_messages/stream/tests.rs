use std::sync::Arc;

use ::types::clock::{FakeClock, Timestamp};
use ::types::format::{WriteOptions, WriteResponse};
use ::types::ids::{CallId, Ids};
use ::types::outcome::{Delta, Start};
use ::types::usage::Usage;
use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

/// An event as the provider sends it: its name is its data's `type`.
fn event(data: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(data).unwrap();
    format!("event: {}\ndata: {data}\n\n", value["type"].as_str().unwrap())
}

fn events(data: &[&str]) -> Vec<String> {
    data.iter().map(|data| event(data)).collect()
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-5-5-20260901","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":300,"cache_read_input_tokens":600,"cache_creation":{"ephemeral_5m_input_tokens":300,"ephemeral_1h_input_tokens":0},"output_tokens":2,"service_tier":"standard"}}}"#;
const PING: &str = r#"{"type": "ping"}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;
const BLOCK: &str =
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
const PIECE: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"caf\u00e9 \"message_stop\""}}"#;
const BLOCK_STOP: &str = r#"{"type":"content_block_stop","index":0}"#;
const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":50,"output_tokens_details":{"thinking_tokens":20}}}"#;
const ERROR: &str =
    r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;

fn text() -> Vec<String> {
    events(&[START, BLOCK, PING, PIECE, BLOCK_STOP, END, STOP])
}

fn thinking() -> Vec<String> {
    events(&[
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"let me"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" see"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln+/=="}}"#,
        BLOCK_STOP,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"aGlkZGVu"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"four"}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        END,
        STOP,
    ])
}

/// Three calls, interleaved as no provider of today does it but any may.
fn tools() -> Vec<String> {
    events(&[
        START,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_a","name":"f","input":{},"caller":{"type":"direct"}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"n\": 900719"}}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_b","name":"g","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"x\":[1,"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"9254740993}"}}"#,
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_c","name":"h","input":{"whole":true}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"2]}"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"content_block_stop","index":4}"#,
        &END.replace("end_turn", "tool_use"),
        STOP,
    ])
}

fn bare_tool() -> Vec<String> {
    events(&[
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_a","name":"now","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        BLOCK_STOP,
        &END.replace("end_turn", "tool_use"),
        STOP,
    ])
}

fn ended(reason: &str, sequence: &str) -> Vec<String> {
    let end = END.replace("end_turn", reason);
    let end = end.replace("\"stop_sequence\":null", &format!("\"stop_sequence\":{sequence}"));
    events(&[START, BLOCK, PIECE, BLOCK_STOP, &end, STOP])
}

fn recorded() -> Vec<(&'static str, Vec<String>)> {
    vec![
        ("text", text()),
        ("thinking", thinking()),
        ("tools", tools()),
        ("bare tool", bare_tool()),
        ("refusal", ended("refusal", "null")),
        ("max tokens", ended("max_tokens", "null")),
        ("stop sequence", ended("stop_sequence", "\"###\"")),
        ("without names", text().iter().map(|event| unnamed(event)).collect()),
        ("other line ends", text().iter().map(|event| event.replace('\n', "\r\n")).collect()),
    ]
}

/// An event without its `event:` line.
fn unnamed(event: &str) -> String {
    event.split_once('\n').unwrap().1.to_owned()
}

const PASS: ReadOptions = ReadOptions {
    stream: true,
    decode: false,
    withhold_usage: false,
    operation: ::types::call::Operation::Chat,
    hold_preamble: false,
};
const DECODE: ReadOptions = ReadOptions { decode: true, ..PASS };

/// Passed bytes, deltas, and the one end.
#[derive(Debug)]
struct Read {
    raw: String,
    deltas: Vec<Delta>,
    end: Result<Finish, Box<Failure>>,
}

impl Read {
    fn failure(&self) -> &Failure {
        self.end.as_ref().unwrap_err()
    }

    fn finish(&self) -> &Finish {
        self.end.as_ref().unwrap()
    }

    /// Its deltas, one a line, pieces of one kind joined.
    fn shown(&self) -> String {
        let shown = self.deltas.iter().map(|delta| serde_json::to_string(delta).unwrap());
        shown.collect::<Vec<_>>().join("\n")
    }
}

fn read_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, options: ReadOptions) -> Read {
    let mut reader = Reader::new(options);
    let mut seen = VecDeque::new();
    for chunk in chunks {
        reader.push(Bytes::copy_from_slice(chunk), &mut seen);
    }
    reader.end(&mut seen);
    let end = match seen.pop_back().unwrap() {
        OutcomeEvent::Finish(finish) => Ok(finish),
        OutcomeEvent::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    };
    let (mut raw, mut deltas) = (Vec::new(), Vec::new());
    for event in seen {
        match event {
            OutcomeEvent::Frame { raw: Some(bytes), delta: None } => raw.extend_from_slice(&bytes),
            OutcomeEvent::Frame { raw: None, delta: Some(delta) } => deltas.push(delta),
            other => panic!("only frames come before the one end: {other:?}"),
        }
    }
    Read { raw: String::from_utf8(raw).unwrap(), deltas, end }
}

fn read(events: &[String], options: ReadOptions) -> Read {
    read_chunks([events.concat().as_bytes()], options)
}

fn usage() -> Usage {
    Usage {
        input_tokens: 912,
        cached_tokens: 600,
        cache_write_tokens: 300,
        cache_write_1h_tokens: 0,
        output_tokens: 50,
        reasoning_tokens: 20,
        ..Usage::default()
    }
}

#[test]
fn a_stream_passes_and_its_last_event_is_kept_for_the_end() {
    for (name, recorded) in recorded() {
        let read = read(&recorded, PASS);
        let (last, before) = recorded.split_last().unwrap();
        assert_eq!(read.raw, before.concat(), "{name}");
        let finish = read.finish();
        assert_eq!(finish.raw.as_deref(), Some(last.as_bytes()), "{name}");
        assert_eq!(finish.model_version.as_deref(), Some("claude-sonnet-5-5-20260901"), "{name}");
        assert_eq!(finish.usage, Some(usage()), "{name}");
        assert!(!finish.carried_ids);
    }
}

#[test]
fn events_in_one_chunk_are_one_frame_and_no_byte_is_copied() {
    let chunk = Bytes::from(text().concat());
    let mut reader = Reader::new(PASS);
    let mut seen = VecDeque::new();
    reader.push(chunk.clone(), &mut seen);
    let [OutcomeEvent::Frame { raw: Some(raw), .. }, OutcomeEvent::Finish(_)] =
        seen.make_contiguous()
    else {
        panic!("{seen:?}")
    };
    assert_eq!(raw.as_ptr(), chunk.as_ptr());
}

#[test]
fn the_stop_reason_and_what_stopped_it_are_read() {
    let table = [
        ("end_turn", "null", Stop::End, None),
        ("stop_sequence", "\"###\"", Stop::End, Some("###")),
        ("max_tokens", "null", Stop::Length, None),
        ("model_context_window_exceeded", "null", Stop::Length, None),
        ("tool_use", "null", Stop::ToolCalls, None),
        ("refusal", "null", Stop::ContentFilter, None),
        ("something_new", "null", Stop::End, None),
    ];
    for (reason, sequence, stop, stop_text) in table {
        for options in [PASS, DECODE] {
            let read = read(&ended(reason, sequence), options);
            let finish = read.finish();
            assert_eq!((finish.stop, finish.stop_text.as_deref()), (stop, stop_text), "{reason}");
        }
    }
}

#[test]
fn a_paused_turn_passes_and_looks_whole_nowhere_else() {
    let paused = ended("pause_turn", "null");
    assert_eq!(read(&paused, PASS).finish().stop, Stop::End);
    let failed = read(&paused, DECODE);
    assert_eq!(failed.failure().code, ErrorCode::UpstreamFailed);
    assert_eq!(failed.failure().billed, Billed::from(usage()));
}

#[test]
fn text_becomes_deltas() {
    assert_snapshot!(read(&text(), DECODE).shown(), @r#"{"type":"text","text":"café \"message_stop\""}"#);
}

#[test]
fn thinking_becomes_deltas_with_its_signatures() {
    assert_snapshot!(read(&thinking(), DECODE).shown(), @r#"
    {"type":"reasoning","text":"let me"}
    {"type":"reasoning","text":" see"}
    {"type":"reasoning_signature","signature":"c2ln+/==","redacted":false,"origin":"anthropic_messages"}
    {"type":"reasoning_signature","signature":"aGlkZGVu","redacted":true,"origin":"anthropic_messages"}
    {"type":"text","text":"four"}
    "#);
}

#[test]
fn interleaved_calls_get_places_without_gaps() {
    let read = read(&tools(), DECODE);
    assert_snapshot!(read.shown(), @r#"
    {"type":"tool_call_start","index":0,"id":"toolu_a","name":"f"}
    {"type":"tool_call_arguments","index":0,"json":"{\"n\": 900719"}
    {"type":"tool_call_start","index":1,"id":"toolu_b","name":"g"}
    {"type":"tool_call_arguments","index":1,"json":"{\"x\":[1,"}
    {"type":"tool_call_arguments","index":0,"json":"9254740993}"}
    {"type":"tool_call_start","index":2,"id":"toolu_c","name":"h"}
    {"type":"tool_call_arguments","index":1,"json":"2]}"}
    {"type":"tool_call_arguments","index":2,"json":"{\"whole\":true}"}
    "#);
    assert_eq!(read.finish().stop, Stop::ToolCalls);
}

#[test]
fn a_call_without_arguments_has_a_start_only() {
    assert_snapshot!(read(&bare_tool(), DECODE).shown(), @r#"{"type":"tool_call_start","index":0,"id":"toolu_a","name":"now"}"#);
}

#[test]
fn what_comes_with_a_block_s_beginning_is_not_lost() {
    let read = read(
        &events(&[
            START,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"hm","signature":"s1"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s2"}}"#,
            BLOCK_STOP,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"a"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location"}}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"old":1}}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"new\":1}"}}"#,
            r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"u","name":"g","input":{"kept": 1}}}"#,
            END,
            STOP,
        ]),
        DECODE,
    );
    assert_snapshot!(read.shown(), @r#"
    {"type":"reasoning","text":"hm"}
    {"type":"reasoning_signature","signature":"s2","redacted":false,"origin":"anthropic_messages"}
    {"type":"text","text":"a"}
    {"type":"tool_call_start","index":0,"id":"t","name":"f"}
    {"type":"tool_call_arguments","index":0,"json":"{\"new\":1}"}
    {"type":"tool_call_start","index":1,"id":"u","name":"g"}
    {"type":"tool_call_arguments","index":1,"json":"{\"kept\": 1}"}
    "#);
}

#[test]
fn counts_of_the_end_replace_those_of_the_beginning() {
    let with = |start: &str, end: &str| {
        let start = format!(
            r#"{{"type":"message_start","message":{{"type":"message","model":"m","usage":{start}}}}}"#
        );
        let end = format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{end}}}"#
        );
        read(&events(&[&start, &end, STOP]), PASS).finish().usage
    };
    let plain = |input_tokens, output_tokens| {
        Some(Usage { input_tokens, output_tokens, ..Usage::default() })
    };
    assert_eq!(
        with(r#"{"input_tokens":3,"output_tokens":1}"#, r#"{"output_tokens":9}"#),
        plain(3, 9)
    );
    // What our own writer says of a translated answer.
    assert_eq!(
        with(r#"{"input_tokens":0,"output_tokens":0}"#, r#"{"input_tokens":7,"output_tokens":9}"#),
        plain(7, 9)
    );
    assert_eq!(
        with(
            r#"{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":20,"output_tokens":1}"#,
            r#"{"input_tokens":null,"cache_read_input_tokens":11,"output_tokens":9}"#
        ),
        Some(Usage {
            input_tokens: 34,
            cached_tokens: 11,
            cache_write_tokens: 20,
            cache_write_1h_tokens: 0,
            output_tokens: 9,
            reasoning_tokens: 0,
            ..Usage::default()
        })
    );
    assert_eq!(
        with(r#"{"input_tokens":0,"output_tokens":0}"#, r#"{"output_tokens":0}"#),
        plain(0, 0)
    );
    // The first count of the output is no bill, and neither is one that can't be read.
    for (start, end) in [
        (r#"{"input_tokens":3,"output_tokens":1}"#, "null"),
        ("null", r#"{"output_tokens":9}"#),
        (r#"{"input_tokens":"3"}"#, r#"{"output_tokens":9}"#),
        (r#"{"input_tokens":3}"#, r#"{"output_tokens":-1}"#),
        (
            r#"{"input_tokens":3}"#,
            r#"{"output_tokens":9,"iterations":[{"type":"message","output_tokens":8},{"type":"compaction","output_tokens":900}]}"#,
        ),
    ] {
        assert_eq!(with(start, end), None, "{start} {end}");
    }
    let steps = r#"{"output_tokens":9,"iterations":[{"type":"message","output_tokens":9}]}"#;
    assert_eq!(with(r#"{"input_tokens":3}"#, steps), plain(3, 9));
}

#[test]
fn every_cut_into_two_chunks_reads_the_same() {
    for (name, recorded) in recorded() {
        let whole = recorded.concat();
        for options in [PASS, DECODE] {
            let expected = format!("{:?}", read(&recorded, options));
            for cut in 0..=whole.len() {
                let (left, right) = whole.as_bytes().split_at(cut);
                let read = read_chunks([left, right], options);
                assert_eq!(format!("{read:?}"), expected, "{name} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_stream_that_ends_early_is_cut_wherever_it_ends() {
    for (name, recorded) in recorded() {
        let whole = recorded.concat();
        let stopped = recorded[..recorded.len() - 1].concat().len();
        // `message_stop` without its empty line is an end all the same.
        let said = whole.trim_end().len();
        for cut in 0..said {
            for options in [PASS, DECODE] {
                let read = read_chunks([&whole.as_bytes()[..cut]], options);
                let failure = read.failure();
                assert_eq!(failure.code, ErrorCode::StreamCut, "{name} cut at {cut}");
                let billed = match cut {
                    cut if cut >= stopped => Billed::from(usage()),
                    cut if cut + 4 < stopped => Billed::Unknown,
                    _ => failure.billed.clone(),
                };
                assert_eq!(failure.billed, billed, "{name} cut at {cut}");
                // Nothing of an event that did not come whole, and no terminal bytes.
                assert!(whole.starts_with(&read.raw));
                assert!(
                    read.raw.is_empty() || read.raw.ends_with("\n\n") || read.raw.ends_with("\r\n"),
                    "{name} {cut} {:?}",
                    read.raw
                );
                assert!(!read.raw.contains("event: message_stop"));
            }
        }
        for cut in said..whole.len() {
            let read = read_chunks([&whole.as_bytes()[..cut]], PASS);
            let raw = read.finish().raw.clone().unwrap();
            assert!(raw.ends_with(b"\n\n") || raw.ends_with(b"\n\r\n"), "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_message_that_stops_without_a_reason_is_cut() {
    let no_reason =
        r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":5}}"#;
    for stream in [events(&[START, STOP]), events(&[START, no_reason, STOP]), events(&[STOP])] {
        for options in [PASS, DECODE] {
            let read = read(&stream, options);
            assert_eq!(read.failure().code, ErrorCode::StreamCut);
            assert_eq!(read.failure().billed, Billed::Unknown);
        }
    }
}

#[test]
fn an_error_in_the_stream_ends_it() {
    let plain = r#"{"error":{"message":"boom"}}"#;
    let unnamed_error = format!("data: {ERROR}\n\n");
    for error in [event(ERROR), unnamed_error, format!("data: {plain}\n\n")] {
        let before = events(&[START, BLOCK, PIECE]);
        let mut stream = before.clone();
        stream.push(error);
        stream.extend(events(&[BLOCK_STOP, END, STOP]));
        let passed = read(&stream, PASS);
        assert_eq!(passed.raw, before.concat());
        assert_eq!(passed.failure().billed, Billed::Unknown);
        let decoded = read(&stream, DECODE);
        assert_eq!(decoded.deltas.len(), 1);
        assert_eq!(decoded.failure(), passed.failure());
    }
    let overloaded = read(&events(&[START, ERROR]), PASS);
    assert_eq!(overloaded.failure().code, ErrorCode::Overloaded);
    // Behind the last counts the cost is known.
    let late = read(&events(&[START, BLOCK, PIECE, BLOCK_STOP, END, ERROR]), PASS);
    assert_eq!(late.failure().billed, Billed::from(usage()));
    for odd in ["event: error\ndata: oops\n\n", "event: error\n\n"] {
        let odd = read(&[odd.to_owned(), text().concat()], PASS);
        assert_eq!(odd.failure().code, ErrorCode::UpstreamFailed);
    }
}

#[test]
fn comments_ids_unknown_events_and_what_follows_the_end() {
    let body = format!(
        ": hello\n\nid: 1\n{}event: new_thing\ndata: no json\n\ndata: [DONE]\n\nevent: ping\n\n{}",
        event(START),
        events(&[BLOCK, PIECE, BLOCK_STOP, END]).concat()
    );
    let whole = format!("{body}{}data: [DONE]\n\n", event(STOP));
    let passed = read_chunks([whole.as_bytes()], PASS);
    assert_eq!(passed.raw, body);
    assert!(passed.finish().carried_ids);
    assert_eq!(read_chunks([whole.as_bytes()], DECODE).deltas.len(), 1);
}

#[test]
fn what_cannot_be_read_is_a_failure() {
    let bad = [
        "event: message_start\ndata: {\"type\":\"message_start\"}\n\n",
        "event: message_delta\ndata: {\"type\":\n\n",
        "data: {\"type\":\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"b\n\n",
    ];
    for bad in bad {
        for options in [PASS, DECODE] {
            let read = read(&[bad.to_owned(), text().concat()], options);
            assert_eq!(read.failure().code, ErrorCode::UpstreamFailed, "{bad}");
            assert_eq!(read.failure().billed, Billed::Unknown);
        }
    }
    let blocks = [
        r#"{"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"a"}}"#,
        r#"{"type":"content_block_start","index":0}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"","name":"f","input":{}}}"#,
        r#"{"type":"content_block_stop"}"#,
    ];
    for block in blocks {
        let read = read(&events(&[START, block, END, STOP]), DECODE);
        assert_eq!(read.failure().code, ErrorCode::UpstreamFailed, "{block}");
    }
}

#[test]
fn blocks_and_calls_have_limits() {
    let many = |block: &str, count: usize| {
        let mut stream = vec![event(START)];
        stream.extend(
            (0..count)
                .map(|index| event(&block.replace("\"index\":0", &format!("\"index\":{index}")))),
        );
        stream.extend(events(&[END, STOP]));
        read(&stream, DECODE).end.is_ok()
    };
    assert!(many(BLOCK, 4_096) && !many(BLOCK, 4_097));
    let call = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
    assert!(many(call, 1_024) && !many(call, 1_025));
}

#[test]
fn an_event_without_an_end_is_refused() {
    let chunk = vec![b'x'; 1024 * 1024];
    let read = read_chunks(std::iter::repeat_n(&chunk[..], 32), PASS);
    assert_eq!(read.failure().code, ErrorCode::UpstreamFailed);
}

mod writing;
