//! Objectives: `GET /api/slos[/{name}]`.

use axum::Json;
use axum::extract::{Path, State};
use pipeline::SloStatus;
use pipeline::slo::{MILLION, Metric, WindowStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, ApiFailure, Operator, Shared, not_found};

/// An objective and what was counted for it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SloView {
    /// Its name.
    name: String,
    /// Only Calls of this request class.
    class: Option<String>,
    /// Only Calls that ask for this model or route, or that it answered.
    model: Option<String>,
    /// Only Calls with the key of this name.
    key: Option<String>,
    /// `time_to_first_token`, `task_time`, `policy_time` or `errors`.
    metric: &'static str,
    /// What takes longer is bad; `null` for `errors`.
    threshold_ms: Option<f64>,
    /// The part that has to be good.
    objective: f64,
    /// It burns when the short and the long window burn faster.
    burn_rate: f64,
    /// Events in the long window below which nothing burns.
    min_count: u64,
    /// `ok` or `burning`.
    state: &'static str,
    /// The second since which it is in that state; of the start, if that never changed.
    since: i64,
    /// The part of the error budget that is left: 1 is all of it, below 0 it is overdrawn.
    error_budget_left: f64,
    /// What was counted, by window.
    windows: SloWindows,
}

/// An objective's windows.
#[derive(Debug, Serialize, ToSchema)]
pub struct SloWindows {
    /// In which an alert ends soon.
    short: SloWindow,
    /// Which keeps a short disturbance from being an alert.
    long: SloWindow,
    /// The error budget's.
    budget: SloWindow,
}

/// What was counted in one window.
#[derive(Debug, Serialize, ToSchema)]
pub struct SloWindow {
    /// Its length.
    seconds: f64,
    /// Events that met the objective.
    good: u64,
    /// Events that did not.
    bad: u64,
    /// How much faster than allowed the error budget burns: 1 uses it up in exactly its window.
    burn_rate: f64,
}

impl SloView {
    /// An objective as it is shown.
    pub fn of(slo: &SloStatus) -> Self {
        let set = &slo.settings;
        let threshold_ms =
            (set.metric != Metric::Errors).then_some(set.threshold.as_secs_f64() * 1e3);
        Self {
            name: set.name.clone(),
            class: set.class.clone(),
            model: set.model.clone(),
            key: set.key.clone(),
            metric: set.metric.name(),
            threshold_ms,
            objective: f64::from(MILLION.saturating_sub(set.allowed)) / f64::from(MILLION),
            burn_rate: set.burn_rate,
            min_count: set.min_count,
            state: if slo.is_burning { "burning" } else { "ok" },
            since: slo.since.seconds(),
            error_budget_left: slo.budget_left,
            windows: SloWindows {
                short: SloWindow::of(&slo.short),
                long: SloWindow::of(&slo.long),
                budget: SloWindow::of(&slo.budget),
            },
        }
    }
}

impl SloWindow {
    fn of(window: &WindowStatus) -> Self {
        let WindowStatus { length, counts, burn_rate } = *window;
        Self { seconds: length.as_secs_f64(), good: counts.good, bad: counts.bad, burn_rate }
    }
}

/// Objectives.
#[derive(Serialize, ToSchema)]
pub(crate) struct SloList {
    /// All, in the order of the configuration.
    data: Vec<SloView>,
}

/// All objectives, with what was counted in their windows.
#[utoipa::path(get, path = "/api/slos", responses((status = 200, body = SloList)))]
pub(crate) async fn list(State(app): Shared, _operator: Operator) -> Json<SloList> {
    let all = app.pipeline.slos().map(|slos| slos.status()).unwrap_or_default();
    Json(SloList { data: all.iter().map(SloView::of).collect() })
}

/// One objective.
#[utoipa::path(get, path = "/api/slos/{name}", responses((status = 200, body = SloView), (status = 404, body = ApiError)))]
pub(crate) async fn get(
    State(app): Shared,
    _operator: Operator,
    Path(name): Path<String>,
) -> Result<Json<SloView>, ApiFailure> {
    let all = app.pipeline.slos().map(|slos| slos.status()).unwrap_or_default();
    let found = all.iter().find(|slo| slo.settings.name == name);
    found.map(|slo| Json(SloView::of(slo))).ok_or_else(|| not_found("objective", &name))
}
