//! The closed list of what can go wrong, and a [`Failure`]: one of them with what a client needs to
//! act.
//!
//! A code says what the *caller* can do. Each has a stable name, an HTTP status and a retry class;
//! formats render it once each, and `docs/errors/<name>.md` explains it. A failure's message is
//! shown to clients: it names the field, the limit and the fix, and never holds a secret, a path, a
//! statement or another tenant's data.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::usage::Usage;

/// When trying again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not without changing the request.
    Never,
    /// The same request may succeed on the same target.
    SameTarget,
    /// The same request may succeed on another target.
    OtherTarget,
    /// After the time that the failure names.
    After,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $retry:ident;)*) => {
        /// What went wrong, as a class that tells the caller what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, as documented in `docs/errors/`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status that it is answered with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether trying again can help.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)* }
            }
        }
    };
}

codes! {
    /// A field is missing, malformed or contradicts another.
    InvalidRequest = "invalid_request", 400, Never;
    /// A field or value that is understood but not offered here.
    Unsupported = "unsupported", 400, Never;
    /// The body, a header or a list is larger than the limit.
    TooLarge = "too_large", 413, Never;
    /// The request's body came too slowly.
    RequestTimeout = "request_timeout", 408, SameTarget;
    /// No key, or one that is not known.
    Unauthenticated = "unauthenticated", 401, Never;
    /// The key is known and may not do this.
    PermissionDenied = "permission_denied", 403, Never;
    /// Nothing of that id or path exists for this key.
    NotFound = "not_found", 404, Never;
    /// The method is not offered on this path.
    MethodNotAllowed = "method_not_allowed", 405, Never;
    /// No model of that name exists for this key.
    ModelNotFound = "model_not_found", 404, Never;
    /// `previous_response_id` names no response of this key's user.
    PreviousResponseNotFound = "previous_response_not_found", 400, Never;
    /// The object is in a state that does not allow this.
    Conflict = "conflict", 400, Never;
    /// A step of the session has an unknown outcome and waits for a decision.
    SessionInDoubt = "session_in_doubt", 400, Never;
    /// The model has no known price and a hard budget is in scope.
    PriceUnknown = "price_unknown", 400, Never;
    /// The bound of the Call exceeds what is left of a budget.
    BudgetExceeded = "budget_exceeded", 429, Never;
    /// The prompt does not fit the model's context.
    ContextLengthExceeded = "context_length_exceeded", 400, OtherTarget;
    /// The provider refused the content.
    ContentFiltered = "content_filtered", 400, Never;
    /// A limit on the rate has no room: ours, or the provider's.
    RateLimited = "rate_limited", 429, After;
    /// A queue is full: ours, or the provider's.
    Overloaded = "overloaded", 503, After;
    /// A child process or a part of the platform is not up.
    Unavailable = "unavailable", 503, After;
    /// The store could not take a write: disk full, read-only or failing.
    StorageUnavailable = "storage_unavailable", 503, After;
    /// The provider could not be reached.
    UpstreamUnreachable = "upstream_unreachable", 502, OtherTarget;
    /// The provider answered with an error or with something that is no answer.
    UpstreamFailed = "upstream_failed", 502, OtherTarget;
    /// The provider refused the operator's credentials.
    UpstreamCredentials = "upstream_credentials", 502, OtherTarget;
    /// The operator's account at the provider is out of money or quota.
    UpstreamQuota = "upstream_quota", 502, OtherTarget;
    /// The provider took too long.
    UpstreamTimeout = "upstream_timeout", 504, OtherTarget;
    /// The Call took longer than its caller, or its route, gave it.
    DeadlineExceeded = "deadline_exceeded", 504, Never;
    /// The provider's answer ended before it was whole.
    StreamCut = "stream_cut", 502, OtherTarget;
    /// A tool server could not be used.
    ToolFailed = "tool_failed", 502, Never;
    /// The Call was cancelled by its client.
    Cancelled = "cancelled", 400, Never;
    /// A bug of ours.
    Internal = "internal", 500, SameTarget;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether an attempt that failed may have cost money.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Billed {
    /// It never reached a provider, or the provider refused it.
    #[default]
    No,
    /// Nobody knows: it is charged at what was reserved for it and shown as unreconciled.
    Unknown,
    /// The provider said so; apart, so that failures stay small.
    Usage(Box<Usage>),
}

impl From<Usage> for Billed {
    fn from(usage: Usage) -> Self {
        Self::Usage(Box::new(usage))
    }
}

impl From<Option<Usage>> for Billed {
    /// A provider that ran and did not say is paid all the same.
    fn from(usage: Option<Usage>) -> Self {
        usage.map_or(Self::Unknown, Self::from)
    }
}

/// What an upstream answered, kept to be passed through byte for byte where formats agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamError {
    /// Its HTTP status.
    pub status: u16,
    /// Its body, at most [`UpstreamError::BODY_BYTES_MAX`].
    pub body: Bytes,
    /// Its `content-type`.
    pub content_type: String,
    /// Name of the wire format that the body is in.
    pub format: &'static str,
}

