//! Models: `GET|POST /api/models`.

use std::path::PathBuf;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use storage::Model;
use storage::models::DatedPrice;
use types::{Failure, Money, Price, Rate, Timestamp};
use utoipa::ToSchema;

use super::{ApiError, ApiFailure, Json, Operator, Shared};

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelView {
    /// The row of the catalogue.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    model: Model,
}

/// Models.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// All, by name.
    data: Vec<ModelView>,
}

/// All models with their prices.
#[utoipa::path(get, path = "/api/models", responses((status = 200, body = ModelList)))]
pub(crate) async fn list(State(app): Shared, operator: Operator) -> axum::Json<ModelList> {
    let models = app.directory.models(&operator.0);
    axum::Json(ModelList {
        data: models.iter().map(|model| ModelView { model: Model::clone(model) }).collect(),
    })
}

/// A model to add or to price. With `path`: a local model of a GGUF file on the server's machine.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelCreate {
    /// `provider/model`; for a local one, `local/name` or just the name.
    name: String,
    /// The GGUF file.
    #[schema(value_type = Option<String>)]
    path: Option<PathBuf>,
    /// Dollars per million input tokens.
    #[schema(value_type = Option<String>)]
    input_usd_per_million: Option<Rate>,
    /// Dollars per million output tokens.
    #[schema(value_type = Option<String>)]
    output_usd_per_million: Option<Rate>,
    /// Dollars per million input tokens read from the provider's cache.
    #[schema(value_type = Option<String>)]
    cached_input_usd_per_million: Option<Rate>,
    /// Dollars per request.
    #[schema(value_type = Option<String>)]
    usd_per_request: Option<Money>,
    /// Whether it costs nothing.
    #[serde(default)]
    free: bool,
    /// From which second since the epoch the price holds; absent = now.
    since: Option<i64>,
    /// The most tokens that it answers with.
    max_output_tokens: Option<u64>,
}

/// Adds a local model, or prices one.
#[utoipa::path(post, path = "/api/models", request_body = ModelCreate, responses((status = 200, body = ModelView), (status = 400, body = ApiError)))]
pub(crate) async fn create(
    State(app): Shared,
    _operator: Operator,
    Json(create): Json<ModelCreate>,
) -> Result<axum::Json<ModelView>, ApiFailure> {
    let now = app.clock.now();
    let price = price(&create, now)?;
    let mut model = match &create.path {
        Some(path) => {
            let name = create.name.trim_start_matches("local/").to_owned();
            app.host.inspect_model(name, path.clone()).await?
        }
        None => known(&app, &create.name, now)?,
    };
    if let Some(price) = price {
        model.prices.push(price);
        model.prices.sort_by_key(|dated| dated.since);
    }
    model.output_tokens_max = create.max_output_tokens.or(model.output_tokens_max);
    let model = app.directory.put_model(model).await?;
    Ok(axum::Json(ModelView { model: Model::clone(&model) }))
}

/// The model of that name, or a new one of a provider that is configured.
fn known(app: &crate::App, name: &str, now: Timestamp) -> Result<Model, Failure> {
    if let Some(model) = app.directory.model(name) {
        return Ok(Model::clone(&model));
    }
    let (provider, upstream_model) = name.split_once('/').unwrap_or((name, ""));
    let configured =
        app.directory.providers().iter().any(|known| known.name == provider && provider != "local");
    if !configured || upstream_model.is_empty() {
        let message = format!(
            "\"{name}\" names no configured provider; use provider/model, or give the path of a GGUF file"
        );
        return Err(Failure::invalid("name", message));
    }
    Ok(Model {
        name: name.to_owned(),
        provider: provider.to_owned(),
        upstream_model: upstream_model.to_owned(),
        path: None,
        sha256: None,
        prices: Vec::new(),
        output_tokens_max: None,
        context_tokens: None,
        origin: storage::budgets::Origin::Api,
        version: 0,
        created_at: now,
    })
}

fn price(create: &ModelCreate, now: Timestamp) -> Result<Option<DatedPrice>, Failure> {
    let since = create.since.map_or(now, |seconds| Timestamp(seconds.saturating_mul(1_000_000)));
    let version = format!("api@{}", since.seconds());
    let dated = |price| Ok(Some(DatedPrice { since, price }));
    match (create.input_usd_per_million, create.output_usd_per_million) {
        (None, None) if create.free => dated(Price::free(version)),
        (None, None) if create.usd_per_request.is_none() => Ok(None),
        (input, output) if !create.free && input.is_some() == output.is_some() => dated(Price {
            version,
            input: input.unwrap_or(Rate::FREE),
            output: output.unwrap_or(Rate::FREE),
            cached_input: create.cached_input_usd_per_million,
            cache_write: None,
            per_request: create.usd_per_request.unwrap_or(Money::ZERO),
        }),
        _ => Err(Failure::invalid(
            "input_usd_per_million",
            "give both input_usd_per_million and output_usd_per_million, or free: true alone",
        )),
    }
}
