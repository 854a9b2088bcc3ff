//! What a refused Call leaves open: nothing. What is claimed at a crash is presumed spent, so a
//! slice that was claimed for a Call that was then refused would eat the budget with nothing in
//! flight.

use std::path::Path;
use std::sync::Arc;

use pipeline::Refused;
use storage::{Budget, Scope, WindowKind};
use types::clock::FakeClock;
use types::{ErrorCode, Money};

use super::world::{MORNING, Node, database, dollars, request, totals, usage};

/// An output cap whose bound is $0.201: more than the budgets here have.
const LARGE: u64 = 20_000;
/// One whose bound is $0.002.
const SMALL: u64 = 100;

async fn node(path: &Path) -> Node {
    let node = Node::start(path, &Arc::new(FakeClock::new(MORNING)), 1).await;
    node.furnish().await;
    node
}

async fn refused(node: &Node, cap: u64) -> Box<Refused> {
    let refused = node.pipeline.run(request("ci", "paid/m", Some(cap))).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    refused
}

/// What a crash now would presume spent, with nothing in flight.
async fn open(node: &Node, budget: &Budget) -> Money {
    totals(node, budget).await.claimed
}

#[tokio::test]
async fn a_refused_call_leaves_no_slice_open() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&database(&folder)).await;
    let budget = node.budget(Scope::Account, dollars("0.10"), WindowKind::Total).await;
    refused(&node, LARGE).await;
    assert_eq!(open(&node, &budget).await, Money::ZERO, "the first one that asked");
    // Small ones are served from slices of their own size, before and after.
    for _ in 0..2 {
        let answer = node.pipeline.run(request("ci", "paid/m", Some(SMALL))).await.unwrap();
        node.finish(answer, Some(usage(1, 1))).await;
        refused(&node, LARGE).await;
        node.pipeline.flush().await.unwrap();
        let slices = dollars("0.002").times(8).times(2);
        assert!(open(&node, &budget).await <= slices, "{}", open(&node, &budget).await);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_another_budget_refuses_leaves_none_open_either() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&database(&folder)).await;
    // Whichever id comes first, one of the two orders asks the large budget before the small one.
    let budgets = [
        node.budget(Scope::Account, dollars("5.00"), WindowKind::Total).await,
        node.budget(Scope::Key("ci".to_owned()), dollars("0.10"), WindowKind::Total).await,
    ];
    let other_way = [("0.10", Scope::Account), ("5.00", Scope::Key("ci".to_owned()))];
    refused(&node, LARGE).await;
    for budget in &budgets {
        assert!(open(&node, budget).await <= budget.limit.divided_by(100), "{budget:?}");
    }
    for (limit, scope) in other_way {
        node.budget(scope, dollars(limit), WindowKind::Total).await;
    }
    refused(&node, LARGE).await;
    for budget in &budgets {
        assert!(open(&node, budget).await <= budget.limit.divided_by(100), "{budget:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_refused_call_takes_nothing_from_the_cap_of_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&database(&folder)).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    // The first to ask claims all there is before it is refused.
    refused(&node, 200_000).await;
    let answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
    // A quarter of $1.00, less $0.002 for the input, at $10 a million.
    assert_eq!(answer.bill().output_cap, Some(24_800));
    drop(answer);
    node.stop().await;
}
