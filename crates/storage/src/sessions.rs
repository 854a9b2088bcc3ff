//! Sessions: one agent's durable state each, with the lease that says which node may work on it.
//!
//! A session's items are in its responses, its steps in its journal; this row ties them together.
//! Its epoch is raised whenever another node takes the lease, and every [`crate::Commit`] that
//! works on a session names the epoch that it believes in, so that a node which was replaced can
//! write nothing any more.

use serde::{Deserialize, Serialize};
use types::Timestamp;
use types::ids::{NodeId, ResponseId, SessionId};

use crate::store::Pending;

/// Responses that expire in one write at most: their bodies are overwritten.
pub const EXPIRE_MAX: usize = 32;
/// Sessions in one answer at most.
pub const SESSIONS_PAGE_MAX: usize = 1_000;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The tenant.
    pub account: String,
    /// Whose it is.
    pub user: String,
    /// The name that stateless Calls gave it in `holdfast-session`; such a session has no items.
    pub name: Option<String>,
    /// The session from which it and all its relatives descend; its own id unless it was forked.
    pub root: SessionId,
    /// The session that it was forked from.
    pub forked_from: Option<SessionId>,
    /// Raised when the lease changes hands.
    pub epoch: u64,
    /// The node that holds the lease.
    pub owner: Option<NodeId>,
    /// What it is doing.
    pub state: SessionState,
    /// Its newest response: the one that a turn continues without forking.
    pub newest: Option<ResponseId>,
    /// The number that the next journal entry gets, from 1.
    pub next_seq: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last had a turn.
    pub last_used_at: Timestamp,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// No turn is open.
    #[default]
    Idle,
    /// A turn is open.
    Running,
    /// A turn is open, and one of its steps waits for a decision.
    InDoubt,
}

impl SessionState {
    /// The name that is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::InDoubt => "in_doubt",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Idle, Self::Running, Self::InDoubt].into_iter().find(|state| state.name() == name)
    }
}

/// A change of a session, as a part of a [`crate::Commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionWrite {
    /// A new session, its lease already taken by its maker.
    Open(Session),
    /// What a turn changes of one.
    Update {
        /// The session.
        session: SessionId,
        /// What it is doing from now on.
        state: SessionState,
        /// Its newest response, if that changes.
        newest: Option<ResponseId>,
        /// When.
        last_used_at: Timestamp,
    },
}

/// The epoch in which a commit believes a session to be. Checked in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The session.
    pub session: SessionId,
    /// The epoch that its writer acquired.
    pub epoch: u64,
}

/// Which sessions to read. All that are set must match.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// The tenant.
    pub account: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// What it is doing.
    pub state: Option<SessionState>,
    /// Made before this one, for paging.
    pub before: Option<SessionId>,
    /// At most so many; [`SESSIONS_PAGE_MAX`] is the store's own limit.
    pub limit: usize,
}

/// A session of which others may still hold copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The number of this forgetting; later ones are larger.
    pub number: u64,
    /// The tenant.
    pub account: String,
    /// The session.
    pub session: SessionId,
}

/// Sessions, read, and their leases. Turns change them by [`crate::Commit`] only.
pub trait Sessions {
    /// One session.
    fn session(&self, id: &SessionId) -> Pending<Option<Session>>;

    /// Sessions, newest first.
    fn sessions(&self, filter: SessionFilter) -> Pending<Vec<Session>>;

    /// The session that `new.account`'s `new.user` calls `new.name`: `new` itself, stored, if there
    /// was none. Raises its `last_used_at` to `new`'s.
    fn name_session(&self, new: Session) -> Pending<Session>;

    /// Takes the lease for `node`: the epoch stays if it holds it already, else it is raised and
    /// every commit of the former holder is [`crate::Error::Fenced`] from then on. `None` if there
    /// is no such session.
    fn acquire(&self, session: &SessionId, node: &NodeId) -> Pending<Option<Session>>;

    /// Removes the bodies of all responses, events and journal entries of those families of
    /// sessions (a root and its forks) of which none was used since `unused_since` and none has an
    /// open turn. Ids, hashes and money stay. Named sessions that were not used since are
    /// [forgotten](Sessions::forgotten). At most [`EXPIRE_MAX`] responses at a time, so that no
    /// other write waits for long. Says how many lost their bodies: ask again until none did.
    fn expire_sessions(&self, unused_since: Timestamp, now: Timestamp) -> Pending<u64>;

    /// Sessions of which bodies were removed and of which others may still hold copies, numbered
    /// higher than `after`, in order. A copy holds the whole history, of which a part is gone now,
    /// so that no turn can go on from it: all of it goes.
    fn forgotten(&self, after: u64, limit: usize) -> Pending<Vec<Forgotten>>;

    /// Notes that nobody holds a copy any more: it is not listed again, unless the session was
    /// forgotten once more since.
    fn forgotten_everywhere(&self, number: u64) -> Pending<()>;
}
