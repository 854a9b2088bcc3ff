//! Budgets: limits, their windows' amounts, and the slices that nodes claim of them.
//!
//! For each window: `settled + unreconciled + presumed + reserved + claimed <= limit`, where
//! `reserved` is what steps hold and `claimed` is what open slices hold (idle, or reserved from
//! memory by plain Calls). Every change below keeps it, inside its own transaction.

use std::fmt;

use serde::{Deserialize, Serialize};
use types::ids::{BudgetId, NodeId, SliceId};
use types::{Money, Timestamp};

use crate::store::Pending;

/// Seconds in a day.
const DAY_SECONDS: i64 = 86_400;

/// A limit on money for a scope over a window. Hard: what would pass it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its id.
    pub id: BudgetId,
    /// The account that it belongs to.
    pub account: String,
    /// What it limits.
    pub scope: Scope,
    /// The limit per window.
    pub limit: Money,
    /// Over which time.
    pub window: WindowKind,
    /// Raised by one at each change.
    pub version: u64,
    /// Where its present text came from.
    pub origin: Origin,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a budget limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All Calls of the account.
    Account,
    /// All Calls with the key of this name.
    Key(String),
    /// All Calls of this session and its forks (an id), or of the sessions of this name.
    Session(String),
    /// All Calls with keys of this user.
    User(String),
    /// All Calls of the task of this name.
    Task(String),
    /// All Calls of this request class.
    Class(String),
    /// All Calls whose metadata say this.
    Metadata {
        /// The entry's name.
        name: String,
        /// Its value; what is no text, as JSON writes it.
        value: String,
    },
    /// All Calls that asked for the route of this name, whichever of its names they asked by.
    Route(String),
    /// All Calls that came in by this gateway.
    Gateway(String),
    /// All Calls that asked for this model by this name, or were sent to it.
    Model(String),
    /// All Calls that were sent to this provider.
    Provider(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("account"),
            Self::Key(name) => write!(f, "key `{name}`"),
            Self::Session(session) => write!(f, "session `{session}`"),
            Self::User(user) => write!(f, "user `{user}`"),
            Self::Task(task) => write!(f, "task `{task}`"),
            Self::Class(class) => write!(f, "class `{class}`"),
            Self::Metadata { name, value } => write!(f, "metadata `{name}` = `{value}`"),
            Self::Route(route) => write!(f, "route `{route}`"),
            Self::Gateway(gateway) => write!(f, "gateway `{gateway}`"),
            Self::Model(model) => write!(f, "model `{model}`"),
            Self::Provider(provider) => write!(f, "provider `{provider}`"),
        }
    }
}

/// Where an object's present text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file.
    File,
    /// The API.
    Api,
}

/// Over which time a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    /// For ever.
    Total,
    /// A calendar day, UTC.
    Day,
}

/// A window: the second at which it began; 0 for a total.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WindowKey(pub i64);

impl WindowKind {
    /// The window in which `now` lies.
    pub fn at(self, now: Timestamp) -> WindowKey {
        match self {
            Self::Total => WindowKey(0),
            Self::Day => WindowKey(now.seconds().div_euclid(DAY_SECONDS) * DAY_SECONDS),
        }
    }

    /// When the window ends; `None` for a total.
    pub fn end(self, window: WindowKey) -> Option<Timestamp> {
        match self {
            Self::Total => None,
            Self::Day => Some(Timestamp((window.0 + DAY_SECONDS) * 1_000_000)),
        }
    }
}

/// The durable amounts of one window of one budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowTotals {
    /// The window.
    pub window: WindowKey,
    /// Cost by reported usage.
    pub settled: Money,
    /// Known attempts whose usage is unknown, at what was reserved for them.
    pub unreconciled: Money,
    /// Escrow that was open at a crash.
    pub presumed: Money,
    /// Held by steps of sessions.
    pub reserved: Money,
    /// Held by open slices: claimed, and neither accounted for by ledger rows nor returned.
    pub claimed: Money,
}

impl WindowTotals {
    /// What no claim can take from: everything but the rest.
    pub fn taken(&self) -> Money {
        self.settled + self.unreconciled + self.presumed + self.reserved + self.claimed
    }
}

/// A part of a budget that a node claimed durably, to admit plain Calls from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its id.
    pub id: SliceId,
    /// The budget.
    pub budget: BudgetId,
    /// The window at the moment of the claim; every amount that follows from it counts there.
    pub window: WindowKey,
    /// How much.
    pub amount: Money,
}

/// Asks for a slice.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The slice's id.
    pub id: SliceId,
    /// The budget.
    pub budget: BudgetId,
    /// The window that the clock says; a later one that was opened before wins.
    pub window: WindowKey,
    /// How much is wanted; what is unclaimed, if that is less.
    pub wanted: Money,
    /// Who claims.
    pub node: NodeId,
}

/// What became of an amount, as it was when an operator looked. Exactly what was seen is moved:
/// what has come since, nobody has told anything about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The amount that was looked at.
    pub seen: Money,
    /// Of that: what was charged. It moves to `settled`; the rest is freed.
    pub charged: Money,
}

/// What [`crate::Error::NotFound`] names where less is there than was seen.
pub const SEEN_AMOUNT: &str = "amount to be reconciled any more";

/// What a provider really charged, told by an operator.
#[derive(Clone, Debug)]
pub struct Reconcile {
    /// The budget.
    pub budget: BudgetId,
    /// The window.
    pub window: WindowKey,
    /// Of `presumed`: what was seen of it, and charged. `None` leaves it.
    pub presumed: Option<Told>,
    /// Of `unreconciled`: likewise.
    pub unreconciled: Option<Told>,
    /// Who says so, for the record.
    pub operator: String,
    /// When.
    pub at: Timestamp,
}

/// Budgets, read and changed on their own.
pub trait Budgets {
    /// All of an account, in order of id.
    fn budgets(&self, account: &str) -> Pending<Vec<Budget>>;

    /// Makes or changes one. A lowered limit is kept even if more is taken already; it then refuses
    /// all.
    fn put_budget(&self, budget: Budget) -> Pending<()>;

    /// Removes one; its windows stay readable in the ledger's charges.
    fn delete_budget(&self, id: &BudgetId) -> Pending<bool>;

    /// The amounts of a window, zero if it was never opened. `window` = `None`: the latest.
    fn window(&self, id: &BudgetId, window: Option<WindowKey>) -> Pending<WindowTotals>;

    /// Claims a slice of what is unclaimed: possibly less than wanted, possibly nothing (amount
    /// zero, no row).
    fn claim(&self, claim: Claim) -> Pending<Slice>;

    /// Gives idle parts of slices back. A slice from which all is returned or accounted for is
    /// closed.
    fn return_slices(&self, parts: Vec<(SliceId, Money)>) -> Pending<()>;

    /// Closes every slice that a node other than `node` left open:
    /// `presumed += amount - accounted - returned`. Called once at start, under the data folder's
    /// lock. Answers how many there were.
    fn presume_open_slices(&self, node: &NodeId) -> Pending<u64>;

    /// Takes what the provider really charged. Where less is there than was seen (somebody else was
    /// faster) nothing is done: [`crate::Error::NotFound`] of [`SEEN_AMOUNT`].
    fn reconcile(&self, reconcile: Reconcile) -> Pending<WindowTotals>;
}
