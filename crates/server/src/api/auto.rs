//! `GET /api/auto`: what was decided about tiers.

use axum::Json;
use axum::extract::State;
use pipeline::auto::RouteTally;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Operator, Shared};

/// What was decided for one route since the start.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AutoView {
    /// As it is asked for: `route/name`.
    route: String,
    /// Calls for the cheap tier; in shadow mode, that would have been.
    cheap: u64,
    /// Calls for the strong tier.
    strong: u64,
    /// Of both, those that were decided in shadow mode.
    shadow: u64,
    /// Of the strong ones, those that were because their task was before.
    kept: u64,
    /// What answers of the cheap tier cost less than the strong one's, in dollars.
    saved_usd: String,
    /// What shadow mode would have saved, in dollars.
    would_save_usd: String,
}

impl AutoView {
    fn of(route: &str, tally: &RouteTally) -> Self {
        let RouteTally { cheap, strong, shadow, kept, saved, would_save } = *tally;
        let (saved_usd, would_save_usd) = (saved.to_string(), would_save.to_string());
        Self { route: route.to_owned(), cheap, strong, shadow, kept, saved_usd, would_save_usd }
    }
}

/// Routes with tiers.
#[derive(Serialize, ToSchema)]
pub(crate) struct AutoList {
    /// Those that were asked since the start, by name.
    data: Vec<AutoView>,
}

/// What was decided about tiers since the start, by route.
#[utoipa::path(get, path = "/api/auto", responses((status = 200, body = AutoList)))]
pub(crate) async fn list(State(app): Shared, _operator: Operator) -> Json<AutoList> {
    let all = app.pipeline.tiers();
    Json(AutoList { data: all.iter().map(|(route, tally)| AutoView::of(route, tally)).collect() })
}
