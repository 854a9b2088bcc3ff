//! A model Call as one HTTP exchange.
//!
//! The request is the client's own bytes with a few edits where its format is the provider's, else
//! rendered from the neutral form. The answer's bytes go through the format's reader, which finds
//! its end, its usage and what went wrong. One attempt is one request that is worked on: redirects
//! are not followed; a request goes out again only where its key was refused, with another one, and
//! where its reasoning could not be read, without.
//!
//! What a failure may have cost: nothing if no request was sent or the provider refused it (4xx);
//! what the format judges for a 5xx; unknown for everything after an answer began or did not come.

mod answer;
mod request;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Request;
use bytes::Bytes;
use futures_core::Stream;
use http_body_util::Full;
use types::call::Target;
use types::clock::SharedClock;
use types::error::Billed;
use types::outcome::{OutcomeEvent, OutcomeStream, Start};
use types::{Attempt, ErrorCode, Execute, Failure, Format, Notes};

use self::answer::{Live, Step};
use self::request::{Prepared, Template, Thoughts};
use crate::family::family;
use crate::http::Client;
use crate::keys::{Ask, Keys, NoKey, Permit, Refused};
use crate::limits::Limits;
use crate::provider::Provider;
use crate::redact::Redactor;
use crate::vault::Vault;

/// Does the Calls of one provider.
pub struct HttpExecutor {
    shared: Arc<Shared>,
}

/// What all attempts of a provider share.
struct Shared {
    provider: Provider,
    client: Client,
    template: Template,
    keys: Arc<Keys>,
    redactor: Redactor,
    clock: SharedClock,
    vault: Vault,
}

impl fmt::Debug for HttpExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpExecutor").field("provider", &self.shared.provider).finish()
    }
}

/// The executor of a provider. Needs a Tokio runtime when it is used, not when it is made. `vault`
/// and `limits` are one for all providers: a conversation may go on at another one, and somebody
/// may want to see what was learned.
pub fn executor(
    provider: Provider,
    clock: SharedClock,
    vault: Vault,
    limits: &Limits,
) -> Arc<dyn Execute> {
    let client = Client::new(provider.base_url().clone(), provider.timeouts, Arc::clone(&clock));
    let template = Template::new(&provider);
    let redactor = provider.redactor();
    // Checked when the provider was made.
    let headers = provider.credential_headers().unwrap_or_default();
    let keys = Arc::new(Keys::new(headers, Arc::clone(&clock)));
    limits.show(&provider.name, &keys);
    let shared = Shared { provider, client, template, keys, redactor, clock, vault };
    Arc::new(HttpExecutor { shared: Arc::new(shared) })
}

impl Execute for HttpExecutor {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        let shared = Arc::clone(&self.shared);
        // It may wait for its key's limits, and for a connection.
        attempt.sent.not_yet();
        let begun = Box::pin(begin(Arc::clone(&shared), attempt));
        Box::pin(Running { shared, state: State::Beginning(begun), events: VecDeque::new() })
    }

    fn continues(&self, target: &Target) -> bool {
        let vendor = &self.shared.provider.vendor;
        let format = target.format.unwrap_or_else(|| vendor.format()).name();
        let own = [formats::ANTHROPIC_MESSAGES.name(), formats::BEDROCK_CONVERSE.name()];
        let family = || family(&vendor.name, &target.upstream_model);
        // A path of its own is known from the vendor's own address on only.
        let is_known = vendor.quirks.prefix_path.is_none()
            || BASES_WITH_PREFIX_PATH.contains(&self.shared.template.prefix.as_str());
        vendor.continues && is_known
            || own.contains(&format) && family().is_some_and(|family| family.continues)
    }
}

/// Base paths beside which a vendor's own path for an answer's rest stands.
const BASES_WITH_PREFIX_PATH: [&str; 2] = ["", "/v1"];

type Begin = Pin<Box<dyn Future<Output = Result<Box<Live>, Failure>> + Send>>;

