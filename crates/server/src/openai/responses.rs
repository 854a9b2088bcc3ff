//! `/v1/responses`: made, read, picked up, cancelled and deleted. What they do is `sessions`'
//! business, but for a response of which nothing is kept and which continues nothing that is: that
//! is a plain model Call like those of other doors, whose bytes pass through to a target that
//! speaks this API.

use std::sync::Arc;

use bytes::Bytes;
use formats::openai_responses::{OPENAI_RESPONSES, parse_create, plain_head};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming as HyperBody;
use pipeline::{Asking, Refused};
use serde::Deserialize;
use serde_json::{Value, json};
use sessions::{ItemPage, PostIdentity, Turn};
use types::call::{AttemptsAsk, Door, ModelCall};
use types::format::Format;
use types::{CommonHeaders, ErrorCode, Failure, Principal, TraceParent};

use super::events::Events;
use crate::app::App;
use crate::body::Body;
use crate::delivery::Deliveries;
use crate::inference::{self, Face, Received, headers};
use crate::request::RequestBody;
use crate::{errors, request, router};

static FACE: Face = Face {
    format: &OPENAI_RESPONSES,
    door: Door::OpenaiResponses,
    id_prefix: "resp_",
    session_header: None,
    read: read_call,
};

/// The field of what a provider may run of its own.
const TOOLS: &str = "tools";

fn read_call(_head: &Parts, body: Bytes) -> Result<ModelCall, Failure> {
    Ok(ModelCall::from_raw(&OPENAI_RESPONSES, OPENAI_RESPONSES.read_head(&body)?, body))
}

/// `POST /v1/responses`.
pub(crate) async fn create<B: RequestBody>(
    app: Arc<App>,
    deliveries: Deliveries,
    request: Request<B>,
) -> Response<Body> {
    match start(&app, deliveries, request).await {
        Ok(response) => response,
        Err(refused) => errors::response(&OPENAI_RESPONSES, &refused),
    }
}

async fn start<B: RequestBody>(
    app: &App,
    deliveries: Deliveries,
    request: Request<B>,
) -> Result<Response<Body>, Box<Refused>> {
    let refuse = |failure| errors::refused(&app.ids, failure);
    let (head, body) = request.into_parts();
    let principal =
        app.pipeline.authenticate(&request::credential(&head.headers)).await.map_err(refuse)?;
    let mut post = identity(&head).map_err(refuse)?;
    post.body =
        request::body(body, app.limits.body_bytes_max, app.clock.as_ref()).await.map_err(refuse)?;
    if let Some(known) = plain_head(&post.body).map_err(refuse)? {
        let model = ModelCall::from_raw(&OPENAI_RESPONSES, known, post.body.clone());
        let mut headers = post.headers.clone();
        headers.attempts = head.extensions.get::<AttemptsAsk>().copied();
        let (credential, body) = (request::credential(&head.headers), post.body.clone());
        let received = Received { head, credential, headers, body };
        let has_unbounded = model.head.surcharge == Some(TOOLS);
        // What a provider runs of its own has no bound, and coding agents offer it unasked: they
        // work without it, and are told.
        let elsewhere = |failure: &Failure| {
            has_unbounded && is_about_tools(failure) && parse_create(&post.body).is_ok()
        };
        match Box::pin(inference::admit(app, &FACE, (received, model), &elsewhere)).await {
            Ok(admitted) => return inference::respond(app, &FACE, admitted).await,
            Err(refused) if elsewhere(&refused.failure) => {}
            Err(refused) => return Err(refused),
        }
    }
    let create = parse_create(&post.body).map_err(refuse)?;
    let (stream, background) = (create.stream, create.background);
    let model = create.model.clone();
    let door = if create.store { Door::Session } else { Door::OpenaiResponses };
    let (class, task) = (post.headers.class.clone(), post.headers.task.clone());
    let turn = Box::pin(app.sessions.create(&principal, create, post)).await?;
    let session = turn.session_root().cloned();
    let answered = match (stream, background) {
        (true, _) => Ok(streamed(deliveries, turn, &model)),
        (false, true) => Ok(taken(deliveries, turn, &model)),
        (false, false) => finished(deliveries, turn, &model).await,
    };
    let asking = Asking {
        principal: &principal,
        class: class.as_deref().unwrap_or_default(),
        model: &model,
        plan: "",
        session: session.as_ref(),
        task: task.as_deref(),
    };
    answered.map(|mut response| {
        if let Some(headroom) = app.pipeline.headroom_at(door, asking) {
            headers::limits(response.headers_mut(), &OPENAI_RESPONSES, &headroom);
        }
        response
    })
}

