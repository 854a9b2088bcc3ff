use serde_json::json;
use storage::sqlite::SqliteStore;
use storage::{Keys, Objects};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::wire::{Common, configure, no_tool_servers};

/// A server's configuration, without the server.
struct World {
    control: Arc<Control>,
    directory: Arc<Directory>,
    store: SqliteStore,
    folder: tempfile::TempDir,
}

const FILE: &str = "[[routes]]\nname = \"fast\"\ntargets = [\"local/demo\"]\n";

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, data) = (folder.path().join("holdfast.toml"), folder.path().join("data"));
        tokio::fs::write(&file, FILE).await.unwrap();
        let (settings, _) = config::of_text(FILE);
        let common = Common::new().unwrap();
        let store = SqliteStore::open(&folder.path().join("holdfast.db")).unwrap();
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let local = Local::new(&settings.engine, &data, &common).unwrap();
        let tools = no_tool_servers(&data, &common, CancellationToken::new());
        let source = Source { stamp: Stamp::of(&file), file: Some(file), by_flag: Vec::new() };
        let telemetry = telemetry::Running::new(Arc::clone(&common.clock), common.tracker.clone());
        let own = (&local, &Arc::new(tools), &Arc::new(telemetry));
        let made = configure((source, &settings), own, &shared, &common).await;
        let (directory, control) = made.unwrap();
        control.take_first().await.unwrap();
        Self { control, directory, store, folder }
    }

    async fn write(&self, text: &str) {
        tokio::fs::write(self.folder.path().join("holdfast.toml"), text).await.unwrap();
    }

    /// Asks for a change, leaves at once, and waits until nothing is under way.
    async fn abandon(&self, change: impl Future) {
        {
            let mut change = std::pin::pin!(change);
            assert!(futures_util::poll!(change.as_mut()).is_pending(), "it was made at once");
        }
        let tracker = &self.control.parts.tracker;
        tracker.close();
        tracker.wait().await;
    }
}

#[tokio::test]
async fn a_change_whose_client_leaves_is_made_to_its_end() {
    let world = World::new().await;
    let shared: Arc<dyn server::Control> = Arc::new(Shared(Arc::clone(&world.control)));
    let put = RoutePut {
        name: "late".to_owned(),
        settings: json!({ "targets": ["local/demo"] }),
        is_new: true,
    };
    world.abandon(shared.put_route(put, "ci".to_owned())).await;
    assert_eq!(world.store.route_versions(1).await.unwrap()[0].number, 2);
    assert_eq!(world.directory.routes().len(), 2);

    world.write("[[keys]]\nname = \"ci\"\nsecret = \"hf_0123456789abcdef\"\n").await;
    world.abandon(shared.reload("ci".to_owned())).await;
    assert_eq!(world.store.keys().await.unwrap().len(), 1);
    assert_eq!(world.directory.routes().len(), 1, "that of the file is gone");
    let view = shared.last_reload().unwrap();
    assert!(view.taken && view.changes.len() == 2, "{view:?}");
    assert_eq!(world.control.running().keys.len(), 1);

    world.abandon(shared.delete_model("local/demo".to_owned())).await;
    assert!(world.directory.model("local/demo").is_none());
}

#[tokio::test]
async fn a_file_that_could_not_be_taken_for_another_reason_is_looked_at_again() {
    let world = World::new().await;
    world.write("[server]\nsurprise = 1\n").await;
    let refusal = world.control.reload_file("file".to_owned()).await.unwrap_err();
    assert_eq!(refusal.problems.len(), 1);
    assert!(world.control.stamp().is_some(), "it is as wrong at the next look");
    world.write(FILE).await;
    world.store.close().await.unwrap();
    let refusal = world.control.reload_file("file".to_owned()).await.unwrap_err();
    assert!(refusal.problems.is_empty(), "{refusal:?}");
    assert_eq!(world.control.stamp(), None);
}
