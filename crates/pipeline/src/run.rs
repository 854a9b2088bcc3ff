//! The journey of a Call, top to bottom.
use std::collections::HashMap;
use std::sync::Arc;

use storage::Store;
use tokio_util::task::TaskTracker;
use types::call::Credential;
use types::clock::SharedClock;
use types::ids::{CallId, KeyId, NodeId};
use types::{Execute, Failure, Ids, Incoming, Principal};

use crate::identify::directory::Directory;
use crate::record::answer::Answer;

/// What a pipeline is made of.
#[derive(Debug)]
pub struct Parts {
    /// Everything durable.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: SharedClock,
    /// Ids.
    pub ids: Arc<Ids>,
    /// Keys, models and budgets.
    pub directory: Arc<Directory>,
    /// Who does Calls, by the name of the provider: `local`, `mcp`, or a configured one.
    pub executors: HashMap<String, Arc<dyn Execute>>,
    /// This run of the process.
    pub node: NodeId,
    /// Where background tasks are spawned, so that a clean stop waits for them.
    pub tracker: TaskTracker,
}

/// A Call that was not admitted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call}: {failure}")]
pub struct Refused {
    /// The id that the answer names.
    pub call: CallId,
    /// Why.
    pub failure: Failure,
}

/// The five stages and what they share. Cheap to share behind an `Arc`; holds no lock across an await.
#[derive(Debug)]
pub struct Pipeline {
    #[expect(dead_code, reason = "skeleton")]
    parts: Parts,
}

impl Pipeline {
    /// A pipeline that does nothing in the background yet.
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Charges what a crashed process left open as presumed, and starts the recorder. Once, before the first Call.
    ///
    /// # Errors
    /// `storage_unavailable`, `internal`.
    pub async fn start(&self) -> Result<(), Failure> {
        todo!()
    }

    /// The clean stop: refuses new Calls, waits a bounded time for running ones, flushes the ledger, returns all slices.
    ///
    /// # Errors
    /// `storage_unavailable` if rows or slices could not be written; they are presumed spent at the next start.
    pub async fn shutdown(&self) -> Result<(), Failure> {
        todo!()
    }

    /// Makes every row of a Call that has ended so far durable.
    ///
    /// # Errors
    /// `storage_unavailable`: the rows are kept and tried again.
    pub async fn flush(&self) -> Result<(), Failure> {
        todo!()
    }

    /// Does a plain Call. Dropping the future before it is ready leaves nothing behind.
    ///
    /// # Errors
    /// Why the Call was not admitted, with the id under which it was asked.
    pub async fn run(&self, _incoming: Incoming) -> Result<Answer, Box<Refused>> {
        todo!()
    }

    /// Who a credential stands for.
    ///
    /// # Errors
    /// `unauthenticated`.
    #[expect(clippy::unused_async, reason = "later kinds of credentials ask a server")]
    pub async fn authenticate(&self, _credential: &Credential) -> Result<Arc<Principal>, Failure> {
        todo!()
    }

    /// The principal of a key, if the key still exists.
    pub fn principal(&self, _key: &KeyId) -> Option<Arc<Principal>> {
        todo!()
    }
}
