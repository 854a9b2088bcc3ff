//! An answer as the pieces of a streamed body.
//!
//! Bytes that can be passed through are, as they came; neutral pieces are written by the format.
//! What is known only at the end goes into one comment directly before the terminal frame. A broken
//! answer ends in an error, never in a terminal frame.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use pipeline::{Answer, Bill};
use types::clock::{Monotonic, SharedClock, Sleep};
use types::format::WriteResponse;
use types::outcome::{Finish, OutcomeEvent, Start};

/// A rendered stream that is silent for so long sends a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The pieces.
pub(super) struct Pieces {
    answer: Answer,
    writer: Box<dyn WriteResponse>,
    out: BytesMut,
    /// Whether the target's own bytes are passed through, as of the newest frame.
    passing: bool,
    /// What the writer begins with, until it has begun.
    start: Option<Start>,
    ended: bool,
    clock: SharedClock,
    last_piece: Monotonic,
    timer: Option<Sleep>,
}

impl Pieces {
    pub(super) fn new(
        answer: Answer,
        start: &Start,
        writer: Box<dyn WriteResponse>,
        clock: SharedClock,
    ) -> Self {
        let passing = start.content_type.is_some();
        let last_piece = clock.monotonic();
        let mut pieces = Self {
            answer,
            writer,
            out: BytesMut::new(),
            passing,
            start: Some(start.clone()),
            ended: false,
            clock,
            last_piece,
            timer: None,
        };
        if !passing {
            pieces.begin();
        }
        pieces
    }

    /// Begins what is written, unless it has begun.
    fn begin(&mut self) {
        if let Some(start) = self.start.take() {
            self.writer.start(&start, &mut self.out);
        }
    }

    /// Takes an event; answers what can be sent at once.
    fn take(&mut self, event: OutcomeEvent) -> Option<Bytes> {
        match event {
            OutcomeEvent::Start(_) => {}
            OutcomeEvent::Frame { raw: Some(raw), .. } => {
                self.passing = true;
                return Some(raw);
            }
            OutcomeEvent::Frame { raw: None, delta } => {
                self.passing = false;
                self.begin();
                delta.into_iter().for_each(|delta| self.writer.delta(&delta, &mut self.out));
            }
            OutcomeEvent::Finish(finish) => self.finish(&finish),
            OutcomeEvent::Failed(failure) => {
                self.writer.fail(&failure, &self.answer.call.id, &mut self.out);
                self.ended = true;
            }
        }
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }

    fn finish(&mut self, finish: &Finish) {
        self.ended = true;
        let comment = if finish.carried_ids { String::new() } else { comment(&self.answer.bill()) };
        if !self.passing {
            if let Err(failure) = self.writer.finish(finish, &comment, &mut self.out) {
                self.writer.fail(&failure, &self.answer.call.id, &mut self.out);
            }
            return;
        }
        if !comment.is_empty() {
            self.out.extend_from_slice(b": ");
            self.out.extend_from_slice(comment.as_bytes());
            self.out.extend_from_slice(b"\n\n");
        }
        if let Some(raw) = &finish.raw {
            self.out.extend_from_slice(raw);
        }
    }

    /// A sign of life if the stream has been silent for too long.
    fn keep_alive(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.passing {
            return Poll::Pending;
        }
        loop {
            let silent = self.clock.monotonic().saturating_sub(self.last_piece);
            let clock = &self.clock;
            let timer =
                self.timer.get_or_insert_with(|| clock.sleep(KEEP_ALIVE.saturating_sub(silent)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if silent < KEEP_ALIVE {
                continue;
            }
            self.last_piece = self.clock.monotonic();
            self.writer.keep_alive(&mut self.out);
            if !self.out.is_empty() {
                return Poll::Ready(Some(self.out.split().freeze()));
            }
        }
    }
}

/// What is known only at the end.
pub(crate) fn comment(bill: &Bill) -> String {
    let mut comment = match bill.cost {
        Some(cost) => format!("holdfast-cost={cost}; holdfast-attempts={}", bill.attempts),
        None => format!("holdfast-attempts={}", bill.attempts),
    };
    if !bill.dropped.is_empty() {
        comment.push_str("; holdfast-dropped=");
        comment.push_str(&bill.dropped.join(","));
    }
    comment
}

impl Stream for Pieces {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = self.get_mut();
        if !this.out.is_empty() {
            return Poll::Ready(Some(this.out.split().freeze()));
        }
        while !this.ended {
            match Pin::new(&mut this.answer).poll_next(context) {
                Poll::Ready(Some(event)) => {
                    if let Some(piece) = this.take(event) {
                        this.last_piece = this.clock.monotonic();
                        return Poll::Ready(Some(piece));
                    }
                }
                Poll::Ready(None) => this.ended = true,
                Poll::Pending => return this.keep_alive(context),
            }
        }
        Poll::Ready(None)
    }
}
