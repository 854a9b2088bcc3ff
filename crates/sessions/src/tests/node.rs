//! A node in a folder: everything real but the model, which answers as it is told.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use formats::openai_responses::parse_create;
use futures_util::StreamExt;
use futures_util::stream;
use pipeline::{Directory, DirectoryParts, NewKey, Pipeline, ProviderInfo, RouteInfo, Upstreams};
use serde_json::{Value, json};
use storage::budgets::Origin;
use storage::{CallFilter, LedgerRow, Model, SqliteStore, Store};
use tokio::process::Command;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::auto::AutoPolicy;
use types::clock::{FakeClock, SharedClock, SystemClock};
use types::context::{CompactPolicy, ContextPolicy, Threshold};
use types::error::Billed;
use types::ids::{NodeId, SessionId};
use types::launch::{Child, ChildSpec, Launch, LaunchError};
use types::outcome::{Delta, Finish, OutcomeEvent, OutcomeStream, Start};
use types::principal::{DEFAULT_ACCOUNT, Role};
use types::{
    Attempt, CallKind, CommonHeaders, Execute, Failure, Ids, Principal, Secret, Stop, Timestamp,
    Usage,
};

use crate::mcp::{CALL_TIMEOUT_DEFAULT, Effect, ToolServer, ToolServers, ToolServersParts};
use crate::{
    Decision, EventStream, Forget, Forgetting, Parts, PostIdentity, Sessions, StreamEvent, Turn,
};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// One answer of the model.
pub(super) enum Say {
    Text(&'static str),
    Tool(&'static str, Value),
    /// So many calls of a tool, all in one answer.
    Tools(usize, &'static str, Value),
    Fail(Failure),
    /// Some text, then nothing until the gate opens, then the rest.
    Slow(&'static str, &'static str),
    /// So many pieces of so many bytes each.
    Long(usize, usize),
    /// A whole function call and text, then nothing.
    CallThenHang(&'static str, Value),
}

/// A model that says what it is told, in order, and remembers what it was asked.
#[derive(Debug, Default)]
pub(super) struct Script {
    answers: Mutex<VecDeque<Say>>,
    pub(super) asked: Mutex<Vec<Asked>>,
    gate: Arc<Gate>,
    was_asked: Notify,
    /// Without an answer to say: calls its tool, then answers.
    pub(super) auto: AtomicBool,
}

#[derive(Debug)]
struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl std::fmt::Debug for Say {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Say")
    }
}

/// What a model was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) call: String,
    pub(super) attempt: String,
    pub(super) texts: Vec<String>,
    pub(super) tools: Vec<String>,
}

impl Script {
    pub(super) fn say(&self, answers: impl IntoIterator<Item = Say>) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub(super) fn open_gate(&self) {
        self.gate.0.add_permits(1);
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until the model was asked so many times.
    pub(super) async fn was_asked(&self, times: usize) {
        patient(async {
            loop {
                let notified = self.was_asked.notified();
                if self.asked.lock().unwrap().len() >= times {
                    return;
                }
                notified.await;
            }
        })
        .await;
    }
}

impl Execute for Script {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        let CallKind::Model(model) = &attempt.call.kind else { panic!("not a model") };
        let neutral = model.neutral().unwrap();
        self.asked.lock().unwrap().push(Asked {
            call: attempt.call.id.as_str().to_owned(),
            attempt: attempt.id.as_str().to_owned(),
            texts: neutral.messages.iter().map(|message| format!("{message:?}")).collect(),
            tools: neutral.tools.iter().map(|tool| tool.name.clone()).collect(),
        });
        self.was_asked.notify_waiters();
        let answer = self.answers.lock().unwrap().pop_front();
        let answer =
            answer.or_else(|| self.auto.load(Ordering::SeqCst).then(|| improvised(&neutral)));
        let number = self.asked.lock().unwrap().len();
        events_of(
            answer.expect("the model was asked more often than it has answers"),
            number,
            &self.gate,
        )
    }
}

/// Calls the tool unless its result is there.
fn improvised(conversation: &types::Conversation) -> Say {
    match conversation.messages.last().map(|message| message.role) {
        Some(types::conversation::Role::Tool) => Say::Text("It is noted now."),
        _ => Say::Tool("add_note", json!({ "text": "The harbor is closed." })),
    }
}

fn frame(delta: Delta) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: None, delta: Some(delta) }
}

