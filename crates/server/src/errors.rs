//! A failure as an HTTP response: the format renders the body, this module adds status and headers.
//!
//! The log has metadata only: class, status and field, and the reason where it is ours alone. What
//! a client sent or a provider said may quote a prompt.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use pipeline::Refused;
use types::format::Format;
use types::ids::CallId;
use types::{ErrorCode, Failure};

use crate::body::Body;
use crate::inference::headers;

/// The header that names the Call.
pub(crate) const CALL_ID: HeaderName = HeaderName::from_static("holdfast-call-id");
/// The request id, as OpenAI's SDKs look for it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same, as Anthropic's look for it.
const REQUEST_ID_SHORT: HeaderName = HeaderName::from_static("request-id");
/// After how many milliseconds to try again, as OpenAI's and Anthropic's SDKs look for it.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Tells OpenAI's and Anthropic's SDKs whether to try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Renders a refusal in `format`.
pub(crate) fn response(format: &dyn Format, refused: &Refused) -> Response<Body> {
    let failure = &refused.failure;
    log(refused);
    let passed = failure.upstream.as_ref().filter(|upstream| {
        upstream.format == format.name() && (400..500).contains(&upstream.status)
    });
    let (status, body, content_type) = match passed {
        Some(upstream) => (upstream.status, upstream.body.clone(), upstream.content_type.as_str()),
        None => {
            let body = format.render_error(failure, Some(&refused.call));
            (format.error_status(failure), body, "application/json")
        }
    };
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let answered = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    answered.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap_or(json));
    name_call(answered, &refused.call);
    if let Some(wait) = failure.retry_after {
        answered.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        // What a provider said has come through as it said it: in seconds.
        if failure.upstream.is_none() {
            answered.insert(RETRY_AFTER_MS, HeaderValue::from(whole_millis(wait)));
        }
    }
    if let Some(headroom) = &failure.headroom {
        headers::limits(answered, format, headroom);
    }
    if failure.forbids_retry() {
        forbid_retry(answered);
    }
    response
}

/// Rounded up, too.
const fn whole_millis(wait: Duration) -> u64 {
    let micros =
        wait.as_secs().saturating_mul(1_000_000).saturating_add(wait.subsec_micros() as u64);
    micros.div_ceil(1_000)
}

/// Rounded up: a client that comes back too early is refused again.
const fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + (wait.subsec_nanos() > 0) as u64
}

/// Tells SDKs not to send the request again: what it asks for may be paid for already.
pub(crate) fn forbid_retry(headers: &mut http::HeaderMap) {
    headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
}

/// Puts the Call's id into a response's head.
pub(crate) fn name_call(headers: &mut http::HeaderMap, call: &CallId) {
    if let Ok(value) = HeaderValue::from_str(call.as_str()) {
        headers.insert(CALL_ID, value.clone());
        headers.insert(REQUEST_ID, value.clone());
        headers.insert(REQUEST_ID_SHORT, value);
    }
}

/// The client's mistakes are information, an upstream's failures warnings, ours errors. Logged
/// here, once.
fn log(refused: &Refused) {
    let (call, failure) = (&refused.call, &refused.failure);
    let (code, status) = (failure.code, failure.status());
    // As texts they are escaped: none can begin a line of its own.
    let (param, reason) = (failure.param.as_deref(), our_reason(failure));
    match code {
        ErrorCode::Internal | ErrorCode::UpstreamQuota => {
            tracing::error!(%call, %code, status, param, reason, "a request failed");
        }
        ErrorCode::UpstreamFailed
        | ErrorCode::UpstreamCredentials
        | ErrorCode::UpstreamTimeout
        | ErrorCode::UpstreamUnreachable
        | ErrorCode::StreamCut
        | ErrorCode::StorageUnavailable
        | ErrorCode::ToolFailed
        | ErrorCode::Unavailable => {
            tracing::warn!(%call, %code, status, param, reason, "a request failed");
        }
        _ => tracing::info!(%call, %code, status, param, reason, "a request was refused"),
    }
}

/// The message of a failure whose words are ours. Those of the other classes repeat what a client
/// sent, what a tool or what a provider said.
fn our_reason(failure: &Failure) -> Option<&str> {
    let ours = matches!(
        failure.code,
        ErrorCode::Unauthenticated
            | ErrorCode::PermissionDenied
            | ErrorCode::MethodNotAllowed
            | ErrorCode::RequestTimeout
            | ErrorCode::BudgetExceeded
            | ErrorCode::PriceUnknown
            | ErrorCode::RateLimited
            | ErrorCode::Overloaded
            | ErrorCode::Unavailable
            | ErrorCode::StorageUnavailable
            | ErrorCode::UpstreamUnreachable
            | ErrorCode::UpstreamCredentials
            | ErrorCode::UpstreamTimeout
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Internal
    );
    (ours && failure.upstream.is_none()).then_some(failure.message.as_str())
}

/// A failure before a Call was identified, under an id of its own so that it can be found in the
/// log.
pub(crate) fn refused(ids: &types::Ids, failure: Failure) -> Box<Refused> {
    Box::new(Refused { call: CallId::new(ids), failure })
}

#[cfg(test)]
mod tests;
