//! Budgets on everything that a Call has, and on what it is sent to: no way leads around them.

use futures_util::StreamExt;
use pipeline::{Charged, Reconciliation, StepTries};
use storage::{Budget, Commit, Scope, Store, WindowKind};
use types::call::{RoutePolicy, StepRef};
use types::error::Billed;
use types::ids::{SessionId, StepId};
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Incoming, Metadata, Money};

use super::attempts::{BOUND, asked, failed, read, routed_by, whole};
use super::world::{Node, as_step, dollars, finish, node, request, usage};

async fn routed(folder: &tempfile::TempDir, targets: &[&str]) -> Node {
    routed_by(folder, targets, RoutePolicy::OF_ROUTE).await
}

/// A Call that says all that a budget can be on.
fn telling() -> Incoming {
    let mut incoming = request("ci", "paid/m", Some(100));
    incoming.headers.task = Some("report".to_owned());
    incoming.headers.class = Some("batch".to_owned());
    incoming.headers.gateway = Some("edge".to_owned());
    incoming.headers.metadata = Metadata::parse(br#"{"team": "search", "n": 7}"#).unwrap();
    incoming
}

fn entry(name: &str, value: &str) -> Scope {
    Scope::Metadata { name: name.to_owned(), value: value.to_owned() }
}

/// Takes what a budget of one bound holds, and answers how the next Call is refused.
async fn holds(node: &Node, scope: Scope, incoming: impl Fn() -> Incoming) -> String {
    let budget = node.budget(scope, dollars(BOUND), WindowKind::Total).await;
    let mut first = node.pipeline.run(incoming()).await.unwrap();
    Node::begin(&mut first);
    let refused = node.pipeline.run(incoming()).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    let before = node.targets.asked().len();
    assert_eq!(before, 1, "nothing of the second was sent");
    node.finish(first, Some(usage(100, 10))).await;
    let status = node.pipeline.one_budget_status(DEFAULT_ACCOUNT, &budget.id).await.unwrap();
    assert_eq!((status.settled, status.reserved), (dollars("0.0002"), Money::ZERO));
    node.directory.delete_budget(DEFAULT_ACCOUNT, &budget.id).await.unwrap();
    refused.failure.message
}

#[tokio::test]
async fn a_budget_on_each_kind_of_scope_holds_and_others_pass() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let user = node.directory.keys(DEFAULT_ACCOUNT)[0].user.clone();
    let scopes = [
        (Scope::Account, "account"),
        (Scope::Key("ci".to_owned()), "key `ci`"),
        (Scope::User(user), "user `key_"),
        (Scope::Task("report".to_owned()), "task `report`"),
        (Scope::Class("batch".to_owned()), "class `batch`"),
        (Scope::Gateway("edge".to_owned()), "gateway `edge`"),
        (entry("team", "search"), "metadata `team` = `search`"),
        (entry("n", "7"), "metadata `n` = `7`"),
        (Scope::Model("paid/m".to_owned()), "model `paid/m`"),
        (Scope::Provider("paid".to_owned()), "provider `paid`"),
    ];
    for (scope, shown) in scopes {
        let message = holds(&node, scope, telling).await;
        assert!(message.contains(shown), "{message}");
    }
    let of_others = [
        Scope::Key("other".to_owned()),
        Scope::User("ci".to_owned()),
        Scope::Task("other".to_owned()),
        Scope::Class("interactive".to_owned()),
        Scope::Gateway("default".to_owned()),
        Scope::Route("m".to_owned()),
        Scope::Model("paid/unpriced".to_owned()),
        Scope::Provider("open".to_owned()),
        entry("team", "n"),
        entry("search", "team"),
    ];
    for scope in of_others {
        node.budget(scope, Money::ZERO, WindowKind::Total).await;
    }
    let answer = node.pipeline.run(telling()).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn a_routes_budget_counts_by_whichever_name_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m"]).await;
    node.budget(Scope::Route("r".to_owned()), Money::ZERO, WindowKind::Total).await;
    for name in ["route/r", "dynamic/r", "alias"] {
        let refused = node.pipeline.run(request("ci", name, Some(100))).await.unwrap_err();
        assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded, "{name}");
    }
    node.stop().await;
}

async fn settled(node: &Node, budget: &Budget) -> [Money; 2] {
    let status = node.pipeline.one_budget_status(DEFAULT_ACCOUNT, &budget.id).await.unwrap();
    assert_eq!(status.reserved, Money::ZERO);
    [status.settled, status.unreconciled]
}

#[tokio::test]
async fn a_target_whose_own_budget_is_used_up_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    let first = node.budget(Scope::Model("paid/m".to_owned()), Money::ZERO, WindowKind::Total);
    let first = first.await;
    let second = node.budget(Scope::Model("paid/n".to_owned()), dollars(BOUND), WindowKind::Total);
    let second = second.await;
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    assert_eq!(node.targets.asked(), ["paid/n"]);
    assert_eq!(settled(&node, &first).await, [Money::ZERO; 2]);
    assert_eq!(settled(&node, &second).await, [dollars("0.0002"), Money::ZERO]);
    // Nobody is left: the first one's refusal is the answer, and nothing is sent.
    let refused = node.pipeline.run(asked()).await.unwrap_err();
    assert!(refused.failure.message.contains("model `paid/m`"), "{}", refused.failure.message);
    assert_eq!(node.targets.asked(), [""; 0]);
    node.stop().await;
}

