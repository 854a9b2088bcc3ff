//! The composition root: the only place that knows every crate by name.
//!
//! [`start`] reads top to bottom as what the platform consists of; [`Platform::stop`] takes it
//! apart in the opposite order. Nothing is decided here that a crate could decide itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pipeline::{Directory, DirectoryParts, Pipeline};
use server::{App, Limits, Listener, ListenerHandle, StoreHealth};
use sessions::{Forget, Sessions, ToolServer, ToolServers, ToolServersParts};
use storage::Store;
use storage::sqlite::SqliteStore;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::Ids;
use types::clock::{Clock, SharedClock, SystemClock, within};
use types::ids::NodeId;

use crate::config::Config;
use crate::launcher::Launcher;

mod admin_key;
mod changes;
mod control;
mod host;
mod limits;
mod local;
mod objects;
pub(crate) mod origins;
mod routes;
pub(crate) mod telemetry;
mod upstreams;
mod watch;

use control::Control;
pub(crate) use control::Source;
use local::Local;
use upstreams::{Maker, Providers};

/// After the time that the listener gives to running requests, a change that runs to its end
/// whether or not its client stays has the rest of this.
const CONNECTIONS_END: Duration = Duration::from_secs(15);
/// How long a stop may still take that was asked for twice.
const LAST_GRACE: Duration = Duration::from_secs(1);
/// The store's file in the data folder.
pub(crate) const DATABASE: &str = "holdfast.db";

/// What the platform is started with.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The configuration, without problems.
    pub(crate) settings: Config,
    /// The data folder: absolute, ours alone, locked.
    pub(crate) data: PathBuf,
    /// Where the configuration came from.
    pub(crate) source: Source,
}

/// The running platform.
#[derive(Debug)]
pub(crate) struct Platform {
    url: String,
    admin_key: admin_key::Origin,
    store: SqliteStore,
    pipeline: Arc<Pipeline>,
    telemetry: Arc<telemetry::Running>,
    directory: Arc<Directory>,
    local: Local,
    listener: ListenerHandle,
    /// Stops looking at the file, turns, then tools.
    watching: CancellationToken,
    turns: CancellationToken,
    tools: CancellationToken,
    /// The connections' tasks, then everybody else's.
    connections: TaskTracker,
    tracker: TaskTracker,
    clock: SharedClock,
}

/// What everything is made with.
struct Common {
    clock: SharedClock,
    ids: Arc<Ids>,
    node: NodeId,
    tracker: TaskTracker,
    launch: Arc<Launcher>,
    limits: providers::Limits,
}

/// Starts the platform: when it is ready, requests are served.
pub(crate) async fn start(setup: Setup) -> anyhow::Result<Platform> {
    let Setup { settings, data, source } = setup;
    let common = Common::new()?;
    let store = open_store(data.join(DATABASE)).await?;
    let shared: Arc<dyn Store> = Arc::new(store.clone());

    let local = Local::new(&settings.engine, &data, &common)?;
    let (turns, tools) = (CancellationToken::new(), CancellationToken::new());
    let tool_servers = Arc::new(no_tool_servers(&data, &common, tools.clone()));
    let telemetry =
        Arc::new(telemetry::Running::new(Arc::clone(&common.clock), common.tracker.clone()));
    let own = (&local, &tool_servers, &telemetry);
    let (directory, control) = configure((source, &settings), own, &shared, &common).await?;
    let admin_key = admin_key::ensure(&data, &directory, &common.ids).await?;
    control.take_first().await?;

    let pipeline = pipeline(&shared, &common, &directory, telemetry.told());
    pipeline.start().await.context("starting the pipeline")?;
    let forget = Arc::new(local.clone());
    let taken = (tool_servers, forget as Arc<dyn Forget>);
    let sessions = sessions(&shared, &pipeline, taken, &common, turns.clone()).await?;

    let connections = TaskTracker::new();
    let app = Arc::new(App {
        pipeline: Arc::clone(&pipeline),
        directory: Arc::clone(&directory),
        sessions: Arc::new(sessions),
        store: Arc::clone(&shared),
        store_health: StoreHealth::default(),
        host: Arc::new(host::Host::new(
            Arc::clone(&control),
            Arc::clone(&directory),
            shared,
            local.clone(),
            common.limits.clone(),
        )),
        control: Arc::new(control::Shared(Arc::clone(&control))),
        clock: Arc::clone(&common.clock),
        ids: Arc::clone(&common.ids),
        limits: Limits {
            body_bytes_max: settings.server.max_body_bytes,
            connections_max: settings.server.max_connections,
        },
        tracker: connections.clone(),
    });
    let watching = CancellationToken::new();
    watch::start(control, &common, watching.clone()).context("listening for SIGHUP")?;
    let listener = ListenerHandle::default();
    let url = serve(&settings, app, &connections, listener.clone()).await?;
    let tracker = common.tracker;
    Ok(Platform {
        url,
        admin_key,
        store,
        pipeline,
        telemetry,
        directory,
        local,
        listener,
        watching,
        turns,
        tools,
        connections,
        tracker,
        clock: common.clock,
    })
}