fn text(text: &str) -> OutcomeEvent {
    frame(Delta::Text { text: text.to_owned() })
}

fn call(number: usize, name: &str, arguments: &Value) -> [OutcomeEvent; 2] {
    let id = format!("call_{number}");
    [
        frame(Delta::ToolCallStart { index: 0, id, name: name.to_owned() }),
        frame(Delta::ToolCallArguments { index: 0, json: arguments.to_string() }),
    ]
}

fn finish(stop: Stop) -> OutcomeEvent {
    let usage = Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() };
    OutcomeEvent::Finish(Finish { stop, usage: Some(usage), ..Finish::default() })
}

fn events_of(say: Say, number: usize, gate: &Arc<Gate>) -> OutcomeStream {
    let start = OutcomeEvent::Start(Start { status: 200, ..Start::default() });
    match say {
        Say::Text(words) => {
            let mut events = vec![start];
            events.extend(words.split_inclusive(' ').map(text));
            events.push(finish(Stop::End));
            stream::iter(events).boxed()
        }
        Say::Tool(name, arguments) => {
            let mut events = vec![start];
            events.extend(call(number, name, &arguments));
            events.push(finish(Stop::ToolCalls));
            stream::iter(events).boxed()
        }
        Say::Tools(count, name, arguments) => {
            let mut events = vec![start];
            for index in 0..u32::try_from(count).unwrap() {
                let id = format!("call_{number}_{index}");
                let json = arguments.to_string();
                events.push(frame(Delta::ToolCallStart { index, id, name: name.to_owned() }));
                events.push(frame(Delta::ToolCallArguments { index, json }));
            }
            events.push(finish(Stop::ToolCalls));
            stream::iter(events).boxed()
        }
        Say::Fail(failure) => {
            stream::iter([start, OutcomeEvent::Failed(Box::new(failure))]).boxed()
        }
        Say::Long(pieces, bytes) => {
            let piece = move |_| text(&"x".repeat(bytes));
            let said = stream::iter(0..pieces).map(piece);
            stream::iter([start]).chain(said).chain(stream::iter([finish(Stop::End)])).boxed()
        }
        Say::Slow(first, rest) => {
            let gate = Arc::clone(gate);
            let later = async move {
                gate.0.acquire().await.unwrap().forget();
                stream::iter([text(rest), finish(Stop::End)])
            };
            let later = stream::once(later).flatten();
            stream::iter([start, text(first)]).chain(later).boxed()
        }
        Say::CallThenHang(name, arguments) => {
            let mut events = vec![start];
            events.extend(call(number, name, &arguments));
            events.push(text("and "));
            stream::iter(events).chain(stream::pending()).boxed()
        }
    }
}

/// Starts children directly: the guard is another crate's, and has its own tests.
#[derive(Debug)]
pub(super) struct Direct {
    tracker: TaskTracker,
    /// Starts nothing any more.
    broken: AtomicBool,
    /// Ends every child.
    kill: CancellationToken,
}

impl Launch for Direct {
    #[expect(clippy::disallowed_methods, reason = "tests have no guard to start children through")]
    fn launch(&self, spec: ChildSpec) -> Result<Child, LaunchError> {
        if self.broken.load(Ordering::SeqCst) {
            let source = std::io::Error::other("broken");
            return Err(LaunchError { name: spec.name, source });
        }
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).env_clear().envs(spec.env).kill_on_drop(true);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        command.current_dir(spec.cwd.unwrap());
        let mut child =
            command.spawn().map_err(|source| LaunchError { name: spec.name, source })?;
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let alive = self.kill.child_token();
        let (killed, (ended, exited)) = (alive.clone(), tokio::sync::oneshot::channel());
        let pid = child.id().unwrap();
        self.tracker.spawn(async move {
            tokio::select! {
                _ = child.wait() => {}
                () = killed.cancelled() => child.kill().await.unwrap(),
            }
            ended.send("ended".to_owned()).unwrap_or(());
        });
        Ok(Child {
            guard_pid: pid,
            stdin: Some(Box::pin(stdin)),
            stdout: Some(Box::pin(stdout)),
            exited: Box::pin(async move { exited.await.unwrap_or_default() }),
            alive: Box::new(alive.drop_guard()),
        })
    }
}

