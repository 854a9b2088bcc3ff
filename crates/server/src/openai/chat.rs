//! `POST /v1/chat/completions`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use formats::openai_chat::OPENAI_CHAT;
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming as HyperBody;
use pipeline::{Answer, Refused};
use types::call::{CallKind, Door, Incoming, ModelCall};
use types::format::{Format, WriteOptions, WriteResponse};
use types::outcome::{OutcomeEvent, Start};
use types::{ErrorCode, Failure};

use super::headers;
use super::pieces::Pieces;
use crate::app::App;
use crate::body::Body;
use crate::{errors, request};

/// Random bytes in the id of a completion.
const ID_RANDOM_BYTES: usize = 12;

/// Answers a chat completion, streamed or not.
pub(crate) async fn create(app: Arc<App>, request: Request<HyperBody>) -> Response<Body> {
    match answer(&app, request).await {
        Ok(response) => response,
        Err(refused) => errors::response(&OPENAI_CHAT, &refused),
    }
}

async fn answer(app: &App, request: Request<HyperBody>) -> Result<Response<Body>, Box<Refused>> {
    let incoming =
        read(app, request).await.map_err(|failure| errors::refused(&app.ids, failure))?;
    let session_name = incoming.headers.session_name.clone();
    let mut answer = Box::pin(app.pipeline.run(incoming)).await?;
    if let Some(name) = session_name {
        app.sessions.note_named(&answer.call.principal, &name);
    }
    let start = match answer.next().await {
        Some(OutcomeEvent::Start(start)) => start,
        Some(OutcomeEvent::Failed(failure)) => return Err(refused(&answer, *failure)),
        Some(OutcomeEvent::Frame { .. } | OutcomeEvent::Finish(_)) | None => {
            return Err(no_start(&answer));
        }
    };
    let writer = OPENAI_CHAT.writer(write_options(app, &answer));
    if is_stream(&answer) {
        return Ok(streamed(app, answer, &start, writer));
    }
    whole(answer, &start, writer).await
}

async fn read(app: &App, request: Request<HyperBody>) -> Result<Incoming, Failure> {
    let (head, body) = request.into_parts();
    let credential = request::credential(&head.headers);
    let headers = request::common_headers(&head.headers)?;
    // A key that is not known must not make us take a body of 32 MiB.
    app.pipeline.authenticate(&credential).await?;
    let raw = request::body(body, app.limits.body_bytes_max, app.clock.as_ref()).await?;
    let model = ModelCall::from_raw(&OPENAI_CHAT, OPENAI_CHAT.read_head(&raw)?, raw);
    Ok(Incoming {
        credential,
        door: Door::OpenaiChat,
        headers,
        step: None,
        parent: None,
        id: None,
        kind: CallKind::Model(model),
    })
}

fn write_options(app: &App, answer: &Answer) -> WriteOptions {
    let head = answer.call.model().map(|model| &model.head);
    WriteOptions {
        stream: head.is_some_and(|head| head.stream),
        include_usage: head.is_some_and(|head| head.include_usage),
        id: app.ids.hex("chatcmpl-", ID_RANDOM_BYTES),
        model: head.map(|head| head.model.clone()).unwrap_or_default(),
        created: answer.call.started_at,
    }
}

fn is_stream(answer: &Answer) -> bool {
    answer.call.model().is_some_and(|model| model.head.stream)
}

fn streamed(
    app: &App,
    answer: Answer,
    start: &Start,
    writer: Box<dyn WriteResponse>,
) -> Response<Body> {
    let mut headers = HeaderMap::new();
    describe(&mut headers, &answer, start);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let mut response =
        Response::new(Body::pieces(Pieces::new(answer, start, writer, Arc::clone(&app.clock))));
    *response.headers_mut() = headers;
    response
}

/// A JSON answer is sent when it is whole, so that its cost can stand in its head.
async fn whole(
    mut answer: Answer,
    start: &Start,
    mut writer: Box<dyn WriteResponse>,
) -> Result<Response<Body>, Box<Refused>> {
    let (mut passed, mut out) = (None::<Bytes>, BytesMut::new());
    writer.start(start, &mut out);
    loop {
        match answer.next().await {
            Some(OutcomeEvent::Start(_)) => {}
            Some(OutcomeEvent::Frame { raw: Some(raw), .. }) => passed = Some(raw),
            Some(OutcomeEvent::Frame { raw: None, delta }) => {
                delta.into_iter().for_each(|delta| writer.delta(&delta, &mut out));
            }
            Some(OutcomeEvent::Finish(finish)) => {
                // An answer that passed as it came is not rendered beside it.
                if passed.is_none() {
                    writer.finish(&finish, "", &mut out);
                }
                break;
            }
            Some(OutcomeEvent::Failed(failure)) => return Err(refused(&answer, *failure)),
            None => return Err(no_start(&answer)),
        }
    }
    let mut headers = HeaderMap::new();
    describe(&mut headers, &answer, start);
    headers::bill(&mut headers, &answer.bill());
    let content_type = start.content_type.as_deref().filter(|_| passed.is_some());
    let json = HeaderValue::from_static("application/json");
    let content_type =
        content_type.and_then(|text| HeaderValue::from_str(text).ok()).unwrap_or(json);
    headers.insert(CONTENT_TYPE, content_type);
    let mut response = Response::new(Body::whole(passed.unwrap_or_else(|| out.freeze())));
    *response.headers_mut() = headers;
    Ok(response)
}

/// What is known when the answer begins.
fn describe(headers: &mut HeaderMap, answer: &Answer, start: &Start) {
    for (name, value) in &start.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    errors::name_call(headers, &answer.call.id);
    let target = answer.call.plan.targets.first().map(|target| target.name.as_ref());
    headers::insert(headers, "holdfast-model", target);
    headers::insert(headers, "holdfast-session", answer.call.session.as_ref().map(AsRef::as_ref));
    headers::terms(headers, &start.dropped, answer.bill().output_cap);
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
