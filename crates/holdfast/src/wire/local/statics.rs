//! Static embedding models: local models that run in the server's own process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;

use embeddings::{StaticModel, StaticModels};
use types::{Attempt, ErrorCode, Execute, Failure, OutcomeStream};

/// Where there is no telling how many cores there are.
const THREADS: usize = 2;

/// No models yet.
pub(super) fn new() -> StaticModels {
    StaticModels::new(available_parallelism().map_or(THREADS, usize::from))
}

/// A static model is a folder; any other is one file.
pub(super) async fn is_folder(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir())
}

/// Reads a model.
pub(super) async fn open(folder: PathBuf) -> Result<StaticModel, Failure> {
    let read = tokio::task::spawn_blocking(move || StaticModel::open(&folder)).await;
    let read = read.map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
    read.map_err(|error| {
        Failure::invalid("path", format!("the model's folder can't be used: {error}"))
    })
}

/// Does the Calls of local models: here if they are static, else in their engines.
#[derive(Debug)]
pub(super) struct Either {
    pub(super) statics: Arc<StaticModels>,
    pub(super) engines: Arc<dyn Execute>,
}

impl Execute for Either {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        match self.statics.get(&attempt.target.upstream_model) {
            Some(_) => self.statics.execute(attempt),
            None => self.engines.execute(attempt),
        }
    }
}
