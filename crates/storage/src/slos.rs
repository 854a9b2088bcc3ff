//! What objectives have counted, so that a restart goes on with it.
//!
//! One row per objective, written anew as a whole. What the counts mean is for the pipeline to
//! know; they are text here.

use types::Timestamp;

use crate::store::Pending;

/// What one objective has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SloCounts {
    /// The objective's name.
    pub name: String,
    /// By which its settings are known: counts of others are not its own.
    pub definition: String,
    /// When this was so.
    pub at: Timestamp,
    /// The counts.
    pub counts: String,
}

/// Counts of objectives.
pub trait Slos {
    /// What was kept, by name.
    fn slo_counts(&self) -> Pending<Vec<SloCounts>>;

    /// Keeps `counts`, each in place of what was kept under its name, and forgets what was kept
    /// under names that are not among `names`.
    fn put_slo_counts(&self, counts: Vec<SloCounts>, names: Vec<String>) -> Pending<()>;
}
