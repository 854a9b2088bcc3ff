//! What the doors need, put together by the binary.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use pipeline::{Directory, Pipeline};
use serde::Serialize;
use sessions::Sessions;
use storage::{Model, Store};
use tokio_util::task::TaskTracker;
use types::clock::SharedClock;
use types::{Failure, Ids};
use utoipa::ToSchema;

use crate::control::{Control, ReloadView};
use crate::readiness::StoreHealth;

/// Everything that a door can reach.
#[derive(Debug)]
pub struct App {
    /// Where Calls go.
    pub pipeline: Arc<Pipeline>,
    /// Keys, models and budgets.
    pub directory: Arc<Directory>,
    /// Stored responses and what they do.
    pub sessions: Arc<Sessions>,
    /// For `/api`'s questions, and to see whether it takes writes.
    pub store: Arc<dyn Store>,
    /// Whether it did.
    pub store_health: StoreHealth,
    /// What only the binary can do.
    pub host: Arc<dyn Host>,
    /// Changes the configuration.
    pub control: Arc<dyn Control>,
    /// Time.
    pub clock: SharedClock,
    /// Ids.
    pub ids: Arc<Ids>,
    /// What is accepted.
    pub limits: Limits,
    /// Owns every background task, so that shutting down waits for them.
    pub tracker: TaskTracker,
}

/// What is accepted from clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest request body in bytes.
    pub body_bytes_max: usize,
    /// Connections at once.
    pub connections_max: usize,
}

/// What the host answers, later.
pub type HostFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What only the binary can do, as a handle: the server knows neither the engine nor the
/// configuration file.
pub trait Host: Send + Sync + fmt::Debug {
    /// Reads a model file and makes a catalogue row of it, named `local/<name>`. It is not served
    /// by that.
    fn inspect_model(&self, name: String, path: PathBuf) -> HostFuture<Result<Model, Failure>>;

    /// Every named object with its origin, and whether the file says otherwise.
    fn config(&self) -> HostFuture<Result<ConfigView, Failure>>;

    /// What is known of the limits that providers set.
    fn limits(&self) -> Vec<ProviderLimitsView>;

    /// Whether the parts that requests need are up.
    fn health(&self) -> HostFuture<Vec<PartHealth>>;
}

/// The configuration in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConfigView {
    /// The file, if there is one.
    pub file: Option<String>,
    /// Named objects.
    pub objects: Vec<ObjectView>,
    /// What came of the last time that the file was read again; `null` = not since the start.
    pub last_reload: Option<ReloadView>,
}

/// A named object of the configuration.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ObjectView {
    /// `provider`, `route`, `model`, `key`, `budget` or `mcp_server`.
    pub kind: String,
    /// Its name; a budget's scope and window.
    pub name: String,
    /// `file` or `api`: where its present text came from.
    pub origin: String,
    /// Whether the file says something else, or does not have it.
    pub differs_from_file: bool,
}

/// What is known of one provider's limits.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProviderLimitsView {
    /// The provider.
    pub provider: String,
    /// Its keys in the order of the configuration; one even where it is told none.
    pub keys: Vec<KeyLimitsView>,
}

/// What is known of one key of a provider.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct KeyLimitsView {
    /// Which one it is, from 1.
    pub key: usize,
    /// `well`, `refused` (left alone for a while) or `probing` (one Call finds out).
    pub state: &'static str,
    /// How long it is left alone yet, in microseconds.
    pub refused_for_us: u64,
    /// Calls that are under way with it, those that wait included.
    pub in_flight: u64,
    /// The models of which something is known, by name.
    pub models: Vec<ModelLimitsView>,
}

/// What is known of one model with one key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelLimitsView {
    /// Its name at the provider.
    pub model: String,
    /// Calls that are under way.
    pub in_flight: u64,
    /// Calls that wait.
    pub waiting: usize,
    /// How long the provider takes none yet, in microseconds.
    pub closed_for_us: u64,
    /// How long the key is not used for this model yet, because it was refused for it, in
    /// microseconds.
    pub refused_for_us: u64,
    /// How many may run at once, where that was found out by being refused.
    pub at_once: Option<u64>,
    /// What the provider's headers told.
    pub limits: Vec<LimitView>,
}

/// What a provider's headers told of one kind of limit.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LimitView {
    /// Which kind, such as `requests` or `anthropic_input_tokens`.
    pub kind: &'static str,
    /// How much may be used.
    pub limit: Option<u64>,
    /// What is left by our own count.
    pub left: u64,
    /// In how many microseconds all of it is there again, where the provider says it.
    pub full_in_us: Option<u64>,
}

/// A part of the platform and whether it is up.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PartHealth {
    /// Which part.
    pub part: String,
    /// `up`, `idle` (started at first use) or `down`.
    pub state: String,
    /// Why it is down.
    pub reason: Option<String>,
}
