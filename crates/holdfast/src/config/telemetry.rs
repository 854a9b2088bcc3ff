//! `[telemetry]`: where spans and metrics are exported to; `[[slos]]`: objectives for classes of
//! Calls, and who is told when one burns.
//!
//! What an objective may be is checked where the others' settings are
//! ([`validate`](super::validate)); this module must not know how objectives are counted.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use pipeline::SloSettings;
use pipeline::slo::{MILLION, Metric};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use types::Secret;

use super::file::some_duration;
use crate::wire::telemetry::address;

/// A month.
const WINDOW: Duration = Duration::from_hours(30 * 24);
/// The pair of windows and the rate at which 2 % of a month's budget is gone in an hour.
/// <https://sre.google/workbook/alerting-on-slos/>
const SHORT_WINDOW: Duration = Duration::from_mins(5);
const LONG_WINDOW: Duration = Duration::from_hours(1);
const BURN_RATE: f64 = 14.4;
/// One bad Call of a few says little.
const MIN_COUNT: u64 = 10;
/// Agents and people think for as long between the Calls of one task.
const TASK_IDLE: Duration = Duration::from_mins(1);
/// Digits behind the point of a percentage that can be written.
const PERCENT_DIGITS: usize = 4;

/// How often metrics are exported.
const METRICS_INTERVAL: Duration = Duration::from_mins(1);
/// What the collector is told that sends.
const SERVICE: &str = "holdfast";
/// Variables of every OpenTelemetry SDK.
/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// Where spans and metrics go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Exports {
    /// The collector's address, without `/v1/traces`. Default: `OTEL_EXPORTER_OTLP_ENDPOINT`; else
    /// nothing is exported.
    pub(crate) otlp_endpoint: Option<String>,
    /// Headers of each post, such as a key. Default: `OTEL_EXPORTER_OTLP_HEADERS`.
    pub(crate) otlp_headers: Option<BTreeMap<String, Secret>>,
    /// The part of traces that is exported, where a caller has not decided. Default 1.
    pub(crate) sampling: Option<f64>,
    /// How often metrics are exported. Default 60 s.
    #[serde(deserialize_with = "some_duration")]
    pub(crate) metrics_interval: Option<Duration>,
    /// The name under which this server exports. Default: `OTEL_SERVICE_NAME`, else `holdfast`.
    pub(crate) service_name: Option<String>,
}

/// An export that can be made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Otlp {
    pub(crate) traces: Uri,
    pub(crate) metrics: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) sampling: f64,
    pub(crate) metrics_interval: Duration,
    pub(crate) service: String,
}

