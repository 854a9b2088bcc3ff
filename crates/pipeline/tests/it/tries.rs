//! The tries of a session's step: what they may cost together, and who is asked when a budget
//! refuses one.

use futures_util::StreamExt;
use pipeline::{StepAdmission, StepTries};
use storage::{Commit, Scope, Store, WindowKind};
use types::call::{RoutePolicy, StepRef};
use types::error::Billed;
use types::ids::{SessionId, StepId};
use types::{ErrorCode, Failure, Incoming, OutcomeEvent};

use super::attempts::{asked, failed, routed_by, whole};
use super::world::{Node, as_step, dollars};

/// A step under way, as a session does it.
struct Step {
    incoming: Box<dyn Fn() -> Incoming>,
    tries: StepTries,
    /// Rows that wait for the next commit.
    ledger: Vec<storage::LedgerRow>,
}

impl Step {
    fn new(node: &Node, cap: Option<&'static str>) -> Self {
        let (session, step) = (SessionId::new(&node.ids), StepId::new(&node.ids));
        let incoming = move || {
            let step = StepRef {
                begun: false,
                root: session.clone(),
                session: session.clone(),
                step: step.clone(),
            };
            let mut incoming = as_step(asked(), step);
            incoming.headers.budget = cap.map(dollars);
            incoming
        };
        Self { incoming: Box::new(incoming), tries: StepTries::default(), ledger: Vec::new() }
    }

    /// Admits the next try and makes its intent durable, at whatever target the budgets can pay.
    async fn begin(&mut self, node: &Node) -> Result<StepAdmission, Failure> {
        loop {
            let admitted = node.pipeline.admit_step_again((self.incoming)(), &mut self.tries).await;
            let admission = admitted.map_err(|refused| refused.failure)?;
            let commit = || Commit {
                reservations: admission.reservation.clone().into_iter().collect(),
                ledger: self.ledger.clone(),
                ..Commit::default()
            };
            let Err(_) = node.store.commit(commit()).await else {
                self.ledger.clear();
                return Ok(admission);
            };
            node.pipeline.make_room(&admission).await.unwrap();
            let error = node.store.commit(commit()).await.unwrap_err();
            let failure = node.pipeline.over_limit(&admission, &error, &mut self.tries);
            if !self.tries.go_cheaper(admission) {
                return Err(failure);
            }
        }
    }

    /// Runs a try that fails so. Whether the step goes on.
    async fn fail(&mut self, node: &Node, admission: StepAdmission, how: OutcomeEvent) -> bool {
        let target = admission.target().name.to_string();
        node.targets.script(&target, [how]);
        let mut run = node.pipeline.run_step(admission);
        let Some(OutcomeEvent::Failed(failure)) = run.next().await else { panic!("it failed") };
        let goes_on = run.next_try(&mut self.tries, &failure).is_some();
        let row = run.into_row();
        self.tries.charge(&row);
        self.ledger.push(row);
        goes_on
    }

    /// Runs a try that answers.
    async fn answer(&mut self, node: &Node, admission: StepAdmission) {
        node.targets.script(&admission.target().name, whole("x"));
        let mut run = node.pipeline.run_step(admission);
        while run.next().await.is_some() {}
        self.ledger.push(run.into_row());
        let ledger = std::mem::take(&mut self.ledger);
        node.store.commit(Commit { ledger, ..Commit::default() }).await.unwrap();
    }
}

async fn routed(folder: &tempfile::TempDir, targets: &[&str]) -> Node {
    routed_by(folder, targets, RoutePolicy::OF_ROUTE).await
}

fn late() -> OutcomeEvent {
    failed(ErrorCode::UpstreamTimeout, Billed::Unknown)
}

fn turned_away() -> OutcomeEvent {
    OutcomeEvent::Failed(Box::new(Failure::turned_away(ErrorCode::Overloaded, "told to")))
}

