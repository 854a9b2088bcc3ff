//! AI Gateway's headers, `cf-aig-*`: what a request asks with them, and what an answer says.
//!
//! Each is read, so that a wrong value is a 400 and never a surprise. Those of time, tries, traces
//! and of the way that a request takes act; those of caching, cost and retention do nothing here
//! and are taken all the same. An answer says only what is true: there is no cache, hence no word
//! of one.

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Extensions, HeaderMap, Response};
use serde_json::Value;
use types::call::{AttemptsAsk, Growth};
use types::{Failure, Metadata, TraceParent};

use crate::body::Body;
use crate::errors::CALL_ID;
use crate::inference::routed::Routed;
use crate::request;

mod own;

pub(super) use own::take;

/// The key of a gateway, beside which `authorization` is the provider's.
const AUTHORIZATION_HERE: &str = "cf-aig-authorization";
/// Where clients put a provider's key.
const PROVIDER_KEYS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];
const REQUEST_TIMEOUT: &str = "cf-aig-request-timeout";
const MAX_ATTEMPTS: &str = "cf-aig-max-attempts";
const RETRY_DELAY: &str = "cf-aig-retry-delay";
const BACKOFF: &str = "cf-aig-backoff";
pub(super) const METADATA: &str = "cf-aig-metadata";
const EVENT_ID: &str = "cf-aig-event-id";

/// Tries of one provider at most.
const ATTEMPTS_MAX: u64 = 5;
/// Milliseconds before the next try at most.
const RETRY_DELAY_MAX: u64 = 5_000;
/// Milliseconds to wait for an answer at most: beyond an hour every Call ends.
const REQUEST_TIMEOUT_MAX: u64 = 60 * 60 * 1_000;
/// Seconds that a cached answer may be kept, as AI Gateway has it: a minute to a month.
const CACHE_TTL: std::ops::RangeInclusive<u64> = 60..=2_678_400;
/// Headers that say yes or no; only the last one does something here.
const SWITCHES: [&str; 7] = [
    "cf-aig-skip-cache",
    "cf-skip-cache",
    "cf-aig-collect-log",
    "cf-aig-collect-log-payload",
    "cf-aig-zdr",
    "cf-aig-no-wholesale",
    own::NO_AFFINITY,
];
/// How long a cached answer is to be kept, by its name and its old one.
const CACHE_TTLS: [&str; 2] = ["cf-aig-cache-ttl", "cf-cache-ttl"];
const CUSTOM_COST: &str = "cf-aig-custom-cost";

/// What a request asks in such headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Tries.
    pub(super) attempts: AttemptsAsk,
    /// How long an answer may take to begin.
    pub(super) request_timeout: Option<Duration>,
    /// The client's name for the request.
    pub(super) event_id: Option<HeaderValue>,
    /// The trace that it belongs to.
    pub(super) trace: Option<TraceParent>,
}

/// Puts a gateway's key where keys are looked for. What stands there beside it is a provider's key:
/// providers have the operator's here, so that it goes nowhere.
pub(super) fn take_key(headers: &mut HeaderMap) {
    if let Some(key) = headers.remove(AUTHORIZATION_HERE) {
        PROVIDER_KEYS.iter().for_each(|name| drop(headers.remove(*name)));
        headers.insert(AUTHORIZATION, key);
    }
}

/// Whether a step of the universal endpoint may not set a header: keys and the gateway are the
/// request's own.
pub(super) fn is_key(name: &str) -> bool {
    name == AUTHORIZATION_HERE
        || name == request::GATEWAY_ID
        || name == AUTHORIZATION.as_str()
        || PROVIDER_KEYS.contains(&name)
}

/// The gateway that a request to Cloudflare's REST API names.
pub(super) fn gateway(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    text(headers, request::GATEWAY_ID)
}

/// Reads every header of AI Gateway.
///
/// # Errors
/// A 400 that names the header.
pub(super) fn read(headers: &HeaderMap) -> Result<Asked, Failure> {
    for name in SWITCHES {
        let known = |text: &&str| matches!(*text, "true" | "false" | "1" | "0");
        if text(headers, name)?.is_some_and(|text| !known(&text)) {
            return Err(wrong(name, "true or false"));
        }
    }
    for name in CACHE_TTLS {
        if number(headers, name)?.is_some_and(|seconds| !CACHE_TTL.contains(&seconds)) {
            let (least, most) = (CACHE_TTL.start(), CACHE_TTL.end());
            return Err(wrong(name, &format!("a number of seconds from {least} to {most}")));
        }
    }
    check_metadata(headers)?;
    check_custom_cost(headers)?;
    own::check(headers)?;
    let said = Said {
        request_timeout: number(headers, REQUEST_TIMEOUT)?,
        max_attempts: number(headers, MAX_ATTEMPTS)?,
        retry_delay: number(headers, RETRY_DELAY)?,
        backoff: text(headers, BACKOFF)?,
    };
    let event_id = headers.get(EVENT_ID).cloned();
    Ok(Asked { event_id, trace: own::trace(headers)?, ..said.read(&HEADERS)? })
}

/// What is said of time and tries, in headers or in a step's `config`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) request_timeout: Option<u64>,
    pub(super) max_attempts: Option<u64>,
    pub(super) retry_delay: Option<u64>,
    pub(super) backoff: Option<&'a str>,
}

