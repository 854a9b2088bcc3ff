//! What changes while the server runs: the file read again, routes made by the API.
//!
//! One change at a time: it is checked as a whole against what is in force, made durable in one
//! commit, and swapped in as one snapshot. Invariants: if anything is wrong nothing changes, and
//! all that is wrong is told; Calls that run end with what they began with. How an object gets from
//! the file into the store is in [`super::objects`] and [`super::routes`].

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use pipeline::{Change, Directory, RouteInfo};
use server::{ConfigProblem, HostFuture, ObjectChange, Refusal, ReloadView, RoutePut};
use sessions::ToolServers;
use storage::{Model, Route, RouteVersion, Store};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use types::clock::SharedClock;
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Failure};

use super::local::{self, Local};
use super::objects::{self, Fingerprints};
use super::upstreams::{self, Maker, Providers};
use super::{changes, telemetry, tool_servers};
use super::{is_of, routes};
use crate::config::file::McpServerEntry;
use crate::config::{self, Config, Problem, RateLimitEntry, Stamp, warnings};

mod api_routes;

/// Who asks, where it is no key: a start, and the file itself.
pub(super) const THE_FILE: &str = "file";

/// Where the configuration of a start came from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The configuration file.
    pub(crate) file: Option<PathBuf>,
    /// By which the file was known before it was read.
    pub(crate) stamp: Option<Stamp>,
    /// Settings that a flag fixed, whatever the file says.
    pub(crate) by_flag: Vec<&'static str>,
}

/// What a control is made of.
#[derive(Debug)]
pub(super) struct Parts {
    /// Where the configuration came from.
    pub(super) source: Source,
    pub(super) directory: Arc<Directory>,
    pub(super) store: Arc<dyn Store>,
    pub(super) local: Local,
    pub(super) clock: SharedClock,
    /// Owns changes that are under way.
    pub(super) tracker: TaskTracker,
    pub(super) maker: Maker,
    pub(super) telemetry: Arc<telemetry::Running>,
    pub(super) tools: Arc<ToolServers>,
    /// Who does Calls before the first taking.
    pub(super) providers: Providers,
}

/// Changes the configuration.
#[derive(Debug)]
pub(super) struct Control {
    parts: Parts,
    /// Held by whoever changes something, from reading what is there to the end.
    changing: Mutex<()>,
    state: RwLock<State>,
}

/// What is in force.
#[derive(Debug)]
struct State {
    running: Arc<Config>,
    /// As it was at the start: what holds from a start on is compared with it.
    started: Arc<Config>,
    providers: Providers,
    mcp_servers: Vec<McpServerEntry>,
    rate_limits: Vec<RateLimitEntry>,
    stamp: Option<Stamp>,
    last: Option<ReloadView>,
}

/// What a configuration changed.
struct Told {
    changes: Vec<ObjectChange>,
    warnings: Vec<Problem>,
}

/// The set of routes in force, and what was taken from the file.
struct Stored {
    number: u64,
    routes: Vec<Route>,
    taken: Fingerprints,
}

impl Control {
    /// Nothing of `settings` is taken yet.
    pub(super) fn new(parts: Parts, settings: Config) -> Self {
        let settings = Arc::new(settings);
        let state = State {
            started: Arc::clone(&settings),
            running: settings,
            providers: parts.providers.clone(),
            mcp_servers: Vec::new(),
            rate_limits: Vec::new(),
            stamp: parts.source.stamp,
            last: None,
        };
        Self { parts, changing: Mutex::default(), state: RwLock::new(state) }
    }