impl Common {
    fn new() -> anyhow::Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock::new());
        let ids = Arc::new(Ids::new(Arc::clone(&clock)));
        let node = NodeId::new(&ids);
        let tracker = TaskTracker::new();
        let launch = Launcher::new(tracker.clone()).context("finding our own binary")?;
        Ok(Self {
            clock,
            ids,
            node,
            tracker,
            launch: Arc::new(launch),
            limits: providers::Limits::default(),
        })
    }
}

/// The pipeline, not started.
fn pipeline(
    store: &Arc<dyn Store>,
    common: &Common,
    directory: &Arc<Directory>,
    telemetry: pipeline::Telemetry,
) -> Arc<Pipeline> {
    Arc::new(Pipeline::new(pipeline::Parts {
        store: Arc::clone(store),
        clock: Arc::clone(&common.clock),
        ids: Arc::clone(&common.ids),
        directory: Arc::clone(directory),
        node: common.node.clone(),
        tracker: common.tracker.clone(),
        telemetry,
    }))
}

/// What is found by name, empty yet of what the file says, and who changes it.
async fn configure(
    (source, settings): (Source, &Config),
    (local, tools, telemetry): (&Local, &Arc<ToolServers>, &Arc<telemetry::Running>),
    store: &Arc<dyn Store>,
    common: &Common,
) -> anyhow::Result<(Arc<Directory>, Arc<Control>)> {
    let maker = Maker::new(Arc::clone(&common.clock), common.limits.clone(), local, tools);
    let providers = maker.providers(settings, &Providers::default())?;
    let directory = Directory::load(DirectoryParts {
        store: Arc::clone(store),
        clock: Arc::clone(&common.clock),
        ids: Arc::clone(&common.ids),
        upstreams: maker.upstreams(&providers, Vec::new()),
        tracker: common.tracker.clone(),
    });
    let directory = Arc::new(directory.await.context("reading keys, models and budgets")?);
    let parts = control::Parts {
        source,
        directory: Arc::clone(&directory),
        store: Arc::clone(store),
        local: local.clone(),
        clock: Arc::clone(&common.clock),
        tracker: common.tracker.clone(),
        maker,
        telemetry: Arc::clone(telemetry),
        tools: Arc::clone(tools),
        providers,
    };
    Ok((directory, Arc::new(Control::new(parts, settings.clone()))))
}

/// The sessions, after they took over what the last run left open.
async fn sessions(
    store: &Arc<dyn Store>,
    pipeline: &Arc<Pipeline>,
    (tools, forget): (Arc<ToolServers>, Arc<dyn Forget>),
    common: &Common,
    shutdown: CancellationToken,
) -> anyhow::Result<Sessions> {
    let sessions = Sessions::new(sessions::Parts {
        store: Arc::clone(store),
        pipeline: Arc::clone(pipeline),
        tools,
        clock: Arc::clone(&common.clock),
        ids: Arc::clone(&common.ids),
        node: common.node.clone(),
        forget,
        tracker: common.tracker.clone(),
        shutdown,
    });
    let recovered = sessions.recover().await.context("taking over open turns")?;
    if recovered.open + recovered.in_doubt > 0 {
        let (open, in_doubt) = (recovered.open, recovered.in_doubt);
        tracing::info!(open, in_doubt, "took over turns of the last run");
    }
    Ok(sessions)
}

