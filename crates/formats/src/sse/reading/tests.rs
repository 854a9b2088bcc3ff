//! What holds of every format that streams so, and of every pair of them.

use bytes::BytesMut;
use proptest::prelude::*;
use types::clock::{FakeClock, Timestamp};
use types::format::{Format, ReadOptions, WriteOptions};
use types::ids::{CallId, Ids};
use types::outcome::{Delta, Start, Stop};
use types::usage::Usage;

use super::*;
use crate::{ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES};

const SOURCES: [&dyn Format; 3] = [&OPENAI_CHAT, &ANTHROPIC_MESSAGES, &OPENAI_RESPONSES];
const DOORS: [&dyn Format; 3] = [&OPENAI_CHAT, &ANTHROPIC_MESSAGES, &OPENAI_RESPONSES];

/// What says that an answer is whole, in any format.
const ENDS: [&str; 4] =
    ["[DONE]", "\"message_stop\"", "\"response.completed\"", "\"response.incomplete\""];

fn write_options() -> WriteOptions {
    WriteOptions {
        stream: true,
        include_usage: true,
        id: "x_1".to_owned(),
        model: "m".to_owned(),
        created: Timestamp(0),
    }
}

fn answer() -> Vec<Delta> {
    let text = |text: &str| text.to_owned();
    let call = |index| Delta::ToolCallStart { index, id: format!("call_{index}"), name: text("f") };
    let arguments = |index, json| Delta::ToolCallArguments { index, json: text(json) };
    vec![
        Delta::Reasoning { text: text("hm") },
        Delta::Text { text: text("a\n\"b\"") },
        call(0),
        arguments(0, "{\"n\":"),
        arguments(0, "9007199254740993}"),
        call(1),
        arguments(1, "{}"),
    ]
}

