//! `GET /api/limits`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Operator, Shared};
use crate::app::ProviderLimitsView;

/// All providers.
#[derive(Serialize, ToSchema)]
pub(crate) struct LimitsPage {
    /// By name.
    data: Vec<ProviderLimitsView>,
}

/// What is known of the limits that providers set on their keys, and who waits for them. Keys are
/// named by their place in the configuration.
#[utoipa::path(get, path = "/api/limits", responses((status = 200, body = LimitsPage)))]
pub(crate) async fn get(State(app): Shared, _operator: Operator) -> Json<LimitsPage> {
    Json(LimitsPage { data: app.host.limits() })
}