enum State {
    /// The answer has not begun.
    Beginning(Begin),
    /// It is being read.
    Reading(Box<Live>),
    /// Its last event is out, or waits in `events`.
    Over,
}

/// The events of one attempt.
struct Running {
    shared: Arc<Shared>,
    state: State,
    events: VecDeque<OutcomeEvent>,
}

impl Stream for Running {
    type Item = OutcomeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<OutcomeEvent>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            match &mut this.state {
                State::Over => return Poll::Ready(None),
                State::Beginning(begun) => match begun.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(mut live)) => {
                        let start = std::mem::take(&mut live.start);
                        this.events.push_back(OutcomeEvent::Start(start));
                        this.state = State::Reading(live);
                    }
                    Poll::Ready(Err(failure)) => {
                        this.events.push_back(OutcomeEvent::Failed(Box::new(failure)));
                        this.state = State::Over;
                    }
                },
                State::Reading(live) => match live.poll(&mut this.events, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Step::More) => {}
                    Poll::Ready(Step::Over) => this.over(cx),
                },
            }
        }
    }
}

impl Running {
    /// Ends the attempt; the connection of a body that was read whole is kept.
    fn over(&mut self, cx: &mut Context<'_>) {
        if let State::Reading(live) = std::mem::replace(&mut self.state, State::Over)
            && let Some(exchange) = live.into_whole()
        {
            self.shared.client.give_back(exchange, cx);
        }
    }
}

/// Begins the answer; once more without what the model thought before, where that is all that the
/// provider can't read.
///
/// A conversation that goes on at another provider, or at another account of the same one, brings
/// reasoning that nobody there can decrypt, and would bring it for ever. A refusal costs nothing.
async fn begin(shared: Arc<Shared>, attempt: Attempt) -> Result<Box<Live>, Failure> {
    let whole = request::prepare(&shared, &attempt, Thoughts::Told)?.strictly(&attempt)?;
    let format = whole.format;
    let refused = match Box::pin(ask(&shared, &attempt, whole)).await {
        Err(refused) if answer::is_unread_reasoning(format, &refused) => refused,
        begun => return begun,
    };
    let bare = request::prepare(&shared, &attempt, Thoughts::Withheld);
    // What can't be told without is the client's own: so is its provider's refusal.
    let Ok(bare) = bare.and_then(|bare| bare.strictly(&attempt)) else { return Err(refused) };
    attempt.sent.not_yet();
    Box::pin(ask(&shared, &attempt, bare)).await
}

/// Sends the request, with one key after the other while keys are refused.
async fn ask(
    shared: &Shared,
    attempt: &Attempt,
    mut prepared: Prepared,
) -> Result<Box<Live>, Failure> {
    let Some(asked) = attempt.call.model() else {
        return Err(Failure::new(ErrorCode::Internal, "a provider was given a Call of no model"));
    };
    let target = (&attempt.target.upstream_model, attempt.output_cap);
    let mut ask = Ask::new((&attempt.call, asked), target, shared.clock.monotonic());
    let mut first: Option<Failure> = None;
    loop {
        let permit = match shared.keys.acquire(&mut ask).await {
            Ok(permit) => permit,
            Err(none) => return Err(no_key(first, none, shared, attempt)),
        };
        let has_more = shared.keys.has_more(&ask);
        let mut request = match has_more {
            true => prepared.request.clone(),
            false => std::mem::take(&mut prepared.request),
        };
        permit.authorize(request.headers_mut());
        match Box::pin(send(shared, attempt, (&prepared, request), permit)).await {
            Ok(live) => return Ok(live),
            // Whoever refuses a key has done nothing and bills nothing.
            Err((failure, Some(_))) if has_more => {
                if failure.billed == Billed::No {
                    attempt.sent.not_yet();
                }
                first = Some(worse(first, failure));
            }
            Err((failure, Some(_))) => return Err(worse(first, failure)),
            Err((failure, None)) => return Err(failure),
        }
    }
}