/// Whether a request was refused because of what its tools may cost.
fn is_about_tools(failure: &Failure) -> bool {
    failure.code == ErrorCode::Unsupported && failure.param.as_deref() == Some(TOOLS)
}

/// Runs a change to its end, whether or not its client stays.
async fn detached<T: Send + 'static>(
    app: &App,
    change: impl Future<Output = T> + Send + 'static,
) -> Result<T, Failure> {
    let done = app.tracker.spawn(change).await;
    done.map_err(|error| {
        tracing::error!(%error, "a change broke off");
        Failure::new(ErrorCode::Internal, "the change broke off; the log says how")
    })
}

/// By what an equal POST is recognised.
fn identity(head: &Parts) -> Result<PostIdentity, Failure> {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let idempotency_key = text("idempotency-key").map(str::to_owned);
    Ok(PostIdentity {
        idempotency_key,
        retry_count: text("x-stainless-retry-count")
            .and_then(|count| count.parse().ok())
            .unwrap_or(0),
        path: head.uri.path().to_owned(),
        body: Bytes::new(),
        headers: {
            let headers = request::common_headers(&head.headers)?;
            let trace = head.extensions.get::<TraceParent>().copied().or(headers.trace);
            CommonHeaders { trace, ..headers }
        },
    })
}

fn streamed(deliveries: Deliveries, turn: Turn, model: &str) -> Response<Body> {
    let mut headers = describe(&turn, model);
    sse(&mut headers);
    let events = turn.subscribe();
    let mut response = Response::new(Body::pieces(Events::of_turn(turn, events, deliveries)));
    *response.headers_mut() = headers;
    response
}

/// A background turn's own answer is that it was taken: who has that has no reason to send the POST
/// again.
fn taken(deliveries: Deliveries, turn: Turn, model: &str) -> Response<Body> {
    let (answer, headers) = (turn.snapshot(), describe(&turn, model));
    noted(&answer, headers, deliveries, turn)
}

async fn finished(
    deliveries: Deliveries,
    turn: Turn,
    model: &str,
) -> Result<Response<Body>, Box<Refused>> {
    let answer = match turn.wait().await {
        Ok(answer) => answer,
        Err(failure) => return Ok(broken(&turn, *failure, model)),
    };
    let mut headers = describe(&turn, model);
    headers::bill(&mut headers, &turn.bill());
    Ok(noted(&answer, headers, deliveries, turn))
}

/// A whole answer whose delivery is remembered.
fn noted(
    answer: &Value,
    mut headers: HeaderMap,
    deliveries: Deliveries,
    turn: Turn,
) -> Response<Body> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = Body::noted(answer.to_string(), deliveries, Box::new(move || turn.delivered()));
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// A turn that ended in an error, or fell in doubt: not to be sent again, since its steps have
/// begun.
fn broken(turn: &Turn, failure: Failure, model: &str) -> Response<Body> {
    let again = failure.code == ErrorCode::Unavailable;
    let refused = Refused { call: turn.call_id().clone(), failure };
    let mut response = errors::response(&OPENAI_RESPONSES, &refused);
    response.headers_mut().extend(describe(turn, model));
    if !again {
        errors::forbid_retry(response.headers_mut());
    }
    response
}

