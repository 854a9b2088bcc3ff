//! The pipes of a tool server, as the MCP library's transport.
//!
//! Three things are known here and nowhere else. An answer longer than [`LINE_BYTES_MAX`] is
//! skipped by the library without a word, and whoever waits for it would wait for the whole
//! timeout: the line is watched as it passes, and its call is answered with an error at the line's
//! end. And [`Tally::seal`] says whether a single byte has left since a given moment: a request of
//! which none has was never made, and may be made again elsewhere. And a line that is no JSON,
//! which the library skips too, is kept: it says why a server that talks to people never answers.
//!
//! It must not know what the messages say beyond whose answer a line is.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rmcp::RoleClient;
use rmcp::model::{ErrorData, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};

/// Bytes of one message of a tool server. A longer one is not kept.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Answers that were skipped and not reported yet; more are not reported.
const SKIPPED_MAX: usize = 256;
/// Bytes of a request's id, and of the name of a field, that are looked at.
const TOKEN_BYTES_MAX: usize = 64;
/// Bytes of a line that is no JSON which are told.
const STRAY_BYTES_MAX: usize = 200;

type Stdin = Pin<Box<dyn AsyncWrite + Send + Sync>>;
type Stdout = Pin<Box<dyn AsyncRead + Send + Sync>>;

/// The library's transport over the pipes, with an answer for each call whose own was too long.
pub(super) struct Wire {
    inner: AsyncRwTransport<RoleClient, Incoming, Outgoing>,
    skipped: Arc<Skipped>,
}

impl Wire {
    /// With the first line that is no JSON, once there is one.
    pub(super) fn new(stdout: Stdout, stdin: Outgoing) -> (Self, watch::Receiver<Option<String>>) {
        let skipped = Arc::new(Skipped::default());
        let (stray, strayed) = watch::channel(None);
        let incoming =
            Incoming { inner: stdout, line: Line::default(), skipped: Arc::clone(&skipped), stray };
        let inner = AsyncRwTransport::new_client(incoming, stdin);
        (Self { inner: inner.with_max_line_length(LINE_BYTES_MAX), skipped }, strayed)
    }
}

impl Transport<RoleClient> for Wire {
    type Error = Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(id) = self.skipped.take() {
                return Some(too_long(id));
            }
            tokio::select! {
                biased;
                message = self.inner.receive() => match (message, self.skipped.take()) {
                    // The pipe's end may come together with the last answer that was skipped.
                    (None, Some(id)) => return Some(too_long(id)),
                    (message, skipped) => {
                        skipped.into_iter().for_each(|id| self.skipped.put(id));
                        return message;
                    }
                },
                () = self.skipped.noticed.notified() => {}
            }
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.inner.close().await
    }
}

fn too_long(id: RequestId) -> RxJsonRpcMessage<RoleClient> {
    let limit = LINE_BYTES_MAX / (1024 * 1024);
    let message = format!("the answer was longer than {limit} MiB, and was not read");
    RxJsonRpcMessage::<RoleClient>::error(ErrorData::internal_error(message, None), Some(id))
}

/// Whose answers were skipped.
#[derive(Default)]
struct Skipped {
    ids: Mutex<VecDeque<RequestId>>,
    noticed: Notify,
}

impl Skipped {
    fn put(&self, id: RequestId) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() < SKIPPED_MAX {
            ids.push_back(id);
        }
        drop(ids);
        self.noticed.notify_one();
    }

    fn take(&self) -> Option<RequestId> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// What the server writes, watched line by line.
