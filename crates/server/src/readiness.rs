//! Whether the parts that requests need are up, the store among them.
//!
//! The host knows its own parts. Whether the store takes writes is only known by writing, so this
//! does: it has the rows that wait written, then one write of its own that changes nothing. The
//! outcome is kept for a while, so that whoever asks often does not wear the disk.

use std::time::Duration;

use storage::Store;
use tokio::sync::Mutex;
use types::Failure;
use types::clock::{Clock, Monotonic, within};

use crate::app::{App, PartHealth};

/// How long the outcome of a write holds.
const KEPT: Duration = Duration::from_secs(5);
/// A write that takes longer counts as refused: a disk that hangs is as bad as one that is full.
const WRITE_MAX: Duration = Duration::from_secs(3);

/// What is known of the store.
#[derive(Debug, Default)]
pub struct StoreHealth {
    /// When it was last tried, and whether it took the write. One look at a time.
    last: Mutex<Option<(Monotonic, bool)>>,
}

/// All parts.
pub(crate) async fn parts(app: &App) -> Vec<PartHealth> {
    let mut parts = app.host.health().await;
    let writing = writes(app.store.as_ref(), app.pipeline.flush());
    parts.push(app.store_health.look(app.clock.as_ref(), writing).await);
    parts
}

impl StoreHealth {
    /// Whether the store takes writes; `writing` tries, unless that was done a moment ago.
    async fn look(&self, clock: &dyn Clock, writing: impl Future<Output = bool>) -> PartHealth {
        let mut last = self.last.lock().await;
        let now = clock.monotonic();
        let kept = last.filter(|(at, _)| now.saturating_sub(*at) < KEPT);
        let is_up = match kept {
            Some((_, is_up)) => is_up,
            None => {
                let is_up = within(clock, WRITE_MAX, Box::pin(writing)).await.unwrap_or(false);
                *last = Some((clock.monotonic(), is_up));
                is_up
            }
        };
        let reason = "the store cannot write: the disk is full, read-only or failing";
        PartHealth {
            part: "storage".to_owned(),
            state: if is_up { "up" } else { "down" }.to_owned(),
            reason: (!is_up).then(|| reason.to_owned()),
        }
    }
}

/// Whether the store takes the rows that wait, and a write of our own.
async fn writes(store: &dyn Store, waiting: impl Future<Output = Result<(), Failure>>) -> bool {
    if waiting.await.is_err() {
        return false;
    }
    store.try_write().await.is_ok()
}

#[cfg(test)]
mod tests;
