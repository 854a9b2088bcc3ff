//! A whole node in a test's hands: store, directory, pipeline, and targets that answer what they
//! are told.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use pipeline::{
    Answer, Directory, DirectoryParts, NewBudget, NewKey, Parts, Pipeline, ProviderInfo, RouteInfo,
    Telemetry, Upstreams,
};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use storage::budgets::Origin;
use storage::models::DatedPrice;
use storage::{Budget, Model, Scope, SqliteStore, Store, WindowKind};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use types::call::{CallKind, Credential, Door, ModelCall, ModelHead, StepRef, Target};
use types::clock::FakeClock;
use types::conversation::Role as Speaker;
use types::execute::{Attempt, Patience};
use types::format::{Edits, ReadOptions, ReadResponse, Rendered, WriteOptions, WriteResponse};
use types::ids::{AttemptId, CallId, NodeId};
use types::outcome::{Finish, Start};
use types::principal::{DEFAULT_ACCOUNT, Role};
use types::{
    CommonHeaders, Conversation, ErrorCode, Execute, Failure, Format, Ids, Incoming, Money,
    OutcomeEvent, OutcomeStream, Price, Rate, Rates, Secret, Timestamp, Usage,
};

/// Ten in the morning of a day.
pub(crate) const MORNING: Timestamp = Timestamp::from_millis(1_800_000_000_000 - 8 * 3_600_000);
/// Events that a target may be told ahead.
const EVENTS_MAX: usize = 16;

/// Reads what is there of an answer, and says whether that was its end.
pub(crate) fn has_ended(answer: &mut Answer) -> bool {
    while let Some(event) = answer.next().now_or_never() {
        if event.is_none() {
            return true;
        }
    }
    false
}

/// Cases of a property of what Calls do beside each other.
const INTERLEAVINGS: u32 = 60;

