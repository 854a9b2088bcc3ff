//! Reading a streamed answer event by event: what every format that streams so has in common.
//!
//! A format says of each event what becomes of it ([`See`]); [`Reader`] cuts the chunks, passes
//! bytes on in as few slices as possible and ends once. What the body's end left of an event is
//! passed on only if the answer is whole: behind half a line, an error would not be understood.
//!
//! Invariant: exactly one `Finish` or `Failed`, and nothing behind it. It must not know what an
//! event says.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use memchr::memchr_iter;
use serde::de::IgnoredAny;
use types::error::Billed;
use types::format::ReadResponse;
use types::outcome::{Finish, OutcomeEvent};
use types::{ErrorCode, Failure};

use super::{EVENT_BYTES_MAX, Splitter, event_end, field};

/// What becomes of an event's bytes.
pub(crate) enum Seen {
    /// They go on to the client.
    Pass,
    /// They don't.
    Withhold,
    /// It is the end of the answer: nothing behind it counts.
    End,
    /// The answer has failed.
    Fail(Box<Failure>),
}

/// Bytes of leading events that wait for the first with content. A server that says more before it
/// answers is let through.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// Leading events that wait, at most.
const HELD_EVENTS_MAX: u32 = 64;

/// How a format looks at the events of an answer.
pub(crate) trait See: Send {
    /// Whether an event shows the client something of the answer. Asked of passing events until one
    /// does, where leading ones wait for it.
    fn has_content(&self, event: &[u8]) -> bool;

    /// Looks at one event. What it says, where deltas are wanted, joins `events`.
    fn see(&mut self, event: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen;

    /// Looks at what the body's end left of an event.
    fn see_rest(&mut self, rest: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        self.see(rest, events)
    }

    /// The answer has ended, said (`raw` is the event) or not.
    fn finish(&mut self, raw: Option<Bytes>) -> Result<Finish, Failure>;
}

/// Reads a stream.
pub(crate) struct Reader<S> {
    splitter: Splitter,
    format: S,
    ended: bool,
    held: Option<Held>,
}

/// Leading events without content: as long as nothing of an answer was shown, another target can
/// still give it.
#[derive(Default)]
struct Held {
    bytes: BytesMut,
    events: u32,
}

impl<S: See> Reader<S> {
    /// A reader; `hold_preamble` as in [`types::format::ReadOptions`].
    pub(crate) fn new(format: S, hold_preamble: bool) -> Self {
        let held = hold_preamble.then(Held::default);
        Self { splitter: Splitter::default(), format, ended: false, held }
    }

    /// Whether an event that may pass has to wait for the first with content. The first that need
    /// not lets all that waited go before it.
    fn holds(&mut self, event: &[u8], events: &mut VecDeque<OutcomeEvent>) -> bool {
        let Some(held) = &mut self.held else { return false };
        let room = held.events < HELD_EVENTS_MAX
            && held.bytes.len().saturating_add(event.len()) <= HELD_BYTES_MAX;
        if room && !self.format.has_content(event) {
            held.bytes.extend_from_slice(event);
            held.events += 1;
            return true;
        }
        self.release(events);
        false
    }

    fn release(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        if let Some(held) = self.held.take() {
            pass(held.bytes.freeze(), events);
        }
    }

    fn fail(&mut self, failure: Box<Failure>, events: &mut VecDeque<OutcomeEvent>) {
        self.ended = true;
        events.push_back(OutcomeEvent::Failed(failure));
    }

    fn fail_too_large(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        let text =
            format!("the provider's stream has an event of more than {EVENT_BYTES_MAX} bytes");
        let failure = Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown);
        self.fail(Box::new(failure), events);
    }

    /// Ends the answer; `rest` is what of it still passes if it is whole.
    fn finish(&mut self, raw: Option<Bytes>, rest: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        self.ended = true;
        match self.format.finish(raw) {
            Ok(finish) => {
                self.release(events);
                pass(rest, events);
                events.push_back(OutcomeEvent::Finish(finish));
            }
            Err(failure) => events.push_back(OutcomeEvent::Failed(Box::new(failure))),
        }
    }

    /// Sees an event that spans chunks.
    fn see_whole(&mut self, event: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        match self.format.see(&event, events) {
            Seen::Pass if self.holds(&event, events) => {}
            Seen::Pass => pass(event, events),
            Seen::Withhold => {}
            Seen::End => self.finish(Some(event), Bytes::new(), events),
            Seen::Fail(failure) => self.fail(failure, events),
        }
    }

