//! From bytes to pieces of an answer: whole code points, stop sequences, tool calls.
//!
//! Bytes come token by token and may end anywhere. What could still become a stop sequence or open
//! a tool call is held back; all else leaves at once. A tool call's name leaves when it is whole,
//! its arguments as they come. The grammar guarantees the form of what is between the markers (see
//! `grammar.rs`); what can't be read is shown as text rather than lost.

#[cfg(test)]
mod tests;

use engine::protocol::{Piece, ToolCallPiece};

use crate::vocab::{CALL_CLOSE, CALL_OPEN};

/// What stands between the opening marker and a tool's name, white space aside.
pub(crate) const NAME_HEAD: &str = "{\"name\": ";
/// What stands between the name and the arguments.
pub(crate) const ARGUMENTS_HEAD: &str = ", \"arguments\": ";

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct Output {
    stops: Vec<String>,
    calls_allowed: bool,
    state: State,
    /// Bytes that have come and not left.
    pending: Vec<u8>,
    calls: u32,
    stopped: bool,
}

#[derive(Debug)]
enum State {
    Text,
    /// Between the opening marker and the arguments.
    Head,
    /// In the arguments.
    Arguments(Scan),
    /// Behind the arguments, before the closing marker.
    Tail,
}

/// Looks for the end of a JSON object.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// Bytes of `pending` that were looked at.
    bytes: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Looks at the next byte; whether it is the last of the object.
    fn take(&mut self, byte: u8) -> bool {
        self.bytes += 1;
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'{' | b'[' if !self.in_string => self.depth += 1,
            b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0
    }
}

