//! What a client has seen of an answer: the text that another attempt may go on with.
//!
//! Deltas are read as they come. Bytes that passed through are kept, and read only when the answer
//! breaks off, or when they are many: what passes should cost no more than its passing. Invariant:
//! what is told to the next target is exactly the text that the client has; anything else that it
//! saw, or that can't be read, makes the answer one that nobody goes on with.

use std::collections::VecDeque;

use bytes::Bytes;
use types::format::{Begun, ReadOptions, ReadResponse};
use types::{Delta, Format, OutcomeEvent, estimate};

/// Bytes of an answer at most that can be continued: it is a part of the next prompt.
pub(super) const SHOWN_BYTES_MAX: usize = 256 * 1024;
/// Bytes that passed and are kept unread at most.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// The same where nobody can go on: enough to see that nothing but blanks was shown.
const KEPT_BLANK_BYTES_MAX: usize = 4 * 1024;

/// What a client has seen.
#[derive(Default)]
pub(super) struct Shown {
    text: String,
    /// The pieces that it came in: each has at least one token.
    pieces: u64,
    /// It has thought before it spoke.
    thought: bool,
    /// It has something that can't be continued.
    is_mixed: bool,
    /// What passed through, while nothing else followed it.
    passed: Option<Box<Passed>>,
    /// Somebody may go on with an answer of this Call.
    may_go_on: bool,
}

/// Bytes that passed through.
struct Passed {
    format: &'static dyn Format,
    /// Those that nobody has read yet.
    kept: Vec<u8>,
    /// Who reads them, once somebody has to.
    reader: Option<Box<dyn ReadResponse>>,
    begun: Begun,
}

impl Shown {
    /// Of an answer that a target may go on with, or that nobody can.
    pub(super) fn new(may_go_on: bool) -> Self {
        Self { may_go_on, ..Self::default() }
    }

    /// A client that speaks `format` is shown an event.
    pub(super) fn see(&mut self, format: Option<&'static dyn Format>, event: &OutcomeEvent) {
        let OutcomeEvent::Frame { raw, delta } = event else { return };
        if self.is_mixed {
            return;
        }
        match (raw, delta) {
            (Some(raw), _) => self.pass(format, raw),
            (None, delta) => {
                // What goes on with it is written, and no longer passed.
                self.read();
                self.passed = None;
                self.take(delta.as_ref());
            }
        }
        self.forget_if_mixed();
    }

    fn pass(&mut self, format: Option<&'static dyn Format>, raw: &Bytes) {
        let Some(format) = format else { return };
        // Words and bytes in turn: nobody writes so.
        self.is_mixed |= self.passed.is_none() && (self.pieces > 0 || self.thought);
        let passed = self.passed.get_or_insert_with(|| Passed::of(format));
        passed.kept.extend_from_slice(raw);
        let most = if self.may_go_on { KEPT_BYTES_MAX } else { KEPT_BLANK_BYTES_MAX };
        if passed.kept.len() >= most {
            // Who can't go on with so much text can't begin anew behind it either.
            self.is_mixed |= !self.may_go_on;
            self.read();
        }
    }

    /// Reads what passed.
    pub(super) fn read(&mut self) {
        let Some(mut passed) = self.passed.take() else { return };
        let mut deltas = VecDeque::new();
        if !self.is_mixed {
            self.is_mixed |= !passed.read(&mut deltas);
        }
        deltas.iter().for_each(|delta| self.take(Some(delta)));
        self.passed = Some(passed);
        self.forget_if_mixed();
    }

    fn take(&mut self, delta: Option<&Delta>) {
        match delta {
            Some(Delta::Text { text }) if !self.is_mixed => {
                self.pieces += 1;
                self.text.push_str(text);
                self.is_mixed = self.text.len() > SHOWN_BYTES_MAX;
            }
            // What was thought before it spoke is over. One that begins anew is not.
            Some(Delta::Reasoning { .. }) if self.text.is_empty() => self.thought = true,
            None | Some(Delta::Text { .. }) => {}
            Some(
                Delta::Reasoning { .. }
                | Delta::ReasoningSignature { .. }
                | Delta::Refusal { .. }
                | Delta::ToolCallStart { .. }
                | Delta::ToolCallArguments { .. }
                | Delta::ToolResult { .. },
            ) => self.is_mixed = true,
        }
    }

    fn forget_if_mixed(&mut self) {
        if self.is_mixed {
            self.text = String::new();
            self.passed = None;
        }
    }

    /// What a target is given to continue, and the blanks behind that: providers refuse a beginning
    /// that ends in some, and tokens begin with them.
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        let said = self.text.trim_end();
        (!self.is_mixed && !said.is_empty()).then(|| (said, &self.text[said.len()..]))
    }

    /// The blanks that are all that was shown: nothing that another answer may not begin with.
    pub(super) fn only_blanks(&self) -> Option<&str> {
        let is_blank = !self.is_mixed && !self.thought && self.text.trim_end().is_empty();
        is_blank.then_some(&self.text)
    }

    /// Tokens of it, at least.
    pub(super) fn tokens(&self) -> u64 {
        self.pieces.max(self.text.len() as u64 / (2 * estimate::TOKEN_BYTES))
    }

    /// What of an answer passed as it came, if what follows is to be written behind it.
    pub(super) fn begun(&self) -> Option<Box<Begun>> {
        self.passed.as_ref().map(|passed| Box::new(passed.begun.clone()))
    }
}

impl Passed {
    fn of(format: &'static dyn Format) -> Box<Self> {
        Box::new(Self { format, kept: Vec::new(), reader: None, begun: Begun::default() })
    }

    /// Reads what was kept; whether all of it is known.
    fn read(&mut self, deltas: &mut VecDeque<Delta>) -> bool {
        let kept = Bytes::from(std::mem::take(&mut self.kept));
        if kept.is_empty() {
            return true;
        }
        if !self.format.read_begun(&kept, &mut self.begun) {
            return false;
        }
        let mut events = VecDeque::new();
        let options = ReadOptions { stream: true, decode: true, ..ReadOptions::default() };
        self.reader.get_or_insert_with(|| self.format.reader(options)).push(kept, &mut events);
        events.into_iter().all(|event| match event {
            OutcomeEvent::Frame { raw: None, delta } => {
                deltas.extend(delta);
                true
            }
            OutcomeEvent::Frame { raw: Some(_), .. }
            | OutcomeEvent::Start(_)
            | OutcomeEvent::Finish(_)
            | OutcomeEvent::Failed(_) => false,
        })
    }
}

#[cfg(test)]
mod tests;