/// Tries a property of Calls beside each other in many orders; says the smallest that breaks it.
pub(crate) fn in_any_order<S: Strategy>(orders: &S, holds: impl AsyncFn(S::Value)) {
    let config = Config { cases: INTERLEAVINGS, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(orders, |order| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(holds(order));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A node that runs on a folder.
pub(crate) struct Node {
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) ids: Arc<Ids>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) targets: Arc<Targets>,
    pub(crate) tracker: TaskTracker,
}

pub(crate) fn price() -> Price {
    Price {
        rates: Rates {
            input: Rate::parse_per_million("1").unwrap(),
            output: Rate::parse_per_million("10").unwrap(),
            cached_input: Some(Rate::parse_per_million("0.1").unwrap()),
            cache_write: Some(Rate::parse_per_million("2").unwrap()),
            ..Rates::default()
        },
        ..Price::free("test@1")
    }
}

/// What costs twice as much.
pub(crate) fn dear_price() -> Price {
    let twice = |rate: Rate| Rate::from_picodollars(rate.picodollars() * 2);
    let (plain, cheap) = (price(), price().rates);
    let (input, output) = (twice(cheap.input), twice(cheap.output));
    let rates = Rates { input, output, cache_write: cheap.cache_write.map(twice), ..cheap };
    Price { rates, ..plain }
}

pub(crate) fn dollars(text: &str) -> Money {
    Money::parse(text).unwrap()
}

impl Node {
    /// Starts a node on the database at `path`.
    pub(crate) async fn start(path: &Path, clock: &Arc<FakeClock>, seed: u64) -> Self {
        Self::start_with(path, clock, seed, Vec::new()).await
    }

    /// The same, with routes.
    pub(crate) async fn start_with(
        path: &Path,
        clock: &Arc<FakeClock>,
        seed: u64,
        routes: Vec<RouteInfo>,
    ) -> Self {
        let node = Self::made(path, clock, seed, routes).await;
        node.pipeline.start().await.unwrap();
        node
    }

    /// A node on the database at `path` that has not been started.
    pub(crate) async fn made(
        path: &Path,
        clock: &Arc<FakeClock>,
        seed: u64,
        routes: Vec<RouteInfo>,
    ) -> Self {
        Self::watched(path, clock, seed, routes, Telemetry::default()).await
    }

    /// The same, with somebody who is told of what ends.
    pub(crate) async fn watched(
        path: &Path,
        clock: &Arc<FakeClock>,
        seed: u64,
        routes: Vec<RouteInfo>,
        telemetry: Telemetry,
    ) -> Self {
        let store = Arc::new(SqliteStore::open(path).unwrap());
        let ids = Arc::new(Ids::seeded(Arc::clone(clock) as _, seed));
        let targets = Arc::new(Targets::default());
        let executor = || Arc::clone(&targets) as Arc<dyn Execute>;
        let names = ["paid", "spoken", "open", "local", "mcp"];
        let tracker = TaskTracker::new();
        let parts = DirectoryParts {
            store: Arc::clone(&store) as _,
            clock: Arc::clone(clock) as _,
            ids: Arc::clone(&ids),
            upstreams: Upstreams {
                providers: providers(),
                routes,
                executors: names.into_iter().map(|name| (name.to_owned(), executor())).collect(),
            },
            tracker: tracker.clone(),
        };
        let directory = Arc::new(Directory::load(parts).await.unwrap());
        let pipeline = Pipeline::new(Parts {
            store: Arc::clone(&store) as _,
            clock: Arc::clone(clock) as _,
            ids: Arc::clone(&ids),
            directory: Arc::clone(&directory),
            node: NodeId::new(&ids),
            tracker: tracker.clone(),
            telemetry,
        });
        let (clock, pipeline) = (Arc::clone(clock), Arc::new(pipeline));
        Self { store, clock, ids, directory, pipeline, targets, tracker }
    }

    /// Keys `ci` and `other`, and a priced, an unpriced and a local model.
    pub(crate) async fn furnish(&self) {
        for name in ["ci", "other"] {
            let secret = Secret::new(format!("hf_{name}"));
            self.directory.put_key_with_secret(new_key(name), &secret).await.unwrap();
        }
        self.directory.put_model(model("paid", "m", Some(price()))).await.unwrap();
        self.directory.put_model(model("paid", "unpriced", None)).await.unwrap();
        self.directory.put_model(model("local", "demo", None)).await.unwrap();
    }

    pub(crate) async fn budget(
        &self,
        scope: Scope,
        limit: Money,
        window: WindowKind,
    ) -> Arc<Budget> {
        let account = DEFAULT_ACCOUNT.to_owned();
        let (zone, origin) = (storage::Zone::UTC, Origin::Api);
        let new = NewBudget { account, scope, limit, window, zone, origin };
        self.directory.put_budget(new).await.unwrap()
    }

    /// Tells the newest target of a Call what to answer.
    pub(crate) fn tell(&self, call: &CallId, event: OutcomeEvent) {
        self.targets.tell(call, event);
    }

    /// Polls an answer once, so that its attempt has begun.
    pub(crate) fn begin(answer: &mut Answer) {
        assert!(answer.next().now_or_never().is_none(), "nothing was told yet");
    }

    /// Reads so many events of an answer, and then waits for more.
    pub(crate) async fn begin_until(answer: &mut Answer, events: usize) {
        for _ in 0..events {
            assert!(answer.next().await.is_some());
        }
        Self::begin(answer);
    }

    /// Polls an answer of which a part was read.
    pub(crate) fn begin_again(answer: &mut Answer) {
        assert!(answer.next().now_or_never().is_none(), "nothing more was told");
    }

    /// Ends a Call with `usage` and reads its answer to the end.
    pub(crate) async fn finish(&self, mut answer: Answer, usage: Option<Usage>) -> Answer {
        let call = answer.call.id.clone();
        self.tell(&call, OutcomeEvent::Start(Start::default()));
        self.tell(&call, finish(usage));
        while answer.next().await.is_some() {}
        answer
    }

    /// Waits until no budget's worker is at work: then only the recorder's writer is left on the
    /// tracker.
    pub(crate) async fn quiet(&self) {
        while self.tracker.len() > BACKGROUND {
            tokio::task::yield_now().await;
        }
    }

    /// The clean stop.
    pub(crate) async fn stop(self) {
        self.pipeline.shutdown().await.unwrap();
        self.tracker.close();
        self.tracker.wait().await;
        self.store.close().await.unwrap();
    }
}

/// What runs as long as a pipeline does: the writer, the evaluation of objectives, and what keeps
/// their counts.
const BACKGROUND: usize = 3;

pub(crate) fn database(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("holdfast.db")
}

fn providers() -> Vec<ProviderInfo> {
    let named = |name: &str| ProviderInfo { name: name.to_owned(), ..ProviderInfo::default() };
    vec![
        named("paid"),
        ProviderInfo { format: Some(&NoFormat), ..named("spoken") },
        ProviderInfo { any_model: true, ..named("open") },
        ProviderInfo { free_until_priced: true, ..named("local") },
    ]
}

pub(crate) fn new_key(name: &str) -> NewKey {
    NewKey {
        account: DEFAULT_ACCOUNT.to_owned(),
        name: name.to_owned(),
        user: None,
        role: Role::Member,
        output_cap_default: None,
        origin: Origin::File,
    }
}

pub(crate) fn model(provider: &str, name: &str, price: Option<Price>) -> Model {
    let since = Timestamp(0);
    Model {
        name: format!("{provider}/{name}"),
        provider: provider.to_owned(),
        upstream_model: name.to_owned(),
        path: None,
        sha256: None,
        prices: price.map(|price| DatedPrice { since, price }).into_iter().collect(),
        output_tokens_max: None,
        context_tokens: None,
        origin: Origin::Api,
        version: 0,
        created_at: Timestamp(0),
    }
}

/// Bytes of a request that is bounded at 1,000 input tokens: a template adds 256.
pub(crate) const BODY_BYTES: u64 = 744;

/// A request of at most 1,000 input tokens.
pub(crate) fn request(key: &str, model: &str, output_cap: Option<u64>) -> Incoming {
    let head = ModelHead {
        model: model.to_owned(),
        output_cap,
        choices: 1,
        body_bytes: BODY_BYTES,
        ..ModelHead::default()
    };
    Incoming {
        credential: Credential::Key(Secret::new(format!("hf_{key}"))),
        door: Door::OpenaiChat,
        headers: CommonHeaders::default(),
        step: None,
        parent: None,
        id: None,
        kind: CallKind::Model(ModelCall::from_raw(&NoFormat, head, Bytes::new())),
    }
}

/// Makes a request that of a session's step.
pub(crate) fn as_step(mut incoming: Incoming, step: StepRef) -> Incoming {
    incoming.door = Door::Session;
    incoming.step = Some(step);
    incoming
}

pub(crate) fn finish(usage: Option<Usage>) -> OutcomeEvent {
    OutcomeEvent::Finish(Finish { usage, ..Finish::default() })
}

pub(crate) fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, ..Usage::default() }
}

