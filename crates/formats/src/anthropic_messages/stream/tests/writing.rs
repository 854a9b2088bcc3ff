use super::*;

fn options() -> WriteOptions {
    WriteOptions {
        stream: true,
        include_usage: true,
        id: "msg_1".to_owned(),
        model: "local/\"demo\"".to_owned(),
        created: Timestamp(0),
    }
}

fn written(deltas: &[Delta], finish: &Finish) -> String {
    let mut writer = Writer::new(&options());
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    if let Err(failure) = writer.finish(finish, "holdfast-cost=0.000123", &mut out) {
        let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
        writer.fail(&failure, &CallId::new(&ids), &mut out);
    }
    String::from_utf8(out.to_vec()).unwrap()
}

fn say(text: &str) -> Delta {
    Delta::Text { text: text.to_owned() }
}

fn think(text: &str) -> Delta {
    Delta::Reasoning { text: text.to_owned() }
}

fn sign(signature: &str, redacted: bool) -> Delta {
    signed_by("anthropic_messages", signature, redacted)
}

fn signed_by(origin: &str, signature: &str, redacted: bool) -> Delta {
    let (signature, origin) = (signature.to_owned(), origin.to_owned());
    Delta::ReasoningSignature { signature, redacted, origin }
}

fn call(index: u32, name: &str) -> Delta {
    Delta::ToolCallStart { index, id: format!("toolu_{index}"), name: name.to_owned() }
}

fn arguments(index: u32, json: &str) -> Delta {
    Delta::ToolCallArguments { index, json: json.to_owned() }
}

fn finished(stop: Stop) -> Finish {
    Finish { stop, usage: Some(usage()), ..Finish::default() }
}

/// The data of the blocks' events, one a line.
fn blocks(deltas: &[Delta]) -> String {
    let written = written(deltas, &finished(Stop::End));
    let blocks = written.lines().filter(|line| line.starts_with("data: {\"type\":\"content_"));
    blocks.map(|line| &line[6..]).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_stream_is_written_as_sdks_need_it() {
    assert_snapshot!(written(&[say("a\"b\n"), say("c")], &finished(Stop::End)), @r#"
    event: message_start
    data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"local/\"demo\"","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}

    event: content_block_start
    data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\"b\n"}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"c"}}

    event: content_block_stop
    data: {"type":"content_block_stop","index":0}

    event: message_delta
    data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":12,"cache_creation_input_tokens":300,"cache_read_input_tokens":600,"output_tokens":50,"output_tokens_details":{"thinking_tokens":20}}}

    : holdfast-cost=0.000123

    event: message_stop
    data: {"type":"message_stop"}
    "#);
}

#[test]
fn an_answer_without_content_or_counts_is_whole() {
    assert_snapshot!(written(&[], &Finish::default()), @r#"
    event: message_start
    data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"local/\"demo\"","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}

    event: message_delta
    data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}

    : holdfast-cost=0.000123

    event: message_stop
    data: {"type":"message_stop"}
    "#);
}

