//! Bodies that drip, bodies that are too many.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::Frame;
use types::Timestamp;
use types::clock::{FakeClock, Sleep};

use super::*;

const LIMIT: usize = 32 * 1024 * 1024;

/// A body whose pieces come one after another, each after a pause; then it ends.
struct Dripping {
    clock: Arc<FakeClock>,
    pieces: VecDeque<(Duration, usize)>,
    pause: Option<Sleep>,
}

impl Dripping {
    fn new(clock: &Arc<FakeClock>, pieces: impl IntoIterator<Item = (Duration, usize)>) -> Self {
        let pieces = pieces.into_iter().collect();
        Self { clock: Arc::clone(clock), pieces, pause: None }
    }
}

impl HttpBody for Dripping {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((pause, bytes)) = self.pieces.front().copied() else { return Poll::Ready(None) };
        if !pause.is_zero() {
            let clock = Arc::clone(&self.clock);
            let timer = self.pause.get_or_insert_with(|| clock.sleep(pause));
            std::task::ready!(timer.as_mut().poll(context));
            self.pause = None;
        }
        self.pieces.pop_front();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; bytes])))))
    }
}

/// Turns the clock second by second until the body was taken, or was refused.
async fn turned(
    clock: &FakeClock,
    body: impl Future<Output = Result<Bytes, Failure>>,
) -> Result<Bytes, Failure> {
    let mut body = std::pin::pin!(body);
    loop {
        tokio::select! {
            biased;
            taken = &mut body => return taken,
            () = tokio::task::yield_now() => clock.advance(Duration::from_secs(1)),
        }
    }
}

fn clock() -> Arc<FakeClock> {
    Arc::new(FakeClock::new(Timestamp(0)))
}

fn room(most: usize) -> &'static Room {
    Box::leak(Box::new(Room::new(most)))
}

fn at_once(bytes: usize) -> [(Duration, usize); 1] {
    [(Duration::ZERO, bytes)]
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off_though_it_never_stops() {
    let clock = clock();
    let drips = (0..100).map(|_| (Duration::from_secs(29), 1));
    let body = Dripping::new(&clock, drips);
    let failure = turned(&clock, receive(body, LIMIT, &*clock, room(LIMIT))).await.unwrap_err();
    assert_eq!((failure.code, failure.status()), (ErrorCode::RequestTimeout, 408));
    assert!(clock.monotonic() < Duration::from_secs(60), "{:?}", clock.monotonic());
}

#[tokio::test]
async fn a_body_that_stops_is_cut_off() {
    let clock = clock();
    let body = Dripping::new(&clock, [(Duration::ZERO, 1), (Duration::from_secs(3_600), 1)]);
    let failure = turned(&clock, receive(body, LIMIT, &*clock, room(LIMIT))).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::RequestTimeout);
    assert!(clock.monotonic() < Duration::from_secs(60), "{:?}", clock.monotonic());
}

#[tokio::test]
async fn a_long_body_on_a_slow_line_has_its_time() {
    let clock = clock();
    // 16 MiB at 64 KiB a second: over four minutes.
    let pieces = (0..256).map(|_| (Duration::from_secs(1), 64 * 1024));
    let body = Dripping::new(&clock, pieces);
    let taken = turned(&clock, receive(body, LIMIT, &*clock, room(LIMIT))).await.unwrap();
    assert_eq!(taken.len(), 16 * 1024 * 1024);
    assert!(clock.monotonic() > Duration::from_secs(240));
}

#[tokio::test]
async fn bodies_take_room_until_the_last_of_their_bytes_is_gone() {
    let (clock, room) = (clock(), room(300_000));
    let send = |bytes| receive(Dripping::new(&clock, at_once(bytes)), LIMIT, &*clock, room);
    let first = send(200_000).await.unwrap();
    let failure = send(200_000).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Overloaded);
    assert_eq!(failure.retry_after, Some(RETRY_AFTER));
    // What is small finds a place all the same.
    assert_eq!(send(UNCOUNTED_BYTES_MAX).await.unwrap().len(), UNCOUNTED_BYTES_MAX);
    let part = first.slice(5..6);
    drop(first);
    assert!(send(200_000).await.is_err(), "a part of it keeps the whole");
    drop(part);
    assert_eq!(send(200_000).await.unwrap().len(), 200_000);
    assert_eq!(room.taken.load(Ordering::Acquire), 0, "refused ones hold nothing either");
}

#[tokio::test]
async fn a_body_of_many_pieces_is_counted_as_it_comes() {
    let (clock, room) = (clock(), room(300_000));
    let pieces = (0..10).map(|_| (Duration::ZERO, 50_000));
    let body = Dripping::new(&clock, pieces);
    let failure = receive(body, LIMIT, &*clock, room).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Overloaded);
    assert_eq!(room.taken.load(Ordering::Acquire), 0);
    let body = Dripping::new(&clock, at_once(LIMIT + 1));
    assert_eq!(receive(body, LIMIT, &*clock, room).await.unwrap_err().code, ErrorCode::TooLarge);
}