/// Why nothing can be exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotExported {
    /// A setting of the file, and what is wrong with it.
    Setting(&'static str, String),
    /// A variable of the environment, where other programs read it too, and why it is none of ours.
    Variable(&'static str, String),
}

impl Exports {
    /// The export, if there is to be one.
    ///
    /// # Errors
    /// [`NotExported`]: what can't be used, and why.
    pub(crate) fn otlp(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Otlp>, NotExported> {
        let set = |name: &str| environment(name).filter(|text| !text.is_empty());
        if set("OTEL_SDK_DISABLED").is_some_and(|text| text == "true") {
            return Ok(None);
        }
        let Some((traces, metrics)) = self.addresses(&set)? else { return Ok(None) };
        let headers = match &self.otlp_headers {
            Some(given) => headers(given.iter().map(|(name, value)| (name.clone(), value.clone())))
                .map_err(|why| NotExported::Setting("otlp_headers", why)),
            None => headers(headers_of(&set(HEADERS).unwrap_or_default()).into_iter())
                .map_err(|why| NotExported::Variable(HEADERS, why)),
        };
        let service = self.service_name.clone().or_else(|| set("OTEL_SERVICE_NAME"));
        Ok(Some(Otlp {
            traces,
            metrics,
            headers: headers?,
            sampling: self.sampling.unwrap_or(1.0),
            metrics_interval: self.metrics_interval.unwrap_or(METRICS_INTERVAL),
            service: service.unwrap_or_else(|| SERVICE.to_owned()),
        }))
    }

    /// Where traces and metrics go, if they go anywhere. The environment may ask for gRPC, which
    /// the file can't.
    fn addresses(
        &self,
        set: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<(Uri, Uri)>, NotExported> {
        let to = |endpoint: &str, path: &str| {
            address(&format!("{}/v1/{path}", endpoint.trim_end_matches('/')))
        };
        let both = |endpoint: &str| Ok((to(endpoint, "traces")?, to(endpoint, "metrics")?));
        if let Some(endpoint) = &self.otlp_endpoint {
            return both(endpoint)
                .map(Some)
                .map_err(|why| NotExported::Setting("otlp_endpoint", why));
        }
        let Some(endpoint) = set(ENDPOINT) else { return Ok(None) };
        if let Some(protocol) = set(PROTOCOL).filter(|protocol| !protocol.starts_with("http/")) {
            let why = format!("is {protocol}, and Holdfast exports by http/protobuf only");
            return Err(NotExported::Variable(PROTOCOL, why));
        }
        both(&endpoint).map(Some).map_err(|why| NotExported::Variable(ENDPOINT, why))
    }
}

/// Headers as the environment has them: `name=value,name=value`, percent-encoded.
fn headers_of(text: &str) -> Vec<(String, Secret)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
    pairs.map(|(name, value)| (decoded(name), Secret::new(decoded(value)))).collect()
}

fn headers(given: impl Iterator<Item = (String, Secret)>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let wrong = || format!("\"{name}\" can't be sent as a header");
        let key = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// An objective.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SloEntry {
    /// Its name.
    pub(crate) name: String,
    /// Only Calls of this request class.
    pub(crate) class: Option<String>,
    /// Only Calls that ask for this model or route, or that it answered.
    pub(crate) model: Option<String>,
    /// Only Calls with the key of this name.
    pub(crate) key: Option<String>,
    /// `time_to_first_token`, `task_time`, `policy_time` or `errors`.
    #[serde(deserialize_with = "metric")]
    pub(crate) metric: Metric,
    /// What takes longer is bad. Needed, but for `errors`.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) threshold: Option<Duration>,
    /// Which part has to be good, such as `"99.5%"`; kept as what may be bad, in millionths.
    #[serde(deserialize_with = "allowed")]
    pub(crate) objective: u32,
    /// What the error budget is for. Default 30 days.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) window: Option<Duration>,
    /// Default 5 minutes.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) short_window: Option<Duration>,
    /// Default 1 hour.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) long_window: Option<Duration>,
    /// It burns when both windows burn so much faster than allowed. Default 14.4.
    pub(crate) burn_rate: Option<f64>,
    /// Events in the long window below which nothing burns. Default 10.
    pub(crate) min_count: Option<u64>,
    /// How long none of a task's Calls has run when it is over. Default 60 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) task_idle: Option<Duration>,
    /// Where to post when it begins or stops to burn.
    pub(crate) webhook: Option<String>,
    /// What those posts are signed with, best as `${VARIABLE}`.
    pub(crate) webhook_secret: Option<Secret>,
}

impl SloEntry {
    /// The objective with its defaults.
    pub(crate) fn settings(&self) -> SloSettings {
        SloSettings {
            name: self.name.clone(),
            class: self.class.clone(),
            model: self.model.clone(),
            key: self.key.clone(),
            metric: self.metric,
            threshold: self.threshold.unwrap_or_default(),
            allowed: self.objective,
            window: self.window.unwrap_or(WINDOW),
            short_window: self.short_window.unwrap_or(SHORT_WINDOW),
            long_window: self.long_window.unwrap_or(LONG_WINDOW),
            burn_rate: self.burn_rate.unwrap_or(BURN_RATE),
            min_count: self.min_count.unwrap_or(MIN_COUNT),
            task_idle: self.task_idle.unwrap_or(TASK_IDLE),
        }
    }
}

fn metric<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metric, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = || Metric::ALL.map(Metric::name).join(", ");
    Metric::parse(&text)
        .ok_or_else(|| D::Error::custom(format!("\"{text}\" is not one of: {}", known())))
}

fn allowed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    read_allowed(&text)
        .ok_or_else(|| D::Error::custom("is no percentage between 0% and 100% such as \"99.5%\""))
}

