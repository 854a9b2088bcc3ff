//! Streamed answers: events read from an upstream or written for a client.
//!
//! Passing through, the reader goes by the `event:` line of each event and reads only those that
//! Holdfast needs: the message's beginning (the model, the first counts), its end (why it stopped,
//! the counts) and errors. Everything else goes on as a slice of the chunk it came in.
//! `message_stop` is kept for the end.
//!
//! A stream is whole only with a stop reason and `message_stop`: one that ends before is a cut.

mod begun;
mod decode;
mod writer;

use std::borrow::Cow;
use std::collections::VecDeque;

use ::types::error::Billed;
use ::types::format::{ReadOptions, ReadResponse};
use ::types::outcome::{Finish, OutcomeEvent, Stop};
use ::types::{ErrorCode, Failure};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

pub(crate) use self::begun::read_begun;
use self::decode::Decoder;
pub(crate) use self::writer::Writer;
use super::errors;
use super::response::paused;
use super::response::usage::{Counted, PAUSED, stop_of};
use crate::sse::reading::{self, Fields, See, Seen};
use crate::whole::failed;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MessageStart,
    BlockStart,
    BlockDelta,
    BlockStop,
    MessageDelta,
    MessageStop,
    Error,
    /// A ping, a comment, or one that is not known: new ones may come at any time.
    Other,
}

impl Kind {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"content_block_delta" => Self::BlockDelta,
            b"content_block_start" => Self::BlockStart,
            b"content_block_stop" => Self::BlockStop,
            b"message_start" => Self::MessageStart,
            b"message_delta" => Self::MessageDelta,
            b"message_stop" => Self::MessageStop,
            b"error" => Self::Error,
            _ => return None,
        })
    }

    /// What an event with these fields is; `None` if it can't be read.
    fn of(fields: &Fields<'_>) -> Option<Self> {
        match fields.name {
            // The name of events without a name.
            None | Some(b"" | b"message") => {}
            Some(name) => return Some(Self::named(name).unwrap_or(Self::Other)),
        }
        let Some(data) = &fields.data else { return Some(Self::Other) };
        if data.trim_ascii() == b"[DONE]" {
            return Some(Self::Other);
        }
        let typed: Typed<'_> = serde_json::from_slice(data).ok()?;
        Some(match typed {
            Typed { kind: Some(kind), .. } => Self::named(kind.as_bytes()).unwrap_or(Self::Other),
            Typed { error: Some(_), .. } => Self::Error,
            Typed { .. } => Self::Other,
        })
    }
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct MessageStart<'a> {
    #[serde(borrow)]
    message: StartedMessage<'a>,
}

#[derive(Deserialize)]
struct StartedMessage<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BlockStart<'a> {
    #[serde(borrow)]
    content_block: BlockKind<'a>,
}

#[derive(Deserialize)]
struct BlockKind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

impl BlockKind<'_> {
    fn begins_empty(&self) -> bool {
        matches!(&*self.kind, "text" | "thinking")
    }
}

#[derive(Deserialize)]
struct MessageDelta<'a> {
    #[serde(borrow)]
    delta: Stopped<'a>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Stopped<'a> {
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    stop_sequence: Option<String>,
}

/// Reads a stream.
pub(crate) struct Reader(reading::Reader<Events>);

impl Reader {
    pub(crate) fn new(options: ReadOptions) -> Self {
        let decoder = options.decode.then(Decoder::default);
        let events = Events { decoder, ..Events::default() };
        Self(reading::Reader::new(events, options.hold_preamble))
    }
}

impl ReadResponse for Reader {
    fn push(&mut self, chunk: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        self.0.push(chunk, events);
    }

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        self.0.end(events);
    }
}

/// What the events of a stream have said so far.
#[derive(Default)]
struct Events {
    decoder: Option<Decoder>,
    stop: Option<Stop>,
    stop_text: Option<String>,
    counted: Counted,
    model_version: Option<String>,
    /// The upstream sent `id:` lines: then nothing may be put before the last frame.
    has_ids: bool,
}

impl See for Events {
    fn has_content(&self, event: &[u8]) -> bool {
        let fields = Fields::of(event);
        let data = fields.data.as_deref().unwrap_or_default();
        match Kind::of(&fields) {
            // A block of text begins empty; one of any other kind says already what it is.
            Some(Kind::BlockStart) => {
                let started = serde_json::from_slice::<BlockStart<'_>>(data);
                started.map_or(true, |started| !started.content_block.begins_empty())
            }
            Some(Kind::BlockDelta) | None => true,
            Some(
                Kind::MessageStart
                | Kind::BlockStop
                | Kind::MessageDelta
                | Kind::MessageStop
                | Kind::Error
                | Kind::Other,
            ) => false,
        }
    }

