//! `GET /metrics`: what Prometheus asks for.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::{Operator, Shared};

/// The media type of the OpenMetrics text format.
/// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counters and times of all attempts since the start, as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn get(State(app): Shared, _operator: Operator) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], app.pipeline.metrics())
}
