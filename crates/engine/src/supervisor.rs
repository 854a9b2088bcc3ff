//! Keeps one `holdfast-engine` per loaded model, started when it is first asked for.
//!
//! The parent listens on a socket in a folder that only it can read, starts the child through
//! [`Launch`], and takes exactly one connection. When a child ends, everything in flight on it
//! fails at once and says so, and the next is started: at once the first time, then after 100 ms,
//! doubling up to 30 s; a minute of life makes it the first time again. Meanwhile callers get
//! [`Error::Unavailable`] with the time that is left. A child that speaks another protocol is
//! refused by name and not started again and again. An engine whose file no model has any more ends
//! once nothing is in flight on it.
//!
//! It must not know Calls, accounts' rights or formats: that is [`crate::execute`].

mod child;
mod connection;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::clock::{Monotonic, SharedClock, within};
use types::launch::Launch;

use crate::model_file::ModelFile;
use crate::protocol::{Embed, EngineFailure, FailureCode, Generate, LoadedModel, Stats};
use crate::session_file;
use connection::Connection;
pub use connection::{Embedded, Embedding, Event, Generation};

/// How engines are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine's program.
    pub program: PathBuf,
    /// Folder in which sockets are made: short, as a socket's whole path has at most 107 bytes, and
    /// on a local disk.
    pub socket_folder: PathBuf,
    /// Folder of session state; a folder per model is made in it. `None`: state is kept in memory
    /// only.
    pub kv_folder: Option<PathBuf>,
    /// Bytes of session state on disk, per model.
    pub kv_disk_bytes: u64,
    /// Bytes of session state in memory, per model.
    pub kv_memory_bytes: u64,
    /// Conversations that are decoded at once, per model.
    pub sequences: u32,
    /// The most tokens of one conversation; 0 = what the model was trained for.
    pub context_tokens: u32,
    /// Threads per engine; 0 = one per core, or one for a small model.
    pub threads: u32,
    /// Requests that may wait for a sequence, per model.
    pub waiting: u32,
    /// Time in which a model must be loaded.
    pub start_within: Duration,
    /// The environment of the engine.
    pub env: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            program: PathBuf::from("holdfast-engine"),
            socket_folder: std::env::temp_dir(),
            kv_folder: None,
            kv_disk_bytes: 8 * 1024 * 1024 * 1024,
            kv_memory_bytes: 2 * 1024 * 1024 * 1024,
            sequences: 8,
            context_tokens: 0,
            threads: 0,
            waiting: 64,
            start_within: Duration::from_secs(120),
            env: Vec::new(),
        }
    }
}

