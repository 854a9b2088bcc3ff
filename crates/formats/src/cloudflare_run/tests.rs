use ::types::ids::Ids;

use super::*;

#[test]
fn no_provider_is_asked_in_this_format() {
    let edits = Edits { model: "m", ..Edits::default() };
    assert_eq!(CLOUDFLARE_RUN.path(&edits), None);
    let refused = CLOUDFLARE_RUN.render_request(&Conversation::default(), &edits).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unsupported);
    let mut reader = CLOUDFLARE_RUN.reader(ReadOptions::default());
    let mut events = VecDeque::new();
    reader.push(Bytes::from_static(b"{}"), &mut events);
    assert!(events.is_empty());
    reader.end(&mut events);
    assert!(matches!(events.pop_front(), Some(OutcomeEvent::Failed(_))));
}

#[test]
fn the_format_writes_a_stream_or_one_body() {
    let clock = std::sync::Arc::new(::types::clock::FakeClock::new(::types::Timestamp(0)));
    let call = CallId::new(&Ids::seeded(clock, 1));
    let failure = Failure::new(ErrorCode::StreamCut, "cut");
    let options = |stream| WriteOptions {
        stream,
        include_usage: true,
        id: String::new(),
        model: "m".to_owned(),
        created: ::types::Timestamp(0),
    };
    for stream in [true, false] {
        let mut out = bytes::BytesMut::new();
        CLOUDFLARE_RUN.writer(options(stream)).fail(&failure, &call, &mut out);
        assert_eq!(out.starts_with(b"data: "), stream);
    }
}
