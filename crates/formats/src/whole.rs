//! Reading an answer that is one JSON body: what every format has in common.
//!
//! The body is collected and read at its end. It passes on as it came, in one frame, unless deltas
//! are wanted of an answer that has some: a count of tokens and vectors have none, and always pass.
//! Invariant: exactly one `Finish` or `Failed`; no more bytes are held than the limit. It must not
//! know what a body says.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use types::call::Operation;
use types::error::Billed;
use types::format::{ReadOptions, ReadResponse};
use types::outcome::{Delta, Finish, OutcomeEvent};
use types::{ErrorCode, Failure};

/// Bytes of an answer's body at most. Answers with base64 media are the largest.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads a whole body: its deltas, if they are wanted, and its end.
pub(crate) type ReadBody = fn(&[u8], &ReadOptions) -> Result<(Vec<Delta>, Finish), Failure>;

/// Collects a body and reads it.
pub(crate) struct Reader {
    options: ReadOptions,
    read: ReadBody,
    bytes_max: usize,
    first: Bytes,
    more: BytesMut,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(options: ReadOptions, read: ReadBody) -> Self {
        let (first, more) = (Bytes::new(), BytesMut::new());
        Self { options, read, bytes_max: BODY_BYTES_MAX, first, more, ended: false }
    }

    /// The same with another limit of the body.
    pub(crate) fn with_limit(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    fn fail(&mut self, failure: Failure, events: &mut VecDeque<OutcomeEvent>) {
        self.ended = true;
        events.push_back(OutcomeEvent::Failed(Box::new(failure)));
    }

    fn body(&mut self) -> Bytes {
        if self.more.is_empty() {
            return std::mem::take(&mut self.first);
        }
        std::mem::take(&mut self.more).freeze()
    }
}

impl ReadResponse for Reader {
    fn push(&mut self, chunk: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        if self.ended || chunk.is_empty() {
            return;
        }
        if self.first.is_empty() && self.more.is_empty() {
            // Most bodies come in one piece, which is not copied.
            self.first = chunk;
            return;
        }
        self.more.extend_from_slice(&std::mem::take(&mut self.first));
        let bytes_max = self.bytes_max;
        if self.more.len().saturating_add(chunk.len()) > bytes_max {
            let text = format!("the provider's answer is larger than {bytes_max} bytes");
            self.fail(failed(text), events);
            return;
        }
        self.more.extend_from_slice(&chunk);
    }

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        if self.ended {
            return;
        }
        let body = self.body();
        match (self.read)(&body, &self.options) {
            Ok((deltas, finish)) => {
                self.ended = true;
                if self.options.decode && self.options.operation == Operation::Chat {
                    let frame = |delta| OutcomeEvent::Frame { raw: None, delta: Some(delta) };
                    events.extend(deltas.into_iter().map(frame));
                } else {
                    events.push_back(OutcomeEvent::Frame { raw: Some(body), delta: None });
                }
                events.push_back(OutcomeEvent::Finish(finish));
            }
            Err(failure) => self.fail(failure, events),
        }
    }
}

/// What is no answer may have cost.
pub(crate) fn failed(text: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown)
}

/// The failure of a body that is not what was asked for: it was cut, or is the provider's error
/// (`said`), or something else.
pub(crate) fn no_answer(
    error: Option<&serde_json::Error>,
    what: &str,
    said: impl FnOnce() -> Option<Failure>,
) -> Failure {
    if error.is_some_and(serde_json::Error::is_eof) {
        let text = "the provider's answer ended before it was whole";
        return Failure::new(ErrorCode::StreamCut, text).billed(Billed::Unknown);
    }
    said().unwrap_or_else(|| {
        failed(format!("the provider answered with something that is no {what}"))
    })
}

#[cfg(test)]
mod tests;
