//! Reads the file again when it changes, and at SIGHUP.
//!
//! The file is looked at once a second instead of asking the kernel to tell: one call costs
//! nothing, goes through the clock as all time does, and sees what inotify does not, which is
//! changes on network file systems and a link that is turned to another folder (as Kubernetes
//! replaces a mounted configuration). Who writes slowly is waited for: a change is taken once two
//! looks in a row find the same.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use types::clock::SharedClock;

use super::Common;
use super::control::{Control, THE_FILE};
use crate::config::Stamp;

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who asks where a signal does.
const BY_SIGNAL: &str = "SIGHUP";

/// Reads the file again whenever there is cause, until `stop`. From now on SIGHUP does not end the
/// process.
///
/// # Errors
/// The system does not give us the signal.
pub(super) fn start(
    control: Arc<Control>,
    common: &Common,
    stop: CancellationToken,
) -> io::Result<()> {
    let hangups = signal(SignalKind::hangup())?;
    common.tracker.spawn(run(control, Arc::clone(&common.clock), hangups, stop));
    Ok(())
}

async fn run(
    control: Arc<Control>,
    clock: SharedClock,
    mut hangups: Signal,
    stop: CancellationToken,
) {
    let looks = control.file().is_some() && control.running().server.reload_on_change;
    let mut seen = None;
    loop {
        let author = tokio::select! {
            () = stop.cancelled() => return,
            _ = hangups.recv() => Some(BY_SIGNAL),
            () = clock.sleep(LOOK_EVERY), if looks => {
                let now = look(&control).await;
                let settled = now.is_some() && now == seen && now != control.stamp();
                seen = now;
                settled.then_some(THE_FILE)
            }
        };
        if let Some(author) = author {
            // Told in the log and in what the API shows.
            drop(control.reload_file(author.to_owned()).await);
        }
    }
}

async fn look(control: &Control) -> Option<Stamp> {
    let file = control.file()?.clone();
    tokio::task::spawn_blocking(move || Stamp::of(&file)).await.ok().flatten()
}
