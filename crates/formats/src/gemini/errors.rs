//! Errors of the Gemini API, both ways.
//!
//! [`parse`] reads what an upstream answered and says what a caller can do about it; [`render`]
//! writes ours. Google's `status` says the class and its `details` the cause: which quota was met,
//! how long to wait, and that a key is wrong, which comes as a plain 400. Words are the last
//! resort, where Google has nothing else. <https://cloud.google.com/apis/design/errors>,
//! <https://ai.google.dev/gemini-api/docs/troubleshooting>

use std::time::Duration;

use ::types::error::Billed;
use ::types::ids::CallId;
use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::openai_chat::errors::{billed, shorten};

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
/// Who says it, where Google has the name of the service.
const DOMAIN: &str = "holdfast";

/// An error body, as an HTTP answer or in a stream.
pub fn render(failure: &Failure, call: Option<&CallId>) -> Bytes {
    let status = failure.status();
    let call = call.map(CallId::as_str);
    let mut info = json!({
        "@type": ERROR_INFO,
        "reason": failure.code.name().to_ascii_uppercase(),
        "domain": DOMAIN,
        "metadata": {},
    });
    if let (Some(call), Some(metadata)) = (call, info.get_mut("metadata")) {
        *metadata = json!({ "call": call });
    }
    let mut details = vec![info];
    if let Some(param) = &failure.param {
        let violation = json!({ "field": param, "description": failure.message });
        details.push(json!({ "@type": BAD_REQUEST, "fieldViolations": [violation] }));
    }
    if let Some(wait) = failure.retry_after {
        let wait = format!("{}.{:03}s", wait.as_secs(), wait.subsec_millis());
        details.push(json!({ "@type": RETRY_INFO, "retryDelay": wait }));
    }
    let error = json!({
        "code": status,
        "message": failure.message,
        "status": status_name(failure.code, status),
        "details": details,
    });
    Bytes::from(json!({ "error": error }).to_string())
}

/// Google's name of a class.
const fn status_name(code: ErrorCode, status: u16) -> &'static str {
    match code {
        ErrorCode::Unauthenticated => "UNAUTHENTICATED",
        ErrorCode::PermissionDenied => "PERMISSION_DENIED",
        ErrorCode::NotFound | ErrorCode::ModelNotFound => "NOT_FOUND",
        ErrorCode::BudgetExceeded | ErrorCode::RateLimited => "RESOURCE_EXHAUSTED",
        ErrorCode::MethodNotAllowed => "UNIMPLEMENTED",
        ErrorCode::SessionInDoubt | ErrorCode::PriceUnknown => "FAILED_PRECONDITION",
        ErrorCode::Conflict => "ABORTED",
        ErrorCode::Cancelled => "CANCELLED",
        ErrorCode::RequestTimeout | ErrorCode::UpstreamTimeout | ErrorCode::DeadlineExceeded => {
            "DEADLINE_EXCEEDED"
        }
        ErrorCode::Overloaded
        | ErrorCode::Unavailable
        | ErrorCode::StorageUnavailable
        | ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamFailed
        | ErrorCode::UpstreamCredentials
        | ErrorCode::UpstreamQuota
        | ErrorCode::StreamCut
        | ErrorCode::ToolFailed => "UNAVAILABLE",
        ErrorCode::Internal => "INTERNAL",
        ErrorCode::InvalidRequest
        | ErrorCode::Unsupported
        | ErrorCode::TooLarge
        | ErrorCode::PreviousResponseNotFound
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::ContentFiltered => {
            if status < 500 {
                "INVALID_ARGUMENT"
            } else {
                "UNKNOWN"
            }
        }
    }
}

/// The error of an upstream that answered with this status and body.
pub fn parse(status: u16, body: &[u8]) -> Failure {
    let said = Said::read(body);
    let billed = billed(status, said.is_some());
    let said = said.unwrap_or_default();
    let (code, why) = classify(status, &said);
    let message = match &said.message {
        Some(message) => format!("the provider answered {status}{why}: {}", shorten(message)),
        None => format!("the provider answered {status}{why} without an error that can be read"),
    };
    let retry_after = said.retry_after();
    Failure { retry_after, ..Failure::new(code, message).billed(billed) }
}