/// Of two failures with different keys the one that says when to come back, the sooner the better;
/// else the first. The Call was withheld only if no key was asked.
fn worse(first: Option<Failure>, second: Failure) -> Failure {
    let Some(first) = first else { return second };
    let withheld = first.withheld && second.withheld;
    let limited = |failure: &Failure| failure.code == ErrorCode::RateLimited;
    let failure = match (limited(&first), limited(&second)) {
        (false, true) => second,
        (true, true) if is_sooner(second.retry_after, first.retry_after) => second,
        (true | false, _) => first,
    };
    Failure { withheld, ..failure }
}

/// Whether the one wait is known to be shorter.
fn is_sooner(one: Option<Duration>, other: Option<Duration>) -> bool {
    one.is_some_and(|one| other.is_none_or(|other| one < other))
}

/// The failure of a Call for which there is no key, or none more.
fn no_key(first: Option<Failure>, none: NoKey, shared: &Shared, attempt: &Attempt) -> Failure {
    let (provider, model) = (&shared.provider.name, &attempt.target.upstream_model);
    let limited = match none {
        NoKey::Late { retry_after } => {
            let text = format!(
                "the provider '{provider}' limits how much it takes of this server for '{model}', \
                 and as much is under way: try again in {} s",
                retry_after.as_secs().max(1)
            );
            let failure = Failure::new(ErrorCode::RateLimited, text).retry_after(retry_after);
            Failure { withheld: true, ..failure }
        }
        NoKey::Tried => {
            let text = format!("the provider '{provider}' has no key that it takes");
            Failure::new(ErrorCode::UpstreamCredentials, text)
        }
    };
    match first {
        Some(first) => worse(Some(first), limited),
        None => limited,
    }
}

/// Why an answer has not begun, and whether that is about the key.
type Unbegun = (Failure, Option<Refused>);

/// Sends the request with one key, and judges the head of its answer.
async fn send(
    shared: &Shared,
    attempt: &Attempt,
    (prepared, request): (&Prepared, Request<Full<Bytes>>),
    mut permit: Permit,
) -> Result<Box<Live>, Unbegun> {
    let Prepared { format, read, dropped, output_cap, .. } = prepared;
    let deadline = attempt.call.deadline;
    let mut notes = Notes::default();
    permit.note(&mut notes);
    let answer = shared.client.send(request, deadline, &attempt.sent).await;
    let (parts, exchange) = answer.map_err(|error| {
        let (provider, call) = (&shared.provider.name, &attempt.call.id);
        tracing::warn!(%provider, %call, %error, "no answer from the provider");
        (answer::unanswered(&error, provider), None)
    })?;
    if parts.status.is_success() {
        permit.answered(&parts.headers);
    }
    let mut live = Live::new(exchange, *format, shared, (&attempt.call, permit));
    live.watch = read.decode.then(|| shared.vault.watch(&attempt.call.principal.account));
    if !parts.status.is_success() {
        let refused = live.refused(&parts).await;
        if let Some(exchange) = live.into_whole() {
            shared.client.keep(exchange).await;
        }
        return Err(refused);
    }
    let stream = read.stream.then(|| format.stream_type());
    let checked = answer::check_head(&parts, stream, &shared.provider.name);
    checked.map_err(|failure| {
        let (provider, call) = (&shared.provider.name, &attempt.call.id);
        let reason = failure.message.as_str();
        tracing::warn!(%provider, %call, reason, "the provider's answer can't be read");
        (failure, None)
    })?;
    live.read_with(format.reader(*read));
    live.start = Start {
        status: parts.status.as_u16(),
        content_type: answer::content_type(&parts).map(str::to_owned).filter(|_| !read.decode),
        headers: answer::visible_headers(&parts.headers, &shared.redactor),
        dropped: dropped.clone(),
        reused_tokens: None,
        output_cap: *output_cap,
        notes,
        begun: None,
    };
    Ok(Box::new(live))
}

#[cfg(test)]
mod tests;
