//! Local models: where their files are, and the engines that run them. A model that is a folder is
//! a static one, which needs no engine; whether one that is a file answers or makes vectors, the
//! file says.
//!
//! The demo model is part of the binary and is unpacked into the data folder. A model's file is
//! hashed once; what was read of it is kept beside the models as long as its length and its time of
//! change stay the same. Invariant: what is served is what the catalogue's rows name, whoever
//! changed them last ([`Local::serve_rows`]).

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use engine::{Engines, LocalModels, ModelFile, Options};
use pipeline::Directory;
use serde::{Deserialize, Serialize};
use server::PartHealth;
use sessions::{Forget, Forgetting};
use storage::Model;
use storage::budgets::Origin;
use types::ids::SessionId;
use types::{ErrorCode, Execute, Failure, Timestamp};

use super::Common;
use crate::config::file::{BUILT_IN_MODEL, Engine, PriceEntry};
use crate::config::{ModelEntry, Problem, warnings};

mod absent;
mod sockets;
mod statics;
mod vectors;

use absent::EngineAbsent;
use embeddings::{StaticModel, StaticModels};
use sockets::Sockets;
use statics::ReadStatics;
use types::clock::SharedClock;
use vectors::InEngines;

/// The provider's name.
pub(super) const PROVIDER: &str = engine::execute::PROVIDER;
/// The demo model's name: asked for as `local/demo`.
const DEMO: &str = BUILT_IN_MODEL;
/// The demo model, trained by the scripts beside it.
const DEMO_GGUF: &[u8] = include_bytes!("../../../../models/demo/holdfast-demo-Q8_0.gguf");
/// Local models and their engines. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Local {
    engines: Arc<Engines>,
    models: Arc<LocalModels>,
    /// Models that run in this process.
    statics: Arc<StaticModels>,
    read_statics: Arc<ReadStatics>,
    clock: SharedClock,
    /// The engines' program.
    program: PathBuf,
    sockets: Arc<Sockets>,
    folder: PathBuf,
    known: Arc<Mutex<HashMap<PathBuf, Known>>>,
}

/// A local model of the file that was read, and is not served yet.
#[derive(Debug)]
pub(super) struct ReadModel {
    /// What the file says.
    pub(super) entry: ModelEntry,
    /// Its row, without prices.
    pub(super) row: Model,
}

/// What serves a model.
#[derive(Clone, Debug)]
enum Loaded {
    /// A file for an engine.
    File(ModelFile),
    /// A static model.
    Static(Arc<StaticModel>),
}

impl Loaded {
    fn path(&self) -> &Path {
        match self {
            Self::File(file) => &file.path,
            Self::Static(model) => model.folder(),
        }
    }

    fn sha256(&self) -> &str {
        match self {
            Self::File(file) => &file.sha256,
            Self::Static(model) => model.sha256(),
        }
    }
}

/// What was read of a file, as long as it has not changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    /// As what it was read: [`READ_AS`], or 0 by versions that did not say so.
    #[serde(default)]
    read_as: u32,
    size_bytes: u64,
    modified_ns: i128,
    file: ModelFile,
}

impl Local {
    /// Starts no engine yet.
    pub(super) fn new(settings: &Engine, data: &Path, common: &Common) -> anyhow::Result<Self> {
        let folder = data.join("models");
        sockets::make_private(&folder)?;
        let program = warnings::engine_program(settings.program.as_deref());
        let program = program.context("finding our own binary")?;
        let sockets = Arc::new(Sockets::make(data, &std::env::temp_dir())?);
        let options = Options {
            program: program.clone(),
            socket_folder: sockets.folder(),
            kv_folder: Some(data.join("kv")),
            kv_disk_bytes: settings.kv_disk_bytes,
            sequences: settings.sequences,
            context_tokens: settings.context_tokens,
            threads: settings.threads,
            ..Options::default()
        };
        let engines = Arc::new(Engines::new(
            options,
            Arc::clone(&common.launch) as _,
            Arc::clone(&common.clock),
        ));
        let models = LocalModels::new(
            Arc::clone(&engines),
            Arc::clone(&common.clock),
            Arc::clone(&common.ids),
        );
        let known = Arc::new(Mutex::new(read_known(&folder)));
        let (models, statics) = (Arc::new(models), Arc::new(statics::new()));
        let read_statics = Arc::default();
        let clock = Arc::clone(&common.clock);
        Ok(Self { engines, models, statics, read_statics, clock, program, sockets, folder, known })
    }

