//! Rules: a budget of its own for each value of something.

use pipeline::Refused;
use storage::{Dimension, Scope, WindowKind};
use types::call::RoutePolicy;
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Incoming, Metadata, Money};

use super::attempts::{BOUND, asked, read, routed_by, whole};
use super::world::{Node, database, dollars, node, request, usage};

fn each(dimension: Dimension) -> Scope {
    Scope::Each(dimension)
}

fn of_task(task: &str) -> Incoming {
    let mut incoming = request("ci", "paid/m", Some(100));
    incoming.headers.task = Some(task.to_owned());
    incoming
}

async fn done(node: &Node, incoming: Incoming) -> Result<(), Box<Refused>> {
    let answer = node.pipeline.run(incoming).await?;
    node.finish(answer, Some(usage(100, 10))).await;
    Ok(())
}

async fn refused(node: &Node, incoming: Incoming) -> String {
    let refused = node.pipeline.run(incoming).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    refused.failure.message
}

#[tokio::test]
async fn each_task_has_a_budget_of_its_own_that_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let rule = node.budget(each(Dimension::Task), dollars(BOUND), WindowKind::Total).await;
    done(&node, of_task("a")).await.unwrap();
    done(&node, of_task("b")).await.unwrap();
    assert!(refused(&node, of_task("a")).await.contains("task `a`"));
    let made = node.pipeline.rule_status(DEFAULT_ACCOUNT, &rule.id, (None, 10)).await.unwrap();
    assert_eq!(made.len(), 2);
    for status in &made {
        assert_eq!(status.budget.rule.as_ref(), Some(&rule.id));
        assert_eq!((status.settled, status.free), (dollars("0.0002"), dollars("0.0028")));
    }
    let page = (Some(&made[0].budget.id), 1);
    let rest = node.pipeline.rule_status(DEFAULT_ACCOUNT, &rule.id, page).await.unwrap();
    assert_eq!(rest, made[1..]);
    let all = node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap();
    assert_eq!(all.len(), 1, "the rule alone");

    let clock = std::sync::Arc::clone(&node.clock);
    node.stop().await;
    let node = Node::start(&database(&folder), &clock, 8).await;
    assert!(refused(&node, of_task("b")).await.contains("task `b`"));
    let again = node.pipeline.rule_status(DEFAULT_ACCOUNT, &rule.id, (None, 10)).await.unwrap();
    let told = |all: &[pipeline::BudgetStatus]| {
        let told = all.iter().map(|it| (it.budget.clone(), it.settled, it.free));
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&again), told(&made));
    node.stop().await;
}

#[tokio::test]
async fn what_a_rule_has_made_follows_it_and_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let rule = node.budget(each(Dimension::User), dollars(BOUND), WindowKind::Day).await;
    let call = || request("ci", "paid/m", Some(100));
    done(&node, call()).await.unwrap();
    refused(&node, call()).await;
    done(&node, request("other", "paid/m", Some(100))).await.unwrap();
    node.budget(each(Dimension::User), dollars("0.0032"), WindowKind::Day).await;
    done(&node, call()).await.unwrap();
    refused(&node, call()).await;
    let made = node.pipeline.rule_status(DEFAULT_ACCOUNT, &rule.id, (None, 10)).await.unwrap();
    assert!(made.iter().all(|status| status.budget.limit == dollars("0.0032")));
    node.directory.delete_budget(DEFAULT_ACCOUNT, &rule.id).await.unwrap();
    done(&node, call()).await.unwrap();
    let gone = node.pipeline.rule_status(DEFAULT_ACCOUNT, &rule.id, (None, 10)).await;
    assert_eq!(gone.unwrap_err().code, ErrorCode::NotFound);
    node.stop().await;
}

#[tokio::test]
async fn calls_that_bring_one_new_value_at_once_share_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let limit = dollars("0.009");
    let rule = node.budget(each(Dimension::Task), limit, WindowKind::Total).await;
    let begin = || node.pipeline.run(of_task("new"));
    let (a, b, c, d) = futures_util::join!(begin(), begin(), begin(), begin());
    let answers: Vec<_> = [a, b, c, d].into_iter().filter_map(Result::ok).collect();
    assert_eq!(answers.len(), 3, "0.009 holds three bounds of 0.003");
    let made = node.pipeline.rule_status(DEFAULT_ACCOUNT, &rule.id, (None, 10)).await.unwrap();
    assert_eq!((made.len(), made[0].reserved), (1, limit));
    drop(answers);
    node.stop().await;
}

#[tokio::test]
async fn metadata_that_say_nothing_have_no_budget_and_long_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let team = Dimension::Metadata("team".to_owned());
    node.budget(each(team), Money::ZERO, WindowKind::Total).await;
    let saying = |metadata: &str| {
        let mut incoming = request("ci", "paid/m", Some(100));
        incoming.headers.metadata = Metadata::parse(metadata.as_bytes()).unwrap();
        incoming
    };
    done(&node, saying(r#"{"other": "search"}"#)).await.unwrap();
    assert!(refused(&node, saying(r#"{"team": "search"}"#)).await.contains("`search`"));
    let long = format!(r#"{{"team": "{}"}}"#, "x".repeat(129));
    let failure = node.pipeline.run(saying(&long)).await.unwrap_err().failure;
    assert_eq!(failure.code, ErrorCode::InvalidRequest);
    assert_eq!(failure.param.as_deref(), Some("holdfast-metadata"));
    node.stop().await;
}

#[tokio::test]
async fn each_model_of_a_route_has_a_budget_and_one_that_is_used_up_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let node = routed_by(&folder, &["paid/m", "paid/n"], RoutePolicy::OF_ROUTE).await;
    node.budget(each(Dimension::Model), dollars(BOUND), WindowKind::Total).await;
    for (target, name) in [("paid/m", "m"), ("paid/n", "n")] {
        node.targets.script(target, whole(name));
        let mut answer = node.pipeline.run(asked()).await.unwrap();
        read(&mut answer).await;
        assert_eq!(node.targets.asked(), [target]);
    }
    assert!(refused(&node, asked()).await.contains("model `paid/m`"));
    node.stop().await;
}