/// The first wait before a child is started again, after one that was started at once.
const RESTART_FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const RESTART_LONGEST: Duration = Duration::from_secs(30);
/// A child that lived so long was well.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// A child that is told to stop has this long to save its sessions.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How often an engine that no model has is looked at, until it is idle. Who was about to ask it
/// something has this long.
const RETIRE_LOOK: Duration = Duration::from_secs(1);

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The engine is not up; try again after the time that is named.
    #[error("the engine of this model is not up: {reason}")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// Why, for the log and for operators.
        reason: Arc<str>,
    },
    /// The child speaks another protocol: the two programs are not of one build.
    #[error(
        "holdfast-engine speaks protocol {theirs}, this holdfast speaks {ours}: build both again"
    )]
    Protocol {
        /// The child's number.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The engine ended while it worked on the request. Nothing of it is known.
    #[error("the engine ended while it worked on this")]
    Lost,
    /// The engine's own answer.
    #[error("{}", .0.message)]
    Refused(EngineFailure),
    /// The model is being loaded, and that takes longer than the request may wait.
    #[error("the model is being loaded")]
    Loading,
    /// More requests wait for a place than may be before this one.
    #[error("too many requests wait for this model")]
    Busy,
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

/// All engines of a node, by model.
#[derive(Debug)]
pub struct Engines {
    shared: Arc<Shared>,
    known: Mutex<Known>,
}

/// Engines that were asked for, by the hash of their model.
#[derive(Debug, Default)]
struct Known {
    engines: HashMap<String, Arc<Engine>>,
    /// The files that models have; `None` = nobody has said it.
    wanted: Option<HashSet<String>>,
}

/// What engines have in common.
#[derive(Debug)]
struct Shared {
    options: Options,
    launch: Arc<dyn Launch>,
    clock: SharedClock,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Engines {
    /// No engine runs yet.
    pub fn new(options: Options, launch: Arc<dyn Launch>, clock: SharedClock) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let shared = Arc::new(Shared { options, launch, clock, tasks, stop });
        Self { shared, known: Mutex::default() }
    }

    /// The engine of a model; it is started when it is first asked something. Must be called within
    /// a Tokio runtime.
    pub fn engine(&self, model: &ModelFile) -> Arc<Engine> {
        let mut known = self.known();
        let Known { engines, wanted } = &mut *known;
        let is_wanted = wanted.as_ref().is_none_or(|wanted| wanted.contains(&model.sha256));
        let make = || Engine::new(Arc::clone(&self.shared), model.clone(), is_wanted);
        Arc::clone(engines.entry(model.sha256.clone()).or_insert_with(make))
    }

    /// From now on only these files are models'. An engine of another one answers what it was
    /// asked, saves its sessions, and ends.
    pub fn keep_only(&self, wanted: HashSet<String>) {
        let mut known = self.known();
        for (sha256, engine) in &known.engines {
            engine.wanted.send_replace(wanted.contains(sha256));
        }
        // One that has ended and that nobody holds is nothing more than its name.
        known
            .engines
            .retain(|sha256, engine| wanted.contains(sha256) || Arc::strong_count(engine) > 1);
        known.wanted = Some(wanted);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine of a model, if it was ever asked for.
    pub fn running(&self, sha256: &str) -> Option<Arc<Engine>> {
        self.known().engines.get(sha256).cloned()
    }

    /// Forgets a session everywhere: on the engines that are up, and in the files of those that are
    /// not, of models too that nobody has asked for since this node started. An engine is not
    /// started for it.
    ///
    /// # Errors
    /// An engine ended meanwhile, or is alive and not up, or a file can't be deleted. What could be
    /// forgotten is; asking again is safe.
    pub async fn drop_session(&self, account: &str, session: &str) -> Result<(), Error> {
        let engines: Vec<_> = self.known().engines.values().cloned().collect();
        let (mut asked, mut outcome) = (Vec::new(), Ok(()));
        for engine in engines {
            let Some(connection) = engine.up() else { continue };
            match connection.drop_session(account, session).await {
                Ok(()) => asked.push(engine.model.sha256.clone()),
                Err(error) => outcome = Err(error),
            }
        }
        let Some(folder) = self.shared.options.kv_folder.clone() else { return outcome };
        let (account, session) = (account.to_owned(), session.to_owned());
        let delete = tokio::task::spawn_blocking(move || {
            session_file::delete_except(&folder, &asked, &account, &session)
        });
        let deleted = delete.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let stays = |error| Error::unavailable(format!("a state file stays: {error}"));
        outcome.and_then(|()| deleted.map_err(stays))
    }

    /// Stops every engine, each after it has saved its sessions, and waits for that.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// What a model's engine does at the moment.
#[derive(Clone, Debug)]
enum State {
    /// Nobody has asked for anything, or not since it was retired.
    Idle,
    /// It has been loading its model since then.
    Starting(Monotonic),
    /// It serves.
    Up(Arc<Connection>),
    /// It will be started again at that time.
    Down { until: Monotonic, error: Error },
    /// It can't be used, and starting it again can't help.
    Unusable(Error),
}

/// One model's engine.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    model: ModelFile,
    state: watch::Sender<State>,
    /// Whether a model has its file.
    wanted: watch::Sender<bool>,
    /// Whether there is a task that keeps the child.
    kept: Mutex<bool>,
}

impl Engine {
    fn new(shared: Arc<Shared>, model: ModelFile, is_wanted: bool) -> Arc<Self> {
        let (state, _) = watch::channel(State::Idle);
        let (wanted, _) = watch::channel(is_wanted);
        Arc::new(Self { shared, model, state, wanted, kept: Mutex::new(false) })
    }

    /// The model's file.
    pub fn model(&self) -> &ModelFile {
        &self.model
    }

    /// Whether it serves now.
    pub fn is_up(&self) -> bool {
        self.up().is_some()
    }

    /// The connection to a child that serves now.
    fn up(&self) -> Option<Arc<Connection>> {
        match &*self.state.borrow() {
            State::Up(connection) if connection.is_open() => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    /// What the engine has loaded; it is started for that if needed. Waits while it loads, but no
    /// longer than until it has loaded for `wait_max`: then it goes on without this caller.
    ///
    /// # Errors
    /// It is not up and can't be started now.
    pub async fn loaded(
        self: &Arc<Self>,
        wait_max: Option<Duration>,
    ) -> Result<LoadedModel, Error> {
        Ok(self.connection_within(wait_max).await?.hello().model.clone())
    }

    /// Starts a generation, unless more than `queue_max` others wait for a place. The request's id
    /// and window are set here. Dropping the [`Generation`] cancels it.
    ///
    /// # Errors
    /// The engine is not up and can't be started now, or has no room.
    pub async fn generate(
        self: &Arc<Self>,
        request: Generate,
        queue_max: Option<u32>,
    ) -> Result<Generation, Error> {
        self.connection().await?.generate(request, queue_max)
    }

    /// Asks for vectors, unless more than `queue_max` others wait for a place. The request's id is
    /// set here. Dropping the [`Embedding`] cancels it.
    ///
    /// # Errors
    /// The engine is not up and can't be started now, or has no room.
    pub async fn embed(
        self: &Arc<Self>,
        request: Embed,
        queue_max: Option<u32>,
    ) -> Result<Embedding, Error> {
        self.connection().await?.embed(request, queue_max)
    }

    /// Writes every held session to disk, and ends when that is done.
    ///
    /// # Errors
    /// The engine is not up, or ended.
    pub async fn flush(self: &Arc<Self>) -> Result<(), Error> {
        self.connection().await?.flush().await
    }

    /// The engine's figures.
    ///
    /// # Errors
    /// The engine is not up, or ended.
    pub async fn stats(self: &Arc<Self>) -> Result<Stats, Error> {
        self.connection().await?.stats().await
    }

    /// Process id of the child's guard, while there is a child; for operators and for suites that
    /// kill it.
    pub fn guard_pid(&self) -> Option<u32> {
        match &*self.state.borrow() {
            State::Up(connection) => Some(connection.guard_pid()),
            State::Idle | State::Starting(_) | State::Down { .. } | State::Unusable(_) => None,
        }
    }

    /// The connection to a child that is up; waits while one loads its model.
    async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Error> {
        self.connection_within(None).await
    }

    /// The same, as long as the model has been loading for less than `wait_max`.
    async fn connection_within(
        self: &Arc<Self>,
        wait_max: Option<Duration>,
    ) -> Result<Arc<Connection>, Error> {
        let (clock, mut state) = (&self.shared.clock, self.state.subscribe());
        let asked = clock.monotonic();
        loop {
            // Each time: it may be retired meanwhile.
            self.keep();
            let since = match &*state.borrow_and_update() {
                State::Up(connection) if connection.is_open() => return Ok(Arc::clone(connection)),
                State::Unusable(error) => return Err(error.clone()),
                State::Down { until, error } => {
                    let left = until.saturating_sub(clock.monotonic());
                    if !left.is_zero() {
                        return Err(error.with_wait(left));
                    }
                    asked
                }
                State::Starting(since) => *since,
                // It was lost and its keeper has not noticed yet.
                State::Up(_) | State::Idle => asked,
            };
            let changed = state.changed();
            let changed = match wait_max {
                None => Some(self.unless_stopping(changed).await?),
                Some(wait_max) => {
                    let waited = clock.monotonic().saturating_sub(since);
                    let left = wait_max.saturating_sub(waited);
                    within(clock.as_ref(), left, self.unless_stopping(changed)).await.transpose()?
                }
            };
            changed.ok_or(Error::Loading)?;
        }
    }

    /// Waits for the next change of the state.
    async fn unless_stopping(
        &self,
        changed: impl Future<Output = Result<(), watch::error::RecvError>>,
    ) -> Result<(), Error> {
        tokio::select! {
            changed = changed => changed.map_err(|_closed| Error::Stopping),
            () = self.shared.stop.cancelled() => Err(Error::Stopping),
        }
    }

    /// Starts the task that keeps the child, unless there is one.
    fn keep(self: &Arc<Self>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !*kept {
            *kept = true;
            let engine = Arc::clone(self);
            self.shared.tasks.spawn(async move { engine.run().await });
        }
    }

    /// Keeps a child until the node stops, or nobody needs it.
    async fn run(self: Arc<Self>) {
        let mut failures = 0;
        while !self.shared.stop.is_cancelled() {
            self.state.send_replace(State::Starting(self.shared.clock.monotonic()));
            let error = match child::start(&self.shared, &self.model).await {
                Ok(child) => {
                    let began = self.shared.clock.monotonic();
                    let connection = child.connection();
                    self.state.send_replace(State::Up(Arc::clone(&connection)));
                    if child.live(&self.shared, self.retired(&connection)).await {
                        return self.rest();
                    }
                    let lived = self.shared.clock.monotonic().saturating_sub(began);
                    if lived >= WELL_AFTER {
                        failures = 0;
                    }
                    Error::unavailable("it ended and is being started again")
                }
                Err(error @ Error::Protocol { .. }) => {
                    tracing::error!(model = %self.model.sha256, %error, "the engine is refused");
                    self.state.send_replace(State::Unusable(error));
                    return;
                }
                Err(error) => {
                    tracing::error!(model = %self.model.sha256, %error, "the engine did not start");
                    // What did not come up once does not get a second try at once.
                    failures = failures.max(1);
                    error
                }
            };
            if self.shared.stop.is_cancelled() {
                break;
            }
            self.wait_to_restart(failures, error).await;
            failures += 1;
            if !*self.wanted.borrow() {
                return self.rest();
            }
        }
        self.state.send_replace(State::Unusable(Error::Stopping));
    }

    /// Ends when no model has the file and nothing is in flight; from then on nothing can be asked
    /// over the connection.
    async fn retired(&self, connection: &Connection) {
        let mut wanted = self.wanted.subscribe();
        while wanted.wait_for(|wanted| !wanted).await.is_ok() {
            self.shared.clock.sleep(RETIRE_LOOK).await;
            if !*wanted.borrow() && connection.hang_up_if_idle() {
                tracing::info!(model = %self.model.sha256, "an engine ends: no model needs it");
                return;
            }
        }
    }

    /// No task keeps a child any more; who asks from now on starts another one.
    fn rest(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = false;
        self.state.send_replace(State::Idle);
    }

    async fn wait_to_restart(&self, failures: u32, error: Error) {
        let wait = restart_wait(failures);
        if wait.is_zero() {
            return;
        }
        let until = self.shared.clock.monotonic().saturating_add(wait);
        self.state.send_replace(State::Down { until, error });
        tokio::select! {
            () = self.shared.clock.sleep(wait) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }
}

/// How long to wait before a child is started again that has failed so often before.
fn restart_wait(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => {
            let factor = 2u32.saturating_pow(doublings);
            RESTART_FIRST.saturating_mul(factor).min(RESTART_LONGEST)
        }
    }
}

impl Error {
    fn unavailable(reason: impl Into<Arc<str>>) -> Self {
        Self::Unavailable { retry_after: RESTART_FIRST, reason: reason.into() }
    }

    fn with_wait(&self, wait: Duration) -> Self {
        match self {
            Self::Unavailable { reason, .. } => {
                Self::Unavailable { retry_after: wait, reason: Arc::clone(reason) }
            }
            Self::Protocol { .. }
            | Self::Lost
            | Self::Refused(_)
            | Self::Loading
            | Self::Busy
            | Self::Stopping => self.clone(),
        }
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Lost | Self::Loading | Self::Busy | Self::Stopping => {
                true
            }
            Self::Protocol { .. } => false,
            Self::Refused(failure) => failure.retryable,
        }
    }
}

/// A failure that the child reports when it stops in good order counts as a lost child, not as the
/// request's fault.
fn is_stopping(failure: &EngineFailure) -> bool {
    failure.code == FailureCode::ShuttingDown
}
