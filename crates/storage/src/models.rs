//! Models that an operator added or priced at run time, and which file texts were taken into the
//! store.

use serde::{Deserialize, Serialize};
use types::{Price, Timestamp};

use crate::budgets::Origin;
use crate::store::Pending;

/// A model that clients can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name that clients ask for: `provider/model`.
    pub name: String,
    /// The provider; `local` is the engine.
    pub provider: String,
    /// The model's name at the provider.
    pub upstream_model: String,
    /// For a local model: the file, absolute.
    pub path: Option<String>,
    /// For a local model: SHA-256 of the file, in hexadecimal.
    pub sha256: Option<String>,
    /// Prices by the day from which they hold, oldest first; empty = unpriced.
    pub prices: Vec<DatedPrice>,
    /// The most tokens that it can answer with.
    pub output_tokens_max: Option<u64>,
    /// Its context window in tokens.
    pub context_tokens: Option<u64>,
    /// Where its present text came from.
    pub origin: Origin,
    /// Raised by one at each change.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A price from a day on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatedPrice {
    /// From when.
    pub since: Timestamp,
    /// What.
    pub price: Price,
}

/// Models and taken file texts.
pub trait Models {
    /// All, by name.
    fn models(&self) -> Pending<Vec<Model>>;

    /// Makes or changes one, by name.
    fn put_model(&self, model: Model) -> Pending<()>;

    /// Removes one.
    fn delete_model(&self, name: &str) -> Pending<bool>;

    /// The hash of each configuration object's text as it was last taken from the file, by kind and
    /// name.
    fn taken(&self) -> Pending<Vec<Taken>>;

    /// Remembers what was taken; replaces the whole list.
    fn put_taken(&self, taken: Vec<Taken>) -> Pending<()>;
}

/// A configuration object as it was last taken from the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// `key`, `budget`, `model` …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
}
