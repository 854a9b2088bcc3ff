//! Streamed answers: frames read from an upstream or written for a client.
//!
//! `messageStop` says why the model stopped, and that the answer is whole; the usage follows in
//! `metadata`. A stream that ends between the two is whole without a usage; one that ends before,
//! within a frame, or with an exception has failed. Events that are not known are passed over.

mod decode;
mod writer;

use std::collections::VecDeque;

use ::types::error::Billed;
use ::types::format::{ReadOptions, ReadResponse};
use ::types::outcome::{Finish, OutcomeEvent, Stop};
use ::types::usage::Usage;
use ::types::{ErrorCode, Failure};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::decode::Blocks;
pub(crate) use self::writer::Writer;
use super::errors;
use super::response::usage::{Tier, stop_of, stop_text, usage_of};
use crate::eventstream::{Broken, Decoder, FRAME_BYTES_MAX, Frame};
use crate::whole::failed;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop<'a> {
    stop_reason: String,
    #[serde(borrow, default)]
    additional_model_response_fields: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, rename = "serviceTier", default)]
    tier: Option<Tier<'a>>,
}

/// Reads a stream.
pub(crate) struct Reader {
    frames: Decoder,
    /// What the blocks say; `None` where bytes pass.
    blocks: Option<Blocks>,
    /// Leading frames that wait for the first with content.
    held: Option<BytesMut>,
    /// The frames of the end, where bytes pass.
    last: BytesMut,
    stop: Option<Stop>,
    stop_text: Option<String>,
    usage: Option<Usage>,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(options: ReadOptions) -> Self {
        Self {
            frames: Decoder::default(),
            blocks: options.decode.then(Blocks::default),
            held: options.hold_preamble.then(BytesMut::new),
            last: BytesMut::new(),
            stop: None,
            stop_text: None,
            usage: None,
            ended: false,
        }
    }

    fn see(&mut self, frame: &Frame, events: &mut VecDeque<OutcomeEvent>) -> Result<(), Failure> {
        match frame.header(":message-type") {
            "event" => self.event(frame.header(":event-type"), &frame.payload, events)?,
            "exception" => {
                let name = frame.header(":exception-type");
                return Err(errors::parse_exception(name, &frame.payload));
            }
            "error" => {
                let (code, text) = (frame.header(":error-code"), frame.header(":error-message"));
                let text = serde_json::json!({ "message": text }).to_string();
                return Err(errors::parse_exception(code, text.as_bytes()));
            }
            _ => return Err(unreadable()),
        }
        self.pass(frame, events);
        Ok(())
    }

    fn event(
        &mut self,
        name: &str,
        payload: &[u8],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        match (name, &mut self.blocks) {
            ("messageStop", blocks) => {
                let said: MessageStop<'_> = read(payload)?;
                if let Some(blocks) = blocks {
                    blocks.end(events);
                }
                self.stop = Some(stop_of(&said.stop_reason)?);
                self.stop_text = stop_text(said.additional_model_response_fields);
            }
            ("metadata", _) => {
                let said: Metadata<'_> = read(payload)?;
                self.usage = usage_of(said.usage, said.tier.as_ref());
            }
            ("contentBlockStart", Some(blocks)) => blocks.start(payload, events)?,
            ("contentBlockDelta", Some(blocks)) => blocks.delta(payload, events)?,
            ("contentBlockStop", Some(blocks)) => blocks.stop(payload, events)?,
            // The message's beginning, and what may come.
            _ => {}
        }
        Ok(())
    }

    /// Lets a frame's bytes pass, where they do.
    fn pass(&mut self, frame: &Frame, events: &mut VecDeque<OutcomeEvent>) {
        if self.blocks.is_some() {
            return;
        }
        if self.stop.is_some() {
            self.last.extend_from_slice(&frame.raw);
            return;
        }
        let is_preamble = frame.header(":event-type") == "messageStart";
        if let Some(held) = self.held.as_mut().filter(|held| is_preamble && held.is_empty()) {
            held.extend_from_slice(&frame.raw);
            return;
        }
        self.release(events);
        events.push_back(OutcomeEvent::Frame { raw: Some(frame.raw.clone()), delta: None });
    }

    fn release(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        if let Some(held) = self.held.take().filter(|held| !held.is_empty()) {
            events.push_back(OutcomeEvent::Frame { raw: Some(held.freeze()), delta: None });
        }
    }

    fn fail(&mut self, failure: Failure, events: &mut VecDeque<OutcomeEvent>) {
        self.ended = true;
        let billed = self.usage.map_or_else(|| failure.billed.clone(), Billed::from);
        events.push_back(OutcomeEvent::Failed(Box::new(failure.billed(billed))));
    }

    fn finish(&mut self, stop: Stop, events: &mut VecDeque<OutcomeEvent>) {
        self.ended = true;
        self.release(events);
        let raw = self.blocks.is_none().then(|| std::mem::take(&mut self.last).freeze());
        events.push_back(OutcomeEvent::Finish(Finish {
            stop,
            stop_text: self.stop_text.take(),
            usage: self.usage,
            raw,
            ..Finish::default()
        }));
    }
}

impl ReadResponse for Reader {
    fn push(&mut self, chunk: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        if self.ended {
            return;
        }
        self.frames.push(&chunk);
        loop {
            let frame = match self.frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(broken) => return self.fail(broken_frame(broken), events),
            };
            if let Err(failure) = self.see(&frame, events) {
                return self.fail(failure, events);
            }
            // The last of the two that are awaited has come.
            if let (Some(stop), Some(_)) = (self.stop, self.usage) {
                return self.finish(stop, events);
            }
        }
    }

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        if self.ended {
            return;
        }
        match self.stop.filter(|_| !self.frames.holds()) {
            Some(stop) => self.finish(stop, events),
            None => {
                let text =
                    "the provider's stream ended before its message did: the answer is not whole";
                let failure = Failure::new(ErrorCode::StreamCut, text).billed(Billed::Unknown);
                self.fail(failure, events);
            }
        }
    }
}

fn broken_frame(broken: Broken) -> Failure {
    match broken {
        Broken::TooLarge => failed(format!(
            "the provider's stream has a frame of more than {FRAME_BYTES_MAX} bytes"
        )),
        Broken::Malformed => failed("the provider's stream has a frame that is not what it says"),
    }
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(payload).map_err(|_| unreadable())
}

fn unreadable() -> Failure {
    failed("the provider's stream has an event that can't be read")
}

#[cfg(test)]
mod tests;
