//! `POST …/ai/run/{model}` and `POST …/ai/run`: Workers AI's own door.
//!
//! What is run is told by the input: `messages` or `prompt` ask for text, `text` for vectors. A
//! model is any that the key may use, by its name here; Cloudflare's names (`@cf/…`) are aliases of
//! routes.

use std::sync::Arc;

use bytes::Bytes;
use formats::cloudflare_run::{CLOUDFLARE_RUN, CLOUDFLARE_RUN_JSON, request};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming as HyperBody;
use pipeline::Refused;
use types::Failure;
use types::call::{Door, ModelCall};
use types::format::Format;

use super::{ERRORS, authorize};
use crate::app::App;
use crate::body::Body;
use crate::errors;
use crate::inference::{self, Face, Received};

static FACE: Face = face(&CLOUDFLARE_RUN);
/// For answers whose shape is asked for.
static FACE_JSON: Face = face(&CLOUDFLARE_RUN_JSON);

const fn face(format: &'static dyn Format) -> Face {
    Face { format, door: Door::CloudflareRun, id_prefix: "", session_header: None, read }
}

/// Runs a model. Without one in the path it is named in the body.
pub(super) async fn create(
    app: Arc<App>,
    request: Request<HyperBody>,
    account: String,
    model: Option<String>,
) -> Response<Body> {
    let refuse = |failure| errors::refused(&app.ids, failure);
    let answered = async {
        authorize(&app, request.headers(), &account).await.map_err(refuse)?;
        let received = inference::receive(&app, request, &FACE).await.map_err(refuse)?;
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
    let (face, call) = text(&model, input).map_err(refuse)?;
    inference::answer(app, face, received, call).await
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
