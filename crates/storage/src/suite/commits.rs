//! Commits: all or nothing, many at once, and still there afterwards.

use std::sync::Arc;

use tokio::task::JoinSet;
use types::ids::SessionId;

use super::Place;
use super::fixtures::{Make, TODAY, amounts, hold, money, rows, settle};
use crate::budgets::{Budget, WindowKind};
use crate::commit::Commit;
use crate::error::Error;
use crate::sessions::Fence;
use crate::store::Store;

/// Tasks that commit at once.
const TASKS: usize = 64;

/// A commit that a budget or a fence refuses leaves nothing of any of its rows.
pub async fn a_refused_commit_changes_nothing(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(10, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let row = make.row(Vec::new());
    let commit = Commit {
        ledger: vec![row.clone()],
        reservations: vec![
            make.reservation(&[&budget], TODAY, 10),
            make.reservation(&[&budget], TODAY, 1),
        ],
        ..Commit::default()
    };
    let refused = store.commit(commit.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::OverLimit { .. }), "{refused:?}");
    // A node that was replaced hears that first.
    let session = SessionId::new(&make.ids);
    let fences = vec![Fence { session: session.clone(), epoch: 1 }];
    let refused = store.commit(Commit { fences, ..commit }).await.unwrap_err();
    assert!(matches!(refused, Error::Fenced { session: named } if named == session));
    assert_eq!(store.call(&row.call).await.unwrap(), []);
    assert_eq!(amounts(&*store, &budget).await, [0; 5]);
}

/// The next step may be paid with what the last one gave back.
pub async fn a_settlement_frees_money_for_a_reservation_of_the_same_commit(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(10, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let first = make.reservation(&[&budget], TODAY, 10);
    store.commit(hold(first.clone())).await.unwrap();
    let next = make.reservation(&[&budget], TODAY, 8);
    let commit =
        Commit { ledger: vec![make.row(vec![settle(&budget, TODAY, &first.id, 2)])], ..hold(next) };
    store.commit(commit).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [2, 0, 0, 8, 0]);
}

/// Of commits that are made at once, those that are refused do not take others with them.
pub async fn refused_commits_fail_alone(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(1, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        let refused = number % 2 == 1;
        let row = make.row(Vec::new());
        let call = row.call.clone();
        let amount = if refused { 2 } else { 0 };
        let commit =
            Commit { ledger: vec![row], ..hold(make.reservation(&[&budget], TODAY, amount)) };
        let store = Arc::clone(&store);
        tasks.spawn(async move { (call, refused, store.commit(commit).await) });
    }
    for (call, refused, answer) in tasks.join_all().await {
        assert_eq!(answer.is_err(), refused, "{answer:?}");
        assert_eq!(store.call(&call).await.unwrap().len(), usize::from(!refused));
    }
}

/// However many reserve at once, the limit is never passed, and what settled is exact; afterwards
/// exactly as many more succeed as there is room for.
pub async fn many_tasks_never_pass_a_limit(place: &dyn Place) {
    const LIMIT: i64 = 300;
    const BOUND: i64 = 7;
    const COST: i64 = 5;
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(LIMIT, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let steps = [(); 4].map(|()| step(&make, &budget, BOUND, COST));
        let (store, budget) = (Arc::clone(&store), budget.clone());
        tasks.spawn(async move {
            let mut settled = 0;
            for step in steps {
                settled += i64::from(run(&*store, step).await);
                let taken = store.window(&budget.id, None).await.unwrap().taken();
                assert!(taken <= budget.limit, "{taken} of {LIMIT}");
            }
            settled
        });
    }
    let mut settled: i64 = tasks.join_all().await.into_iter().sum();
    assert!(settled >= LIMIT / BOUND, "{settled} of what fits at once");
    assert_eq!(amounts(&*store, &budget).await, [settled * COST, 0, 0, 0, 0]);
    while run(&*store, step(&make, &budget, BOUND, COST)).await {
        settled += 1;
    }
    assert_eq!(settled, (LIMIT - BOUND) / COST + 1);
    assert_eq!(amounts(&*store, &budget).await, [settled * COST, 0, 0, 0, 0]);
}

fn step(make: &Make, budget: &Budget, bound: i64, cost: i64) -> [Commit; 2] {
    let held = make.reservation(&[budget], TODAY, bound);
    let row = make.row(vec![settle(budget, TODAY, &held.id, cost)]);
    [hold(held), rows(vec![row])]
}

/// Whether the budget had room for it.
async fn run(store: &dyn Store, [intent, outcome]: [Commit; 2]) -> bool {
    match store.commit(intent).await {
        Ok(_) => {}
        Err(Error::OverLimit { .. }) => return false,
        Err(error) => panic!("{error:?}"),
    }
    store.commit(outcome).await.unwrap();
    true
}

/// What was answered is there for whoever opens the store next, without a clean end of the former
/// handle.
pub async fn answered_commits_are_there_when_it_is_opened_again(place: &dyn Place) {
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    let (node, row) = (make.node(), make.row(Vec::new()));
    let held = make.reservation(&[&budget], TODAY, 10);
    {
        let store = place.open().await.unwrap();
        store.put_budget(budget.clone()).await.unwrap();
        store.claim(make.claim(&budget, TODAY, 30, &node)).await.unwrap();
        store.commit(Commit { ledger: vec![row.clone()], ..hold(held.clone()) }).await.unwrap();
    }
    let store = place.open().await.unwrap();
    assert_eq!(store.call(&row.call).await.unwrap(), [row]);
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 0, 10, 30]);
    assert_eq!(store.presume_open_slices(&make.node()).await.unwrap(), 1);
    let settled = make.row(vec![settle(&budget, TODAY, &held.id, 10)]);
    store.commit(rows(vec![settled])).await.unwrap();
    let totals = store.window(&budget.id, None).await.unwrap();
    assert_eq!(totals.taken(), money(40));
    assert_eq!(amounts(&*store, &budget).await, [10, 0, 30, 0, 0]);
}

/// A later transaction has a larger number, also after the store was opened again.
pub async fn sequences_grow_over_openings(place: &dyn Place) {
    let mut last = 0;
    for _ in 0..3 {
        let store = place.open().await.unwrap();
        for _ in 0..3 {
            let sequence = store.commit(Commit::default()).await.unwrap().sequence;
            assert!(sequence > last, "{sequence} after {last}");
            last = sequence;
        }
    }
}