    /// Takes the configuration of a start.
    ///
    /// # Errors
    /// What of it can't be taken.
    pub(super) async fn take_first(&self) -> anyhow::Result<()> {
        let taken = self.take(&self.running(), THE_FILE, true).await;
        let told = taken.map_err(|refusal| {
            let problems = refusal.problems.iter();
            let list: Vec<_> = problems
                .map(|problem| format!("\n  {}: {}", problem.at, problem.message))
                .collect();
            anyhow::anyhow!("{}{}", refusal.failure.message, list.concat())
        })?;
        for warning in told.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// The configuration in force.
    pub(super) fn running(&self) -> Arc<Config> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).running)
    }

    /// The configuration of the start.
    fn started(&self) -> Arc<Config> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).started)
    }

    /// The file, if there is one.
    pub(super) const fn file(&self) -> Option<&PathBuf> {
        self.parts.source.file.as_ref()
    }

    /// By which the file was known when it was last read.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).stamp
    }

    /// What came of the last time that the file was read again.
    pub(super) fn last_reload(&self) -> Option<ReloadView> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    fn change_state(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reads the file again and takes it as a whole.
    pub(super) async fn reload_file(&self, author: String) -> Result<ReloadView, Refusal> {
        let _changing = self.changing.lock().await;
        let at = self.parts.clock.now().seconds();
        let mut view = ReloadView {
            at,
            author,
            taken: false,
            changes: Vec::new(),
            needs_restart: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        let answer = match self.read_and_take(&view.author).await {
            Ok((told, needs_restart)) => {
                view.taken = true;
                view.changes = told.changes;
                view.warnings = told.warnings.into_iter().map(routes::told).collect();
                view.needs_restart = needs_restart;
                Ok(view.clone())
            }
            Err(refusal) => {
                if refusal.problems.is_empty() {
                    // It is not the file's fault, so that the same file may be taken later.
                    self.change_state(|state| state.stamp = None);
                }
                let whole = || vec![problem("file", &refusal.failure.message)];
                view.problems = match refusal.problems.is_empty() {
                    true => whole(),
                    false => refusal.problems.clone(),
                };
                Err(refusal)
            }
        };
        log(&view);
        self.change_state(|state| state.last = Some(view));
        answer
    }

    async fn read_and_take(&self, author: &str) -> Result<(Told, Vec<String>), Refusal> {
        let Some(file) = self.parts.source.file.clone() else {
            let message = "the server was started without a configuration file";
            return Err(Failure::new(ErrorCode::InvalidRequest, message).into());
        };
        let reading = tokio::task::spawn_blocking(move || {
            // Before it is read: a change in between is found by the next look.
            let stamp = Stamp::of(&file);
            (stamp, config::load(Some(&file)))
        });
        let (stamp, read) = reading.await.map_err(|error| internal(&error))?;
        self.change_state(|state| state.stamp = stamp);
        let (settings, problems) =
            read.map_err(|error| wrong(vec![problem("file", &format!("{error:#}"))]))?;
        if !problems.is_empty() {
            return Err(wrong(problems.into_iter().map(routes::told).collect()));
        }
        let settings = Arc::new(settings);
        let told = self.take(&settings, author, false).await?;
        let mut needs_restart = self.started().text.needs_restart(&settings.text);
        needs_restart.retain(|at| !self.parts.source.by_flag.contains(&at.as_str()));
        Ok((told, needs_restart))
    }

    /// Takes a configuration without problems. At a start a route of the file goes before one that
    /// was made at run time, since there is nobody yet who could change either.
    async fn take(
        &self,
        settings: &Arc<Config>,
        author: &str,
        is_start: bool,
    ) -> Result<Told, Refusal> {
        let (models, problems) =
            self.parts.local.read_models(&settings.models).await.map_err(|e| internal(&*e))?;
        if !problems.is_empty() {
            return Err(wrong(problems.into_iter().map(routes::told).collect()));
        }
        let stored = self.stored().await?;
        let now = self.parts.clock.now();
        let next = (stored.number + 1, now);
        let merged = routes::merged(settings, &stored.routes, &stored.taken, next);
        let merged = merged.map_err(|error| internal(&*error))?;
        let (infos, mut warnings, mut problems) = infos_of(settings, &merged.routes);
        if let Some(message) = config::too_large(merged.routes.iter().map(|route| &route.settings))
        {
            let message = format!("of the file and of the API together {message}");
            problems.push(Problem { at: "routes".to_owned(), message });
        }
        if is_start {
            warnings.extend(problems);
        } else if !problems.is_empty() {
            return Err(wrong(problems.into_iter().map(routes::told).collect()));
        }

        let before = self.state.read().unwrap_or_else(PoisonError::into_inner).providers.clone();
        let providers = self.parts.maker.providers(settings, &before);
        let providers = providers.map_err(|error| wrong(vec![problem("providers", &error)]))?;
        let mut changes = providers.changes(&before);
        let version = (!merged.changes.is_empty()).then(|| RouteVersion {
            number: next.0,
            at: now,
            author: author.to_owned(),
            what: format!("the file: {}", in_words(&merged.changes)),
            routes: merged.routes,
        });
        changes.extend(merged.changes);
        let upstreams = self.parts.maker.upstreams(&providers, infos);
        let mut of_objects = Vec::new();
        let plan = |held: pipeline::Held<'_>| {
            let from = (&**settings, models.as_slice());
            let planned = objects::plan(from, &stored.taken, merged.taken, held, now);
            let (change, told) = planned.map_err(|error| *internal(&*error).failure)?;
            of_objects = told;
            Ok(Change { routes: version, upstreams: Some(upstreams), ..change })
        };
        self.parts.directory.change(plan).await.map_err(not_taken)?;
        changes.extend(of_objects);
        changes.extend(self.parts.telemetry.take(settings));
        changes.extend(self.take_rate_limits(settings));
        changes.extend(self.take_tool_servers(settings));
        self.parts.local.serve_rows(&self.local_models()).await;
        self.change_state(|state| {
            state.running = Arc::clone(settings);
            state.providers = providers;
        });
        warnings.extend(self.unknown_names(settings));
        Ok(Told { changes, warnings })
    }

    /// Has the limits on rate of a checked configuration from now on.
    fn take_rate_limits(&self, settings: &Config) -> Vec<ObjectChange> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.rate_limits, settings.rate_limits.clone());
        drop(state);
        if before != settings.rate_limits {
            let limits = settings.rate_limits.iter().map(RateLimitEntry::limit);
            self.parts.directory.rates().set(limits.collect());
        }
        changes::of("rate_limit", &before, &settings.rate_limits, |entry| entry.name.clone())
    }

    /// Has the tool servers of a checked configuration from now on.
    fn take_tool_servers(&self, settings: &Config) -> Vec<ObjectChange> {
        let after = settings.mcp_servers.clone();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.mcp_servers, after);
        drop(state);
        if before != settings.mcp_servers {
            self.parts.tools.replace(tool_servers(settings));
        }
        changes::of("mcp_server", &before, &settings.mcp_servers, |entry| entry.name.clone())
    }

    /// The rows of local models.
    fn local_models(&self) -> Vec<Arc<Model>> {
        let mut models = self.parts.directory.all_models();
        models.retain(|model| model.provider == local::PROVIDER);
        models
    }

    /// Makes or changes a model, and serves it.
    async fn put_model(&self, model: Model) -> Result<Arc<Model>, Refusal> {
        let _changing = self.changing.lock().await;
        let model = self.parts.directory.put_model(model).await?;
        self.parts.local.serve_rows(&self.local_models()).await;
        Ok(model)
    }

    /// Removes a model; `false` if there is none of that name.
    async fn delete_model(&self, name: &str) -> Result<bool, Refusal> {
        let _changing = self.changing.lock().await;
        let deleted = self.parts.directory.delete_model(name).await?;
        self.parts.local.serve_rows(&self.local_models()).await;
        Ok(deleted)
    }

    async fn stored(&self) -> Result<Stored, Failure> {
        let taken = self.parts.store.taken().await.map_err(|error| unreadable(&error))?;
        let versions = self.parts.store.route_versions(1).await;
        let newest = versions.map_err(|error| unreadable(&error))?.pop();
        let (number, routes) =
            newest.map_or((0, Vec::new()), |newest| (newest.number, newest.routes));
        Ok(Stored { number, routes, taken: objects::fingerprints(taken) })
    }

    /// Names in the file of keys and models that neither the file nor anybody else has made.
    fn unknown_names(&self, settings: &Config) -> Vec<Problem> {
        let directory = &self.parts.directory;
        let keys = directory.keys(DEFAULT_ACCOUNT);
        let known = |name: &str| keys.iter().any(|key| key.name == name);
        let upstreams = directory.upstreams();
        let offered = |name: &str| {
            let open = |provider: &pipeline::ProviderInfo| {
                provider.any_model && is_of(name, &provider.name)
            };
            directory.model(name).is_some() || upstreams.providers.iter().any(open)
        };
        let mut warnings = warnings::of_keys(settings, &known);
        warnings.extend(warnings::of_routes(settings, &offered));
        warnings
    }
}

