//! The doors of Google's Gemini API.
//!
//! The model and what is asked of it are in the path, `models/{model}:{method}`, below `/v1beta`;
//! under `/v1` too, where no other API has such a path. A model's name holds slashes, which clients
//! encode or not. The key may be in the query, as Google's own examples have it.

use std::sync::Arc;

use bytes::Bytes;
use formats::gemini::GEMINI;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming as HyperBody;
use types::call::{Door, ModelCall};
use types::format::Format;
use types::{ErrorCode, Failure};

use self::list::Listed;
use crate::app::App;
use crate::body::Body;
use crate::inference::{self, Face};
use crate::openai::percent_decoded;
use crate::request::RequestBody;
use crate::router;

mod count_tokens;
mod list;
mod models;

/// Renders errors of these doors.
pub(crate) static ERRORS: &dyn Format = &GEMINI;

static FACE: Face =
    Face { format: &GEMINI, door: Door::Gemini, id_prefix: "", session_header: None, read };

/// The header in which its clients send the key.
const KEY: &str = "x-goog-api-key";
/// The parameter in which they may, too.
const KEY_PARAMETER: &str = "key";

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Generate,
    Stream,
    Count,
}

impl What {
    fn named(method: &str) -> Option<Self> {
        match method {
            "generateContent" => Some(Self::Generate),
            "streamGenerateContent" => Some(Self::Stream),
            "countTokens" => Some(Self::Count),
            _ => None,
        }
    }
}

/// Whether a path is one of this API and of no other.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/v1beta/") || asked(path).is_some()
}

/// Whether a request to a path that several APIs have is one of this API.
pub(crate) fn is_spoken(headers: &HeaderMap) -> bool {
    headers.contains_key(KEY)
}

/// The model's name, as it is in the path, and what is asked of it.
fn asked(path: &str) -> Option<(&str, What)> {
    let (name, method) = below(path).strip_prefix("models/")?.rsplit_once(':')?;
    Some((name, What::named(method)?)).filter(|(name, _)| !name.is_empty())
}

/// What stands below the version.
fn below(path: &str) -> &str {
    let rest = path.strip_prefix("/v1beta/").or_else(|| path.strip_prefix("/v1/"));
    rest.unwrap_or_default().trim_end_matches('/')
}

/// Answers what is asked of this API.
pub(crate) async fn route(app: Arc<App>, mut request: Request<HyperBody>) -> Response<Body> {
    take_key(&mut request);
    let path = request.uri().path().to_owned();
    if asked(&path).is_some() {
        return router::only(&app, &Method::POST, request, ask).await;
    }
    match below(&path).split_once('/') {
        None if below(&path) == "models" => {
            router::only(&app, &Method::GET, request, models::list).await
        }
        Some(("models", name)) => {
            let name = percent_decoded(name);
            let get = |app, request| models::get(app, request, name);
            router::only(&app, &Method::GET, request, get).await
        }
        _ => router::not_found(&app, &path),
    }
}

/// Answers what is asked of a model, wherever the request came from.
pub(crate) async fn ask<B: RequestBody>(app: Arc<App>, request: Request<B>) -> Response<Body> {
    match asked(request.uri().path()).map(|(_, what)| what) {
        Some(What::Generate) => generate(app, request).await,
        Some(What::Stream) => stream(app, request).await,
        Some(What::Count) => count_tokens::create(app, request).await,
        None => router::not_found(&app, request.uri().path()),
    }
}

async fn generate<B: RequestBody>(app: Arc<App>, request: Request<B>) -> Response<Body> {
    inference::create(app, request, &FACE).await
}

/// A stream of events, or of the elements of one JSON list: a client asks for events by `alt=sse`.
async fn stream<B: RequestBody>(app: Arc<App>, request: Request<B>) -> Response<Body> {
    let as_events = parameter(request.uri().query(), "alt").is_some_and(|alt| alt == "sse");
    let response = inference::create(app, request, &FACE).await;
    if as_events {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = match body {
        Body::Pieces(events) => {
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Body::pieces(Listed::new(events))
        }
        other @ (Body::Whole(..) | Body::Axum(_)) => other,
    };
    Response::from_parts(head, body)
}

fn read(head: &Parts, body: Bytes) -> Result<ModelCall, Failure> {
    let path = head.uri.path();
    let Some((model, what)) = asked(path) else {
        return Err(Failure::new(ErrorCode::NotFound, format!("there is nothing at {path}")));
    };
    let mut fields = GEMINI.read_head(&body)?;
    fields.model = percent_decoded(model);
    fields.stream = what == What::Stream;
    Ok(ModelCall::from_raw(&GEMINI, fields, body))
}

/// A parameter of a query.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(given, _)| *given == name).map(|(_, value)| percent_decoded(value))
}

/// Puts a key that is in the query where all others are. Two that differ are as good as none.
fn take_key(request: &mut Request<HyperBody>) {
    let Some(key) = parameter(request.uri().query(), KEY_PARAMETER) else { return };
    let headers = request.headers_mut();
    let none = HeaderValue::from_static("");
    let same = headers.get(KEY).is_none_or(|sent| sent.as_bytes() == key.as_bytes());
    let mut value = HeaderValue::from_str(&key).ok().filter(|_| same).unwrap_or(none);
    value.set_sensitive(true);
    headers.insert(KEY, value);
}

#[cfg(test)]
mod tests;