impl Output {
    /// Reads an answer that ends at any of `stops` and may hold tool calls.
    pub(crate) fn new(stops: Vec<String>, calls_allowed: bool) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        let (state, pending) = (State::Text, Vec::new());
        Self { stops, calls_allowed, state, pending, calls: 0, stopped: false }
    }

    /// Tool calls that have begun.
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    /// Whether text, and no tool call, is open.
    pub(crate) fn in_text(&self) -> bool {
        matches!(self.state, State::Text)
    }

    /// Whether a stop sequence was met. Nothing more is emitted then.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// The part of the opening marker that the text ends with, if a call may open.
    pub(crate) fn open_marker_part(&self) -> usize {
        if !self.calls_allowed || !self.in_text() {
            return 0;
        }
        partial_suffix(&self.pending, CALL_OPEN.as_bytes())
    }

    /// Takes the next bytes; what can leave is appended to `pieces`.
    pub(crate) fn push(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        if self.stopped {
            return;
        }
        self.pending.extend_from_slice(bytes);
        while !self.stopped && self.step(pieces) {}
    }

    /// The answer has ended: what was held back leaves.
    pub(crate) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        if self.stopped {
            return;
        }
        match self.state {
            State::Text => {
                let rest = std::mem::take(&mut self.pending);
                let after_call = self.calls > 0 && rest.iter().all(u8::is_ascii_whitespace);
                if !after_call {
                    push_text(&rest, true, pieces);
                }
            }
            State::Head | State::Arguments(_) | State::Tail => {}
        }
    }

    /// Makes one step; `false` when more bytes are needed.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Text => self.step_text(pieces),
            State::Head => self.step_head(pieces),
            State::Arguments(scan) => self.step_arguments(scan, pieces),
            State::Tail => self.step_tail(),
        }
    }

    fn step_text(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let stop = self.stops.iter().filter_map(|stop| find(&self.pending, stop.as_bytes())).min();
        let open = self.calls_allowed.then(|| find(&self.pending, CALL_OPEN.as_bytes())).flatten();
        if let Some(at) = stop.filter(|at| open.is_none_or(|open| *at < open)) {
            push_text(&self.pending[..at], true, pieces);
            self.pending.clear();
            self.stopped = true;
            return false;
        }
        if let Some(at) = open {
            // White space before a call belongs to neither.
            push_text(self.pending[..at].trim_ascii_end(), true, pieces);
            self.pending.drain(..at + CALL_OPEN.len());
            self.state = State::Head;
            return true;
        }
        let leaves = self.pending.len() - self.held_back();
        let taken = push_text(&self.pending[..leaves], false, pieces);
        self.pending.drain(..taken);
        false
    }

    /// Bytes at the end that may become a marker or a stop sequence, or white space before a
    /// marker.
    fn held_back(&self) -> usize {
        let stops = self.stops.iter().map(|stop| partial_suffix(&self.pending, stop.as_bytes()));
        let held = stops.max().unwrap_or(0);
        if !self.calls_allowed {
            return held;
        }
        let marker = partial_suffix(&self.pending, CALL_OPEN.as_bytes());
        let before = &self.pending[..self.pending.len() - marker];
        held.max(marker + before.len() - before.trim_ascii_end().len())
    }

    fn step_head(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let Some(at) = find(&self.pending, ARGUMENTS_HEAD.as_bytes()) else { return false };
        let head = self.pending[..at].trim_ascii_start();
        let name = head.strip_prefix(NAME_HEAD.as_bytes()).unwrap_or(head);
        let name = serde_json::from_slice::<String>(name)
            .unwrap_or_else(|_not_json| String::from_utf8_lossy(name).into_owned());
        let piece = ToolCallPiece { index: self.calls, name: Some(name), arguments: String::new() };
        pieces.push(Piece::ToolCall(piece));
        self.calls += 1;
        self.pending.drain(..at + ARGUMENTS_HEAD.len());
        self.state = State::Arguments(Scan::default());
        true
    }

    fn step_arguments(&mut self, mut scan: Scan, pieces: &mut Vec<Piece>) -> bool {
        let mut whole = false;
        while let Some(byte) = self.pending.get(scan.bytes).filter(|_| !whole) {
            whole = scan.take(*byte);
        }
        let length = if whole { scan.bytes } else { whole_code_points(&self.pending) };
        self.emit_arguments(length, pieces);
        scan.bytes = scan.bytes.saturating_sub(length);
        self.state = if whole { State::Tail } else { State::Arguments(scan) };
        whole
    }

    fn emit_arguments(&mut self, length: usize, pieces: &mut Vec<Piece>) {
        let bytes: Vec<u8> = self.pending.drain(..length).collect();
        if bytes.is_empty() {
            return;
        }
        let arguments = String::from_utf8_lossy(&bytes).into_owned();
        let index = self.calls.saturating_sub(1);
        pieces.push(Piece::ToolCall(ToolCallPiece { index, name: None, arguments }));
    }

    fn step_tail(&mut self) -> bool {
        let Some(at) = find(&self.pending, CALL_CLOSE.as_bytes()) else { return false };
        self.pending.drain(..at + CALL_CLOSE.len());
        self.state = State::Text;
        true
    }
}

/// Emits text up to the last whole code point (all of it if `last`) and says how many bytes that
/// is.
fn push_text(bytes: &[u8], last: bool, pieces: &mut Vec<Piece>) -> usize {
    let length = if last { bytes.len() } else { whole_code_points(bytes) };
    if length > 0 {
        pieces.push(Piece::Text(String::from_utf8_lossy(&bytes[..length]).into_owned()));
    }
    length
}

/// Bytes up to the last code point that is whole, or that never will be.
fn whole_code_points(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for start in (tail..bytes.len()).rev() {
        let needed = match bytes[start] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        let incomplete = std::str::from_utf8(&bytes[start..])
            .is_err_and(|error| error.error_len().is_none() && bytes.len() - start < needed);
        return if incomplete { start } else { bytes.len() };
    }
    bytes.len()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Length of the longest proper prefix of `whole` that `bytes` ends with.
fn partial_suffix(bytes: &[u8], whole: &[u8]) -> usize {
    let longest = bytes.len().min(whole.len().saturating_sub(1));
    (1..=longest).rev().find(|length| bytes.ends_with(&whole[..*length])).unwrap_or(0)
}