#[tokio::test]
async fn a_fallback_is_sent_only_once_its_own_budget_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n", "local/demo"]).await;
    let own = node.budget(Scope::Model("paid/n".to_owned()), dollars("0.002"), WindowKind::Total);
    let own = own.await;
    let all = node.budget(Scope::Provider("paid".to_owned()), dollars("1"), WindowKind::Total);
    let all = all.await;
    let cut = || failed(ErrorCode::UpstreamTimeout, Billed::Unknown);
    node.targets.script("paid/m", [cut()]);
    node.targets.script("local/demo", whole("demo"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start demo", "text", "finish"]);
    assert_eq!(node.targets.asked(), ["paid/m", "local/demo"], "0.002 is no bound of 0.003");
    assert_eq!(settled(&node, &own).await, [Money::ZERO; 2]);
    assert_eq!(settled(&node, &all).await, [Money::ZERO, dollars(BOUND)]);
    node.stop().await;
}

#[tokio::test]
async fn money_of_one_target_is_no_money_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    let of = |name: &str| Scope::Model(name.to_owned());
    let first = node.budget(of("paid/m"), dollars(BOUND), WindowKind::Total).await;
    let second = node.budget(of("paid/n"), dollars(BOUND), WindowKind::Total).await;
    let account = node.budget(Scope::Account, dollars(BOUND), WindowKind::Total).await;
    node.targets.script("paid/m", [failed(ErrorCode::UpstreamQuota, Billed::No)]);
    node.targets.script("paid/n", whole("n"));
    let mut answer = node.pipeline.run(asked()).await.unwrap();
    assert_eq!(read(&mut answer).await, ["start n", "text", "finish"]);
    assert_eq!(settled(&node, &first).await, [Money::ZERO; 2]);
    assert_eq!(settled(&node, &second).await, [dollars("0.0002"), Money::ZERO]);
    assert_eq!(settled(&node, &account).await, [dollars("0.0002"), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_cap_that_is_ours_is_lowered_to_what_a_models_budget_affords() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    // 1,000 tokens in at $2, if they are written to a cache, and 4,096 out at $10 a million.
    let own = node.budget(Scope::Provider("paid".to_owned()), dollars("0.043"), WindowKind::Total);
    own.await;
    let answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
    assert_eq!(node.targets.newest(&answer.call.id).2, Some(4_096));
    node.finish(answer, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_leaves_its_bound_in_a_providers_budget_until_it_is_reconciled() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let own = node.budget(Scope::Provider("paid".to_owned()), dollars("1"), WindowKind::Total);
    let own = own.await;
    let mut answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    Node::begin(&mut answer);
    drop(answer);
    assert_eq!(settled(&node, &own).await, [Money::ZERO, dollars(BOUND)]);
    let told = Reconciliation {
        budget: own.id.clone(),
        window: None,
        presumed: None,
        unreconciled: Some(Charged { charged: dollars("0.001"), seen: None }),
        operator: "ops".to_owned(),
    };
    node.pipeline.reconcile(DEFAULT_ACCOUNT, told).await.unwrap();
    assert_eq!(settled(&node, &own).await, [dollars("0.001"), Money::ZERO]);
    node.stop().await;
}

#[tokio::test]
async fn a_step_holds_its_targets_own_budgets_and_goes_on_to_one_that_can_pay() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed(&folder, &["paid/m", "paid/n"]).await;
    let of = |name: &str| Scope::Model(name.to_owned());
    let first = node.budget(of("paid/m"), dollars("0.002"), WindowKind::Total).await;
    let second = node.budget(of("paid/n"), dollars(BOUND), WindowKind::Total).await;
    let all = node.budget(Scope::Provider("paid".to_owned()), dollars("1"), WindowKind::Total);
    let all = all.await;
    let mut tries = StepTries::default();
    let session = SessionId::new(&node.ids);
    let step = || StepRef {
        begun: false,
        session: session.clone(),
        root: session.clone(),
        step: StepId::parse("step_x").unwrap(),
    };
    let commit = |admission: &pipeline::StepAdmission| Commit {
        reservations: admission.reservation.clone().into_iter().collect(),
        ..Commit::default()
    };
    let refused = node.pipeline.admit_step_again(as_step(asked(), step()), &mut tries).await;
    let refused = refused.unwrap();
    let error = node.store.commit(commit(&refused)).await.unwrap_err();
    node.pipeline.make_room(&refused).await.unwrap();
    let failure = node.pipeline.over_limit(&refused, &error, &mut tries);
    assert!(failure.message.contains("model `paid/m`"), "{}", failure.message);
    assert!(tries.go_cheaper(refused));

    let admitted = node.pipeline.admit_step_again(as_step(asked(), step()), &mut tries).await;
    let admitted = admitted.unwrap();
    assert_eq!(&*admitted.target().name, "paid/n");
    let held = admitted.reservation.clone().unwrap();
    let mut expected = [second.id.clone(), all.id.clone()];
    expected.sort();
    assert_eq!(held.budgets.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), expected);
    node.store.commit(commit(&admitted)).await.unwrap();
    let again = node.pipeline.admit_step(as_step(asked(), step())).await.unwrap();
    assert_eq!(&*again.target().name, "paid/m", "a step of its own begins at the first");
    node.targets.script("paid/n", [finish(Some(usage(100, 10)))]);
    let mut run = node.pipeline.run_step(admitted);
    while run.next().await.is_some() {}
    let ledger = vec![run.into_row()];
    node.store.commit(Commit { ledger, ..Commit::default() }).await.unwrap();
    for (budget, cost) in [(&first, "0"), (&second, "0.0002"), (&all, "0.0002")] {
        assert_eq!(settled(&node, budget).await, [dollars(cost), Money::ZERO]);
    }
    node.stop().await;
}
