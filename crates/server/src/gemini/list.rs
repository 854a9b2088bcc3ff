//! A stream as one JSON list, whose elements come as they are made: what a client gets that does
//! not ask for events.
//!
//! A list that breaks has the error as its last element, as Google has it, and is closed all the
//! same: the answer is whole only if an element says why the model stopped.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use formats::sse::{self, Splitter};
use futures_core::Stream;

/// The pieces of a list, made of the pieces of a stream of events.
pub(super) struct Listed<S> {
    events: S,
    splitter: Splitter,
    begun: bool,
    ended: bool,
}

impl<S> Listed<S> {
    pub(super) fn new(events: S) -> Self {
        Self { events, splitter: Splitter::default(), begun: false, ended: false }
    }

    /// Takes a piece of the stream; gives what of the list is known.
    fn take(&mut self, piece: Bytes) -> Bytes {
        let mut out = BytesMut::new();
        self.splitter.push(piece);
        loop {
            match self.splitter.next_event() {
                Ok(Some(event)) => self.element(&event, &mut out),
                Ok(None) => return out.freeze(),
                Err(_) => {
                    // Longer than any event that was let in: what is left of it is no JSON.
                    self.ended = true;
                    return out.freeze();
                }
            }
        }
    }

    fn element(&mut self, event: &[u8], out: &mut BytesMut) {
        let Some(data) = sse::data(event) else { return };
        let before: &[u8] = if self.begun { b",\r\n" } else { b"[" };
        self.begun = true;
        out.extend_from_slice(before);
        out.extend_from_slice(&data);
    }

    fn end(&mut self) -> Bytes {
        self.ended = true;
        let mut out = BytesMut::new();
        let rest = self.splitter.take_rest();
        self.element(&rest, &mut out);
        out.extend_from_slice(if self.begun { b"]" } else { b"[]" });
        out.freeze()
    }
}

impl<S: Stream<Item = Bytes> + Unpin> Stream for Listed<S> {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = self.get_mut();
        while !this.ended {
            match Pin::new(&mut this.events).poll_next(context) {
                Poll::Ready(Some(piece)) => {
                    let piece = this.take(piece);
                    if !piece.is_empty() {
                        return Poll::Ready(Some(piece));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(Some(this.end())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use serde_json::{Value, json};

    use super::*;

    async fn listed(pieces: &[&'static str]) -> Vec<String> {
        let pieces: Vec<Bytes> =
            pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
        let list = Listed::new(futures_util::stream::iter(pieces));
        list.map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect().await
    }

    #[tokio::test]
    async fn elements_come_as_their_events_do() {
        let pieces =
            ["data: {\"a\":1}\r\n\r\nda", "ta: {\"b\":2}\n\ndata: {\"c\":3}\n\n", ": x\n\n"];
        let list = listed(&pieces).await;
        assert_eq!(list[0], "[{\"a\":1}");
        let whole: Value = serde_json::from_str(&list.concat()).unwrap();
        assert_eq!(whole, json!([{ "a": 1 }, { "b": 2 }, { "c": 3 }]));
    }

    #[tokio::test]
    async fn a_stream_without_events_is_an_empty_list() {
        assert_eq!(listed(&[]).await.concat(), "[]");
        // Its last event may lack the line that ends it.
        assert_eq!(listed(&["data: 1\n\ndata: 2"]).await.concat(), "[1,\r\n2]");
    }
}
