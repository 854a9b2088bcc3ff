//! Taking a request's body in, within its limits.
//!
//! Three of them: its length, the time that it takes (a client that drips bytes holds a connection
//! for ever), and the bytes of all bodies together. A body that is known to be large holds its room
//! as long as its bytes are held by anybody, so that what a thousand clients send at once ends in
//! refusals, not in a process without memory. It must not know what the bytes mean.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use types::clock::{Clock, Monotonic, within};
use types::{ErrorCode, Failure};

/// A client that sends nothing of its body for so long is cut off.
const BODY_STALL: Duration = Duration::from_secs(30);
/// What any body may take, however small.
const BODY_GRACE: Duration = Duration::from_secs(30);
/// Bytes a second that have to come beyond that: a quarter of a slow mobile line.
const BODY_RATE_MIN: u64 = 32 * 1024;
/// Of a body whose length is announced, so much is set aside before it has come.
const BODY_RESERVE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of large bodies in memory at once, over all connections: hundreds of agents with the
/// longest histories there are.
const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Bodies up to this size are not counted: the limit on connections bounds them well enough.
const UNCOUNTED_BYTES_MAX: usize = 64 * 1024;
/// When a client may try again that found no room.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A request's body: from a connection, or one that a door made of a part of another.
pub(crate) trait RequestBody: HttpBody<Data = Bytes> + Send + Unpin {}

impl<B: HttpBody<Data = Bytes> + Send + Unpin> RequestBody for B {}

/// The room of this process.
static ROOM: Room = Room::new(IN_FLIGHT_BYTES_MAX);

/// The whole body.
///
/// # Errors
/// 413 above `limit` bytes, 408 if it comes too slowly, 400 if it breaks off, 503 if bodies of
/// others leave no room for it.
pub(crate) async fn body<B>(body: B, limit: usize, clock: &dyn Clock) -> Result<Bytes, Failure>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    receive(body, limit, clock, &ROOM).await
}

async fn receive<B>(
    mut body: B,
    limit: usize,
    clock: &dyn Clock,
    room: &'static Room,
) -> Result<Bytes, Failure>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let mut pace = Pace::default();
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    let mut held = Held { room, bytes: 0 };
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                let left = pace.left(whole.len() + joined.len(), clock);
                within(clock, left, body.frame()).await.ok_or_else(too_slow)?
            }
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| broken())?.into_data() else { continue };
        let length = whole.len() + joined.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        held.grow_to(length)?;
        // Most bodies are one piece, which needs no copy.
        if whole.is_empty() && joined.is_empty() {
            whole = data;
            continue;
        }
        if joined.is_empty() {
            joined.reserve(usize::try_from(announced).unwrap_or(0).min(BODY_RESERVE_BYTES_MAX));
            joined.extend_from_slice(&std::mem::take(&mut whole));
        }
        joined.extend_from_slice(&data);
    }
    Ok(held.keep(if joined.is_empty() { whole } else { joined.freeze() }))
}

/// How long a body has taken, from the first time that it was waited for.
#[derive(Default)]
struct Pace {
    began: Option<Monotonic>,
}

impl Pace {
    /// How long the next piece may take, after so many bytes have come.
    fn left(&mut self, received: usize, clock: &dyn Clock) -> Duration {
        let now = clock.monotonic();
        let began = *self.began.get_or_insert(now);
        let earned = Duration::from_secs(received as u64 / BODY_RATE_MIN);
        (began + BODY_GRACE + earned).saturating_sub(now).min(BODY_STALL)
    }
}

/// Bytes of bodies that may be in memory.
struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl Room {
    const fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> Result<(), Failure> {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.most);
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        taken.map(|_| ()).map_err(|_| no_room())
    }
}

/// The room that one body takes.
struct Held {
    room: &'static Room,
    bytes: usize,
}

impl Held {
    fn grow_to(&mut self, length: usize) -> Result<(), Failure> {
        if length > UNCOUNTED_BYTES_MAX && length > self.bytes {
            self.room.take(length - self.bytes)?;
            self.bytes = length;
        }
        Ok(())
    }

    /// Ties the room to the bytes: it is free again when the last of them is dropped.
    fn keep(self, bytes: Bytes) -> Bytes {
        if self.bytes == 0 { bytes } else { Bytes::from_owner(Counted { bytes, _held: self }) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn too_large(limit: usize) -> Failure {
    let message =
        format!("the request body is larger than {limit} bytes ([server] max_body_bytes)");
    Failure::new(ErrorCode::TooLarge, message)
}

fn too_slow() -> Failure {
    let message = format!(
        "the request body came too slowly: it may pause for {} s, and has to come at {} KiB/s \
         after the first {} s",
        BODY_STALL.as_secs(),
        BODY_RATE_MIN / 1024,
        BODY_GRACE.as_secs()
    );
    Failure::new(ErrorCode::RequestTimeout, message)
}

fn no_room() -> Failure {
    let message = "too many large requests are in memory: send it again in a moment";
    Failure::new(ErrorCode::Overloaded, message).retry_after(RETRY_AFTER)
}

fn broken() -> Failure {
    Failure::new(ErrorCode::InvalidRequest, "the request body broke off")
}

#[cfg(test)]
mod tests;
