//! What is changed at run time beyond single keys, budgets and models: the file read again, routes.
//!
//! The server knows neither the file nor what a route's settings mean; whoever does is behind
//! [`Control`]. Every change is whole: it is checked as one, durable as one, and seen as one.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use storage::{Model, Route, RouteVersion};
use types::Failure;
use utoipa::ToSchema;

use crate::app::HostFuture;

/// Changes the configuration of a running server. One change at a time, each made to its end even
/// if what it answers is dropped; `author` is who asks.
pub trait Control: Send + Sync + fmt::Debug {
    /// Reads the file again and takes it as a whole.
    ///
    /// # Errors
    /// What is wrong with it: then nothing is changed.
    fn reload(&self, author: String) -> HostFuture<Result<ReloadView, Refusal>>;

    /// What came of the last time that the file was read again.
    fn last_reload(&self) -> Option<ReloadView>;

    /// Makes a route, or replaces the one of its name.
    ///
    /// # Errors
    /// What is wrong with it; `conflict` if a name of it is another route's.
    fn put_route(&self, put: RoutePut, author: String) -> HostFuture<Result<Route, Refusal>>;

    /// Removes a route; `false` if there is none of that name.
    ///
    /// # Errors
    /// `storage_unavailable`.
    fn delete_route(&self, name: String, author: String) -> HostFuture<Result<bool, Refusal>>;

    /// Makes or changes a model, by name; a local one is served by its file from then on.
    ///
    /// # Errors
    /// `invalid_request` if its provider is not configured; `storage_unavailable`.
    fn put_model(&self, model: Model) -> HostFuture<Result<Arc<Model>, Refusal>>;

    /// Removes a model; `false` if there is none of that name. Answers in progress end.
    ///
    /// # Errors
    /// `storage_unavailable`.
    fn delete_model(&self, name: String) -> HostFuture<Result<bool, Refusal>>;

    /// Makes a former set of routes the one in force, as a new version.
    ///
    /// # Errors
    /// `not_found` for a version that is not kept; what is wrong with its routes by now.
    fn rollback(&self, number: u64, author: String) -> HostFuture<Result<RouteVersion, Refusal>>;
}

/// A route as it is asked for.
#[derive(Clone, Debug)]
pub struct RoutePut {
    /// Its name.
    pub name: String,
    /// Its settings, as the file has them.
    pub settings: Value,
    /// Refuse it if there is a route of that name.
    pub is_new: bool,
}

/// Why a change was not taken.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The error.
    pub failure: Box<Failure>,
    /// All that is wrong with what was to be taken, if that is why.
    pub problems: Vec<ConfigProblem>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure: Box::new(failure), problems: Vec::new() }
    }
}

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConfigProblem {
    /// Where: a key path.
    pub at: String,
    /// What, and what to do.
    pub message: String,
}

/// A named object that is otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ObjectChange {
    /// `provider`, `route`, `model`, `key`, `budget`, `rate_limit` …
    pub kind: String,
    /// Its name; a budget's scope and window.
    pub name: String,
    /// `added`, `changed` or `removed`.
    pub change: String,
}

/// What came of reading the file again.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReloadView {
    /// When, in seconds since the epoch.
    pub at: i64,
    /// The name of the key that asked for it, or `SIGHUP`, or `file` for a change of the file.
    pub author: String,
    /// Whether the file was taken; if not, nothing was changed.
    pub taken: bool,
    /// What is otherwise than before.
    pub changes: Vec<ObjectChange>,
    /// What the file says otherwise that holds from the next start on only: key paths.
    pub needs_restart: Vec<String>,
    /// Why it was not taken: all that is wrong.
    pub problems: Vec<ConfigProblem>,
    /// What was taken though it may not be meant.
    pub warnings: Vec<ConfigProblem>,
}
