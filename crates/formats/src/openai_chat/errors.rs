//! Errors of chat completions, both ways.
//!
//! [`parse`] reads what an upstream answered and says what a caller can do about it; [`render`]
//! writes ours. The class follows the error's `code` first and its status second: OpenAI-like
//! servers use one status for several causes. Whether money may have been spent is judged here too:
//! a refusal (4xx) and a server's own error object are not billed; a bare 5xx may come from a proxy
//! in front of a provider that went on, so nobody knows.

use ::types::error::Billed;
use ::types::ids::CallId;
use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::openai::error_object;

/// Characters of an upstream's message that are repeated to the client.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// An error body, as an HTTP answer or in a stream.
pub fn render(failure: &Failure, call: Option<&CallId>) -> Bytes {
    Bytes::from(json!({ "error": error_object(failure, call) }).to_string())
}

/// The error of an upstream that answered with this status and body.
pub fn parse(status: u16, body: &[u8]) -> Failure {
    let whole = serde_json::from_slice::<Value>(body).ok();
    let said = whole.as_ref().and_then(|whole| Body::deserialize(whole).ok());
    let known = said.as_ref().and_then(|said| match said.error() {
        Some(error) => Some(Said::of(error)),
        None if said.is_bare() => whole.as_ref().map(Said::of),
        None => None,
    });
    // FastAPI-style servers (vLLM, SGLang) say `message` or `detail` at the top.
    let plain = said.as_ref().and_then(|body| body.message.as_ref().or(body.detail.as_ref()));
    let billed = billed(status, known.is_some() || plain.is_some());
    let said = known.unwrap_or_else(|| Said { message: plain.map(text_of), ..Said::default() });
    let code = classify(status, &said);
    let message = match &said.message {
        Some(message) => format!("the provider answered {status}: {}", shorten(message)),
        None => format!("the provider answered {status} without an error that can be read"),
    };
    let param = said.param.map(String::into_boxed_str);
    Failure { param, ..Failure::new(code, message).billed(billed) }
}

/// The error in a `{"error": …}` object of a stream or of a 200, if `body` is one.
pub(crate) fn parse_in_answer(body: &[u8]) -> Option<Failure> {
    let whole = serde_json::from_slice::<Value>(body).ok()?;
    let body = Body::deserialize(&whole).ok()?;
    let said = match body.error().filter(|error| !error.is_null() && **error != Value::Bool(false))
    {
        Some(error) => Said::of(error),
        None if body.is_bare() => Said::of(&whole),
        None => return None,
    };
    // OpenRouter says the status here that came too late for a head.
    let status = said.code.as_deref().and_then(|code| code.parse().ok());
    let status = status.filter(|status| matches!(status, 400..=599)).unwrap_or(500);
    let code = match classify(status, &said) {
        // A stream that has begun was not refused for its rate.
        ErrorCode::RateLimited => ErrorCode::UpstreamFailed,
        code => code,
    };
    Some(in_answer(code, said.message.as_deref().unwrap_or("no message")))
}

/// What ends an answer that had begun.
pub(crate) fn in_answer(code: ErrorCode, message: &str) -> Failure {
    let text = format!("the provider failed in its answer: {}", shorten(message));
    Failure::new(code, text).billed(Billed::Unknown)
}

/// Whether an error answer may cost money.
pub(crate) const fn billed(status: u16, said_by_the_provider: bool) -> Billed {
    match status {
        400..=499 => Billed::No,
        504 | 524 => Billed::Unknown,
        _ if said_by_the_provider => Billed::No,
        _ => Billed::Unknown,
    }
}

fn classify(status: u16, said: &Said) -> ErrorCode {
    let known = [&said.code, &said.kind].into_iter().flatten().find_map(|code| by_code(code));
    if let Some(code) = known {
        return code;
    }
    match status {
        // Servers without the code say it in words only.
        400 | 413 | 422 if said.message.as_deref().is_some_and(says_context_length) => {
            ErrorCode::ContextLengthExceeded
        }
        401 | 403 => ErrorCode::UpstreamCredentials,
        402 => ErrorCode::UpstreamQuota,
        404 => ErrorCode::ModelNotFound,
        408 => ErrorCode::UpstreamTimeout,
        413 => ErrorCode::TooLarge,
        429 => ErrorCode::RateLimited,
        400..=499 => ErrorCode::InvalidRequest,
        504 | 524 => ErrorCode::UpstreamTimeout,
        _ => ErrorCode::UpstreamFailed,
    }
}

/// What a code or a type says by itself, whatever the status.
fn by_code(code: &str) -> Option<ErrorCode> {
    Some(match code {
        // The last two are llama.cpp's and GitHub Models'.
        "context_length_exceeded" | "exceed_context_size_error" | "tokens_limit_reached" => {
            ErrorCode::ContextLengthExceeded
        }
        "model_not_found" => ErrorCode::ModelNotFound,
        "content_filter" | "content_policy_violation" => ErrorCode::ContentFiltered,
        // The operator's account is out of money: another provider may do it, waiting won't help.
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "project_spend_limit_exceeded"
        | "organization_usage_limit_exceeded"
        // Moonshot's, DashScope's, Z.ai's and Workers AI's words for it.
        | "exceeded_current_quota_error"
        | "Arrearage"
        | "1113"
        | "3036" => ErrorCode::UpstreamQuota,
        _ => return None,
    })
}

/// How servers say in words that a prompt is too long; the last resort, a test for each.
const CONTEXT_LENGTH_WORDS: [&str; 7] = [
    // OpenAI, vLLM, Mistral, DeepSeek, OpenRouter.
    "maximum context length",
    "context window",
    // SGLang.
    "model's context length",
    // llama.cpp.
    "available context size",
    // xAI.
    "maximum prompt length",
    // Moonshot.
    "exceeded model token limit",
    // DashScope.
    "Range of input length should be",
];

fn says_context_length(message: &str) -> bool {
    CONTEXT_LENGTH_WORDS.iter().any(|words| message.contains(words))
}

/// The beginning of a message.
pub(crate) fn shorten(message: &str) -> &str {
    let end = message.char_indices().nth(MESSAGE_CHARS_MAX).map_or(message.len(), |(at, _)| at);
    message.get(..end).unwrap_or(message)
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    error: Option<Value>,
    /// Cloudflare's envelope: the first one counts.
    #[serde(default)]
    errors: Option<Vec<Value>>,
    #[serde(default)]
    object: Option<Value>,
    #[serde(default)]
    message: Option<Value>,
    #[serde(default)]
    detail: Option<Value>,
}

impl Body {
    /// The error object, where the body has one.
    fn error(&self) -> Option<&Value> {
        self.error.as_ref().or_else(|| self.errors.as_ref()?.first())
    }

    /// Whether the body itself is the error: older vLLM, SGLang and Mistral put no object around
    /// it.
    fn is_bare(&self) -> bool {
        self.object.as_ref().and_then(Value::as_str) == Some("error")
    }
}

/// What an error object says; a plain string is its message.
#[derive(Default)]
struct Said {
    message: Option<String>,
    /// A number counts as its digits.
    code: Option<String>,
    kind: Option<String>,
    param: Option<String>,
}

impl Said {
    fn of(error: &Value) -> Self {
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let digits = || error.get("code").and_then(Value::as_u64).map(|code| code.to_string());
        match error {
            Value::Object(_) => Self {
                message: text("message"),
                code: text("code").or_else(digits),
                kind: text("type"),
                param: text("param"),
            },
            Value::String(message) => Self { message: Some(message.clone()), ..Self::default() },
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests;
