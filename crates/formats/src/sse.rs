//! Server-sent events: cutting a byte stream into events, and writing events.
//!
//! [`Splitter`] takes the chunks of a body as they come and gives back whole events, as slices of
//! the chunk wherever an event lies within one. Lines end in LF or CRLF; an event ends with an
//! empty line. What it gives back, put together, is what went in, byte for byte. It keeps at most
//! [`EVENT_BYTES_MAX`] bytes of an unfinished event.
//!
//! It must not know what an event says: that is each format's `stream`.

pub(crate) mod reading;

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// Bytes of one event at most. An event may carry a whole base64 image, hence the size.
pub const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An event that grew past the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTooLarge;

/// Cuts chunks into events.
#[derive(Debug)]
pub struct Splitter {
    /// The beginning of an event whose end has not come.
    held: BytesMut,
    /// The chunk that is being cut.
    chunk: Bytes,
    limit: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::with_limit(EVENT_BYTES_MAX)
    }
}

impl Splitter {
    /// A splitter that keeps at most `limit` bytes of an unfinished event.
    pub fn with_limit(limit: usize) -> Self {
        Self { held: BytesMut::new(), chunk: Bytes::new(), limit }
    }

    /// Gives it the next chunk. Call [`Self::next_event`] until it has none before the next push.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.held.extend_from_slice(&self.chunk);
            self.chunk = chunk;
        }
    }

    /// The next whole event, its closing empty line included; `None` until more bytes come.
    ///
    /// # Errors
    /// [`EventTooLarge`] when an unfinished event is larger than the limit.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLarge> {
        if self.held.is_empty() {
            if let Some(end) = event_end(&self.chunk, 0) {
                return Ok(Some(self.chunk.split_to(end)));
            }
            self.held.extend_from_slice(&self.chunk);
            self.chunk.clear();
        } else if let Some(event) = self.join() {
            return Ok(Some(event));
        }
        if self.held.len() > self.limit { Err(EventTooLarge) } else { Ok(None) }
    }

    /// Completes the held event from the chunk, or takes the whole chunk in.
    fn join(&mut self) -> Option<Bytes> {
        // An end can begin at most three bytes before the seam: CR LF CR | LF.
        let before = self.held.len();
        let from = before.saturating_sub(3);
        self.held.extend_from_slice(&self.chunk);
        match event_end(&self.held, from) {
            Some(end) => {
                self.chunk.advance(end.saturating_sub(before));
                self.held.truncate(end);
                Some(self.held.split().freeze())
            }
            None => {
                self.chunk.clear();
                None
            }
        }
    }

    /// Whether it keeps the beginning of an event.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes back what of the chunk has not been cut.
    pub fn take_chunk(&mut self) -> Bytes {
        std::mem::take(&mut self.chunk)
    }

    /// What is left when the body has ended: an event without its end, or nothing.
    pub fn take_rest(&mut self) -> Bytes {
        self.held.extend_from_slice(&self.chunk);
        self.chunk.clear();
        self.held.split().freeze()
    }
}

/// Where the first event in `bytes` ends that ends behind `from`.
pub(crate) fn event_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = memchr(b'\n', bytes.get(at..)?) {
        let line_end = at + found + 1;
        match bytes.get(line_end..) {
            Some([b'\n', ..]) => return Some(line_end + 1),
            Some([b'\r', b'\n', ..]) => return Some(line_end + 2),
            _ => at = line_end,
        }
    }
    None
}

/// The events in bytes that hold whole ones only.
pub(crate) fn events(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let end = event_end(bytes, from).unwrap_or(bytes.len());
        let event = bytes.get(from..end).filter(|event| !event.is_empty())?;
        from = end;
        Some(event)
    })
}

/// The lines of an event.
fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    event.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The data of an event: its `data` lines joined by LF. `None` if it has no such line.
pub fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut found: Option<Cow<'_, [u8]>> = None;
    for line in lines(event) {
        let Some(value) = field(line, b"data") else { continue };
        match &mut found {
            None => found = Some(Cow::Borrowed(value)),
            Some(joined) => {
                let joined = joined.to_mut();
                joined.push(b'\n');
                joined.extend_from_slice(value);
            }
        }
    }
    found
}

/// Whether an event has an `id` line.
pub fn has_id(event: &[u8]) -> bool {
    lines(event).any(|line| field(line, b"id").is_some())
}

/// The value of a line of this field. One space behind the colon is not part of it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        [] => Some(&[]),
        _ => None,
    }
}

/// Writes an event that has only data. `data` holds no line break (JSON never does).
pub fn write_data(data: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

/// Writes an event with a name. Neither part holds a line break.
pub fn write_event(name: &str, data: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\n");
    write_data(data, out);
}

/// Writes a comment line and the empty line behind it. Nothing if there is nothing to say.
pub fn write_comment(comment: &str, out: &mut BytesMut) {
    if comment.is_empty() {
        return;
    }
    out.extend_from_slice(b": ");
    out.extend(comment.bytes().map(|byte| if byte < b' ' { b' ' } else { byte }));
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