/// What a percentage leaves, in millionths.
fn read_allowed(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > PERCENT_DIGITS {
        return None;
    }
    let parts: u32 = format!("{part:0<PERCENT_DIGITS$}").parse().ok()?;
    let good = whole.parse::<u32>().ok()?.checked_mul(MILLION / 100)?.checked_add(parts)?;
    (good > 0 && good < MILLION).then(|| MILLION - good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_what_the_file_does_not() {
        let set = |name: &str| {
            let value = match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => "http://collector:4318/",
                "OTEL_EXPORTER_OTLP_HEADERS" => "x-key=a%20b, x-team=harbor",
                "OTEL_SERVICE_NAME" => "gateway",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let export = Exports::default().otlp(&set).unwrap().unwrap();
        assert_eq!(export.traces, "http://collector:4318/v1/traces");
        assert_eq!(
            (&export.headers["x-key"], export.service.as_str()),
            (&HeaderValue::from_static("a b"), "gateway")
        );
        assert_eq!(export.headers["x-team"], "harbor");
        let file =
            Exports { otlp_endpoint: Some("https://other".to_owned()), ..Exports::default() };
        assert_eq!(file.otlp(&set).unwrap().unwrap().metrics, "https://other/v1/metrics");
        assert!(Exports::default().otlp(&|_| None).unwrap().is_none());
        let off = |name: &str| (name == "OTEL_SDK_DISABLED").then(|| "true".to_owned());
        assert!(file.otlp(&off).unwrap().is_none());
    }

    #[test]
    fn what_the_environment_means_for_others_is_named_and_exports_nothing() {
        let of = |exports: &Exports, variables: &[(&str, &str)]| {
            let set = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, text)| (*text).to_owned())
            };
            exports.otlp(&set).map(|export| export.is_some())
        };
        let nothing = Exports::default();
        let refused = |variables: &[(&str, &str)]| match of(&nothing, variables).unwrap_err() {
            NotExported::Variable(name, _) => name,
            setting @ NotExported::Setting(..) => panic!("{setting:?}"),
        };
        assert_eq!(refused(&[(ENDPOINT, "collector:4317")]), ENDPOINT);
        let grpc = (PROTOCOL, "grpc");
        assert_eq!(refused(&[(ENDPOINT, "http://collector:4317"), grpc]), PROTOCOL);
        let good = (ENDPOINT, "http://collector:4318");
        assert_eq!(refused(&[good, (HEADERS, "a b=c")]), HEADERS);
        assert_eq!(of(&nothing, &[good, (PROTOCOL, "http/json")]), Ok(true));
        assert_eq!(of(&nothing, &[grpc]), Ok(false));
        let in_file = |to: &str| Exports { otlp_endpoint: Some(to.to_owned()), ..nothing.clone() };
        assert_eq!(of(&in_file("http://other:4318"), &[grpc]), Ok(true));
        let wrong = of(&in_file("other:4317"), &[]).unwrap_err();
        assert!(matches!(wrong, NotExported::Setting("otlp_endpoint", _)), "{wrong:?}");
    }

    #[test]
    fn a_percentage_is_read_exactly() {
        let read = [("99%", 10_000), ("99.9%", 1_000), ("99.9999%", 1), ("0.5%", 995_000)];
        for (text, allowed) in read {
            assert_eq!(read_allowed(text), Some(allowed), "{text}");
        }
        for text in ["99", "100%", "0%", "101%", "-1%", "99.99999%", "9 %", ".5%", "5.%", "%", "x%"]
        {
            assert_eq!(read_allowed(text), None, "{text}");
        }
    }
}
