//! The evaluation of objectives, in a beat of its own.
//!
//! Invariant: whatever is told now is evaluated, also what a later configuration put in its place.
//! It must not know what an objective counts.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use types::clock::SharedClock;

use crate::record::telemetry::Telemetry;

/// How often objectives are evaluated, at most and at least.
const BEAT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Evaluates all objectives until `stop`.
pub(crate) async fn run(telemetry: Telemetry, clock: SharedClock, stop: CancellationToken) {
    let mut changed = telemetry.changed();
    loop {
        let slos = telemetry.slos();
        let beat = async {
            match &slos {
                Some(slos) => {
                    let slot = slos.slot_min().unwrap_or(BEAT.1);
                    clock.sleep(slot.clamp(BEAT.0, BEAT.1)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = changed.changed() => {}
            () = beat => {
                if let Some(slos) = &slos {
                    slos.evaluate();
                }
            }
        }
    }
}
