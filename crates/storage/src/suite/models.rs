//! Models, and what was taken from the file.

use types::price::Step;
use types::{Money, Price, Rate, Rates};

use super::Place;
use super::fixtures::NOON;
use crate::budgets::Origin;
use crate::models::{DatedPrice, Model, Taken};

fn model(name: &str) -> Model {
    let price = Price {
        version: "config@2026-11-21".to_owned(),
        rates: Rates {
            input: Rate::from_picodollars(100_000),
            output: Rate::from_picodollars(400_001),
            cached_input: Some(Rate::from_picodollars(7)),
            ..Rates::default()
        },
        steps: vec![Step { above: 200_000, rates: Rates::default() }],
        per_request: Money::from_nanodollars(3),
        per_search: Some(Money::from_nanodollars(5)),
        tiers: vec![types::price::TierRates {
            tier: types::ServiceTier::Flex,
            rates: Rates { input: Rate::from_picodollars(50_001), ..Rates::default() },
            steps: Vec::new(),
        }],
    };
    Model {
        name: name.to_owned(),
        provider: "garage".to_owned(),
        upstream_model: "qwen3-32b".to_owned(),
        path: Some("/models/ä b.gguf".to_owned()),
        sha256: Some("ab".repeat(32)),
        prices: vec![DatedPrice { since: NOON, price }],
        output_tokens_max: Some(8_192),
        context_tokens: None,
        origin: Origin::Api,
        version: 1,
        created_at: NOON,
    }
}

/// Models are listed by name, changed by name with their prices exact, and gone once deleted.
pub async fn models_are_kept_changed_and_deleted(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let (mut a, b) = (model("garage/a"), model("garage/b"));
    store.put_model(b.clone()).await.unwrap();
    store.put_model(a.clone()).await.unwrap();
    assert_eq!(store.models().await.unwrap(), [a.clone(), b.clone()]);

    a.prices.clear();
    a.path = None;
    a.version = 2;
    store.put_model(a.clone()).await.unwrap();
    assert_eq!(store.models().await.unwrap(), [a.clone(), b.clone()]);

    assert!(store.delete_model("garage/a").await.unwrap());
    assert!(!store.delete_model("garage/a").await.unwrap());
    assert_eq!(store.models().await.unwrap(), [b]);
}

/// The list of what was taken is the last one that was put, in order of kind and name.
pub async fn what_was_taken_is_replaced_as_a_whole(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let taken = |kind: &str, name: &str| Taken {
        kind: kind.to_owned(),
        name: name.to_owned(),
        sha256: "cd".repeat(32),
    };
    assert_eq!(store.taken().await.unwrap(), []);
    store.put_taken(vec![taken("model", "a"), taken("key", "b"), taken("key", "a")]).await.unwrap();
    let kept = store.taken().await.unwrap();
    assert_eq!(kept, [taken("key", "a"), taken("key", "b"), taken("model", "a")]);
    store.put_taken(vec![taken("model", "a")]).await.unwrap();
    assert_eq!(store.taken().await.unwrap(), [taken("model", "a")]);
}
