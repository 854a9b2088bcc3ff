use super::*;

#[test]
fn every_row_is_read() {
    assert_eq!(vendors().len(), ROWS.len());
}

#[test]
fn the_two_vendors_of_this_slice_speak_chat() {
    for name in ["openai", "openai-compatible"] {
        assert_eq!(vendor(name).unwrap().format().name(), "openai_chat");
    }
    assert!(vendor("nobody").is_none());
    assert_eq!(vendor("openai").unwrap().key_env.as_deref(), Some("OPENAI_API_KEY"));
}
