//! Errors of Bedrock, both ways.
//!
//! An error is named by the header `x-amzn-errortype` or by `__type` in the body; where it has no
//! name, the status tells. Bedrock says in words only what was
//! wrong with a request. Whether money may have been spent is judged as for chat completions, but a
//! model that ran and failed, or ran too long, may be billed whatever the status.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>

use ::types::error::Billed;
use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::openai_chat::errors::{billed, shorten};

/// An error body.
pub fn render(failure: &Failure) -> Bytes {
    let (name, _) = words(failure.code);
    Bytes::from(json!({ "__type": name, "message": message(failure) }).to_string())
}

/// The HTTP status of an error.
pub fn status(failure: &Failure) -> u16 {
    match &failure.upstream {
        Some(upstream) if (400..500).contains(&upstream.status) => upstream.status,
        _ => words(failure.code).1,
    }
}

/// What a client is told. There is no field for the place of a mistake.
pub(super) fn message(failure: &Failure) -> String {
    match &failure.param {
        Some(param) if !failure.message.contains(&**param) => {
            format!("{param}: {}", failure.message)
        }
        _ => failure.message.clone(),
    }
}

/// Bedrock's name of a class, and the status that goes with it.
pub(super) const fn words(code: ErrorCode) -> (&'static str, u16) {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::Unsupported
        | ErrorCode::TooLarge
        | ErrorCode::Conflict
        | ErrorCode::SessionInDoubt
        | ErrorCode::PriceUnknown
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::ContentFiltered
        | ErrorCode::PreviousResponseNotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::Cancelled => ("ValidationException", 400),
        ErrorCode::Unauthenticated | ErrorCode::PermissionDenied => ("AccessDeniedException", 403),
        ErrorCode::NotFound | ErrorCode::ModelNotFound => ("ResourceNotFoundException", 404),
        // SDKs send a throttled request again, which no budget is helped by.
        ErrorCode::BudgetExceeded => ("ServiceQuotaExceededException", 400),
        ErrorCode::RateLimited => ("ThrottlingException", 429),
        ErrorCode::UpstreamTimeout | ErrorCode::DeadlineExceeded | ErrorCode::RequestTimeout => {
            ("ModelTimeoutException", 408)
        }
        ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::StorageUnavailable => {
            ("ServiceUnavailableException", 503)
        }
        ErrorCode::UpstreamFailed | ErrorCode::StreamCut | ErrorCode::ToolFailed => {
            ("ModelErrorException", 424)
        }
        ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamCredentials
        | ErrorCode::UpstreamQuota
        | ErrorCode::Internal => ("InternalServerException", 500),
    }
}

/// The error of an upstream that answered with this status, name (empty if its headers say none)
/// and body.
pub fn parse(status: u16, name: &str, body: &[u8]) -> Failure {
    let mut said = Said::read(body);
    if !name.is_empty() {
        said.name = plain_name(name);
    }
    let code = classify(status, &said);
    let billed = match (status, &*said.name) {
        (408 | 424, _) | (_, "ModelTimeoutException" | "ModelErrorException") => Billed::Unknown,
        _ => billed(status, said.message.is_some()),
    };
    let message = match &said.message {
        Some(message) => format!("the provider answered {status}: {}", shorten(message)),
        None => format!("the provider answered {status} without an error that can be read"),
    };
    Failure::new(code, message).billed(billed)
}

/// The exception of a stream, by its name and its payload.
pub(super) fn parse_exception(name: &str, payload: &[u8]) -> Failure {
    let said = Said { name: upper(name), ..Said::read(payload) };
    let code = match classify(500, &said) {
        // A stream that has begun was not refused for its rate.
        ErrorCode::RateLimited => ErrorCode::UpstreamFailed,
        code => code,
    };
    let message = said.message.as_deref().map_or("no message", shorten);
    let text = format!("the provider failed in its answer ({}): {message}", shorten(&said.name));
    Failure::new(code, text).billed(Billed::Unknown)
}

/// The error in the body of a 200, if `body` is one.
pub(super) fn parse_in_answer(body: &[u8]) -> Option<Failure> {
    let said = Said::read(body);
    let named = !said.name.is_empty();
    (named || said.message.is_some()).then(|| parse_exception(&said.name, body))
}

/// The name in `com.amazon.coral.service#ThrottlingException:http://…`.
fn plain_name(name: &str) -> String {
    // What follows a colon may have a `#` of its own.
    let name = name.split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().trim().to_owned()
}

/// Streams spell exceptions' names with a small letter.
fn upper(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn classify(status: u16, said: &Said) -> ErrorCode {
    match &*said.name {
        "ThrottlingException" | "TooManyRequestsException" => ErrorCode::RateLimited,
        "ServiceQuotaExceededException" => ErrorCode::UpstreamQuota,
        "ModelNotReadyException" => ErrorCode::Unavailable,
        "ServiceUnavailableException" => ErrorCode::Overloaded,
        "ModelTimeoutException" => ErrorCode::UpstreamTimeout,
        "ModelErrorException" | "ModelStreamErrorException" | "InternalServerException" => {
            ErrorCode::UpstreamFailed
        }
        "ResourceNotFoundException" => ErrorCode::ModelNotFound,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException"
        | "MissingAuthenticationTokenException" => ErrorCode::UpstreamCredentials,
        "ValidationException" => said.refused_for(),
        _ => by_status(status, said),
    }
}

fn by_status(status: u16, said: &Said) -> ErrorCode {
    match status {
        400 => said.refused_for(),
        401 | 403 => ErrorCode::UpstreamCredentials,
        402 => ErrorCode::UpstreamQuota,
        404 => ErrorCode::ModelNotFound,
        408 | 504 => ErrorCode::UpstreamTimeout,
        413 => ErrorCode::TooLarge,
        424 => ErrorCode::UpstreamFailed,
        // Without its name there is only this to tell the two apart.
        429 if said.says(&["not ready"]) => ErrorCode::Unavailable,
        429 => ErrorCode::RateLimited,
        503 => ErrorCode::Overloaded,
        403..=499 => ErrorCode::InvalidRequest,
        _ => ErrorCode::UpstreamFailed,
    }
}

/// What an error says.
#[derive(Default)]
struct Said {
    /// Its name, without a namespace; empty if it has none.
    name: String,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default, rename = "__type")]
    kind: Option<String>,
    #[serde(default)]
    message: Option<Value>,
    /// Some of Amazon's services begin it with a capital.
    #[serde(default, rename = "Message")]
    capital: Option<Value>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Body>(body) else { return Self::default() };
        let name = plain_name(&body.kind.unwrap_or_default());
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Self { name, message: body.message.or(body.capital).map(text) }
    }

    /// Why a request was refused, of which only words tell the causes apart.
    fn refused_for(&self) -> ErrorCode {
        const TOO_LONG: [&str; 7] = [
            "input is too long",
            "prompt is too long",
            "too many input tokens",
            "exceed context limit",
            "context window",
            "maximum context length",
            "input tokens exceeds",
        ];
        if self.says(&TOO_LONG) {
            ErrorCode::ContextLengthExceeded
        } else if self.says(&["content filter", "content policy"]) {
            ErrorCode::ContentFiltered
        } else {
            ErrorCode::InvalidRequest
        }
    }

    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        words.iter().any(|words| message.contains(words))
    }
}

#[cfg(test)]
mod tests;
