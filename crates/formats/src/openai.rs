//! The words that both of OpenAI's formats use for errors.
//!
//! One table, so that the same failure has the same `type` and `code` at every OpenAI door. Codes
//! that SDKs and agent frameworks act on keep OpenAI's spelling; the others are our stable names.

use serde_json::{Map, Value, json};
use types::ids::CallId;
use types::{ErrorCode, Failure};

/// OpenAI's `type` and `code` of a class.
pub(crate) const fn words(code: ErrorCode) -> (&'static str, &'static str) {
    const REQUEST: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    match code {
        ErrorCode::InvalidRequest => (REQUEST, "invalid_request"),
        ErrorCode::Unsupported => (REQUEST, "unsupported_parameter"),
        ErrorCode::TooLarge => (REQUEST, "request_too_large"),
        ErrorCode::Unauthenticated => (REQUEST, "invalid_api_key"),
        ErrorCode::PermissionDenied => ("permission_error", "permission_denied"),
        ErrorCode::ContentFiltered => (REQUEST, "content_filter"),
        ErrorCode::BudgetExceeded => ("insufficient_quota", "insufficient_quota"),
        ErrorCode::RateLimited => ("rate_limit_error", "rate_limit_exceeded"),
        ErrorCode::Overloaded => (SERVER, "server_is_overloaded"),
        ErrorCode::RequestTimeout
        | ErrorCode::NotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::ModelNotFound
        | ErrorCode::PreviousResponseNotFound
        | ErrorCode::Conflict
        | ErrorCode::SessionInDoubt
        | ErrorCode::PriceUnknown
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::Cancelled => (REQUEST, code.name()),
        ErrorCode::Unavailable
        | ErrorCode::StorageUnavailable
        | ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamFailed
        | ErrorCode::UpstreamCredentials
        | ErrorCode::UpstreamQuota
        | ErrorCode::UpstreamTimeout
        | ErrorCode::DeadlineExceeded
        | ErrorCode::StreamCut
        | ErrorCode::ToolFailed => (SERVER, code.name()),
        ErrorCode::Internal => (SERVER, SERVER),
    }
}

/// The error object: OpenAI's four fields, and `holdfast` with our stable code and the Call's id.
pub(crate) fn error_object(failure: &Failure, call: Option<&CallId>) -> Value {
    let (kind, code) = words(failure.code);
    let mut own = Map::new();
    own.insert("code".to_owned(), failure.code.name().into());
    if let Some(call) = call {
        own.insert("call_id".to_owned(), call.as_str().into());
    }
    json!({
        "message": failure.message,
        "type": kind,
        "param": failure.param,
        "code": code,
        "holdfast": own,
    })
}