/// Who keeps copies: remembers what it was told to forget.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// It can't forget now.
    pub(super) broken: AtomicBool,
    forgotten: Mutex<Vec<String>>,
    pub(super) asked: Notify,
}

impl Forget for Copies {
    fn forget(&self, account: &str, session: &SessionId) -> Forgetting {
        let broken = self.broken.load(Ordering::SeqCst);
        if !broken {
            self.forgotten.lock().unwrap().push(format!("{account} {session}"));
        }
        self.asked.notify_one();
        Box::pin(async move { if broken { Err("the engine is down".into()) } else { Ok(()) } })
    }
}

impl Copies {
    pub(super) fn forgotten(&self) -> Vec<String> {
        self.forgotten.lock().unwrap().clone()
    }
}

/// A node.
pub(super) struct Node {
    pub(super) sessions: Sessions,
    pub(super) script: Arc<Script>,
    pub(super) store: Arc<dyn Store>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) shutdown: CancellationToken,
    pub(super) copies: Arc<Copies>,
    launch: Arc<Direct>,
    pub(super) folder: PathBuf,
}

/// How a node is set up.
#[derive(Default)]
pub(super) struct Setup {
    /// Variables of the tool server.
    pub(super) env: Vec<(&'static str, String)>,
    /// Time for one tool call.
    pub(super) timeout: Option<Duration>,
    /// The clock, if it is not the machine's.
    pub(super) clock: Option<SharedClock>,
    /// The provider's name, if it is not the engine's.
    pub(super) provider: Option<&'static str>,
}

pub(super) fn open(folder: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(&folder.join("holdfast.db")).unwrap())
}

/// One provider, with a route to its models.
fn upstreams(provider: &str, executors: HashMap<String, Arc<dyn Execute>>) -> Upstreams {
    let info = ProviderInfo {
        name: provider.to_owned(),
        free_until_priced: provider == "local",
        ..ProviderInfo::default()
    };
    let routes = vec![route(provider), kept_small(provider), tiered(provider)];
    Upstreams { providers: vec![info], routes, executors }
}

