use ::http::header::{HeaderName, HeaderValue};

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

#[test]
fn anthropic_speaks_its_own_format_and_names_a_version() {
    let anthropic = vendor("anthropic").unwrap();
    assert_eq!(anthropic.format().name(), "anthropic_messages");
    assert_eq!(anthropic.auth, Auth::XApiKey);
    assert_eq!(anthropic.key_env.as_deref(), Some("ANTHROPIC_API_KEY"));
    assert!(anthropic.headers.contains_key("anthropic-version"));
}

#[test]
fn every_header_of_a_row_can_be_sent() {
    for (name, value) in vendors().iter().flat_map(|vendor| &vendor.headers) {
        assert_eq!(HeaderName::try_from(name).unwrap().as_str(), name);
        assert!(HeaderValue::from_str(value).is_ok(), "{name}");
    }
}
