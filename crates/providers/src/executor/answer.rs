//! The answer of an attempt: what its head says, and its body read piece by piece.
//!
//! A stall is noticed by one timer that is looked at again when it ends, not one per chunk. A
//! `Finish` waits until the body has ended, for [`DRAIN_MAX`] at most, so that the connection can
//! be kept: servers send the end of the body right behind the last event.
//!
//! A provider's words are for the client alone: errors quote prompts, and some repeat the
//! operator's key, which is replaced. The log has the status and the class.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::StatusCode;
use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use ::http::response::Parts;
use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde_json::Value;
use types::clock::{Monotonic, SharedClock, Sleep};
use types::error::{Billed, UpstreamError};
use types::format::{Format, ReadResponse};
use types::ids::CallId;
use types::outcome::{OutcomeEvent, Start};
use types::{Call, ErrorCode, Failure};

use super::Shared;
use crate::http::{Deadline, Exchange, SendError, time_left};
use crate::keys::{Permit, Refused};
use crate::limits::Told;
use crate::limits::headers::retry_after;
use crate::redact::Redactor;
use crate::vault::Watch;

/// How long a whole answer waits for the end of its body.
const DRAIN_MAX: Duration = Duration::from_millis(50);
/// How long the body of an error is waited for: a client should hear of the error, not of its end.
const ERROR_BODY_MAX: Duration = Duration::from_secs(5);
/// Headers that clients may see at most; a provider sends about a dozen.
const VISIBLE_HEADERS_MAX: usize = 32;

/// What polling an answer came to.
pub(super) enum Step {
    /// Events may have come.
    More,
    /// The last event has come.
    Over,
}

/// An answer that is being read.
pub(super) struct Live {
    exchange: Exchange,
    format: &'static dyn Format,
    reader: Option<Box<dyn ReadResponse>>,
    provider: Arc<str>,
    call: CallId,
    redactor: Redactor,
    clock: SharedClock,
    stall: Duration,
    /// When the Call must have ended.
    deadline: Deadline,
    last: Monotonic,
    /// Runs once something was waited for: an answer that is not streamed often comes whole.
    timer: Option<Sleep>,
    /// The end, while the body's own end is awaited.
    finish: Option<OutcomeEvent>,
    whole: bool,
    /// The Call's place among its key's limits, until the answer has ended.
    pub(super) permit: Permit,
    /// Who keeps what the client can't send back, where deltas are read.
    pub(super) watch: Option<Watch>,
    /// What the client is told first.
    pub(super) start: Start,
}

impl Live {
    pub(super) fn new(
        exchange: Exchange,
        format: &'static dyn Format,
        shared: &Shared,
        (call, permit): (&Call, Permit),
    ) -> Self {
        let (provider, clock) = (&shared.provider, Arc::clone(&shared.clock));
        let (stall, deadline) = (provider.timeouts.stall, call.deadline);
        let last = clock.monotonic();
        Self {
            exchange,
            format,
            reader: None,
            provider: Arc::clone(&provider.name),
            call: call.id.clone(),
            redactor: shared.redactor.clone(),
            last,
            timer: None,
            clock,
            stall,
            deadline,
            finish: None,
            whole: false,
            permit,
            watch: None,
            start: Start::default(),
        }
    }

    pub(super) fn read_with(&mut self, reader: Box<dyn ReadResponse>) {
        self.reader = Some(reader);
    }

    /// The exchange, if its body was read to its end.
    pub(super) fn into_whole(self) -> Option<Exchange> {
        self.whole.then_some(self.exchange)
    }

