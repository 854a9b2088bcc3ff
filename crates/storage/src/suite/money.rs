//! Any sequence of what can happen to budgets, against a sum kept beside it.
//!
//! After every operation each window's five amounts are exactly what the operations so far add up
//! to, and their sum is within the limit, but for what a provider billed above a bound. A claim
//! gets exactly what is unclaimed, and a reservation is refused only when it exceeds that.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use types::ids::NodeId;

use super::Place;
use super::fixtures::{Make, NOON, hold, in_window, money, part, rows, settle, spend};
use crate::budgets::{Budget, Reconcile, Slice, Told, WindowKey, WindowKind};
use crate::commit::StepReservation;
use crate::error::Error;
use crate::ledger::{Charge, LedgerRow};
use crate::store::Store;

/// Sequences that are tried.
const CASES: usize = 40;
/// Operations in one at most.
const OPERATIONS_MAX: usize = 60;
const LIMIT: i64 = 200;
const DAY_SECONDS: i64 = 86_400;

#[derive(Clone, Debug)]
enum Op {
    Claim { budget: usize, day: i64, wanted: i64 },
    Return { pick: usize, amount: i64 },
    Spend { pick: usize, charged: i64, returned: i64, bill: Bill },
    Reserve { both: bool, budget: usize, day: i64, amount: i64 },
    Settle { pick: usize, percent: i64, bill: Bill },
    Again { pick: usize },
    Crash,
    Reconcile { budget: usize, day: i64, presumed: Option<i64>, unreconciled: Option<i64> },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
struct Bill {
    usage_known: bool,
    over: i64,
}

fn op() -> impl Strategy<Value = Op> {
    // The clock may say any of these days at any time: it jumps.
    let (budget, day, amount) = (0..2usize, 0..4i64, 0..120i64);
    let pick = any::<usize>();
    let over = prop_oneof![9 => Just(0), 1 => 1..50i64];
    let bill = (any::<bool>(), over).prop_map(|(usage_known, over)| Bill { usage_known, over });
    let percent = 0..=100i64;
    let part = || option::of(0..=100i64);
    prop_oneof![
        4 => (budget.clone(), day.clone(), amount.clone())
            .prop_map(|(budget, day, wanted)| Op::Claim { budget, day, wanted }),
        2 => (pick, amount.clone()).prop_map(|(pick, amount)| Op::Return { pick, amount }),
        5 => (pick, 0..60i64, 0..20i64, bill.clone()).prop_map(|(pick, charged, returned, bill)| {
            Op::Spend { pick, charged, returned, bill }
        }),
        4 => (any::<bool>(), budget.clone(), day.clone(), amount)
            .prop_map(|(both, budget, day, amount)| Op::Reserve { both, budget, day, amount }),
        4 => (pick, percent, bill)
            .prop_map(|(pick, percent, bill)| Op::Settle { pick, percent, bill }),
        1 => pick.prop_map(|pick| Op::Again { pick }),
        1 => Just(Op::Crash),
        1 => (budget, day, part(), part()).prop_map(|(budget, day, presumed, unreconciled)| {
            Op::Reconcile { budget, day, presumed, unreconciled }
        }),
        1 => Just(Op::Reopen),
    ]
}

/// See the module.
pub async fn amounts_are_conserved(place: &dyn Place) {
    let mut runner = TestRunner::deterministic();
    let make = Make::new();
    for _ in 0..CASES {
        let mut tree = vec(op(), 1..OPERATIONS_MAX).new_tree(&mut runner).unwrap();
        let Err(reason) = run(place, &make, &tree.current()).await else { continue };
        let mut smallest = (tree.current(), reason);
        let mut goes_on = tree.simplify();
        while goes_on {
            goes_on = match run(place, &make, &tree.current()).await {
                Ok(()) => tree.complicate(),
                Err(reason) => {
                    smallest = (tree.current(), reason);
                    tree.simplify()
                }
            };
        }
        panic!("{} after {:#?}", smallest.1, smallest.0);
    }
}

async fn run(place: &dyn Place, make: &Make, ops: &[Op]) -> Result<(), String> {
    let mut books = Books::open(place, make).await;
    for (at, op) in ops.iter().enumerate() {
        let outcome = books.perform(place, op).await;
        outcome.map_err(|reason| format!("operation {at}: {reason}"))?;
        books.check().await.map_err(|reason| format!("after operation {at}: {reason}"))?;
    }
    books.end().await
}

/// A window of one of the budgets.
type Window = (usize, WindowKey);

/// What the operations add up to.
struct Books<'a> {
    store: Arc<dyn Store>,
    make: &'a Make,
    node: NodeId,
    budgets: [Budget; 2],
    /// Open slices with their budget and what remains.
    slices: Vec<(usize, Slice, i64)>,
    /// Open reservations with the windows that hold them.
    held: Vec<(StepReservation, Vec<Window>)>,
    written: Vec<LedgerRow>,
    /// Settled, unreconciled, presumed, reserved, claimed.
    amounts: BTreeMap<Window, [i64; 5]>,
    /// Billed above the bound.
    over: BTreeMap<Window, i64>,
}

