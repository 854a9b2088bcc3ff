//! A session's steps: money as rows of the session's own commits.

use std::sync::Arc;

use futures_util::StreamExt;
use storage::{Commit, Scope, Store, WindowKind};
use types::call::StepRef;
use types::ids::{SessionId, StepId};
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Money};

use pipeline::{StepAdmission, StepIntent, StepTries};

use super::world::{
    MORNING, Node, as_step, database, dollars, finish, node, request, rows, totals, usage,
};

fn step(node: &Node) -> StepRef {
    let session = SessionId::new(&node.ids);
    StepRef { begun: false, root: session.clone(), session, step: StepId::new(&node.ids) }
}

async fn admit(node: &Node, cap: Option<u64>) -> StepAdmission {
    let incoming = as_step(request("ci", "paid/m", cap), step(node));
    node.pipeline.admit_step(incoming).await.unwrap()
}

fn intent_commit(admission: &StepAdmission) -> Commit {
    let reservations = admission.reservation.clone().into_iter().collect();
    Commit { reservations, ..Commit::default() }
}

#[tokio::test]
async fn a_step_is_held_and_settled_by_its_own_commits() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let budget = node.budget(Scope::Account, dollars("0.02"), WindowKind::Day).await;
    let admission = admit(&node, Some(100)).await;
    let (call, attempt) = (admission.call.id.clone(), admission.attempt.clone());
    node.store.commit(intent_commit(&admission)).await.unwrap();
    assert_eq!(totals(&node, &budget).await.reserved, dollars("0.003"));
    let status = node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap().remove(0);
    assert_eq!((status.reserved, status.free), (dollars("0.003"), dollars("0.017")));

    let mut run = node.pipeline.run_step(admission);
    assert!(futures_util::FutureExt::now_or_never(run.next()).is_none());
    node.tell(&call, finish(Some(usage(100, 10))));
    while run.next().await.is_some() {}
    assert_eq!(run.bill().cost, Some(dollars("0.0002")));
    let commit = Commit { ledger: vec![run.into_row()], ..Commit::default() };
    node.store.commit(commit).await.unwrap();
    let after = totals(&node, &budget).await;
    assert_eq!((after.settled, after.reserved), (dollars("0.0002"), Money::ZERO));
    let row = rows(&node, &call).await.remove(0);
    assert_eq!((row.attempt, row.cost), (attempt, dollars("0.0002")));
    assert!(row.step.is_some() && row.session.is_some());
    node.stop().await;
}

#[tokio::test]
async fn a_lost_attempt_is_billed_from_its_intent() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(&folder).await;
    let budget = first.budget(Scope::Account, dollars("0.02"), WindowKind::Day).await;
    let admission = admit(&first, Some(100)).await;
    first.store.commit(intent_commit(&admission)).await.unwrap();
    let journaled = serde_json::to_string(&admission.intent()).unwrap();
    let clock = Arc::clone(&first.clock);
    first.stop().await;

    let second = Node::start(&database(&folder), &clock, 2).await;
    let intent: StepIntent = serde_json::from_str(&journaled).unwrap();
    let row = second.pipeline.lost_row(&intent, MORNING);
    assert_eq!((&row.call, row.unreconciled), (&admission.call.id, dollars("0.003")));
    second.store.commit(Commit { ledger: vec![row], ..Commit::default() }).await.unwrap();
    let after = totals(&second, &budget).await;
    assert_eq!((after.reserved, after.unreconciled), (Money::ZERO, dollars("0.003")));
    second.stop().await;
}

#[tokio::test]
async fn a_step_that_is_given_up_is_charged_if_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Day).await;
    let unsent = node.pipeline.run_step(admit(&node, Some(100)).await).into_row();
    assert_eq!((unsent.unreconciled, unsent.error), (Money::ZERO, Some(ErrorCode::Cancelled)));
    let mut sent = node.pipeline.run_step(admit(&node, Some(100)).await);
    assert!(futures_util::FutureExt::now_or_never(sent.next()).is_none());
    let sent = sent.into_row();
    assert_eq!(sent.unreconciled, dollars("0.003"));
    assert_eq!(sent.charges[0].unreconciled, dollars("0.003"));
    node.stop().await;
}

#[tokio::test]
async fn idle_slices_make_room_for_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("0.024"), WindowKind::Day).await;
    // One plain Call takes a slice of eight bounds: all there is.
    let plain = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    node.finish(plain, Some(usage(0, 0))).await;
    let admission = admit(&node, Some(100)).await;
    let refused = node.store.commit(intent_commit(&admission)).await.unwrap_err();
    assert!(matches!(refused, storage::Error::OverLimit { .. }), "{refused:?}");
    node.pipeline.make_room(&admission).await.unwrap();
    node.store.commit(intent_commit(&admission)).await.unwrap();

    // What is really gone is refused, in the same words as to anybody.
    let large = admit(&node, Some(2_000)).await;
    node.pipeline.make_room(&large).await.unwrap();
    let refused = node.store.commit(intent_commit(&large)).await.unwrap_err();
    let failure = node.pipeline.over_limit(&large, &refused, &mut StepTries::default());
    assert_eq!(failure.code, ErrorCode::BudgetExceeded);
    for part in ["$0.021 free", "limit of $0.024", "$0.022"] {
        assert!(failure.message.contains(part), "{part} in {}", failure.message);
    }
    assert!(failure.retry_after.is_some());
    node.pipeline.run_step(admission).into_row();
    node.stop().await;
}

#[tokio::test]
async fn a_steps_cap_follows_what_is_free_now() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("0.60"), WindowKind::Total).await;
    let first = admit(&node, None).await;
    // A quarter of $0.60, less $0.002 for the input, at $10 a million.
    assert_eq!(first.reservation.as_ref().unwrap().amount, dollars("0.15"));
    node.store.commit(intent_commit(&first)).await.unwrap();
    let second = admit(&node, None).await;
    assert_eq!(second.reservation.as_ref().unwrap().amount, dollars("0.1125"));
    // Where nothing is limited, nothing is held.
    let free = as_step(request("ci", "local/demo", None), step(&node));
    assert_eq!(node.pipeline.admit_step(free).await.unwrap().reservation, None);
    node.stop().await;
}

#[tokio::test]
async fn a_budget_on_a_session_counts_its_whole_root() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let root = SessionId::new(&node.ids);
    let budget = node
        .budget(Scope::Session(root.as_str().to_owned()), dollars("0.01"), WindowKind::Total)
        .await;
    let fork = StepRef { root, ..step(&node) };
    let incoming = as_step(request("ci", "paid/m", Some(100)), fork);
    let admission = node.pipeline.admit_step(incoming).await.unwrap();
    let reservation = admission.reservation.unwrap();
    assert_eq!(reservation.budgets[0].0, budget.id);
    node.stop().await;
}
