use insta::assert_snapshot;
use proptest::prelude::*;
use types::clock::{FakeClock, Timestamp};
use types::ids::Ids;

use super::*;

const ROLE: &str = r#"{"id":"c1","model":"m-2","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#;
const TEXT: &str = r#"{"id":"c1","model":"m-2","choices":[{"index":0,"delta":{"content":"say \"finish_reason\": \"stop\" and \"usage\""},"finish_reason": null}]}"#;
const LAST: &str = r#"{"id":"c1","model":"m-2","choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":null}"#;
const USAGE: &str =
    r#"{"id":"c1","model":"m-2","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;

fn body(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn read_chunks(chunks: &[Bytes], options: ReadOptions) -> Vec<OutcomeEvent> {
    let mut reader = Reader::new(options);
    let mut events = VecDeque::new();
    chunks.iter().for_each(|chunk| reader.push(chunk.clone(), &mut events));
    reader.end(&mut events);
    let ends = events
        .iter()
        .filter(|event| matches!(event, OutcomeEvent::Finish(_) | OutcomeEvent::Failed(_)));
    assert_eq!(ends.count(), 1, "exactly one end: {events:?}");
    events.into()
}

const PASS: ReadOptions = ReadOptions {
    stream: true,
    decode: false,
    withhold_usage: false,
    operation: ::types::call::Operation::Chat,
    hold_preamble: false,
};
const WITHHOLD: ReadOptions = ReadOptions { withhold_usage: true, ..PASS };
const DECODE: ReadOptions = ReadOptions { decode: true, ..PASS };

fn read(body: &str, options: ReadOptions) -> (String, OutcomeEvent) {
    split(read_chunks(&[Bytes::copy_from_slice(body.as_bytes())], options))
}

/// The passed bytes, and the end.
fn split(mut events: Vec<OutcomeEvent>) -> (String, OutcomeEvent) {
    let end = events.pop().unwrap();
    let raw: Vec<u8> = events
        .into_iter()
        .flat_map(|event| match event {
            OutcomeEvent::Frame { raw: Some(raw), delta: None } => raw,
            other => panic!("{other:?}"),
        })
        .collect();
    (String::from_utf8(raw).unwrap(), end)
}

fn finished(end: &OutcomeEvent) -> &Finish {
    match end {
        OutcomeEvent::Finish(finish) => finish,
        other => panic!("{other:?}"),
    }
}

fn failed(end: &OutcomeEvent) -> &Failure {
    match end {
        OutcomeEvent::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_passes_and_done_is_kept_for_the_end() {
    let (raw, end) = read(&body(&[ROLE, TEXT, LAST, USAGE, "[DONE]"]), PASS);
    assert_eq!(raw, body(&[ROLE, TEXT, LAST, USAGE]));
    let finish = finished(&end);
    assert_eq!(finish.stop, Stop::Length);
    assert_eq!(finish.usage, Some(Usage { input_tokens: 3, output_tokens: 1, ..Usage::default() }));
    assert_eq!(finish.model_version.as_deref(), Some("m-2"));
    assert_eq!(finish.raw.as_deref(), Some("data: [DONE]\n\n".as_bytes()));
    assert!(!finish.carried_ids);
}

#[test]
fn events_in_one_chunk_are_one_frame() {
    let chunk = Bytes::from(body(&[ROLE, TEXT, LAST]));
    let events = read_chunks(std::slice::from_ref(&chunk), PASS);
    let [OutcomeEvent::Frame { raw: Some(raw), .. }, OutcomeEvent::Finish(_)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(raw.as_ptr(), chunk.as_ptr(), "no byte was copied");
}

#[test]
fn only_our_own_usage_chunk_is_withheld() {
    let (raw, end) = read(&body(&[ROLE, LAST, USAGE, "[DONE]"]), WITHHOLD);
    assert_eq!(raw, body(&[ROLE, LAST]));
    assert_eq!(finished(&end).usage.unwrap().input_tokens, 3);
    // Usage that stands on a chunk with a choice is not ours to take away.
    let on_last = LAST.replace("null", r#"{"prompt_tokens":9,"completion_tokens":1}"#);
    let (raw, end) = read(&body(&[ROLE, &on_last, "[DONE]"]), WITHHOLD);
    assert_eq!(raw, body(&[ROLE, &on_last]));
    assert_eq!(finished(&end).usage.unwrap().input_tokens, 9);
    // A first chunk without choices that counts nothing belongs to the provider.
    let filter = r#"{"id":"c1","choices":[],"prompt_filter_results":[]}"#;
    let (raw, _) = read(&body(&[filter, LAST, "[DONE]"]), WITHHOLD);
    assert_eq!(raw, body(&[filter, LAST]));
}

#[test]
fn a_stream_without_a_finish_reason_is_cut() {
    for events in [&[ROLE, TEXT][..], &[ROLE, TEXT, "[DONE]"], &[], &["[DONE]"], &[USAGE]] {
        for options in [PASS, DECODE] {
            let body = body(events);
            let events = read_chunks(&[Bytes::from(body)], options);
            let failure = failed(events.last().unwrap());
            assert_eq!(failure.code, ErrorCode::StreamCut);
            assert_eq!(failure.billed, Billed::Unknown);
        }
    }
}

#[test]
fn every_cut_before_the_finish_reason_is_a_failure_and_none_after() {
    let whole = body(&[ROLE, TEXT, LAST, USAGE, "[DONE]"]);
    let reasoned = body(&[ROLE, TEXT]).len() + "data: ".len() + LAST.len();
    for cut in 0..whole.len() {
        for options in [PASS, DECODE] {
            let events = read_chunks(&[Bytes::copy_from_slice(&whole.as_bytes()[..cut])], options);
            let end = events.last().unwrap();
            if cut < reasoned {
                assert!(matches!(end, OutcomeEvent::Failed(_)), "cut at {cut}: {end:?}");
            } else if !options.decode {
                assert!(matches!(end, OutcomeEvent::Finish(_)), "cut at {cut}: {end:?}");
            }
        }
    }
}

#[test]
fn a_reason_without_done_is_a_whole_answer() {
    let (raw, end) = read(&body(&[ROLE, LAST]), PASS);
    assert_eq!(raw, body(&[ROLE, LAST]));
    assert_eq!(finished(&end).raw, None);
    let unended = format!("{}data: [DONE]", body(&[LAST]));
    let (_, end) = read(&unended, PASS);
    assert_eq!(finished(&end).raw.as_deref(), Some("data: [DONE]".as_bytes()));
}

#[test]
fn an_error_in_the_stream_ends_it() {
    let error = r#"{"error":{"message":"boom","type":"server_error","code":null}}"#;
    for options in [PASS, DECODE] {
        let chunk = Bytes::from(body(&[ROLE, TEXT, error, LAST, "[DONE]"]));
        let events = read_chunks(&[chunk], options);
        assert!(matches!(events[0], OutcomeEvent::Frame { .. }), "what came before is passed on");
        let failure = failed(events.last().unwrap());
        assert_eq!(failure.to_string(), "upstream_failed: the provider failed in its answer: boom");
        assert_eq!(failure.billed, Billed::Unknown);
    }
    let (raw, _) = read(&body(&[ROLE, error]), PASS);
    assert_eq!(raw, body(&[ROLE]));
}

#[test]
fn a_reason_that_says_failure_is_no_end() {
    let broken = LAST.replace("length", "error");
    let gave_up = LAST.replace("length", "insufficient_system_resource");
    let groq = r#"{"id":"c1","choices":[],"x_groq":{"id":"r","error":"over capacity"}}"#;
    for event in [broken.as_str(), gave_up.as_str(), groq] {
        for options in [PASS, DECODE] {
            let chunk = Bytes::from(body(&[ROLE, TEXT, event, "[DONE]"]));
            let events = read_chunks(&[chunk], options);
            let failure = failed(events.last().unwrap());
            assert_eq!(failure.code, ErrorCode::UpstreamFailed, "{event}");
            assert_eq!(failure.billed, Billed::Unknown);
        }
    }
}

#[test]
fn a_bill_is_read_wherever_a_server_puts_it() {
    let usage = r#"{"prompt_tokens":3,"completion_tokens":1}"#;
    let groq = format!(r#"{{"id":"c1","choices":[],"x_groq":{{"id":"r","usage":{usage}}}}}"#);
    let kimi = format!(
        r#"{{"id":"c1","choices":[{{"index":0,"delta":{{}},"finish_reason":"stop","usage":{usage}}}]}}"#
    );
    for events in [[LAST, groq.as_str()], [ROLE, kimi.as_str()]] {
        for options in [PASS, WITHHOLD, DECODE] {
            let (_, end) = read(&body(&events), options);
            let usage = finished(&end).usage.unwrap();
            assert_eq!((usage.input_tokens, usage.output_tokens), (3, 1));
        }
    }
}

#[test]
fn thinking_in_a_list_of_parts_is_told_from_the_text() {
    let thought = r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}"#;
    let events = [choice(thought), choice(r#"{"content":"yes"}"#), LAST.to_owned()];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let text = |text: &str| text.to_owned();
    let wanted = [Delta::Reasoning { text: text("hm") }, Delta::Text { text: text("yes") }];
    assert_eq!(deltas(&events), wanted);
}

#[test]
fn comments_ids_and_line_ends_survive() {
    let body = format!(
        ": hello\n\nid: 1\nevent: x\r\ndata: {ROLE}\r\n\r\ndata: {LAST}\nid: 2\n\ndata:[DONE]\r\n\r\n"
    );
    let (raw, end) = read(&body, PASS);
    assert_eq!(raw + "data:[DONE]\r\n\r\n", body);
    assert!(finished(&end).carried_ids);
}

#[test]
fn an_event_without_an_end_is_refused() {
    let mut reader = Reader::new(PASS);
    let mut events = VecDeque::new();
    let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
    for _ in 0..32 {
        reader.push(chunk.clone(), &mut events);
    }
    reader.end(&mut events);
    assert_eq!(events.len(), 1);
    assert_eq!(failed(&events[0]).code, ErrorCode::UpstreamFailed);
}

fn deltas(events: &[&str]) -> Vec<Delta> {
    let events = read_chunks(&[Bytes::from(body(events))], DECODE);
    events
        .into_iter()
        .filter_map(|event| match event {
            OutcomeEvent::Frame { raw: None, delta } => delta,
            _ => None,
        })
        .collect()
}

fn choice(delta: &str) -> String {
    format!(r#"{{"id":"c-1","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#)
}

#[test]
fn text_reasoning_and_refusals_become_deltas() {
    let events = [
        choice(r#"{"role":"assistant","content":""}"#),
        choice(r#"{"reasoning_content":"hm"}"#),
        choice(r#"{"reasoning":"hm"}"#),
        choice(r#"{"content":"a"}"#),
        choice(r#"{"refusal":"no"}"#),
        choice("null"),
        r#"{"id":"c-1","choices":[{"index":1,"delta":{"content":"another"}}]}"#.to_owned(),
        LAST.to_owned(),
    ];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        deltas(&events),
        [
            Delta::Reasoning { text: text("hm") },
            Delta::Reasoning { text: text("hm") },
            Delta::Text { text: text("a") },
            Delta::Refusal { text: text("no") },
        ]
    );
}

#[test]
fn interleaved_calls_get_places_without_gaps() {
    let call = |fields: &str| choice(&format!(r#"{{"tool_calls":[{fields}]}}"#));
    let events = [
        call(r#"{"index":1,"id":"a","function":{"name":"f","arguments":""}}"#),
        call(r#"{"index":5,"id":"b","function":{"name":"g","arguments":"{\"x\":"}}"#),
        call(
            r#"{"index":1,"function":{"arguments":"{}"}},{"index":5,"function":{"arguments":"1}"}}"#,
        ),
        call(r#"{"index":1,"id":"a","function":{"name":"f","arguments":" "}}"#),
        call(r#"{"index":9,"function":{"name":"h"}}"#),
        LAST.to_owned(),
    ];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let shown: Vec<String> =
        deltas(&events).iter().map(|delta| serde_json::to_string(delta).unwrap()).collect();
    assert_snapshot!(shown.join("\n"), @r#"
    {"type":"tool_call_start","index":0,"id":"a","name":"f"}
    {"type":"tool_call_start","index":1,"id":"b","name":"g"}
    {"type":"tool_call_arguments","index":1,"json":"{\"x\":"}
    {"type":"tool_call_arguments","index":0,"json":"{}"}
    {"type":"tool_call_arguments","index":1,"json":"1}"}
    {"type":"tool_call_arguments","index":0,"json":" "}
    {"type":"tool_call_start","index":2,"id":"call_c12","name":"h"}
    "#);
}

#[test]
fn calls_without_numbers_are_told_apart_by_their_ids() {
    let call = |fields: &str| choice(&format!(r#"{{"tool_calls":[{fields}]}}"#));
    let events = [
        call(r#"{"id":"a","function":{"name":"f","arguments":"1"}}"#),
        call(r#"{"function":{"arguments":"2"}}"#),
        call(r#"{"id":"b","function":{"name":"g","arguments":"3"}}"#),
        LAST.to_owned(),
    ];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let places: Vec<u32> = deltas(&events)
        .iter()
        .filter_map(|delta| match delta {
            Delta::ToolCallArguments { index, .. } => Some(*index),
            _ => None,
        })
        .collect();
    assert_eq!(places, [0, 0, 1]);
}

#[test]
fn what_cannot_be_decoded_is_a_failure() {
    let nameless = choice(r#"{"tool_calls":[{"index":0,"id":"a"}]}"#);
    for event in ["{", "7", r#"{"choices":[{"delta":7}]}"#, &nameless] {
        let events = read_chunks(&[Bytes::from(body(&[event, LAST]))], DECODE);
        let failure = failed(events.last().unwrap());
        assert_eq!(failure.code, ErrorCode::UpstreamFailed, "{event}");
    }
}

fn written(include_usage: bool, deltas: &[Delta], finish: &Finish) -> String {
    let mut writer = Writer::new(&WriteOptions {
        stream: true,
        include_usage,
        id: "chatcmpl-1".to_owned(),
        model: "local/demo".to_owned(),
        created: Timestamp::from_millis(1_700_000_000_000),
    });
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    writer.finish(finish, "holdfast-cost=0.000123", &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

fn call_deltas() -> Vec<Delta> {
    vec![
        Delta::Text { text: "a\"b\n".to_owned() },
        Delta::ToolCallStart { index: 0, id: "call_1".to_owned(), name: "f".to_owned() },
        Delta::ToolCallArguments { index: 0, json: "{\"a\":".to_owned() },
        Delta::ToolCallArguments { index: 0, json: "1}".to_owned() },
    ]
}

#[test]
fn a_stream_is_written_as_sdks_need_it() {
    let usage = Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() };
    let finish = Finish { stop: Stop::ToolCalls, usage: Some(usage), ..Finish::default() };
    assert_snapshot!(written(true, &call_deltas(), &finish), @r#"
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[{"index":0,"delta":{"content":"a\"b\n"},"logprobs":null,"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]},"logprobs":null,"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]},"logprobs":null,"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"logprobs":null,"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}],"usage":null}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}

    : holdfast-cost=0.000123

    data: [DONE]
    "#);
    let plain = written(false, &[], &Finish::default());
    assert_snapshot!(plain, @r#"
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"local/demo","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

    : holdfast-cost=0.000123

    data: [DONE]
    "#);
}

#[test]
fn what_is_written_is_read_again() {
    let usage = Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() };
    let finish = Finish { stop: Stop::ToolCalls, usage: Some(usage), ..Finish::default() };
    let body = written(true, &call_deltas(), &finish);
    let events = read_chunks(&[Bytes::from(body)], DECODE);
    let read: Vec<Delta> = events
        .iter()
        .filter_map(|event| match event {
            OutcomeEvent::Frame { delta, .. } => delta.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(read, call_deltas());
    let end = finished(events.last().unwrap());
    assert_eq!((end.stop, end.usage), (Stop::ToolCalls, Some(usage)));
}

#[test]
fn a_call_without_arguments_gets_an_empty_object_at_the_end() {
    let call =
        |index| Delta::ToolCallStart { index, id: format!("c{index}"), name: "f".to_owned() };
    let arguments = |index, json: &str| Delta::ToolCallArguments { index, json: json.to_owned() };
    let deltas = [call(0), arguments(0, ""), call(1), arguments(1, "{\"a\":1}"), call(2)];
    let told = |stop| {
        let body = written(false, &deltas, &Finish { stop, ..Finish::default() });
        let mut told = [String::new(), String::new(), String::new()];
        for event in read_chunks(&[Bytes::from(body)], DECODE) {
            if let OutcomeEvent::Frame {
                delta: Some(Delta::ToolCallArguments { index, json }),
                ..
            } = event
            {
                told[index as usize].push_str(&json);
            }
        }
        told
    };
    assert_eq!(told(Stop::ToolCalls), ["{}", "{\"a\":1}", "{}"]);
    // The cap may have cut the arguments off: nobody is told that they are whole.
    assert_eq!(told(Stop::Length), ["", "{\"a\":1}", ""]);
}

#[test]
fn half_an_event_is_no_malformed_one_and_is_not_passed() {
    let half = format!("{}data: {{\"id\":", body(&[ROLE, TEXT]));
    let (raw, end) = read(&half, PASS);
    assert_eq!(raw, body(&[ROLE, TEXT]), "an error must stand on a line of its own");
    assert_eq!(failed(&end).code, ErrorCode::StreamCut);
    let events = read_chunks(&[Bytes::from(half)], DECODE);
    assert_eq!(failed(events.last().unwrap()).code, ErrorCode::StreamCut);
    let unended = format!("{}data: {USAGE}", body(&[ROLE, LAST]));
    let (raw, end) = read(&unended, PASS);
    assert_eq!(raw, unended);
    assert_eq!(finished(&end).usage.unwrap().input_tokens, 3);
}

#[test]
fn a_failure_is_no_end_that_looks_whole() {
    let options = WriteOptions {
        stream: true,
        include_usage: false,
        id: "c".to_owned(),
        model: "m".to_owned(),
        created: Timestamp(0),
    };
    let ids = Ids::seeded(std::sync::Arc::new(FakeClock::new(Timestamp(0))), 1);
    let mut out = BytesMut::new();
    let failure = Failure::new(ErrorCode::StreamCut, "cut");
    Writer::new(&options).fail(&failure, &CallId::new(&ids), &mut out);
    assert_snapshot!(String::from_utf8_lossy(&out), @r#"data: {"error":{"message":"cut","type":"server_error","param":null,"code":"stream_cut","holdfast":{"code":"stream_cut","call_id":"hfc_0000000001rpf7gbq60aaxd8jr"}}}"#);
}

proptest! {
    #[test]
    fn chunk_borders_change_nothing(cuts in prop::collection::vec(0usize..900, 0..20)) {
        let whole = body(&[ROLE, TEXT, LAST, USAGE, "[DONE]"]).replace("\n\ndata: {\"id\":\"c1\"", "\r\n\r\ndata: {\"id\":\"c1\"");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([whole.len()]) {
            chunks.push(Bytes::copy_from_slice(&whole.as_bytes()[from..cut]));
            from = cut;
        }
        for options in [PASS, WITHHOLD] {
            let (raw, end) = split(read_chunks(&chunks, options));
            let (expected, expected_end) = read(&whole, options);
            prop_assert_eq!(raw, expected);
            prop_assert_eq!(finished(&end), finished(&expected_end));
        }
    }
}

#[test]
fn a_piece_that_broke_off_fails_and_what_is_no_piece_passes() {
    let broken = r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"bro"#;
    let broken_usage = r#"{"id":"c1","choices":[],"usage":{"prompt_tokens":3"#;
    for broken in [broken, broken_usage, "nonsense"] {
        let (passed, end) = read(&body(&[ROLE, TEXT, broken, LAST, "[DONE]"]), PASS);
        assert_eq!(passed, body(&[ROLE, TEXT]));
        let OutcomeEvent::Failed(failure) = end else { panic!("{broken}: {end:?}") };
        assert_eq!((failure.code, failure.billed), (ErrorCode::UpstreamFailed, Billed::Unknown));
        // Nothing was shown before it: another target can still answer.
        let first = read(&body(&[ROLE, broken]), ReadOptions { hold_preamble: true, ..PASS });
        assert_eq!(first.0, "");
        assert!(matches!(first.1, OutcomeEvent::Failed(_)));
    }
    let others = ": a comment that is longer than the last event\n\ndata:\n\nevent: of a name of its own\ndata: {}\n\nevent: one\ndata: {\ndata: }\n\n";
    let (passed, end) = read(&format!("{others}{}", body(&[TEXT, LAST])), PASS);
    assert_eq!(passed, format!("{others}{}", body(&[TEXT, LAST])));
    assert_eq!(finished(&end).stop, Stop::Length);
}
