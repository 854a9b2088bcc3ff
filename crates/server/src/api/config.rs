//! `GET /api/config`, `POST /api/config/reload` and `GET /api/health`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use storage::budgets::Origin;
use utoipa::ToSchema;

use super::{ApiError, ApiFailure, Operator, Shared};
use crate::app::{ConfigView, PartHealth};
use crate::control::{Refusal, ReloadView};
use crate::readiness;

/// Every named object with its origin, and whether the file says otherwise.
#[utoipa::path(get, path = "/api/config", responses((status = 200, body = ConfigView)))]
pub(crate) async fn get(
    State(app): Shared,
    _operator: Operator,
) -> Result<Json<ConfigView>, ApiFailure> {
    Ok(Json(app.host.config().await?))
}

/// Reads the configuration file again and takes it as a whole. If anything is wrong with it,
/// nothing is changed, and the error's `problems` are all that is.
#[utoipa::path(post, path = "/api/config/reload", responses((status = 200, body = ReloadView), (status = 400, body = ApiError)))]
pub(crate) async fn reload(
    State(app): Shared,
    operator: Operator,
) -> Result<Json<ReloadView>, Refused> {
    let author = operator.0.key_name.to_string();
    Ok(Json(app.control.reload(author).await?))
}

/// A change that was not taken, on its way out.
pub(crate) struct Refused(Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refusal { failure, problems } = self.0;
        let problems = (!problems.is_empty()).then_some(problems);
        super::error_of(*failure, problems)
    }
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
