use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::SqliteStore;
use crate::store::{Pending, Store};
use crate::suite::Place;

mod files;
mod group;

/// A folder of its own, removed afterwards.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("holdfast.db")
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.path()).unwrap()
    }
}

impl Place for Folder {
    fn open(&self) -> Pending<Arc<dyn Store>> {
        let store = SqliteStore::open(&self.path());
        Box::pin(async move { store.map(|store| Arc::new(store) as Arc<dyn Store>) })
    }
}

mod all {
    use super::Folder;

    crate::suite!(Folder::new());
}
