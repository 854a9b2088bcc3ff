//! Tool servers: MCP over the standard input and output of child processes, as an
//! [`types::Execute`].
//!
//! [`ToolServers`] knows which servers are configured and who may use them, keeps one process per
//! (server, account, user), started at first use and ended after [`IDLE_MAX`], and turns a
//! [`types::call::ToolInvocation`] into `tools/call`. What it answers says what is known: a
//! `ToolResult` is the server's own answer; a failure that is `billed: No` never reached the
//! server; one that is `billed: Unknown` may have had its effect. Servers may change while it runs
//! ([`ToolServers::replace`]): a process whose program nobody can ask for any more ends once it has
//! answered.
//!
//! It must not know sessions, the journal or responses: whoever asks decides what a lost answer
//! means.

mod configured;
mod process;
mod run;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::clock::{SharedClock, within};
use types::ids::SessionId;
use types::launch::Launch;
use types::outcome::{OutcomeEvent, OutcomeStream};
use types::{Attempt, CallKind, ErrorCode, Execute, Failure, Principal};

pub use configured::RETIRED_MAX;
use configured::{Configured, Turn};
use process::{InUse, Process};
pub(crate) use run::refusal_code;

/// A process that was not used for so long is ended.
pub const IDLE_MAX: Duration = Duration::from_secs(5 * 60);
/// Time for a server to answer `initialize` or `tools/list`.
pub const START_MAX: Duration = Duration::from_secs(30);
/// Time for a server to react to a cancelled call before its step is closed, and to a ping after a
/// lost call.
pub const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// Time for one call unless the configuration says otherwise.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Bytes of what a tool answers, or its server refuses a call with, that go into the conversation.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;
/// Tools of one server at most.
pub const TOOLS_MAX: usize = 512;
/// Bytes of a server's tools, names, descriptions and schemas together: they go into each prompt.
pub const LIST_BYTES_MAX: usize = 1024 * 1024;
/// Pages in which a server may list its tools.
pub const LIST_PAGES_MAX: usize = 64;

/// Bytes of the hash by which a program is known.
const PROGRAM_BYTES: usize = 8;

/// The name under which tool servers are registered in the pipeline.
pub const PROVIDER: &str = "mcp";

/// A configured tool server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolServer {
    /// The label that requests name it by.
    pub name: String,
    /// Program and arguments. The working folder is the process's own, so paths must be absolute.
    pub command: Vec<String>,
    /// Names of the keys that may use it; `None` = admin keys only, who may always.
    pub keys: Option<Vec<String>>,
    /// What its tools do; a tool that is not here writes.
    pub tools: BTreeMap<String, Effect>,
    /// Variables of its environment beside `PATH` and `HOME`.
    pub env: BTreeMap<String, String>,
    /// Time for one call; `None` = [`CALL_TIMEOUT_DEFAULT`].
    pub timeout: Option<Duration>,
}

impl ToolServer {
    /// By which what is run for it is known. What else is configured may change without it.
    fn program(&self) -> String {
        let mut hash = Sha256::new();
        let env = self.env.iter().flat_map(|(name, value)| [name, value]);
        for text in self.command.iter().chain(env) {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update((self.command.len() as u64).to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let bytes = digest.iter().take(PROGRAM_BYTES);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a tool does, as the operator declared it: the server's own annotations are never
    /// trusted.
    pub fn effect(&self, tool: &str) -> Effect {
        self.tools.get(tool).copied().unwrap_or_default()
    }

    /// Whether `principal` may use it.
    pub fn allows(&self, principal: &Principal) -> bool {
        let named = |keys: &Vec<String>| keys.iter().any(|key| **key == *principal.key_name);
        principal.is_admin() || self.keys.as_ref().is_some_and(named)
    }
}

/// What doing a tool call twice would mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A second effect: never done again without a decision.
    #[default]
    Write,
    /// Nothing.
    Read,
    /// The same as once.
    Idempotent,
}

/// A tool as its server describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
    /// What the server says about it; shown, never trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Value>,
}

/// What tool servers need of the process that they live in.
#[derive(Debug)]
pub struct ToolServersParts {
    /// The configured servers.
    pub servers: Vec<ToolServer>,
    /// How children are started.
    pub launch: Arc<dyn Launch>,
    /// The data folder: processes work in `tools/<server>/<user>/` below it.
    pub data: PathBuf,
    /// Time.
    pub clock: SharedClock,
    /// Where background tasks are spawned.
    pub tracker: TaskTracker,
    /// Ends every process when it is cancelled.
    pub shutdown: CancellationToken,
}

/// Which process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    server: String,
    program: String,
    account: String,
    user: String,
}

/// One process, or none yet. The lock makes two first uses start one process.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Process>>>>;

/// The configured tool servers and their processes.
#[derive(Debug)]
pub struct ToolServers {
    shared: Arc<Shared>,
}

/// A turn that keeps to the servers of its beginning, until this is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    session: SessionId,
    turn: Arc<Turn>,
    shared: Arc<Shared>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shared.configured.release(&self.session, &self.turn);
        self.shared.sweep();
    }
}

/// What running calls need when the caller is gone.
#[derive(Debug)]
struct Shared {
    configured: Configured,
    launch: Arc<dyn Launch>,
    data: PathBuf,
    clock: SharedClock,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    slots: Mutex<HashMap<Owner, Slot>>,
    /// Calls in flight by their idempotency key, to be told that they are cancelled.
    running: Mutex<HashMap<String, CancellationToken>>,
}

