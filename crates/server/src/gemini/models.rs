//! `GET /v1beta/models[/{model}]` for clients of the Gemini API, which page through the list.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming as HyperBody;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::Model;
use types::{ErrorCode, Failure};

use crate::app::App;
use crate::body::Body;
use crate::{errors, request};

/// Models on one page unless the client asks for another number, and at most, as Google has it.
const SIZE_DEFAULT: usize = 50;
const SIZE_MAX: usize = 1_000;
/// What can be asked of every model.
const METHODS: [&str; 3] = ["generateContent", "streamGenerateContent", "countTokens"];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    page_size: Option<usize>,
    /// The last model of the page before.
    #[serde(default)]
    page_token: Option<String>,
}

/// A page of the models that the key may use.
pub(super) async fn list(app: Arc<App>, request: Request<HyperBody>) -> Response<Body> {
    let page = serde_urlencoded::from_str::<Page>(request.uri().query().unwrap_or_default());
    let answer = match page {
        Ok(page) => models(&app, &request).await.map(|models| page.of(&models)),
        Err(_) => Err(Failure::invalid("pageSize", format!("must be from 1 to {SIZE_MAX}"))),
    };
    respond(&app, answer)
}

/// One model.
pub(super) async fn get(
    app: Arc<App>,
    request: Request<HyperBody>,
    name: String,
) -> Response<Body> {
    let answer = models(&app, &request).await.and_then(|models| {
        let found = models.iter().find(|model| model.name == name);
        found.map(|model| render(model)).ok_or_else(|| {
            let message = format!("the model {name} does not exist for this key");
            Failure::new(ErrorCode::ModelNotFound, message)
        })
    });
    respond(&app, answer)
}

async fn models(app: &App, request: &Request<HyperBody>) -> Result<Vec<Arc<Model>>, Failure> {
    let principal = app.pipeline.authenticate(&request::credential(request.headers())).await?;
    Ok(app.directory.models(&principal))
}

impl Page {
    /// The models behind the token. Google takes any size and gives no more than it has.
    fn of(&self, models: &[Arc<Model>]) -> Value {
        let size = match self.page_size {
            None | Some(0) => SIZE_DEFAULT,
            Some(size) => size.min(SIZE_MAX),
        };
        let last = self.page_token.as_deref().unwrap_or_default();
        let begin = models.iter().position(|model| model.name == last).map_or(0, |at| at + 1);
        let end = models.len().min(begin.saturating_add(size));
        let page = models.get(begin..end).unwrap_or_default();
        let mut answer = json!({ "models": page.iter().map(|it| render(it)).collect::<Vec<_>>() });
        let next = page.last().filter(|_| end < models.len());
        if let (Some(last), Value::Object(fields)) = (next, &mut answer) {
            fields.insert("nextPageToken".to_owned(), last.name.clone().into());
        }
        answer
    }
}

fn render(model: &Model) -> Value {
    let mut fields = json!({
        "name": format!("models/{}", model.name),
        "displayName": model.name,
        "supportedGenerationMethods": METHODS,
    });
    if let Value::Object(fields) = &mut fields {
        let limits = [
            ("inputTokenLimit", model.context_tokens),
            ("outputTokenLimit", model.output_tokens_max),
        ];
        let known = limits.into_iter().filter_map(|(name, limit)| Some((name, limit?)));
        fields.extend(known.map(|(name, limit)| (name.to_owned(), limit.into())));
    }
    fields
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
        Err(failure) => errors::response(super::ERRORS, &errors::refused(&app.ids, failure)),
    }
}

#[cfg(test)]
mod tests;