#[tokio::test]
async fn the_callers_cap_is_for_all_tries_of_a_step_together() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    let mut step = Step::new(&node, Some("0.004"));
    let first = step.begin(&node).await.unwrap();
    assert!(step.fail(&node, first, late()).await, "another target is left");
    let refused = step.begin(&node).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::BudgetExceeded);
    assert!(refused.message.contains("$0.003 is charged already"), "{}", refused.message);
    assert_eq!(step.tries.refused(refused).code, ErrorCode::UpstreamTimeout);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    let counted = node.pipeline.metrics();
    assert!(!counted.contains("holdfast_refused_total{"), "it was asked, so it is no refusal");
    node.stop().await;
}

#[tokio::test]
async fn a_target_that_costs_nothing_is_asked_beyond_the_callers_cap() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n", "local/demo"]).await;
    let mut step = Step::new(&node, Some("0.004"));
    let first = step.begin(&node).await.unwrap();
    assert!(step.fail(&node, first, late()).await);
    let second = step.begin(&node).await.unwrap();
    assert_eq!(&*second.target().name, "local/demo");
    step.answer(&node, second).await;
    node.stop().await;
}

#[tokio::test]
async fn a_used_up_budget_leaves_the_targets_that_it_can_still_pay() {
    for (limit, target) in [("0.006", "paid/dear"), ("0.003", "paid/m"), ("0.002", "local/demo")] {
        let folder = tempfile::tempdir().unwrap();
        let node = routed(&folder, &["paid/dear", "paid/m", "local/demo"]).await;
        node.budget(Scope::Account, dollars(limit), WindowKind::Day).await;
        let mut step = Step::new(&node, None);
        let admission = step.begin(&node).await.unwrap();
        assert_eq!(&*admission.target().name, target, "with ${limit}");
        step.answer(&node, admission).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn a_budget_that_can_pay_no_target_refuses_the_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/dear", "paid/m"]).await;
    node.budget(Scope::Account, dollars("0.002"), WindowKind::Day).await;
    let refused = Step::new(&node, None).begin(&node).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::BudgetExceeded);
    assert!(refused.message.contains("$0.002 free"), "{}", refused.message);
    let counted = node.pipeline.metrics();
    let line = r#"holdfast_refused_total{code="budget_exceeded",class="agent"} 1"#;
    assert!(counted.contains(line), "{counted}");
    node.stop().await;
}

#[tokio::test]
async fn a_step_that_the_cloud_is_too_dear_for_waits_at_home() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["local/demo", "paid/m"]).await;
    node.budget(Scope::Account, dollars("0.002"), WindowKind::Day).await;
    let mut step = Step::new(&node, None);
    let first = step.begin(&node).await.unwrap();
    assert!(step.fail(&node, first, turned_away()).await);
    let second = step.begin(&node).await.unwrap();
    assert_eq!(&*second.target().name, "local/demo");
    step.answer(&node, second).await;
    let patience = node.targets.patience();
    assert!(patience[0].is_some() && patience[1].is_none(), "{patience:?}");
    node.stop().await;
}

#[tokio::test]
async fn one_that_failed_is_not_asked_again_because_the_next_is_too_dear() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/dear"]).await;
    node.budget(Scope::Account, dollars("0.0085"), WindowKind::Day).await;
    let mut step = Step::new(&node, None);
    let first = step.begin(&node).await.unwrap();
    assert!(step.fail(&node, first, late()).await);
    // $0.0055 are free: enough for the one that failed, not for the next.
    let refused = step.begin(&node).await.unwrap_err();
    assert_eq!(step.tries.refused(refused).code, ErrorCode::UpstreamTimeout);
    assert_eq!(node.targets.asked(), ["paid/m"]);
    let ledger = std::mem::take(&mut step.ledger);
    node.store.commit(Commit { ledger, ..Commit::default() }).await.unwrap();
    node.stop().await;
}
