use super::*;

fn text(piece: &str) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: None, delta: Some(Delta::Text { text: piece.to_owned() }) }
}

/// What of these pieces is shown behind text that ended in `blanks`.
fn behind(blanks: &str, pieces: &[&str]) -> String {
    let mut overlap = blanks.to_owned();
    let mut all = String::new();
    let begins = without(&mut overlap, OutcomeEvent::Start(Start::default()));
    assert!(begins.is_some(), "what says that it goes on is shown, and is no text");
    for piece in pieces {
        if let Some(OutcomeEvent::Frame { delta: Some(Delta::Text { text }), .. }) =
            without(&mut overlap, text(piece))
        {
            all.push_str(&text);
        }
    }
    all
}

#[test]
fn blanks_that_are_repeated_are_shown_once() {
    assert_eq!(behind("", &[" a", "b"]), " ab");
    assert_eq!(behind(" ", &[" a", " b"]), "a b");
    assert_eq!(behind(" ", &["a"]), "a", "it knew that they were there");
    assert_eq!(behind("\n\n", &["\n", "\n", "\na"]), "\na");
    assert_eq!(behind(" \n", &[" ", "x\n"]), "x\n");
}

#[test]
fn what_must_be_one_whole_is_not_continued() {
    assert!(may_continue(&Conversation::default()));
    let shaped = Conversation { output_shape: OutputShape::JsonObject, ..Conversation::default() };
    let forced = Conversation { tool_choice: ToolChoice::Required, ..Conversation::default() };
    let reasoning = ReasoningAsk { effort: Some(Effort::High), ..ReasoningAsk::default() };
    let thinking = Conversation { reasoning, ..Conversation::default() };
    for asked in [shaped, forced, thinking] {
        assert!(!may_continue(&asked), "{asked:?}");
    }
    let reasoning = ReasoningAsk { effort: Some(Effort::Off), ..ReasoningAsk::default() };
    assert!(may_continue(&Conversation { reasoning, ..Conversation::default() }));
}

#[test]
fn a_whole_answer_took_its_prompt_once_and_all_that_was_read() {
    let counted = Usage { input_tokens: 120, output_tokens: 30, ..Usage::default() };
    let told = usage_of_whole(&counted, 20);
    assert_eq!((told.input_tokens, told.output_tokens, told.total_tokens()), (100, 50, 150));
    let cached = Usage { cached_tokens: 112, cache_write_tokens: 8, ..counted };
    let told = usage_of_whole(&cached, 20);
    assert_eq!((told.cached_tokens, told.cache_write_tokens), (100, 0));
    assert_eq!(usage_of_whole(&counted, 0), counted);
    let told = usage_of_whole(&counted, 999);
    assert_eq!((told.input_tokens, told.total_tokens()), (0, 150), "no more than was counted");
}
