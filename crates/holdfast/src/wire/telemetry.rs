//! Telemetry as it is wired: objectives from the configuration, who is told when one burns, and
//! where spans and metrics are exported to.
//!
//! Everything here sends to addresses that the operator wrote down, off every Call's way: queues
//! are bounded, what does not fit is dropped and said, and a receiver that hangs holds up nobody
//! but itself.

mod otlp;
mod post;
mod webhook;

use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use pipeline::{Observer, Slos, Telemetry, Told};
use server::ObjectChange;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::clock::SharedClock;

use super::changes;
use crate::config::Config;
use crate::config::telemetry::{Otlp, SloEntry};
use webhook::Webhooks;
pub(crate) use webhook::signing_key;

/// Telemetry that runs, as the configuration was last taken.
#[derive(Debug)]
pub(super) struct Running {
    /// What the pipeline is handed.
    told: Telemetry,
    clock: SharedClock,
    tracker: TaskTracker,
    stop: CancellationToken,
    taken: Mutex<Taken>,
}

/// What runs, and what it was made of.
#[derive(Debug, Default)]
struct Taken {
    slos: Vec<SloEntry>,
    webhooks: Arc<Webhooks>,
    export: Option<Otlp>,
    observer: Option<Arc<dyn Observer>>,
}

impl Running {
    /// Nobody is told anything yet.
    pub(super) fn new(clock: SharedClock, tracker: TaskTracker) -> Self {
        let (told, stop) = (Telemetry::default(), CancellationToken::new());
        Self { told, clock, tracker, stop, taken: Mutex::default() }
    }

    /// Who is told of what has ended: the same for as long as the process runs.
    pub(super) fn told(&self) -> Telemetry {
        self.told.clone()
    }

    /// Does as a checked configuration says from now on. What it says the same of is not begun
    /// anew: an objective keeps its counts, an address the alerts that wait for it, a collector
    /// what it was counted for. An exporter that is replaced sends what it has, for a while.
    pub(super) fn take(&self, settings: &Config) -> Vec<ObjectChange> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let export = settings.telemetry.otlp(&|name| std::env::var(name).ok());
        let export = export.ok().flatten();
        let (slos, exports) = (taken.slos != settings.slos, taken.export != export);
        if !slos && !exports {
            return Vec::new();
        }
        let name = |entry: &SloEntry| entry.name.clone();
        let mut changed = changes::of("slo", &taken.slos, &settings.slos, name);
        let (before, after) = (taken.export.as_slice(), export.as_slice());
        changed.extend(changes::of("telemetry", before, after, |_| "otlp".to_owned()));
        if exports {
            taken.observer = export.clone().map(|export| self.exporter(export));
            taken.export = export;
        }
        if slos {
            let background = (&self.clock, &self.tracker, &self.stop);
            let webhooks = Webhooks::start(&settings.slos, &taken.webhooks, background);
            taken.webhooks = Arc::new(webhooks);
            taken.slos.clone_from(&settings.slos);
        }
        let next = match slos {
            true => self.objectives(&taken),
            false => self.told.slos(),
        };
        self.told.set(Told { slos: next, observer: taken.observer.clone() });
        changed
    }

    fn objectives(&self, taken: &Taken) -> Option<Arc<Slos>> {
        if taken.slos.is_empty() {
            return None;
        }
        let objectives = taken.slos.iter().map(SloEntry::settings).collect();
        let sink = Arc::clone(&taken.webhooks) as _;
        let (before, clock) = (self.told.slos(), Arc::clone(&self.clock));
        Some(Arc::new(Slos::after(before.as_deref(), objectives, clock, Some(sink))))
    }

    fn exporter(&self, export: Otlp) -> Arc<dyn Observer> {
        let (exporter, worker) = otlp::exporter(export, &self.clock);
        self.tracker.spawn(worker.run(self.stop.clone()));
        Arc::new(exporter)
    }

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
