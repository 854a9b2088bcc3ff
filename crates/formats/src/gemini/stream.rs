//! Streamed answers: chunks read from an upstream or written for a client.
//!
//! Every chunk is an event with data only, and each is a small answer. There is no last event: the
//! body closes behind the chunk that says why the model stopped, or why the prompt was blocked. One
//! that closes before is a cut. Nothing but data may be in such a stream: Google's Python SDK takes
//! a comment for a chunk.

mod begun;
mod writer;

use std::collections::VecDeque;

use ::types::Failure;
use ::types::format::{ReadOptions, ReadResponse};
use ::types::outcome::{Finish, OutcomeEvent};
use bytes::Bytes;

pub(crate) use self::begun::read_begun;
pub(crate) use self::writer::Writer;
use super::errors;
use super::response::answer::{Answer, Chunk};
use crate::sse;
use crate::sse::reading::{self, See, Seen};
use crate::whole::failed;

/// Reads a stream.
pub(crate) struct Reader(reading::Reader<Chunks>);

impl Reader {
    pub(crate) fn new(options: ReadOptions) -> Self {
        let chunks = Chunks { answer: Answer::new(options.decode) };
        Self(reading::Reader::new(chunks, options.hold_preamble))
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

/// What the chunks of a stream have said so far.
struct Chunks {
    answer: Answer,
}

impl See for Chunks {
    fn has_content(&self, event: &[u8]) -> bool {
        let data = sse::data(event);
        let chunk = serde_json::from_slice::<Chunk<'_>>(data.as_deref().unwrap_or_default());
        chunk.is_ok_and(|chunk| chunk.has_content())
    }

    fn see(&mut self, event: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        let data = sse::data(event);
        let data = data.as_deref().unwrap_or_default().trim_ascii();
        if data.is_empty() || data == b"[DONE]" {
            // Of servers that speak the format and are not Google's; clients could not read it.
            return Seen::Withhold;
        }
        match self.chunk(data, events) {
            Ok(()) if self.answer.decodes() => Seen::Withhold,
            Ok(()) => Seen::Pass,
            Err(failure) => Seen::Fail(Box::new(failure)),
        }
    }

    fn see_rest(&mut self, rest: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Seen {
        if reading::is_half(rest) {
            return Seen::Withhold;
        }
        self.see(rest, events)
    }

    fn finish(&mut self, _raw: Option<Bytes>) -> Result<Finish, Failure> {
        // No comment may be added.
        let finish = self.answer.finish()?;
        Ok(Finish { carried_ids: true, ..finish })
    }
}

impl Chunks {
    fn chunk(&mut self, data: &[u8], events: &mut VecDeque<OutcomeEvent>) -> Result<(), Failure> {
        let unreadable = |_| failed("the provider's stream has a chunk that can't be read");
        let chunk: Chunk<'_> = serde_json::from_slice(data).map_err(unreadable)?;
        if let (false, Some(failure)) = (chunk.is_answer(), errors::parse_in_answer(data)) {
            return Err(failure.billed(self.answer.billed()));
        }
        let mut deltas = Vec::new();
        self.answer.take(chunk, &mut deltas)?;
        let frame = |delta| OutcomeEvent::Frame { raw: None, delta: Some(delta) };
        events.extend(deltas.into_iter().map(frame));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
