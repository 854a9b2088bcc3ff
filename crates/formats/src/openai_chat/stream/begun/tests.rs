use super::*;

/// A chunk with this delta.
fn chunk(delta: &str) -> String {
    format!(
        "data: {{\"id\":\"c1\",\"created\":7,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
    )
}

#[test]
fn text_can_be_gone_on_with() {
    let mut begun = Begun::default();
    let passed = chunk(r#"{"role":"assistant","content":"","refusal":null}"#)
        + ": a comment\n\n"
        + &chunk(r#"{"content":"so","function_call":null}"#);
    assert!(read_begun(passed.as_bytes(), &mut begun));
    assert_eq!((begun.id.as_deref(), begun.model.as_deref()), (Some("c1"), Some("m")));
    assert_eq!((begun.created, begun.carried_ids), (Some(7), false));
    assert!(read_begun(b"id: 1\ndata: {\"choices\":[]}\n\n", &mut begun));
    assert!(begun.carried_ids && begun.id.is_some());
}

#[test]
fn what_is_not_plainly_text_can_not() {
    let reason = "\"finish_reason\"";
    for other in [
        chunk(r#"{"audio":{"data":"x"}}"#),
        chunk(r#"{"content":"x"}"#).replace("\"index\":0", "\"index\":1"),
        chunk("{}").replace("\"finish_reason\":null", "\"finish_reason\":\"stop\""),
        chunk("{}").replace(reason, &format!("\"logprobs\":{{}},{reason}")),
        "data: {\"choices\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ] {
        assert!(!read_begun(other.as_bytes(), &mut Begun::default()), "{other}");
    }
}