/// How the four are called where they stand: timeout, attempts, delay, backoff.
pub(super) type Names = [&'static str; 4];

const HEADERS: Names = [REQUEST_TIMEOUT, MAX_ATTEMPTS, RETRY_DELAY, BACKOFF];
/// The same in a step's `config`.
pub(super) const CONFIG: Names =
    ["config.requestTimeout", "config.maxAttempts", "config.retryDelay", "config.backoff"];

impl Said<'_> {
    /// Reads it.
    ///
    /// # Errors
    /// A 400 that names the header or the field.
    pub(super) fn read(&self, names: &Names) -> Result<Asked, Failure> {
        let [timeout, attempts, delay, backoff] = *names;
        let within = |name, value: Option<u64>, least: u64, most: u64| match value {
            Some(value) if !(least..=most).contains(&value) => {
                Err(wrong(name, &format!("a number from {least} to {most}")))
            }
            value => Ok(value),
        };
        let limit = within(timeout, self.request_timeout, 1, REQUEST_TIMEOUT_MAX)?;
        let tries = within(attempts, self.max_attempts, 1, ATTEMPTS_MAX)?;
        let wait = within(delay, self.retry_delay, 0, RETRY_DELAY_MAX)?;
        let growth = match self.backoff {
            None => None,
            Some("constant") => Some(Growth::Constant),
            Some("linear") => Some(Growth::Linear),
            Some("exponential") => Some(Growth::Exponential),
            Some(_) => return Err(wrong(backoff, "constant, linear or exponential")),
        };
        Ok(Asked {
            attempts: AttemptsAsk {
                same_target_max: tries.and_then(|tries| u32::try_from(tries).ok()),
                backoff: wait.map(Duration::from_millis),
                growth,
                hold: false,
            },
            request_timeout: limit.map(Duration::from_millis),
            ..Asked::default()
        })
    }
}

impl Asked {
    /// Tells the door what it reads beside headers.
    pub(super) fn mark(&self, extensions: &mut Extensions) {
        extensions.insert(self.attempts);
        if let Some(trace) = self.trace {
            extensions.insert(trace);
        }
    }

    /// With what another place says on top, which counts where both say something.
    #[must_use]
    pub(super) fn overlaid(self, above: Self) -> Self {
        let (below, own) = (self.attempts, above.attempts);
        Self {
            attempts: AttemptsAsk {
                same_target_max: own.same_target_max.or(below.same_target_max),
                backoff: own.backoff.or(below.backoff),
                growth: own.growth.or(below.growth),
                hold: own.hold || below.hold,
            },
            request_timeout: above.request_timeout.or(self.request_timeout),
            event_id: above.event_id.or(self.event_id),
            trace: above.trace.or(self.trace),
        }
    }

    /// Says in an answer which Call it is, whose it is, and which step it was.
    pub(super) fn describe(&self, response: &mut Response<Body>, step: usize) {
        let routed = response.extensions_mut().remove::<Routed>();
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set(EVENT_ID, self.event_id.clone());
        set("cf-aig-step", Some(HeaderValue::from(step)));
        let call = headers.get(CALL_ID).cloned();
        let target = headers.get("holdfast-model").and_then(|name| name.to_str().ok());
        let whole = target.and_then(|name| HeaderValue::from_str(name).ok());
        let target = target.and_then(|name| name.split_once('/'));
        let target = target
            .map(|(provider, model)| [provider, model].map(|t| HeaderValue::from_str(t).ok()));
        let [provider, model] = target.unwrap_or_default();
        let mut set = |name: &'static str, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        if let Some(Routed { reason }) = routed {
            set("cf-aig-routed-model", whole);
            set("cf-aig-routing-reason", Some(HeaderValue::from_static(reason)));
            set("cf-aig-routing-decision-id", call.clone());
        }
        set("cf-aig-log-id", call.clone());
        set("cf-aig-request-id", call);
        set("cf-aig-provider", provider);
        set("cf-aig-model", model);
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Failure> {
    let value = headers.get(name).map(HeaderValue::to_str).transpose();
    value.map_err(|_| wrong(name, "visible ASCII"))
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Failure> {
    let number = text(headers, name)?.map(|text| text.trim().parse());
    number.transpose().map_err(|_| wrong(name, "a whole number"))
}

fn json(headers: &HeaderMap, name: &'static str) -> Result<Option<Value>, Failure> {
    // Values may hold any text, which HTTP carries as bytes.
    let Some(value) = headers.get(name) else { return Ok(None) };
    serde_json::from_slice(value.as_bytes()).map(Some).map_err(|_| wrong(name, "a JSON object"))
}

fn check_metadata(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(value) = headers.get(METADATA) else { return Ok(()) };
    let wrong = |wrong| Failure::invalid(METADATA, format!("{METADATA} {wrong}"));
    Metadata::parse(value.as_bytes()).map(drop).map_err(wrong)
}

fn check_custom_cost(headers: &HeaderMap) -> Result<(), Failure> {
    const FIELDS: [&str; 3] = ["per_token_in", "per_token_out", "total_cost"];
    let is_amount = |value: &Value| value.as_f64().is_some_and(|amount| amount >= 0.0);
    let Some(cost) = json(headers, CUSTOM_COST)? else { return Ok(()) };
    let fits = cost.as_object().is_some_and(|map| {
        map.iter().all(|(name, value)| FIELDS.contains(&name.as_str()) && is_amount(value))
    });
    if fits {
        Ok(())
    } else {
        Err(wrong(CUSTOM_COST, "an object of per_token_in, per_token_out or total_cost"))
    }
}

fn wrong(name: &'static str, wanted: &str) -> Failure {
    Failure::invalid(name, format!("{name} must be {wanted}"))
}

#[cfg(test)]
mod tests;
