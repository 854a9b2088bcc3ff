//! `GET /api/config` and `GET /api/health`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use storage::budgets::Origin;
use utoipa::ToSchema;

use super::{ApiFailure, Operator, Shared};
use crate::app::{ConfigView, PartHealth};
use crate::readiness;

/// Every named object with its origin, and whether the file says otherwise.
#[utoipa::path(get, path = "/api/config", responses((status = 200, body = ConfigView)))]
pub(crate) async fn get(
    State(app): Shared,
    _operator: Operator,
) -> Result<Json<ConfigView>, ApiFailure> {
    Ok(Json(app.host.config().await?))
}

/// The platform's parts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// The version of the binary.
    version: &'static str,
    /// Each part and whether it is up.
    parts: Vec<PartHealth>,
}

/// Which parts of the platform are up.
#[utoipa::path(get, path = "/api/health", responses((status = 200, body = Health)))]
pub(crate) async fn health(State(app): Shared, _operator: Operator) -> Json<Health> {
    Json(Health { version: env!("CARGO_PKG_VERSION"), parts: readiness::parts(&app).await })
}

/// An origin's name.
pub(crate) const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::File => "file",
        Origin::Api => "api",
    }
}
