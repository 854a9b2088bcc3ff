use std::sync::Arc;

use storage::sqlite::SqliteStore;
use types::clock::FakeClock;
use types::{ErrorCode, Timestamp};

use super::*;

async fn state(health: &StoreHealth, clock: &FakeClock, is_up: bool) -> String {
    health.look(clock, async { is_up }).await.state
}

#[tokio::test]
async fn a_store_is_asked_again_after_a_while() {
    let (health, clock) = (StoreHealth::default(), FakeClock::new(Timestamp(0)));
    assert_eq!(state(&health, &clock, false).await, "down");
    assert_eq!(state(&health, &clock, true).await, "down", "just looked");
    clock.advance(KEPT);
    assert_eq!(state(&health, &clock, true).await, "up");
    let part = health.look(&clock, async { panic!("just looked") }).await;
    assert_eq!((part.part.as_str(), part.reason), ("storage", None));
    clock.advance(KEPT);
    let part = health.look(&clock, async { false }).await;
    assert!(part.reason.is_some_and(|reason| reason.contains("disk")));
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("holdfast.db")).unwrap();
    assert!(writes(&store, async { Ok(()) }).await);
    let refused = Failure::new(ErrorCode::StorageUnavailable, "rows wait");
    assert!(!writes(&store, async { Err(refused) }).await);
    store.close().await.unwrap();
    assert!(!writes(&store, async { Ok(()) }).await);
}

#[tokio::test]
async fn a_look_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("holdfast.db")).unwrap();
    let taken = |name: &str| storage::models::Taken {
        kind: "model".to_owned(),
        name: name.to_owned(),
        sha256: "0".repeat(64),
    };
    let store: Arc<dyn Store> = Arc::new(store);
    store.put_taken(vec![taken("a"), taken("b")]).await.unwrap();
    assert!(writes(store.as_ref(), async { Ok(()) }).await);
    assert_eq!(store.taken().await.unwrap(), [taken("a"), taken("b")]);
}
