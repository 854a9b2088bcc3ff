//! Routes with their versions, and changes of several named objects that are durable as a whole.
//!
//! A version is the whole set of routes; the newest one is the set in force. So a change of routes
//! is one row, and what was in force before it is kept as it was. What a route's text means is the
//! configuration's business, not the store's.

use serde::{Deserialize, Serialize};
use types::Timestamp;
use types::ids::{BudgetId, KeyId};

use crate::budgets::{Budget, Origin};
use crate::keys::Key;
use crate::models::{Model, Taken};
use crate::store::Pending;

/// Versions that are kept, the newest included; older ones are removed as new ones come.
pub const ROUTE_VERSIONS_MAX: usize = 100;
/// Bytes of the routes of all versions that are kept. The newest is kept whatever it has.
pub const ROUTE_VERSIONS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A route: a name for several models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Its settings as they were written, without the name.
    pub settings: serde_json::Value,
    /// Where its present text came from.
    pub origin: Origin,
    /// The version of the set in which it got its present text.
    pub version: u64,
    /// When that was.
    pub changed_at: Timestamp,
}

/// A set of routes that was in force, or is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteVersion {
    /// Its number, from 1.
    pub number: u64,
    /// Since when.
    pub at: Timestamp,
    /// The name of the key that asked for it, or `file`.
    pub author: String,
    /// What was changed, in words.
    pub what: String,
    /// The whole set, by name.
    pub routes: Vec<Route>,
}

/// A change of named objects. What is deleted goes first, so that its names and secrets are free.
#[derive(Clone, Debug, Default)]
pub struct ObjectsChange {
    /// Keys that go.
    pub deleted_keys: Vec<KeyId>,
    /// Keys that come or change.
    pub keys: Vec<Key>,
    /// Budgets that go.
    pub deleted_budgets: Vec<BudgetId>,
    /// Budgets that come or change.
    pub budgets: Vec<Budget>,
    /// Models that go, by name.
    pub deleted_models: Vec<String>,
    /// Models that come or change.
    pub models: Vec<Model>,
    /// The next version of the routes; `None` = they stay.
    pub routes: Option<RouteVersion>,
    /// What was taken from the file, the whole list; `None` = as before.
    pub taken: Option<Vec<Taken>>,
}

/// Routes, and changes of several objects.
pub trait Objects {
    /// The newest versions, newest first, `limit` at most. The first is in force; none = there
    /// never was a route.
    fn route_versions(&self, limit: usize) -> Pending<Vec<RouteVersion>>;

    /// One version, if it is kept.
    fn route_version(&self, number: u64) -> Pending<Option<RouteVersion>>;

    /// Makes all of `change` durable, or nothing of it. [`crate::Error::Exists`] if a key's name or
    /// secret is another's, or if the routes have a version of that number.
    fn change_objects(&self, change: ObjectsChange) -> Pending<()>;

    /// Writes, and changes nothing: shows whether the store takes writes.
    fn try_write(&self) -> Pending<()>;
}
