//! `[routes.hedge]`: a second attempt beside one that shows nothing for long.
//!
//! What a hedge does and costs is the pipeline's; this is only what a route says of it.

use std::time::Duration;

use serde::Deserialize;

use super::file::duration;

/// When a second target is asked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct HedgeEntry {
    /// Time without content after which another target is asked beside the first.
    #[serde(deserialize_with = "duration")]
    pub(crate) after: Duration,
}
