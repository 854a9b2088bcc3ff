//! Errors of the Messages API, both ways.
//!
//! [`parse`] reads what an upstream answered and says what a caller can do about it; [`render`]
//! writes ours. `details.error_code` names the cause and comes first, then `type`, then the
//! status; words are the last resort, where Anthropic has nothing else. Whether money may have been
//! spent is judged as for chat completions.
//! <https://platform.claude.com/docs/en/api/errors>

use ::types::error::Billed;
use ::types::ids::CallId;
use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::openai_chat::errors::{billed, shorten};

/// The status of an overloaded service. SDKs know it apart from a 503.
const OVERLOADED: u16 = 529;
/// Anthropic's own code for a budget that is spent.
const SPEND_LIMIT: &str = "enforced_spend_limit_reached";
/// Anthropic's own code for a request that can't be one of a thread. SDKs whose tool loop keeps its
/// history in a thread send the whole history then, and go on without one.
const UNTHREADED: &str = "thread_unsupported_request";

/// An error body, as an HTTP answer or as the data of an `error` event.
pub fn render(failure: &Failure, call: Option<&CallId>) -> Bytes {
    let (kind, code) = match (words(failure.code), failure.param.as_deref()) {
        ((kind, _), Some("thread")) if failure.code == ErrorCode::Unsupported => (kind, UNTHREADED),
        (words, _) => words,
    };
    let mut body = json!({
        "type": "error",
        "error": {
            "type": kind,
            "message": message(failure),
            "details": { "error_code": code },
        },
    });
    if let (Some(call), Value::Object(body)) = (call, &mut body) {
        body.insert("request_id".to_owned(), call.as_str().into());
    }
    Bytes::from(body.to_string())
}

/// The HTTP status of an error.
pub fn status(failure: &Failure) -> u16 {
    match failure.code {
        ErrorCode::Overloaded => OVERLOADED,
        _ => failure.status(),
    }
}

/// Anthropic's `type` and `details.error_code` of a class. Codes that Anthropic has keep its
/// spelling; the others are our stable names, which clients take for the bare type.
const fn words(code: ErrorCode) -> (&'static str, &'static str) {
    let kind = match code {
        ErrorCode::InvalidRequest
        | ErrorCode::Unsupported
        | ErrorCode::Conflict
        | ErrorCode::SessionInDoubt
        | ErrorCode::PriceUnknown
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::ContentFiltered
        | ErrorCode::PreviousResponseNotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::Cancelled => "invalid_request_error",
        ErrorCode::Unauthenticated => "authentication_error",
        ErrorCode::PermissionDenied => "permission_error",
        ErrorCode::NotFound | ErrorCode::ModelNotFound => "not_found_error",
        ErrorCode::TooLarge => "request_too_large",
        ErrorCode::BudgetExceeded => return ("rate_limit_error", SPEND_LIMIT),
        ErrorCode::RateLimited => "rate_limit_error",
        ErrorCode::Overloaded => "overloaded_error",
        ErrorCode::UpstreamTimeout | ErrorCode::DeadlineExceeded | ErrorCode::RequestTimeout => {
            "timeout_error"
        }
        ErrorCode::Unavailable
        | ErrorCode::StorageUnavailable
        | ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamFailed
        | ErrorCode::UpstreamCredentials
        | ErrorCode::UpstreamQuota
        | ErrorCode::StreamCut
        | ErrorCode::ToolFailed
        | ErrorCode::Internal => "api_error",
    };
    (kind, code.name())
}

/// There is no field for the place of a mistake: Anthropic says it in front.
fn message(failure: &Failure) -> String {
    match &failure.param {
        Some(param) if !failure.message.contains(&**param) => {
            format!("{param}: {}", failure.message)
        }
        _ => failure.message.clone(),
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
    Failure::new(code, message).billed(billed)
}

/// The error in an `error` event of a stream, or in the body of a 200, if `body` is one.
pub(crate) fn parse_in_answer(body: &[u8]) -> Option<Failure> {
    let said = Said::of(&serde_json::from_slice::<Body>(body).ok()?.error?);
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
        return (ErrorCode::UpstreamQuota, " (its account is out of money or at a spend limit)");
    }
    let code = match said.kind.as_deref().unwrap_or_default() {
        "overloaded_error" => ErrorCode::Overloaded,
        "rate_limit_error" => ErrorCode::RateLimited,
        "request_too_large" => ErrorCode::TooLarge,
        "authentication_error" | "permission_error" => ErrorCode::UpstreamCredentials,
        "not_found_error" => ErrorCode::ModelNotFound,
        "timeout_error" => ErrorCode::UpstreamTimeout,
        "invalid_request_error" => said.refused_for(),
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
        OVERLOADED => ErrorCode::Overloaded,
        402..=499 => ErrorCode::InvalidRequest,
        _ => ErrorCode::UpstreamFailed,
    }
}

/// What an error object says.
#[derive(Default)]
struct Said {
    kind: Option<String>,
    message: Option<String>,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    message: Option<Value>,
    #[serde(default)]
    detail: Option<Value>,
}

impl Said {
    /// Reads an error body. Gateways in front of a provider say `message` or `detail` at the top.
    fn read(body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        if let Some(error) = &body.error {
            return Some(Self::of(error));
        }
        let plain = body.message.or(body.detail)?;
        let text = plain.as_str().map_or_else(|| plain.to_string(), str::to_owned);
        Some(Self { message: Some(text), ..Self::default() })
    }

    fn of(error: &Value) -> Self {
        let field = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let code = error.get("details").and_then(|details| details.get("error_code"));
        Self {
            kind: field("type"),
            message: field("message").or_else(|| error.as_str().map(str::to_owned)),
            code: code.and_then(Value::as_str).map(str::to_owned),
        }
    }

    fn is_about_money(&self, status: u16) -> bool {
        let code = matches!(
            self.code.as_deref().unwrap_or_default(),
            SPEND_LIMIT
                | "contract_spend_limit_reached"
                | "linked_organization_spend_limit_reached"
                | "linked_organization_billing_unavailable"
                | "user_profile_billing_not_authorized"
                | "user_profile_not_billable"
        );
        let kind = self.kind.as_deref() == Some("billing_error");
        // An empty account is a plain 400 of no code.
        code || kind || status == 402 || self.says(&["credit balance is too low"])
    }

    /// Why a request was refused, of which only words tell the causes apart.
    fn refused_for(&self) -> ErrorCode {
        if self.says(&["prompt is too long", "exceed context limit", "context window"]) {
            ErrorCode::ContextLengthExceeded
        } else if self.says(&["blocked by content filtering policy"]) {
            ErrorCode::ContentFiltered
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
