//! One running tool server: the child, the MCP connection over its pipes, and when it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    ClientCapabilities, ClientConfig, Implementation, ListToolsResult, PaginatedRequestParams,
};
use rmcp::service::{ClientInitializeError, Peer, RunningService};
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;
use types::clock::{Clock, SharedClock, within};
use types::launch::{Child, ChildSpec};
use types::{ErrorCode, Failure};

use super::wire::{Outgoing, Tally, Wire};
use super::{
    IDLE_MAX, LIST_BYTES_MAX, LIST_PAGES_MAX, Owner, START_MAX, Shared, TOOLS_MAX, Tool, ToolServer,
};

/// A server that wrote a line which is no message has so long to answer all the same.
const STRAY_GRACE: Duration = Duration::from_secs(3);
/// How a child ends, after its pipes, is known within this time.
const END_NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// How a child ends whose program could not be run: a shell's word for it, and our guard's.
const NOT_STARTED: &str = "exit status: 127";
/// Added to the users of a process that is ended for want of them: nobody gets it any more.
const RETIRED: usize = usize::MAX / 2;

/// Whoever holds a connection to a running server.
pub(super) struct Process {
    name: String,
    service: RunningService<RoleClient, ClientConfig>,
    /// Cancelled when the process is to end, or has ended.
    pub(super) ended: CancellationToken,
    tools: Mutex<Option<Vec<Tool>>>,
    /// Messages that were written to the server's standard input.
    pub(super) written: watch::Receiver<u64>,
    /// The bytes that were.
    pub(super) tally: Arc<Tally>,
    users: AtomicUsize,
    last_used_ms: AtomicU64,
    /// Whether nobody new will ask for it, and that this or its use has changed.
    is_replaced: AtomicBool,
    changed: Notify,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Process {
    /// Starts the server and shakes hands. Counts as one use.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        server: &Arc<ToolServer>,
        owner: &Owner,
    ) -> Result<Arc<Self>, Failure> {
        let mut child = launch(shared, server, owner).await?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(&server.name, "has no pipes"));
        };
        let (stdin, written, tally) = Outgoing::new(stdin);
        let (wire, stray) = Wire::new(stdout, stdin);
        let client = ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("holdfast", env!("CARGO_PKG_VERSION")),
        );
        let service = handshake(shared, server, &mut child, client, (wire, stray)).await?;
        let process = Arc::new(Self {
            name: server.name.clone(),
            service,
            ended: shared.shutdown.child_token(),
            tools: Mutex::default(),
            written,
            tally,
            users: AtomicUsize::new(1),
            last_used_ms: AtomicU64::new(millis(&*shared.clock)),
            is_replaced: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let clock = Arc::clone(&shared.clock);
        shared.tracker.spawn(watch_over(Arc::clone(&process), child, clock));
        Ok(process)
    }

    /// Counts one more use, unless the process has ended.
    pub(super) fn begin_use(self: &Arc<Self>, clock: &SharedClock) -> Option<InUse> {
        // Counted before asking, so that the watcher can't end it for idleness in between.
        let users = self.users.fetch_add(1, Ordering::SeqCst);
        let in_use = InUse { process: Arc::clone(self), clock: Arc::clone(clock) };
        let is_over = users >= RETIRED || self.ended.is_cancelled() || self.service.is_closed();
        (!is_over).then_some(in_use)
    }

    /// The connection.
    pub(super) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// The server's tools, asked for once.
    pub(super) async fn tools(&self, clock: &dyn Clock) -> Result<Vec<Tool>, Failure> {
        let mut known = self.tools.lock().await;
        if let Some(tools) = &*known {
            return Ok(tools.clone());
        }
        let Some(listed) = within(clock, START_MAX, self.listed()).await else {
            return Err(failed(&self.name, "did not list its tools in time"));
        };
        let tools = listed?;
        *known = Some(tools.clone());
        Ok(tools)
    }

    async fn listed(&self) -> Result<Vec<Tool>, Failure> {
        let (mut tools, mut bytes, mut cursor) = (Vec::new(), 0, None);
        for _ in 0..LIST_PAGES_MAX {
            let page = self.page(cursor).await?;
            for tool in page.tools.into_iter().map(tool) {
                bytes += serde_json::to_vec(&tool).map_or(0, |written| written.len());
                tools.push(tool);
            }
            if tools.len() > TOOLS_MAX {
                return Err(self.lists_too_much(&format!("{TOOLS_MAX} tools")));
            }
            if bytes > LIST_BYTES_MAX {
                return Err(self.lists_too_much(&format!("{LIST_BYTES_MAX} bytes")));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(tools);
            }
        }
        Err(self.lists_too_much(&format!("{LIST_PAGES_MAX} pages")))
    }

    async fn page(&self, cursor: Option<String>) -> Result<ListToolsResult, Failure> {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        self.peer().list_tools(Some(params)).await.map_err(|error| {
            tracing::warn!(server = self.name, %error, "a tool server listed no tools");
            failed(&self.name, "did not list its tools")
        })
    }

    fn lists_too_much(&self, limit: &str) -> Failure {
        failed(&self.name, &format!("lists more than the limit of {limit}"))
    }

    /// Whether it is to end as soon as it is not in use.
    pub(super) fn end_once_unused(&self, is_replaced: bool) {
        self.is_replaced.store(is_replaced, Ordering::SeqCst);
        if is_replaced {
            self.changed.notify_one();
        }
    }

    /// Takes it from whoever would use it next, if nobody has for so long, or nobody will.
    pub(super) fn retire(&self, clock: &dyn Clock) -> bool {
        let unused = millis(clock).saturating_sub(self.last_used_ms.load(Ordering::SeqCst));
        let is_idle = u128::from(unused) >= IDLE_MAX.as_millis();
        let order = Ordering::SeqCst;
        let is_over = is_idle || self.is_replaced.load(order);
        is_over && self.users.compare_exchange(0, RETIRED, order, order).is_ok()
    }
}

