//! What an objective has counted, as text for a store.
//!
//! Slots are written by their age, since a process's own clock begins with it. Invariant: text that
//! can't be read loads nothing, and is told; what is loaded is no newer than what was written.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use types::Timestamp;

use super::SloSettings;
use super::ring::Counts;

/// Raised when the text or what it means changes: older counts begin anew.
const VERSION: u32 = 1;

/// What is written.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// For the short and the long window: age in slots, good, bad.
    pub(super) fine: Vec<(u64, u64, u64)>,
    /// For the error budget's.
    pub(super) coarse: Vec<(u64, u64, u64)>,
    pub(super) is_burning: bool,
    /// Since when, in microseconds since the epoch.
    pub(super) since: i64,
}

/// The slots that hold something.
pub(super) fn slots(slots: impl Iterator<Item = (u64, Counts)>) -> Vec<(u64, u64, u64)> {
    let held = slots.filter(|(_, counts)| counts.all() > 0);
    held.map(|(age, counts)| (age, counts.good, counts.bad)).collect()
}

impl Kept {
    pub(super) fn since(&self) -> Timestamp {
        Timestamp(self.since)
    }
}

/// By which an objective's settings are known.
pub(super) fn definition(settings: &SloSettings) -> String {
    let text = json!([
        VERSION,
        settings.class,
        settings.model,
        settings.key,
        settings.metric.name(),
        settings.threshold.as_nanos().to_string(),
        settings.allowed,
        settings.window.as_nanos().to_string(),
        settings.short_window.as_nanos().to_string(),
        settings.long_window.as_nanos().to_string(),
        settings.burn_rate,
        settings.min_count,
        settings.task_idle.as_nanos().to_string(),
    ]);
    let digest: [u8; 32] = Sha256::digest(text.to_string()).into();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
