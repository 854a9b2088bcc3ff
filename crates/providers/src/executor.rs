//! A model Call as one HTTP exchange.
//!
//! The request is the client's own bytes with a few edits where its format is the provider's, else
//! rendered from the neutral form. The answer's bytes go through the format's reader, which finds
//! its end, its usage and what went wrong. One attempt is one request: redirects are not followed
//! and nothing is tried twice.
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

use futures_core::Stream;
use types::clock::SharedClock;
use types::outcome::{OutcomeEvent, OutcomeStream, Start};
use types::{Attempt, Execute, Failure};

use self::answer::{Live, Step};
use self::request::{Prepared, Template};
use crate::http::Client;
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
/// is one for all providers: a conversation may go on at another one.
pub fn executor(provider: Provider, clock: SharedClock, vault: Vault) -> Arc<dyn Execute> {
    let client = Client::new(provider.base_url().clone(), provider.timeouts, Arc::clone(&clock));
    let template = Template::new(&provider);
    let redactor = provider.redactor();
    let shared = Shared { provider, client, template, redactor, clock, vault };
    Arc::new(HttpExecutor { shared: Arc::new(shared) })
}

impl Execute for HttpExecutor {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        let shared = Arc::clone(&self.shared);
        let begun = Box::pin(begin(Arc::clone(&shared), attempt));
        Box::pin(Running { shared, state: State::Beginning(begun), events: VecDeque::new() })
    }
}

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

/// Sends the request and judges the head of its answer.
async fn begin(shared: Arc<Shared>, attempt: Attempt) -> Result<Box<Live>, Failure> {
    let prepared = request::prepare(&shared, &attempt)?;
    let Prepared { request, format, read, dropped, output_cap } = prepared;
    let deadline = attempt.call.deadline;
    let sent = Box::pin(shared.client.send(request, deadline)).await;
    let (parts, exchange) = sent.map_err(|error| {
        let (provider, call) = (&shared.provider.name, &attempt.call.id);
        tracing::warn!(%provider, %call, %error, "no answer from the provider");
        answer::unanswered(&error, provider)
    })?;
    let mut live = Live::new(exchange, format, &shared, &attempt.call);
    live.watch = read.decode.then(|| shared.vault.watch(&attempt.call.principal.account));
    if !parts.status.is_success() {
        let failure = live.refused(&parts).await;
        if let Some(exchange) = live.into_whole() {
            shared.client.keep(exchange).await;
        }
        return Err(failure);
    }
    let stream = read.stream.then(|| format.stream_type());
    answer::check_head(&parts, stream, &shared.provider.name).inspect_err(|failure| {
        let (provider, call) = (&shared.provider.name, &attempt.call.id);
        let reason = failure.message.as_str();
        tracing::warn!(%provider, %call, reason, "the provider's answer can't be read");
    })?;
    live.read_with(format.reader(read));
    live.start = Start {
        status: parts.status.as_u16(),
        content_type: answer::content_type(&parts).map(str::to_owned).filter(|_| !read.decode),
        headers: answer::visible_headers(&parts.headers, &shared.redactor),
        dropped,
        reused_tokens: None,
        output_cap,
    };
    Ok(Box::new(live))
}

#[cfg(test)]
mod tests;