/// What is known of a turn so far.
fn describe(turn: &Turn, model: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    errors::name_call(&mut headers, turn.call_id());
    headers::insert(&mut headers, headers::SESSION, turn.session_id().map(AsRef::as_ref));
    headers::insert(&mut headers, headers::MODEL, Some(model));
    let bill = turn.bill();
    headers::terms(&mut headers, &bill.dropped, bill.output_cap);
    headers::insert(&mut headers, headers::CONTEXT, bill.context.as_deref());
    headers::insert(&mut headers, headers::TIER, bill.tier.as_deref());
    headers
}

fn sse(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
}

fn whole(value: &Value, mut headers: HeaderMap) -> Response<Body> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = Response::new(Body::whole(value.to_string()));
    *response.headers_mut() = headers;
    response
}

/// `/v1/responses/{id}` and what lies below it.
pub(crate) async fn one(app: Arc<App>, request: Request<HyperBody>, below: &str) -> Response<Body> {
    let (id, action) = below.split_once('/').unwrap_or((below, ""));
    let methods = match action {
        "" => "GET, DELETE",
        "cancel" => "POST",
        "input_items" => "GET",
        _ => return router::not_found(&app, request.uri().path()),
    };
    let method = request.method().clone();
    if !methods.split(", ").any(|known| known == method.as_str()) {
        return router::method_not_allowed(&app, request.uri().path(), methods);
    }
    match act(&app, &request, id, action, &method).await {
        Ok(response) => response,
        Err(failure) => errors::response(&OPENAI_RESPONSES, &errors::refused(&app.ids, failure)),
    }
}

async fn act(
    app: &App,
    request: &Request<HyperBody>,
    id: &str,
    action: &str,
    method: &Method,
) -> Result<Response<Body>, Failure> {
    let principal = app.pipeline.authenticate(&request::credential(request.headers())).await?;
    let query = request.uri().query().unwrap_or_default();
    match (action, method) {
        ("cancel", _) => {
            let (sessions, id) = (Arc::clone(&app.sessions), id.to_owned());
            let cancel = async move { sessions.cancel(&principal, &id).await };
            Ok(whole(&detached(app, cancel).await??, HeaderMap::new()))
        }
        ("input_items", _) => {
            let page = page(query)?;
            Ok(whole(&app.sessions.input_items(&principal, id, &page).await?, HeaderMap::new()))
        }
        (_, &Method::DELETE) => {
            let (sessions, gone) = (Arc::clone(&app.sessions), id.to_owned());
            detached(app, async move { sessions.delete(&principal, &gone).await }).await??;
            Ok(whole(&json!({ "id": id, "object": "response", "deleted": true }), HeaderMap::new()))
        }
        _ => read(app, &principal, id, query).await,
    }
}

/// What `GET /v1/responses/{id}` may be asked. `include` and `include_obfuscation` change nothing
/// here.
#[derive(Debug, Default, Deserialize)]
struct Read {
    #[serde(default)]
    stream: bool,
    starting_after: Option<u64>,
}

async fn read(
    app: &App,
    principal: &Principal,
    id: &str,
    query: &str,
) -> Result<Response<Body>, Failure> {
    let read: Read = parsed(query)?;
    if !read.stream {
        return Ok(whole(&app.sessions.get(principal, id).await?, HeaderMap::new()));
    }
    let events = app.sessions.events(principal, id, read.starting_after).await?;
    let mut headers = HeaderMap::new();
    sse(&mut headers);
    let mut response = Response::new(Body::pieces(Events::of_stored(events.boxed())));
    *response.headers_mut() = headers;
    Ok(response)
}

/// OpenAI's paging parameters.
#[derive(Debug, Default, Deserialize)]
struct Paging {
    after: Option<String>,
    limit: Option<usize>,
    order: Option<String>,
}

fn page(query: &str) -> Result<ItemPage, Failure> {
    let paging: Paging = parsed(query)?;
    let ascending = match paging.order.as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Failure::invalid("order", "order must be \"asc\" or \"desc\"")),
    };
    Ok(ItemPage { after: paging.after, limit: paging.limit, ascending })
}

fn parsed<T: serde::de::DeserializeOwned>(query: &str) -> Result<T, Failure> {
    serde_urlencoded::from_str(query)
        .map_err(|error| Failure::invalid("query", format!("the query is wrong: {error}")))
}