    fn see(&mut self, event: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        let fields = Fields::of(event);
        self.has_ids |= fields.has_id;
        let Some(kind) = Kind::of(&fields) else { return Seen::Fail(Box::new(unreadable())) };
        let data = fields.data.as_deref().unwrap_or_default();
        if data.is_empty() && kind != Kind::Error {
            // The SDKs skip it too.
            return self.unless_decoding();
        }
        let of_a_block = matches!(kind, Kind::BlockStart | Kind::BlockDelta | Kind::BlockStop);
        if of_a_block && self.decoder.is_none() && !reading::is_outlined(event) {
            // Behind a piece that no client can read nothing may look like an end.
            return Seen::Fail(Box::new(unreadable()));
        }
        let read = match kind {
            Kind::MessageStart => self.message_start(data),
            Kind::MessageDelta => self.message_delta(data),
            Kind::MessageStop => {
                self.decoder.as_mut().into_iter().for_each(|decoder| decoder.end(events));
                return Seen::End;
            }
            Kind::Error => Err(self.error(data)),
            Kind::BlockStart | Kind::BlockDelta | Kind::BlockStop | Kind::Other => {
                self.block(kind, data, events)
            }
        };
        match read {
            Ok(()) => self.unless_decoding(),
            Err(failure) => Seen::Fail(Box::new(failure)),
        }
    }

    fn see_rest(&mut self, rest: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        if reading::is_half(rest) {
            return Seen::Withhold;
        }
        self.see(rest, events)
    }

    fn finish(&mut self, raw: Option<Bytes>) -> Result<Finish, Failure> {
        let (Some(stop), Some(raw)) = (self.stop, raw) else {
            let text =
                "the provider's stream ended before its message did: the answer is not whole";
            return Err(Failure::new(ErrorCode::StreamCut, text).billed(self.billed()));
        };
        Ok(Finish {
            stop,
            stop_text: self.stop_text.take(),
            usage: self.counted.usage(),
            model_version: self.model_version.take(),
            raw: self.decoder.is_none().then(|| closed(raw)),
            carried_ids: self.has_ids,
            ..Finish::default()
        })
    }
}

impl Events {
    const fn unless_decoding(&self) -> Seen {
        if self.decoder.is_some() { Seen::Withhold } else { Seen::Pass }
    }

    fn message_start(&mut self, data: &[u8]) -> Result<(), Failure> {
        let started: MessageStart<'_> = serde_json::from_slice(data).map_err(|_| unreadable())?;
        self.model_version = started.message.model;
        self.counted.take_first(started.message.usage);
        Ok(())
    }

    fn message_delta(&mut self, data: &[u8]) -> Result<(), Failure> {
        let said: MessageDelta<'_> = serde_json::from_slice(data).map_err(|_| unreadable())?;
        self.counted.take(said.usage);
        let Some(reason) = said.delta.stop_reason else { return Ok(()) };
        if self.decoder.is_some() && reason == PAUSED {
            return Err(paused(&self.counted));
        }
        self.stop = Some(stop_of(&reason));
        self.stop_text = said.delta.stop_sequence;
        Ok(())
    }

    fn block(
        &mut self,
        kind: Kind,
        data: &[u8],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        match kind {
            Kind::BlockStart => decoder.start(data, events),
            Kind::BlockDelta => decoder.delta(data, events),
            Kind::BlockStop => decoder.stop(data, events),
            _ => Ok(()),
        }
    }

    fn error(&self, data: &[u8]) -> Failure {
        let failure = errors::parse_in_answer(data)
            .unwrap_or_else(|| failed("the provider failed in its answer"));
        failure.billed(self.billed())
    }

    /// What a stream that breaks now has cost: the counts are final once the model has stopped.
    fn billed(&self) -> Billed {
        let usage = self.stop.and_then(|_| self.counted.usage());
        Billed::from(usage)
    }
}

fn unreadable() -> Failure {
    failed("the provider's stream has an event that can't be read")
}

/// The event with the empty line that ends it, without which no client would see it.
fn closed(event: Bytes) -> Bytes {
    if event.ends_with(b"\n\n") || event.ends_with(b"\n\r\n") {
        return event;
    }
    let mut closed = BytesMut::from(event.trim_ascii_end());
    closed.extend_from_slice(b"\n\n");
    closed.freeze()
}

#[cfg(test)]
mod tests;
