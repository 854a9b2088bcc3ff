//! Who a Call acts for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::KeyId;

/// The first account's id: Cloudflare ids are 32 hex digits, and `default` names this one.
pub const DEFAULT_ACCOUNT: &str = "00000000000000000000000000000001";

/// An authenticated key with what it may do. Made by `identify` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant: 32 hex digits.
    pub account: Arc<str>,
    /// The key.
    pub key: KeyId,
    /// The key's name, as budgets and configuration name it.
    pub key_name: Arc<str>,
    /// Whose key it is; the key's own id until users exist.
    pub user: Arc<str>,
    /// Whether it may use `/api` and every tool server.
    pub role: Role,
    /// The output cap for Calls that name none, in tokens, where a hard budget needs one.
    pub output_cap_default: Option<u64>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, `/api` included.
    Admin,
    /// Inference and its own data.
    Member,
}

impl Principal {
    /// Whether it may administer its account.
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }
}
