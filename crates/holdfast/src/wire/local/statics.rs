//! Static embedding models: local models that run in the server's own process. One whose files are
//! the same is not read again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use embeddings::{FILES, StaticModel, StaticModels};
use types::{Attempt, ErrorCode, Execute, Failure, OutcomeStream};

use crate::config::Stamp;

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

/// Models that were read, by the folder as it was named.
#[derive(Debug, Default)]
pub(super) struct ReadStatics(Mutex<HashMap<PathBuf, Read>>);

/// A model, and by which its files were known before they were read.
#[derive(Clone, Debug)]
struct Read {
    stamps: [Option<Stamp>; FILES.len()],
    model: Arc<StaticModel>,
}

impl ReadStatics {
    /// The model of a folder; it is read if its files are others than before.
    pub(super) async fn open(&self, folder: PathBuf) -> Result<Arc<StaticModel>, Failure> {
        let before = self.all().get(&folder).map(|read| (read.stamps, Arc::clone(&read.model)));
        let reading = folder.clone();
        let read = tokio::task::spawn_blocking(move || {
            let stamps = FILES.map(|file| Stamp::of(&reading.join(file)));
            match before.filter(|(known, _)| *known == stamps) {
                Some((_, model)) => Ok(Read { stamps, model }),
                None => {
                    StaticModel::open(&reading).map(|model| Read { stamps, model: Arc::new(model) })
                }
            }
        });
        let read = read.await;
        let read = read.map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        let read = read.map_err(|error| {
            Failure::invalid("path", format!("the model's folder can't be used: {error}"))
        })?;
        let model = Arc::clone(&read.model);
        let mut all = self.all();
        // Its row has the path without links.
        all.insert(model.folder().to_owned(), read.clone());
        all.insert(folder, read);
        Ok(model)
    }

    /// Forgets the models of all other folders.
    pub(super) fn retain(&self, is_kept: impl Fn(&Path) -> bool) {
        self.all().retain(|_, read| is_kept(read.model.folder()));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PathBuf, Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
