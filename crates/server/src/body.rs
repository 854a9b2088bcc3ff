//! Response bodies: one value, a stream of frames, or what axum made.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::delivery::{Deliveries, Note};

/// A response's body.
pub(crate) enum Body {
    /// Known as a whole; with what is to be done once it was delivered.
    Whole(Option<Bytes>, Option<(Deliveries, Note)>),
    /// A stream of pieces that can't fail: failures are told in the stream's own format.
    Pieces(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// From `/api`.
    Axum(axum::body::Body),
}

impl Body {
    /// A whole body.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()), None)
    }

    /// A whole body that is noted when the client's socket has taken it.
    pub(crate) fn noted(bytes: impl Into<Bytes>, deliveries: Deliveries, note: Note) -> Self {
        Self::Whole(Some(bytes.into()), Some((deliveries, note)))
    }

    /// A stream of pieces.
    pub(crate) fn pieces(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Pieces(Box::pin(stream))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes, note) => {
                if let Some((deliveries, note)) = note.take() {
                    deliveries.leave(note);
                }
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Pieces(stream) => stream
                .as_mut()
                .poll_next(context)
                .map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
            Self::Axum(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes, _) => bytes.is_none(),
            Self::Pieces(_) => false,
            Self::Axum(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pieces(_) => SizeHint::default(),
            Self::Axum(body) => body.size_hint(),
        }
    }
}