/// A use of a process, ended when dropped.
pub(super) struct InUse {
    pub(super) process: Arc<Process>,
    clock: SharedClock,
}

impl InUse {
    /// The use that a process is started with.
    pub(super) const fn first(process: Arc<Process>, clock: SharedClock) -> Self {
        Self { process, clock }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.process.last_used_ms.store(millis(&*self.clock), Ordering::SeqCst);
        self.process.users.fetch_sub(1, Ordering::SeqCst);
        if self.process.is_replaced.load(Ordering::SeqCst) {
            self.process.changed.notify_one();
        }
    }
}

/// The connection of a server that has just been started.
async fn handshake(
    shared: &Shared,
    server: &ToolServer,
    child: &mut Child,
    client: ClientConfig,
    (wire, mut stray): (Wire, watch::Receiver<Option<String>>),
) -> Result<Connection, Failure> {
    let clock = &*shared.clock;
    let mut noticed = stray.clone();
    let babbles = async {
        if noticed.wait_for(Option::is_some).await.map(drop).is_err() {
            // It has closed the pipe, which ends the handshake.
            std::future::pending::<()>().await;
        }
        clock.sleep(STRAY_GRACE).await;
    };
    let shaken = tokio::select! {
        shaken = within(clock, START_MAX, shake_hands(client, wire)) => shaken,
        () = babbles => None,
    };
    let ended = match shaken {
        Some(Ok(connection)) => return Ok(connection),
        Some(Err(error)) => {
            tracing::warn!(server = server.name, %error, "a tool server did not initialize");
            within(clock, END_NOTICED_WITHIN, &mut child.exited).await
        }
        None => None,
    };
    let stray = stray.borrow_and_update().clone();
    Err(not_initialized(server, stray, ended.as_deref()))
}

/// Why a server did not shake hands: what it wrote, or how it ended.
fn not_initialized(server: &ToolServer, stray: Option<String>, ended: Option<&str>) -> Failure {
    let program = server.command.first().map_or("", String::as_str);
    let what = match (stray, ended) {
        (Some(line), _) => format!(
            "wrote a line to its standard output that is not JSON, and did not answer \
             `initialize`: {line:?}. Only MCP's messages may go there"
        ),
        (None, Some(NOT_STARTED)) => format!(
            "could not be started: there is no program {program:?}, or it can't be run; the log \
             of the server says why"
        ),
        (None, Some(how)) => format!(
            "ended before it answered `initialize` ({how}): what it wrote to its standard error \
             is in the log of the server"
        ),
        (None, None) => "did not answer `initialize` as MCP says, or not in time".to_owned(),
    };
    failed(&server.name, &what)
}

type Connection = RunningService<RoleClient, ClientConfig>;

