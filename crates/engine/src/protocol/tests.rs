use std::io::Cursor;

use proptest::prelude::*;
use serde_json::json;

use super::codec::{self, FRAME_BYTES_MAX, FrameError};
use super::*;

fn frame(body: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn read_all(bytes: &[u8]) -> Result<Vec<FromEngine>, FrameError> {
    let mut cursor = Cursor::new(bytes);
    let mut messages = Vec::new();
    while let Some(message) = codec::read(&mut cursor)? {
        messages.push(message);
    }
    Ok(messages)
}

#[test]
fn messages_have_the_words_of_the_contract() {
    let check = |message: FromEngine, expected: Value| {
        assert_eq!(serde_json::to_value(&message).unwrap(), expected);
        assert_eq!(serde_json::from_value::<FromEngine>(expected).unwrap(), message);
    };
    check(
        FromEngine::Delta { id: 7, piece: Piece::Text("é".to_owned()), tokens: 2 },
        json!({"type": "delta", "id": 7, "text": "é", "tokens": 2}),
    );
    let piece = ToolCallPiece { index: 0, name: Some("add".to_owned()), arguments: String::new() };
    check(
        FromEngine::Delta { id: 7, piece: Piece::ToolCall(piece), tokens: 1 },
        json!({"type": "delta", "id": 7, "tool_call": {"index": 0, "name": "add"}, "tokens": 1}),
    );
    check(
        FromEngine::Started {
            id: 1,
            prompt_tokens: 10,
            reused_tokens: 8,
            reused_from: ReusedFrom::Disk,
        },
        json!({"type": "started", "id": 1, "prompt_tokens": 10, "reused_tokens": 8, "reused_from": "disk"}),
    );
    check(
        FromEngine::Failed {
            id: 3,
            failure: EngineFailure::new(FailureCode::Overloaded, "later").param("x"),
        },
        json!({"type": "failed", "id": 3, "code": "overloaded", "message": "later", "param": "x", "retryable": true}),
    );
    check(
        FromEngine::Stats { id: 4, stats: Stats::default() },
        json!({"type": "stats", "id": 4, "active": 0, "waiting": 0, "held_sessions": 0, "prefilled_tokens": 0,
            "reused_tokens": 0, "decoded_tokens": 0, "saved_states": 0, "restored_states": 0, "discarded_states": 0,
            "disk_bytes": 0}),
    );
}

#[test]
fn a_generate_needs_only_id_account_messages_and_window() {
    let text = r#"{"type":"generate","id":1,"account":"default","messages":[{"role":"user","content":"hi"}],"window":8}"#;
    let ToEngine::Generate(generate) = serde_json::from_str(text).unwrap() else {
        panic!("not it")
    };
    assert_eq!(generate.tool_choice, ToolChoice::Auto);
    assert!(generate.parallel_tool_calls);
    assert_eq!(generate.sampling, Sampling::default());
}

#[test]
fn hostile_frames_are_refused_and_never_allocated_for() {
    let too_long = (FRAME_BYTES_MAX + 1).to_be_bytes();
    assert!(matches!(read_all(&too_long), Err(FrameError::Size { .. })));
    assert!(matches!(read_all(&[0, 0, 0, 0]), Err(FrameError::Size { bytes: 0 })));
    // The largest length that is allowed, and then nothing: an error of the socket, not 32 MiB of
    // memory.
    assert!(matches!(read_all(&FRAME_BYTES_MAX.to_be_bytes()), Err(FrameError::Io(_))));
    assert!(matches!(read_all(&[0, 0]), Err(FrameError::Io(_))));
    assert!(matches!(read_all(&frame("{")), Err(FrameError::Message(_))));
    assert!(matches!(read_all(&frame(r#"{"type":"surprise"}"#)), Err(FrameError::Message(_))));
    assert!(matches!(read_all(&frame("\u{0}")), Err(FrameError::Message(_))));
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(read_all(&frame(&nested)), Err(FrameError::Message(_))));
}

#[test]
fn unknown_fields_are_ignored_and_ends_between_frames_are_clean() {
    let bytes =
        [frame(r#"{"type":"flushed","id":1,"news":true}"#), frame(r#"{"type":"dropped","id":2}"#)]
            .concat();
    let expected = vec![FromEngine::Flushed { id: 1 }, FromEngine::Dropped { id: 2 }];
    assert_eq!(read_all(&bytes).unwrap(), expected);
}

#[test]
fn a_message_above_the_limit_is_not_sent() {
    let text = "x".repeat(FRAME_BYTES_MAX as usize);
    let message = FromEngine::Delta { id: 1, piece: Piece::Text(text), tokens: 1 };
    assert!(matches!(codec::encode(&message), Err(FrameError::Size { .. })));
}

proptest! {
    #[test]
    fn what_is_written_is_read_by_both_sides(id: u64, text in ".*", tokens: u32) {
        let message = FromEngine::Delta { id, piece: Piece::Text(text), tokens };
        let mut bytes = Vec::new();
        codec::write(&mut bytes, &message).unwrap();
        prop_assert_eq!(read_all(&bytes).unwrap(), vec![message.clone()]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read: Option<FromEngine> =
            runtime.block_on(codec::read_async(&mut bytes.as_slice())).unwrap();
        prop_assert_eq!(read, Some(message));
    }

    #[test]
    fn any_bytes_are_an_error_or_messages(bytes: Vec<u8>) {
        let _outcome = read_all(&bytes);
    }
}
