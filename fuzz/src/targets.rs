//! Fuzz targets: each takes any bytes and says what is wrong with what the parsers made of them.
//!
//! They run under libFuzzer (`fuzz/`) and, on stable, over mutated seeds
//! (`crates/formats/tests/it/fuzz.rs`). They use nothing but the crates' public face.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use formats::sse::Splitter;
use types::conversation::Conversation;
use types::format::{Edits, Format, ReadOptions, WriteOptions};
use types::outcome::OutcomeEvent;

/// Every format, in the order that an input's first byte picks from.
pub const FORMATS: [&dyn Format; 6] = [
    &formats::OPENAI_CHAT,
    &formats::OPENAI_RESPONSES,
    &formats::ANTHROPIC_MESSAGES,
    &formats::GEMINI,
    &formats::BEDROCK_CONVERSE,
    &formats::CLOUDFLARE_RUN,
];
/// An event of a stream may be so large before it is refused.
const EVENT_BYTES_MAX: usize = 1 << 16;
/// What comes out may be so many times what went in: JSON escapes a byte by six, within texts that
/// are themselves JSON, and every piece has a frame of its own.
const GROWTH_MAX: usize = 64;
/// And this more: heads and ends of answers.
const GROWTH_BASE: usize = 1 << 16;

/// The blank line behind an event.
const LINE_ENDS: usize = 2;

/// A request: the first byte picks the format.
///
/// # Errors
/// What was rendered does not parse to the same again.
pub fn request(data: &[u8]) -> Result<(), String> {
    let Some((format, body)) = pick(data) else { return Ok(()) };
    let _head = format.read_head(body);
    let Ok(first) = format.parse_request(body) else { return Ok(()) };
    for target in FORMATS {
        let edits = Edits { model: "m", output_max: Some(4_096), ..Edits::default() };
        let Ok(rendered) = target.render_request(&first, &edits) else { continue };
        bounded(target.name(), body.len(), rendered.body.len())?;
        // Another format may refuse what this one takes (a tool's name), which its provider says.
        if target.name() != format.name() {
            continue;
        }
        match target.parse_request(&rendered.body) {
            Ok(second) if rendered.dropped.is_empty() => same(target, &first, &second, &edits)?,
            Ok(_) => {}
            Err(failure) => return Err(format!("{}: not read back: {failure}", target.name())),
        }
    }
    Ok(())
}

/// What is read back is rendered as the first was: nothing of it was lost on the way.
fn same(
    format: &dyn Format,
    first: &Conversation,
    second: &Conversation,
    edits: &Edits<'_>,
) -> Result<(), String> {
    let render = |conversation| format.render_request(conversation, edits).map(|one| one.body);
    match (render(first), render(second)) {
        (Ok(first), Ok(second)) if first == second => Ok(()),
        (first, second) => Err(format!("{}: {first:?} became {second:?}", format.name())),
    }
}

/// An answer of an upstream: the first byte picks the format, the second how it is read, the third
/// into which pieces it is cut.
///
/// # Errors
/// It does not end once, or grows beyond measure.
pub fn answer(data: &[u8]) -> Result<(), String> {
    let Some((format, rest)) = pick(data) else { return Ok(()) };
    let [how, cut, body @ ..] = rest else { return Ok(()) };
    let options = ReadOptions {
        stream: how & 1 != 0,
        decode: how & 2 != 0,
        withhold_usage: how & 4 != 0,
        hold_preamble: how & 8 != 0,
        ..ReadOptions::default()
    };
    let mut events = VecDeque::new();
    let mut reader = format.reader(options);
    for piece in body.chunks(usize::from(*cut).max(1)) {
        reader.push(Bytes::copy_from_slice(piece), &mut events);
    }
    reader.end(&mut events);
    let ends =
        |event: &OutcomeEvent| matches!(event, OutcomeEvent::Finish(_) | OutcomeEvent::Failed(_));
    let count = events.iter().filter(|event| ends(event)).count();
    if count != 1 || !events.back().is_some_and(ends) {
        return Err(format!("{}: {count} ends in {events:?}", format.name()));
    }
    if !options.decode {
        return passed(format, body.len(), &events);
    }
    for client in FORMATS {
        write(client, body.len(), &events, options.stream)?;
    }
    Ok(())
}

/// What is passed through is no more than what came, and the line's end that a last event lacks.
fn passed(format: &dyn Format, came: usize, events: &VecDeque<OutcomeEvent>) -> Result<(), String> {
    let raw = events.iter().map(|event| match event {
        OutcomeEvent::Frame { raw, .. } => raw.as_ref().map_or(0, Bytes::len),
        OutcomeEvent::Finish(finish) => finish.raw.as_ref().map_or(0, Bytes::len),
        OutcomeEvent::Start(_) | OutcomeEvent::Failed(_) => 0,
    });
    let out: usize = raw.sum();
    if out <= came + LINE_ENDS {
        return Ok(());
    }
    Err(format!("{}: {came} bytes became {out}", format.name()))
}

/// Writes an answer for a client of a format.
fn write(
    format: &dyn Format,
    came: usize,
    events: &VecDeque<OutcomeEvent>,
    stream: bool,
) -> Result<(), String> {
    let mut out = BytesMut::new();
    let mut writer = format.writer(WriteOptions {
        stream,
        include_usage: true,
        id: "fuzz-id".to_owned(),
        model: "m".to_owned(),
        created: types::clock::Timestamp::default(),
    });
    for event in events {
        match event {
            OutcomeEvent::Start(start) => writer.start(start, &mut out),
            OutcomeEvent::Frame { delta, .. } => {
                delta.iter().for_each(|delta| writer.delta(delta, &mut out));
            }
            // What can't be said as a whole answer is refused, which is no matter here.
            OutcomeEvent::Finish(finish) => drop(writer.finish(finish, "a comment", &mut out)),
            OutcomeEvent::Failed(_) => {}
        }
    }
    bounded(format.name(), came, out.len())
}

/// The framing of server-sent events: the first byte says into which pieces the rest is cut.
///
/// # Errors
/// Bytes were lost or added.
pub fn events(data: &[u8]) -> Result<(), String> {
    let [cut, body @ ..] = data else { return Ok(()) };
    let mut splitter = Splitter::with_limit(EVENT_BYTES_MAX);
    let mut out = Vec::new();
    for piece in body.chunks(usize::from(*cut).max(1)) {
        splitter.push(Bytes::copy_from_slice(piece));
        loop {
            match splitter.next_event() {
                Ok(Some(event)) => {
                    let _data = formats::sse::data(&event);
                    out.extend_from_slice(&event);
                }
                Ok(None) => break,
                Err(_) => return Ok(()),
            }
        }
    }
    out.extend_from_slice(&splitter.take_rest());
    if out == body { Ok(()) } else { Err(format!("{body:?} became {out:?}")) }
}

fn pick(data: &[u8]) -> Option<(&'static dyn Format, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((FORMATS[usize::from(*first) % FORMATS.len()], rest))
}

fn bounded(name: &str, came: usize, out: usize) -> Result<(), String> {
    let most = came * GROWTH_MAX + GROWTH_BASE;
    if out > most { Err(format!("{name}: {came} bytes became {out}")) } else { Ok(()) }
}
