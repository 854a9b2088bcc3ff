//! Sessions: the loop that makes stored responses, durable step by step.
//!
//! [`Sessions`] is what the server calls; read it first. [`state`] says what follows from what was
//! journaled, without I/O; `turn` does it; [`mcp`] runs tools; [`stop`] are the places at which
//! kills are tested.
//!
//! Invariants: a step whose outcome is in the journal is never run again; one whose outcome nobody
//! knows is shown and waits, unless doing it twice is harmless; what a client is sent was durable
//! before. This crate must not know HTTP: it takes a parsed request and gives events and failures.

mod answer;
mod broken;
mod control;
mod forget;
mod history;
mod journal;
mod live;
pub mod mcp;
mod open;
mod plain;
mod read;
mod recover;
pub mod state;
pub mod stop;
mod turn;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipeline::Pipeline;
use serde::Serialize;
use storage::{Session, SessionState, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::clock::SharedClock;
use types::ids::{NodeId, ResponseId, SessionId};
use types::{CommonHeaders, ErrorCode, Failure, Ids, Principal, Timestamp};

use history::Held;
use live::Live;
use state::Action;
use turn::Runner;

pub use answer::Turn;
pub use forget::{Forget, Forgetting};
pub use mcp::{Effect, ToolServer, ToolServers, ToolServersParts};
pub use state::{Decision, Step, StepState};

/// What sessions are made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Everything durable.
    pub store: Arc<dyn Store>,
    /// Who does the steps. The tool servers are registered in it under [`mcp::PROVIDER`].
    pub pipeline: Arc<Pipeline>,
    /// The tool servers.
    pub tools: Arc<ToolServers>,
    /// Time.
    pub clock: SharedClock,
    /// Ids.
    pub ids: Arc<Ids>,
    /// This run of the process.
    pub node: NodeId,
    /// Who keeps copies of what sessions hold, outside the store.
    pub forget: Arc<dyn Forget>,
    /// Where turns are spawned, so that a clean stop waits for them.
    pub tracker: TaskTracker,
    /// When it is cancelled, turns stop where they stand and go on at the next start. Cancel it
    /// before the tool servers' own token, so that running tools can end.
    pub shutdown: CancellationToken,
}

/// A POST as it came, for recognising it when it comes again.
#[derive(Clone, Debug, Default)]
pub struct PostIdentity {
    /// Its `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Its `x-stainless-retry-count`; 0 if there is none.
    pub retry_count: u32,
    /// Its path.
    pub path: String,
    /// Its body: what was parsed into the request.
    pub body: Bytes,
    /// Holdfast's own headers of it.
    pub headers: CommonHeaders,
}

/// What [`Sessions::recover`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Turns that go on, or wait for their client.
    pub open: usize,
    /// Turns that wait for a decision.
    pub in_doubt: usize,
}

/// Which items of a response's input to list.
#[derive(Clone, Debug, Default)]
pub struct ItemPage {
    /// Behind the item with this id.
    pub after: Option<String>,
    /// At most so many; 20 if it is `None`, 100 at most.
    pub limit: Option<usize>,
    /// Oldest first; else newest first.
    pub ascending: bool,
}

/// A session in a list.
#[derive(Clone, Debug, Serialize)]
pub struct SessionSummary {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// The step that waits for a decision: tool, arguments, since when and why.
    pub in_doubt: Option<Step>,
}

/// A session with its turns.
#[derive(Clone, Debug, Serialize)]
pub struct SessionDetail {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// Its turns, oldest first.
    pub turns: Vec<TurnDetail>,
}

/// A turn with its steps.
#[derive(Clone, Debug, Serialize)]
pub struct TurnDetail {
    /// The response that it makes.
    pub response: ResponseId,
    /// How the response stands, in the API's words.
    pub status: String,
    /// The response that it continues.
    pub previous: Option<ResponseId>,
    /// Whether its bodies were removed.
    pub deleted: bool,
    /// When it began, in microseconds since the epoch.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its steps, in order; empty once its bodies were removed.
    pub steps: Vec<Step>,
}

/// The sessions of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    inner: Arc<Inner>,
}

/// What all handles share.
#[derive(Debug)]
struct Inner {
    parts: Arc<Parts>,
    /// Every open turn.
    live: Mutex<HashMap<ResponseId, Arc<Live>>>,
    /// A POST that may be another one come again waits for those that it may be.
    posts: Locks,
    /// One beginning turn at a time per session: whether it continues or forks depends on the one
    /// before.
    beginnings: Locks,
    /// By response: between the commit that opens a turn and its being among the open ones, and
    /// while one is taken over.
    openings: Locks,
    /// What all open turns hold of their conversations.
    held: Held,
    /// Rung when there may be a session to forget.
    forgetting: Notify,
    /// Sessions of stateless Calls, with the time at which their rows were last written.
    named: Mutex<HashMap<SessionId, Timestamp>>,
}

/// Locks by name, made as they are needed.
#[derive(Debug, Default)]
struct Locks(Mutex<HashMap<String, Arc<tokio::sync::RwLock<()>>>>);

