//! AI Gateway's own addresses: `/ai-gateway/v1/{account}/{gateway}/…`.
//!
//! A provider's own endpoint, the `compat` one and the steps of the universal one all end at the
//! same doors as everybody else's requests; what differs is that the path names the provider and
//! the body the provider's model. The same paths without the prefix are taken on the host
//! `gateway.…`, and below `/v1` where the first segment is an account: no door of `/v1` is called
//! `default` or 32 hexadecimal digits.
//!
//! Invariant: a provider's key that a client sends goes nowhere; providers have the operator's.

use std::sync::Arc;

use bytes::Bytes;
use formats::cloudflare_run::errors::number;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming as HyperBody;
use pipeline::Refused;
use serde_json::json;
use types::call::{GATEWAY_CHARS_MAX, is_gateway};
use types::{ErrorCode, Failure};

use super::headers::{self, Asked};
use super::{DEFAULT_NAME, authorize, is_account};
use crate::app::App;
use crate::body::Body;
use crate::delivery::Deliveries;
use crate::{errors, request};

mod endpoint;
mod universal;

use endpoint::Endpoint;
pub(super) use endpoint::providers_of;

/// What the addresses lie under on every host.
const PREFIX: &str = "/ai-gateway/v1/";
/// What a host's name begins with on which they need no prefix.
const HOST_PREFIX: &str = "gateway.";
const V1: &str = "/v1/";

/// AI Gateway's number of a gateway that does not exist, and the status that it comes with.
const NO_GATEWAY: (u16, StatusCode) = (2001, StatusCode::BAD_REQUEST);
/// AI Gateway's number of a wrong key.
const UNAUTHORIZED: u16 = 2009;

/// What lies where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place<'a> {
    account: &'a str,
    gateway: &'a str,
    /// The provider, or `compat`; empty for the universal endpoint.
    provider: &'a str,
    /// What lies below it.
    endpoint: &'a str,
}

/// Whether a request is for one of these addresses.
pub(crate) fn is_asked<B>(request: &Request<B>) -> bool {
    place_of(request).is_some()
}

fn place_of<B>(request: &Request<B>) -> Option<Place<'_>> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    place(host.unwrap_or_default(), request.uri().path())
}

fn place<'a>(host: &str, path: &'a str) -> Option<Place<'a>> {
    let below = match path.strip_prefix(PREFIX) {
        Some(below) => below,
        None => {
            let below = path.strip_prefix(V1)?;
            let (first, _) = below.split_once('/')?;
            let is_own = first == DEFAULT_NAME || is_account(first);
            let own_host = host.get(..HOST_PREFIX.len());
            let own_host = own_host.is_some_and(|host| host.eq_ignore_ascii_case(HOST_PREFIX));
            (is_own || own_host).then_some(below)?
        }
    };
    let (account, rest) = below.split_once('/')?;
    let (gateway, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let (provider, endpoint) = rest.split_once('/').unwrap_or((rest, ""));
    let named = !account.is_empty() && !gateway.is_empty();
    named.then_some(Place { account, gateway, provider, endpoint })
}

/// Answers what lies there.
pub(crate) async fn route(
    app: Arc<App>,
    deliveries: Deliveries,
    request: Request<HyperBody>,
) -> Response<Body> {
    let answered = async {
        let (head, body) = request.into_parts();
        let (incoming, asked) = receive(&app, head, body).await?;
        let path = incoming.head.uri.path().to_owned();
        let host = incoming.head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let place = place(host.unwrap_or_default(), &path).ok_or_else(|| nothing(&path))?;
        if place.provider.is_empty() {
            return universal::run(&app, &deliveries, incoming, asked).await;
        }
        let endpoint = endpoint::find(&app, place.provider, place.endpoint)?;
        let mut response = ask(&app, &deliveries, &endpoint, incoming, &asked).await?;
        asked.describe(&mut response, 0);
        Ok(response)
    };
    answered.await.unwrap_or_else(|failure| refused(&app, failure))
}

/// A request that was received from somebody whose gateway it is.
struct Incoming {
    head: Parts,
    body: Bytes,
}

async fn receive(
    app: &App,
    mut head: Parts,
    body: HyperBody,
) -> Result<(Incoming, Asked), Failure> {
    headers::take_key(&mut head.headers);
    let path = head.uri.path().to_owned();
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let place = place(host, &path).ok_or_else(|| nothing(&path))?;
    authorize(app, &head.headers, place.account).await?;
    head.headers.insert(request::GATEWAY_ID, checked(place.gateway)?);
    let asked = headers::read(&head.headers)?;
    if head.method != Method::POST {
        return Err(Failure::new(ErrorCode::MethodNotAllowed, "use POST on this path"));
    }
    let body = request::body(body, app.limits.body_bytes_max, app.clock.as_ref()).await?;
    Ok((Incoming { head, body }, asked))
}

/// A gateway's name. An account has every gateway that is asked for, since there is nothing to be
/// set of one; what a name is good for is to be counted by.
pub(super) fn checked(name: &str) -> Result<HeaderValue, Failure> {
    if is_gateway(name)
        && let Ok(name) = HeaderValue::from_str(name)
    {
        return Ok(name);
    }
    let text = format!(
        "this can't be a gateway's name: 1 to {GATEWAY_CHARS_MAX} lower-case letters, digits, '-' \
         and '_' can"
    );
    Err(Failure { param: Some("gateway".into()), ..Failure::new(ErrorCode::NotFound, text) })
}

fn nothing(path: &str) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("there is nothing at {path}"))
}

/// Asks an endpoint, within the time that the client gives it.
async fn ask(
    app: &Arc<App>,
    deliveries: &Deliveries,
    endpoint: &Endpoint,
    incoming: Incoming,
    asked: &Asked,
) -> Result<Response<Body>, Failure> {
    let request = endpoint.request(app, incoming, asked)?;
    let answer = Box::pin(endpoint.ask(Arc::clone(app), deliveries.clone(), request));
    Ok(super::in_time(app, asked.request_timeout, answer, endpoint.errors()).await)
}

/// A refusal of the gateway itself, in its envelope.
fn refused(app: &App, failure: Failure) -> Response<Body> {
    let refused = Refused { call: types::ids::CallId::new(&app.ids), failure };
    let failure = &refused.failure;
    let (code, status) = match (failure.code, failure.param.as_deref()) {
        (ErrorCode::NotFound, Some("gateway")) => (NO_GATEWAY.0, Some(NO_GATEWAY.1)),
        (ErrorCode::Unauthenticated, _) => (UNAUTHORIZED, None),
        (code, _) => (number(code), None),
    };
    let body = json!({
        "success": false,
        "result": [],
        "messages": [],
        "error": [{
            "code": code,
            "message": failure.message,
            "holdfast": { "code": failure.code.name(), "call_id": refused.call.as_str() },
        }],
    });
    let mut response = errors::response(super::ERRORS, &refused);
    *response.body_mut() = Body::whole(body.to_string());
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    response
}

#[cfg(test)]
mod tests;
