use std::borrow::Cow;

use types::Failure;
use types::call::ModelHead;
use types::conversation::Conversation;
use types::format::{Edits, Rendered, WriteOptions, WriteResponse};
use types::ids::CallId;

use super::*;

fn text(piece: &str) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: None, delta: Some(Delta::Text { text: piece.to_owned() }) }
}

fn raw(passed: &str) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: Some(Bytes::from(passed.to_owned())), delta: None }
}

/// A format whose events are lines: `t` and a text, `r` and a thought, or what nobody knows.
#[derive(Debug)]
struct Lines;

fn lines(passed: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(passed).lines().map(str::to_owned).collect()
}

struct Reader;

impl ReadResponse for Reader {
    fn push(&mut self, chunk: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        for line in lines(&chunk) {
            let text = line[1..].to_owned();
            let delta = match line.starts_with('t') {
                true => Delta::Text { text },
                false => Delta::Reasoning { text },
            };
            events.push_back(OutcomeEvent::Frame { raw: None, delta: Some(delta) });
        }
    }

    fn end(&mut self, _events: &mut VecDeque<OutcomeEvent>) {}
}

fn not_asked() -> Failure {
    Failure::new(types::ErrorCode::Internal, "not asked")
}

impl Format for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }
    fn path(&self, _edits: &Edits<'_>) -> Option<Cow<'static, str>> {
        None
    }
    fn read_head(&self, _body: &[u8]) -> Result<ModelHead, Failure> {
        Err(not_asked())
    }
    fn parse_request(&self, _body: &[u8]) -> Result<Conversation, Failure> {
        Err(not_asked())
    }
    fn render_request(&self, _: &Conversation, _: &Edits<'_>) -> Result<Rendered, Failure> {
        Err(not_asked())
    }
    fn patch_request(&self, raw: &Bytes, _head: &ModelHead, _edits: &Edits<'_>) -> Bytes {
        raw.clone()
    }
    fn reader(&self, _options: ReadOptions) -> Box<dyn ReadResponse> {
        Box::new(Reader)
    }
    fn read_begun(&self, events: &[u8], begun: &mut Begun) -> bool {
        begun.id = Some("c1".to_owned());
        lines(events).iter().all(|line| line.starts_with(['t', 'r']))
    }
    fn writer(&self, _options: WriteOptions) -> Box<dyn WriteResponse> {
        panic!("nothing is written here")
    }
    fn parse_error(&self, _status: u16, _body: &[u8]) -> Failure {
        not_asked()
    }
    fn render_error(&self, _failure: &Failure, _call: Option<&CallId>) -> Bytes {
        Bytes::new()
    }
}

fn shown(events: &[OutcomeEvent]) -> Shown {
    let mut shown = Shown::new(true);
    events.iter().for_each(|event| shown.see(Some(&Lines), event));
    shown.read();
    shown
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
    assert_eq!(shown(&[text("so"), raw("x")]).parts(), None, "words and bytes in turn");
    let long = "x".repeat(SHOWN_BYTES_MAX);
    assert!(shown(&[text(&long)]).parts().is_some());
    assert_eq!(shown(&[text(&long), text("y")]).parts(), None);
}

#[test]
fn tokens_that_were_shown_are_counted_by_their_pieces_or_their_length() {
    assert_eq!(shown(&[text("a"), text("b")]).tokens(), 2);
    assert_eq!(shown(&[text(&"x".repeat(60))]).tokens(), 10);
}

#[test]
fn what_passed_is_read_when_it_is_needed() {
    let seen = shown(&[raw("tso \nt\n"), raw("tfar\n")]);
    assert_eq!((seen.parts(), seen.tokens()), (Some(("so far", "")), 3));
    assert_eq!(seen.begun().unwrap().id.as_deref(), Some("c1"));
    // What is written behind it is no longer passed.
    let seen = shown(&[raw("tso \n"), raw("tfar\n"), text(" and on")]);
    assert_eq!((seen.parts(), seen.begun()), (Some(("so far and on", "")), None));
}

#[test]
fn nobody_goes_on_behind_what_is_not_plainly_text() {
    for other in ["x", "ron the other hand\n"] {
        let seen = shown(&[raw("tso\n"), raw(other)]);
        assert_eq!((seen.parts(), seen.only_blanks(), seen.begun()), (None, None, None), "{other}");
    }
    assert_eq!(shown(&[raw("rhm\ntso\n")]).parts(), Some(("so", "")));
}

#[test]
fn an_answer_begins_anew_behind_blanks_only() {
    assert_eq!(shown(&[]).only_blanks(), Some(""));
    assert_eq!(shown(&[raw("t \nt ")]).only_blanks(), Some("  "));
    assert_eq!(shown(&[raw("rhm\n")]).only_blanks(), None);
    assert_eq!(shown(&[text(" "), text("x")]).only_blanks(), None);
}

#[test]
fn what_passes_is_not_kept_without_end() {
    let long = format!("t{}\n", "x".repeat(999));
    let cases = [(true, Some(99_900), KEPT_BYTES_MAX), (false, None, KEPT_BLANK_BYTES_MAX)];
    for (may_go_on, said, most) in cases {
        let mut seen = Shown::new(may_go_on);
        for _ in 0..100 {
            seen.see(Some(&Lines), &raw(&long));
            let kept = seen.passed.as_ref().map_or(0, |passed| passed.kept.len());
            assert!(kept < most, "{kept}");
        }
        seen.read();
        assert_eq!(seen.parts().map(|(said, _)| said.len()), said);
        assert_eq!(seen.only_blanks(), None);
    }
}
