//! Keeps what objectives have counted in the store, so that a restart goes on with it.
//!
//! Invariants: no Call waits for it, nor does an evaluation; a crash loses what was counted in the
//! last [`KEEP_EVERY`] at most; counts are loaded only into the objective that they are of. It must
//! not know what an objective counts.

use std::sync::Arc;
use std::time::Duration;

use storage::Store;
use tokio_util::sync::CancellationToken;
use types::clock::SharedClock;

use super::Slos;
use crate::record::telemetry::Telemetry;

/// How often counts that have changed are written.
pub const KEEP_EVERY: Duration = Duration::from_secs(10);

/// Loads what was kept of these objectives.
pub(crate) async fn load(store: &dyn Store, slos: &Slos) {
    match store.slo_counts().await {
        Ok(kept) => slos.load(&kept),
        Err(error) => tracing::warn!(%error, "objectives begin anew: their counts can't be read"),
    }
}

/// Writes what has changed until `stop`, and then once more.
pub(crate) async fn run(
    telemetry: Telemetry,
    store: Arc<dyn Store>,
    clock: SharedClock,
    stop: CancellationToken,
) {
    let mut changed = telemetry.changed();
    let mut kept = Vec::new();
    loop {
        let slos = telemetry.slos();
        let is_idle = slos.is_none() && kept.is_empty();
        let stopped = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = changed.changed(), if is_idle => continue,
            () = clock.sleep(KEEP_EVERY), if !is_idle => false,
        };
        // Those of now: they may have been changed meanwhile.
        let slos = telemetry.slos();
        write(&*store, slos.as_deref(), &mut kept).await;
        if stopped {
            return;
        }
    }
}

/// Writes what has changed; `kept` are the names of which something may be in the store.
async fn write(store: &dyn Store, slos: Option<&Slos>, kept: &mut Vec<String>) {
    let names = slos.map(Slos::names).unwrap_or_default();
    let (rows, marks) = slos.map(Slos::unkept).unwrap_or_default();
    if rows.is_empty() && names == *kept {
        return;
    }
    match store.put_slo_counts(rows, names.clone()).await {
        Ok(()) => {
            marks.into_iter().for_each(|mark| mark.set());
            *kept = names;
        }
        Err(error) => tracing::warn!(%error, "what objectives have counted was not kept"),
    }
}
