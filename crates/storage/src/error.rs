//! Why the store did not do what it was asked.

use std::sync::Arc;

use types::Money;
use types::ids::{BudgetId, SessionId};

/// One kind per thing that the caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The session is owned by another node or a later epoch: stop working on it.
    #[error("session {session} has a newer owner")]
    Fenced {
        /// The session.
        session: SessionId,
    },
    /// A reservation would pass a budget's limit: nothing of the commit was done.
    #[error("budget {budget} has {free} left and {needed} is needed")]
    OverLimit {
        /// The first budget, in order of id, that refuses.
        budget: BudgetId,
        /// What is unclaimed of it.
        free: Money,
        /// What was to be reserved.
        needed: Money,
    },
    /// A row of that id is there already, with other content.
    #[error("{what} exists already")]
    Exists {
        /// What kind of row.
        what: &'static str,
    },
    /// Nothing of that id is there.
    #[error("there is no such {what}")]
    NotFound {
        /// What kind of row.
        what: &'static str,
    },
    /// The database was written by a newer program; opening it with this one could damage it.
    #[error(
        "the database has version {found} and this program knows {known} at most: use the newer program"
    )]
    NewerVersion {
        /// The database's version.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The disk is full, read-only or failing, or the store is closed: nothing was done, try again
    /// later. (After a power cut in the same moment the write may turn out to be there: the disk,
    /// asked to make it durable, said no.)
    #[error("the store cannot write")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A bug of ours or a damaged file.
    #[error("the store is in a state that it must not be in")]
    Internal(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An [`Error::Unavailable`] with its reason.
    pub fn unavailable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(reason.into()))
    }

    /// An [`Error::Internal`] with its reason.
    pub fn internal(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(reason.into()))
    }
}
