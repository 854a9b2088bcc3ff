use super::*;

fn event(name: &str, rest: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n")
}

fn block(name: &str, index: u32, rest: &str) -> String {
    event(name, &format!(",\"index\":{index}{rest}"))
}

fn text_block(index: u32) -> String {
    block("content_block_start", index, r#","content_block":{"type":"text","text":""}"#)
        + &block("content_block_delta", index, r#","delta":{"type":"text_delta","text":"so"}"#)
}

/// Which block is open, or comes next.
fn read_all(passed: &str) -> Option<(u32, bool)> {
    let mut begun = Begun::default();
    read_begun(passed.as_bytes(), &mut begun).then_some((begun.block, begun.is_open))
}

#[test]
fn text_goes_on_in_its_block_or_behind_the_last() {
    let start = event("message_start", r#","message":{"id":"m"}"#) + &event("ping", "");
    assert_eq!(read_all(&start), Some((0, false)));
    assert_eq!(read_all(&(start.clone() + &text_block(0))), Some((0, true)));
    let ended = start + &text_block(0) + &block("content_block_stop", 0, "");
    assert_eq!(read_all(&ended), Some((1, false)));
    assert_eq!(read_all(&(ended + &text_block(1))), Some((1, true)));
}

#[test]
fn what_is_not_plainly_text_can_not_be_gone_on_with() {
    for other in [
        block("content_block_start", 0, r#","content_block":{"type":"tool_use","id":"t"}"#),
        block("content_block_start", 0, r#","content_block":{"type":"server_tool_use"}"#),
        text_block(0) + &block("content_block_delta", 0, r#","delta":{"type":"citations_delta"}"#),
        text_block(0) + &block("content_block_delta", 3, r#","delta":{"type":"text_delta"}"#),
        event("message_delta", r#","delta":{"stop_reason":"end_turn"}"#),
        event("message_stop", ""),
        event("error", r#","error":{}"#),
    ] {
        assert_eq!(read_all(&other), None, "{other}");
    }
}
