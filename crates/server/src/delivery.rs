//! Knowing when the last byte of an answer was taken by the client's socket.
//!
//! A body that wants to know leaves a note when it has given its last piece; hyper then writes what
//! it holds and flushes the connection, and the first flush that succeeds after that carries the
//! notes out. A connection that breaks before drops them.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use types::clock::{SharedClock, Sleep};

/// A client that takes nothing of its answer for so long is cut off.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// What is done when an answer was delivered.
pub(crate) type Note = Box<dyn FnOnce() + Send>;

/// The notes of one connection.
#[derive(Clone, Default)]
pub(crate) struct Deliveries {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Whether there is a note: flushes are many, notes are few.
    any: AtomicBool,
    notes: Mutex<Vec<Note>>,
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").finish_non_exhaustive()
    }
}

impl Deliveries {
    /// Leaves a note that is carried out when what was written so far has been flushed.
    pub(crate) fn leave(&self, note: Note) {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        self.shared.any.store(true, Ordering::Release);
    }

    fn flushed(&self) {
        if !self.shared.any.swap(false, Ordering::AcqRel) {
            return;
        }
        let notes =
            std::mem::take(&mut *self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner));
        notes.into_iter().for_each(|note| note());
    }
}

/// A connection whose flushes are watched.
pub(crate) struct Watched {
    io: TokioIo<TcpStream>,
    deliveries: Deliveries,
    clock: SharedClock,
    /// Runs while the client takes nothing of what it was sent.
    stalled: Option<Sleep>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("io", &self.io).finish_non_exhaustive()
    }
}

impl Watched {
    pub(crate) fn new(stream: TcpStream, deliveries: Deliveries, clock: SharedClock) -> Self {
        Self { io: TokioIo::new(stream), deliveries, clock, stalled: None }
    }

    /// Lets a write that waits wait for [`WRITE_STALL`] at most: a client that does not read would
    /// hold its connection, its answer's upstream and its reservation for ever.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let clock = &self.clock;
        let timer = self.stalled.get_or_insert_with(|| clock.sleep(WRITE_STALL));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.deliveries.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        self.bounded(context, written)
    }
}

#[cfg(test)]
mod tests;