impl Node {
    pub(super) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, open(folder), Setup::default()).await
    }

    pub(super) async fn start_with(folder: &Path, store: Arc<dyn Store>, setup: Setup) -> Self {
        let clock = setup.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::new()));
        let ids = Arc::new(Ids::new(Arc::clone(&clock)));
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let provider = setup.provider.unwrap_or("local");
        let launch = Arc::new(Direct {
            tracker: tracker.clone(),
            broken: AtomicBool::new(false),
            kill: CancellationToken::new(),
        });
        let tools = Arc::new(ToolServers::new(ToolServersParts {
            servers: vec![notes(folder, &setup)],
            launch: Arc::clone(&launch) as _,
            data: folder.to_owned(),
            clock: Arc::clone(&clock),
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
        }));
        let script = Arc::new(Script::default());
        for name in ["demo", "other"] {
            put_model(&store, &clock, provider, name).await;
        }
        let executors: HashMap<String, Arc<dyn Execute>> = HashMap::from([
            (provider.to_owned(), Arc::clone(&script) as Arc<dyn Execute>),
            ("mcp".to_owned(), Arc::clone(&tools) as Arc<dyn Execute>),
        ]);
        let directory = Directory::load(DirectoryParts {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            upstreams: upstreams(provider, executors),
            tracker: tracker.clone(),
        });
        let directory = Arc::new(directory.await.unwrap());
        for (name, role) in [("admin", Role::Admin), ("ci", Role::Member), ("other", Role::Member)]
        {
            put_key(&directory, name, role).await;
        }
        let node = NodeId::new(&ids);
        let pipeline = Arc::new(Pipeline::new(pipeline::Parts {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            directory: Arc::clone(&directory),
            node: node.clone(),
            tracker: tracker.clone(),
            telemetry: pipeline::Telemetry::default(),
        }));
        pipeline.start().await.unwrap();
        let copies = Arc::new(Copies::default());
        let sessions = Sessions::new(Parts {
            forget: Arc::clone(&copies) as _,
            store: Arc::clone(&store),
            pipeline: Arc::clone(&pipeline),
            tools,
            clock,
            ids,
            node,
            tracker,
            shutdown: shutdown.clone(),
        });
        let folder = folder.to_owned();
        Self { sessions, script, store, pipeline, shutdown, copies, launch, folder }
    }

    /// The principal of a key.
    pub(super) async fn key(&self, name: &str) -> Arc<Principal> {
        let credential = types::call::Credential::Key(Secret::new(secret(name)));
        self.pipeline.authenticate(&credential).await.unwrap()
    }

    /// Posts a body with the key `ci`.
    pub(super) async fn post(&self, body: Value) -> Turn {
        self.try_post(body, PostIdentity::default()).await.unwrap()
    }

    pub(super) async fn try_post(
        &self,
        body: Value,
        post: PostIdentity,
    ) -> Result<Turn, Box<pipeline::Refused>> {
        self.post_as("ci", body, post).await
    }

    pub(super) async fn post_as(
        &self,
        key: &str,
        mut body: Value,
        post: PostIdentity,
    ) -> Result<Turn, Box<pipeline::Refused>> {
        if body.get("model").is_none() {
            body["model"] = "local/demo".into();
        }
        let body = bytes::Bytes::from(body.to_string());
        let request = parse_create(&body).unwrap();
        let post = PostIdentity { path: "/v1/responses".to_owned(), body, ..post };
        let key = self.key(key).await;
        patient(self.sessions.create(&key, request, post)).await
    }

    pub(super) async fn get(&self, id: &str) -> Value {
        self.sessions.get(&*self.key("ci").await, id).await.unwrap()
    }

    /// The stored events of a response.
    pub(super) async fn stored_events(&self, turn: &str) -> Vec<Value> {
        let id = types::ids::ResponseId::parse(turn).unwrap();
        let rows = self.store.response_events(&id, 0, 1_000).await.unwrap();
        rows.into_iter().map(|row| serde_json::from_str(&row.body).unwrap()).collect()
    }

    /// Every row of the ledger.
    pub(super) async fn ledger(&self) -> Vec<LedgerRow> {
        self.store.calls(CallFilter { limit: 1_000, ..CallFilter::default() }).await.unwrap()
    }

    /// The effects of writing tools, as the tool server itself logged them: (tool, idempotency
    /// key).
    pub(super) fn effects(&self) -> Vec<(String, String)> {
        lines(&self.folder.join("tool-effects.log"))
    }

    /// The writing tool calls that began: (tool, idempotency key).
    pub(super) fn starts(&self) -> Vec<(String, String)> {
        lines(&self.folder.join("starts.log"))
    }

    /// Waits until a writing tool has begun so many times.
    pub(super) async fn tool_began(&self, times: usize) {
        patient(async {
            while self.starts().len() < times {
                look_again().await;
            }
        })
        .await;
    }

    /// Ends the tool servers, and lets none start again.
    pub(super) async fn break_tools(&self) {
        self.launch.broken.store(true, Ordering::SeqCst);
        self.launch.kill.cancel();
        let key = self.key("ci").await;
        patient(async {
            while Box::pin(self.sessions.inner.parts.tools.list("notes", &key)).await.is_ok() {
                look_again().await;
            }
        })
        .await;
    }

    /// Waits until the tool server has logged an effect.
    pub(super) async fn has_effect(&self) {
        patient(async {
            while self.effects().is_empty() {
                look_again().await;
            }
        })
        .await;
    }

    /// Waits until an event of this name of the response is stored.
    pub(super) async fn has_event(&self, response: &str, name: &str) {
        patient(async {
            while !self.stored_events(response).await.iter().any(|event| event["type"] == name) {
                look_again().await;
            }
        })
        .await;
    }

    /// Waits until an entry of this kind is in the journal of the newest session.
    pub(super) async fn has_journaled(&self, kind: &str) {
        let session = self.sessions.list(all()).await.unwrap()[0].session.id.clone();
        let query = storage::JournalQuery { session, response: None, after: 0, limit: 1_000 };
        patient(async {
            while !self
                .store
                .journal(query.clone())
                .await
                .unwrap()
                .iter()
                .any(|row| row.kind == kind)
            {
                look_again().await;
            }
        })
        .await;
    }

    /// Waits until nobody works on this response any more.
    pub(super) async fn is_given_up(&self, response: &str) {
        let id = types::ids::ResponseId::parse(response).unwrap();
        patient(async {
            while self.sessions.inner.live(&id).is_some() {
                look_again().await;
            }
        })
        .await;
    }

    /// Waits until a step of this response is in doubt.
    pub(super) async fn in_doubt(&self, response: &str) -> crate::Step {
        let id = types::ids::ResponseId::parse(response).unwrap();
        let live = self.sessions.inner.live(&id).expect("the turn is open");
        let mut progress = live.progress();
        let doubtful = progress.wait_for(|progress| progress.doubt.is_some());
        patient(doubtful).await.unwrap().doubt.clone().unwrap()
    }
}

