//! Routes, and changes of several objects at once.

use serde_json::json;
use types::ids::BudgetId;

use super::Place;
use super::fixtures::{ACCOUNT, Make, NOON, money};
use crate::budgets::{Budget, Origin, Scope, WindowKind};
use crate::error::Error;
use crate::models::{Model, Taken};
use crate::objects::{
    ObjectsChange, ROUTE_VERSIONS_BYTES_MAX, ROUTE_VERSIONS_MAX, Route, RouteVersion,
};

fn budget(make: &Make) -> Budget {
    Budget {
        id: BudgetId::new(&make.ids),
        account: ACCOUNT.to_owned(),
        scope: Scope::Account,
        limit: money(100),
        window: WindowKind::Total,
        zone: crate::budgets::Zone::UTC,
        rule: None,
        version: 1,
        origin: Origin::File,
        created_at: NOON,
    }
}

fn model(name: &str) -> Model {
    Model {
        name: format!("garage/{name}"),
        provider: "garage".to_owned(),
        upstream_model: name.to_owned(),
        path: None,
        sha256: None,
        prices: Vec::new(),
        output_tokens_max: None,
        context_tokens: None,
        origin: Origin::File,
        version: 1,
        created_at: NOON,
    }
}

fn version(number: u64) -> RouteVersion {
    let route = Route {
        name: "fast".to_owned(),
        settings: json!({ "targets": ["garage/a"], "wait_max": "5s", "weight": 3 }),
        origin: Origin::Api,
        version: number,
        changed_at: NOON,
    };
    let (author, what) = ("admin".to_owned(), format!("change {number}"));
    RouteVersion { number, at: NOON, author, what, routes: vec![route] }
}

fn taken(name: &str) -> Taken {
    Taken { kind: "route".to_owned(), name: name.to_owned(), sha256: "ab".repeat(32) }
}

/// All kinds of objects are there after a change, also for who opens the store again; of a change
/// that is refused at its last part nothing is there.
pub async fn a_change_is_made_whole_or_not_at_all(place: &dyn Place) {
    let make = Make::new();
    let (ci, account) = (make.key("ci", 1), budget(&make));
    let change = ObjectsChange {
        keys: vec![ci.clone()],
        budgets: vec![account.clone()],
        models: vec![model("a")],
        routes: Some(version(1)),
        taken: Some(vec![taken("fast")]),
        ..ObjectsChange::default()
    };
    let store = place.open().await.unwrap();
    assert_eq!(store.route_versions(9).await.unwrap(), []);
    store.change_objects(change).await.unwrap();
    // A version of that number is there: all that came before it in the change is undone.
    let refused = ObjectsChange {
        deleted_keys: vec![ci.id.clone()],
        keys: vec![make.key("other", 2)],
        deleted_budgets: vec![account.id.clone()],
        deleted_models: vec![model("a").name],
        models: vec![model("b")],
        routes: Some(RouteVersion { what: "again".to_owned(), ..version(1) }),
        taken: Some(Vec::new()),
        ..ObjectsChange::default()
    };
    let error = store.change_objects(refused).await.unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error:?}");
    drop(store);

    let store = place.open().await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [ci]);
    assert_eq!(store.budgets(ACCOUNT).await.unwrap(), [account]);
    assert_eq!(store.models().await.unwrap(), [model("a")]);
    assert_eq!(store.route_versions(9).await.unwrap(), [version(1)]);
    assert_eq!(store.taken().await.unwrap(), [taken("fast")]);
}

/// A key that goes leaves its name and secret to one that comes in the same change.
pub async fn what_goes_frees_its_names(place: &dyn Place) {
    let (store, make) = (place.open().await.unwrap(), Make::new());
    let (old, new) = (make.key("ci", 1), make.key("ci", 1));
    store.put_key(old.clone()).await.unwrap();
    let change = ObjectsChange { keys: vec![new.clone()], ..ObjectsChange::default() };
    assert!(store.change_objects(change.clone()).await.is_err(), "both have the name");
    let change = ObjectsChange { deleted_keys: vec![old.id], ..change };
    store.change_objects(change).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [new]);
}

/// Versions are listed newest first and found by number; the oldest go.
pub async fn only_the_newest_versions_of_routes_are_kept(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let last = u64::try_from(ROUTE_VERSIONS_MAX).unwrap() + 2;
    for number in 1..=last {
        let change = ObjectsChange { routes: Some(version(number)), ..ObjectsChange::default() };
        store.change_objects(change).await.unwrap();
    }
    assert_eq!(store.route_versions(2).await.unwrap(), [version(last), version(last - 1)]);
    assert_eq!(store.route_versions(usize::MAX).await.unwrap().len(), ROUTE_VERSIONS_MAX);
    assert_eq!(store.route_version(3).await.unwrap(), Some(version(3)));
    assert_eq!(store.route_version(2).await.unwrap(), None);
}

/// Of large versions fewer are kept, and the newest always is.
pub async fn only_so_many_bytes_of_routes_are_kept(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let put = async |number: u64, bytes: usize| {
        let mut version = version(number);
        version.routes[0].settings = serde_json::json!("x".repeat(bytes));
        let change = ObjectsChange { routes: Some(version), ..ObjectsChange::default() };
        store.change_objects(change).await.unwrap();
        let kept = store.route_versions(usize::MAX).await.unwrap();
        kept.iter().map(|version| version.number).collect::<Vec<_>>()
    };
    let third = ROUTE_VERSIONS_BYTES_MAX / 3;
    for (number, kept) in [(1, &[1][..]), (2, &[2, 1]), (3, &[3, 2]), (4, &[4, 3])] {
        assert_eq!(put(number, third).await, kept);
    }
    assert_eq!(put(5, ROUTE_VERSIONS_BYTES_MAX).await, [5]);
    assert_eq!(put(6, 1).await, [6]);
}

/// Trying to write leaves everything as it was.
pub async fn what_is_tried_changes_nothing(place: &dyn Place) {
    let store = place.open().await.unwrap();
    store.put_taken(vec![taken("b"), taken("a")]).await.unwrap();
    store.try_write().await.unwrap();
    assert_eq!(store.taken().await.unwrap(), [taken("a"), taken("b")]);
}
