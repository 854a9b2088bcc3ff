//! `GET …/ai/models/search`: what the key may use, as Workers AI lists its models.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming as HyperBody;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::Model;
use types::Failure;

use super::{ERRORS, authorize};
use crate::app::App;
use crate::body::Body;
use crate::{errors, models};

/// Models on one page unless the client asks for another number.
const PER_PAGE_DEFAULT: usize = 20;
const PER_PAGE_MAX: usize = 1_000;

/// What may be asked for. Other filters of Cloudflare's are about its own catalogue.
#[derive(Debug, Default, Deserialize)]
struct Query {
    #[serde(default)]
    search: String,
    #[serde(default)]
    page: Option<usize>,
    #[serde(default)]
    per_page: Option<usize>,
}

/// A page of the models whose names have a text in them.
pub(super) async fn search(
    app: Arc<App>,
    request: Request<HyperBody>,
    account: String,
) -> Response<Body> {
    let found = async {
        let query = query(request.uri().query().unwrap_or_default())?;
        let principal = authorize(&app, request.headers(), &account).await?;
        Ok(query.page_of(&models::listed(&app.directory, &principal)))
    };
    match found.await {
        Ok(page) => {
            let mut response = Response::new(Body::whole(page.to_string()));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Err(failure) => errors::response(ERRORS, &errors::refused(&app.ids, failure)),
    }
}

fn query(text: &str) -> Result<Query, Failure> {
    let query: Query = serde_urlencoded::from_str(text)
        .map_err(|_| Failure::invalid("page", "'page' and 'per_page' must be whole numbers"))?;
    let fits =
        |number: Option<usize>, most| number.is_none_or(|number| (1..=most).contains(&number));
    if !fits(query.per_page, PER_PAGE_MAX) {
        let text = format!("'per_page' must be from 1 to {PER_PAGE_MAX}");
        return Err(Failure::invalid("per_page", text));
    }
    if !fits(query.page, usize::MAX) {
        return Err(Failure::invalid("page", "'page' must be at least 1"));
    }
    Ok(query)
}

impl Query {
    fn page_of(&self, models: &[Arc<Model>]) -> Value {
        let wanted = self.search.to_lowercase();
        let found = models.iter().filter(|model| model.name.to_lowercase().contains(&wanted));
        let found: Vec<&Arc<Model>> = found.collect();
        let (page, per_page) = (self.page.unwrap_or(1), self.per_page.unwrap_or(PER_PAGE_DEFAULT));
        let before = page.saturating_sub(1).saturating_mul(per_page);
        let shown = found.iter().skip(before).take(per_page).map(|model| render(model));
        let shown: Vec<Value> = shown.collect();
        json!({
            "result_info": {
                "count": shown.len(),
                "page": page,
                "per_page": per_page,
                "total_count": found.len(),
            },
            "result": shown,
            "success": true,
            "errors": [],
            "messages": [],
        })
    }
}

fn render(model: &Model) -> Value {
    let property = |name: &str, value: Option<u64>| {
        value.map(|value| json!({ "property_id": name, "value": value.to_string() }))
    };
    let properties = [
        property("context_window", model.context_tokens),
        property("max_output_tokens", model.output_tokens_max),
    ];
    json!({
        "id": model.name,
        "name": model.name,
        "description": format!("{} at the provider {}", model.upstream_model, model.provider),
        "properties": properties.into_iter().flatten().collect::<Vec<_>>(),
        "tags": [],
    })
}

#[cfg(test)]
mod tests;
