//! Amazon's event stream: cutting a byte stream into frames, and writing frames.
//!
//! A frame is a length, the length of its headers, a checksum of both, the headers, a payload and a
//! checksum of everything. All of it comes from outside: lengths are checked before anything is
//! kept for them, both checksums before anything is read, and a frame that is not what it says ends
//! the stream. It keeps at most [`FRAME_BYTES_MAX`] bytes.
//!
//! It must not know what a frame says: that is the format's `stream`.
//! <https://smithy.io/2.0/aws/amazon-eventstream.html>

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of one frame at most: the largest payload that the specification allows and the largest
/// headers.
pub(crate) const FRAME_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Bytes of a frame's headers at most, as the specification has it.
const HEADERS_BYTES_MAX: usize = 128 * 1024;
/// Headers of a frame that are read at most; services send three.
const HEADERS_MAX: usize = 64;
/// The two lengths and their checksum.
const PRELUDE_BYTES: usize = 12;
/// The checksum at the end.
const CHECKSUM_BYTES: usize = 4;
/// The type of a header whose value is a text.
const TEXT: u8 = 7;

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A frame is larger than may be.
    TooLarge,
    /// A length, a checksum or a header is not what it has to be.
    Malformed,
}

/// A whole frame.
#[derive(Debug)]
pub(crate) struct Frame {
    /// All of it, as it came.
    pub(crate) raw: Bytes,
    /// Its headers whose values are texts.
    headers: Vec<(Bytes, Bytes)>,
    /// What it carries.
    pub(crate) payload: Bytes,
}

impl Frame {
    /// The text of a header; the empty one if it is absent or no UTF-8.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name.as_bytes());
        found.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default()
    }
}

/// Cuts chunks into frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    held: BytesMut,
}

impl Decoder {
    /// Gives it the next chunk. Call [`Self::next_frame`] until it has none before the next push.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.held.extend_from_slice(chunk);
    }

    /// The next whole frame; `None` until more bytes come.
    ///
    /// # Errors
    /// [`Broken`]: nothing behind it can be read.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Broken> {
        let Some((total, headers)) = prelude(&self.held)? else { return Ok(None) };
        if self.held.len() < total {
            return Ok(None);
        }
        let raw = self.held.split_to(total).freeze();
        let end = total - CHECKSUM_BYTES;
        if number(&raw, end) != Some(crc32fast::hash(raw.get(..end).unwrap_or_default())) {
            return Err(Broken::Malformed);
        }
        let headers_end = PRELUDE_BYTES + headers;
        let headers = read_headers(&raw.slice(PRELUDE_BYTES..headers_end))?;
        let payload = raw.slice(headers_end..end);
        Ok(Some(Frame { raw, headers, payload }))
    }

    /// Whether it keeps the beginning of a frame.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }
}

/// The length of a frame and that of its headers, checked; `None` until they are there.
fn prelude(bytes: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
    let (Some(total), Some(headers), Some(checksum)) =
        (number(bytes, 0), number(bytes, 4), number(bytes, 8))
    else {
        return Ok(None);
    };
    let lengths = bytes.get(..8).unwrap_or_default();
    if crc32fast::hash(lengths) != checksum {
        return Err(Broken::Malformed);
    }
    let total = usize::try_from(total).map_err(|_| Broken::TooLarge)?;
    let headers = usize::try_from(headers).map_err(|_| Broken::TooLarge)?;
    if total > FRAME_BYTES_MAX || headers > HEADERS_BYTES_MAX {
        return Err(Broken::TooLarge);
    }
    if total < PRELUDE_BYTES + headers + CHECKSUM_BYTES {
        return Err(Broken::Malformed);
    }
    Ok(Some((total, headers)))
}

/// The big-endian number that stands at a place.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_be_bytes)
}

fn read_headers(all: &Bytes) -> Result<Vec<(Bytes, Bytes)>, Broken> {
    let mut rest = all.clone();
    let mut headers = Vec::new();
    let mut count = 0;
    while !rest.is_empty() {
        count += 1;
        if count > HEADERS_MAX {
            return Err(Broken::Malformed);
        }
        let length = usize::from(take(&mut rest, 1)?[0]);
        let name = take(&mut rest, length)?;
        let kind = take(&mut rest, 1)?[0];
        let length = match kind {
            // True and false.
            0 | 1 => 0,
            // Numbers of one, two, four and eight bytes, a time, and a UUID.
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            9 => 16,
            // Bytes and texts say how long they are.
            6 | TEXT => {
                let length = take(&mut rest, 2)?;
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            _ => return Err(Broken::Malformed),
        };
        let value = take(&mut rest, length)?;
        if kind == TEXT {
            headers.push((name, value));
        }
    }
    Ok(headers)
}

/// The next bytes, exactly so many.
fn take(rest: &mut Bytes, length: usize) -> Result<Bytes, Broken> {
    if rest.len() < length {
        return Err(Broken::Malformed);
    }
    Ok(rest.split_to(length))
}

/// Writes a frame. A header that is too long for its length is left out, and so is a frame that no
/// reader would take; nothing here writes such a one.
pub(crate) fn write(headers: &[(&str, &str)], payload: &[u8], out: &mut BytesMut) {
    let mut block = BytesMut::new();
    for (name, value) in headers {
        let (Ok(name_bytes), Ok(value_bytes)) =
            (u8::try_from(name.len()), u16::try_from(value.len()))
        else {
            continue;
        };
        block.put_u8(name_bytes);
        block.put_slice(name.as_bytes());
        block.put_u8(TEXT);
        block.put_u16(value_bytes);
        block.put_slice(value.as_bytes());
    }
    let total = PRELUDE_BYTES + block.len() + payload.len() + CHECKSUM_BYTES;
    let (Ok(total_bytes), Ok(headers_bytes)) = (u32::try_from(total), u32::try_from(block.len()))
    else {
        return;
    };
    let mut frame = BytesMut::with_capacity(total);
    frame.put_u32(total_bytes);
    frame.put_u32(headers_bytes);
    let checksum = crc32fast::hash(&frame);
    frame.put_u32(checksum);
    frame.put_slice(&block);
    frame.put_slice(payload);
    let checksum = crc32fast::hash(&frame);
    frame.put_u32(checksum);
    out.put_slice(&frame);
}

#[cfg(test)]
mod tests;
