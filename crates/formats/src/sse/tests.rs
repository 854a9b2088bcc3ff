use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn events_of(chunks: &[&[u8]]) -> (Vec<Bytes>, Bytes) {
    let mut splitter = Splitter::default();
    let mut events = Vec::new();
    for chunk in chunks {
        splitter.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = splitter.next_event().unwrap() {
            events.push(event);
        }
    }
    (events, splitter.take_rest())
}

fn check(body: &str, expected: &[&str], rest: &str) {
    let (events, left) = events_of(&[body.as_bytes()]);
    let events: Vec<String> =
        events.iter().map(|event| String::from_utf8(event.to_vec()).unwrap()).collect();
    assert_eq!(events, expected);
    assert_eq!(left, rest);
}

#[test]
fn events_end_with_an_empty_line_of_either_kind() {
    check("data: a\n\ndata: b\n\n", &["data: a\n\n", "data: b\n\n"], "");
    check("data: a\r\n\r\ndata: b\r\n\r\n", &["data: a\r\n\r\n", "data: b\r\n\r\n"], "");
    check("data: a\n\r\ndata: b", &["data: a\n\r\n"], "data: b");
    check(": comment\n\ndata: a\ndata: b\n\n", &[": comment\n\n", "data: a\ndata: b\n\n"], "");
}

#[test]
fn an_event_within_a_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
    let mut splitter = Splitter::default();
    splitter.push(chunk.clone());
    let first = splitter.next_event().unwrap().unwrap();
    assert_eq!(first.as_ptr(), chunk.as_ptr());
}

#[test]
fn an_event_that_never_ends_is_refused() {
    let mut splitter = Splitter::with_limit(10);
    splitter.push(Bytes::from_static(b"data: 12345"));
    assert_eq!(splitter.next_event(), Err(EventTooLarge));
    let mut splitter = Splitter::with_limit(10);
    for _ in 0..10 {
        splitter.push(Bytes::from_static(b"x"));
        assert_eq!(splitter.next_event(), Ok(None));
    }
    splitter.push(Bytes::from_static(b"x"));
    assert_eq!(splitter.next_event(), Err(EventTooLarge));
}

#[test]
fn data_lines_are_joined_and_one_space_is_dropped() {
    let joined = |event: &str| data(event.as_bytes()).map(|data| data.into_owned());
    assert_eq!(joined("data: a\n\n").unwrap(), b"a");
    assert_eq!(joined("data:a\r\n\r\n").unwrap(), b"a");
    assert_eq!(joined("data:  a\n\n").unwrap(), b" a");
    assert_eq!(joined("event: x\ndata: a\ndata\ndata: b\n\n").unwrap(), b"a\n\nb");
    assert_eq!(joined(": data: a\n\n"), None);
    assert_eq!(joined("database: a\n\n"), None);
}

#[test]
fn ids_are_seen_wherever_they_stand() {
    assert!(has_id(b"id: 1\ndata: a\n\n"));
    assert!(has_id(b"data: a\nid\n\n"));
    assert!(!has_id(b"data: id: 1\nidle: x\n\n"));
}

#[test]
fn what_is_written_is_read_again() {
    let mut out = BytesMut::new();
    write_event("x.y", b"{}", &mut out);
    write_comment("a=1; b=2\r\ndata: injected", &mut out);
    write_comment("", &mut out);
    write_data(b"[DONE]", &mut out);
    check(
        std::str::from_utf8(&out).unwrap(),
        &["event: x.y\ndata: {}\n\n", ": a=1; b=2  data: injected\n\n", "data: [DONE]\n\n"],
        "",
    );
}

proptest! {
    #[test]
    fn chunk_borders_change_nothing(
        pieces in prop::collection::vec(
            prop::sample::select(vec!["data: a", "\n", "\r\n", "\r", ":", "id: 1", "x", "\n\n", ""]),
            0..40,
        ),
        cuts in prop::collection::vec(0usize..200, 0..12),
    ) {
        let body = pieces.concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([body.len()]) {
            chunks.push(&body.as_bytes()[from..cut]);
            from = cut;
        }
        let (whole, whole_rest) = events_of(&[body.as_bytes()]);
        let (cut, cut_rest) = events_of(&chunks);
        prop_assert_eq!(&cut, &whole);
        prop_assert_eq!(&cut_rest, &whole_rest);
        let together: Vec<u8> = cut.iter().flatten().copied().chain(cut_rest).collect();
        prop_assert_eq!(together, body.as_bytes());
    }
}
