//! Errors in the envelope of Cloudflare's REST API, both ways.
//!
//! Clients branch on the HTTP status and on `errors[].code`, a number. Workers AI has numbers for
//! what a model request can meet (<https://developers.cloudflare.com/workers-ai/platform/errors/>),
//! the API around it a few more; what has none of its own takes the number of its class. Our stable
//! name and the Call's id stand beside it.

use ::types::ids::CallId;
use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::openai_chat::errors as chat;

/// An error body, as an HTTP answer or in a stream.
pub fn render(failure: &Failure, call: Option<&CallId>) -> Bytes {
    let body = json!({
        "result": null,
        "success": false,
        "errors": [error_object(failure, call)],
        "messages": [],
    });
    Bytes::from(body.to_string())
}

/// One element of `errors`.
pub fn error_object(failure: &Failure, call: Option<&CallId>) -> Value {
    let mut own = Map::new();
    own.insert("code".to_owned(), failure.code.name().into());
    if let Some(call) = call {
        own.insert("call_id".to_owned(), call.as_str().into());
    }
    let mut error = json!({
        "code": number(failure.code),
        "message": failure.message,
        "holdfast": own,
    });
    if let (Some(param), Value::Object(error)) = (&failure.param, &mut error) {
        error.insert("source".to_owned(), json!({ "pointer": pointer(param) }));
    }
    error
}

/// Cloudflare's number of a class.
pub const fn number(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::Unsupported
        | ErrorCode::Conflict
        | ErrorCode::PreviousResponseNotFound
        | ErrorCode::SessionInDoubt
        | ErrorCode::PriceUnknown
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::ContentFiltered => 5006,
        ErrorCode::TooLarge => 3006,
        ErrorCode::RequestTimeout | ErrorCode::UpstreamTimeout | ErrorCode::DeadlineExceeded => {
            3007
        }
        ErrorCode::Cancelled => 3008,
        ErrorCode::Unauthenticated | ErrorCode::PermissionDenied => 10_000,
        ErrorCode::NotFound => 7003,
        ErrorCode::MethodNotAllowed => 7001,
        ErrorCode::ModelNotFound => 5007,
        ErrorCode::BudgetExceeded => 3036,
        ErrorCode::RateLimited | ErrorCode::Overloaded => 3040,
        ErrorCode::Unavailable
        | ErrorCode::StorageUnavailable
        | ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamFailed
        | ErrorCode::UpstreamCredentials
        | ErrorCode::UpstreamQuota
        | ErrorCode::StreamCut
        | ErrorCode::ToolFailed
        | ErrorCode::Internal => 3043,
    }
}

/// A path such as `messages[0].role` as the pointer that the envelope has: `/messages/0/role`.
fn pointer(param: &str) -> String {
    let mut pointer = String::with_capacity(param.len() + 1);
    pointer.push('/');
    pointer.extend(param.chars().filter(|c| *c != ']').map(|c| match c {
        '.' | '[' => '/',
        other => other,
    }));
    pointer
}

/// The error of an upstream that answered so. None is asked in this format; the status says enough
/// where one answered all the same.
pub(super) fn parse(status: u16, body: &[u8]) -> Failure {
    chat::parse(status, body)
}

#[cfg(test)]
mod tests;
