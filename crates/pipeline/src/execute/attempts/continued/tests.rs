use super::*;

fn text(piece: &str) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: None, delta: Some(Delta::Text { text: piece.to_owned() }) }
}

fn shown(events: &[OutcomeEvent]) -> Shown {
    let mut shown = Shown::default();
    events.iter().for_each(|event| shown.see(event));
    shown
}

/// What of these pieces is shown behind text that ended in `blanks`.
fn behind(blanks: &str, pieces: &[&str]) -> String {
    let mut overlap = blanks.to_owned();
    let mut all = String::new();
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
fn plain_text_can_be_continued_and_its_last_blanks_are_not_told() {
    assert_eq!(shown(&[text("so "), text("far \n")]).parts(), Some(("so far", " \n")));
    assert_eq!(shown(&[]).parts(), None);
    assert_eq!(shown(&[text(" \n")]).parts(), None, "there is nothing to go on with");
    let thought = || OutcomeEvent::Frame {
        raw: None,
        delta: Some(Delta::Reasoning { text: "hm".to_owned() }),
    };
    assert_eq!(shown(&[thought(), text("so")]).parts(), Some(("so", "")));
    assert_eq!(shown(&[text("so"), thought()]).parts(), None, "it thinks anew");
    let called = Delta::ToolCallStart { index: 0, id: "c".to_owned(), name: "f".to_owned() };
    let called = OutcomeEvent::Frame { raw: None, delta: Some(called) };
    assert_eq!(shown(&[text("so"), called, text("far")]).parts(), None);
    let raw = OutcomeEvent::Frame { raw: Some(bytes::Bytes::from_static(b"x")), delta: None };
    assert_eq!(shown(&[text("so"), raw]).parts(), None, "nobody knows what it said");
    let long = "x".repeat(SHOWN_BYTES_MAX);
    assert!(shown(&[text(&long)]).parts().is_some());
    assert_eq!(shown(&[text(&long), text("y")]).parts(), None);
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
fn tokens_that_were_shown_are_counted_by_their_pieces_or_their_length() {
    assert_eq!(shown(&[text("a"), text("b")]).tokens(), 2);
    assert_eq!(shown(&[text(&"x".repeat(60))]).tokens(), 10);
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