const SETTLED: usize = 0;
const UNRECONCILED: usize = 1;
const PRESUMED: usize = 2;
const RESERVED: usize = 3;
const CLAIMED: usize = 4;

const fn day(number: i64) -> WindowKey {
    WindowKey(1_000 * DAY_SECONDS + number * DAY_SECONDS)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, must_be: &T) -> Result<(), String> {
    if is == must_be { Ok(()) } else { Err(format!("{what} is {is:?} and must be {must_be:?}")) }
}

impl<'a> Books<'a> {
    async fn open(place: &dyn Place, make: &'a Make) -> Self {
        let store = place.open().await.unwrap();
        let mut budgets = [(); 2].map(|()| make.budget(LIMIT, WindowKind::Day));
        budgets.sort_by(|one, other| one.id.cmp(&other.id));
        for budget in &budgets {
            store.put_budget(budget.clone()).await.unwrap();
        }
        Self {
            store,
            make,
            node: make.node(),
            budgets,
            slices: Vec::new(),
            held: Vec::new(),
            written: Vec::new(),
            amounts: BTreeMap::new(),
            over: BTreeMap::new(),
        }
    }

    async fn perform(&mut self, place: &dyn Place, op: &Op) -> Result<(), String> {
        match *op {
            Op::Claim { budget, day: number, wanted } => {
                self.claim(budget, day(number), wanted).await
            }
            Op::Return { pick, amount } => self.give_back(pick, amount).await,
            Op::Spend { pick, charged, returned, bill } => {
                self.spend(pick, charged, returned, bill).await
            }
            Op::Reserve { both, budget, day: number, amount } => {
                let budgets = if both { vec![0, 1] } else { vec![budget] };
                self.reserve(&budgets, day(number), amount).await
            }
            Op::Settle { pick, percent, bill } => self.settle(pick, percent, bill).await,
            Op::Again { pick } => {
                let Some(row) = choose(&self.written, pick) else { return Ok(()) };
                self.store.commit(rows(vec![self.written[row].clone()])).await.unwrap();
                Ok(())
            }
            Op::Crash => self.crash().await,
            Op::Reconcile { budget, day: number, presumed, unreconciled } => {
                self.reconcile((budget, day(number)), [presumed, unreconciled]).await
            }
            Op::Reopen => {
                self.store = place.open().await.unwrap();
                Ok(())
            }
        }
    }

    fn of(&mut self, window: Window) -> &mut [i64; 5] {
        self.amounts.entry(window).or_default()
    }

    /// The window that counts when the clock says `asked`.
    fn current(&self, budget: usize, asked: WindowKey) -> WindowKey {
        let opened = self.amounts.keys().filter(|window| window.0 == budget);
        opened.map(|window| window.1).max().map_or(asked, |latest| latest.max(asked))
    }

    fn free(&self, window: Window) -> i64 {
        let taken: i64 = self.amounts.get(&window).map_or(0, |amounts| amounts.iter().sum());
        (LIMIT - taken).max(0)
    }

