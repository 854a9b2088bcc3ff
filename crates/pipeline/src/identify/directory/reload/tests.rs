use std::time::Duration;

use storage::budgets::Origin;
use storage::sqlite::SqliteStore;
use storage::{Keys, Models, Objects, Scope, WindowKind};
use tokio_util::task::TaskTracker;
use types::call::RoutePolicy;
use types::clock::FakeClock;
use types::principal::{DEFAULT_ACCOUNT, Role};
use types::{Attempt, ErrorCode, Execute, Ids, Money, OutcomeStream, Timestamp};

use super::super::{DirectoryParts, ProviderInfo, RouteInfo};
use super::*;
use crate::route::health::Health;

const SECRET: &str = "hf_0123456789abcdef";

fn provider(name: &str) -> ProviderInfo {
    ProviderInfo { name: name.to_owned(), any_model: true, ..ProviderInfo::default() }
}

fn upstreams(names: &[&str]) -> Upstreams {
    let providers = names.iter().map(|name| provider(name)).collect();
    Upstreams { providers, ..Upstreams::default() }
}

async fn directory(folder: &tempfile::TempDir) -> (Directory, SqliteStore) {
    let store = SqliteStore::open(&folder.path().join("holdfast.db")).unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(1_000_000)));
    let parts = DirectoryParts {
        store: Arc::new(store.clone()),
        clock: Arc::clone(&clock) as _,
        ids: Arc::new(Ids::seeded(clock, 7)),
        upstreams: upstreams(&["old"]),
        tracker: TaskTracker::new(),
    };
    (Directory::load(parts).await.unwrap(), store)
}

fn key(name: &str, secret: &str) -> (NewKey, Secret) {
    let new = NewKey {
        account: DEFAULT_ACCOUNT.to_owned(),
        name: name.to_owned(),
        user: None,
        role: Role::Member,
        output_cap_default: None,
        origin: Origin::File,
    };
    (new, Secret::new(secret))
}

fn model(provider: &str) -> Model {
    Model {
        name: format!("{provider}/m"),
        provider: provider.to_owned(),
        upstream_model: "m".to_owned(),
        path: None,
        sha256: None,
        prices: Vec::new(),
        output_tokens_max: None,
        context_tokens: None,
        origin: Origin::File,
        version: 0,
        created_at: Timestamp(0),
    }
}

fn budget(scope: Scope) -> NewBudget {
    NewBudget {
        account: DEFAULT_ACCOUNT.to_owned(),
        scope,
        limit: Money::from_nanodollars(5),
        window: WindowKind::Total,
        zone: storage::Zone::UTC,
        origin: Origin::File,
    }
}

/// Begins a change, leaves once the store was asked, and waits until nothing is under way.
async fn abandon(directory: &Directory, change: impl Future) {
    {
        let mut change = std::pin::pin!(change);
        assert!(futures_util::poll!(change.as_mut()).is_pending(), "the store was not asked");
    }
    // Whoever changes something next waits for what is under way.
    drop(directory.changing().await);
}

#[tokio::test]
async fn a_change_whose_caller_leaves_is_seen_as_the_store_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, store) = directory(&folder).await;
    let (new, secret) = key("ci", SECRET);
    let id = directory.put_key_with_secret(new.clone(), &secret).await.unwrap().id;
    let hash = super::super::secret_hash(SECRET);
    assert!(directory.snapshot().by_secret(&hash).is_some());

    abandon(&directory, directory.delete_key(DEFAULT_ACCOUNT, &id)).await;
    assert!(store.keys().await.unwrap().is_empty());
    assert!(directory.snapshot().by_secret(&hash).is_none(), "a deleted key works");

    let (other, _) = key("other", SECRET);
    let limit = Some((Money::from_nanodollars(5), WindowKind::Total));
    abandon(&directory, directory.create_key(other, limit)).await;
    abandon(&directory, directory.put_key_with_secret(new, &secret)).await;
    assert_eq!(directory.keys(DEFAULT_ACCOUNT).len(), 2);
    abandon(&directory, directory.put_budget(budget(Scope::Key("ci".to_owned())))).await;
    abandon(&directory, directory.put_model(model("old"))).await;
    assert_eq!(store.models().await.unwrap().len(), 1);
    assert!(directory.model("old/m").is_some());
    let budgets = directory.budgets(DEFAULT_ACCOUNT);
    assert_eq!(budgets.len(), 2);
    for budget in budgets {
        abandon(&directory, directory.delete_budget(DEFAULT_ACCOUNT, &budget.id)).await;
    }
    abandon(&directory, directory.delete_model("old/m")).await;
    assert!(directory.budgets(DEFAULT_ACCOUNT).is_empty() && directory.model("old/m").is_none());

    let change = Change { upstreams: Some(upstreams(&["new"])), ..Change::default() };
    abandon(&directory, directory.change(|_| Ok(change))).await;
    assert!(directory.snapshot().plan("old/x", Timestamp(0)).is_none());
}

