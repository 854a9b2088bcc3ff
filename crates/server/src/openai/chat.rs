//! `POST /v1/chat/completions`.

use std::sync::Arc;

use bytes::Bytes;
use formats::openai_chat::OPENAI_CHAT;
use http::request::Parts;
use http::{Request, Response};
use types::Failure;
use types::call::{Door, ModelCall};
use types::format::Format;

use crate::app::App;
use crate::body::Body;
use crate::inference::{self, Face};
use crate::request::RequestBody;

static FACE: Face = Face {
    format: &OPENAI_CHAT,
    door: Door::OpenaiChat,
    id_prefix: "chatcmpl-",
    session_header: None,
    read,
};

/// Answers a chat completion, streamed or not.
pub(crate) async fn create<B: RequestBody>(app: Arc<App>, request: Request<B>) -> Response<Body> {
    inference::create(app, request, &FACE).await
}

fn read(_head: &Parts, body: Bytes) -> Result<ModelCall, Failure> {
    Ok(ModelCall::from_raw(&OPENAI_CHAT, OPENAI_CHAT.read_head(&body)?, body))
}
