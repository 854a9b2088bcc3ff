//! The journal: what happened in a session, in order, one row per event.
//!
//! Rows are appended by [`crate::Commit`] only, numbered from 1 without gaps within a session, and
//! fenced by the session's epoch in the same transaction. A row's body may be removed (a deleted
//! response, an expired session); the row itself, with the hash of the body, stays.

use serde::{Deserialize, Serialize};
use types::Timestamp;
use types::ids::{CallId, ResponseId, SessionId, StepId};

use crate::store::Pending;

/// Journal rows in one answer at most.
pub const JOURNAL_PAGE_MAX: usize = 10_000;

/// One event of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRow {
    /// The session.
    pub session: SessionId,
    /// Its place in the session, from 1 without gaps.
    pub seq: u64,
    /// The epoch in which it was written.
    pub epoch: u64,
    /// What kind of event: `model_intent`, `tool_outcome` …
    pub kind: String,
    /// The response whose turn it belongs to.
    pub response: ResponseId,
    /// The step that it is about.
    pub step: Option<StepId>,
    /// The Call that it is about.
    pub call: Option<CallId>,
    /// When it was written.
    pub at: Timestamp,
    /// The event as JSON; `None` once it was removed.
    pub body: Option<String>,
    /// SHA-256 of the body, in hexadecimal: stays when the body goes.
    pub body_sha256: String,
}

/// Which journal rows to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalQuery {
    /// The session.
    pub session: SessionId,
    /// Only those of this response's turn.
    pub response: Option<ResponseId>,
    /// Only those behind this place; 0 = from the start.
    pub after: u64,
    /// At most so many; [`JOURNAL_PAGE_MAX`] is the store's own limit.
    pub limit: usize,
}

/// The journal, read. It is written by [`crate::Commit`] only.
pub trait Journal {
    /// Rows in order.
    fn journal(&self, query: JournalQuery) -> Pending<Vec<JournalRow>>;
}
