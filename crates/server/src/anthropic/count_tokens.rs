//! `POST /v1/messages/count_tokens`: how long a request is, before it is made.
//!
//! A target that speaks the format is asked; for any other the number is estimated here, and the
//! answer says so. Neither costs anything.

use std::sync::Arc;

use formats::anthropic_messages::ANTHROPIC_MESSAGES;
use formats::anthropic_messages::request::count_estimate;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use pipeline::Refused;
use serde_json::json;
use types::call::{ModelCall, Operation, Plan};
use types::format::Format;
use types::ids::CallId;

use super::{FACE, wire};
use crate::app::App;
use crate::body::Body;
use crate::errors;
use crate::inference::{self, headers};
use crate::request::RequestBody;

/// Counts the tokens of a request.
pub(crate) async fn create<B: RequestBody>(app: Arc<App>, request: Request<B>) -> Response<Body> {
    let counted = count(&app, request).await;
    counted.unwrap_or_else(|refused| errors::response(super::ERRORS, &refused))
}

async fn count<B: RequestBody>(
    app: &App,
    request: Request<B>,
) -> Result<Response<Body>, Box<Refused>> {
    let refuse = |failure| errors::refused(&app.ids, failure);
    let received = inference::receive(app, request, &FACE).await.map_err(refuse)?;
    let mut fields = ANTHROPIC_MESSAGES.read_head(&received.body).map_err(refuse)?;
    // The answer is one number, whatever the request would get when it is made.
    fields.stream = false;
    let plan = app.pipeline.plan(&received.credential, &fields.model).map_err(refuse)?;
    if !can_count(&plan) {
        let tokens = count_estimate(&received.body).map_err(refuse)?;
        let model = ModelCall::from_raw(&ANTHROPIC_MESSAGES, fields, received.body.clone());
        let call = inference::count_request(app, &FACE, received, model).await?;
        return Ok(estimated(&call, tokens));
    }
    let model = ModelCall::from_raw(&ANTHROPIC_MESSAGES, fields, received.body.clone())
        .with_wire(wire(&received.head).map_err(refuse)?)
        .for_operation(Operation::CountTokens);
    inference::answer(app, &FACE, received, model).await
}

/// Whether the target of a model can be asked in the client's own words.
fn can_count(plan: &Plan) -> bool {
    let target = plan.targets.first().and_then(|target| target.format);
    target.is_some_and(|format| format.name() == ANTHROPIC_MESSAGES.name())
}

fn estimated(call: &CallId, tokens: u64) -> Response<Body> {
    let body = json!({ "input_tokens": tokens }).to_string();
    let mut response = Response::new(Body::whole(body));
    let answered = response.headers_mut();
    answered.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    errors::name_call(answered, call);
    headers::insert(answered, "holdfast-estimated", Some("true"));
    response
}