    /// Reads on.
    pub(super) fn poll(
        &mut self,
        events: &mut VecDeque<OutcomeEvent>,
        cx: &mut Context<'_>,
    ) -> Poll<Step> {
        match self.exchange.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => Poll::Ready(self.take(data, events)),
            Poll::Ready(Some(Err(error))) => {
                if self.finish.is_none() {
                    let (provider, call) = (&self.provider, &self.call);
                    tracing::warn!(%provider, %call, %error, "the provider's answer was cut");
                }
                Poll::Ready(self.end(events))
            }
            Poll::Ready(None) => {
                self.whole = true;
                Poll::Ready(self.end(events))
            }
            Poll::Pending => self.poll_silence(events, cx),
        }
    }

    fn take(&mut self, data: Bytes, events: &mut VecDeque<OutcomeEvent>) -> Step {
        self.last = self.clock.monotonic();
        if self.finish.is_some() {
            // Nothing behind the end counts.
            return Step::More;
        }
        let Some(reader) = &mut self.reader else { return Step::Over };
        let from = events.len();
        reader.push(data, events);
        watch(&mut self.watch, events, from);
        match events.back_mut() {
            Some(OutcomeEvent::Failed(failure)) => {
                failed(failure, &self.redactor, (&self.provider, &self.call));
                Step::Over
            }
            Some(OutcomeEvent::Finish(finish)) => {
                if let Some(usage) = &finish.usage {
                    self.permit.used(usage.output_tokens);
                }
                self.finish = events.pop_back();
                self.timer = Some(self.clock.sleep(DRAIN_MAX));
                Step::More
            }
            _ => Step::More,
        }
    }

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) -> Step {
        match (self.finish.take(), &mut self.reader) {
            (Some(finish), _) => events.push_back(finish),
            (None, Some(reader)) => {
                let from = events.len();
                reader.end(events);
                watch(&mut self.watch, events, from);
                if let Some(OutcomeEvent::Failed(failure)) = events.back_mut() {
                    failed(failure, &self.redactor, (&self.provider, &self.call));
                }
            }
            (None, None) => {}
        }
        Step::Over
    }

    fn poll_silence(
        &mut self,
        events: &mut VecDeque<OutcomeEvent>,
        cx: &mut Context<'_>,
    ) -> Poll<Step> {
        loop {
            let timer = self.timer.get_or_insert_with(|| {
                let left = time_left(self.deadline, self.clock.as_ref());
                self.clock.sleep(self.stall.min(left))
            });
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(finish) = self.finish.take() {
                events.push_back(finish);
                return Poll::Ready(Step::Over);
            }
            let left = time_left(self.deadline, self.clock.as_ref());
            if left.is_zero() {
                events.push_back(OutcomeEvent::Failed(Box::new(overdue(&self.provider))));
                return Poll::Ready(Step::Over);
            }
            let silent = self.clock.monotonic().saturating_sub(self.last);
            if silent >= self.stall {
                let text = format!(
                    "the provider '{}' sent nothing for {} in the middle of its answer",
                    self.provider,
                    spelled(self.stall)
                );
                let failure = Failure::new(ErrorCode::UpstreamTimeout, text);
                let failure = Box::new(failure.billed(Billed::Unknown));
                events.push_back(OutcomeEvent::Failed(failure));
                return Poll::Ready(Step::Over);
            }
            self.timer = Some(self.clock.sleep(self.stall.saturating_sub(silent).min(left)));
        }
    }

    /// Reads an answer that is an error, as far as its body is kept. Answers whether it is the key
    /// that was refused, too: another one may do.
    pub(super) async fn refused(&mut self, parts: &Parts) -> (Failure, Option<Refused>) {
        let failure = self.error(parts).await;
        let refused = refused(parts.status, failure.code);
        match refused {
            Some(refused) => {
                let mut told = Told::read(&parts.headers, self.clock.now());
                told.retry_after = failure.retry_after;
                self.permit.refused(refused, &told);
            }
            None if parts.status.is_client_error() => self.permit.answered(&parts.headers),
            None => {}
        }
        (failure, refused)
    }

    async fn error(&mut self, parts: &Parts) -> Failure {
        let status = parts.status.as_u16();
        if parts.status.is_redirection() {
            let text = format!(
                "the provider '{}' answered with a redirect ({status}), which is not followed: its base_url is wrong",
                self.provider
            );
            return Failure::new(ErrorCode::UpstreamFailed, text);
        }
        let body = self.error_body().await;
        let body = self.redactor.clean_body(body);
        let name = self.format.error_header().and_then(|name| parts.headers.get(name));
        let name = name.and_then(|name| name.to_str().ok());
        let mut failure = match name {
            Some(name) => self.format.parse_named_error(status, name, &body),
            None => self.format.parse_error(status, &body),
        };
        self.redactor.clean(&mut failure);
        let wait = retry_after(&parts.headers, self.clock.now());
        failure.retry_after = wait.or(failure.retry_after);
        let (provider, call, code) = (&self.provider, &self.call, failure.code);
        // Google says that a key is wrong by a plain 400.
        let credentials = matches!(status, 401 | 403) || code == ErrorCode::UpstreamCredentials;
        if credentials && code != ErrorCode::UpstreamQuota {
            let key = self.permit.number();
            tracing::error!(
                %provider, %call, status, %code, key,
                "the provider refused the operator's credentials"
            );
            return self.credentials_refused(status, &failure);
        }
        let key = self.permit.number();
        tracing::warn!(%provider, %call, status, %code, key, "the provider answered with an error");
        if code == ErrorCode::UpstreamQuota {
            // The operator's account is out of money: the status would tell the client that it did
            // something wrong, and that it can mend it.
            return failure;
        }
        let format = if self.may_pass(&body) { self.format.name() } else { NO_FORMAT };
        let content_type = content_type(parts).filter(|kind| !self.redactor.is_in(kind));
        let content_type = content_type.unwrap_or("application/octet-stream").to_owned();
        failure.upstream = Some(Box::new(UpstreamError { status, body, content_type, format }));
        failure
    }

    /// Whether a client can be given this body as it is: an error object of the provider's format
    /// without the operator's key in it.
    fn may_pass(&self, body: &[u8]) -> bool {
        let body = serde_json::from_slice::<Value>(body);
        body.is_ok_and(|body| body.is_object() && !self.redactor.is_within(&body))
    }

    /// The words of a provider that refused our credentials repeat parts of the operator's key, and
    /// its status would tell the client to ask for another key of its own: neither is passed on.
    fn credentials_refused(&self, status: u16, failure: &Failure) -> Failure {
        let provider = &self.provider;
        let ours = match failure.code {
            ErrorCode::ContentFiltered => {
                let text = format!("the provider '{provider}' refused the content ({status})");
                Failure::new(ErrorCode::ContentFiltered, text)
            }
            _ => {
                let text = format!(
                    "the provider '{provider}' refused this server's credentials ({status}): your \
                     own key is fine, the operator has to check the provider's"
                );
                Failure::new(ErrorCode::UpstreamCredentials, text)
            }
        };
        Failure { retry_after: failure.retry_after, ..ours.billed(failure.billed.clone()) }
    }

    async fn error_body(&mut self) -> Bytes {
        let clock = Arc::clone(&self.clock);
        let mut body = BytesMut::new();
        let reading = async {
            loop {
                let data = match poll_fn(|cx| self.exchange.poll_data(cx)).await {
                    Some(Ok(data)) => data,
                    Some(Err(_)) => return false,
                    None => return true,
                };
                let room = UpstreamError::BODY_BYTES_MAX - body.len();
                body.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
                if body.len() >= UpstreamError::BODY_BYTES_MAX {
                    return false;
                }
            }
        };
        // What has come by then is what is known of the error.
        let left = time_left(self.deadline, clock.as_ref());
        let limit = self.stall.min(ERROR_BODY_MAX).min(left);
        let ended = types::clock::within(clock.as_ref(), limit, reading).await;
        self.whole = ended == Some(true);
        body.freeze()
    }
}