impl UpstreamError {
    /// Bytes of an upstream's error body that are kept.
    pub const BODY_BYTES_MAX: usize = 256 * 1024;
}

/// What is left of the limits on rate that a Call falls under here, by kind of the tightest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom {
    /// When it was looked at.
    pub at: Timestamp,
    /// Of those on requests.
    pub requests: Option<Left>,
    /// Of those on tokens of requests and answers together.
    pub tokens: Option<Left>,
    /// Of those on tokens of requests.
    pub input_tokens: Option<Left>,
    /// Of those on tokens of answers.
    pub output_tokens: Option<Left>,
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How much may be used within its length of time.
    pub limit: u64,
    /// How much of that is left.
    pub remaining: u64,
    /// How long it takes until all of it is there again, if nothing more is used.
    pub reset: Duration,
}

/// Why a Call ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// The class.
    pub code: ErrorCode,
    /// For the client: what is wrong, with which field, and what to do.
    pub message: String,
    /// The field that is wrong, as a path such as `tools[0].type`.
    pub param: Option<Box<str>>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// What the upstream answered, if it did.
    pub upstream: Option<Box<UpstreamError>>,
    /// Whether money may have been spent.
    pub billed: Billed,
    /// Whether nothing was sent, because it would have passed the target's limits.
    pub withheld: bool,
    /// What is left of our own limits on rate, if one of them is why.
    pub headroom: Option<Box<Headroom>>,
}

impl Failure {
    /// A failure with a message and nothing else.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            upstream: None,
            billed: Billed::No,
            withheld: false,
            headroom: None,
        }
    }

    /// A 400 that names the field at fault.
    pub fn invalid(param: impl Into<Box<str>>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ErrorCode::InvalidRequest, message) }
    }

    /// A 400 for a field or value that is understood but not offered here.
    pub fn unsupported(param: impl Into<Box<str>>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ErrorCode::Unsupported, message) }
    }

    /// A strict request has something that its target can't be told: nothing is sent.
    pub fn not_told(names: &[String], target: &str) -> Self {
        let message = format!(
            "the request is strict, and {target} can't be told of it: {}; leave that out, or ask \
             another model",
            names.join(", ")
        );
        Self::unsupported(names.first().map_or("", String::as_str), message)
    }

    /// A target that is run here had no room for a Call at once, or is being started: nothing was
    /// done, and the next Call may find it well.
    pub fn turned_away(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).retry_after(Duration::ZERO)
    }

    /// Whether it is such a failure. It says nothing bad about its target, which looks after
    /// itself.
    pub fn turns_away(&self) -> bool {
        let of_room = matches!(self.code, ErrorCode::Overloaded | ErrorCode::Unavailable);
        of_room && self.upstream.is_none() && self.retry_after == Some(Duration::ZERO)
    }

    /// The same failure with the time after which to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same failure, saying whether money may have been spent.
    #[must_use]
    pub fn billed(mut self, billed: Billed) -> Self {
        self.billed = billed;
        self
    }

    /// The status to answer with: the upstream's own if it was a 4xx, else the code's.
    pub fn status(&self) -> u16 {
        match &self.upstream {
            Some(upstream) if (400..500).contains(&upstream.status) => upstream.status,
            _ => self.code.status(),
        }
    }

    /// Whether `x-should-retry: false` must be sent: money may be spent, or somebody has to act
    /// before trying again can help.
    pub fn forbids_retry(&self) -> bool {
        self.billed != Billed::No
            || matches!(
                self.code,
                ErrorCode::BudgetExceeded
                    | ErrorCode::DeadlineExceeded
                    | ErrorCode::SessionInDoubt
                    | ErrorCode::UpstreamCredentials
                    | ErrorCode::UpstreamQuota
            )
    }
}
