//! The events of a response as the pieces of a streamed body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use sessions::{EventStream, StreamEvent, Turn};

use crate::delivery::Deliveries;
use crate::inference::pieces::comment;

/// What ends every stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The pieces.
pub(super) struct Events {
    events: EventStream,
    /// The POST's hold on its turn, if it is one: dropped when the client goes.
    turn: Option<(Turn, Deliveries)>,
    ended: bool,
}

impl Events {
    /// The stream of a POST.
    pub(super) const fn of_turn(turn: Turn, events: EventStream, deliveries: Deliveries) -> Self {
        Self { events, turn: Some((turn, deliveries)), ended: false }
    }

    /// The stream of a stored response.
    pub(super) const fn of_stored(events: EventStream) -> Self {
        Self { events, turn: None, ended: false }
    }

    /// One frame; before the terminal one, what is known only now, and `[DONE]` behind it.
    fn piece(&mut self, event: &StreamEvent) -> Bytes {
        let mut piece = Vec::with_capacity(event.body.len() + 64);
        let terminal = event.is_terminal();
        if let Some((turn, _)) = self.turn.as_ref().filter(|_| terminal) {
            piece.extend_from_slice(b": ");
            piece.extend_from_slice(comment(&turn.bill()).as_bytes());
            piece.extend_from_slice(b"\n\n");
        }
        piece.extend_from_slice(b"event: ");
        piece.extend_from_slice(event.name.as_bytes());
        piece.extend_from_slice(b"\ndata: ");
        piece.extend_from_slice(event.body.as_bytes());
        piece.extend_from_slice(b"\n\n");
        if terminal {
            piece.extend_from_slice(DONE);
        }
        piece.into()
    }

    /// The last piece was given: the client has it when the connection is next flushed.
    fn end(&mut self) {
        self.ended = true;
        if let Some((turn, deliveries)) = self.turn.take() {
            deliveries.leave(Box::new(move || turn.delivered()));
        }
    }
}

impl Stream for Events {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        match this.events.as_mut().poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                // This node stops: the stream breaks off without a terminal event, and is not
                // delivered.
                this.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(event)) => {
                let piece = this.piece(&event);
                if event.is_terminal() {
                    this.end();
                }
                Poll::Ready(Some(piece))
            }
        }
    }
}