#[tokio::test]
async fn all_of_a_change_is_seen_at_once_and_is_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, store) = directory(&folder).await;
    let before = directory.snapshot();
    let route = RouteInfo {
        name: "fast".to_owned(),
        aliases: Vec::new(),
        targets: vec!["new/m".into()],
        choice: None,
        policy: RoutePolicy::default(),
    };
    let change = Change {
        keys: vec![key("ci", SECRET)],
        budgets: vec![budget(Scope::Session("nightly".to_owned()))],
        models: vec![model("new")],
        upstreams: Some(Upstreams { routes: vec![route], ..upstreams(&["new"]) }),
        ..Change::default()
    };
    directory.change(|_| Ok(change)).await.unwrap();
    let now = Timestamp(2_000_000);
    let after = directory.snapshot();
    assert!(after.plan("old/x", now).is_none() && after.plan("route/fast", now).is_some());
    assert!(before.plan("old/x", now).is_some(), "who began before goes on as it was");
    assert_eq!(directory.model("new/m").unwrap().version, 1);
    assert_eq!(store.keys().await.unwrap().len(), 1);
    assert_eq!(store.models().await.unwrap().len(), 1);
    assert_eq!(directory.budgets(DEFAULT_ACCOUNT).len(), 1, "the new key's user was known");
}

#[tokio::test]
async fn of_a_change_that_cannot_be_taken_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, store) = directory(&folder).await;
    directory
        .change(|_| Ok(Change { keys: vec![key("ci", SECRET)], ..Change::default() }))
        .await
        .unwrap();
    let wrong = [
        Change { keys: vec![key("other", SECRET)], ..Change::default() },
        Change { models: vec![model("new")], ..Change::default() },
        Change {
            keys: vec![key("second", "hf_another_of_sixteen")],
            budgets: vec![budget(Scope::Session("nightly".to_owned()))],
            ..Change::default()
        },
    ];
    for change in wrong {
        let change = Change { upstreams: Some(upstreams(&["other"])), ..change };
        let told = format!("{change:?}");
        assert!(directory.change(|_| Ok(change)).await.is_err(), "{told}");
    }
    assert_eq!(store.keys().await.unwrap().len(), 1);
    assert!(store.models().await.unwrap().is_empty());
    assert_eq!(directory.keys(DEFAULT_ACCOUNT).len(), 1);
    assert!(directory.snapshot().plan("old/x", Timestamp(0)).is_some());
}

#[tokio::test]
async fn a_store_that_refuses_leaves_what_calls_see() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, store) = directory(&folder).await;
    store.close().await.unwrap();
    let change = Change { upstreams: Some(upstreams(&["new"])), ..Change::default() };
    let failure = directory.change(|_| Ok(change)).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::StorageUnavailable);
    assert!(directory.snapshot().plan("old/x", Timestamp(0)).is_some());
    assert!(store.route_versions(1).await.is_err());
}

#[derive(Debug)]
struct Nobody;

impl Execute for Nobody {
    fn execute(&self, _attempt: Attempt) -> OutcomeStream {
        Box::pin(futures_util::stream::empty())
    }
}

#[tokio::test]
async fn what_is_known_of_a_provider_goes_when_it_becomes_another() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _store) = directory(&folder).await;
    let executor = || Arc::new(Nobody) as Arc<dyn Execute>;
    let (kept, now) = (executor(), Duration::from_secs(1));
    let by = |changed: Arc<dyn Execute>| Change {
        upstreams: Some(Upstreams {
            executors: [("kept".to_owned(), Arc::clone(&kept)), ("changed".to_owned(), changed)]
                .into_iter()
                .collect(),
            ..upstreams(&["kept", "changed"])
        }),
        ..Change::default()
    };
    let first = by(executor());
    directory.change(|_| Ok(first)).await.unwrap();
    let down = Failure::new(ErrorCode::RateLimited, "told to").retry_after(now * 60);
    for name in ["kept/m", "changed/m"] {
        let health: &Health = directory.health();
        health.failed(&Arc::from(name), &down, &RoutePolicy::OF_ROUTE, (now, now));
    }
    let second = by(executor());
    directory.change(|_| Ok(second)).await.unwrap();
    assert!(directory.health().is_open("kept/m", now));
    assert!(!directory.health().is_open("changed/m", now));
}