#[test]
fn thinking_is_signed_at_the_end_of_its_block() {
    assert_snapshot!(blocks(&[
        think("a"), think("b"), sign("s1", false), think("c"), sign("s2", false), sign("hidden", true),
        sign("only", false), say("x"),
    ]), @r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
    {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a"}}
    {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"b"}}
    {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s1"}}
    {"type":"content_block_stop","index":0}
    {"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"","signature":""}}
    {"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"c"}}
    {"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"s2"}}
    {"type":"content_block_stop","index":1}
    {"type":"content_block_start","index":2,"content_block":{"type":"redacted_thinking","data":"hidden"}}
    {"type":"content_block_stop","index":2}
    {"type":"content_block_start","index":3,"content_block":{"type":"thinking","thinking":"","signature":""}}
    {"type":"content_block_delta","index":3,"delta":{"type":"signature_delta","signature":"only"}}
    {"type":"content_block_stop","index":3}
    {"type":"content_block_start","index":4,"content_block":{"type":"text","text":""}}
    {"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"x"}}
    {"type":"content_block_stop","index":4}
    "#);
}

#[test]
fn foreign_signatures_end_a_block_and_travel_under_a_seal() {
    assert_snapshot!(blocks(&[
        think("a"), signed_by("other", "s", false), think("b"), signed_by("other", "h", true), say("x"),
    ]), @r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
    {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a"}}
    {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"hf1.other.s"}}
    {"type":"content_block_stop","index":0}
    {"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"","signature":""}}
    {"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"b"}}
    {"type":"content_block_stop","index":1}
    {"type":"content_block_start","index":2,"content_block":{"type":"redacted_thinking","data":"hf1.other_redacted.h"}}
    {"type":"content_block_stop","index":2}
    {"type":"content_block_start","index":3,"content_block":{"type":"text","text":""}}
    {"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"x"}}
    {"type":"content_block_stop","index":3}
    "#);
}

#[test]
fn interleaved_calls_are_written_one_after_another() {
    assert_snapshot!(blocks(&[
        say("x"), call(0, "f"), arguments(0, "{\"a\":"), call(1, "g"), arguments(1, "{\"b\":"), arguments(0, "1}"),
        call(2, "h"), arguments(2, "{}"), arguments(1, "2}"), arguments(0, " "), say("y"),
    ]), @r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
    {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}
    {"type":"content_block_stop","index":0}
    {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_0","name":"f","input":{}}}
    {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}
    {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}
    {"type":"content_block_stop","index":1}
    {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"g","input":{}}}
    {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"b\":"}}
    {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"2}"}}
    {"type":"content_block_stop","index":2}
    {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"h","input":{}}}
    {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}
    {"type":"content_block_stop","index":3}
    {"type":"content_block_start","index":4,"content_block":{"type":"text","text":""}}
    {"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"y"}}
    {"type":"content_block_stop","index":4}
    "#);
}

#[test]
fn calls_that_come_one_after_another_are_written_as_they_come() {
    let mut writer = Writer::new(&options());
    let mut out = BytesMut::new();
    let deltas = [
        call(0, "f"),
        arguments(0, "{\"a\":1}"),
        call(1, "now"),
        arguments(1, "{"),
        arguments(1, "}"),
        call(2, "h"),
    ];
    for delta in &deltas {
        out.clear();
        writer.delta(delta, &mut out);
        assert!(!out.is_empty(), "{delta:?} waits");
    }
}

#[test]
fn a_call_without_arguments_has_an_empty_input_and_no_piece() {
    assert_snapshot!(blocks(&[call(0, "now"), arguments(0, "")]), @r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_0","name":"now","input":{}}}
    {"type":"content_block_stop","index":0}
    "#);
}

#[test]
fn stops_are_told_in_this_format_s_words() {
    let reason = |deltas: &[Delta], finish: &Finish| {
        let written = written(deltas, finish);
        let end = written.split("event: message_delta\ndata: ").nth(1).unwrap();
        let end: serde_json::Value = serde_json::from_str(end.lines().next().unwrap()).unwrap();
        let delta = &end["delta"];
        (delta["stop_reason"].as_str().unwrap().to_owned(), delta["stop_sequence"].clone())
    };
    let plain = |stop| reason(&[], &finished(stop)).0;
    assert_eq!(plain(Stop::End), "end_turn");
    assert_eq!(plain(Stop::Length), "max_tokens");
    assert_eq!(plain(Stop::ToolCalls), "tool_use");
    assert_eq!(plain(Stop::ContentFilter), "refusal");
    let sequence = Finish { stop_text: Some("###".to_owned()), ..finished(Stop::End) };
    assert_eq!(reason(&[], &sequence), ("stop_sequence".to_owned(), "###".into()));
    assert_eq!(reason(&[call(0, "f")], &finished(Stop::End)).0, "tool_use");
}

#[test]
fn a_failure_is_an_error_event_and_no_end() {
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    let mut out = BytesMut::new();
    let mut writer = Writer::new(&options());
    writer.keep_alive(&mut out);
    writer.delta(&say("a"), &mut out);
    out.clear();
    let failure = Failure::new(ErrorCode::Overloaded, "full");
    writer.fail(&failure, &CallId::new(&ids), &mut out);
    let said = String::from_utf8(out.to_vec()).unwrap();
    assert!(said.starts_with("event: error\ndata: {\"type\":\"error\",\"error\":{"), "{said}");
    assert!(said.contains("overloaded_error") && said.ends_with("}\n\n"), "{said}");
    let read = read_chunks([said.as_bytes()], PASS);
    assert_eq!(read.failure().code, ErrorCode::Overloaded);
}

#[test]
fn signs_of_life_may_come_at_any_time() {
    let mut out = BytesMut::new();
    let mut writer = Writer::new(&options());
    writer.keep_alive(&mut out);
    assert_eq!(out, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
    writer.delta(&say("a"), &mut out);
    writer.keep_alive(&mut out);
    writer.finish(&finished(Stop::End), "", &mut out).unwrap();
    let read = read_chunks([&out[..]], DECODE);
    assert_eq!(read.deltas, [say("a")]);
    assert_eq!(read.finish().usage, Some(usage()));
}

#[test]
fn a_call_that_no_client_could_read_is_an_error_and_no_end() {
    for json in ["{\"a\":", "nonsense", "7", "{} {}"] {
        let deltas = [say("x"), call(0, "f"), arguments(0, json), call(1, "g")];
        let failed = read_chunks([written(&deltas, &finished(Stop::ToolCalls)).as_bytes()], PASS);
        assert_eq!(failed.failure().code, ErrorCode::UpstreamFailed, "{json}");
        assert!(failed.failure().message.contains("'f'"), "{}", failed.failure());
        // Where the cap cut it off, the client is told so.
        let cut = read_chunks([written(&deltas, &finished(Stop::Length)).as_bytes()], PASS);
        assert_eq!(cut.finish().stop, Stop::Length, "{json}");
    }
}

#[test]
fn what_waits_has_a_limit() {
    let mut writer = Writer::new(&options());
    let mut out = BytesMut::new();
    writer.delta(&call(0, "f"), &mut out);
    writer.delta(&call(1, "g"), &mut out);
    let piece = arguments(1, &"x".repeat(1024 * 1024));
    (0..100).for_each(|_| writer.delta(&piece, &mut out));
    assert!(out.len() < 1024 * 1024);
    let failure = writer.finish(&finished(Stop::ToolCalls), "", &mut out).unwrap_err();
    assert_eq!(failure.code, ErrorCode::UpstreamFailed);
    let read = read_chunks([&out[..]], DECODE);
    assert_eq!(read.failure().code, ErrorCode::StreamCut);
}

#[test]
fn a_rendered_stream_that_is_cut_never_looks_whole() {
    let deltas = [think("a"), sign("s", false), say("b"), call(0, "f"), arguments(0, "{}")];
    let whole = written(&deltas, &finished(Stop::ToolCalls));
    let frames: Vec<&str> = whole.split_inclusive("\n\n").collect();
    for count in 0..frames.len() {
        for options in [PASS, DECODE] {
            let read = read_chunks([frames[..count].concat().as_bytes()], options);
            assert_eq!(read.failure().code, ErrorCode::StreamCut, "{count}");
        }
    }
}

/// Pieces as a target may send them: any kind of text, signatures where they may stand, and calls
/// one after another with pieces of their arguments.
fn answer() -> impl Strategy<Value = Vec<Delta>> {
    let text = "[a-z \"\\\\\n\u{e9}\u{1F600}]{1,8}";
    let piece = prop_oneof![
        text.prop_map(|text| vec![Delta::Text { text }]),
        (text, "[a-z]{1,4}").prop_map(|(text, signature)| {
            vec![Delta::Reasoning { text }, sign(&signature, false)]
        }),
        "[a-z]{1,4}".prop_map(|data| vec![sign(&data, true)]),
        Just(vec![sign("alone", false)]),
        ("[a-z]{1,4}", 0u64..u64::MAX, any::<bool>()).prop_map(|(name, number, bare)| {
            let mut call = vec![call(0, &name)];
            if !bare {
                call.push(arguments(0, "{\"n\":"));
                call.push(arguments(0, &format!("{number}}}")));
            }
            call
        }),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| {
        let mut calls = 0u32;
        let mut number = |delta| match delta {
            Delta::ToolCallStart { name, .. } => {
                calls += 1;
                call(calls - 1, &name)
            }
            Delta::ToolCallArguments { json, .. } => arguments(calls - 1, &json),
            delta => delta,
        };
        pieces.into_iter().flatten().map(&mut number).collect()
    })
}

/// Pieces of one text joined: chunking says nothing.
fn joined(deltas: Vec<Delta>) -> Vec<Delta> {
    let mut joined: Vec<Delta> = Vec::new();
    for delta in deltas {
        match (joined.last_mut(), &delta) {
            (Some(Delta::Text { text }), Delta::Text { text: more })
            | (Some(Delta::Reasoning { text }), Delta::Reasoning { text: more }) => {
                text.push_str(more);
            }
            (
                Some(Delta::ToolCallArguments { index, json }),
                Delta::ToolCallArguments { index: same, json: more },
            ) if index == same => json.push_str(more),
            _ => joined.push(delta),
        }
    }
    joined
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        deltas in answer(),
        sequence in prop::option::of("[#a-z]{1,4}"),
        cuts in prop::collection::vec(0usize..4_000, 0..6),
    ) {
        let finish = Finish { stop_text: sequence, ..finished(Stop::End) };
        let calls = deltas.iter().any(|delta| matches!(delta, Delta::ToolCallStart { .. }));
        let whole = written(&deltas, &finish);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
        cuts.sort_unstable();
        let mut from = 0;
        let mut chunks = Vec::new();
        for cut in cuts.into_iter().chain([whole.len()]) {
            chunks.push(&whole.as_bytes()[from..cut]);
            from = cut;
        }
        let read = read_chunks(chunks, DECODE);
        let end = read.finish().clone();
        prop_assert_eq!(joined(read.deltas), joined(deltas));
        let stop = if calls && finish.stop_text.is_none() { Stop::ToolCalls } else { Stop::End };
        prop_assert_eq!(end.stop, stop);
        prop_assert_eq!(end.stop_text, finish.stop_text);
        prop_assert_eq!(end.usage, finish.usage);
    }
}
