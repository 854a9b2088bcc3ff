//! `POST …/ai/run/{model}` and `POST …/ai/run`: Workers AI's own door.
//!
//! What is run is told by the input: `messages` or `prompt` ask for text, `text` for vectors. A
//! model is any that the key may use, by its name here; Cloudflare's names (`@cf/…`) are aliases of
//! routes.

use std::sync::Arc;

use bytes::Bytes;
use formats::cloudflare_run::{CLOUDFLARE_RUN, CLOUDFLARE_RUN_JSON, embeddings, request};
use formats::{OPENAI_CHAT, embeddings as openai_embeddings};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use pipeline::Refused;
use types::call::{Door, ModelCall, Operation};
use types::format::Format;
use types::{ErrorCode, Failure};

use super::ERRORS;
use crate::app::App;
use crate::body::Body;
use crate::errors;
use crate::inference::{self, Face, Received, headers};
use crate::request::RequestBody;

static FACE: Face = face(&CLOUDFLARE_RUN);
/// For answers whose shape is asked for.
static FACE_JSON: Face = face(&CLOUDFLARE_RUN_JSON);
/// For vectors, which are asked for in the words of OpenAI's API.
static FACE_VECTORS: Face = face(&OPENAI_CHAT);

const fn face(format: &'static dyn Format) -> Face {
    Face { format, door: Door::CloudflareRun, id_prefix: "", session_header: None, read }
}

/// Runs a model. Without one in the path it is named in the body.
pub(super) async fn answer<B: RequestBody>(
    app: Arc<App>,
    request: Request<B>,
    model: Option<String>,
) -> Response<Body> {
    let answered = async {
        let received = inference::receive(&app, request, &FACE).await;
        let received = received.map_err(|failure| errors::refused(&app.ids, failure))?;
        run(&app, received, model).await
    };
    answered.await.unwrap_or_else(|refused| errors::response(ERRORS, &refused))
}

/// Does what an input asks for.
async fn run(
    app: &App,
    received: Received,
    model: Option<String>,
) -> Result<Response<Body>, Box<Refused>> {
    let refuse = |failure| errors::refused(&app.ids, failure);
    let (model, input) = match model {
        Some(model) => (model, received.body.clone()),
        None => request::unwrapped(received.body.clone()).map_err(refuse)?,
    };
    if request::asks_vectors(&input) {
        return vectors(app, received, &model, &input).await;
    }
    let (face, call) = text(&model, input).map_err(refuse)?;
    inference::answer(app, face, received, call).await
}

/// Texts become vectors as they do at `/v1/embeddings`, told in other words.
async fn vectors(
    app: &App,
    received: Received,
    model: &str,
    input: &[u8],
) -> Result<Response<Body>, Box<Refused>> {
    let refuse = |failure| errors::refused(&app.ids, failure);
    let asked = embeddings::ask(model, input).map_err(refuse)?;
    if !asked.dropped.is_empty() && is_strict(app, &received, model) {
        return Err(refuse(Failure::not_told(&asked.dropped, model)));
    }
    let head = openai_embeddings::read_head(&asked.body).map_err(refuse)?;
    let call = ModelCall::from_raw(&OPENAI_CHAT, head, asked.body);
    let call = call.for_operation(Operation::Embed);
    let mut response = inference::answer(app, &FACE_VECTORS, received, call).await?;
    let Body::Whole(Some(body), _) = response.body() else {
        let text = "the vectors did not come in one piece";
        return Err(refuse(Failure::new(ErrorCode::Internal, text)));
    };
    let body = embeddings::answer(body).map_err(refuse)?;
    *response.body_mut() = Body::whole(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !asked.dropped.is_empty() {
        headers::insert(headers, "holdfast-dropped", Some(&asked.dropped.join(",")));
    }
    Ok(response)
}

/// Whether its caller, or its route, wants nothing dropped.
fn is_strict(app: &App, received: &Received, model: &str) -> bool {
    let asked = received.headers.asks.as_ref().is_some_and(|asks| asks.strict);
    let plan = || app.pipeline.plan(&received.credential, model);
    asked || plan().is_ok_and(|plan| plan.policy.strict)
}

/// A request for text.
fn text(model: &str, input: Bytes) -> Result<(&'static Face, ModelCall), Failure> {
    let face = if request::asks_json(&input) { &FACE_JSON } else { &FACE };
    let head = request::read_head(Some(model), &input)?;
    Ok((face, ModelCall::from_raw(face.format, head, input)))
}

/// Reads a request whose model is in its body.
fn read(_head: &Parts, body: Bytes) -> Result<ModelCall, Failure> {
    let (model, input) = request::unwrapped(body)?;
    Ok(text(&model, input)?.1)
}