/// Serves requests from here on; answers the address.
async fn serve(
    settings: &Config,
    app: Arc<App>,
    connections: &TaskTracker,
    handle: ListenerHandle,
) -> anyhow::Result<String> {
    let bound = Listener::bind(settings.server.listen).await;
    let bound = bound.with_context(|| format!("listening on {}", settings.server.listen))?;
    let url = format!("http://{}", bound.address()?);
    connections.spawn(bound.serve(app, handle));
    Ok(url)
}

async fn open_store(path: PathBuf) -> anyhow::Result<SqliteStore> {
    let shown = path.display().to_string();
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await?;
    opened.with_context(|| format!("opening {shown}"))
}

/// Whether a model's name is one of the provider's.
fn is_of(model: &str, provider: &str) -> bool {
    model.strip_prefix(provider).is_some_and(|rest| rest.starts_with('/'))
}

/// The tool servers of a configuration.
fn tool_servers(settings: &Config) -> Vec<ToolServer> {
    let servers = settings.mcp_servers.iter().map(|entry| ToolServer {
        name: entry.name.clone(),
        command: entry.command.clone(),
        keys: entry.keys.clone(),
        tools: entry.tools.iter().map(|(name, tool)| (name.clone(), tool.effect)).collect(),
        env: entry.env.clone(),
        timeout: Some(entry.timeout),
    });
    servers.collect()
}

/// Who runs tool servers, of which there are none until a configuration is taken.
fn no_tool_servers(data: &Path, common: &Common, shutdown: CancellationToken) -> ToolServers {
    ToolServers::new(ToolServersParts {
        servers: Vec::new(),
        launch: Arc::clone(&common.launch) as _,
        data: data.to_path_buf(),
        clock: Arc::clone(&common.clock),
        tracker: common.tracker.clone(),
        shutdown,
    })
}

impl Platform {
    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where the admin key is to be found.
    pub(crate) fn admin_key_at(&self) -> String {
        self.admin_key.to_string()
    }

    /// The models that can be asked for.
    pub(crate) fn model_names(&self) -> Vec<String> {
        self.directory.all_models().iter().map(|model| model.name.clone()).collect()
    }

    /// A clean stop: no new requests, turns stop where they stand, tools end, rows are written,
    /// slices go back. Told to stop again, it closes every connection and leaves what does not end
    /// soon, as a crash would: the next start finds it.
    pub(crate) async fn stop(self) {
        let (listener, clock) = (self.listener.clone(), Arc::clone(&self.clock));
        // Before anything stops: who sees that it does may say it again.
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        tokio::select! {
            () = self.stop_in_order() => {}
            () = told_again(signals, &listener, clock.as_ref()) => {
                tracing::warn!("ending at once: what is open is presumed spent or in doubt");
            }
        }
    }

    async fn stop_in_order(self) {
        self.listener.stop();
        self.watching.cancel();
        self.turns.cancel();
        self.connections.close();
        let ended = within(self.clock.as_ref(), CONNECTIONS_END, self.connections.wait()).await;
        if ended.is_none() {
            tracing::warn!("stopping while a request still makes a change");
        }
        if let Err(failure) = self.pipeline.shutdown().await {
            tracing::error!(%failure, "the ledger could not be written; what is missing is presumed spent");
        }
        self.telemetry.stop();
        self.tools.cancel();
        self.local.stop().await;
        self.tracker.close();
        self.tracker.wait().await;
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "closing the store");
        }
    }
}

/// Waits for another signal, closes every connection, and gives the rest a moment.
async fn told_again(
    signals: (io::Result<Signal>, io::Result<Signal>),
    listener: &ListenerHandle,
    clock: &dyn Clock,
) {
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        // Without them it is stopped by what it waits for.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::warn!("told to stop again: closing every connection");
    listener.cut();
    clock.sleep(LAST_GRACE).await;
}
