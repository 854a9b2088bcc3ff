//! What must be durable together, as one value.

use std::collections::BTreeMap;

use types::Money;
use types::ids::{BudgetId, ReservationId};

use crate::budgets::WindowKey;
use crate::journal::JournalRow;
use crate::ledger::LedgerRow;
use crate::responses::{ItemRow, ResponseEvent, ResponseWrite};
use crate::sessions::{Fence, SessionWrite};

/// One transaction's worth of typed rows. `fences` are checked first, then all is applied in the
/// order of the fields: a settlement (in `ledger`) frees money before a reservation of the same
/// commit asks for it.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Calls that ended; their charges move the budgets' amounts.
    pub ledger: Vec<LedgerRow>,
    /// Money held for steps that are about to start.
    pub reservations: Vec<StepReservation>,
    /// Sessions whose epochs must be current; a journal row's own epoch is checked too.
    pub fences: Vec<Fence>,
    /// Sessions that begin or change.
    pub sessions: Vec<SessionWrite>,
    /// Responses that begin or end.
    pub responses: Vec<ResponseWrite>,
    /// What happened in sessions, in order.
    pub journal: Vec<JournalRow>,
    /// Events of responses' streams, in order.
    pub response_events: Vec<ResponseEvent>,
    /// Items that clients may refer to.
    pub items: Vec<ItemRow>,
}

/// Money held, without escrow, for one step of a session: a row of the commit that journals its
/// intent. It is settled by the [`LedgerRow`] whose charges name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReservation {
    /// Its id.
    pub id: ReservationId,
    /// Every budget that it falls under, with the window at this moment, in order of budget id.
    pub budgets: Vec<(BudgetId, WindowKey)>,
    /// The rules that made some of them: what was forgotten meanwhile limits as its rule does.
    pub rules: BTreeMap<BudgetId, BudgetId>,
    /// How much is held of each.
    pub amount: Money,
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The store's own number of the transaction: later ones are larger.
    pub sequence: u64,
}