    /// Reads the models of the file, and the demo model. Nothing is served by that; which can't be
    /// read is among the problems.
    pub(super) async fn read_models(
        &self,
        entries: &[ModelEntry],
    ) -> anyhow::Result<(Vec<ReadModel>, Vec<Problem>)> {
        let mut built_in = None;
        if !entries.iter().any(|entry| entry.name == DEMO) {
            let path = self.unpack_demo().await.context("unpacking the demo model")?;
            built_in = Some(ModelEntry { path: Some(path), ..demo() });
        }
        let (mut models, mut problems) = (Vec::new(), Vec::new());
        let of_file = entries.iter().enumerate().map(|(index, entry)| (Some(index), entry));
        for (index, entry) in built_in.iter().map(|entry| (None, entry)).chain(of_file) {
            let path = entry.path.clone().unwrap_or_default();
            let shown = path.display().to_string();
            match (self.inspect(entry.name.clone(), path, Origin::File).await, index) {
                (Ok(row), _) => models.push(ReadModel { entry: entry.clone(), row }),
                (Err(failure), Some(index)) => {
                    let message = format!("{shown} can't be used: {}", failure.message);
                    problems.push(Problem { at: format!("models[{index}].path"), message });
                }
                (Err(failure), None) => {
                    return Err(failure).with_context(|| format!("the model {shown}"));
                }
            }
        }
        Ok((models, problems))
    }

    /// Serves what the rows name from now on, and nothing else; what runs on a former file ends on
    /// it. A row's file that can't be read is logged: the model is served as before if it was this
    /// file, and else refused when it is asked for.
    pub(super) async fn serve_rows(&self, rows: &[Arc<Model>]) {
        let mut served = HashSet::new();
        for row in rows {
            let Some(path) = row.path.as_ref().map(PathBuf::from) else { continue };
            let name = row.upstream_model.as_str();
            let before = self.served(name);
            match self.load(path.clone()).await {
                Ok(loaded) => {
                    if row.sha256.as_deref() != Some(loaded.sha256()) {
                        let model = &row.name;
                        tracing::warn!(%model, "the model's file is another one than when it was added");
                    }
                    self.register(name, loaded);
                }
                Err(failure) => {
                    tracing::warn!(model = %row.name, %failure, "the model's file can't be read");
                    if before.is_none_or(|before| before.path() != path) {
                        continue;
                    }
                }
            }
            served.insert(name);
        }
        self.statics.retain(|name| served.contains(name));
        self.read_statics
            .retain(|folder| rows.iter().any(|row| row.path.as_deref() == folder.to_str()));
        self.engines.keep_only(self.models.retain(|name| served.contains(name)));
    }

    /// What serves a model now.
    fn served(&self, name: &str) -> Option<Loaded> {
        let file = self.models.get(name).map(|file| Loaded::File(ModelFile::clone(&file)));
        file.or_else(|| self.statics.get(name).map(Loaded::Static))
    }

    fn register(&self, name: &str, loaded: Loaded) {
        match loaded {
            Loaded::File(file) => {
                self.statics.remove(name);
                self.models.register(name, file);
            }
            Loaded::Static(model) => {
                self.models.remove(name);
                self.statics.register(name, model);
            }
        }
    }

