//! API keys, hashed at rest.

use serde::{Deserialize, Serialize};
use types::Timestamp;
use types::ids::KeyId;
use types::principal::Role;

use crate::budgets::{Budget, Origin};
use crate::store::Pending;

/// An API key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// The tenant.
    pub account: String,
    /// Its name, unique within the account.
    pub name: String,
    /// Whose it is; the key's own id until users exist.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the secret: secrets have 256 random bits, so that no salt or slow hash is needed.
    #[serde(skip)]
    pub secret_sha256: [u8; 32],
    /// The first characters of the secret, to recognise it by.
    pub hint: String,
    /// The output cap for Calls that name none, in tokens.
    pub output_cap_default: Option<u64>,
    /// Where its present text came from.
    pub origin: Origin,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Keys, read and changed on their own.
pub trait Keys {
    /// All of every account (they are held in memory by the pipeline).
    fn keys(&self) -> Pending<Vec<Key>>;

    /// Makes or changes one, by id.
    ///
    /// # Errors
    /// [`crate::Error::Exists`] if another key has the name.
    fn put_key(&self, key: Key) -> Pending<()>;

    /// Makes or changes a key together with a budget: both are durable, or neither is. A key
    /// without the budget that was asked for with it could spend without a limit.
    ///
    /// # Errors
    /// [`crate::Error::Exists`] if another key has the name: the budget stays as it was.
    fn put_key_with_budget(&self, key: Key, budget: Budget) -> Pending<()>;

    /// Removes one for good.
    fn delete_key(&self, id: &KeyId) -> Pending<bool>;
}
