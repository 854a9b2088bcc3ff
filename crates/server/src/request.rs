//! Reading requests: credential, Holdfast's own headers, the body within its limits.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use types::auto::Tier;
use types::call::{CommonHeaders, Credential, NAME_CHARS_MAX};
use types::{Failure, Metadata, Money, Secret, TraceParent};

pub(crate) mod asks;
mod receive;

pub(crate) use receive::{RequestBody, body};

/// Other headers that SDKs send their key in.
const KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];
const TRACE: HeaderName = HeaderName::from_static("traceparent");
/// A client's name for its session.
pub(crate) const SESSION: &str = "holdfast-session";
/// What a client says of its Call, as a JSON object.
pub(crate) const METADATA: &str = "holdfast-metadata";
/// The gateway of a request to Cloudflare's doors. Where a path names it, it is put here.
pub(crate) const GATEWAY_ID: &str = "cf-aig-gateway-id";

/// The key in `authorization: Bearer`, `x-api-key`, `api-key` or `x-goog-api-key`. Two that differ
/// are as good as none: nobody can say whose the request is.
pub(crate) fn credential(headers: &HeaderMap) -> Credential {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|text| text.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let bearer = bearer.map(|(_, token)| token.trim());
    let named = KEY_HEADERS.into_iter().map(|name| headers.get(name)?.to_str().ok());
    let mut sent = std::iter::once(bearer).chain(named).flatten();
    match sent.next() {
        Some(token) if !token.is_empty() && sent.all(|other| other == token) => {
            Credential::Key(Secret::new(token))
        }
        Some(_) | None => Credential::Missing,
    }
}

/// Holdfast's own request headers.
///
/// # Errors
/// A 400 naming the header whose value can't be read.
pub(crate) fn common_headers(headers: &HeaderMap) -> Result<CommonHeaders, Failure> {
    if !headers.keys().any(|name| name.as_str().starts_with("holdfast-")) {
        let (trace, gateway) = (trace(headers), gateway(headers));
        return Ok(CommonHeaders { trace, gateway, ..CommonHeaders::default() });
    }
    let text = |name: &'static str| {
        let value = headers.get(name).map(|value| value.to_str().map(str::to_owned));
        value
            .transpose()
            .map_err(|_| Failure::invalid(name, format!("the header {name} must be visible ASCII")))
    };
    let budget = text("holdfast-budget")?.map(|budget| {
        Money::parse(&budget).map_err(|error| {
            Failure::invalid("holdfast-budget", format!("the header holdfast-budget {error}"))
        })
    });
    let tier = text("holdfast-tier")?.map(|tier| {
        Tier::parse(&tier).ok_or_else(|| {
            Failure::invalid("holdfast-tier", "the header holdfast-tier must be cheap or strong")
        })
    });
    Ok(CommonHeaders {
        session_name: text(SESSION)?,
        task: text("holdfast-task")?,
        class: text("holdfast-class")?,
        budget: budget.transpose()?,
        metadata: metadata(headers)?,
        // What can't be read is ignored, as W3C has it.
        trace: trace(headers),
        attempts: None,
        tier: tier.transpose()?,
        gateway: gateway(headers),
        asks: asks::asks(headers)?,
    })
}

/// The gateway that a request names, or came in by: what is no name is none.
fn gateway(headers: &HeaderMap) -> Option<String> {
    let name = headers.get(GATEWAY_ID)?.to_str().ok()?;
    (!name.is_empty() && name.chars().count() <= NAME_CHARS_MAX).then(|| name.to_owned())
}

fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get(TRACE)?.to_str().ok()?)
}

fn metadata(headers: &HeaderMap) -> Result<Metadata, Failure> {
    // Texts may be any, which HTTP carries as bytes.
    let Some(value) = headers.get(METADATA) else { return Ok(Metadata::default()) };
    Metadata::parse(value.as_bytes())
        .map_err(|wrong| Failure::invalid(METADATA, format!("the header {METADATA} {wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn key(pairs: &[(&'static str, &str)]) -> Option<String> {
        match credential(&headers(pairs)) {
            Credential::Key(secret) => Some(secret.expose().to_owned()),
            Credential::Missing | Credential::Known(_) => None,
        }
    }

    #[test]
    fn a_key_is_found_wherever_sdks_put_it() {
        assert_eq!(key(&[("authorization", "Bearer hf_a")]).as_deref(), Some("hf_a"));
        assert_eq!(key(&[("authorization", "bearer  hf_a ")]).as_deref(), Some("hf_a"));
        assert_eq!(key(&[("x-api-key", "hf_a")]).as_deref(), Some("hf_a"));
        assert_eq!(key(&[("api-key", "hf_a")]).as_deref(), Some("hf_a"));
        assert_eq!(key(&[("x-goog-api-key", "hf_a")]).as_deref(), Some("hf_a"));
        assert_eq!(key(&[("authorization", "Basic hf_a")]), None);
        assert_eq!(key(&[("authorization", "Bearer ")]), None);
    }

    #[test]
    fn two_keys_are_one_if_they_are_the_same() {
        let both = |bearer, named| key(&[("authorization", bearer), ("x-api-key", named)]);
        assert_eq!(both("Bearer hf_a", "hf_a").as_deref(), Some("hf_a"));
        assert_eq!(both("Bearer hf_a", "hf_b"), None);
        assert_eq!(key(&[("x-api-key", "hf_a"), ("api-key", "hf_b")]), None);
        // A scheme that is none of ours says nothing.
        assert_eq!(both("Basic hf_a", "hf_b").as_deref(), Some("hf_b"));
    }

    #[test]
    fn metadata_is_read_or_its_header_named() {
        let read = |text| common_headers(&headers(&[(METADATA, text)]));
        let metadata = read(r#"{"team":"harbor"}"#).unwrap().metadata;
        assert_eq!(metadata.get("team").unwrap(), "harbor");
        let failure = read(r#"{"team":["harbor"]}"#).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some(METADATA));
    }

    #[test]
    fn a_wrong_budget_names_its_header() {
        let failure = common_headers(&headers(&[("holdfast-budget", "-1")])).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("holdfast-budget"));
    }
}
