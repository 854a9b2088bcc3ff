//! Sessions: the loop that makes stored responses, durable step by step.
//!
//! [`Sessions`] is what the server calls; read it first. [`state`] says what follows from what was journaled, without
//! I/O; `turn` does it; [`mcp`] runs tools; [`stop`] are the places at which kills are tested.
//!
//! Invariants: a step whose outcome is in the journal is never run again; one whose outcome nobody knows is shown and
//! waits, unless doing it twice is harmless; what a client is sent was durable before. This crate must not know HTTP:
//! it takes a parsed request and gives events and failures.

mod journal;
mod live;
pub mod mcp;
pub mod state;
pub mod stop;
mod turn;

use std::sync::Arc;

use bytes::Bytes;
use formats::openai_responses::CreateResponse;
use pipeline::{Bill, Pipeline, Refused};
use serde::Serialize;
use serde_json::Value;
use storage::{Session, SessionFilter, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::clock::SharedClock;
use types::ids::{CallId, NodeId, ResponseId, SessionId};
use types::{CommonHeaders, Failure, Ids, Principal};

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
    /// Where turns are spawned, so that a clean stop waits for them.
    pub tracker: TaskTracker,
    /// When it is cancelled, turns stop where they stand and go on at the next start. Cancel it before the tool
    /// servers' own token, so that running tools can end.
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
    pub created_at: types::Timestamp,
    /// When it ended.
    pub finished_at: Option<types::Timestamp>,
    /// Its steps, in order; empty once its bodies were removed.
    pub steps: Vec<Step>,
}

/// The sessions of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {}

impl Sessions {
    /// Sessions that do nothing yet: [`Self::recover`] comes first.
    pub fn new(_parts: Parts) -> Self {
        todo!()
    }

    /// Takes over every open turn of the last run: goes on with background ones, parks foreground ones, shows what is
    /// in doubt. Also starts the sweep of expired sessions. Once, before the first request.
    ///
    /// # Errors
    /// `storage_unavailable`, `internal`.
    pub async fn recover(&self) -> Result<Recovered, Failure> {
        todo!()
    }

    /// Starts the turn of a POST, or attaches to the one that an equal POST started. `request` is `post.body` parsed.
    ///
    /// When it is ready, the turn's beginning is durable. With `store: false` nothing is stored, and the answer's
    /// stream is the Call itself: dropping it cancels it.
    ///
    /// # Errors
    /// Why the turn was not started, with the Call's id for the answer. `previous_response_not_found`,
    /// `session_in_doubt`, `permission_denied` for a tool server, and what admission says.
    pub async fn create(
        &self,
        _principal: &Arc<Principal>,
        _request: CreateResponse,
        _post: PostIdentity,
    ) -> Result<Turn, Box<Refused>> {
        todo!()
    }

    /// The response object as it is now.
    ///
    /// # Errors
    /// `not_found` (another user's, too).
    pub async fn get(&self, _principal: &Principal, _id: &str) -> Result<Value, Failure> {
        todo!()
    }

    /// The events of a response behind number `starting_after` (from 0 if `None`), stored ones first, then live.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn events(
        &self,
        _principal: &Principal,
        _id: &str,
        _starting_after: Option<u64>,
    ) -> Result<EventStream, Failure> {
        todo!()
    }

    /// Ends a response: a running tool is told and given five seconds. The response object at its end; of one that
    /// has ended already, as it is.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn cancel(&self, _principal: &Principal, _id: &str) -> Result<Value, Failure> {
        todo!()
    }

    /// Removes a response's bodies for good, cancelling it first if it is open.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn delete(&self, _principal: &Principal, _id: &str) -> Result<(), Failure> {
        todo!()
    }

    /// The input items of a response as OpenAI's list object, each with an id.
    ///
    /// # Errors
    /// `not_found`; `invalid_request` for an unknown `after`.
    pub async fn input_items(
        &self,
        _principal: &Principal,
        _id: &str,
        _page: &ItemPage,
    ) -> Result<Value, Failure> {
        todo!()
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn list(&self, _filter: SessionFilter) -> Result<Vec<SessionSummary>, Failure> {
        todo!()
    }

    /// A session of `account` with its turns and their steps.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn show(&self, _account: &str, _id: &str) -> Result<SessionDetail, Failure> {
        todo!()
    }

    /// Settles a step in doubt. When it is ready, the decision is durable.
    ///
    /// # Errors
    /// `not_found`; `conflict` if the step is not in doubt.
    pub async fn resolve(
        &self,
        _account: &str,
        _session: &str,
        _step: &str,
        _decision: Decision,
        _operator: &str,
    ) -> Result<Step, Failure> {
        todo!()
    }
}

/// A POST's hold on its turn. A foreground turn goes on while one of these, or a stream of one, lives.
#[derive(Debug)]
pub struct Turn {}

impl Turn {
    /// The response's id (`resp_…`).
    pub fn response_id(&self) -> &ResponseId {
        todo!()
    }

    /// The session; `None` with `store: false`.
    pub fn session_id(&self) -> Option<&SessionId> {
        todo!()
    }

    /// The Call that is the root of the turn's others.
    pub fn call_id(&self) -> &CallId {
        todo!()
    }

    /// Whether it goes on without a client.
    pub fn is_background(&self) -> bool {
        todo!()
    }

    /// What it has cost so far; final once its terminal event was seen.
    pub fn bill(&self) -> Bill {
        todo!()
    }

    /// The response object now: what a background POST is answered with.
    pub fn snapshot(&self) -> Value {
        todo!()
    }

    /// Its events from number 0 on. With `store: false` only once: a second stream is empty.
    pub fn subscribe(&self) -> EventStream {
        todo!()
    }

    /// The response object at its end.
    ///
    /// # Errors
    /// Why the response failed; `session_in_doubt`, at once, when a step of it is or falls in doubt; `unavailable` if
    /// this node stops. Must be answered with `x-should-retry: false` unless it is `unavailable`.
    pub async fn wait(&self) -> Result<Value, Box<Failure>> {
        todo!()
    }

    /// To be called when the last byte of the answer was taken by the socket of a connection not seen broken.
    pub fn delivered(&self) {
        todo!()
    }
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

/// Events of a response in order, with a `keepalive` when 15 seconds pass without one. Ends after the terminal event,
/// or without one if this node stops.
pub type EventStream = futures_util::stream::BoxStream<'static, StreamEvent>;
