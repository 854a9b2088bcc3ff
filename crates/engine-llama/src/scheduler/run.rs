//! A generation in a slot, and the sending of its pieces within its reader's window.

use std::collections::VecDeque;

use engine::protocol::{FromEngine, Piece, ReusedFrom};
use types::clock::Monotonic;

use crate::connection::Outbox;
use crate::job::Job;
use crate::llama::Token;

/// Where a generation stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its session's state is being read from disk.
    Restoring {
        /// Which read.
        ticket: u64,
    },
    /// Its prompt is computed; so many tokens of it are held.
    Prefill,
    /// It generates; this token was drawn and is computed next.
    Decode {
        /// The token.
        next: Token,
    },
}

/// A generation that has a slot.
#[derive(Debug)]
pub(super) struct Run {
    /// The request.
    pub(super) job: Box<Job>,
    /// Its slot.
    pub(super) slot: usize,
    /// Where it stands.
    pub(super) phase: Phase,
    /// The prompt, as it is computed.
    pub(super) prompt: Vec<Token>,
    /// Tokens of it that were held.
    pub(super) reused: usize,
    /// Where they came from.
    pub(super) reused_from: ReusedFrom,
    /// Tokens that may be drawn at all.
    pub(super) tokens_max: u32,
    /// Tokens that were drawn.
    pub(super) drawn: u32,
    /// Time from the socket to the first drawn token, in microseconds.
    pub(super) first_token_us: u64,
    /// What is being sent.
    pub(super) sending: Sending,
}

impl Run {
    /// A generation that has just got its slot.
    pub(super) fn new(job: Box<Job>, slot: usize, phase: Phase) -> Self {
        let sending = Sending { window: job.window, ..Sending::default() };
        Self {
            job,
            slot,
            phase,
            prompt: Vec::new(),
            reused: 0,
            reused_from: ReusedFrom::Nothing,
            tokens_max: 0,
            drawn: 0,
            first_token_us: 0,
            sending,
        }
    }

    /// Whether it belongs into the next batch: it is not reading from disk, and its reader keeps
    /// up.
    pub(super) fn can_compute(&self) -> bool {
        match self.phase {
            Phase::Restoring { .. } => false,
            Phase::Prefill => true,
            Phase::Decode { .. } => self.sending.has_room(),
        }
    }
}

/// Pieces on their way to a reader.
#[derive(Debug, Default)]
pub(super) struct Sending {
    window: u32,
    /// Sent and not acknowledged.
    open: u32,
    queue: VecDeque<Piece>,
    /// Tokens drawn since the last piece was sent.
    tokens: u32,
}

impl Sending {
    /// Notes a drawn token and what it made of the answer.
    pub(super) fn push(&mut self, pieces: &mut Vec<Piece>, tokens: u32) {
        self.tokens += tokens;
        self.queue.extend(pieces.drain(..));
    }

    /// The reader took so many pieces.
    pub(super) fn acknowledge(&mut self, deltas: u32) {
        self.open = self.open.saturating_sub(deltas);
    }

    fn has_room(&self) -> bool {
        self.queue.is_empty() && self.open < self.window
    }

    /// Sends what the window has room for.
    pub(super) fn flush(&mut self, id: u64, out: &Outbox) {
        while self.open < self.window {
            let Some(piece) = self.queue.pop_front() else { return };
            let tokens = std::mem::take(&mut self.tokens);
            self.open += 1;
            out.send(FromEngine::Delta { id, piece, tokens });
        }
    }
}

/// A generation that has ended and whose last pieces are not all sent.
#[derive(Debug)]
pub(super) struct Draining {
    /// The request.
    pub(super) id: u64,
    /// When nobody wants it any more.
    pub(super) deadline: Option<Monotonic>,
    /// Its last pieces.
    pub(super) sending: Sending,
    /// What is sent last.
    pub(super) done: Option<FromEngine>,
}

impl Draining {
    /// Sends what can be sent; `true` once all of it is.
    pub(super) fn flush(&mut self, out: &Outbox) -> bool {
        self.sending.flush(self.id, out);
        if !self.sending.queue.is_empty() {
            return false;
        }
        if let Some(done) = self.done.take() {
            out.send(done);
        }
        true
    }
}
