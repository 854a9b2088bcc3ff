//! Models: `GET|POST /api/models`, `DELETE /api/models/{name}`.
//!
//! Here is also what a model costs now, for every door that says it: an unknown price is not zero,
//! and what is free until it is priced is not unknown.

use std::path::PathBuf;

use axum::extract::{Path, State};
use pipeline::ProviderInfo;
use serde::{Deserialize, Serialize};
use storage::Model;
use storage::budgets::Origin;
use storage::models::DatedPrice;
use types::{Failure, Money, Price, Rate, Rates, Timestamp};
use utoipa::ToSchema;

use super::config::Refused;
use super::keys::Deleted;
use super::{ApiError, Json, Operator, Shared, not_found};
use crate::app::App;

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelView {
    /// The row of the catalogue.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    model: Model,
    /// Of its prices, the one that holds now; `null` = nobody knows what it costs.
    #[schema(value_type = Option<Object>)]
    price: Option<Price>,
}

impl ModelView {
    fn of(app: &App, model: &Model) -> Self {
        let price = price_at(&app.directory.upstreams().providers, model, app.clock.now());
        Self { model: model.clone(), price }
    }
}

/// What a model costs now; `None` = nobody knows.
pub(crate) fn price_now(app: &App, model: &Model) -> Option<Price> {
    ModelView::of(app, model).price
}

/// Of a model whose provider is gone its own prices are all there is.
fn price_at(providers: &[ProviderInfo], model: &Model, now: Timestamp) -> Option<Price> {
    let nobody = ProviderInfo::default();
    let its_own = providers.iter().find(|provider| provider.name == model.provider);
    its_own.unwrap_or(&nobody).price_at(&model.upstream_model, &model.prices, now)
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
    axum::Json(ModelList { data: models.iter().map(|model| ModelView::of(&app, model)).collect() })
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
    /// Dollars per million input tokens written to the provider's cache.
    #[schema(value_type = Option<String>)]
    cache_write_usd_per_million: Option<Rate>,
    /// The same, of those that it keeps for an hour.
    #[schema(value_type = Option<String>)]
    cache_write_1h_usd_per_million: Option<Rate>,
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
) -> Result<axum::Json<ModelView>, Refused> {
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
    // Its present text is this one, whatever it came from: the file wins again when it changes.
    model.origin = Origin::Api;
    let model = app.control.put_model(model).await?;
    Ok(axum::Json(ModelView::of(&app, &model)))
}

/// Removes a model. Answers in progress end; one that the file lists comes back when its text there
/// changes. `name` is `provider/model`, with its slashes as they are.
#[utoipa::path(delete, path = "/api/models/{name}", responses((status = 200, body = Deleted), (status = 404, body = ApiError)))]
pub(crate) async fn delete(
    State(app): Shared,
    _operator: Operator,
    Path(name): Path<String>,
) -> Result<axum::Json<Deleted>, Refused> {
    if app.control.delete_model(name.clone()).await? {
        return Ok(axum::Json(Deleted { id: name, deleted: true }));
    }
    Err(not_found("model", &name).0.into())
}

/// The model of that name, or a new one of a provider that is configured.
fn known(app: &App, name: &str, now: Timestamp) -> Result<Model, Failure> {
    if let Some(model) = app.directory.model(name) {
        return Ok(Model::clone(&model));
    }
    let (provider, upstream_model) = name.split_once('/').unwrap_or((name, ""));
    let upstreams = app.directory.upstreams();
    let configured =
        upstreams.providers.iter().any(|known| known.name == provider && provider != "local");
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
        origin: Origin::Api,
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
            rates: Rates {
                input: input.unwrap_or(Rate::FREE),
                output: output.unwrap_or(Rate::FREE),
                cached_input: create.cached_input_usd_per_million,
                cache_write: create.cache_write_usd_per_million,
                cache_write_1h: create.cache_write_1h_usd_per_million,
                ..Rates::default()
            },
            per_request: create.usd_per_request.unwrap_or(Money::ZERO),
            ..Price::free(version)
        }),
        _ => Err(Failure::invalid(
            "input_usd_per_million",
            "give both input_usd_per_million and output_usd_per_million, or free: true alone",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(prices: Vec<DatedPrice>) -> Model {
        Model {
            name: "local/a".to_owned(),
            provider: "local".to_owned(),
            upstream_model: "a".to_owned(),
            path: None,
            sha256: None,
            prices,
            output_tokens_max: None,
            context_tokens: None,
            origin: Origin::File,
            version: 1,
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn what_is_free_until_priced_is_not_unpriced() {
        let version = |model: &Model, free: bool, now: i64| {
            let (name, free_until_priced) = ("local".to_owned(), free);
            let local = ProviderInfo { name, free_until_priced, ..ProviderInfo::default() };
            price_at(&[local], model, Timestamp(now)).map(|price| price.version)
        };
        let unpriced = model(Vec::new());
        assert_eq!(version(&unpriced, false, 9), None);
        assert_eq!(version(&unpriced, true, 9).as_deref(), Some("unpriced@free"));

        let dated = |since| DatedPrice {
            since: Timestamp(since),
            price: Price::free(format!("api@{since}")),
        };
        let priced = model(vec![dated(5), dated(20)]);
        assert_eq!(version(&priced, false, 4), None);
        assert_eq!(version(&priced, true, 4).as_deref(), Some("unpriced@free"));
        assert_eq!(version(&priced, true, 9).as_deref(), Some("api@5"));
        assert_eq!(version(&priced, false, 20).as_deref(), Some("api@20"));
    }
}