/// Named sessions that are remembered to have a row; when there are more, rows are written again.
const NAMED_MAX: usize = 10_000;
/// The row of a named session that is in use is written again after this, so that the session does
/// not look unused.
const NAMED_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Locks that are kept before those that nobody holds are dropped.
const LOCKS_KEPT: usize = 1_024;

impl Locks {
    /// The lock of this name.
    fn of(&self, name: &str) -> Arc<tokio::sync::RwLock<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= LOCKS_KEPT {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }
}

impl Sessions {
    /// Sessions that do nothing yet: [`Self::recover`] comes first.
    pub fn new(parts: Parts) -> Self {
        let inner = Inner {
            parts: Arc::new(parts),
            live: Mutex::default(),
            posts: Locks::default(),
            beginnings: Locks::default(),
            openings: Locks::default(),
            held: Held::default(),
            forgetting: Notify::new(),
            named: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Notes that a stateless Call named its session (`holdfast-session: NAME`), so that it is
    /// listed. Waits for nothing: the Call and its bill do not need the row, and the next Call
    /// makes one that was lost.
    pub fn note_named(&self, principal: &Principal, name: &str) {
        self.inner.note_named(principal, name);
    }
}

impl Inner {
    /// As [`Sessions::note_named`].
    fn note_named(&self, principal: &Principal, name: &str) {
        let parts = &self.parts;
        let id = pipeline::named_session(&principal.account, &principal.user, name);
        let now = parts.clock.now();
        {
            let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
            if named.get(&id).is_some_and(|noted| now.since(*noted) < NAMED_AGAIN) {
                return;
            }
            if named.len() >= NAMED_MAX {
                named.clear();
            }
            named.insert(id.clone(), now);
        }
        let session = Session {
            account: principal.account.as_ref().to_owned(),
            user: principal.user.as_ref().to_owned(),
            name: Some(name.to_owned()),
            root: id.clone(),
            forked_from: None,
            epoch: 1,
            owner: Some(parts.node.clone()),
            state: SessionState::Idle,
            newest: None,
            next_seq: 1,
            created_at: now,
            last_used_at: now,
            id,
        };
        let stored = parts.store.name_session(session);
        parts.tracker.spawn(async move {
            if let Err(error) = stored.await {
                tracing::warn!(%error, "a named session was not noted");
            }
        });
    }

    /// The open turn that makes this response, if somebody works on it.
    fn live(&self, id: &ResponseId) -> Option<Arc<Live>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        live.filter(|live| !live.progress().borrow().stopped)
    }

    /// The open turn of this session, if there is one.
    fn live_of(&self, session: &str) -> Option<Arc<Live>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.values().find(|turn| turn.about.session.as_str() == session).cloned()
    }

    fn add_live(&self, live: &Arc<Live>) {
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(live.about.response.clone(), Arc::clone(live));
    }

    /// Lets a runner work on its turn, which is among the open ones until it has ended.
    fn spawn(self: &Arc<Self>, runner: Runner, actions: Vec<Action>) {
        let live = Arc::clone(&runner.live);
        let leaving = Leaving { inner: Arc::clone(self), live };
        self.parts.tracker.spawn(async move {
            runner.run(actions).await;
            drop(leaving);
        });
    }
}

/// Takes a turn from the open ones when its runner ends, in whatever way: nobody must wait for one
/// that is gone.
struct Leaving {
    inner: Arc<Inner>,
    live: Arc<Live>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.live.stop_unless_ended();
        let mut all = self.inner.live.lock().unwrap_or_else(PoisonError::into_inner);
        // Once it has stopped, another runner may have taken it over.
        if all.get(&self.live.about.response).is_some_and(|live| Arc::ptr_eq(live, &self.live)) {
            all.remove(&self.live.about.response);
        }
        // A response of its session may have been deleted while it was open.
        self.inner.forgetting.notify_one();
    }
}

/// What a client is told when the store does not answer.
fn storage_failure(error: &storage::Error) -> Failure {
    match error {
        storage::Error::Unavailable(_) => {
            Failure::new(ErrorCode::StorageUnavailable, "the store does not answer now")
                .retry_after(Duration::from_secs(1))
        }
        other => {
            tracing::error!(error = %other, "the store refused what it must do");
            Failure::new(ErrorCode::Internal, "an error of this server; it was logged")
        }
    }
}

/// What a client is told about an open response that nobody works on.
fn not_at_work() -> Failure {
    let message = "nobody works on this response now; try again, or cancel it";
    Failure::new(ErrorCode::Unavailable, message).retry_after(Duration::from_secs(1))
}

/// One event of a response's stream, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its `type`, for SSE's `event:` line.
    pub name: String,
    /// Its number; `None` for a `keepalive`, which is not part of the log.
    pub sequence: Option<u64>,
    /// The event as JSON.
    pub body: Arc<str>,
}

impl StreamEvent {
    /// Whether the stream ends with it.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self.name.as_str(),
            "response.completed" | "response.failed" | "response.incomplete"
        )
    }
}

/// Events of a response in order, with a `keepalive` when 15 seconds pass without one. Ends after
/// the terminal event, or without one if this node stops.
pub type EventStream = futures_util::stream::BoxStream<'static, StreamEvent>;

#[cfg(test)]
mod tests;