/// An attempt's target, and the output cap that was set.
type Asked = (Arc<str>, Option<u64>);

/// Targets that answer what they are told, when they are told it.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// What tells the attempts of each Call, in order.
    running: Mutex<HashMap<CallId, Vec<mpsc::Sender<OutcomeEvent>>>>,
    pub(crate) attempts: Mutex<Vec<(AttemptId, Option<u64>)>>,
    /// The target of each attempt, in order.
    pub(crate) asked: Mutex<Vec<Arc<str>>>,
    /// How long each attempt may wait for a place, in order.
    patience: Mutex<Vec<Option<Patience>>>,
    /// The attempts of each Call, in order.
    of_calls: Mutex<HashMap<CallId, Vec<Asked>>>,
    /// Whether attempts wait in front of their targets, which are not asked.
    pub(crate) withhold: AtomicBool,
    /// Models that go on with an answer that was begun.
    pub(crate) continuing: Mutex<Vec<String>>,
    /// What each attempt was told as an answer's beginning, in order.
    pub(crate) begun: Mutex<Vec<Option<String>>>,
    /// What the next attempts at a target answer at once.
    scripts: Mutex<HashMap<String, VecDeque<Vec<OutcomeEvent>>>>,
}

impl Targets {
    fn tell(&self, call: &CallId, event: OutcomeEvent) {
        let running = self.running.lock().unwrap();
        let newest = running[call].last().unwrap();
        newest.try_send(event).expect("the target is not told more than it can hold");
    }

    /// The next attempt at `target` answers this at once, and nothing more if that has no end.
    pub(crate) fn script(&self, target: &str, events: impl IntoIterator<Item = OutcomeEvent>) {
        let mut scripts = self.scripts.lock().unwrap();
        let script = scripts.entry(target.to_owned()).or_default();
        script.push_back(events.into_iter().collect());
    }

    /// Tells the attempt of that number, from 0, if it still listens. Whether it does.
    pub(crate) fn tell_nth(&self, call: &CallId, attempt: usize, event: OutcomeEvent) -> bool {
        self.running.lock().unwrap()[call][attempt].try_send(event).is_ok()
    }

    /// Every Call that was sent to a target, those that another one spawned too.
    pub(crate) fn calls(&self) -> Vec<CallId> {
        self.of_calls.lock().unwrap().keys().cloned().collect()
    }

    /// The Calls of which this target was asked.
    pub(crate) fn calls_at(&self, target: &str) -> Vec<CallId> {
        let of_calls = self.of_calls.lock().unwrap();
        let asked = |(_, attempts): &(&CallId, &Vec<Asked>)| {
            attempts.iter().any(|(name, _)| **name == *target)
        };
        of_calls.iter().filter(asked).map(|(call, _)| call.clone()).collect()
    }

    /// How many attempts a Call has made, if any.
    pub(crate) fn made(&self, call: &CallId) -> Option<usize> {
        self.of_calls.lock().unwrap().get(call).map(Vec::len)
    }

    /// How many attempts a Call has made, and the newest one's target and output cap.
    pub(crate) fn newest(&self, call: &CallId) -> (usize, Arc<str>, Option<u64>) {
        let of_calls = self.of_calls.lock().unwrap();
        let attempts = &of_calls[call];
        let (target, cap) = attempts.last().unwrap();
        (attempts.len(), Arc::clone(target), *cap)
    }