struct Incoming {
    inner: Stdout,
    line: Line,
    skipped: Arc<Skipped>,
    /// The first line that is no JSON.
    stray: watch::Sender<Option<String>>,
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.inner.as_mut().poll_read(ctx, buf))?;
        for byte in buf.filled().iter().skip(before) {
            if *byte != b'\n' {
                self.line.take(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if let Some(stray) = line.stray()
                && self.stray.borrow().is_none()
            {
                self.stray.send_replace(Some(stray));
            }
            // The library counts the line's end too.
            if line.bytes >= LINE_BYTES_MAX
                && let Some(id) = line.answers()
            {
                tracing::warn!(?id, "an answer of a tool server was too long, and was skipped");
                self.skipped.put(id);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A line as far as it has come: which request it answers is a field of the outermost object, which
/// some servers write first and others last.
#[derive(Default)]
struct Line {
    bytes: usize,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// The name or the value that is being read, of the outermost object.
    token: Vec<u8>,
    /// The field whose value is being read.
    field: Field,
    id: Option<RequestId>,
    is_request: bool,
    /// How it begins, unless it may be a message.
    beginning: Vec<u8>,
}

/// A field of the outermost object.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Field {
    /// A name is being read.
    #[default]
    None,
    Id,
    Other,
}

impl Line {
    fn take(&mut self, byte: u8) {
        self.bytes += 1;
        if self.may_be_stray() && self.beginning.len() < STRAY_BYTES_MAX {
            self.beginning.push(byte);
        }
        if self.in_string {
            self.keep(byte);
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.end_field();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => self.begin_value(),
            b',' => self.end_field(),
            b' ' | b'\t' | b'\r' => {}
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.token.len() < TOKEN_BYTES_MAX {
            self.token.push(byte);
        }
    }

    fn begin_value(&mut self) {
        self.is_request |= self.token == b"\"method\"";
        self.field = if self.token == b"\"id\"" { Field::Id } else { Field::Other };
        self.token.clear();
    }

    fn end_field(&mut self) {
        if self.depth != 1 {
            return;
        }
        if self.field == Field::Id {
            self.id = serde_json::from_slice(&self.token).ok();
        }
        self.field = Field::None;
        self.token.clear();
    }

    /// Whether it begins as no message does.
    fn may_be_stray(&self) -> bool {
        !matches!(self.beginning.trim_ascii_start().first(), Some(b'{' | b'['))
    }

    /// What it says to people, if it is no message.
    fn stray(&self) -> Option<String> {
        let text = self.beginning.trim_ascii();
        let is_stray = !text.is_empty() && self.may_be_stray();
        is_stray.then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// The request that it answers, if it answers one.
    fn answers(self) -> Option<RequestId> {
        self.id.filter(|_| !self.is_request)
    }
}

/// What is written to the server, counted.
pub(super) struct Outgoing {
    inner: Stdin,
    wrote: watch::Sender<u64>,
    tally: Arc<Tally>,
}

/// What has left through a pipe.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Sent>);

#[derive(Debug, Default)]
struct Sent {
    bytes: u64,
    is_sealed: bool,
}

impl Outgoing {
    /// With the number of messages that were handed to the child, and the bytes that were.
    pub(super) fn new(inner: Stdin) -> (Self, watch::Receiver<u64>, Arc<Tally>) {
        let (wrote, written) = watch::channel(0);
        let tally = Arc::new(Tally::default());
        (Self { inner, wrote, tally: Arc::clone(&tally) }, written, tally)
    }
}

impl Tally {
    /// Bytes that the pipe has taken.
    pub(super) fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Lets nothing more through, and says how much the pipe has taken in all.
    pub(super) fn seal(&self) -> u64 {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.is_sealed = true;
        sent.bytes
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let tally = Arc::clone(&self.tally);
        let mut sent = tally.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.is_sealed {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let taken = ready!(self.inner.as_mut().poll_write(ctx, bytes))?;
        sent.bytes = sent.bytes.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = self.inner.as_mut().poll_flush(ctx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.wrote.send_modify(|count| *count += 1);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.inner.as_mut().poll_shutdown(ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(line: &str) -> Option<RequestId> {
        let mut read = Line::default();
        line.bytes().for_each(|byte| read.take(byte));
        read.answers()
    }

    #[test]
    fn a_line_says_whose_answer_it_is() {
        let seven = Some(RequestId::Number(7));
        assert_eq!(answered(r#"{"jsonrpc":"2.0","id":7,"result":{"id":8}}"#), seven);
        assert_eq!(
            answered(r#"{"result":{"content":[{"id":8}]},"jsonrpc":"2.0","id": 7 }"#),
            seven
        );
        assert_eq!(answered(r#"{"error":{"message":"\",\"id\":9,\\"},"id":7}"#), seven);
        assert_eq!(
            answered(r#"{"id":"a-7","result":"\"id\":8"}"#),
            Some(RequestId::String("a-7".into()))
        );
    }

    #[test]
    fn a_line_that_is_no_message_is_told() {
        let stray = |line: &str| {
            let mut read = Line::default();
            line.bytes().for_each(|byte| read.take(byte));
            read.stray()
        };
        assert_eq!(stray(" Listening on 8000\r").as_deref(), Some("Listening on 8000"));
        assert_eq!(stray(&"x".repeat(1_000)).map(|line| line.len()), Some(STRAY_BYTES_MAX));
        for message in [r#" {"id":7}"#, "[]", "", "  \r"] {
            assert_eq!(stray(message), None);
        }
    }

    #[test]
    fn what_is_no_answer_answers_nobody() {
        assert_eq!(answered(r#"{"id":7,"method":"ping"}"#), None);
        assert_eq!(answered(r#"{"method":"x","params":{"id":7}}"#), None);
        assert_eq!(answered(r#"{"id":null,"error":{}}"#), None);
        assert_eq!(answered(r#"[{"id":7}]"#), None);
        assert_eq!(answered("no json, \"id\":7}}}"), None);
    }
}
