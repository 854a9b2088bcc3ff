//! Durable state behind narrow traits, one file per table family.
//!
//! [`Store::commit`] is the only way in which things that belong together become durable: one
//! [`Commit`] is one transaction, checked against session epochs and budget limits inside it. The
//! traits ([`Ledger`], [`Budgets`], [`Keys`], [`Models`], [`Objects`], [`Sessions`], [`Responses`],
//! [`Slos`]) are for reading and for what stands alone. `sqlite` is the embedded implementation; a
//! second one is done when it passes `suite` (behind the feature of that name).
//!
//! Invariant: when a future returned by a write is ready with `Ok`, the write is on disk. This
//! crate must not know a wire format, an HTTP status or who may do what.
#![warn(missing_docs)]

pub mod budgets;
pub mod commit;
pub mod error;
pub mod journal;
pub mod keys;
pub mod ledger;
pub mod models;
pub mod objects;
pub mod responses;
pub mod sessions;
pub mod slos;
pub mod sqlite;
pub mod store;
#[cfg(any(test, feature = "suite"))]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
pub mod suite;

pub use budgets::{
    Budget, Budgets, Dimension, Scope, Slice, WindowKey, WindowKind, WindowTotals, Zone,
};
pub use commit::{Commit, Committed};
pub use error::Error;
pub use journal::{Journal, JournalQuery, JournalRow};
pub use keys::{Key, Keys};
pub use ledger::{CallFilter, Charge, Ledger, LedgerRow};
pub use models::{Model, Models};
pub use objects::{Objects, ObjectsChange, Route, RouteVersion};
pub use responses::{Chain, Deletion, Link, Response, ResponseEvent, ResponseWrite, Responses};
pub use sessions::{
    Fence, Forgotten, Session, SessionFilter, SessionState, SessionWrite, Sessions,
};
pub use slos::{SloCounts, Slos};
pub use sqlite::SqliteStore;
pub use store::{Pending, Store};