/// A node whose writing tool has its effect and never answers, in time that stands still.
pub(super) struct Late {
    pub(super) node: Node,
    clock: Arc<FakeClock>,
}

impl Late {
    pub(super) async fn start(folder: &Path) -> Self {
        let clock = Arc::new(FakeClock::new(Timestamp::from_millis(1_790_000_000_000)));
        let setup = Setup {
            env: vec![("HOLDFAST_DEMO_TOOL_DELAY_AFTER_MS", "60000000".to_owned())],
            clock: Some(Arc::clone(&clock) as _),
            ..Setup::default()
        };
        Self { node: Node::start_with(folder, open(folder), setup).await, clock }
    }

    /// Lets the tool's time pass once it had its effect, and waits until its step is in doubt.
    /// Nothing here takes a while: a slow machine must not make the effect come too late.
    pub(super) async fn doubt(&self, turn: &Turn) -> Doubt {
        self.node.has_effect().await;
        let id = turn.response_id();
        let progress = self.node.sessions.inner.live(id).expect("the turn is open").progress();
        patient(async {
            while progress.borrow().doubt.is_none() {
                // Again and again: the call's timer may not have been set yet.
                self.clock.advance(CALL_TIMEOUT_DEFAULT);
                look_again().await;
            }
        })
        .await;
        Doubt {
            step: self.node.in_doubt(id.as_str()).await,
            session: turn.session_id().unwrap().clone(),
            sessions: self.node.sessions.clone(),
        }
    }
}

/// A step in doubt.
pub(super) struct Doubt {
    pub(super) step: crate::Step,
    session: SessionId,
    sessions: Sessions,
}

impl Doubt {
    /// Settles it, as `ada`.
    pub(super) async fn resolve(&self, decision: Decision) -> Result<crate::Step, Failure> {
        self.resolve_step(self.step.id.as_str(), decision).await
    }

    pub(super) async fn resolve_step(
        &self,
        step: &str,
        decision: Decision,
    ) -> Result<crate::Step, Failure> {
        let session = self.session.as_str();
        patient(self.sessions.resolve(DEFAULT_ACCOUNT, session, step, decision, "ada")).await
    }
}

pub(super) fn all() -> storage::SessionFilter {
    storage::SessionFilter { limit: 100, ..storage::SessionFilter::default() }
}

#[expect(clippy::disallowed_methods, reason = "a test reads what another process wrote")]
fn lines(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        (field("tool"), field("idempotency_key"))
    };
    // A last line without its end is being written.
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(entry).collect()
}

fn notes(folder: &Path, setup: &Setup) -> ToolServer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/demo/notes_server.py");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let mut env = std::collections::BTreeMap::from([
        ("HOLDFAST_DEMO_EFFECTS".to_owned(), file("tool-effects.log")),
        ("HOLDFAST_DEMO_STARTS".to_owned(), file("starts.log")),
    ]);
    env.extend(setup.env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let effects = [("find_note", Effect::Read), ("set_title", Effect::Idempotent)];
    ToolServer {
        name: "notes".to_owned(),
        command: vec!["python3".to_owned(), script.to_string_lossy().into_owned()],
        keys: Some(vec!["ci".to_owned()]),
        tools: effects.map(|(tool, effect)| (tool.to_owned(), effect)).into_iter().collect(),
        env,
        timeout: setup.timeout,
    }
}

