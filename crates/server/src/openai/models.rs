//! `GET /v1/models[/{model}]`: what the key may use.

use std::sync::Arc;

use formats::openai_chat::OPENAI_CHAT;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming as HyperBody;
use serde_json::{Value, json};
use storage::Model;
use types::{ErrorCode, Failure};

use crate::app::App;
use crate::body::Body;
use crate::{api, errors, models, request};

/// All models.
pub(crate) async fn list(app: Arc<App>, request: Request<HyperBody>) -> Response<Body> {
    let answer = all(&app, &request).await.map(|models| {
        let data: Vec<Value> = models.iter().map(|model| render(model, &app)).collect();
        json!({ "object": "list", "data": data })
    });
    respond(&app, answer)
}

/// One model.
pub(crate) async fn get(
    app: Arc<App>,
    request: Request<HyperBody>,
    name: String,
) -> Response<Body> {
    let answer = all(&app, &request).await.and_then(|models| {
        let found = models.iter().find(|model| model.name == name);
        let names = || models.iter().map(|model| model.name.as_str());
        found.map(|model| render(model, &app)).ok_or_else(|| missing(&name, names()))
    });
    respond(&app, answer)
}

async fn all(app: &App, request: &Request<HyperBody>) -> Result<Vec<Arc<Model>>, Failure> {
    let principal = app.pipeline.authenticate(&request::credential(request.headers())).await?;
    Ok(models::listed(&app.directory, &principal))
}

/// Says that there is no such model, and which one may be meant.
fn missing<'a>(name: &str, mut names: impl Iterator<Item = &'a str>) -> Failure {
    let meant = |known: &&str| known.split_once('/').is_some_and(|(_, model)| model == name);
    let hint =
        names.find(meant).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    let message = format!("the model {name} does not exist for this key{hint}");
    Failure::new(ErrorCode::ModelNotFound, message)
}

/// OpenAI's four fields, and what agents need to choose: price, context, output limit.
fn render(model: &Model, app: &App) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created_at.seconds(),
        "owned_by": model.provider,
        "context_length": model.context_tokens,
        "max_output_tokens": model.output_tokens_max,
        "price": api::price_now(app, model).map(|price| json!({
            "input_usd_per_million": price.rates.input,
            "output_usd_per_million": price.rates.output,
            "cached_input_usd_per_million": price.rates.cached_input,
            "usd_per_request": price.per_request,
            "version": price.version,
        })),
    })
}

fn respond(app: &App, answer: Result<Value, Failure>) -> Response<Body> {
    match answer {
        Ok(value) => {
            let mut response = Response::new(Body::whole(value.to_string()));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(failure) => errors::response(&OPENAI_CHAT, &errors::refused(&app.ids, failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn a_name_without_its_provider_is_completed() {
        let told = |name: &str| missing(name, ["local/demo", "mock/a/b"].into_iter()).message;
        assert!(told("demo").ends_with("; did you mean local/demo?"), "{}", told("demo"));
        assert!(told("a/b").ends_with("; did you mean mock/a/b?"), "{}", told("a/b"));
        assert!(told("local/dem").ends_with("for this key"), "{}", told("local/dem"));
    }
}