    async fn claim(&mut self, budget: usize, asked: WindowKey, wanted: i64) -> Result<(), String> {
        let window = self.current(budget, asked);
        let expected = wanted.min(self.free((budget, window)));
        let claim = self.make.claim(&self.budgets[budget], asked, wanted, &self.node);
        let slice = self.store.claim(claim).await.unwrap();
        same("the window of a claim", &slice.window, &window)?;
        same("the amount of a claim", &slice.amount, &money(expected))?;
        self.of((budget, window))[CLAIMED] += expected;
        if expected > 0 {
            self.slices.push((budget, slice, expected));
        }
        Ok(())
    }

    async fn give_back(&mut self, pick: usize, amount: i64) -> Result<(), String> {
        let Some(at) = choose(&self.slices, pick) else { return Ok(()) };
        let (budget, slice, remaining) = &mut self.slices[at];
        let amount = amount.min(*remaining);
        let (window, id) = ((*budget, slice.window), slice.id.clone());
        *remaining -= amount;
        self.of(window)[CLAIMED] -= amount;
        self.store.return_slices(vec![(id, money(amount))]).await.unwrap();
        self.slices.retain(|(_, _, remaining)| *remaining > 0);
        Ok(())
    }

    async fn spend(
        &mut self,
        pick: usize,
        charged: i64,
        returned: i64,
        bill: Bill,
    ) -> Result<(), String> {
        let Some(first) = choose(&self.slices, pick) else { return Ok(()) };
        let window = (self.slices[first].0, self.slices[first].1.window);
        let (mut to_charge, mut to_return, mut taken) = (charged, returned, 0);
        let mut parts = Vec::new();
        for (budget, slice, remaining) in &mut self.slices[first..] {
            if (*budget, slice.window) != window {
                continue;
            }
            let charged = to_charge.min(*remaining);
            let returned = to_return.min(*remaining - charged);
            parts.push(part(&slice.id, charged, returned));
            *remaining -= charged + returned;
            (to_charge, to_return) = (to_charge - charged, to_return - returned);
            taken += charged + returned;
        }
        let covered: i64 = parts.iter().map(|part| part.charged.nanodollars()).sum();
        let mut charge = spend(&self.budgets[window.0], window.1, parts, covered + bill.over);
        bill.apply(&mut charge);
        self.write(vec![charge]).await;
        self.of(window)[CLAIMED] -= taken;
        self.bill(window, covered, bill);
        self.slices.retain(|(_, _, remaining)| *remaining > 0);
        Ok(())
    }

    async fn reserve(
        &mut self,
        budgets: &[usize],
        asked: WindowKey,
        amount: i64,
    ) -> Result<(), String> {
        let windows: Vec<Window> =
            budgets.iter().map(|budget| (*budget, self.current(*budget, asked))).collect();
        let refusing = windows.iter().find(|window| amount > self.free(**window));
        let named: Vec<&Budget> = budgets.iter().map(|budget| &self.budgets[*budget]).collect();
        let reservation = self.make.reservation(&named, asked, amount);
        match (refusing, self.store.commit(hold(reservation.clone())).await) {
            (None, Ok(_)) => {
                for window in &windows {
                    self.of(*window)[RESERVED] += amount;
                }
                self.held.push((reservation, windows));
                Ok(())
            }
            (Some(window), Err(Error::OverLimit { budget, free, needed })) => {
                same("the budget that refuses", &budget, &self.budgets[window.0].id)?;
                same("what it says is free", &free, &money(self.free(*window)))?;
                same("what it says is needed", &needed, &money(amount))
            }
            (refusing, answer) => Err(format!("{refusing:?} should refuse, answered {answer:?}")),
        }
    }

    async fn settle(&mut self, pick: usize, percent: i64, bill: Bill) -> Result<(), String> {
        let Some(at) = choose(&self.held, pick) else { return Ok(()) };
        let (reservation, windows) = self.held.swap_remove(at);
        let held = reservation.amount.nanodollars();
        let covered = held * percent / 100;
        let charges = windows.iter().map(|window| {
            let budget = &self.budgets[window.0];
            let mut charge = settle(budget, window.1, &reservation.id, covered + bill.over);
            bill.apply(&mut charge);
            charge
        });
        let charges = charges.collect();
        self.write(charges).await;
        for window in windows {
            self.of(window)[RESERVED] -= held;
            self.bill(window, covered, bill);
        }
        Ok(())
    }