    /// Which targets were asked since this was last called, by the names that clients see.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.iter().map(ToString::to_string).collect()
    }
}

impl Targets {
    /// How long each attempt since this was last called may wait for a place, in order.
    pub(crate) fn patience(&self) -> Vec<Option<Patience>> {
        std::mem::take(&mut *self.patience.lock().unwrap())
    }
}

impl Execute for Targets {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        let (sender, mut receiver) = mpsc::channel(EVENTS_MAX);
        self.attempts.lock().unwrap().push((attempt.id, attempt.output_cap));
        self.patience.lock().unwrap().push(attempt.patience);
        let asked = attempt.call.model().and_then(|model| model.neutral().ok());
        let last = asked.and_then(|asked| asked.messages.last().cloned());
        let begun = last.filter(|last| last.role == Speaker::Assistant);
        self.begun.lock().unwrap().push(begun.map(|last| last.joined_text()));
        if self.withhold.load(Ordering::Relaxed) {
            attempt.sent.not_yet();
        }
        let target = Arc::clone(&attempt.target.name);
        self.asked.lock().unwrap().push(Arc::clone(&target));
        let call = attempt.call.id.clone();
        let mut of_calls = self.of_calls.lock().unwrap();
        of_calls.entry(call).or_default().push((target, attempt.output_cap));
        let mut scripts = self.scripts.lock().unwrap();
        let script = scripts.get_mut(&*attempt.target.name).and_then(VecDeque::pop_front);
        for event in script.unwrap_or_default() {
            sender.try_send(event).expect("a script is short");
        }
        let mut running = self.running.lock().unwrap();
        running.entry(attempt.call.id.clone()).or_default().push(sender);
        drop(running);
        let events = futures_util::stream::poll_fn(move |ctx| match receiver.poll_recv(ctx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(event) => Poll::Ready(event),
        });
        Box::pin(events)
    }

    fn continues(&self, target: &Target) -> bool {
        self.continuing.lock().unwrap().iter().any(|name| **name == *target.name)
    }
}

/// A format of which nothing is asked: the pipeline passes requests on.
#[derive(Debug)]
pub(crate) struct NoFormat;

fn not_asked() -> Failure {
    Failure::new(ErrorCode::Internal, "the pipeline must not read formats")
}

impl Format for NoFormat {
    fn name(&self) -> &'static str {
        "none"
    }
    fn tells_cache_life(&self) -> bool {
        false
    }
    fn path(&self, _edits: &Edits<'_>) -> Option<Cow<'static, str>> {
        None
    }
    fn read_head(&self, _body: &[u8]) -> Result<ModelHead, Failure> {
        Err(not_asked())
    }
    fn parse_request(&self, _body: &[u8]) -> Result<Conversation, Failure> {
        Err(not_asked())
    }
    fn render_request(
        &self,
        _conversation: &Conversation,
        _edits: &Edits<'_>,
    ) -> Result<Rendered, Failure> {
        Err(not_asked())
    }
    fn patch_request(&self, raw: &Bytes, _head: &ModelHead, _edits: &Edits<'_>) -> Bytes {
        raw.clone()
    }
    fn reader(&self, _options: ReadOptions) -> Box<dyn ReadResponse> {
        panic!("the pipeline must not read formats")
    }
    fn writer(&self, _options: WriteOptions) -> Box<dyn WriteResponse> {
        panic!("the pipeline must not write formats")
    }
    fn parse_error(&self, _status: u16, _body: &[u8]) -> Failure {
        not_asked()
    }
    fn render_error(&self, _failure: &Failure, _call: Option<&CallId>) -> Bytes {
        Bytes::new()
    }
}

/// A node of a new store, in the morning, with the names that tests ask for.
pub(crate) async fn node(folder: &tempfile::TempDir) -> Node {
    node_with(folder, Vec::new()).await
}

/// The same, with routes.
pub(crate) async fn node_with(folder: &tempfile::TempDir, routes: Vec<RouteInfo>) -> Node {
    let clock = Arc::new(FakeClock::new(MORNING));
    let node = Node::start_with(&database(folder), &clock, 1, routes).await;
    node.furnish().await;
    node
}

/// The durable amounts as the store has them.
pub(crate) async fn totals(node: &Node, budget: &Budget) -> storage::WindowTotals {
    storage::Budgets::window(&*node.store, &budget.id, None).await.unwrap()
}

/// The ledger rows of a Call.
pub(crate) async fn rows(node: &Node, call: &CallId) -> Vec<storage::LedgerRow> {
    let store: &dyn Store = &*node.store;
    store.call(call).await.unwrap()
}
