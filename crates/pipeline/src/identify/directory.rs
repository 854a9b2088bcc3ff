//! Keys, models and budgets: held in memory for every Call, written through to the store by administration.
use std::sync::Arc;

use storage::budgets::Origin;
use storage::{Budget, Key, Model, Scope, Store, WindowKind};
use types::clock::SharedClock;
use types::ids::{BudgetId, KeyId};
use types::principal::Role;
use types::{Failure, Format, Ids, Money, Principal, Secret};

/// What a directory is made of.
#[derive(Debug)]
pub struct DirectoryParts {
    /// Where all of it is kept.
    pub store: Arc<dyn Store>,
    /// Time: which of a model's dated prices holds.
    pub clock: SharedClock,
    /// Ids and secrets.
    pub ids: Arc<Ids>,
    /// The configured providers, `local` included.
    pub providers: Vec<ProviderInfo>,
}

/// A configured provider, as far as names need it.
#[derive(Clone, Debug)]
pub struct ProviderInfo {
    /// Its name: what stands before the `/` of a model's name, and the executor's name.
    pub name: String,
    /// The wire format that it speaks; `None` = neutral (the engine).
    pub format: Option<&'static dyn Format>,
    /// Declared without a list of models: any `name/<model>` is taken, unpriced unless the catalogue has it.
    pub any_model: bool,
}

/// A key to make, or to change if the account has one of that name.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The tenant.
    pub account: String,
    /// Its name, unique within the account.
    pub name: String,
    /// Whose it is; `None` = the key's own id.
    pub user: Option<String>,
    /// What it may do.
    pub role: Role,
    /// The output cap for Calls that name none, in tokens.
    pub output_cap_default: Option<u64>,
    /// Who asks for it.
    pub origin: Origin,
}

/// A budget to make, or to change if the account has one of that scope and window.
#[derive(Clone, Debug)]
pub struct NewBudget {
    /// The tenant.
    pub account: String,
    /// What it limits.
    pub scope: Scope,
    /// The limit per window.
    pub limit: Money,
    /// Over which time.
    pub window: WindowKind,
    /// Who asks for it.
    pub origin: Origin,
}

/// The one place where names are looked up. Reading takes no await; each change is durable before it is seen.
#[derive(Debug)]
pub struct Directory {
    parts: DirectoryParts,
}

impl Directory {
    /// Reads everything from the store.
    ///
    /// # Errors
    /// `storage_unavailable`, `internal`.
    pub async fn load(parts: DirectoryParts) -> Result<Self, Failure> {
        Ok(Self { parts })
    }

    /// Makes a key with a new secret, which is shown this once.
    ///
    /// # Errors
    /// `conflict` if the account has a key of that name; `storage_unavailable`.
    pub async fn create_key(&self, _new: NewKey) -> Result<(Key, Secret), Failure> {
        todo!()
    }

    /// Makes or changes (by name) a key whose secret the operator chose: the configuration file's, the admin key.
    ///
    /// # Errors
    /// `conflict` if another key has the secret; `storage_unavailable`.
    pub async fn put_key_with_secret(&self, _new: NewKey, _secret: &Secret) -> Result<Key, Failure> {
        todo!()
    }

    /// Removes a key for good; `false` if the account has none of that id.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn delete_key(&self, _account: &str, _id: &KeyId) -> Result<bool, Failure> {
        todo!()
    }

    /// The keys of an account, by name.
    pub fn keys(&self, _account: &str) -> Vec<Key> {
        todo!()
    }

    /// Makes a budget, or changes the one of that account, scope and window.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn put_budget(&self, _new: NewBudget) -> Result<Arc<Budget>, Failure> {
        todo!()
    }

    /// Removes a budget; `false` if the account has none of that id.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn delete_budget(&self, _account: &str, _id: &BudgetId) -> Result<bool, Failure> {
        todo!()
    }

    /// The budgets of an account, by id.
    pub fn budgets(&self, _account: &str) -> Vec<Arc<Budget>> {
        todo!()
    }

    /// Makes or changes a model, by name. `version` and `created_at` are set here.
    ///
    /// # Errors
    /// `invalid_request` if the provider is not configured; `storage_unavailable`.
    pub async fn put_model(&self, _model: Model) -> Result<Arc<Model>, Failure> {
        todo!()
    }

    /// Removes a model; `false` if there is none of that name.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn delete_model(&self, _name: &str) -> Result<bool, Failure> {
        todo!()
    }

    /// The models that a principal may use, by name. Names that a provider takes without listing them are not here.
    pub fn models(&self, _principal: &Principal) -> Vec<Arc<Model>> {
        todo!()
    }

    /// One model of the catalogue.
    pub fn model(&self, _name: &str) -> Option<Arc<Model>> {
        todo!()
    }

    /// The configured providers.
    pub fn providers(&self) -> &[ProviderInfo] {
        &self.parts.providers
    }
}