/// The error in a stream or in the body of a 200, if `body` is one.
pub(crate) fn parse_in_answer(body: &[u8]) -> Option<Failure> {
    let said = Said::read(body)?;
    let (code, why) = match classify(500, &said) {
        // A stream that has begun was not refused for its rate.
        (ErrorCode::RateLimited, why) => (ErrorCode::UpstreamFailed, why),
        other => other,
    };
    let message = said.message.as_deref().map_or("no message", shorten);
    let text = format!("the provider failed in its answer{why}: {message}");
    Some(Failure::new(code, text).billed(Billed::Unknown))
}

/// The class, and what is to be said about it beyond the provider's words.
fn classify(status: u16, said: &Said) -> (ErrorCode, &'static str) {
    if said.is_about_money(status) {
        // Waiting does not help and the client can't pay: an operator must, or another provider do.
        return (ErrorCode::UpstreamQuota, " (its account is out of money or of its quota)");
    }
    if said.reasons.iter().any(|reason| reason.starts_with("API_KEY_")) {
        return (ErrorCode::UpstreamCredentials, "");
    }
    let code = match said.status.as_deref().unwrap_or_default() {
        "RESOURCE_EXHAUSTED" => ErrorCode::RateLimited,
        "UNAUTHENTICATED" | "PERMISSION_DENIED" => ErrorCode::UpstreamCredentials,
        "NOT_FOUND" => ErrorCode::ModelNotFound,
        "DEADLINE_EXCEEDED" => ErrorCode::UpstreamTimeout,
        "UNAVAILABLE" => ErrorCode::Overloaded,
        "INTERNAL" | "UNKNOWN" | "DATA_LOSS" => ErrorCode::UpstreamFailed,
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => said.refused_for(),
        _ => by_status(status, said),
    };
    (code, "")
}

fn by_status(status: u16, said: &Said) -> ErrorCode {
    match status {
        400 => said.refused_for(),
        401 | 403 => ErrorCode::UpstreamCredentials,
        404 => ErrorCode::ModelNotFound,
        408 | 504 | 524 => ErrorCode::UpstreamTimeout,
        413 => ErrorCode::TooLarge,
        429 => ErrorCode::RateLimited,
        402..=499 => ErrorCode::InvalidRequest,
        503 => ErrorCode::Overloaded,
        _ => ErrorCode::UpstreamFailed,
    }
}

/// What an error object says.
#[derive(Default)]
struct Said {
    status: Option<String>,
    message: Option<String>,
    /// Why, in Google's words: `API_KEY_INVALID` …
    reasons: Vec<String>,
    /// The quotas that were met.
    quotas: Vec<String>,
    wait: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    One { error: Value },
    // A stream that is one JSON list has its error in it.
    List(Vec<Body>),
}

impl Said {
    fn read(body: &[u8]) -> Option<Self> {
        let mut body: Body = serde_json::from_slice(body).ok()?;
        if let Body::List(list) = body {
            body = list.into_iter().next()?;
        }
        match body {
            Body::One { error } if !error.is_null() => Some(Self::of(&error)),
            Body::One { .. } | Body::List(_) => None,
        }
    }

    fn of(error: &Value) -> Self {
        let text =
            |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut said = Self {
            status: text(error, "status"),
            message: text(error, "message").or_else(|| error.as_str().map(str::to_owned)),
            ..Self::default()
        };
        let details = error.get("details").and_then(Value::as_array);
        for detail in details.into_iter().flatten() {
            said.reasons.extend(text(detail, "reason"));
            said.wait = text(detail, "retryDelay").or(said.wait);
            let violations = detail.get("violations").and_then(Value::as_array);
            for violation in violations.into_iter().flatten() {
                said.quotas.extend(text(violation, "quotaId"));
            }
        }
        said
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds: f64 = self.wait.as_deref()?.strip_suffix('s')?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn is_about_money(&self, status: u16) -> bool {
        // The quota of a day is not back before tomorrow.
        let of_a_day = self.quotas.iter().any(|quota| quota.contains("PerDay"));
        let unbilled = self.reasons.iter().any(|reason| reason == "BILLING_DISABLED");
        status == 402 || of_a_day || unbilled || self.says(&["prepayment credits"])
    }

    /// Why a request was refused, of which only words tell the causes apart.
    fn refused_for(&self) -> ErrorCode {
        if self.says(&["exceeds the maximum number of tokens", "context window"]) {
            ErrorCode::ContextLengthExceeded
        } else if self.says(&["enable billing"]) {
            ErrorCode::UpstreamQuota
        } else {
            ErrorCode::InvalidRequest
        }
    }

    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        words.iter().any(|words| message.contains(words))
    }
}

#[cfg(test)]
mod tests;
