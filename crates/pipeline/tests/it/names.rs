//! Who asks, and what names stand for.

use std::sync::Arc;
use std::time::Duration;

use pipeline::named_session;
use storage::models::DatedPrice;
use storage::{Scope, WindowKind};
use types::call::{CallKind, Credential, NAME_CHARS_MAX, ToolInvocation};
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Incoming, Money, Price, Secret};

use super::world::{MORNING, Node, database, dollars, model, new_key, node, price, request, usage};

async fn code(node: &Node, incoming: Incoming) -> ErrorCode {
    node.pipeline.run(incoming).await.unwrap_err().failure.code
}

#[tokio::test]
async fn a_key_works_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let (key, secret) = node.directory.create_key(new_key("new"), None).await.unwrap();
    let credential = Credential::Key(secret);
    let principal = node.pipeline.authenticate(&credential).await.unwrap();
    assert_eq!((&principal.key, &*principal.user), (&key.id, key.id.as_str()));
    assert_eq!(node.pipeline.principal(&key.id).as_deref(), Some(&*principal));
    assert!(node.directory.delete_key(DEFAULT_ACCOUNT, &key.id).await.unwrap());
    let failure = node.pipeline.authenticate(&credential).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unauthenticated);
    // A session that goes on with a principal of before stops too.
    let failure = node.pipeline.authenticate(&Credential::Known(principal)).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unauthenticated);
    node.stop().await;
}

#[tokio::test]
async fn keys_survive_a_restart_and_names_and_secrets_are_unique() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(&folder).await;
    let taken = first.directory.create_key(new_key("ci"), None).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::Conflict);
    let secret = Secret::new("hf_ci");
    let taken = first.directory.put_key_with_secret(new_key("thief"), &secret).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::Conflict);
    let before = first.directory.keys(DEFAULT_ACCOUNT);
    let clock = Arc::clone(&first.clock);
    first.stop().await;
    let second = Node::start(&database(&folder), &clock, 2).await;
    assert_eq!(second.directory.keys(DEFAULT_ACCOUNT), before);
    drop(second.pipeline.run(request("ci", "paid/m", None)).await.unwrap());
    // The same name with a new secret is the same key.
    let secret = Secret::new("hf_new");
    let changed = second.directory.put_key_with_secret(new_key("ci"), &secret).await.unwrap();
    assert!(before.iter().any(|key| key.id == changed.id));
    assert_eq!(code(&second, request("ci", "paid/m", None)).await, ErrorCode::Unauthenticated);
    drop(second.pipeline.run(request("new", "paid/m", None)).await.unwrap());
    second.stop().await;
}

#[tokio::test]
async fn a_key_comes_with_its_budget_and_a_refused_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(&folder).await;
    let limit = Some((dollars("0.001"), WindowKind::Day));
    let (_, secret) = first.directory.create_key(new_key("poor"), limit).await.unwrap();
    let mut asked = request("ci", "paid/m", Some(100));
    asked.credential = Credential::Key(secret);
    assert_eq!(code(&first, asked).await, ErrorCode::BudgetExceeded, "it holds at once");
    let before = first.directory.budgets(DEFAULT_ACCOUNT);
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].scope, Scope::Key("poor".to_owned()));

    let raised = Some((dollars("9.00"), WindowKind::Day));
    let refused = first.directory.create_key(new_key("poor"), raised).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert_eq!(first.directory.budgets(DEFAULT_ACCOUNT), before);
    let clock = Arc::clone(&first.clock);
    first.stop().await;
    let second = Node::start(&database(&folder), &clock, 2).await;
    assert_eq!(second.directory.budgets(DEFAULT_ACCOUNT), before, "nor in the store");
    second.stop().await;
}

#[tokio::test]
async fn unknown_names_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    for name in ["paid/nothing", "m", "", "open/", "nobody/m"] {
        let refused = node.pipeline.run(request("ci", name, None)).await.unwrap_err();
        assert_eq!(refused.failure.code, ErrorCode::ModelNotFound, "{name}");
        assert_eq!(refused.failure.param.as_deref(), Some("model"));
    }
    assert_eq!(code(&node, request("nobody", "paid/m", None)).await, ErrorCode::Unauthenticated);
    let stranger = node.directory.put_model(model("nobody", "m", None)).await.unwrap_err();
    assert_eq!(stranger.param.as_deref(), Some("provider"));
    node.stop().await;
}

#[tokio::test]
async fn a_price_holds_from_its_day_on() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let mut dated = model("paid", "m", Some(price()));
    let since = MORNING.plus(Duration::from_secs(3_600));
    dated.prices.push(DatedPrice { since, price: Price::free("gift@1") });
    let stored = node.directory.put_model(dated).await.unwrap();
    assert_eq!(stored.version, 2, "the model was there before");
    let cost = async || {
        let answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
        node.finish(answer, Some(usage(100, 10))).await.bill().cost
    };
    assert_eq!(cost().await, Some(dollars("0.0002")));
    node.clock.jump_to(since);
    assert_eq!(cost().await, Some(Money::ZERO));
    assert!(node.directory.delete_model("paid/m").await.unwrap());
    assert_eq!(code(&node, request("ci", "paid/m", None)).await, ErrorCode::ModelNotFound);
    node.stop().await;
}