/// A boxed future, because the compiler does not see that the library's own can be sent between
/// threads when it is a part of another.
fn shake_hands(
    client: ClientConfig,
    wire: Wire,
) -> Pin<Box<dyn Future<Output = Result<Connection, ClientInitializeError>> + Send>> {
    Box::pin(rmcp::serve_client(client, wire))
}

/// What a tool server that can't be used is called in errors.
pub(super) fn failed(server: &str, what: &str) -> Failure {
    Failure::new(ErrorCode::ToolFailed, format!("the tool server {server:?} {what}"))
}

async fn launch(shared: &Shared, server: &ToolServer, owner: &Owner) -> Result<Child, Failure> {
    let Some((program, args)) = server.command.split_first() else {
        return Err(failed(&server.name, "has no command"));
    };
    let folder = shared.data.join("tools").join(escaped(&owner.server)).join(owner_folder(owner));
    if let Err(error) = tokio::fs::create_dir_all(&folder).await {
        tracing::error!(server = server.name, %error, "a tool server's folder could not be made");
        return Err(failed(&server.name, "could not be given a folder to work in"));
    }
    let inherited = |name: &str| std::env::var(name).ok().map(|value| (name.to_owned(), value));
    let mut env: Vec<(String, String)> =
        ["PATH", "HOME"].into_iter().filter_map(inherited).collect();
    env.retain(|(name, _)| !server.env.contains_key(name));
    env.extend(server.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let spec = ChildSpec {
        name: format!("tool server {}", server.name),
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        env,
        // Of its own: what replaces a program runs beside it until that is not in use.
        lock: Some(folder.join(format!(".lock-{}", owner.program))),
        cwd: Some(folder),
        piped: true,
    };
    shared.launch.launch(spec).map_err(|error| {
        tracing::warn!(server = server.name, error = %error.source, "a tool server did not start");
        failed(&server.name, &format!("could not be started: {program:?}: {}", error.source))
    })
}

/// Keeps the child until it ends, is idle for too long, or is to end.
async fn watch_over(process: Arc<Process>, mut child: Child, clock: Arc<dyn Clock>) {
    loop {
        let look = async {
            tokio::select! {
                () = clock.sleep(IDLE_MAX / 10) => {}
                () = process.changed.notified() => {}
            }
        };
        tokio::select! {
            how = &mut child.exited => {
                tracing::warn!(server = process.name, how, "a tool server ended");
                break;
            }
            () = process.ended.cancelled() => break,
            () = look => {
                if process.retire(&*clock) {
                    tracing::debug!(server = process.name, "ending a tool server that nobody uses");
                    break;
                }
            }
        }
    }
    process.ended.cancel();
    // Calls that still wait learn that the connection is gone; the child and its descendants die
    // with `child`.
    process.service.cancellation_token().cancel();
    drop(child);
}

fn tool(tool: rmcp::model::Tool) -> Tool {
    Tool {
        name: tool.name.into_owned(),
        description: tool.description.map(std::borrow::Cow::into_owned),
        input_schema: serde_json::Value::Object((*tool.input_schema).clone()),
        annotations: tool.annotations.and_then(|shown| serde_json::to_value(shown).ok()),
    }
}

fn owner_folder(owner: &Owner) -> String {
    if owner.account == types::principal::DEFAULT_ACCOUNT {
        return escaped(&owner.user);
    }
    // No escaped name has a dot, so no user of the first account can get another's folder.
    format!("{}.{}", escaped(&owner.account), escaped(&owner.user))
}

/// A name as a folder of its own: whatever could be a path is written as its code.
fn escaped(name: &str) -> String {
    let mut folder = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => folder.push(char::from(byte)),
            _ => folder.push_str(&format!("%{byte:02x}")),
        }
    }
    folder
}

fn millis(clock: &dyn Clock) -> u64 {
    duration_millis(clock.monotonic())
}

fn duration_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Owner, escaped, owner_folder};

    #[test]
    fn no_name_leaves_its_folder() {
        assert_eq!(escaped("../a b"), "%2e%2e%2fa%20b");
        assert_eq!(escaped("key_01ab"), "key_01ab");
    }

    #[test]
    fn accounts_are_apart() {
        let owner = |account: &str, user: &str| Owner {
            server: "notes".to_owned(),
            program: "00".to_owned(),
            account: account.to_owned(),
            user: user.to_owned(),
        };
        let first = owner_folder(&owner(types::principal::DEFAULT_ACCOUNT, "a.b"));
        assert_ne!(first, owner_folder(&owner("a", "b")));
    }
}
