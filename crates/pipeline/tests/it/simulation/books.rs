//! The harness's own books: what every write must have moved, and whose the open slices are.
//!
//! They are kept from what went through the nodes' gates, and held against the store's amounts
//! after each write. What each Call cost in truth comes from whoever played its provider.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::commit::StepReservation;
use storage::ledger::{Charge, Held};
use storage::{
    Budget, Budgets, Commit, LedgerRow, SqliteStore, WindowKey, WindowKind, WindowTotals,
};
use types::Money;
use types::ids::{AttemptId, BudgetId, CallId, ReservationId, SliceId};

use super::disk::{Asked, Performed, wait};

/// What a Call costs in truth.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    /// The budgets that it falls under, by their place.
    pub(super) scope: Vec<usize>,
    pub(super) settled: Money,
    pub(super) unreconciled: Money,
    /// The day on which it was asked.
    pub(super) since: WindowKey,
}

/// A slice that no row and no return has used up.
#[derive(Debug)]
struct Open {
    life: u64,
    budget: usize,
    window: WindowKey,
    remaining: Money,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) budget: Arc<Budget>,
    pub(super) windows: BTreeMap<WindowKey, WindowTotals>,
}

impl Watched {
    /// The latest window that was ever opened.
    pub(super) fn latest(&self) -> Option<WindowKey> {
        self.windows.last_key_value().map(|(window, _)| *window)
    }
}

#[derive(Debug, Default)]
pub(super) struct Books {
    /// In order of id.
    pub(super) watched: Vec<Watched>,
    slices: BTreeMap<SliceId, Open>,
    reservations: BTreeMap<ReservationId, (Money, Vec<(usize, WindowKey)>)>,
    rows: BTreeSet<(CallId, AttemptId)>,
    truths: BTreeMap<CallId, Truth>,
}

impl Books {
    pub(super) fn new(mut budgets: Vec<Arc<Budget>>) -> Self {
        budgets.sort_by(|left, right| left.id.cmp(&right.id));
        let watched =
            budgets.into_iter().map(|budget| Watched { budget, windows: BTreeMap::new() });
        Self { watched: watched.collect(), ..Self::default() }
    }

    pub(super) fn place(&self, id: &BudgetId) -> usize {
        self.watched.iter().position(|watched| watched.budget.id == *id).unwrap()
    }

    /// How a Call ended, in truth.
    pub(super) fn tell(&mut self, call: &CallId, truth: Truth) {
        let before = self.truths.insert(call.clone(), truth);
        assert!(before.is_none(), "{call} ended twice");
    }

    /// What it was told of a Call's end died with a node.
    pub(super) fn forget(&mut self, call: &CallId) {
        self.truths.remove(call);
    }

    pub(super) fn is_written(&self, call: &CallId) -> bool {
        let first = self.rows.range((call.clone(), AttemptId::parse("att_").unwrap())..).next();
        first.is_some_and(|(written, _)| written == call)
    }

    pub(super) fn holds(&self, id: &ReservationId) -> bool {
        self.reservations.contains_key(id)
    }

    /// What a node's slices of a budget still hold.
    pub(super) fn open(&self, life: u64, budget: usize) -> Money {
        let of_it = |open: &&Open| open.life == life && open.budget == budget;
        self.slices.values().filter(of_it).map(|open| open.remaining).sum()
    }

    /// What nobody on this node can have of a window, apart from what its own slices hold.
    pub(super) fn beyond(&self, life: u64, budget: usize, window: WindowKey) -> Money {
        let totals = self.watched[budget].windows.get(&window).cloned().unwrap_or_default();
        let of_others =
            |open: &&Open| open.life != life && open.budget == budget && open.window == window;
        let others: Money = self.slices.values().filter(of_others).map(|open| open.remaining).sum();
        totals.settled + totals.unreconciled + totals.presumed + totals.reserved + others
    }

