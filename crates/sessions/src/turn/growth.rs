//! How much a turn may grow, whatever its models and tools send.
//!
//! What a model says and what tools answer is held in memory while the turn is open, written to
//! disk, and read again by every turn that continues this one. So one answer has a limit, all that
//! a turn adds has one, and so have the events of its stream, of which many small ones are much
//! larger than what they say. Room is taken as it grows, out of what all open turns may hold.
//!
//! Passing a limit ends the turn: the same question would pass it again. It must not know what a
//! step costs or how a turn ends.

use serde_json::Value;
use types::error::Billed;
use types::outcome::Delta;
use types::{ErrorCode, Failure};

use super::told::written;
use crate::history::{CONVERSATION_BYTES_MAX, Hold};

/// Bytes of one answer of a model at most: text, reasoning and arguments. Some thirty times what
/// the longest answers of today have.
pub(crate) const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes that a turn may add to its conversation: answers of models and of tools.
const TURN_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of the events of models in a turn's stream. An event of a single token has some 200, so
/// this is two and a half million of them; they are on disk, not in memory.
const EVENTS_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// What an item has beside its text, roughly: an answer of very many empty ones is long too.
const ITEM_BYTES: u64 = 512;
const MIB: u64 = 1024 * 1024;

/// How much a turn has grown.
#[derive(Debug)]
pub(crate) struct Growth {
    /// Room for the conversation, with what the turn added.
    hold: Hold,
    /// Bytes that the turn added.
    turn: u64,
    /// Bytes of the running answer; they are among the turn's.
    answer: u64,
    /// Bytes of its models' events.
    events: u64,
    /// What was answered by a tool although there was no room for it.
    refused: Option<Failure>,
}

impl Growth {
    /// A turn that has added nothing.
    pub(crate) const fn new(hold: Hold) -> Self {
        Self { hold, turn: 0, answer: 0, events: 0, refused: None }
    }

    /// A turn that was open already: its output, what its running answer had said, and the bytes of
    /// its events.
    pub(crate) fn resumed(hold: Hold, output: &[(u64, Value)], answer: u64, events: u64) -> Self {
        let items = output.iter().map(|(_, item)| written(item).unwrap_or(ITEM_BYTES));
        let turn = items.fold(answer, u64::saturating_add);
        let mut growth = Self { turn, answer, events, ..Self::new(hold) };
        growth.hold.grow_anyway(turn);
        growth
    }

    /// Bytes of its models' events.
    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    /// A model is asked.
    pub(crate) const fn begin_answer(&mut self) {
        self.answer = 0;
    }

    /// Takes a piece of the running answer.
    ///
    /// # Errors
    /// `too_large`, `overloaded`: it is to be cut off.
    pub(crate) fn add(&mut self, delta: &Delta) -> Result<(), Failure> {
        let bytes = bytes_of(delta);
        self.hold.grow(bytes).map_err(|failure| failure.billed(Billed::Unknown))?;
        self.answer = self.answer.saturating_add(bytes);
        self.turn = self.turn.saturating_add(bytes);
        if self.answer > ANSWER_BYTES_MAX {
            return Err(answer_too_large());
        }
        self.within_limits().map_err(|failure| failure.billed(Billed::Unknown))
    }

    /// Counts events of the running answer.
    pub(crate) const fn sent(&mut self, bytes: u64) {
        self.events = self.events.saturating_add(bytes);
    }

    /// The running answer is lost: what it said is no part of the conversation.
    pub(crate) fn lose_answer(&mut self) {
        self.hold.shrink(self.answer);
        self.turn = self.turn.saturating_sub(self.answer);
        self.answer = 0;
    }

    /// Takes what a tool answered. It did its work, so that its answer stays; the next step does
    /// not begin if it was too long.
    pub(crate) fn take(&mut self, bytes: u64) {
        let bytes = bytes.saturating_add(ITEM_BYTES);
        match self.hold.grow(bytes) {
            Ok(()) => self.turn = self.turn.saturating_add(bytes),
            Err(failure) => self.refused = Some(failure),
        }
    }

    /// Whether the turn may go on.
    ///
    /// # Errors
    /// `too_large`, `overloaded`.
    pub(crate) fn within_limits(&self) -> Result<(), Failure> {
        if let Some(failure) = &self.refused {
            return Err(failure.clone());
        }
        if self.answer > ANSWER_BYTES_MAX {
            return Err(answer_too_large());
        }
        let conversation = self.hold.bytes();
        if self.turn > TURN_BYTES_MAX {
            let limit = TURN_BYTES_MAX / MIB;
            return Err(too_large(&format!("one response adds at most {limit} MiB")));
        }
        if conversation > CONVERSATION_BYTES_MAX {
            let limit = CONVERSATION_BYTES_MAX / MIB;
            return Err(too_large(&format!("a conversation has at most {limit} MiB here")));
        }
        if self.events > EVENTS_BYTES_MAX {
            let limit = EVENTS_BYTES_MAX / MIB;
            return Err(too_large(&format!("the events of one response have at most {limit} MiB")));
        }
        Ok(())
    }
}

/// What a piece of an answer adds to it.
pub(crate) fn bytes_of(delta: &Delta) -> u64 {
    let bytes = match delta {
        Delta::Text { text } | Delta::Refusal { text } | Delta::Reasoning { text } => text.len(),
        Delta::ToolCallArguments { json, .. } => json.len(),
        Delta::ToolCallStart { id, name, .. } => {
            return ITEM_BYTES.saturating_add((id.len() + name.len()) as u64);
        }
        Delta::ReasoningSignature { signature, .. } => {
            return ITEM_BYTES.saturating_add(signature.len() as u64);
        }
        // Counted where the result is taken.
        Delta::ToolResult { .. } => 0,
    };
    bytes as u64
}

/// What a client is told whose model does not stop.
fn answer_too_large() -> Failure {
    let limit = ANSWER_BYTES_MAX / MIB;
    too_large(&format!("one answer of a model has at most {limit} MiB")).billed(Billed::Unknown)
}

fn too_large(limit: &str) -> Failure {
    let message = format!("{limit}, and this one had more: it was ended and is not asked again");
    Failure::new(ErrorCode::TooLarge, message)
}

#[cfg(test)]
mod tests;
