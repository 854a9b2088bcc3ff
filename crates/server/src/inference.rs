//! Doors of plain model Calls: what a client sent becomes a Call, and its answer HTTP.
//!
//! What differs between such doors is a [`Face`]: the format, and how a request is read. Invariant:
//! an answer's bytes are the target's own wherever they can be; what is written beside them is in
//! headers and in one comment. It must not know a format by name.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use pipeline::{Answer, Elsewhere, Refused};
use types::call::{
    AttemptsAsk, CallKind, Credential, Door, Incoming, ModelCall, NAME_CHARS_MAX, Operation,
};
use types::clock::within;
use types::format::{Format, WriteContext, WriteOptions, WriteResponse};
use types::ids::CallId;
use types::outcome::{OutcomeEvent, Start};
use types::{CommonHeaders, ErrorCode, Failure, TraceParent};

use self::pieces::Pieces;
use self::routed::Routed;
use crate::app::App;
use crate::body::Body;
use crate::request::RequestBody;
use crate::{errors, request};

pub(crate) mod headers;
pub(crate) mod pieces;
pub(crate) mod routed;

/// Random bytes in the id of an answer.
const ID_RANDOM_BYTES: usize = 12;

/// A door of plain model Calls.
#[derive(Debug)]
pub(crate) struct Face {
    /// The format that it speaks.
    pub(crate) format: &'static dyn Format,
    /// Which door it is.
    pub(crate) door: Door,
    /// What ids of its answers begin with.
    pub(crate) id_prefix: &'static str,
    /// A header in which its clients name their session, if they send no `holdfast-session`.
    pub(crate) session_header: Option<&'static str>,
    /// Makes a request of what was sent.
    pub(crate) read: fn(&Parts, Bytes) -> Result<ModelCall, Failure>,
}

/// A request that was received from somebody who is known.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: Parts,
    pub(crate) credential: Credential,
    pub(crate) headers: CommonHeaders,
    pub(crate) body: Bytes,
}

/// Answers a model Call, streamed or not.
pub(crate) async fn create<B: RequestBody>(
    app: Arc<App>,
    request: Request<B>,
    face: &'static Face,
) -> Response<Body> {
    let refuse = |failure| errors::refused(&app.ids, failure);
    let answered = async {
        let received = receive(&app, request, face).await.map_err(refuse)?;
        let model = (face.read)(&received.head, received.body.clone()).map_err(refuse)?;
        answer(&app, face, received, model).await
    };
    answered.await.unwrap_or_else(|refused| errors::response(face.format, &refused))
}

/// Takes a request in.
pub(crate) async fn receive<B: RequestBody>(
    app: &App,
    request: Request<B>,
    face: &Face,
) -> Result<Received, Failure> {
    let (head, body) = request.into_parts();
    let credential = request::credential(&head.headers);
    let mut headers = request::common_headers(&head.headers)?;
    if headers.session_name.is_none() {
        headers.session_name = named(&head.headers, face.session_header);
    }
    // Of doors whose API has words for it.
    headers.attempts = head.extensions.get::<AttemptsAsk>().copied();
    headers.trace = head.extensions.get::<TraceParent>().copied().or(headers.trace);
    // A key that is not known must not make us take a body of 32 MiB.
    app.pipeline.authenticate(&credential).await?;
    let body = request::body(body, app.limits.body_bytes_max, app.clock.as_ref()).await?;
    Ok(Received { head, credential, headers, body })
}

/// The session that a client names in a header of its own. It did not ask us to read it, so that
/// what can't be a name is no mistake.
fn named(headers: &HeaderMap, header: Option<&'static str>) -> Option<String> {
    let name = headers.get(header?)?.to_str().ok()?;
    let fits = !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX;
    fits.then(|| name.to_owned())
}

/// A Call that was admitted.
pub(crate) struct Admitted {
    answer: Answer,
    /// Who has something else to ask until the first content must see how this ends.
    may_begin_early: bool,
}

/// Does the Call.
pub(crate) async fn answer(
    app: &App,
    face: &Face,
    received: Received,
    model: ModelCall,
) -> Result<Response<Body>, Box<Refused>> {
    let admitted = Box::pin(admit(app, face, (received, model), &|_| false)).await?;
    respond(app, face, admitted).await
}

