//! The request of an attempt: its body by the shortest way, and its headers.

use std::sync::Arc;

use ::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use ::http::{Method, Request};
use bytes::Bytes;
use formats::{OPENAI_CHAT, OPENAI_RESPONSES};
use http_body_util::Full;
use types::call::{ModelCall, Operation, WireContext};
use types::conversation::Part;
use types::format::{Edits, Format, Quirks, ReadOptions, Rendered};
use types::{Attempt, Conversation, ErrorCode, Failure};

use super::Shared;
use crate::family::{Family, Fitted, family, fit, fit_marks, needs_responses};
use crate::provider::Provider;
use crate::trace::traceparent;

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const ATTEMPT: HeaderName = HeaderName::from_static("holdfast-attempt");

/// What every request to a provider has in common.
pub(super) struct Template {
    headers: HeaderMap,
    /// The path of the base URL, without a slash at its end.
    pub(super) prefix: String,
}

impl Template {
    pub(super) fn new(provider: &Provider) -> Self {
        let mut headers = HeaderMap::with_capacity(12);
        // A test holds that every row's headers can be sent.
        let of_the_row = provider.vendor.headers.iter().filter_map(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value).ok()?))
        });
        headers.extend(of_the_row);
        let url = provider.base_url();
        let host = url.authority().map(::http::uri::Authority::as_str).unwrap_or_default();
        // An authority is a valid header value, so nothing is lost here.
        headers.extend(HeaderValue::from_str(host).ok().map(|host| (HOST, host)));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let agent = concat!("holdfast/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        // Bytes are passed on as they come, and read: a compressed answer could not be.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Self { headers, prefix: url.path().trim_end_matches('/').to_owned() }
    }
}

/// A request, and how its answer is to be read.
pub(super) struct Prepared {
    pub(super) request: Request<Full<Bytes>>,
    pub(super) format: &'static dyn Format,
    pub(super) read: ReadOptions,
    pub(super) dropped: Vec<String>,
    pub(super) output_cap: Option<u64>,
}

impl Prepared {
    /// Refuses what a strict Call's target can't be told.
    pub(super) fn strictly(self, attempt: &Attempt) -> Result<Self, Failure> {
        if attempt.call.is_strict() && !self.dropped.is_empty() {
            return Err(Failure::not_told(&self.dropped, &attempt.target.name));
        }
        Ok(self)
    }
}

/// What a request tells its model of what it thought before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thoughts {
    /// All that its vendor signed.
    Told,
    /// None, since this provider can't read them.
    Withheld,
}

/// Makes the request of an attempt.
pub(super) fn prepare(
    shared: &Shared,
    attempt: &Attempt,
    thoughts: Thoughts,
) -> Result<Prepared, Failure> {
    let (provider, template) = (&shared.provider, &shared.template);
    let Some(call) = attempt.call.model() else {
        return Err(Failure::new(ErrorCode::Internal, "a provider was given a Call of no model"));
    };
    // A request that passes through needs none.
    let family = || family(&provider.vendor.name, &attempt.target.upstream_model);
    let format = spoken(provider, &family, attempt, call);
    let stream = call.head.stream;
    let edits = Edits {
        model: &attempt.target.upstream_model,
        output_cap: lower_cap(attempt.output_cap, call.head.output_cap),
        stream,
        // The bill needs it, whether the client wants it or not.
        request_usage: stream,
        logprobs: attempt.logprobs,
        continues: attempt.continues,
        operation: call.operation,
        output_max: attempt.target.output_tokens_max,
        quirks: Some(&provider.vendor.quirks),
    };
    let same = call.format.name() == format.name();
    let Some(path) = format.path(&edits) else {
        let what = match call.operation {
            Operation::Chat => "chat",
            Operation::CountTokens => "counting of tokens",
            Operation::Embed => "embeddings",
        };
        let text = format!(
            "the model {} is at the provider {}, whose API ({}) has no {what}",
            attempt.target.name,
            provider.name,
            format.name()
        );
        return Err(Failure::unsupported("model", text));
    };
    let raw = as_it_is(provider, format, attempt).filter(|_| thoughts == Thoughts::Told);
    let (rendered, through) = match raw {
        Some(raw) => {
            let body = format.patch_request(raw, &call.head, &edits);
            (Rendered { body, ..Rendered::default() }, true)
        }
        None => {
            let asked = told(shared, format, attempt, thoughts)?;
            (render(format, family(), &asked, &edits)?, false)
        }
    };
    let nothing = WireContext::default();
    let wire = if same { &call.wire } else { &nothing };
    let query = wire.query.map(|query| format!("?{query}")).unwrap_or_default();
    let has_own_path = edits.continues && provider.vendor.quirks.prefix_path.is_some();
    let prefix = if has_own_path { "" } else { &template.prefix };
    let mut request = new_request(&format!("{prefix}{path}{query}"), rendered.body.clone())?;
    *request.headers_mut() = headers(shared, attempt, stream.then(|| format.stream_type()))?;
    add_headers(&mut request, rendered.headers.iter().chain(&wire.headers))?;
    if let Some(signer) = provider.signer() {
        let signed = signer.sign(&mut request, &rendered.body, shared.clock.now());
        signed.map_err(|_| unsendable())?;
    }
    Ok(Prepared {
        request,
        format,
        read: ReadOptions {
            stream,
            decode: attempt.decode || !through,
            withhold_usage: stream && !call.head.include_usage,
            operation: call.operation,
            hold_preamble: attempt.hold_preamble,
        },
        dropped: rendered.dropped,
        output_cap: rendered.output_cap,
    })
}

