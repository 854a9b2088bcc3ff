//! API keys.

use types::principal::Role;

use super::Place;
use super::fixtures::{ACCOUNT, Make, money};
use crate::budgets::{Budget, WindowKind};
use crate::error::Error;
use crate::keys::Key;

/// Keys of all accounts are listed by account and name, changed by id, and gone once deleted.
pub async fn keys_are_kept_changed_and_deleted(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let mut ci = make.key("ci", 1);
    let other = Key { account: "f".repeat(32), ..make.key("ci", 2) };
    store.put_key(other.clone()).await.unwrap();
    store.put_key(ci.clone()).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [ci.clone(), other.clone()]);

    ci.name = "build".to_owned();
    ci.role = Role::Admin;
    ci.output_cap_default = None;
    store.put_key(ci.clone()).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [ci.clone(), other.clone()]);

    assert!(store.delete_key(&ci.id).await.unwrap());
    assert!(!store.delete_key(&ci.id).await.unwrap());
    assert_eq!(store.keys().await.unwrap(), [other]);
}

/// A name of an account, and a secret anywhere, belong to one key; a refused key leaves the other
/// as it was.
pub async fn neither_name_nor_secret_is_given_twice(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let first = make.key("ci", 1);
    store.put_key(first.clone()).await.unwrap();
    for second in [make.key("ci", 2), make.key("other", 1)] {
        let refused = store.put_key(second).await.unwrap_err();
        assert!(matches!(refused, Error::Exists { what: "key" }), "{refused:?}");
    }
    assert_eq!(store.keys().await.unwrap(), [first]);
}

/// A key comes with its budget in one write; one that is refused leaves the budget of the key that
/// has the name as it was.
pub async fn a_key_and_its_budget_are_written_together_or_not_at_all(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let (first, limit) = (make.key("ci", 1), make.budget(1_000, WindowKind::Total));
    store.put_key_with_budget(first.clone(), limit.clone()).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(store.budgets(ACCOUNT).await.unwrap(), std::slice::from_ref(&limit));

    let raised = Budget { limit: money(9_000), version: 2, ..limit.clone() };
    let refused = store.put_key_with_budget(make.key("ci", 2), raised).await.unwrap_err();
    assert!(matches!(refused, Error::Exists { what: "key" }), "{refused:?}");
    assert_eq!(store.keys().await.unwrap(), [first]);
    assert_eq!(store.budgets(ACCOUNT).await.unwrap(), [limit]);
}