/// Has the Call admitted. Nothing was sent for one that is refused here.
pub(crate) async fn admit(
    app: &App,
    face: &Face,
    (received, model): (Received, ModelCall),
    elsewhere: Elsewhere<'_>,
) -> Result<Admitted, Box<Refused>> {
    let Received { credential, headers, .. } = received;
    let session_name = headers.session_name.clone();
    let may_begin_early = !headers.attempts.is_some_and(|asked| asked.hold);
    let incoming = Incoming {
        credential,
        door: face.door,
        headers,
        step: None,
        parent: None,
        id: None,
        kind: CallKind::Model(model),
    };
    let answer = Box::pin(app.pipeline.run_or(incoming, elsewhere)).await?;
    if let Some(name) = session_name {
        app.sessions.note_named(&answer.call.principal, &name);
    }
    Ok(Admitted { answer, may_begin_early })
}

/// Answers with what comes of a Call.
pub(crate) async fn respond(
    app: &App,
    face: &Face,
    admitted: Admitted,
) -> Result<Response<Body>, Box<Refused>> {
    let Admitted { mut answer, may_begin_early } = admitted;
    let first = match silence(&answer).filter(|_| may_begin_early) {
        Some(silence) => match within(&*app.clock, silence, answer.next()).await {
            Some(first) => first,
            None => return Ok(early(app, face, answer, silence)),
        },
        None => answer.next().await,
    };
    let start = match first {
        Some(OutcomeEvent::Start(start)) => start,
        Some(OutcomeEvent::Failed(failure)) => return Err(refused(&answer, *failure)),
        Some(OutcomeEvent::Frame { .. } | OutcomeEvent::Finish(_)) | None => {
            return Err(no_start(&answer));
        }
    };
    let writer = writer(app, face, &answer);
    if is_stream(&answer) {
        return Ok(streamed(app, face, answer, (&start, writer)));
    }
    whole(app, face, answer, (&start, writer)).await
}

/// Holds a question that is answered here, without a target, to the limits on requests.
pub(crate) async fn count_request(
    app: &App,
    face: &Face,
    received: Received,
    model: ModelCall,
) -> Result<CallId, Box<Refused>> {
    let Received { credential, headers, .. } = received;
    let kind = CallKind::Model(model.for_operation(Operation::CountTokens));
    let (step, parent, id) = (None, None, None);
    let incoming = Incoming { credential, door: face.door, headers, step, parent, id, kind };
    app.pipeline.count_request(incoming).await
}

fn writer(app: &App, face: &Face, answer: &Answer) -> Box<dyn WriteResponse> {
    let model = answer.call.model();
    let head = model.map(|model| &model.head);
    let options = WriteOptions {
        stream: head.is_some_and(|head| head.stream),
        include_usage: head.is_some_and(|head| head.include_usage),
        id: app.ids.hex(face.id_prefix, ID_RANDOM_BYTES),
        model: head.map(|head| head.model.clone()).unwrap_or_default(),
        created: answer.call.started_at,
    };
    let request = model.and_then(|model| model.raw.as_ref());
    face.format.writer_of(options, &WriteContext { request, clock: &app.clock })
}

/// How long the head of an answer may be waited for; `None` = as long as it takes.
///
/// Only a stream can begin before it is known who answers, and only where that may change does its
/// head wait for content.
fn silence(answer: &Answer) -> Option<Duration> {
    let policy = &answer.call.plan.policy;
    (policy.attempts_max > 1 && is_stream(answer)).then_some(policy.keep_alive_after)
}

/// A stream that begins before it is known who answers: proxies and clients see that it lives.
fn early(app: &App, face: &Face, answer: Answer, silence: Duration) -> Response<Body> {
    let mut headers = HeaderMap::new();
    errors::name_call(&mut headers, &answer.call.id);
    tell_limits(app, face, &mut headers, &answer);
    let session = answer.call.session.as_ref().map(AsRef::as_ref);
    headers::insert(&mut headers, headers::SESSION, session);
    let writer = writer(app, face, &answer);
    let with_comments = face.format.takes_comments();
    let pieces = Pieces::new(answer, writer, Arc::clone(&app.clock), with_comments);
    event_stream(headers, pieces.early(silence))
}

fn is_stream(answer: &Answer) -> bool {
    answer.call.model().is_some_and(|model| model.head.stream)
}

