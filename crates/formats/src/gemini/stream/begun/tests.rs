use super::*;

fn chunk(parts: &str, more: &str) -> String {
    format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{parts}],\"role\":\"model\"}},\"index\":0{more}}}],\"modelVersion\":\"m\",\"responseId\":\"r\"}}\n\n"
    )
}

#[test]
fn text_can_be_gone_on_with() {
    let mut begun = Begun::default();
    let passed = chunk(r#"{"text":"so"}"#, "") + &chunk(r#"{"text":" far"}"#, "");
    assert!(read_begun(passed.as_bytes(), &mut begun));
    assert_eq!((begun.id.as_deref(), begun.model.as_deref()), (Some("r"), Some("m")));
}

#[test]
fn what_is_not_plainly_text_can_not() {
    let so = r#"{"text":"so"}"#;
    for other in [
        chunk(r#"{"functionCall":{"name":"f"}}"#, ""),
        chunk(r#"{"executableCode":{"code":"x"}}"#, ""),
        chunk(so, r#","finishReason":"STOP""#),
        chunk(so, r#","groundingMetadata":{}"#),
        chunk(so, "").replace("\"index\":0", "\"index\":1"),
        "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n".to_owned(),
        "data: {\"candidates\n\n".to_owned(),
    ] {
        assert!(!read_begun(other.as_bytes(), &mut Begun::default()), "{other}");
    }
}