impl ToolServers {
    /// Starts nothing yet.
    pub fn new(parts: ToolServersParts) -> Self {
        let shared = Shared {
            configured: Configured::new(parts.servers),
            launch: parts.launch,
            data: parts.data,
            clock: parts.clock,
            tracker: parts.tracker,
            shutdown: parts.shutdown,
            slots: Mutex::default(),
            running: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// These servers are there from now on. Calls that run end on what they began with, turns that
    /// are open keep to the servers of their beginning for [`RETIRED_MAX`], and processes that
    /// nobody can ask for any more end.
    pub fn replace(&self, servers: Vec<ToolServer>) {
        let shared = &self.shared;
        let replaced = shared.configured.replace(servers);
        shared.sweep();
        if shared.configured.is_kept(&replaced) {
            let shared = Arc::clone(shared);
            self.shared.tracker.spawn(async move {
                let shutdown = shared.shutdown.cancelled();
                if within(&*shared.clock, RETIRED_MAX, shutdown).await.is_none() {
                    shared.configured.forget(&replaced);
                    shared.sweep();
                }
            });
        }
    }

    /// The configured server of that name.
    pub fn server(&self, name: &str) -> Option<Arc<ToolServer>> {
        self.shared.configured.server(name, None)
    }

    /// The server of that name, as the open turn of a session has it.
    pub(crate) fn server_of(&self, name: &str, session: &SessionId) -> Option<Arc<ToolServer>> {
        self.shared.configured.server(name, Some(session))
    }

    /// A session's turn keeps to the servers of now.
    pub(crate) fn keep(&self, session: &SessionId) -> Kept {
        let turn = self.shared.configured.keep(session);
        Kept { session: session.clone(), turn, shared: Arc::clone(&self.shared) }
    }

    /// The server of that name, if `principal` may use it.
    ///
    /// # Errors
    /// `permission_denied`; its message tells a server that is not there from one that the key may
    /// not use, since whoever configures either is the same person.
    pub fn allowed(&self, name: &str, principal: &Principal) -> Result<Arc<ToolServer>, Failure> {
        self.shared.configured.allowed(name, None, principal)
    }

    /// The tools of a server, as it lists them to `principal`'s own process, which is started if it
    /// isn't running.
    ///
    /// # Errors
    /// `permission_denied`; `tool_failed` if the server can't be started, does not answer in
    /// [`START_MAX`], or lists more than [`TOOLS_MAX`], [`LIST_BYTES_MAX`] or [`LIST_PAGES_MAX`].
    pub async fn list(&self, server: &str, principal: &Principal) -> Result<Vec<Tool>, Failure> {
        let server = self.allowed(server, principal)?;
        let in_use = self.shared.process(&server, &principal.account, &principal.user).await?;
        in_use.process.tools(&*self.shared.clock).await
    }

    /// Tells the server of the running call with this idempotency key that it is cancelled. The
    /// call ends by itself, with what the server answers or after [`CANCEL_GRACE`]. False if none
    /// is running.
    pub fn cancel(&self, idempotency_key: &str) -> bool {
        let running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(idempotency_key).inspect(|token| token.cancel()).is_some()
    }
}

impl Shared {
    /// The running process of this owner, started if there is none.
    async fn process(
        self: &Arc<Self>,
        server: &Arc<ToolServer>,
        account: &str,
        user: &str,
    ) -> Result<InUse, Failure> {
        let owner = Owner {
            server: server.name.clone(),
            program: server.program(),
            account: account.to_owned(),
            user: user.to_owned(),
        };
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(owner.clone()).or_default())
        };
        let mut running = slot.lock().await;
        if let Some(in_use) = running.as_ref().and_then(|process| process.begin_use(&self.clock)) {
            return Ok(in_use);
        }
        let process = Process::start(self, server, &owner).await?;
        *running = Some(Arc::clone(&process));
        // It may have been replaced meanwhile.
        let is_wanted = self.configured.programs().contains(&owner.asked_for());
        process.end_once_unused(!is_wanted);
        Ok(InUse::first(process, Arc::clone(&self.clock)))
    }

    /// Ends processes that nobody can ask for any more, once they are not in use.
    fn sweep(&self) {
        let programs = self.configured.programs();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|owner, slot| {
            let is_wanted = programs.contains(&owner.asked_for());
            // One that is just started is looked at again when it has been.
            let Ok(running) = slot.try_lock() else { return true };
            let Some(process) = &*running else { return is_wanted };
            process.end_once_unused(!is_wanted);
            is_wanted || !process.ended.is_cancelled()
        });
    }
}

impl Owner {
    /// What somebody must ask for to get this process.
    fn asked_for(&self) -> (String, String) {
        (self.server.clone(), self.program.clone())
    }
}

impl Execute for ToolServers {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        let prepared = match &attempt.call.kind {
            CallKind::Tool(invocation) => {
                let session = attempt.call.session.as_ref();
                let (name, principal) = (&invocation.server, &attempt.call.principal);
                let server = self.shared.configured.allowed(name, session, principal);
                server.map(|server| (server, invocation.clone()))
            }
            CallKind::Model(_) => {
                Err(Failure::new(ErrorCode::Internal, "a tool server was asked for a model"))
            }
        };
        let (server, invocation) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                let event = OutcomeEvent::Failed(Box::new(failure));
                return Box::pin(futures_util::stream::iter([event]));
            }
        };
        run::stream(Arc::clone(&self.shared), server, attempt.call, invocation)
    }
}

#[cfg(test)]
mod tests;