    /// Takes in what was done for a node, and holds the store against it.
    pub(super) fn take(
        &mut self,
        store: &SqliteStore,
        (life, asked): (u64, &Asked),
        performed: &Performed,
    ) {
        if !performed.done {
            return;
        }
        let mut moved = Moved { books: self, before: BTreeMap::new() };
        match asked {
            Asked::Look(_) => return,
            Asked::Claim(claim) => {
                let slice = performed.slice.as_ref().unwrap();
                let budget = moved.books.place(&claim.budget);
                assert!(Money::ZERO <= slice.amount && slice.amount <= claim.wanted, "{slice:?}");
                let latest = moved.books.watched[budget].latest();
                let opened_again = latest.is_some_and(|latest| slice.window < latest);
                assert!(!opened_again, "a window that had ended opened again: {slice:?}");
                moved.of(budget, slice.window).claimed += slice.amount;
                let (window, remaining) = (slice.window, slice.amount);
                let open = Open { life, budget, window, remaining };
                moved.books.slices.insert(slice.id.clone(), open);
            }
            Asked::Return(parts) => {
                for (slice, amount) in parts {
                    moved.take(slice, *amount);
                }
            }
            Asked::Presume => moved.presume(life),
            Asked::Reconcile(told) => {
                let totals = moved.of(moved.books.place(&told.budget), told.window);
                for (told, amount) in [
                    (told.presumed, &mut totals.presumed),
                    (told.unreconciled, &mut totals.unreconciled),
                ] {
                    let Some(told) = told else { continue };
                    *amount -= told.seen;
                    totals.settled += told.charged;
                }
            }
            Asked::Commit(commit) => moved.commit(commit),
        }
        let before = moved.before;
        self.compare(store, before);
    }

    /// Holds the store's amounts against the books', and against the limit.
    fn compare(&self, store: &SqliteStore, before: BTreeMap<(usize, WindowKey), Money>) {
        for ((budget, window), taken_before) in before {
            let Watched { budget, windows } = &self.watched[budget];
            let totals = wait(store.window(&budget.id, Some(window))).unwrap();
            let expected = WindowTotals { window, ..windows[&window].clone() };
            assert_eq!(totals, expected, "the store does not say what was written");
            let amounts = [
                totals.settled,
                totals.unreconciled,
                totals.presumed,
                totals.reserved,
                totals.claimed,
            ];
            assert!(amounts.iter().all(|amount| *amount >= Money::ZERO), "{totals:#?}");
            // A limit that was lowered below what is taken lets nothing more in.
            let most = budget.limit.max(taken_before);
            assert!(sum(&totals) <= most, "over the limit of {}: {totals:#?}", budget.limit);
        }
    }
}

/// What is taken of a window, by the harness's own sum.
pub(super) fn sum(totals: &WindowTotals) -> Money {
    let WindowTotals { settled, unreconciled, presumed, reserved, claimed, .. } = *totals;
    settled + unreconciled + presumed + reserved + claimed
}

/// The books while a write is taken in, and what was taken of each window before.
struct Moved<'a> {
    books: &'a mut Books,
    before: BTreeMap<(usize, WindowKey), Money>,
}

