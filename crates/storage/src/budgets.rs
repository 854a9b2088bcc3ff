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

mod window;

pub use window::{ROLLING_CELLS, Rolling, WindowKey, WindowKind, WrongWindow, Zone};

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
    /// Where that time is told.
    pub zone: Zone,
    /// The rule that made it, if it is the budget of one value of a rule's dimension: limit,
    /// window, version and origin are then the rule's.
    pub rule: Option<BudgetId>,
    /// Raised by one at each change.
    pub version: u64,
    /// Where its present text came from.
    pub origin: Origin,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Budget {
    /// The window in which `now` lies.
    pub fn window_at(&self, now: Timestamp) -> WindowKey {
        self.window.at(now, &self.zone)
    }

    /// When a window of it ends; `None` for a total.
    pub fn window_end(&self, window: WindowKey) -> Option<Timestamp> {
        self.window.end(window, &self.zone)
    }
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
    /// A rule: each value of this has a budget of its own.
    Each(Dimension),
}

/// What a rule makes a budget for each value of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Users.
    User,
    /// Keys, by name.
    Key,
    /// Sessions, by the one that their forks descend from.
    Session,
    /// Tasks.
    Task,
    /// Models, by the names of those that Calls are sent to.
    Model,
    /// What metadata say under this name.
    Metadata(String),
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Key => f.write_str("key"),
            Self::Session => f.write_str("session"),
            Self::Task => f.write_str("task"),
            Self::Model => f.write_str("model"),
            Self::Metadata(name) => write!(f, "metadata `{name}`"),
        }
    }
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
            Self::Each(dimension) => write!(f, "each {dimension}"),
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

/// The durable amounts of one window of one budget; of a rolling one, of all its cells together.
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
    /// The rule that made it: if it was forgotten meanwhile, it limits as the rule does.
    pub rule: Option<BudgetId>,
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

/// Money that is put to what a budget in total allows.
#[derive(Clone, Debug)]
pub struct TopUp {
    /// The budget.
    pub budget: BudgetId,
    /// What tells it from others: the same again is the same top-up.
    pub key: String,
    /// How much.
    pub amount: Money,
    /// Who says so, for the record.
    pub operator: String,
    /// When.
    pub at: Timestamp,
}

/// Which values of a rule are forgotten.
#[derive(Clone, Debug)]
pub struct ForgetValues {
    /// The rule.
    pub rule: BudgetId,
    /// Made before this.
    pub made_before: Timestamp,
    /// Whose newest window is older; of tasks that nobody named, whatever it is: their Call is
    /// over.
    pub since: WindowKey,
}

/// What came of a top-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToppedUp {
    /// The limit from now on.
    pub limit: Money,
    /// The budget's version.
    pub version: u64,
    /// Whether it was this one; else it was made before.
    pub is_new: bool,
}

/// Budgets, read and changed on their own.
pub trait Budgets {
    /// All of an account, those that rules have made included, in order of id.
    fn budgets(&self, account: &str) -> Pending<Vec<Budget>>;

    /// Makes or changes one. A lowered limit is kept even if more is taken already; it then refuses
    /// all.
    fn put_budget(&self, budget: Budget) -> Pending<()>;

    /// Forgets what rules made for values that nobody uses any more: those whose newest window is
    /// older than `since`, of which nothing is open and, but for tasks that nobody named, nothing
    /// is to be reconciled. Their windows stay, so that one that is made again goes on where it
    /// was. All or none; answers which.
    fn forget_values(&self, forget: Vec<ForgetValues>) -> Pending<Vec<BudgetId>>;

    /// Removes one, and all that it made if it is a rule; its windows stay readable in the ledger's
    /// charges.
    fn delete_budget(&self, id: &BudgetId) -> Pending<bool>;

    /// Raises the limit of a budget, once for each key. [`crate::Error::NotFound`] if it is not
    /// there, [`crate::Error::Exists`] if the key was used for another amount.
    fn top_up(&self, top_up: TopUp) -> Pending<ToppedUp>;

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

    /// Takes what the provider really charged; of a rolling window, from its oldest cells first.
    /// Where less is there than was seen (somebody else was
    /// faster) nothing is done: [`crate::Error::NotFound`] of [`SEEN_AMOUNT`].
    fn reconcile(&self, reconcile: Reconcile) -> Pending<WindowTotals>;
}
