//! The ledger: every finished Call with usage, price version, cost and timings.

use serde::{Deserialize, Serialize};
use types::call::Door;
use types::ids::{AttemptId, BudgetId, CallId, KeyId, ReservationId, SessionId, SliceId, StepId};
use types::outcome::Stop;
use types::{ErrorCode, Metadata, Money, Notes, Timestamp, Usage};

use crate::budgets::WindowKey;
use crate::store::Pending;

/// Ledger rows in one answer at most.
pub const CALLS_PAGE_MAX: usize = 1_000;

/// A finished Call, or a finished attempt of a Call that is asked again (`attempt` tells them
/// apart).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The Call.
    pub call: CallId,
    /// The attempt that this row bills.
    pub attempt: AttemptId,
    /// The Call that spawned it.
    pub parent: Option<CallId>,
    /// The tenant.
    pub account: String,
    /// The key.
    pub key: KeyId,
    /// The user.
    pub user: String,
    /// The session.
    pub session: Option<SessionId>,
    /// The step.
    pub step: Option<StepId>,
    /// The task.
    pub task: String,
    /// The request class.
    pub class: String,
    /// Which way it came in.
    pub door: Door,
    /// `model` or `tool`.
    pub kind: String,
    /// The name that was asked for: a model, or `server/tool`.
    pub name: String,
    /// The target that was tried.
    pub target: String,
    /// The model that really answered, as the provider names it.
    pub model_version: Option<String>,
    /// How it ended; `None` = well.
    pub error: Option<ErrorCode>,
    /// Why the model stopped.
    pub stop: Option<Stop>,
    /// What the provider counted.
    pub usage: Option<Usage>,
    /// The price that was applied.
    pub price_version: Option<String>,
    /// Usage × price; zero while the usage is unknown.
    pub cost: Money,
    /// Charged although the usage is unknown: what was reserved.
    pub unreconciled: Money,
    /// What was reserved for it.
    pub reserved: Money,
    /// The provider billed more than the bound.
    pub over_bound: bool,
    /// The output cap that was set for the client, in tokens.
    pub output_cap: Option<u64>,
    /// Names of the fields that the target could not be told.
    pub dropped: Vec<String>,
    /// What the client said of the Call.
    pub metadata: Metadata,
    /// Why this target was tried, and what was decided on the way: names, numbers and codes.
    pub notes: Notes,
    /// When the Call came in.
    pub started_at: Timestamp,
    /// From there to the first content, in microseconds.
    pub first_content_us: Option<u64>,
    /// From there to the end, in microseconds.
    pub total_us: u64,
    /// Of that: waiting for the target, in microseconds.
    pub target_us: u64,
    /// Prompt tokens whose state was held (the local engine), where known.
    pub reused_tokens: Option<u64>,
    /// What moves in which budget, in order of budget id.
    pub charges: Vec<Charge>,
}

/// What a ledger row moves in one budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The budget.
    pub budget: BudgetId,
    /// The window at the moment of reservation.
    pub window: WindowKey,
    /// Where the money was held.
    pub held: Held,
    /// Goes to `settled`.
    pub settled: Money,
    /// Goes to `unreconciled`.
    pub unreconciled: Money,
}

/// Where a Call's money was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// By a step: the whole reservation is released.
    Reservation(ReservationId),
    /// In slices. The charge is taken from them in this order; anything above their sum (a bill
    /// over the bound) is recorded in the window all the same.
    Slices(Vec<SlicePart>),
}

/// A part of a charge in one slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePart {
    /// The slice.
    pub slice: SliceId,
    /// Of the charge: accounted for in this slice.
    pub charged: Money,
    /// Given back to the budget with this row, because the slice is an older one.
    pub returned: Money,
}

/// Which ledger rows to read. All that are set must match.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// The tenant (always set by doors).
    pub account: Option<String>,
    /// The session.
    pub session: Option<SessionId>,
    /// The task.
    pub task: Option<String>,
    /// The key.
    pub key: Option<KeyId>,
    /// With each of these entries in their metadata.
    pub metadata: Metadata,
    /// Began at or after.
    pub since: Option<Timestamp>,
    /// Calls that came in before this one (for paging: the last row's).
    pub before: Option<CallId>,
    /// At most so many rows, but for the attempts of the last Call, which stay together;
    /// [`CALLS_PAGE_MAX`] is the store's own limit.
    pub limit: usize,
}

/// The ledger, read. It is written by [`crate::Commit`] only.
pub trait Ledger {
    /// Rows, newest Call first; of one Call, its newest attempt first.
    fn calls(&self, filter: CallFilter) -> Pending<Vec<LedgerRow>>;

    /// All rows (attempts) of one Call, oldest first; empty if it is not there.
    fn call(&self, id: &CallId) -> Pending<Vec<LedgerRow>>;
}
