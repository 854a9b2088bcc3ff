//! `POST /v1/embeddings`.

use std::sync::Arc;

use bytes::Bytes;
use formats::embeddings;
use formats::openai_chat::OPENAI_CHAT;
use http::request::Parts;
use http::{Request, Response};
use types::Failure;
use types::call::{Door, ModelCall, Operation};

use crate::app::App;
use crate::body::Body;
use crate::inference::{self, Face};
use crate::request::RequestBody;

static FACE: Face = Face {
    format: &OPENAI_CHAT,
    door: Door::OpenaiEmbeddings,
    id_prefix: "",
    session_header: None,
    read,
};

/// Turns texts into vectors.
pub(crate) async fn create<B: RequestBody>(app: Arc<App>, request: Request<B>) -> Response<Body> {
    inference::create(app, request, &FACE).await
}

/// The operation is one of servers that speak chat completions, and such a server is the target's
/// own format: the body passes as it came.
fn read(_head: &Parts, body: Bytes) -> Result<ModelCall, Failure> {
    let head = embeddings::read_head(&body)?;
    Ok(ModelCall::from_raw(&OPENAI_CHAT, head, body).for_operation(Operation::Embed))
}