impl Moved<'_> {
    fn of(&mut self, budget: usize, window: WindowKey) -> &mut WindowTotals {
        let totals = self.books.watched[budget].windows.entry(window).or_default();
        self.before.entry((budget, window)).or_insert_with(|| sum(totals));
        totals
    }

    fn take(&mut self, slice: &SliceId, amount: Money) {
        let open = self.books.slices.get_mut(slice);
        let open = open.unwrap_or_else(|| panic!("{amount} of {slice}, which is not open"));
        assert!(amount <= open.remaining, "{amount} of {open:?}: more than it holds");
        open.remaining -= amount;
        let (budget, window) = (open.budget, open.window);
        if open.remaining == Money::ZERO {
            self.books.slices.remove(slice);
        }
        self.of(budget, window).claimed -= amount;
    }

    /// What other lives left open is presumed spent.
    fn presume(&mut self, life: u64) {
        let slices = std::mem::take(&mut self.books.slices);
        for (id, open) in slices {
            if open.life == life {
                self.books.slices.insert(id, open);
                continue;
            }
            let totals = self.of(open.budget, open.window);
            totals.claimed -= open.remaining;
            totals.presumed += open.remaining;
        }
    }

    fn commit(&mut self, commit: &Commit) {
        for row in &commit.ledger {
            if self.books.rows.insert((row.call.clone(), row.attempt.clone())) {
                self.row(row);
            }
        }
        for reservation in &commit.reservations {
            self.reserve(reservation);
        }
    }

    fn row(&mut self, row: &LedgerRow) {
        let truth = self.books.truths.get(&row.call).cloned();
        let truth = truth.unwrap_or_else(|| panic!("a row of {}, which has not ended", row.call));
        if truth.scope.is_empty() {
            return;
        }
        assert_eq!((row.cost, row.unreconciled), (truth.settled, truth.unreconciled), "{row:#?}");
        let charged: Vec<_> =
            row.charges.iter().map(|charge| self.books.place(&charge.budget)).collect();
        assert!(charged.iter().all(|budget| truth.scope.contains(budget)), "{row:#?}");
        let costs = truth.settled + truth.unreconciled > Money::ZERO;
        let whole = truth.scope.iter().all(|budget| charged.contains(budget));
        assert!(!costs || whole, "a budget in scope is not charged: {row:#?}");
        let mut released = Vec::new();
        for charge in &row.charges {
            if let Held::Reservation(id) = &charge.held {
                released.extend(self.release(id));
            }
        }
        for charge in &row.charges {
            self.charge(charge, &truth, &released);
        }
    }

    fn release(&mut self, id: &ReservationId) -> Vec<(usize, WindowKey)> {
        let Some((amount, places)) = self.books.reservations.remove(id) else { return Vec::new() };
        for (budget, window) in &places {
            self.of(*budget, *window).reserved -= amount;
        }
        places
    }

    fn charge(&mut self, charge: &Charge, truth: &Truth, released: &[(usize, WindowKey)]) {
        let expected = (truth.settled, truth.unreconciled);
        assert_eq!((charge.settled, charge.unreconciled), expected, "{charge:#?}");
        let budget = self.books.place(&charge.budget);
        let window = match &charge.held {
            Held::Reservation(_) => {
                let held = released.iter().find(|(released, _)| *released == budget);
                held.expect("what a step is charged was reserved").1
            }
            Held::Slices(parts) => {
                for part in parts {
                    self.take_unless_empty(&part.slice, part.charged);
                    self.take_unless_empty(&part.slice, part.returned);
                }
                charge.window
            }
        };
        let watched = &self.books.watched[budget];
        let latest = watched.latest().unwrap();
        let is_daily = watched.budget.window == WindowKind::Day;
        let earliest = if is_daily { truth.since } else { WindowKey(0) };
        assert!(earliest <= window && window <= latest, "not its window: {charge:#?}");
        let totals = self.of(budget, window);
        totals.settled += charge.settled;
        totals.unreconciled += charge.unreconciled;
    }

    /// A slice that was just used up is closed.
    fn take_unless_empty(&mut self, slice: &SliceId, amount: Money) {
        if amount > Money::ZERO {
            self.take(slice, amount);
        }
    }

    fn reserve(&mut self, reservation: &StepReservation) {
        let mut places = Vec::new();
        for (budget, asked) in &reservation.budgets {
            let budget = self.books.place(budget);
            let latest = self.books.watched[budget].latest();
            let window = latest.map_or(*asked, |latest| latest.max(*asked));
            self.of(budget, window).reserved += reservation.amount;
            places.push((budget, window));
        }
        self.books.reservations.insert(reservation.id.clone(), (reservation.amount, places));
    }
}
