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
    /// Whether its clients skip comments.
    with_comments: bool,
    /// Whether the target's own bytes are passed through, as of the newest frame.
    passing: bool,
    /// What the writer begins with, until it has begun.
    start: Option<Start>,
    /// What is silent for so long sends a sign of life, while it is not known who answers.
    awaited: Option<Duration>,
    ended: bool,
    clock: SharedClock,
    last_piece: Monotonic,
    timer: Option<Sleep>,
}

/// A sign of life of a stream of which nobody knows yet who answers: legal in every stream of
/// events, and no event of any. Clients of some formats know no comments all the same.
const WAITING: &[u8] = b": waiting for the model\n\n";

impl Pieces {
    /// Of an answer, for clients that skip comments or that don't: [`Self::of`] or [`Self::early`]
    /// says what it begins with.
    pub(super) fn new(
        answer: Answer,
        writer: Box<dyn WriteResponse>,
        clock: SharedClock,
        with_comments: bool,
    ) -> Self {
        Self {
            answer,
            writer,
            out: BytesMut::new(),
            with_comments,
            passing: true,
            start: None,
            awaited: None,
            ended: false,
            last_piece: clock.monotonic(),
            clock,
            timer: None,
        }
    }

    /// An answer of which it is known who gives it.
    pub(super) fn of(mut self, start: &Start) -> Self {
        self.passing = start.content_type.is_some();
        self.start = Some(start.clone());
        if !self.passing {
            self.begin();
        }
        self
    }

    /// An answer of which nobody knows yet who gives it, with a sign of life every `silence`.
    pub(super) fn early(mut self, silence: Duration) -> Self {
        self.awaited = Some(silence);
        self.say_waiting();
        self
    }

    /// A sign of life, if there is one that this format's clients take: else its head is all.
    fn say_waiting(&mut self) {
        if self.with_comments {
            self.out.extend_from_slice(WAITING);
        }
    }

    /// It is known who answers, of a stream whose head was sent before: a comment says it.
    fn learn(&mut self, start: Start) {
        self.passing = start.content_type.is_some();
        if self.with_comments {
            let name = format!(": holdfast-model={}\n\n", self.answer.target().name);
            self.out.extend_from_slice(name.as_bytes());
        }
        self.start = Some(start);
        if !self.passing {
            self.begin();
        }
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
            OutcomeEvent::Start(start) => {
                if let Some(begun) = &start.begun {
                    // What passed broke off: what follows is written behind it.
                    (self.start, self.passing) = (None, false);
                    self.with_comments &= !begun.carried_ids;
                    self.writer.go_on(begun);
                } else if self.awaited.take().is_some() {
                    self.learn(start);
                }
            }
            OutcomeEvent::Frame { raw: Some(raw), .. } => {
                self.passing = true;
                self.writer.passed(&raw);
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
        let with_comment = self.with_comments && !finish.carried_ids;
        let comment = if with_comment { comment(&self.answer.bill()) } else { String::new() };
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
        if self.passing && self.awaited.is_none() {
            return Poll::Pending;
        }
        let limit = self.awaited.unwrap_or(KEEP_ALIVE);
        loop {
            let silent = self.clock.monotonic().saturating_sub(self.last_piece);
            let clock = &self.clock;
            let timer = self.timer.get_or_insert_with(|| clock.sleep(limit.saturating_sub(silent)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if silent < limit {
                continue;
            }
            self.last_piece = self.clock.monotonic();
            match self.awaited {
                Some(_) => self.say_waiting(),
                None => self.writer.keep_alive(&mut self.out),
            }
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
    if let Some(cascade) = &bill.cascade {
        comment.push_str("; holdfast-cascade=");
        // A comment's fields are parted by semicolons.
        comment.push_str(&cascade.replace("; validator=", ":"));
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