impl server::Control for Shared {
    fn reload(&self, author: String) -> HostFuture<Result<ReloadView, Refusal>> {
        self.to_the_end(|control| async move { control.reload_file(author).await })
    }

    fn last_reload(&self) -> Option<ReloadView> {
        self.0.last_reload()
    }

    fn put_route(&self, put: RoutePut, author: String) -> HostFuture<Result<Route, Refusal>> {
        self.to_the_end(|control| async move { control.put(put, author).await })
    }

    fn delete_route(&self, name: String, author: String) -> HostFuture<Result<bool, Refusal>> {
        self.to_the_end(|control| async move { control.delete(&name, author).await })
    }

    fn put_model(&self, model: Model) -> HostFuture<Result<Arc<Model>, Refusal>> {
        self.to_the_end(|control| async move { control.put_model(model).await })
    }

    fn delete_model(&self, name: String) -> HostFuture<Result<bool, Refusal>> {
        self.to_the_end(|control| async move { control.delete_model(&name).await })
    }

    fn rollback(&self, number: u64, author: String) -> HostFuture<Result<RouteVersion, Refusal>> {
        self.to_the_end(|control| async move { control.roll_back(number, author).await })
    }
}

impl Shared {
    /// Makes a change to its end, whether or not who asked for it stays: what is durable, what
    /// Calls see and what is told of it belong together.
    fn to_the_end<T, F>(
        &self,
        change: impl FnOnce(Arc<Control>) -> F,
    ) -> HostFuture<Result<T, Refusal>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let changing = self.0.parts.tracker.spawn(change(Arc::clone(&self.0)));
        Box::pin(async move { changing.await.map_err(|error| internal(&error))? })
    }
}