    fn bill(&mut self, window: Window, covered: i64, bill: Bill) {
        let to = if bill.usage_known { SETTLED } else { UNRECONCILED };
        self.of(window)[to] += covered + bill.over;
        *self.over.entry(window).or_default() += bill.over;
    }

    async fn write(&mut self, charges: Vec<Charge>) {
        let row = self.make.row(charges);
        self.written.push(row.clone());
        self.store.commit(rows(vec![row])).await.unwrap();
    }

    async fn crash(&mut self) -> Result<(), String> {
        self.node = self.make.node();
        let closed = self.store.presume_open_slices(&self.node).await.unwrap();
        // Cases before this one may have left some, in budgets of their own.
        if closed < self.slices.len() as u64 {
            return Err(format!("{closed} slices were closed of {}", self.slices.len()));
        }
        for (budget, slice, remaining) in std::mem::take(&mut self.slices) {
            let amounts = self.of((budget, slice.window));
            amounts[CLAIMED] -= remaining;
            amounts[PRESUMED] += remaining;
        }
        Ok(())
    }

    async fn reconcile(
        &mut self,
        window: Window,
        percents: [Option<i64>; 2],
    ) -> Result<(), String> {
        let opened = self.amounts.get(&window).copied();
        let [presumed, unreconciled] =
            opened.map_or([0, 0], |amounts| [amounts[PRESUMED], amounts[UNRECONCILED]]);
        // Half of the time the operator saw less than there is by now.
        let told = |there: i64, percent: Option<i64>| {
            let percent = percent?;
            let seen = if percent % 2 == 0 { there } else { there / 2 };
            Some(Told { seen: money(seen), charged: money(seen * percent / 100) })
        };
        let told = Reconcile {
            budget: self.budgets[window.0].id.clone(),
            window: window.1,
            presumed: told(presumed, percents[0]),
            unreconciled: told(unreconciled, percents[1]),
            operator: "ops".to_owned(),
            at: NOON,
        };
        let parts = [(PRESUMED, told.presumed), (UNRECONCILED, told.unreconciled)];
        let answer = self.store.reconcile(told).await;
        if opened.is_none() {
            let refused = matches!(answer, Err(Error::NotFound { .. }));
            return same("a window that was never opened is refused", &refused, &true);
        }
        answer.unwrap();
        let amounts = self.of(window);
        for (amount, told) in parts {
            let Some(told) = told else { continue };
            amounts[amount] -= told.seen.nanodollars();
            amounts[SETTLED] += told.charged.nanodollars();
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), String> {
        for budget in 0..self.budgets.len() {
            for number in 0..4 {
                let window = (budget, day(number));
                let expected = self.amounts.get(&window).copied().unwrap_or_default();
                let is = in_window(&*self.store, &self.budgets[budget], Some(window.1)).await;
                same(&format!("window {number} of budget {budget}"), &is, &expected)?;
                let over = self.over.get(&window).copied().unwrap_or_default();
                let taken: i64 = is.iter().sum();
                if taken > LIMIT + over || is.iter().any(|amount| *amount < 0) {
                    return Err(format!("{is:?} is beyond the limit by more than {over}"));
                }
            }
        }
        Ok(())
    }

    /// All ends well: nothing is held any more.
    async fn end(&mut self) -> Result<(), String> {
        while !self.held.is_empty() {
            self.settle(0, 50, Bill { usage_known: true, over: 0 }).await?;
        }
        while !self.slices.is_empty() {
            self.give_back(0, i64::MAX).await?;
        }
        self.check().await?;
        let holding = |amounts: &[i64; 5]| amounts[RESERVED] != 0 || amounts[CLAIMED] != 0;
        same("something is held at the end", &self.amounts.values().any(holding), &false)
    }
}

impl Bill {
    /// What is settled goes to `unreconciled` where the usage is not known.
    fn apply(self, charge: &mut Charge) {
        if !self.usage_known {
            std::mem::swap(&mut charge.settled, &mut charge.unreconciled);
        }
    }
}

/// An index into `from`, if there is any.
fn choose<T>(from: &[T], pick: usize) -> Option<usize> {
    pick.checked_rem(from.len())
}
