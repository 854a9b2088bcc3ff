//! An operator's word about what was charged moves what the operator saw, in the budget's own
//! window.

use std::sync::Arc;
use std::time::Duration;

use pipeline::{Charged, Reconciliation};
use storage::{Budget, Scope, WindowKind};
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Money};

use super::world::{MORNING, Node, database, dollars, node, request, totals};

/// Leaves $0.003 unreconciled.
async fn cut_off(node: &Node) {
    let mut answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    Node::begin(&mut answer);
    drop(answer);
    node.pipeline.flush().await.unwrap();
}

fn charged(budget: &Budget, charged: &str, seen: Option<&str>) -> Reconciliation {
    Reconciliation {
        budget: budget.id.clone(),
        window: None,
        presumed: None,
        unreconciled: Some(Charged { charged: dollars(charged), seen: seen.map(dollars) }),
        operator: "ops".to_owned(),
    }
}

#[tokio::test]
async fn what_came_after_the_look_stays_unreconciled() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let budget = node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    cut_off(&node).await;
    // The operator looks, and meanwhile another Call is cut off.
    cut_off(&node).await;
    let told = charged(&budget, "0.001", Some("0.003"));
    let after = node.pipeline.reconcile(DEFAULT_ACCOUNT, told.clone()).await.unwrap();
    assert_eq!((after.settled, after.unreconciled), (dollars("0.001"), dollars("0.003")));

    let more = charged(&budget, "0.004", Some("0.003"));
    let refused = node.pipeline.reconcile(DEFAULT_ACCOUNT, more).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    // Without a look it is all that is there; told once more, there is nothing left to move.
    let rest = charged(&budget, "0.00", None);
    let after = node.pipeline.reconcile(DEFAULT_ACCOUNT, rest).await.unwrap();
    assert_eq!((after.settled, after.unreconciled), (dollars("0.001"), Money::ZERO));
    let late = node.pipeline.reconcile(DEFAULT_ACCOUNT, told).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::Conflict);
    assert_eq!(totals(&node, &budget).await.settled, dollars("0.001"));
    node.stop().await;
}

#[tokio::test]
async fn the_window_is_the_budgets_own_after_the_clock_went_back() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(&folder).await;
    let budget = first.budget(Scope::Account, dollars("1.00"), WindowKind::Day).await;
    let tomorrow = MORNING.plus(Duration::from_secs(86_400));
    first.clock.jump_to(tomorrow);
    cut_off(&first).await;
    let clock = Arc::clone(&first.clock);
    first.stop().await;
    clock.jump_to(MORNING);
    let second = Node::start(&database(&folder), &clock, 2).await;
    let told = charged(&budget, "0.002", None);
    let after = second.pipeline.reconcile(DEFAULT_ACCOUNT, told).await.unwrap();
    assert_eq!(after.window, WindowKind::Day.at(tomorrow, &storage::Zone::UTC));
    assert_eq!((after.settled, after.unreconciled), (dollars("0.002"), Money::ZERO));
    second.stop().await;
}
