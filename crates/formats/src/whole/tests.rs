use super::*;

fn read(body: &[u8], _: &ReadOptions) -> Result<(Vec<Delta>, Finish), Failure> {
    let text: String =
        serde_json::from_slice(body).map_err(|error| no_answer(Some(&error), "string", || None))?;
    Ok((vec![Delta::Text { text }], Finish::default()))
}

fn events(decode: bool, chunks: &[&'static [u8]]) -> Vec<OutcomeEvent> {
    let mut reader = Reader::new(ReadOptions { decode, ..ReadOptions::default() }, read);
    let mut events = VecDeque::new();
    chunks.iter().for_each(|chunk| reader.push(Bytes::from_static(chunk), &mut events));
    reader.end(&mut events);
    reader.push(Bytes::from_static(b"more"), &mut events);
    reader.end(&mut events);
    events.into()
}

fn failure(events: &[OutcomeEvent]) -> &Failure {
    match events {
        [OutcomeEvent::Failed(failure)] => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_in_pieces_is_one_frame() {
    for chunks in [vec![&b"\"hi\""[..]], vec![&b"\"h"[..], b"", b"i", b"\""]] {
        match events(false, &chunks).as_slice() {
            [OutcomeEvent::Frame { raw: Some(raw), delta: None }, OutcomeEvent::Finish(_)] => {
                assert_eq!(raw, "\"hi\"");
            }
            other => panic!("{other:?}"),
        }
        match events(true, &chunks).as_slice() {
            [OutcomeEvent::Frame { raw: None, delta: Some(delta) }, OutcomeEvent::Finish(_)] => {
                assert_eq!(*delta, Delta::Text { text: "hi".to_owned() });
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_cut_is_told_from_something_else() {
    assert_eq!(failure(&events(true, &[b"\"h"])).code, ErrorCode::StreamCut);
    assert_eq!(failure(&events(true, &[])).code, ErrorCode::StreamCut);
    let other = events(true, &[b"<html>"]);
    assert_eq!(failure(&other).code, ErrorCode::UpstreamFailed);
    assert_eq!(failure(&other).billed, Billed::Unknown);
}

#[test]
fn what_is_held_is_bounded() {
    static MUCH: [u8; 1024 * 1024] = [b' '; 1024 * 1024];
    let chunks = vec![&MUCH[..]; BODY_BYTES_MAX / MUCH.len() + 1];
    assert_eq!(failure(&events(false, &chunks)).code, ErrorCode::UpstreamFailed);
}

#[test]
fn a_count_and_vectors_pass_also_where_deltas_are_wanted() {
    for operation in [Operation::CountTokens, Operation::Embed] {
        let options = ReadOptions { decode: true, operation, ..ReadOptions::default() };
        let (mut reader, mut events) = (Reader::new(options, read), VecDeque::new());
        reader.push(Bytes::from_static(b"\"9\""), &mut events);
        reader.end(&mut events);
        let frame = events.pop_front();
        let passed =
            matches!(&frame, Some(OutcomeEvent::Frame { raw: Some(raw), .. }) if raw == "\"9\"");
        assert!(passed, "{operation:?}: {frame:?}");
    }
}

#[test]
fn a_limit_of_its_own_holds() {
    let mut reader = Reader::new(ReadOptions::default(), read).with_limit(3);
    let mut events = VecDeque::new();
    reader.push(Bytes::from_static(b"\"h"), &mut events);
    reader.push(Bytes::from_static(b"i\""), &mut events);
    assert_eq!(failure(events.make_contiguous()).code, ErrorCode::UpstreamFailed);
}
