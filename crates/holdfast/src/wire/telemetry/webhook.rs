//! Tells the operator's own addresses when an objective begins or stops to burn.
//!
//! Posts are as the Standard Webhooks have them: an id that stays the same from try to try, a time,
//! and a signature over both and the body where there is a secret. Each address has a queue and a
//! task of its own, so that one that hangs holds up no other. Invariant: firing never waits; what
//! no queue holds or no try delivers is dropped and said in the log.
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{HeaderName, Uri};
use pipeline::{Alert, AlertSink};
use ring::hmac;
use serde_json::json;
use server::SloView;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::Secret;
use types::clock::SharedClock;

use super::address;
use super::post::{NotTaken, Poster};
use crate::config::telemetry::SloEntry;

/// Alerts that wait for one address at most.
const QUEUE_MAX: usize = 64;
/// Tries of one alert, the first included: two minutes in all.
const TRIES_MAX: u32 = 8;
/// The wait before the second try; doubled up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait between two tries that the receiver did not ask for.
const WAIT_MAX: Duration = Duration::from_secs(32);
/// What stands before a secret that is written in base 64.
const SECRET_PREFIX: &str = "whsec_";

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Where each objective's alerts go.
#[derive(Debug, Default)]
pub(super) struct Webhooks(HashMap<String, Address>);

/// An address, and the queue before it. The address's task ends after what waits in the queue, once
/// nobody can put anything there.
#[derive(Clone, Debug)]
struct Address {
    to: String,
    secret: Option<Secret>,
    queue: mpsc::Sender<Alert>,
}

impl Webhooks {
    /// Starts a task for each objective that names an address, unless it has one from `before`.
    pub(super) fn start(
        slos: &[SloEntry],
        before: &Self,
        (clock, tracker, stop): (&SharedClock, &TaskTracker, &CancellationToken),
    ) -> Self {
        let mut all = HashMap::new();
        for slo in slos {
            let Some(text) = slo.webhook.as_deref() else { continue };
            let is_same = |known: &&Address| known.to == text && known.secret == slo.webhook_secret;
            if let Some(known) = before.0.get(&slo.name).filter(is_same) {
                all.insert(slo.name.clone(), known.clone());
                continue;
            }
            // Both were checked with the file.
            let Ok(to) = address(text) else { continue };
            let key = slo.webhook_secret.as_ref().map(signing_key);
            let Ok(key) = key.transpose() else { continue };
            let (queue, alerts) = mpsc::channel(QUEUE_MAX);
            let hook =
                Hook { to, key, poster: Poster::new(Arc::clone(clock)), clock: Arc::clone(clock) };
            let stop = stop.clone();
            tracker.spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = hook.run(alerts) => {}
                }
            });
            let secret = slo.webhook_secret.clone();
            all.insert(slo.name.clone(), Address { to: text.to_owned(), secret, queue });
        }
        Self(all)
    }
}

impl AlertSink for Webhooks {
    fn fire(&self, alert: Alert) {
        let Some(address) = self.0.get(&alert.slo.settings.name) else { return };
        if let Err(full) = address.queue.try_send(alert) {
            let slo = &*full.into_inner().slo.settings.name;
            tracing::error!(slo, "too many alerts wait for the webhook: one is dropped");
        }
    }
}

/// One objective's address.
struct Hook {
    to: Uri,
    key: Option<hmac::Key>,
    poster: Poster,
    clock: SharedClock,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("host", &self.to.host()).finish_non_exhaustive()
    }
}

impl Hook {
    async fn run(self, mut alerts: mpsc::Receiver<Alert>) {
        while let Some(alert) = alerts.recv().await {
            self.deliver(&alert).await;
        }
    }

    /// Tries until it is taken or there are no tries left.
    async fn deliver(&self, alert: &Alert) {
        let slo = &*alert.slo.settings.name;
        let (id, body) = (id(alert), body(alert));
        let mut wait = WAIT_MIN;
        for tried in 1..=TRIES_MAX {
            let seconds = self.clock.now().seconds();
            let headers = headers(self.key.as_ref(), &id, seconds, &body);
            let Err(why) = self.poster.post(&self.to, headers, body.clone()).await else { return };
            if tried == TRIES_MAX {
                tracing::error!(slo, %why, "a webhook was not delivered, and is given up");
                return;
            }
            tracing::warn!(slo, %why, tried, "a webhook was not delivered, and is tried again");
            let asked = match why {
                NotTaken::Status(_, asked) => asked,
                NotTaken::NoAnswer(_) => None,
            };
            self.clock.sleep(asked.unwrap_or(wait)).await;
            wait = wait.saturating_mul(2).min(WAIT_MAX);
        }
    }
}

/// The same for each try of an alert, and for no other.
fn id(alert: &Alert) -> String {
    format!("slo_{}_{}", alert.slo.settings.name, alert.at.0)
}

/// The event as JSON.
fn body(alert: &Alert) -> Bytes {
    let kind = if alert.slo.is_burning { "slo.burning" } else { "slo.resolved" };
    let (timestamp, data) = (alert.at.seconds(), SloView::of(&alert.slo));
    Bytes::from(json!({ "type": kind, "timestamp": timestamp, "data": data }).to_string())
}

/// What posts are signed with.
///
/// # Errors
/// Why it can't be used.
pub(crate) fn signing_key(secret: &Secret) -> Result<hmac::Key, String> {
    let text = secret.expose();
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let Some(coded) = text.strip_prefix(SECRET_PREFIX) else { return Ok(key(text.as_bytes())) };
    let wrong = |_| format!("begins with {SECRET_PREFIX}, and what follows is not in base 64");
    BASE64.decode(coded.as_bytes()).map(|bytes| key(&bytes)).map_err(wrong)
}

fn headers(key: Option<&hmac::Key>, id: &str, seconds: i64, body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(super::post::AGENT));
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    let mut text = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    text(ID, id);
    if let Some(key) = key {
        let signed = [format!("{id}.{seconds}.").as_bytes(), body].concat();
        text(SIGNATURE, &format!("v1,{}", BASE64.encode(hmac::sign(key, &signed).as_ref())));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_signed_as_the_standard_says() {
        // The example of the standard's own libraries.
        let key = signing_key(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let headers = headers(Some(&key), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(headers[SIGNATURE], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(headers[TIMESTAMP], "1614265330");
    }

    #[test]
    fn without_a_secret_nothing_is_signed_and_a_plain_one_signs_too() {
        assert!(!headers(None, "a", 1, b"x").contains_key(SIGNATURE));
        let plain = signing_key(&Secret::new("a plain secret")).unwrap();
        let coded = signing_key(&Secret::new("whsec_YSBwbGFpbiBzZWNyZXQ=")).unwrap();
        let signed = |key| headers(Some(key), "a", 1, b"x")[SIGNATURE].clone();
        assert_eq!(signed(&plain), signed(&coded));
    }
}
