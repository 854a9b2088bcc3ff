//! How a POST becomes a turn: attached to the one that an equal POST started, or begun.

use std::sync::Arc;
use std::time::Duration;

use formats::openai_responses::{CreateResponse, EventWriter, InputItem, ResponseSkeleton, ids_of};
use pipeline::Refused;
use serde_json::{Value, json};
use storage::responses::{Post, PostQuery, Status};
use storage::sessions::SessionWrite;
use storage::{Link, Response, Session, SessionState};
use tokio_util::sync::CancellationToken;
use types::clock::Monotonic;
use types::ids::{CallId, ResponseId, SessionId};
use types::{Clock, CommonHeaders, ErrorCode, Failure, Principal, Timestamp};

use crate::answer::Turn;
use crate::history::{Hold, previous_not_found};
use crate::journal::{Cursor, sha256};
use crate::live::{About, Live};
use crate::mcp::ToolServers;
use crate::recover::Found;
use crate::state::Event;
use crate::turn::{
    Ask, Growth, Offer, Opening, Refusal, Runner, RunnerParts, Told, is_allowed, item_row, listed,
    values,
};
use crate::{Inner, PostIdentity, Sessions, storage_failure};

/// An `Idempotency-Key` names the same turn for so long.
const IDEMPOTENCY_KEY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// A retried POST attaches to an equal turn that ended undelivered so long ago at most.
const UNDELIVERED_LIFE: Duration = Duration::from_secs(10 * 60);
/// When a turn that a stopping server did not begin can be asked for again.
const STOPS_FOR: Duration = Duration::from_secs(1);
/// Characters of an `Idempotency-Key` at most.
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// Random bytes in a response's id, as many as OpenAI's has.
const RESPONSE_ID_BYTES: usize = 24;

/// When a client waits no longer.
fn until(headers: &CommonHeaders, clock: &dyn Clock) -> Option<Monotonic> {
    let time = headers.asks.as_ref()?.time?;
    Some(clock.monotonic().saturating_add(time))
}

/// Who asks for what.
pub(crate) struct Asked {
    pub(crate) principal: Arc<Principal>,
    pub(crate) request: CreateResponse,
    pub(crate) post: PostIdentity,
    /// The Call of its first step.
    pub(crate) call: CallId,
    /// Cancelled when whoever asks is gone.
    pub(crate) gone: CancellationToken,
}

impl Sessions {
    /// Starts the turn of a POST, or attaches to the one that an equal POST started. `request` is
    /// `post.body` parsed.
    ///
    /// When it is ready, the turn's beginning is durable. With `store: false` nothing is stored,
    /// and the answer's stream is the Call itself: dropping it cancels it.
    ///
    /// # Errors
    /// Why the turn was not started, with the Call's id for the answer.
    /// `previous_response_not_found`, `session_in_doubt`, `permission_denied` for a tool server,
    /// and what admission says.
    pub async fn create(
        &self,
        principal: &Arc<Principal>,
        request: CreateResponse,
        post: PostIdentity,
    ) -> Result<Turn, Box<Refused>> {
        let call = CallId::new(&self.inner.parts.ids);
        let principal = Arc::clone(principal);
        let gone = CancellationToken::new();
        let asked = Asked { principal, request, post, call: call.clone(), gone: gone.clone() };
        let _asks = gone.drop_guard();
        let inner = Arc::clone(&self.inner);
        let created = if asked.request.store {
            // On its own task: a client that goes while its turn becomes durable must not leave one
            // behind that nobody works on.
            let begun =
                self.inner.parts.tracker.spawn(async move { Box::pin(inner.create(asked)).await });
            begun.await.unwrap_or_else(|_| Err(not_begun()))
        } else {
            Box::pin(inner.plain(asked)).await
        };
        created.map_err(|failure| Box::new(Refused { call, failure }))
    }
}

impl Inner {
    async fn create(self: &Arc<Self>, asked: Asked) -> Result<Turn, Failure> {
        let post = identity(&asked.post)?;
        // A key's own: no tenant may make another wait by choosing the same words.
        let named = post.idempotency_key.as_deref().unwrap_or(&post.body_sha256);
        let lock = self.posts.of(&format!("{} {named}", asked.principal.key));
        if post.idempotency_key.is_none() && asked.post.retry_count == 0 {
            // It is no other's retry, and need not wait for others; its own retries wait for it.
            let _first = lock.read().await;
            return Box::pin(self.begin(asked, post)).await;
        }
        let _retry = lock.write().await;
        match self.attach(&asked, &post).await? {
            Some(turn) => Ok(turn),
            None => Box::pin(self.begin(asked, post)).await,
        }
    }