/// What a provider of the Responses API names that can't decrypt the reasoning of a history: the
/// code of OpenAI's and Azure's error, the field that others name.
const UNREAD_REASONING: [&[u8]; 2] = [b"encrypted_content", b"encrypted content"];

/// Whether a provider refused a request for reasoning that it can't read, and nothing was billed.
pub(super) fn is_unread_reasoning(format: &dyn Format, failure: &Failure) -> bool {
    let says = |body: &[u8]| UNREAD_REASONING.iter().any(|name| memmem::find(body, name).is_some());
    let refusal = failure.upstream.as_ref().filter(|upstream| upstream.status == 400);
    format.name() == formats::OPENAI_RESPONSES.name()
        && failure.code == ErrorCode::InvalidRequest
        && failure.billed == Billed::No
        && refusal.is_some_and(|upstream| says(&upstream.body))
}

/// What of the key was refused, if it is that.
fn refused(status: StatusCode, code: ErrorCode) -> Option<Refused> {
    match code {
        ErrorCode::RateLimited => Some(Refused::Limit),
        ErrorCode::UpstreamQuota => Some(Refused::Key),
        // A key that is known and may not use a model can use others.
        ErrorCode::UpstreamCredentials if status == StatusCode::FORBIDDEN => Some(Refused::Model),
        ErrorCode::UpstreamCredentials => Some(Refused::Key),
        _ => None,
    }
}