fn secret(name: &str) -> String {
    format!("hf_{name}")
}

async fn put_key(directory: &Directory, name: &str, role: Role) {
    let key = NewKey {
        account: DEFAULT_ACCOUNT.to_owned(),
        name: name.to_owned(),
        user: None,
        role,
        output_cap_default: None,
        origin: Origin::File,
    };
    directory.put_key_with_secret(key, &Secret::new(secret(name))).await.unwrap();
}

/// Over both models: `route/two`.
fn route(provider: &str) -> RouteInfo {
    RouteInfo {
        name: "two".to_owned(),
        aliases: Vec::new(),
        targets: vec![format!("{provider}/demo"), format!("{provider}/other")],
        choice: None,
        policy: types::call::RoutePolicy::OF_ROUTE,
    }
}

/// Summarises a history of more than 2,300 tokens or so: `route/kept-small`.
fn kept_small(provider: &str) -> RouteInfo {
    let compact = CompactPolicy {
        at: Threshold { tokens: Some(2_300), percent: None },
        model: format!("{provider}/other"),
        keep_tokens: 0,
        summary_tokens: 64,
    };
    let context = ContextPolicy { clear: None, compact: Some(compact) };
    RouteInfo {
        name: "kept-small".to_owned(),
        targets: vec![format!("{provider}/demo")],
        policy: types::call::RoutePolicy {
            context: Some(Arc::new(context)),
            ..types::call::RoutePolicy::OF_ROUTE
        },
        ..route(provider)
    }
}

/// `other` for hard tasks, `demo` for easy ones: `route/tiered`.
fn tiered(provider: &str) -> RouteInfo {
    let auto = AutoPolicy {
        cheap: vec![format!("{provider}/demo")],
        strong: vec![format!("{provider}/other")],
        threshold: AutoPolicy::THRESHOLD,
        shadow: false,
        by_header: true,
        asked: None,
        judge: None,
    };
    RouteInfo {
        name: "tiered".to_owned(),
        policy: types::call::RoutePolicy {
            auto: Some(Arc::new(auto)),
            ..types::call::RoutePolicy::OF_ROUTE
        },
        ..route(provider)
    }
}

async fn put_model(store: &Arc<dyn Store>, clock: &SharedClock, provider: &str, name: &str) {
    let model = Model {
        name: format!("{provider}/{name}"),
        provider: provider.to_owned(),
        upstream_model: name.to_owned(),
        path: None,
        sha256: None,
        prices: Vec::new(),
        output_tokens_max: Some(4_096),
        context_tokens: Some(32_768),
        origin: Origin::Api,
        version: 1,
        created_at: clock.now(),
    };
    store.put_model(model).await.unwrap();
}

/// What another process writes is only seen by looking.
#[expect(
    clippy::disallowed_methods,
    reason = "leaves the processor to the process that is waited for"
)]
pub(super) async fn look_again() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Fails the test instead of hanging it.
#[expect(clippy::disallowed_methods, reason = "only ends a test that hangs")]
pub(super) async fn patient<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("this must not take so long")
}

pub(super) async fn events(stream: EventStream) -> Vec<StreamEvent> {
    patient(stream.collect()).await
}

pub(super) fn names(events: &[StreamEvent]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

/// Asserts that events are numbered from `from` without a gap.
pub(super) fn assert_numbered(events: &[StreamEvent], from: u64) {
    let numbers: Vec<u64> = events.iter().filter_map(|event| event.sequence).collect();
    let expected: Vec<u64> = (from..from + numbers.len() as u64).collect();
    assert_eq!(numbers, expected);
}

/// The request of an agent with the notes server.
pub(super) fn with_notes(extra: &Value) -> Value {
    let mut body = json!({
        "input": "Please note that the harbor is closed.",
        "tools": [{ "type": "mcp", "server_label": "notes", "require_approval": "never" }],
    });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(super) fn headers(task: &str) -> CommonHeaders {
    CommonHeaders { task: Some(task.to_owned()), ..CommonHeaders::default() }
}

pub(super) fn unknown_bill(code: types::ErrorCode) -> Failure {
    Failure::new(code, "it broke").billed(Billed::Unknown)
}