    /// The turn that an equal POST started.
    async fn attach(self: &Arc<Self>, asked: &Asked, post: &Post) -> Result<Option<Turn>, Failure> {
        let now = self.parts.clock.now();
        let key = post.idempotency_key.clone();
        let query = PostQuery {
            key: asked.principal.key.clone(),
            idempotency_key: key.map(|key| (key, before(now, IDEMPOTENCY_KEY_LIFE))),
            retried: (asked.post.retry_count > 0)
                .then(|| (post.clone(), before(now, UNDELIVERED_LIFE))),
        };
        if query.idempotency_key.is_none() && query.retried.is_none() {
            return Ok(None);
        }
        let found = self.parts.store.find_post(query).await.map_err(|e| storage_failure(&e))?;
        let Some(row) = found.filter(|row| row.deleted_at.is_none()) else { return Ok(None) };
        if row.post.body_sha256 != post.body_sha256 || row.post.path != post.path {
            let message = "this Idempotency-Key came with another request within the last 24 hours";
            return Err(Failure::invalid("Idempotency-Key", message));
        }
        match self.at_work(&row.id, None).await? {
            Found::Open(live) => Ok(Some(Turn::live(live, Arc::clone(&self.parts), false))),
            Found::Ended(row) => {
                Ok(Some(Turn::ended(*row, asked.call.clone(), Arc::clone(&self.parts))))
            }
            Found::Gone => Ok(None),
        }
    }

    async fn begin(self: &Arc<Self>, mut asked: Asked, post: Post) -> Result<Turn, Failure> {
        let mut before = self.before(&asked).await?;
        self.refuse_unfinished(&before).await?;
        let input = self.input(&mut asked, &mut before).await?;
        let hold = self.room_for(&asked, &before)?;
        let lists = self.lists(&asked, &before.items).await?;
        let (old, mut items) = (before.items.len(), std::mem::take(&mut before.items));
        items.extend(input);
        let offer = offer(&asked.request, &items, &lists, &self.parts.tools)?;
        let told = Told::new(&asked.request, &items, &offer)?;
        let new = items.split_off(old);
        // The history was said, and is not needed as items any more.
        drop(items);

        // From here to the commit no other turn of the session may begin.
        let lock = before.previous.as_ref();
        let lock = lock.map(|previous| self.beginnings.of(previous.session.as_str()));
        let _one_at_a_time = match &lock {
            Some(lock) => Some(lock.write().await),
            None => None,
        };
        let now = self.parts.clock.now();
        let id = self.response_id();
        // Nobody takes the turn over before it is among the open ones.
        let opening = self.openings.of(id.as_str());
        let _opening = opening.write().await;
        let (session, write) = match &before.previous {
            None => self.new_session(&asked, &id, None, now),
            Some(previous) => self.continued(&asked, previous, &id, now).await?,
        };
        let opening = Opening {
            response: Response {
                id: id.clone(),
                session: session.id.clone(),
                account: asked.principal.account.as_ref().to_owned(),
                user: asked.principal.user.as_ref().to_owned(),
                key: asked.principal.key.clone(),
                position: before.previous.as_ref().map_or(0, |previous| previous.position + 1),
                previous: before.previous.map(|previous| previous.id),
                status: Status::InProgress,
                background: asked.request.background,
                stream: asked.request.stream,
                post,
                request: None,
                input: None,
                response: None,
                created_at: now,
                finished_at: None,
                delivered_at: None,
                deleted_at: None,
            },
            session: write,
            request: asked.post.body.clone(),
            input: list_of(&new)?,
            gone: asked.gone.clone(),
        };
        let mut runner = self.runner(&asked, &id, session, (told, offer, hold), now);
        let about = &runner.live.about;
        runner.batch.items = values(&new).filter_map(|item| item_row(about, item)).collect();
        drop(new);
        Box::pin(self.start(runner, opening, asked, &lists)).await
    }