/// Shows what keeps signed reasoning the events that came from `from` on.
fn watch(watch: &mut Option<Watch>, events: &VecDeque<OutcomeEvent>, from: usize) {
    if let Some(watch) = watch {
        events.iter().skip(from).for_each(|event| watch.see(event));
    }
}

/// A limit as an operator writes it.
fn spelled(limit: Duration) -> String {
    match limit.subsec_millis() {
        0 => format!("{} s", limit.as_secs()),
        _ => format!("{} ms", limit.as_millis()),
    }
}

/// The failure of a Call whose time is up.
fn overdue(provider: &str) -> Failure {
    let text = format!("the provider '{provider}' did not end its answer in the time of a call");
    Failure::new(ErrorCode::UpstreamTimeout, text).billed(Billed::Unknown)
}

/// The format of a body that is no error of the provider's format: it is not passed on.
const NO_FORMAT: &str = "";

/// A failure that the provider told in its answer, on its way to the client.
fn failed(failure: &mut Failure, redactor: &Redactor, (provider, call): (&str, &CallId)) {
    redactor.clean(failure);
    tracing::warn!(%provider, %call, code = %failure.code, "the provider's answer has failed");
}

/// The failure of a request that got no answer.
pub(super) fn unanswered(error: &SendError, provider: &str) -> Failure {
    match error {
        SendError::Connect(_) => {
            let text = format!("the provider '{provider}' could not be reached");
            Failure::new(ErrorCode::UpstreamUnreachable, text)
        }
        SendError::ConnectTimeout(limit) => {
            let text =
                format!("the provider '{provider}' could not be reached in {}", spelled(*limit));
            Failure::new(ErrorCode::UpstreamUnreachable, text)
        }
        SendError::Exchange(error) if error.is_parse() || error.is_parse_too_large() => {
            let text = format!("the provider '{provider}' answered with something that is no HTTP");
            Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown)
        }
        SendError::Exchange(_) => {
            let text = format!("the provider '{provider}' closed the connection without an answer");
            Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown)
        }
        SendError::FirstByteTimeout(limit) => {
            let text = format!("the provider '{provider}' did not answer in {}", spelled(*limit));
            Failure::new(ErrorCode::UpstreamTimeout, text).billed(Billed::Unknown)
        }
        // Nothing was sent, so that nothing can be billed.
        SendError::OverdueUnsent => overdue(provider).billed(Billed::No),
        SendError::Overdue => overdue(provider),
    }
}

/// Whether the answer can be what was asked for: a page of a proxy or a compressed body can't.
pub(super) fn check_head(
    parts: &Parts,
    stream: Option<&str>,
    provider: &str,
) -> Result<(), Failure> {
    let wrong = |what: &str| {
        let text = format!("the provider '{provider}' answered with {what}");
        Err(Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown))
    };
    let encoding = parts.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return wrong("a compressed body, which was not asked for");
    }
    let Some(kind) = content_type(parts) else { return Ok(()) };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fits = match (stream, kind.as_str()) {
        (Some(wanted), kind) => kind == wanted,
        (None, kind) => kind == "application/json" || kind.ends_with("+json"),
    };
    if fits {
        return Ok(());
    }
    let kind: String = kind.chars().take(60).collect();
    wrong(&format!(
        "content of type '{kind}' instead of {}",
        if stream.is_some() { "a stream" } else { "JSON" }
    ))
}

/// The `content-type`.
pub(super) fn content_type(parts: &Parts) -> Option<&str> {
    parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

/// The headers that clients may see: request ids, rate limits and timing. Nothing that names the
/// operator's account.
pub(super) fn visible_headers(headers: &HeaderMap, redactor: &Redactor) -> Vec<(String, String)> {
    let visible = |name: &str| {
        matches!(name, "x-request-id" | "request-id" | "openai-processing-ms" | "openai-version")
            || name.starts_with("x-ratelimit-")
            || name.starts_with("anthropic-ratelimit-")
    };
    let shown = headers.iter().filter(|(name, _)| visible(name.as_str()));
    let texts = shown.filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    texts.filter(|(_, text)| !redactor.is_in(text)).take(VISIBLE_HEADERS_MAX).collect()
}
