//! Stored responses: the turns of sessions, their items, and the event log that their streams are
//! served from.
//!
//! A response is also the row by which a retried POST finds the turn that it started. Events are
//! numbered from 0 without gaps and kept whole as long as the response. Deleting a response removes
//! its bodies (request, items, events, journal); its id, hashes, status and times stay.

use serde::{Deserialize, Serialize};
use types::Timestamp;
use types::ids::{KeyId, ResponseId, SessionId};

use crate::store::Pending;

/// Events in one answer at most.
pub const EVENTS_PAGE_MAX: usize = 1_000;
/// Responses in one chain at most: a longer history must be compacted by its client.
pub const CHAIN_MAX: usize = 10_000;

/// A response with all its predecessors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its members, oldest first. Without their bodies unless it `fits`.
    pub links: Vec<Link>,
    /// Bytes of their bodies together.
    pub bytes: u64,
    /// Whether it has at most [`CHAIN_MAX`] members and as many bytes as were allowed. If not,
    /// its oldest members may be missing.
    pub fits: bool,
}

/// What a turn that continues a response needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its id.
    pub id: ResponseId,
    /// The session whose turn it is.
    pub session: SessionId,
    /// The tenant.
    pub account: String,
    /// Whose it is.
    pub user: String,
    /// Its place in the chain of its predecessors, from 0.
    pub position: u64,
    /// Whether its bodies were removed.
    pub is_deleted: bool,
    /// The items that it added to the conversation, a JSON array.
    pub input: Option<String>,
    /// The response object as JSON, of a turn that has ended.
    pub response: Option<String>,
}

/// A stored response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Its id.
    pub id: ResponseId,
    /// The session whose turn it is.
    pub session: SessionId,
    /// The tenant.
    pub account: String,
    /// Whose it is.
    pub user: String,
    /// The key that it was asked for with.
    pub key: KeyId,
    /// The response that it continues.
    pub previous: Option<ResponseId>,
    /// Its place in the chain of its predecessors, from 0.
    pub position: u64,
    /// What became of it, in the API's words: `in_progress`, `completed` …
    pub status: Status,
    /// Whether it goes on without a client.
    pub background: bool,
    /// Whether its client asked for a stream.
    pub stream: bool,
    /// How its POST is recognised when it comes again.
    pub post: Post,
    /// What was asked, as JSON; `None` once it was removed.
    pub request: Option<String>,
    /// The items that it added to the conversation, a JSON array; `None` once removed.
    pub input: Option<String>,
    /// The response object as JSON, of a turn that has ended; `None` before, and once removed.
    pub response: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When the last byte of its answer was taken by its client.
    pub delivered_at: Option<Timestamp>,
    /// When its bodies were removed.
    pub deleted_at: Option<Timestamp>,
}

/// How a POST that started a turn is recognised when it comes again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Its `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Its path.
    pub path: String,
    /// SHA-256 of its body, in hexadecimal.
    pub body_sha256: String,
}

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits to begin.
    Queued,
    /// Its turn is open.
    InProgress,
    /// It is whole.
    Completed,
    /// It broke.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// A limit ended it.
    Incomplete,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Incomplete,
    ];

    /// The API's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Incomplete => "incomplete",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::InProgress)
    }
}

/// A change of a response, as a part of a [`crate::Commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseWrite {
    /// A new one. Refused as [not found](crate::Error::NotFound) if the bodies of a response that
    /// it continues were removed: somebody may have done so since its history was read.
    Open(Box<Response>),
    /// Its end. What a reservation still holds for its turn is presumed spent: nobody is left who
    /// would settle it.
    Close {
        /// The response.
        id: ResponseId,
        /// What became of it.
        status: Status,
        /// The response object as JSON.
        response: String,
        /// When.
        finished_at: Timestamp,
    },
}

/// One event of a response's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseEvent {
    /// The response.
    pub response: ResponseId,
    /// Its `sequence_number`, from 0 without gaps.
    pub sequence: u64,
    /// The event as JSON.
    pub body: String,
}

/// Where an item that clients may refer to by its id can be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRow {
    /// The item's id, unique within an account's user.
    pub item: String,
    /// The response in whose input or output it is.
    pub response: ResponseId,
    /// The tenant.
    pub account: String,
    /// Whose it is.
    pub user: String,
    /// The item as JSON.
    pub body: String,
}

/// How to find the turn that an earlier POST started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostQuery {
    /// The key that it came with.
    pub key: KeyId,
    /// The same `Idempotency-Key`, of a turn that began at or after this time.
    pub idempotency_key: Option<(String, Timestamp)>,
    /// The same path and body hash, of a turn that is open, or ended undelivered at or after this
    /// time.
    pub retried: Option<(Post, Timestamp)>,
}

/// What became of a wish to remove a response's bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// They are gone.
    Done,
    /// There is nothing to remove.
    NotFound,
    /// This response is open and needs them: it is the response itself, or one that continues it.
    InUse(ResponseId),
}

/// Stored responses, read, and what stands alone of them. Turns write them by [`crate::Commit`]
/// only.
pub trait Responses {
    /// One response.
    fn response(&self, id: &ResponseId) -> Pending<Option<Response>>;

    /// The response and all its predecessors; empty if there is no such response. How many bytes
    /// they have is known before any of them is read: of more than `bytes_max`, none is.
    fn chain(&self, id: &ResponseId, bytes_max: u64) -> Pending<Chain>;

    /// Responses of a session, oldest first.
    fn responses_of(&self, session: &SessionId) -> Pending<Vec<Response>>;

    /// Every response whose turn is open, oldest first.
    fn open_responses(&self) -> Pending<Vec<Response>>;

    /// Events from `from` on, in order, at most `limit` and [`EVENTS_PAGE_MAX`].
    fn response_events(
        &self,
        id: &ResponseId,
        from: u64,
        limit: usize,
    ) -> Pending<Vec<ResponseEvent>>;

    /// An item of this user by its id.
    fn item(&self, account: &str, user: &str, item: &str) -> Pending<Option<ItemRow>>;

    /// The newest turn that an equal POST started.
    fn find_post(&self, query: PostQuery) -> Pending<Option<Response>>;

    /// Remembers that a client has the whole answer.
    fn mark_delivered(&self, id: &ResponseId, at: Timestamp) -> Pending<()>;

    /// Removes the bodies of a response whose turn has ended, unless an open turn continues it,
    /// itself or through others: that turn could not be taken up again without them. Its session is
    /// [forgotten](crate::Sessions::forgotten), at once or at the end of the turn that is open in
    /// it.
    fn delete_response(&self, id: &ResponseId, at: Timestamp) -> Pending<Deletion>;
}
