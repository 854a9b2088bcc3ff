//! The store as one handle.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::budgets::Budgets;
use crate::commit::{Commit, Committed};
use crate::error::Error;
use crate::journal::Journal;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::models::Models;
use crate::objects::Objects;
use crate::responses::Responses;
use crate::sessions::Sessions;
use crate::slos::Slos;

/// What the store answers, later. Dropping it does not undo a write that was handed over.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Everything durable of one node.
pub trait Store:
    Ledger
    + Budgets
    + Keys
    + Models
    + Objects
    + Sessions
    + Journal
    + Responses
    + Slos
    + Send
    + Sync
    + fmt::Debug
{
    /// Makes everything in `commit` durable, or nothing of it.
    ///
    /// # Errors
    /// [`Error::Fenced`], [`Error::OverLimit`], or the store cannot write.
    fn commit(&self, commit: Commit) -> Pending<Committed>;
}
