//! What only the binary can do for the server: read model files, compare the store with the file,
//! say what is up.

use std::path::PathBuf;
use std::sync::Arc;

use pipeline::Directory;
use server::{ConfigView, HostFuture, PartHealth, ProviderLimitsView};
use storage::budgets::Origin;
use storage::{Model, Store};
use types::{ErrorCode, Failure};

use super::control::Control;
use super::local::Local;
use super::origins::{self, Stored};
use crate::config;

/// The binary, as the server sees it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    control: Arc<Control>,
    directory: Arc<Directory>,
    store: Arc<dyn Store>,
    local: Local,
    limits: providers::Limits,
}

impl Host {
    pub(super) fn new(
        control: Arc<Control>,
        directory: Arc<Directory>,
        store: Arc<dyn Store>,
        local: Local,
        limits: providers::Limits,
    ) -> Self {
        Self { control, directory, store, local, limits }
    }

    /// The objects in force, and whether the file as it is now says otherwise.
    async fn view(self) -> Result<ConfigView, Failure> {
        let stored = Stored::read(self.store.as_ref()).await.map_err(|error| {
            tracing::error!(%error, "reading the named objects");
            Failure::new(
                ErrorCode::StorageUnavailable,
                "the store can't be read now; try again later",
            )
        })?;
        let file = self.control.file().cloned();
        let shown = file.as_ref().map(|file| file.display().to_string());
        let running = self.control.running();
        let last_reload = self.control.last_reload();
        let compare = tokio::task::spawn_blocking(move || {
            let (in_file, _) = config::load(file.as_deref())?;
            anyhow::Ok(origins::of(&in_file, &running, &stored))
        });
        let unreadable = |error: String| {
            Failure::new(
                ErrorCode::Conflict,
                format!("the configuration file can't be read: {error}"),
            )
        };
        let compared = compare.await.map_err(|error| unreadable(error.to_string()))?;
        let objects = compared.map_err(|error| unreadable(format!("{error:#}")))?;
        Ok(ConfigView { file: shown, objects, last_reload })
    }
}

impl server::Host for Host {
    fn inspect_model(&self, name: String, path: PathBuf) -> HostFuture<Result<Model, Failure>> {
        let local = self.local.clone();
        Box::pin(async move { local.inspect(name, path, Origin::Api).await })
    }

    fn config(&self) -> HostFuture<Result<ConfigView, Failure>> {
        Box::pin(self.clone().view())
    }

    fn limits(&self) -> Vec<ProviderLimitsView> {
        super::limits::view(&self.limits)
    }

    fn health(&self) -> HostFuture<Vec<PartHealth>> {
        let parts = self.local.health(&self.directory);
        Box::pin(async move { parts })
    }
}
