//! Reading requests: credential, Holdfast's own headers, the body within its limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http_body_util::BodyExt;
use hyper::body::Incoming as HyperBody;
use types::call::{CommonHeaders, Credential};
use types::clock::{Clock, within};
use types::{ErrorCode, Failure, Money, Secret};

/// A client that sends nothing of its body for so long is cut off.
const BODY_STALL: Duration = Duration::from_secs(30);
/// Of a body whose length is announced, so much is set aside before it has come.
const BODY_RESERVE_BYTES_MAX: usize = 1024 * 1024;

/// The key in `authorization: Bearer`, `x-api-key` or `api-key`.
pub(crate) fn credential(headers: &HeaderMap) -> Credential {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|text| text.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let named =
        || ["x-api-key", "api-key"].iter().find_map(|name| headers.get(*name)?.to_str().ok());
    match bearer.map(|(_, token)| token.trim()).or_else(named) {
        Some(token) if !token.is_empty() => Credential::Key(Secret::new(token)),
        Some(_) | None => Credential::Missing,
    }
}

/// Holdfast's own request headers.
///
/// # Errors
/// A 400 naming the header whose value can't be read.
pub(crate) fn common_headers(headers: &HeaderMap) -> Result<CommonHeaders, Failure> {
    if !headers.keys().any(|name| name.as_str().starts_with("holdfast-")) {
        return Ok(CommonHeaders::default());
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
    Ok(CommonHeaders {
        session_name: text("holdfast-session")?,
        task: text("holdfast-task")?,
        class: text("holdfast-class")?,
        budget: budget.transpose()?,
    })
}

/// The whole body.
///
/// # Errors
/// 413 above `limit` bytes, 400 if the client stops sending or breaks off.
pub(crate) async fn body(
    mut body: HyperBody,
    limit: usize,
    clock: &dyn Clock,
) -> Result<Bytes, Failure> {
    let announced = http_body::Body::size_hint(&body).exact().unwrap_or(0);
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => within(clock, BODY_STALL, body.frame()).await.ok_or_else(stalled)?,
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| broken())?.into_data() else { continue };
        if whole.len() + joined.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        // Most bodies are one piece, which needs no copy.
        if whole.is_empty() && joined.is_empty() {
            whole = data;
            continue;
        }
        if joined.is_empty() {
            joined.reserve(usize::try_from(announced).unwrap_or(0).min(BODY_RESERVE_BYTES_MAX));
            joined.extend_from_slice(&std::mem::take(&mut whole));
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
}

fn too_large(limit: usize) -> Failure {
    let message =
        format!("the request body is larger than {limit} bytes ([server] max_body_bytes)");
    Failure::new(ErrorCode::TooLarge, message)
}

fn stalled() -> Failure {
    let message = format!("the request body stopped arriving for {} s", BODY_STALL.as_secs());
    Failure::new(ErrorCode::InvalidRequest, message)
}

fn broken() -> Failure {
    Failure::new(ErrorCode::InvalidRequest, "the request body broke off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
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
        assert_eq!(key(&[("authorization", "Basic hf_a")]), None);
        assert_eq!(key(&[("authorization", "Bearer ")]), None);
    }

    #[test]
    fn a_wrong_budget_names_its_header() {
        let failure = common_headers(&headers(&[("holdfast-budget", "-1")])).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("holdfast-budget"));
    }
}
