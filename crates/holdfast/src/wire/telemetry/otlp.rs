//! Exports spans and metrics by OTLP over HTTP to a collector.
//!
//! Calls and attempts that have ended are put into a bounded queue; one task makes batches of them
//! and posts. Invariants: a Call never waits for it, a collector that hangs or is gone costs what
//! the queue holds and no more, what is dropped is counted and said; a clean stop gives it
//! [`FLUSH_MAX`] for the rest. It must not know content: there is none in what it is told.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

mod figures;
mod proto;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{StatusCode, Uri};
use pipeline::{AttemptEnded, CallEnded, Observer};
use prost::Message;
use providers::trace::is_sampled;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::clock::{Monotonic, SharedClock, within};

use super::post::{AGENT, NotTaken, Poster};
use crate::config::telemetry::Otlp;
use figures::{Figures, Measured};
use proto::{
    Metrics, Resource, ResourceMetrics, ResourceSpans, Scope, ScopeMetrics, ScopeSpans, Span,
    Traces, text,
};

/// Calls and attempts that wait to be exported at most: some megabytes.
const QUEUE_MAX: usize = 8_192;
/// Spans of one post at most.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Tries of one post, the first included.
const TRIES_MAX: u32 = 3;
/// The wait before the second try; doubled, unless the collector asks for another.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// What a clean stop gives the last batches.
const FLUSH_MAX: Duration = Duration::from_secs(3);
/// How often it is said at most that something was dropped.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Something that has ended, in the words that are sent: what waits here must not keep a request's
/// body in memory.
#[derive(Debug)]
enum Ended {
    Attempt(Box<Measured>, Option<Box<Span>>),
    Call(Box<Span>),
}

/// What the pipeline tells.
#[derive(Debug)]
pub(super) struct Exporter {
    queue: mpsc::Sender<Ended>,
    dropped: Arc<AtomicU64>,
    sampling: f64,
}

impl Exporter {
    fn put(&self, ended: Ended) {
        if self.queue.try_send(ended).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for Exporter {
    fn attempt_ended(&self, attempt: AttemptEnded) {
        let is_sampled = is_sampled(&attempt.call, self.sampling);
        let span = is_sampled.then(|| Box::new(words::of_attempt(&attempt)));
        self.put(Ended::Attempt(Box::new(Measured::of(&attempt)), span));
    }

    fn call_ended(&self, call: &CallEnded) {
        if is_sampled(&call.call, self.sampling) {
            self.put(Ended::Call(Box::new(words::of_call(call))));
        }
    }
}

/// The task behind it.
pub(super) struct Worker {
    settings: Otlp,
    poster: Poster,
    clock: SharedClock,
    ended: mpsc::Receiver<Ended>,
    dropped: Arc<AtomicU64>,
    figures: Figures,
    spans: Vec<Span>,
    /// Nobody can tell it anything more: another exporter has its place.
    is_replaced: bool,
    next_metrics: Monotonic,
    said: (Monotonic, u64),
}

/// An exporter, and the worker that has to be run for it.
pub(super) fn exporter(settings: Otlp, clock: &SharedClock) -> (Exporter, Worker) {
    let (queue, ended) = mpsc::channel(QUEUE_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let now = clock.monotonic();
    let worker = Worker {
        poster: Poster::new(Arc::clone(clock)),
        clock: Arc::clone(clock),
        ended,
        dropped: Arc::clone(&dropped),
        figures: Figures::new(clock.now()),
        spans: Vec::new(),
        is_replaced: false,
        next_metrics: now.saturating_add(settings.metrics_interval),
        said: (now, 0),
        settings,
    };
    let sampling = worker.settings.sampling;
    (Exporter { queue, dropped, sampling }, worker)
}

impl Worker {
    /// Runs until it is stopped or replaced, and then exports what is left, for a while.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !self.is_replaced {
            let stopped = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = self.work() => false,
            };
            if stopped {
                break;
            }
        }
        let clock = Arc::clone(&self.clock);
        if within(&*clock, FLUSH_MAX, self.flush()).await.is_none() {
            tracing::warn!("the collector took too long: what was left is not exported");
        }
    }