fn streamed(
    app: &App,
    face: &Face,
    answer: Answer,
    (start, writer): (&Start, Box<dyn WriteResponse>),
) -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(headers::USUAL);
    describe(app, face, &mut headers, (&answer, start));
    let (with_comments, routed) = (face.format.takes_comments(), routed::of(&answer));
    let pieces = Pieces::new(answer, writer, Arc::clone(&app.clock), with_comments);
    tell(event_stream(headers, pieces.of(start)), routed)
}

/// Tells the door how a route decided.
fn tell(mut response: Response<Body>, routed: Option<Routed>) -> Response<Body> {
    if let Some(routed) = routed {
        response.extensions_mut().insert(routed);
    }
    response
}

fn event_stream(mut headers: HeaderMap, pieces: Pieces) -> Response<Body> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let mut response = Response::new(Body::pieces(pieces));
    *response.headers_mut() = headers;
    response
}

/// A JSON answer is sent when it is whole, so that its cost can stand in its head.
async fn whole(
    app: &App,
    face: &Face,
    mut answer: Answer,
    (start, mut writer): (&Start, Box<dyn WriteResponse>),
) -> Result<Response<Body>, Box<Refused>> {
    let (mut passed, mut out) = (None::<Bytes>, BytesMut::new());
    // A writer may read what was asked: not where nothing is written.
    let mut unwritten = Some(start);
    loop {
        match answer.next().await {
            Some(OutcomeEvent::Start(_)) => {}
            Some(OutcomeEvent::Frame { raw: Some(raw), .. }) => passed = Some(raw),
            Some(OutcomeEvent::Frame { raw: None, delta }) => {
                if let Some(start) = unwritten.take() {
                    writer.start(start, &mut out);
                }
                delta.into_iter().for_each(|delta| writer.delta(&delta, &mut out));
            }
            Some(OutcomeEvent::Finish(finish)) => {
                // An answer that passed as it came is not rendered beside it.
                if passed.is_none() {
                    if let Some(start) = unwritten.take() {
                        writer.start(start, &mut out);
                    }
                    let written = writer.finish(&finish, "", &mut out);
                    written.map_err(|failure| refused(&answer, failure))?;
                }
                break;
            }
            Some(OutcomeEvent::Failed(failure)) => return Err(refused(&answer, *failure)),
            None => return Err(no_start(&answer)),
        }
    }
    let mut headers = HeaderMap::with_capacity(headers::USUAL);
    describe(app, face, &mut headers, (&answer, start));
    headers::bill(&mut headers, &answer.bill());
    let content_type = start.content_type.as_deref().filter(|_| passed.is_some());
    let json = HeaderValue::from_static("application/json");
    let content_type =
        content_type.and_then(|text| HeaderValue::from_str(text).ok()).unwrap_or(json);
    headers.insert(CONTENT_TYPE, content_type);
    let mut response = Response::new(Body::whole(passed.unwrap_or_else(|| out.freeze())));
    *response.headers_mut() = headers;
    Ok(tell(response, routed::of(&answer)))
}

/// What is left of our limits on rate, if the Call falls under one.
fn tell_limits(app: &App, face: &Face, headers: &mut HeaderMap, answer: &Answer) {
    if let Some(headroom) = app.pipeline.headroom(&answer.call) {
        headers::limits(headers, face.format, &headroom);
    }
}

/// What is known when the answer begins.
fn describe(app: &App, face: &Face, headers: &mut HeaderMap, (answer, start): (&Answer, &Start)) {
    for (name, value) in &start.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    tell_limits(app, face, headers, answer);
    errors::name_call(headers, &answer.call.id);
    headers::insert(headers, headers::MODEL, Some(&answer.target().name));
    let session = answer.call.session.as_ref().map(AsRef::as_ref);
    headers::insert(headers, headers::SESSION, session);
    let bill = answer.bill();
    headers::terms(headers, &start.dropped, bill.output_cap);
    headers::insert(headers, headers::CONTEXT, bill.context.as_deref());
    headers::insert(headers, headers::CASCADE, bill.cascade.as_deref());
    headers::insert(headers, headers::TIER, bill.tier.as_deref());
}

fn refused(answer: &Answer, failure: Failure) -> Box<Refused> {
    Box::new(Refused { call: answer.call.id.clone(), failure })
}

fn no_start(answer: &Answer) -> Box<Refused> {
    refused(
        answer,
        Failure::new(ErrorCode::Internal, "the target's answer had no beginning or no end"),
    )
}