#[tokio::test]
async fn a_named_session_has_one_id_and_its_own_budget() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let ci = node.directory.keys(DEFAULT_ACCOUNT).into_iter().find(|key| key.name == "ci").unwrap();
    let id = named_session(DEFAULT_ACCOUNT, &ci.user, "run-1").as_str().to_owned();
    node.budget(Scope::Session(id), dollars("0.001"), WindowKind::Total).await;
    let named = |key: &str, name: &str| {
        let mut incoming = request(key, "paid/m", Some(100));
        incoming.headers.session_name = Some(name.to_owned());
        incoming.headers.task = Some("nightly".to_owned());
        incoming
    };
    assert_eq!(code(&node, named("ci", "run-1")).await, ErrorCode::BudgetExceeded);
    drop(node.pipeline.run(named("other", "run-1")).await.expect("another user's session"));
    let one = node.pipeline.run(named("ci", "run-2")).await.unwrap();
    let same = node.pipeline.run(named("ci", "run-2")).await.unwrap();
    let other = node.pipeline.run(named("other", "run-2")).await.unwrap();
    assert_eq!(one.call.session, same.call.session);
    assert_ne!(one.call.session, other.call.session, "another user's");
    assert_eq!(&*one.call.task, "nightly");
    let id = one.call.session.clone().unwrap();
    assert_eq!(id.as_str().len(), "sess_".len() + 26);
    // A budget may name the session by its id, too.
    node.budget(Scope::Session(id.as_str().to_owned()), dollars("0.001"), WindowKind::Total).await;
    assert_eq!(code(&node, named("ci", "run-2")).await, ErrorCode::BudgetExceeded);
    drop((one, same, other));
    node.stop().await;
}

#[tokio::test]
async fn names_have_1_to_128_characters() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let longest = "ä".repeat(NAME_CHARS_MAX);
    let mut incoming = request("ci", "paid/m", None);
    incoming.headers.session_name = Some(longest.clone());
    drop(node.pipeline.run(incoming).await.unwrap());
    for name in [String::new(), longest + "x"] {
        let mut incoming = request("ci", "paid/m", None);
        incoming.headers.task = Some(name);
        let failure = node.pipeline.run(incoming).await.unwrap_err().failure;
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        assert_eq!(failure.param.as_deref(), Some("holdfast-task"));
        assert!(failure.message.contains("holdfast-task"));
    }
    let mut incoming = request("ci", "paid/m", None);
    incoming.headers.class = Some("c".repeat(NAME_CHARS_MAX + 1));
    let failure = node.pipeline.run(incoming).await.unwrap_err().failure;
    assert_eq!(failure.param.as_deref(), Some("holdfast-class"));
    node.stop().await;
}

#[tokio::test]
async fn nobody_names_a_session_by_the_id_of_anothers() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let mut incoming = request("ci", "paid/m", None);
    incoming.headers.session_name = Some("victim".to_owned());
    let victim = node.pipeline.run(incoming).await.unwrap();
    let id = victim.call.session.clone().unwrap();
    drop(victim);
    let mut incoming = request("other", "paid/m", None);
    incoming.headers.session_name = Some(id.as_str().to_owned());
    let failure = node.pipeline.run(incoming).await.unwrap_err().failure;
    assert_eq!(failure.code, ErrorCode::InvalidRequest);
    assert_eq!(failure.param.as_deref(), Some("holdfast-session"));
    node.stop().await;
}

#[tokio::test]
async fn every_call_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
    let deadline = answer.call.deadline.expect("a call that nobody limits is limited all the same");
    assert_eq!(deadline, answer.call.started + pipeline::identify::CALL_TIME_MAX);
    drop(answer);
    node.stop().await;
}

#[tokio::test]
async fn a_tool_call_goes_to_the_tools_and_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, Money::ZERO, WindowKind::Total).await;
    let mut incoming = request("ci", "", None);
    incoming.kind = CallKind::Tool(ToolInvocation {
        server: "notes".to_owned(),
        tool: "add_note".to_owned(),
        arguments: serde_json::json!({}),
        idempotency_key: "step_1".to_owned(),
    });
    let answer = node.pipeline.run(incoming).await.unwrap();
    assert_eq!(&*answer.call.plan.targets[0].provider, "mcp");
    assert_eq!(&*answer.call.plan.name, "notes/add_note");
    assert_eq!(node.finish(answer, None).await.bill().cost, Some(Money::ZERO));
    node.stop().await;
}
