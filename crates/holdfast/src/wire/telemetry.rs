//! Telemetry as it is wired: objectives from the configuration, who is told when one burns, and
//! where spans and metrics are exported to.
//!
//! Everything here sends to addresses that the operator wrote down, off every Call's way: queues
//! are bounded, what does not fit is dropped and said, and a receiver that hangs holds up nobody
//! but itself.

mod otlp;
mod post;
mod webhook;

use std::sync::Arc;

use http::Uri;
use pipeline::{Observer, Slos, Telemetry};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::clock::SharedClock;

use crate::config::Config;
use webhook::Webhooks;
pub(crate) use webhook::signing_key;

/// Telemetry that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// What the pipeline is handed.
    pub(super) told: Telemetry,
    stop: CancellationToken,
}

/// Starts what the configuration asks for.
pub(super) fn start(settings: &Config, clock: &SharedClock, tracker: &TaskTracker) -> Running {
    let stop = CancellationToken::new();
    let slos = (!settings.slos.is_empty()).then(|| {
        let webhooks = Webhooks::start(&settings.slos, clock, tracker, &stop);
        let objectives = settings.slos.iter().map(|entry| entry.settings()).collect();
        Arc::new(Slos::new(objectives, Arc::clone(clock), Some(Arc::new(webhooks))))
    });
    let export = settings.telemetry.otlp(&|name| std::env::var(name).ok());
    let observer = export.ok().flatten().map(|export| {
        let (exporter, worker) = otlp::exporter(export, clock);
        tracker.spawn(worker.run(stop.clone()));
        Arc::new(exporter) as Arc<dyn Observer>
    });
    Running { told: Telemetry { slos, observer }, stop }
}

impl Running {
    /// Ends what runs in the background: what has ended is exported, for a while; alerts that a
    /// receiver has not taken by then are dropped.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

/// Where something is posted to.
///
/// # Errors
/// Why it can't be used.
pub(crate) fn address(text: &str) -> Result<Uri, String> {
    let wrong =
        || "must be an address such as https://HOST/PATH or http://HOST:PORT/PATH".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    match uri.authority() {
        Some(authority) if is_http && authority.as_str().contains('@') => {
            Err("must not hold a user name or a password".to_owned())
        }
        Some(_) if is_http => Ok(uri),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_whole_one_without_secrets() {
        for text in ["http://127.0.0.1:9/x", "https://alerts.example/hook?team=a"] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in ["", "alerts.example/x", "ftp://a/b", "/x", "http://user:pw@a/b", "http://"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
