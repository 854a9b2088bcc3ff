//! A budget is on something that Calls count in, or is refused.

use pipeline::{AskedScope, FoundScope, NewBudget, named_session};
use storage::budgets::Origin;
use storage::sessions::{Session, SessionState, SessionWrite};
use storage::{Commit, Scope, Store, WindowKind};
use types::ids::SessionId;
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Failure, Incoming};

use super::world::{MORNING, Node, dollars, new_key, node, request};

async fn scope(node: &Node, asked: AskedScope) -> Result<FoundScope, Failure> {
    node.directory.scope(DEFAULT_ACCOUNT, asked).await
}

fn session(session: &str, key: Option<&str>, user: Option<&str>) -> AskedScope {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    AskedScope::Session { session: session.to_owned(), key: owned(key), user: owned(user) }
}

fn param(result: Result<FoundScope, Failure>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidRequest);
    failure.param.unwrap_or_default().into()
}

fn named(key: &str, name: &str) -> Incoming {
    let mut incoming = request(key, "paid/m", Some(100));
    incoming.headers.session_name = Some(name.to_owned());
    incoming
}

/// Opens a session, and one that is forked from it.
async fn fork(node: &Node, account: &str) -> (SessionId, SessionId) {
    let (root, fork) = (SessionId::new(&node.ids), SessionId::new(&node.ids));
    let row = |id: &SessionId, forked_from: Option<&SessionId>| {
        SessionWrite::Open(Session {
            id: id.clone(),
            account: account.to_owned(),
            user: "u".to_owned(),
            name: None,
            root: root.clone(),
            forked_from: forked_from.cloned(),
            epoch: 1,
            owner: None,
            state: SessionState::Idle,
            newest: None,
            next_seq: 1,
            created_at: MORNING,
            last_used_at: MORNING,
        })
    };
    for write in [row(&root, None), row(&fork, Some(&root))] {
        let commit = Commit { sessions: vec![write], ..Commit::default() };
        node.store.commit(commit).await.unwrap();
    }
    (root, fork)
}

#[tokio::test]
async fn a_forks_budget_is_its_roots_and_what_is_not_there_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let (root, fork) = fork(&node, DEFAULT_ACCOUNT).await;
    let counted = Scope::Session(root.as_str().to_owned());
    let of_root = scope(&node, session(root.as_str(), None, None)).await.unwrap();
    assert_eq!((of_root.scope, of_root.note), (counted.clone(), None));
    let of_fork = scope(&node, session(fork.as_str(), None, None)).await.unwrap();
    assert_eq!(of_fork.scope, counted);
    assert!(of_fork.note.unwrap().contains(root.as_str()));

    let nobodys = SessionId::new(&node.ids);
    assert_eq!(param(scope(&node, session(nobodys.as_str(), None, None)).await), "scope.session");
    let (others, _) = self::fork(&node, "another").await;
    assert_eq!(param(scope(&node, session(others.as_str(), None, None)).await), "scope.session");
    let found = scope(&node, AskedScope::Key("ci".to_owned())).await.unwrap();
    assert_eq!(found.scope, Scope::Key("ci".to_owned()));
    assert_eq!(param(scope(&node, AskedScope::Key("cI".to_owned())).await), "scope.key");
    node.stop().await;
}

#[tokio::test]
async fn a_sessions_name_is_its_users_and_nobody_else_pays_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let asked = session("proj", Some("ci"), None);
    let found = scope(&node, asked).await.unwrap();
    let ci = node.directory.keys(DEFAULT_ACCOUNT).into_iter().find(|key| key.name == "ci").unwrap();
    let id = named_session(DEFAULT_ACCOUNT, &ci.user, "proj");
    assert_eq!(found.scope, Scope::Session(id.as_str().to_owned()));
    let by_user = scope(&node, session("proj", None, Some(&ci.user))).await.unwrap();
    assert_eq!(by_user.scope, found.scope);

    node.budget(found.scope, dollars("0.001"), WindowKind::Total).await;
    let refused = node.pipeline.run(named("ci", "proj")).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    drop(node.pipeline.run(named("other", "proj")).await.expect("another user's session"));

    assert_eq!(param(scope(&node, session("proj", Some("nobody"), None)).await), "scope.key");
    assert_eq!(param(scope(&node, session("proj", None, Some("nobody"))).await), "scope.user");
    assert_eq!(param(scope(&node, session("proj", Some("ci"), Some("u"))).await), "scope.user");
    assert_eq!(param(scope(&node, session("", Some("ci"), None)).await), "scope.session");
    assert_eq!(param(scope(&node, session(id.as_str(), Some("ci"), None)).await), "scope.session");
    node.stop().await;
}

#[tokio::test]
async fn a_name_alone_is_taken_as_long_as_one_user_can_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    assert_eq!(param(scope(&node, session("proj", None, None)).await), "scope.session");
    let by_name = || NewBudget {
        account: DEFAULT_ACCOUNT.to_owned(),
        scope: Scope::Session("proj".to_owned()),
        limit: dollars("0.001"),
        window: WindowKind::Total,
        zone: storage::Zone::UTC,
        origin: Origin::File,
    };
    let refused = node.directory.put_budget(by_name()).await.unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("scope.session"));
    assert!(node.directory.budgets(DEFAULT_ACCOUNT).is_empty());

    let other = node.directory.keys(DEFAULT_ACCOUNT).into_iter().find(|key| key.name == "other");
    node.directory.delete_key(DEFAULT_ACCOUNT, &other.unwrap().id).await.unwrap();
    assert!(scope(&node, session("proj", None, None)).await.is_ok());
    node.directory.put_budget(by_name()).await.unwrap();
    let refused = node.pipeline.run(named("ci", "proj")).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    // Whoever comes later shares it: a limit that was set is not lost.
    let (_, secret) = node.directory.create_key(new_key("late"), None).await.unwrap();
    let mut late = named("ci", "proj");
    late.credential = types::call::Credential::Key(secret);
    let refused = node.pipeline.run(late).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    node.stop().await;
}
