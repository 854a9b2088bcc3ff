//! `GET /api/auto`: what was decided about tiers.

use axum::Json;
use axum::extract::State;
use pipeline::auto::{Opinions, RouteTally};
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
    /// What a judge found of decisions for the cheap tier: it disagreed where the cheap answer was
    /// not good enough.
    judged_cheap: OpinionsView,
    /// The same for the strong tier: it disagreed where a cheap answer would have been good enough.
    judged_strong: OpinionsView,
    /// Decisions that were to be judged and were not.
    unjudged: UnjudgedView,
    /// What judging cost, in dollars, with the cheap answers that were asked for it.
    judging_usd: String,
    /// Half of the decisions took at most so many microseconds, to the next step.
    decision_us_p50: Option<u64>,
    /// 99 of 100 decisions did.
    decision_us_p99: Option<u64>,
}

/// What a judge found of the decisions for one tier.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpinionsView {
    /// Decisions that were judged.
    judged: u64,
    /// Of these, those that the judge would have decided for the other tier.
    disagreed: u64,
}

/// Why decisions were not judged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnjudgedView {
    /// A model failed, or said nothing that is a score.
    failed: u64,
    /// A budget or the day's limit did not have the money.
    refused: u64,
    /// Too much at once, too large, or of a kind that can't be asked again.
    passed_over: u64,
}

impl AutoView {
    fn of(route: &str, tally: &RouteTally) -> Self {
        let of = |Opinions { judged, disagreed }| OpinionsView { judged, disagreed };
        let [cheap, strong] = tally.opinions;
        Self {
            route: route.to_owned(),
            cheap: tally.cheap,
            strong: tally.strong,
            shadow: tally.shadow,
            kept: tally.kept,
            saved_usd: tally.saved.to_string(),
            would_save_usd: tally.would_save.to_string(),
            judged_cheap: of(cheap),
            judged_strong: of(strong),
            unjudged: UnjudgedView {
                failed: tally.unjudged_failed,
                refused: tally.unjudged_refused,
                passed_over: tally.unjudged_passed_over,
            },
            judging_usd: tally.judging.to_string(),
            decision_us_p50: tally.took.micros_within(50),
            decision_us_p99: tally.took.micros_within(99),
        }
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
