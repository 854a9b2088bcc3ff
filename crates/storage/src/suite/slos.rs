//! What objectives have counted.

use types::Timestamp;

use super::Place;
use super::fixtures::NOON;
use crate::slos::SloCounts;

fn counts(name: &str, text: &str) -> SloCounts {
    SloCounts {
        name: name.to_owned(),
        definition: format!("definition of {name}"),
        at: NOON,
        counts: text.to_owned(),
    }
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

/// Counts are kept over openings, replaced by name, and forgotten with their objective.
pub async fn counts_are_kept_replaced_and_forgotten(place: &dyn Place) {
    let store = place.open().await.unwrap();
    assert_eq!(store.slo_counts().await.unwrap(), []);
    let first = vec![counts("b", "1"), counts("a'\"%", "2")];
    store.put_slo_counts(first.clone(), names(&["b", "a'\"%", "never counted"])).await.unwrap();
    drop(store);
    let store = place.open().await.unwrap();
    assert_eq!(store.slo_counts().await.unwrap(), [first[1].clone(), first[0].clone()]);
    let changed = SloCounts {
        definition: "another".to_owned(),
        at: Timestamp(NOON.0 + 1),
        ..counts("b", "3")
    };
    store.put_slo_counts(vec![changed.clone()], names(&["b"])).await.unwrap();
    assert_eq!(store.slo_counts().await.unwrap(), [changed]);
    store.put_slo_counts(Vec::new(), Vec::new()).await.unwrap();
    assert_eq!(store.slo_counts().await.unwrap(), []);
}