/// A control as the server has it.
#[derive(Clone, Debug)]
pub(super) struct Shared(pub(super) Arc<Control>);

/// A set of routes as Calls are sent by it; what is wrong with those that were made at run time,
/// which then do as well as they can; and what is wrong with the file's, with its key paths. The
/// file's come last: where a name is two routes', it is the file's.
fn infos_of(config: &Config, set: &[Route]) -> (Vec<RouteInfo>, Vec<Problem>, Vec<Problem>) {
    let place = |name: &str| config.routes.iter().position(|entry| entry.name == name);
    let is_files = |route: &&Route| route.origin == storage::budgets::Origin::File;
    let (mut of_file, mut all): (Vec<&Route>, Vec<&Route>) = set.iter().partition(is_files);
    of_file.sort_by_key(|route| place(&route.name));
    all.extend(&of_file);
    let checked = routes::checked(config, &all);
    let (mut warnings, mut problems) = (Vec::new(), Vec::new());
    for (name, Problem { at, message }) in checked.wrong {
        let is_files = of_file.iter().any(|route| route.name == name);
        match place(&name).filter(|_| is_files) {
            Some(index) => problems.push(Problem { at: format!("routes[{index}].{at}"), message }),
            None => warnings.push(Problem { at: format!("route {name}: {at}"), message }),
        }
    }
    (checked.entries.iter().map(upstreams::route).collect(), warnings, problems)
}

/// `added a, changed b`.
fn in_words(changes: &[ObjectChange]) -> String {
    let words: Vec<_> =
        changes.iter().map(|change| format!("{} {}", change.change, change.name)).collect();
    words.join(", ")
}

fn log(view: &ReloadView) {
    let ReloadView { author, problems, changes, needs_restart, warnings, .. } = view;
    if !view.taken {
        tracing::error!(%author, "the configuration was not taken: nothing was changed");
        for problem in problems {
            tracing::error!("{}: {}", problem.at, problem.message);
        }
        return;
    }
    tracing::info!(%author, changes = changes.len(), "took the configuration");
    for change in changes {
        tracing::info!("{} {}: {}", change.kind, change.name, change.change);
    }
    for at in needs_restart {
        tracing::warn!("{at} needs a restart to take effect");
    }
    for warning in warnings {
        tracing::warn!("{}: {}", warning.at, warning.message);
    }
}

fn problem(at: &str, message: &impl ToString) -> ConfigProblem {
    ConfigProblem { at: at.to_owned(), message: message.to_string() }
}

/// A configuration that can't be taken, with all that is wrong with it.
fn wrong(problems: Vec<ConfigProblem>) -> Refusal {
    let list: Vec<_> =
        problems.iter().map(|problem| format!("{}: {}", problem.at, problem.message)).collect();
    let message =
        format!("nothing was changed; {} problem(s):\n{}", problems.len(), list.join("\n"));
    Refusal { problems, ..Failure::new(ErrorCode::InvalidRequest, message).into() }
}

/// What the directory refused: an object of the file, unless the store can't write.
fn not_taken(failure: Failure) -> Refusal {
    match failure.code {
        ErrorCode::InvalidRequest | ErrorCode::Conflict => {
            let at = failure.param.as_deref().unwrap_or("file").to_owned();
            wrong(vec![ConfigProblem { at, message: failure.message }])
        }
        _ => failure.into(),
    }
}

fn internal(error: &(impl std::fmt::Debug + ?Sized)) -> Refusal {
    tracing::error!(?error, "a change of the configuration failed");
    Failure::new(ErrorCode::Internal, "the change failed; the log says how").into()
}

fn unreadable(error: &storage::Error) -> Failure {
    tracing::error!(%error, "reading the named objects");
    Failure::new(ErrorCode::StorageUnavailable, "the store can't be read now; try again later")
}

#[cfg(test)]
mod tests;
