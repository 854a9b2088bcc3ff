//! The doors of Anthropic's API.
//!
//! They speak the Messages API as its SDKs and Claude Code do. What such a client says in headers
//! goes on to targets of the same format, byte for byte, and to no others.

use std::sync::Arc;

use bytes::Bytes;
use formats::anthropic_messages::ANTHROPIC_MESSAGES;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use types::Failure;
use types::call::{Door, ModelCall, WireContext};
use types::format::Format;

use crate::app::App;
use crate::body::Body;
use crate::inference::{self, Face};
use crate::request::RequestBody;

pub(crate) mod count_tokens;
pub(crate) mod models;

/// Renders errors of these doors.
pub(crate) static ERRORS: &dyn Format = &ANTHROPIC_MESSAGES;

static FACE: Face = Face {
    format: &ANTHROPIC_MESSAGES,
    door: Door::AnthropicMessages,
    id_prefix: "msg_",
    session_header: Some("x-claude-code-session-id"),
    read,
};

/// The query by which SDKs ask for what is not stable yet; the features themselves are in a header.
const BETA: &str = "beta=true";
/// Clients of this API say which version of it they speak.
const VERSION: &str = "anthropic-version";

/// `POST /v1/messages`.
pub(crate) async fn messages<B: RequestBody>(app: Arc<App>, request: Request<B>) -> Response<Body> {
    inference::create(app, request, &FACE).await
}

/// Whether a request to a path that several APIs have is one of this API.
pub(crate) fn is_spoken(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION)
}

/// Whether a path is one of this API, or was meant to be.
pub(crate) fn is_path(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "v1"));
    parts.next() == Some("messages")
}

fn read(head: &Parts, body: Bytes) -> Result<ModelCall, Failure> {
    let fields = ANTHROPIC_MESSAGES.read_head(&body)?;
    if fields.output_cap.is_none() {
        // In Anthropic's words, by which clients may know it.
        return Err(Failure::invalid("max_tokens", "Field required"));
    }
    Ok(ModelCall::from_raw(&ANTHROPIC_MESSAGES, fields, body).with_wire(wire(head)?))
}

/// What of the HTTP request belongs to the format: any version and any beta is taken.
fn wire(head: &Parts) -> Result<WireContext, Failure> {
    let mut headers = Vec::new();
    for name in ANTHROPIC_MESSAGES.wire_headers() {
        let values = head.headers.get_all(*name).iter().map(|value| value.to_str());
        let values: Vec<&str> = values.collect::<Result<_, _>>().map_err(|_| {
            Failure::invalid(*name, format!("the header {name} must be visible ASCII"))
        })?;
        if !values.is_empty() {
            headers.push((*name, values.join(",")));
        }
    }
    let mut pairs = head.uri.query().unwrap_or_default().split('&');
    let query = pairs.any(|pair| pair == BETA).then_some(BETA);
    Ok(WireContext { headers, query })
}

#[cfg(test)]
mod tests;