    /// Makes the beginning durable, and lets the turn run.
    async fn start(
        self: &Arc<Self>,
        mut runner: Runner,
        opening: Opening,
        asked: Asked,
        lists: &[(String, Vec<Value>)],
    ) -> Result<Turn, Failure> {
        let mut events = match asked.request.background {
            true => {
                let mut events = runner.writer.created_queued();
                events.extend(runner.writer.queued());
                events
            }
            false => runner.writer.created(),
        };
        events.extend(runner.writer.in_progress());
        for (server, tools) in lists {
            events.extend(runner.writer.mcp_list_tools(server, tools));
        }
        runner.batch.send(&events);
        runner.batch.opening = Some(opening);
        let items = runner.writer.indexed_output().to_vec();
        let headers = asked.post.headers;
        let opened = runner.note(Event::TurnOpened {
            task: headers.task.unwrap_or_else(|| asked.call.as_str().to_owned()),
            call: asked.call,
            class: headers.class,
            budget: headers.budget,
            metadata: headers.metadata,
            tier: headers.tier,
            gateway: headers.gateway,
            asks: headers.asks,
            max_tool_calls: asked.request.max_tool_calls,
            items,
        });
        if opened.is_err() {
            return Err(not_begun());
        }
        let actions = match runner.try_begin_model(None).await {
            Ok(actions) => actions,
            Err(Refusal::Refused(failure) | Refusal::Unavailable(failure)) => return Err(failure),
            Err(Refusal::Called(_)) => return Err(stops()),
            Err(Refusal::Stopped) => return Err(not_begun()),
        };
        let live = Arc::clone(&runner.live);
        self.add_live(&live);
        let turn = Turn::live(live, Arc::clone(&self.parts), true);
        self.spawn(runner, actions);
        Ok(turn)
    }

    fn runner(
        &self,
        asked: &Asked,
        id: &ResponseId,
        session: Session,
        (told, offer, hold): (Told, Offer, Hold),
        now: Timestamp,
    ) -> Runner {
        let about = About {
            response: id.clone(),
            session: session.id.clone(),
            root: session.root.clone(),
            call: asked.call.clone(),
            account: asked.principal.account.as_ref().to_owned(),
            user: asked.principal.user.as_ref().to_owned(),
            background: asked.request.background,
        };
        let (store, clock) = (Arc::clone(&self.parts.store), Arc::clone(&self.parts.clock));
        let (live, commands) = Live::new(about, store, clock, 0);
        let skeleton = ResponseSkeleton::new(id.as_str(), now, &asked.request);
        let writer = EventWriter::new(skeleton, ids_of(Arc::clone(&self.parts.ids)), 0, 0);
        Runner::new(RunnerParts {
            parts: Arc::clone(&self.parts),
            live,
            commands,
            turn: crate::state::Turn::default(),
            writer: writer.with_mcp_tools(offer.owners.clone()),
            cursor: Cursor {
                session: session.id,
                response: id.clone(),
                epoch: session.epoch,
                next_seq: session.next_seq,
            },
            ask: Ask {
                principal: Arc::clone(&asked.principal),
                root: session.root,
                told,
                offer,
                background: asked.request.background,
                streamed: asked.request.stream || asked.request.background,
                request: asked.request.clone(),
                trace: asked.post.headers.trace,
                until: until(&asked.post.headers, &*self.parts.clock),
            },
            growth: Growth::new(hold),
            session_state: SessionState::Running,
        })
    }

    /// The tools of each server that is asked for and that the history has no list of.
    async fn lists(
        &self,
        asked: &Asked,
        items: &[InputItem],
    ) -> Result<Vec<(String, Vec<Value>)>, Failure> {
        let mut lists: Vec<(String, Vec<Value>)> = Vec::new();
        for tool in asked.request.mcp_tools() {
            let label = &tool.server_label;
            let named = |failure: Failure| Failure {
                param: Some(format!("tools[{}].server_label", tool.index).into()),
                ..failure
            };
            self.parts.tools.allowed(label, &asked.principal).map_err(named)?;
            if lists.iter().any(|(listed, _)| listed == label) {
                continue;
            }
            let mut tools = self.parts.tools.list(label, &asked.principal).await.map_err(named)?;
            tools.retain(|offered| is_allowed(tool, offered, &self.parts.tools));
            // What the history lists already is not listed again, unless other tools are allowed
            // now.
            if listed(values(items), label).is_some_and(|before| before == tools) {
                continue;
            }
            let tools = tools.iter().filter_map(|tool| serde_json::to_value(tool).ok()).collect();
            lists.push((label.clone(), tools));
        }
        Ok(lists)
    }

