//! Frames: a `u32` length in big-endian order, then that many bytes of JSON.
//!
//! The same rules for the parent's asynchronous socket and the child's blocking one: a length of
//! zero or above [`FRAME_BYTES_MAX`] is refused before anything is allocated, memory grows with the
//! bytes that really arrive, an end between two frames is a clean end, and one inside a frame is an
//! error.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest frame in bytes, its length not counted. A conversation of a million tokens fits.
pub const FRAME_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// Bytes read at once, and so allocated ahead of what has arrived.
const READ_CHUNK_BYTES: usize = 64 * 1024;

/// What can be wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed, or ended inside a frame.
    #[error("reading or writing a frame")]
    Io(#[from] io::Error),
    /// The length is zero or above the limit.
    #[error("a frame of {bytes} bytes is not within 1..={FRAME_BYTES_MAX}")]
    Size {
        /// The length that was claimed or needed.
        bytes: u64,
    },
    /// The body is not the JSON of a known message.
    #[error("a frame that is no message of this protocol")]
    Message(#[source] serde_json::Error),
}

/// The bytes of one frame.
///
/// # Errors
/// The message is larger than [`FRAME_BYTES_MAX`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(FrameError::Message)?;
    let body = bytes.len() - 4;
    let length = u32::try_from(body)
        .ok()
        .filter(|length| (1..=FRAME_BYTES_MAX).contains(length))
        .ok_or(FrameError::Size { bytes: body as u64 })?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Writes one frame; it is not flushed.
///
/// # Errors
/// The message is too large, or the socket failed.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    Ok(to.write_all(&encode(message)?)?)
}

/// Reads one frame; `None` at a clean end.
///
/// # Errors
/// The frame is malformed, or the socket failed.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut head = [0; 4];
    if !fill_or_end(from, &mut head)? {
        return Ok(None);
    }
    let length = checked_length(head)?;
    let mut body = Vec::new();
    while body.len() < length {
        let start = body.len();
        body.resize(length.min(start + READ_CHUNK_BYTES), 0);
        from.read_exact(&mut body[start..])?;
    }
    decode(&body).map(Some)
}

/// Writes one frame; it is not flushed. Dropping this future may leave half a frame: close the
/// socket then.
///
/// # Errors
/// The message is too large, or the socket failed.
pub async fn write_async<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    Ok(to.write_all(&encode(message)?).await?)
}

/// Reads one frame; `None` at a clean end. Dropping this future may lose half a frame: close the
/// socket then.
///
/// # Errors
/// The frame is malformed, or the socket failed.
pub async fn read_async<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, FrameError> {
    let mut head = [0; 4];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let length = checked_length(head)?;
    let mut body = Vec::new();
    while body.len() < length {
        let start = body.len();
        body.resize(length.min(start + READ_CHUNK_BYTES), 0);
        from.read_exact(&mut body[start..]).await?;
    }
    decode(&body).map(Some)
}

/// Fills `head`, or says that the stream had ended before its first byte.
fn fill_or_end(from: &mut impl Read, head: &mut [u8; 4]) -> io::Result<bool> {
    loop {
        match from.read(&mut head[..1]) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    from.read_exact(&mut head[1..])?;
    Ok(true)
}

fn checked_length(head: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(head);
    if !(1..=FRAME_BYTES_MAX).contains(&length) {
        return Err(FrameError::Size { bytes: u64::from(length) });
    }
    Ok(length as usize)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(FrameError::Message)
}