    /// Sees the events that lie within a chunk.
    fn see_chunk(&mut self, chunk: &Bytes, events: &mut VecDeque<OutcomeEvent>) {
        let (mut from, mut at) = (0, 0);
        while let Some(end) = event_end(chunk, at) {
            let event = chunk.get(at..end).unwrap_or_default();
            let seen = self.format.see(event, events);
            let passes = matches!(seen, Seen::Pass) && !self.holds(event, events);
            if !passes {
                pass(chunk.slice(from..at), events);
                from = end;
            }
            match seen {
                Seen::Pass | Seen::Withhold => at = end,
                Seen::End => {
                    return self.finish(Some(chunk.slice(at..end)), Bytes::new(), events);
                }
                Seen::Fail(failure) => return self.fail(failure, events),
            }
        }
        pass(chunk.slice(from..at), events);
        self.splitter.push(chunk.slice(at..));
        if self.splitter.next_event().is_err() {
            self.fail_too_large(events);
        }
    }

    /// Sees what is left of an event; answers what of it is to be passed on.
    fn see_rest(&mut self, events: &mut VecDeque<OutcomeEvent>) -> Bytes {
        let rest = self.splitter.take_rest();
        if rest.is_empty() {
            return rest;
        }
        match self.format.see_rest(&rest, events) {
            Seen::Pass => return rest,
            Seen::Withhold => {}
            Seen::End => self.finish(Some(rest), Bytes::new(), events),
            Seen::Fail(failure) => self.fail(failure, events),
        }
        Bytes::new()
    }
}

fn pass(bytes: Bytes, events: &mut VecDeque<OutcomeEvent>) {
    if !bytes.is_empty() {
        events.push_back(OutcomeEvent::Frame { raw: Some(bytes), delta: None });
    }
}

impl<S: See> ReadResponse for Reader<S> {
    fn push(&mut self, chunk: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        if self.ended {
            return;
        }
        let mut chunk = chunk;
        if self.splitter.holds() {
            self.splitter.push(chunk);
            match self.splitter.next_event() {
                Ok(Some(event)) => self.see_whole(event, events),
                Ok(None) => return,
                Err(_) => return self.fail_too_large(events),
            }
            if self.ended {
                return;
            }
            chunk = self.splitter.take_chunk();
        }
        self.see_chunk(&chunk, events);
    }

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        if self.ended {
            return;
        }
        let rest = self.see_rest(events);
        if self.ended {
            return;
        }
        self.finish(None, rest, events);
    }
}

/// Whether an event's data has the outline of a JSON object, or is none at all. A piece that broke
/// off has not. It is all that is looked at where bytes only pass: reading each piece would cost
/// more than sending it.
pub(crate) fn is_outlined(event: &[u8]) -> bool {
    let ended = event.trim_ascii_end();
    // Nearly all are one line of data.
    if let Some(begun) = ended.strip_prefix(b"data:") {
        let object = begun.trim_ascii_start().first() == Some(&b'{');
        if object && ended.last() == Some(&b'}') {
            return true;
        }
    }
    super::data(event).is_none_or(|data| {
        let data = data.trim_ascii();
        matches!(data, [] | b"[DONE]" | [b'{', .., b'}'])
    })
}

/// Whether the body's end left only half of an event's data. That is not a malformed event: the
/// stream was cut there.
pub(crate) fn is_half(rest: &[u8]) -> bool {
    let data = super::data(rest);
    data.is_some_and(|data| {
        data.trim_ascii() != b"[DONE]" && serde_json::from_slice::<IgnoredAny>(&data).is_err()
    })
}

/// The fields of an event that say what it is.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    /// The value of its last `event` line.
    pub(crate) name: Option<&'a [u8]>,
    /// Its `data` lines joined by LF.
    pub(crate) data: Option<Cow<'a, [u8]>>,
    /// Whether it has an `id` line.
    pub(crate) has_id: bool,
}

impl<'a> Fields<'a> {
    /// The fields of an event, in one pass over its lines.
    pub(crate) fn of(event: &'a [u8]) -> Self {
        let mut fields = Self::default();
        let mut from = 0;
        for end in memchr_iter(b'\n', event).chain([event.len()]) {
            let line = event.get(from..end).unwrap_or_default();
            fields.take(line.strip_suffix(b"\r").unwrap_or(line));
            from = end + 1;
        }
        fields
    }

    fn take(&mut self, line: &'a [u8]) {
        if let Some(value) = field(line, b"data") {
            match &mut self.data {
                None => self.data = Some(Cow::Borrowed(value)),
                Some(joined) => {
                    let joined = joined.to_mut();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
            }
        } else if let Some(value) = field(line, b"event") {
            self.name = Some(value);
        } else if field(line, b"id").is_some() {
            self.has_id = true;
        }
    }
}

#[cfg(test)]
mod tests;