/// The stream of an upstream of this format.
fn recorded(format: &dyn Format, deltas: &[Delta]) -> String {
    let mut writer = format.writer(write_options());
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    let usage = Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() };
    let stop = Stop::ToolCalls;
    writer.finish(&Finish { stop, usage: Some(usage), ..Finish::default() }, "", &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

fn read(format: &dyn Format, decode: bool, chunks: &[&[u8]]) -> Vec<OutcomeEvent> {
    let options = ReadOptions { stream: true, decode, ..ReadOptions::default() };
    let mut reader = format.reader(options);
    let mut events = VecDeque::new();
    chunks.iter().for_each(|chunk| reader.push(Bytes::copy_from_slice(chunk), &mut events));
    reader.end(&mut events);
    reader.push(Bytes::from_static(b"data: more\n\n"), &mut events);
    reader.end(&mut events);
    events.into()
}

/// What passes of a stream in these chunks where leading events wait.
fn held(format: &dyn Format, chunks: &[&[u8]]) -> (Vec<u8>, OutcomeEvent) {
    let options = ReadOptions { stream: true, hold_preamble: true, ..ReadOptions::default() };
    let mut reader = format.reader(options);
    let mut events = VecDeque::new();
    chunks.iter().for_each(|chunk| reader.push(Bytes::copy_from_slice(chunk), &mut events));
    reader.end(&mut events);
    let end = events.pop_back().unwrap();
    (passed(events), end)
}

fn passed(events: impl IntoIterator<Item = OutcomeEvent>) -> Vec<u8> {
    let frames = events.into_iter().filter_map(|event| match event {
        OutcomeEvent::Frame { raw, .. } => raw,
        _ => None,
    });
    frames.flatten().collect()
}

fn ends(events: &[OutcomeEvent]) -> usize {
    let is_end =
        |event: &&OutcomeEvent| matches!(event, OutcomeEvent::Finish(_) | OutcomeEvent::Failed(_));
    events.iter().filter(is_end).count()
}

/// What a client of `door` gets.
fn told(door: &dyn Format, events: Vec<OutcomeEvent>) -> String {
    let ids = Ids::seeded(std::sync::Arc::new(FakeClock::new(Timestamp(0))), 1);
    let mut writer = door.writer(write_options());
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    for event in events {
        match event {
            OutcomeEvent::Frame { raw: None, delta: Some(delta) } => writer.delta(&delta, &mut out),
            OutcomeEvent::Finish(finish) => writer.finish(&finish, "", &mut out).unwrap(),
            OutcomeEvent::Failed(failure) => writer.fail(&failure, &CallId::new(&ids), &mut out),
            other => panic!("{other:?}"),
        }
    }
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn what_is_cut_never_looks_whole_to_anybody() {
    for source in SOURCES {
        let whole = recorded(source, &answer());
        let reasoned = match source.name() {
            // In this format the reason is the end: what follows only adds to it.
            "openai_chat" => whole.find("\"finish_reason\":\"tool_calls\"").unwrap(),
            "openai_responses" => whole.find("event: response.completed").unwrap(),
            _ => whole.find("event: message_stop").unwrap(),
        };
        for cut in 0..reasoned {
            let passed = read(source, false, &[&whole.as_bytes()[..cut]]);
            assert_eq!(ends(&passed), 1);
            assert!(matches!(passed.last(), Some(OutcomeEvent::Failed(_))), "cut at {cut}");
            for event in &passed {
                if let OutcomeEvent::Frame { raw: Some(raw), .. } = event {
                    assert!(raw.ends_with(b"\n\n"), "half an event was passed, cut at {cut}");
                }
            }
            let events = read(source, true, &[&whole.as_bytes()[..cut]]);
            let Some(OutcomeEvent::Failed(failure)) = events.last() else { panic!("{events:?}") };
            assert_eq!(failure.code, ErrorCode::StreamCut, "cut at {cut}");
            for door in DOORS {
                let told = told(door, events.clone());
                let end = ENDS.iter().find(|end| told.contains(**end) && **end != "[DONE]");
                assert_eq!(end, None, "{} over {}, cut at {cut}", door.name(), source.name());
                assert!(told.contains("stream_cut"), "{told}");
                // OpenAI's own streams of responses end so, behind `response.failed` too.
                assert!(!told.contains("[DONE]") || door.name() == "openai_responses");
            }
        }
    }
}

#[test]
fn nothing_passes_before_content_where_leading_events_wait() {
    for source in SOURCES {
        let whole = recorded(source, &answer());
        let content = match source.name() {
            "openai_chat" => "\"reasoning_content\":\"hm\"",
            "openai_responses" => "\"delta\":\"hm\"",
            _ => "\"thinking\":\"hm\"",
        };
        let content = whole.find(content).unwrap();
        let shown = content + whole[content..].find("\n\n").unwrap() + 2;
        let all = passed(read(source, false, &[whole.as_bytes()]));
        for cut in 0..whole.len() {
            let (left, right) = whole.as_bytes().split_at(cut);
            let (bytes, end) = held(source, &[left, right]);
            assert_eq!(bytes, all, "cut at {cut}");
            assert!(matches!(end, OutcomeEvent::Finish(_)));
            let (bytes, end) = held(source, &[left]);
            let without = passed(read(source, false, &[left]));
            let expected = if cut < shown { Vec::new() } else { without };
            assert_eq!(bytes, expected, "{} ended at {cut}", source.name());
            assert!(cut >= shown || matches!(end, OutcomeEvent::Failed(_)), "{end:?}");
        }
    }
}

#[test]
fn a_call_is_content_and_an_answer_without_any_is_whole() {
    let call = Delta::ToolCallStart { index: 0, id: "c".to_owned(), name: "f".to_owned() };
    let redacted = Delta::ReasoningSignature {
        signature: "s".to_owned(),
        redacted: true,
        origin: "anthropic_messages".to_owned(),
    };
    for (source, first) in [(SOURCES[0], call.clone()), (SOURCES[1], call), (SOURCES[1], redacted)]
    {
        let whole = recorded(source, &[first]);
        let before_the_end = whole.len() - whole.len() / 4;
        let (bytes, _) = held(source, &[&whole.as_bytes()[..before_the_end]]);
        assert!(!bytes.is_empty(), "{whole}");
    }
    for source in SOURCES {
        let nothing = recorded(source, &[]);
        let all = passed(read(source, false, &[nothing.as_bytes()]));
        let (bytes, end) = held(source, &[nothing.as_bytes()]);
        assert_eq!(bytes, all);
        assert!(matches!(end, OutcomeEvent::Finish(_)));
    }
}

#[test]
fn a_server_that_says_much_before_it_answers_is_let_through() {
    let comment = ": working\n\n";
    let (bytes, end) = held(&OPENAI_CHAT, &[comment.repeat(100).as_bytes()]);
    assert_eq!(bytes.len(), 100 * comment.len());
    assert!(matches!(end, OutcomeEvent::Failed(_)));
    let (bytes, _) = held(&OPENAI_CHAT, &[comment.repeat(64).as_bytes()]);
    assert_eq!(bytes.len(), 0);
}

#[test]
fn every_pair_of_formats_tells_the_same() {
    for source in SOURCES {
        let events = read(source, true, &[recorded(source, &answer()).as_bytes()]);
        for door in SOURCES {
            let told = told(door, events.clone());
            let again = read(door, true, &[told.as_bytes()]);
            let deltas: Vec<Delta> = again
                .iter()
                .filter_map(|event| match event {
                    OutcomeEvent::Frame { delta, .. } => delta.clone(),
                    _ => None,
                })
                .collect();
            assert_eq!(deltas, answer(), "{} over {}", door.name(), source.name());
            let Some(OutcomeEvent::Finish(finish)) = again.last() else { panic!("{again:?}") };
            assert_eq!(finish.stop, Stop::ToolCalls);
            assert_eq!(finish.usage.unwrap().total_tokens(), 5);
        }
    }
}

#[test]
fn the_fields_of_an_event_are_read_in_one_pass() {
    let fields = Fields::of(b"id: 7\nevent: a\r\ndata: x\nretry: 3\n: note\nevent:b\ndata:y\n\n");
    assert_eq!(fields.name, Some(b"b".as_slice()));
    assert_eq!(fields.data.as_deref(), Some(b"x\ny".as_slice()));
    assert!(fields.has_id);
    let none = Fields::of(b": note\nidle: 1\neventual: 2\n\n");
    assert!(none.name.is_none() && none.data.is_none() && !none.has_id);
}

proptest! {
    /// Any mixture of events, whole, malformed or torn, ends once.
    #[test]
    fn any_stream_ends_once(
        picks in prop::collection::vec((0usize..40, any::<bool>()), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        at in 0usize..4_000,
        cut in 0usize..4_000,
    ) {
        for source in SOURCES {
            let whole = recorded(source, &answer());
            let events: Vec<&str> = whole.split_inclusive("\n\n").collect();
            let mut stream = Vec::new();
            for (pick, torn) in &picks {
                let event = events[pick % events.len()];
                let end = if *torn { event.len() / 2 } else { event.len() };
                stream.extend_from_slice(&event.as_bytes()[..end]);
            }
            let at = at.min(stream.len());
            stream.splice(at..at, noise.iter().copied());
            let (left, right) = stream.split_at(cut.min(stream.len()));
            for decode in [false, true] {
                let events = read(source, decode, &[left, right]);
                prop_assert_eq!(ends(&events), 1);
                let last = matches!(
                    events.last(), Some(OutcomeEvent::Finish(_) | OutcomeEvent::Failed(_))
                );
                prop_assert!(last);
            }
        }
    }
}
