//! Values that the tests share. Ids are seeded, so that a failure can be run again.

use std::sync::Arc;

use types::call::Door;
use types::clock::FakeClock;
use types::ids::{AttemptId, BudgetId, CallId, KeyId, NodeId, ReservationId, SliceId};
use types::principal::Role;
use types::{Ids, Money, Timestamp};

use crate::budgets::{Budget, Claim, Origin, Scope, WindowKey, WindowKind, WindowTotals, Zone};
use crate::commit::{Commit, StepReservation};
use crate::keys::Key;
use crate::ledger::{Charge, Held, LedgerRow, SlicePart};
use crate::store::Store;

/// The account of most tests.
pub const ACCOUNT: &str = "00000000000000000000000000000001";
/// When most tests take place: 2026-11-21 at noon.
pub const NOON: Timestamp = Timestamp::from_millis(1_795_262_400_000);
/// The day of [`NOON`].
pub const TODAY: WindowKey = WindowKey(1_795_219_200);
/// The day after.
pub const TOMORROW: WindowKey = WindowKey(1_795_219_200 + 86_400);

/// Makes what tests need; its clock can be moved.
#[derive(Debug)]
pub struct Make {
    /// The clock of the ids.
    pub clock: Arc<FakeClock>,
    /// The ids.
    pub ids: Ids,
}

impl Make {
    /// With the clock at [`NOON`].
    pub fn new() -> Self {
        let clock = Arc::new(FakeClock::new(NOON));
        let ids = Ids::seeded(Arc::<FakeClock>::clone(&clock), 3);
        Self { clock, ids }
    }

    /// A key of a member, not stored yet.
    pub fn key(&self, name: &str, secret: u8) -> Key {
        let id = KeyId::new(&self.ids);
        Key {
            account: ACCOUNT.to_owned(),
            name: name.to_owned(),
            user: id.as_str().to_owned(),
            role: Role::Member,
            secret_sha256: [secret; 32],
            hint: "hf_abc".to_owned(),
            output_cap_default: Some(4_096),
            origin: Origin::File,
            created_at: NOON,
            id,
        }
    }

    /// A budget over the account, not stored yet.
    pub fn budget(&self, limit: i64, window: WindowKind) -> Budget {
        Budget {
            id: BudgetId::new(&self.ids),
            account: ACCOUNT.to_owned(),
            scope: Scope::Account,
            limit: money(limit),
            window,
            zone: Zone::UTC,
            rule: None,
            version: 1,
            origin: Origin::Api,
            created_at: NOON,
        }
    }

    /// A claim by `node`.
    pub fn claim(&self, budget: &Budget, window: WindowKey, wanted: i64, node: &NodeId) -> Claim {
        Claim {
            id: SliceId::new(&self.ids),
            budget: budget.id.clone(),
            rule: budget.rule.clone(),
            window,
            wanted: money(wanted),
            node: node.clone(),
        }
    }

    /// A reservation of `amount` of each of `budgets`.
    pub fn reservation(
        &self,
        budgets: &[&Budget],
        window: WindowKey,
        amount: i64,
    ) -> StepReservation {
        let made = budgets.iter().filter_map(|budget| Some((&budget.id, budget.rule.as_ref()?)));
        let rules = made.map(|(id, rule)| (id.clone(), rule.clone()));
        StepReservation {
            id: ReservationId::new(&self.ids),
            budgets: budgets.iter().map(|budget| (budget.id.clone(), window)).collect(),
            rules: rules.collect(),
            amount: money(amount),
        }
    }

    /// A ledger row of a plain Call that is its own task, with what it charges.
    pub fn row(&self, charges: Vec<Charge>) -> LedgerRow {
        let call = CallId::new(&self.ids);
        let key = KeyId::new(&self.ids);
        let of = |amount: fn(&Charge) -> Money| charges.iter().map(amount).max();
        LedgerRow {
            attempt: AttemptId::new(&self.ids),
            parent: None,
            account: ACCOUNT.to_owned(),
            user: key.as_str().to_owned(),
            session: None,
            step: None,
            task: call.as_str().to_owned(),
            class: "interactive".to_owned(),
            door: Door::OpenaiChat,
            kind: "model".to_owned(),
            name: "garage/qwen3-32b".to_owned(),
            target: "garage/qwen3-32b".to_owned(),
            model_version: None,
            error: None,
            stop: None,
            usage: None,
            price_version: None,
            cost: of(|charge| charge.settled).unwrap_or_default(),
            unreconciled: of(|charge| charge.unreconciled).unwrap_or_default(),
            reserved: Money::ZERO,
            over_bound: false,
            output_cap: None,
            dropped: Vec::new(),
            metadata: types::Metadata::default(),
            notes: types::Notes::default(),
            started_at: NOON,
            first_content_us: None,
            total_us: 1_000,
            target_us: 900,
            reused_tokens: None,
            charges,
            call,
            key,
        }
    }

    /// A node's id.
    pub fn node(&self) -> NodeId {
        NodeId::new(&self.ids)
    }
}

impl Default for Make {
    fn default() -> Self {
        Self::new()
    }
}

/// Nanodollars.
pub const fn money(nanodollars: i64) -> Money {
    Money::from_nanodollars(nanodollars)
}

/// What settles `amount` out of a reservation.
pub fn settle(budget: &Budget, window: WindowKey, held: &ReservationId, amount: i64) -> Charge {
    Charge {
        budget: budget.id.clone(),
        window,
        held: Held::Reservation(held.clone()),
        settled: money(amount),
        unreconciled: Money::ZERO,
    }
}

/// What settles `amount` out of slices.
pub fn spend(budget: &Budget, window: WindowKey, parts: Vec<SlicePart>, amount: i64) -> Charge {
    Charge {
        budget: budget.id.clone(),
        window,
        held: Held::Slices(parts),
        settled: money(amount),
        unreconciled: Money::ZERO,
    }
}

/// A part of a charge in one slice.
pub fn part(slice: &SliceId, charged: i64, returned: i64) -> SlicePart {
    SlicePart { slice: slice.clone(), charged: money(charged), returned: money(returned) }
}

/// A commit of ledger rows alone.
pub fn rows(ledger: Vec<LedgerRow>) -> Commit {
    Commit { ledger, ..Commit::default() }
}

/// A commit of a reservation alone.
pub fn hold(reservation: StepReservation) -> Commit {
    Commit { reservations: vec![reservation], ..Commit::default() }
}

/// Settled, unreconciled, presumed, reserved and claimed of a budget's latest window, in
/// nanodollars.
pub async fn amounts(store: &dyn Store, budget: &Budget) -> [i64; 5] {
    in_window(store, budget, None).await
}

/// The same of one window.
pub async fn in_window(store: &dyn Store, budget: &Budget, window: Option<WindowKey>) -> [i64; 5] {
    let WindowTotals { settled, unreconciled, presumed, reserved, claimed, .. } =
        store.window(&budget.id, window).await.unwrap();
    [settled, unreconciled, presumed, reserved, claimed].map(Money::nanodollars)
}
