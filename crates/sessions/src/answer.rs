//! A POST's hold on its turn, whichever kind of turn it is.

use std::sync::Arc;

use pipeline::Bill;
use serde_json::Value;
use storage::Response;
use types::ids::{CallId, ResponseId, SessionId};
use types::{ErrorCode, Failure};

use crate::live::{Attachment, Ended, Live, stored_stream};
use crate::plain::Plain;
use crate::{EventStream, Parts};

/// A POST's hold on its turn. A foreground turn goes on while one of these, or a stream of one,
/// lives.
#[derive(Debug)]
pub struct Turn {
    response: ResponseId,
    call: CallId,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// It is (or was, when the POST came) open.
    Live { live: Arc<Live>, attachment: Arc<Attachment>, parts: Arc<Parts>, is_new: bool },
    /// It had ended when the POST came again.
    Ended { row: Box<Response>, parts: Arc<Parts> },
    /// Nothing of it is stored.
    Plain(Box<Plain>),
}

impl Turn {
    /// A hold on an open turn.
    pub(crate) fn live(live: Arc<Live>, parts: Arc<Parts>, is_new: bool) -> Self {
        let attachment = Attachment::new(&live);
        Self {
            response: live.about.response.clone(),
            call: live.about.call.clone(),
            kind: Kind::Live { live, attachment, parts, is_new },
        }
    }

    /// The answer of a turn that has ended.
    pub(crate) fn ended(row: Response, call: CallId, parts: Arc<Parts>) -> Self {
        Self { response: row.id.clone(), call, kind: Kind::Ended { row: Box::new(row), parts } }
    }

    /// The answer of a Call that is not stored.
    pub(crate) fn plain(response: ResponseId, call: CallId, plain: Plain) -> Self {
        Self { response, call, kind: Kind::Plain(Box::new(plain)) }
    }

    /// The response's id (`resp_…`).
    pub const fn response_id(&self) -> &ResponseId {
        &self.response
    }

    /// The session; `None` with `store: false`.
    pub fn session_id(&self) -> Option<&SessionId> {
        match &self.kind {
            Kind::Live { live, .. } => Some(&live.about.session),
            Kind::Ended { row, .. } => Some(&row.session),
            Kind::Plain(plain) => plain.session(),
        }
    }

    /// The session from which its own descends, by which limits go; `None` where nobody knows.
    pub fn session_root(&self) -> Option<&SessionId> {
        match &self.kind {
            Kind::Live { live, .. } => Some(&live.about.root),
            Kind::Ended { .. } => None,
            Kind::Plain(plain) => plain.session(),
        }
    }

    /// The Call that is the root of the turn's others.
    pub const fn call_id(&self) -> &CallId {
        &self.call
    }

    /// Whether it goes on without a client.
    pub fn is_background(&self) -> bool {
        match &self.kind {
            Kind::Live { live, .. } => live.about.background,
            Kind::Ended { row, .. } => row.background,
            Kind::Plain(_) => false,
        }
    }

    /// What it has cost so far; final once its terminal event was seen. Of a turn that had ended
    /// before the POST came again, nothing is said.
    pub fn bill(&self) -> Bill {
        match &self.kind {
            Kind::Live { live, .. } => live.bill(),
            Kind::Ended { .. } => Bill::default(),
            Kind::Plain(plain) => plain.bill(),
        }
    }

    /// The response object now: what a background POST is answered with.
    pub fn snapshot(&self) -> Value {
        match &self.kind {
            Kind::Live { live, is_new, .. } => {
                let mut response = live.response();
                let begins = response.get("status").and_then(Value::as_str) == Some("in_progress");
                if let (true, true, Some(fields)) = (*is_new, begins, response.as_object_mut()) {
                    fields.insert("status".to_owned(), "queued".into());
                }
                response
            }
            Kind::Ended { row, .. } => object(row),
            Kind::Plain(plain) => plain.snapshot(),
        }
    }

    /// Its events from number 0 on. With `store: false` only once: a second stream is empty.
    pub fn subscribe(&self) -> EventStream {
        match &self.kind {
            Kind::Live { live, attachment, .. } => live.stream(0, Some(Arc::clone(attachment))),
            Kind::Ended { row, parts } => {
                stored_stream(Arc::clone(&parts.store), row.id.clone(), 0)
            }
            Kind::Plain(plain) => plain.stream(),
        }
    }

    /// The response object at its end.
    ///
    /// Dropping this future leaves the turn as it is; dropping the [`Turn`] says that the client is
    /// gone.
    ///
    /// # Errors
    /// Why the response failed; `session_in_doubt`, at once, when a step of it is or falls in
    /// doubt; `unavailable` if this node stops. Must be answered with `x-should-retry: false`
    /// unless it is `unavailable`.
    pub async fn wait(&self) -> Result<Value, Box<Failure>> {
        match &self.kind {
            Kind::Live { live, .. } => {
                let ended = live.answer().await.map_err(Box::new)?;
                match &*ended {
                    Ended { failure: Some(failure), .. } => Err(Box::new(failure.clone())),
                    Ended { response, .. } => Ok(response.clone()),
                }
            }
            Kind::Ended { row, .. } => match failure_in(&object(row)) {
                Some(failure) => Err(Box::new(failure)),
                None => Ok(object(row)),
            },
            Kind::Plain(plain) => plain.wait().await.map_err(Box::new),
        }
    }

    /// To be called when the last byte of the answer was taken by the socket of a connection not
    /// seen broken.
    pub fn delivered(&self) {
        let parts = match &self.kind {
            Kind::Live { parts, .. } | Kind::Ended { parts, .. } => Arc::clone(parts),
            Kind::Plain(_) => return,
        };
        let id = self.response.clone();
        let tracker = parts.tracker.clone();
        tracker.spawn(async move {
            // Not knowing is taken as not delivered: at worst a retry attaches to a turn that was.
            if let Err(error) = parts.store.mark_delivered(&id, parts.clock.now()).await {
                tracing::warn!(response = id.as_str(), %error, "a delivery was not noted");
            }
        });
    }
}

/// The response object of a turn that has ended.
pub(crate) fn object(row: &Response) -> Value {
    row.response.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The failure that a response object tells.
pub(crate) fn failure_in(response: &Value) -> Option<Failure> {
    if response.get("status").and_then(Value::as_str) != Some("failed") {
        return None;
    }
    let error = response.get("error")?;
    let code = error.pointer("/holdfast/code").cloned().unwrap_or_default();
    let code = serde_json::from_value(code).unwrap_or(ErrorCode::UpstreamFailed);
    let message = error.get("message").and_then(Value::as_str).unwrap_or("the response failed");
    Some(Failure::new(code, message))
}
