use super::*;

/// Local models in a folder, and files that models can be made of.
struct World {
    local: Local,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let common = Common::new().unwrap();
        let local = Local::new(&Engine::default(), &folder.path().join("data"), &common).unwrap();
        Self { local, folder }
    }

    /// A model's file with bytes of its own.
    async fn file(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        tokio::fs::write(&path, [DEMO_GGUF, name.as_bytes()].concat()).await.unwrap();
        path
    }

    async fn row(&self, name: &str, path: &Path) -> Arc<Model> {
        let row = self.local.inspect(name.to_owned(), path.to_owned(), Origin::Api).await;
        Arc::new(row.unwrap())
    }

    /// The file that serves a model.
    fn serving(&self, name: &str) -> Option<PathBuf> {
        self.local.served(name).map(|loaded| loaded.path().to_owned())
    }
}

#[tokio::test]
async fn a_model_is_served_from_where_its_row_says() {
    let world = World::new();
    let (of_file, of_api) = (world.file("a.gguf").await, world.file("b.gguf").await);
    let of_file_row = world.row("tiny", &of_file).await;
    world.local.serve_rows(&[Arc::clone(&of_file_row)]).await;
    assert_eq!(world.serving("tiny"), Some(of_file.clone()));

    // The API replaces it; then the file is taken again, which still names the former one.
    let of_api_row = world.row("tiny", &of_api).await;
    assert_eq!(world.serving("tiny"), Some(of_file.clone()), "reading serves nothing");
    let entry = ModelEntry { name: "tiny".to_owned(), path: Some(of_file), ..demo() };
    let (read, problems) = world.local.read_models(&[entry]).await.unwrap();
    assert_eq!((read.len(), problems.len()), (2, 0), "the built-in model is read too");
    world.local.serve_rows(&[of_api_row]).await;
    assert_eq!(world.serving("tiny"), Some(of_api));
}

#[tokio::test]
async fn a_model_without_a_row_is_served_no_more_and_its_engine_is_not_wanted() {
    let world = World::new();
    let (kept, gone) = (world.file("a.gguf").await, world.file("b.gguf").await);
    let rows = [world.row("kept", &kept).await, world.row("gone", &gone).await];
    world.local.serve_rows(&rows).await;
    let sha256 = rows[1].sha256.clone().unwrap();
    world.local.engines.engine(&world.local.models.get("gone").unwrap());
    assert!(world.local.engines.running(&sha256).is_some());
    world.local.serve_rows(&rows[..1]).await;
    assert_eq!((world.serving("kept"), world.serving("gone")), (Some(kept), None));
    assert!(world.local.engines.running(&sha256).is_none());
}

#[tokio::test]
async fn a_file_that_is_gone_leaves_its_model_as_it_is_and_another_file_does_not() {
    let world = World::new();
    let (path, other) = (world.file("a.gguf").await, world.file("b.gguf").await);
    let (row, moved) = (world.row("tiny", &path).await, world.row("tiny", &other).await);
    world.local.serve_rows(&[Arc::clone(&row)]).await;
    tokio::fs::remove_file(&path).await.unwrap();
    tokio::fs::remove_file(&other).await.unwrap();
    world.local.serve_rows(&[row]).await;
    assert_eq!(world.serving("tiny"), Some(path));
    world.local.serve_rows(&[moved]).await;
    assert_eq!(world.serving("tiny"), None, "that would be other weights than its row names");
}

/// Writes the folder of a static model of two words.
#[expect(clippy::disallowed_methods, reason = "the test's own files")]
fn static_model(folder: &Path) {
    let header = r#"{"embeddings":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let weights = [&length[..], header.as_bytes(), &[0; 8]].concat();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": { "?": 0, "red": 1 }, "unk_token": "?" },
    });
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("model.safetensors"), weights).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("config.json"), "{}").unwrap();
}

#[tokio::test]
async fn a_static_model_is_read_again_only_when_its_files_change() {
    let world = World::new();
    let path = world.folder.path().join("words");
    static_model(&path);
    let rows = [world.row("words", &path).await];
    let served = async || {
        world.local.serve_rows(&rows).await;
        world.local.statics.get("words").unwrap()
    };
    let first = served().await;
    assert!(Arc::ptr_eq(&first, &served().await));
    tokio::fs::write(path.join("config.json"), r#"{"normalize":false}"#).await.unwrap();
    let second = served().await;
    assert!(!Arc::ptr_eq(&first, &second) && first.sha256() != second.sha256());
    world.local.serve_rows(&[]).await;
    assert!(world.local.statics.get("words").is_none());
}

#[tokio::test]
async fn what_an_older_version_read_of_a_file_is_read_again() {
    let world = World::new();
    let path = world.file("a.gguf").await;
    let row = world.row("tiny", &path).await;
    let told = tokio::fs::read_to_string(world.local.folder.join(KNOWN)).await.unwrap();
    let mut known: serde_json::Value = serde_json::from_str(&told).unwrap();
    for entry in known.as_object_mut().unwrap().values_mut() {
        let entry = entry.as_object_mut().unwrap();
        // It did not say what a model is for, and could not know.
        assert_eq!(entry.remove("read_as"), Some(serde_json::json!(READ_AS)));
        let file = entry["file"].as_object_mut().unwrap();
        assert_eq!(file.remove("task"), Some(serde_json::json!("generate")));
        file.insert("sha256".to_owned(), serde_json::json!("of before"));
    }
    let known: HashMap<PathBuf, Known> = serde_json::from_value(known).unwrap();
    *world.local.known.lock().unwrap() = known;
    assert_eq!(world.row("tiny", &path).await.sha256, row.sha256);
}