    fn new_session(
        &self,
        asked: &Asked,
        newest: &ResponseId,
        forked_from: Option<&Session>,
        now: Timestamp,
    ) -> (Session, SessionWrite) {
        let id = SessionId::new(&self.parts.ids);
        let session = Session {
            account: asked.principal.account.as_ref().to_owned(),
            user: asked.principal.user.as_ref().to_owned(),
            name: None,
            root: forked_from.map_or_else(|| id.clone(), |from| from.root.clone()),
            forked_from: forked_from.map(|from| from.id.clone()),
            epoch: 1,
            owner: Some(self.parts.node.clone()),
            state: SessionState::Running,
            newest: Some(newest.clone()),
            next_seq: 1,
            created_at: now,
            last_used_at: now,
            id,
        };
        (session.clone(), SessionWrite::Open(session))
    }

    /// The session of a turn that continues `previous`: its own, or a fork of it if there is a
    /// newer turn.
    async fn continued(
        &self,
        asked: &Asked,
        previous: &Link,
        newest: &ResponseId,
        now: Timestamp,
    ) -> Result<(Session, SessionWrite), Failure> {
        let acquired = self.parts.store.acquire(&previous.session, &self.parts.node).await;
        let acquired = acquired.map_err(|error| storage_failure(&error))?;
        let session = acquired.ok_or_else(|| previous_not_found(previous.id.as_str()))?;
        if session.newest.as_ref() != Some(&previous.id) {
            return Ok(self.new_session(asked, newest, Some(&session), now));
        }
        let write = SessionWrite::Update {
            session: session.id.clone(),
            state: SessionState::Running,
            newest: Some(newest.clone()),
            last_used_at: now,
        };
        Ok((session, write))
    }

    pub(crate) fn response_id(&self) -> ResponseId {
        let text = self.parts.ids.hex(ResponseId::PREFIX, RESPONSE_ID_BYTES);
        ResponseId::parse(&text).unwrap_or_else(|| ResponseId::new(&self.parts.ids))
    }
}

/// What is offered of the servers' tools, of which `lists` are the ones that the history does not
/// have.
fn offer(
    request: &CreateResponse,
    prefix: &[InputItem],
    lists: &[(String, Vec<Value>)],
    servers: &ToolServers,
) -> Result<Offer, Failure> {
    let item = |(server, tools): &(String, Vec<Value>)| json!({ "type": "mcp_list_tools", "server_label": server, "tools": tools });
    let listed: Vec<Value> = lists.iter().map(item).collect();
    Offer::new(request, &values(prefix).chain(&listed), servers)
}

/// A JSON list of these items.
fn list_of(items: &[InputItem]) -> Result<String, Failure> {
    let values: Vec<&Value> = values(items).collect();
    serde_json::to_string(&values).map_err(|_| not_begun())
}

fn identity(post: &PostIdentity) -> Result<Post, Failure> {
    let key = post.idempotency_key.clone().filter(|key| !key.is_empty());
    if key.as_ref().is_some_and(|key| key.chars().count() > IDEMPOTENCY_KEY_CHARS_MAX) {
        let message =
            format!("an Idempotency-Key has at most {IDEMPOTENCY_KEY_CHARS_MAX} characters");
        return Err(Failure::invalid("Idempotency-Key", message));
    }
    Ok(Post { idempotency_key: key, path: post.path.clone(), body_sha256: sha256(&post.body) })
}

fn not_begun() -> Failure {
    Failure::new(ErrorCode::Internal, "the turn could not begin; the error was logged")
}

/// Nobody waits for the answer, or this node stops.
fn stops() -> Failure {
    let message = "this server is stopping: nothing was begun";
    Failure::new(ErrorCode::Unavailable, message).retry_after(STOPS_FOR)
}

fn before(now: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(micros))
}
