use ::types::clock::{FakeClock, Timestamp};
use ::types::format::WriteResponse;
use ::types::ids::Ids;
use ::types::outcome::Stop;
use ::types::{ErrorCode, Failure};
use insta::assert_snapshot;

use super::super::response::tests::{call, ended, text};
use super::*;

fn call_id() -> CallId {
    CallId::new(&Ids::seeded(std::sync::Arc::new(FakeClock::new(Timestamp(0))), 1))
}

fn shown(out: &BytesMut) -> &str {
    std::str::from_utf8(out).unwrap()
}

#[test]
fn a_stream_has_pieces_calls_the_usage_and_its_end() {
    let mut writer = Writer::default();
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    let mut deltas = vec![Delta::Reasoning { text: "hm".to_owned() }, text("a"), text("\nb")];
    deltas.extend(call(0, "add", &["{\"a\"", ":1}"]));
    deltas.iter().for_each(|delta| writer.delta(delta, &mut out));
    writer.keep_alive(&mut out);
    writer.finish(&ended(Stop::ToolCalls), "holdfast-cost=1", &mut out).unwrap();
    assert_snapshot!(shown(&out), @r#"
    data: {"response":"","reasoning_content":"hm"}

    data: {"response":"a"}

    data: {"response":"\nb"}

    data: {"response":""}

    data: {"response":"","tool_calls":[{"index":0,"id":"call_0","name":"add","arguments":{"a":1}}]}

    data: {"response":"","finish_reason":"tool_calls","usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}

    : holdfast-cost=1

    data: [DONE]
    "#);
}

#[test]
fn a_stream_that_breaks_anywhere_never_looks_whole() {
    let mut deltas = vec![text("a"), text("b")];
    deltas.extend(call(0, "add", &["{\"a\"", ":1}"]));
    for broken_after in 0..=deltas.len() {
        let mut writer = Writer::default();
        let mut out = BytesMut::new();
        writer.start(&Start::default(), &mut out);
        deltas.iter().take(broken_after).for_each(|delta| writer.delta(delta, &mut out));
        let failure = Failure::new(ErrorCode::StreamCut, "it broke");
        writer.fail(&failure, &call_id(), &mut out);
        let shown = shown(&out);
        assert!(!shown.contains("[DONE]") && !shown.contains("finish_reason"), "{shown}");
        assert!(!shown.contains("tool_calls"), "half a call: {shown}");
        let last = shown.trim_end().rsplit("\n\n").next().unwrap();
        let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&last["success"], &last["errors"][0]["code"]), (&false.into(), &3043.into()));
    }
}