/// The format that the request goes out in: the target's; or, of a vendor that has both, the
/// Responses API where that is what the client speaks (chat completions would lose what the model
/// thought), and where the model does not do by chat completions what is asked.
fn spoken(
    provider: &Provider,
    family: &dyn Fn() -> Option<&'static Family>,
    attempt: &Attempt,
    call: &ModelCall,
) -> &'static dyn Format {
    let format = attempt.target.format.unwrap_or_else(|| provider.vendor.format());
    let chat = format.name() == OPENAI_CHAT.name() && call.operation == Operation::Chat;
    let elsewhere = chat && provider.vendor.responses;
    let is_needed = || {
        !provider.vendor.chat_is_whole
            && family().is_some_and(|family| needs_responses(family, call))
    };
    if elsewhere && (call.format.name() == OPENAI_RESPONSES.name() || is_needed()) {
        return &OPENAI_RESPONSES;
    }
    format
}

/// The client's own bytes, where they can be sent.
fn as_it_is<'a>(
    provider: &Provider,
    format: &'static dyn Format,
    attempt: &'a Attempt,
) -> Option<&'a Bytes> {
    let call = attempt.call.model()?;
    let own = attempt.target.format.unwrap_or_else(|| provider.vendor.format());
    let knows_it = format.name() == own.name() || provider.vendor.responses_as_is;
    if call.format.name() != format.name() || !knows_it {
        return None;
    }
    // Its own vendor would refuse what another one signed: then it is told without.
    call.raw.as_ref().filter(|raw| !formats::is_carried(format.name(), raw))
}

/// The conversation that is rendered.
fn told(
    shared: &Shared,
    format: &'static dyn Format,
    attempt: &Attempt,
    thoughts: Thoughts,
) -> Result<Arc<Conversation>, Failure> {
    let missing = || Failure::new(ErrorCode::Internal, "a provider was given a Call of no model");
    let asked = attempt.call.model().ok_or_else(missing)?.neutral()?;
    if thoughts == Thoughts::Withheld {
        return Ok(Arc::new(unsigned(&asked)));
    }
    let account = &attempt.call.principal.account;
    let whole = shared.vault.complete(account, format.name(), &asked);
    Ok(whole.map_or(asked, Arc::new))
}

/// The conversation without its reasoning's signatures: a format drops what has none, and says so.
fn unsigned(conversation: &Conversation) -> Conversation {
    let mut bare = conversation.clone();
    for part in bare.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let Part::Reasoning { signature, .. } = part {
            *signature = None;
        }
    }
    bare
}

/// What is asked, as far as the model takes it, in the provider's format.
fn render(
    format: &'static dyn Format,
    family: Option<&Family>,
    asked: &Conversation,
    edits: &Edits<'_>,
) -> Result<Rendered, Failure> {
    let own = Quirks::default();
    let quirks = edits.quirks.unwrap_or(&own);
    let Fitted { conversation, mut dropped } = fit_marks(format.name(), quirks, family, asked);
    let is_chat = format.name() == OPENAI_CHAT.name();
    let fitted = family.map(|family| fit(family, is_chat, &conversation)).transpose()?;
    let mut rendered = match fitted {
        None => format.render_request(&conversation, edits)?,
        Some(fitted) => {
            dropped.extend(fitted.dropped);
            format.render_request(&fitted.conversation, edits)?
        }
    };
    dropped.retain(|name| !rendered.dropped.contains(name));
    rendered.dropped.extend(dropped);
    Ok(rendered)
}

/// The cap to set: none where the client's own is as low.
fn lower_cap(cap: Option<u64>, client: Option<u64>) -> Option<u64> {
    cap.filter(|cap| client.is_none_or(|client| client > *cap))
}

fn new_request(uri: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.parse().map_err(|_| unsendable())?;
    Ok(request)
}

/// What every request of this kind says.
fn headers(
    shared: &Shared,
    attempt: &Attempt,
    stream: Option<&'static str>,
) -> Result<HeaderMap, Failure> {
    let mut headers = shared.template.headers.clone();
    let accept = stream.unwrap_or("application/json");
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| unsendable());
    headers.insert(CLIENT_REQUEST_ID, value(attempt.call.id.as_str())?);
    headers.insert(ATTEMPT, value(attempt.id.as_str())?);
    if let Some(sampling) = shared.provider.trace_sampling {
        headers.insert(TRACEPARENT, value(&traceparent(attempt, sampling))?);
    }
    Ok(headers)
}

/// Says what the format wants said of this request, and the client over it: the last one counts.
fn add_headers<'a>(
    request: &mut Request<Full<Bytes>>,
    more: impl Iterator<Item = &'a (&'static str, String)>,
) -> Result<(), Failure> {
    for (name, value) in more {
        let value = HeaderValue::from_str(value).map_err(|_| unsendable())?;
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(())
}

fn unsendable() -> Failure {
    Failure::new(ErrorCode::Internal, "the request has a header that can't be sent")
}