    /// Reads a model's file and makes a row of it. Nothing is served by that.
    pub(super) async fn inspect(
        &self,
        name: String,
        path: PathBuf,
        origin: Origin,
    ) -> Result<Model, Failure> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(allowed) {
            return Err(Failure::invalid(
                "name",
                "a local model's name has letters, digits, '-', '_' and '.' only",
            ));
        }
        let loaded = self.load(path).await?;
        let context_tokens = match &loaded {
            Loaded::File(file) => file.context_length,
            Loaded::Static(_) => None,
        };
        Ok(Model {
            name: format!("{PROVIDER}/{name}"),
            provider: PROVIDER.to_owned(),
            upstream_model: name,
            path: Some(loaded.path().display().to_string()),
            sha256: Some(loaded.sha256().to_owned()),
            prices: Vec::new(),
            output_tokens_max: None,
            context_tokens,
            origin,
            version: 0,
            created_at: Timestamp::default(),
        })
    }

    /// Reads what is there; what was read before is kept as long as it is the same.
    async fn load(&self, path: PathBuf) -> Result<Loaded, Failure> {
        match statics::is_folder(&path).await {
            true => self.read_statics.open(path).await.map(Loaded::Static),
            false => self.file(path).await.map(Loaded::File),
        }
    }

    /// What is known of a file; it is read and hashed if nothing is.
    async fn file(&self, path: PathBuf) -> Result<ModelFile, Failure> {
        let unreadable = |error: String| {
            Failure::invalid("path", format!("the model file can't be used: {error}"))
        };
        let metadata =
            tokio::fs::metadata(&path).await.map_err(|error| unreadable(error.to_string()))?;
        let modified_ns =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let same = |known: &Known| {
            known.read_as == READ_AS
                && known.size_bytes == metadata.len()
                && known.modified_ns == modified_ns
        };
        let before = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        if let Some(known) = before.filter(same) {
            return Ok(known.file);
        }
        let reading = path.clone();
        let read = tokio::task::spawn_blocking(move || engine::inspect(&reading)).await;
        let read = read.map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        let file = read.map_err(|error| unreadable(error.to_string()))?;
        let known =
            Known { read_as: READ_AS, size_bytes: metadata.len(), modified_ns, file: file.clone() };
        let text = {
            let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            // Its row has the path without links.
            all.insert(known.file.path.clone(), known.clone());
            all.insert(path, known);
            serde_json::to_string(&*all).unwrap_or_default()
        };
        // Only a cache: without it the file is hashed again.
        tokio::fs::write(self.folder.join(KNOWN), text).await.unwrap_or(());
        Ok(file)
    }

    async fn unpack_demo(&self) -> std::io::Result<PathBuf> {
        let path = self.folder.join("demo.gguf");
        let there = tokio::fs::read(&path).await.unwrap_or_default();
        if there != DEMO_GGUF {
            let beside = self.folder.join("demo.gguf.part");
            tokio::fs::write(&beside, DEMO_GGUF).await?;
            tokio::fs::rename(&beside, &path).await?;
        }
        Ok(path)
    }

    /// Who does Calls on local models.
    pub(super) fn executor(&self) -> Arc<dyn Execute> {
        let models: Arc<dyn Execute> = Arc::new(InEngines {
            engines: Arc::clone(&self.engines),
            models: Arc::clone(&self.models),
            clock: Arc::clone(&self.clock),
        });
        let engines: Arc<dyn Execute> = match self.program.is_file() {
            true => models,
            false => Arc::new(EngineAbsent { program: self.program.clone(), models }),
        };
        Arc::new(statics::Either { statics: Arc::clone(&self.statics), engines })
    }

    /// Each local model: `up`, or `idle` until it is first asked for.
    pub(super) fn health(&self, directory: &Directory) -> Vec<PartHealth> {
        let has_engine = self.program.is_file();
        let of = |model: Arc<Model>| {
            let file = self.models.get(&model.upstream_model);
            let up = file
                .as_ref()
                .and_then(|file| self.engines.running(&file.sha256))
                .is_some_and(|engine| engine.is_up());
            let (state, reason) = match (&file, up) {
                (None, _) if self.statics.get(&model.upstream_model).is_some() => ("up", None),
                (None, _) => ("down", Some("its file can't be read".to_owned())),
                (Some(_), true) => ("up", None),
                (Some(_), false) if has_engine => ("idle", None),
                (Some(_), false) => ("down", Some(absent::MESSAGE.to_owned())),
            };
            PartHealth { part: model.name.clone(), state: state.to_owned(), reason }
        };
        let local = directory.all_models().into_iter().filter(|model| model.provider == PROVIDER);
        local.map(of).collect()
    }

    /// Lets every engine save its sessions and end.
    pub(super) async fn stop(&self) {
        self.engines.shutdown().await;
        self.sockets.remove();
    }
}

impl Forget for Local {
    fn forget(&self, account: &str, session: &SessionId) -> Forgetting {
        let (engines, account) = (Arc::clone(&self.engines), account.to_owned());
        let session = session.clone();
        Box::pin(async move { Ok(engines.drop_session(&account, session.as_str()).await?) })
    }
}

/// The built-in model, as if the file named it.
pub(super) fn demo() -> ModelEntry {
    ModelEntry {
        name: DEMO.to_owned(),
        path: None,
        price: PriceEntry::default(),
        max_output_tokens: None,
    }
}

/// The file that keeps what was read of model files.
const KNOWN: &str = "files.json";
/// Raised when more is read of a file than before: what an older version kept is read again.
const READ_AS: u32 = 1;

#[expect(clippy::disallowed_methods, reason = "read once, at start")]
fn read_known(folder: &Path) -> HashMap<PathBuf, Known> {
    let text = std::fs::read_to_string(folder.join(KNOWN)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests;
