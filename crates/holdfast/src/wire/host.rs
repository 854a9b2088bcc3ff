//! What only the binary can do for the server: read model files, compare the store with the file,
//! say what is up.

use std::path::PathBuf;
use std::sync::Arc;

use pipeline::Directory;
use server::{ConfigView, HostFuture, ObjectView, PartHealth};
use storage::Model;
use storage::budgets::Origin;
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Failure};

use super::local::Local;
use super::objects::budget_name;
use crate::config::{self, Config};

/// The binary, as the server sees it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    file: Option<PathBuf>,
    settings: Arc<Config>,
    directory: Arc<Directory>,
    local: Local,
}

impl Host {
    pub(super) fn new(
        file: Option<PathBuf>,
        settings: Config,
        directory: Arc<Directory>,
        local: Local,
    ) -> Self {
        Self { file, settings: Arc::new(settings), directory, local }
    }

    /// The objects in force, and whether the file as it is now says otherwise.
    async fn view(self) -> Result<ConfigView, Failure> {
        let file = self.file.clone();
        let load = tokio::task::spawn_blocking(move || config::load(file.as_deref()));
        let unreadable = |error: String| {
            Failure::new(
                ErrorCode::Conflict,
                format!("the configuration file can't be read: {error}"),
            )
        };
        let loaded = load.await.map_err(|error| unreadable(error.to_string()))?;
        let (in_file, _) = loaded.map_err(|error| unreadable(format!("{error:#}")))?;
        let mut objects = Vec::new();
        for provider in &self.settings.providers {
            let same = in_file
                .providers
                .iter()
                .any(|other| other.name == provider.name && other.base_url == provider.base_url);
            objects.push(object("provider", &provider.name, Origin::File, !same));
        }
        for server in &self.settings.mcp_servers {
            let same = in_file.mcp_servers.iter().any(|other| other == server);
            objects.push(object("mcp_server", &server.name, Origin::File, !same));
        }
        let keys = self.directory.keys(DEFAULT_ACCOUNT);
        // The admin key comes from the environment or from its own file, never from this one.
        for key in keys.into_iter().filter(|key| key.name != super::admin_key::NAME) {
            let there = in_file.keys.iter().any(|other| other.name == key.name);
            objects.push(object(
                "key",
                &key.name,
                key.origin,
                (key.origin == Origin::Api) == there,
            ));
        }
        for budget in self.directory.budgets(DEFAULT_ACCOUNT) {
            let same = in_file.budgets.iter().any(|other| {
                other.scope == budget.scope
                    && other.window == budget.window
                    && other.limit_usd == budget.limit
            });
            objects.push(object(
                "budget",
                &budget_name(&budget.scope, budget.window),
                budget.origin,
                !same,
            ));
        }
        for model in all_models(&self.directory) {
            let changed = model.origin == Origin::Api;
            objects.push(object("model", &model.name, model.origin, changed));
        }
        Ok(ConfigView { file: self.file.as_ref().map(|file| file.display().to_string()), objects })
    }
}

/// Every model, as the admin key sees them.
pub(super) fn all_models(directory: &Directory) -> Vec<Arc<Model>> {
    let keys = directory.keys(DEFAULT_ACCOUNT);
    let admin = keys
        .iter()
        .find_map(|key| directory.principal(&key.id).filter(|principal| principal.is_admin()));
    admin.map(|admin| directory.models(&admin)).unwrap_or_default()
}

fn object(kind: &str, name: &str, origin: Origin, differs_from_file: bool) -> ObjectView {
    let origin = match origin {
        Origin::File => "file",
        Origin::Api => "api",
    };
    ObjectView {
        kind: kind.to_owned(),
        name: name.to_owned(),
        origin: origin.to_owned(),
        differs_from_file,
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

    fn health(&self) -> HostFuture<Vec<PartHealth>> {
        let parts = self.local.health(&self.directory);
        Box::pin(async move { parts })
    }
}
