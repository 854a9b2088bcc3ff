//! A worker that breaks off leaves nobody waiting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use storage::budgets::{Origin, Scope, WindowKind};
use storage::{Budget, Budgets, SqliteStore};
use types::Timestamp;
use types::clock::{Clock, FakeClock, Monotonic, Sleep};
use types::ids::BudgetId;
use types::principal::DEFAULT_ACCOUNT;

use super::*;
use crate::admit::pool::{Refusal, Taken};

/// A clock that panics when it is next asked for the time of day.
#[derive(Debug)]
struct Mined {
    clock: FakeClock,
    armed: AtomicBool,
}

impl Clock for Mined {
    fn now(&self) -> Timestamp {
        assert!(!self.armed.swap(false, Ordering::SeqCst), "mined");
        self.clock.now()
    }
    fn monotonic(&self) -> Monotonic {
        self.clock.monotonic()
    }
    fn sleep(&self, duration: Duration) -> Sleep {
        self.clock.sleep(duration)
    }
}

#[tokio::test]
async fn a_worker_that_panics_fails_its_waiters_and_lets_the_next_one_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("holdfast.db")).unwrap());
    let mined =
        Arc::new(Mined { clock: FakeClock::new(Timestamp(0)), armed: AtomicBool::new(false) });
    let clock: SharedClock = Arc::<Mined>::clone(&mined);
    let ids = Arc::new(Ids::seeded(Arc::clone(&clock), 1));
    let (recorder, _writer) = Recorder::new(
        Arc::<SqliteStore>::clone(&store),
        Arc::clone(&clock),
        crate::Telemetry::default(),
    );
    let budget = Budget {
        id: BudgetId::new(&ids),
        account: DEFAULT_ACCOUNT.to_owned(),
        scope: Scope::Account,
        limit: Money::from_nanodollars(1_000),
        window: WindowKind::Total,
        zone: storage::Zone::UTC,
        rule: None,
        version: 1,
        origin: Origin::Api,
        created_at: Timestamp(0),
    };
    store.put_budget(budget.clone()).await.unwrap();
    let desk = Arc::new(Desk {
        store,
        clock,
        node: NodeId::new(&ids),
        ids,
        tracker: TaskTracker::new(),
        recorder,
    });
    let pool = Arc::new(Pool::new(&budget));
    let take = || pool.take(&budget, Money::from_nanodollars(10), Timestamp(0));

    let (Taken::Wait(answer), true) = take() else { panic!("a new pool is empty") };
    mined.armed.store(true, Ordering::SeqCst);
    desk.start_worker(&pool);
    let refused = answer.await.expect("the waiter is told").unwrap_err();
    assert!(matches!(refused, Refusal::Failed(failure) if failure.code == ErrorCode::Unavailable));

    let (Taken::Wait(answer), true) = take() else { panic!("the next one starts a worker") };
    desk.start_worker(&pool);
    drop(answer.await.unwrap().expect("there is money"));
}