    /// Gathers a batch and posts it; posts metrics when they are due. Dropping this loses nothing.
    async fn work(&mut self) {
        let until_metrics = self.next_metrics.saturating_sub(self.clock.monotonic());
        let wait = if self.spans.is_empty() { until_metrics } else { GATHER.min(until_metrics) };
        let mut timer = self.clock.sleep(wait);
        while self.spans.len() < BATCH_MAX {
            tokio::select! {
                biased;
                () = &mut timer => break,
                ended = self.ended.recv() => match ended {
                    Some(ended) => {
                        let is_first = self.spans.is_empty();
                        self.take(ended);
                        if is_first && !self.spans.is_empty() {
                            timer = self.clock.sleep(GATHER.min(until_metrics));
                        }
                    }
                    None => {
                        self.is_replaced = true;
                        return;
                    }
                },
            }
        }
        self.post_spans().await;
        if self.clock.monotonic() >= self.next_metrics {
            self.post_metrics().await;
        }
        self.say_dropped();
    }

    async fn flush(&mut self) {
        while let Ok(ended) = self.ended.try_recv() {
            self.take(ended);
            if self.spans.len() >= BATCH_MAX {
                self.post_spans().await;
            }
        }
        self.post_spans().await;
        self.post_metrics().await;
    }

    fn take(&mut self, ended: Ended) {
        let span = match ended {
            Ended::Attempt(measured, span) => {
                self.figures.count(&measured);
                span
            }
            Ended::Call(span) => Some(span),
        };
        self.spans.extend(span.map(|span| *span));
    }

    async fn post_spans(&mut self) {
        if self.spans.is_empty() {
            return;
        }
        // Kept until they are taken: a stop may cut this post off, and sends them again.
        let (spans, count) = (self.spans.clone(), self.spans.len() as u64);
        let scopes = vec![ScopeSpans { scope: Some(scope()), spans }];
        let resources = vec![ResourceSpans { resource: Some(self.resource()), scopes }];
        let body = Bytes::from(Traces { resources }.encode_to_vec());
        let to = self.settings.traces.clone();
        if !self.post(&to, body).await {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
        self.spans.clear();
    }

    async fn post_metrics(&mut self) {
        let now = self.clock.monotonic();
        self.next_metrics = now.saturating_add(self.settings.metrics_interval);
        let dropped = self.dropped.load(Ordering::Relaxed);
        let metrics = self.figures.metrics(self.clock.now(), dropped);
        let scopes = vec![ScopeMetrics { scope: Some(scope()), metrics }];
        let resources = vec![ResourceMetrics { resource: Some(self.resource()), scopes }];
        let body = Bytes::from(Metrics { resources }.encode_to_vec());
        let to = self.settings.metrics.clone();
        // They grow: the next post says what this one would have.
        let _taken = self.post(&to, body).await;
    }

    /// Posts it, and again where the collector may take it later. Whether it was taken.
    async fn post(&self, to: &Uri, body: Bytes) -> bool {
        let mut wait = WAIT_MIN;
        for tried in 1..=TRIES_MAX {
            let posted = self.poster.post(to, self.headers(), body.clone()).await;
            let Err(why) = posted else { return true };
            let asked = match &why {
                NotTaken::Status(status, asked) if may_pass(*status) => *asked,
                NotTaken::NoAnswer(_) => None,
                NotTaken::Status(..) => {
                    tracing::warn!(%why, "the collector refused what was exported");
                    return false;
                }
            };
            if tried == TRIES_MAX {
                tracing::warn!(%why, "the collector took nothing");
                return false;
            }
            self.clock.sleep(asked.unwrap_or(wait)).await;
            wait = wait.saturating_mul(2);
        }
        false
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = self.settings.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers
    }

    fn resource(&self) -> Resource {
        let attributes = vec![
            text("service.name", &self.settings.service),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ];
        Resource { attributes }
    }

    fn say_dropped(&mut self) {
        let (now, dropped) = (self.clock.monotonic(), self.dropped.load(Ordering::Relaxed));
        let (at, before) = self.said;
        if dropped > before && now.saturating_sub(at) >= SAY_EVERY {
            self.said = (now, dropped);
            tracing::warn!(dropped, "Calls and attempts were not exported since the start");
        }
    }
}

fn scope() -> Scope {
    Scope { name: "holdfast".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// What OTLP says may be tried again.
fn may_pass(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
